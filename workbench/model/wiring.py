"""What a probe found out about a model, as plain data: its shape, its live hooks, what holds on it. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from workbench.circuits.addresses import TEXT, VISION, Node
from workbench.circuits.graph import Graph, GraphShape
from workbench.core.errors import ModelError
from workbench.model.without_heads import PositionMixer, no_heads

Site = tuple[int, str]  # layer and name
SITES = ("resid", "attn-out", "mlp-out", "head-output", "q", "k", "v", "pattern")
_SITE_HOOKS = {
    "resid": "hook_in",
    "attn-out": "hook_attn_out",
    "mlp-out": "hook_mlp_out",
    "head-output": "attn.hook_z",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "scores": "attn.hook_attn_scores",
    "neurons": "mlp.out.hook_in",
}


def hook_name(site: str, layer: int, prefix: str = "blocks") -> str:
    """Return the TransformerLens hook of a site: ``hook_name("q", 3)`` is ``blocks.3.attn.hook_q``."""
    return f"{prefix}.{layer}.{_SITE_HOOKS[site]}"


def per_head(site: str) -> bool:
    """Say whether a site's tensors have a head axis."""
    return site in ("head-output", "q", "k", "v", "pattern")


def writer_hooks(graph: Graph) -> list[tuple[int, str]]:
    """(layer, site) of every group of sources after the input, in the order of ``graph.sources``."""
    shape, found = graph.shape, []
    for layer in range(shape.n_layers):
        if shape.has_attention(layer):
            found.append((layer, "head-output" if shape.head_writes else "attn-out"))
        if shape.has_mlp(layer):
            found.append((layer, "mlp-out"))
    return found


def no_tower(tower: str, towers: Iterable[str]) -> ModelError:
    """Return the error for a stack of layers that a model does not have."""
    known = ", ".join(f"{name}:" for name in towers)
    hint = (
        f"stacks of this model besides its own: {known}"
        if known
        else "it has one stack: a2.h1, without a name"
    )
    return ModelError(f"the model has no stack called {tower!r}", hint=hint)


class Layered(Protocol):
    """What has layers, of which some have attention and some have MLPs: a measured model, or one that is planned."""

    @property
    def n_layers(self) -> int: ...
    @property
    def attention_layers(self) -> tuple[int, ...]: ...
    @property
    def mlp_layers(self) -> tuple[int, ...]: ...
    @property
    def mixer(self) -> PositionMixer | None: ...


def require_heads(model: Layered) -> None:
    """Do nothing if a model has attention heads.

    Raises:
        ModelError: saying what it has instead, and what can be measured there.
    """
    if model.attention_layers:
        return
    raise no_heads(model.n_layers, model.mixer, has_mlps=bool(model.mlp_layers))


def require_mlps(model: Layered) -> None:
    """Do nothing if a model has MLPs.

    Raises:
        ModelError: saying what can be measured there.
    """
    if model.mlp_layers:
        return
    require_heads(model)
    raise ModelError(
        f"the model has no MLPs ({model.n_layers} layers of attention alone)",
        hint="its heads can be ablated: workbench ablate --parts heads",
    )


def require_parts(model: Layered) -> None:
    """Do nothing if a model has heads or MLPs.

    Raises:
        ModelError: as ``require_heads``.
    """
    if not model.mlp_layers:
        require_heads(model)


@dataclass(frozen=True, kw_only=True)
class HandOver:
    """The one place through which a tower reaches the language model.

    Attributes:
        hook: Where its reading can be edited: what leaves the last layer that is read, or what enters the projector.
        first: The first of the tower's positions that are there; those before it are not read.
    """

    hook: str
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What a probe forward found out about one model.

    Attributes:
        attention_layers, mlp_layers: Layers where the component's hooks fire.
        d_mlp: Hidden units of each MLP, as seen; 0 where they cannot be seen or differ between layers.
        live: Sites whose edits change the output.
        pattern_by_recompute: Pattern edits are discarded, but ``softmax(q k / sqrt(d))`` gives the pattern, so an
            edit can be written to the head output instead, exactly.
        looks_ahead: Words see nothing behind them, and patches see the question (`zoo:vlm-mutual`).
        head_writes: The heads' outputs and the attention bias sum to what the layer writes (False: post-norm).
        residual_is_sum: Each block adds exactly its attention and MLP outputs to the residual stream.
        readers_known: ``q``, ``k``, ``v`` and the MLP input are the stated functions of the residual stream.
        errors: Largest error of each identity, in activation units; ``between`` where something else writes to the
            stream between two layers, such as a tower whose earlier layers are read there; ``early`` in such a tower.
        prefix: What the hooks of its layers begin with.
        towers: The same of every further stack of layers, by its name.
        hand_over: Of a tower: where the language model reads it, or in one sentence why that is no single place.
        with_tower: Edges cross from the tower that sees to the language model, or the towers for pictures and for
            captions meet: one graph of both.
        mixer: What reads other positions where no layer has heads, as far as it is known.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    attention_layers: tuple[int, ...]
    mlp_layers: tuple[int, ...]
    parallel: bool
    causal: bool
    has_lm_head: bool
    live: frozenset[str]
    pattern_by_recompute: bool
    head_writes: bool
    residual_is_sum: bool
    readers_known: bool
    errors: dict[str, float]
    prefix: str = "blocks"
    towers: Mapping[str, Wiring] = field(default_factory=dict)
    hand_over: HandOver | str = ""
    with_tower: bool = False
    mixer: PositionMixer | None = None
    looks_ahead: bool = False

    def of(self, tower: str | None) -> Wiring:
        """Return the wiring of a tower; None is the model's own stack.

        Raises:
            ModelError: if it has no such tower.
        """
        if tower is None:
            return self
        if tower not in self.towers:
            raise no_tower(tower, self.towers)
        return self.towers[tower]

    def hook_of(self, node: Node, site: str) -> str:
        """Return the hook of a site of an address."""
        return hook_name(site, node.layer or 0, self.of(node.tower).prefix)

    @property
    def edge_level(self) -> bool:
        """Whether edges of this model can be edited exactly."""
        return self.residual_is_sum and self.readers_known and not {"between", "early"} & set(self.errors)

    def shape(self) -> GraphShape:
        """Return the computation graph's shape.

        Raises:
            ModelError: if the residual stream is not the sum of what the parts write, or there are no parts.
        """
        require_parts(self)
        if not self.edge_level:
            raise ModelError(f"no edges here: {self.why_no_edges()}", hint="--level node, which works here")
        if not self.with_tower:
            return self._shape(head_writes=self.head_writes)
        tower, own = self.stacks
        return replace(replace(own, with_tower=False).shape(), tower=tower.shape(), meets=self.compares)

    @property
    def compares(self) -> bool:
        """Whether it has a tower for pictures and one for captions, which meet in how alike these are."""
        return {VISION, TEXT} <= set(self.towers)

    @property
    def tower(self) -> Wiring:
        """The tower that sees, where edges can cross from it to the language model.

        Raises:
            ModelError: saying why they cannot.
        """
        hint = "leave out --with-tower: edges of the language model, to which the picture is part of input"
        if VISION not in self.towers:
            raise ModelError("the model has no tower for pictures whose layers are seen", hint=hint)
        tower = self.towers[VISION]
        if not tower.edge_level:
            raise ModelError(f"no edges in its tower: {tower.why_no_edges()}", hint=hint)
        if isinstance(tower.hand_over, str) and not self.compares:
            raise ModelError(f"no edges from its tower to the language model: {tower.hand_over}", hint=hint)
        return tower

    @property
    def stacks(self) -> tuple[Wiring, ...]:
        """The stacks that edges are of: the model's own; with its tower that one first, or the two that meet."""
        if not self.with_tower:
            return (self,)
        return self.tower, self.of(TEXT if self.compares else None)

    def joined(self) -> Wiring:
        """Return the same with edges that cross from the tower to the language model, or of two towers that meet.

        Raises:
            ModelError: if there is no such tower, or no single place at which it is read.
        """
        found = replace(self, with_tower=True)
        found.shape()
        return found

    def node_shape(self) -> GraphShape:
        """Return the shape for node-level work: every head is a node, and no sum over the residual stream is
        assumed.

        Raises:
            ModelError: if the model has neither heads nor MLPs.
        """
        require_parts(self)
        return self._shape(head_writes=True)

    def _shape(self, *, head_writes: bool) -> GraphShape:
        every = tuple(range(self.n_layers))
        return GraphShape(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            parallel=self.parallel,
            head_writes=head_writes,
            attention_layers=None if self.attention_layers == every else self.attention_layers,
            mlp_layers=None if self.mlp_layers == every else self.mlp_layers,
        )

    def graph(self) -> Graph:
        """Return the edge-level computation graph."""
        return Graph(self.shape())

    def why_no_edges(self) -> str:
        """Return one sentence on why edge-level work is refused."""
        if "early" in self.errors:
            return "other layers than its last one are read, too"
        if "between" in self.errors:
            return (
                "something that is no head and no MLP writes to the residual stream between its layers, as a tower's "
                f"earlier layers do (up to {self.errors['between']:.2g})"
            )
        if not self.residual_is_sum and len(self.attention_layers) < self.n_layers:
            return (
                "layers without attention write to the residual stream through parts that are neither heads nor "
                f"MLPs (off by {self.errors['residual']:.2g})"
            )
        if not self.residual_is_sum:
            return (
                "a norm follows the sum in each block, so the residual stream is not the sum of what the "
                f"parts write (off by {self.errors['residual']:.2g})"
            )
        dead = [slot for slot in "qkv" if slot not in self.live]
        if dead and self.attention_layers and self.errors["readers"] < 1e-3:
            return f"edits of {' and '.join(dead)} change nothing on it"
        return f"its q, k, v or MLP inputs are not norm-then-project (off by {self.errors['readers']:.2g})"
