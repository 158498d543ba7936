"""Massive activations and attention moved from sinks to the picture: known answers, and the study at a small size."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.edits.redistribute import Redistribute
from workbench.edits.sink_rows import moved_share, redistribute
from workbench.heads.asked_pictures import answered, ask_pictures, draw_patches
from workbench.heads.hidden_keys import answered_without
from workbench.heads.span_attention import span_attention
from workbench.heads.visual_sinks import (
    massiveness,
    see_sinks,
    share_beside,
    sink_dimensions,
    sink_tokens,
    usual_tau,
)
from workbench.model.hooks import forward
from workbench.papers import visual_sinks
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.tasks.scenes.layout import World


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


@pytest.fixture(scope="module")
def asked(vlm):
    return ask_pictures(vlm, World(objects=(0, 1, 1)), kinds=["colour", "shape"], n=5, seed=7)


def test_a_planted_coordinate_has_its_share_of_the_norm_and_no_threshold_beyond_it_is_taken():
    x = torch.ones(3, 64)
    x[1, 5] = -8.0
    assert massiveness(x, [5, 9]).tolist() == pytest.approx([1.0, 8 / ((64 + 63) / 64) ** 0.5, 1.0], rel=1e-4)
    assert sink_tokens(x, [5, 9]).tolist() == [False, True, False] and usual_tau(64) == 2.5
    assert not sink_tokens(x, [9]).any()
    with pytest.raises(OptionError, match=r"the largest possible is 8"):
        sink_tokens(x, [5], tau=20.0)
    with pytest.raises(OptionError, match="not among 64"):
        massiveness(x, [64])


def test_dimensions_of_the_first_token_are_found_where_they_are_planted(vlm, asked):
    def plant(resid, hook):
        resid = resid.clone()
        resid[:, 0, [11, 40]] = torch.tensor([3000.0, -6000.0])
        return resid

    with vlm.hooks(fwd_hooks=[("blocks.1.hook_in", plant)]):
        assert sink_dimensions(vlm, asked.prompt, layers=[1]) == (40, 11)
    with pytest.raises(OptionError, match="64 dimensions"):
        sink_dimensions(vlm, asked.prompt, n=65, layers=[1])


def test_weight_of_a_sink_goes_to_the_other_patches_in_proportion():
    row = torch.tensor([[[[0.5, 0.2, 0.2, 0.1]]]])
    image = torch.tensor([[True, True, True, False]])
    sinks = torch.tensor([[True, False, False, False]])
    moved = redistribute(row, image, sinks, keep=0.4)
    assert moved.flatten().tolist() == pytest.approx([0.2, 0.35, 0.35, 0.1])
    text_too = torch.tensor([[True, False, False, True]])  # .3 and .06 go to two patches alike
    both = redistribute(row, image, text_too, keep=0.4)
    assert both.flatten().tolist() == pytest.approx([0.2, 0.38, 0.38, 0.04])
    assert torch.equal(redistribute(row, image, sinks, keep=1.0), row)


@pytest.mark.parametrize("choose", ["image-centric", "all"])
def test_the_edit_is_a_loop_over_rows(vlm, asked, choose, tmp_path):
    image, dimensions = asked.image, sink_dimensions(vlm, asked.prompt, layers=[1, 2, 3])
    edit = Redistribute(
        layers=(1, 2),
        image=image,
        dimensions=dimensions,
        tau=1.2,
        min_nonsink_ratio=0.3,
        min_visual_mass=0.02,
        choose=choose,
    )
    held, changed = {}, []

    def naive(pattern, hook):
        new = pattern.clone()
        layer = int(hook.name.split(".")[1])
        x = held[layer]
        phi = x[..., list(dimensions)].abs().amax(-1) / x.square().mean(-1).sqrt()
        for row, head, query in ((r, h, q) for r in range(5) for h in range(4) for q in range(37, 44)):
            A = pattern[row, head, query]
            sinks = [k for k in range(44) if phi[row, k] >= 1.2]
            rest = [k for k in image if k not in sinks]
            seen = A[list(image)].sum()
            if A[rest].sum() <= torch.finfo(A.dtype).tiny:
                continue  # nobody could take it
            if choose == "all" or (seen >= 0.02 and A[rest].sum() >= 0.3 * seen):
                freed = 0.6 * A[sinks].sum()
                new[row, head, query, sinks] = 0.4 * A[sinks]
                new[row, head, query, rest] = A[rest] + freed * A[rest] / A[rest].sum()
                changed.append(float(freed))
        return new

    def keep(resid, hook):
        held[int(hook.name.split(".")[1])] = resid

    hooks = [(f"blocks.{n}.hook_in", keep) for n in (1, 2)]
    hooks += [(f"blocks.{n}.attn.hook_pattern", naive) for n in (1, 2)]
    with torch.no_grad():
        with vlm.hooks(fwd_hooks=hooks):
            wanted = forward(vlm, asked.prompt, last_only=True)
        with edit.on(vlm):
            found = forward(vlm, asked.prompt, last_only=True)
        plain = forward(vlm, asked.prompt, last_only=True)
    assert max(changed) > 0.05
    assert torch.allclose(found, wanted, atol=2e-4) and not torch.allclose(found, plain, atol=2e-3)
    wb.edits.save_edit(edit, tmp_path / "moved")
    assert wb.edits.load_edit(tmp_path / "moved") == edit


def test_an_edit_that_cannot_be_is_refused(vlm, asked):
    given = {"layers": (1,), "image": asked.image, "dimensions": (3,), "tau": 2.5}
    for wrong, says in (({"keep": 1.5}, "keep"), ({"choose": "some"}, "choose"), ({"layers": ()}, "layers")):
        with pytest.raises(OptionError, match=says):
            Redistribute(**{**given, **wrong})
    with (
        Redistribute(**{**given, "image": (80,)}).on(vlm),
        pytest.raises(OptionError, match="of 44 positions"),
    ):
        forward(vlm, asked.prompt, last_only=True)


@contextmanager
def planted(model, *, massive: bool = True, on_object: bool = False, everywhere: bool = False):
    """Words give the patch with the least (or most) to say much attention; it has a massive activation, or none has, or
    all patches have."""
    held = {}

    def activation(resid, hook):
        size = resid[:, 1:37].norm(dim=-1)
        held["patch"] = 1 + (size.argmax(1) if on_object else size.argmin(1))
        if not massive:
            return resid
        resid, rows = resid.clone(), torch.arange(len(resid))
        first, own = torch.zeros_like(held["patch"]), [held["patch"]]  # the first token has it too
        for at in [first, *([torch.full_like(first, i) for i in range(1, 37)] if everywhere else own)]:
            resid[rows, at, 28] = 6 * resid[rows, at].square().mean(-1).sqrt()
        return resid

    def attention(scores, hook):
        scores, rows = scores.clone(), torch.arange(len(scores))
        column = scores[rows, :, :, held["patch"]]
        seen = column > -1e30
        seen[:, :, :37] = False
        top = scores.amax(-1) + 1
        scores[rows, :, :, held["patch"]] = torch.where(seen, top, column)
        return scores

    hooks = [("blocks.1.hook_in", activation)]
    hooks += [(f"blocks.{n}.attn.hook_attn_scores", attention) for n in (1, 2, 3)]
    with model.hooks(fwd_hooks=hooks):
        yield


def test_claims_go_both_ways_where_sinks_are_planted_in_the_model(vlm):
    sizes = visual_sinks.VisualSinksSizes(choosing=8, questions=32, draws=2)
    setting = Setting(model=vlm, name="zoo:vlm", options=sizes, seed=5)

    def judged(**how):
        with planted(vlm, **how):
            found = visual_sinks.REPLICATION.run(setting).claims
        return {name: one.verdict for name, one in zip(visual_sinks.CLAIMS, found, strict=True)}

    there = judged()
    assert [there[name] for name in ("exist", "massive", "background")] == ["holds"] * 3
    assert judged(on_object=True)["background"] == "fails"
    assert judged(everywhere=True)["massive"] == "fails"  # attention has no part in it
    gone = judged(massive=False)
    assert gone["exist"] == gone["massive"] == "fails"
    assert gone["background"] == gone["harmless"] == there["benchmarks"] == "cannot be tested here"


def test_beside_an_attended_patch_are_the_others_of_its_layer():
    """All patches are massive in the layer in which two draw much, none in the other, where one does."""
    attended, massive = np.zeros((2, 1, 2, 6), bool)
    attended[0, 0, :2] = attended[0, 1, 0] = massive[0, 0] = True
    assert share_beside(attended, massive).tolist() == pytest.approx([2 / 3])


def test_patches_of_objects_are_drawn_from_objects_only_and_no_more_than_there_are():
    rng, objects = np.random.default_rng(0), np.zeros((2, 9), bool)
    objects[0, :4] = objects[1, 2:4] = True
    drawn = draw_patches(objects, np.array([3, 2]), rng)
    assert drawn.sum(1).tolist() == [3, 2] and not (drawn & ~objects).any()
    with pytest.raises(OptionError, match="picture 1 has 2 patches to draw from, 3 are asked for"):
        draw_patches(objects, np.array([3, 3]), rng)


def test_hidden_patches_cost_the_answer_only_where_they_are_the_object(vlm, asked):
    """No patch hidden changes nothing, the object's alone makes answers wrong, and the model is as before."""
    before = answered(vlm, asked)
    assert np.array_equal(answered_without(vlm, asked, np.zeros_like(asked.background)), before)
    assert answered_without(vlm, asked, ~asked.background).mean() < before.mean() == 1
    assert answered_without(vlm, asked, asked.background).mean() > 0.5
    assert np.array_equal(answered(vlm, asked), before)


def test_an_edit_that_keeps_all_moves_nothing_and_one_that_takes_from_sinks_moves_what_they_had(vlm, asked):
    """Six tenths of what sinks have go to the other patches, in heads that give those anything; heads averaged."""
    make = {"layers": (1,), "image": asked.image, "dimensions": (28,), "tau": 2.0, "choose": "all"}
    with planted(vlm):
        assert moved_share(vlm, asked.prompt, Redistribute(keep=1.0, **make)).tolist() == [0.0] * 5
        sinks = see_sinks(vlm, asked.prompt, layers=[1]).tokens([28])  # (row, layer, key)
        given = span_attention(vlm, asked.prompt, range(44))[:, 1]  # (row, head, key)
        free = (given * ~sinks)[:, :, list(asked.image)].sum(-1) > np.finfo(np.float32).tiny
        taken = 0.6 * ((given * sinks).sum(-1) * free).mean(1)
        assert taken.min() > 0.01
        moved = moved_share(vlm, asked.prompt, Redistribute(keep=0.4, **make))
    assert moved.tolist() == pytest.approx(taken.tolist(), rel=1e-4)


def test_pictures_whose_objects_are_too_small_are_left_out_and_counted(vlm, asked):
    """The first of five pictures has more sinks than patches of objects."""
    sinks = np.zeros_like(asked.background)
    sinks[:, 0] = sinks[0] = True
    c = Conditions()
    c[visual_sinks.AS_IS] = np.ones(5)
    sizes = visual_sinks.VisualSinksSizes(draws=2)
    setting = Setting(model=vlm, name="zoo:vlm", options=sizes)
    visual_sinks._hidden(c, setting, asked, sinks, np.random.default_rng(0))
    assert (c.numbers["with objects"], c.numbers["objects too small"]) == (4, 1)
    assert c.n(visual_sinks.NO_SINKS) == 5 and c.n(visual_sinks.NO_SINKS_TOO) == 4
    assert {len(draw) for draw in c.draws[visual_sinks.NO_OBJECTS]} == {4}


def test_a_model_of_words_is_refused_with_what_to_type(bridge_of):
    with pytest.raises(ModelError, match="zoo:vlm"):
        visual_sinks.REPLICATION.run(
            Setting(model=bridge_of("gpt2"), name="tiny", options=visual_sinks.VisualSinksSizes())
        )
