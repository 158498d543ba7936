"""Plain blocks in place of the hooked model: used where they are the model, told, and never past an edit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.interventions.ablation import ablations, parts_of
from workbench.interventions.patching import patches, site_nodes
from workbench.model.blocks import is_bare
from workbench.sweep import restart
from workbench.sweep.run import sweep

HEADS = {"plain": ("gpt2", "llama", "native-ln"), "hooked": ("gemma2", "bert")}


def heads(runs, value: str = "mean"):
    return ablations(parts_of(runs.wiring, "heads"), value)


@pytest.mark.parametrize("family", HEADS["plain"])
def test_every_kind_of_local_edit_equals_the_hooked_model(family, runs_of, monkeypatch):
    """Heads, attention, MLPs, both, and what enters a layer, everywhere and at positions that differ by pair."""
    runs = runs_of(family)
    sites = ("head-output", "attn-out", "mlp-out", "resid")
    rows = [r for site in sites for r in patches(site_nodes(runs.wiring, site), mode="noising")]
    rows += [r for site in sites for r in patches(site_nodes(runs.wiring, site), positions=["S", 1, "end"])]
    rows += ablations(parts_of(runs.wiring, "layers"), "mean-per-position")
    fast = sweep(runs, rows, kind="patching")
    assert fast.provenance["computed by"]["hooked model"] == 0
    monkeypatch.setattr(restart, "is_bare", lambda bridge: False)
    slow = sweep(runs_of(family), rows, kind="patching")
    assert slow.provenance["computed by"]["plain blocks"] == 0
    assert fast.patched == pytest.approx(slow.patched, abs=1.5e-5)
    assert np.abs(slow.per_pair).max() > 1e-2


@pytest.mark.parametrize("family", HEADS["hooked"])
def test_other_models_are_run_with_hooks_and_the_table_says_so(family, runs_of):
    runs = runs_of(family)
    told = sweep(runs, heads(runs)[:2], kind="ablation").provenance["computed by"]
    assert (
        told["plain blocks"] == 0 and told["hooked model"] == 2 * runs.n_pairs and len(told["because"]) == 1
    )


def test_an_edit_that_is_on_is_not_passed_by(runs_of):
    """A hook of the user's changes every number; plain blocks would not see it."""
    runs = runs_of("gpt2")
    rows = heads(runs)[:4]
    plain = sweep(runs, rows, kind="ablation").patched
    name = "blocks.2.hook_mlp_out"
    fresh = runs_of("gpt2")
    with runs.model.hooks(fwd_hooks=[(name, lambda t, hook: t * 0)]):
        assert not is_bare(runs.model)
        edited = sweep(fresh, rows, kind="ablation")
    assert edited.provenance["computed by"]["because"] == ["something is attached to the model"]
    assert np.abs(edited.patched - plain).max() > 1e-3
    assert is_bare(runs.model)
    again = sweep(fresh, rows, kind="ablation")
    assert again.provenance["computed by"]["hooked model"] == 0
    assert again.patched == pytest.approx(plain, abs=1e-6)


def test_a_window_shorter_than_the_prompts_is_noticed(runs_of):
    """Mistral with a window of 6, prompts longer than that: its blocks look plain and are not."""
    runs = runs_of("mistral")
    assert min(batch.n_tokens for batch in runs.batches) > 6
    assert {restart.plainly(runs, b) for b in runs.batches} == {"the blocks are not plain attention and MLP"}


def test_blocks_from_a_position_on_are_the_end_of_the_whole(runs_of):
    """With the keys and values before it, a layer at the last positions is the layer at all positions, cut."""
    runs = runs_of("llama")
    batch = runs.batches[0]
    blocks = restart.plainly(runs, batch)
    x = torch.randn(2, batch.n_tokens, runs.wiring.d_model, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = blocks.run(1, x)
        k, v = blocks.keys_values(1, x)
        cut = blocks.run(1, x[:, 3:], start=3, before=(k[:, :3], v[:, :3]))
        last = blocks.run(1, x, last=True)
    assert cut == pytest.approx(whole[:, 3:], abs=1e-5)
    assert last == pytest.approx(whole[:, -1:], abs=1e-5)
