"""What an edit is: changes of attention patterns and head outputs that hold while a ``with`` block lasts.

An ``Intervention`` (``workbench.engine.interventions``) is a row of a table: what one prompt's activations become in
one run. An edit is a standing change to how the model computes, whatever it is run on.

No torch here, nor in ``kinds`` and ``file``: a saved edit is shown without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from workbench.circuits.addresses import Node, parse_node
from workbench.core.errors import ModelError, OptionError, RunError
from workbench.core.registry import Registry
from workbench.core.show import Shown

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.edits.place import At, Change, Place

PLUGIN = "plug-in"  # the kind that a file gives to those of others; it names theirs
When = Literal["all", "decode"]
Positions = tuple[str | int, ...]  # numbers count within the prompt that is run, negative ones from its end


EDITS: Registry[type[ModelEdit]] = Registry("kind of edit", group="workbench.edits", error=RunError)
EDITS.read("workbench.edits", r'^    kind: ClassVar\[str\] = "([\w-]+)"')


class ModelEdit(Shown, ABC, shown_in="workbench.edits.show", saved_in="workbench.edits.file"):
    """Base of all edits: frozen dataclasses that say what changes; ``with edit.on(model):`` makes it so.

    A class with a ``kind`` is found by it, in whatever module it stands.

    Attributes:
        what: What such edits do, for the list of kinds.
        home: The module of this room whose ``changes_of`` has what it computes; a class of others has ``changes``.
        from_words: Whether it can be made from words: all that it takes is numbers and names.
    """

    kind: ClassVar[str]
    what: ClassVar[str] = ""
    home: ClassVar[str] = ""
    reads_elsewhere: ClassVar[bool] = False
    """Whether it takes patterns whose keys are other positions than their queries."""
    from_words: ClassVar[bool] = False

    def __init_subclass__(cls, **others: Any) -> None:
        super().__init_subclass__(**others)
        if "kind" in vars(cls):
            EDITS.add(cls.kind, cls, home=cls.__module__)

    @classmethod
    def module(cls) -> str:
        """Return the module whose source decides what it computes."""
        return f"workbench.edits.{cls.home}" if cls.home else cls.__module__

    @classmethod
    def takes(cls, given: Mapping[str, str]) -> dict[str, Parameter]:
        """Say what it is made of from words, by name; ``given`` are those that there are, for kinds that ask
        further.
        """
        return dict(signature(cls).parameters)

    @classmethod
    def made_of(cls, settings: Mapping[str, Any]) -> ModelEdit:
        """Return one of these settings, as JSON has them."""
        return cls.from_dict(settings, {})

    def changes(self, place: Place) -> Sequence[Change]:
        """Return the functions to install, in the order in which they apply at one site."""
        return import_module(self.module()).changes_of(self, place)

    def addresses(self) -> tuple[str, ...]:
        """Return the heads and layers that it names."""
        return getattr(self, "heads", ())

    def describe(self) -> str:
        """Return one line: what it does and where."""
        return self.kind

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Say what JSON can hold of it; tensors are in ``tensors``."""

    def tensors(self) -> dict[str, Tensor]:
        """Return its tensors by name."""
        return {}

    @classmethod
    @abstractmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Read what ``to_dict`` and ``tensors`` gave."""

    @contextmanager
    def on(
        self, model: TransformerBridge, *, at: At | None = None, decode_from: int | None = None
    ) -> Iterator[TransformerBridge]:
        """Inside, the model computes with this edit; afterwards it is as it was, also after an exception.

        Args:
            at: Where the edit's named positions are in the prompts of the next calls: ``batch.at``.
            decode_from: First query position that counts as decoding, for edits with ``when="decode"``.

        Raises:
            ModelError: if the model has no such head, or the change would silently do nothing on it.
        """
        install = import_module("workbench.edits.install")  # torch: from here on the edit computes
        with install.standing(self, model, at=at, decode_from=decode_from):
            yield model


def kinds_in(edit: ModelEdit) -> set[type[ModelEdit]]:
    """Return the class of an edit and of those that it is made of."""
    return {type(edit)}.union(*(kinds_in(part) for part in getattr(edit, "edits", ())))


def said_of(edit: ModelEdit) -> dict[str, Any]:
    """Say what a file says of an edit: kind and settings, those of a plug-in's kind by themselves."""
    if edit.kind in EDITS.ours():
        return {"kind": edit.kind, **edit.to_dict()}
    return {"kind": PLUGIN, "name": edit.kind, "settings": edit.to_dict()}


def of_kinds(data: Mapping[str, Any], **kinds: type | tuple[type, ...]) -> None:
    """Whether values of a description, or the items of its lists, are of the kinds named; None is for the class.

    Raises:
        OptionError: naming the first that is not.
    """
    for name, wanted in kinds.items():
        value = data.get(name)
        for item in value if isinstance(value, list | tuple) else (value,):
            kinds_of = wanted if isinstance(wanted, tuple) else (wanted,)
            if item is not None and (isinstance(item, bool) or not isinstance(item, kinds_of)):
                words = " or ".join(kind.__name__ for kind in kinds_of)
                raise OptionError(
                    f"{name} has {item!r:.40}; expected {words}",
                    hint=f"workbench edit list shows what each kind takes; {name} is made of {words}",
                )


def head_of(text: str) -> Node:
    """Return a head, or a layer that stands for all of its heads.

    Raises:
        OptionError: if the address is of something else.
    """
    if text.startswith("cross:"):
        raise OptionError(
            f"{text} looks at the words of a caption; edits of patterns are of tokens among themselves",
            hint=f"workbench edit make word-looks --set heads={text.removeprefix('cross:')} "
            '--set slots="first colour" --set inside=3 -o NEW',
        )
    node = parse_node(text)
    if node.kind not in ("head", "attn") or node.slot or node.position is not None:
        raise OptionError(f"{text} is not a head", hint="heads look like a5.h3, whole layers like a5")
    return node


def heads_among(addresses: Sequence[str], layers: Sequence[int], n_heads: int) -> dict[int, tuple[int, ...]]:
    """Layer -> heads, in a model with these attention layers and as many heads in each.

    Raises:
        OptionError: for an address that is not of a head.
        ModelError: for a head or layer that this model does not have.
    """
    found: dict[int, set[int]] = {}
    for text in addresses:
        node = head_of(text)
        hint = f"its heads are a{min(layers)}.h0 to a{max(layers)}.h{n_heads - 1}" if layers else ""
        if node.layer not in layers:
            whole = len(layers) > 1 and max(layers) - min(layers) + 1 == len(layers)
            told = f"{min(layers)} to {max(layers)}" if whole else ", ".join(map(str, layers)) or "none"
            raise ModelError(
                f"{text}: the model has no attention layer {node.layer}; it has {told}", hint=hint
            )
        if node.index is not None and node.index >= n_heads:
            raise ModelError(f"{text}: layer {node.layer} has heads 0 to {n_heads - 1}", hint=hint)
        own = range(n_heads) if node.index is None else (node.index,)
        found.setdefault(node.depth, set()).update(own)
    return {layer: tuple(sorted(heads)) for layer, heads in sorted(found.items())}


def check_heads(heads: Sequence[str]) -> None:
    """Refuse an edit without heads, or of something else.

    Raises:
        OptionError: if there are none, or an address is of something else.
    """
    if not heads:
        raise OptionError("the edit has no heads", hint="heads=('a5.h3',), or ('a5',) for a layer")
    for text in heads:
        head_of(text)
