"""Heads turned off and looks knocked out, against values by hand."""

from __future__ import annotations

import pytest
import torch

from tests.integration.test_edits import IDS, run, seen
from workbench.core.errors import OptionError
from workbench.edits.off import knock_out, turn_off


def test_the_three_modes(bridge_of):
    model = bridge_of("gpt2")
    z, v = seen(model, "head-output", 1), seen(model, "v", 1)
    other = torch.randint(6, 100, (3, 5), generator=torch.Generator().manual_seed(9))
    reference = [IDS, other]
    wanted = {
        "zero": torch.zeros_like(z[:, :, 2]),
        "uniform": v[:, :, 2].cumsum(1) / torch.arange(1, 9)[:, None],
        "mean": torch.cat([z.flatten(0, 1), seen(model, "head-output", 1, other).flatten(0, 1)])
        .mean(0)[2]
        .expand(2, 8, 8),
    }
    for mode, value in wanted.items():
        with turn_off(model, ["a1.h2"], mode=mode, reference=reference).on(model):
            new = seen(model, "head-output", 1)
        assert torch.allclose(new[:, :, 2], value, atol=1e-5), mode
        assert torch.equal(new[:, :, 3], z[:, :, 3])


def test_uniform_while_decoding_is_zero_scores_at_the_last_query(bridge_of):
    """The released code of retrieval heads: scores set to 0 after the mask, at decode steps only."""
    model = bridge_of("llama")

    def zeroed(scores, hook):
        scores = scores.clone()
        scores[:, 1, 5:] = torch.where(scores[:, 1, 5:] > -1e30, 0.0, scores[:, 1, 5:])
        return scores

    with model.hooks(fwd_hooks=[("blocks.2.attn.hook_attn_scores", zeroed)]):
        wanted = run(model)
    with turn_off(model, ["a2.h1"], mode="uniform", when="decode").on(model, decode_from=5):
        assert torch.allclose(run(model), wanted, atol=1e-5)


def test_knock_out_is_a_score_of_minus_infinity(bridge_of):
    model = bridge_of("llama")

    def blind(scores, hook):
        scores = scores.clone()
        scores[:, 3, 6, 2] = -torch.inf
        return scores

    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_attn_scores", blind)]):
        wanted = run(model)
    with knock_out(["a1.h3"], 6, 2).on(model):
        assert torch.allclose(run(model), wanted, atol=1e-5)


def test_mean_without_reference_and_unknown_modes_are_refused(bridge_of, unchecked):
    model = bridge_of("gpt2")
    with pytest.raises(OptionError, match="mean of what"):
        turn_off(model, ["a1.h2"], mode="mean")
    with pytest.raises(OptionError, match="no mode"):
        turn_off(model, ["a1.h2"], mode="off")
