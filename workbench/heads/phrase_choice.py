"""Drawn pictures in which a phrase means one object, by its attributes or by its place; and which one is chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.heads.image_text import grid_of, patch_vectors
from workbench.heads.span_representation import (
    DIRECTIONS,
    alone_vectors,
    in_context_vectors,
    mixed,
    phrase_directions,
    spatial_prior,
)
from workbench.tasks.scenes.layout import SceneLayout, World
from workbench.tasks.scenes.paint import draw_many, noise_of, owner_map, paint
from workbench.tasks.scenes.truth import Thing, relation_of, things_of
from workbench.tasks.scenes.words import COLOURS, SHAPES

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class PhraseChoice:
    """Phrases, each of one picture, with the vectors of its objects; the first object is the one that is meant.

    Args:
        phrases: One of each picture.
    """

    def __init__(
        self,
        model: TransformerBridge,
        pixels: np.ndarray,
        layout: SceneLayout,
        world: World,
        phrases: list[str],
    ) -> None:
        owner, grid = owner_map(layout, world), grid_of(model)
        spans = [(i, slot) for i in range(len(layout)) for slot in range(int(layout.n[i]))]
        self.picture = np.array([i for i, _ in spans])
        self.things = [{t.slot: t for t in things_of(layout, i)} for i in range(len(layout))]
        masks = np.stack([owner[i] == slot for i, slot in spans])
        down, right = masks.shape[1] // grid[0], masks.shape[2] // grid[1]
        blocks = masks.reshape(len(masks), grid[0], down, grid[1], right)
        patches = patch_vectors(model, pixels)[self.picture]
        self.alone = alone_vectors(model, pixels[self.picture], masks)
        self.context = in_context_vectors(patches, np.asarray(blocks.any((2, 4))))
        cell = masks.shape[1] / 3
        self.middles = np.array([np.argwhere(mask).mean(0) for mask in masks]) / cell
        self.phrases, self.words = phrase_directions(model, phrases), [""] * len(layout)

    def right(self, share: float, *, prior: float = 0.0, seed: int | None = None) -> np.ndarray:
        """Say for each picture whether the object that is meant is chosen.

        Args:
            prior: Weight of a cell's distance along the word of place, from the third object.
            seed: Words of place are drawn at random.
        """
        both = mixed(self.alone, self.context, share=share)
        alike = (both * self.phrases[self.picture]).sum(-1).double().cpu().numpy()
        found, rng = [], None if seed is None else np.random.default_rng(seed)
        for i in range(len(self.things)):
            own = self.picture == i
            scores = alike[own]
            if prior:
                word = self.words[i] if rng is None else str(rng.choice(list(DIRECTIONS)))
                landmark = np.broadcast_to(self.middles[own][2], self.middles[own].shape)
                along = spatial_prior(self.middles[own], landmark, [word] * len(scores))
                scores = scores + prior * along
            found.append(float(scores.argmax() == 0))
        return np.array(found)


def attribute_phrases(model: TransformerBridge, *, n: int, seed: int) -> PhraseChoice:
    """Draw pictures of three or four objects in which no other object is called as the one that is meant."""
    world = World(objects=(0, 0, 1, 1), rings=0.0)
    pixels, layout = draw_many(seed, range(2 * n), world)
    names = [[t.phrase for t in sorted(things_of(layout, i), key=lambda t: t.slot)] for i in range(2 * n)]
    kept = [i for i, own in enumerate(names) if own.count(own[0]) == 1][:n]
    return PhraseChoice(model, pixels[kept], layout.rows(kept), world, [names[i][0] for i in kept])


def place_phrases(model: TransformerBridge, *, n: int, seed: int) -> PhraseChoice:
    """Draw two objects that look the same and a third one, beside which the one that is meant stands."""
    world = World(objects=(0, 0, 1), alike=0.0, rings=0.0)
    _, layout = draw_many(seed, range(12 * n), world)
    layout = _third_apart(_first_two_alike(layout))
    things = [sorted(things_of(layout, i), key=lambda t: t.slot) for i in range(len(layout))]
    words = [word_of_place(*own) for own in things]
    kept = [i for i, word in enumerate(words) if word][:n]
    layout = layout.rows(kept)
    pixels = paint(layout, noise_of(seed, kept), world)
    phrases = [f"{things[i][0].phrase} {words[i]} {things[i][2].phrase}" for i in kept]
    asked = PhraseChoice(model, pixels, layout, world, phrases)
    asked.words = [words[i] for i in kept]
    return asked


def _first_two_alike(layout: SceneLayout) -> SceneLayout:
    for name in ("shape", "colour", "size", "bright"):
        value = getattr(layout, name).copy()
        value[:, 1] = value[:, 0]
        layout = replace(layout, **{name: value})
    return layout


def _third_apart(layout: SceneLayout) -> SceneLayout:
    """The third object is of another shape and colour than the first two."""
    for name, n_words in (("shape", len(SHAPES)), ("colour", len(COLOURS))):
        value = getattr(layout, name).copy()
        value[:, 2] = np.where(value[:, 2] == value[:, 0], (value[:, 2] + 1) % n_words, value[:, 2])
        layout = replace(layout, **{name: value})
    return layout


def word_of_place(meant: Thing, same: Thing, landmark: Thing) -> str:
    """Say how the one that is meant stands to the landmark, if the one that looks the same is not on that side.

    Returns:
        A word of place; nothing where there is none that tells the two apart.
    """
    word = relation_of(meant, landmark)
    if not word:
        return ""
    down, right = DIRECTIONS[word]
    beside = (same.cell // 3 - landmark.cell // 3) * down + (same.cell % 3 - landmark.cell % 3) * right
    return word if beside <= 0 else ""
