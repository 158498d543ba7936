"""Plain blocks are used where they are the model, and nothing that somebody did to the model is passed by."""

from __future__ import annotations

import json
from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch
import transformers
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from tests.families import _LLAMA, VOCABULARY, build_hf, save_tokenizer
from workbench.engine.gradients import taped_run
from workbench.engine.interventions.ablation import ablations
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep
from workbench.model import trial
from workbench.model.bare import Modules
from workbench.model.blocks import Block
from workbench.model.hooks import hook_name
from workbench.model.native import save_native
from workbench.model.open import open_model


def test_one_huge_token_hides_no_difference(tmp_path, runs_of):
    """A window shorter than the prompts, and a first token a thousand times larger than all others."""
    torch.manual_seed(0)
    config = transformers.MistralConfig(**{**_LLAMA, "initializer_range": 0.02}, sliding_window=6, head_dim=8)
    model = transformers.MistralForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight[0, 5] = 1e3
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    runs = PairedRuns(
        open_model(tmp_path, device="cpu"), runs_of("llama").pairs.pairs, metric="logit-difference"
    )
    assert any((batch.clean == 0).any() for batch in runs.batches)  # the huge token is there
    assert {runs.blocks(batch) for batch in runs.batches} == {trial.NOT_PLAIN}


def changes():
    def scaling(bridge):
        for layer in bridge.original_model.model.layers:
            layer.self_attn.scaling *= 0.3

    def eps(bridge):
        for layer in bridge.original_model.model.layers:
            layer.input_layernorm.variance_epsilon = 1.0

    def half(bridge):
        bridge.to(torch.bfloat16)

    def scaled_outside(bridge):
        bridge.original_model.model.register_forward_hook(
            lambda module, args, out: type(out)(**{**out, "last_hidden_state": out.last_hidden_state * 1.5})
        )

    def back(bridge):
        bridge.blocks[1].mlp.register_full_backward_hook(lambda module, into, out: (into[0] * 0, *into[1:]))

    return [scaling, eps, half, scaled_outside, back]


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.__name__)
def test_what_is_changed_after_a_first_run_is_seen(change, tmp_path, runs_of):
    build_hf("llama").save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    bridge = open_model(tmp_path, device="cpu")
    pairs = runs_of("llama").pairs.pairs

    def fresh():
        return PairedRuns(bridge, pairs, metric="logit-difference")

    before = fresh()
    assert before.is_walked(before.batches[0])
    change(bridge)
    for runs in (before, fresh()):
        batch, taps = runs.batches[0], [hook_name("q", 0), hook_name("resid", 1)]
        own = runs.values(batch, batch.clean, by_model=True)
        assert runs.values(batch, batch.clean) == pytest.approx(
            own, abs=1e-5 if own.dtype == torch.float32 else 0
        )
        if change.__name__ == "back":
            assert not runs.is_walked(batch) and taped_run(runs, batch, taps).gradients()


def test_in_training_mode_the_model_itself_is_run(tmp_path, runs_of):
    runs = runs_of("gpt2")
    batch = runs.batches[0]
    assert runs.is_walked(batch)
    runs.model.train()
    try:
        assert runs.blocks(batch) == "the model is in training mode"
    finally:
        runs.model.eval()
    assert runs.is_walked(batch)


def test_blocks_that_fail_on_later_prompts_are_not_used_again(runs_of, monkeypatch):
    """The table has the hooked model's numbers, and says so."""
    monkeypatch.setattr(trial, "_FOUND", WeakKeyDictionary())
    runs = runs_of("llama")
    rows = ablations([(f"a{n}.h0",) for n in range(2)], "zero")
    for batch in runs.batches:
        blocks = runs.blocks(batch)
        off = vars(blocks.layers[1]) | {"o": lambda x, o=blocks.layers[1].o: o(x) + 0.1}
        blocks.layers = (blocks.layers[0], Block(**off), *blocks.layers[2:])
    found = sweep(runs, rows, kind="ablation")
    assert found.provenance["computed by"]["plain blocks"] == 0
    monkeypatch.setattr(Modules, "are_bare", lambda modules: False)
    assert found.patched == pytest.approx(sweep(runs_of("llama"), rows, kind="ablation").patched, abs=1e-6)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_bits_do_not_depend_on_what_was_asked_before(family, runs_of):
    """Patterns are recorded by the model; what is recorded beside them is not."""
    first, second = runs_of(family), runs_of(family)
    names = [hook_name("pattern", 0), *(hook_name("resid", n) for n in range(2))]
    for batch in second.batches:
        second.activations(batch, "clean", names)
    assert np.array_equal(first.clean, second.clean)
    for one, two in zip(first.batches, second.batches, strict=True):
        seen = [r.activations(b, "clean", names) for r, b in ((first, one), (second, two))]
        assert all(torch.equal(seen[0][n], seen[1][n]) for n in names)


def test_logits_may_be_more_than_tokens(tmp_path, runs_of):
    config = {
        "n_layers": 2,
        "d_model": 32,
        "n_heads": 4,
        "d_head": 8,
        "n_ctx": 32,
        "d_vocab": 160,
        "d_vocab_out": 170,
    }
    bridge = TransformerBridge.boot_native(TransformerBridgeConfig(**config, act_fn="relu"))
    save_native(bridge.eval(), tmp_path)
    save_tokenizer(tmp_path)
    names = [*(f" {word}" for word in VOCABULARY), *(f"more {i}" for i in range(10))]
    fields = json.loads((tmp_path / "tl_native.json").read_text())
    fields["id2label"] = {str(i): name for i, name in enumerate(names)}
    (tmp_path / "tl_native.json").write_text(json.dumps(fields))
    runs = PairedRuns(open_model(tmp_path, device="cpu"), runs_of("gpt2").pairs.pairs, metric="nll")
    assert runs.is_walked(runs.batches[0]) and np.isfinite(runs.clean).all()
