"""One prompt without a partner: what comes next, from which layer on, by which heads, and where they look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.logit_parts import By, LogitParts
from workbench.core.errors import ModelError, OptionError, TaskError
from workbench.engine.direct_logits import direct_logits
from workbench.engine.paired_runs import PairedRuns
from workbench.heads.grounds import frame_of
from workbench.heads.prompt_look import AnswerSaid, NextToken, PromptLook, TopTokens
from workbench.heads.shown_patterns import pattern_bytes
from workbench.model.architecture import describe
from workbench.model.hooks import component, forward
from workbench.model.identity import identity
from workbench.model.outputs import require_words
from workbench.model.probe import record
from workbench.model.reading import require_tokens
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.chat import in_template
from workbench.tasks.pairs import Pair, Pairs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TASK = "a prompt"


@torch.no_grad()
def look(
    model: TransformerBridge,
    text: str,
    *,
    answers: Sequence[str] = (),
    top: int = 8,
    bos: bool | None = None,
    chat: bool = False,
) -> PromptLook:
    """Show what a model makes of one prompt: next tokens, the logit lens, what heads add, where they look.

    Args:
        text: The prompt; what comes next is asked at its end.
        answers: Answers to ask about, leading space included (``" Rome"``); of several tokens the log-probabilities
            are summed. What heads add is told of the first over the second; by default of the two most probable tokens.
        top: How many next tokens to keep.
        bos: Whether a token that starts a prompt comes first; by default as the model reads.
        chat: Put the text into the model's chat template, as the user's message.

    Returns:
        Probabilities from 0 to 1; contributions in logits, positive for the first answer; attention as shares.

    Raises:
        TaskError: if the model has no tokenizer, or the prompt has no tokens or more than the context.
        OptionError: for a token or a template that the tokenizer does not have.
        ModelError: if the model does not predict words from left to right.

    Example:
        >>> import workbench as wb
        >>> seen = wb.look(wb.open_model("zoo:ioi"), "When Mary and John went to the store, John gave a drink to")
        >>> seen.next[0].token, seen.parts.rows(1)[0]["part"]
        ('Mary', 'm3')
    """
    require_words(model, "a look at a prompt")
    if not describe(model).causal:
        raise ModelError(
            "the model fills gaps and predicts no next token", hint="workbench heads shows its patterns"
        )
    shown = in_template(text, model.tokenizer) if chat else text
    ids, with_bos, notes = _ids_of(model, shown, bos, chat)
    logits = forward(model, _row(model, ids), last_only=True)[0, -1].double()
    probabilities, order = logits.softmax(-1), logits.argsort(descending=True, stable=True)
    found = [_answer(model, ids, answer, logits) for answer in answers]
    pair = _compared(model, found, order)
    parts, more = _parts(model, ids, text, pair)
    notes += _told_of(model, found, pair)
    lens, why = _lens(model, ids, int(order[0]))
    layers, weights, unseen = _patterns(model, ids)
    return PromptLook(
        model=identity(model).name,
        text=text,
        shown=shown,
        tokens=tuple(_token(model, i) for i in ids),
        bos=with_bos,
        chat=chat,
        next=tuple(
            NextToken(
                token=_token(model, int(i)), probability=float(probabilities[i]), logit=float(logits[i])
            )
            for i in order[:top]
        ),
        answers=tuple(said for said, _ in found),
        lens=lens,
        parts=parts,
        compared=(_token(model, pair[0]), _token(model, pair[1])),
        layers=layers,
        weights=weights,
        notes=tuple(note for note in (*notes, more, why, unseen) if note),
        provenance=identity(model).decides(),
    )


def _row(model: TransformerBridge, ids: Sequence[int]) -> Int[Tensor, "row pos"]:
    return torch.tensor([list(ids)], device=next(iter(model.parameters())).device)


def _token(model: TransformerBridge, token: int) -> str:
    return model.tokenizer.decode([token])


def _ids_of(
    model: TransformerBridge, text: str, bos: bool | None, chat: bool
) -> tuple[list[int], bool, list[str]]:
    """The prompt's token ids, whether a token that starts it was put first, and what must be said of them."""
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not len(tokenizer):
        raise TaskError(
            "the model has no tokenizer, so a prompt cannot become tokens",
            hint="open_model(..., tokenizer=...)",
        )
    inner = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not inner:
        raise TaskError("the prompt has no tokens", hint='workbench look -m zoo:ioi "Mary and John went to"')
    start, own = tokenizer.bos_token_id, frame_of(model)[0]
    if bos and start is None:
        raise OptionError("the tokenizer has no token that starts a prompt", hint="--bos off")
    before = own if bos is None else [start] if bos else []
    if before and inner[: len(before)] == before:  # the template, or the user, wrote it already
        before = []
    ids, notes = [*before, *inner], []
    require_tokens(model, ids)
    unknown = inner.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
    if unknown:
        notes.append(
            f"{unknown} of the prompt's {len(inner)} tokens are unknown to the tokenizer; the model reads each as "
            f"{_token(model, tokenizer.unk_token_id)!r}"
        )
    starts = bool(ids) and ids[0] == start
    if bos is not None and starts != bool(own):
        notes.append(
            f"the model usually reads prompts {'with' if own else 'without'} a token that starts them"
        )
    return ids, starts, notes


def _answer(
    model: TransformerBridge, ids: Sequence[int], answer: str, logits: Float[Tensor, " d_vocab"]
) -> tuple[AnswerSaid, list[int]]:
    """An answer's summed log-probability, its tokens read one after the other behind the prompt."""
    own = model.tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"]
    if not own or model.tokenizer.unk_token_id in own:
        raise TaskError(
            f"the tokenizer does not know the answer {answer!r}", hint="a leading space may be missing"
        )
    total = float(logits.log_softmax(-1)[own[0]])
    if len(own) > 1:
        whole = [*ids, *own[:-1]]
        require_tokens(model, whole, f"the prompt with {answer!r}")
        after = forward(model, _row(model, whole), last_only=False)[0].double().log_softmax(-1)
        total += sum(float(after[len(ids) - 1 + n, token]) for n, token in enumerate(own) if n)
    said = AnswerSaid(
        answer=answer,
        tokens=tuple(_token(model, i) for i in own),
        log_probability=total,
        rank=int((logits > logits[own[0]]).sum()),
    )
    return said, own


def _compared(
    model: TransformerBridge, found: Sequence[tuple[AnswerSaid, list[int]]], order: Int[Tensor, " d_vocab"]
) -> tuple[int, int]:
    """The two tokens whose logits are compared: the first tokens of the answers, else the most probable others."""
    chosen = list(dict.fromkeys(own[0] for _, own in found))[:2]
    chosen += [int(i) for i in order[:3] if int(i) not in chosen]
    return chosen[0], chosen[1]


def _told_of(
    model: TransformerBridge, found: Sequence[tuple[AnswerSaid, list[int]]], pair: tuple[int, int]
) -> list[str]:
    """What is to be said where heads are not told of the answers themselves: of first tokens, or of another token."""
    notes, first = [], [own[0] for _, own in found]
    one, other = (repr(_token(model, token)) for token in pair)
    if len(first) > 1 and first[1] == first[0]:
        notes.append(
            f"the first two answers begin with one token, {one}: heads are told of it over {other}, the most probable "
            "other token"
        )
    elif any(len(own) > 1 for _, own in found[:2]):
        notes.append(
            f"heads are told of the first tokens of the answers, {one} over {other}, not of the whole answers"
        )
    return notes


def _parts(
    model: TransformerBridge, ids: Sequence[int], text: str, pair: tuple[int, int]
) -> tuple[LogitParts | None, str]:
    """What heads (else layers) add to one token over another; why not, where it cannot be told."""
    said = [_token(model, token) for token in pair]
    one = Pair(id="prompt", clean=text, corrupted=text, correct=(said[0],), incorrect=(said[1],))
    row = np.asarray(ids, dtype=np.int64)
    places = {f"{i} {_token(model, t).strip() or repr(_token(model, t))}": i for i, t in enumerate(ids[:-1])}
    aligned = AlignedPairs(
        pairs=Pairs(items=(one,), task=TASK, split="all", source="given in memory"),
        clean=(row,),
        corrupted=(row,),
        correct=((pair[0],),),
        incorrect=((pair[1],),),
        positions=({**places, "end": len(ids) - 1},),
        dropped=(),
        prepend_bos=describe(model).prepend_bos,
    )
    why, ways = "", ("head", "layer")
    for by in ways:
        try:
            return direct_logits(PairedRuns(model, aligned), by=_by(by), ablation=None), why
        except ModelError as problem:
            why = why or f"what single heads add is not told: {problem.message}"
    return None, why


def _by(word: str) -> By:
    return "head" if word == "head" else "layer"


def _lens(model: TransformerBridge, ids: Sequence[int], best: int) -> tuple[TopTokens | None, str]:
    """The most probable token of every stream at every position; None where logits are made in another way."""
    n = describe(model).n_layers
    names = [*(f"blocks.{i}.hook_in" for i in range(n)), f"blocks.{n - 1}.hook_out"]
    own, seen = record(model, _row(model, ids), names)
    norm, unembed = component(model, "ln_final"), component(model, "unembed")
    if unembed is None or any(name not in seen for name in names):
        return None, "the logit lens is not shown: the stream or the unembedding cannot be seen on this model"

    def read(stream: Tensor) -> Tensor:
        made: Any = unembed(stream if norm is None else norm(stream))
        return made[0].double()

    last = read(seen[names[-1]])
    if not torch.allclose(last, own[0].double(), rtol=1e-3, atol=1e-3):
        return None, "the logit lens is not shown: logits are not the last norm and the unembedding alone"
    texts, probabilities, ranks = [], [], []
    for name in names:
        logits = read(seen[name])
        most = logits.softmax(-1).max(-1)
        texts.append(tuple(_token(model, int(i)) for i in most.indices))
        probabilities.append(most.values.cpu().numpy())
        ranks.append(int((logits[-1] > logits[-1, best]).sum()))
    return TopTokens(tokens=tuple(texts), probability=np.stack(probabilities), rank=np.array(ranks)), ""


def _patterns(model: TransformerBridge, ids: Sequence[int]) -> tuple[tuple[int, ...], np.ndarray | None, str]:
    try:
        return (*pattern_bytes(model, ids), "")
    except (ModelError, OptionError) as problem:
        return (), None, f"attention patterns are not shown: {problem.message}"


__all__ = ["look"]
