"""How a look at a picture shows itself: the maps of all heads over the picture, what was said, a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core.show import card, page, picture, terminal
from workbench.heads.picture_look import PictureLook
from workbench.view.head_maps import head_maps_svg
from workbench.view.html import results_page, table_html
from workbench.view.text import number

LEAD = (
    "Attention of the class token. What a head looks at keeps its colours; each map has its own scale, whose end "
    "stands under it."
)


@picture(PictureLook)
def look_svg(look: PictureLook, *, query: int = 0) -> str:
    """Return the maps of all heads over the picture, layers down, heads across."""
    layers, heads = _sides(look)
    maps = np.full((len(layers), len(heads), *look.grid), np.nan)
    for i, layer in enumerate(layers):
        for j, head in enumerate(heads):
            if f"{layer}.{head}" in look.patterns:
                maps[i, j] = look.map_of(f"{layer}.{head}", query)
    lead = LEAD if query == 0 else LEAD.replace("the class token", f"position {query}")
    if look.objects:
        lead += f" Whole line: {look.objects[0][0]}; broken lines: other objects."
    return head_maps_svg(
        maps,
        layers,
        heads,
        title=f"{look.model} at {look.image.source}",
        unit="of attention",
        pixels=_colours(look),
        outlines=[box for _, box in look.objects],
        lead=lead,
    )


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
    """For each head how much of its class token's attention lies on each object; what was said."""
    rows = []
    for head in look.patterns:
        map_ = look.map_of(head)
        on = {
            f"{i}: {phrase}": float(map_[top:bottom, left:right].sum())
            for i, (phrase, (top, left, bottom, right)) in enumerate(look.objects, start=1)
        }
        rows.append({"head": head, "all patches": float(map_.sum()), **on})
    return rows


@terminal(PictureLook)
def look_terminal(look: PictureLook) -> list[Any]:
    """Return what was said, and where the class token of every head looks."""
    said = {name: number(p) for name, p in look.said}
    return [repr(look), *([said] if said else []), "attention of the class token", _rows(look)]


@card(PictureLook)
def look_card(look: PictureLook) -> str:
    """Return the maps over the picture, and what was said."""
    said = table_html([{"said": name, "probability": p} for name, p in look.said]) if look.said else ""
    return f'<div style="overflow-x:auto">{look_svg(look)}</div>{said}'


@page(PictureLook)
def look_page(look: PictureLook) -> str:
    """Return the maps over the picture, where each head looks in numbers, and what was said."""
    sections = [("Where every head looks", look_svg(look)), ("In numbers", table_html(_rows(look)))]
    if look.said:
        sections.append(("What was said", table_html([{"class": n, "probability": p} for n, p in look.said])))
    return results_page(f"{look.model} at {look.image.source}", sections, lead=LEAD)
