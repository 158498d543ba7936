"""An edit: heads whose output is longer or shorter than it was."""

from dataclasses import dataclass
from typing import ClassVar

from workbench.edits.edit import ModelEdit


@dataclass(frozen=True, kw_only=True)
class Lean(ModelEdit):
    """Multiply the outputs of some heads by a factor."""

    kind: ClassVar[str] = "lean"
    what: ClassVar[str] = "head outputs times a factor"
    from_words: ClassVar[bool] = True
    heads: tuple[str, ...]
    by: float = 0.5

    def changes(self, place):
        """One change per layer."""
        from workbench.edits.place import Change

        def fn(z, seen):
            return z * self.by

        return [
            Change(layer=layer, site="head-output", heads=heads, fn=fn)
            for layer, heads in place.heads(self.heads).items()
        ]

    def describe(self):
        return f"outputs of {', '.join(self.heads)} times {self.by:g}"

    def to_dict(self):
        return {"heads": list(self.heads), "by": self.by}

    @classmethod
    def from_dict(cls, data, tensors):
        return cls(heads=tuple(data["heads"]), by=data["by"])
