"""Relevance of pixels with known answers, areas that stand out of planted maps, masks of drawn pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.evaluate.pixel_relevance import in_cells, moved_at_random, pixel_relevance, strongest
from workbench.evaluate.salient import near_foci, saliency, salient_relevance
from workbench.heads.drawn_pictures import draw_pictures
from workbench.heads.localisation import best_iou
from workbench.model.open import open_model
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.papers.kit.outcome import ALPHA
from workbench.papers.pictured_relevance import add_pictures, masks, picture_claims
from workbench.papers.relevance import RelevanceSizes
from workbench.tasks.scenes.layout import World

CLASSES = np.array([3, 7, 3])


@pytest.fixture(scope="module")
def marked():
    return open_model("zoo:marked", device="cpu")


@pytest.fixture(scope="module")
def drawn(marked):
    return draw_pictures(marked, World(marked=True, objects=(0, 1, 1, 1), noise=0.04), n=3, seed=4)


def logits(model, prompt, pixels=None):
    extras = dict(prompt.extras) if pixels is None else {"pixel_values": pixels}
    with torch.no_grad():
        return model(prompt.ids, **extras)[np.arange(3), 0, CLASSES]


def test_a_model_without_biases_hands_its_whole_logit_back_to_the_pixels_and_the_gradient_does_not(drawn):
    bare = open_model("zoo:marked", device="cpu")
    with torch.no_grad():
        for name, weight in bare.named_parameters():
            if name.endswith(("bias", "cls_token", "position_embeddings")):
                weight.zero_()
    whole = logits(bare, drawn.prompt).numpy()
    kept = pixel_relevance(bare, drawn.prompt, CLASSES, backward="cp-lrp").sum((1, 2))
    lost = pixel_relevance(bare, drawn.prompt, CLASSES, backward="plain").sum((1, 2))
    assert kept == pytest.approx(whole, rel=1e-3) and np.abs(lost - whole).max() > 0.1 * np.abs(whole).max()


def test_the_gradient_is_that_of_moving_all_pixels_and_rows_do_not_matter(marked, drawn):
    before, flags = logits(marked, drawn.prompt), [weight.requires_grad for weight in marked.parameters()]
    found = pixel_relevance(marked, drawn.prompt, CLASSES, backward="plain")
    pixels, step = drawn.prompt.extras["pixel_values"], 1e-2
    up, down = (logits(marked, drawn.prompt, (1 + s) * pixels) for s in (step, -step))
    assert found.sum((1, 2)) == pytest.approx(((up - down) / (2 * step)).numpy(), rel=0.05, abs=0.05)
    one = pixel_relevance(marked, drawn.prompt, CLASSES, backward="attnlrp", rows=1)
    assert one == pytest.approx(
        pixel_relevance(marked, drawn.prompt, CLASSES, backward="attnlrp"), rel=1e-3, abs=1e-4
    )
    assert torch.equal(before, logits(marked, drawn.prompt))  # hooks, norms and activations are its own again
    assert flags == [weight.requires_grad for weight in marked.parameters()]
    assert all(weight.grad is None for weight in marked.parameters())


def test_a_prompt_without_pictures_is_refused(bridge_of):
    from workbench.model.prompt import Prompt

    ids = torch.zeros(2, 4, dtype=torch.long)
    with pytest.raises(ModelError, match="no pictures"):
        pixel_relevance(bridge_of("gpt2"), Prompt(ids), CLASSES[:2], backward="plain")


def test_a_line_is_a_picture_of_one_row_and_a_turned_picture_has_turned_areas():
    line = np.random.default_rng(0).normal(size=12)
    assert salient_relevance(line[None])[0] == pytest.approx(salient_relevance(line))
    picture = np.random.default_rng(1).normal(size=(5, 7))
    assert pytest.approx(saliency(picture, scales=(1, 3))) == saliency(picture.T, scales=(1, 3)).T
    assert np.ptp(saliency(np.ones((4, 4)))) == 0 and saliency(np.ones((4, 4))).max() == 0
    with pytest.raises(OptionError, match="15 others"):
        saliency(np.ones((4, 4)), k=16)


def test_saliency_of_one_bright_cell_by_hand():
    values = np.zeros((3, 3))
    values[0, 0] = 1.0
    # the bright cell: its three nearest in value are all 1 away, at most by place: distances 1/3, 1/3, sqrt(2)/3 of n
    found = saliency(values, scales=(1,), k=8, weight=0.0)
    assert found[0, 0] == pytest.approx(1 - np.exp(-1)) and found[2, 2] == pytest.approx(1 - np.exp(-1 / 8))
    assert near_foci(np.eye(3)[:1]).tolist() == [[1.0, 0.0, 0.0]]
    assert near_foci(np.ones((2, 2)) / 2).tolist() == [[0.5, 0.5], [0.5, 0.5]]  # every cell is a focus


def test_a_planted_area_under_noise_is_found_better_than_by_the_raw_map_and_not_where_nothing_is_planted():
    mask = np.zeros((12, 12), dtype=bool)
    mask[3:7, 5:9] = True
    gain = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        noisy = mask * rng.exponential(size=mask.shape) + 0.3 * rng.exponential(size=mask.shape)
        empty = rng.exponential(size=mask.shape)
        areas, none = (salient_relevance(x, scales=(1, 2, 4), k=32) for x in (noisy, empty))
        gain.append([best_iou(areas, mask) - best_iou(noisy, mask), best_iou(none, mask)])
    better, chance = np.mean(gain, axis=0)
    assert better > 0.1 and chance < 0.4


def test_cells_areas_and_moves_by_hand():
    values = np.array([[[1.0, -1.0], [2.0, 0.5]]])
    assert in_cells(values, 1).tolist() == [[[1.0, 1.0], [2.0, 0.5]]]
    with pytest.raises(ShapeError, match="cells of 3"):
        in_cells(values, 3)
    assert strongest(np.stack([values[0], values[0]]), np.array([1, 2])).sum((1, 2)).tolist() == [1, 2]
    moved = moved_at_random(values, np.random.default_rng(0))
    assert sorted(moved.ravel()) == sorted(values.ravel())


def test_the_mask_is_of_the_framed_object_and_its_frame_alone(drawn):
    own, others = masks(drawn)
    bare, _ = masks(drawn, frame=False)
    assert own.shape == (3, 24, 24) and (own & ~bare).any((1, 2)).all() and not (bare & ~own).any()
    assert others.any((2, 3)).sum(1).tolist() == (drawn.layout.n - 1).tolist()
    cell = drawn.layout.cell[:, 0]
    for mask, at in zip(own, cell.tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        assert {(r // 8, c // 8) for r, c in zip(rows, columns, strict=True)} == {divmod(at, 3)}


def test_pictures_are_judged_and_a_map_in_the_wrong_place_fails(marked):
    c, claims = Conditions(seed=3), picture_claims("somewhere")
    add_pictures(
        c, Setting(model=marked, name="zoo:marked", options=RelevanceSizes(), seed=3), n=12, draws=40
    )

    def holds(name: str) -> bool:
        found = claims[name].by(c)
        return found.holds and (found.p is None or found.p < ALPHA)

    assert holds("regions") and holds("regions at random") and holds("regions, covered")
    assert len(c.tables["Maps of relevance on pictures"]) == 5
    moved = sorted(c.draws["salient areas moved at random"], key=np.mean)
    c.add("overlap of salient relevance", moved[len(moved) // 2], within=(0.0, 1.0))
    assert not holds("regions at random") and not holds("regions, raw")
