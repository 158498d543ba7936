"""The floor of the attribution methods gives the numbers of the methods it is compared with."""

import numpy as np
import pytest

import workbench as wb
from benchmarks import models
from benchmarks.floor import attribution as floor
from workbench.methods.points import quadrature

_SIZES = {
    "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 32, "vocab_size": 101},
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 101,
    },
}


@pytest.fixture(scope="module", params=sorted(_SIZES))
def shape(request):
    return getattr(models, request.param)(5, 7, **_SIZES[request.param])


def test_the_floor_of_edges_gives_the_scores(shape):
    cases = [("eap", {}, [1.0]), ("eap-ig", {"steps": 3}, quadrature(3, "midpoint"))]
    for method, options, alphas in cases:
        ours = wb.score(shape.runs, method, **options).values
        found = floor.edge_scores(shape.plain, shape.clean, shape.corrupted, shape.answers, alphas).numpy()
        exists = shape.runs.wiring.graph().edge_mask
        assert found.shape == ours.shape
        size = np.abs(ours[exists]).max()
        # 1e-4 of the largest score: float32 through three layers, seen 3e-6
        assert np.abs(found - ours)[exists].max() < 1e-4 * size
        assert np.abs(ours[exists]).min() < 0.1 * size  # scores differ, so that a mix-up would show


def test_the_floor_counts_every_pass(shape):
    one, two = (floor.count(shape.plain, 5, 7, points) for points in (1, 2))
    per_point = two - one
    # a point is a forward and a backward pass, EAP two forward passes and a backward one
    extra = floor.count(shape.plain, 5, 7, 0)
    assert one - extra == pytest.approx(per_point * 0.5, rel=0.1)
