"""Pattern-row surgery as an edit: which heads, which rows, which keys, and what becomes of their weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor

from workbench.edits.edit import Change, ModelEdit, Place, Positions, Seen, When, of_kinds
from workbench.edits.visible import visible
from workbench.errors import OptionError
from workbench.interventions.surgery import Mass, Share, add_to_scores, scale_keys, set_rows

Operation = Literal["set", "scale", "drop", "add"]


@dataclass(frozen=True, kw_only=True)
class Rows(ModelEdit):
    """Change rows of attention patterns; every row keeps its sum unless ``mass="leak"``.

    Args:
        heads: ``a5.h3``, or ``a5`` for all heads of a layer.
        operation: ``set`` the row to a distribution over ``keys``; ``scale`` their weight by ``value`` and send what
            that frees to ``recipients``; ``drop`` them (scale by 0); ``add`` ``value`` to their scores before the
            softmax.
        keys: Token positions, numbered (negative from the end) or named; ``None`` is every key that a query sees.
        queries: Rows that change; ``None`` is all.
        value: The factor or the addend; 1 (scale) and 0 (add) change nothing.
        weights: For ``set``: one weight per key, in any unit; by default equal.
        recipients: For ``scale`` and ``drop``; by default every other key that the query sees.
        when: ``decode`` leaves alone the rows before ``decode_from``.

    Example:
        >>> Rows(heads=("a2.h1",), operation="set", queries=("end",), keys=("first", "second")).describe()
        'set keys first, second of a2.h1 at queries end'
    """

    kind: ClassVar[str] = "rows"
    heads: tuple[str, ...]
    operation: Operation
    keys: Positions | None = None
    queries: Positions | None = None
    value: float | None = None
    weights: tuple[float, ...] | None = None
    recipients: Positions | None = None
    share: Share = "proportional"
    mass: Mass = "conserve"
    when: When = "all"

    def __post_init__(self) -> None:
        if self.operation not in get_args(Operation):
            raise OptionError(
                f"no operation called {self.operation!r}", hint=f"one of {', '.join(get_args(Operation))}"
            )
        if not self.heads:
            raise OptionError("the edit has no heads", hint="heads=('a5.h3',), or ('a5',) for a layer")
        if (self.value is None) == (self.operation in ("scale", "add")):
            raise OptionError(f"{self.operation} {'needs a' if self.value is None else 'takes no'} value")
        if self.operation == "scale" and not self.value >= 0:
            raise OptionError(f"the factor is {self.value}; weights cannot be negative")
        for name, known in (("share", Share), ("mass", Mass), ("when", When)):
            if getattr(self, name) not in get_args(known):
                raise OptionError(f"{name} is {getattr(self, name)!r}; one of {', '.join(get_args(known))}")
        if self.share == "uniform" and (self.value or 0) > 1:
            raise OptionError("equal parts cannot be taken from keys that may have less; factor at most 1")
        if self.weights is not None:
            self._check_weights()

    def _check_weights(self) -> None:
        if self.operation != "set" or self.keys is None or len(self.weights) != len(self.keys):
            raise OptionError("weights go with set, one for each key")
        if min(self.weights) < 0 or not 0 < sum(self.weights) < float("inf"):
            raise OptionError("weights are not negative, and not all zero")

    def changes(self, place: Place) -> Sequence[Change]:
        return [
            Change(
                layer=layer,
                site="pattern",
                heads=heads,
                fn=self._surgery(place, layer),
                leaks=self.mass == "leak" and self.operation in ("scale", "drop"),
            )
            for layer, heads in place.heads(self.heads).items()
        ]

    def _surgery(self, place: Place, layer: int):
        def edit(pattern: Tensor, seen: Seen) -> Tensor:
            like = pattern[:, 0]  # (row, query, key): rows and positions
            queries = place.rows(self.queries, self.when, like)[:, None, :, None]
            sees = visible(place, layer, pattern.shape[-1], pattern.device)
            return torch.where(queries, self._new(place, pattern, like, queries, sees), pattern)

        return edit

    def _new(self, place: Place, pattern: Tensor, like: Tensor, queries: Tensor, sees: Tensor) -> Tensor:
        if self.operation == "set":
            return set_rows(pattern, self._target(place, like, queries, sees))
        keys = place.rows(self.keys, "all", like)[:, None, None, :]
        if self.operation == "add":
            return add_to_scores(pattern, keys * float(self.value or 0))
        theirs = None
        if self.recipients is not None:
            theirs = place.rows(self.recipients, "all", like)[:, None, None, :]
        factor = 0.0 if self.operation == "drop" else float(self.value or 0)
        return scale_keys(
            pattern, keys, factor, recipients=theirs, share=self.share, visible=sees, mass=self.mass
        )

    def _target(self, place: Place, like: Tensor, queries: Tensor, sees: Tensor) -> Tensor:
        """The distribution over keys, for every row of every prompt.

        Raises:
            OptionError: if a query that changes cannot see a key that it is to look at.
        """
        if self.keys is None:
            return (sees / sees.sum(-1, keepdim=True))[None, None]
        target = torch.zeros(like.shape[0], like.shape[-1], dtype=torch.float32, device=like.device)
        weights = self.weights or (1.0,) * len(self.keys)
        for key, weight in zip(self.keys, weights, strict=True):
            target[torch.arange(len(target)), place.index(key, like)] += weight / sum(weights)
        if bool((queries & (target[:, None, None, :] > 0) & ~sees).any()):
            raise OptionError(
                f"a query that is to look at {', '.join(map(str, self.keys))} cannot see all of it",
                hint="name the queries that come later: queries=('end',)",
            )
        return target[:, None, None, :]

    def describe(self) -> str:
        what = self.operation + ("" if self.value is None else f" by {self.value:g}")
        keys = "all keys" if self.keys is None else f"keys {', '.join(map(str, self.keys))}"
        rows = "" if self.queries is None else f" at queries {', '.join(map(str, self.queries))}"
        return f"{what} {keys} of {', '.join(self.heads)}{rows}{', decoding' * (self.when == 'decode')}"

    def to_dict(self) -> dict[str, Any]:
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        places = dict.fromkeys(("keys", "queries", "recipients"), (int, str))
        of_kinds(data, heads=str, value=(int, float), weights=(int, float), **places)
        for name in ("heads", *places):
            if isinstance(data.get(name), str):
                raise OptionError(
                    f"{name} is {data[name]!r:.40}; expected a list", hint=f"[{data[name]!r:.40}]"
                )
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in data.items()})
