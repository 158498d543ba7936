"""Are the places that interventions name there, in every pair?"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.circuits.addresses import Node
from workbench.core.errors import ModelError
from workbench.engine.batch import no_picture
from workbench.engine.interventions.intervention import Intervention, KnockOut
from workbench.engine.paired_runs import PairedRuns
from workbench.model.inner_towers import VISION
from workbench.model.sight import PIXELS, sight_of


def check_positions(runs: PairedRuns, interventions: Sequence[Intervention]) -> None:
    """Do nothing if every position that is edited exists in every pair; asked before anything is written.

    Raises:
        TaskError: for a position that a pair does not have, or a pair without the picture that a part reads.
        ModelError: for the projector of a model that has none.
    """
    edits = dict.fromkeys(e for i in interventions for e in i.edits if isinstance(e, KnockOut))
    nodes = dict.fromkeys(e.part for i in interventions for e in i.edits if not isinstance(e, KnockOut))
    seen = dict.fromkeys([*nodes, *(edit.part for edit in edits)])
    for node in seen:
        _check_reads_pictures(runs, node)
    wanted = {(at, e.part.tower) for e in edits for at in (e.query, e.key)}
    for batch in runs.batches:
        for node in nodes:
            batch.places_of(node)
        for position, tower in sorted(wanted, key=str):
            batch.places(position, tower)


def _check_reads_pictures(runs: PairedRuns, node: Node) -> None:
    """What reads pictures is there, and every pair has one.

    Raises:
        ModelError: for the projector of a model that has none.
        TaskError: if a pair has no picture.
    """
    if node.kind != "projector" and node.tower != VISION:
        return
    sight = None if runs.sealed else sight_of(runs.model)
    if node.kind == "projector" and (sight is None or sight.token is None):
        what = "words alone" if sight is None else "pictures alone, by its own layers"
        raise ModelError(
            f"{node}: the model has no projector: it reads {what}", hint="name what enters its layers: input"
        )
    for batch in runs.batches if sight is not None else ():
        if not PIXELS & set(batch.prompts[0].extras):
            raise no_picture(node, int(batch.index[0]))
