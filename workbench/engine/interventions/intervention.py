"""What an intervention is: edits of addressed activations, each with the value it puts there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from workbench.circuits.addresses import INPUT, TEXT, Node, parse_node
from workbench.core.errors import ModelError, OptionError, unknown
from workbench.engine.interventions.site import check_index, check_layer, site_of
from workbench.engine.interventions.words import VALUES, Value
from workbench.model.wiring import Wiring, require_heads

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.engine.interventions.replacement import Replacement


def as_node(node: Node | str, *, towers: bool = True) -> Node:
    """Return an address, parsed where it is text.

    Args:
        towers: Parts of towers too.

    Raises:
        OptionError: for what is neither.
    """
    if isinstance(node, str):
        return parse_node(node, towers=towers)
    if not isinstance(node, Node):
        raise OptionError(
            f"a node is of type {type(node).__name__}", hint='give an address: "a1.h3", "m2", "r0"'
        )
    return node


def as_positions(positions: str | int | Sequence[str | int]) -> tuple[str | int, ...]:
    """Return positions as a tuple; a name or a number alone is one position.

    Raises:
        OptionError: for what is neither a name, a number nor a list of them.

    Example:
        >>> as_positions("S2"), as_positions(3), as_positions(["S2", 3])
        (('S2',), (3,), ('S2', 3))
    """
    if isinstance(positions, str) or not isinstance(positions, Iterable):
        found: tuple[Any, ...] = (positions,)
    else:
        found = tuple(positions)
    for position in found:
        if isinstance(position, bool) or not isinstance(position, str | int | np.integer):
            raise OptionError(
                f"a position is {position!r:.60}, of type {type(position).__name__}",
                hint='give a name or a number: positions="S2", positions=["S2", 3]',
            )
    return tuple(p if isinstance(p, str) else int(p) for p in found)


def placed_once(nodes: Iterable[Node], positions: Sequence[str | int]) -> None:
    """Do nothing if positions stand in one place: in the addresses, or beside them.

    Raises:
        OptionError: for an address with a position of its own where positions are named besides.
    """
    own = next((node for node in nodes if node.position is not None), None)
    if own is not None and positions:
        named = ", ".join(map(str, positions))
        raise OptionError(
            f"{own} names its own position, and {named} is named besides; one of the two is expected",
            hint=f"leave the position out of the address: {own.at(None)}",
        )


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Replace what is at ``node`` by ``value``; at one position, or at all when the address has none.

    Attributes:
        node: An address, as text too: ``"a1.h3"``, ``"r2@S2"``.
        value: A word (``VALUES``), a tensor, a function of what is there, ``Scale(0.5)`` or ``Steer(direction, by=2)``.

    Raises:
        OptionError: for a value that is none of these.

    Example:
        >>> Edit(node="a1.h3", value="zero").to_dict()
        {'node': 'a1.h3', 'value': 'zero'}
    """

    node: Node | str
    value: Value | Replacement | Tensor | Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "node", as_node(self.node))
        if isinstance(self.value, str):
            if self.value not in VALUES:
                raise unknown("value", self.value, VALUES, error=OptionError)
            return
        from workbench.engine.interventions.replacement import as_replacement  # torch: words need none

        object.__setattr__(self, "value", as_replacement(self.value))

    @property
    def is_mean(self) -> bool:
        """Whether the value is a mean over a reference set."""
        return isinstance(self.value, str) and self.value.startswith("mean")

    @property
    def part(self) -> Node:
        """The address, parsed."""
        assert isinstance(self.node, Node)
        return self.node

    @property
    def replaces(self) -> bool:
        """Whether the value does not depend on what is there: a word or a tensor."""
        return isinstance(self.value, str) or not self.replacement.reads

    @property
    def word(self) -> Value | None:
        """The value where it is a word."""
        return cast(Value, self.value) if isinstance(self.value, str) else None

    @property
    def replacement(self) -> Replacement:
        """The value where it is no word."""
        assert not isinstance(self.value, str)
        return cast("Replacement", self.value)

    @property
    def layer(self) -> int:
        return 0 if self.part == INPUT.at(self.part.position) else int(self.part.layer or 0)

    def to_dict(self) -> dict:
        """Return it as JSON values."""
        value = self.value if isinstance(self.value, str) else self.replacement.to_dict()
        return {"node": str(self.node), "value": value}


@dataclass(frozen=True, kw_only=True)
class KnockOut:
    """Let a head (or all heads of a layer) not look from ``query`` at ``key``.

    The key's weight goes to the others in proportion: what the softmax gives when the score is minus infinity. A
    query that may look at nothing else attends to nothing.

    Example:
        >>> import workbench as wb
        >>> str(wb.KnockOut(node="a0.h0", query="end", key="S2").node)
        'a0.h0'
    """

    node: Node | str
    query: str | int
    key: str | int

    def __post_init__(self) -> None:
        object.__setattr__(self, "node", as_node(self.node))
        if self.part.position is not None or self.part.slot not in (None, "pattern"):
            whole = replace(self.part, position=None, slot=None)
            raise OptionError(
                f"{self.part}: a knock-out takes a key away from a query of the whole head",
                hint=f'name the head alone: {whole}; the positions are query="{self.query}" and key="{self.key}"',
            )

    @property
    def part(self) -> Node:
        """The address, parsed."""
        assert isinstance(self.node, Node)
        return self.node

    @property
    def layer(self) -> int:
        return int(self.part.layer or 0)

    def to_dict(self) -> dict:
        """Return it as JSON values."""
        return {"node": str(self.node), "knock-out": [self.query, self.key]}


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """Edits applied together in one run; one row of a table.

    Example:
        >>> import workbench as wb
        >>> edits = (wb.Edit(node="a0.h0", value="zero"), wb.Edit(node="m0", value="zero"))
        >>> wb.Intervention(label="both", edits=edits).label
        'both'
    """

    label: str
    edits: tuple[Edit | KnockOut, ...]

    def __post_init__(self) -> None:
        if not self.edits:
            raise OptionError(
                f"intervention {self.label!r} edits nothing",
                hint="name at least one: edits=(wb.Edit(node='a0.h0', value='zero'),)",
            )
        self._require_one_value()
        self._require_all_to_act()

    def _require_all_to_act(self) -> None:
        """Refuse an edit that changes nothing, as another one writes over all that it reaches."""
        if self._is_of_one_kind:
            return
        for at, edit in enumerate(self.edits):
            others = (other for other in self.edits if isinstance(other, Edit) and _hides(other, edit))
            after = (o for o in self.edits[at + 1 :] if isinstance(o, Edit) and _writes_over(o, edit))
            over = next(chain(others, after), None)
            if over is not None:
                raise OptionError(
                    f"intervention {self.label!r}: the edit of {edit.part} does nothing, as {over.part} is replaced",
                    hint=f"leave {edit.part} out, or give each an intervention of its own",
                )

    @property
    def _is_of_one_kind(self) -> bool:
        """Whether these are different heads, MLPs, neurons: none is behind another, however many there are."""
        kinds = {(e.part.kind, e.part.slot, isinstance(e, KnockOut)) for e in self.edits}
        others = {e.part.at(None) for e in self.edits}
        return len(kinds) == 1 and len(others) == len(self.edits) and self.edits[0].part.kind != "resid"

    def _require_one_value(self) -> None:
        """Refuse an edit that another one of the same address would undo; functions follow one another."""
        put: dict[Node, object] = {}
        for edit in self.edits:
            if isinstance(edit, KnockOut):
                continue
            if edit.word is not None and not _same(put.get(edit.part, edit.word), edit.word):
                raise OptionError(
                    f"intervention {self.label!r} puts two values at {edit.part}; the last would undo the others",
                    hint="give each value an intervention of its own, or each address one value",
                )
            put[edit.part] = edit.value

    @property
    def tower(self) -> str | None:
        """The tower in which it begins; None where it edits no tower."""
        return next((edit.part.tower for edit in self.edits if edit.part.tower is not None), None)

    @property
    def first_layer(self) -> int:
        """Layers before it are as they were in the base run; of a tower, where it edits one."""
        return min(edit.layer for edit in self.edits if edit.part.tower == self.tower)

    def to_dict(self) -> dict:
        """Return it as JSON values."""
        return {"label": self.label, "edits": [edit.to_dict() for edit in self.edits]}


def _same(one: object, word: str) -> bool:
    """Whether a value is this word; tensors and functions are none."""
    return isinstance(one, str) and one == word


def _hides(over: Edit, edit: Edit | KnockOut) -> bool:
    """Whether ``over`` puts another value wherever ``edit`` could show; a function of what is there hides nothing."""
    part, own = over.part, edit.part
    if part.tower != own.tower or not over.replaces:
        return False
    if part.kind == "resid" and part.position is None:  # all that earlier layers wrote
        return edit.layer < over.layer or own.kind == "input"
    if part.kind == "resid":  # at one position the layer before it, and its parts
        return (
            edit.layer == over.layer - 1
            and own.kind not in ("resid", "input")
            and _shown_at(edit) == part.position
        )
    if over.layer != edit.layer:
        return False
    if part.position is not None and part.position != _shown_at(edit):
        return False
    if part.kind == "mlp":
        return own.kind == "neuron"
    if part.kind == "attn" and part.slot is None:
        return own.kind in ("head", "group") or own.slot is not None or isinstance(edit, KnockOut)
    if part.kind != "head" or own.kind != "head" or part.index != own.index:
        return False
    reaches = {None: ("q", "k", "v", "pattern"), "pattern": ("q", "k")}.get(part.slot, ())
    return own.slot in reaches or (part.slot is None and isinstance(edit, KnockOut))


def _writes_over(after: Edit, edit: Edit | KnockOut) -> bool:
    """Whether a later edit of the same activation, at all positions or at that one, replaces what this one wrote."""
    if not after.replaces or after.part.position not in (None, _shown_at(edit)):
        return False
    if isinstance(edit, KnockOut):
        return after.part.at(None) == replace(edit.part, slot="pattern")
    kinds = (after.part.kind, edit.part.kind)
    if kinds == ("input", "resid"):  # the stream before layer 0
        return edit.layer == 0 and after.part.tower == edit.part.tower
    return after.part.at(None) == edit.part.at(None) and after.part != edit.part


def _shown_at(edit: Edit | KnockOut) -> str | int | None:
    """The one position of its layer where an edit shows; None for all, as later queries read a key and a value."""
    if isinstance(edit, KnockOut):
        return edit.query
    return None if edit.part.slot in ("k", "v") else edit.part.position


def check(edit: Edit | KnockOut, wiring: Wiring) -> None:
    """Refuse an edit that this model does not have, or on which it would be silently ignored.

    Raises:
        ModelError: with the reason in one sentence.
    """
    node, site = edit.part, "pattern" if isinstance(edit, KnockOut) else site_of(edit.part)
    wiring = wiring.of(node.tower)
    if node.tower is not None and isinstance(edit, Edit) and edit.value == "mean-per-name":
        what = "words of captions" if node.tower == TEXT else "patches"
        raise ModelError(
            f"{node}: mean-per-name goes by named tokens, and positions of a tower are {what}, which have no names",
            hint="--ablation mean-per-position, or mean",
        )
    if isinstance(edit, KnockOut) and node.kind not in ("head", "attn"):
        raise ModelError(
            f"{node} attends to nothing", hint="heads and attention layers can be knocked out: a9.h9, a9"
        )
    check_layer(node, wiring.n_layers)
    if node.kind in ("head", "group", "attn"):
        require_heads(wiring)
    if node.kind in ("mlp", "neuron") and node.layer not in wiring.mlp_layers:
        raise ModelError(
            f"{node}: layer {node.layer} has no MLP",
            hint=f"layers with an MLP: {', '.join(map(str, wiring.mlp_layers)) or 'none'}",
        )
    if node.kind in ("head", "group", "attn") and node.layer not in wiring.attention_layers:
        raise ModelError(
            f"{node}: layer {node.layer} has no attention",
            hint=f"layers with attention: {', '.join(map(str, wiring.attention_layers)) or 'none'}",
        )
    grouped = site in ("k", "v") and wiring.n_kv_heads != wiring.n_heads
    if grouped and node.kind == "head":
        g = int(node.index or 0) * wiring.n_kv_heads // wiring.n_heads
        raise ModelError(
            f"{node}: {wiring.n_heads // wiring.n_kv_heads} heads share one key and value (grouped-query attention)",
            hint=f"edit the group: a{node.layer}.g{g}<{site}>",
        )
    if node.kind == "group" and site not in ("k", "v"):
        h = int(node.index or 0) * wiring.n_heads // wiring.n_kv_heads
        raise ModelError(
            f"{node}: heads share keys and values, each has its own {'queries' if site == 'q' else site}",
            hint=f"edit the head: a{node.layer}.h{h}<{site}>",
        )
    count = {"group": wiring.n_kv_heads, "neuron": wiring.d_mlp}.get(node.kind, wiring.n_heads)
    if site in wiring.live:
        check_index(node, count)
    if site == "pattern" and ("pattern" in wiring.live or wiring.pattern_by_recompute):
        return
    if site not in wiring.live:
        hint = "where attention is plain, float32 lets it be written to the head output: --dtype float32"
        raise ModelError(
            f"{node}: an edit of {site} is silently ignored by this architecture, so it is refused",
            hint=hint if site == "pattern" else "workbench model show NAME says what works",
        )
