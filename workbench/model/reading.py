"""How a model reads text and what it answers with: from its configuration alone, and once it is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformer_lens.model_bridge import TransformerBridge

from workbench.errors import TaskError
from workbench.model.architecture import describe
from workbench.model.identity import class_names
from workbench.model.native import is_native, read_native_config, read_output_names
from workbench.tasks.align import AlignedPairs
from workbench.tasks.for_model import Reading
from workbench.tasks.outputs import ANY_TOKEN, Outputs, numbered


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a configuration says of a model's text, without its tokenizer: the fields of ``Reading``."""

    prepend_bos: bool
    n_ctx: int | None
    causal: bool
    d_vocab: int
    outputs: Outputs


def limits_of(directory: Path, *, trust_remote_code: bool = False) -> Limits:
    """What the model in a directory takes and puts out; no weights are read.

    BOS comes first unless the architecture was trained without (Pythia, Qwen); a native model's configuration says
    it itself.

    Raises:
        ModelError: if the configuration cannot be read.
    """
    names: tuple[str, ...] = ()
    if is_native(directory):
        cfg, names = read_native_config(directory), read_output_names(directory)
    else:
        from workbench.model.huggingface import adapter_config, read_config

        config = read_config(directory, trust_remote_code=trust_remote_code)
        cfg = adapter_config(config, directory)
    return Limits(
        prepend_bos=bool(getattr(cfg, "default_prepend_bos", True)),
        n_ctx=cfg.n_ctx or None,
        causal=cfg.attention_dir != "bidirectional",
        d_vocab=cfg.d_vocab,
        outputs=_outputs(cfg.d_vocab, cfg.d_vocab_out, names, native=is_native(directory)),
    )


def reading_of_model(model: TransformerBridge) -> Reading:
    """The reading of a model that is open.

    Raises:
        TaskError: if it has no tokenizer.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not len(tokenizer):
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
        outputs=outputs_of(model),
    )


def outputs_of(model: TransformerBridge) -> Outputs:
    """What a model that is open puts out. An encoder's hidden state has no outputs to look answers up in."""
    described = describe(model)
    if not described.has_lm_head:
        return ANY_TOKEN
    native = described.family == "native"
    return _outputs(described.d_vocab, described.d_vocab_out, class_names(model), native=native)


def _outputs(d_vocab: int, d_vocab_out: int, names: tuple[str, ...], *, native: bool) -> Outputs:
    """Tokens, or classes: where outputs have names, and where a native model has fewer or more than it has tokens.

    Output i of a Hugging Face language model stands for token i, however many outputs there are: it is what the class
    of the model says.
    """
    size = d_vocab_out if d_vocab_out > 0 else d_vocab
    if native and not names and size != d_vocab:
        names = numbered(size)
    return Outputs(size=size, classes=names)


def require_ids(model: TransformerBridge, pairs: AlignedPairs) -> None:
    """Do nothing if the model can read these token ids and put out these answers.

    Pairs that were aligned for the model fit; token ids that somebody put together may not.

    Raises:
        TaskError: naming the first pair that does not fit, and what is wrong with it.
    """
    described, outputs = describe(model), outputs_of(model)
    for i, pair in enumerate(pairs.pairs):
        for side, ids in (("clean", pairs.clean[i]), ("corrupted", pairs.corrupted[i])):
            where = f"pair {pair.id}, {side} prompt"
            _require_range(ids, described.d_vocab, f"{where}: token id", "embedding")
            if described.n_ctx is not None and len(ids) > described.n_ctx:
                raise TaskError(f"{where}: {len(ids)} tokens; the model's context holds {described.n_ctx}")
        if outputs.size is not None:
            answers = (*pairs.correct[i], *pairs.incorrect[i])
            _require_range(answers, outputs.size, f"pair {pair.id}: answer id", "outputs")


def _require_range(ids: Sequence[int], size: int, what: str, of: str) -> None:
    wrong = [int(i) for i in ids if not 0 <= i < size]
    if wrong:
        raise TaskError(
            f"{what} {wrong[0]} is beyond the model's {of} of {size}",
            hint="align pairs of text with this model: PairedRuns(model, pairs)",
        )
