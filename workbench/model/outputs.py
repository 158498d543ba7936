"""What the outputs of a model stand for: the tokens it reads, or classes with names of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.core.errors import ModelError
from workbench.model.captions import is_captioned
from workbench.model.identity import class_names
from workbench.model.probe import wiring
from workbench.tasks.outputs import ANY_TOKEN, Outputs, numbered

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def outputs_of(model: TransformerBridge) -> Outputs:
    """Say what a model that is open puts out. An encoder's hidden state has no outputs to look answers up in;
    those of a model that compares captions are the captions of each prompt.
    """
    if is_captioned(model) or not wiring(model).has_lm_head:
        return ANY_TOKEN
    native = "native" in type(model.original_model).__module__
    return outputs_from(model.cfg.d_vocab, model.cfg.d_vocab_out, class_names(model), native=native)


def outputs_from(
    d_vocab: int, d_vocab_out: int | None, names: tuple[str, ...] = (), *, native: bool
) -> Outputs:
    """Tokens, or classes: where outputs have names, and where a native model has fewer or more than it has tokens.

    Output i of a Hugging Face language model stands for token i, however many outputs there are: it is what the class
    of the model says.

    Args:
        d_vocab_out: The number of outputs; None or -1 where it was never set, which means one for each token.
    """
    size = d_vocab_out if d_vocab_out and d_vocab_out > 0 else d_vocab
    if native and not names and size != d_vocab:
        names = numbered(size)
    return Outputs(size=size, classes=names)


def why_no_words(model: TransformerBridge) -> str:
    """Say why what the model puts out cannot be read as tokens that it could also take in; empty where it can."""
    outputs = outputs_of(model)
    if outputs.size is None:
        return "it has no language-model head"
    if outputs.classes:
        return f"its outputs are {outputs.describe()}; this needs outputs that are words"
    if outputs.size != model.cfg.d_vocab:
        return f"its {outputs.size} outputs are not its {model.cfg.d_vocab} input tokens"
    return ""


def require_words(model: TransformerBridge, what: str) -> None:
    """Do nothing if output i of the model stands for token i.

    Raises:
        ModelError: if not, saying what needs it and what the outputs are.
    """
    if why := why_no_words(model):
        raise ModelError(
            f"{what} needs a model that puts out words: {why.split(';')[0]}",
            hint="open a language model: zoo:ioi",
        )
