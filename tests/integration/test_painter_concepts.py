"""Masks of concepts, new words, isolated subjects and references of a painter."""

from __future__ import annotations

import pytest
import torch

import workbench as wb
from tests.integration.test_painter import ONE, RED, fresh
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.edits.isolation import (
    NOBODY,
    ReferenceLooks,
    dealt,
    halves,
    isolate,
    isolated,
    slope_between_subjects,
    subjects_of,
)
from workbench.edits.kinds import Mask, Rows
from workbench.edits.reposition import colours_taken, moves_onto, paint_beside, references_elsewhere
from workbench.edits.word_looks import WordLooks
from workbench.heads.concept_mask import (
    ConceptMasking,
    PictureLooks,
    concept_map,
    concept_mask,
    concept_masks,
    mask_overlap,
    picture_looks,
    rank_maskings,
)
from workbench.heads.word_maps import object_patches
from workbench.masks.registry import MASKS
from workbench.model.flow_painter.model import PainterModel
from workbench.model.flow_painter.sample import from_pixels, noise, noisy, paint, predict
from workbench.model.flow_painter.target import target_from
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import Item, draw, draw_many, draw_unlike, exchanged
from workbench.tasks.canvas.picture_reader import Read, at_place, own_colours, read_picture
from workbench.training.map_alignment import map_alignment
from workbench.training.new_words import WordTuning, class_words, learn_words, new_captions, painted_words
from workbench.training.target_tokens import (
    TargetTuning,
    box_patches,
    draw_places,
    loss_of,
    paint_targets,
    target_overlap,
    train_targets,
)

HALVES = halves(64, first_side=[0])
WORDS = torch.tensor([[0] * 4 + [1] * 4])


@pytest.fixture(scope="module")
def bare() -> PainterModel:
    return fresh()


@pytest.fixture(scope="module")
def opened(bare):
    return wb.open_model(bare)


def test_a_map_is_spread_along_what_patches_look_at_and_left_where_they_look_at_themselves():
    cross = torch.tensor([[0.0, 1.0, 0.5]])
    assert torch.equal(concept_map(cross, torch.eye(3)[None], power=4), cross)
    assert torch.equal(concept_map(cross, torch.full((1, 3, 3), 1 / 3), power=0), cross)
    moved = torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]])
    assert concept_map(cross, moved, power=2).tolist() == [
        [0.5, 0.0, 1.0]
    ]  # by hand: two steps along the ring
    assert concept_mask(torch.tensor([0.0, 1.0, 0.5]), threshold=0.6).tolist() == [False, True, False]
    assert mask_overlap(torch.tensor([True, False]), torch.tensor([True, True])).item() == 0.5
    with pytest.raises(OptionError, match="power is -1"):
        concept_map(cross, torch.eye(3)[None], power=-1)
    with pytest.raises(OptionError, match="threshold is 2"):
        concept_mask(cross, threshold=2)


def test_maps_and_patterns_of_other_patches_are_refused(unchecked):
    with pytest.raises(ShapeError, match="same patches"):
        concept_map(torch.ones(1, 3), torch.eye(2)[None])
    with pytest.raises(ShapeError, match="same patches"):
        map_alignment(torch.ones(3), torch.ones(2, dtype=torch.bool))


def test_the_loss_of_a_map_by_hand():
    mask = torch.tensor([True, False, False, True])
    assert map_alignment(torch.tensor([0.2, 0.0, 0.0, 0.2]), mask).item() == pytest.approx(0, abs=1e-7)
    # evenly over four of which two are right: (4 x (1/4)^2) x 2
    assert map_alignment(torch.ones(4), mask).item() == pytest.approx(0.5)
    with pytest.raises(ShapeError, match="no patch"):
        map_alignment(torch.ones(4), torch.zeros(4, dtype=torch.bool))


def test_looks_of_a_picture_are_the_patterns_of_its_pass(bare, opened):
    words = torch.from_numpy(word_numbers([RED]))
    clean = torch.zeros(1, 3, 24, 24)
    seen = picture_looks(bare, clean, words, t=0.25, seed=2)
    x = noisy(clean, t=0.25, seed=2)
    _, cache = opened.run_with_cache(input_ids=words, pixel_values=x, time=torch.tensor([0.25]))
    torch.testing.assert_close(seen.own[:, 1], cache["blocks.1.attn.hook_pattern"])
    torch.testing.assert_close(seen.cross[:, 2], cache["cross.blocks.2.attn.hook_pattern"])


def test_new_words_are_added_and_nothing_else_changes(bare):
    drawn = draw_many(3, range(2), objects=2)
    before = {name: value.clone() for name, value in bare.state_dict().items()}
    masks = torch.zeros(2, 2, 64, dtype=torch.bool)
    masks[:, 0, :32], masks[:, 1, 32:] = True, True
    how = {"tuning": WordTuning(steps=3, rate=0.3, weight=1.0), "seed": 1}
    plain, guided = learn_words(bare, drawn, **how), learn_words(bare, drawn, masks, **how)
    assert all(torch.equal(value, before[name]) for name, value in bare.state_dict().items())
    assert guided.word.shape[0] == bare.word.shape[0] + 4 and torch.equal(guided.word[:13], bare.word)
    assert not torch.equal(guided.word[13:], plain.word[13:])
    asked = new_captions(drawn, swapped=True)
    assert asked[1, [1, 5]].tolist() == [15, 16] and asked[1, 3] == class_words(drawn)[1, 7]
    clean = from_pixels(torch.from_numpy(drawn[0].pixels)[None])
    closer = [
        map_alignment(
            picture_looks(m, clean, asked[:1]).cross[..., [1, 5]].movedim(-1, 1).mean((2, 3)), masks[:1]
        )
        for m in (plain, guided)
    ]
    assert float(closer[1].mean()) < float(closer[0].mean())
    with pytest.raises(ShapeError, match="each picture has 2"):
        learn_words(bare, drawn, masks[:1])
    alike = next(
        d for d in (draw(3, i, objects=2) for i in range(99)) if len({x.colour for x in d.items}) == 1
    )
    with pytest.raises(OptionError, match="told apart by two colours"):
        painted_words(plain, [alike])
    with pytest.raises(OptionError, match="two objects"):
        class_words(draw_many(3, range(1), objects=1))


def test_who_may_look_at_whom_by_hand():
    assert isolated(torch.tensor([0, NOBODY]), torch.tensor([0, 1])).tolist() == [[True, False], [True, True]]


def test_isolated_subjects_do_not_feel_each_other_and_the_model_is_given_back(opened):
    words, t = torch.from_numpy(word_numbers([RED])), torch.tensor([0.3])
    x = noise(0, range(1), side=24)
    with torch.no_grad():
        before = predict(opened, x, t, words)
        other = x.clone()
        other[..., 12:] += 1
        left = word_numbers([RED])
        left[0, 5] = 3
        with isolate(opened, HALVES, WORDS):
            one, two = predict(opened, x, t, words), predict(opened, other, t, torch.from_numpy(left))
        with isolate(opened, HALVES, WORDS, to_words=False, among=False):
            neither = predict(opened, x, t, words)
        after = predict(opened, x, t, words)
    assert torch.equal(one[..., :12], two[..., :12]) and not torch.equal(one[..., 12:], two[..., 12:])
    assert not torch.allclose(one, before) and torch.equal(before, after) and torch.equal(neither, before)


def test_slopes_between_subjects_are_none_in_isolation_and_dealt_patches_are_as_many(opened):
    assert slope_between_subjects(opened) == 0
    drawn = draw_many(3, range(3), objects=2)
    patches, words = subjects_of(drawn)
    assert torch.equal(patches, halves(64, first_side=[int(d.items[0].side == "right") for d in drawn]))
    assert torch.equal(words, WORDS.expand(3, -1))
    mixed = dealt(patches, seed=2)
    assert torch.equal(mixed.sum(1), patches.sum(1)) and not torch.equal(mixed, patches)


def test_references_are_moved_onto_what_is_painted_and_their_colour_is_read(bare):
    drawn = draw_many(3, range(3), objects=1)
    references = references_elsewhere(drawn)
    assert [r.items[0].colour for r in references] == [d.items[0].colour for d in (*drawn[1:], drawn[0])]
    assert all(r.items[0].side != d.items[0].side for r, d in zip(references, drawn, strict=True))
    pictures = torch.stack([torch.from_numpy(d.pixels) for d in drawn])
    for reference, drawing, (down, right) in zip(
        references, drawn, moves_onto(references, pictures), strict=True
    ):
        (top, left), (row, column) = reference.corners[0], drawing.corners[0]
        assert max(abs(top + 3 * down - row), abs(left + 3 * right - column)) <= 1  # a patch has three pixels
    assert moves_onto(references[:1], torch.zeros(1, 24, 24, 3)) == [(0, 0)]
    assert colours_taken(pictures, drawn, drawn)[0].tolist() == [1, 1, 1]
    other = [
        reference.items[0].colour == drawing.items[0].colour
        for reference, drawing in zip(references, drawn, strict=True)
    ]
    assert colours_taken(pictures, drawn, references)[0].tolist() == other
    with pytest.raises(ShapeError, match="3 captions and 2 references"):
        paint_beside(bare, drawn, references[:2], [(0, 0)] * 2)


def test_a_reference_that_is_the_picture_itself_changes_nothing_and_another_does(bare):
    """Keys twice over have the softmax of keys once: the reference at the same state, with the same words."""
    words, x = torch.from_numpy(word_numbers([RED])), torch.zeros(1, 3, 24, 24)
    same = ReferenceLooks(bare, x, words, moves=[(0, 0)], steps=4, seed=5)
    with torch.no_grad():
        state, t = noisy(x, t=0.5, seed=5), torch.tensor([0.5])
        plain = predict(bare, state, t, words)
        with same(2):
            found = predict(bare, state, t, words)
        moved = ReferenceLooks(bare, noise(9, range(1), side=24), words, moves=[(2, 1)], steps=4)
        with moved(2):
            other = predict(bare, state, t, words)
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(other, plain, atol=1e-3)
        assert torch.equal(predict(bare, state, t, words), plain)
    assert torch.equal(moved.pictures, noise(9, range(1), side=24).roll((6, 3), (-2, -1)))


def test_subjects_that_cannot_be_meant_are_refused(opened, bare):
    with pytest.raises(OptionError, match="no square"):
        halves(10, first_side=[0])
    with pytest.raises(OptionError, match="without any word"), isolate(opened, HALVES, WORDS * 0):
        pass
    with pytest.raises(ShapeError, match="2 pictures are painted"):
        paint(opened, [RED, ONE], steps=1, under=lambda step: isolate(opened, HALVES, WORDS))
    with (
        pytest.raises(ModelError, match="does not paint"),
        isolate(wb.open_model("zoo:marked"), HALVES, WORDS),
    ):
        pass
    with pytest.raises(ShapeError, match="1 references, 1 captions and 2 moves"):
        ReferenceLooks(bare, torch.zeros(1, 3, 24, 24), WORDS, moves=[(0, 0), (1, 1)])


def test_edits_of_square_patterns_are_refused_where_words_are_looked_at(opened):
    """They ended in an error of shapes."""
    rows = Rows(heads=("a0.h1",), operation="drop", keys=(1,))
    with pytest.raises(ModelError, match="other positions than its own"), rows.on(opened.towers["cross"]):
        pass
    with pytest.raises(OptionError, match=r"word-looks --set heads=a0\.h1"):
        Rows(heads=("cross:a0.h1",), operation="drop", keys=(1,))


def test_an_edit_that_would_change_the_uncaptioned_half_is_refused(opened):
    edit = WordLooks(heads=("a0",), slots=(1,), inside=3.0)
    with edit.on(opened), pytest.raises(ModelError, match="the uncaptioned half too: looks of a0"):
        paint(opened, [RED], steps=1)


def test_a_mask_of_patches_is_the_softmax_over_what_it_allows_in_the_captioned_half_alone(opened):
    allowed = MASKS.get("grid-neighborhood")(64, width=3)
    edit = Mask(heads=("a1",), allowed=allowed)
    words, x, t = torch.from_numpy(word_numbers([RED])), noise(0, range(1), side=24), torch.tensor([0.2])
    name = "blocks.1.attn.hook_pattern"
    with torch.no_grad():
        _, plain = opened.run_with_cache(input_ids=words, pixel_values=x, time=t)
        with edit.on(opened):
            _, cut = opened.run_with_cache(input_ids=words, pixel_values=x, time=t)
    expected = plain[name] * allowed
    torch.testing.assert_close(cut[name], expected / expected.sum(-1, keepdim=True), atol=1e-6, rtol=1e-4)
    how = {"steps": 2, "seed": 1}
    whole, under = (
        paint(opened, [RED], **how),
        paint(opened, [RED], **how, under=lambda step: edit.on(opened)),
    )
    empty = {"guidance": 0.0, **how}
    assert not torch.allclose(whole.pictures, under.pictures)
    assert torch.equal(
        paint(opened, [RED], **empty).pictures,
        paint(opened, [RED], **empty, under=lambda step: edit.on(opened)).pictures,
    )


def test_a_target_painter_begins_as_the_painter_and_learns_to_look_into_its_mask(bare):
    words, x, t = torch.from_numpy(word_numbers([RED])), noise(0, range(1), side=24), torch.tensor([0.4])
    masks = torch.from_numpy(box_patches(0, 0))[None]
    begun = target_from(bare)
    with torch.no_grad(), begun.aimed(masks):
        assert torch.equal(predict(begun, x, t, words), predict(bare, x, t, words))
    tuning = TargetTuning(steps=4, batch=4, rate=1e-2, weight=1.0)
    made = train_targets(bare, seed=1, tuning=tuning)
    drawn = draw_many(2, range(4))
    left = {
        arm: [float(loss_of(model, drawn, (1,), seed=3, weight=w)) for w in (0.0, 1.0)]
        for arm, model in made.items()
    }
    off = {
        arm: full - pixels for arm, (pixels, full) in left.items()
    }  # how far maps of layer 1 are from their masks
    assert off["layer 1"] < off["no loss"] and off["layer 1"] < off["layer 0"]
    same = {name: value for name, value in bare.state_dict().items() if ".cross_attn." not in name}
    assert all(torch.equal(made["all layers"].state_dict()[name], value) for name, value in same.items())
    with torch.no_grad():
        plain = predict(made["no loss"], x, t, words)
        with made["no loss"].aimed(masks):
            assert not torch.equal(predict(made["no loss"], x, t, words), plain)
            with pytest.raises(ShapeError, match="2 pictures are painted, 1 targets"):
                predict(made["no loss"], x.repeat(2, 1, 1, 1), t.repeat(2), words.repeat(2, 1))
        assert torch.equal(predict(made["no loss"], x, t, words), plain)


def test_the_way_whose_masks_are_the_objects_is_ranked_first_and_another_pictures_looks_spoil_it():
    objects = torch.tensor([[[True, True, False, False]], [[False, False, True, True]]])
    inside = (
        objects.float() + 0.0
    )  # patches look at their own object; head 1 of layer 1 finds half of it by words
    own = torch.stack([(row[0][:, None] == row[0][None]).float() / 2 for row in inside])
    cross = torch.full((2, 2, 2, 4, 3), 0.3)  # head 1 of layer 1 finds half of each object by its word
    cross[0, 1, 1, :, 2], cross[1, 1, 1, :, 2] = (
        torch.tensor([0.9, 0.1, 0, 0]),
        torch.tensor([0, 0, 0.1, 0.9]),
    )
    looks = PictureLooks(own=own[:, None, None].expand(-1, 2, 2, -1, -1), cross=cross)
    best = rank_maskings(looks, [2], objects)[0]
    assert (best.layer, best.head, best.power) == (1, 1, 1)
    assert torch.equal(concept_masks(looks, [2], best), objects)
    alone = ConceptMasking(layer=1, head=1, power=0)
    assert mask_overlap(concept_masks(looks, [2], alone), objects).tolist() == [[0.5], [0.5]]


def test_drawn_objects_differ_as_asked_and_stand_where_their_patches_are():
    drawn = draw_unlike(3, 4, differing=("colour", "shape"))
    every = [
        d for d in draw_many(3, range(40), objects=2) if len({*d.items[0].words} & {*d.items[1].words}) == 1
    ]
    assert drawn == every[:4]  # the article alone is common to both
    patches = object_patches(drawn)
    assert patches.shape == (4, 2, 64) and not (patches[:, 0] & patches[:, 1]).any()
    seen, items = read_picture(drawn[0].pixels), drawn[0].items
    assert own_colours(seen, items) == 1 and own_colours(seen, exchanged(items)) == 0


def test_an_object_is_at_its_place_once_by_colour_and_half():
    red = Read(
        colour="red", shape="disc", row=6.5, column=5.0, overlap=1.0
    )  # its corner is (3, 1.5) at 8 pixels
    corner = (int(red.row - 3.5), 0)
    asked = Item("red", "square", "left")  # the shape is not asked for
    assert at_place([red], asked, corner) and not at_place([red], asked, corner, near=0.5)
    assert not at_place([red, red], asked, corner) and not at_place([], asked, corner)
    assert not at_place([red], Item("red", "disc", "right"), corner)


def test_targets_are_drawn_in_their_half_and_maps_are_judged_picture_by_picture(bare):
    drawn = draw_many(2, range(12), objects=2)
    for drawing, (top, left) in zip(drawn, draw_places(drawn, 5), strict=True):
        right = drawing.items[0].side == "right"
        assert 0 <= top <= 15 and 12 * right <= left <= 12 * right + 3
    looks = torch.zeros(2, 3, 4, 8)
    looks[0, :, 1, 1:3], looks[1, :, 2, 3] = (
        0.5,
        1.0,
    )  # the second looks at a word that is none of the target's
    masks = torch.tensor([[False, True, False, False]] * 2)
    assert target_overlap(looks, masks).tolist() == [1.0, 0.0]
    painted, seen = paint_targets(target_from(bare), [RED], torch.from_numpy(box_patches(0, 0))[None])
    assert torch.equal(painted.pictures, paint(bare, [RED]).pictures)
    torch.testing.assert_close(seen.sum(-1), torch.ones(1, 4, 64))
