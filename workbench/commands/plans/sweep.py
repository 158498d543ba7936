"""What the sweeps change, and what that costs: the same interventions in a plan and in a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from workbench.circuits.addresses import Node
from workbench.commands.forms.sweep import Ablate, KnockOutHeads, Patch, PathPatch, Sweep
from workbench.commands.plans.inputs import PlannedRuns, planned_runs
from workbench.core.job import Job
from workbench.core.text import folder_name
from workbench.engine.cost import SweepCost, sweep_cost
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.intervention import Intervention
from workbench.engine.interventions.patching import knock_outs, patches, site_nodes
from workbench.engine.told import resolution_of
from workbench.model.outline import Outline
from workbench.model.wiring import Wiring
from workbench.tasks.alignment import AlignedPairs

Asked = TypeVar("Asked", bound=Sweep)


class Runs(Protocol):
    """What interventions are made from: planned runs and runs of an open model have it."""

    @property
    def wiring(self) -> Wiring | Outline: ...

    @property
    def pairs(self) -> AlignedPairs: ...


def ablate(asked: Ablate, job: Job) -> SweepCost:
    """Say what an ablation of these parts would cost."""
    return _planned(asked, job, ablated)


def patch(asked: Patch, job: Job) -> SweepCost:
    """Say what patching these addresses would cost."""
    return _planned(asked, job, patched)


def knock_out(asked: KnockOutHeads, job: Job) -> SweepCost:
    """Say what knocking out these heads would cost."""
    return _planned(asked, job, knocked_out)


def path_patch(asked: PathPatch, job: Job) -> SweepCost:
    """Say what patching these paths would cost: two passes each."""
    planned = planned_runs(note=job.note, **asked.opening())
    count = 1 if asked.together else len(asked.sender or heads_of(planned))
    return _cost(asked, job, planned, [0] * count, passes_each=2)


def ablated(asked: Ablate, runs: Runs) -> list[Intervention]:
    """Return the parts of a model one by one, or all that is named together."""
    named: list[tuple[str | Node, ...]] = [(n,) for n in asked.node]
    groups = named or [*parts_of(runs.wiring, asked.parts)]
    groups = [tuple(n for g in groups for n in g)] if asked.together else groups
    return ablations(groups, asked.ablation, positions=positions_of(runs, asked))


def patched(asked: Patch, runs: Runs) -> list[Intervention]:
    """Return every address of a site, or the named ones, at each position that is named."""
    nodes = list(asked.node) or site_nodes(runs.wiring, asked.site)
    return patches(nodes, mode=asked.mode, positions=positions_of(runs, asked))


def knocked_out(asked: KnockOutHeads, runs: Runs) -> list[Intervention]:
    """Return the heads that may not look, one by one or all together."""
    heads = asked.node or heads_of(runs)
    return knock_outs(heads, _position(asked.query), _position(asked.key), together=asked.together)


def heads_of(runs: Runs) -> list[str]:
    """Return the addresses of all heads."""
    return [str(n) for group in parts_of(runs.wiring, "heads") for n in group]


def positions_of(runs: Runs, asked: Sweep) -> tuple[str | int, ...]:
    """Return names and numbers as typed; ``each`` stands for every name that all pairs have."""
    chosen = getattr(asked, "positions", ())
    if list(chosen) == ["each"]:
        return runs.pairs.position_names
    return tuple(_position(p) for p in chosen)


def _position(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _planned(asked: Asked, job: Job, build: Callable[[Asked, Runs], list[Intervention]]) -> SweepCost:
    planned = planned_runs(note=job.note, **asked.opening())
    made = build(asked, planned)
    own = "vision" if planned.wiring.compares else None  # its own stack has a name too
    inside = [i for i in made if i.tower not in (None, own)]
    first = [0 if i in inside else i.first_layer for i in made]
    return _cost(asked, job, planned, first, in_tower=[i.first_layer for i in inside])


def _beside(planned: PlannedRuns) -> Outline | None:
    """The text tower with as many positions as the captions of a prompt have; None without captions."""
    longest = max((sum(one.lengths) for one in planned.pairs.captions), default=0)
    return replace(planned.wiring.towers["text"], n_positions=longest) if longest else None


def _cost(
    asked: Sweep,
    job: Job,
    planned: PlannedRuns,
    first: Sequence[int],
    *,
    passes_each: float = 1.0,
    in_tower: Sequence[int] = (),
) -> SweepCost:
    named = f"{folder_name(planned.pairs.pairs.task)}/{folder_name(planned.wiring.name)}-DIGEST"
    return sweep_cost(
        planned.wiring,
        first,
        [len(ids) for ids in planned.pairs.clean],
        batch_tokens=planned.batch_tokens,
        folder=str(job.out or f"runs/{asked.declared.name}/{named}"),
        passes_each=passes_each,
        pictures=sum(pair.image is not None for pair in planned.pairs.pairs),
        in_tower=in_tower,
        beside=_beside(planned),
        resolution=resolution_of(len(first), planned.pairs),
    )
