"""How a model reads text, known from its tokenizer and configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workbench.core.errors import OptionError
from workbench.tasks.alignment import AlignedPairs, align
from workbench.tasks.outputs import ANY_TOKEN, Outputs
from workbench.tasks.pairs import Pairs
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.two_answers import WholeAnswers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


WHOLE = "answer-logprob"  # the metric that reads an answer token by token
_WHOLE: dict[str, WholeAnswers] = {WHOLE: True, f"{WHOLE}-difference": "both"}


def whole_of(metric: str) -> WholeAnswers:
    """Say whether a metric of ours reads answers token by token, without torch.

    Example:
        >>> [whole_of(name) for name in ("kl", "answer-logprob", "answer-logprob-difference")]
        [False, True, 'both']
    """
    return _WHOLE.get(metric, False)


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
        whole_answers: Whether an answer is read token by token (`Metric.whole_answers`).
        chat: Whether prompts are put into its chat template.
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
    whole_answers: WholeAnswers = False
    chat: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The reading as arguments of ``align`` and ``fit_pairs``, after the tokenizer."""
        names = ("prepend_bos", "n_ctx", "special_tokens", "d_vocab", "other_inputs", "outputs", "sight")
        return {name: getattr(self, name) for name in (*names, "whole_answers", "chat")}

    def asked(
        self, *, bos: bool | None = None, chat: bool = False, whole_answers: WholeAnswers = False
    ) -> Reading:
        """Return the same reading with what somebody asks for in place of what is usual.

        Args:
            bos: Whether BOS comes first; by default as the model reads.

        Raises:
            OptionError: if the model does not read so.
        """
        if bos not in (None, self.prepend_bos) and (self.special_tokens or self.tokenizer is None):
            raise OptionError(
                f"{self.name} puts its own marks around a text; a BOS token is not asked for",
                hint="leave out --bos",
            )
        first = self.prepend_bos if bos is None else bos
        return replace(self, prepend_bos=first, chat=chat, whole_answers=whole_answers)


def is_file(task: str) -> bool:
    """Whether a task's name is meant as a file of pairs."""
    return task.endswith(".jsonl") or "/" in task or "\\" in task


def align_for(pairs: Pairs, reading: Reading, *, minimum: int = 1) -> AlignedPairs:
    """Pairs as a model reads them; answers token by token where their own metric does."""
    asked = replace(reading, whole_answers=reading.whole_answers or whole_of(pairs.metric))
    return align(pairs, asked.tokenizer, minimum=minimum, **asked.options)
