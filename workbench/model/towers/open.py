"""Opening a model of transformers as towers: every stack of layers with attention gets a bridge's hook names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.core.errors import ModelError
from workbench.model.towers.classes import DEEP, PACKS, PAINTS, READS, SPEAKS
from workbench.model.towers.packing import Packing
from workbench.model.towers.parts import part, stacks
from workbench.model.towers.tower import Tower, answer, use_hooked_attention

_PICTURES = ("vision", "visual", "image", "vit", "dino", "beit")
MAIN = ("vision", "encoder", "text")


@torch.no_grad()
def plain_answer(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Compute what a model of transformers answers by itself."""
    return answer(model, inputs)


def hang_towers(
    model: PreTrainedModel, inputs: Mapping[str, Tensor], *, tokenizer: PreTrainedTokenizerBase | None = None
) -> Tower:
    """Hang hook points on a model, in place: on all of its stacks.

    Args:
        inputs: What it is called with, once, to see how many positions each stack has.

    Returns:
        The stack that a plain address means: the language model, the encoder, or the only one for pictures. ``towers``
        has all.

    Raises:
        ModelError: if no layer with attention is found in it.
    """
    kind = type(model).__name__
    speaks, reads, found = kind in SPEAKS, READS[kind], {}
    packing = Packing() if kind in PACKS else None
    for name, layers, attention in _named_stacks(model, reads):
        if name in found:
            raise ModelError(
                f"a {kind} has two stacks for {name}; one is expected",
                hint="docs/families.md lists the models with towers that open",
            )
        own = reads if len(reads) == 1 or kind in PAINTS else (_ALONE[name],)
        packed = packing if name == "vision" else None
        found[name] = Tower(model, layers, name=name, reads=own, attention=attention, packing=packed)
    if not found:
        raise ModelError(
            f"no stack of layers with attention is found in a {kind}",
            hint="docs/families.md lists the architectures that open",
        )
    use_hooked_attention(model)
    for tower in found.values():
        tower.all_packing = packing
        tower.keeps_pixels = tower.keeps_pixels or kind in DEEP
        several = isinstance(getattr(model.config, "vision_feature_layer", None), list | tuple)
        tower.read_within = tower.name == "vision" and (kind in DEEP or several)
        _measure_positions(tower, inputs)
        tower.tokenizer = tokenizer
        tower.cfg.default_prepend_bos = speaks and getattr(tokenizer, "bos_token_id", None) is not None
    for name, tower in found.items() if len(found) > 1 else ():
        tower.beside(found)
        for point in tower.blocks.modules():
            if isinstance(point, HookPoint):
                point.name = f"{name}.{point.name}"  # one name each: caches go by it
    for tower in found.values():
        tower.eval()
    main = found["text"] if speaks else next(found[name] for name in MAIN if name in found)
    if len(reads) == 1 or kind in PAINTS:  # one call runs them all
        main.inner = {name: tower for name, tower in found.items() if tower is not main}
    return main


_ALONE = {"vision": "pixel_values", "text": "input_ids"}


def _named_stacks(model: PreTrainedModel, reads: tuple[str, ...]) -> Iterator[tuple[str, nn.ModuleList, str]]:
    """Name, layers, and which of their attentions, of each stack; a decoder has two: its own, and to the encoder."""
    for place, layers in stacks(model):
        if "qformer" in place:
            continue  # no hook points there
        if type(model).__name__ in PAINTS:
            yield "vision", layers, "attn"
            yield "cross", layers, "cross"
            continue
        if not getattr(model.config, "is_encoder_decoder", False):
            sees = _sees(place, reads)
            yield ("vision", _read(model, layers), "attn") if sees else ("text", layers, "attn")
            continue
        yield "decoder" if "decoder" in place else "encoder", layers, "attn"
        if part(layers[0], "cross") is not None:
            yield "cross", layers, "cross"


def _read(model: PreTrainedModel, layers: nn.ModuleList) -> nn.ModuleList:
    """The layers of a tower that the language model reads, where its configuration says up to which."""
    said = getattr(model.config, "vision_feature_layer", None)
    if type(model).__name__ not in PACKS or said is None:
        return layers
    ends = [said] if isinstance(said, int) else said
    return layers[: max(end if end >= 0 else len(layers) + 1 + end for end in ends)]


def _sees(place: str, reads: tuple[str, ...]) -> bool:
    if "input_ids" not in reads:
        return True
    return any(word in place for word in _PICTURES)


@torch.no_grad()
def _measure_positions(tower: Tower, inputs: Mapping[str, Tensor]) -> None:
    """How many positions a stack has, and what its ids are: words, or the numbers of positions in a picture."""
    seen: list[Tensor] = []
    kind = type(tower.original_model).__name__
    with tower.hooks(fwd_hooks=[("blocks.0.hook_in", lambda tensor, hook: seen.append(tensor))]):
        out = tower(
            **{name: value for name, value in inputs.items() if name in tower.reads or len(READS[kind]) == 1}
        )
    config = tower.original_model.config
    text = getattr(config, "text_config", config)
    longest = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    words = "input_ids" in tower.reads and kind not in PAINTS
    tower.cfg.n_ctx = (longest or 512) if words else seen[0].shape[1]
    tower.cfg.d_vocab = text.vocab_size if words else tower.cfg.n_ctx
    tower.cfg.d_vocab_out = out.shape[-1]
