"""Masks and reachability by hand and by perturbation; contrasts of runs."""

from __future__ import annotations

import pytest
import torch

from tests.integration.test_edits import IDS, run, seen
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.edits.contrast import contrast
from workbench.edits.file import load_edit, save_edit
from workbench.edits.masks import (
    Mask,
    at_distances,
    causal,
    neighborhood,
    powers_of_two,
    reach,
    reached,
    unlock,
    window,
)

EVERY = ("a0", "a1", "a2")


def test_counts_by_hand():
    powers = at_distances(256, [0, 1, 2, 4, 8, 16, 32, 64, 128])
    assert torch.equal(powers, powers_of_two(256) & causal(256))
    assert reached(powers, 8) == [9, 37, 93, 163, 219, 247, 255, 256]
    assert reached(window(256, 9), 8) == [9, 17, 25, 33, 41, 49, 57, 65]
    dilated = at_distances(256, range(0, 18, 2))
    assert reached(dilated, 8) == reached(window(256, 9), 8)
    assert not (reach([dilated] * 3)[-1] & (torch.arange(256) % 2 == 0)).any()  # only even distances from 255
    starts = [int(row.nonzero()[0]) for row in neighborhood(7, 3)]
    assert starts == [0, 0, 1, 2, 3, 4, 4] and (neighborhood(7, 3).sum(1) == 3).all()
    assert int(unlock(causal(12), (2, 6), (7, 10)).sum()) == 12 * 13 // 2 + 4 * 3
    assert window(9, 3, sinks=2)[8].nonzero().flatten().tolist() == [0, 1, 6, 7, 8]


@pytest.mark.parametrize("name", ("llama", "gpt2", "opt"))
def test_the_models_own_mask_changes_nothing(bridge_of, name):
    model = bridge_of(name)
    with Mask(heads=EVERY, allowed=causal(8)).on(model):
        assert torch.allclose(run(model), run(model), atol=0)
        masked = run(model)
    assert torch.allclose(masked, run(model), atol=1e-5)


@pytest.mark.parametrize("name", ("llama", "gpt2"))
def test_outputs_depend_on_what_can_be_reached_and_nothing_else(bridge_of, name):
    model = bridge_of(name)
    ids = torch.randint(6, 100, (1, 12), generator=torch.Generator().manual_seed(5))
    mask = window(12, 2)  # three layers reach 4 tokens
    other = ids.repeat(12, 1)
    other[torch.arange(12), torch.arange(12)] = (other.diagonal() - 5) % 90 + 6
    with Mask(heads=EVERY, allowed=mask).on(model):
        changed = (run(model, other) - run(model, ids)).abs().amax(-1) > 1e-5  # (key, query)
    assert torch.equal(changed.T, reach([mask] * 3))


@pytest.mark.parametrize("name", ("llama", "gpt2", "native"))
def test_unlocked_queries_see_ahead(bridge_of, name):
    """Queries 2-3 may see keys 5-6: what is planned to leak leaks, nothing else does."""
    model = bridge_of(name)
    layers = EVERY[: 2 if name == "native" else 3]
    edit = Mask(heads=layers, allowed=unlock(causal(8), (2, 4), (5, 7)))
    other = IDS[:1].repeat(2, 1)
    other[0, 6], other[1, 7] = 40, 41
    with edit.on(model):
        base = run(model, IDS[:1])
        moved = (run(model, other) - base).abs().amax(-1) > 1e-5
    assert moved[0].tolist() == [False, False, True, True, True, True, True, True]  # 4 and 5 see 2 and 3
    assert moved[1].tolist() == [False] * 7 + [True]  # the token after the question stays hidden


def test_opening_by_hand(bridge_of):
    model = bridge_of("gpt2")
    q, k, v = (seen(model, slot, 0) for slot in "qkv")
    with Mask(heads=("a0.h2",), allowed=torch.ones(8, 8, dtype=torch.bool)).on(model):
        z = seen(model, "head-output", 0)
    scores = torch.einsum("bqe,bke->bqk", q[:, :, 2], k[:, :, 2]) / 8**0.5
    assert torch.allclose(z[:, :, 2], scores.softmax(-1) @ v[:, :, 2], atol=1e-5)


def test_masks_that_cannot_work_are_refused(bridge_of, tmp_path):
    model = bridge_of("llama")
    with (
        pytest.raises(OptionError, match="the prompt has 8"),
        Mask(heads=("a0",), allowed=causal(5)).on(model),
    ):
        run(model)
    empty = causal(8)
    empty[3] = False
    with pytest.raises(OptionError, match="without any key"), Mask(heads=("a0",), allowed=empty).on(model):
        run(model)
    model = bridge_of("qwen3")
    opened = Mask(heads=("a0",), allowed=unlock(causal(8), (2, 4), (5, 7)))
    with pytest.raises(ModelError, match="cannot be opened"), opened.on(model):
        run(model)
    again = load_edit(save_edit(opened, tmp_path))
    assert torch.equal(again.allowed, opened.allowed) and again.heads == opened.heads


def test_a_run_has_no_contrast_with_itself(bridge_of):
    model = bridge_of("llama")
    same = contrast(model, IDS, IDS, sites=("head-output", "pattern"))
    for layer in range(3):
        assert not same.difference("head-output", layer).any() and not same.norm("pattern", layer).any()
    assert not same.effect("head-output", 1, lambda logits: logits[:, -1, 7]).any()
    with same.push(["a1.h0"], strength=5.0).on(model):
        pushed = run(model)
    assert torch.allclose(pushed, run(model), atol=1e-6)


def test_contrast_by_hand_and_where_positions_correspond(bridge_of):
    model = bridge_of("gpt2")
    longer = torch.cat([IDS[:, :2], IDS], 1)
    here, there = torch.arange(8), torch.arange(2, 10)
    found = contrast(model, IDS, longer, aligned=(here, there), sites=("head-output", "pattern"))
    by_hand = seen(model, "head-output", 2) - seen(model, "head-output", 2, longer)[:, 2:]
    assert torch.equal(found.difference("head-output", 2), by_hand)
    assert found.difference("pattern", 1).shape == (2, 4, 8, 8)
    assert torch.allclose(found.norm("head-output", 2), by_hand.pow(2).sum(-1).sqrt())
    with pytest.raises(ShapeError, match="line up"):
        contrast(model, IDS, longer)


def test_gradient_times_difference_is_exact_where_the_metric_is_linear(bridge_of):
    """The last layer's heads add to the residual stream: without a norm after it the first order is all there is."""
    model = bridge_of("native")  # attention only, no norm
    other = IDS.clone()
    other[:, 3] = 50
    found = contrast(model, IDS, other)
    metric = lambda logits: logits[:, -1, 9] - logits[:, -1, 8]  # noqa: E731
    effect = found.effect("head-output", 1, metric).sum((1, 2))
    z = seen(model, "head-output", 1, other)
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", lambda t, hook: z)]):
        swapped = metric(run(model))
    assert torch.allclose(effect, metric(run(model)) - swapped, atol=1e-4)
