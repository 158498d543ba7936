"""Dense scores as safetensors: the values, and everything that says what they are, in the header."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, to_builtins

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.circuit_file import Level, Shape, circuit_path
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.core.atomic import file_at, write_atomic
from workbench.core.bounds import read_bytes, shown
from workbench.core.digest import tensor_blocks
from workbench.core.errors import CircuitError, ShapeError, expect_path
from workbench.core.file_kind import FileKind, Raw
from workbench.core.run_record import digest_of
from workbench.core.show import saves
from workbench.core.strict_json import dump, parse
from workbench.core.typed import Count, Part

FILE_NAME = "scores.safetensors"
_MOST_HEADER = 16 << 20
# all edges of a model of 80 layers and 64 heads: 0.8 GB; 20 positions of them: 16 GB
MOST_BYTES = 16_000_000_000
_SHARED = ("level", "method", "metric")
_DTYPES = {"F64": np.float64, "F32": np.float32}


class ScoresContent(Part, frozen=True):
    """Dense scores: their graph, their method and their unit."""

    shape: Shape
    level: Level
    method: str
    unit: Annotated[str, Meta(description="unit of every score; positive supports the behavior")]
    metric: str
    source: str
    n_pairs: Count
    passes: Count
    options: dict[str, Any]
    provenance: dict[str, Any]
    positions: Annotated[
        tuple[str, ...], Meta(description="labels of the leading axis, if there is one")
    ] = ()
    own_rule: str = ""

    def __post_init__(self) -> None:
        if len(set(self.positions)) != len(self.positions) or "" in self.positions:
            raise ValueError("positions must be different names")


def _raw(file: Path) -> Raw:
    values, text = _unpack(file)
    return parse(text, where=f"{file}: scores"), tensor_blocks({"values": values}), values


SCORES = FileKind(
    format="circuit-workbench/scores",
    content=ScoresContent,
    what="a file of scores",
    error=CircuitError,
    has_blocks=True,
    again="to compute them again: workbench runs rerun FOLDER",
    raw=_raw,
)


@saves(Scores)
def save_scores(scores: Scores, path: str | os.PathLike[str]) -> Path:
    """Write scores as safetensors, whole or not at all; a path without ``.safetensors`` is a folder.

    The tensor ``values`` keeps its dtype (float32 or float64). NaN, where no edge exists, stays NaN. The
    metadata has one key, ``scores``, with a JSON document: digest, shape, level, method, unit, metric, options.

    Returns:
        The path of the file.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> from tempfile import mkdtemp
        >>> wb.save_scores(wb.score(runs, "eap"), mkdtemp()).name
        'scores.safetensors'
    """
    values = np.ascontiguousarray(scores.values)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    document = SCORES.document(_describe(scores), blocks=tensor_blocks({"values": values}))
    return write_atomic(file_at(path, FILE_NAME), _pack(values, dump(document, where="scores").strip()))


def _describe(scores: Scores) -> dict[str, Any]:
    names = ("level", "method", "unit", "metric", "source", "n_pairs", "passes", "options", "provenance")
    return {
        "shape": scores.graph.shape.to_dict(),
        **{name: getattr(scores, name) for name in names},
        **({"positions": list(scores.positions)} if scores.positions else {}),
        **({"own_rule": scores.own_rule} if scores.own_rule else {}),
    }


def _pack(values: np.ndarray, description: str) -> bytes:
    """One tensor as a safetensors file; written here because the library's writer is not atomic."""
    from safetensors.numpy import save

    return save({"values": values}, metadata={"scores": description})


def load_scores(path: str | os.PathLike[str]) -> Scores:
    """Read scores, strictly: the header, the shape of the values, and that every existing edge has a number.

    Returns:
        Scores ``(source, target)`` of edges or ``(source,)`` of nodes in their unit; positive supports the behavior.

    Raises:
        CircuitError: if the file is missing, cut off, not ours, or was changed since it was written.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> from tempfile import mkdtemp
        >>> wb.load_scores(wb.save_scores(wb.score(runs, "eap"), mkdtemp())).method
        'eap'
    """
    expect_path(path)
    file = Path(path)
    file = file / FILE_NAME if os.path.isdir(file) else file
    opened = SCORES.load(file)
    fields = {name: getattr(opened.content, name) for name in ScoresContent.__struct_fields__}
    try:
        graph = Graph(GraphShape.from_dict(to_builtins(fields.pop("shape"))))
        return Scores(graph=graph, values=opened.payload, notes=opened.origin.notes, **fields)
    except (CircuitError, ShapeError) as problem:
        raise CircuitError(f"{file}: {problem.message}", hint=problem.hint) from problem


def scores_beside(path: str | os.PathLike[str], circuit: Circuit) -> Scores | None:
    """Read the scores in the folder of a circuit's file, which it was chosen from; None where there are none.

    Raises:
        CircuitError: if they are scores of something else: another architecture, level, method, metric or other pairs.
    """
    file = circuit_path(path).parent / FILE_NAME
    if not file.is_file():
        return None
    scores = load_scores(file)
    made = {name: getattr(scores, name) for name in _SHARED} | {"shape": scores.graph.shape.to_dict()}
    own = {name: getattr(circuit, name) for name in _SHARED} | {"shape": circuit.shape.to_dict()}
    both = (set(scores.provenance) & set(circuit.provenance)) - {"device", "options", "code"}
    made |= {name: scores.provenance[name] for name in both}
    own |= {name: circuit.provenance[name] for name in both}
    for name in made:
        if digest_of(made[name]) != digest_of(own[name]):
            raise CircuitError(
                f"{file} holds no scores of this circuit: {name} is {str(made[name])[:60]!r} there and "
                f"{str(own[name])[:60]!r} in the circuit",
                hint="keep every circuit in a folder of its own, with its own scores or without any",
            )
    return scores


def _unpack(file: Path) -> tuple[np.ndarray, str]:
    """Values and description. The header is read by hand: its sizes are checked before anything is made."""
    if not os.path.lexists(file):
        raise CircuitError(
            f"no file {shown(file)}",
            hint="name the scores.safetensors beside a circuit.json of workbench discover",
        )
    data = read_bytes(file, most_bytes=MOST_BYTES, error=CircuitError)
    length = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= length <= min(_MOST_HEADER, len(data) - 8):
        raise CircuitError(f"{file} is not a whole safetensors file", hint="it may be cut off; make it again")
    try:
        header = parse(data[8 : 8 + length].decode("utf-8"), where=f"{file}: header")
        tensor, text = header["values"], header["__metadata__"]["scores"]
        dtype, shape, (start, end) = _DTYPES[tensor["dtype"]], tensor["shape"], tensor["data_offsets"]
    except (KeyError, TypeError, ValueError) as problem:
        raise CircuitError(
            f"{file} is a safetensors file, but not one of scores: {problem}",
            hint="name a scores.safetensors that workbench discover wrote",
        ) from problem
    body = data[8 + length :]
    good = isinstance(text, str) and isinstance(shape, list) and len(shape) in (1, 2, 3)
    good = good and all(type(n) is int and n >= 0 for n in shape)
    if not good or set(header) != {"values", "__metadata__"}:
        raise CircuitError(
            f"{file} is a safetensors file, but not one of scores",
            hint="name a scores.safetensors that workbench discover wrote",
        )
    count = int(np.prod(shape, dtype=object))
    if start != 0 or end != len(body) or end != count * np.dtype(dtype).itemsize:
        raise CircuitError(
            f"{file} has {len(body)} bytes of values; its header says {end}", hint="make it again"
        )
    return np.frombuffer(body, dtype=dtype).reshape(shape).copy(), text


__all__ = ["load_scores", "save_scores"]
