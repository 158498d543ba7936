"""Ablation of every kind, on every family: the engine's stacked, resumed sweep equals the naive loop."""

from __future__ import annotations

import numpy as np
import pytest

from tests.families import FAMILIES
from tests.integration.naive import Put, naive_of
from workbench.engine.interventions.ablation import ablations
from workbench.engine.interventions.words import ABLATIONS
from workbench.engine.sweep import sweep

# Logits here are of order 1. 3e-6: largest difference seen between stacked rows and single runs in float32
# (other sizes of matrix products, other order of sums); with a factor of about five.
TOLERANCE = 1.5e-5
VALUE = {"resample": "corrupted"}


def parts(wiring) -> dict[str, list[Put]]:
    """Label of an ablation -> what it replaces: a head per layer, layers, MLPs, several together, one position."""
    found = {}
    for layer in range(wiring.n_layers):
        head = (layer + 1) % wiring.n_heads
        found[f"a{layer}.h{head}"] = [Put("head-output", layer, head)]
    last = wiring.n_layers - 1
    found["a1"] = [Put("attn-out", 1)]
    if wiring.mlp_layers:
        found[f"m{last}"] = [Put("mlp-out", last)]
        found["a0+m0"] = [Put("attn-out", 0), Put("mlp-out", 0)]
    found[f"a0.h1+a0.h2+a{last}.h0"] = [
        Put("head-output", 0, 1),
        Put("head-output", 0, 2),
        Put("head-output", last, 0),
    ]
    found["a0.h3@S"] = [Put("head-output", 0, 3, "S")]
    return found


def expected(naive, base: str, kind: str, rows: dict[str, list[Put]]) -> np.ndarray:
    return np.array(
        [[naive.patched(i, base, kind, puts) for i in range(len(naive))] for puts in rows.values()]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_ablations_equal_the_naive_loop(family, runs_of):
    """Also the pitfall 'mean ablation that is not the mean': each mean is taken here from single prompts."""
    runs = runs_of(family)
    naive = naive_of(family, runs)
    rows = parts(runs.wiring)
    for kind in ABLATIONS:
        table = sweep(runs, ablations([label.split("+") for label in rows], kind), kind="ablation")
        assert list(table.labels) == list(rows)
        assert table.patched == pytest.approx(
            expected(naive, "clean", VALUE.get(kind, kind), rows), abs=TOLERANCE
        ), kind
        if kind == "zero":  # not vacuous: what is compared does move
            assert (abs(table.per_pair).max(1) > 20 * TOLERANCE).all()
    assert runs.clean == pytest.approx([naive.metric(i, "clean") for i in range(len(naive))], abs=TOLERANCE)
    assert runs.corrupted == pytest.approx(
        [naive.metric(i, "corrupted") for i in range(len(naive))], abs=TOLERANCE
    )
