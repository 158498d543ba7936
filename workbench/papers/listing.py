"""The sixty papers in order, those that are not built yet too, and the page of documentation that lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.circuits.files.markdown import table
from workbench.core.atomic import write_atomic
from workbench.core.source_digest import source_digests
from workbench.papers.default_runs import WALL, keep_measured, measured, minute_words, verdict_words
from workbench.papers.kit.paper import Paper
from workbench.papers.registry import PAPERS, modules_of
from workbench.papers.sixty import sixty
from workbench.papers.uses import shared_uses, uses_of_papers
from workbench.papers.wishes import WISHES

TODAY, OLDER = "this code", "older code"
SURVEY = "survey"  # stands for the verdicts of a paper without claims of its own
NOTHING = {"minutes": None, "clock": None, "verdicts": None, "code": None}
PAGE = """# Sixty papers

`workbench replicate list` shows this table, and `workbench replicate NAME` measures the claims of a paper that is
built. The page [replications](replications.md) says what each of them measures, and which controls it has.
`workbench replicate list --docs docs/papers.md` writes this page.

"""

MAP = """## A map of methods

The method of every paper is a function of the library. It works on any model that has what the method needs. The
names below are modules and functions under `workbench`.

### I want to ...

{wishes}

### What each paper measures with

This table is read from the files of the papers.

{papers}

### What papers share

{shared}"""


def paper_rows() -> list[dict[str, Any]]:
    """One row per paper: the sixty in order, then those of plug-ins, which have no number.

    ``code`` says whether what was measured was measured with the sources of today.
    """
    built = dict(PAPERS.items())
    rows = _rows(built)
    known = [row for row in rows if row["built"] and row["name"] in measured()]
    today = source_digests(modules_of(built[row["name"]]) for row in known)
    for row, digest in zip(known, today, strict=True):
        row["code"] = TODAY if digest == measured()[row["name"]]["sources"] else OLDER
    return rows


def _rows(built: Mapping[str, Paper]) -> list[dict[str, Any]]:
    rows = [
        {
            "number": paper["number"],
            "name": paper["name"],
            "paper": paper["title"],
            "source": str(paper["year"]),
            "default model": None,
            **NOTHING,
            "built": False,
        }
        | _built(built, paper["name"])
        for paper in sixty()
    ]
    numbered = {row["name"] for row in rows}
    return rows + [
        {"number": None, "name": name, **NOTHING, **_built(built, name)}
        for name in built
        if name not in numbered
    ]


def _built(papers: Mapping[str, Paper], name: str) -> dict[str, Any]:
    if name not in papers:
        return {}
    paper = papers[name]
    told = {"paper": paper.title, "source": paper.source, "default model": paper.model, "built": True}
    known = measured().get(name)
    if known:
        told |= {"minutes": known["minutes"], "clock": known.get("clock", WALL)}
        told |= {"verdicts": verdict_words(known["verdicts"])}
    return told if paper.claims else told | {"verdicts": SURVEY}


def papers_page() -> str:
    """The page of documentation: the sixty papers as a table of Markdown."""
    told = [row for row in _rows(dict(PAPERS.items())) if row["number"] is not None]
    rows = [
        {
            "number": str(row["number"]),
            "name": row["name"],
            "paper": row["paper"],
            "source": row["source"],
            "default model": row["default model"] if row["built"] else "not built yet",
            "minutes of the processor": "" if row["minutes"] is None else minute_words(row),
            "verdicts": row["verdicts"] or "",
        }
        for row in told
    ]
    built = [row["name"] for row in told if row["built"]]
    return f"{PAGE}{len(built)} of {len(rows)} are built.{_when(built)}\n\n{table(rows)}\n\n{_map()}\n"


def _map() -> str:
    """From wishes to functions, from papers to functions, and the functions that several papers share."""
    uses = uses_of_papers()
    wishes = [
        {"I want to": wish.want, "functions": ", ".join(wish.functions), "to type": wish.command}
        for wish in WISHES
    ]
    papers = [{"paper": name, "measures with": ", ".join(found)} for name, found in uses.items()]
    shared = [
        {"function": function, "papers": ", ".join(names)} for function, names in shared_uses(uses).items()
    ]
    return MAP.format(wishes=table(wishes), papers=table(papers), shared=table(shared))


def _when(built: Sequence[str]) -> str:
    """When and on which commit minutes and verdicts of the papers were measured; said once if it is one for all."""
    dates: dict[str, list[str]] = {}
    for name, row in measured().items():
        dates.setdefault(f"{row['date']}{', commit ' + row['commit'] if row['commit'] else ''}", []).append(
            name
        )
    said = "; ".join(f"{', '.join(names)} on {when}" for when, names in sorted(dates.items()))
    if len(dates) == 1 and measured().keys() >= set(built):
        said = f"all on {next(iter(dates))}"
    where = (
        "`workbench replicate list --results FOLDER` took them from what `workbench replicate all -o FOLDER` left; "
        "`workbench/papers/default_runs.json` has the digest of the sources of each, and `workbench replicate list` "
        "marks those that were measured with older code"
    )
    first = " Minutes and verdicts are those of the default run on the default model"
    return f"{first} ({said}); {where}." if said else ""


def write_page(path: Path) -> None:
    """Write the page of documentation, whole or not at all."""
    write_atomic(path, papers_page())


def keep_results(folder: Path) -> list[str]:
    """Take minutes and verdicts of our papers from a folder of results."""
    return keep_measured(folder, PAPERS.ours())
