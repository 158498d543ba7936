"""How a model reads text, known from its tokenizer and configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.tasks.alignment import AlignedPairs, align
from workbench.tasks.outputs import ANY_TOKEN, Outputs
from workbench.tasks.pairs import Pairs
from workbench.tasks.pictures.sight import Sight

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a model reads text and what it answers with.

    Attributes:
        tokenizer: None where it reads pictures alone.
        prepend_bos: Whether BOS comes first.
        n_ctx: The most tokens it takes; None where nothing says so.
        special_tokens: Whether its tokenizer puts marks around a text (encoders: ``[CLS] ... [SEP]``).
        d_vocab: Rows of its embedding: token ids from there on have no meaning to it.
        other_inputs: Token ids that stand for something else than text (a picture), and for what.
        outputs: Where its answers are looked up.
        sight: How it takes pictures; None where it takes none.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase | None
    prepend_bos: bool
    n_ctx: int | None
    special_tokens: bool = False
    d_vocab: int | None = None
    other_inputs: Mapping[int, str] = field(default_factory=dict)
    outputs: Outputs = ANY_TOKEN
    sight: Sight | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The reading as arguments of ``align`` and ``fit_pairs``, after the tokenizer."""
        names = ("prepend_bos", "n_ctx", "special_tokens", "d_vocab", "other_inputs", "outputs", "sight")
        return {name: getattr(self, name) for name in names}


def is_file(task: str) -> bool:
    """Whether a task's name is meant as a file of pairs."""
    return task.endswith(".jsonl") or "/" in task or "\\" in task


def align_for(pairs: Pairs, reading: Reading, *, minimum: int = 1) -> AlignedPairs:
    """Pairs as a model reads them."""
    return align(pairs, reading.tokenizer, minimum=minimum, **reading.options)
