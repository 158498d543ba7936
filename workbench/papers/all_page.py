"""The page of all papers, for somebody who has read none of them: what each said, what was found here, a picture."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import workbench
from workbench.core.claims import UNTESTABLE, JudgedClaim, counts
from workbench.core.text import escape
from workbench.papers.method_notes import anchor, methods_html
from workbench.papers.quick import unlike_default
from workbench.papers.registry import PAPERS
from workbench.papers.result import Result, Results
from workbench.papers.sixty import sixty
from workbench.papers.uses import uses_of
from workbench.view.bars import Bar
from workbench.view.claims import claims_html
from workbench.view.few_bars import few_bars_svg
from workbench.view.html import results_page, short, table_html, text_html
from workbench.view.pictures import Picture
from workbench.view.text import number

NOTEBOOKS: Mapping[str, str] = {
    "retrieval-heads": "07_one_paper_another_model",
    "vit-heads": "09_which_heads_find_the_asked_object",
    "deconstructing": "10_what_an_attention_pattern_is_worth",
    "power-attention": "11_one_mask_from_picture_to_training",
    "agile": "12_move_an_object_by_its_attention",
}
"""Notebooks that follow a paper."""
WORDS = {"holds": "holds", "fails": "fails", UNTESTABLE: "cannot"}
CANNOT_BE_HAD, LACKED = "cannot be had here", "lacking in this run"
GO_ON = ("and ", "so ", "because ", "it ", "more than ")
"""With these words a claim goes on from the one before it."""
OURS = ("a control of ours", "an extension of ours")
INTRO = """Each paper below says something about what attention does in a neural network. Here what it says is taken \
apart into claims, and each claim is measured again on a small model that comes with the workbench (zoo:ioi and the \
like; docs/zoo.md says what each can do). What would count as a yes was written down before anything was measured.

A claim holds if the numbers meet that criterion, and fails if they do not. It cannot be tested here if something is \
missing that the claim needs: recordings of brains, photographs, a model of seven billion weights, or a model that \
does the task at all; the reason is given. A claim that fails here is a finding about these small models. It does not \
say that the paper is wrong.

Each chart has two bars: what was measured, and the control beside it, which is what one would see if the claim's idea \
did nothing. Thin lines are 95 % intervals. A paper without \
such a claim shows its first picture."""
QUICK = """This is a quick run: papers that take long were measured on fewer prompts, pictures or draws. Verdicts \
marked quick can differ from those of a default run and are never taken into the list of papers."""


def papers_page(found: Results) -> str:
    """Return the page, as HTML."""
    parts = [("What this page shows", text_html(INTRO))]
    if any(map(changed, found.results)):
        parts.append(("A quick run", text_html(QUICK)))
    parts.append(("All papers", _overview(found)))
    if found.failed:
        gone = [{"paper": name, "because": why} for name, why in found.failed.items()]
        parts.append(("No result", table_html(gone)))
    parts += [(title_of(result), _paper(result, found)) for result in found.results]
    if methods := _methods(found):
        parts.append(("The methods, function by function", _folded("All functions", methods)))
    if why := list(reasons(found)):
        parts.append(("Why claims cannot be tested here", _folded(f"{len(why)} reasons", table_html(why))))
    parts.append(("Every claim", _folded(f"{len(found.rows())} claims", claims_html(found.rows()))))
    return results_page("Papers about attention, measured again", parts, lead=found.lead)


def _folded(says: str, markup: str) -> str:
    return f'<details><summary>{escape(says)}</summary><div class="wide">{markup}</div></details>'


def changed(result: Result) -> tuple[str, ...]:
    """Say which options of a result are not those of a default run, as ``name=value`` texts."""
    options = result.plan.get("options", {})
    return unlike_default(PAPERS.get(result.name), options) if result.name in PAPERS else ()


def title_of(result: Result) -> str:
    """Return number and title of a paper."""
    number_of = {paper["name"]: paper["number"] for paper in sixty()}.get(result.name)
    return f"{number_of}. {result.title}" if number_of else result.title


def time_rows(found: Results) -> list[dict[str, Any]]:
    """One row per paper: its verdicts, how many claims are decided, minutes, and its share of all time, in percent."""
    spent = [_seconds(result) for result in found.results]
    whole = sum(spent) or 1.0
    rows = []
    for result, seconds in zip(found.results, spent, strict=True):
        n = counts(result.findings.claims)
        decided, undecided = n["holds"] + n["fails"], n[UNTESTABLE]
        rows.append(
            {"paper": result.name, "hold": n["holds"], "fail": n["fails"]}
            | {"undecided": undecided, "decided": decided}
            | {
                "share of time": f"{seconds / whole:.1%}",
                "minutes": round(seconds / 60, 2),
                "model": result.model,
            }
            | ({"run": "quick" if changed(result) else "default"} if any(map(changed, found.results)) else {})
        )
    return rows


def never_testable(result: Result, claim: JudgedClaim) -> bool:
    """Whether nothing that comes with the workbench could test a claim; else this run lacked something."""
    own = PAPERS.get(result.name).claims.values() if result.name in PAPERS else ()
    return any(one.alone and one.says == claim.claim for one in own)


def reasons(found: Results) -> Iterator[dict[str, Any]]:
    """One row per reason why claims cannot be tested: first what cannot be had here, those of most claims first."""
    papers: dict[tuple[str, str], list[str]] = defaultdict(list)
    for result in found.results:
        for claim in result.findings.claims:
            if claim.verdict == UNTESTABLE:
                kind = CANNOT_BE_HAD if never_testable(result, claim) else LACKED
                papers[kind, claim.why].append(result.name)
    for (kind, why), names in sorted(papers.items(), key=lambda one: (one[0][0], -len(one[1]))):
        yield {"kind": kind, "reason": why, "claims": len(names), "papers": ", ".join(dict.fromkeys(names))}


def main_claim(claims: Sequence[JudgedClaim]) -> JudgedClaim | None:
    """Return the claim of the chart: one that was decided by a number beside a control.

    Those of the paper itself come before ours, and those that read well alone before those that go on from another.
    """

    def fits(claim: JudgedClaim) -> bool:
        known = isinstance(claim.found, int | float) and isinstance(claim.control, int | float)
        return claim.verdict != UNTESTABLE and known

    def goes_on(claim: JudgedClaim) -> bool:
        return claim.claim.startswith(GO_ON)

    known = filter(fits, claims)
    return min(known, key=lambda claim: (claim.source in OURS, goes_on(claim)), default=None)


def chart_of(result: Result) -> str:
    """Return a small chart of a paper's main claim beside its control; else its first picture; else nothing."""
    claim = main_claim(result.findings.claims)
    if claim is None:
        pictures: list[Picture] = list(result.findings.pictures.values())
        return pictures[0].svg() if pictures else ""
    known = result.findings.tables.get("Conditions", [])
    bars: list[Bar] = []
    units = []
    for value, usual in ((claim.found, "measured"), (claim.control, "control")):
        row = next((row for row in known if _close(row.get("mean"), value)), {})
        low, high = _float(row.get("low")), _float(row.get("high"))
        bars.append((str(row.get("condition") or usual), _float(value), low, high, ""))
        units.append(str(row.get("unit") or ""))
    return few_bars_svg(bars, unit=next(filter(None, units), ""), title=claim.claim)


def _close(one: Any, other: Any) -> bool:
    return isinstance(one, int | float) and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _seconds(result: Result) -> float:
    return result.seconds if result.core_seconds is None else result.core_seconds


def _overview(found: Results) -> str:
    """Counts in a sentence, and the table of papers, each a link to its section."""
    told = [counts(result.findings.claims) for result in found.results]
    holds, fails, cannot = (sum(n[verdict] for n in told) for verdict in ("holds", "fails", UNTESTABLE))
    lack = [row["claims"] for row in reasons(found) if row["kind"] == LACKED]
    said = (
        f"{len(told)} papers with {holds + fails + cannot} claims: {holds} hold, {fails} fail, and {cannot} cannot be "
        f"tested here. Of those {cannot}, {cannot - sum(lack)} need what cannot be had here, and for {sum(lack)} "
        "something was lacking in this run, such as room to gain. These are undecided; those that hold or fail are "
        "decided. Time is of the processor."
    )
    titles = {result.name: title_of(result) for result in found.results}
    rows = [{**row, "paper": titles[str(row["paper"])]} for row in time_rows(found)]
    table = table_html(rows, links={title: f"#{name}" for name, title in titles.items()})
    return f'{text_html(said)}<div class="wide">{table}</div>'


def _paper(result: Result, found: Results) -> str:
    """What it said, what was found, a chart, and where to read on."""
    said = result.about.split("\n\n")[0]
    return (
        f'<div class="paper" id="{escape(result.name)}"><div>'
        f"<h3>What the paper says</h3><p>{escape(said)}</p>"
        f"<h3>What was found here</h3>{_found(result)}{_links(result, found)}</div>"
        f"<figure>{chart_of(result)}</figure></div>"
    )


def _found(result: Result) -> str:
    """The verdicts in a line, and the main claim with its numbers."""
    claims, other = result.findings.claims, changed(result)
    if not claims:
        return "<p>A survey: it has no claims of its own. Its report has the table of what it sorts.</p>"
    n = counts(claims)
    quick = f" Quick run: {', '.join(other)}." if other else ""
    line = (
        f"<p>On {escape(result.model)}: of {len(claims)} claims "
        f"{n['holds']} hold, {n['fails']} fail, {n[UNTESTABLE]} cannot be tested here.{escape(quick)}</p>"
    )
    claim = main_claim(claims)
    if claim is None:
        return line
    word = (
        f'<b class="verdict {WORDS[claim.verdict]}">{escape(claim.verdict)}{" (quick)" if other else ""}</b>'
    )
    numbers = f"{short(claim.here)}; control {number(float(claim.control or 0))}"
    return f"{line}<p>The claim in the chart: {escape(claim.claim)}. It {word}: {escape(numbers)}.</p>"


def _link(use: str) -> str:
    return f'<a href="#{escape(anchor(use))}">{escape(use.rpartition(".")[2])}</a>'


def _notebook(name: str, page: Path) -> str:
    """A link where the notebooks are at hand, as in a checkout; their name else."""
    path = Path(workbench.__file__).parents[1] / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return f"<code>notebooks/{name}.ipynb</code> in the repository"
    return f'<a href="{escape(os.path.relpath(path, page).replace(os.sep, "/"))}">{escape(name)}</a>'


def _methods(found: Results) -> str:
    ours = [result.name for result in found.results if result.name in PAPERS.ours()]
    uses = {name: uses_of(PAPERS.get(name).module) for name in ours}
    return methods_html(uses, {result.name: title_of(result) for result in found.results})


def _links(result: Result, found: Results) -> str:
    """The report of the paper, the functions of its method, its notebook."""
    place = os.path.relpath(result.folder / "report.html", found.folder).replace(os.sep, "/")
    parts = [f'<a href="{escape(place)}">All claims, criteria and pictures</a>']
    used = uses_of(PAPERS.get(result.name).module) if result.name in PAPERS.ours() else ()
    if used:
        parts.append(f"Method: {', '.join(map(_link, used))}")
    if result.name in NOTEBOOKS:
        parts.append(f"Notebook: {_notebook(NOTEBOOKS[result.name], found.folder)}")
    typed = f"workbench replicate {result.name} -m {result.model}"
    parts.append(f"To type: <code>{escape(typed)}</code>")
    return "".join(f'<p class="soft">{part}</p>' for part in parts)
