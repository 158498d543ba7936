"""Where a picture goes in a model that sees: tower, connector, language model, and where its tokens stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from workbench.model.inner_towers import towers_of
from workbench.model.lens import is_tower
from workbench.model.sight import sight_of
from workbench.tasks.pictures.sight import Sight

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

CONNECTORS = (
    *("multi_modal_projector", "connector", "merger", "deepstack_merger_list", "qformer"),
    *("language_projection", "visual_projection", "text_projection"),
)
"""What transformers calls the parts between a tower and what reads it."""
NONE = "none"


@dataclass(frozen=True, kw_only=True)
class MultimodalLayout:
    """What a picture passes through in a model, and at which positions it arrives.

    Attributes:
        meets: How picture and words come together: *in one row* of a language model's input, *at the end* as two
            embeddings that are compared, *by cross-attention* in a model that paints, or *never*: it reads no words.
        tower, tower_size: The layers that read pixels alone: what transformers calls them, and how large they are.
        connector, connector_size: What stands between the tower and what reads it, and how many weights it has.
        language_model, language_size: The layers that read words.
        image_tokens: How many positions a picture takes, and which.
        n_image_tokens: How many; of pictures of several sizes those of one of them.
        rows, columns: Of its patches; of queries that have no place, one row.
    """

    meets: str
    tower: str
    connector: str
    language_model: str
    image_tokens: str
    tower_size: str = ""
    connector_size: str = ""
    language_size: str = ""
    n_image_tokens: int
    rows: int
    columns: int

    def row(self, *, sizes: bool = True) -> dict[str, str]:
        """Return what people read, by the names of columns.

        Args:
            sizes: With how large the parts are; a table of families leaves them out.
        """
        parts = {
            "tower": (self.tower, self.tower_size),
            "connector": (self.connector, self.connector_size),
            "language model": (self.language_model, self.language_size),
        }
        told = {name: f"{what}: {size}" if sizes and size else what for name, (what, size) in parts.items()}
        return {**told, "picture and words meet": self.meets, "where image tokens stand": self.image_tokens}

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def multimodal_layout(bridge: TransformerBridge) -> MultimodalLayout | None:
    """Say where a picture goes in an opened model, from its configuration and its modules.

    Returns:
        None for a model that takes no picture, or in a way that is not known here (its text part alone is open).

    Example:
        >>> import workbench as wb
        >>> found = multimodal_layout(wb.open_model("zoo:vlm"))
        >>> found.meets, found.n_image_tokens, (found.rows, found.columns)
        ('in one row', 36, (6, 6))
        >>> multimodal_layout(wb.open_model("zoo:ioi")) is None
        True
    """
    sight = sight_of(bridge)
    if sight is None:
        return None
    (tower, tower_size), (words, language_size) = _stacks(bridge, sight)
    connectors = dict(_connectors(bridge.original_model))
    return MultimodalLayout(
        meets=_meets(sight),
        tower=tower,
        tower_size=tower_size,
        connector=", ".join(connectors) or NONE,
        connector_size=", ".join(f"{n:,} weights" for n in connectors.values()),
        language_model=words,
        language_size=language_size,
        image_tokens=_tokens(bridge, sight, asked="qformer" in connectors),
        n_image_tokens=sight.n_tokens,
        rows=sight.grid[0],
        columns=sight.grid[1],
    )


def _meets(sight: Sight) -> str:
    if sight.paints is not None:
        return "by cross-attention"
    return (
        "in one row" if sight.token is not None else "at the end" if sight.captions is not None else "never"
    )


def _stacks(bridge: Any, sight: Sight) -> tuple[tuple[str, str], tuple[str, str]]:
    """The layers that read pixels and those that read words: what they are called, and how large they are."""
    config = getattr(bridge.original_model, "config", None)
    vision, text = (getattr(config, f"{which}_config", config) for which in ("vision", "text"))
    if sight.token is not None:
        inner = towers_of(bridge).get("vision")
        seen = "layers that are not shown" if inner is None else _shape(inner)
        return (_kind(vision) + _read(config), seen), (_kind(text), _shape(bridge))
    if sight.paints is not None:
        own = f"{NONE}: {sight.paints.n_words} words are embedded, and every layer looks at them"
        return (_kind(config), _shape(bridge)), (own, "")
    stacks = bridge.towers if is_tower(bridge) else {"vision": bridge}
    words = (_kind(text), _shape(stacks["text"])) if "text" in stacks else (NONE, "")
    return (_kind(vision), _shape(stacks["vision"])), words


def _kind(config: Any) -> str:
    return str(getattr(config, "model_type", "") or "its own")


def _shape(stack: Any) -> str:
    cfg = stack.cfg
    return f"{cfg.n_layers} layers x {cfg.n_heads} heads, width {cfg.d_model}"


def _read(config: Any) -> str:
    """Which layers of a tower are read, where its configuration names others than the last."""
    layer = getattr(config, "vision_feature_layer", None)
    if layer is None or layer == -1:
        return ""
    if isinstance(layer, list | tuple):
        return f" (layers {' and '.join(map(str, layer))} are read)"
    return f" (layer {layer} is read)"


def _connectors(model: nn.Module) -> Iterator[tuple[str, int]]:
    """The outermost modules that are called as connectors are, with the number of their weights."""
    outer: list[str] = []
    for name, module in model.named_modules():
        own = name.rpartition(".")[2]
        if own in CONNECTORS and not any(name.startswith(f"{one}.") for one in outer):
            outer.append(name)
            yield own, sum(p.numel() for p in module.parameters())


def _tokens(bridge: TransformerBridge, sight: Sight, *, asked: bool) -> str:
    """Where they stand.

    Args:
        asked: The connector asks the tower with so many learned queries, which have no place in the picture.
    """
    rows, columns = sight.grid
    patches = (
        f"{columns} queries of the connector, none of a place" if asked else f"{rows} x {columns} patches"
    )
    parts = [f"{sight.first} ({sight.before}) before {patches}" if sight.first else patches]
    if sight.gap:
        parts.append(f"{sight.gap} behind each row of them")
    if sight.row_ends is not None:
        parts.append(f"{sight.row_ends[0]} ends a row of them, {sight.row_ends[1]} the picture")
    several = " for a picture of this size, others for others" if sight.sizes is not None else ""
    found = f"{sight.n_tokens} token{'s'[: sight.n_tokens != 1]}{several}: {', '.join(parts)}"
    if sight.token is None:
        return f"a row of its own, {found}"
    word = None if bridge.tokenizer is None else bridge.tokenizer.convert_ids_to_tokens(sight.token)
    return f"among the words, wherever {word or 'the image token'} (id {sight.token}) stands; {found}"


__all__ = ["MultimodalLayout", "multimodal_layout"]
