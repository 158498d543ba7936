"""Pictures and captions matched with a second branch that sees a heat map of the subject (FocusCLIP).

A small tower over frozen patches makes one direction of a picture, two words make one of a caption. The direction of a
picture shall be most like its own caption's among all captions that are trained. The second branch sees the same
patches, each multiplied by the heat map. Arms differ in the heat map: the subject's, another picture's, or no branch.

``python -m workbench.training.focus_guidance --out FOLDER`` trains the arms that are shipped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from workbench.core.progress import Progress, silent
from workbench.heads.attentive_probe import patch_features
from workbench.heads.drawn_pictures import DrawnPictures, draw_pictures
from workbench.heads.gaussian_target import gaussian_targets
from workbench.heads.pointing_head import boxes_of
from workbench.model.open import open_model
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.words import COLOURS, SHAPES
from workbench.training.mixers.kept_weights import HOME, keep_weights, parts_under, read_weights
from workbench.training.side_by_side import begin_alike, step_alike

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NAME, MODEL, SEEDS, CHECK_SEED = "focus-guidance", "zoo:marked", (31, 32), 987_005
GUIDED, PLAIN, DEALT = "heat map of the subject", "no heat map", "heat map of another picture"
ARMS = (GUIDED, PLAIN, DEALT)
CANNOT = "anything but to name the framed object by patches of zoo:marked after its first layer"
SCALE = 10.0


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Shape and training of a tower."""

    width: int = 32
    layers: int = 2
    heads: int = 4
    pictures: int = 1500
    steps: int = 400
    batch: int = 64
    rate: float = 3e-3
    noise: float = 0.15
    layer: int = 0


def held_out() -> Bool[np.ndarray, "colour shape"]:
    """Say which combinations of colour and shape are never trained: one of each colour.

    Example:
        >>> held_out().sum(0).tolist(), held_out().sum(1).tolist()
        ([2, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1])
    """
    found = np.zeros((len(COLOURS), len(SHAPES)), dtype=bool)
    found[np.arange(len(COLOURS)), np.arange(len(COLOURS)) % len(SHAPES)] = True
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Subjects:
    """Pictures with a framed subject each.

    Attributes:
        features: Of patches.
        heat: From 0 to 1, a Gaussian on the subject.
        colour, shape: Of the subject.
        shown: The pictures and their truth.
    """

    features: Float[Tensor, "picture patch d"]
    heat: Float[Tensor, "picture patch"]
    colour: Int[Tensor, " picture"]
    shape: Int[Tensor, " picture"]
    shown: DrawnPictures

    def __len__(self) -> int:
        return len(self.features)


def draw_subjects(model: TransformerBridge, *, n: int, seed: int, guidance: Guidance, new: bool) -> Subjects:
    """Draw pictures of two to four objects whose framed one is of a trained combination, or of one never trained.

    Raises:
        ModelError: for a model that does not read pictures alone.
    """
    world = World(marked=True, objects=(0, 1, 1, 1), noise=guidance.noise)
    never = held_out()

    def change(layout: SceneLayout) -> tuple[SceneLayout, np.ndarray]:
        able = never[layout.colour[:, 0], layout.shape[:, 0]] == new
        return layout, able & (able.cumsum() <= n)

    shown = draw_pictures(model, world, n=(8 if new else 2) * n, seed=seed, change=change)
    features = patch_features(model, shown, guidance.layer)
    heat = gaussian_targets(boxes_of(shown, like=features), shown.grid, spread=0.5).flatten(1)
    attributes = [
        torch.from_numpy(getattr(shown.layout, name)[:, 0].astype(np.int64)) for name in ("colour", "shape")
    ]
    return Subjects(
        features=features,
        heat=heat / heat.amax(1, keepdim=True),
        colour=attributes[0],
        shape=attributes[1],
        shown=shown,
    )


class FocusTower(nn.Module):
    """A class token that looks at patches, and words of colour and shape, in one space."""

    def __init__(self, d: int, patches: int, guidance: Guidance) -> None:
        super().__init__()
        width = guidance.width
        self.enter = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, width))
        self.place = nn.Parameter(0.02 * torch.randn(patches, width))
        self.token = nn.Parameter(0.02 * torch.randn(width))
        self.layers = nn.ModuleList(_Layer(width, guidance.heads) for _ in range(guidance.layers))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.colours, self.shapes = nn.Embedding(len(COLOURS), width), nn.Embedding(len(SHAPES), width)

    def pictures(
        self, features: Float[Tensor, "item patch d"], heat: Float[Tensor, "item patch"] | None = None
    ) -> tuple[Float[Tensor, "item width"], Float[Tensor, "item patch"]]:
        """Return the direction of each picture, and where its class token looks in the last layer, mean over heads.

        Args:
            heat: What the patches are multiplied with.
        """
        x = self.enter(features)
        x = (x if heat is None else x * heat[..., None]) + self.place
        x = torch.cat([self.token.expand(len(x), 1, -1), x], 1)
        pattern = x.new_zeros(())
        for layer in self.layers:
            x, pattern = layer(x)
        looks = pattern[:, :, 0, 1:].mean(1)
        return normalize(self.leave(x[:, 0]), dim=-1), looks / looks.sum(-1, keepdim=True)

    def captions(self) -> Float[Tensor, "caption width"]:
        """Return the direction of every colour with every shape, colours first."""
        return normalize((self.colours.weight[:, None] + self.shapes.weight).flatten(0, 1), dim=-1)


class _Layer(nn.Module):
    """Attention whose pattern is seen, then an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1)
        )
        pattern = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        x = x + self.out((pattern @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.after(x)), pattern


def focus_loss(
    tower: FocusTower,
    features: Float[Tensor, "item patch d"],
    caption: Int[Tensor, " item"],
    *,
    heat: Float[Tensor, "item patch"] | None,
) -> Float[Tensor, ""]:
    """Return how unlike pictures are to their own captions, in nats, with the second branch where there is a heat map.

    Captions that are never trained are left out of the comparison.

    Source:
        FocusCLIP, 2024; the abstract alone was read.
    """
    never = torch.from_numpy(held_out().flatten())
    captions = tower.captions()

    def contrast(weights: Tensor | None) -> Tensor:
        alike = SCALE * tower.pictures(features, weights)[0] @ captions.T
        return cross_entropy(alike.masked_fill(never, -torch.inf), caption)

    return contrast(None) if heat is None else (contrast(None) + contrast(heat)) / 2


def train_towers(subjects: Subjects, guidance: Guidance, *, seed: int) -> dict[str, FocusTower]:
    """Train every arm from one start on the same pictures, side by side."""
    d, patches = subjects.features.shape[-1], subjects.features.shape[1]
    arms = begin_alike({arm: lambda: FocusTower(d, patches, guidance) for arm in ARMS}, seed=seed)
    caption = subjects.colour * len(SHAPES) + subjects.shape
    dealt = torch.randperm(len(subjects), generator=torch.Generator().manual_seed(seed))

    def loss(arm: str, tower: FocusTower, rows: Tensor) -> Tensor:
        heat = {GUIDED: subjects.heat[rows], DEALT: subjects.heat[dealt[rows]]}.get(arm)
        return focus_loss(tower, subjects.features[rows], caption[rows], heat=heat)

    step_alike(
        arms,
        loss,
        items=len(subjects),
        steps=guidance.steps,
        batch=guidance.batch,
        rate=guidance.rate,
        seed=seed,
    )
    return arms


@torch.no_grad()
def named_by(
    tower: FocusTower, subjects: Subjects
) -> tuple[Float[np.ndarray, " picture"], Float[np.ndarray, "picture patch"]]:
    """Say what share of colour and shape is named rightly by the most similar of all captions, and where it looks."""
    vectors, looks = tower.pictures(subjects.features)
    best = (vectors @ tower.captions().T).argmax(-1)
    colour, shape = best // len(SHAPES) == subjects.colour, best % len(SHAPES) == subjects.shape
    return ((colour.double() + shape.double()) / 2).numpy(), looks.double().numpy()


def towers(
    model: TransformerBridge,
    *,
    retrain: bool = False,
    seeds: Sequence[int] = SEEDS,
    guidance: Guidance | None = None,
    progress: Progress = silent,
    home: Path = HOME,
) -> dict[int, dict[str, FocusTower]]:
    """Return the arms by seed: those that are shipped, or trained anew.

    Raises:
        ModelError: if none are shipped, their recipe is another, or a file is not as it was written.
    """
    guidance = guidance or Guidance()
    made: dict[int, dict[str, FocusTower]] = {}
    if retrain:
        for i, seed in enumerate(seeds):
            progress(i, len(seeds), "towers are trained")
            made[seed] = train_towers(_training(model, guidance, seed), guidance, seed=seed)
        return made
    card, tensors = read_weights(NAME, recipe(guidance), home)
    for seed in card.seeds:
        for i, arm in enumerate(ARMS):
            tower = FocusTower(int(card.recipe["d"]), int(card.recipe["patches"]), guidance)
            tower.load_state_dict(parts_under(f"{seed}/{i}/", tensors))
            made.setdefault(seed, {})[arm] = tower.requires_grad_(False).eval()
    return made


def recipe(guidance: Guidance) -> dict[str, Any]:
    """Return everything that decides the weights, seeds and the library's version apart."""
    return {"model": MODEL, "d": 64, "patches": 36, "arms": list(ARMS), "scale": SCALE, **asdict(guidance)}


def _training(model: TransformerBridge, guidance: Guidance, seed: int) -> Subjects:
    return draw_subjects(model, n=guidance.pictures, seed=421_000_000 + seed, guidance=guidance, new=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the arms of both seeds, and write them with their card."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HOME)
    out, guidance, model = parser.parse_args(arguments).out, Guidance(), open_model(MODEL, device="cpu")
    tensors: dict[str, Tensor] = {}
    right: dict[str, list[float]] = {arm: [] for arm in ARMS}
    checked = draw_subjects(model, n=256, seed=CHECK_SEED, guidance=guidance, new=True)
    begun = time.process_time()
    for seed, arms in towers(model, retrain=True, guidance=guidance).items():
        for i, (arm, tower) in enumerate(arms.items()):
            tensors |= {f"{seed}/{i}/{name}": value.clone() for name, value in tower.state_dict().items()}
            right[arm].append(float(named_by(tower, checked)[0].mean()))
    keep_weights(
        NAME,
        tensors,
        recipe=recipe(guidance),
        seeds=SEEDS,
        home=out,
        retrain="python -m workbench.training.focus_guidance",
        learned={arm: round(float(np.mean(found)), 4) for arm, found in right.items()},
        n=len(checked),
        steps=guidance.steps,
        core_seconds=round(time.process_time() - begun, 1),
        cannot=[CANNOT],
    )


if __name__ == "__main__":
    main()
