"""What a sweep would cost: passes, memory and files, from a model's outline and the lengths of the prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core.show import Told
from workbench.core.stats.sign_flips import Resolution
from workbench.engine.generation_cost import kv_bytes
from workbench.model.outline import Outline

# Residual stream, q, k, v, MLP hidden (4 x) and the copies that edits make, all in units of d_model.
_LIVE_WIDTHS = 12
# The metric of the clean and of the corrupted run; the streams of the run that is edited; the other run's values.
_BASE = 4
FLOAT32 = 4  # bytes of a number


@dataclass(frozen=True, kw_only=True)
class PassesCost:
    """What whole passes over some prompts cost.

    Attributes:
        gflop: Floating-point operations of matrix products, in 10^9; None when the weights are not known.
        kv_mb: Keys and values that one pass over all prompts makes, in float32, in MB (10^6 bytes).
    """

    gflop: float | None
    kv_mb: float

    def to_dict(self) -> dict[str, float | None]:
        """Return it as JSON values, rounded."""
        return {
            "gflop": None if self.gflop is None else round(self.gflop, 3),
            "kv_mb": round(self.kv_mb, 3),
        }


def passes_cost(model: Outline, passes: float, lengths: Sequence[int]) -> PassesCost:
    """Return what so many whole passes over prompts of these lengths cost; one back counts as one forward.

    Example:
        >>> from workbench.model.outline import outline
        >>> passes_cost(outline("zoo:ioi"), 2, [16]).to_dict()["kv_mb"]
        0.033
    """
    counted = Counter(lengths).items()
    flop = None if model.n_parameters is None else sum(count * _flop(model, n) for n, count in counted)
    gflop = None if flop is None else passes * flop / 1e9
    return PassesCost(gflop=gflop, kv_mb=kv_bytes(model, sum(lengths), bytes_each=FLOAT32) / 1e6)


@dataclass(frozen=True, kw_only=True)
class SweepCost(Told):
    """An estimate. A pass that starts at layer ``l`` of ``L`` counts as ``(L - l) / L``.

    Attributes:
        prompt_passes: Forward passes over one prompt each.
        gflop: Floating-point operations of matrix products, in 10^9; None when the weights are not known.
        kv_mb: Keys and values of one pass over all prompts, in float32, in MB (10^6 bytes).
        peak_activation_mb: Largest stacked batch of activations in float32, in MB (10^6 bytes).
        seconds: At the given rate; None without the weights.
        pictures: Prompts with a picture, each of which a tower sees in either run; it is part of all numbers here.
        resolution: What a test of these effects on these pairs can show at all.
    """

    model: str
    rows: int
    pairs: int
    tokens: int
    prompt_passes: float
    gflop: float | None
    peak_activation_mb: float
    seconds: float | None
    gflops: float
    files: tuple[str, ...]
    resolution: Resolution
    pictures: int = 0
    kv_mb: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "dry_run": True,
            "model": self.model,
            "interventions": self.rows,
            "pairs": self.pairs,
            "tokens": self.tokens,
            **({"pictures": self.pictures} if self.pictures else {}),
            "prompt_passes": round(self.prompt_passes, 1),
            "gflop": None if self.gflop is None else round(self.gflop, 3),
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "seconds_assume_gflop_per_s": self.gflops,
            "kv_mb": round(self.kv_mb, 3),
            "peak_activation_mb": round(self.peak_activation_mb, 1),
            "files": list(self.files),
            "significance": self.resolution.to_dict(),
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        shown = {**self.to_dict(), "significance": self.resolution.words}
        return ["dry run: no weights were loaded, nothing was measured", shown]


def sweep_gflop(
    model: Outline, first_layers: Sequence[int], lengths: Sequence[int], *, passes_each: float = 1.0
) -> float | None:
    """Return operations of a sweep in 10^9: four whole passes, and one from its layer on for each intervention,
    each prompt.

    What the engine can leave out besides (positions before the edit, most of the last layer) is not subtracted, so
    it is the most that an ablation or a patch takes.
    """
    if model.n_parameters is None:
        return None
    starts = Counter(first_layers)
    whole = 0.0
    for length, count in Counter(lengths).items():
        edited = sum(n * _flop(model, length, model.n_layers - layer) for layer, n in starts.items())
        whole += count * (_BASE * _flop(model, length) + passes_each * edited)
    return whole / 1e9


def _flop(model: Outline, tokens: int, layers: int | None = None) -> float:
    """Of a model whose parameters are known."""
    return model.flop(tokens, layers) or 0.0


def tower_gflop(tower: Outline, in_tower: Sequence[int]) -> float:
    """Return what a tower adds for each picture, in 10^9 operations: both runs, and passes that begin in it."""
    positions = tower.n_positions or 0
    passes = [*[tower.n_layers] * 2, *(tower.n_layers - layer for layer in in_tower)]
    return sum((tower.flop(positions, layers) or 0.0 for layers in passes), 0.0) / 1e9


def numbers_seen(tower: Outline) -> float:
    """Return the numbers that one picture takes in a pass: its pixels, and what lives in the tower at once."""
    return tower.n_pixels + (tower.n_positions or 0) * tower.d_model * _LIVE_WIDTHS


def sweep_cost(
    model: Outline,
    first_layers: Sequence[int],
    lengths: Sequence[int],
    *,
    batch_tokens: int,
    folder: str,
    resolution: Resolution,
    passes_each: float = 1.0,
    gflops: float = 20.0,
    pictures: int = 0,
    in_tower: Sequence[int] = (),
    beside: Outline | None = None,
) -> SweepCost:
    """Cost of interventions that start at these layers, on prompts of these lengths.

    Args:
        passes_each: Forward passes per intervention (path patching takes two).
        pictures: Prompts that have one.
        in_tower: First layers of the interventions that begin in a tower; the language model follows as a whole.
        beside: The stack that each prompt also goes through; by default the tower for pictures behind a language model.
        gflops: Rate assumed for the estimate of time, in 10^9 operations a second: one CPU core in float32.
    """
    passes = passes_each * sum((model.n_layers - layer) / model.n_layers for layer in first_layers) + _BASE
    tokens = int(sum(lengths))
    flop = sweep_gflop(model, first_layers, lengths, passes_each=passes_each)
    tower = beside or model.towers.get("vision")
    if flop is not None and tower is not None and pictures:
        flop += pictures * tower_gflop(tower, in_tower)
    widest = together = 0
    for length, count in Counter(lengths).items():
        pairs = max(1, min(count, batch_tokens // (4 * length)))
        together = max(together, pairs)
        widest = max(
            widest, min(len(first_layers), max(1, batch_tokens // (pairs * length))) * pairs * length
        )
    copies = widest / max(lengths, default=1) if in_tower else together
    seen = 0.0 if tower is None or not pictures else copies * numbers_seen(tower)
    seen += (
        widest / max(lengths, default=1) * model.n_pixels if pictures else 0.0
    )  # it reads the pictures itself
    return SweepCost(
        model=model.name,
        rows=len(first_layers),
        pairs=len(lengths),
        tokens=tokens,
        prompt_passes=passes * len(lengths),
        gflop=flop,
        kv_mb=passes_cost(model, 1, lengths).kv_mb,
        peak_activation_mb=max(widest * model.d_model * _LIVE_WIDTHS, seen) * 4 / 1e6,
        pictures=pictures,
        seconds=None if flop is None else flop / gflops,
        gflops=gflops,
        resolution=resolution,
        files=tuple(f"{folder}/{name}" for name in ("effects.parquet", "run.json", "shards/")),
    )
