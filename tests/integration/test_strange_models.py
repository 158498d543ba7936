"""Directories that somebody sent as a model: adapters, quantised weights, pipes, code, more than the weights hold."""

from __future__ import annotations

import json
import os
import zipfile

import pytest
import torch
import transformers
from torch import nn

from tests.families import build_family, build_hf
from workbench.core.errors import ModelError
from workbench.model.from_files import reading_of
from workbench.model.open import open_model
from workbench.model.outline import outline

OPENERS = [open_model, outline, reading_of]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two small models that nothing is done to."""
    folder = tmp_path_factory.mktemp("models")
    return {name: build_family(name, folder / name) for name in ("llama", "native-ln")}


@pytest.fixture
def llama(made, tmp_path):
    return linked(made["llama"], tmp_path / "llama")


def linked(directory, to):
    """The same files under another name; JSON as copies, which a test may change."""
    to.mkdir()
    for path in directory.iterdir():
        if path.suffix == ".json":
            (to / path.name).write_bytes(path.read_bytes())
        else:
            (to / path.name).symlink_to(path)
    return to


def change(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def adapter(directory, **fields):
    given = {"peft_type": "LORA", "base_model_name_or_path": "acme/base", "r": 8, **fields}
    (directory / "adapter_config.json").write_text(json.dumps(given))


@pytest.mark.parametrize("opener", OPENERS)
def test_an_adapter_says_of_which_model_it_is_and_how_to_merge_it(opener, tmp_path):
    adapter(tmp_path)
    with pytest.raises(
        ModelError, match="is a LoRA adapter of acme/base; a whole model is expected"
    ) as refused:
        opener(str(tmp_path))
    assert "merge_and_unload()" in refused.value.hint and "save_pretrained" in refused.value.hint


def test_an_adapter_beside_a_model_is_not_left_out_without_a_word(llama):
    adapter(llama, peft_type="IA3", base_model_name_or_path=None)
    with pytest.raises(ModelError, match="holds a model and a IA3 adapter; a whole model"):
        open_model(llama)


@pytest.mark.parametrize("fields", ["[]", "{", '{"base_model_name_or_path": 3}'])
def test_a_damaged_description_of_an_adapter_is_an_adapter_all_the_same(fields, tmp_path):
    (tmp_path / "adapter_config.json").write_text(fields)
    with pytest.raises(ModelError, match="is a PEFT adapter; a whole model"):
        open_model(tmp_path)


class _Low(nn.Module):
    """A projection with an adapter on it, under the names that PEFT gives."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.Linear(base_layer.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base_layer.out_features, bias=False)

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def test_an_adapter_inside_a_model_in_memory_is_refused():
    model = build_hf("llama")
    projections = model.model.layers[0].self_attn
    projections.q_proj = _Low(projections.q_proj)
    with pytest.raises(ModelError, match="LlamaForCausalLM with an adapter on it") as refused:
        open_model(model)
    assert "merge_and_unload()" in refused.value.hint


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"quant_method": "gptq", "bits": 4}, r"quantised \(gptq, 4 bits\)"),
        ({"load_in_4bit": True}, r"quantised \(bitsandbytes\)"),
        ({"quant_method": "fp8"}, r"quantised \(fp8\)"),
        ({"quant_method": ["x"]}, "quantised"),
        ("yes", r"quantised \(by an unknown method\)"),
    ],
)
def test_quantised_weights_are_refused_by_their_method(told, words, llama):
    change(llama / "config.json", quantization_config=told)
    with pytest.raises(ModelError, match=words):
        open_model(llama)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"]
)
def test_a_pipe_in_a_model_is_refused(name, llama):
    (llama / name).unlink()
    os.mkfifo(llama / name)
    for opener in OPENERS:
        with pytest.raises(ModelError, match=f"{name} is a pipe; a regular file is expected"):
            opener(str(llama))


def test_a_configuration_of_a_gigabyte_is_not_read(llama):
    with (llama / "config.json").open("ab") as sparse:
        sparse.truncate(10**9)
    with pytest.raises(ModelError, match="has 1 GB, more than the 10 MB that are read"):
        open_model(llama)


@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": {"AutoConfig": "evil.Config"}},
        {"text_config": {"auto_map": {"AutoModel": "evil.Model"}}},
        {"attn_implementation": "acme/attention"},
        {"_attn_implementation": {"": "eager", "text_config": "acme/attention"}},
        {"experts_implementation": "acme/experts"},
    ],
)
def test_code_that_a_configuration_names_does_not_run(fields, llama):
    (llama / "evil.py").write_text(f"open({str(llama / 'ran')!r}, 'w').close()\n")
    change(llama / "config.json", **fields)
    for opener in (open_model, reading_of):
        with pytest.raises(ModelError, match="wants to run") as refused:
            opener(str(llama))
        assert "--trust-remote-code" in refused.value.hint
    assert not (llama / "ran").exists()


TOO_MUCH = [
    ("num_hidden_layers", 10**9, "num_hidden_layers 1,000,000,000"),
    ("num_labels", 10**9, "num_labels 1,000,000,000"),
    ("vocab_size", 10**9, r"asks for a model of .*embed_tokens.weight \(1000000000, \d+\) instead of"),
    ("hidden_size", 10**8, "asks for a model of"),
    ("intermediate_size", 10**10, "asks for a model of"),
]


@pytest.mark.parametrize(("field", "value", "words"), TOO_MUCH)
def test_a_configuration_asks_for_no_more_than_the_weights_hold(field, value, words, llama):
    change(llama / "config.json", **{field: value})
    with pytest.raises(ModelError, match=words):
        open_model(llama)


def test_a_header_of_weights_claims_no_shape_that_its_bytes_do_not_fill(llama):
    path = llama / "model.safetensors"
    data = path.read_bytes()
    path.unlink()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["model.embed_tokens.weight"]["shape"][0] = 10**9
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    change(llama / "config.json", vocab_size=10**9)
    for opener in (open_model, outline):
        with pytest.raises(ModelError, match=r"embed_tokens.weight' has \d+ bytes; its shape"):
            opener(str(llama))


@pytest.mark.parametrize(("field", "value"), [("n_layers", 10**9), ("d_vocab", 10**9), ("n_ctx", 10**7)])
def test_a_native_configuration_asks_for_no_more_than_the_weights_hold(field, value, made, tmp_path):
    native = linked(made["native-ln"], tmp_path / "native")
    change(native / "tl_native.json", **{field: value})
    with pytest.raises(ModelError, match="the weights beside it"):
        open_model(native)


def test_layers_of_a_pickled_checkpoint_are_counted_before_it_is_read(llama):
    (llama / "model.safetensors").unlink()
    torch.save({"model.norm.weight": torch.ones(3)}, llama / "pytorch_model.bin")
    change(llama / "config.json", num_hidden_layers=10**6)
    with pytest.raises(ModelError, match="num_hidden_layers 1,000,000"):
        open_model(llama)


@pytest.mark.parametrize("how", ["repeated", "compressed"])
def test_a_small_checkpoint_does_not_become_a_large_one(how, llama):
    path = llama / "pytorch_model.bin"
    (llama / "model.safetensors").unlink()
    torch.save({"model.embed_tokens.weight": torch.zeros(1).expand(10**6, 10**6)}, path)
    if how == "compressed":
        torch.save({"model.embed_tokens.weight": torch.zeros(10**6)}, path)
        with zipfile.ZipFile(path) as plain:
            members = {name: plain.read(name) for name in plain.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in members.items():
                packed.writestr(name, content)
    with pytest.raises(
        ModelError, match="its tensors claim 4000 GB" if how == "repeated" else "compressed zip"
    ):
        open_model(llama)


def test_what_a_library_says_of_a_configuration_is_one_line(llama):
    change(llama / "config.json", num_attention_heads=7)
    with pytest.raises(
        ModelError, match=r"config.json cannot be used: .*hidden size .* not a multiple"
    ) as refused:
        open_model(llama)
    assert "\n" not in refused.value.message


def test_a_tensor_of_another_shape_is_named_with_both_shapes(llama):
    before = transformers.AutoConfig.from_pretrained(llama).intermediate_size
    change(llama / "config.json", intermediate_size=2 * before)
    with pytest.raises(ModelError, match=rf"wrong shape: .*mlp\.\w+_proj.*{2 * before}.* is expected"):
        open_model(llama)


def test_a_tokenizer_that_is_nonsense_is_explained_whatever_its_parser_does(llama):
    good = json.loads((llama / "tokenizer.json").read_text())
    for damage in (
        {"model": None},
        {"model": {"type": "BPE", "vocab": {"a": -1}, "merges": [["a"]]}},
        {"added_tokens": 3},
    ):
        (llama / "tokenizer.json").write_text(json.dumps({**good, **damage}))
        with pytest.raises(ModelError, match=r"tokenizer in .* cannot be read"):
            reading_of(str(llama))


def test_two_words_with_one_id_are_refused(llama):
    """The parser keeps one of them, and the other is read as unknown."""
    path = llama / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    change(path, model={**model, "vocab": {**model["vocab"], "w21": 20}})
    with pytest.raises(ModelError, match="'w20' and 'w21' both have the id 20"):
        open_model(llama)


def test_an_added_token_with_another_id_than_the_file_gives_is_refused(llama):
    path = llama / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    change(path, model={**model, "vocab": {k: v for k, v in model["vocab"].items() if k != "<mask>"}})
    with pytest.raises(ModelError, match=r"the added token '<mask>' has the id 4, and would be read as \d+"):
        open_model(llama)


def test_an_index_that_names_a_tensor_which_is_not_in_its_file_is_refused(llama):
    names = ["model.embed_tokens.weight", "model.norm.weightx"]
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "model.safetensors")}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        ModelError, match=r"says that 'model.norm.weightx' is in model.safetensors, and it is not"
    ):
        open_model(llama)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_ctx", 64.5),
        ("attn_only", 1),
        ("normalization_type", 5),
        ("act_fn", ["gelu"]),
        ("use_attn_result", "no"),
    ],
)
def test_a_native_field_of_another_type_is_named(field, value, made, tmp_path):
    native = linked(made["native-ln"], tmp_path / "native")
    change(native / "tl_native.json", **{field: value})
    with pytest.raises(ModelError, match=field):
        open_model(native)


def test_a_model_that_opens_and_cannot_be_run_is_explained(made, tmp_path):
    """TransformerLens then hands over no token ids."""
    native = linked(made["native-ln"], tmp_path / "native")
    change(native / "tl_native.json", is_audio_model=True)
    with pytest.raises(ModelError, match="opens and cannot be run"):
        open_model(native)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("architectures", [1.5], r"architectures is .* a list of names"),
        ("architectures", "LlamaForCausalLM", r"architectures is .* a list of names"),
        ("text_config", [1], r"text_config is .* an object"),
        ("id2label", 3, r"id2label is .* an object"),
        ("model_type", ["llama"], r"model_type is .* text"),
        ("vocab_size", "many", "vocab_size is 'many'; a whole number"),
        ("num_attention_heads", 4.5, "num_attention_heads is '4.5'; a whole number"),
        ("num_hidden_layers", True, "num_hidden_layers is 'True'; a whole number"),
    ],
)
def test_a_field_of_another_type_is_named(field, value, words, llama):
    change(llama / "config.json", **{field: value})
    for opener in (open_model, outline, reading_of):
        with pytest.raises(ModelError, match=words):
            opener(str(llama))
