"""What is looked at while a painter paints, what is changed there, and what a picture loses without a head."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from tests.integration.test_painter import ONE, RED, fresh
from workbench.core.errors import ModelError, OptionError, RunError, ShapeError
from workbench.edits.file import load_edit, save_edit
from workbench.edits.flow_edit import flow_edit, looks_at_slots, strongest
from workbench.edits.guided_state import GuidedState, look_loss
from workbench.edits.word_looks import WordLooks
from workbench.edits.word_rows import added_scores, raised
from workbench.heads.painted_captions import PAINTING, OnePicture, load_painting, painting_of, save_painting
from workbench.heads.painter_ablation import ablate_painter, every_head, head_node, without_heads
from workbench.heads.word_maps import (
    MapFit,
    WordMaps,
    covered_patches,
    map_fit,
    map_overlap,
    patches_of,
    word_maps,
)
from workbench.model.flow_painter.sample import Painted, noise, paint, predict
from workbench.tasks.canvas.captions import word_numbers
from workbench.tasks.canvas.flat_shapes import draw, draw_many
from workbench.tasks.canvas.picture_reader import read_picture

RIGHT = (0, 4, 8, 8)


@pytest.fixture(scope="module")
def opened():
    return wb.open_model(fresh())


def patterns(model, under=None):
    """What patches look at in one pass of one caption, layer by layer."""
    words = torch.from_numpy(word_numbers([RED]))
    names = [f"cross.blocks.{n}.attn.hook_pattern" for n in range(3)]
    seen = {}
    hooks = [(name, lambda t, hook, name=name: seen.__setitem__(name, t)) for name in names]
    with torch.no_grad(), model.hooks(fwd_hooks=hooks):
        predict(model, noise(0, range(1), side=24), torch.tensor([0.4]), words)
    return [seen[name] for name in names]


def test_what_is_added_stands_in_the_region_and_at_the_words():
    edit = WordLooks(heads=("a0",), slots=("first colour", 6), region=(0, 4, 1, 8), inside=2, outside=-1)
    added = added_scores(edit, 64, 8)
    assert added.shape == (64, 8) and added[:, [0, 2, 3, 4, 5, 7]].abs().sum() == 0
    assert added[4].tolist() == [0, 2, 0, 0, 0, 0, 2, 0] and added[3, 1] == -1 and added[12, 6] == -1


def test_a_raised_pattern_is_the_softmax_of_raised_scores():
    scores = torch.randn(2, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    added = torch.zeros(4, 8)
    added[1, 3] = 2.5
    torch.testing.assert_close(raised(scores.softmax(-1), added), (scores + added).softmax(-1))
    assert torch.equal(raised(scores.softmax(-1), torch.zeros(4, 8)), scores.softmax(-1))


def test_an_edit_of_one_head_changes_that_head_in_the_first_layer_alone(opened):
    before = patterns(opened)
    edit = WordLooks(heads=("a0.h2",), slots=(1,), region=RIGHT, inside=4.0)
    with edit.on(opened):
        after = patterns(opened)
    moved = (after[0] != before[0]).any(-1)[0]  # (head, patch)
    columns = torch.arange(64) % 8
    assert torch.equal(moved[2], columns >= 4) and not moved[[0, 1, 3]].any()
    expected = (before[0][0, 2, 7].log() + torch.tensor([0, 4.0, 0, 0, 0, 0, 0, 0])).softmax(-1)
    torch.testing.assert_close(after[0][0, 2, 7], expected)
    assert all(torch.equal(a, b) for a, b in zip(patterns(opened), before, strict=True))  # gone afterwards


def test_an_edit_keeps_its_words_in_a_file(tmp_path):
    edit = WordLooks(heads=("a0", "a1.h2"), slots=("second shape", 3), region=RIGHT, inside=3.0, outside=-2.0)
    assert load_edit(save_edit(edit, tmp_path / "e")) == edit
    assert "second shape, first side: +3 in rows 0 to 8, columns 4 to 8, -2 outside" in edit.describe()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heads": ()}, "no heads"),
        ({"slots": ()}, "no words"),
        ({"slots": ("third colour",)}, "no slot 'third colour'"),
        ({"slots": (8,)}, "no slot 8"),
        ({"region": (0, 0, 8, 9)}, "not inside the picture"),
        ({"region": (3, 0, 3, 8)}, "not inside the picture"),
        ({"inside": float("nan")}, "inside is nan"),
        ({"outside": 100.0}, "outside is 100"),
        ({"heads": ("m1",)}, "m1 is not a head"),
    ],
)
def test_edits_that_cannot_be_meant_are_refused(given, said):
    with pytest.raises(OptionError, match=said):
        WordLooks(**{"heads": ("a0",), "slots": (1,), "inside": 1.0, **given})


def test_heads_and_models_that_are_not_there_are_refused(opened):
    with (
        pytest.raises(ModelError, match="no attention layer 3"),
        WordLooks(heads=("a3",), slots=(1,)).on(opened),
    ):
        pass
    marked = wb.open_model("zoo:marked")
    with (
        pytest.raises(ModelError, match="no attention to words"),
        WordLooks(heads=("a0",), slots=(1,)).on(marked),
    ):
        pass
    with pytest.raises(ModelError, match=r"no head cross:a0\.h7"):
        head_node(opened, "cross:a0.h7")
    with pytest.raises(OptionError, match="is no head"):
        head_node(opened, "m1")


def test_the_kept_maps_are_the_patterns_of_the_captioned_pass(opened):
    painted, maps = word_maps(opened, [RED, ONE], steps=2, seed=3)
    assert maps.weights.shape == (2, 2, 3, 4, 8, 8, 8)
    torch.testing.assert_close(maps.weights.sum(4), torch.ones(2, 2, 3, 4, 8, 8))
    assert torch.equal(
        painted.pictures, paint(opened, [RED, ONE], steps=2, seed=3).pictures
    )  # looking changes nothing
    words = torch.from_numpy(word_numbers([RED]))
    _, cache = opened.run_with_cache(
        input_ids=words, pixel_values=noise(3, range(1), side=24), time=torch.zeros(1)
    )
    expected = cache["cross.blocks.1.attn.hook_pattern"][0, :, :, 1].unflatten(-1, (8, 8))  # the first colour
    torch.testing.assert_close(maps.of(0, "red")[0, 1], expected)


def test_an_object_covers_the_patches_under_it():
    (seen,) = read_picture(draw_many(5, range(1), objects=1)[0].pixels)
    mask = draw(5, 0, objects=1).masks[0]
    assert np.array_equal(patches_of(seen), covered_patches(mask))
    square = np.zeros((24, 24), dtype=bool)
    square[0:9, 0:9] = True
    assert covered_patches(square).sum() == 9


def test_overlap_by_hand():
    map_ = np.array([[0.4, 0.3], [0.2, 0.1]])
    assert map_overlap(map_, np.array([[True, True], [False, False]])) == 1.0
    assert map_overlap(map_, np.array([[True, False], [True, False]])) == pytest.approx(1 / 3)
    assert np.isnan(map_overlap(map_, np.zeros((2, 2), dtype=bool)))


def test_maps_that_lie_on_their_objects_fit_them_and_no_others():
    """Planted: head 1 of layer 0 of each colour word lies on its own object, head 0 on the other one."""
    drawn = draw_many(8, range(6), objects=2)
    pictures = torch.from_numpy(np.stack([d.pixels for d in drawn]))
    captions = tuple(d.items for d in drawn)
    weights = torch.zeros(1, 6, 1, 2, 8, 8, 8)
    for i, d in enumerate(drawn):
        own = [torch.from_numpy(covered_patches(mask)).float() for mask in d.masks]
        for j in range(2):
            weights[0, i, 0, 1, 4 * j + 1], weights[0, i, 0, 0, 4 * j + 1] = own[j], own[1 - j]
    painted = Painted(captions=captions, pictures=pictures, predictions=pictures[None])
    fit = map_fit(painted, WordMaps(captions=captions, weights=weights))
    assert isinstance(fit, MapFit) and fit.n == 12
    assert fit.own[0, 1] == 1.0 and fit.other[0, 0] == 1.0 and fit.own[0, 0] == 0.0 and fit.others[0, 1] < 0.6


def test_without_no_head_is_the_whole_model_and_a_dead_head_costs_nothing():
    model = fresh()
    with torch.no_grad():
        model.layers[1].cross_attn.o_proj.weight[:, 16:32] = 0  # what head 1 writes
    opened = wb.open_model(model)
    drawn = draw_many(0, range(2))
    found = ablate_painter(opened, drawn, heads=["cross:a1.h1", "a0.h0"], steps=1)
    rise, _ = found.rise()
    assert abs(rise[0]) < 1e-6 and abs(rise[1]) > 1e-6 and found.n == 2
    assert np.array_equal(found.read[0], found.whole)
    assert [row["head"] for row in found.rows()] == ["cross:a1.h1", "a0.h0"]
    assert len(every_head(opened)) == 24


def test_a_head_is_silenced_where_it_stands(opened):
    """By hand: the columns of its output matrix set to zero."""
    model = fresh()
    with torch.no_grad():
        model.layers[2].self_attn.o_proj.weight[:, 48:64] = 0
    words, x, t = torch.from_numpy(word_numbers([RED])), noise(1, range(1), side=24), torch.tensor([0.2])
    with torch.no_grad():
        expected = predict(model, x, t, words)
        with without_heads(opened, ["a2.h3"]):
            found = predict(opened, x, t, words)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_painting_is_read_back_as_it_was_saved(opened, tmp_path):
    painted = paint(opened, [RED, ONE], steps=1)
    made = painting_of(painted, model="fresh", seed=0, guidance=2.0, edit="nothing much", plain=painted)
    again = load_painting(save_painting(made, tmp_path))
    assert again.to_dict() == made.to_dict() and again.captions[0] == "a red disc left, a blue square right"
    assert "green triangle" in again._repr_html_()


def test_a_painting_whose_words_are_not_its_pixels_is_refused(opened, tmp_path):
    made = painting_of(paint(opened, [ONE], steps=1), model="fresh", seed=0, guidance=2.0)
    told = made.to_dict()
    told["pictures"][0]["picture"]["right"]["count"] ^= True

    PAINTING.save(told, tmp_path / "painting.json")
    with pytest.raises(RunError, match="not what its pixels show"):
        load_painting(tmp_path / "painting.json")


def test_a_picture_is_judged_as_the_colours_that_are_kept():
    drawn = draw(7, 1)
    one = OnePicture.of(drawn.pixels, drawn.items)
    assert one.verdict.binding and one.phrase == "a blue triangle left, a yellow square right"


def test_a_small_move_along_the_slope_lowers_the_loss_and_a_random_one_of_its_length_less(opened):
    words, x, t = torch.from_numpy(word_numbers([RED])), noise(2, range(1), side=24), torch.tensor([0.1])
    how = {"model": opened, "slots": (1, 2), "region": (0, 0, 4, 8), "strength": 0.01}
    with torch.no_grad():
        before, guided, random = (
            look_loss(opened, state, t, words, slots=(1, 2), region=(0, 0, 4, 8)).item()
            for state in (
                x,
                GuidedState(**how)(0, x, t, words),
                GuidedState(**how, direction="random")(0, x, t, words),
            )
        )
    assert guided < before and before - guided > 2 * abs(before - random)
    moved = GuidedState(**how)(0, x, t, words) - x
    assert float(moved.norm() / x.norm()) == pytest.approx(0.01, rel=1e-3)
    assert GuidedState(**how, until=0)(0, x, t, words) is x


def test_the_loss_of_even_looks_is_known(opened):
    """Looks that come evenly from all patches: half of them from half of the picture, (1 - 1/2)^2."""
    model = fresh()
    with torch.no_grad():
        for layer in model.layers:
            layer.cross_attn.q_proj.weight.zero_()
    even = wb.open_model(model)
    words = torch.from_numpy(word_numbers([RED]))
    found = look_loss(
        even, noise(0, range(1), side=24), torch.zeros(1), words, slots=(1,), region=(0, 0, 4, 8)
    )
    assert found.item() == pytest.approx(0.25, abs=1e-6)


def test_equal_captions_leave_a_picture_and_a_mask_keeps_what_is_outside(opened):
    drawn = draw_many(3, range(2), objects=2)
    pictures = torch.from_numpy(np.stack([d.pixels for d in drawn]))
    captions = [d.items for d in drawn]
    same = flow_edit(opened, pictures, captions, captions, steps=4, first=1)
    torch.testing.assert_close(same, pictures, atol=1e-5, rtol=0)
    mask = torch.zeros(2, 8, 8, dtype=torch.bool)
    mask[:, :4] = True
    made = flow_edit(opened, pictures, captions, [RED, RED], mask=mask, steps=4, first=1)
    torch.testing.assert_close(made[:, 12:], pictures[:, 12:], atol=1e-6, rtol=0)
    assert not torch.allclose(made[:, :12], pictures[:, :12], atol=1e-3)


def test_the_strongest_patches_by_hand(opened):
    maps = torch.tensor([[[0.1, 0.4], [0.4, 0.0]]])
    assert strongest(maps, 2).tolist() == [[[False, True], [True, False]]]
    pictures = torch.zeros(1, 24, 24, 3)
    looks = looks_at_slots(opened, pictures, [RED], slots=range(8))
    torch.testing.assert_close(looks, torch.ones(1, 8, 8))  # all words together have all of the attention


@pytest.mark.parametrize(
    "given", [{"region": (0, 0, 9, 1)}, {"slots": ()}, {"strength": -1.0}, {"direction": "up"}]
)
def test_guidance_that_cannot_be_meant_is_refused(opened, given):
    with pytest.raises(OptionError):
        GuidedState(**{"model": opened, "slots": (1,), "region": (0, 0, 4, 8), **given})


def test_edits_by_flow_that_cannot_be_meant_are_refused(opened):
    pictures = torch.zeros(1, 24, 24, 3)
    with pytest.raises(ShapeError, match="1 pictures, 2 captions"):
        flow_edit(opened, pictures, [RED, ONE], [RED])
    with pytest.raises(OptionError, match="first is 20"):
        flow_edit(opened, pictures, [RED], [RED], first=20)
