"""Circuits of other tools, read into ours: one reader per format."""

from __future__ import annotations

import os

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.eap_ig import from_eap_ig, scores_from_eap_ig
from workbench.core.errors import CircuitError, OptionError, unknown
from workbench.core.strict_json import read_text

_READERS = {"eap-ig": (from_eap_ig, scores_from_eap_ig)}
_SAME = {"mib": "eap-ig"}


def import_circuit(
    path: str | os.PathLike[str], format: str = "eap-ig", *, keep: str | None = None, **fields: str
) -> Circuit:
    """A circuit from a file of another tool. ``keep`` chooses it from the file's scores (``Scores.keep``).

    ``fields`` (task, model, method, unit) are written into the circuit: such files do not say them.

    Raises:
        CircuitError: if the file is not of that format.
        OptionError: if the format is unknown, or ``keep`` cannot be read.
    """
    name = _SAME.get(format, format)
    if name not in _READERS:
        raise unknown("import format", format, [*_READERS, *_SAME], error=OptionError)
    circuit_of, scores_of = _READERS[name]
    text, where = read_text(path), str(path)
    if keep is None:
        return circuit_of(text, where=where, **fields)
    given = {k: v for k, v in fields.items() if k in ("method", "unit")}
    rest = {k: v for k, v in fields.items() if k not in given}
    made = scores_of(text, where=where, **given).keep(keep)
    if not made.n_edges:
        raise CircuitError(f"{where}: nothing is connected when {keep} is kept", hint="keep more")
    return made.with_fields(**rest)
