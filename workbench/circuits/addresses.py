"""Addresses of the parts of a model: one grammar, built and split only here.

========================  =====================================================
``input``                 token plus positional embedding
``a9.h9``                 head 9 of layer 9 (what it writes to the residual stream)
``a9``                    the whole attention layer (the writer in post-norm models)
``m3``                    the MLP of layer 3
``m3.n17``                hidden unit 17 of that MLP, after the activation function
``r5``                    the residual stream entering layer 5
``logits``                the input of the final norm; it only reads
``a9.h9<q>``              the query input of a head; also ``<k>``, ``<v>``, ``<pattern>``
``a9.g1<k>``              the key input of one KV group (grouped-query attention)
``a9.h9@S2``, ``m3@14``   one named or numbered position
``a5.h5->a9.h9<q>``       an edge
``vision:a2.h1``          a part of another stack of the model, here its tower for pictures
``vision:embed``          what enters the first layer of that tower: its patches, and their places
``text:embed``            the same of the tower that reads captions beside pictures
``projector``             what a tower's projector writes: the picture's rows of the language model's input
========================  =====================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from workbench.core.errors import NameFormatError

Kind = Literal["input", "projector", "head", "group", "attn", "mlp", "neuron", "resid", "logits"]
_LETTER = {"head": "a", "group": "a", "attn": "a", "mlp": "m", "neuron": "m", "resid": "r"}
_UNIT = {"head": "h", "group": "g", "neuron": "n"}
_WHOLE: dict[str, Kind] = {
    "i": "input",
    "e": "input",
    "l": "logits",
    "p": "projector",
    "a": "attn",
    "m": "mlp",
    "r": "resid",
}
_PART: dict[str, Kind] = {"h": "head", "g": "group", "n": "neuron"}
REST = "rest"  # the position label of all tokens that no named position holds
SLOTS = ("q", "k", "v", "pattern")
_NUMBER = r"(?:0|[1-9][0-9]{0,5})"  # no leading zeros: one part has one address
MOST_LAYERS = 10**6  # more than a number of an address can say
_NODE = re.compile(
    r"(?:(?P<tower>[a-z][a-z0-9_-]{0,40}):)?"
    rf"(?P<part>input|embed|logits|projector|[amr](?P<layer>{_NUMBER})(?:\.(?P<unit>[hgn])(?P<index>{_NUMBER}))?)"
    r"(?:<(?P<slot>[a-z]+)>)?(?:@(?P<position>[^\s<>@]{1,200}))?"
)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_HINT = "addresses look like input, a9.h9, a9.h9<q>, a9.g1<k>, m3, m3.n17, r5, logits, a9.h9@S2, vision:a2.h1"


@dataclass(frozen=True)
class Node:
    """One address. ``str(node)`` gives it back."""

    kind: Kind
    layer: int | None = None
    index: int | None = None
    slot: str | None = None
    position: str | int | None = None
    tower: str | None = None

    def __str__(self) -> str:
        whole = "embed" if self.kind == "input" and self.tower is not None else self.kind
        text = whole if self.layer is None else f"{_LETTER[self.kind]}{self.layer}"
        text = text if self.tower is None else f"{self.tower}:{text}"
        if self.index is not None:
            text += f".{_UNIT[self.kind]}{self.index}"
        if self.slot:
            text += f"<{self.slot}>"
        return text if self.position is None else f"{text}@{self.position}"

    @property
    def writer(self) -> Node:
        """The same part without slot and position: ``a9.h9<q>@S2`` -> ``a9.h9``."""
        return replace(self, slot=None, position=None)

    @property
    def host(self) -> Node:
        """The part that owns an input, position kept: ``a9.h9<q>@S2`` -> ``a9.h9@S2``."""
        return self.with_slot(None)

    def with_slot(self, slot: str | None) -> Node:
        """Return one input of the same part: ``a9.h9@S2`` -> ``a9.h9<q>@S2``."""
        return self if slot == self.slot else replace(self, slot=slot)

    @property
    def depth(self) -> int:
        """The layer that it is in.

        Raises:
            NameFormatError: for ``input`` and ``logits``, which are in none.
        """
        if self.layer is None:
            raise NameFormatError(f"{self} is in no layer", hint=_HINT)
        return self.layer

    @property
    def place(self) -> tuple[int, int]:
        """Layer and index of a head or a neuron.

        Raises:
            NameFormatError: for a part that has no index.
        """
        if self.index is None:
            raise NameFormatError(f"{self} is not one head or neuron", hint=_HINT)
        return self.depth, self.index

    def at(self, position: str | int | None) -> Node:
        """Return the same part at one position; ``None`` takes the position away."""
        return self if position == self.position else replace(self, position=position)


@dataclass(frozen=True)
class Edge:
    """What ``source`` writes, as read by ``target``. ``str(edge)`` gives the address."""

    source: Node
    target: Node

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


@lru_cache(maxsize=1 << 16)
def parse_node(text: str, *, towers: bool = False) -> Node:
    """Read an address of a node or of a head's input.

    Args:
        towers: Parts of other stacks and projectors too; who does not say so works on one stack of layers.

    Raises:
        NameFormatError: if it does not follow the grammar, or is of another stack where one alone is meant.

    Example:
        >>> parse_node("a9.h8<q>@S2")
        Node(kind='head', layer=9, index=8, slot='q', position='S2', tower=None)
    """
    match = _NODE.fullmatch(text)
    if match is None:
        raise NameFormatError(f"{text!r} is not the address of a node", hint=_HINT)
    part, slot = match["part"], match["slot"]
    layer = None if match["layer"] is None else int(match["layer"])
    index = None if match["index"] is None else int(match["index"])
    kind = _kind(part, match["unit"])
    if index is not None and (part[0] == "m") != (kind == "neuron"):
        raise NameFormatError(f"{text!r}: attention layers have heads, MLPs have neurons", hint=_HINT)
    if kind == "resid" and index is not None:
        raise NameFormatError(f"{text!r}: the residual stream has no parts", hint=_HINT)
    if slot is not None and (slot not in SLOTS or kind not in ("head", "group", "attn")):
        raise NameFormatError(
            f"{text!r}: no input <{slot}> there", hint="heads have <q>, <k>, <v>, <pattern>"
        )
    if not towers and (match["tower"] or kind == "projector"):
        raise NameFormatError(
            f"{text!r} is a part of a tower; here parts of the model's own stack are meant",
            hint="ablation, patching and knock-outs take parts of towers: workbench ablate --node vision:a2.h1",
        )
    if layer is None and bool(match["tower"]) != (part == "embed"):
        why = "belongs to no stack by itself" if match["tower"] else "is of a tower: vision:embed"
        raise NameFormatError(f"{text!r}: {part} {why}", hint=_HINT)
    return Node(kind, layer, index, slot, _position(text, match["position"]), match["tower"])


def _position(text: str, position: str | None) -> str | int | None:
    if position is None or _INDEX.fullmatch(position):
        return None if position is None else int(position)
    if not position.isprintable():
        raise NameFormatError(f"{text!r}: the name of a position has control characters", hint=_HINT)
    return position


def _kind(part: str, unit: str | None) -> Kind:
    return _WHOLE[part[0]] if unit is None or part[0] == "r" else _PART[unit]


def parse_edge(text: str, *, towers: bool = False) -> Edge:
    """Read ``source->target``; with ``towers`` also between parts of other stacks.

    Example:
        >>> str(parse_edge("a5.h5->a9.h9<q>").target)
        'a9.h9<q>'
    """
    source, arrow, target = text.partition("->")
    if not arrow:
        raise NameFormatError(
            f"{text!r} is not an edge", hint="edges look like a5.h5->a9.h9<q> or m3->logits"
        )
    return Edge(parse_node(source.strip(), towers=towers), parse_node(target.strip(), towers=towers))


def head(layer: int, index: int, slot: str | None = None) -> Node:
    """Return the address of a head."""
    return Node("head", layer, index, slot)


def group(layer: int, index: int, slot: str) -> Node:
    """Return the address of a KV group's key or value input."""
    return Node("group", layer, index, slot)


def attn(layer: int) -> Node:
    """Return the address of a whole attention layer."""
    return Node("attn", layer)


def mlp(layer: int) -> Node:
    """Return the address of an MLP."""
    return Node("mlp", layer)


def neuron(layer: int, index: int) -> Node:
    """Return the address of a hidden unit of an MLP."""
    return Node("neuron", layer, index)


def resid(layer: int) -> Node:
    """Return the address of the residual stream entering a layer."""
    return Node("resid", layer)


VISION = "vision"  # the name of the tower that sees
TEXT = "text"  # the name of the stack that reads captions beside pictures
INPUT, LOGITS, PROJECTOR = Node("input"), Node("logits"), Node("projector")
VISION_INPUT, TEXT_INPUT = Node("input", tower=VISION), Node("input", tower=TEXT)


def layer_of(node: Node) -> int:
    """Return the layer that a node is in.

    Raises:
        NameFormatError: for ``input`` and ``logits``, which are in none.
    """
    if node.layer is None:
        raise NameFormatError(f"{node} is in no layer", hint=_HINT)
    return node.layer


def depth(node: Node, n_layers: int) -> float:
    """Say where a node stands from input (-1) to logits (``n_layers``); the MLP half a step above its heads.

    Towers stand below: whatever they write comes before ``input``, and ``projector`` right behind it. The one that sees
    comes first.
    """
    if node.tower is not None:
        below = 2 * MOST_LAYERS if node.tower == VISION else MOST_LAYERS
        return depth(replace(node, tower=None), n_layers) - below
    if node.kind == "input":
        return -1.0
    if node.kind == "projector":
        return -0.5
    if node.kind == "logits":
        return float(n_layers)
    return (
        layer_of(node)
        + {"resid": 0.0, "group": 0.05, "head": 0.1, "attn": 0.2, "neuron": 0.4, "mlp": 0.5}[node.kind]
    )


def order(node: Node, n_layers: int) -> tuple:
    """Sort key of nodes in residual order; numbered positions as numbers, before named ones."""
    return (depth(node, n_layers), node.index or 0, node.slot or "", *place(node))


def place(node: Node) -> tuple:
    """Sort key of a node's position: none, then numbers, then names."""
    at = node.position
    return (0, 0, "") if at is None else (1, at, "") if isinstance(at, int) else (2, 0, at)
