"""How an open model reads text and what it answers with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.core.errors import TaskError
from workbench.model.architecture import Architecture, describe
from workbench.model.identity import other_inputs_of
from workbench.model.outputs import outputs_of
from workbench.model.prompt import Prompt
from workbench.model.sealed import Sealed
from workbench.model.sight import sight_of
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.reading import Reading
from workbench.tasks.token_ids import beyond_embedding, not_text, unseen

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def reading_of_model(model: TransformerBridge | Sealed) -> Reading:
    """Return the reading of a model that is open, or sealed.

    Raises:
        TaskError: if it has no tokenizer.
    """
    if isinstance(model, Sealed):
        return model.reading
    tokenizer, sight = getattr(model, "tokenizer", None), sight_of(model)
    if sight is not None and sight.token is None and sight.captions is None:
        tokenizer = None
    elif tokenizer is None or not len(tokenizer):
        raise TaskError(
            "the model has no tokenizer, so text cannot become tokens",
            hint="put tokenizer.json next to the weights, or pass tokenizer= to open_model",
        )
    described = describe(model)
    return Reading(
        name=described.family,
        tokenizer=tokenizer,
        prepend_bos=described.prepend_bos,
        n_ctx=described.n_ctx,
        special_tokens=not described.causal,
        d_vocab=described.d_vocab,
        other_inputs=other_inputs_of(model),
        outputs=outputs_of(model),
        sight=sight,
    )


def require_ids(model: TransformerBridge, pairs: AlignedPairs) -> None:
    """Do nothing if the model can read these token ids and put out these answers.

    Pairs that were aligned for the model fit; token ids that somebody put together may not.

    Raises:
        TaskError: naming the first pair that does not fit, and what is wrong with it.
    """
    if pairs.captions:
        _require_captions(model, pairs)
        return
    described, outputs = describe(model), outputs_of(model)
    for i, pair in enumerate(pairs.pairs):
        for side, ids in (("clean", pairs.clean[i]), ("corrupted", pairs.corrupted[i])):
            where, shown = f"pair {pair.id}, {side} prompt", pair.image is not None
            _require_prompt(model, described, ids.tolist(), where, shown=shown)
            for name, index in pairs.positions[i].items():
                _require_range([index], len(ids), f"pair {pair.id}: position {name},", f"{side} prompt")
        if outputs.size is not None:
            answers = (*pairs.correct[i], *pairs.incorrect[i])
            _require_range(answers, outputs.size, f"pair {pair.id}: answer id", "model's outputs")


def _require_captions(model: TransformerBridge, pairs: AlignedPairs) -> None:
    """The same for captions beside pictures."""
    sight = sight_of(model)
    if sight is None or sight.captions is None:
        raise TaskError("the pairs have captions, and the model compares none", hint="-m zoo:clip")
    for i, (pair, captions) in enumerate(zip(pairs.pairs, pairs.captions, strict=True)):
        for ids in (*captions.clean, *captions.corrupted):
            _require_range(ids, sight.captions.d_vocab, f"pair {pair.id}: token id", "model's embedding")
        answers = (*pairs.correct[i], *pairs.incorrect[i])
        _require_range(answers, len(captions.clean), f"pair {pair.id}: answer", "prompt's captions")


def require_tokens(
    model: TransformerBridge,
    ids: Prompt | Int[Tensor, "*row pos"] | Sequence[int],
    where: str = "the prompt",
) -> None:
    """Do nothing if the model can read these token ids: each has an embedding, each prompt fits the context.

    Raises:
        TaskError: naming the first token that has none, or how long the prompt is.
    """
    shown = isinstance(ids, Prompt) and bool(ids.extras)
    described, rows = describe(model), ids.ids if isinstance(ids, Prompt) else torch.as_tensor(ids)
    if not rows.numel():
        return
    unread = unseen(other_inputs_of(model), sight_of(model), shown)
    other = torch.tensor(list(unread), dtype=rows.dtype, device=rows.device)
    wrong = described.n_ctx is not None and rows.shape[-1] > described.n_ctx
    wrong = wrong or bool(torch.isin(rows, other).any())
    if wrong or int(rows.min()) < 0 or int(rows.max()) >= described.d_vocab:
        for row in rows.reshape(-1, rows.shape[-1]):
            _require_prompt(model, described, [int(i) for i in row], where, shown=shown)


def _require_prompt(
    model: TransformerBridge, described: Architecture, ids: Sequence[int], where: str, *, shown: bool
) -> None:
    tokenizer = getattr(model, "tokenizer", None)
    if other := not_text(tokenizer, ids, unseen(other_inputs_of(model), sight_of(model), shown)):
        raise TaskError(
            f"{where}: {next(iter(other.values()))}",
            hint="give each prompt its picture, or leave such tokens out",
        )
    if described.n_ctx is not None and len(ids) > described.n_ctx:
        raise TaskError(
            f"{where}: {len(ids)} tokens; the model's context holds {described.n_ctx}",
            hint="shorten it to what the model reads",
        )
    if tokenizer is None or not len(tokenizer):
        _require_range(ids, described.d_vocab, f"{where}: token id", "model's embedding")
    elif beyond := beyond_embedding(tokenizer, ids, described.d_vocab):
        raise TaskError(
            f"{where}: {next(iter(beyond.values()))}",
            hint="leave such tokens out, or resize the model's embedding",
        )


def _require_range(ids: Sequence[int], size: int, what: str, of: str) -> None:
    wrong = [int(i) for i in ids if not 0 <= i < size]
    if wrong:
        raise TaskError(
            f"{what} {wrong[0]} is beyond the {of} of {size}",
            hint="align pairs of text with this model: PairedRuns(model, pairs)",
        )
