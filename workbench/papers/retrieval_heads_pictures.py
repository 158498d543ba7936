"""Pictures of retrieval heads: scores by head, the needle grid, recall by heads masked, models beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.heads.retrieval import RetrievalScores
from workbench.papers.options import RetrievalSizes
from workbench.papers.retrieval_heads_measures import Cells, Masked
from workbench.view.pictures import Curves, Heatmap, Picture, Scatter


def needle_grid(cells: Cells, *, title: str) -> Heatmap:
    """Recall by depth of the needle (rows) and length of the text (columns), in percent."""
    contexts, depths = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    matrix = [[100 * cells[c, d].mean() if (c, d) in cells else np.nan for c in contexts] for d in depths]
    return Heatmap.of(
        np.array(matrix),
        ["anywhere" if d < 0 else f"{d} %" for d in depths],
        [str(c) for c in contexts],
        title=title,
        unit="% recalled",
        row_title="depth of the needle",
        column_title="words in the text",
    )


def pictures(
    scores: RetrievalScores,
    masked: Masked,
    grids: Mapping[str, Cells],
    by_number: Sequence[Mapping[str, Any]],
    others: Mapping[str, RetrievalScores | str],
    options: RetrievalSizes,
) -> dict[str, Picture]:
    """Caption -> picture."""
    layers = [f"layer {layer}" for layer in scores.layers]
    heads = [f"h{h}" for h in range(scores.score.shape[1])]
    n = options.cell
    found: dict[str, Picture] = {
        "Retrieval scores": Heatmap.of(
            scores.score,
            layers,
            heads,
            unit="score",
            title=f"Retrieval score of every head, n = {int(scores.counted.sum())}",
        ),
        "In how many samples each head copied": Heatmap.of(
            scores.frequency, layers, heads, unit="share", title="Activation frequency"
        ),
    }
    for name, cells in grids.items():
        what = f" ({', '.join(masked.top)})" if name.startswith("top") else ""
        what = f" ({', '.join(masked.draws[0])})" if name.startswith("matched") else what
        found[f"Needle grid, {name}"] = needle_grid(
            cells, title=f"Recall, {name}{what}; {n} needles per cell"
        )
    if by_number:
        found["Recall by number of heads masked"] = Curves.of(
            {
                "top of the ranking": [(row["heads"], row["top"]) for row in by_number],
                "random heads": [(row["heads"], row["random"]) for row in by_number],
            },
            x_label="heads masked",
            y_label="recall",
            title="Texts of up to 128 words",
        )
    for role in ("derived", "other"):
        there = others.get(getattr(options, role))
        if isinstance(there, RetrievalScores) and there.score.shape == scores.score.shape:
            found[f"Scores here and in {getattr(options, role)}"] = _scatter(scores, there, role, options)
    return found


def _scatter(here: RetrievalScores, there: RetrievalScores, role: str, options: RetrievalSizes) -> Scatter:
    name = getattr(options, role)
    points = [
        (float(np.nan_to_num(a)), float(np.nan_to_num(b)), here.name(i))
        for i, (a, b) in enumerate(zip(here.score.ravel(), there.score.ravel(), strict=True))
    ]
    return Scatter.of(
        {"heads": points}, x_label="score here", y_label=f"score in {name}", title=f"{name} ({role})"
    )
