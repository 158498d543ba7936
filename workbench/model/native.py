"""Native TransformerLens models on disk: `tl_native.json` (the configuration) and `model.safetensors`.

The tokenizer, where there is one, lies beside them in Hugging Face format. Weights carry the bridge's own
names (`blocks.0.attn.q.weight`), so they load into `TransformerBridge.boot_native` without conversion.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import msgspec
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformer_lens.model_bridge.sources.native import NativeModel

from workbench.core.bounds import exists, require_regular
from workbench.core.errors import ModelError, explaining
from workbench.model.directory import read_fields
from workbench.model.sizes import refuse_larger, refuse_more_parts

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CONFIG_NAME = "tl_native.json"
OUTPUT_NAMES = "id2label"  # in the configuration, as in Hugging Face's: {"0": "odd", "1": "even"}
WEIGHTS_NAME = "model.safetensors"
_ARCHITECTURE = "TransformerLensNative"


def is_native(directory: str | Path) -> bool:
    """Say whether a directory holds a native model."""
    return (Path(directory) / CONFIG_NAME).is_file()


def save_native(bridge: TransformerBridge, directory: str | Path) -> Path:
    """Write a native model's configuration and weights; its tokenizer is saved by the caller.

    Both files are written under a temporary name and renamed.
    """
    config = {name: _plain(value) for name, value in bridge.cfg.to_dict().items()}
    config |= {"device": None, "init_weights": False}
    return write_native(config, bridge.state_dict(), directory)


def write_native(config: Mapping[str, object], weights: Mapping[str, Tensor], directory: str | Path) -> Path:
    """Write a configuration and named weights as a native directory."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # Cloned: safetensors refuses tensors that share storage, as tied embeddings do.
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    temporary = directory / f".{WEIGHTS_NAME}.{os.getpid()}"
    save_file(plain, temporary)
    temporary.replace(directory / WEIGHTS_NAME)
    temporary = directory / f".{CONFIG_NAME}.{os.getpid()}"
    temporary.write_text(json.dumps(config, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(directory / CONFIG_NAME)
    return directory


def load_native(
    directory: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    tokenizer: object = None,
) -> TransformerBridge:
    """Read a native directory into a bridge in eval mode.

    Raises:
        ModelError: on an unreadable configuration, and on missing, superfluous or misshapen tensors.
    """
    directory = Path(directory)
    config = read_native_config(directory)
    weights = read_weights(directory)
    return boot_native(config, weights, device=device, dtype=dtype, tokenizer=tokenizer, where=str(directory))


def read_weights(directory: str | Path) -> dict[str, Tensor]:
    """Return the named weights of a native directory, as stored.

    Raises:
        ModelError: if the file is missing or damaged.
    """
    path = Path(directory) / WEIGHTS_NAME
    with explaining(
        f"the weights in {path} cannot be loaded",
        error=ModelError,
        hint="the file was cut short or damaged: copy it again",
    ):
        if exists(path):
            require_regular(path, error=ModelError)
        return load_file(path)


def boot_native(
    config: TransformerBridgeConfig,
    weights: Mapping[str, Tensor],
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    tokenizer: object = None,
    where: str = "the weights",
) -> TransformerBridge:
    """Build a native bridge around named weights, checking that exactly the expected tensors are there."""
    refuse_larger(Path(where) / CONFIG_NAME, lambda: NativeModel(config), weights)
    with explaining(
        f"{where}: a native model of this configuration cannot be built",
        error=ModelError,
        hint="correct the sizes in config.json",
    ):
        model = NativeModel(config)
    if "unembed.bias" in weights:
        # The native head has no bias of its own; a checkpoint's b_U needs one to be computed at all.
        model.head = nn.Linear(config.d_model, model.head.out_features, bias=True)
    model = model.to(device=device, dtype=dtype).eval()
    with explaining(
        f"{where}: TransformerLens cannot open it",
        error=ModelError,
        hint="correct config.json, or convert the model again",
    ):
        bridge = build_bridge_from_module(
            model,
            _ARCHITECTURE,
            tl_config=config,
            tokenizer=tokenizer,
            dtype=dtype,
            device=device,
            model_name="native",
        )
    expected = bridge.state_dict()
    _check_tensors({name: tuple(value.shape) for name, value in expected.items()}, weights, where=where)
    bridge.load_state_dict(dict(weights))
    return bridge.eval()


def read_native_config(directory: str | Path) -> TransformerBridgeConfig:
    """Return the configuration in a native directory.

    Raises:
        ModelError: if it is not a JSON object or has fields that TransformerLens does not know.
    """
    path, fields = Path(directory) / CONFIG_NAME, _config_fields(directory)
    fields.pop(OUTPUT_NAMES, None)
    blank = TransformerBridgeConfig(d_model=1, d_head=1, n_layers=1, n_ctx=1, n_heads=1, d_vocab=1).to_dict()
    if strange := sorted(set(fields) - set(blank)):
        raise ModelError(
            f"{path} has fields TransformerLens does not know: {', '.join(strange[:8])}",
            hint="remove them, or install the TransformerLens that wrote them",
        )
    if missing := sorted({"d_model", "d_head", "n_layers", "n_heads", "n_ctx", "d_vocab"} - set(fields)):
        raise ModelError(
            f"{path} lacks {', '.join(missing)}", hint=f"add them to {path.name} (whole numbers above 0)"
        )
    _check_types(path, fields)
    dtype = getattr(torch, str(fields.get("dtype") or "float32").removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise ModelError(
            f"{path} names the dtype {fields['dtype']!r}; float32, bfloat16, float16 or float64 is expected",
            hint="dtype: float32",
        )
    fields |= {"dtype": dtype, "init_weights": False, "device": None}
    try:
        return TransformerBridgeConfig.from_dict(fields)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: {error}", hint="correct the value that is named") from error


def _check_types(path: Path, fields: Mapping[str, object]) -> None:
    """Do nothing if plain fields are of the type that they have without being given; null is as good as absent.

    Raises:
        ModelError: naming the first that is not.
    """
    blank = TransformerBridgeConfig(d_model=1, d_head=1, n_layers=1, n_ctx=1, n_heads=1, d_vocab=1).to_dict()
    declared = get_type_hints(TransformerBridgeConfig)
    for name, value in fields.items():
        usual = blank[name]
        plain = next((kind for kind in (bool, int, float, str) if isinstance(usual, kind)), Any)
        own = declared.get(name, plain)
        if value is None or name == "dtype" or own is Any:
            continue
        try:
            msgspec.convert(value, own)
        except (msgspec.ValidationError, UnicodeEncodeError) as problem:
            raise ModelError(
                f"{path}: {name} is {value!r:.80}. {problem}", hint="correct the value, or remove the field"
            ) from None
    if fields.get("architecture") not in (None, _ARCHITECTURE):
        raise ModelError(
            f"{path} is of architecture {fields['architecture']!r:.80}; {_ARCHITECTURE} is expected",
            hint=f"a Hugging Face directory has a model_type in {path.name}; this kind says "
            f"architecture: {_ARCHITECTURE}",
        )


def read_output_names(directory: str | Path) -> tuple[str, ...]:
    """Return names of the classes that a native model puts out; empty where its configuration gives none.

    Raises:
        ModelError: if they are not one different name for each output.
    """
    path, fields = Path(directory) / CONFIG_NAME, _config_fields(directory)
    if OUTPUT_NAMES not in fields:
        return ()
    given = fields[OUTPUT_NAMES]
    own = fields.get("d_vocab_out")
    size = own if isinstance(own, int) and own > 0 else fields.get("d_vocab")
    found = [given.get(str(i)) for i in range(len(given))] if isinstance(given, dict) else []
    names = tuple(name for name in found if isinstance(name, str) and name)
    if not len(set(names)) == len(names) == len(found) == size:
        raise ModelError(
            f"{path}: {OUTPUT_NAMES} does not give each of the {size} outputs a name of its own",
            hint=f'{{"0": "name of output 0", "1": "name of output 1"}}, {size} in all',
        )
    return names


def _config_fields(directory: str | Path) -> dict[str, object]:
    path = Path(directory) / CONFIG_NAME
    fields = read_fields(path)
    refuse_more_parts(path, fields)
    return fields


def _check_tensors(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor], *, where: str
) -> None:
    if missing := sorted(set(expected) - set(found)):
        raise ModelError(
            f"{where} lacks {len(missing)} of {len(expected)} tensors, first {missing[0]}",
            hint="the weights do not belong to this configuration: download or copy both again",
        )
    if extra := sorted(set(found) - set(expected)):
        raise ModelError(
            f"{where} has {len(extra)} tensors with no place in this model, first {extra[0]}",
            hint="the weights do not belong to this configuration: download or copy both again",
        )
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise ModelError(
                f"{where}: {name} has shape {tuple(found[name].shape)}, {shape} is expected",
                hint="the weights do not belong to this configuration: download or copy both again",
            )


def _plain(value: object) -> object:
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, float):
        return float(value)
    return value
