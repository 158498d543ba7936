"""Where the regions of trained readers are routed: to the object that is asked for, to others, to the ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.masks.chosen_keys import regions_of_grid
from workbench.tasks.scenes.patch_rows import PatchRows
from workbench.training.mixers.comparison import TrainedArms, tensors_of
from workbench.training.mixers.lab import Lab
from workbench.training.mixers.picture_plugs import kept_regions
from workbench.training.mixers.plugs import Content
from workbench.view.pictures import HeadMaps


@torch.no_grad()
def routing_of(
    model: Lab, pixels: Float[Tensor, "picture 3 height width"], *, side: int, keep: int
) -> Bool[Tensor, "layer picture region region"]:
    """Return which regions each region is routed to, in every layer of a reader that routes.

    Raises:
        OptionError: for a model that reads no pictures.
    """
    if not model.shape.patch:
        raise OptionError("routing is of readers of pictures", hint="LabShape(patch=6, ...)")
    _, seen = model.run_with_cache(pixels)
    found = []
    for i in range(model.shape.n_layers):
        q, k, v = (seen[f"blocks.{i}.attn.hook_{name}"] for name in ("q", "k", "v"))
        region = regions_of_grid(q.shape[1], side).to(q.device)
        found.append(kept_regions(Content(x=v.flatten(2), q=q, k=k, v=v), region, keep)[:, 0])
    return torch.stack(found)


def routing_lift(
    kept: Bool[Tensor, "picture region region"],
    asking: Bool[Tensor, "picture region"],
    holding: Bool[Tensor, "picture region"],
) -> Float[Tensor, " picture"]:
    """Say how much likelier asking regions are routed to regions that hold something than to any region.

    Returns:
        The share of kept regions among those that hold it, over the share among all; 1 is what random regions have,
        NaN stands where a picture has no asking or no holding region.

    Example:
        >>> kept = torch.tensor([[[True, False, False, True]] * 4])
        >>> one = torch.tensor([[True, False, False, False]])
        >>> routing_lift(kept, one, one), routing_lift(kept, one, ~one)
        (tensor([2.]), tensor([0.6667]))
    """
    there = asking[:, :, None] & holding[:, None, :]
    among = (kept & there).sum((1, 2)) / there.sum((1, 2))
    every = (kept & asking[:, :, None]).sum((1, 2)) / (asking.sum(1) * kept.shape[-1])
    return among / every


def holds(patches: Bool[Tensor, "picture patch"], side: int) -> Bool[Tensor, "picture region"]:
    """Say which regions of a square picture have such a patch.

    Example:
        >>> holds(torch.eye(16, dtype=torch.bool)[[5]], 2).tolist()
        [[True, False, False, False]]
    """
    region = regions_of_grid(patches.shape[1], side)
    return torch.stack([patches[:, region == i].any(1) for i in range(side * side)], dim=1)


@dataclass(frozen=True, kw_only=True)
class ObjectLifts:
    """How often regions of asked patches are routed to objects, times as often as a random region.

    Attributes:
        framed: To regions with the framed object ``(training, layer, picture)``.
        others: To regions with another object and not the framed one.
        left_out: Pictures without such regions, which are in neither.
        first: Of the first picture, the share of asked regions that are routed to each patch's, by layer.
        pixels: Of that picture.
    """

    framed: Float[np.ndarray, "training layer picture"]
    others: Float[np.ndarray, "training layer picture"]
    left_out: int
    first: Float[np.ndarray, "layer row column"]
    pixels: np.ndarray


def object_lifts(models: Sequence[Lab], rows: PatchRows, *, side: int, keep: int) -> ObjectLifts:
    """Say for every trained model and layer where the regions of asked patches are routed (`routing_lift`)."""
    pixels, target = tensors_of(rows)
    slot = torch.from_numpy(np.ascontiguousarray(rows.slot))
    asking, framed = holds(target >= 0, side), holds(slot == 0, side)
    others = holds(slot > 0, side) & ~framed
    usable = asking.any(1) & framed.any(1) & others.any(1)
    kept = torch.stack([routing_of(model, pixels, side=side, keep=keep) for model in models])
    lifts = [
        torch.stack([torch.stack([routing_lift(one, asking, held) for one in layers]) for layers in kept])
        for held in (framed, others)
    ]
    used, width = usable.numpy(), round(slot.shape[1] ** 0.5)
    region = regions_of_grid(slot.shape[1], side)
    first = kept[0, :, 0][:, asking[0]].double().mean(1)[:, region].view(-1, width, width)
    shown = ((rows.inputs[0].transpose(1, 2, 0) + 1) * 127.5).round().astype(np.uint8)
    return ObjectLifts(
        framed=lifts[0].double().numpy()[..., used],
        others=lifts[1].double().numpy()[..., used],
        left_out=int((~used).sum()),
        first=first.numpy(),
        pixels=np.ascontiguousarray(shown),
    )


def first_picture(lifts: ObjectLifts, *, title: str) -> HeadMaps:
    """Draw the first picture under how often its asked patches are routed to each patch, layer by layer."""
    layers = [f"layer {i}" for i in range(len(lifts.first))]
    return HeadMaps.of(lifts.first[None], ["share"], layers, pixels=lifts.pixels, title=title)


def lifts_of_arm(
    arms: TrainedArms, arm: str, rows: PatchRows, *, side: int, keep: int
) -> tuple[ObjectLifts, ObjectLifts]:
    """Say where an arm that routes looks: as it was trained, and at its start (`object_lifts`).

    Returns:
        Lifts of every training after it, and of the same models before it.
    """
    starts: list[Any] = [arms.comparison.begin(seed).eval()[arm] for seed in arms.seeds]
    after = object_lifts([models[arm] for models in arms.models.values()], rows, side=side, keep=keep)
    return after, object_lifts(starts, rows, side=side, keep=keep)


def lift_rows(lifts: Mapping[str, Float[np.ndarray, "training layer picture"]]) -> list[dict[str, float]]:
    """Return one row for each training and layer, with the mean over pictures of each kind of lift.

    Example:
        >>> lift_rows({"framed": np.array([[[1.0, 3.0]]])})
        [{'training': 1, 'layer': 0, 'framed': 2.0}]
    """
    trainings, layers, _ = next(iter(lifts.values())).shape
    return [
        {"training": i + 1, "layer": layer}
        | {name: float(one[i, layer].mean()) for name, one in lifts.items()}
        for i in range(trainings)
        for layer in range(layers)
    ]
