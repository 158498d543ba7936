"""What the page of a circuit shows of heads and edges besides scores: patterns, effects, writes, reasons. No torch."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from jaxtyping import UInt8
from msgspec import Meta, field

from workbench.core.typed import Count, Part

Number = Annotated[float | None, Meta(description="null where it is not defined")]


class Patches(Part, frozen=True):
    """Where the patches of a picture stand among the positions, row by row, and the picture itself."""

    rows: Annotated[int, Meta(ge=1, le=512)]
    columns: Annotated[int, Meta(ge=1, le=512)]
    first: Annotated[Count, Meta(description="position of the first patch")]
    gap: Annotated[Count, Meta(description="positions between two rows that are no patches")] = 0
    png: Annotated[str, Meta(description="base64 of the picture; empty where it is no colours")] = ""

    def __post_init__(self) -> None:
        check_base64(self.png, "png")


class WrittenTokens(Part, frozen=True):
    """Tokens whose logits a head raises or lowers most where the answer is read, less its mean over all tokens."""

    raised: list[tuple[str, float]]
    lowered: list[tuple[str, float]]


class ShownPrompt(Part, frozen=True):
    """A prompt and what heads do on it.

    Attributes:
        read_at: The position whose attention is told first, and ``reads`` what it is.
        patterns: Head -> base64 of (query, key) bytes: shares of what a query looks at, times 255, rounded.
        causal: No query looks ahead: only the keys up to each query are there, row by row, half the bytes.
    """

    title: str
    tokens: Annotated[list[str], Meta(min_length=1)]
    read_at: Count
    patterns: dict[str, str]
    causal: bool = False
    writes: dict[str, WrittenTokens] = field(default_factory=dict)
    picture: Patches | None = None
    reads: str = "where the answer is read"

    def __post_init__(self) -> None:
        n = len(self.tokens)
        if self.read_at >= n:
            raise ValueError(f"read_at is {self.read_at}; the prompt has {n} tokens")
        for head, text in self.patterns.items():
            found = check_base64(text, f"patterns[{head!r:.40}]")
            if found != (expected := n * (n + 1) // 2 if self.causal else n * n):
                raise ValueError(f"patterns[{head!r:.40}] has {found} bytes; {n} tokens have {expected}")
        if self.picture is not None:
            p = self.picture
            last = p.first + p.rows * p.columns + (p.rows - 1) * p.gap
            if last > n:
                raise ValueError(f"the picture's patches end at position {last}; the prompt has {n} tokens")


class HeadDetail(Part, frozen=True):
    """What is measured of one head, means over pairs in the metric's unit; positive supports the behavior.

    Attributes:
        effect: What the metric loses when the head is ablated; ``low`` and ``high`` are its 95 % interval.
        direct: What it adds to the metric through the residual stream alone, the last norm frozen.
        looks: Named position -> share of its attention from where the answer is read.
        carries: The position that it carries most from, to the logits.
    """

    effect: Number = None
    low: Number = None
    high: Number = None
    direct: Number = None
    direct_stderr: Number = None
    looks: dict[str, float] = field(default_factory=dict)
    carries: str = ""


class Term(Part, frozen=True):
    """One term of a sum: its mean over pairs, and its share of the sum."""

    term: str
    mean: float
    share: Number


class Terms(Part, frozen=True):
    """The largest terms of a sum, and of how many they are."""

    title: str
    sums_to: str
    unit: str
    total: float
    of: Count
    terms: list[Term]


class EdgeReason(Part, frozen=True):
    """Why an edge is there, as ``workbench circuit why`` gives it, the largest terms of each sum."""

    read: str
    n_pairs: Count
    places: list[dict[str, str | int]]
    rankings: list[Terms]
    facts: dict[str, str | float | None]


class EdgeDetail(Part, frozen=True):
    """What is measured of one edge.

    Attributes:
        exact: What the metric loses when this edge alone is ablated, mean over pairs in the metric's unit.
        why_not: Why it has no reason.
    """

    exact: Number = None
    reason: EdgeReason | None = None
    why_not: str = ""


class DetailsContent(Part, frozen=True):
    """Patterns, effects, writes and reasons of the heads and edges of one circuit."""

    circuit: Annotated[str, Meta(description="digest of the circuit that it is of")]
    model: str
    task: str
    metric: str
    unit: str
    ablation: str
    n_pairs: Count
    prompts: list[ShownPrompt]
    heads: dict[str, HeadDetail]
    edges: dict[str, EdgeDetail]
    notes: list[str]
    provenance: dict[str, Any]


def check_base64(text: str, where: str) -> int:
    """Return how many bytes a base64 text stands for.

    Raises:
        ValueError: if it is none.
    """
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError(f"{where} is no base64") from None


def pattern_text(weights: UInt8[np.ndarray, "query key"], *, causal: bool = False) -> str:
    """Return a pattern as a page and a file have it; of a causal one only what is not ahead of the query."""
    kept = weights[np.tril_indices(len(weights))] if causal else weights
    return base64.b64encode(np.ascontiguousarray(kept, dtype=np.uint8).tobytes()).decode("ascii")


def pattern_of(prompt: ShownPrompt, head: str) -> UInt8[np.ndarray, "query key"]:
    """Return what a head looks at on a prompt: shares times 255.

    Example:
        >>> text = pattern_text(np.array([[255, 0], [51, 204]], dtype=np.uint8), causal=True)
        >>> prompt = ShownPrompt(title="one", tokens=["a", "b"], read_at=1, patterns={"a0.h0": text}, causal=True)
        >>> pattern_of(prompt, "a0.h0").tolist()
        [[255, 0], [51, 204]]
    """
    n, kept = len(prompt.tokens), np.frombuffer(base64.b64decode(prompt.patterns[head]), dtype=np.uint8)
    if not prompt.causal:
        return kept.reshape(n, n)
    found = np.zeros((n, n), dtype=np.uint8)
    found[np.tril_indices(n)] = kept
    return found


def found_shares(evidence: Mapping[str, Any]) -> dict[str, float]:
    """Return the share of bootstrap draws that choose each part, from the evidence of an evaluation; empty without.

    Example:
        >>> found_shares({"stability": {"parts": ["a", "b"], "sets": [[0], [0, 1]]}})
        {'a': 1.0, 'b': 0.5}
    """
    stability = evidence.get("stability")
    if not isinstance(stability, Mapping) or not stability.get("sets"):
        return {}
    parts, sets = stability["parts"], stability["sets"]
    return {part: sum(i in chosen for chosen in sets) / len(sets) for i, part in enumerate(parts)}
