"""A circuit as a static picture: layers bottom to top, width is strength, colour and dashes are sign."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.circuits.circuit import Circuit
from workbench.circuits.layout import ROW, layered, row_labels
from workbench.circuits.rows import EdgeRow, edge_rows, node_rows, prompt_parts, title
from workbench.core.show import picture
from workbench.view.chart import svg, tooltip, words
from workbench.view.color import css, ink, signed
from workbench.view.text import escape, number, shorten

MOST_EDGES = 1500
TOKEN_ROW = 36.0
POSITIVE, NEGATIVE = "#256bad", "#cd631a"
_ARROWS = {"wb-arrow-positive": POSITIVE, "wb-arrow-negative": NEGATIVE, "wb-arrow-link": "#999999"}
_HALF = {"head": (36, 13), "mlp": (30, 14), "attn": (30, 13), "group": (30, 11)}
_IN_TOWER = 10  # wider: addresses there begin with the tower's name


@picture(Circuit)
def circuit_svg(circuit: Circuit, *, most_edges: int = MOST_EDGES, heading: bool = True) -> str:
    """A self-contained SVG without script. At most ``most_edges`` edges, the strongest, are drawn.

    An edge ends in an arrowhead at its target. Its width grows with |score|; positive edges are blue and whole,
    negative ones orange and dashed, links (KV group to head) grey and dotted. Every node and edge has a tooltip
    with score and role.
    """
    places = layered(circuit)
    drawn, left_out = _strongest(edge_rows(circuit), most_edges)
    xs, ys = [x for x, _ in places.values()] or [0.0], [y for _, y in places.values()] or [0.0]
    left, right = min(xs) - 150, max(xs) + 70
    right = max(right, left + 430)
    top = max(ys) + (92 if heading else 44) + (28 if circuit.shape.tower else 0)
    tokens = prompt_parts(circuit)
    width = right - left
    lines = _token_lines(tokens, width - 28) if tokens else []
    bottom = min(ys) - 52 - TOKEN_ROW * len(lines) - 24
    height = top - bottom
    degrees = _degrees(drawn)
    strongest = max((abs(e.score) for e in drawn if e.score is not None), default=1.0) or 1.0
    parts = [f"<defs>{''.join(_arrow(*kind) for kind in _ARROWS.items())}</defs>"]
    if heading:
        parts.append(words(title(circuit), left + 14, -top + 26, kind="h"))
        parts.append(words(describe(circuit), left + 14, -top + 44, kind="s"))
    parts += [
        words(one.text, one.x, -one.y + 4, kind="s" if one.layer is not None else "c")
        for one in row_labels(circuit)
    ]
    parts += [_edge(row, places, strongest, circuit.unit) for row in reversed(drawn)]
    parts += [_node(row, places[row.id], circuit, degrees) for row in node_rows(circuit)]
    if tokens:
        parts.append(_tokens(lines, left + 14, -(min(ys) - 58)))
    parts.append(_legend(left + 14, -bottom - 12, circuit.unit, strongest, left_out))
    style = ".wb-circuit .n text{text-anchor:middle}.wb-circuit .h{font-size:15px;font-weight:600}"
    style += ".wb-circuit .c{font-size:12px;font-weight:600}"
    named = {"title": title(circuit), "about": describe(circuit)}
    return svg("circuit", parts, size=(width, height), corner=(left, -top), style=style, **named)


def _strongest(rows: Sequence[EdgeRow], most: int) -> tuple[list[EdgeRow], int]:
    """The edges to draw, strongest first and links last, and how many are left out."""
    ranked = sorted(rows, key=lambda row: -abs(row.score) if row.score is not None else 1.0)
    return ranked[:most], max(0, len(ranked) - most)


def _degrees(rows: Sequence[EdgeRow]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row in rows:
        out, into = found.get(row.source, (0, 0)), found.get(row.target, (0, 0))
        found[row.source] = (out[0], out[1] + 1)
        into = found.get(row.target, into)
        found[row.target] = (into[0] + 1, into[1])
    return found


def describe(circuit: Circuit) -> str:
    """Size, how it was chosen and the unit of its scores, in one line of text that is not escaped yet."""
    size = f"{circuit.n_nodes} nodes, {circuit.n_edges:,} of {circuit.graph.n_edges:,} edges"
    if circuit.level == "node":
        size = f"{circuit.size} of {len(circuit.graph.nodes()) - 2} nodes"
    return ", ".join(
        x for x in (size, circuit.how_chosen, f"scores in {circuit.unit}" if circuit.unit else "") if x
    )


def _arrow(name: str, color: str) -> str:
    """An arrowhead of one size whatever the width of its edge: thin edges show where they go too."""
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5L8 4L0 7.5z" fill="{color}"/></marker>'
    )


def _edge(row: EdgeRow, places: dict[str, tuple[float, float]], strongest: float, unit: str) -> str:
    (x1, y1), (x2, y2) = places[row.source], places[row.target]
    down = y2 < y1  # out of a tower to the projector
    y1, y2 = (-y1 + 15, -y2 - 17) if down else (-y1 - 13, -y2 + 19)  # 19: the tallest box hides no arrowhead
    shift = {"q": -14.0, "k": 0.0, "v": 14.0}.get(row.input, 0.0)
    bend = max(18.0, min(abs(y2 - y1) * 0.45, ROW * 1.5)) * (-1 if down else 1)
    # edges that pass other layers swing out a little, so that they do not run through the nodes between
    swing = 0.0 if abs(x2 - x1) > 20 else 46.0 * ((abs(y2 - y1) - ROW) / ROW > 0.6)
    d = f"M{x1:.0f} {y1:.0f}C{x1 + swing:.0f} {y1 - bend:.0f} {x2 + shift + swing:.0f} {y2 + bend:.0f} "
    d += f"{x2 + shift:.0f} {y2:.0f}"
    if row.score is None:
        how = 'stroke="#999" stroke-dasharray="1 3" marker-end="url(#wb-arrow-link)"'
        return f'<path d="{d}" fill="none" {how}/>'
    share = abs(row.score) / strongest
    dash = ' stroke-dasharray="5 3"' if row.score < 0 else ""
    color, sign = (NEGATIVE, "negative") if row.score < 0 else (POSITIVE, "positive")
    tip = tooltip(f"{row.id}: {number(row.score)} {unit}".rstrip())
    return (
        f'<path d="{d}" fill="none" stroke="{color}" stroke-width="{0.6 + 5 * share:.2f}" '
        f'stroke-opacity="{0.45 + 0.45 * share:.2f}"{dash} '
        f'marker-end="url(#wb-arrow-{sign})">{tip}</path>'
    )


def _node(row, at: tuple[float, float], circuit: Circuit, degrees: dict[str, tuple[int, int]]) -> str:
    (x, y), (half, tall) = (at[0], -at[1]), _HALF.get(row.kind, (34, 14))
    scores = [abs(d["score"]) for d in circuit.nodes.values() if d["score"] is not None]
    top = max(scores, default=0.0) or 1.0
    fill = (255, 255, 255) if row.score is None else signed(row.score / top)
    into, out = degrees.get(row.id, (0, 0))
    tip = f"{row.id}{': ' + row.role if row.role else ''}"
    tip += f"\nscore {number(row.score)} {circuit.unit}" if row.score is not None else ""
    tip += f"\n{into} edges in, {out} out"
    half, tall = (half + 7, tall + 5) if row.role else (half, tall)
    half += _IN_TOWER if ":" in row.id else 0
    corner = {"mlp": 3, "input": 6, "logits": 6, "group": 2, "attn": 3}.get(row.kind, tall)
    ink_ = f'style="fill:{ink(fill)}"'
    label = f'<text y="{-1 if row.role else 4}" {ink_}>{escape(shorten(row.id, 14))}</text>'
    if row.role:
        text = shorten(row.role, 20)
        size = 8.5 if len(text) < 15 else 7.2  # what fits into the box
        label += f'<text y="11" font-size="{size}" {ink_}>{escape(text)}</text>'
    return (
        f'<g class="n" transform="translate({x:.0f} {y:.0f})">{tooltip(tip)}'
        f'<rect x="-{half}" y="-{tall}" width="{2 * half}" height="{2 * tall}" rx="{corner}" '
        f'fill="{css(fill)}" stroke="#5b6470"/>{label}</g>'
    )


def _token_lines(tokens: Sequence[tuple[str, int, int]], width: float) -> list[list[tuple[str, str, float]]]:
    """Tokens as lines of (positions, text, width); at most six lines, then an ellipsis."""
    lines: list[list[tuple[str, str, float]]] = [[]]
    used = 0.0
    for token, first, last in tokens:
        i = str(first) if first == last else f"{first} to {last}"
        text = shorten(token, 40)
        wide = 12 + 7.0 * len(text)
        if lines[-1] and used + wide > width:
            if len(lines) == 6:
                lines[-1][-1] = (lines[-1][-1][0], "…", 19.0)
                break
            lines.append([])
            used = 0.0
        lines[-1].append((i, text, wide))
        used += wide + 4
    return lines


def _tokens(lines: list[list[tuple[str, str, float]]], x: float, y: float) -> str:
    """The prompt under the picture, each token in a box with its position."""
    parts = []
    for row, line in enumerate(lines):
        at, base = x, y + TOKEN_ROW * row
        for i, text, wide in line:
            parts.append(
                f'<rect x="{at:.0f}" y="{base - 13:.0f}" width="{wide:.0f}" height="18" rx="3" fill="none" '
                'stroke="currentColor" stroke-opacity=".3"/>'
                f'<text x="{at + 6:.0f}" y="{base:.0f}" xml:space="preserve">{escape(text)}</text>'
                f'<text x="{at + wide / 2:.0f}" y="{base + 16:.0f}" class="s" font-size="8" '
                f'text-anchor="middle">{i}</text>'
            )
            at += wide + 4
    return "".join(parts)


def _legend(x: float, y: float, unit: str, strongest: float, left_out: int) -> str:
    unit = escape(shorten(unit, 24))
    more = f" · {left_out:,} weaker edges not drawn" if left_out else ""
    return (
        f'<g class="s"><path d="M{x:.0f} {y - 4:.0f}h26" stroke="{POSITIVE}" stroke-width="3"/>'
        f'<text x="{x + 32:.0f}" y="{y:.0f}">supports</text>'
        f'<path d="M{x + 92:.0f} {y - 4:.0f}h26" stroke="{NEGATIVE}" stroke-width="3" '
        'stroke-dasharray="5 3"/>'
        f'<text x="{x + 124:.0f}" y="{y:.0f}">opposes · widest {number(strongest)} {unit}{more}</text></g>'
    )
