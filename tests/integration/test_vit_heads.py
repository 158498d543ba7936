"""The study of vision heads at a small size: what holds, what fails when it is planted, what cannot be tested."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError
from workbench.edits.off import turn_off
from workbench.edits.pruning import METRICS
from workbench.heads.drawn_pictures import classes_of, draw_pictures
from workbench.heads.observe import patterns_of
from workbench.heads.prune_metrics import every_head, predictions, prune_metrics
from workbench.heads.tower_profile import distance_slopes, mean_distances, tower_profile
from workbench.papers import vit_heads
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.tasks.scenes import World, draw

WORLD = World(marked=True, objects=(0, 1, 1))
SMALL = vit_heads.VitHeadSizes(choosing=16, pictures=16, draws=2, patterns=4, planted=6)


@pytest.fixture(scope="module")
def marked():
    return wb.open_model("zoo:marked", device="cpu")


def test_drawn_pictures_are_those_of_the_world_with_their_truth(marked):
    shown = draw_pictures(marked, WORLD, n=3, seed=7, start=2)
    scene = draw(7, 3, WORLD)
    assert np.array_equal(shown.pixels[1], scene.pixels)
    assert shown.names()[1] == f"{scene.asked.colour} {scene.asked.shape}"
    patches = {int(p) for p in np.flatnonzero(shown.own[1])}
    assert patches == {int(p) for p in np.flatnonzero(scene.coverage[:, 0] > 0)}
    assert shown.others[1].any((1, 2)).sum() == len(scene.things) - 1
    plain = marked.original_model(pixel_values=torch.tensor(scene.pixels).permute(2, 0, 1)[None] / 127.5 - 1)
    said = predictions(marked, shown.prompt).probabilities[1]
    assert np.allclose(said, plain.logits[0].double().softmax(-1).detach(), atol=1e-5)
    assert np.array_equal(shown[1:].pixels[0], scene.pixels)


def test_pruning_equals_a_hook_that_writes_zero_and_a_head_without_output_loses_nothing(marked):
    shown = draw_pictures(marked, WORLD, n=4, seed=7)
    right, full = classes_of(marked, shown.names()), predictions(marked, shown.prompt)
    with turn_off(marked, ["a1.h2"], mode="zero").on(marked):
        pruned = predictions(marked, shown.prompt)

    def zero(z, hook):
        z = z.clone()
        z[:, :, 2] = 0
        return z

    with marked.hooks(fwd_hooks=[("blocks.1.attn.hook_z", zero)]):
        naive = predictions(marked, shown.prompt)
    assert np.array_equal(pruned.probabilities, naive.probabilities)
    assert np.abs(pruned.probabilities - full.probabilities).max() > 1e-6
    weight = marked.original_model.get_submodule("vit.layers.1.attention.o_proj").weight
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight[:, 32:48] = 0  # columns of head 2: it writes nothing any more
        silent = predictions(marked, shown.prompt)
        with turn_off(marked, ["a1.h2"], mode="zero").on(marked):
            found = prune_metrics(silent, predictions(marked, shown.prompt), right)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert all((each == 0).all() for each in found)


def test_class_tokens_look_at_the_marked_object_and_not_at_others(marked):
    shown = draw_pictures(marked, WORLD, n=12, seed=7)
    profile = tower_profile(patterns_of(marked, shown.prompt).by_head(), shown)
    assert list(profile) == every_head(marked)
    best = max(profile.values(), key=lambda each: each.located.lift.mean())
    assert best.located.lift.mean() > 5 > 1 > best.located.other_lift.mean()
    assert np.allclose(best.rings.mass.sum(-1) + best.shares.from_patches, 1)


def test_distances_go_up_by_one_hop_a_layer_where_heads_are_planted_so(marked):
    """Every patch of a head in layer n looks at one that is n hops away; the class token at all patches alike."""
    shown, patterns = draw_pictures(marked, WORLD, n=2, seed=7), {}
    rows, columns = np.divmod(np.arange(36), 6)
    for layer in range(3):
        pattern = np.zeros((2, 37, 37))
        pattern[:, 0, 1:] = 1 / 36
        away = np.where(columns >= 3, columns - layer, columns + layer)
        pattern[:, 1 + np.arange(36), 1 + rows * 6 + away] = 1
        patterns |= {f"a{layer}.h{head}": pattern for head in range(2)}
    profile = tower_profile(patterns, shown)
    assert mean_distances(profile) == {head: pytest.approx(int(head[1])) for head in patterns}
    assert distance_slopes(profile).tolist() == pytest.approx([1.0, 1.0])


def test_the_study_runs_and_its_claims_are_judged(marked):
    found = vit_heads.REPLICATION.run(Setting(model=marked, name="zoo:marked", options=SMALL, seed=5))
    verdicts = dict(zip(vit_heads.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["families"] == "holds" and verdicts["imagenet"] == "cannot be tested here"
    assert len(found.tables["Every head"]) == 12 and found.numbers["chosen"]


def test_claims_go_both_ways():
    """Losses of twelve heads in three layers, planted: one head has it all, or all have the same."""

    def judged(losses, distances):
        c = Conditions(seed=0)
        c.numbers |= {"losses": {name: losses for name in METRICS}, "heads": 12, "share": 0.0}
        c.numbers |= {"layers": np.repeat([0, 1, 2], 4).tolist(), "distances": distances}
        c.add("slope of distance", np.ones(8) + np.arange(8) / 100)
        c.add(vit_heads.WHOLE, np.ones(8), within=(0, 1))
        for name, value in ((vit_heads.TOGETHER, max(losses) * 3), (vit_heads.HALF, sum(losses) / 2)):
            c.add(name, np.full(8, value) + np.arange(8) / 1000)
        return {name: vit_heads.CLAIMS[name].by(c).holds for name in ("few", "hops", "agree")} | {
            f"p of {name}": vit_heads.CLAIMS[name].by(c).p for name in ("hops", "agree")
        }

    planted = judged([1.0] * 3 + [0.01 * i for i in range(9)], np.repeat([1.0, 2.0, 3.0], 4).tolist())
    assert planted["few"] and planted["p of hops"] < 0.01 and planted["p of agree"] < 0.01
    even = judged([0.1] * 12, [1.0, 2.0, 3.0, 4.0] * 3)
    assert not even["few"] and not even["p of hops"] < 0.05


def test_a_model_of_words_is_refused_with_what_to_type(bridge_of):
    with pytest.raises(ModelError, match="reads no pictures"):
        vit_heads.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=SMALL))
