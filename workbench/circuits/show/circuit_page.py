"""The interactive page of a circuit, its static card for notebooks, its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.circuits.annotations import Annotations
from workbench.circuits.circuit import Circuit
from workbench.circuits.details import DetailsContent
from workbench.circuits.layout import layered, row_labels
from workbench.circuits.rows import about, edge_rows, measures, node_rows, prompt_parts, said_of_model, title
from workbench.circuits.scores import Scores
from workbench.circuits.selection.rules import said
from workbench.circuits.show.circuit_svg import circuit_svg, describe
from workbench.circuits.show.page_details import (
    effects_beside,
    page_annotations,
    page_details,
    under_ablations,
)
from workbench.core.show import card, page
from workbench.view.html import results_page, short, table_html
from workbench.view.page import asset, embedded_json, frame
from workbench.view.text import escape, printable

MOST_PAGE_EDGES = 5000
SCRIPTS = ("theme.js", "cytoscape.min.js", "closeup.js", "notes.js", "save.js", "page.js")
_KINDS = {
    "input": "input",
    "projector": "projector",
    "head": "attention head",
    "mlp": "MLP",
    "group": "key/value group",
    "attn": "attention layer",
    "logits": "logits",
}


@page(Circuit)
def circuit_page(
    circuit: Circuit,
    *,
    scores: Scores | None = None,
    path: str = "",
    details: DetailsContent | None = None,
    others: Sequence[DetailsContent] = (),
    evidence: Mapping[str, Any] | None = None,
    clusters: Sequence[int] = (),
    annotations: Annotations | None = None,
) -> str:
    """A self-contained page to explore a circuit: no network, keyboard and mouse, light and dark.

    The slider keeps the strongest edges and prunes by the rule of ``Circuit.top``. Pages hold at most 5,000
    edges, the strongest, pruned; what is left out is said on the page.

    Args:
        scores: The scores that the circuit was chosen from: the slider then goes over all of them, and begins at the
            circuit. Left out where the circuit is no choice of the largest of them.
        path: Where the circuit is, for the commands that the page shows.
        details: What was measured of its heads and edges, for the panel of what is clicked.
        others: Effects of its heads and edges under other ablations, shown beside the first.
        evidence: Of its evaluation: how often each edge is found over bootstrap draws.
        clusters: Of its evaluation: a number per pair, equal for pairs that are not independent.
        annotations: What was written on it: names, groups, colours, notes, places, hidden parts.
    """
    whole = circuit
    start = _chosen_from(circuit, scores)
    if scores is not None and start is not None:
        circuit = _of_all(circuit, scores)
    if circuit.level == "edge" and circuit.n_edges > MOST_PAGE_EDGES:
        circuit = circuit.top(MOST_PAGE_EDGES)
    data = _page_data(circuit)
    data |= {
        "start": start,
        "path": printable(path) or "CIRCUIT",
        "model": printable(whole.model) or "MODEL",
        "task": printable(whole.task) or "TASK",
        "curve": measured_curve(whole),
        "details": page_details(whole, details, evidence or {}, path, others),
        **page_annotations(whole, annotations, path),
    }
    under = under_ablations(evidence or {}, clusters)
    records = {found.ablation: found for found in (details, *others) if found is not None}
    effects = effects_beside(records) if others else []
    scored = 0 if scores is None or start is None else scores.n_candidates
    return _framed(
        circuit, data, _page_body(circuit, whole, data["most"], under=under, effects=effects, scored=scored)
    )


def page_of(circuit: Circuit, *, more: Mapping[str, Any], heading: str, lead: str, aside: str) -> str:
    """Return the page of a circuit that was put together, with a heading, a sentence and an aside of its own.

    Args:
        more: What ``page.js`` draws besides: ``sides`` of two circuits.
        aside: Markup whose foreign text is escaped.
    """
    data = _page_data(circuit)
    data |= {
        "start": None,
        "path": "CIRCUIT",
        "model": "MODEL",
        "task": "TASK",
        "curve": None,
        "details": None,
        **more,
    }
    body = _page_body(circuit, circuit, data["most"], heading=heading, lead=lead, aside=aside)
    return _framed(circuit, data, body, heading)


def _framed(circuit: Circuit, data: Mapping[str, Any], body: str, heading: str = "") -> str:
    body += f'\n<script type="application/json" id="data">{embedded_json(data)}</script>'
    return frame(
        title=heading or title(circuit),
        body=body,
        body_class="circuit",
        has_command=True,
        scripts=(
            asset("theme.js"),
            asset("cytoscape.min.js"),
            *map(asset, ("closeup.js", "notes.js", "save.js", "page.js")),
        ),
    )


def _chosen_from(circuit: Circuit, scores: Scores | None) -> int | None:
    """How many of the strongest scores the circuit is, where it is a choice of the largest; else None."""
    rule, nominal = said(str(circuit.selection.get("rule", ""))), circuit.selection.get("nominal")
    fits = scores is not None and circuit.level == scores.level == "edge" and not scores.positions
    if not fits or rule is None or rule[::2] != ("top", "absolute") or not isinstance(nominal, int):
        return None
    return nominal if nominal <= MOST_PAGE_EDGES else None


def _of_all(circuit: Circuit, scores: Scores) -> Circuit:
    """The edges of all scores, at most as many as a page holds, with the circuit's roles."""
    most = min(scores.n_candidates, MOST_PAGE_EDGES)
    every = scores.top(most, prune=False)
    roles = {name: data["role"] for name, data in circuit.nodes.items() if data.get("role")}
    known = {name: role for name, role in roles.items() if name in every.all_nodes}
    return every.with_fields(task=circuit.task, model=circuit.model, prompt=circuit.prompt).with_roles(known)


def measured_curve(circuit: Circuit) -> dict[str, Any] | None:
    """Return faithfulness as it was measured at some sizes, beside random circuits; None where it was not.

    Returns:
        ``points`` by the number of edges before pruning (``n``), with interval and the mean and spread of random
        circuits; what it was measured on.
    """
    curve, total = circuit.evaluation.get("curve"), circuit.selection.get("candidates")
    if not isinstance(curve, Mapping) or not isinstance(total, int) or curve.get("ranking") != "absolute":
        return None
    names = ("edges", "faithfulness", "low", "high", "random_mean", "random_std", "random_draws")
    points = [
        {"n": int(float(point["share"]) * total + 1e-9), **{name: point.get(name) for name in names}}
        for point in curve.get("points", ())
        if point.get("faithfulness") is not None
    ]
    if not points:
        return None
    facts = {name: printable(str(curve.get(name, ""))) for name in ("metric", "unit", "ablation")}
    return {"points": points, "n_pairs": circuit.evaluation.get("n"), **facts}


def _page_data(circuit: Circuit) -> dict[str, Any]:
    """What ``page.js`` draws: nodes and edges in residual order, ranked as ``Circuit.top`` ranks them."""
    places, rows = layered(circuit), edge_rows(circuit)
    scored = [row for row in rows if row.score is not None]
    edge_rank = {row.id: i for i, row in enumerate(sorted(scored, key=lambda row: -abs(row.score or 0.0)))}
    nodes = node_rows(circuit)
    choosable = [row for row in nodes if row.kind not in ("input", "projector", "logits", "group")]
    node_rank = {r.id: i for i, r in enumerate(sorted(choosable, key=lambda r: -abs(r.score or 0.0)))}
    return {
        "level": circuit.level,
        "unit": printable(circuit.unit),
        "metric": printable(circuit.metric),
        "kinds": _KINDS,
        "most": len(scored) if circuit.level == "edge" else len(choosable),
        "left": min((x for x, _ in places.values()), default=0.0) - 130,
        "rows": [
            {"label": one.text, "x": one.x, "y": one.y, "stack": one.stack, "layer": one.layer}
            for one in row_labels(circuit)
        ],
        "nodes": [
            {
                "id": row.id,
                "kind": row.kind,
                "layer": None if row.kind in ("input", "projector", "logits") else row.layer,
                "head": row.head,
                "position": row.position,
                "score": row.score,
                "role": row.role,
                "rank": node_rank.get(row.id, -1),
                "x": places[row.id][0],
                "y": places[row.id][1],
            }
            for row in nodes
        ],
        "edges": [
            {
                "id": row.id,
                "source": row.source,
                "target": row.target,
                "input": row.input,
                "score": row.score,
                "rank": edge_rank[row.id],
            }
            for row in scored
        ],
        "links": [{"id": r.id, "source": r.source, "target": r.target} for r in rows if r.score is None],
    }


def _page_body(
    circuit: Circuit,
    whole: Circuit,
    most: int,
    *,
    heading: str = "",
    lead: str = "",
    aside: str = "",
    under: Sequence[Mapping[str, Any]] = (),
    effects: Sequence[Mapping[str, Any]] = (),
    scored: int = 0,
) -> str:
    what = "edges" if circuit.level == "edge" else "nodes"
    said = said_of_model(whole.evaluation)
    note = f"<p>{escape(said)}</p>" if said else ""
    note += _slider_note(circuit, whole, scored)
    behavior = whole.evaluation.get("behavior")
    does = isinstance(behavior, Mapping) and behavior.get("does_task") is True
    first, later = (
        ("", note) if does else (note, "")
    )  # what a circuit of another behavior is worth stands first
    facts = {k: v for k, v in about(whole).items() if k not in ("prompt", "behavior")}
    free = not aside and all(data["position"] is None for data in whole.all_nodes.values())
    lead = escape(
        (lead or describe(whole)) + ("; a node stands for all positions" if free and whole.size else "")
    )
    legend = ("supports", "opposes") if not aside else ("A alone", "B alone")
    third = '<span><i class="of-both"></i>both</span>' if aside else ""
    strongest = (
        '<section><h2>Strongest edges</h2><ul class="list" id="strongest"></ul></section>'
        if circuit.level == "edge"
        else ""
    )
    ablations = (
        "<section><h2>The same circuit under other ablations</h2>"
        f"<div class='wide'>{table_html(under)}</div></section>"
        if under
        else ""
    )
    ablations += _effects_html(effects, whole.unit) if effects else ""
    return f"""<header>
<h1>{escape(heading or title(circuit))}</h1><span class="soft">{lead}</span>
<button type="button" id="theme">Dark</button>
</header>
<div class="toolbar" role="group" aria-label="Controls">
<label>Keep <input type="range" id="keep" min="0" max="{most}" value="{most}" step="1"
 aria-label="Number of {what} kept, strongest first"></label>
<label><span class="sr">Number of {what} kept</span>
<input type="number" id="keep-number" min="0" max="{most}" value="{most}"> of {most:,} {what}</label>
<output id="count" for="keep" class="soft"></output>
<label>Search
<input type="search" id="search" placeholder="a9, mover, MLP" autocomplete="off" spellcheck="false"></label>
<span id="found" class="soft" role="status"></span>
<button type="button" id="fit">Fit</button>
<button type="button" id="save-png">PNG</button>
<button type="button" id="save-svg">SVG</button>
<button type="button" id="save-json">JSON</button>
<span class="legend" aria-hidden="true"><span><i></i>{legend[0]}</span>
<span><i class="opposes"></i>{legend[1]}</span>{third}</span>
</div>
<div class="work">
<div class="stage">
<div id="graph" tabindex="0" role="application" aria-label="Circuit, layers bottom to top"
 aria-describedby="say"></div>
<div id="empty" hidden>Nothing is connected from input to logits. Keep more {what}.</div>
<div id="tip" role="tooltip" hidden></div>
<div id="say" class="sr" aria-live="polite"></div>
</div>
<aside aria-label="Details">
{first}<section><h2>Selected</h2><div id="details" tabindex="-1"></div></section>
<section id="faith" hidden><h2>Faithfulness at this size</h2><div id="faith-picture"></div>
<p id="faith-said" role="status"></p></section>
{ablations}
<section><h2>The same by command</h2><code id="command"></code>
<button type="button" id="copy">Copy</button></section>
{later}{aside}
{"" if aside else '<section><h2>Groups and notes</h2><div id="notes" tabindex="-1"></div></section>'}
{strongest}
{"" if aside else _facts_html(facts, whole)}
</aside>
</div>
{_prompt_html(circuit)}"""


def _slider_note(circuit: Circuit, whole: Circuit, scored: int) -> str:
    """Over how many of all edges the slider goes, where it is not over the circuit alone."""
    here = circuit.n_edges
    if scored > here:
        share = f"{here:,} of {scored:,} scored edges ({100 * here / scored:.2g} %)"
        return (
            f"<p>The slider goes over the strongest {share}: a page holds no more. It begins at the circuit. "
            "workbench circuit keep cuts at any size.</p>"
        )
    if here > whole.n_edges:
        return f"<p>The slider goes over all {here:,} scored edges; the page begins at the circuit.</p>"
    if whole is not circuit and here < whole.n_edges:
        return f"<p>Showing {here:,} of {whole.n_edges:,} edges: the strongest, pruned.</p>"
    return ""


def _effects_html(rows: Sequence[Mapping[str, Any]], unit: str) -> str:
    """What the model loses without a part, one column for each ablation."""
    caption = f"what the metric loses without it, in {unit}; heads, then edges"
    return (
        "<section><h2>Heads and edges under each ablation</h2>"
        f"<div class='wide'>{table_html(rows, caption=caption)}</div></section>"
    )


def _facts_html(facts: Mapping[str, str], circuit: Circuit) -> str:
    found = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    parts = [f"<section><h2>About</h2><dl>{found}</dl></section>"]
    measured = measures(circuit.evaluation)
    if measured:
        rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(short(v))}</dd>" for k, v in measured.items())
        parts.append(f"<section><h2>Evaluation</h2><dl>{rows}</dl></section>")
    return "\n".join(parts)


def _prompt_html(circuit: Circuit) -> str:
    if not circuit.prompt:
        return "<footer></footer>"
    tokens = "".join(
        f'<span class="token" data-index="{first}" data-last="{last}"><b>{escape(text) or "&nbsp;"}</b>'
        f"<small>{first if first == last else f'{first} to {last}'}</small></span>"
        for text, first, last in prompt_parts(circuit)
    )
    about = 'class="prompt" aria-label="Prompt tokens with positions"'
    return f"<footer {about}><h2>One of its prompts</h2>{tokens}</footer>"


@card(Circuit)
def circuit_card(circuit: Circuit, *, most_edges: int = 300) -> str:
    """A circuit for a notebook: static, no script, the strongest edges as a picture and its facts."""
    facts = "".join(
        f'<tr><th style="text-align:left;padding:1px 12px 1px 0">{escape(k)}</th>'
        f'<td style="text-align:left">{escape(v)}</td></tr>'
        for k, v in about(circuit).items()
        if k != "prompt"
    )
    return (
        '<div style="overflow-x:auto">'
        f"{circuit_svg(circuit, most_edges=most_edges)}"
        f"<details><summary>{escape(repr(circuit))}</summary><table>{facts}</table></details></div>"
    )


def report_page(
    circuit: Circuit,
    *,
    heatmaps: Mapping[str, str] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    curves: Mapping[str, str] | None = None,
    lead: str = "",
) -> str:
    """Return a report on one circuit: its picture, then heatmaps and curves (heading -> SVG) and tables of rows."""
    sections = [("Circuit", circuit_svg(circuit, heading=False))]
    measured = measures(circuit.evaluation)
    if measured:
        rows = [{"measure": k, "value": short(v)} for k, v in measured.items()]
        sections.append(("Evaluation", table_html(rows)))
    sections += list((curves or {}).items()) + list((heatmaps or {}).items())
    sections += [(heading, table_html(rows)) for heading, rows in (tables or {}).items()]
    facts = "; ".join(f"{k}: {v}" for k, v in about(circuit).items() if k != "prompt")
    return results_page(title(circuit), sections, lead=lead or facts)
