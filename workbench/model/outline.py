"""A model's shape from its configuration and weight headers alone: what a dry run needs, before anything is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.circuits.graph import GraphShape
from workbench.core.errors import ModelError
from workbench.model import builtin as zoo
from workbench.model.directory import read_configuration
from workbench.model.stored_tensors import read_headers
from workbench.model.wiring import no_tower
from workbench.model.without_heads import PositionMixer, mixer_of_family
from workbench.tasks.pictures.names import COMPARES

# A norm or a multiplier stands between the sum of the heads and the residual stream.
_LAYER_WRITES = ("gemma2", "gemma3", "gemma3_text", "olmo2", "olmo3", "granite", "granitemoe")
_PARALLEL = ("gpt_neox", "gptj", "phi", "cohere", "falcon")


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Layers, heads and sizes as the configuration states them.

    It has the fields of a measured ``Wiring`` that decide which interventions there are; whether they are live is
    only known once the model is open.

    Attributes:
        towers: Further stacks by name; of a model that compares pictures with captions both, its own one too.
        n_positions, n_pixels: Of a stack for pictures: its positions, and the numbers of one picture.
        compares: The model compares pictures with captions; its own stack is that for pictures.
    """

    name: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    n_parameters: int | None
    attn_only: bool
    parallel: bool
    head_writes: bool
    n_block_parameters: int | None = None
    d_head: int | None = None
    d_vocab: int | None = None
    towers: Mapping[str, Outline] = field(default_factory=dict)
    n_positions: int | None = None
    n_pixels: int = 0
    compares: bool = False
    mixer: PositionMixer | None = None  # what reads other positions in a family without heads
    n_read: int | None = None  # layers of a tower that are read, where its configuration says so

    def of(self, tower: str | None) -> Outline:
        """Return the outline of a tower; None is the model's own stack.

        Raises:
            ModelError: if it has no such tower.
        """
        if tower is None:
            return self
        if tower not in self.towers:
            raise no_tower(tower, self.towers)
        return self.towers[tower]

    def flop(self, tokens: int, layers: int | None = None) -> float | None:
        """Floating-point operations of the matrix products of one prompt through the last ``layers`` layers.

        Weights of the blocks at every token, scores and values of attention over all positions, and the unembedding
        at one position. None without the weights' headers.
        """
        layers = self.n_layers if layers is None else layers
        if self.n_block_parameters is None:
            share = layers / self.n_layers
            return None if self.n_parameters is None else 2.0 * self.n_parameters * tokens * share
        width = self.n_heads * (self.d_head or self.d_model // self.n_heads)
        block = 2.0 * tokens * self.n_block_parameters / self.n_layers + 4.0 * tokens**2 * width
        return layers * block + 2.0 * self.d_model * (self.d_vocab or 0)

    @property
    def attention_layers(self) -> tuple[int, ...]:
        return tuple(range(self.n_layers)) if self.n_heads else ()

    @property
    def mlp_layers(self) -> tuple[int, ...]:
        return () if self.attn_only or not self.n_heads else tuple(range(self.n_layers))

    def shape(self, level: str, *, with_tower: bool = False) -> GraphShape:
        """Return the computation graph's shape at a level; where it is asked, with the tower that sees."""
        if with_tower and self.compares:
            return replace(
                self.towers["text"].shape(level), tower=self.towers["vision"].shape(level), meets=True
            )
        tower = self.towers["vision"].shape(level) if with_tower else None
        return GraphShape(
            tower=tower,
            n_layers=self.n_layers if self.n_read is None else self.n_read,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            parallel=self.parallel,
            head_writes=self.head_writes or level == "node",
            mlp_layers=() if self.attn_only else None,
        )


def outline(
    name: str, *, offline: bool | None = None, revision: str | None = None, sizes: bool = True
) -> Outline:
    """Return the outline of a model by name; no weights are read, only their headers.

    Args:
        sizes: Count the parameters too; without it nothing but the configuration is read.

    Raises:
        ModelError: if the model cannot be found, or its configuration does not state layers and heads.
    """
    directory = zoo.locate(name).directory
    if directory is None:
        from workbench.model import hub  # a third of a second

        directory = hub.fetch(name, revision=revision, offline=hub.is_offline(offline), code=False)
    file = next((directory / f for f in ("tl_native.json", "config.json") if (directory / f).is_file()), None)
    if file is None:
        raise ModelError(f"{directory} has no config.json", hint="give a Hugging Face model directory")
    config = read_configuration(file)
    if set(config.get("architectures") or ()) & set(COMPARES):
        return _comparing(name, config, directory if sizes else None)
    config = {**config, **(config.get("text_config") or {})}
    heads = 0  # state-space models: nothing in their configuration is of heads
    if any("head" in key for key in config):
        heads = _first(config, file, "num_attention_heads", "n_head", "n_heads")
    kind = str(config.get("model_type", "native"))
    parallel = bool(config.get("use_parallel_residual", kind in _PARALLEL) or config.get("parallel_attn_mlp"))
    towers = _towers(name, config, directory if sizes else None)
    return Outline(
        name=name,
        n_layers=_first(config, file, "num_hidden_layers", "n_layer", "n_layers"),
        n_heads=heads,
        n_kv_heads=config.get("num_key_value_heads") or config.get("n_key_value_heads") or heads,
        d_model=_first(config, file, "hidden_size", "n_embd", "d_model"),
        n_parameters=_parameters(directory) if sizes else None,
        attn_only=bool(config.get("attn_only")),
        parallel=parallel,
        head_writes=kind not in _LAYER_WRITES,
        n_block_parameters=_parameters(directory, blocks=True, tower=False if towers else None)
        if sizes
        else None,
        d_head=next((config[k] for k in ("head_dim", "d_head") if isinstance(config.get(k), int)), None),
        d_vocab=next((config[k] for k in ("vocab_size", "d_vocab") if isinstance(config.get(k), int)), None),
        towers=towers,
        n_positions=_positions(config),
        n_pixels=_pixels(config),
        mixer=None if heads else mixer_of_family(kind),
    )


def _comparing(name: str, config: Mapping[str, Any], directory: Path | None) -> Outline:
    """A CLIP or SigLIP: its own stack is that for pictures, and both have names."""
    vision = _stack(f"{name}, vision", config["vision_config"], directory, tower=True)
    text = _stack(f"{name}, text", config["text_config"], directory, tower=False)
    whole = None if directory is None else _parameters(directory)
    return replace(
        vision, name=name, n_parameters=whole, towers={"vision": vision, "text": text}, compares=True
    )


def _stack(name: str, config: Mapping[str, Any], directory: Path | None, *, tower: bool) -> Outline:
    """One stack by the fields of its own configuration; what it leaves out is as in the first models of its kind.

    Args:
        tower: Whether it is the one for pictures.
    """
    heads, width = (8, 512) if config.get("model_type") == "clip_text_model" else (12, 768)
    usual = {"num_hidden_layers": 12, "num_attention_heads": heads, "hidden_size": width}
    layers, heads, width = (int(config.get(key, value)) for key, value in usual.items())
    count = None if directory is None else _parameters(directory, blocks=True, tower=tower)
    return Outline(
        name=name,
        n_layers=layers,
        n_heads=heads,
        n_kv_heads=heads,
        d_model=width,
        n_parameters=count,
        n_block_parameters=count,
        n_positions=_positions(config) if tower else None,
        n_pixels=_pixels(config) if tower else 0,
        attn_only=False,
        parallel=False,
        head_writes=True,
    )


def _positions(vision: Mapping[str, Any]) -> int | None:
    """Patches and a class token of one picture."""
    side, patch = vision.get("image_size"), vision.get("patch_size")
    return (side // patch) ** 2 + 1 if isinstance(side, int) and isinstance(patch, int) else None


def _pixels(vision: Mapping[str, Any]) -> int:
    """Numbers of one picture."""
    side = vision.get("image_size")
    return 3 * side**2 if isinstance(side, int) else 0


def _towers(name: str, config: Mapping[str, Any], directory: Path | None) -> dict[str, Outline]:
    """The tower for pictures behind a language model, where its configuration states layers and heads.

    Args:
        directory: Where its parameters are counted; None leaves them out.
    """
    vision = config.get("vision_config")
    if not isinstance(vision, Mapping) or "text_config" not in config:
        return {}
    sizes = [vision.get(key) for key in ("num_hidden_layers", "num_attention_heads", "hidden_size")]
    if not all(isinstance(size, int) for size in sizes):
        return {}
    tower = _stack(f"{name}, vision", vision, directory, tower=True)
    return {"vision": replace(tower, n_read=_n_read(config.get("vision_feature_layer"), tower.n_layers))}


def _n_read(layer: object, n_layers: int) -> int | None:
    """How many layers of a tower are read, by the configuration of LLaVA: -1 is the last, -2 the one before."""
    if not isinstance(layer, int) or isinstance(layer, bool) or not -n_layers <= layer <= n_layers:
        return None
    return layer if layer > 0 else n_layers + 1 + layer


def _first(config: Mapping[str, Any], file: Path, *keys: str) -> int:
    for key in keys:
        if isinstance(config.get(key), int):
            return int(config[key])
    raise ModelError(
        f"{file} has none of {', '.join(keys)}",
        hint="leave --dry-run out: this model can be planned only once it is open",
    )


def _parameters(directory: Path, *, blocks: bool = False, tower: bool | None = None) -> int | None:
    """Numbers stored in the weight files, from their headers; None when there are none in safetensors.

    Args:
        blocks: Only those of matrices in numbered layers.
        tower: Only those of a tower for pictures, or only the others; None counts both.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        return None
    found = [
        t for t in read_headers(files) if not blocks or (len(t.shape) > 1 and re.search(r"\.\d+\.", t.name))
    ]
    return sum(math.prod(t.shape) for t in found if tower is None or ("vision" in t.name) == tower)
