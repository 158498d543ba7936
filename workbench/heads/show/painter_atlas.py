"""The page of a painter's atlas: one heatmap of heads by steps for each kind of looks."""

from __future__ import annotations

from workbench.core.show import page
from workbench.heads.atlas_over_time import AMONG, PainterAtlas
from workbench.view.html import facts_html, table_html
from workbench.view.page import asset, frame
from workbench.view.pictures import Heatmap
from workbench.view.text import escape, printable

HOW = (
    "Rows are heads, columns are steps from noise to picture. For words: how far the patches that look most at the "
    "word are those of its object in the finished picture (intersection over union). Among patches: the share of the "
    "looks of an object's patches that stay on that object."
)


def atlas_heatmaps(atlas: PainterAtlas) -> dict[str, Heatmap]:
    """Return one heatmap for each kind of looks, by its title."""
    steps = [str(step + 1) for step in range(atlas.steps)]
    found = {}
    for what, values in atlas.own.items():
        title = (
            "Looks among patches stay on the object"
            if what == AMONG
            else f"Maps of the {what} fit the object"
        )
        unit = "share of looks" if what == AMONG else "overlap"
        found[title] = Heatmap.of(
            values, atlas.named(what), steps, title=title, unit=unit, row_title="head", column_title="step"
        )
    return found


@page(PainterAtlas)
def atlas_page(atlas: PainterAtlas) -> str:
    """Return a self-contained page."""
    title = f"Atlas of {printable(atlas.model)} over time"
    facts = {
        "objects": atlas.n,
        "pictures left out": atlas.left_out,
        "an object covers": f"{atlas.chance:.3f} of a picture",
        "steps": atlas.steps,
    }
    drawn = "".join(
        '<section><div class="wide"><figure style="margin:0;min-width:46rem">'
        f"{heatmap.svg()}</figure></div></section>"
        for heatmap in atlas_heatmaps(atlas).values()
    )
    body = (
        f'<main class="report"><header><h1>{escape(title)}</h1>'
        '<button type="button" id="theme">Dark</button></header>'
        f'{facts_html(facts)}<p class="soft">{escape(HOW)}</p>{drawn}'
        "<details><summary>All heads as a table</summary>"
        f'<div class="wide">{table_html(atlas.rows())}</div></details></main>'
    )
    return frame(title=title, body=body, scripts=(asset("theme.js"),))
