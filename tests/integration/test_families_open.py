"""Every family opens, follows its weights, and is described as what it is."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from tests.families import FAMILIES, family_dir
from workbench.core.errors import ModelError
from workbench.model.architecture import KINDS, describe
from workbench.model.from_files import reading_of
from workbench.model.identity import identity
from workbench.model.reading import reading_of_model

# family: (model_type, layers, KV heads of 4, d_mlp, norm, placement, parallel)
EXPECTED = {
    "gpt2": ("gpt2", 3, 4, 128, "LN", "pre", False),
    "gpt-neox": ("gpt_neox", 3, 4, 48, "LN", "pre", True),
    "llama": ("llama", 3, 2, 48, "RMS", "pre", False),
    "mistral": ("mistral", 3, 2, 48, "RMS", "pre", False),
    "qwen2": ("qwen2", 3, 2, 48, "RMS", "pre", False),
    "qwen3": ("qwen3", 3, 2, 48, "RMS", "pre", False),
    "gemma2": ("gemma2", 3, 2, 48, "RMS", "pre+post", False),
    "phi3": ("phi3", 3, 2, 48, "RMS", "pre", False),
    "olmo2": ("olmo2", 3, 2, 48, "RMS", "post", False),
    "opt": ("opt", 3, 4, 48, "LN", "pre", False),
    "mixtral": ("mixtral", 3, 2, 48, "RMS", "pre", False),
    "qwen2-moe": ("qwen2_moe", 2, 2, 24, "RMS", "pre", False),
    "bert": ("bert", 3, 4, 48, "LN", "after-sum", False),
    "native": ("native", 2, 4, None, None, "none", False),
    "native-ln": ("native", 2, 4, 48, "LN", "pre", False),
}

NO_BOS = {"gpt-neox", "qwen2", "qwen3", "qwen2-moe"}  # trained without, so TransformerLens prepends none


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, bridge_of):
    return request.param, bridge_of(request.param)


def test_every_family_is_expected():
    assert set(EXPECTED) == set(FAMILIES)


def test_parity(family):
    assert identity(family[1]).parity <= 1e-4


def test_description(family):
    name, bridge = family
    found = describe(bridge)
    described = (
        *(found.family, found.n_layers, found.n_kv_heads, found.d_mlp),
        *(found.norm, found.norm_placement, found.parallel),
    )
    assert described == EXPECTED[name]
    assert (found.n_heads, found.d_model, found.d_head, found.d_vocab, found.n_ctx) == (4, 32, 8, 160, 64)
    assert found.attn_only == (name == "native") and found.causal == (name != "bert")
    assert found.has_lm_head == (name != "bert")
    assert found.n_experts == (4 if name in ("mixtral", "qwen2-moe") else None)


def test_support_answers_for_everything_in_words(family):
    name, bridge = family
    support = describe(bridge).support
    assert tuple(support) == KINDS
    assert all(found.works or found.why for found in support.values())
    refused = {kind for kind, found in support.items() if not found.works}
    expected = {
        "bert": {"edge-level", "language-model-metrics"},
        "native": {"mlp-out", "neurons"},
        "mixtral": {"neurons"},
        "qwen2-moe": {"neurons"},
    }
    assert refused == expected.get(name, set())


def test_support_is_true_of_the_model(family):
    """What is said to work changes the output; what is said to be recomputed is dead where it stands."""
    name, bridge = family
    support = describe(bridge).support
    hooks = {
        "attn-out": "hook_attn_out",
        "mlp-out": "hook_mlp_out",
        "head-output": "attn.hook_z",
        "pattern": "attn.hook_pattern",
    }
    ids = torch.tensor([[0, 6, 7, 8, 9, 10]])
    for kind, hook in hooks.items():
        point = f"blocks.1.{hook}"
        if kind == "mlp-out" and name == "native":
            assert point not in bridge.hook_dict
            continue
        with pytest.warns() if kind == "pattern" and "discards" in support[kind].why else nullcontext():
            edited = bridge.run_with_hooks(ids, fwd_hooks=[(point, lambda t, hook: t.flip(-1))])
        changed = not torch.equal(edited, bridge(ids))
        assert changed == (support[kind].works and "discards" not in support[kind].why)


def test_require_passes_or_says_why(family):
    found = describe(family[1])
    for kind, support in found.support.items():
        if support.works:
            found.require(kind)
        else:
            with pytest.raises(ModelError, match=f"{kind} does not work on this {found.family} model"):
                found.require(kind)
    with pytest.raises(ModelError, match="did you mean pattern"):
        found.require("patern")


def test_notes_on_special_wiring(bridge_of):
    gemma, olmo, opt = (describe(bridge_of(name)).support for name in ("gemma2", "olmo2", "opt"))
    assert "a whole attention layer is one source" in gemma["edge-level"].why
    assert "one reader per KV group" in gemma["edge-level"].why
    assert "normed over all heads together" in olmo["edge-level"].why
    assert "normed over all heads" not in gemma["edge-level"].why
    assert "written to the head output" in opt["knock-out"].why


def test_description_is_json_and_shows_itself(family):
    found = describe(family[1])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["n_layers"] == found.n_layers
    assert repr(found).startswith(f"Architecture({found.family}: {found.n_layers} layers, 4 heads")
    page = found._repr_html_()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "") and "<script" not in page
    assert len(page) < 20_000


def test_describing_leaves_the_model_as_it_was(family):
    _, bridge = family
    ids = torch.tensor([[0, 6, 7, 8]])
    before, hooks = bridge(ids), len(bridge.list_hooks())  # TransformerLens keeps some of its own on OPT
    describe(bridge)
    assert torch.equal(bridge(ids), before)
    assert len(bridge.list_hooks()) == hooks and not any(p.requires_grad for p in bridge.parameters())


def test_reading_without_weights_agrees_with_the_opened_model(family):
    """Pairs are checked against tokenizer and configuration alone: all that decides them must be the same there."""
    name, bridge = family
    reading = reading_of(str(family_dir(name)))
    assert reading.prepend_bos == describe(bridge).prepend_bos == (name not in NO_BOS)
    assert reading.special_tokens == (name == "bert") and reading.d_vocab == 160
    of_model = reading_of_model(bridge).options
    outputs = of_model.pop("outputs")
    assert of_model == {k: v for k, v in reading.options.items() if k != "outputs"}
    assert reading.outputs == outputs or name == "bert"  # whose hidden state has no outputs


def test_picture_escapes_text(bridge_of):
    found = describe(bridge_of("native"))
    page = replace(found, family="<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_picture_of_a_large_model_stays_small(bridge_of):
    found = describe(bridge_of("llama"))
    every = tuple(range(126))
    large = replace(
        found, n_layers=126, n_heads=128, n_kv_heads=8, attention_layers=every, mlp_layers=every
    )._repr_html_()
    assert "78 more layers" in large and len(large) < 400_000
