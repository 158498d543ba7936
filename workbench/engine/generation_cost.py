"""What generating text costs: operations, and bytes of keys and values that are read again for every token.

A token that is generated reads the keys and values of all tokens before it. Operations alone do not count that. With
the operations that a device does while one byte is read (its intensity), both are one number: equivalent operations.
Reads of the parameters are left out, as a large batch shares them. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.core.claims import Rows
from workbench.core.errors import ModelError, OptionError
from workbench.model.outline import Outline
from workbench.view.pictures import Curves

INTENSITY = 562.5  # operations in the time of one byte: 4.5 PFLOP/s over 8 TB/s
BYTES = 2  # of a number in bfloat16
QWEN3 = {  # billions of parameters, layers, heads; every one has 8 KV heads of 128
    "0.6B": (0.596, 28, 16), "1.7B": (1.72, 28, 16), "4B": (4.02, 36, 32),
    "8B": (8.19, 36, 32), "14B": (14.8, 40, 40), "32B": (32.8, 64, 64),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GenerationCost:
    """What a model's answers cost.

    Attributes:
        flop: Operations: two for each parameter and token, and scores and values of attention.
        kv_bytes: Bytes of keys and values that are read.
        intensity: Operations in the time of one byte.
    """

    flop: float
    kv_bytes: float
    intensity: float = INTENSITY

    @property
    def equivalent(self) -> float:
        """Operations, and those that could have been done while keys and values were read."""
        return self.flop + self.intensity * self.kv_bytes

    @property
    def read_share(self) -> float:
        """Which part of the equivalent operations is reading, 0 to 1."""
        return self.intensity * self.kv_bytes / self.equivalent


def kv_bytes(model: Outline, tokens: int, *, bytes_each: int = BYTES) -> float:
    """Return what keys and values of so many tokens take in all layers, in bytes.

    Example:
        >>> kv_bytes(Outline(name="x", n_layers=2, n_heads=4, n_kv_heads=2, d_model=32, n_parameters=None,
        ...     attn_only=False, parallel=False, head_writes=True), tokens=10)
        1280.0
    """
    return 2.0 * bytes_each * tokens * _widths(model)[1]


def generation_cost(
    model: Outline,
    *,
    prompt: int,
    generated: int,
    trials: int = 1,
    budget: int | None = None,
    block: int | None = None,
    intensity: float = INTENSITY,
    bytes_each: int = BYTES,
) -> GenerationCost:
    """Count what it costs to generate answers to one prompt; all answers share the reads of the prompt's keys.

    Args:
        prompt, generated, trials: Tokens of the prompt and of each answer; answers.
        budget: Keys that a token looks at, at most; None is all of them.
        block: Keys are chosen by blocks of so many, and one summary of every block is read to choose. None chooses
            at no cost.
        intensity: Operations in the time of one byte.
        bytes_each: Of one number.

    Raises:
        OptionError: for a number below 1, or a block without a budget.
        ModelError: if the number of the model's parameters is not known.

    Source:
        Sadhukhan et al. 2025, Kinetics. The sum over tokens of keys within the budget is
        ``budget * generated - (budget - prompt)^2 / 2`` where the budget is above the prompt.
    """
    counts = {"generated": generated, "trials": trials, "budget": budget, "block": block}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise OptionError(f"{name} is {count}; at least 1 is needed", hint=f"{name}=1, or more")
    if block is not None and budget is None:
        raise OptionError("blocks are chosen under a budget, and none is given", hint="budget=1024")
    if model.n_parameters is None:
        raise ModelError(
            f"the number of parameters of {model.name} is not known",
            hint="give the size: Outline(..., n_parameters=124_000_000)",
        )
    width, kv_width = _widths(model)
    read = kept_keys(prompt, generated, budget)
    own = 2.0 * model.n_parameters * generated + 4 * read * width
    shared = budget is None and trials > 1  # the prompt's keys are read once for all answers
    pairs = trials * read - (trials - 1) * prompt * generated if shared else trials * read
    if block is not None:
        own += (2 * prompt + generated) // block * generated * width
        searched = (2 * prompt + trials * generated) // block * generated * kv_width * bytes_each / 2
    else:
        searched = 0.0
    kept = 2.0 * bytes_each * pairs * kv_width + searched
    return GenerationCost(flop=trials * own, kv_bytes=kept, intensity=intensity)


def kept_keys(prompt: int, generated: int, budget: int | None = None) -> float:
    """Add up the keys that each generated token looks at, at most ``budget``.

    Example:
        >>> kept_keys(100, 5000, 1024), kept_keys(100, 5000)
        (4693112.0, 13000000.0)
    """
    most = prompt + generated
    least = most if budget is None else min(budget, most)
    return least * generated - 0.5 * max(0, least - prompt) ** 2


def _widths(model: Outline) -> tuple[int, int]:
    """Numbers of queries, and of keys, that one token has in all layers."""
    head = model.d_head or model.d_model // max(1, model.n_heads)
    return model.n_heads * head * model.n_layers, model.n_kv_heads * head * model.n_layers


def qwen3() -> dict[str, Outline]:
    """Return the outlines of six published models of one family, 0.6 to 32 billion parameters.

    Example:
        >>> qwen3()["8B"].n_layers, qwen3()["8B"].n_kv_heads
        (36, 8)
    """
    return {
        name: Outline(
            name=name, n_layers=layers, n_heads=heads, n_kv_heads=8, d_model=heads * 128, d_head=128,
            n_parameters=int(billions * 1e9), attn_only=False, parallel=False, head_writes=True,
        )
        for name, (billions, layers, heads) in QWEN3.items()
    }  # fmt: skip


def read_shares(models: Mapping[str, Outline], *, prompt: int, generated: int) -> list[float]:
    """Return the share of reads in the cost of one answer, from 0 to 1, one number a model."""
    return [generation_cost(one, prompt=prompt, generated=generated).read_share for one in models.values()]


def next_larger(models: Mapping[str, Outline], *, prompt: int, generated: int) -> dict[str, list[float]]:
    """Return how many times as much as a model the next larger one costs, for answers of one length.

    Args:
        models: From small to large.

    Returns:
        By ``flop``, operations alone, and by ``equivalent``, reads included: one number a step.

    Example:
        >>> [len(times) for times in next_larger(qwen3(), prompt=1000, generated=10_000).values()]
        [5, 5]
    """
    costs = [generation_cost(one, prompt=prompt, generated=generated) for one in models.values()]
    return {
        of: [getattr(large, of) / getattr(small, of) for small, large in pairwise(costs)]
        for of in ("flop", "equivalent")
    }


def read_curves(rows: Rows) -> Curves:
    """Draw the share of reads over the length of the answer, a line for each model (`cost_rows`)."""
    lines = {
        name: [(row["generated"], row["share of reads"]) for row in rows if row["model"] == name]
        for name in dict.fromkeys(row["model"] for row in rows)
    }
    return Curves.of(
        lines, log_x=True, x_label="tokens generated", y_label="share of reads",
        title="Reads by length of the answer",
    )  # fmt: skip


def cost_rows(models: Mapping[str, Outline], lengths: Sequence[int], *, prompt: int, budget: int) -> Rows:
    """Count what answers of several lengths cost in several models.

    Args:
        budget: Keys that a token looks at where attention is sparse.

    Returns:
        One row per model and length: operations and equivalents in units of 10^12, the share of reads from 0 to 1.
    """
    rows: Rows = []
    for name, model in models.items():
        for generated in lengths:
            dense = generation_cost(model, prompt=prompt, generated=generated)
            few = generation_cost(model, prompt=prompt, generated=generated, budget=budget)
            rows.append({
                "model": name, "generated": generated, "TFLOP": dense.flop / 1e12,
                "equivalent TFLOP": dense.equivalent / 1e12, "share of reads": dense.read_share,
                f"equivalent TFLOP, {budget:,} keys": few.equivalent / 1e12,
            })  # fmt: skip
    return rows
