"""Another pattern in place of heads' own: which there are, and where they are put. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from inspect import Parameter
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, get_args

from workbench.core.errors import OptionError, unknown
from workbench.edits.edit import ModelEdit, head_of, heads_among, of_kinds

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.prompt import Prompt

Pattern = Literal[
    "own",
    "mean",
    "another-text",
    "token-embeddings",
    "key-only",
    "taylor",
    "identity",
    "uniform",
    "top-k",
    "column",
    "block",
    "random",
]
Numbers = dict[str, int]  # keys, block, order: those that a pattern takes
KEYS, BLOCK, ORDER, WINDOW, WINDOWS = 8, 4, 2, 64, 16
CONTROLS = 4  # random masks beside a mask
Each = Literal["together", "layer", "head"]
PATTERNS: tuple[str, ...] = get_args(Pattern)
RECORDED = (
    "own",
    "mean",
    "another-text",
    "token-embeddings",
)  # from runs of their own, before the edit holds
PER_PROMPT = ("own", "token-embeddings")  # belong to the prompts that they were recorded on
KEPT = ("top-k", "column", "block", "random")  # some keys stay, with their own weights in proportion


@dataclass(frozen=True, kw_only=True, eq=False)
class Substitute(ModelEdit):
    """Put another attention pattern in place of the heads' own; values and everything else stay.

    Args:
        heads: ``a5.h3``, or ``a5`` for all heads of a layer.
        pattern: One of `PATTERNS`; the page about edits has a definition of each.
        keys: How many keys a query keeps, for ``top-k``, ``column``, ``block`` and ``random``.
        block: Tokens of a block; ``keys`` is a multiple of it.
        order: Of the polynomial that stands for the exponential in ``taylor``; an odd one has negative weights.
        seed: Of ``random`` keys.
        patterns: Of ``own``, ``mean``, ``another-text`` and ``token-embeddings``: for each layer, ``a0``, the
            patterns ``(row or 1, head, query, key)`` that were recorded. ``Substitute.of`` records them.

    Example:
        >>> Substitute(heads=("a1", "a3"), pattern="top-k", keys=8).describe()
        'pattern top-k of 8 keys in place of the own in a1, a3'
    """

    kind: ClassVar[str] = "substitute"
    what: ClassVar[str] = (
        "another pattern in place of heads' own: uniform, top-k, mean, from token embeddings, ..."
    )
    from_words: ClassVar[bool] = True
    home: ClassVar[str] = "stand_ins"
    heads: tuple[str, ...]
    pattern: Pattern
    keys: int | None = None
    block: int | None = None
    order: int | None = None
    seed: int = 0
    patterns: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.heads:
            raise OptionError("the edit has no heads", hint="heads=('a5.h3',), or ('a5',) for a layer")
        for text in self.heads:
            head_of(text)
        check_pattern(self.pattern, keys=self.keys, block=self.block, order=self.order)
        if self.pattern in RECORDED and not self.patterns:
            raise OptionError(
                f"pattern {self.pattern} is recorded on a model, and none was given",
                hint=f"Substitute.of(model, {self.pattern!r}, heads=...), or workbench attention replace",
            )

    @classmethod
    def takes(cls, given: Mapping[str, str]) -> dict[str, Parameter]:
        """Say what words can give: all but patterns that were recorded."""
        return {name: one for name, one in super().takes(given).items() if name != "patterns"}

    @classmethod
    def of(
        cls,
        model: TransformerBridge,
        pattern: str,
        *,
        heads: Sequence[str],
        prompt: Prompt | Tensor | None = None,
        reference: Sequence[Prompt | Tensor] = (),
        keys: int | None = None,
        block: int | None = None,
        order: int | None = None,
        seed: int = 0,
    ) -> Self:
        """Return the edit for a model, after recording what it needs.

        Args:
            prompt: Token ids ``(row, pos)`` that the edit is for, where the pattern belongs to a prompt.
            reference: Other texts as token ids ``(row, pos)``: of all the mean, of the longest the pattern of
                ``another-text``, drawn by the seed where several are as long.

        Returns:
            The edit, not yet on the model.

        Raises:
            OptionError: if the pattern needs a prompt or a reference that was not given.
            ModelError: if the model shows no patterns, or has no such head.
        """
        recorded = import_module("workbench.edits.recorded_patterns")  # torch
        found = recorded.record_for(model, pattern, prompt=prompt, reference=reference, seed=seed)
        own: dict[str, Any] = {"keys": keys, "block": block, "order": order, "seed": seed, "patterns": found}
        return cls(heads=tuple(heads), pattern=pattern, **own)  # type: ignore[arg-type]

    def describe(self) -> str:
        """Return in words what it does."""
        said = in_words(self.pattern, keys=self.keys, block=self.block, order=self.order)
        return f"pattern {said} in place of the own in {', '.join(self.heads)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        own = {name: value for name, value in vars(self).items() if name != "patterns"}
        return {**own, "heads": list(self.heads)}

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.patterns)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        of_kinds(data, heads=str, pattern=str, keys=int, block=int, order=int, seed=int)
        if not isinstance(data.get("heads"), list | tuple):
            raise OptionError(
                f"heads is {data.get('heads')!r:.40}; expected a list of names",
                hint='heads=["a0.h1", "a1.h0"]',
            )
        return cls(**{**data, "heads": tuple(data["heads"])}, patterns=dict(tensors))


def in_words(
    pattern: str, *, keys: int | None = None, block: int | None = None, order: int | None = None
) -> str:
    """Return a pattern with its numbers.

    Example:
        >>> in_words("block", keys=8, block=4)
        'block of 8 keys in blocks of 4'
    """
    said = [pattern, f" of {keys} keys" if keys else "", f" in blocks of {block}" if block else ""]
    return "".join(said) + (f" of order {order}" if order else "")


def numbers_of(pattern: str, *, keys: int = KEYS, block: int = BLOCK, order: int = ORDER) -> Numbers:
    """Return those of the numbers that a pattern takes.

    Raises:
        OptionError: for an unknown pattern, or a number that cannot work.
    """
    takes = {"keys": pattern in KEPT, "block": pattern == "block", "order": pattern == "taylor"}
    given = {"keys": keys, "block": block, "order": order}
    found = {name: value for name, value in given.items() if takes[name]}
    check_pattern(pattern, **found)
    return found


def check_pattern(
    pattern: str, *, keys: int | None = None, block: int | None = None, order: int | None = None
) -> None:
    """Do nothing if there is such a pattern, with exactly the numbers that it takes.

    Raises:
        OptionError: naming what is wrong or missing.
    """
    if pattern not in PATTERNS:
        raise unknown("pattern", pattern, PATTERNS, error=OptionError)
    takes = {"keys": pattern in KEPT, "block": pattern == "block", "order": pattern == "taylor"}
    for name, value in {"keys": keys, "block": block, "order": order}.items():
        if takes[name] != (value is not None):
            raise OptionError(
                f"pattern {pattern} {'needs' if takes[name] else 'takes no'} {name}",
                hint=f"{name}=4" if takes[name] else f"leave {name} out",
            )
        if value is not None and value < 1:
            raise OptionError(f"{name} is {value}; at least 1 is needed", hint=f"{name}=2")
    if keys is not None and block is not None and keys % block:
        raise OptionError(
            f"{keys} keys are no whole number of blocks of {block}",
            hint=f"keys={(keys // block + 1) * block}",
        )


def layers_among(text: str, layers: Sequence[int]) -> tuple[int, ...]:
    """Return the layers that a word names: ``all``, ``odd``, ``even``, ``2``, ``0-3`` or ``0,2``.

    Raises:
        OptionError: for another word, or a layer that the model does not have.

    Example:
        >>> layers_among("odd", range(4)), layers_among("1-2", range(4))
        ((1, 3), (1, 2))
    """
    if text in ("all", "odd", "even"):
        parity = {"all": (0, 1), "odd": (1,), "even": (0,)}[text]
        found = tuple(layer for layer in layers if layer % 2 in parity)
        if not found:
            raise OptionError(f"the model has no {text} layer", hint="--layers all")
        return found
    wanted: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or int(last or first) < int(first):
            raise OptionError(f"{text!r} names no layers", hint="all, odd, even, 2, 0-3 or 0,2")
        wanted |= set(range(int(first), min(int(last or first), max(layers) + 1) + 1))
    if other := sorted(wanted - set(layers)):
        raise OptionError(
            f"--layers {text}: the model has no attention layer {other[0]}; "
            f"it has {', '.join(map(str, layers))}",
            hint="--layers all",
        )
    return tuple(sorted(wanted))


def places_among(
    layers: Sequence[str], heads: Sequence[str], each: str, model_layers: Sequence[int], n_heads: int
) -> dict[str, tuple[str, ...]]:
    """Return what is replaced in each row of a table, by its name: heads together, layer by layer, or one by one.

    Args:
        layers: Words as `layers_among` reads them, a row for each; none with ``heads``.
        heads: Addresses that are replaced together.

    Raises:
        OptionError: for layers and heads at once, or an unknown word.
        ModelError: for a head that the model does not have.

    Example:
        >>> places_among(["odd"], [], "layer", range(4), 2)
        {'1': ('a1',), '3': ('a3',)}
    """
    if each not in get_args(Each):
        raise unknown("way of going through heads", each, get_args(Each), error=OptionError)
    if heads and layers:
        raise OptionError("layers and heads are both given", hint="--layers odd, or --head a1.h2")
    named_heads = heads_among(heads, model_layers, n_heads)
    groups = {", ".join(heads): named_heads} if heads else {}
    for text in layers or (() if heads else ("all",)):
        groups[text] = {layer: tuple(range(n_heads)) for layer in layers_among(text, model_layers)}
    found: dict[str, tuple[str, ...]] = {}
    for name, own in groups.items():
        if each == "together":
            found[name] = tuple(address for one in own.items() for address in _addresses(*one, n_heads))
        for layer, those in own.items():
            if each == "layer":
                found[str(layer)] = _addresses(layer, those, n_heads)
            elif each == "head":
                found |= {f"a{layer}.h{head}": (f"a{layer}.h{head}",) for head in those}
    return found


def _addresses(layer: int, heads: Sequence[int], n_heads: int) -> tuple[str, ...]:
    whole = len(heads) == n_heads
    return (f"a{layer}",) if whole else tuple(f"a{layer}.h{head}" for head in heads)
