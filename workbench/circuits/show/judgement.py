"""A judged circuit as a card and a page: the verdicts first, then the pictures behind them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from workbench.circuits.specificity import Specificity
from workbench.circuits.variance import Variance
from workbench.circuits.verdicts.decisions import LEAST_GROUP
from workbench.circuits.verdicts.judgement import Judgement
from workbench.circuits.verdicts.statistics import area, mean_interval, ratio, ratio_interval
from workbench.core.show import card, page, terminal
from workbench.core.stats.intervals import RESAMPLES, resampled_interval
from workbench.view.bars import bars_svg
from workbench.view.curve import curve_svg
from workbench.view.html import facts_html, results_page, table_html, text_html
from workbench.view.scatter import scatter_svg

NO_MEANS = {
    "faithful": "The circuit alone does not do what the model does: do not call it the circuit of this behavior.",
    "equivalent": "The circuit is above, or below, the model on most pairs: its numbers are biased, even where "
    "their mean is near the model's.",
    "complete": "The model has other parts that do the same: they take over where some of the circuit is gone.",
    "minimal": "Some of its nodes do nothing that can be measured: a smaller circuit would do.",
    "no superfluous edge": "Some of its edges matter no more than random ones: a smaller circuit would do.",
    "independent": "The rest of the model still knows the answer: a part of the behavior lies outside.",
    "sufficient": "Random circuits of this size keep as much: its size explains what it keeps, not its choice.",
    "partially necessary": "Taking away as many random edges hurts as much: the model gets by without this circuit.",
    "better than random": "Random circuits of this size are as good: this choice of edges says nothing.",
    "heads matter more than others": "Other heads of the same layers matter as much: the heads are not singled out.",
    "robust to the ablation": "The answer depends on what edges outside get as their values: say which ablation.",
    "robust to the template": "It holds for some wordings alone: name the templates it was measured on.",
    "stable": "Other pairs of the same task give another circuit: single edges of it are not to be trusted.",
    "specific": "Other tasks lose as much without it: it is of the model, not of this task.",
}
_COLORS = {"yes": "var(--yes, #2c7a4b)", "no": "var(--no, #b3401a)", "open": "var(--open, #6b6b6b)"}


@card(Judgement)
def judgement_card(found: Judgement) -> str:
    """Verdicts and pictures for a notebook: static, no script."""
    parts = [text_html("\n\n".join([found.lead, *found.notes])), verdict_table(found)]
    parts += [f"<h4>{heading}</h4>{markup}" for heading, markup in sections(found)]
    return "".join(parts)


@terminal(Judgement)
def judgement_table(found: Judgement) -> list[Any]:
    """What was judged, what must be said, one row per question."""
    d = found.document
    how = f"{d['metric']} in {d['unit']}, {d['ablation']} ablation, seed {d['plan']['seed']}"
    said = [*filter(None, [found.lead]), f"{found.title()}; {how}"]
    varies = [Variance.from_dict(d["evidence"]["variance"]).facts()] if "variance" in d["evidence"] else []
    return [*said, *(f"note: {said}" for said in found.notes), found.rows(), *varies]


@page(Judgement)
def judgement_page(found: Judgement) -> str:
    """The same as a self-contained page."""
    d = found.document
    lead = f"{found.title()}; {d['metric']} in {d['unit']}, {d['ablation']} ablation"
    said = text_html("\n\n".join([found.lead, *found.notes]))
    first = [("What the model does", said)] if said else []
    return results_page(
        "Evaluation of a circuit", [*first, ("Verdicts", verdict_table(found)), *sections(found)], lead=lead
    )


def verdict_table(found: Judgement) -> str:
    """Question, answer, what was measured, criterion; where an answer is no, what must not be claimed."""
    rows = found.rows()
    if any(v.words == "no" for v in found.verdicts):
        rows = [
            row | {"what the no means": NO_MEANS.get(row["question"], "") if row["verdict"] == "no" else ""}
            for row in rows
        ]
    table = table_html(rows)
    for word, color in _COLORS.items():
        cell = re.compile(rf'<td style="text-align:left"([^>]*)>{word}</td>')
        table = cell.sub(rf'<td style="text-align:left;font-weight:600;color:{color}"\1>{word}</td>', table)
    return table


def sections(found: Judgement) -> Iterator[tuple[str, str]]:
    """(heading, markup) of every part that was measured."""
    for heading, needs, make in _SECTIONS:
        if needs in found.document["evidence"]:
            markup = make(found)
            if markup:
                yield heading, markup


def _arrays(found: Judgement) -> dict[str, np.ndarray]:
    return {name: np.array(v, dtype=float) for name, v in found.document["evidence"]["scores"].items()}


def _interval(
    found: Judgement, circuit: np.ndarray, nothing: np.ndarray, at: np.ndarray | slice = slice(None)
) -> tuple[float, float, float]:
    """Faithfulness of (some of) the pairs with its interval."""
    model, clusters = _arrays(found)["model"], found.document["pairs"].get("clusters") or ()
    own = circuit[at], model[at], nothing[at]
    some = np.array(clusters)[at].tolist() if clusters else ()
    return ratio(*own), *ratio_interval(*own, clusters=some)[:2]


def _faithful(found: Judgement) -> str:
    """Faithfulness under each ablation and in each template, with intervals."""
    scores = _arrays(found)
    bars = []
    for name, row in found.document["evidence"].get("ablations", {}).items():
        own = np.array(row["circuit"], dtype=float), np.array(row["nothing"], dtype=float)
        bars.append((name, *_interval(found, *own), "ablation"))
    groups = np.array(found.document["pairs"]["groups"])
    for group in dict.fromkeys(groups.tolist()):
        at = groups == group
        if at.sum() >= LEAST_GROUP and len(set(groups.tolist())) > 1:
            bars.append(
                (
                    group or "unnamed",
                    *_interval(found, scores["circuit"], scores["nothing"], at),
                    f"template, n={at.sum()}",
                )
            )
    bars = [bar for bar in bars if np.isfinite(bar[1])]
    if not bars:
        return ""
    what = f"faithfulness (share of {found.document['metric']}; 1 is the full model)"
    return bars_svg(bars, x_label=what, title="Faithfulness by ablation and by template")


def _curve(found: Judgement) -> str:
    """Faithfulness over size with its band, CPR and CMD."""
    d, scores = found.document, _arrays(found)
    curve = d["evidence"]["curve"]
    values = [np.array(v, dtype=float) for v in curve["metric"]]
    f = np.array([ratio(v, scores["model"], scores["nothing"]) for v in values])
    if not np.isfinite(f).all():
        return ""
    bands = [_interval(found, v, scores["nothing"])[1:] for v in values]
    series = {d["circuit"]["method"]: [(x, y, *b) for x, y, b in zip(curve["shares"], f, bands, strict=True)]}
    picture = curve_svg(
        series,
        x_label=f"share of {d['circuit']['level']}s (nominal)",
        y_label=f"faithfulness (share of {d['metric']}, {d['unit']})",
        title=f"Faithfulness over size, {curve['ranking']} ranking, {d['ablation']} ablation",
        log_x=True,
        reference={"full model": 1.0, "nothing": 0.0},
    )
    cpr, cmd = area(curve["shares"], f), area(curve["shares"], np.abs(1 - f))
    return picture + f"<p>CPR {cpr:.3f}, CMD {cmd:.3f} over these shares; the band is a 95 % interval.</p>"


def _complete(found: Judgement) -> str:
    d, points = found.document, dict[str, list[tuple[float, float, str]]]()
    for row in d["evidence"]["completeness"]:
        judged = np.setdiff1d(np.arange(len(row["model"])), row["searched"])
        x, y = (float(np.array(row[key])[judged].mean()) for key in ("model", "circuit"))
        points.setdefault(row["kind"], []).append((x, y, f"{row['name']}: {', '.join(row['removed'][:6])}"))
    return scatter_svg(
        points,
        x_label=f"{d['metric']} of the model without K ({d['unit']})",
        y_label=f"{d['metric']} of the circuit without K ({d['unit']})",
        title=f"The same parts K taken from both, {d['ablation']} ablation",
        diagonal="complete",
    )


def _minimal(found: Judgement) -> str:
    d = found.document
    best: dict[str, tuple[float, float, float, str]] = {}
    for row in d["evidence"]["minimality"]:
        change = d["direction"] * (np.array(row["kept"]) - np.array(row["left_out"]))
        if row["part"] not in best or abs(change.mean()) > abs(best[row["part"]][0]):
            clusters = d["pairs"].get("clusters") or ()
            best[row["part"]] = (
                float(change.mean()),
                *mean_interval(change, clusters=clusters)[:2],
                row["class"],
            )
    ranked = sorted(best.items(), key=lambda item: -abs(item[1][0]))
    return bars_svg(
        [(part, *bar) for part, bar in ranked[:40]],
        x_label=f"drop of {d['metric']} when it is left out, the larger of two K ({d['unit']})",
        title=f"What leaving out each node does, {d['ablation']} ablation",
    )


def _edges(found: Judgement) -> str:
    rows: list[dict[str, Any]] = found.edges()
    shown = rows[:30]
    return table_html(shown, caption=f"least needed first: {len(shown)} of {len(rows)} tested edges")


def _random(found: Judgement) -> str:
    d, scores = found.document, _arrays(found)
    gap = scores["model"].mean() - scores["nothing"].mean()
    if abs(gap) < 1e-12:
        return ""
    drawn = (np.array(d["evidence"]["random"]["metric"]) - scores["nothing"].mean()) / gap
    bars = [("the circuit", *_interval(found, scores["circuit"], scores["nothing"]), "")]
    spread = np.percentile(drawn, [2.5, 97.5])
    note = f"{len(drawn)} draws"
    bars.append(("random, mean", float(drawn.mean()), float(spread[0]), float(spread[1]), note))
    best = float(drawn[np.argmin(np.abs(1 - drawn))])
    bars.append(("random, best", best, np.nan, np.nan, ""))
    return bars_svg(
        bars, x_label="faithfulness (1 is the full model)", title="Beside random circuits of its size"
    )


def _matched(found: Judgement) -> str:
    d = found.document
    rows = d["evidence"]["matched"]["draws"]
    if not rows:
        return ""
    own, other = (d["direction"] * np.array([r[key] for r in rows]) for key in ("drop", "control_drop"))
    bars = [
        (name, float(v.mean()), float(v.min()), float(v.max()), f"{len(rows)} draws")
        for name, v in (("heads of the circuit", own), ("other heads", other))
    ]
    what = f"drop of {d['metric']} when {rows[0]['n']} heads are knocked out ({d['unit']}); lines: range of draws"
    return bars_svg(bars, x_label=what, title="Heads of the circuit and as many others of their layers")


def _stable(found: Judgement) -> str:
    kept = found.document["evidence"]["stability"]
    counts = np.bincount([i for s in kept["sets"] for i in s], minlength=len(kept["parts"]))
    ranked = sorted(range(len(counts)), key=lambda i: (-counts[i], i))
    rows = [{"part": kept["parts"][i], "chosen in": f"{counts[i] / len(kept['sets']):.0%}"} for i in ranked]
    always = sum(int(c) == len(kept["sets"]) for c in counts)
    how = "the method run again" if kept["refitted"] else "its scores of single pairs averaged again"
    caption = f"{always} of {len(rows)} are chosen every time ({len(kept['sets'])} resamples, {how}); the least certain"
    return table_html(rows[always : always + 20] or rows[:20], caption=caption)


def _specific(found: Judgement) -> str:
    kept = Specificity.from_dict(found.document["evidence"]["specificity"])
    parts = (
        table_html(kept.part_rows(), caption="what parts of the circuit do by themselves")
        if kept.parts
        else ""
    )
    return damage_bars(kept) + table_html(kept.rows()) + parts + _skipped(kept)


def damage_bars(found: Specificity) -> str:
    """Draw what each task loses without the circuit, and without random circuits of its size."""
    bars = []
    for damage in (found.own, *found.others):
        if not np.isfinite(damage.drop):
            continue
        spread = resampled_interval(damage.resampled(RESAMPLES, 0), damage.drop)
        own = f"{'its own task' if damage is found.own else 'another task'}, n={len(damage.full)}"
        bars.append((damage.task, damage.drop, spread.low, spread.high, own))
        if len(drawn := damage.random_drops):
            low, high = np.percentile(drawn, [2.5, 97.5])
            bars.append(("without random circuits", float(drawn.mean()), low, high, f"{len(drawn)} draws"))
    if not bars:
        return ""
    what = "share of the task's gap that is lost (1: all of it)"
    return bars_svg(bars, x_label=what, title="What each task loses when the circuit is cut out of the model")


def _skipped(found: Specificity) -> str:
    """Name the tasks that were looked at and left out."""
    rows = [{"task left out": task, "because": why} for task, why in found.skipped.items()]
    return table_html(rows) if rows else ""


def _varies(found: Judgement) -> str:
    kept = Variance.from_dict(found.document["evidence"]["variance"])
    said = facts_html(kept.facts())
    if kept.templates:
        caption = "faithfulness of the circuit of one template (row) on the pairs of another (column)"
        said += table_html(kept.matrix(), caption=caption)
    if kept.edges:
        said += table_html(kept.edge_rows(), caption="exact effects of its largest edges, pair by pair")
    return said


_SECTIONS = (
    ("Faithful, under every ablation and in every template?", "scores", _faithful),
    ("Faithful at other sizes?", "curve", _curve),
    ("Complete?", "completeness", _complete),
    ("Minimal?", "minimality", _minimal),
    ("Is each edge needed?", "edges", _edges),
    ("Better than random?", "random", _random),
    ("Do its heads matter more than others?", "matched", _matched),
    ("Stable?", "stability", _stable),
    ("How much does it vary, where it was found?", "variance", _varies),
    ("Its task's own?", "specificity", _specific),
)
