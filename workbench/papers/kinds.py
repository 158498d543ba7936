"""What a paper is measured on, and what is found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from workbench.core.claims import JudgedClaim, Rows, plain
from workbench.core.errors import RunError
from workbench.core.progress import Progress, silent
from workbench.core.typed import typed
from workbench.engine.told import tell_behavior
from workbench.papers.file import FindingsContent
from workbench.view.pictures import Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.engine.paired_runs import PairedRuns

Note = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was measured and what follows from it.

    Attributes:
        tables: Caption -> rows.
        pictures: Caption -> picture as numbers and words; ``workbench.view`` draws it when it is shown.
        numbers: The values that the claims were computed from; JSON values.
    """

    claims: tuple[JudgedClaim, ...]
    tables: Mapping[str, Rows] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "claims": [claim.to_dict() for claim in self.claims],
            "tables": {caption: [plain(row) for row in rows] for caption, rows in self.tables.items()},
            "pictures": {caption: picture.to_dict() for caption, picture in self.pictures.items()},
            "numbers": plain(self.numbers),
        }

    @classmethod
    def of(cls, content: FindingsContent) -> Findings:
        """The findings that a file holds."""
        return cls(
            claims=tuple(claim.claim_of() for claim in content.claims),
            tables=content.tables,
            pictures=content.pictures,
            numbers=content.numbers,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Findings:
        """Read what ``to_dict`` wrote.

        Raises:
            RunError: if a part of it is missing or of another type; no markup is read as a picture.
        """
        return cls.of(typed(data, FindingsContent, where="these findings", error=RunError))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a replication is run on.

    Attributes:
        model: The opened bridge; left as it was found.
        name: How the model was named.
        options: An instance of the replication's ``options`` class.
        behaviors: What the model does on the pairs that were begun with; ``Behavior.to_dict`` by name.
    """

    model: TransformerBridge
    name: str
    options: Any
    seed: int = 0
    progress: Progress = silent
    note: Note = silent
    behaviors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def begin(self, runs: PairedRuns) -> PairedRuns:
        """The runs, once it is said and kept what the model itself does on them."""
        model = runs.provenance()["model"]
        told = tell_behavior(runs, self.note, what="the numbers here")
        self.behaviors.update({f"{model}, {name}, {runs.n_pairs} pairs": one for name, one in told.items()})
        return runs

    def each(self, items: Sequence[T], what: str) -> Iterator[T]:
        """The items one by one, telling how many are done."""
        for i, item in enumerate(items, start=1):
            yield item
            self.progress(i, len(items), what)

    def open(self, name: str) -> TransformerBridge:
        """Another model, for claims about several: on the same device, in the same dtype."""
        from workbench.model.identity import identity
        from workbench.model.open import open_model

        own = identity(self.model)
        return open_model(name, device=own.device, dtype=own.dtype)


class Replicable(Protocol):
    """What a paper's module holds as ``REPLICATION``: something with a name that measures its claims on a model."""

    @property
    def name(self) -> str: ...

    @property
    def about(self) -> str: ...

    @property
    def options(self) -> type: ...

    @property
    def controls(self) -> tuple[str, ...]: ...

    def make_options(self, texts: Iterable[str] = ()) -> Any: ...

    def run(self, setting: Setting) -> Findings: ...
