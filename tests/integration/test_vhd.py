"""Outputs of heads without the picture, heads made louder, and the study of both at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.edits.louder import Louder
from workbench.edits.reinforce import Reinforce
from workbench.heads.asked_pictures import ask_pictures, said, token_of
from workbench.heads.divergence import divergence, reinforced_heads
from workbench.heads.existence import ask_at_noise
from workbench.model.hooks import forward
from workbench.model.prompt import Prompt
from workbench.papers import vhd
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.tasks.scenes.layout import World

SMALL = vhd.VhdSizes(choosing=8, questions=16, draws=2, noises=(0.04,), alphas=(1.5,))


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


@pytest.fixture(scope="module")
def asked(vlm):
    wishes = [lambda q, scene: q.answer == "yes", lambda q, scene: q.answer == "no"]
    return ask_pictures(vlm, World(objects=(0, 1, 1)), kinds=["exist"], n=6, seed=7, wanted=wishes)


def last_outputs(model, prompt, layer):
    found = {}
    name = f"blocks.{layer}.attn.hook_z"
    with model.hooks(fwd_hooks=[(name, lambda z, hook: found.update(z=z[:, -1]))]), torch.no_grad():
        forward(model, prompt, last_only=True)
    return found["z"]


def test_questions_are_of_their_pictures_and_the_model_reads_both(vlm, asked):
    assert asked.there.tolist() == [True, False] * 3
    assert (said(vlm, asked.prompt) == asked.right).mean() > 0.8
    assert asked.image == tuple(range(1, 37))
    own = asked[:1]
    [slot] = own.questions[0].asked
    assert np.flatnonzero(own.own[0]).tolist() == np.flatnonzero(own.scenes[0].coverage[:, slot] > 0).tolist()
    assert not (own.own[:, None] & own.others).any()
    with pytest.raises(OptionError, match="not about one object"):
        _ = asked.own
    blank = asked.showing(vlm, [scene.blank().pixels for scene in asked.scenes])
    assert (said(vlm, blank) == token_of(vlm, "no")).all()
    with pytest.raises(ModelError, match="not one token"):
        token_of(vlm, "elephant")


def test_without_the_picture_is_a_pass_of_the_words_alone(vlm, asked):
    found = divergence(vlm, asked.prompt)
    words = Prompt(torch.cat([asked.prompt.ids[:, :1], asked.prompt.ids[:, 37:]], 1))
    for layer in (0, 3):
        away = last_outputs(vlm, words, layer)
        size = (last_outputs(vlm, asked.prompt, layer) - away).norm(dim=-1)
        assert torch.allclose(found.size[:, layer], size, atol=1e-4)
        assert torch.allclose(found.without[:, layer], away, atol=1e-4)
    top = found.size.sort(dim=-1).values[..., -2:].sum((1, 2))
    assert np.allclose(found.total(2), top, atol=1e-4)


def test_a_head_that_the_picture_does_not_reach_diverges_by_exactly_nothing(vlm, asked):
    def blind(scores, hook):
        scores = scores.clone()
        scores[:, 1, :, 1:37] = torch.finfo(scores.dtype).min
        return scores

    with vlm.hooks(fwd_hooks=[("blocks.0.attn.hook_attn_scores", blind)]):
        found = divergence(vlm, asked.prompt, how="mask")
    assert (found.size[:, 0, 1] == 0).all() and (found.size[:, 1:] > 1).any()
    words = divergence(vlm, asked.prompt, without=[40], how="mask")
    assert (words.size[:, 3] > 0).any()
    for wrong in ([], [99], [43]):
        with pytest.raises(OptionError, match="not a part"):
            divergence(vlm, asked.prompt, without=wrong)


def test_heads_above_the_median_are_chosen_unless_their_response_to_words_stands_out():
    four = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert reinforced_heads(four, torch.ones(1, 4)).tolist() == [[False, False, True, True]]
    size, response = torch.tensor([[1.0, 2.0, 3.0, 20.0]]), torch.tensor([[1.0, 1.0, 1.0, 9.0]])
    assert reinforced_heads(size, response).tolist() == [[False, True, True, False]]
    assert reinforced_heads(size, torch.ones(1, 4)).tolist() == [[False, False, True, True]]


def test_making_heads_louder_equals_a_loop_over_layers(vlm, asked, tmp_path):
    edit = Reinforce.of(vlm, asked.prompt, alpha=3.0)
    with edit.on(vlm), torch.no_grad():
        found = forward(vlm, asked.prompt, last_only=True)
    hooks = []
    for layer in range(4):  # layers before are louder already
        with vlm.hooks(fwd_hooks=hooks):
            z = last_outputs(vlm, asked.prompt, layer)
        size = (z - edit.without[:, layer]).norm(dim=-1)
        factor = 1 + 2 * reinforced_heads(size, edit.without[:, layer].square().sum(-1)).float()

        def louder(z, hook, factor=factor):
            z = z.clone()
            z[:, -1] *= factor[..., None]
            return z

        hooks.append((f"blocks.{layer}.attn.hook_z", louder))
    with vlm.hooks(fwd_hooks=hooks), torch.no_grad():
        naive = forward(vlm, asked.prompt, last_only=True)
        plain = forward(vlm, asked.prompt, last_only=True)
    assert torch.allclose(found, naive, atol=1e-3) and torch.equal(naive, plain)
    with torch.no_grad():
        assert not torch.allclose(found, forward(vlm, asked.prompt, last_only=True), atol=1e-2)
    path = wb.edits.save_edit(edit, tmp_path / "louder")
    again = wb.edits.load_edit(path or tmp_path / "louder")
    assert again.describe() == edit.describe() and torch.equal(again.without, edit.without)
    with edit.on(vlm), pytest.raises(ShapeError, match="made for 6 prompts"):
        forward(vlm, asked.prompt[:2], last_only=True)


def test_the_study_runs_and_its_claims_are_judged(vlm):
    found = vhd.REPLICATION.run(Setting(model=vlm, name="zoo:vlm", options=SMALL, seed=5))
    verdicts = dict(zip(vhd.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["coco"] == "cannot be tested here" and len(found.tables["How loud"]) == 5


def test_claims_go_both_ways():
    """Answers yes, planted: hallucinated ones have small totals or the same; louder heads hallucinate less or not."""

    def judged(gap, yes):
        c, rng = Conditions(seed=0), np.random.default_rng(0)
        true = np.repeat([1.0, 0.0], 40)
        c.add(vhd.TRUE, true)
        c.add(vhd.TOTAL, gap * true + rng.normal(size=80))
        c[vhd.AS_IS], c[vhd.LOUDER] = np.repeat([1.0, 0.0], 40), np.repeat([1.0, 0.0], [yes, 80 - yes])
        return [vhd.CLAIMS[name].by(c).holds for name in ("tells", "lowers")]

    assert judged(3.0, 10) == [True, True]
    assert judged(0.0, 40) == [False, False]


def test_a_model_of_words_is_refused_with_what_to_type(bridge_of):
    with pytest.raises(ModelError, match="zoo:vlm"):
        vhd.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=SMALL))


def test_louder_heads_that_are_as_loud_change_no_answer_and_both_choices_are_edits(vlm):
    asked = ask_at_noise(vlm, 0.12, n=6, seed=7)
    louder = Louder(model=vlm, asked=asked, found=divergence(vlm, asked.prompt))
    plain = louder.as_it_is()
    assert plain.tolist() == (said(vlm, asked.prompt) == token_of(vlm, "yes")).tolist()
    assert (louder.chosen(1.0) == plain).all() and (louder.always(1.0, ["a1.h0"]) == plain).all()
    edit = Reinforce.of(vlm, asked.prompt, alpha=30.0, choose="random", seed=2)
    with edit.on(vlm):
        naive = said(vlm, asked.prompt) == token_of(vlm, "yes")
    assert (louder.chosen(30.0, "random", 2) == naive).all() and louder.found.upper_half()[0].startswith(
        "a0."
    )
