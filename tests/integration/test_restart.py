"""Plain blocks in place of the hooked model: used where they are the model, told, and never past an edit."""

from __future__ import annotations

import copy
import gc
import weakref
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
import transformers

from tests.families import _LLAMA, build_hf, save_tokenizer
from workbench.circuits.addresses import Node
from workbench.engine import passes, restart
from workbench.engine import sweep as engine
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.patching import patches, site_nodes
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep
from workbench.model import trial
from workbench.model.bare import Modules, is_bare
from workbench.model.blocks import Block
from workbench.model.open import open_model

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
    monkeypatch.setattr(Modules, "are_bare", lambda modules: False)
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


def opened(model, tmp_path):
    """A Hugging Face model as a user's own directory, opened."""
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    return open_model(tmp_path, device="cpu")


def of_prompts(bridge, runs_of, **options):
    pairs = runs_of("llama").pairs.pairs
    return PairedRuns(bridge, pairs, metric="logit-difference", batch_tokens=100, **options)


def test_a_model_that_clips_is_run_with_hooks(tmp_path, runs_of):
    """A limit that no prompt of the pairs reaches cannot be seen by comparing blocks; the settings tell."""
    size = {k: v for k, v in _LLAMA.items() if k != "num_hidden_layers"}
    config = transformers.OlmoConfig(**size, num_hidden_layers=2, clip_qkv=1e4)
    runs = of_prompts(opened(transformers.OlmoForCausalLM(config).eval(), tmp_path), runs_of)
    assert restart.plainly(runs, runs.batches[0]) == "values are limited by clip_qkv"


def test_blocks_that_cannot_be_computed_are_not_plain(tmp_path, runs_of):
    """StableLM with a norm for each head and grouped queries: hooks run where plain blocks would raise."""
    config = transformers.StableLmConfig(**{**_LLAMA, "num_hidden_layers": 2}, qk_layernorm=True)
    runs = of_prompts(opened(transformers.StableLmForCausalLM(config).eval(), tmp_path), runs_of)
    told = sweep(runs, heads(runs)[:2], kind="ablation").provenance["computed by"]
    assert told["because"] == ["the blocks are not plain attention and MLP"]


def test_every_prompt_of_a_run_is_compared(runs_of, monkeypatch):
    """Blocks that were like the model on the first prompts, and are not on the others, are not used."""
    runs = runs_of("llama")
    batch = runs.batches[0]
    blocks = restart.plainly(runs, batch, "clean")
    off = vars(blocks.layers[1]) | {"o": lambda x, o=blocks.layers[1].o: o(x) + 1e-3}
    monkeypatch.setattr(trial, "_FOUND", WeakKeyDictionary())
    blocks = restart.plainly(runs, batch, "clean")
    blocks.layers = (blocks.layers[0], Block(**off), *blocks.layers[2:])
    assert restart.plainly(runs, batch, "corrupted") == "the blocks are not plain attention and MLP"


def test_a_model_that_was_asked_is_freed(tmp_path):
    bridge = opened(build_hf("gpt2"), tmp_path)
    assert is_bare(bridge) and trial.blocks_of(bridge, torch.arange(8)[None]).ends_plainly
    held = weakref.ref(bridge)
    del bridge
    gc.collect()
    assert held() is None


def test_memory_that_runs_out_never_allows_more(runs_of, monkeypatch):
    """Plain blocks give way to hooks, and a stack is never larger than before."""
    runs = runs_of("llama")
    most = runs.copies(runs.batches[0])
    assert runs.halve(runs.batches[0], 100 * most) == most == runs.copies(runs.batches[0])
    runs, rows = runs_of("llama"), heads(runs)
    want = sweep(runs_of("llama"), rows, kind="ablation").patched

    def full(*args):
        raise MemoryError

    monkeypatch.setattr(engine, "restarted", full)
    found = sweep(runs, rows, kind="ablation")
    assert found.provenance["computed by"]["plain blocks"] == 0
    assert found.patched == pytest.approx(want, abs=1.5e-5)


def test_local_edits_beside_others_are_plain_as_told(runs_of, monkeypatch):
    """One layer's heads and a pattern in one sweep: as many rows go by plain blocks as the table says."""
    runs, counted = runs_of("gpt2"), []
    rows = [*heads(runs)[:2], *ablations([[Node(kind="head", layer=0, index=1, slot="pattern")]], "zero")]

    def count(runs, batch, blocks, chunk, *rest):
        counted.append(len(chunk) * len(batch))
        return restart.restarted(runs, batch, blocks, chunk, *rest)

    monkeypatch.setattr(engine, "restarted", count)
    told = sweep(runs, rows, kind="ablation").provenance["computed by"]
    assert sum(counted) == told["plain blocks"] == 2 * runs.n_pairs


def test_what_was_kept_is_not_used_under_a_hook_of_torch(runs_of):
    runs, fresh = runs_of("gpt2"), runs_of("gpt2")
    for batch in fresh.batches:
        fresh.resid(batch, "clean", 0)
    point = runs.model.blocks[2].hook_mlp_out
    handle = point.register_forward_hook(lambda module, args, out: out * 0)
    try:
        assert not is_bare(runs.model)
        under = fresh.clean
        assert under == pytest.approx(runs.clean, abs=1e-6)
    finally:
        handle.remove()
    assert is_bare(runs.model) and np.abs(under - runs_of("gpt2").clean).max() > 1e-3
    assert np.array_equal(fresh.clean, runs_of("gpt2").clean), "nor are they kept when the hook is gone"


def test_what_is_attached_while_a_sweep_runs_is_seen_by_its_next_part(runs_of):
    """Between parts nothing runs that is not ours but ``progress``: after it everything is asked again."""
    runs, fresh = runs_of("gpt2"), runs_of("gpt2")
    rows, handles = heads(runs), []
    before = sweep(runs, rows, kind="ablation").patched
    point = runs.model.blocks[2].hook_mlp_out

    def attach(done: int, total: int, what: str) -> None:
        if done == 1:
            handles.append(point.register_forward_hook(lambda module, args, out: out * 0))

    try:
        after = sweep(fresh, rows, kind="ablation", progress=attach).patched
    finally:
        for handle in handles:
            handle.remove()
    layer = np.array([row.first_layer for row in rows])
    batch = fresh.batches[0].index
    assert np.array_equal(after[layer == 0][:, batch], before[layer == 0][:, batch])
    assert np.abs(after - before)[layer == 1].max(1).min() > 1e-4


def test_a_replaced_layer_is_seen(tmp_path, runs_of):
    runs = of_prompts(opened(build_hf("gpt2"), tmp_path), runs_of)
    old = restart.plainly(runs, runs.batches[0])
    norm = runs.model.blocks[1].ln1
    norm._modules["original_component"] = copy.deepcopy(norm.original_component)
    assert restart.plainly(runs, runs.batches[0]) is not old


def test_columns_only_where_they_are_the_logits(runs_of, monkeypatch):
    """Where logits of some tokens cannot be had alone, all are computed, and the metric is the same."""
    runs = runs_of("llama")
    batch = runs.batches[0]
    blocks, widths = runs.blocks(batch), []
    read = passes.read_out
    monkeypatch.setattr(passes, "read_out", lambda *a: (widths.append(a[-1]), read(*a))[1])
    few = runs.values(batch, batch.clean)
    monkeypatch.setattr(blocks, "by_column", False)
    every = runs.values(batch, batch.clean)
    assert len(widths[0]) < runs.model.cfg.d_vocab and widths[1] is None
    assert few == pytest.approx(every, abs=1e-5)
