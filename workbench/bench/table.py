"""The table of a bench: one row per method, from the cells of its document. No torch here."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from workbench.bench.file import BENCH
from workbench.bench.how_measured import how
from workbench.bench.settings import SHOWN
from workbench.core.atomic import file_at, write_atomic
from workbench.core.bounds import exists
from workbench.core.errors import RunError, expect_path
from workbench.core.show import Shown, saves
from workbench.core.typed import as_json

FILE, PAGE = "bench.json", "bench.html"
Cell = Mapping[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BenchResult(Shown, shown_in="workbench.bench.page", saved_in="workbench.bench.table"):
    """A finished bench.

    Attributes:
        document: All that it found, as JSON values.
        notes: What is to be said of the file that it was read from; not written to files.
    """

    document: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``bench.json``, with its digest."""
        return BENCH.document(self.document)

    def tables(self) -> dict[str, list[Row]]:
        """Caption -> rows: what terminal, page and documentation all show."""
        d = self.document
        made = {
            "Known circuits: how well scores tell the true circuit from the rest (means over models)": truth_rows(
                d
            ),
            "Trained tasks: circuits found on the train split, judged on the test split (means over tasks)": task_rows(
                d
            ),
            "The known circuits": known_rows(d),
            "Edge AUROC on every known circuit": per_subject(d, "truth", "edge", "auroc"),
            "Node AUROC on every known circuit": per_subject(d, "truth", "node", "auroc"),
            "CMD of every task, edges (0 is best)": per_subject(d, "tasks", "edge", "CMD"),
            "CPR of every task, edges (higher is better)": per_subject(d, "tasks", "edge", "CPR"),
            "Trained tasks, nodes (means over tasks)": task_rows(d, "node"),
            "Circuits of 5 % of the edges: whose are they, and do pairs agree? (means over tasks)": defence_rows(
                d
            ),
            "Methods to choose among, and the one that chooses: mean and worst": chosen_rows(d),
            "What methods decide themselves": own_rows(d),
            "True edges that a method does not put above every other edge": misplaced(d),
            "Not measured": not_measured(d),
        }
        return {caption: [_rounded(row) for row in rows] for caption, rows in made.items()}

    def how(self) -> str:
        """Say what the columns mean and how it was measured."""
        return how(self.document)

    def to_dataframe(self):
        """One row per cell, without the curves."""
        import pandas as pd

        drop = {"roc", "pr", "curves", "missed", "above"}
        cells = [*self.document["truth"], *self.document["tasks"]]
        return pd.json_normalize([{k: v for k, v in cell.items() if k not in drop} for cell in cells])

    def __repr__(self) -> str:
        d = self.document
        return (
            f"<BenchResult: {len(d['methods'])} methods, {len(d['known'])} known circuits, "
            f"{len({c['subject'] for c in d['tasks']})} trained tasks>"
        )


@saves(BenchResult)
def save_bench(result: BenchResult, path: str | os.PathLike[str]) -> Path:
    """Write a bench with its page beside it; a path without ``.json`` is a folder: its ``bench.json``."""
    file = BENCH.save(result.document, file_at(path, FILE))
    write_atomic(file.with_name(PAGE), result.page())
    return file


def load_bench(path: Path) -> BenchResult:
    """Read a bench that was saved: ``bench.json``, or the folder that has it.

    Returns:
        Every cell, with settings and methods.

    Raises:
        RunError: if it is none, or was changed since it was written.

    Example:
        >>> import workbench as wb
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> settings = wb.BenchSettings(methods=("random",), truths=("zoo:truth-induction",), tasks=(), n_truth=4)
        >>> folder = Path(mkdtemp())
        >>> _ = wb.bench_discovery(settings, folder)
        >>> len(wb.load_bench(folder).document["truth"])
        2
    """
    expect_path(path)
    path = Path(path) / FILE if os.path.isdir(path) else Path(path)
    if not exists(path):
        raise RunError(f"no bench at {path}", hint="workbench bench discovery -o FOLDER makes one")
    opened = BENCH.load(path)
    return BenchResult(document=as_json(opened.content), notes=opened.origin.notes)


def _rounded(row: Row) -> Row:
    """Numbers to four decimals, which is more than the pairs are enough for; no minus zero."""
    return {k: round(v, 4) + 0.0 if isinstance(v, float) else v for k, v in row.items()}


def of(cells: Sequence[Cell], **fields: str) -> list[Cell]:
    """Return the cells that were measured and have these fields."""
    return [c for c in cells if c["status"] == "done" and all(c[k] == v for k, v in fields.items())]


def mean(cells: Sequence[Cell], value: Callable[[Cell], float | None]) -> float | None:
    """Return the mean of what the cells have; None when none has it."""
    found = [v for v in map(value, cells) if v is not None]
    return fmean(found) if found else None


def _faithfulness_at(share: float) -> Callable[[Cell], float | None]:
    return lambda cell: cell["faithfulness"][f"{share:g}"]


def labels(document: Mapping[str, Any]) -> list[str]:
    return [row["method"] for row in document["methods"]]


def truth_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return one row per method: means over known circuits, best edge AUROC first; a method that refused some says
    so.
    """
    cells, n = document["truth"], len(document["known"])
    rows = []
    for label in labels(document):
        edge, node = (of(cells, method=label, level=level) for level in ("edge", "node"))
        if not edge and not node:
            continue
        rows.append(
            {
                "method": label,
                "edge AUROC": mean(edge, lambda c: c["auroc"]),
                "worst": min((c["auroc"] for c in edge if c["auroc"] is not None), default=None),
                "edge AUPRC": mean(edge, lambda c: c["auprc"]),
                "all found": f"{sum(not c['missed'] for c in edge)}/{len(edge)}" if edge else None,
                "node AUROC": mean(node, lambda c: c["auroc"]),
                "node AUPRC": mean(node, lambda c: c["auprc"]),
                "models": f"{max(len(edge), len(node))}/{n}",
                "passes": mean(edge or node, lambda c: c["passes"]),
                "CPU s": mean(edge or node, lambda c: c["cpu_seconds"]),
                "ranking": (edge or node)[0]["ranking"],
            }
        )
    return sorted(rows, key=lambda row: (-_or(row["edge AUROC"], -1.0), -_or(row["edge AUPRC"], -1.0)))


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def task_rows(document: Mapping[str, Any], level: str = "edge") -> list[Row]:
    """Return one row per method: means over trained tasks, best CMD first."""
    cells = document["tasks"]
    n = len({c["subject"] for c in cells})
    rows = []
    for label in labels(document):
        found = of(cells, method=label, level=level)
        if not found:
            continue
        rows.append(
            {
                "method": label,
                "CMD": mean(found, lambda c: c["CMD"]),
                "CPR": mean(found, lambda c: c["CPR"]),
                **{f"f {s:.0%}": mean(found, _faithfulness_at(s)) for s in SHOWN},
                "Pearson": mean(found, lambda c: (c["agreement"] or {}).get("pearson")),
                "Spearman": mean(found, lambda c: (c["agreement"] or {}).get("spearman")),
                "J draws": mean(found, lambda c: c["stability"].get("draws")),
                "J halves": mean(found, lambda c: c["stability"].get("halves")),
                "J seeds": mean(found, lambda c: c["stability"].get("seeds")),
                "tasks": f"{len(found)}/{n}",
                "passes": mean(found, lambda c: c["passes"]),
                "CPU s": mean(found, lambda c: c["cpu_seconds"]),
            }
        )
    # a mean over fewer tasks does not compare with one over all
    return sorted(rows, key=lambda row: (-int(row["tasks"].split("/")[0]), _or(row["CMD"], float("inf"))))


def defence_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return one row per method: specificity, and overlap of circuits over other choices of pairs.

    ``over null`` divides the overlap of halves of the pairs by that of halves of the null task.
    """
    cells, rows = [c for c in of(document["tasks"], level="edge") if "specificity" in c], []
    for label in labels(document):
        found = [c for c in cells if c["method"] == label]
        if not found:
            continue
        cut = [c["specificity"] for c in found if "value" in c["specificity"]]
        told = [c["stability"] for c in found]
        both = [s for s in told if s.get("null")]
        halves, null = mean(both, lambda s: s.get("halves")), mean(both, lambda s: s.get("null"))
        rows.append(
            {
                "method": label,
                "specificity": mean(cut, lambda c: c["value"]),
                "own loss": mean(cut, lambda c: c["own"]),
                "others' loss": mean(cut, lambda c: c["others"]),
                "random circuits": mean(cut, lambda c: c["random"]),
                "reach it": f"{sum(c['reached_by'] for c in cut)}/{sum(c['draws'] for c in cut)}"
                if cut
                else None,
                "J halves": mean(told, lambda s: s.get("halves")),
                "J null task": null,
                "over null": halves / null if halves is not None and null else None,
                "J templates": mean(told, lambda s: s.get("templates")),
                "cv of pairs": mean(found, lambda c: c["variation"]),
                "tasks": f"{len(cut)} and {len(found)}",
            }
        )
    return sorted(rows, key=lambda row: -_or(row["specificity"], -2.0))


def chosen_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return the methods that ``auto`` chose among and itself: agreement with exact effects, CMD, AUROC.

    Empty where it is no row of the bench. Each mean has the worst beside it.
    """
    tasks, known = (of(document[part], level="edge") for part in ("tasks", "truth"))
    own = [c for c in (*tasks, *known) if c["method"] == "auto"]
    if not own:
        return []
    rows = []
    for label in ("auto", *own[0]["options"]["of"]):
        here, there = ([c for c in cells if c["method"] == label] for cells in (tasks, known))
        agree = [c["agreement"]["pearson"] for c in here if (c["agreement"] or {}).get("pearson") is not None]
        areas = [c["CMD"] for c in here if c["CMD"] is not None]
        rates = [c["auroc"] for c in there if c["auroc"] is not None]
        rows.append(
            {
                "method": label,
                "Pearson": fmean(agree) if agree else None,
                "worst Pearson": min(agree, default=None),
                "CMD": fmean(areas) if areas else None,
                "worst CMD": max(areas, default=None),
                "edge AUROC": fmean(rates) if rates else None,
                "worst AUROC": min(rates, default=None),
                "tasks": len(here),
                "models": len(there),
                "chosen": sum(c["options"].get("chosen") == label for c in own),
            }
        )
    return rows


def per_subject(document: Mapping[str, Any], part: str, level: str, what: str) -> list[Row]:
    """Return one row per method, one column per model or task; in the order of the rows of the first table."""
    cells = document[part]
    subjects = list(dict.fromkeys(c["subject"] for c in cells))
    order = truth_rows(document) if part == "truth" else task_rows(document, level)
    rows = []
    for label in [row["method"] for row in order]:
        found = {c["subject"]: c for c in of(cells, method=label, level=level)}
        if found:
            rows.append({"method": label} | {short(s): found.get(s, {}).get(what) for s in subjects})
    return rows


def known_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return one row per model with a known circuit: what it computes, and how much noise its weights have."""
    noise = {c["subject"]: c.get("noise") for c in document["truth"]}
    return [
        {
            "model": short(known["model"]),
            "algorithm": known["algorithm"],
            "norm": known["norm"],
            "attention": known["sharpness"],
            "noise": "none" if not noise.get(known["model"]) else f"{noise[known['model']]:.2g}",
        }
        for known in document["known"]
    ]


def short(subject: str) -> str:
    """Return ``zoo:truth-greater`` -> ``greater``, ``zoo:ioi/sva`` -> ``ioi/sva``."""
    return subject.removeprefix("zoo:").removeprefix("truth-")


def not_measured(document: Mapping[str, Any]) -> list[Row]:
    """Subjects and cells that were left out, refused or failed, each with its reason; equal reasons are one row."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for cell in (*document["truth"], *document["tasks"]):
        if cell["status"] != "done":
            key = (cell["method"], cell["status"], cell["reason"])
            grouped.setdefault(key, []).append(f"{short(cell['subject'])} ({cell['level']}s)")
    rows = [
        {"method": "every method", "where": short(item["subject"]), "why": item["reason"]}
        for item in document["left_out"]
    ]
    return rows + [
        {"method": method, "where": ", ".join(where), "why": f"{status}: {reason}"}
        for (method, status, reason), where in grouped.items()
    ]


def own_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return circuits that methods decide on by themselves: precision and recall on known circuits, faithfulness on
    tasks.
    """
    rows = []
    for label in labels(document):
        known, tasks = (
            [c["own"] for c in of(document[part], method=label, level="edge") if c["own"]]
            for part in ("truth", "tasks")
        )
        if known or tasks:
            rows.append(
                {
                    "method": label,
                    "precision": mean(known, lambda c: c["precision"]),
                    "recall": mean(known, lambda c: c["recall"]),
                    "edges, known circuits": mean(known, lambda c: c["size"]),
                    "faithfulness, tasks": mean(tasks, lambda c: c["faithfulness"]),
                    "edges, tasks": mean(tasks, lambda c: c["size"]),
                }
            )
    return rows


def misplaced(document: Mapping[str, Any], most: int = 3) -> list[Row]:
    """Say where a method fails: the true edges it ranks below some other edge, and the best of those others.

    Methods with a mean AUROC below 0.85 fail everywhere; a list of everything would not say more.
    """
    rows = []
    good = {row["method"] for row in truth_rows(document) if _or(row["edge AUROC"], 0.0) >= 0.85}
    for cell in of(document["truth"], level="edge"):
        if cell["missed"] and cell["method"] in good:
            rows.append(
                {
                    "method": cell["method"],
                    "model": short(cell["subject"]),
                    "AUROC": cell["auroc"],
                    "true edges ranked too low": _some(cell["missed"], most),
                    "others above them": _some(cell["above"], most),
                    "unit": cell["unit"],
                }
            )
    return sorted(rows, key=lambda row: (row["method"], row["model"]))


def _some(named: Sequence[Sequence[Any]], most: int) -> str:
    shown = [f"{address} ({value:.2g})" for address, value in named[:most]]
    more = len(named) - most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
