"""The fast EAP-IG against the one that reads like the paper: other hooks, other passes, the same numbers."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.methods.reference import eap_ig_reference


@pytest.mark.parametrize("steps", [1, 3])
def test_the_fast_scores_are_those_of_the_paper(steps):
    model = wb.open_model("zoo:ioi")
    runs = wb.paired_runs(model, "ioi", n=4)
    graph, truth = runs.wiring.graph(), 0.0
    for batch in runs.batches:
        correct, incorrect = (ids[:, 0] for ids in (batch.answers.correct, batch.answers.incorrect))

        def gap(logits, correct=correct, incorrect=incorrect):
            of = logits[torch.arange(len(logits)), -1]
            return of.gather(1, correct[:, None])[:, 0] - of.gather(1, incorrect[:, None])[:, 0]

        found = eap_ig_reference(model, batch.clean, batch.corrupted, gap, steps=steps)
        truth = truth + found.detach().numpy()
    found = wb.score(runs, "eap-ig", steps=steps).values * runs.n_pairs
    largest = float(np.abs(truth[graph.edge_mask]).max())
    assert largest > 1
    assert found[graph.edge_mask] == pytest.approx(
        truth[graph.edge_mask], abs=1e-6 * largest
    )  # sums in float32
