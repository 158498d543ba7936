"""Circuits of other tools, read into ours: one reader per format."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.eap_ig import from_eap_ig, scores_from_eap_ig
from workbench.circuits.scores import Scores
from workbench.core.errors import CircuitError, OptionError
from workbench.core.registry import Registry
from workbench.core.strict_json import read_text


@dataclass(frozen=True)
class CircuitImport:
    """A format of another tool that circuits are read from.

    Attributes:
        circuit_of: Makes the circuit of a text; called with ``where`` the text stood, and with the fields that the
            file does not say: task, model, method, unit.
        scores_of: Makes the scores of a text, from which ``keep`` chooses; None where files have none.
    """

    name: str
    circuit_of: Callable[..., Circuit]
    scores_of: Callable[..., Scores] | None = None


CIRCUIT_IMPORTS: Registry[CircuitImport] = Registry(
    "import format",
    group="workbench.circuit_imports",
    holds=lambda made: isinstance(made, CircuitImport),
)
for _name in ("eap-ig", "mib"):  # MIB's files are of the same form
    CIRCUIT_IMPORTS.add(_name, CircuitImport(_name, from_eap_ig, scores_from_eap_ig), home=__name__)


def circuit_import(
    name: str, *, scores_of: Callable[..., Scores] | None = None
) -> Callable[[Callable[..., Circuit]], Callable[..., Circuit]]:
    """Register a function that reads a circuit of another tool; its arguments are those of `CircuitImport`."""

    def register(circuit_of: Callable[..., Circuit]) -> Callable[..., Circuit]:
        CIRCUIT_IMPORTS.add(name, CircuitImport(name, circuit_of, scores_of), home=circuit_of.__module__)
        return circuit_of

    return register


def import_circuit(
    path: str | os.PathLike[str], format: str = "eap-ig", *, keep: str | None = None, **fields: str
) -> Circuit:
    """Return a circuit from a file of another tool. ``keep`` chooses it from the file's scores (``Scores.keep``).

    ``fields`` (task, model, method, unit) are written into the circuit: such files do not say them.

    Raises:
        CircuitError: if the file is not of that format.
        OptionError: if the format is unknown or has no scores, or ``keep`` cannot be read.
    """
    made = CIRCUIT_IMPORTS.get(format)
    text, where = read_text(path), str(path)
    if keep is None:
        return made.circuit_of(text, where=where, **fields)
    if made.scores_of is None:
        raise OptionError(
            f"files of the format {format} have no scores to choose from", hint="leave --keep out"
        )
    given: dict[str, Any] = {k: v for k, v in fields.items() if k in ("method", "unit")}
    rest: dict[str, Any] = {k: v for k, v in fields.items() if k not in given}
    chosen = made.scores_of(text, where=where, **given).keep(keep)
    if not chosen.n_edges:
        raise CircuitError(f"{where}: nothing is connected when {keep} is kept", hint="keep more")
    return chosen.with_fields(**rest)
