"""Agreement of maps by hand; towers with heat maps; combinations that are held out; the study at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, ShapeError
from workbench.heads.map_agreement import map_agreement
from workbench.papers import focus_clip as study
from workbench.papers.kinds import Setting
from workbench.training.focus_guidance import (
    ARMS,
    GUIDED,
    PLAIN,
    FocusTower,
    Guidance,
    draw_subjects,
    focus_loss,
    held_out,
    towers,
    train_towers,
)

SMALL = Guidance(width=8, heads=2, steps=2, batch=8, pictures=40)


@pytest.fixture(scope="module")
def marked():
    return wb.open_model("zoo:marked", device="cpu")


@pytest.fixture(scope="module")
def subjects(marked):
    return draw_subjects(marked, n=40, seed=7, guidance=SMALL, new=False)


def test_a_map_agrees_with_itself_and_not_with_a_shuffled_one(unchecked):
    rng = np.random.default_rng(0)
    maps = rng.random((300, 36))
    assert np.allclose(map_agreement(maps, 3 * maps + 1), 1)
    shuffled = map_agreement(maps, rng.permuted(maps, axis=1))
    assert abs(shuffled.mean()) < 0.03 and np.isnan(map_agreement(maps, np.ones_like(maps))).all()
    assert map_agreement(maps[0], maps[1]) == pytest.approx(np.corrcoef(maps[0], maps[1])[0, 1])
    with pytest.raises(ShapeError, match="are compared with"):
        map_agreement(maps, maps[:, :9])


def test_trained_and_held_out_combinations_do_not_meet(marked, subjects):
    new = draw_subjects(marked, n=10, seed=7, guidance=SMALL, new=True)
    never = held_out()
    assert never[new.colour, new.shape].all() and not never[subjects.colour, subjects.shape].any()
    assert len(new) == 10 and len(subjects) == 40 and float(new.heat.amax(1).min()) == 1.0
    best = new.heat.argmax(1).numpy()
    assert new.shown.own.reshape(10, -1)[np.arange(10), best].all()


def test_a_heat_map_of_ones_changes_nothing_and_one_of_zeros_hides_the_picture(subjects):
    torch.manual_seed(0)
    tower = FocusTower(64, 36, SMALL)
    features, caption = subjects.features[:6], (subjects.colour * 5 + subjects.shape)[:6]
    ones = torch.ones_like(subjects.heat[:6])
    assert torch.allclose(
        focus_loss(tower, features, caption, heat=None), focus_loss(tower, features, caption, heat=ones)
    )
    hidden, looks = tower.pictures(features, 0 * ones)
    assert torch.allclose(hidden, hidden[:1].expand_as(hidden), atol=1e-6)
    assert torch.allclose(looks.sum(1), torch.ones(6), atol=1e-5)
    assert torch.allclose(tower.captions().norm(dim=-1), torch.ones(30), atol=1e-5)


def test_one_seed_gives_one_training_and_arms_start_alike(subjects):
    one, two = (train_towers(subjects, SMALL, seed=4) for _ in range(2))
    assert all(torch.equal(one[arm].token, two[arm].token) for arm in ARMS)
    begin = train_towers(subjects, Guidance(width=8, heads=2, steps=1, batch=8, rate=0.0), seed=4)
    assert torch.equal(begin[GUIDED].token, begin[PLAIN].token)


def test_arms_of_another_recipe_are_not_read(marked):
    with pytest.raises(ModelError, match="another recipe"):
        towers(marked, guidance=SMALL)


def test_the_study_is_judged_and_needs_a_model_that_sees(marked, bridge_of):
    options = study.FocusClipSizes(pictures=40)
    found = study.REPLICATION.run(Setting(model=marked, name="zoo:marked", options=options, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["looks, control"] in ("holds", "fails") and verdicts["people"] == "cannot be tested here"
    other = study.REPLICATION.run(Setting(model=marked, name="other", options=options))
    assert {claim.verdict for claim in other.claims} == {"cannot be tested here"}
    anew = study.FocusClipSizes(pictures=40, retrain=True, steps=2)
    with pytest.raises(ModelError, match="reads no pictures"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=anew))
