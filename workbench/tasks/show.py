"""Pairs of prompts, aligned pairs and the check of a file: cards for notebooks, tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.core.show import card, terminal
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.check import CheckReport
from workbench.tasks.pairs import Pair, Pairs
from workbench.view.html import facts_html, table_html
from workbench.view.text import escape


@card(Pairs)
def pairs_card(pairs: Pairs) -> str:
    """The first ten pairs."""
    left = 'style="text-align:left"'
    head = "".join(f"<th {left}>{name}</th>" for name in ("id", "clean", "corrupted", "correct", "incorrect"))
    rows = "".join(_html_row(pair) for pair in pairs.items[:10])
    more = f"<p>and {len(pairs) - 10} more</p>" if len(pairs) > 10 else ""
    return f"<p>{escape(repr(pairs))}</p><table><tr>{head}</tr>{rows}</table>{more}"


def _html_row(pair: Pair) -> str:
    texts = [said(pair, side) for side in (0, 1)]
    cells = (pair.id, *texts, first_answers(pair.correct), first_answers(pair.incorrect))
    style = "text-align:left;white-space:pre-wrap"
    return "<tr>" + "".join(f'<td style="{style}">{escape(cell)}</td>' for cell in cells) + "</tr>"


def said(pair: Pair, side: int) -> str:
    """Return a prompt, then where its picture is from if it has one."""
    text = (pair.clean, pair.corrupted)[side]
    return text if pair.image is None else f"{text} [{pair.image[side].source}]".strip()


def first_answers(answers: Sequence[str], most: int = 4) -> str:
    """Return a few answers in quotes, and how many there are where they are more."""
    shown = ", ".join(repr(answer) for answer in answers[:most])
    return f"{shown}, ... ({len(answers)})" if len(answers) > most else shown


@card(AlignedPairs)
def aligned_card(aligned: AlignedPairs) -> str:
    """The kept pairs, and the first ten that were dropped."""
    drops = "".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in (drop.id, drop.reason))}</tr>"
        for drop in aligned.dropped[:10]
    )
    more = f"<p>and {len(aligned.dropped) - 10} more</p>" if len(aligned.dropped) > 10 else ""
    table = f"<p>dropped: {len(aligned.dropped)}</p><table>{drops}</table>{more}" if drops else ""
    return f"<p>{escape(repr(aligned))}</p>{pairs_card(aligned.pairs)}{table}"


@card(CheckReport)
def check_card(report: CheckReport, *, most: int = 20) -> str:
    """How many pairs of a file pass, and the lines that do not."""
    facts = {
        "file": report.file,
        "model": report.model or "none: only the format was checked",
        "pass": f"{report.n_good} of {report.n_pairs} pairs",
        "tokens": "{} to {}".format(*report.lengths) if report.lengths else "",
        "positions": ", ".join(report.positions),
    }
    wrong = [{"line": str(p.line or "–"), "id": p.id, "problem": p.message} for p in report.problems[:most]]
    left = len(report.problems) - len(wrong)
    more = f"<p>and {left} more problems</p>" if left > 0 else ""
    return facts_html(facts) + (table_html(wrong) if wrong else "") + more


@terminal(CheckReport)
def check_table(report: CheckReport, *, most: int = 50) -> list[object]:
    """A summary, and a table of the lines that do not pass."""
    head: dict[str, object] = {
        "file": report.file,
        "model": report.model or "none: only the format was checked",
    }
    head["passes"] = f"{report.n_good} of {report.n_pairs} pairs"
    if report.lengths:
        head["tokens"] = "{} to {}".format(*report.lengths)
    if report.positions:
        head["positions"] = ", ".join(report.positions)
    if report.words:
        head["words at fault"] = ", ".join(f"{w!r} ({n})" for w, n in list(report.words.items())[:12])
    shown = [{"line": p.line or "-", "id": p.id, "problem": p.message} for p in report.problems[:most]]
    parts: list[object] = [head, "", *([shown] if shown else [])]
    if len(report.problems) > most:
        parts.append(f"and {len(report.problems) - most} more problems (--json lists all)")
    return parts
