"""The kinds of edits that can be saved: what each says, what it refuses, how it is described. No torch here.

What they compute is in the module that ``home`` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from workbench.core.errors import OptionError, ShapeError
from workbench.edits.edit import ModelEdit, Positions, When, check_heads, head_of, of_kinds
from workbench.edits.mask_kinds import ContentMask as ContentMask
from workbench.edits.mask_kinds import Mask as Mask
from workbench.engine.interventions.freed import Mass, Share
from workbench.masks.registry import MASKS as MASKS
from workbench.masks.registry import mask as mask

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

Operation = Literal["set", "scale", "drop", "add"]
Columns = Literal["sinks", "others"]
Keep = Literal["first", "initial"]
Order = Literal["importance", "given", "random", "reversed"]
Between = Literal["all", "earlier"]
ALPHA, BETA = 5.0, 0.4


@dataclass(frozen=True, kw_only=True)
class Rows(ModelEdit):
    """Change rows of attention patterns; every row keeps its sum unless ``mass="leak"``.

    Args:
        heads: ``a5.h3``, or ``a5`` for all heads of a layer.
        operation: ``set`` the row to a distribution over ``keys``; ``scale`` their weight by ``value`` and send what
            that frees to ``recipients``; ``drop`` them (scale by 0); ``add`` ``value`` to their scores before the
            softmax.
        keys: Token positions, numbered or named; ``None`` is every key that a query sees. Numbers count within the
            prompt that is run, never from the query: -1 is its last token, which in a causal model the last query
            alone sees, and which in generation by repeated passes is another token at every pass.
        queries: Rows that change, numbered likewise; ``None`` is all.
        value: The factor or the addend; 1 (scale) and 0 (add) change nothing.
        weights: For ``set``: one weight per key, in any unit; by default equal.
        recipients: For ``scale`` and ``drop``; by default every other key that the query sees.
        when: ``decode`` leaves alone the rows before ``decode_from``.

    Example:
        >>> Rows(heads=("a2.h1",), operation="set", queries=("end",), keys=("first", "second")).describe()
        'set keys first, second of a2.h1 at queries end'
    """

    kind: ClassVar[str] = "rows"
    what: ClassVar[str] = "rows of attention patterns: set, scale, drop, add to the scores"
    from_words: ClassVar[bool] = True
    home: ClassVar[str] = "rows"
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
        check_heads(self.heads)
        if (self.value is None) == (self.operation in ("scale", "add")):
            raise OptionError(
                f"value is {self.value}; {self.operation} {'needs a' if self.value is None else 'takes no'} value",
                hint="value=0.5" if self.value is None else "leave value out, or operation=scale",
            )
        if self.operation == "scale" and not (self.value is not None and self.value >= 0):
            raise OptionError(
                f"the factor is {self.value}; weights cannot be negative",
                hint="value=0 takes the keys away, value=0.5 halves them",
            )
        for name, known in (("share", Share), ("mass", Mass), ("when", When)):
            if getattr(self, name) not in get_args(known):
                raise OptionError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(get_args(known))}",
                    hint=f"{name}={get_args(known)[0]}",
                )
        if self.share == "uniform" and (self.value or 0) > 1:
            raise OptionError(
                f"value is {self.value} with share=uniform; at most 1 is expected, as equal parts "
                "cannot be taken from keys that may have less",
                hint="value=0.5, or share=proportional",
            )
        if self.weights is not None:
            self._check_weights(self.weights)

    def _check_weights(self, weights: tuple[float, ...]) -> None:
        if self.operation != "set" or self.keys is None or len(weights) != len(self.keys):
            raise OptionError(
                "weights go with operation=set, one for each key",
                hint="operation=set, keys=0,1 and weights=0.5,0.5",
            )
        if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
            raise OptionError(
                f"weights are {list(weights)}; expected finite numbers of at least 0, and one above 0",
                hint="weights=0.5,0.5",
            )

    def describe(self) -> str:
        """Return in words what it does."""
        what = self.operation + ("" if self.value is None else f" by {self.value:g}")
        keys = "all keys" if self.keys is None else f"keys {', '.join(map(str, self.keys))}"
        rows = "" if self.queries is None else f" at queries {', '.join(map(str, self.queries))}"
        return f"{what} {keys} of {', '.join(self.heads)}{rows}{', decoding' * (self.when == 'decode')}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        places: dict[str, Any] = dict.fromkeys(("keys", "queries", "recipients"), (int, str))
        of_kinds(data, heads=str, value=(int, float), weights=(int, float), **places)
        for name in ("heads", *places):
            if isinstance(data.get(name), str):
                raise OptionError(
                    f"{name} is {data[name]!r:.40}; expected a list", hint=f"[{data[name]!r:.40}]"
                )
        given: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in data.items()}
        return cls(**given)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine(ModelEdit):
    """``z <- a * z + b`` for the outputs of some heads, before ``W_O``.

    Tensors that require gradients are trained through the frozen model: run it inside ``with edit.on(model):``, take
    the loss, and step an optimiser of ``edit.parameters()``.

    Args:
        heads: One address per row of ``a`` and ``b``: ``a5.h3``.
        a: Factor per head, or per head and dimension; ones change nothing.
        b: Offset in units of z, likewise; zeros change nothing.
        positions: Numbered (negative from the end: ``(-1,)`` is the last) or named; ``None`` is all.
        when: ``decode`` leaves alone the positions before ``decode_from``.
    """

    kind: ClassVar[str] = "affine"
    what: ClassVar[str] = "z <- a * z + b for head outputs; trainable"
    home: ClassVar[str] = "affine"
    heads: tuple[str, ...]
    a: Float[Tensor, "head d_head|1"]
    b: Float[Tensor, "head d_head|1"]
    positions: Positions | None = None
    when: When = "all"

    def __post_init__(self) -> None:
        if not self.heads or len(set(self.heads)) != len(self.heads):
            raise OptionError(
                f"there are {len(self.heads)} heads, {len(set(self.heads))} of them different; "
                "expected at least one, each named once",
                hint="name at least one head, and each once",
            )
        if any(head_of(h).kind != "head" for h in self.heads):
            raise OptionError(
                "an affine edit names single heads", hint="Affine.of(model, ['a5']) takes layers"
            )
        for name, value in (("a", self.a), ("b", self.b)):
            if value.ndim != 2 or len(value) != len(self.heads) or "float" not in str(value.dtype):
                raise ShapeError(
                    f"{name} has shape {tuple(value.shape)}; one row for each of {len(self.heads)} heads is expected",
                    hint="Affine.of(model, heads, a=0.0) makes the tensors",
                )
        if self.when not in get_args(When):
            raise OptionError(
                f"when is {self.when!r}; expected one of {', '.join(get_args(When))}",
                hint=f"when={get_args(When)[0]!r}",
            )

    @classmethod
    def of(
        cls,
        model: TransformerBridge,
        heads: Sequence[str],
        *,
        a: float | Tensor = 1.0,
        b: float | Tensor = 0.0,
        train: Sequence[str] = (),
        positions: Positions | None = None,
        when: When = "all",
    ) -> Self:
        """Return an edit of heads or layers of this model, from numbers or tensors that broadcast to (head,
        d_head).

        Args:
            train: Which of ``a`` and ``b`` require gradients.
        """
        affine_of = import_module(
            cls.module()
        ).affine_of  # torch: numbers become tensors on the model's device
        return affine_of(model, heads, a=a, b=b, train=train, positions=positions, when=when)

    def parameters(self) -> list[Tensor]:
        """Return the tensors that require gradients."""
        return [t for t in (self.a, self.b) if t.requires_grad]

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(t.numel() for t in self.parameters())

    def describe(self) -> str:
        """Return in words what it does."""
        rows = "" if self.positions is None else f" at {', '.join(map(str, self.positions))}"
        return f"a * z + b of {', '.join(self.heads)}{rows}{', decoding' * (self.when == 'decode')}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        positions = None if self.positions is None else list(self.positions)
        return {"heads": list(self.heads), "positions": positions, "when": self.when}

    def tensors(self) -> dict[str, Tensor]:
        return {"a": self.a, "b": self.b}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        positions = None if data["positions"] is None else tuple(data["positions"])
        heads = tuple(data["heads"])
        return cls(heads=heads, positions=positions, when=data["when"], a=tensors["a"], b=tensors["b"])


@dataclass(frozen=True, kw_only=True)
class Calibration(ModelEdit):
    """Find the sinks of each prompt in each head, and take attention from all but the first of them.

    Args:
        heads: Those whose sinks harm; ``select_heads`` of the replication finds them.
        alpha: A sink has more than ``alpha / N`` of the attention of the queries that can see it.
        beta: What is left of a sink's weight; 1 changes nothing.
        keep: Which sink stays: the first one found, or the initial token alone.
        columns: ``others`` takes from as many columns that are no sinks: a control.
        seed: Of these columns.
    """

    kind: ClassVar[str] = "calibration"
    what: ClassVar[str] = "ACT: take attention from sinks beyond the first"
    from_words: ClassVar[bool] = True
    home: ClassVar[str] = "act"
    heads: tuple[str, ...]
    alpha: float = ALPHA
    beta: float = BETA
    keep: Keep = "first"
    columns: Columns = "sinks"
    seed: int = 0

    def __post_init__(self) -> None:
        check_heads(self.heads)
        if not self.alpha > 0 or not 0 <= self.beta <= 1:
            raise OptionError(
                f"alpha is {self.alpha}, beta {self.beta}; expected alpha above 0, and beta from 0 to 1",
                hint=f"alpha={ALPHA:g}, beta={BETA:g}",
            )
        for name, known in (("keep", Keep), ("columns", Columns)):
            if getattr(self, name) not in get_args(known):
                raise OptionError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(get_args(known))}",
                    hint=f"{name}={get_args(known)[0]}",
                )

    def describe(self) -> str:
        """Return in words what it does."""
        what = "later sinks" if self.columns == "sinks" else "as many other columns"
        return f"{what} of {', '.join(self.heads)} scaled by {self.beta:g} (alpha {self.alpha:g})"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        of_kinds(data, heads=str, alpha=(int, float), beta=(int, float), seed=int)
        if not isinstance(data.get("heads"), list):
            raise OptionError(
                f"heads is {data.get('heads')!r:.40}; expected a list of names",
                hint='heads=["a0.h1", "a1.h0"]',
            )
        return cls(**{**data, "heads": tuple(data["heads"])})


@dataclass(frozen=True, kw_only=True)
class Pine(ModelEdit):
    """Make the output independent of the order of documents.

    Args:
        documents: Token ranges ``(start, end)`` of the documents, one after the other without gaps. What stands
            before is seen by all; what follows sees everything, causally.
        order: How each query has the documents placed: by ``importance`` (PINE); as ``given``; ``random`` and
            ``reversed`` (most important farthest) are controls.
        between: Documents see ``all`` others (PINE) or, as in the model, only the ``earlier`` ones.
        seed: Of the random order.
    """

    kind: ClassVar[str] = "pine"
    what: ClassVar[str] = "PINE: one output for every order of documents (rotary models)"
    from_words: ClassVar[bool] = True
    home: ClassVar[str] = "pine"
    documents: tuple[tuple[int, int], ...]
    order: Order = "importance"
    between: Between = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("order", Order), ("between", Between)):
            if getattr(self, name) not in get_args(known):
                raise OptionError(
                    f"{name} is {getattr(self, name)!r}; expected one of {', '.join(get_args(known))}",
                    hint=f"{name}={get_args(known)[0]}",
                )
        ends = [end for _, end in self.documents]
        if not self.documents or any(not 0 <= start < end for start, end in self.documents):
            raise OptionError(
                f"documents are {self.documents}; expected ranges of tokens (start, end), start before end",
                hint="documents=((1, 9), (9, 17))",
            )
        if [start for start, _ in self.documents[1:]] != ends[:-1]:
            raise OptionError(
                "documents must follow each other without gaps",
                hint="count separators to the document before them: documents=((1, 9), (9, 17))",
            )

    def describe(self) -> str:
        """Return in words what it does."""
        rest = (
            "" if (self.order, self.between) == ("importance", "all") else f" ({self.order}, {self.between})"
        )
        return f"PINE over {len(self.documents)} documents{rest}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "documents": [list(span) for span in self.documents],
            "order": self.order,
            "between": self.between,
            "seed": self.seed,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        spans = tuple((int(start), int(end)) for start, end in data["documents"])
        return cls(**{**data, "documents": spans})
