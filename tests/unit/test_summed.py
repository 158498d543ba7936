"""What scores of EAP-IG sum to, beside the gap: by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.circuits.summed import SummedScores, summed_scores


def scores_of(method: str = "eap-ig", **options) -> Scores:
    """One layer of two heads: 2 from the input to each of the nine readers, 1 from everything else."""
    graph = Graph(GraphShape(n_layers=1, n_heads=2, n_kv_heads=2))
    values = np.where(graph.edge_mask, 1.0, np.nan)
    values[0] = np.where(graph.edge_mask[0], 2.0, np.nan)
    return Scores(
        graph=graph,
        values=values,
        level="edge",
        method=method,
        unit="logits",
        options=options,
        metric="logit-difference",
        n_pairs=1,
    )


def test_edges_that_leave_the_input_are_summed():
    scores = scores_of(steps=5)
    n = int(scores.graph.edge_mask[0].sum())
    found = summed_scores(scores, 2.0 * n)
    assert found == SummedScores(total=2.0 * n, gap=2.0 * n, steps=5, unit="logits") and found.warning == ""
    assert found.to_dict()["sum"] == 2.0 * n


def test_a_sum_far_from_the_gap_says_what_to_type():
    near = SummedScores(total=17.7, gap=14.2, steps=20, unit="logits")
    far = replace(near, total=22.4, steps=5)
    assert near.off == pytest.approx(3.5 / 14.2) and not near.warning
    assert "sum to 22.4 logits; the gap" in far.warning and "is 14.2" in far.warning
    assert far.warning.endswith("hint: --option steps=20")
    assert replace(near, gap=0.0).warning


def test_scores_that_need_not_sum_to_the_gap_are_left_alone():
    assert summed_scores(scores_of("eap"), 1.0) is None
    assert summed_scores(scores_of(steps=5, backward="relp"), 1.0) is None
