"""How what is measured of a circuit shows itself: cards and pictures for notebooks, tables, the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.circuits.effects import Effects
from workbench.circuits.show.circuit_page import circuit_card, report_page
from workbench.circuits.show.notebook import effects_card
from workbench.core.show import card, page, picture, terminal
from workbench.evaluate.completeness import Completeness
from workbench.evaluate.curve import Curve
from workbench.evaluate.curve_comparison import CurveComparison
from workbench.evaluate.exact_sample import ExactSample
from workbench.evaluate.faithfulness import Faithfulness
from workbench.evaluate.found_circuit import Discovery
from workbench.evaluate.minimality import Minimality
from workbench.evaluate.roles import HeadRoles
from workbench.evaluate.stability import Stability
from workbench.view.bars import bars_svg
from workbench.view.curve import curve_svg
from workbench.view.heatmap import heatmap_svg
from workbench.view.html import facts_html, table_html, text_html
from workbench.view.scatter import scatter_svg

_NO_GAP = "<p>Faithfulness is not defined: the metric has no gap between clean and corrupted.</p>"


@card(Faithfulness)
def faithfulness_card(found: Faithfulness) -> str:
    """Every number of it."""
    return facts_html(found.to_dict())


@card(Curve)
def curve_card(found: Curve) -> str:
    """The picture, where there is a gap to have a share of."""
    return curve_picture(found) if np.isfinite(found.values).any() else _NO_GAP


@picture(Curve)
def curve_picture(found: Curve) -> str:
    """Faithfulness over size with its band, beside random circuits."""
    series: dict[str, list[tuple[float, ...]]] = {found.method: list(found.band())}
    if found.random.size:
        series["random circuits"] = [
            (x, float(r.mean()), float(r.std())) for x, r in zip(found.shares, found.random, strict=True)
        ]
    return _over_size(series, found.quantity, found.title)


@card(CurveComparison)
def comparison_card(found: CurveComparison) -> str:
    """The picture, where there is a gap to have a share of."""
    measured = any(np.isfinite(curve.values).any() for curve in found.curves.values())
    return comparison_picture(found) if measured else _NO_GAP


@picture(CurveComparison)
def comparison_picture(found: CurveComparison) -> str:
    """The curves of all methods on one axis."""
    quantity = next(iter(found.curves.values())).quantity
    return _over_size({name: c.band() for name, c in found.curves.items()}, quantity, "Faithfulness")


def _over_size(
    series: Mapping[str, Sequence[tuple[float, ...]]], quantity: tuple[str, str, str], title: str
) -> str:
    """Faithfulness over size, with the quantity it is a share of on the axis."""
    metric, unit, ablation = quantity
    return curve_svg(
        series,
        x_label="share of edges (nominal)",
        y_label=f"faithfulness (share of {metric}, {unit})",
        title=f"{title}, {ablation} ablation",
        log_x=True,
        reference={"full model": 1.0, "nothing": 0.0},
    )


@card(Minimality)
@picture(Minimality)
def minimality_svg(found: Minimality) -> str:
    """What leaving out each part does, where it does most."""
    best = sorted(found.best().values(), key=lambda row: -abs(row.effect))
    return bars_svg(
        [(row.part, row.effect, row.interval.low, row.interval.high, row.of) for row in best[:40]],
        x_label=f"drop of {found.metric} when it is left out ({found.unit})",
        title=f"Minimality: {len(best)} parts, {found.ablation} ablation",
    )


@card(Completeness)
@picture(Completeness)
def completeness_svg(found: Completeness) -> str:
    """Circuit and model without the same parts, one dot each."""
    points: dict[str, list[tuple[float, float, str]]] = {}
    for row, data in zip(found.rows, found.to_rows(), strict=True):
        points.setdefault(row.kind, []).append((data["model"], data["circuit"], row.name))
    return scatter_svg(
        points,
        x_label=f"{found.metric} of the model without K ({found.unit})",
        y_label=f"{found.metric} of the circuit without K ({found.unit})",
        title=f"Completeness: {len(found.rows)} sets K, n={len(found.full)}, {found.ablation} ablation",
        diagonal="complete",
    )


@card(Stability)
def stability_card(found: Stability) -> str:
    """How much resamples agree, and what they choose most."""
    facts = {
        "method": found.method,
        "resamples": f"{len(found.sets)} of {found.n_pairs} pairs",
        "mean Jaccard": found.jaccard,
        "by chance": found.chance,
    }
    rows = [{"part": part, "chosen in": f"{share:.0%}"} for part, share in found.frequency().items()]
    return facts_html(facts) + table_html(rows[:20], caption=f"the most frequent of {len(rows)}")


@picture(ExactSample)
def sample_picture(found: ExactSample) -> str:
    """Scores over exact effects, one dot for each edge that was measured."""
    dots = [(edge.exact, edge.score, edge.edge) for edge in found.edges]
    return scatter_svg(
        {f"{len(dots)} of {found.of:,} edges": dots},
        x_label=f"exact effect on {found.metric} ({found.unit})",
        y_label=f"score of {found.method} ({found.unit})",
        title=f"Scores and exact effects, n={found.n_pairs} pairs, {found.ablation} ablation",
        diagonal="score = effect",
    )


@card(ExactSample)
def sample_card(found: ExactSample) -> str:
    """What was found, its picture where both have one unit, and every edge."""
    said = text_html("\n\n".join(filter(None, [found.sentence, found.warning])))
    return said + ("" if found.unsigned else sample_picture(found)) + table_html(_sampled(found))


@terminal(ExactSample)
def sample_table(found: ExactSample) -> list[Any]:
    """What was found and every edge."""
    return [*filter(None, [found.sentence, found.warning]), _sampled(found)]


def _sampled(found: ExactSample) -> list[dict[str, Any]]:
    """A row for each edge, largest score first."""
    return [
        {"edge": e.edge, "score": e.score, "exact effect": e.exact, "stands for": f"{e.weight:.3g}"}
        for e in sorted(found.edges, key=lambda e: -abs(e.score))
    ]


@card(HeadRoles)
def roles_card(roles: HeadRoles) -> str:
    """One row per head with what makes its role: attention and direct effect."""
    rows = [
        {
            "head": role.head,
            "role": role.role,
            "looks": f"from {role.query} at {role.key}",
            "attention": role.attention,
            f"direct effect ({role.unit})": role.direct_effect,
            "± se": role.direct_stderr,
            "n": role.n,
        }
        for role in roles
    ]
    return table_html(rows) if rows else "<p>No head fits a role.</p>"


@terminal(Discovery)
def discovery_table(found: Discovery) -> list[Any]:
    """What the model does, how large and how faithful the circuit is, its curve, its heads."""
    draws = found.curve.random.shape[1]
    chosen = f"chosen of {found.scores.n_candidates:,} {found.scores.level}s"
    points = [
        {
            chosen: f"{p['share']:.0%}" if p["share"] >= 0.01 else f"{p['share']:.1%}",
            f"connected {found.scores.level}s": p["edges"],
            "faithfulness": p["faithfulness"] if p["edges"] else None,
            "± se": p["stderr"] if p["edges"] else None,
            f"mean of {draws} random circuits": p["random_mean"] if p["edges"] else None,
        }
        for p in found.curve.to_dict()["points"]
    ]
    inside = {str(parse_node(address, towers=True).writer) for address in found.circuit.nodes}
    roles = [
        {
            "head": r.head,
            "role": r.role,
            "attention": r.attention,
            f"direct effect ({r.unit})": r.direct_effect,
            "in the circuit": r.head in inside,
        }
        for r in found.roles
    ]
    text = "\n".join(
        [*found.lead, found.size_sentence, found.faithfulness.sentence, *_agreement(found), *_summed(found)]
    )
    return [text, *filter(None, [found.advice]), points, *([roles] if roles else [])]


def _summed(found: Discovery) -> list[str]:
    """What scores of EAP-IG sum to."""
    return [] if found.summed is None else [found.summed.warning or found.summed.sentence]


def _agreement(found: Discovery) -> list[str]:
    """How good the scores are, or how to know; why a method was chosen."""
    if "why" in found.scores.options:
        return [str(found.scores.options["why"]), *_sampled_again(found)]
    return _sampled_again(found) or _not_measured(found)


def _sampled_again(found: Discovery) -> list[str]:
    """What a sample of exact effects says of the scores."""
    if found.agreement is not None:
        return list(filter(None, [found.agreement.sentence, found.agreement.warning]))
    return []


def _not_measured(found: Discovery) -> list[str]:
    """How to know how good the scores are."""
    if found.scores.level != "edge" or found.scores.method == "exact":
        return []
    return ["how well the scores estimate exact effects was not measured: --exact-sample 40 does"]


@card(Discovery)
def discovery_card(found: Discovery) -> str:
    """The same with pictures."""
    said = text_html(
        "\n\n".join([*found.lead, found.size_sentence, found.faithfulness.sentence, found.advice])
    )
    kept = faithfulness_card(found.faithfulness)
    roles = roles_card(found.roles) if found.roles else ""
    agreement = sample_card(found.agreement) if found.agreement is not None else ""
    return said + circuit_card(found.circuit) + kept + curve_card(found.curve) + agreement + roles


@page(Discovery)
def discovery_page(found: Discovery, *, effects: Effects | None = None) -> str:
    """The HTML report of a discovery: picture, faithfulness curve, heads, roles."""
    curves = {"Faithfulness over size": curve_card(found.curve)}
    if found.agreement is not None:
        curves["How well the scores estimate exact effects"] = sample_card(found.agreement)
    heatmaps = {} if effects is None else {f"Ablation of every head: {effects.title}": effects_card(effects)}
    scores = found.scores.by_layer_and_head()
    if np.isfinite(scores).any():
        rows, columns = [str(n) for n in range(scores.shape[0])], [str(h) for h in range(scores.shape[1])]
        heatmaps["Summed scores of each head"] = heatmap_svg(
            scores,
            rows,
            columns,
            title=f"{found.scores.method} scores, summed over outgoing edges",
            unit=found.scores.unit,
        )
    tables = {"Roles of heads": [r.to_dict() for r in found.roles]} if found.roles else {}
    return report_page(found.circuit, heatmaps=heatmaps, curves=curves, tables=tables)
