"""What the sweeps are asked: ``ablate``, ``patch``, ``path-patch``, ``knock-out``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.commands.asked.inputs import check_addresses, check_opening, check_positions
from workbench.core.command import options_of
from workbench.core.errors import OptionError, unknown
from workbench.engine.cluster.spread import Spread
from workbench.engine.interventions.intervention import as_node
from workbench.engine.interventions.site import site_of
from workbench.engine.interventions.words import MLPS, MODES, PARTS, value_named
from workbench.model.wiring import SITES

if TYPE_CHECKING:
    from workbench.commands.forms.sweep import Sweep
    from workbench.core.job import Job


def check_sweep(asked: Sweep, job: Job) -> None:
    """Do nothing if a sweep can be meant so; whether the model can do it shows when it is open.

    Raises:
        WorkbenchError: for the first name, file or address that is not there, with the closest spellings.
    """
    if asked.plot is not None and asked.plot.suffix.lower() not in (".svg", ".png"):
        raise OptionError(f"cannot draw {asked.plot}", hint="use a file that ends in .svg or .png")
    if asked.plot is not None and asked.shard is not None:
        raise OptionError(
            f"--plot {asked.plot} has nothing to draw: a shard is a part of the table",
            hint="leave out --plot; workbench runs merge puts the shards together",
        )
    said = {f.name: getattr(asked, f.name) for f in options_of(type(asked))}
    for kind, name, known in (
        ("parts", "parts", PARTS),
        ("site", "site", SITES),
        ("mode", "mode", MODES),
        ("treatment of MLPs", "mlps", MLPS),
    ):
        if name in said and (name != "parts" or ":" not in said[name]) and said[name] not in known:
            raise unknown(kind, said[name], known, error=OptionError)
    for name, usual in (("parts", "heads"), ("site", "head-output")):
        if said.get("node") and said.get(name, usual) not in (usual, *_sites(name, said["node"])):
            raise OptionError(
                f"--{name} {said[name]} and --node {said['node'][0]} name different parts; one of the two is expected",
                hint=f"leave out --{name}; an address says what is meant: a9.h9, 'a9.h9<q>', a9, m3, r5",
            )
    if "ablation" in said:
        value_named(said["ablation"])
        _check_reference(said["reference"], said["ablation"])
    Spread(**asked.spreading())
    check_opening(**asked.opening())
    ends = (said.get("query"), said.get("key"))
    check_positions(asked.task, [p for p in (*said.get("positions", ()), *ends) if p])
    nodes = [node for name in ("node", "sender", "receiver") for node in said.get(name, ())]
    check_addresses(nodes, asked.model, offline=asked.offline)


def _sites(name: str, nodes: Sequence[str]) -> set[str]:
    """The site that all named addresses have, where a site is asked for."""
    found = {str(site_of(as_node(node))) for node in nodes} if name == "site" else set()
    return found if len(found) == 1 else set()


def _check_reference(reference: Path | None, ablation: str) -> None:
    if reference is None:
        return
    if not ablation.startswith("mean"):
        raise OptionError(f"--reference is for means; the ablation is {ablation}", hint="--ablation mean")
    if not Path(reference).is_file():
        raise OptionError(f"no file of pairs at {reference}", hint="--reference takes a .jsonl file of pairs")
