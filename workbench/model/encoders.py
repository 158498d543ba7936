"""Encoders without a language-model head (BertModel): bridged so that the output is the last hidden state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
from transformers import BertModel, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from workbench.model import tokenizers

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter


@dataclass(frozen=True, kw_only=True)
class Bare:
    """A headless model class, and the class with a head whose bridge layout it shares."""

    model_class: type
    architecture: str
    prefix: str  # attribute under which the headed class keeps the headless one


BARE: Mapping[str, Bare] = MappingProxyType(
    {"BertModel": Bare(model_class=BertModel, architecture="BertForMaskedLM", prefix="bert")}
)
_HEAD = ("mlm_head", "ln_final", "unembed", "nsp_head")


class Headless(nn.Module):
    """Holds an encoder where TransformerLens looks for it; runs it and adds nothing."""

    def __init__(self, model: PreTrainedModel, prefix: str) -> None:
        super().__init__()
        self.config = model.config
        self.prefix = prefix
        self.add_module(prefix, model)

    def forward(self, input_ids: Tensor | None = None, **kwargs: object) -> object:
        return getattr(self, self.prefix)(input_ids, **kwargs)


def bare_encoder(config: PretrainedConfig) -> Bare | None:
    """Return the entry for a configuration that names a headless encoder."""
    for name in getattr(config, "architectures", None) or ():
        if name in BARE:
            return BARE[name]
    return None


def drop_pooler(model: PreTrainedModel) -> None:
    """Take the pooler away from a headless encoder: it is no part of the last hidden state."""
    if type(model).__name__ in BARE:
        encoder: Any = model
        encoder.pooler = None


def bridge_from_encoder(
    model: PreTrainedModel, name: str, *, tokenizer: PreTrainedTokenizerBase | None
) -> TransformerBridge:
    """Wrap a headless encoder; calling the bridge returns Float[pair pos d_model], the last hidden state."""
    bare = BARE[type(model).__name__]
    model.set_attn_implementation("eager")  # any other implementation silently drops the attention patterns
    drop_pooler(model)
    return build_bridge_from_module(
        Headless(model, bare.prefix),
        bare.architecture,
        hf_config=model.config,
        tokenizer=None if tokenizer is None else tokenizers.prepare(tokenizer),
        model_name=name,
        post_adapter_hook=_drop_head,
    )


def _drop_head(adapter: ArchitectureAdapter) -> None:
    for part in _HEAD:
        (adapter.component_mapping or {}).pop(part, None)
