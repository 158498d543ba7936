"""What may be in a model's directory, looked at before any library opens a file of it. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.core.bounds import exists, read_bytes, require_regular
from workbench.core.errors import ModelError
from workbench.core.strict_json import too_deep

CONFIGURATIONS = ("config.json", "tl_native.json")
SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
ADAPTER = "adapter_config.json"
MOST_CONFIG = 10_000_000  # bytes; the longest seen, of a model with 512 experts, has 40,000
MOST_TEXT = 500_000_000  # bytes of a tokenizer or an index; Gemma's tokenizer.json has 33 MB
# Counts that libraries make as many Python objects for as a configuration asks for.
_COUNTS = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_hidden_groups", "encoder_layers"),
    *("decoder_layers", "num_decoder_layers", "num_experts", "num_local_experts", "n_routed_experts"),
    *("n_shared_experts", "num_labels", "inner_group_num", "num_nextn_predict_layers"),
)
_SIZES = (
    *(
        "vocab_size",
        "hidden_size",
        "n_embd",
        "d_model",
        "num_attention_heads",
        "n_head",
        "n_heads",
        "d_vocab",
    ),
    *("num_key_value_heads", "max_position_embeddings", "n_positions", "n_ctx", "d_head"),
)
_READ = (".json", ".txt", ".model", ".jinja", ".safetensors", ".bin", ".pt")
# What transformers turns back into plain numbers when it loads; of other kinds the packed numbers would be taken.
_UNPACKED = ("mxfp4",)


def check_directory(directory: Path) -> None:
    """Do nothing if a directory may hold a model that can be opened whole.

    Raises:
        ModelError: if a file in it is a pipe or a device or absurdly large, if it holds an adapter (instead of a model
            or beside one), or if the weights are quantised.
    """
    for path in sorted(directory.iterdir()):
        if path.suffix in _READ and not path.is_dir() and (exists(path) or path.is_symlink()):
            most = MOST_CONFIG if path.name in (*CONFIGURATIONS, ADAPTER) else MOST_TEXT
            is_text = path.suffix in (".json", ".txt", ".model", ".jinja")
            require_regular(path, most_bytes=most if is_text else None, error=ModelError)
    if exists(directory / ADAPTER):
        raise _adapter(directory)
    if exists(directory / CONFIGURATIONS[0]) and not exists(directory / CONFIGURATIONS[1]):
        _refuse_quantised(directory, read_configuration(directory / CONFIGURATIONS[0]))


def read_fields(path: Path, *, most_bytes: int = MOST_CONFIG) -> dict[str, Any]:
    """Return the fields of a JSON file of a model's directory.

    Raises:
        ModelError: if it is missing, too large, too deep, or no JSON object.
    """
    data = read_bytes(path, most_bytes=most_bytes, error=ModelError)
    if too_deep(data):
        raise ModelError(f"{path} nests too deeply to be read", hint="download or copy the file again")
    try:
        fields = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise ModelError(
            f"{path} cannot be read, it is not JSON: {problem}", hint="write it as JSON, or download it again"
        ) from problem
    if not isinstance(fields, dict):
        raise ModelError(
            f"{path} holds a {type(fields).__name__}; a JSON object is expected",
            hint='write it as {"name": value, ...}, or download it again',
        )
    return fields


def read_configuration(path: Path) -> dict[str, Any]:
    """Return the fields of a ``config.json``, those that we read ourselves of the type that they have.

    Raises:
        ModelError: naming the field, where one has another.
    """
    fields = read_fields(path)
    text = fields.get("text_config")
    for name, value in [*fields.items(), *(text.items() if isinstance(text, Mapping) else ())]:
        expected = None if value is None else _misfit(name, value)
        if expected:
            raise ModelError(
                f"{path}: {name} is {str(value)[:60]!r}; {expected} is expected",
                hint="correct the value, or download the file again",
            )
    return fields


def _misfit(name: str, value: Any) -> str:
    """What is expected of a field that has another type; empty where its type is right, or not known here."""
    if name == "architectures":
        right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        return "" if right else "a list of names"
    if name in ("text_config", "id2label", "label2id"):
        return "" if isinstance(value, Mapping) else "an object"
    if name == "model_type":
        return "" if isinstance(value, str) else "text"
    if name in (*_COUNTS, *_SIZES):  # some families give one number for each layer
        each = value if isinstance(value, list) else [value]
        return "" if all(type(item) is int and item >= 0 for item in each) else "a whole number"
    return ""


def refuse_code(path: Path, fields: Mapping[str, Any]) -> None:
    """Do nothing if a configuration names no code: neither files beside it nor kernels of the Hub.

    Raises:
        ModelError: naming the code.
    """
    hint = "read that code, then pass --trust-remote-code or trust_remote_code=True"
    for name, value in _fields(fields):
        if name == "auto_map" and value:
            named = ", ".join(map(str, value)) if isinstance(value, Mapping | list) else str(value)
            raise ModelError(f"{path.parent} wants to run its own Python code ({named})", hint=hint)
        texts = value.values() if isinstance(value, Mapping) else [value]
        kernels = [text for text in texts if isinstance(text, str) and "/" in text]
        if name.endswith("_implementation") and kernels:
            raise ModelError(f"{path} wants to run code from the Hub ({name}: {kernels[0]})", hint=hint)


def refuse_counts(path: Path, fields: Mapping[str, Any], most: int) -> None:
    """Do nothing if a configuration asks for no more layers, experts and classes than ``most``.

    Asked before a library builds one object for each of them.

    Raises:
        ModelError: naming the first that is larger.
    """
    for name, value in _fields(fields):
        if name in _COUNTS and isinstance(value, int) and value > most:
            raise ModelError(
                f"{path} says {name} {value:,}; the weights beside it have room for {most:,} at most",
                hint="download or copy the configuration and the weights again: they do not belong together",
            )


def _fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fields with their values, those of parts (``text_config``) too."""
    for name, value in fields.items():
        yield name, value
        if isinstance(value, Mapping):
            yield from _fields(value)


def weight_files(directory: Path, name: str = SAFETENSORS) -> list[Path]:
    """Return the weight files of a model directory, following its index when there is one.

    Raises:
        ModelError: if the index names a file that is not there, or one outside the directory.
    """
    index = directory / f"{name}.index.json"
    if not exists(index):
        single = directory / name
        return [single] if exists(single) else []
    table = read_fields(index, most_bytes=MOST_TEXT).get("weight_map")
    if not isinstance(table, dict) or not all(isinstance(file, str) for file in table.values()):
        raise ModelError(f"{index} has no weight_map from tensors to files", hint="download or copy it again")
    names = sorted(set(table.values()))
    for name in names:
        if Path(name).name != name:
            raise ModelError(
                f"{index} names {name!r}, which is not a file of this directory",
                hint="download or copy all files of the model again",
            )
        if not exists(directory / name):
            raise ModelError(
                f"{directory} lacks {name}, which its index names", hint="copy the missing shard"
            )
        require_regular(directory / name, error=ModelError)
    return [directory / name for name in names]


def refuse_wrong_index(directory: Path, stored: Iterable[tuple[str, str]]) -> None:
    """Do nothing if each tensor of an index is in the file that the index names; libraries do not look.

    Args:
        stored: Names of tensors, each with the name of a file that holds it.

    Raises:
        ModelError: naming the first tensor that is not.
    """
    index = directory / f"{SAFETENSORS}.index.json"
    if not exists(index):
        return
    found = set(stored)
    for name, file in read_fields(index, most_bytes=MOST_TEXT)["weight_map"].items():
        if (name, file) not in found:
            raise ModelError(
                f"{index} says that {name!r:.80} is in {file}, and it is not",
                hint="the index and the files do not belong together: download or copy all of them again",
            )


def _adapter(directory: Path) -> ModelError:
    """An adapter where a model is expected: what it is of, and how to make a model of both."""
    try:
        fields = read_fields(directory / ADAPTER)
    except ModelError:
        fields = {}
    base, kind = fields.get("base_model_name_or_path"), fields.get("peft_type")
    kind = kind if isinstance(kind, str) and kind else "PEFT"
    kind = "LoRA" if kind.upper() == "LORA" else kind
    of = f" of {base}" if isinstance(base, str) and base else ""
    beside = exists(directory / CONFIGURATIONS[0])
    what = (
        f"{directory} holds a model and a {kind} adapter{of}"
        if beside
        else f"{directory} is a {kind} adapter{of}"
    )
    alone = f"; to open the model without it, move {ADAPTER} away" if beside else ""
    name = base if isinstance(base, str) and base else "BASE"
    return ModelError(
        f"{what}; a whole model is expected",
        hint=f"merge it and open the result: PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({name!r}), "
        f"{str(directory)!r}).merge_and_unload().save_pretrained('merged'), and the tokenizer beside it{alone}",
    )


def _refuse_quantised(directory: Path, fields: Mapping[str, Any]) -> None:
    found = fields.get("quantization_config")
    if not found:
        return
    told = found if isinstance(found, Mapping) else {}
    method = told.get("quant_method") or (
        "bitsandbytes" if "load_in_8bit" in told or "load_in_4bit" in told else ""
    )
    if method in _UNPACKED:
        return
    bits = told.get("bits") or told.get("weight_bits")
    width = f", {bits} bits" if isinstance(bits, int) else ""
    raise ModelError(
        f"the weights in {directory} are quantised ({str(method) or 'by an unknown method'}{width}); "
        "plain numbers are expected: float32, bfloat16 or float16",
        hint="open the model it was made from, or unpack it: AutoModelForCausalLM.from_pretrained(...).dequantize()"
        ".save_pretrained(...)",
    )
