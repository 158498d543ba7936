"""What a sweep or a discovery would cost: passes, memory and files, before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.interventions.edits import Intervention
from workbench.sweep.runs import PairedRuns


@dataclass(frozen=True, kw_only=True)
class SweepCost:
    """An estimate; ``full_passes`` counts layers run over layers of the model, per prompt.

    Attributes:
        rows: Interventions.
        prompt_passes: Forward passes over one prompt, counted as fractions of a whole pass.
        matmul_flops: Multiply-adds of the blocks' weight matrices times two.
        peak_activation_mb: Largest stacked batch of activations, in MB (10^6 bytes).
    """

    rows: int
    pairs: int
    tokens: int
    prompt_passes: float
    matmul_flops: float
    peak_activation_mb: float
    files: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "dry_run": True,
            "interventions": self.rows,
            "pairs": self.pairs,
            "tokens": self.tokens,
            "prompt_passes": round(self.prompt_passes, 1),
            "matmul_gflop": round(self.matmul_flops / 1e9, 3),
            "peak_activation_mb": round(self.peak_activation_mb, 1),
            "files": list(self.files),
        }

    def to_terminal(self) -> list[Any]:
        return ["dry run: nothing was measured", self.to_dict()]


def sweep_cost(
    runs: PairedRuns, interventions: Sequence[Intervention | Any], *, folder: Path, passes_each: float = 1.0
) -> SweepCost:
    """Cost of a sweep: an intervention in layer ``l`` of ``L`` costs ``(L - l) / L`` of a pass."""
    layers = runs.wiring.n_layers
    share = sum((layers - getattr(i, "first_layer", 0)) / layers for i in interventions) * passes_each + 2
    tokens = sum(len(ids) for ids in runs.pairs.clean)
    blocks = sum(
        p.numel() for n, p in runs.model.named_parameters() if ".h." in n or "layers" in n or "blocks" in n
    )
    widest = max(
        min(len(interventions), max(1, runs.batch_tokens // (len(b) * b.n_tokens))) * len(b) * b.n_tokens
        for b in runs.batches
    )
    width = runs.wiring.d_model * 12  # residual, q, k, v, MLP hidden (4 x) and copies made by edits
    return SweepCost(
        rows=len(interventions),
        pairs=runs.n_pairs,
        tokens=tokens,
        prompt_passes=share * runs.n_pairs,
        matmul_flops=2.0 * blocks * tokens * share,
        peak_activation_mb=widest * width * 4 / 1e6,
        files=(str(folder / "effects.parquet"), str(folder / "run.json"), str(folder / "shards")),
    )
