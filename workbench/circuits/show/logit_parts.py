"""Direct contributions and the logit lens: on a terminal, as a card, a picture and a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.circuits.logit_parts import LogitParts
from workbench.core.show import card, page, picture, terminal
from workbench.view.heatmap import heatmap_svg
from workbench.view.html import facts_html, results_page, table_html, text_html
from workbench.view.pictures import Curves, Heatmap, Scatter
from workbench.view.plots import heatmap_png
from workbench.view.text import escape, number

MOST, MOST_HEADS = 20, 16


@terminal(LogitParts)
def logit_lines(found: LogitParts) -> list[Any]:
    """Return the parts in order, the lens layer by layer, and how far the frozen norm is from the live one."""
    return [_headline(found), _rows(found, MOST), _caption(found), _lens_rows(found), *_said(found)]


@card(LogitParts)
def logit_card(found: LogitParts) -> str:
    """Return the picture, the largest parts and the lens as static tables."""
    lens = table_html(_lens_rows(found), caption="logit lens where the answer is read")
    return "".join(
        [
            f"<p>{escape(_headline(found))}</p>",
            logit_svg(found),
            table_html(_rows(found, MOST), caption=_caption(found)),
            lens,
            *(f"<p>{escape(said)}</p>" for said in _said(found)),
        ]
    )


@picture(LogitParts)
def logit_svg(found: LogitParts) -> str:
    """Draw what each part adds: layers from the top, heads and the MLP across."""
    return heatmap_svg(*found.head_grid(found.values.mean(1)), **_words(found))


@picture(LogitParts, "png")
def logit_png(found: LogitParts) -> bytes:
    """Draw the same through matplotlib."""
    return heatmap_png(*found.head_grid(found.values.mean(1)), **_words(found))


@page(LogitParts)
def logit_page(found: LogitParts) -> str:
    """Return all of it as a page of its own: pictures of direct and ablation effects, positions, lens, every part."""
    parts = [("What each part adds directly", logit_svg(found) + text_html("\n\n".join(_said(found))))]
    if found.effect is not None:
        parts += [("Beside what the model loses without it", _beside(found))]
    parts.append(("Logit lens: what the stream says layer by layer", _lens(found)))
    if found.carried is not None:
        parts.append(("From which positions heads carry it", _positions(found)))
    parts.append(("Every part", table_html(_rows(found))))
    parts.append(("Measured on", facts_html({**found.provenance, **_errors(found)})))
    return results_page(f"Logits of {found.model} on {found.task}", parts, lead=_headline(found))


def _rows(found: LogitParts, most: int | None = None) -> list[dict[str, Any]]:
    names = {
        "direct": f"direct ({found.unit})",
        "stderr": "± se",
        "norm_live": "norm live",
        "effect": "ablation effect",
        "effect_stderr": "± se of it",
        "looks_at": "looks most at",
        "carries_from": "carries most from",
    }
    return _renamed(found.rows(most), names)


def _lens_rows(found: LogitParts) -> list[dict[str, Any]]:
    names = {"lens": f"lens ({found.unit})", "stderr": "± se", "frozen": "frozen norm"}
    return _renamed(found.lens.rows(), names)


def _renamed(rows: list[dict[str, Any]], names: dict[str, str]) -> list[dict[str, Any]]:
    """Columns with the words for people."""
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


def _headline(found: LogitParts) -> str:
    return (
        f"{found.model}, {found.task}, {found.pairs_said}: {found.metric} {number(float(found.total.mean()))} "
        f"{found.unit}, which the parts below and biases sum to"
    )


def _caption(found: LogitParts) -> str:
    shown = min(MOST, len(found))
    more = f"the largest {shown} of {len(found)} parts" if shown < len(found) else f"all {len(found)} parts"
    beside = f"; beside: {found.ablation} ablation of the part in the model" if found.ablation else ""
    return f"{more}{beside}"


def _said(found: LogitParts) -> list[str]:
    return [
        f"error of the frozen norm: {number(found.frozen_error)} {found.unit} a part and pair on average (direct "
        "against norm live)",
        *found.notes,
    ]


def _errors(found: LogitParts) -> dict[str, Any]:
    return {f"error: {name}": value for name, value in found.errors.items()}


def _words(found: LogitParts) -> dict[str, Any]:
    return {"title": found.title, "unit": found.unit}


def _beside(found: LogitParts) -> str:
    """Two pictures on one scale each, and the one over the other."""
    effect = np.asarray(found.effect).mean(1)
    title = f"{found.ablation} ablation: what {found.metric} loses"
    direct, points = found.values.mean(1), []
    for label, x, y in zip(found.labels, direct, effect, strict=True):
        if np.isfinite(y):
            points.append((float(x), float(y), label))
    drawn = heatmap_svg(*found.head_grid(effect), title=title, unit=found.unit)
    if not points:
        return drawn
    scatter = Scatter.of(
        {"parts": points},
        x_label=f"direct ({found.unit})",
        y_label=f"ablation effect ({found.unit})",
        diagonal="equal",
        title="direct and in all",
    )
    said = (
        "Above the diagonal a part does more through later parts; below it, later parts make up for its loss."
    )
    return drawn + scatter.svg() + text_html(said)


def _lens(found: LogitParts) -> str:
    lens = found.lens
    curves = Curves.of(
        {
            "own norm (lens)": list(enumerate(lens.values.mean(1).tolist())),
            "frozen norm": list(enumerate(lens.frozen.mean(1).tolist())),
        },
        x_label="layers before",
        y_label=f"{found.metric} ({found.unit})",
        title="what would be answered from the stream",
    )
    said = (
        "The lens reads a stream through its own norm; with the norm frozen as it is in the whole model, the curve is "
        "the sum of the parts so far."
    )
    return curves.svg() + text_html(said) + table_html(_lens_rows(found))


def _positions(found: LogitParts) -> str:
    """Heads that add most, by position: what they add, and where they look."""
    assert found.carried is not None
    heads = [i for i in found.order if ".h" in found.labels[i]][:MOST_HEADS]
    names = [found.labels[i] for i in heads]
    direct = Heatmap.of(
        found.carried.direct[heads],
        names,
        found.carried.places,
        title=f"what the {len(heads)} heads that add most carry from each position",
        unit=found.unit,
        column_title="position (named by the task, else tokens from the end)",
    )
    look = Heatmap.of(
        found.carried.attention[heads],
        names,
        found.carried.places,
        title="their attention from where the answer is read",
        unit="share",
        column_title="position",
    )
    return direct.svg() + look.svg()
