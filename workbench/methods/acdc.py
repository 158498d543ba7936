"""ACDC: edges are removed one by one from the logits backwards, as long as the metric survives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from workbench.circuits.scores import Scores
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.acdc_search import Meter, Search
from workbench.methods.by_name import score
from workbench.methods.options.passes import ACDC
from workbench.methods.outcome import graph_of, result
from workbench.methods.registry import Level


def acdc(
    runs: PairedRuns,
    options: ACDC,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """What removing each edge cost when it was tested, given what was removed before; kept from ``tau`` on.

    ::

        H <- all edges
        for every target, from the logits backwards:
            for every source it reads, later ones first:
                damage = F(H) - F(H without the edge)        F: the metric, turned so that higher is better
                if damage < tau:  H <- H without the edge
        circuit: H, without what is cut off from input or logits

    ``F`` is the mean over all pairs; a removed edge carries the ablated value (by default the corrupted partner's). The
    order is residual order and depends on nothing else. The total change is less than ``tau`` times the number of
    removed edges. With the metric ``kl`` damage is the rise of KL(model || circuit), as in the paper.

    Per position every edge stands once at each label of the tokens and each is tested by itself, for one source from
    the last label to the first. What it costs then depends on the labels removed before it: over labels these
    damages do not sum to what the edge costs at all positions at once.

    ``batched`` makes the decisions of ``sequential``: ``workbench/methods/acdc_search.py`` says why.

    Source:
        Conmy et al. 2023, arXiv:2304.14997.
    """
    meter = Meter(runs, graph_of(runs, level), options.ablation, per_position=per_position)
    search = Search(meter, _first_guess(runs, options, meter), absolute=options.absolute)
    taus = options.taus()
    with runs.left_alone(progress) as told:
        damages = [
            search.run(tau, mode=options.mode, progress=_part(told, n, len(taus)))
            for n, tau in enumerate(taus)
        ]
    for batch in runs.batches:
        runs.release(batch)
    if options.absolute:
        damages = [abs(d) for d in damages]
    return result(
        runs,
        damages[0] if len(taus) == 1 else first_removed(taus, damages),
        level=level,
        method="acdc",
        source="arXiv:2304.14997",
        unit=f"|{runs.metric.unit}|" if options.absolute else None,
        options={
            **asdict(options),
            "tau": float(options.tau),
            "sweep": [float(tau) for tau in options.sweep],
            "tested": search.tested,
            "tested_again_alone": search.measured_again,
            "circuits_run": meter.copies,
            "forward_passes": meter.passes,
        },
        own_rule=f">={taus[0]!r}" if len(taus) == 1 else "",
        passes=meter.copies + 2,
        positions=runs.position_labels if per_position else (),
    )


def first_removed(taus: Sequence[float], damages: Sequence[np.ndarray]) -> np.ndarray:
    """Return the smallest of rising thresholds at which each edge is removed; its damage at the largest where it
    never is.

    That damage is at least the largest threshold, so edges that always stay come first, by what they cost.
    """
    value = damages[-1].copy()
    for tau, damage in reversed(list(zip(taus, damages, strict=True))):
        value[damage < tau] = tau
    return value


def _first_guess(runs: PairedRuns, options: ACDC, meter: Meter) -> np.ndarray:
    """Expected damages: EAP scores where the metric has a gradient on the clean run; else that nothing matters."""
    if options.mode == "sequential" or runs.metric.needs_clean or not runs.metric.differentiable:
        return np.zeros(meter.shape)
    return score(runs, "eap", per_position=meter.per_position, ablation=options.ablation).values


def _part(progress: Callable[..., None], n: int, parts: int) -> Callable[[int, int, str], None]:
    return lambda done, total, what: progress(n * total + done, parts * total, what)
