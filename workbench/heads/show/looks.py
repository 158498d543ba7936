"""How a look at a picture shows itself: the maps of all heads over the picture, words beside patches, a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.core.show import card, page, picture, terminal
from workbench.heads.picture_look import PictureLook
from workbench.view.head_maps import head_maps_svg
from workbench.view.html import table_html
from workbench.view.page import asset, embedded_json, frame
from workbench.view.raster import png
from workbench.view.text import escape, number, printable
from workbench.view.token_maps import TokenMaps, token_maps_svg

SCALE = "What a head looks at keeps its colours; each map has its own scale, whose end stands under it."
WORDS = "Point at a word to see where each head looks from there: in the picture, and under it at the words."
HOW = (
    "Point at a word, or click a patch, to see where the head looks from there. The small pictures are all heads: "
    "rows are layers. What is looked at keeps its colours; the brightest patch has the number under the picture."
)
STEPS = 65535  # of a share in a page: sums over many patches stay right to three digits


@picture(PictureLook)
def look_svg(look: PictureLook, *, query: int | None = None) -> str:
    """Return the maps of all heads over the picture, layers down, heads across; where there are words, for each."""
    query = look.query if query is None else query
    layers, heads = _sides(look)
    outlines, told = _outlines(look)
    how: dict[str, Any] = {
        "title": f"{look.model} at {look.image.source}" + (f": {look.question}" if look.question else ""),
        "pixels": _colours(look),
        "outlines": outlines,
        "solid": look.asked is not None,
    }
    lead = f"Attention of {_named(look, query)}. {SCALE}{told}"
    if len(look.words) > 1 and query in look.words:
        found = _token_maps(look, layers, heads, query)
        return token_maps_svg(found, lead=f"{lead} {WORDS}", **how)
    maps = np.array([[look.map_of(f"{layer}.{head}", query) for head in heads] for layer in layers])
    return head_maps_svg(maps, layers, heads, unit="of attention", lead=lead, **how)


def _token_maps(look: PictureLook, layers: Sequence[str], heads: Sequence[str], query: int) -> TokenMaps:
    at = list(look.words)
    grid = [[f"{layer}.{head}" for head in heads] for layer in layers]
    return TokenMaps(
        maps=np.array([[[look.map_of(h, q) for h in row] for row in grid] for q in at]),
        weights=np.array([[[list(look.words_of(h, q).values()) for h in row] for row in grid] for q in at]),
        words=tuple(look.words.values()),
        rows=tuple(layers),
        columns=tuple(heads),
        shown=at.index(query),
    )


def _named(look: PictureLook, query: int) -> str:
    if query not in look.words:
        return f"the patch in {look.name_of(query)}"
    text = look.name_of(query)
    return f"“{printable(text)}”" if look.question else f"the {text}"


def _outlines(look: PictureLook) -> tuple[list[tuple[int, int, int, int]], str]:
    """The objects, the one that is meant first, and what the lines mean."""
    boxes = [box for _, box in look.objects]
    if look.asked is None:
        return boxes, " Broken lines: objects." if boxes else ""
    phrase, own = look.objects[look.asked]
    others = [box for i, box in enumerate(boxes) if i != look.asked]
    return [own, *others], f" Whole line: {phrase}." + (" Broken lines: other objects." if others else "")


def _sides(look: PictureLook) -> tuple[list[str], list[str]]:
    """Layers and heads, as addresses have them."""
    parts = [head.split(".") for head in look.patterns]
    heads = sorted({head for _, head in parts}, key=lambda head: int(head[1:]))
    return list(dict.fromkeys(layer for layer, _ in parts)), heads


def _colours(look: PictureLook) -> np.ndarray | None:
    """The picture as colours; numbers as a model reads them are no colours."""
    pixels = look.image.pixels
    return pixels if pixels.dtype == np.uint8 else None


def _rows(look: PictureLook) -> list[dict[str, Any]]:
    """For each head how much of the attention lies on each object, and on which word most; what was said."""
    rows = []
    for head in look.patterns:
        map_ = look.map_of(head)
        on = {
            f"{i}: {phrase}": round(float(map_[top:bottom, left:right].sum()), 4)
            for i, (phrase, (top, left, bottom, right)) in enumerate(look.objects, start=1)
        }
        row = {"head": head, "all patches": round(float(map_.sum()), 4), **on}
        if len(look.words) > 1:
            at, share = max(look.words_of(head).items(), key=lambda one: one[1])
            row |= {"most at a word": round(share, 4), "which": printable(look.name_of(at))}
        rows.append(row)
    return rows


@terminal(PictureLook)
def look_terminal(look: PictureLook) -> list[Any]:
    """Return what was said, and where every head looks."""
    said = {printable(name): number(p) for name, p in look.said}
    about = f"attention of {_named(look, look.query)}"
    if look.asked is not None:
        about += f"; object {look.asked + 1} is the one that is meant"
    return [repr(look), *([said] if said else []), about, _rows(look)]


@card(PictureLook)
def look_card(look: PictureLook) -> str:
    """Return the maps over the picture, and what was said."""
    return f'<div style="overflow-x:auto">{look_svg(look)}</div>{_said(look)}'


def _said(look: PictureLook) -> str:
    return table_html([{"said": name, "probability": p} for name, p in look.said]) if look.said else ""


@page(PictureLook)
def look_page(look: PictureLook) -> str:
    """Return a page to point at words, patches and heads; below it the numbers, and what was said."""
    heading = f"{look.model} at {look.image.source}"
    asked = f"asked: {look.question}" if look.question else "what every head looks at"
    said = f"<section><h2>What was said</h2>{_said(look)}</section>" if look.said else ""
    body = (
        f'<main class="report atlas"><header><div><h1>{escape(heading)}</h1><p class="soft">{escape(asked)}</p></div>'
        f'<button type="button" id="theme">Dark</button></header>{looks_section([look])}{said}'
        f"<section><h2>In numbers: attention of {escape(_named(look, look.query))}</h2>"
        f'<div class="wide">{table_html(_rows(look))}</div></section></main>'
    )
    return frame(title=heading, body=body, body_class="atlas", scripts=(asset("theme.js"), asset("looks.js")))


def looks_section(looks: Sequence[PictureLook]) -> str:
    """Return the part of a page that ``looks.js`` makes alive: a picture, its words, the maps of all heads."""
    options = "".join(f'<option value="{i}">{escape(_option(look))}</option>' for i, look in enumerate(looks))
    pick = f'<label>Picture <select id="look-which">{options}</select></label>'
    return (
        "<section><h2>Pictures under the attention</h2>"
        f'<div class="row">{pick}<label>Head <select id="look-head"></select></label></div>'
        f'<p class="soft">{HOW}</p>'
        '<div class="look"><div class="look-side"><div id="look-words" class="tokens" '
        'aria-label="Words; shade: attention from the chosen position"></div>'
        '<canvas id="look-picture" width="432" height="432" tabindex="0" role="img" '
        'aria-label="The picture under the attention of the chosen head; arrow keys move over the patches, '
        'Enter looks from there"></canvas>'
        '<p id="look-readout" class="readout soft" role="status" aria-live="polite">&nbsp;</p>'
        '<p id="look-about" class="soft"></p></div>'
        '<div id="look-sheet" class="sheet" aria-label="All heads: rows are layers, columns heads"></div></div>'
        "<noscript><p>Pictures under the attention need script; the table does not.</p></noscript>"
        f'<script type="application/json" id="looks">{embedded_json([_data(look) for look in looks])}</script>'
        "</section>"
    )


def _option(look: PictureLook) -> str:
    stack = next(iter(look.patterns)).partition(":")
    where = f"{stack[0]}: " if stack[1] else ""
    return f"{where}{look.question or 'nothing asked'}, {look.image.source}"


def _data(look: PictureLook) -> dict[str, Any]:
    """What ``looks.js`` draws: attention in 65,535ths as base64 (layer, head, query, key), a PNG."""
    layers, heads = _sides(look)
    rows = [[look.patterns[f"{layer}.{head}"] for head in heads] for layer in layers]
    weights = np.round(np.clip(np.array(rows), 0, 1) * STEPS).astype("<u2")
    pixels, (outlines, told) = _colours(look), _outlines(look)
    return {
        "layers": layers,
        "heads": heads,
        "size": look.size,
        "grid": list(look.grid),
        "first": look.first,
        "gap": look.gap,
        "query": look.query,
        "start": _start(look, layers, heads),
        "words": [[at, printable(text).strip() or " "] for at, text in look.words.items()],
        "weights": base64.b64encode(weights.tobytes()).decode("ascii"),
        "picture": None if pixels is None else base64.b64encode(png(pixels)).decode("ascii"),
        "outlines": [list(box) for box in outlines],
        "solid": look.asked is not None,
        "quoted": bool(look.question),
        "about": " ".join([*_answer(look), told.strip()]),
    }


def _start(look: PictureLook, layers: Sequence[str], heads: Sequence[str]) -> list[int]:
    """The head that is shown first: the one that looks most at the object that is meant, or at the picture."""

    def most(head: str) -> float:
        map_ = look.map_of(head)
        top, left, bottom, right = (0, 0, *look.grid) if look.asked is None else look.objects[look.asked][1]
        return float(map_[top:bottom, left:right].sum())

    layer, _, head = max(look.patterns, key=most).partition(".")
    return [layers.index(layer), heads.index(head)]


def _answer(look: PictureLook) -> list[str]:
    return (
        [f"The model says {printable(look.said[0][0]).strip()} ({number(look.said[0][1])})."]
        if look.said
        else []
    )
