"""What can be chosen by clicks: rows of a table of effects, heads of a portrait, pairs of runs."""

from __future__ import annotations

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.circuits.effects import Effects
from workbench.core.errors import NameFormatError, OptionError
from workbench.engine.paired_runs import PairedRuns
from workbench.heads.table import Portrait
from workbench.view.picker import Picker


def pick(of: Effects | Portrait | PairedRuns, key: str = "") -> Picker:
    """Make a picker of heads (or whatever a table has rows of), or of prompts: in a notebook it shows buttons.

    Args:
        key: The measurement of a portrait that colours its heads; by default its first.

    Returns:
        A picker whose ``chosen`` are addresses for ``wb.ablate(runs, ...)``; of runs they are the names of pairs, and
        its ``places`` go into ``runs.subset``. Names are coloured by effect, in the table's unit.

    Raises:
        OptionError: for anything else, or a measurement that the portrait does not have.

    Example:
        >>> import workbench as wb
        >>> effects = wb.ablate(wb.open_model("zoo:ioi"), "ioi", n=2)
        >>> picker = wb.pick(effects).choose("a2.h2")
        >>> picker.chosen, len(picker.names)
        (('a2.h2',), 16)
    """
    if isinstance(of, Effects):
        rows = [_layer(label) for label in of.labels]
        return Picker(of.labels, rows, values=of.mean.tolist(), title=of.title, unit=of.unit)
    if isinstance(of, Portrait):
        measured = of[key or of.keys[0]]
        nodes = [parse_node(head, towers=True) for head in of.heads]
        values = [float(np.asarray(measured.values)[n.layer, n.index]) for n in nodes]
        rows = [_layer(head) for head in of.heads]
        return Picker(of.heads, rows, values=values, title=f"{of.title}, {measured.key}", unit=measured.unit)
    if isinstance(of, PairedRuns):
        pairs = of.pairs.pairs
        names, texts = [pair.id for pair in pairs], [pair.clean for pair in pairs]
        title = f"pairs of {pairs.task}"
        return Picker(names, names, texts=texts, values=of.clean.tolist(), title=title, unit=of.metric.unit)
    raise OptionError(
        f"nothing can be picked from a {type(of).__name__}",
        hint="wb.pick(wb.ablate(runs)), wb.pick(wb.portrait(model)) or wb.pick(runs)",
    )


def _layer(address: str) -> str:
    """The row of an address: its layer, or itself where it is no single address."""
    try:
        node = parse_node(address, towers=True)
    except NameFormatError:
        return address
    return address if node.kind == "input" else f"{f'{node.tower} ' if node.tower else ''}layer {node.layer}"
