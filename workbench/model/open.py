"""Opening a model by name, and being sure of what was opened.

Weights are used raw: no folding of norms, no centring, no moving of value biases. Raw mode has every hook,
and mean and resample effects are the same in both. TransformerLens' compatibility mode changes what zero
ablation does (the value bias has moved elsewhere), costs three times the memory, cannot be undone, and gives
wrong logits on GPT-OSS. `docs/models.md` has the measurements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import ModelError, OptionError, expect
from workbench.model import builtin as zoo
from workbench.model import (
    classifiers,
    digest,
    encoders,
    hub,
    huggingface,
    memory,
    native,
    parity,
    plain,
    several_devices,
    tokenizers,
)
from workbench.model.digest import Weight
from workbench.model.directory import refuse_wrong_index, weight_files
from workbench.model.identity import identity
from workbench.model.opened_bridge import OpenedBridge
from workbench.model.own_mask import run_under_own_mask
from workbench.model.pixels import with_noise
from workbench.model.prompt import Prompt
from workbench.model.settings import DTYPES, check_device, check_dtype, check_map, no_device
from workbench.model.sight import sight_from
from workbench.model.towers.classes import READS, tower_class
from workbench.model.towers.directory import Source, towers_from_directory, towers_from_model
from workbench.model.weights import (
    lines_of_checkpoint,
    lines_of_model,
    lines_of_native,
    stored_weights,
)
from workbench.tasks.pictures.sight import Sight

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

__all__ = ["identity", "open_model"]

_DTYPES = {name: getattr(torch, name) for name in DTYPES}


def open_model(
    name: str | Path | PreTrainedModel,
    *,
    device: str | None = None,
    device_map: str | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    offline: bool | None = None,
    trust_remote_code: bool = False,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_memory: int | str | None = None,
    parity_tolerance: float | None = None,
) -> TransformerBridge:
    """Open a model as a TransformerLens bridge: raw weights, eval mode, parameters frozen, parity checked.

    A model that sees, and that is no bridge, is a ``Tower``: a ``HookedRootModule`` with a bridge's hook names.

    Args:
        name: `zoo:NAME`, a Hugging Face or native directory, a Hub id, or a Hugging Face model in memory
            (which is wrapped in place and keeps its dtype and device).
        device: Where to put it; the first GPU if there is one, else the CPU.
        device_map: Spread one model over the devices there are, by accelerate: ``auto``, ``balanced``, ``sequential``,
            or a device for all of it. Instead of ``device``; for Hugging Face models.
        dtype: float32, float64, bfloat16 or float16.
        revision: Branch, tag or commit of a Hub model.
        offline: Never ask the Hub; None follows HF_HUB_OFFLINE.
        trust_remote_code: Run Python code that comes with the model.
        tokenizer: Used instead of the model's own.
        max_memory: Bytes, or text like "8GB"; overrides the check against the memory that is free.
        parity_tolerance: Largest accepted difference from the plain forward, in logits.

    Returns:
        The bridge, on the device and in the dtype that were asked for.

    Raises:
        ModelError: if it cannot be found, read or trusted, does not fit, or does not follow its weights.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:ioi")
        >>> model.cfg.n_layers, model.cfg.n_heads
        (4, 4)
    """
    expect(name, (str, Path, nn.Module), what="model", hint='wb.open_model("gpt2"), or a directory')
    if isinstance(name, nn.Module):
        return _open_memory(name, tokenizer=tokenizer, tolerance=parity_tolerance)
    check_dtype(dtype)
    check_device(device)
    check_map(device_map, device)
    found = _locate(str(name), revision, is_offline=hub.is_offline(offline), code=trust_remote_code)
    place = _Place(device=_device(device), device_map=device_map, dtype=_DTYPES[dtype])
    is_native = native.is_native(found.directory)
    if is_native and device_map is not None:
        raise OptionError(
            f"{name} is a native model; --device-map is for Hugging Face models",
            hint="--device cpu, in place of --device-map",
        )
    config = (
        None if is_native else huggingface.read_config(found.directory, trust_remote_code=trust_remote_code)
    )
    stored = _stored(found.directory, place, max_memory=max_memory, name=found.name)
    if tokenizer is None:
        tokenizer = tokenizers.load_tokenizer(found.directory, trust_remote_code=trust_remote_code)
    source = Source(
        name=found.name,
        kind=found.kind,
        revision=found.revision,
        tolerance=parity_tolerance,
        tokenizer=tokenizer,
    )
    if config is None:
        return _native(found.directory, source, place).finish(source)
    if (kind := tower_class(config)) is not None:
        return _towers(found.directory, source, place, config=config, kind=kind, stored=stored)
    opened = _hugging_face(
        found.directory, source, place, config=config, trust_remote_code=trust_remote_code, stored=stored
    )
    several_devices.refuse_elsewhere(opened.bridge.original_model)
    return opened.finish(source)


@dataclass(frozen=True, kw_only=True)
class _Located:
    """A directory with a model, and which commit of the Hub it is."""

    name: str
    kind: str
    directory: Path
    revision: str | None


def _locate(name: str, revision: str | None, *, is_offline: bool, code: bool) -> _Located:
    """The directory of a model; fetched where the name is one of the Hub."""
    found = zoo.locate(name)
    if found.directory is None:
        directory = hub.fetch(name, revision=revision, offline=is_offline, code=code)
        return _Located(
            name=name, kind=found.kind, directory=directory, revision=_commit(directory) or revision
        )
    if revision is not None:
        raise OptionError(
            f"{name} is a local directory; it has no revision {revision!r}", hint="leave --revision out"
        )
    return _Located(name=name, kind=found.kind, directory=found.directory, revision=None)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the weights go, and as which numbers."""

    device: str
    device_map: str | None
    dtype: torch.dtype


def _stored(
    directory: Path, place: _Place, *, max_memory: int | str | None, name: str
) -> Mapping[str, Weight]:
    """The tensors of a directory by name, read from the heads of its files; refused where they do not fit."""
    stored = digest.read_headers(weight_files(directory))  # their sizes, before anything is loaded
    refuse_wrong_index(directory, ((tensor.name, tensor.file.name) for tensor in stored))
    if place.device_map is not None and max_memory is None:
        max_memory = several_devices.room_of_all(place.device)
    memory.require_room(stored, dtype=place.dtype, device=place.device, max_memory=max_memory, name=name)
    return {tensor.name: tensor for tensor in stored}


def _towers(
    directory: Path,
    source: Source,
    place: _Place,
    *,
    config: PretrainedConfig,
    kind: type[PreTrainedModel],
    stored: Mapping[str, Weight],
) -> TransformerBridge:
    """The towers of a model that sees; they stand in for a bridge wherever one is asked for."""
    if place.device_map is not None:
        raise OptionError(
            f"{source.name} is a {kind.__name__}, which is not spread over devices",
            hint="--device cpu, in place of --device-map",
        )
    towers = towers_from_directory(
        directory,
        source,
        config=config,
        model_class=kind,
        device=place.device,
        dtype=place.dtype,
        stored=stored or stored_weights(directory),
    )
    return cast("TransformerBridge", towers)


def _hugging_face(
    directory: Path,
    source: Source,
    place: _Place,
    *,
    config: PretrainedConfig,
    trust_remote_code: bool,
    stored: Mapping[str, Weight],
) -> OpenedBridge:
    stored = stored or stored_weights(directory)
    sight, seen = sight_from(config, directory), []
    tokens = _probe(config, sight, place.dtype)

    def look(model: PreTrainedModel) -> Tensor:
        """The model as transformers loaded it: what it answers, and its weights by their names."""
        seen.append(lines_of_checkpoint(directory, model, stored))
        run_under_own_mask(model)
        return parity.plain_output(model, tokens)

    bridge, expected = huggingface.bridge_from_directory(
        directory,
        source.name,
        config=config,
        tokenizer=source.tokenizer,
        device=place.device,
        device_map=place.device_map,
        dtype=place.dtype,
        trust_remote_code=trust_remote_code,
        stored=stored,
        probe=look,
    )
    return OpenedBridge(
        bridge=bridge,
        tokenizer=source.tokenizer,
        tokens=tokens,
        expected=expected,
        config=config.to_dict(),
        weights=seen[0],
        sight=sight,
        outputs=classifiers.class_names(config),
    )


def _native(directory: Path, source: Source, place: _Place) -> OpenedBridge:
    tokenizer, device, dtype = source.tokenizer, place.device, place.dtype
    ready = None if tokenizer is None else tokenizers.prepare(tokenizer)
    bridge = native.load_native(directory, device=device, dtype=dtype, tokenizer=ready)
    tokens = Prompt(parity.probe_tokens(bridge.cfg.d_vocab, bridge.cfg.n_ctx))
    stored = native.read_weights(directory)
    weights = {name: value.to(device=device, dtype=dtype) for name, value in stored.items()}
    expected = plain.native_forward(weights, bridge.cfg, tokens.ids.to(device))
    fields, names = native.read_native_config(directory).to_dict(), native.read_output_names(directory)
    return OpenedBridge(
        bridge=bridge,
        tokenizer=tokenizer,
        tokens=tokens,
        expected=expected,
        config=fields,
        weights=lines_of_native(directory),
        outputs=names,
    )


def _open_memory(
    model: nn.Module, *, tokenizer: PreTrainedTokenizerBase | None, tolerance: float | None
) -> TransformerBridge:
    if _has_adapter(model):
        raise ModelError(
            f"a {type(model).__name__} with an adapter on it is not one model; a whole model is expected",
            hint="wb.open_model(model.merge_and_unload())",
        )
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"a {type(model).__name__} is not a Hugging Face model",
            hint="give a transformers model, a directory or a name; a bridge is used as it is",
        )
    if any("_original_component" in key for key in model.state_dict()):
        raise ModelError(
            "this model already belongs to a bridge",
            hint="load it anew, or copy.deepcopy it before opening it the first time",
        )
    source = Source(
        name=f"{type(model).__name__} in memory", kind="memory", tolerance=tolerance, tokenizer=tokenizer
    )
    if type(model).__name__ in READS:
        return cast("TransformerBridge", towers_from_model(model.eval(), source))
    return _wrapped(model, source).finish(source)


def _wrapped(model: PreTrainedModel, source: Source) -> OpenedBridge:
    """A bridge around a model in memory; what the model answers is computed before it is wrapped."""
    encoders.drop_pooler(model.eval())
    fields, sight = model.config.to_dict(), sight_from(model.config)
    tokens = _probe(model.config, sight, next(model.parameters()).dtype)
    weights = lines_of_model(model)
    model.set_attn_implementation("eager")
    run_under_own_mask(model)
    expected = parity.plain_output(model, tokens)
    return OpenedBridge(
        bridge=huggingface.bridge_from_model(model, source.name, tokenizer=source.tokenizer),
        tokenizer=source.tokenizer,
        tokens=tokens,
        expected=expected,
        config=fields,
        weights=weights,
        sight=sight,
        outputs=classifiers.class_names(model.config),
    )


def _has_adapter(model: nn.Module) -> bool:
    """Whether PEFT has put an adapter on a model, or in it; PEFT itself need not be installed."""
    kinds = {kind.__name__ for kind in type(model).__mro__} & {"PeftModel", "PeftMixedModel"}
    inside = getattr(model, "_hf_peft_config_loaded", False)
    return bool(kinds or inside) or any(".base_layer." in name for name, _ in model.named_parameters())


def _probe(config: PretrainedConfig, sight: Sight | None, dtype: torch.dtype) -> Prompt:
    """A probe for a Hugging Face configuration: tokens, padding avoided (some models treat it specially), and noise."""
    if sight is not None and sight.token is None:
        return with_noise(sight, torch.zeros(2, 1, dtype=torch.long), dtype=dtype)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    d_vocab = getattr(text, "vocab_size", None)
    if not d_vocab:
        raise ModelError(
            f"a {config.model_type} model takes no token ids",
            hint="open it with TransformerLens itself: the workbench opens models of text and of pictures",
        )
    avoid = frozenset(token for token in (getattr(text, "pad_token_id", None),) if token is not None)
    rows = getattr(text, "max_position_embeddings", None) or 64
    rows -= huggingface.unused_positions(text) + (0 if sight is None else sight.n_tokens)
    tokens = parity.probe_tokens(d_vocab, rows, avoid=avoid)
    return Prompt(tokens) if sight is None else with_noise(sight, tokens, dtype=dtype)


def _device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise no_device(device) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device {device} was asked for, and this torch sees no GPU", hint="--device cpu")
    return device


def _commit(directory: Path) -> str | None:
    """The commit of a Hub snapshot, which names its directory."""
    return directory.name if re.fullmatch(r"[0-9a-f]{40}", directory.name) else None
