"""One picture with a reference object, another that holds the same object: where the class token looks under a bias.

The object is never the framed one, so a model that names the framed object has no reason of its own to look at it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.edits.biased_scores import entering_layers, similarity, span_reference
from workbench.edits.edit import ModelEdit
from workbench.edits.reference_bias import BiasTowards
from workbench.heads.drawn_pictures import DrawnPictures, classes_of, draw_pictures
from workbench.heads.grid_maps import Size
from workbench.heads.localisation import Localisation, best_iou, locate
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import lay_out_many
from workbench.tasks.scenes.words import COLOURS, SHAPES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SLOT = 1  # the object that the reference is of; slot 0 has the frame
WORLD = World(marked=True, objects=(0, 1, 1, 1), alike=0.0)
STEPS, RATE = 200, 0.1

Maps = Float[np.ndarray, "picture row column"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceScenes:
    """Pairs of pictures: a reference, and another picture that holds the same object once."""

    model: TransformerBridge
    references: DrawnPictures
    shown: DrawnPictures

    def __len__(self) -> int:
        return len(self.shown)

    def __getitem__(self, rows: slice) -> ReferenceScenes:
        """Some of the pairs."""
        return replace(self, references=self.references[rows], shown=self.shown[rows])

    @cached_property
    def reference(self) -> Float[Tensor, "picture layer d_model"]:
        """The mean of the residual stream over the patches of each reference object."""
        span = torch.zeros(tuple(self.references.prompt.shape), dtype=torch.bool)
        first, own = self.references.sight.first, self.references.objects[:, SLOT]
        span[:, first : first + own[0].size] = torch.from_numpy(own.reshape(len(own), -1))
        return span_reference(self.model, self.references.prompt, span.to(self.references.prompt.device))

    def bias(self, beta: float, reference: Tensor | None = None) -> BiasTowards:
        """Return the bias of every head towards the reference of each pair, or towards others."""
        layers = tuple(f"a{layer}" for layer in wiring(self.model).attention_layers)
        towards = self.reference if reference is None else reference
        return BiasTowards(heads=layers, reference=towards, beta=beta)

    def random_directions(self, draws: int, seed: int) -> list[Float[Tensor, "picture layer d_model"]]:
        """Draw directions in place of the references, one for each layer and picture: the control."""
        made = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(self.reference.shape, generator=made) for _ in range(draws)]
        return [each.to(self.reference) for each in drawn]

    @torch.no_grad()
    def looks(self, edit: ModelEdit | None = None) -> tuple[Localisation, Float[np.ndarray, " picture"]]:
        """Say where the class token looks, mean over all heads, and whether the object of the reference is named.

        Returns:
            Mass on that object and on the others; 1 where its colour and shape are the answer, else 0.
        """
        names = [hook_name("pattern", layer) for layer in wiring(self.model).attention_layers]
        first, grid = self.shown.sight.first, self.shown.grid
        if edit is None:
            out, seen = record(self.model, self.shown.prompt, names)
        else:
            with edit.on(self.model):
                out, seen = record(self.model, self.shown.prompt, names)
        rows = torch.stack([seen[name][:, :, 0, first:] for name in names], 1).mean((1, 2))
        maps = rows.double().cpu().numpy().reshape(-1, *grid)
        layout = self.shown.layout
        pairs = zip(layout.colour[:, SLOT].tolist(), layout.shape[:, SLOT].tolist(), strict=True)
        wanted = classes_of(self.model, [f"{COLOURS[colour]} {SHAPES[shape]}" for colour, shape in pairs])
        named = out.reshape(len(out), -1).argmax(-1).cpu().numpy() == wanted
        return self.located(maps), named.astype(float)

    def located(self, maps: Maps) -> Localisation:
        """Say how much of each map lies on the object of the reference, and on the others."""
        others = np.delete(self.shown.objects, SLOT, axis=1)
        return locate(maps, self.shown.objects[:, SLOT], others)

    def similarities(self, of: DrawnPictures) -> Float[Tensor, "picture layer patch"]:
        """Return the similarity of every patch with the reference, by layer, each map from 0 to 1."""
        resid = entering_layers(self.model, of.prompt)[:, :, of.sight.first :]
        layers = range(resid.shape[1])
        found = torch.stack([similarity(resid[:, n], self.reference[:, n]) for n in layers], 1)
        return from_zero_to_one(found)

    def fitted(self) -> Float[Tensor, "picture layer"]:
        """Fit the weights of layers on each reference picture, whose mask is known."""
        own = torch.from_numpy(self.references.objects[:, SLOT].reshape(len(self), -1))
        return fit_mixture(self.similarities(self.references), own)

    def overlap(self, weights: Float[Tensor, "picture layer"]) -> Float[np.ndarray, " picture"]:
        """Return the overlap of the mixed similarity with the object in the other picture, at the best threshold."""
        mixed = torch.einsum("ilp,il->ip", self.similarities(self.shown), weights)
        return best_iou(on_grid(mixed, self.shown.grid), self.shown.objects[:, SLOT])


def on_grid(maps: Float[Tensor, "picture patch"], grid: Size) -> Maps:
    """Return maps by rows and columns."""
    return maps.double().cpu().numpy().reshape(-1, *grid)


def from_zero_to_one(maps: Float[Tensor, "*batch patch"]) -> Float[Tensor, "*batch patch"]:
    """Stretch each map so that its least value is 0 and its largest 1; a map that is even is 0."""
    low, high = maps.amin(-1, keepdim=True), maps.amax(-1, keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def fit_mixture(
    maps: Float[Tensor, "item map patch"], mask: Tensor, *, steps: int = STEPS
) -> Float[Tensor, "item map"]:
    """Fit the weights of a mixture of maps to a mask, for each item by itself: two free numbers for three maps.

    The mixture is read as the chance that a patch belongs to the mask; cross-entropy is minimised.

    Args:
        maps: From 0 to 1.
        mask: ``(item, patch)``, true inside.

    Returns:
        Weights from 0 to 1 that sum to 1.

    Source:
        PerSAM-F, 2023: two numbers mix the masks of several scales. The abstract alone was read; layers stand for
        scales here.

    Example:
        >>> maps = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        >>> bool(fit_mixture(maps, torch.tensor([[True, False]]))[0, 0] > 0.9)
        True
    """
    raw = torch.zeros(maps.shape[:2], dtype=maps.dtype, device=maps.device, requires_grad=True)
    optimiser, inside = torch.optim.Adam([raw], lr=RATE), mask.to(maps)
    with torch.enable_grad():
        for _ in range(steps):
            mixed = torch.einsum("imp,im->ip", maps, raw.softmax(-1)).clamp(1e-4, 1 - 1e-4)
            loss = torch.nn.functional.binary_cross_entropy(mixed, inside, reduction="none").mean(-1).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return raw.detach().softmax(-1)


def unfitted(
    fitted: Float[Tensor, "item map"],
) -> tuple[Float[Tensor, "item map"], Float[Tensor, "item map"]]:
    """Return weights that nothing was fitted for: equal ones, and the last map alone."""
    last = torch.zeros_like(fitted)
    last[:, -1] = 1.0
    return torch.full_like(fitted, 1 / fitted.shape[1]), last


def draw_references(model: TransformerBridge, *, n: int, seed: int) -> ReferenceScenes:
    """Draw pairs of pictures of two to four objects, the first of them framed; the second object is in both.

    No other object of either picture has its colour and shape.

    Raises:
        ModelError: for a model that reads no pictures, or reads words beside them.
    """
    laid = [lay_out_many(seed + i, range(2 * n), WORLD) for i in (0, 1)]
    values = {name: getattr(laid[1], name).copy() for name in ("shape", "colour", "size")}
    for name, value in values.items():
        value[:, SLOT] = getattr(laid[0], name)[:, SLOT]
    laid[1] = replace(laid[1], **values)
    able = _once(laid[0]) & _once(laid[1])
    able &= able.cumsum() <= n
    made = []
    for i, of in enumerate(laid):

        def change(drawn: SceneLayout, of: SceneLayout = of) -> tuple[SceneLayout, np.ndarray]:
            return of, able

        made.append(draw_pictures(model, WORLD, n=2 * n, seed=seed + i, change=change))
    return ReferenceScenes(model=model, references=made[0], shown=made[1])


def _once(layout: SceneLayout) -> np.ndarray:
    """Whether no other object has colour and shape of that of the reference."""
    there = np.arange(layout.shape.shape[1]) < layout.n[:, None]
    alike = (layout.shape == layout.shape[:, SLOT, None]) & (layout.colour == layout.colour[:, SLOT, None])
    return np.asarray((alike & there).sum(1) == 1)
