"""The painter's world: captions, drawn pictures, and the reader that judges pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workbench.core.errors import OptionError, TaskError
from workbench.tasks.canvas.captions import read_caption, slot_of, word_numbers
from workbench.tasks.canvas.flat_shapes import draw, draw_many, shape_masks
from workbench.tasks.canvas.picture_reader import components, judge, read_picture
from workbench.tasks.canvas.words import COLOURS, NEVER_TRAINED, PALETTE, SHAPES

CAPTION = "a red disc left, a blue square right"


def test_every_drawn_picture_is_read_right_through_noise():
    drawings = draw_many(1, range(100), kind="any")
    noise = np.random.default_rng(0).normal(0, 0.1, (100, 24, 24, 3))
    verdicts = [judge(read_picture(d.pixels + z), d.items) for d, z in zip(drawings, noise, strict=True)]
    assert all(v.binding and v.intact and v.colour and v.side and v.shape and v.count for v in verdicts)


def test_each_shape_in_each_colour_is_read_at_its_place():
    for colour, ink in zip(COLOURS, PALETTE, strict=True):
        for shape, mask in zip(SHAPES, shape_masks(), strict=True):
            picture = np.zeros((24, 24, 3))
            picture[3:12, 14:23][mask] = ink
            (seen,) = read_picture(picture)
            assert (seen.colour, seen.shape, seen.side) == (colour, shape, "right")
            assert (seen.row, seen.column, seen.overlap) == (7.0, 18.0, 1.0)


def test_exchanged_shapes_keep_everything_but_the_binding():
    asked = read_caption("a red square left, a blue disc right")
    picture = replace(draw_with(CAPTION), items=asked).pixels
    verdict = judge(read_picture(picture), read_caption(CAPTION))
    assert verdict.colour and verdict.side and verdict.shape and verdict.count and not verdict.binding


def test_a_missing_object_and_dirt_are_told_apart():
    drawn = draw_with(CAPTION)
    half = replace(drawn, items=drawn.items[:1], corners=drawn.corners[:1]).pixels
    verdict = judge(read_picture(half), drawn.items)
    assert not verdict.count and not verdict.colour and verdict.intact
    dirty = drawn.pixels
    dirty[0, :6] = PALETTE[1]  # six pixels of green: dirt
    assert judge(read_picture(dirty), drawn.items).binding
    dirty[0:2, :6] = PALETTE[1]  # twelve: an object without the form of one
    verdict = judge(read_picture(dirty), drawn.items)
    assert not verdict.count and not verdict.intact


def test_an_empty_picture_shows_nothing_and_is_not_intact():
    verdict = judge(read_picture(np.zeros((24, 24, 3))), read_caption(CAPTION))
    assert not (verdict.count or verdict.binding or verdict.intact)


def test_parts_touch_at_sides_and_not_at_corners():
    mask = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0]], dtype=bool)
    assert sorted(part.sum() for part in components(mask)) == [1, 5]
    assert components(np.zeros((2, 2), dtype=bool)) == []


def test_training_never_draws_the_pairs_that_are_held_back():
    looks = {(item.colour, item.shape) for d in draw_many(3, range(400)) for item in d.items}
    assert len(looks) == len(COLOURS) * len(SHAPES) - len(NEVER_TRAINED)
    assert not looks & set(NEVER_TRAINED)
    held = draw_many(3, range(50), kind="never trained", objects=2)
    assert all((d.items[0].colour, d.items[0].shape) in NEVER_TRAINED for d in held)
    assert {d.items[0].side for d in held} == {"left", "right"}


def test_a_picture_is_the_same_alone_and_among_others():
    assert draw_many(5, range(9))[7] == draw(5, 7) != draw(6, 7)


def test_a_caption_reads_back_what_was_drawn():
    for drawn in draw_many(2, range(40), kind="any"):
        assert read_caption(drawn.caption) == drawn.items
    numbers = word_numbers([read_caption(CAPTION), ()])
    assert numbers.tolist() == [[1, 2, 8, 11, 1, 4, 9, 12], [0] * 8]


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("a pink disc left", "does not know 'pink'"),
        ("a red disc", "3 words"),
        ("", "0 words"),
        ("a disc red left", "'disc' where red or green"),
        ("a red disc left, a blue square left", "both objects are left"),
        ("a - disc left", "does not know '-'"),
    ],
)
def test_captions_that_are_refused_say_why(caption: str, found: str):
    with pytest.raises(TaskError, match=found) as refused:
        read_caption(caption)
    assert refused.value.hint


def test_words_of_a_caption_are_found_by_word_or_by_slot():
    items = read_caption(CAPTION)
    assert slot_of(items, "square") == 6 and slot_of(items, "second colour") == 5
    with pytest.raises(TaskError, match="twice"):
        slot_of(items, "a")
    with pytest.raises(TaskError, match="no word 'green'"):
        slot_of(items, "green")
    with pytest.raises(TaskError, match="one object"):
        slot_of(items[:1], "second shape")


def test_other_sizes_and_numbers_are_refused():
    with pytest.raises(TaskError, match="the reader reads"):
        read_picture(np.zeros((48, 48, 3)))
    with pytest.raises(OptionError, match="has 1 or 2"):
        draw(1, 1, objects=3)


def draw_with(caption: str):
    """A drawn picture with this caption."""
    items = read_caption(caption)
    return replace(draw(0, 0), items=items, corners=((2, 1), (9, 14)))
