"""The drawn world: every truth agrees with the pixels, and the same numbers draw the same picture."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from itertools import combinations

import numpy as np
import pytest

from workbench.core.errors import OptionError, TaskError
from workbench.tasks.scenes import World, draw, pixels_of, scene_of
from workbench.tasks.scenes.layout import SceneLayout
from workbench.tasks.scenes.paint import coverage, draw_many, hue_turn, owner_map
from workbench.tasks.scenes.questions import ANSWERS, KINDS, LENGTH, askable, questions, sentence_words
from workbench.tasks.scenes.words import COLOURS, NUMBERS, PALETTE, PLACES, SHAPES

CLEAR = World(noise=0.0, texture=0.0)
WORLDS = (
    World(),
    World(marked=True),
    World(zoom=True),
    World(tiny=True),
    World(objects=(1,) * 9),
    World(noise=0.12),
)


def things_in(seed, count, world=CLEAR):
    return [draw(seed, index, world) for index in range(count)]


@pytest.mark.parametrize("world", WORLDS)
def test_a_picture_is_the_same_alone_and_among_others(world):
    many, _ = draw_many(3, range(20), world)
    assert all(np.array_equal(draw(3, i, world).pixels, many[i]) for i in (0, 7, 19))
    assert not np.array_equal(draw(4, 0, world).pixels, many[0])


def test_pictures_are_the_same_in_another_process_and_have_not_changed():
    code = (
        "from hashlib import sha256; from workbench.tasks.scenes import draw;"
        "print(sha256(b''.join(draw(7, i).pixels.tobytes() for i in range(8))).hexdigest()[:16])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout.strip()
    here = sha256(b"".join(draw(7, i).pixels.tobytes() for i in range(8))).hexdigest()[:16]
    assert said == here


def test_no_pixel_belongs_to_two_objects_and_every_object_is_seen():
    for scene in things_in(0, 60, World(objects=(1,) * 9)):
        masks = scene.masks
        assert all(not (a & b).any() for a, b in combinations(masks, 2))
        assert not (masks.any(0) & scene.rings).any()
        assert all(mask.sum() >= 12 for mask in masks) and len(masks) == len(scene.things)


def test_the_pixels_of_a_mask_have_the_colour_of_its_object():
    for scene in things_in(1, 40):
        for thing, mask in zip(scene.things, scene.masks, strict=True):
            inks = scene.pixels[mask] / 255.0
            nearest = (
                (inks[:, None] / inks.mean() - PALETTE[None] / PALETTE.mean(1)[None, :, None]) ** 2
            ).sum(-1)
            assert set(nearest.argmin(1).tolist()) == {COLOURS.index(thing.colour)}


def test_the_cell_of_an_object_is_where_its_pixels_are():
    for scene in things_in(2, 40):
        for thing, (top, left, bottom, right) in zip(scene.things, scene.boxes, strict=True):
            row, column = divmod(PLACES.index(thing.place), 3)
            assert 16 * row < top < bottom < 16 * row + 16 and 16 * column < left < right < 16 * column + 16
            assert max(bottom - top, right - left) <= (8 if thing.size == "small" else 12)


def naive_blobs(scene):
    """Objects counted from the pixels alone: patches of colour far from grey, joined when they touch."""
    picture = scene.pixels.astype(int)
    coloured = picture.max(2) - picture.min(2) > 60
    seen, blobs = np.zeros_like(coloured), []
    for start in zip(*coloured.nonzero(), strict=True):
        if seen[start]:
            continue
        blob, front = [], [start]
        seen[start] = True
        while front:
            row, column = front.pop()
            blob.append((row, column))
            for there in ((row + a, column + b) for a in (-1, 0, 1) for b in (-1, 0, 1)):
                if min(there) >= 0 and max(there) < 48 and coloured[there] and not seen[there]:
                    seen[there] = True
                    front.append(there)
        ink = np.mean([picture[at] for at in blob], axis=0) / 255
        colour = COLOURS[
            int(((ink / ink.mean() - PALETTE / PALETTE.mean(1, keepdims=True)) ** 2).sum(1).argmin())
        ]
        cells = {(row // 16) * 3 + column // 16 for row, column in blob}
        assert len(cells) == 1
        blobs.append((colour, PLACES[cells.pop()], len(blob)))
    return blobs


def test_counts_and_places_are_right_by_a_count_of_the_pixels():
    for scene in things_in(5, 60):
        blobs = naive_blobs(scene)
        for question in questions(scene.things, "count"):
            colour = next(iter(question.words), None)
            assert question.answer == NUMBERS[sum(colour in (None, own) for own, _, _ in blobs)]
        for question in questions(scene.things, "place"):
            mine = [place for colour, place, _ in blobs if colour == question.words[0]]
            assert question.answer in mine
        for question in questions(scene.things, "colour"):
            place = next(t.place for t in scene.things if t.shape == question.words[0])
            assert [colour for colour, there, _ in blobs if there == place] == [question.answer]


def test_relations_name_the_nearest_object_on_that_side():
    steps = {"left": (0, -1), "right": (0, 1), "above": (-1, 0), "below": (1, 0)}
    for scene in things_in(6, 200):
        at = {divmod(thing.cell, 3): thing for thing in scene.things}
        for question in questions(scene.things, "relation"):
            me = next(place for place, thing in at.items() if thing.shape == question.words[0])
            side = next(step for word, step in steps.items() if word in question.text)
            line = [(me[0] + k * side[0], me[1] + k * side[1]) for k in (1, 2)]
            assert question.answer == next(at[place].shape for place in line if place in at)


def test_every_question_has_as_many_words_and_an_answer_of_one_word():
    words = set(sentence_words())
    for world in WORLDS:
        for scene in things_in(8, 30, world):
            for kind in KINDS:
                for question in askable(scene.things, kind, world):
                    assert len(question.text.split()) == LENGTH
                    assert question.answer in ANSWERS[kind] and " " not in question.answer
                    assert {*question.text.split(), question.answer} <= words


def test_no_is_only_asked_where_the_colour_or_the_shape_is_there():
    for scene in things_in(9, 40):
        for question in questions(scene.things, "exist"):
            colour, shape = question.words
            there = {(t.colour, t.shape) for t in scene.things}
            assert (question.answer == "yes") == ((colour, shape) in there)
            assert any(colour == a or shape == b for a, b in there)


def test_only_what_is_alone_is_asked_for():
    for scene in things_in(10, 80, World(alike=0.6)):
        shapes = [thing.shape for thing in scene.things]
        for kind in ("colour", "size", "relation"):
            assert all(shapes.count(q.words[0]) == 1 for q in questions(scene.things, kind))


def test_a_change_keeps_every_other_pixel_and_the_noise():
    scene = draw(7, 12, World(noise=0.1))
    other = next(c for c in COLOURS if c != scene.asked.colour)
    changed = scene.changed(0, colour=other)
    mask = scene.owner == 0
    assert np.array_equal(scene.pixels[~mask], changed.pixels[~mask])
    assert (scene.pixels[mask] != changed.pixels[mask]).any() and changed.asked.colour == other
    assert np.array_equal(
        draw(7, 12, World(noise=0.1)).blank().pixels[~mask & ~scene.rings][:50].shape, (50, 3)
    )
    assert not scene.blank().things and not scene.blank().masks.any()


def test_an_object_moves_to_a_free_cell_and_not_to_a_taken_one():
    scene = draw(1, 0, World(objects=(0, 0, 1)))
    taken = {thing.place for thing in scene.things}
    free = next(place for place in PLACES if place not in taken)
    moved = scene.changed(0, cell=free)
    assert moved.asked.place == free and len(moved.things) == 3
    other = next(thing for thing in scene.things if thing.slot != 0)
    with pytest.raises(OptionError, match=f"cell {other.place} holds another object"):
        scene.changed(0, cell=other.place)


@pytest.mark.parametrize("world", [*WORLDS, World(objects=(0, 1), prior=0.9, hue=30.0)])
def test_a_source_names_a_picture_completely(world):
    scene = draw(5, 9, world)
    changed = scene.changed(0, shape="cross", size="large").changed(0, colour="cyan")
    for each in (scene, changed, scene.blank()):
        again = scene_of(each.text)
        assert again.text == each.text and np.array_equal(pixels_of(each.text), each.pixels)
        assert np.array_equal(again.owner, each.owner)


@pytest.mark.parametrize(
    "text, said",
    [
        ("7", "expected SEED/INDEX"),
        ("7/-1", "expected SEED/INDEX"),
        ("7/12?noise", "is not NAME=VALUE"),
        ("7/12?noise=loud", "noise is 'loud'"),
        ("7/12?noise=nan", "noise is nan"),
        ("7/12?nois=0.1", "no property of a world"),
        ("7/12?0.colour=pink", "pink"),
        ("7/12?8.colour=red", "there is no object 8"),
        ("7/12?objects=0", "expected chances"),
        ("7/12?hue=inf", "hue"),
    ],
)
def test_a_source_that_names_nothing_says_why(text, said):
    with pytest.raises(TaskError, match=said):
        scene_of(text)


def test_coverage_is_the_share_of_each_patch_by_hand():
    _, layout = draw_many(4, range(6), World())
    assert isinstance(layout, SceneLayout)
    owner = owner_map(layout, World())
    share = coverage(owner)
    for picture in range(6):
        for patch in (0, 7, 21, 35):
            row, column = divmod(patch, 6)
            block = owner[picture, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            assert share[picture, patch].tolist() == [
                (block == slot).mean(dtype=np.float32) for slot in range(9)
            ]


def test_the_window_shows_the_first_object_twice_as_large():
    for index in range(30):
        small, large = draw(11, index), draw(11, index, World(zoom=True))
        assert (large.owner == 0).sum() == 4 * (small.owner == 0).sum()


def test_the_prior_is_planted():
    stars = [t for i in range(300) for t in draw(0, i, World(prior=0.9)).things if t.shape == "star"]
    yellow = np.mean([t.colour == "yellow" for t in stars])
    assert 0.85 <= yellow <= 0.97  # 0.9 and a sixth of the rest


def test_turning_the_hue_by_a_third_of_the_circle_exchanges_the_primaries():
    assert np.allclose(hue_turn(120) @ [1, 0, 0], [0, 1, 0], atol=1e-6)
    assert np.allclose(hue_turn(0), np.eye(3))


def test_shapes_are_all_different():
    own = [thing.slot for thing in draw(0, 0).things].index(0)
    seen = {
        tuple(draw(0, 0, World(noise=0.0)).changed(0, shape=shape).masks[own].flatten().tolist())
        for shape in SHAPES
    }
    assert len(seen) == len(SHAPES)
