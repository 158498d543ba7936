"""The page of a painting: pictures as they form, before and after an edit, and the maps of every word over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.heads.painted_captions import OnePicture, Painting
from workbench.tasks.canvas.captions import read_caption
from workbench.tasks.canvas.words import SLOTS
from workbench.view.chart import svg, words
from workbench.view.head_maps import head_maps_svg
from workbench.view.html import facts_html, table_html
from workbench.view.page import asset, frame
from workbench.view.raster import image
from workbench.view.text import escape, printable

if TYPE_CHECKING:
    from workbench.heads.word_maps import WordMaps
    from workbench.model.flow_painter.sample import Painted

SIDE, GAP, TOP = 72.0, 8.0, 20.0
MOST = 8  # pictures of a page
HOW = (
    "Each map is one head, averaged over all steps: the lighter a patch, the more of its attention goes to the "
    "word, from none to all. The largest share of a patch stands under each map. The black ground is drawn in grey."
)
LIFTED = 110  # the grey of black ground under maps: what looks from there would not be seen on black


def painting_page(
    painting: Painting,
    painted: Painted,
    maps: WordMaps,
    plain: Painted | None = None,
    plain_maps: WordMaps | None = None,
) -> str:
    """Return a self-contained page.

    Args:
        painted: The same pictures with what was predicted at each step.
        maps: What patches looked at among the words meanwhile.
        plain, plain_maps: The same without the edit.
    """
    facts = {
        "model": painting.model,
        "seed": painting.seed,
        "steps": painting.steps,
        "guidance": f"{painting.guidance:g}",
        "edit": painting.edit or "none",
    }
    shown = range(min(MOST, len(painting.pictures)))
    left_out = len(painting.pictures) - len(shown)
    more = f"<p>{left_out} more pictures are in painting.json.</p>" if left_out else ""
    parts = "".join(_of_caption(i, painting, painted, maps, plain, plain_maps) for i in shown)
    title = f"Painted by {printable(painting.model)}"
    body = (
        f'<main class="report"><header><h1>{escape(title)}</h1>'
        '<button type="button" id="theme">Dark</button></header>'
        f"{facts_html(facts)}<section><h2>What the reader sees</h2>"
        f'<div class="wide">{table_html(painting.rows())}</div></section>{parts}{more}</main>'
    )
    return frame(title=title, body=body, scripts=(asset("theme.js"),))


def _of_caption(
    i: int,
    painting: Painting,
    painted: Painted,
    maps: WordMaps,
    plain: Painted | None,
    plain_maps: WordMaps | None,
) -> str:
    caption = painting.captions[i]
    strips = [("with the edit" if plain else "as it forms", painted, painting.pictures[i])]
    looks = [("with the edit" if plain_maps else "", maps, painting.pictures[i])]
    if plain is not None:
        strips.insert(0, ("without the edit", plain, painting.plain[i]))
    if plain_maps is not None:
        looks.insert(0, ("without the edit", plain_maps, painting.plain[i]))
    drawn = "".join(
        f'<figure style="margin:0">{forming_svg(made.predictions[:, i].numpy(), one, name=name)}</figure>'
        for name, made, one in strips
    )
    of_words = "".join(
        _word_maps(caption, slot, seen.weights[:, i, :, :, slot].mean(0).numpy(), one, name)
        for slot in _slots(caption)
        for name, seen, one in looks
    )
    return (
        f"<section><h2>{escape(printable(caption))}</h2>"
        f'<p class="soft">What is predicted at each step, with guidance, and last the picture.</p>{drawn}'
        f'<details><summary>Maps of each word</summary><p class="soft">{escape(HOW)}</p>{of_words}</details></section>'
    )


def _slots(caption: str) -> range:
    return range(4 * len(read_caption(caption)))


def _word_maps(caption: str, slot: int, weights: np.ndarray, picture: OnePicture, name: str) -> str:
    """The maps of one word over the picture, all on one scale."""
    said = caption.replace(",", "").split()[slot]
    layers, heads = (
        [f"{letter}{n}" for n in range(size)] for letter, size in zip("ah", weights.shape[:2], strict=True)
    )
    drawn = head_maps_svg(
        weights,
        [f"cross:{layer}" for layer in layers],
        heads,
        title=f"{said} ({SLOTS[slot]})" + (f", {name}" if name else ""),
        unit="of a patch's attention to words",
        pixels=(LIFTED + picture.pixels * (1 - LIFTED / 255)).astype(np.uint8),
        under=[[f"up to {max(float(map_.max()), 0):.2f}" for map_ in row] for row in weights],
        least=1.0,
    )
    return f'<figure style="margin:0">{drawn}</figure>'


def forming_svg(predictions: Sequence[np.ndarray] | np.ndarray, last: OnePicture, *, name: str) -> str:
    """Return what is predicted at each step as a row of pictures, and last the picture itself.

    Args:
        predictions: Pictures between 0 and 1, first step first.
    """
    chosen = sorted({round(x) for x in np.linspace(0, len(predictions) - 1, min(5, len(predictions)))})
    shown = [(f"step {n + 1}", as_colours(predictions[n])) for n in chosen] + [("picture", last.pixels)]
    wide = len(shown) * (SIDE + GAP) + GAP
    parts = [words(f"{name}: {last.phrase}", GAP, 12)]
    for at, (said, pixels) in enumerate(shown):
        x = GAP + at * (SIDE + GAP)
        parts.append(image(pixels, x, TOP, SIDE, SIDE))
        parts.append(words(said, x + SIDE / 2, TOP + SIDE + 13, at="middle", kind="s"))
    return svg("forming", parts, size=(wide, TOP + SIDE + 22), title=name, about=last.phrase)


def as_colours(picture: np.ndarray) -> np.ndarray:
    """Return a picture between 0 and 1 as colours."""
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
