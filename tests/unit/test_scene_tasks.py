"""Pairs of drawn pictures: answers are balanced and change with the picture, sets of patches never overlap."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from workbench.core.errors import OptionError
from workbench.tasks.pairs_file import load_pairs
from workbench.tasks.registry import get_task, list_tasks, make_pairs, vocabulary
from workbench.tasks.scenes import scene_of
from workbench.tasks.scenes.arrows import arrows
from workbench.tasks.scenes.questions import ANSWERS, KINDS, LENGTH, askable
from workbench.tasks.scenes.sequences import ACTIONS, clip, panorama, reference
from workbench.tasks.scenes.words import COLOURS, SHAPES

TASKS = [task.name for task in list_tasks() if task.pictures]
ASKING = {
    "scene-attributes": ("colour", "shape", "size"),
    "scene-small": ("colour", "shape"),
    "scene-clutter": ("colour", "shape", "size"),
    "scene-exist": ("exist",),
    "scene-count": ("count",),
    "scene-place": ("place",),
    "scene-relation": ("relation",),
    "scene-binding": ("place",),
    "scene-changed": KINDS,
}
EVERY = [(name, corruption) for name in TASKS for corruption in get_task(name).corruptions]


def scenes_of(pair):
    return [scene_of(picture.source.removeprefix("scene:")) for picture in pair.image]


def test_every_task_of_pictures_is_known():
    assert len(TASKS) == 14
    assert not {"centre", "triangle", "<image>"} & set(
        vocabulary()
    )  # words of the models that read text alone


@pytest.mark.parametrize("name, corruption", EVERY)
def test_pairs_are_the_same_again_and_their_sets_of_patches_never_overlap(name, corruption):
    pairs = make_pairs(name, n=12, seed=3, corruption=corruption)
    assert pairs.digest == make_pairs(name, n=12, seed=3, corruption=corruption).digest
    assert len({pair.image[0].source for pair in pairs}) == 12
    for pair in pairs:
        assert pair.grid == (6, 6) and set(pair.correct).isdisjoint(pair.incorrect)
        for side, scene in enumerate(scenes_of(pair)):
            sets = {region: both[side] for region, both in pair.regions.items()}
            assert all(not set(a) & set(b) for a, b in combinations(sets.values(), 2))
            background = set(range(36)) - {patch for patches in sets.values() for patch in patches}
            blocks = scene.owner.reshape(6, 8, 6, 8).swapaxes(1, 2).reshape(36, -1)
            assert all((blocks[patch] == -1).all() for patch in background)


@pytest.mark.parametrize("name", TASKS)
def test_the_clean_prompts_do_not_depend_on_the_corruption(name):
    each = [make_pairs(name, n=15, corruption=c) for c in get_task(name).corruptions]
    assert len({tuple((p.clean, p.correct, p.image[0].source) for p in pairs) for pairs in each}) == 1
    assert make_pairs(name, n=15)[:6].items == make_pairs(name, n=6).items


@pytest.mark.parametrize("name", TASKS)
def test_splits_and_seeds_share_no_picture(name):
    found = [
        {pair.image[0].source for pair in make_pairs(name, n=8, seed=seed, split=split)}
        for seed, split in ((0, "test"), (1, "test"), (0, "train"), (0, "validation"))
    ]
    assert all(not a & b for a, b in combinations(found, 2))


@pytest.mark.parametrize("name, corruption", EVERY)
def test_a_pair_differs_in_picture_or_in_words_and_in_both_where_it_says_so(name, corruption):
    for pair in make_pairs(name, n=6, seed=1, corruption=corruption):
        same = np.array_equal(pair.image[0].pixels, pair.image[1].pixels)
        words = pair.clean != pair.corrupted
        assert words == (corruption in ("question", "caption", "both"))
        assert same == (words and corruption != "both")
        assert len(pair.clean.split()) == len(pair.corrupted.split())


@pytest.mark.parametrize("name", ASKING)
def test_answers_are_right_for_both_pictures(name):
    for corruption in get_task(name).corruptions:
        for pair in make_pairs(name, n=10, seed=2, corruption=corruption):
            texts = [text.removeprefix("<image> ") for text in (pair.clean, pair.corrupted)]
            for scene, text, answer in zip(
                scenes_of(pair), texts, (pair.correct[0], pair.incorrect[0]), strict=True
            ):
                found = [q for kind in ASKING[name] for q in askable(scene.things, kind, scene.world)]
                said = {q.answer for q in found if q.text == text}
                assert len(text.split()) == LENGTH
                assert said == {answer.strip()} or (corruption == "blank" and not scene.things)


@pytest.mark.parametrize(
    "name", ["scene-attributes", "scene-exist", "scene-place", "scene-count", "scene-relation"]
)
def test_answers_come_equally_often(name):
    kind = ASKING[name][0]
    n = 60 * len(ANSWERS[kind])
    counted = Counter(
        pair.correct[0].strip() for pair in make_pairs(name, n=n, seed=5, corruption="question")
    )
    assert set(counted) == set(ANSWERS[kind])
    # 60 expected of each: four standard deviations of a binomial are less than 31
    assert all(abs(count - 60) < 31 for count in counted.values()), counted


def test_marked_objects_have_all_classes_and_the_frame_can_move():
    pairs = make_pairs("scene-marked", n=300, seed=0)
    counted = Counter(pair.correct[0] for pair in pairs)
    assert len(counted) == 30 and max(counted.values()) < 25
    for pair in pairs[:30]:
        clean, corrupted = scenes_of(pair)
        assert f"{clean.asked.colour} {clean.asked.shape}" == pair.correct[0]
        assert f"{corrupted.asked.colour} {corrupted.asked.shape}" == pair.incorrect[0]
        assert clean.things == corrupted.things and (clean.pixels[clean.owner == -1] == 255).any()


def test_a_counterfactual_pair_differs_inside_one_cell_or_two():
    for pair in make_pairs("scene-changed", n=40, seed=4):
        differ = (pair.image[0].pixels != pair.image[1].pixels).any(2)
        cells = differ.reshape(3, 16, 3, 16).any(axis=(1, 3)).sum()
        assert 1 <= cells <= 2  # two, where the object moves
        assert pair.clean == pair.corrupted


def test_bound_colours_are_exchanged_and_nothing_else():
    for pair in make_pairs("scene-binding", n=20, seed=4):
        clean, corrupted = scenes_of(pair)
        assert sorted(t.phrase.split()[1] for t in clean.things) == sorted(
            t.phrase.split()[1] for t in corrupted.things
        )
        assert [t.shape for t in clean.things] == [t.shape for t in corrupted.things]
        assert np.array_equal(clean.owner, corrupted.owner)


def test_a_description_stops_before_the_word_that_is_asked_for():
    for pair in make_pairs("scene-describe", n=40, seed=4):
        said = pair.clean.partition(": ")[2] + pair.correct[0]
        assert scenes_of(pair)[0].description.startswith(said.strip())
        assert scenes_of(pair)[1].description.startswith(said.strip().removesuffix(pair.correct[0].strip()))


def test_the_window_shows_the_object_that_is_asked_for():
    for pair in make_pairs("scene-small", n=20, seed=4, zoom=True):
        scene = scenes_of(pair)[0]
        assert pair.regions["object"][0] == scene.patches(0) != () and scene.world.zoom


def test_an_arrow_points_at_the_answer():
    for pair in make_pairs("scene-pointed", n=30, seed=4):
        scene = scenes_of(pair)[0]
        cell, direction = divmod(int(scene.layout.arrow[0]), 4)
        way = ("right", "up", "left", "down")[direction]
        hit = [thing.shape for c, d, thing in arrows(scene.things) if (c, d) == (cell, way)]
        assert hit == [pair.correct[0].strip()] and pair.regions["arrow"][0]
        rows, columns = (scene.owner == 10).nonzero()
        along, middle = (
            (columns, 16 * (cell % 3) + 7.5) if way in ("right", "left") else (rows, 16 * (cell // 3) + 7.5)
        )
        assert (along.mean() > middle) == (way in ("right", "down"))  # the head is the heavier half


def test_a_reference_is_held_exactly_once():
    for index in range(40):
        found = reference(0, index)
        phrases = [thing.phrase for thing in found.scene.things]
        assert [t.phrase for t in found.reference.things] == [found.scene.asked.phrase]
        assert phrases.count(found.scene.asked.phrase) == 1 and found.reference.asked.place == "centre"


def test_clips_do_what_they_say():
    clips = [clip(0, index) for index in range(120)]
    assert {c.action for c in clips} == set(ACTIONS)
    for made in clips:
        things = [next(t for t in frame.things if t.slot == 0) for frame in made.frames]
        rows, columns = ([divmod(t.cell, 3)[axis] for t in things] for axis in (0, 1))
        moved = (rows[2] - rows[0], columns[2] - columns[0])
        wanted = {"moves right": (0, 2), "moves left": (0, -2), "moves up": (-2, 0), "moves down": (2, 0)}
        assert moved == wanted.get(made.action, (0, 0))
        assert (things[0].size, things[2].size) == {
            "grows": ("small", "large"),
            "shrinks": ("large", "small"),
        }.get(made.action, (things[0].size, things[0].size))
        assert (things[0].colour != things[2].colour) == (made.action == "turns colour")


def test_every_object_of_a_panorama_is_seen_in_three_views_next_to_each_other():
    around = panorama(0, 3)
    views = [around.view(heading) for heading in range(12)]
    for slot in range(6):
        seen = [view.heading for view in views if slot in {t.slot for t in view.things}]
        assert sorted((heading - around.headings[slot]) % 12 for heading in seen) == [0, 1, 11]
        masks = [(view.owner == slot).sum() for view in views if view.heading in seen]
        assert len(set(masks)) == 1 and masks[0] > 0
    assert sum((view.owner >= 0).any() for view in views) >= 3


def test_pairs_of_scenes_are_saved_by_their_sources(tmp_path):
    pairs = make_pairs("scene-place", n=5)
    again = load_pairs(pairs.save(tmp_path / "pairs.jsonl"))
    assert again.digest == pairs.digest
    assert (tmp_path / "pairs.jsonl").stat().st_size < 5000  # no pixels inside


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("scene-attributes", {"about": "taste"}, "about is 'taste'"),
        ("scene-attributes", {"noise": 300}, "noise is 300"),
        ("scene-attributes", {"objects": 7}, "objects is 7"),
        ("scene-attributes", {"about": "size", "corruption": "recoloured"}, "changes no answer"),
        ("scene-relation", {"objects": 1}, "objects is 1"),
        ("scene-marked", {"objects": 1}, "needs another object"),
        ("scene-count", {"about": "all", "corruption": "changed"}, "changes no answer"),
    ],
)
def test_options_that_cannot_work_say_so(name, options, said):
    with pytest.raises(OptionError, match=said):
        make_pairs(name, n=2, **options)


@pytest.mark.parametrize("name", TASKS)
def test_positions_are_those_that_the_task_names_and_stand_on_their_words(name):
    for pair in make_pairs(name, n=10, seed=6):
        assert set(pair.positions) <= set(get_task(name).positions)
        for place, (span, other) in pair.positions.items():
            words = {"colour": COLOURS, "shape": SHAPES}[place]
            assert pair.clean[slice(*span)] in words and pair.corrupted[slice(*other)] in words


@pytest.mark.parametrize("corruption, shown", [("picture", 2), ("changed", 1), ("caption", 0)])
def test_captions_are_of_the_pictures_that_are_shown(corruption, shown):
    for pair in make_pairs("scene-captions", n=6, seed=3, corruption=corruption):
        lines, other = pair.clean.split("\n"), pair.corrupted.split("\n")
        clean, corrupted = scenes_of(pair)
        assert clean.caption == lines[0] == pair.correct[0] and set(pair.incorrect) == set(lines[1:])
        assert corrupted.caption == lines[shown]
        assert other == ([lines[i] for i in (2, 1, 0, 3)] if corruption == "caption" else lines)


def test_tasks_say_which_sets_of_patches_their_pairs_have():
    drawn = [task for task in list_tasks() if task.pictures]
    assert len(drawn) == 14
    for task in drawn:
        assert tuple(make_pairs(task.name, n=1)[0].regions) == task.regions
