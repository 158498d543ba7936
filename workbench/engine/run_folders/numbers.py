"""The numbers that a run left in its folder, each with a name, so that two runs can be laid side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.circuits.files.circuit_file import load_circuit
from workbench.circuits.files.effects_file import load_effects
from workbench.circuits.files.kinds import KINDS, kind_of
from workbench.circuits.files.recognise import recognise
from workbench.circuits.files.scores_file import load_scores
from workbench.core.digest import DIGEST
from workbench.core.errors import RunError
from workbench.core.run_record import NAME as RUN
from workbench.core.strict_json import parse, read_text
from workbench.engine.store import PLAN

# What a second run of the same may well have otherwise: where, when, how long, on what.
_SKIPPED = {
    "provenance",
    "setting",
    "started",
    "folder",
    "files",
    "versions",
    "git",
    "code",
    "machine",
    "plan",
}
_MOST = 1 << 30  # bytes of one JSON file
# What a file of this name has to be; any other file is what it says itself.
_FORMATS = {
    "all.json": "circuit-workbench/replications",
    "bench.json": "circuit-workbench/bench-discovery",
    "evaluation.json": "circuit-workbench/evaluation",
    "faithfulness.json": "circuit-workbench/faithfulness",
    "measured.json": "circuit-workbench/measured-edit",
    "painting.json": "circuit-workbench/painting",
    "portrait.json": "circuit-workbench/portrait",
    "replication.json": "circuit-workbench/replication",
    "study.json": "circuit-workbench/reproduction",
}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Named numbers of one kind, NaN where there is none; ``words`` are the texts beside them."""

    unit: str = ""
    labels: tuple[str, ...]
    values: np.ndarray
    words: dict[str, str] = field(default_factory=dict)


def numbers_of(folder: str | Path) -> dict[str, Numbers]:
    """Return every result in a folder, by file (and part of it): tables, scores, circuits, anything in JSON.

    Raises:
        WorkbenchError: if a file is damaged, or the folder has no results.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise RunError(f"no folder {folder}", hint="give the folders of two runs")
    found: dict[str, Numbers] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in (RUN, PLAN) or not path.is_file():
            continue
        read = _READERS.get(path.name) or (_json if path.suffix == ".json" else None)
        for part, numbers in read(path) if read else ():
            found[f"{path.name}: {part}" if part else path.name] = numbers
    if not found:
        raise RunError(f"{folder} has no results to compare", hint="workbench runs list shows what is there")
    return found


def _effects(path: Path) -> Iterator[tuple[str, Numbers]]:
    table = load_effects(path)
    yield "mean effect", Numbers(unit=table.unit, labels=table.labels, values=table.mean)
    pairs = table.pair_ids or tuple(map(str, range(table.n_pairs)))
    rows = tuple(f"{label}, {pair}" for label in table.labels for pair in pairs)
    yield "metric of every pair", Numbers(unit=table.unit, labels=rows, values=table.patched.reshape(-1))
    yield "metric of the unedited run", Numbers(unit=table.unit, labels=pairs, values=table.base)


def _scores(path: Path) -> Iterator[tuple[str, Numbers]]:
    scores = load_scores(path)
    where = [tuple(i) for i in np.argwhere(scores.candidates)]
    labels = tuple(scores.address(i) for i in where)
    values = np.array([scores.values[i] for i in where], dtype=np.float64)
    yield "", Numbers(unit=scores.unit, labels=labels, values=values)


def _circuit(path: Path) -> Iterator[tuple[str, Numbers]]:
    circuit = load_circuit(path)
    edges = {str(edge): score for edge, score in circuit.parsed_edges.items()}
    yield "edges", _named(edges, circuit.unit)
    nodes = {name: circuit.all_nodes[name].get("score") for name in circuit.nodes}
    roles = {name: str(circuit.all_nodes[name].get("role") or "") for name in circuit.nodes}
    yield "nodes", _named(nodes, circuit.unit, {k: v for k, v in roles.items() if v})
    yield "evaluation", _flat(circuit.evaluation)


def _named(values: Mapping[str, float | None], unit: str, words: dict[str, str] | None = None) -> Numbers:
    plain = np.array([np.nan if v is None else float(v) for v in values.values()], dtype=np.float64)
    return Numbers(unit=unit, labels=tuple(values), values=plain, words=words or {})


def _json(path: Path) -> Iterator[tuple[str, Numbers]]:
    """Any JSON; a file of ours that was changed since it was written is refused, as it is everywhere."""
    document = parse(read_text(path, most_bytes=_MOST, error=RunError), where=str(path), error=RunError)
    named = _FORMATS.get(path.name)
    kind = kind_of(named) if named is not None and named in KINDS else recognise(path)
    if isinstance(document, dict) and kind is not None:
        kind.say(kind.origin(document, where=str(path)))
        document = {name: value for name, value in document.items() if name != DIGEST}
    yield "", _flat(document)


def _flat(document: Any) -> Numbers:
    """Every number (and truth value, as 0 and 1) of a JSON value by its path; texts are words."""
    numbers: dict[str, float | None] = {}
    words: dict[str, str] = {}

    def visit(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if key not in _SKIPPED and "seconds" not in key:
                    visit(item, f"{path}.{key}" if path else key)
        elif isinstance(value, list | tuple):
            for i, item in enumerate(value):
                visit(item, f"{path}[{i}]")
        elif isinstance(value, str):
            words[path] = value
        else:
            numbers[path] = value

    visit(document, "")
    return _named(numbers, "", words)


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Numbers]]]] = {
    "effects.parquet": _effects,
    "scores.safetensors": _scores,
    "circuit.json": _circuit,
}
