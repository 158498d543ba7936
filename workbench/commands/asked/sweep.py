"""What the sweeps are asked: ``ablate``, ``patch``, ``path-patch``, ``knock-out``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.commands.asked.opening import check_addresses, check_opening, check_positions
from workbench.core.errors import OptionError, unknown
from workbench.engine.cluster.spread import Spread
from workbench.engine.interventions.words import MLPS, MODES, PARTS, value_named
from workbench.model.wiring import SITES


def check_sweep(
    *,
    model: str,
    task: str,
    parts: str = "heads",
    ablation: str = "resample",
    reference: Path | None = None,
    site: str = "head-output",
    mode: str = "noising",
    mlps: str = "recomputed",
    node: Sequence[str] | None = None,
    sender: Sequence[str] | None = None,
    receiver: Sequence[str] = (),
    positions: Sequence[str] = (),
    query: str = "",
    key: str = "",
    shard: str | None = None,
    ray: str | None = None,
    workers: int | None = None,
    offline: bool | None = None,
    **opening: Any,
) -> None:
    """Do nothing if a sweep can be meant so; whether the model can do it shows when it is open.

    Args:
        opening: How the model is opened, and what else the sweep is asked.

    Raises:
        WorkbenchError: for the first name, file or address that is not there, with the closest spellings.
    """
    value_named(ablation)
    for kind, word, known in (
        ("parts", parts, PARTS),
        ("site", site, SITES),
        ("mode", mode, MODES),
        ("treatment of MLPs", mlps, MLPS),
    ):
        if word not in known:
            raise unknown(kind, word, known, error=OptionError)
    _check_reference(reference, ablation)
    Spread(shard=shard, ray=ray, workers=workers)
    check_opening(model=model, task=task, offline=offline, **opening)
    check_positions(task, [p for p in (*positions, query, key) if p])
    check_addresses([*(node or ()), *(sender or ()), *receiver], model, offline=offline)


def _check_reference(reference: Path | None, ablation: str) -> None:
    if reference is None:
        return
    if not ablation.startswith("mean"):
        raise OptionError(f"--reference is for means; the ablation is {ablation}", hint="--ablation mean")
    if not Path(reference).is_file():
        raise OptionError(f"no file of pairs at {reference}", hint="--reference takes a .jsonl file of pairs")
