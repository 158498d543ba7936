"""Entropy of attention, maps divided by maps, regions of them, and the study at a small size."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError, ShapeError
from workbench.heads.asked_pictures import ask_pictures
from workbench.heads.contrastive_map import contrast_region, contrastive_map
from workbench.heads.crops import covered
from workbench.heads.focus import Chosen, Focus, by_complexity, focus_picture, left_alone, left_elsewhere
from workbench.heads.span_attention import attention_entropy, span_attention
from workbench.papers import carve
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.tasks.scenes.layout import World


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


@pytest.fixture(scope="module")
def asked(vlm):
    return ask_pictures(vlm, World(objects=(0, 1, 1)), kinds=["colour", "shape"], n=4, seed=7)


def test_a_signal_times_noise_divided_by_noise_is_the_signal(unchecked):
    rng = np.random.default_rng(0)
    signal, noise = rng.random((5, 3, 4)), rng.random((5, 3, 4)) + 0.1
    weights = signal * noise / (signal * noise).sum((1, 2), keepdims=True)
    found = contrastive_map(weights, noise, floor=0)
    ratio = found / signal
    assert np.allclose(ratio, ratio[:, :1, :1])
    floor = np.median(noise[0])
    assert np.allclose(contrastive_map(weights, noise)[0], weights[0] / (noise[0] + floor))
    with pytest.raises(ShapeError, match="divided"):
        contrastive_map(weights, noise[:2])
    with pytest.raises(OptionError, match="0 somewhere"):
        contrastive_map(weights, np.zeros_like(noise))
    with pytest.raises(OptionError, match="floor is -1"):
        contrastive_map(weights, noise, floor=-1.0)


def test_the_region_is_the_connected_parts_with_the_largest_sums():
    map_ = np.zeros((4, 4))
    map_[0, 0], map_[0, 1], map_[1, 1], map_[3, 3], map_[3, 0] = 2.0, 2.0, 2.0, 5.0, 4.0
    one = contrast_region(map_, keep=5 / 16, components=1)
    assert np.argwhere(one).tolist() == [[0, 0], [0, 1], [1, 1]]  # 6 in all; corners alone touch no side
    assert contrast_region(map_, keep=5 / 16, components=2).sum() == 4
    assert contrast_region(map_, keep=0.01, components=3).sum() == 1  # at least one place
    assert contrast_region(map_, keep=1.0, components=1).all()
    with pytest.raises(OptionError, match="keep is 0"):
        contrast_region(map_, keep=0.0, components=1)


def test_all_but_the_region_has_one_colour():
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    region = np.zeros((6, 6), dtype=bool)
    region[2, 3] = True
    seen = covered(pixels, region)
    assert (seen[16:24, 24:32] == pixels[16:24, 24:32]).all()
    rest = np.delete(seen.reshape(6, 8, 6, 8, 3).swapaxes(1, 2).reshape(36, -1, 3), 15, axis=0)
    assert (rest == np.median(pixels, axis=(0, 1)).astype(np.uint8)).all()
    with pytest.raises(ShapeError, match="do not divide"):
        covered(pixels, np.ones((5, 5), dtype=bool))


def test_entropy_of_even_weights_is_ln_n_and_of_one_key_0(vlm, asked):
    def planted(pattern, hook):
        pattern = pattern.clone()
        pattern[:, 0, -1] = 1 / 44
        pattern[:, 1, -1] = 0
        pattern[:, 1, -1, [5, 43]] = 0.5  # one patch, and itself
        return pattern

    with vlm.hooks(fwd_hooks=[("blocks.2.attn.hook_pattern", planted)]):
        found = attention_entropy(vlm, asked.prompt)
        given = span_attention(vlm, asked.prompt)
    assert found.shape == (4, 4, 4)
    assert np.allclose(found[:, 2, 0], np.log(36)) and np.allclose(found[:, 2, 1], 0)
    assert np.allclose(given[:, 2, 0].sum(-1), 36 / 44) and np.allclose(given[:, 2, 1].sum(-1), 0.5)
    words = attention_entropy(vlm, asked.prompt, range(37, 44))
    there = span_attention(vlm, asked.prompt, range(37, 44)).sum(-1) > 0
    assert (np.isnan(words) == ~there).all() and there.any()  # nothing is neither even nor uneven
    assert (words[there] <= np.log(7) + 1e-9).all() and (words[there] >= 0).all()
    with pytest.raises(OptionError, match="not a part"):
        attention_entropy(vlm, asked.prompt, [44])
    mean = span_attention(vlm, asked.prompt, queries=(-1, -2))
    own = wb.patterns_of(vlm, asked.prompt).of(3)[:, :, -2:, 1:37].mean(2).numpy()
    assert np.allclose(mean[:, 3], own, atol=1e-5)


def test_a_map_that_is_the_asked_object_points_at_it_and_its_region_is_the_object(vlm, asked):
    maps = asked.own[:, None].astype(float)
    size = asked.own.sum((1, 2))
    best = Chosen(layer=0, keep=float(size.max()) / 36, parts=36, lift=2.0)
    found = Focus(name="truth", maps=maps, chosen=best, asked=asked)
    assert found.lies.pointing.tolist() == [1.0] * 4 and np.allclose(found.lies.mass, 1, atol=1e-9)
    assert (found.regions >= asked.own).all()
    assert found.row()["layer"] == 0 and found.row()["lift above others"] == 2.0
    assert focus_picture([found], title="Where").to_dict()["title"] == "Where"
    moved = left_elsewhere(vlm, asked, found.regions, draws=2, rng=np.random.default_rng(0))
    assert [each.shape for each in moved] == [(4,), (4,)]
    whole = left_elsewhere(vlm, asked, np.ones((4, 6, 6), dtype=bool), draws=1, rng=np.random.default_rng(0))
    assert (whole[0] == left_alone(vlm, asked, np.ones((4, 6, 6), dtype=bool))).all()


def test_every_step_of_a_ladder_has_as_many_questions(vlm):
    found = by_complexity(vlm, carve.HEIGHT, kinds=carve.KINDS, n=2, seed=1)
    assert found.level.tolist() == [0, 0, 0.04, 0.04, 0.08, 0.08, 0.12, 0.12, 0.16, 0.16]
    assert [row["right"] for row in found.rows()] == found.right.reshape(5, 2).mean(1).tolist()


def test_the_study_runs_and_its_claims_are_judged(vlm):
    sizes = carve.CarveSizes(pictures=4, choosing=6, questions=12, draws=1)
    found = carve.REPLICATION.run(Setting(model=vlm, name="zoo:vlm", options=sizes, seed=5))
    verdicts = dict(zip(carve.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["benchmarks"] == "cannot be tested here" and verdicts["depth"] in ("holds", "fails")
    assert len(found.tables["Entropy by number of objects"]) == 4


def test_claims_go_both_ways():
    """Entropy, planted: it grows with objects and is larger for wrong answers, or is the same."""
    noise = np.random.default_rng(1).normal(size=80)
    wrong = (noise.argsort().argsort() % 4 // 2).astype(float)  # alike along the noise: AUROC 0.5
    for more, holds in ((2.0, True), (0.0, False)):
        c = Conditions(seed=0)
        c.add(carve.OBJECTS, np.repeat([1.0, 2, 3, 4], 20))
        c.add(carve.BY_OBJECTS, more * c[carve.OBJECTS] + noise)
        c.add(carve.WRONG, wrong)
        c.add(carve.ENTROPY, more * c[carve.WRONG] + noise)
        ranks, tells = (carve.CLAIMS[name].by(c) for name in ("objects", "tells"))
        assert (ranks.holds and ranks.p < 0.05) is holds and (tells.holds and tells.p < 0.05) is holds


@contextmanager
def planted(model, own, strength):
    """The last token gives every patch a weight that no question changes, and the asked object's patches more."""
    noise = torch.rand(36, generator=torch.Generator().manual_seed(0)) + 0.1
    noise[7] = 20.0  # what draws attention whatever is asked
    describe, held = model.tokenizer("describe", add_special_tokens=False)["input_ids"][0], {}

    def words(ids, hook):
        held["asked"] = not bool((ids == describe).any())

    def attention(pattern, hook):
        pattern, weights = pattern.clone(), noise.repeat(len(pattern), 1)
        if held["asked"] and len(pattern) in own:
            weights = weights * (1 + strength * torch.from_numpy(own[len(pattern)]).reshape(-1, 36))
        pattern[:, :, -1] = 0
        pattern[:, :, -1, 1:37] = (weights / weights.sum(-1, keepdim=True))[:, None]
        return pattern

    hooks = [("embed.hook_in", words)]
    hooks += [(f"blocks.{n}.attn.hook_pattern", attention) for n in range(4)]
    with model.hooks(fwd_hooks=hooks):
        yield


def test_the_contrast_finds_a_signal_that_is_planted_in_patterns_and_none_where_there_is_none(vlm):
    sizes = carve.CarveSizes(pictures=4, choosing=12, questions=32, draws=1)
    world = World(objects=(0, 0, 1, 1), noise=sizes.noise)
    seed = carve.FIRST_SEED + 5000 + 20
    own = {
        n: ask_pictures(vlm, world, kinds=carve.KINDS, n=n, seed=seed + i).own for i, n in enumerate((12, 32))
    }

    def judged(strength):
        with planted(vlm, own, strength):  # such a model answers nothing: the criteria alone are asked
            c = carve.measure(Setting(model=vlm, name="zoo:vlm", options=sizes, seed=5))
        return [carve.CLAIMS[name].by(c).holds for name in ("pointing", "mass")]

    assert judged(4.0) == [True, True]
    assert judged(0.0) == [False, False]
