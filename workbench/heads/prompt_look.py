"""What one prompt shows of a model: next tokens, the logit lens, attention patterns, what heads add. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from workbench.circuits.logit_parts import LogitParts
from workbench.core.show import Shown
from workbench.core.text import printable


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """A token that may come next, with its probability and its logit."""

    token: str
    probability: float
    logit: float


@dataclass(frozen=True, kw_only=True)
class AnswerSaid:
    """An answer that was asked about.

    Attributes:
        tokens: Its tokens as text.
        log_probability: Sum of the log-probabilities of its tokens, each after the prompt and the tokens before it.
        rank: How many tokens are more probable than its first one.
    """

    answer: str
    tokens: tuple[str, ...]
    log_probability: float
    rank: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "answer": self.answer,
            "tokens": list(self.tokens),
            "log_probability": self.log_probability,
            "probability": float(np.exp(self.log_probability)),
            "rank": self.rank,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class TopTokens:
    """The logit lens at every position: the most probable token of the stream before each layer, and behind the last.

    Attributes:
        tokens: Its text, by stream and position.
        probability: Its probability.
        rank: Place of the token that comes next at the last position, 0 for the first, by stream.
    """

    tokens: tuple[tuple[str, ...], ...]
    probability: Float[np.ndarray, "stream pos"]
    rank: Int[np.ndarray, " stream"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PromptLook(Shown, shown_in="workbench.heads.show.prompt_look"):
    """One prompt through a model.

    Attributes:
        text: What was typed; ``shown`` what the model read, a chat's marks included.
        tokens: The tokens as text, the one that starts the prompt included.
        bos: Whether such a token was put first.
        chat: Whether the text was put into the model's chat template.
        next: The most probable next tokens.
        answers: Those that were asked about.
        lens: The logit lens; None where the model's logits are not its last norm and unembedding.
        parts: What heads and MLPs add to the first answer over the second (by default the two most probable tokens);
            None where they cannot be told.
        layers, weights: Attention patterns, times 255, rounded.
        notes: What must be said besides.

    Example:
        >>> said = NextToken(token="Mary", probability=0.75, logit=9.0)
        >>> what = {"model": "mine", "text": "Give it to", "shown": "Give it to", "bos": False, "chat": False}
        >>> PromptLook(tokens=("Give", "it", "to"), next=(said,), **what).next[0].probability
        0.75
    """

    model: str
    text: str
    shown: str
    tokens: tuple[str, ...]
    bos: bool
    chat: bool
    next: tuple[NextToken, ...]
    answers: tuple[AnswerSaid, ...] = ()
    lens: TopTokens | None = None
    parts: LogitParts | None = None
    compared: tuple[str, str] = ("", "")
    layers: tuple[int, ...] = ()
    weights: UInt8[np.ndarray, "layer head query key"] | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def from_end(self) -> dict[str, Float[np.ndarray, " key"]]:
        """Where every head looks from the last token: shares from 0 to 1, to 1/255."""
        if self.weights is None:
            return {}
        return {
            f"a{layer}.h{head}": self.weights[i, head, -1] / 255
            for i, layer in enumerate(self.layers)
            for head in range(self.weights.shape[1])
        }

    def lens_rows(self) -> list[dict[str, Any]]:
        """Return what would come next from the stream before each layer, at the last position."""
        if self.lens is None:
            return []
        return [
            {
                "stream": f"r{i}",
                "token": self.lens.tokens[i][-1],
                "probability": float(self.lens.probability[i, -1]),
                "rank_of_next": int(self.lens.rank[i]),
            }
            for i in range(len(self.lens.tokens))
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; of the patterns the row of the last token."""
        lens = self.lens
        return {
            "model": self.model,
            "text": self.text,
            "shown": self.shown,
            "tokens": list(self.tokens),
            "bos": self.bos,
            "chat": self.chat,
            "next": [vars(one) for one in self.next],
            "answers": [one.to_dict() for one in self.answers],
            "lens": self.lens_rows(),
            "lens_by_position": None if lens is None else [list(row) for row in lens.tokens],
            "compared": list(self.compared),
            "parts": None if self.parts is None else self.parts.rows(),
            "attention_from_end": {head: row.round(4).tolist() for head, row in self.from_end.items()},
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def __repr__(self) -> str:
        return printable(f"<PromptLook {self.model}: {self.text!r} -> {self.next[0].token!r}>")
