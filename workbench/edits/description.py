"""What ``edit.json`` says of each kind of edit, field by field; `workbench.edits.kinds` has what the values mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from workbench.core.file_kind import FileKind
from workbench.core.typed import Count, Part, Sha256
from workbench.edits.edit import PLUGIN, When
from workbench.edits.kinds import Between, Columns, Keep, Operation, Order
from workbench.edits.redistribute import ChooseHeads
from workbench.edits.reinforce import Choose
from workbench.edits.route_heads import Router
from workbench.edits.substitute import Pattern
from workbench.engine.interventions.freed import Mass, Share

Heads = Annotated[list[str], Meta(description="a5.h3, or a5 for a layer")]
Places = Annotated[list[int | str] | None, Meta(description="token positions, numbered or named; null: all")]


class RowsContent(Part, tag_field="kind", tag="rows", frozen=True):
    """Rows of attention patterns that are changed."""

    heads: Heads
    operation: Operation
    keys: Places
    queries: Places
    value: int | float | None
    weights: list[int | float] | None
    recipients: Places
    share: Share
    mass: Mass
    when: When


class AffineContent(Part, tag_field="kind", tag="affine", frozen=True):
    """Outputs of heads that are scaled and shifted, by the tensors ``a`` and ``b``."""

    heads: Heads
    positions: Places
    when: When


class MaskContent(Part, tag_field="kind", tag="mask", frozen=True):
    """Heads that look only where the tensor ``allowed`` says."""

    heads: Heads


class ContentMaskContent(Part, tag_field="kind", tag="content-mask", frozen=True):
    """Who may look at whom, chosen by what stands there."""

    heads: Heads
    mask: Annotated[str, Meta(description="a mask by content in words: routed:block=4,keep=2")]
    random: Annotated[int | None, Meta(description="seed of as many random keys in place of the chosen")] = (
        None
    )


class WordLooksContent(Part, tag_field="kind", tag="word-looks", frozen=True):
    """How strongly patches of a region look at words of a caption."""

    heads: Annotated[list[str], Meta(description="heads that look at words: a1.h2, or a1 for a layer")]
    slots: Annotated[list[int | str], Meta(description="words: 0 to 7, or names such as first colour")]
    region: Annotated[
        tuple[Count, Count, Count, Count] | None,
        Meta(description="top, left, bottom, right in patches; null: the whole picture"),
    ]
    inside: int | float
    outside: int | float


class CalibrationContent(Part, tag_field="kind", tag="calibration", frozen=True):
    """Sinks from which attention is taken."""

    heads: Heads
    alpha: int | float
    beta: int | float
    keep: Keep
    columns: Columns
    seed: int


class PineContent(Part, tag_field="kind", tag="pine", frozen=True):
    """Documents whose order is made not to matter."""

    documents: Annotated[list[tuple[Count, Count]], Meta(description="token ranges, start and end")]
    order: Order
    between: Between
    seed: int


class ReinforceContent(Part, tag_field="kind", tag="reinforce", frozen=True):
    """Heads made louder prompt by prompt; the tensor ``without`` has their outputs without the picture."""

    layers: list[Count]
    alpha: int | float
    choose: Choose
    seed: int


class RedistributeContent(Part, tag_field="kind", tag="redistribute", frozen=True):
    """Sinks whose weight goes to the picture."""

    layers: list[Count]
    image: Annotated[list[Count], Meta(description="positions of the patches")]
    dimensions: Annotated[list[Count], Meta(description="of massive activations")]
    tau: int | float
    keep: int | float
    min_nonsink_ratio: int | float
    min_visual_mass: int | float
    choose: ChooseHeads
    seed: int


class EmphasiseContent(Part, tag_field="kind", tag="emphasise", frozen=True):
    """Scores that are raised, of the keys that the tensors ``local`` and ``summary`` name."""

    layers: list[Count]
    alpha: int | float
    beta: int | float


class BiasTowardsContent(Part, tag_field="kind", tag="bias-towards", frozen=True):
    """Scores that are raised by similarity with the tensor ``reference``."""

    heads: Heads
    beta: int | float
    queries: Places


class SubstituteContent(Part, tag_field="kind", tag="substitute", frozen=True):
    """Other patterns in place of heads' own; those that were recorded are tensors, ``a0`` those of layer 0."""

    heads: Heads
    pattern: Pattern
    keys: int | None
    block: int | None
    order: int | None
    seed: int


class RouteHeadsContent(Part, tag_field="kind", tag="route-heads", frozen=True):
    """Heads that a router keeps or not, token by token; a learned router is tensors, ``a0.routed`` and so on."""

    heads: Heads
    active: int
    by: Router
    seed: int


class StackContent(Part, tag_field="kind", tag="stack", frozen=True):
    """Several edits at once; the tensors of the third begin with ``2.``."""

    edits: list[Kept]


class PluginContent(Part, tag_field="kind", tag=PLUGIN, frozen=True):
    """An edit of a kind that is not ours."""

    name: Annotated[str, Meta(min_length=1, max_length=200, description="its kind")]
    settings: Annotated[dict[str, Any], Meta(description="what its class says of itself")]


Kept = (
    RowsContent
    | AffineContent
    | MaskContent
    | ContentMaskContent
    | WordLooksContent
    | CalibrationContent
    | PineContent
    | ReinforceContent
    | RedistributeContent
    | EmphasiseContent
    | BiasTowardsContent
    | SubstituteContent
    | RouteHeadsContent
    | StackContent
    | PluginContent
)


class EditContent(Part, frozen=True):
    """A standing change to how a model computes."""

    edit: Kept
    tensors: Annotated[Sha256 | None, Meta(description="SHA-256 of edit.safetensors, if there is one")] = None


def _nested(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of version 1, in which what the edit says stood beside the rest."""
    own = {name: value for name, value in content.items() if name != "tensors"}
    return {"edit": own, **({"tensors": content["tensors"]} if "tensors" in content else {})}


EDIT = FileKind(
    format="circuit-workbench/edit",
    content=EditContent,
    what="an edit",
    by_hand=True,
    again="to make one: workbench edit make rows --set heads=a0.h0 --set operation=drop --set keys=0 -o NEW",
    first=_nested,
)
