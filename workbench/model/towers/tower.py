"""A model of transformers with TransformerLens' hook names on its own layers: what the bridge does not open.

Nothing of the model is replaced or copied. It runs as transformers runs it, through the attention of ``attention.py``,
and is equal to its eager forward to the bit.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import ModelError
from workbench.model.captions import CAPTIONS
from workbench.model.towers.attention import NAME
from workbench.model.towers.blocks import TowerBlock
from workbench.model.towers.captions import alike, vectors
from workbench.model.towers.packing import Packing
from workbench.model.towers.parts import linear, part

_ALIASES = {
    "hook_resid_pre": "hook_in",
    "hook_resid_post": "hook_out",
    "mlp.hook_post": "mlp.out.hook_in",
}
_OUTPUTS = ("logits", "image_embeds", "text_embeds", "last_hidden_state")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "encoder_attention_heads")


@dataclass
class TowerConfig:
    """The fields of a bridge's configuration that say what a tower is made of."""

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int | None
    d_vocab: int
    d_vocab_out: int
    n_ctx: int
    normalization_type: str | None
    positional_embedding_type: str
    act_fn: str | None
    device: torch.device
    dtype: torch.dtype
    model_name: str
    num_experts: int | None = None
    default_prepend_bos: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)


class Tower(HookedRootModule):
    """One stack of layers of a transformers model, with a bridge's hook names; calling it runs the whole model.

    Attributes:
        original_model: transformers' own model.
        blocks: Hook points of this stack's layers: ``blocks.0.hook_in``, ``blocks.0.attn.hook_pattern`` ...
        towers: Every stack of the model by name, ``vision`` and ``text``; hooks of the others are ``text.blocks...``.
        reads: What it cannot be called without: ``input_ids``, ``pixel_values``.
        inner: The other stacks, where a run of this one runs them too: ``vision:a0.h1`` is a head of one.
        keeps_pixels: A pass that begins in one of its layers still needs the picture.
        takes_words: Whether the model has an argument for token ids.
        read_within: Other layers than its last one are read, too: by later layers of a language model.
        all_packing: How the model packs the patches of several pictures; None where each prompt has a row of its own.
    """

    original_model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None

    def __init__(
        self,
        model: PreTrainedModel,
        layers: nn.ModuleList,
        *,
        name: str,
        reads: Sequence[str],
        attention: str = "attn",
        packing: Packing | None = None,
    ) -> None:
        super().__init__()
        self.all_packing, self.read_within = packing, False
        self.name, self.tokenizer, self.reads = name, None, tuple(reads)
        self.keeps_pixels = name == "vision"  # its layers run on them, wherever a pass begins
        self.takes_words = "input_ids" in inspect.signature(model.forward).parameters
        self.original_model = model
        made = [TowerBlock(layer, heads_of(layer, attention), attention, packing) for layer in layers]
        self.blocks, self.cfg = nn.ModuleList(made), _config(model, made[0], len(made))
        self.towers: dict[str, Tower] = {name: self}
        self.inner: dict[str, Tower] = {}
        self.setup()

    def setup(self) -> None:
        """Name every hook point, and give those their second name that bridges have under two."""
        self.mod_dict, self.hook_dict = {}, {}
        for name, module in self.blocks.named_modules(prefix="blocks"):
            self.mod_dict[name] = module
            if hasattr(module, "add_hook"):
                module.name, self.hook_dict[name] = name, module
        for layer in range(len(self.blocks)):
            for other, name in _ALIASES.items():
                if (at := f"blocks.{layer}.{name}") in self.hook_dict:
                    self.mod_dict[f"blocks.{layer}.{other}"] = self.hook_dict[at]

    def beside(self, towers: Mapping[str, Tower]) -> None:
        """Know the other stacks of the same model: their hooks have their names before them here."""
        self.towers = dict(towers)
        others = {name: tower for name, tower in towers.items() if tower is not self}
        self.others = nn.ModuleDict({name: tower.blocks for name, tower in others.items()})
        for name, tower in towers.items():
            self.mod_dict |= {f"{name}.{hook}": point for hook, point in tower.mod_dict.items() if _own(hook)}
            if tower is not self:
                self.hook_dict |= {f"{name}.{hook}": p for hook, p in tower.hook_dict.items() if _own(hook)}

    def run_with_cache(self, *args: Any, **kwargs: Any) -> Any:
        """Do as TransformerLens does; the hooks of this stack have no name of a stack before them."""
        out, cache = super().run_with_cache(*args, **kwargs)
        return out, {name.removeprefix(f"{self.name}."): tensor for name, tensor in cache.items()}

    def forward(self, ids: Tensor | None = None, **inputs: Tensor) -> Float[Tensor, "row pos d"]:
        """Run the model.

        Args:
            ids: Token ids; a model without words takes none and passes over what is given.
            inputs: What it reads besides, by transformers' names: ``pixel_values``; or pictures with captions, as
                ``with_captions`` gives them.

        Returns:
            Logits, class scores as those of one position, how alike a picture is to each caption, an embedding, or the
            last hidden state.
        """
        if CAPTIONS in inputs:
            return alike(self.towers, inputs)
        if self.takes_words and ids is not None:
            inputs = {"input_ids": ids, **inputs}
        if missing := [name for name in self.reads if name not in inputs]:
            raise ModelError(
                f"the {self.name} part of a {type(self.original_model).__name__} reads {' and '.join(self.reads)}; "
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
                hint="model(ids, pixel_values=pixels): one row of pixels for each row of ids",
            )
        if self.all_packing is not None:
            self.all_packing.begin(inputs)
        return answer(self.original_model, inputs)

    def vectors(self, inputs: Mapping[str, Tensor]) -> Float[Tensor, "row *caption d"]:
        """Return what this tower makes of its part of pictures with captions: directions of length 1.

        Args:
            inputs: As ``with_captions`` gives them.
        """
        return vectors(self.towers, "vision" if self is self.towers["vision"] else "text", inputs)

    def __repr__(self) -> str:
        size = f"{self.cfg.n_layers} layers x {self.cfg.n_heads} heads"
        return f"Tower({self.name} of {type(self.original_model).__name__}: {size})"


def answer(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Float[Tensor, "row pos d"]:
    """Run a model of transformers on what is given.

    Returns:
        Logits; of an encoder-decoder those of the word that its decoder begins with; class scores as of one position;
        of pictures beside texts how alike each pair is; of either alone its embedding; else the last hidden state.
    """
    if (
        "image_grid_thw" in inputs and "pixel_values" in inputs
    ):  # the patches of all pictures, one after another
        inputs = {**inputs, "pixel_values": inputs["pixel_values"].flatten(0, 1)}
    if getattr(model.config, "is_encoder_decoder", False):
        begin = torch.full_like(inputs["input_ids"][:, :1], _first_token(model))
        return output_of(model(**inputs, decoder_input_ids=begin, use_cache=False), type(model).__name__)
    if (
        (alone := _FEATURES.get(next(iter(inputs))))
        and len(inputs) == 1
        and hasattr(model, "get_text_features")
    ):
        found = getattr(model, alone)(**inputs)
        return (found if isinstance(found, Tensor) else found.pooler_output)[:, None]
    return output_of(model(**inputs), type(model).__name__)


_FEATURES = {"pixel_values": "get_image_features", "input_ids": "get_text_features"}


def _first_token(model: PreTrainedModel) -> int:
    """The token before the first word of an answer."""
    said = (model.config, getattr(model, "generation_config", None))
    found = [getattr(where, "decoder_start_token_id", None) for where in said]
    found += [
        getattr(model.config, f"{name}_token_id", None) for name in ("pad", "bos")
    ]  # T5 begins with padding
    return next(token for token in found if token is not None)


def _own(hook: str) -> bool:
    return hook.startswith("blocks.")


def output_of(out: Any, what: str) -> Float[Tensor, "row pos d"]:
    """Return the answer in the output of a transformers model.

    Raises:
        ModelError: if it has none.
    """
    if out.get("logits_per_image") is not None:
        return out["logits_per_image"].diagonal()[:, None, None]
    found = next((out[name] for name in _OUTPUTS if out.get(name) is not None), None)
    if found is None:
        raise ModelError(
            f"a {what} answers with {', '.join(out)}; one of {', '.join(_OUTPUTS)} is expected",
            hint="docs/families.md lists the models with towers that open",
        )
    return found[:, None] if found.dim() == 2 else found


def heads_of(layer: nn.Module, attention: str = "attn") -> int:
    """Say how many heads a layer's attention has."""
    attn = part(layer, attention)
    for holder in (attn, getattr(attn, "config", None)):
        for name in _HEADS:
            if isinstance(found := getattr(holder, name, None), int):
                return found
    raise ModelError(
        f"how many heads a {type(attn).__name__} has is not said by {', '.join(_HEADS)}",
        hint="docs/families.md lists the models with towers that open",
    )


def use_hooked_attention(model: PreTrainedModel) -> None:
    """Let every attention of a model go through the registered function."""
    for module in model.modules():
        if (config := getattr(module, "config", None)) is not None and hasattr(
            config, "_attn_implementation"
        ):
            config._attn_implementation_internal = NAME


def _config(model: PreTrainedModel, block: TowerBlock, n_layers: int) -> TowerConfig:
    """What the first layer and the weights say; how many positions there are is seen in a pass."""
    attn = block.attn
    last = None if block.mlp is None else part(block.mlp.original_component, "out")
    config, first = getattr(attn.original_component, "config", model.config), next(model.parameters())
    return TowerConfig(
        n_layers=n_layers,
        n_heads=attn.n_heads,
        d_model=linear(attn.original_component, "o").out_features,
        d_head=attn.d_head,
        d_mlp=last.in_features if isinstance(last, nn.Linear) else None,
        d_vocab=0,
        d_vocab_out=-1,
        n_ctx=0,
        normalization_type=_norm(block.ln1),
        positional_embedding_type="standard",
        act_fn=next((getattr(config, n) for n in ("hidden_act", "activation") if hasattr(config, n)), None),
        device=first.device,
        dtype=first.dtype,
        model_name=type(model).__name__,
    )


def _norm(module: nn.Module | None) -> str | None:
    if module is None:
        return None
    return "RMS" if "RMS" in type(module).__name__ else "LN"
