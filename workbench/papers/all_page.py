"""The page of all papers, for somebody who has read none of them: what each said, what was found here, a picture."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import workbench
from workbench.core.claims import UNTESTABLE, JudgedClaim, counts
from workbench.core.text import escape
from workbench.model.builtin import PREFIX, names, read_card
from workbench.papers.method_notes import anchor, methods_html
from workbench.papers.quick import unlike_default
from workbench.papers.registry import PAPERS
from workbench.papers.result import Result, Results
from workbench.papers.shown_claim import chart_of, numbers_of, rule_of, shown_claim
from workbench.papers.sixty import listed
from workbench.papers.uses import uses_of
from workbench.view.claims import claims_html
from workbench.view.html import facts_html, results_page, table_html, text_html

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
INTRO = """Each paper below says something about what attention does in a neural network. Here what it says is taken \
apart into claims, and each claim is measured again on a small model that comes with the workbench (zoo:ioi and the \
like; docs/zoo.md says what each can do). What would count as a yes was written down before anything was measured.

A claim holds if the numbers meet that criterion, and fails if they do not. It cannot be tested here if something is \
missing that the claim needs: recordings of brains, photographs, a model of seven billion weights, or a model that \
does the task at all; the reason is given. A claim that fails here is a finding about these small models. It does not \
say that the paper is wrong.

Each chart has two bars: in blue what was measured, in grey the control beside it, which is what one would see if the \
claim's idea did nothing. Thin lines are 95 % intervals. The words under the bars are the unit. Whether more is \
better depends on the claim: the line "holds if" says it. The claim of the chart is the one that the paper is best \
known for if it was decided by two numbers, else the first that was. Which one that is was written down after \
measuring, by what titles and summaries say, whatever the verdict. A paper without such a claim shows its first \
picture."""
WORDS_USED = {
    "attention head": "a part of a layer with its own attention; a1.h2 is head 2 of layer 1, both counted from 0",
    "pattern, map": "how the weights of attention are shared among the tokens of a text or the patches of a picture",
    "patch": "a small square of a picture; it is to a model that sees what a token is to one that reads",
    "control": "the same measurement with something else in place of the idea: random heads, another picture, nothing",
    "n": "how many items a number is over: questions, pictures, texts, heads or trainings",
    "95 % interval": "where the number would lie if other items of the same kind had been drawn (bootstrap)",
    "A minus B above 0, interval included": "the whole interval of the difference lies above 0, not the number alone",
    "p": "how often chance alone gives a number as large; a rule with p wants less than 0.05",
    "training 1, training 2": "two trainings from different starts; a claim about a training must hold in each",
    "on this model, on 2 models": "how far a verdict reaches: it is of one model, or of two trainings",
    "arm": "one of several trainings that are compared, from the same start and on the same batches",
    "dealt": "given at random to others of the same kind, as cards are: a control",
    "frozen": "not trained further",
    "imposed": "put on a model that was trained without it",
    "hallucination": "the model says that something is there which is not",
    "look": "the weight of attention from a token or patch to another",
    "binding, intact": "painted pictures: each colour is on its own shape; each object is whole",
    "nats": "unit of loss, entropy and log probability (natural logarithm); 0.69 nats are one bit",
    "lift": "weight on a place beside what it would have if all places had the same; 1 is even",
    "intersection over union": "how well two areas overlap: 0 is not at all, 1 is the same area",
    "AUROC": "how well a number tells two groups apart: 0.5 is chance, 1 is perfect",
    "IOI": "naming the indirect object: When Mary and John went to the store, John gave a drink to -> Mary",
}
"""What words mean that stand in many claims."""
QUICK = """This is a quick run: papers that take long were measured on fewer prompts, pictures or draws. Verdicts \
marked quick can differ from those of a default run and are never taken into the list of papers."""


def papers_page(found: Results) -> str:
    """Return the page, as HTML."""
    told = "".join(f"<p><b>{escape(word)}</b>: {escape(what)}.</p>" for word, what in WORDS_USED.items())
    words = _folded("Words that are used here", told)
    parts = [("What this page shows", text_html(INTRO) + words)]
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
    return results_page("Papers about attention, measured again", parts, lead=found.lead)


def _folded(says: str, markup: str) -> str:
    return f'<details><summary>{escape(says)}</summary><div class="wide">{markup}</div></details>'


def changed(result: Result) -> tuple[str, ...]:
    """Say which options of a result are not those of a default run, as ``name=value`` texts."""
    options = result.plan.get("options", {})
    return unlike_default(PAPERS.get(result.name), options) if result.name in PAPERS else ()


def title_of(result: Result) -> str:
    """Return number and title of a paper."""
    number_of = listed(result.name).get("number")
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
    for (kind, why), told in sorted(papers.items(), key=lambda one: (one[0][0], -len(one[1]))):
        yield {"kind": kind, "reason": why, "claims": len(told), "papers": ", ".join(dict.fromkeys(told))}


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
        "decided. Minutes are those of the processor."
    )
    titles = {result.name: title_of(result) for result in found.results}
    rows = [{**row, "paper": titles[str(row["paper"])]} for row in time_rows(found)]
    table = table_html(rows, links={title: f"#{name}" for name, title in titles.items()})
    return f'{text_html(said)}<div class="wide">{table}</div>'


def _paper(result: Result, found: Results) -> str:
    """What it said, what is asked here, what was found, a chart, and where to read on."""
    first, *more = result.about.split("\n\n")
    said = listed(result.name).get("says", "")
    parts = f"<h3>What the paper says</h3><p>{escape(said)}</p>" if said else ""
    parts += f"<h3>What is asked here</h3><p>{escape(first)}</p>"
    parts += _folded("How it is asked", text_html("\n\n".join(more))) if more else ""
    return (
        f'<div class="paper" id="{escape(result.name)}"><div>{parts}'
        f"<h3>What was found here</h3>{_found(result)}{_links(result, found)}</div>"
        f"<figure>{chart_of(result)}</figure></div>{_all_claims(result)}"
    )


def _all_claims(result: Result) -> str:
    """Every claim with its rule, folded; nothing for a survey."""
    known = zip(result.claim_rows(), result.findings.claims, strict=True)
    rows = [
        {"claim": row.pop("claim"), "holds if": rule_of(claim.criterion), **row, "paper": row["paper"]}
        for row, claim in known
    ]
    return _folded(f"All {len(rows)} claims of this paper", claims_html(rows)) if rows else ""


def _found(result: Result) -> str:
    """The verdicts in a line, the claim of the chart with its numbers, and all claims."""
    claims, other = result.findings.claims, changed(result)
    if not claims:
        return "<p>A survey: it has no claims of its own. Its report has the table of what it sorts.</p>"
    n = counts(claims)
    quick = f" Quick run: {', '.join(other)}." if other else ""
    line = (
        f"<p>On {escape(_model(result.model))}: of {len(claims)} claims "
        f"{n['holds']} hold, {n['fails']} fail, {n[UNTESTABLE]} cannot be tested here.{escape(quick)}</p>"
    )
    claim = shown_claim(result)
    if claim is None:
        return line
    word = (
        f'<b class="verdict {WORDS[claim.verdict]}">{escape(claim.verdict)}{" (quick)" if other else ""}</b>'
    )
    told = f"<p>The claim in the chart: {escape(claim.claim)}. It {word}.</p>"
    return line + told + facts_html(numbers_of(claim, result))


def _model(name: str) -> str:
    """A model by its name, and what it is where it is one of ours."""
    own = name.startswith(PREFIX) and name.removeprefix(PREFIX) in names()
    return f"{name} ({read_card(name).title})" if own else name


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
    parts = [f'<a href="{escape(place)}">All criteria, pictures, tables and controls</a>']
    used = uses_of(PAPERS.get(result.name).module) if result.name in PAPERS.ours() else ()
    if used:
        parts.append(f"Functions that measure it: {', '.join(map(_link, used))}")
    if result.name in NOTEBOOKS:
        parts.append(f"Notebook: {_notebook(NOTEBOOKS[result.name], found.folder)}")
    typed = f"workbench replicate {result.name} -m {result.model}"
    parts.append(f"To type: <code>{escape(typed)}</code>")
    return "".join(f'<p class="soft">{part}</p>' for part in parts)
