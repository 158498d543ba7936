"""Several edits at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from workbench.edits.edit import ModelEdit, said_of
from workbench.edits.file import read_edit

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.edits.place import Change, Place


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack(ModelEdit):
    """Several edits at once. At one site they apply in the stated order, each to what the one before left.

    A pattern is always made before the head's output, whatever the order of the edits.
    """

    kind: ClassVar[str] = "stack"
    what: ClassVar[str] = "several edits in a stated order"
    home: ClassVar[str] = "stacked"
    edits: tuple[ModelEdit, ...]

    def changes(self, place: Place) -> Sequence[Change]:
        return [change for edit in self.edits for change in edit.changes(place)]

    def addresses(self) -> tuple[str, ...]:
        return tuple(text for edit in self.edits for text in edit.addresses())

    def describe(self) -> str:
        """Return in words what it does."""
        return "; then ".join(edit.describe() for edit in self.edits) or "nothing"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"edits": [said_of(edit) for edit in self.edits]}

    def tensors(self) -> dict[str, Tensor]:
        return {f"{i}.{n}": t for i, edit in enumerate(self.edits) for n, t in edit.tensors().items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Return what ``to_dict`` wrote, read back."""
        parts = []
        for i, part in enumerate(data["edits"]):
            own = {n.removeprefix(f"{i}."): t for n, t in tensors.items() if n.startswith(f"{i}.")}
            parts.append(read_edit(part, own))
        return cls(edits=tuple(parts))


def stack(edits: Sequence[ModelEdit]) -> Stack:
    """Return edits that hold together, in this order."""
    return Stack(edits=tuple(edits))
