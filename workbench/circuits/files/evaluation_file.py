"""Evaluation files: the evidence on a circuit and the verdicts from it, ``evaluation.json``, read strictly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.files.circuit_file import EVALUATION_NAME as FILE_NAME
from workbench.circuits.files.circuit_file import circuit_path, has_evaluation
from workbench.circuits.files.evidence import EvaluationContent
from workbench.circuits.verdicts.criteria import Criteria
from workbench.circuits.verdicts.judgement import Judgement, as_today, circuit_digest, judged_today
from workbench.circuits.verdicts.table import recompute_verdicts
from workbench.core.atomic import file_at, write_atomic
from workbench.core.errors import CircuitError, OptionError, expect_path
from workbench.core.file_kind import FileKind, Raw
from workbench.core.show import saves
from workbench.core.strict_json import dump, parse, read_text


def _raw(file: Path) -> Raw:
    """The document, which is the payload too: a judgement keeps it as it stands in the file."""
    document = parse(read_text(file), where=str(file))
    return document, None, document


EVALUATION = FileKind(
    format="circuit-workbench/evaluation",
    content=EvaluationContent,
    what="an evaluation",
    error=CircuitError,
    again="to evaluate the circuit again: workbench evaluate FOLDER --full",
    raw=_raw,
)


def save_evaluation(found: Judgement, folder: str | os.PathLike[str]) -> dict[str, str]:
    """Write ``evaluation.json`` and the page ``evaluation.html``.

    Returns:
        Name of each part and the file that has it.

    Raises:
        RunError: if the folder cannot be written.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> from tempfile import mkdtemp
        >>> plan = wb.JudgePlan(
        ...     draws=2, edges=2, random_sets=1, restarts=1, steps=1, candidates=1, bootstraps=2, refits=0
        ... )
        >>> found = wb.judge(wb.score(runs, "eap").top(100), runs, plan=plan)
        >>> sorted(wb.save_evaluation(found, mkdtemp()))
        ['evaluation', 'page']
    """
    file = write_evaluation(found, folder)
    return {"evaluation": str(file), "page": str(file.with_suffix(".html"))}


@saves(Judgement)
def write_evaluation(found: Judgement, path: str | os.PathLike[str]) -> Path:
    """Write an evaluation file with its page beside it; a path without ``.json`` is a folder."""
    file = file_at(path, FILE_NAME)
    page, text = found.page(), dump(EVALUATION.document(found.document), where="the evaluation")
    write_atomic(file.with_suffix(".html"), page)
    return write_atomic(file, text)


def load_evaluation(path: str | os.PathLike[str]) -> Judgement:
    """Read an evaluation file, or the one in a folder.

    Returns:
        The evidence; its verdicts are computed again.

    Raises:
        CircuitError: if it is not a whole evaluation of a version we know, was changed since it was written, or
            its verdicts do not follow from its evidence.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> from tempfile import mkdtemp
        >>> plan = wb.JudgePlan(
        ...     draws=2, edges=2, random_sets=1, restarts=1, steps=1, candidates=1, bootstraps=2, refits=0
        ... )
        >>> found = wb.judge(wb.score(runs, "eap").top(100), runs, plan=plan)
        >>> folder = mkdtemp()
        >>> _ = wb.save_evaluation(found, folder)
        >>> wb.load_evaluation(folder).verdicts == found.verdicts
        True
    """
    expect_path(path)
    file = Path(path) / FILE_NAME if os.path.isdir(path) else Path(path)
    opened = EVALUATION.load(file)
    document, then = opened.payload, Criteria.read(opened.payload["criteria"])
    try:
        again = json.loads(json.dumps([v.to_dict() for v in recompute_verdicts(document, then)]))
        found = judged_today(document, opened.origin.notes)
    except (KeyError, ValueError, TypeError, IndexError, OptionError) as problem:
        raise CircuitError(
            f"{file}: its evidence cannot be judged: {getattr(problem, 'message', problem)}",
            hint="evaluate it again: workbench evaluate CIRCUIT --full --replace",
        ) from problem
    words = (
        () if as_today(document) else ("measured", "criterion")
    )  # of older rules only the answers are kept
    if wrong := _unlike(document["verdicts"], again, except_for=words):
        raise CircuitError(f"{file}: {wrong}", hint=EVALUATION.advice(str(file)))
    return found


def _unlike(
    saved: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], *, except_for: Sequence[str] = ()
) -> str:
    """In what saved verdicts differ from those that follow from the evidence; empty where in nothing."""
    names = [row["name"] for row in saved]
    if names != [row["name"] for row in new]:
        missing = [row["name"] for row in new if row["name"] not in names]
        return f"it has {len(saved)} verdicts, the evidence gives {len(new)}" + (
            f"; missing: {', '.join(missing)}" if missing else ""
        )
    for old, row in zip(saved, new, strict=True):
        for key, value in row.items():
            if key not in except_for and not _same(old[key], value):
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
    """Return the evaluation beside a circuit file; None where there is none.

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
