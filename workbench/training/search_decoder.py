"""Decoders of scanpaths over the objects of a picture or over its patches, trained on a search with a known rule.

The rule: color is seen from afar, shape only where one looks. Who searches looks at the objects of the target's color,
the nearest first, from the middle of the picture on, until the target is reached.

Source:
    OAT: Object-Level Attention Transformer for Gaze Scanpath Prediction, 2024 (a summary was read).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from workbench.heads.attentive_probe import patch_features
from workbench.heads.drawn_pictures import DrawnPictures, draw_pictures
from workbench.heads.scanpath import GROUND
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import coverage, owner_map
from workbench.tasks.scenes.words import COLOURS, GRID, N_CELLS, SHAPES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WIDTH, HEADS = 32, 4
LONGEST = 8  # fixations


def search_path(layout: SceneLayout, picture: int) -> tuple[int, ...]:
    """Return the objects that a search for the first one fixates, by the rule above; the first one comes last."""
    colours = layout.colour[picture, : layout.n[picture]]
    path = nearest_first(layout, picture, among=np.flatnonzero(colours == colours[0]).tolist())
    return path[: path.index(0) + 1]


def nearest_first(
    layout: SceneLayout, picture: int, *, among: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Return objects in the order in which each is the nearest to the one before, from the middle of the picture on.

    Equally near objects are taken in reading order.
    """
    cells = layout.cell[picture].astype(int)
    left = set(range(int(layout.n[picture])) if among is None else among)
    at, path = divmod(N_CELLS // 2, GRID), []
    while left:
        places = {slot: divmod(int(cells[slot]), GRID) for slot in left}
        far = {slot: (r - at[0]) ** 2 + (c - at[1]) ** 2 for slot, (r, c) in places.items()}
        nearest = min(left, key=lambda slot: (far[slot], int(cells[slot])))
        left.remove(nearest)
        path.append(nearest)
        at = places[nearest]
    return tuple(path)


def single_targets(layout: SceneLayout) -> tuple[SceneLayout, Bool[np.ndarray, " picture"]]:
    """Say in which pictures no other object has color and shape of the first: it can be searched for."""
    there = np.arange(N_CELLS)[None] < layout.n[:, None]
    same = (layout.colour == layout.colour[:, :1]) & (layout.shape == layout.shape[:, :1]) & there
    return layout, same.sum(-1) == 1


@dataclass(frozen=True, eq=False)
class SearchPlaces:
    """What can be fixated in each picture: its objects, or its patches.

    Attributes:
        features: Of every place, from a frozen model.
        at: Row and column of every place, from -1 to 1.
        there: Which places there are.
        of_object: The place that stands for each object.
        owner: The object of each place, -1 for the ground.
    """

    features: Float[Tensor, "picture place d"]
    at: Float[Tensor, "picture place 2"]
    there: Bool[Tensor, "picture place"]
    of_object: Int[Tensor, "picture thing"]
    owner: Int[np.ndarray, "picture place"]


@dataclass(frozen=True, eq=False)
class SearchScenes:
    """Pictures with a target, what can be fixated in them, and the path of the search.

    Attributes:
        shown: The pictures.
        target: Color and shape, each one hot.
        paths: Objects in order, the target last.
        objects, patches: What can be fixated.
    """

    shown: DrawnPictures
    target: Float[Tensor, "picture word"]
    paths: tuple[tuple[int, ...], ...]
    objects: SearchPlaces
    patches: SearchPlaces

    def __len__(self) -> int:
        return len(self.paths)


class SearchSteps(NamedTuple):
    """Steps of searches: the picture, places fixated before, the present one (-1: none yet), and what comes next."""

    pictures: Int[Tensor, " step"]
    seen: Bool[Tensor, "step place"]
    now: Int[Tensor, " step"]
    next: Int[Tensor, " step"]

    def at(self, rows: Int[Tensor, " row"]) -> SearchSteps:
        """Return some of the steps."""
        return SearchSteps(*(each[rows] for each in self))


def steps_of(places: SearchPlaces, paths: Sequence[tuple[int, ...]]) -> SearchSteps:
    """List every step of every path, its end included, which is a choice behind the last place."""
    many, rows = places.features.shape[1], []
    for picture, path in enumerate(paths):
        there = places.of_object[picture, list(path)].tolist()
        for k in range(len(there) + 1):
            seen = np.zeros(many, dtype=bool)
            seen[there[:k]] = True
            rows.append((picture, seen, there[k - 1] if k else -1, there[k] if k < len(there) else many))
    picture, seen, now, after = zip(*rows, strict=True)
    device = places.features.device
    numbers = (torch.as_tensor(each, device=device) for each in (picture, np.stack(seen), now, after))
    return SearchSteps(*numbers)


def draw_searches(model: TransformerBridge, world: World, *, n: int, seed: int, layer: int) -> SearchScenes:
    """Draw pictures in which the first object is searched for; those that hold it twice are left out.

    Args:
        n: How many are drawn.
        layer: After which patches are read.

    Raises:
        ModelError: for a model that reads no pictures.
    """
    shown = draw_pictures(model, world, n=n, seed=seed, change=single_targets)
    features = patch_features(model, shown, layer)
    spread = features.std((0, 1)).clamp(min=1e-6)
    features = (features - features.mean((0, 1))) / spread
    covered = torch.as_tensor(coverage(owner_map(shown.layout, shown.world))).to(
        features
    )  # (picture, patch, slot)
    words = [(shown.layout.colour[:, 0], len(COLOURS)), (shown.layout.shape[:, 0], len(SHAPES))]
    target = torch.cat([one_hot(torch.as_tensor(one.astype(int)), many) for one, many in words], -1).to(
        features
    )
    grid = torch.stack(torch.meshgrid(*(torch.linspace(-1, 1, k) for k in shown.grid), indexing="ij"), -1)
    at = grid.flatten(0, 1).to(features).expand(len(features), -1, -1)
    share = (covered / covered.sum(1, keepdim=True).clamp(min=1e-6)).transpose(1, 2)  # (picture, slot, patch)
    there = covered.sum(1) > 0
    slots = torch.arange(N_CELLS, device=features.device).expand(len(features), -1)
    owner = torch.where(covered.max(-1).values > 0, covered.argmax(-1), GROUND)
    return SearchScenes(
        shown=shown,
        target=target,
        paths=tuple(search_path(shown.layout, picture) for picture in range(len(features))),
        objects=SearchPlaces(share @ features, share @ at, there, slots, slots.cpu().numpy()),
        patches=SearchPlaces(
            features, at, torch.ones_like(owner, dtype=torch.bool), share.argmax(-1), owner.cpu().numpy()
        ),
    )


class ScanpathDecoder(nn.Module):
    """Says what is fixated next: places look at each other and at the target, then each is scored from the present one.

    Args:
        width: Of the features of a place.
        words: Of the target.
    """

    def __init__(self, width: int, words: int) -> None:
        super().__init__()
        self.read = nn.Linear(width + 2 + words, WIDTH)
        self.look = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.score = nn.Sequential(nn.Linear(WIDTH + words + 4, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))
        self.end = nn.Sequential(nn.Linear(WIDTH + words + 1, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))

    def forward(
        self,
        places: SearchPlaces,
        target: Float[Tensor, "picture word"],
        pictures: Int[Tensor, " step"],
        seen: Bool[Tensor, "step place"],
        now: Int[Tensor, " step"],
    ) -> Float[Tensor, "step choice"]:
        """Return scores of all places, and last that of ending.

        Args:
            pictures: Of each step.
            seen: SearchPlaces that were fixated before it.
            now: The place that is fixated, -1 in the beginning, when one looks at the middle.
        """
        at, there, wanted = places.at[pictures], places.there[pictures], target[pictures]
        word = wanted[:, None].expand(-1, at.shape[1], -1)
        read = self.read(torch.cat([places.features[pictures], at, word], -1))
        looked = self.look(read, read, read, key_padding_mask=~there, need_weights=False)[0]
        held = self.norm(read + looked)
        row = torch.arange(len(now), device=now.device)
        begun = (now >= 0)[:, None].to(held)
        here = at[row, now.clamp(min=0)] * begun
        apart = at - here[:, None]
        far = apart.square().sum(-1, keepdim=True)
        score = self.score(torch.cat([held, word, apart, far, seen[..., None].to(held)], -1))[..., 0]
        end = self.end(torch.cat([held[row, now.clamp(min=0)] * begun, wanted, begun], -1))
        return torch.cat([score.masked_fill(~there, float("-inf")), end], -1)


def step_loss(
    arm: ScanpathDecoder, places: SearchPlaces, target: Float[Tensor, "picture word"], steps: SearchSteps
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the next fixation where all before it were right, in nats."""
    return cross_entropy(arm(places, target, steps.pictures, steps.seen, steps.now), steps.next)


@torch.no_grad()
def decode(
    arm: ScanpathDecoder, places: SearchPlaces, target: Float[Tensor, "picture word"], pictures: Sequence[int]
) -> list[tuple[int, ...]]:
    """Return the scanpath of each picture as objects, -1 for the ground; places that were fixated are not again."""
    rows = torch.as_tensor(list(pictures))
    n, row = places.features.shape[1], torch.arange(len(rows))
    seen, now = torch.zeros(len(rows), n, dtype=torch.bool), torch.full((len(rows),), -1)
    going, paths = torch.ones(len(rows), dtype=torch.bool), [list[int]() for _ in rows]
    for step in range(LONGEST):
        scores = arm(places, target, rows, seen, now)
        scores[:, :n] = scores[:, :n].masked_fill(seen, float("-inf"))
        if step == 0:
            scores[:, n] = float("-inf")  # one fixation at least
        best = scores.argmax(-1)
        going &= best < n
        now = torch.where(going, best, now)
        seen[row[going], best[going]] = True
        for one in np.flatnonzero(going.numpy()):
            paths[one].append(int(places.owner[rows[one], best[one]]))
    return [tuple(path) for path in paths]
