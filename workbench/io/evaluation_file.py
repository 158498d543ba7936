"""Evaluation files: the evidence on a circuit and the verdicts from it, ``evaluation.json``, read strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

from workbench.circuit import Circuit
from workbench.criteria import Criteria, Verdict
from workbench.errors import CircuitError, OptionError
from workbench.io.atomic import write_atomic
from workbench.io.circuit_file import EVALUATION_NAME as FILE_NAME
from workbench.io.circuit_file import circuit_path, has_evaluation
from workbench.io.strict_json import check_keys, dump, parse, read_text
from workbench.judgement import Judgement, circuit_digest
from workbench.verdicts import FORMAT, VERSION

PAGE_NAME = "evaluation.html"
_KEYS = {
    *("format", "version", "circuit", "metric", "unit", "direction", "ablation", "pairs", "provenance"),
    *("plan", "criteria", "evidence", "missing", "verdicts"),
}
_SCORES = ("model", "circuit", "nothing", "complement")
_EVIDENCE = {
    "scores",
    "completeness",
    "minimality",
    "edges",
    "random",
    "matched",
    "ablations",
    "stability",
    "curve",
}


def save_evaluation(found: Judgement, folder: str | os.PathLike[str]) -> dict[str, str]:
    """Write ``evaluation.json`` and the page ``evaluation.html``; returns what is where.

    Raises:
        RunError: if the folder cannot be written.
    """
    from workbench.view.judgement import judgement_page

    page, text = judgement_page(found), dump(found.document, where="the evaluation")
    write_atomic(Path(folder) / PAGE_NAME, page)
    write_atomic(Path(folder) / FILE_NAME, text)
    return {"evaluation": str(Path(folder) / FILE_NAME), "page": str(Path(folder) / PAGE_NAME)}


def load_evaluation(path: str | os.PathLike[str]) -> Judgement:
    """Read an evaluation file, or the one in a folder.

    Raises:
        CircuitError: if it is not a whole evaluation of a version we know, or its verdicts do not follow from its
            evidence.
    """
    file = Path(path) / FILE_NAME if os.path.isdir(path) else Path(path)
    document = check_evaluation(parse(read_text(file), where=str(file)), str(file))
    found = Judgement(document=document)
    try:
        again = json.loads(json.dumps([v.to_dict() for v in found.verdicts]))
    except (KeyError, ValueError, TypeError, IndexError, OptionError) as problem:
        raise CircuitError(f"{file}: its evidence cannot be judged: {problem}") from problem
    if wrong := _unlike(document["verdicts"], again):
        raise CircuitError(f"{file}: {wrong}", hint="evaluate the circuit again")
    return found


def _unlike(saved: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> str:
    """In what saved verdicts differ from those that follow from the evidence; empty where in nothing."""
    names = [row["name"] for row in saved]
    if names != [row["name"] for row in new]:
        missing = [row["name"] for row in new if row["name"] not in names]
        return f"it has {len(saved)} verdicts, the evidence gives {len(new)}" + (
            f"; missing: {', '.join(missing)}" if missing else ""
        )
    for old, row in zip(saved, new, strict=True):
        for key, value in row.items():
            if not _same(old[key], value):
                return (
                    f"the verdict {row['name']!r} does not follow from the evidence: "
                    f"{key} says {old[key]!r:.80}, the evidence {value!r:.80}"
                )
    return ""


def _same(one: object, two: object) -> bool:
    """Equal and of one type; real numbers up to 1e-9, what another machine's order of adding may change."""
    if isinstance(one, bool) or isinstance(two, bool) or not isinstance(one, int | float):
        return type(one) is type(two) and one == two
    return isinstance(two, int | float) and isclose(one, two, rel_tol=1e-9, abs_tol=1e-12)


def find_evaluation(path: str | os.PathLike[str], circuit: Circuit) -> Judgement | None:
    """The evaluation beside a circuit file; None where there is none.

    Raises:
        CircuitError: if it is broken, or of another circuit than the one in the file.
    """
    if not has_evaluation(path):
        return None
    file = circuit_path(path).parent / FILE_NAME
    found = load_evaluation(file)
    if found.document["circuit"].get("digest") != circuit_digest(circuit):
        raise CircuitError(
            f"{file} is of another circuit than the one beside it", hint="workbench evaluate CIRCUIT --full"
        )
    return found


def verdict_rows(path: str | os.PathLike[str], circuit: Circuit) -> list[dict[str, Any]]:
    """Question, verdict, measured, criterion of the evaluation beside a circuit; empty where there is none."""
    found = find_evaluation(path, circuit)
    return [] if found is None else found.rows()


def check_evaluation(document: object, where: str) -> dict[str, Any]:
    """The document, if it has all parts in the right form.

    Raises:
        CircuitError: saying which part has not.
    """
    found = check_keys(document, _KEYS, set(), where)
    if found["format"] != FORMAT or found["version"] != VERSION:
        raise CircuitError(
            f"{where} is {found['format']!r:.60} version {found['version']!r:.20}; expected {FORMAT} version {VERSION}"
        )
    check_keys(found["pairs"], {"ids", "groups"}, set(), f"{where}: pairs")
    check_keys(found["evidence"], {"scores"}, _EVIDENCE - {"scores"}, f"{where}: evidence")
    try:
        Criteria(**found["criteria"])
    except TypeError as problem:
        raise CircuitError(f"{where}: criteria: {problem}") from problem
    scores = check_keys(found["evidence"]["scores"], set(_SCORES), set(), f"{where}: scores")
    n = len(found["pairs"]["ids"])
    for name in _SCORES:
        values = scores[name]
        numeric = isinstance(values, list) and all(type(x) in (int, float) for x in values)
        if not numeric or len(values) != n or n < 2:
            raise CircuitError(
                f"{where}: scores.{name} must have one number for each of {n} pairs, of 2 or more"
            )
    if len(found["pairs"]["groups"]) != n:
        raise CircuitError(f"{where}: pairs.groups must name one template for each of {n} pairs")
    if found["direction"] not in (1, -1):
        raise CircuitError(f"{where}: direction is {found['direction']!r:.20}; expected 1 or -1")
    names = {field for field in Verdict.__dataclass_fields__} | {"verdict"}
    for row in found["verdicts"] if isinstance(found["verdicts"], list) else [None]:
        check_keys(row, names, set(), f"{where}: verdicts")
    return found
