"""Models of other tools read a second time, by json, struct, zipfile and numpy alone; checks as in ``independent``."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.independent import Check
from benchmarks.fuzz.sameness import difference

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
}


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, its header read with struct and json."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length].decode("utf-8")), data[8 + length :]
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        if entry["dtype"] == "BF16":
            wide = np.frombuffer(body[start:end], "<u2").astype("<u4") << 16
            found[name] = wide.view("<f4").reshape(entry["shape"])
        else:
            found[name] = np.frombuffer(body[start:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


def weights(*files: str) -> Check:
    """Every stored tensor is in the opened model, with its values in float32."""

    def check(folder: Path, model: Any) -> str:
        stored = {k: v for file in files for k, v in tensors_of(folder / file).items()}
        return same_weights(stored, model)

    return check


def same_weights(stored: Mapping[str, np.ndarray], model: Any) -> str:
    """Where a model's tensors are not the stored ones."""
    state = model.original_model.state_dict()
    own = {name.replace("._original_component", ""): value for name, value in state.items()}
    own |= {name: value for name, value in model.state_dict().items()}
    for name, values in stored.items():
        match = next((n for n in (name, f"transformer.{name}", f"model.{name}") if n in own), None)
        if match is None:
            return f"{name} is stored and not in the model"
        with np.errstate(over="ignore", invalid="ignore"):
            wide = values.astype(np.float32)
        if wrong := _arrays_close(wide, own[match].detach().float().numpy(), name):
            return wrong
    return ""


def _arrays_close(stored: np.ndarray, found: np.ndarray, name: str) -> str:
    if stored.shape != found.shape:
        return f"{name}: {stored.shape} stored, {found.shape} in the model"
    return "" if np.array_equal(stored, found, equal_nan=True) else f"{name}: other numbers"


_NOT_NUMBERS = {
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "model_type",
    "_name_or_path",
}


def hf_config(folder: Path, model: Any) -> str:
    """Every field of config.json is what the model's own configuration says."""
    stored = json.loads((folder / "config.json").read_bytes().decode("utf-8"))
    own = model.original_model.config.to_dict()
    known = {k: v for k, v in stored.items() if k in own and k not in _NOT_NUMBERS}
    return difference(known, {k: own[k] for k in known}, "config")


def native_config(folder: Path, model: Any) -> str:
    """Every field of tl_native.json is what the model's configuration says."""
    stored = json.loads((folder / "tl_native.json").read_bytes().decode("utf-8"))
    own = model.cfg.to_dict()
    skip = {  # what TransformerLens sets from the tokenizer at hand, or what decides no number
        "tokenizer_prepends_bos",
        "tokenizer_appends_eos",
        "split_attention_weights",
        "initializer_range",
        "dtype",
        "device",
        "init_weights",
        "tokenizer_name",
        "default_prepend_bos",
        "seed",
        "model_name",
    }
    known = {k: v for k, v in stored.items() if k in own and k not in skip}
    return difference(known, {k: own[k] for k in known}, "config")


def vocabulary(folder: Path, model: Any) -> str:
    """Every token has the id that tokenizer.json gives it."""
    stored = json.loads((folder / "tokenizer.json").read_bytes().decode("utf-8"))
    own = {} if model.tokenizer is None else model.tokenizer.get_vocab()
    words = dict(stored["model"]["vocab"])
    added = {row["content"]: row["id"] for row in stored.get("added_tokens", [])}
    wrong = {w: i for w, i in {**words, **added}.items() if own.get(w) != i}
    return f"tokens with another id: {str(wrong)[:80]}" if wrong else ""


def special_tokens(folder: Path, model: Any) -> str:
    """The special tokens are those that tokenizer_config.json names."""
    stored = json.loads((folder / "tokenizer_config.json").read_bytes().decode("utf-8"))
    names = [f"{role}_token" for role in ("bos", "eos", "pad", "unk", "mask")]
    asked = {
        n: stored[n]["content"] if isinstance(stored[n], dict) else stored[n] for n in names if n in stored
    }
    own = {n: getattr(model.tokenizer, n) for n in asked}
    if model.tokenizer.pad_token == model.tokenizer.eos_token:  # the bridge pads with it where there is none
        asked.pop("pad_token", None)
    return difference(asked, {n: own[n] for n in asked}, "tokenizer_config")


def sharded(folder: Path, model: Any) -> str:
    """Every tensor that the index names is in the file that it names, and in the model."""
    index = json.loads((folder / "model.safetensors.index.json").read_bytes().decode("utf-8"))["weight_map"]
    files = {file: tensors_of(folder / file) for file in set(index.values())}
    return same_weights({name: files[file][name] for name, file in index.items()}, model)


def binary_weights(folder: Path, model: Any) -> str:
    """The tensors of pytorch_model.bin, read from the zip file and checked against its checksums."""
    return same_weights(zipped_tensors(folder / "pytorch_model.bin"), model)


def zipped(path: Path, state: Any) -> str:
    """A state dict is what the zip file holds, its checksums included."""
    return _same_state(zipped_tensors(path), state)


def unzipped(path: Path, state: Any) -> str:
    """A state dict of the format before zip files is what its pickle and its numbers say."""
    return _same_state(old_tensors(path), state)


def _same_state(stored: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> str:
    if set(stored) != set(state):
        return f"tensors {sorted(set(stored) ^ set(state))[:4]}"
    return next((w for n, v in stored.items() if (w := _arrays_close(v, state[n].numpy(), n))), "")


_STORAGES = {"FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "LongStorage": "<i8"}
_STORAGES |= {
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class _Unpickler(pickle.Unpickler):
    """Reads a state dict and nothing else: tensors as (storage, offset, size, stride)."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *rest: (storage, offset, size, stride)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name}")

    def persistent_load(self, identity: tuple) -> tuple:
        _, dtype, key, _, count, *_ = identity
        return dtype, str(key), count


def zipped_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict in a zip file; ``zipfile`` checks the checksum of each member it reads."""
    with zipfile.ZipFile(path) as archive:
        pickled = [name for name in archive.namelist() if name.endswith("data.pkl")]
        (root,) = {name.removesuffix("data.pkl") for name in pickled}
        state = _Unpickler(io.BytesIO(archive.read(pickled[0]))).load()
        return {str(n): _tensor(v, lambda key: archive.read(f"{root}data/{key}")) for n, v in _flat(state)}


def old_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict in the format before zip files: pickles, then each storage with its length."""
    with path.open("rb") as source:
        for _ in range(3):  # a magic number, the protocol, the machine
            _Unpickler(source).load()
        state = _Unpickler(source).load()
        sizes = {v[0][1]: np.dtype(v[0][0]).itemsize for _, v in _flat(state)}
        stored = {}
        for key in _Unpickler(source).load():
            (count,) = struct.unpack("<q", source.read(8))
            stored[str(key)] = source.read(count * sizes[str(key)])
    return {str(name): _tensor(value, stored.__getitem__) for name, value in _flat(state)}


def _flat(state: Any) -> Iterable[tuple[str, tuple]]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    return state.items()


def _tensor(made: tuple, read: Callable[[str], bytes]) -> np.ndarray:
    (dtype, key, count), offset, size, stride = made
    flat = np.frombuffer(read(key), dtype)[:count]
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        return np.zeros(size, dtype)
    if len(flat) != count or not 0 <= offset <= last < count or min((*stride, 0)) < 0:
        raise ValueError("a tensor beyond its storage")
    steps = tuple(step * flat.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps).copy()


def legacy_config(path: Path, fields: Mapping[str, Any]) -> str:
    """The fields that were taken are those of the file, but for names of one formula and sizes that follow."""
    stored = json.loads(path.read_bytes().decode("utf-8"))
    free = {"act_fn", "d_vocab_out", "d_mlp", "notes", "device", "seed"}
    known = {k: v for k, v in fields.items() if k in stored and k not in free}
    return difference({k: stored[k] for k in known}, known, "config")
