"""Loading Hugging Face weights into a bridge: nothing missing or mismatched, nothing executed unasked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import Tensor, nn
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources._bridge_builder import (
    build_bridge_config_from_hf,
    build_bridge_from_module,
)
from transformer_lens.model_bridge.sources._hf_format import determine_architecture_from_hf_config
from transformer_lens.model_bridge.sources.transformers import helpers
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.bounds import exists
from workbench.core.errors import ModelError, explaining
from workbench.model import classifiers, encoders, latent, tokenizers
from workbench.model.digest import Weight
from workbench.model.directory import read_configuration, refuse_code
from workbench.model.flow_painter import OWN_TYPES
from workbench.model.pickles import check_archive, refused
from workbench.model.sizes import refuse_larger, refuse_more_parts

if TYPE_CHECKING:
    from transformer_lens import TransformerBridgeConfig

_WHOLE = "workbench model check NAME says more; was it downloaded whole?"


def never_install() -> None:
    """Keep TransformerLens from running pip when an image processor is missing."""
    helpers._ensure_torchvision = lambda: False


never_install()


def read_config(directory: Path, *, trust_remote_code: bool) -> PretrainedConfig:
    """Return the configuration of a local model directory.

    Raises:
        ModelError: if it is missing, unreadable, or asks to run code that came with the model.
    """
    path = directory / "config.json"
    if not exists(path):
        raise ModelError(
            f"{directory} has no config.json",
            hint="a Hugging Face model directory holds config.json and model.safetensors; "
            "a native one holds tl_native.json (workbench model import makes one)",
        )
    fields = read_configuration(path)
    if not trust_remote_code:
        refuse_code(path, fields)
    refuse_more_parts(path, fields)
    if own := OWN_TYPES.get(str(fields.get("model_type"))):
        import_module(own)
    hint = "it is damaged, or of a newer version of transformers: download or copy it again"
    with explaining(f"{path} cannot be used", error=ModelError, hint=hint), _quiet():
        return transformers.AutoConfig.from_pretrained(
            str(directory), trust_remote_code=trust_remote_code, local_files_only=True
        )


AnyClass = type[PreTrainedModel] | type[transformers.AutoModelForCausalLM]


class CheckedLoader:
    """Stands in for a transformers class while TransformerLens loads: the same weights, checked."""

    def __init__(
        self,
        directory: Path,
        model_class: type[PreTrainedModel],
        device: str,
        probe: Callable[[PreTrainedModel], Tensor],
    ) -> None:
        self.directory, self.model_class, self.device, self.probe = directory, model_class, device, probe
        self._answers: list[Tensor] = []

    @property
    def plain(self) -> Tensor:
        """What the probe made of the model as it was loaded."""
        return self._answers[-1]

    def from_pretrained(self, name: str, **kwargs: object) -> PreTrainedModel:
        model = load_checked(self.directory, self.model_class, **kwargs).eval()
        if kwargs.get("device_map") is None:
            model = model.to(self.device)
        self._answers.append(self.probe(model))
        return model


def load_checked(directory: Path, model_class: AnyClass, **kwargs: Any) -> PreTrainedModel:
    """Load weights and refuse a checkpoint that lacks tensors (transformers would make up random ones).

    Raises:
        ModelError: on missing or misshapen tensors and on files that cannot be read.
    """
    if not any(directory.glob("*.safetensors")):
        for file in sorted(directory.glob("*.bin")):
            check_archive(file)
    what = f"the weights in {directory} cannot be loaded"
    kwargs |= {"ignore_mismatched_sizes": True}  # they are refused below, by name
    with explaining(what, error=ModelError, hint=_WHOLE), _quiet():
        try:
            found: Any = model_class.from_pretrained(str(directory), output_loading_info=True, **kwargs)
        except UnpicklingError as error:
            raise ModelError(
                f"a .bin file in {directory} {refused(error)}", hint="use safetensors"
            ) from error
    model, info = found
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{directory} lacks {len(missing)} tensors of a {type(model).__name__}: {', '.join(missing[:4])}",
            hint="the checkpoint is incomplete: copy the missing weights, or correct the architecture in config.json",
        )
    if mismatched := sorted(_in_words(entry) for entry in info["mismatched_keys"]):
        raise ModelError(
            f"{directory} has tensors of the wrong shape: {'; '.join(mismatched[:4])}",
            hint="download or copy config.json and the weights again: they do not belong together",
        )
    return model


def _in_words(mismatch: object) -> str:
    """A tensor of the wrong shape, as transformers names it: (name, shape in the file, shape in the model)."""
    if not isinstance(mismatch, tuple | list) or len(mismatch) != 3:
        return str(mismatch)
    name, there, expected = mismatch
    return f"{name} {tuple(there)}, {tuple(expected)} is expected"


def bridge_from_directory(
    directory: Path,
    name: str,
    *,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    device: str,
    dtype: torch.dtype,
    trust_remote_code: bool,
    stored: Mapping[str, Weight],
    device_map: str | None = None,
    probe: Callable[[PreTrainedModel], Tensor],
) -> tuple[TransformerBridge, Tensor]:
    """Return a bridge around the weights in a directory, and the plain model's answer to `probe` before wrapping.

    Args:
        stored: The tensors of the weight files.

    Raises:
        ModelError: if it asks for more than the files hold, lacks tensors, or a library cannot read it.
    """
    bare = encoders.bare_encoder(config)
    architecture = bare.architecture if bare else _architecture(config, directory)
    model_class = bare.model_class if bare else helpers.get_hf_model_class_for_architecture(architecture)
    head = classifiers.head_of(config)
    if head is not None:
        model_class = classifiers.class_of(head, model_class)
    if not trust_remote_code:  # code of others need not be able to run without memory
        refuse_larger(directory / "config.json", lambda: _empty(model_class, config), stored)
    loader = CheckedLoader(directory, model_class, device, probe)
    place = {"device": device} if device_map is None else {"device_map": device_map}
    if bare or head or tokenizer is None:
        kwargs = {"dtype": dtype, "attn_implementation": "eager", "trust_remote_code": trust_remote_code}
        if bare:
            kwargs |= {"add_pooling_layer": False}
            kwargs.pop("trust_remote_code")
        if device_map is not None:
            kwargs["device_map"] = device_map
        model = loader.from_pretrained(name, **kwargs)
        return bridge_from_model(model, name, tokenizer=tokenizer), loader.plain
    with explaining(f"TransformerLens cannot open {directory}", error=ModelError, hint=_WHOLE), _quiet():
        bridge = TransformerBridge.boot_transformers(
            str(
                directory.resolve()
            ),  # TransformerLens would take gpt-oss for its short name of a model of the Hub
            **place,
            dtype=dtype,
            tokenizer=tokenizers.prepare(tokenizer),
            trust_remote_code=trust_remote_code,
            model_class=loader,
        )
    bridge.cfg.model_name = name
    _collect_no_attentions(bridge.original_model)
    latent.set_axes(bridge)
    return bridge, loader.plain


def bridge_from_model(
    model: PreTrainedModel, name: str, *, tokenizer: PreTrainedTokenizerBase | None
) -> TransformerBridge:
    """Wrap a Hugging Face model in place; afterwards its submodules belong to the bridge."""
    if not getattr(model.config, "architectures", None):
        model.config.architectures = [
            type(model).__name__
        ]  # without it TransformerLens guesses from model_type
    if type(model).__name__ in encoders.BARE:
        return encoders.bridge_from_encoder(model, name, tokenizer=tokenizer)
    if head := classifiers.head_of(model.config):
        return _bridge_from_classifier(model, head, name, tokenizer=tokenizer)
    model.set_attn_implementation("eager")  # any other implementation silently drops the attention patterns
    architecture = _architecture(model.config, name)
    with explaining(
        f"TransformerLens cannot wrap {name}",
        error=ModelError,
        hint="docs/families.md lists the architectures that open",
    ):
        bridge = build_bridge_from_module(
            model,
            architecture,
            hf_config=model.config,
            tokenizer=None if tokenizer is None else tokenizers.prepare(tokenizer),
            model_name=name,
        )
    latent.set_axes(bridge)
    return bridge


def _bridge_from_classifier(
    model: PreTrainedModel, head: str, name: str, *, tokenizer: PreTrainedTokenizerBase | None
) -> TransformerBridge:
    """Wrap a decoder with a classification head, which becomes the unembedding."""
    words = helpers.get_hf_model_class_for_architecture(_architecture(model.config, name))
    classifiers.class_of(head, words)
    size = len(classifiers.class_names(model.config))
    bridge = bridge_from_model(classifiers.as_language_model(model, words), name, tokenizer=tokenizer)
    bridge.cfg.d_vocab_out = size
    return bridge


def adapter_config(config: PretrainedConfig, where: object) -> TransformerBridgeConfig:
    """TransformerLens' configuration of this architecture: vocabulary, context, direction, whether BOS comes first."""
    bare = encoders.bare_encoder(config)
    architecture = bare.architecture if bare else _architecture(config, where)
    fields = build_bridge_config_from_hf(config, architecture, str(where), torch.float32)
    cfg = ArchitectureAdapterFactory.select_architecture_adapter(fields).cfg
    if names := classifiers.class_names(config):
        cfg.d_vocab_out = len(names)
    if (
        architecture == "RobertaForMaskedLM"
    ):  # positions begin after the padding id; TransformerLens asks the weights
        cfg.n_ctx -= (config.pad_token_id or 0) + 1
    return cfg


def unused_positions(config: PretrainedConfig) -> int:
    """Return rows of the position table that no token uses: RoBERTa counts from the padding id on."""
    return (config.pad_token_id or 0) + 1 if config.model_type == "roberta" else 0


def _collect_no_attentions(model: nn.Module) -> None:
    """Undo `output_attentions=True`, which TransformerLens sets when it loads.

    The hooks fire without it; with it every pattern is kept until the forward ends, and blocks have to return
    tuples, so that skipping some (`resume_from`) failed on Falcon, Bloom and GPT-J.
    """
    for module in model.modules():
        if isinstance(config := getattr(module, "config", None), PretrainedConfig):
            config.output_attentions = False


def _architecture(config: PretrainedConfig, where: object) -> str:
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{where} is an encoder-decoder model ({config.model_type})",
            hint="open it with TransformerLens itself: the workbench works on decoders and on encoders",
        )
    try:
        return determine_architecture_from_hf_config(config)
    except ValueError as error:
        names = ", ".join(getattr(config, "architectures", None) or ["no architecture"])
        raise ModelError(
            f"{where} is a {config.model_type} model ({names}), which TransformerLens does not support",
            hint="docs/families.md lists the families that are tested",
        ) from error


def _empty(model_class: Any, config: PretrainedConfig) -> nn.Module:
    """The model of a configuration, without its weights."""
    is_auto = model_class.__module__.endswith("modeling_auto")
    return model_class.from_config(config) if is_auto else model_class(config)


@contextmanager
def _quiet():
    """No progress bars and no advice while loading; what matters is raised by the checks above."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    level = logging.getLogger("transformers").level
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.getLogger("transformers").setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
