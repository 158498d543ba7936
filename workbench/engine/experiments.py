"""One call, one table: ablate, patch or knock out parts of a model and measure what the metric loses or gains."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from workbench.circuits.addresses import Node
from workbench.circuits.effects import Effects
from workbench.core.progress import Progress
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.patching import knock_outs, patches, site_nodes
from workbench.engine.interventions.replacement import Replacement, as_replacement
from workbench.engine.interventions.words import Ablation, Mode, Parts
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import Reference, sweep

Positions = str | int | Sequence[str | int]


@on_a_task
def ablate(
    runs: PairedRuns,
    parts: Parts | Sequence[str | Node | Sequence[str | Node]] = "heads",
    *,
    ablation: Ablation | Replacement | Tensor | Callable[[Tensor], Tensor] = "resample",
    positions: Positions = (),
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> Effects:
    """Measure the drop of the metric when each part is ablated by itself: every head, MLP, attention or layer.

    Args:
        runs: Runs of a task; or a model and a task in their place.
        parts: A word, or a list of addresses; a tuple in it is ablated together: ``["a1.h0", ("a2.h1", "a2.h3")]``.
        ablation: A word, or what ``Edit`` takes: a tensor, a function of what is there, ``Scale(0.5)``,
            ``Steer(direction, by=2)``.
        positions: Ablate at each of these positions by itself instead of at all positions together.
        reference: Where means come from; by default the clean prompts themselves.

    Returns:
        One row for each part, in the metric's unit; positive: the behavior lost so much.

    Raises:
        OptionError: for a word or type that is not one of these.

    Example:
        >>> import workbench as wb
        >>> wb.ablate(wb.open_model("zoo:ioi"), "ioi", ["a0.h0", "a1.h1"], n=8).labels
        ('a0.h0', 'a1.h1')
    """
    chosen = ablations(parts_of(runs.wiring, parts), ablation, positions=positions)
    kind = f"{ablation} ablation" if isinstance(ablation, str) else str(as_replacement(ablation))
    return sweep(runs, chosen, kind=kind, reference=reference, progress=progress)


@on_a_task
def patch(
    runs: PairedRuns,
    site: str = "head-output",
    *,
    mode: Mode = "denoising",
    positions: Positions = (),
    progress: Progress | None = None,
) -> Effects:
    """Measure what the clean value of each place brings back in the corrupted run, or the other way round.

    Args:
        runs: Runs of a task; or a model and a task in their place.
        mode: ``denoising`` puts clean values into the corrupted run, ``noising`` corrupted ones into the clean run.
        site: resid, attn-out, mlp-out, head-output, q, k, v or pattern.
        positions: Patch each of these positions by itself; ``runs.position_names`` are all that have a name.

    Returns:
        One row per address (and position): effect in the metric's unit, one value per pair; positive supports the
        behavior.

    Raises:
        OptionError: for a site, mode or position that is not one of these.

    Example:
        >>> import workbench as wb
        >>> wb.patch(wb.open_model("zoo:ioi"), "ioi", "resid", n=4).labels[:2]
        ('r0', 'r1')
    """
    chosen = patches(site_nodes(runs.wiring, site), mode=mode, positions=positions)
    return sweep(runs, chosen, kind=f"patching {site}", mode=mode, progress=progress)


@on_a_task
def knock_out(
    runs: PairedRuns,
    query: str | int,
    key: str | int,
    *,
    together: bool = False,
    progress: Progress | None = None,
) -> Effects:
    """Measure the drop of the metric when each head may not look from one position at another.

    Args:
        together: All heads at once, one row.

    Returns:
        One row per knock-out: drop of the metric in its unit, one value per pair; positive supports the behavior.

    Example:
        >>> import workbench as wb
        >>> wb.knock_out(wb.open_model("zoo:ioi"), "ioi", "end", "S2", n=4, together=True).n_pairs
        4
    """
    heads = [node for group in parts_of(runs.wiring, "heads") for node in group]
    chosen = knock_outs(heads, query, key, together=together)
    return sweep(runs, chosen, kind=f"knock-out of {query} looking at {key}", progress=progress)
