"""Masks by content on opened models: the softmax over the chosen keys, by hand; random keys in their place."""

from __future__ import annotations

import pytest
import torch

from tests.integration.test_edits import seen
from workbench.core.errors import OptionError
from workbench.edits.file import load_edit, save_edit
from workbench.edits.kinds import ContentMask, Mask
from workbench.edits.leaks import depends
from workbench.masks.sequences import causal, window
from workbench.model.prompt import Prompt


@pytest.mark.parametrize("name", ("gpt2", "llama"))
def test_the_chosen_keys_by_hand(bridge_of, name):
    model = bridge_of(name)
    own, k = (seen(model, slot, 1) for slot in ("pattern", "k"))
    q = seen(model, "q", 1)
    k = k.repeat_interleave(q.shape[2] // k.shape[2], dim=2)
    score = (q * k).sum(-1)[:, :, 2]  # head 2: each token's key with its own query
    with ContentMask(heads=("a1.h2",), mask="dynamic:3").on(model):
        found = seen(model, "pattern", 1)
    for query in range(8):
        chosen = sorted(range(query + 1), key=lambda s: -float(score[0, s]))[:3]
        row = torch.zeros(8)
        row[chosen] = own[0, 2, query, chosen]
        assert torch.allclose(found[0, 2, query], row / row.sum(), atol=1e-5)
    assert torch.equal(found[:, :2], own[:, :2])


def test_nothing_ahead_is_felt(bridge_of):
    model, ids = bridge_of("llama"), torch.randint(6, 90, (2, 9), generator=torch.Generator().manual_seed(1))
    for mask in ("routed:block=2,keep=2", "dynamic:2"):
        felt = depends(model, Prompt.of(ids), ContentMask(heads=("a0", "a1", "a2"), mask=mask))
        assert not (felt & ~causal(9)).any()


def test_random_keys_are_as_many_and_drawn_by_the_seed(bridge_of):
    model = bridge_of("llama")
    patterns = []
    for drawn in (None, 0, 1):
        with ContentMask(heads=("a0",), mask="dynamic:3", random=drawn).on(model):
            patterns.append(seen(model, "pattern", 0))
    counts = [(pattern > 0).sum(-1) for pattern in patterns]
    assert torch.equal(counts[0], counts[1]) and torch.equal(counts[1], counts[2])
    assert not torch.equal(patterns[1] > 0, patterns[2] > 0)


def test_keys_of_too_little_weight_get_their_softmax_from_the_scores(bridge_of):
    model = bridge_of("gpt2")
    hook = ("blocks.0.attn.hook_k", lambda k, hook: k * 3000.0)
    with model.hooks(fwd_hooks=[hook]):
        scores = seen(model, "scores", 0)
        with Mask(heads=("a0",), allowed=window(8, 2)).on(model):
            found = seen(model, "pattern", 0)
    assert torch.allclose(found, scores.masked_fill(~window(8, 2), -torch.inf).softmax(-1), atol=1e-5)


def test_it_is_saved_and_read_back(tmp_path):
    edit = ContentMask(heads=("a0",), mask="routed:block=4,keep=2", random=3)
    assert load_edit(save_edit(edit, tmp_path)) == edit
    with pytest.raises(OptionError, match="does not depend on content"):
        ContentMask(heads=("a0",), mask="window:4")
    with pytest.raises(OptionError, match="did you mean"):
        ContentMask(heads=("a0",), mask="dynamc:4")
