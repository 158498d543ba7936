"""Dense scores as safetensors: the values, and everything that says what they are, in the header."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import CircuitError, ShapeError
from workbench.graph import Graph, GraphShape
from workbench.io.atomic import write_atomic
from workbench.io.circuit_file import LEVELS
from workbench.io.strict_json import check_keys, dump, parse

if TYPE_CHECKING:
    from workbench.scores import Scores

FORMAT, VERSION = "circuit-workbench/scores", 1
FILE_NAME = "scores.safetensors"
_TEXT = ("level", "method", "unit", "metric", "source")
_MOST_HEADER = 16 << 20
_DTYPES = {"F64": np.float64, "F32": np.float32}


def save_scores(scores: Scores, path: str | os.PathLike[str]) -> Path:
    """Write scores as safetensors, whole or not at all; a path without ``.safetensors`` is a folder.

    The tensor ``values`` keeps its dtype (float32 or float64). NaN, where no edge exists, stays NaN. The
    metadata has one key, ``scores``, with a JSON document: shape, level, method, unit, metric, options.

    Returns:
        The path of the file.
    """
    path = Path(path)
    file = path if path.suffix == ".safetensors" else path / FILE_NAME
    values = np.ascontiguousarray(scores.values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    return write_atomic(file, _pack(values, dump(_describe(scores), where="scores").strip()))


def _describe(scores: Scores) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "shape": scores.graph.shape.to_dict(),
        **{name: getattr(scores, name) for name in _TEXT},
        "n_pairs": scores.n_pairs,
        "passes": scores.passes,
        "options": scores.options,
        "provenance": scores.provenance,
        **({"positions": list(scores.positions)} if scores.positions else {}),
        **({"own_rule": scores.own_rule} if scores.own_rule else {}),
    }


def _pack(values: np.ndarray, description: str) -> bytes:
    """One tensor as a safetensors file; written here because the library's writer is not atomic."""
    from safetensors.numpy import save

    return save({"values": values}, metadata={"scores": description})


def load_scores(path: str | os.PathLike[str]) -> Scores:
    """Read scores, strictly: the header, the shape of the values, and that every existing edge has a number.

    Raises:
        CircuitError: if the file is missing, cut off or not ours.
    """
    from workbench.scores import Scores

    file = Path(path)
    file = file / FILE_NAME if file.is_dir() else file
    values, text = _unpack(file)
    data = parse(text, where=f"{file}: scores")
    check_keys(
        data,
        {"format", "version", "shape", "n_pairs", "passes", "options", "provenance", *_TEXT},
        {"positions", "own_rule"},
        str(file),
    )
    if data["format"] != FORMAT or data["version"] != VERSION or isinstance(data["version"], bool):
        raise CircuitError(
            f"{file} has format {data['format']!r:.80} version {data['version']!r:.20}; "
            f"this workbench reads {FORMAT!r} version {VERSION}"
        )
    if data["level"] not in LEVELS or not all(isinstance(data[name], str) for name in _TEXT):
        raise CircuitError(f"{file}: {', '.join(_TEXT)} must be text, level one of {', '.join(LEVELS)}")
    data["positions"], data["own_rule"] = _extras(data, str(file))
    for name in ("n_pairs", "passes"):
        if isinstance(data[name], bool) or not isinstance(data[name], int) or data[name] < 0:
            raise CircuitError(f"{file}: {name} is {data[name]!r:.80}; expected a whole number")
    for name in ("shape", "options", "provenance"):
        if not isinstance(data[name], dict):
            raise CircuitError(f"{file}: {name} must be an object")
    graph = Graph(GraphShape.from_dict(data["shape"]))
    rest = {k: v for k, v in data.items() if k not in ("format", "version", "shape")}
    try:
        return Scores(graph=graph, values=values, **rest)
    except ShapeError as problem:
        raise CircuitError(f"{file}: {problem.message}", hint=problem.hint) from problem


def _extras(data: dict[str, Any], where: str) -> tuple[tuple[str, ...], str]:
    """Labels of positions and the method's own rule; both may be left out."""
    positions, rule = data.get("positions", []), data.get("own_rule", "")
    named = isinstance(positions, list) and all(isinstance(p, str) and p for p in positions)
    if not named or len(set(positions)) != len(positions) or not isinstance(rule, str):
        raise CircuitError(f"{where}: positions must be different names, own_rule text")
    return tuple(positions), rule


def _unpack(file: Path) -> tuple[np.ndarray, str]:
    """Values and description. The header is read by hand: its sizes are checked before anything is made."""
    try:
        with file.open("rb") as source:
            data = source.read()
    except FileNotFoundError as problem:
        raise CircuitError(f"no file {file}", hint="dense scores lie beside circuit.json") from problem
    except OSError as problem:
        raise CircuitError(f"cannot read {file}: {problem.strerror}") from problem
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(_MOST_HEADER, len(data) - 8):
        raise CircuitError(f"{file} is not a whole safetensors file", hint="it may be cut off; make it again")
    try:
        header = parse(data[8 : 8 + length].decode("utf-8"), where=f"{file}: header")
        tensor, text = header["values"], header["__metadata__"]["scores"]
        dtype, shape, (start, end) = _DTYPES[tensor["dtype"]], tensor["shape"], tensor["data_offsets"]
    except (KeyError, TypeError, ValueError) as problem:
        raise CircuitError(f"{file} is a safetensors file, but not one of scores: {problem}") from problem
    body = data[8 + length :]
    good = isinstance(text, str) and isinstance(shape, list) and len(shape) in (1, 2, 3)
    good = good and all(type(n) is int and n >= 0 for n in shape)
    if not good or set(header) != {"values", "__metadata__"}:
        raise CircuitError(f"{file} is a safetensors file, but not one of scores")
    count = int(np.prod(shape, dtype=object))
    if start != 0 or end != len(body) or end != count * np.dtype(dtype).itemsize:
        raise CircuitError(
            f"{file} has {len(body)} bytes of values; its header says {end}", hint="make it again"
        )
    return np.frombuffer(body, dtype=dtype).reshape(shape).copy(), text


__all__ = ["load_scores", "save_scores"]
