"""Models that cannot be opened: each refused before long work, in words, with something to try."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.families import build_family, build_hf, family_dir, save_tokenizer
from workbench.core.errors import ModelError, OptionError
from workbench.model import memory
from workbench.model.digest import read_headers
from workbench.model.identity import identity
from workbench.model.open import open_model
from workbench.model.settings import parse_size


@pytest.fixture
def llama(tmp_path):
    return build_family("llama", tmp_path / "llama")


@pytest.fixture
def native(tmp_path):
    return build_family("native-ln", tmp_path / "native")


def _change(directory, change) -> None:
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def _settings(directory, **changes) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_missing_tensor_is_refused_although_transformers_would_make_one_up(llama):
    _change(llama, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(
        ModelError, match=r"lacks 1 tensors .*: model\.layers\.1\.mlp\.up_proj\.weight"
    ) as caught:
        open_model(llama, device="cpu")
    assert "incomplete" in caught.value.hint


def test_tensor_of_the_wrong_shape(llama):
    def change(weights):
        weights["model.layers.0.self_attn.q_proj.weight"] = torch.ones(32, 16)

    _change(llama, change)
    with pytest.raises(ModelError, match=r"q_proj|shape|mismatch"):
        open_model(llama, device="cpu")


def test_configuration_of_another_size(llama):
    _settings(llama, num_hidden_layers=4)
    with pytest.raises(ModelError, match=r"lacks 9 tensors"):
        open_model(llama, device="cpu")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_truncated_weights(llama, keep):
    path = llama / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < abs(keep) < 1 else keep])
    with pytest.raises(ModelError, match=r"model\.safetensors") as caught:
        open_model(llama, device="cpu")
    assert "cut short or damaged" in caught.value.hint


def test_every_cut_of_a_header_is_explained(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3), "b": torch.ones(2, 2)}, path)
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelError):
            read_headers([path])


@pytest.mark.parametrize(
    "header", [b"[]", b"{", b'{"a": 3}', b'{"a": {"dtype": "F32", "shape": [1]}}', b"[" * 100_000]
)
def test_nonsense_in_a_header(tmp_path, header):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match="header"):
        read_headers([path])


def test_header_that_claims_to_be_huge(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        read_headers([path])


def test_configuration_without_weights(llama):
    (llama / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot be loaded.*no file named"):
        open_model(llama, device="cpu")


def test_missing_shard_and_shard_outside(tmp_path):
    build_hf("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    name = sorted(set(content["weight_map"].values()))[1]
    (tmp_path / name).rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=f"lacks {name}, which its index names"):
        open_model(tmp_path, device="cpu")
    content["weight_map"]["model.norm.weight"] = "../../secret.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="which is not a file of this directory"):
        open_model(tmp_path, device="cpu")
    index.write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        open_model(tmp_path, device="cpu")


def test_directory_without_configuration(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json") as caught:
        open_model(tmp_path, device="cpu")
    assert "model.safetensors" in caught.value.hint


def test_configuration_that_is_no_json(llama):
    (llama / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        open_model(llama, device="cpu")


def test_unknown_model_type(llama):
    _settings(llama, model_type="llamma", architectures=["Llamma"])
    with pytest.raises(ModelError, match=r"config\.json cannot be used"):
        open_model(llama, device="cpu")


def test_architecture_transformer_lens_does_not_have(tmp_path):
    size = {"dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "vocab_size": 160}
    transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig(**size)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ModelError, match=r"distilbert model .* which TransformerLens does not support"):
        open_model(tmp_path, device="cpu")


def test_encoder_decoder_with_attention_of_its_own_is_refused(tmp_path):
    size = {
        "d_model": 32,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "vocab_size": 160,
        "attention_window": 4,
    }
    layers = {
        f"{part}_{what}": n
        for part in ("encoder", "decoder")
        for what, n in (("layers", 1), ("attention_heads", 4))
    }
    transformers.LEDForConditionalGeneration(transformers.LEDConfig(**size, **layers)).save_pretrained(
        tmp_path
    )
    save_tokenizer(tmp_path)
    with pytest.raises(ModelError, match="is an encoder-decoder model"):
        open_model(tmp_path, device="cpu")


def test_model_of_sounds_is_refused(tmp_path):
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    transformers.ASTModel(transformers.ASTConfig(**size, max_length=32)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="takes no token ids"):
        open_model(tmp_path, device="cpu")


def test_code_that_comes_with_a_model_is_not_run(llama, tmp_path):
    trap = tmp_path / "owned"
    (llama / "trap.py").write_text(f"open({str(trap)!r}, 'w').close()\nclass Trap: pass\n")
    _settings(
        llama, model_type="trap", auto_map={"AutoConfig": "trap.Trap", "AutoModelForCausalLM": "trap.Trap"}
    )
    with pytest.raises(ModelError, match="wants to run its own Python code") as caught:
        open_model(llama, device="cpu")
    assert "trust_remote_code=True" in caught.value.hint and not trap.exists()


def test_tokenizer_code_is_not_run_either(llama, tmp_path):
    trap = tmp_path / "owned"
    (llama / "trap.py").write_text(f"open({str(trap)!r}, 'w').close()\nclass Trap: pass\n")
    path = llama / "tokenizer_config.json"
    settings = {**json.loads(path.read_text()), "tokenizer_class": "Trap"}
    path.write_text(json.dumps({**settings, "auto_map": {"AutoTokenizer": ["trap.Trap", "trap.Trap"]}}))
    try:
        bridge = open_model(llama, device="cpu")
        assert bridge.tokenizer("w6", add_special_tokens=False).input_ids == [6]
    except ModelError:
        pass
    assert not trap.exists()


def test_damaged_tokenizer(llama):
    (llama / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read, it is not JSON"):
        open_model(llama, device="cpu")


def test_tokenizer_of_another_model(llama):
    path = llama / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {f"more{i}": 160 + i for i in range(40)}
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"the tokenizer of .* has 200 tokens, the model 160"):
        open_model(llama, device="cpu")


def test_path_that_does_not_exist_suggests_a_neighbour(llama):
    with pytest.raises(ModelError, match="there is no directory") as caught:
        open_model(str(llama.parent / "lama"))
    assert caught.value.hint == f"did you mean {llama}?"


def test_file_instead_of_a_directory(llama):
    with pytest.raises(ModelError, match="is a file; a model is a directory") as caught:
        open_model(llama / "model.safetensors")
    assert "workbench model import" in caught.value.hint


def test_unknown_built_in_model_suggests_one(tmp_path, monkeypatch):
    from workbench.model import builtin as zoo

    (tmp_path / "induction").mkdir()
    (tmp_path / "induction" / "card.json").write_text("{}")
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    with pytest.raises(ModelError, match="no model called 'zoo:inducton'") as caught:
        open_model("zoo:inducton")
    assert "did you mean zoo:induction" in caught.value.hint
    with pytest.raises(ModelError) as caught:
        open_model("inducton", offline=True)
    assert "did you mean zoo:induction" in caught.value.hint
    with pytest.raises(ModelError, match=r"no model called 'zoo:\.\./induction'"):
        open_model("zoo:../induction")


def test_hub_model_that_is_not_here_while_offline(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match="nor in the local Hub cache, and the workbench is offline"
    ) as caught:
        open_model("someone/some-model-that-is-nowhere", offline=True)
    assert "hf download someone/some-model-that-is-nowhere" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        ("GatedRepoError", "is gated", "hf auth login"),
        ("RepositoryNotFoundError", "there is no model someone/thing", "check the spelling"),
        ("RevisionNotFoundError", "has no revision 'v9'", ""),
        ("ConnectionError", "the Hub cannot be reached", "check the network"),
    ],
)
def test_what_the_hub_answers_is_explained(monkeypatch, error, message, hint):
    import huggingface_hub.errors
    import requests

    from workbench.model import hub

    kind = getattr(huggingface_hub.errors, error, None) or getattr(requests, error)

    def answer(*args, **kwargs):
        raise kind.__new__(kind)

    monkeypatch.setattr(hub, "snapshot_download", answer)
    with pytest.raises(ModelError, match=message) as caught:
        open_model("someone/thing", offline=False, revision="v9")
    assert hint in caught.value.hint


def test_revision_of_a_local_directory_is_refused(llama):
    with pytest.raises(OptionError, match="it has no revision 'main'"):
        open_model(llama, revision="main")


def test_model_larger_than_memory_is_refused_before_it_is_loaded(llama, monkeypatch):
    def load(*args, **kwargs):
        raise AssertionError("weights were loaded")

    from workbench.model import huggingface

    monkeypatch.setattr(huggingface, "load_checked", load)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    with pytest.raises(
        ModelError, match=r"needs about \d+ bytes on cpu in float32; 1000 bytes are free"
    ) as caught:
        open_model(llama, device="cpu")
    assert "--dtype bfloat16 halves it" in caught.value.hint and "--max-memory" in caught.value.hint
    with pytest.raises(ModelError, match="2000 bytes are allowed by max_memory"):
        open_model(llama, device="cpu", max_memory="2KB")


def test_memory_needed_by_hand(llama):
    tensors = read_headers([llama / "model.safetensors"])
    numbers = sum(parameter.numel() for parameter in build_hf("llama").parameters())
    assert memory.needed_bytes(tensors, torch.float32) == int(numbers * 4 * 1.15)
    assert memory.needed_bytes(tensors, torch.bfloat16) == int(numbers * 2 * 1.15)


def test_max_memory_overrides_the_check(llama, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    assert open_model(llama, device="cpu", max_memory="1GB").cfg.n_layers == 3


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GB", 8 * 10**9), ("1.5 GiB", 3 * 2**29), ("512mb", 512 * 10**6), (7, 7), ("2KiB", 2048)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["lots", "8 bananas", "", "-3GB"])
def test_sizes_that_are_none(text):
    with pytest.raises(OptionError, match="a size is expected"):
        parse_size(text)


BROKEN_NATIVE = {
    "no json": ("{", "cannot be read"),
    "a list": ("[]", "holds a list"),
    "lacks fields": ('{"d_model": 32}', "lacks d_head, d_vocab"),
    "strange": (None, "does not know: sparkle"),
    "dtype": (None, "names the dtype 'float31'"),
    "act_fn": (None, "cannot be built"),
    "size": (None, r"has shape \(32, 32\)|lacks"),
}
NATIVE_CHANGES = {
    "strange": {"sparkle": 1},
    "dtype": {"dtype": "float31"},
    "act_fn": {"act_fn": "sparkle"},
    "size": {"d_head": 16},
}


@pytest.mark.parametrize("case", BROKEN_NATIVE)
def test_broken_native_configurations(native, case):
    text, message = BROKEN_NATIVE[case]
    path = native / "tl_native.json"
    path.write_text(text or json.dumps({**json.loads(path.read_text()), **NATIVE_CHANGES[case]}))
    with pytest.raises(ModelError, match=message):
        open_model(native, device="cpu")


def test_broken_native_weights(native):
    good = load_file(native / "model.safetensors")
    path = native / "model.safetensors"
    save_file({k: v for k, v in good.items() if k != "blocks.1.attn.q.bias"}, path)
    with pytest.raises(ModelError, match=r"lacks 1 of \d+ tensors, first blocks\.1\.attn\.q\.bias"):
        open_model(native, device="cpu")
    save_file({**good, "blocks.7.attn.q.bias": torch.ones(3)}, path)
    with pytest.raises(ModelError, match=r"has 1 tensors with no place in this model, first blocks\.7"):
        open_model(native, device="cpu")
    path.unlink()
    with pytest.raises(ModelError, match=r"cannot be loaded"):
        open_model(native, device="cpu")


def test_nan_in_the_weights_is_not_called_parity(llama):
    def change(weights):
        weights["model.norm.weight"][0] = torch.nan

    _change(llama, change)
    with pytest.raises(ModelError, match=r"differs from the plain forward .* by nan"):
        open_model(llama, device="cpu")


def test_opening_never_runs_pip(monkeypatch):
    import subprocess

    from transformer_lens.model_bridge.sources.transformers import helpers

    import workbench.model.huggingface  # noqa: F401

    monkeypatch.setattr(subprocess, "check_call", lambda *a, **k: pytest.fail(f"ran {a}"))
    assert helpers._ensure_torchvision() is False


def test_failed_opening_leaves_the_progress_bars_as_they_were(llama):
    shutil.rmtree(llama)
    before = transformers.utils.logging.is_progress_bar_enabled()
    with pytest.raises(ModelError):
        open_model(llama)
    assert transformers.utils.logging.is_progress_bar_enabled() == before
    assert family_dir("llama").is_dir()


def test_old_weights_open_and_hostile_ones_do_not(tmp_path):
    """`pytorch_model.bin` is read with weights_only=True: tensors yes, code no."""
    model = build_hf("llama")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    bridge = open_model(tmp_path, device="cpu")
    ids = torch.tensor([[0, 6, 7, 8]])
    with torch.no_grad():
        assert (bridge(ids) - model(ids).logits).abs().max() < 1e-4
    assert len(identity(bridge).digest) == 64

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    torch.save({**model.state_dict(), "trap": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds more than tensors \(_?io\.open\)"):
        open_model(tmp_path, device="cpu")
    assert not (tmp_path / "owned").exists()
