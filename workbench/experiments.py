"""One call, one table: ablate, patch or knock out parts of a model and measure what the metric loses or gains."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.effects import Effects
from workbench.interventions.ablation import Ablation, Parts, ablations, parts_of
from workbench.interventions.patching import knock_outs, patches, site_nodes
from workbench.progress import Progress
from workbench.sweep.run import Mode, Reference, sweep
from workbench.sweep.runs import PairedRuns

Positions = Sequence[str | int]


def ablate(
    runs: PairedRuns,
    parts: Parts = "heads",
    *,
    ablation: Ablation = "resample",
    positions: Positions = (),
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> Effects:
    """The drop of the metric when each part is ablated by itself: every head, MLP, attention or whole layer.

    For other groups of parts: ``measure(runs, ablations([("a1.h0", "a1.h2")]), kind="two heads")``.

    Args:
        positions: Ablate at each of these positions by itself instead of at all positions together.
        reference: Where means come from; by default the clean prompts themselves.
    """
    chosen = ablations(parts_of(runs.wiring, parts), ablation, positions=positions)
    return sweep(runs, chosen, kind=f"{ablation} ablation", reference=reference, progress=progress)


def patch(
    runs: PairedRuns,
    site: str = "head-output",
    *,
    mode: Mode = "denoising",
    positions: Positions = (),
    progress: Progress | None = None,
) -> Effects:
    """The effect of patching every address of a site: what the clean value brings back, or the corrupted breaks.

    Args:
        site: resid, attn-out, mlp-out, head-output, q, k, v or pattern.
        positions: Patch each of these positions by itself; ``runs.position_names`` are all that have a name.
    """
    chosen = patches(site_nodes(runs.wiring, site), mode=mode, positions=positions)
    return sweep(runs, chosen, kind=f"patching {site}", mode=mode, progress=progress)


def knock_out(
    runs: PairedRuns,
    query: str | int,
    key: str | int,
    *,
    together: bool = False,
    progress: Progress | None = None,
) -> Effects:
    """The drop of the metric when each head may not look from one position at another.

    Args:
        together: All heads at once, one row.
    """
    heads = [node for group in parts_of(runs.wiring, "heads") for node in group]
    chosen = knock_outs(heads, query, key, together=together)
    return sweep(runs, chosen, kind=f"knock-out of {query} looking at {key}", progress=progress)
