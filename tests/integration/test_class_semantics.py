"""Gates, segments and importance by hand; clips change where they say; the study of gates at a small size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError
from workbench.heads.class_importance import class_importance
from workbench.heads.segments import best_segment, segment_overlap
from workbench.papers import class_semantics as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes.action_clips import CHANGES, ActedClips, act_out
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import lay_out_many
from workbench.training.class_gates import ActionFinder, ClassGate, found_actions, gates_of


def test_an_even_distribution_gives_equal_gates_and_a_class_gives_its_own():
    gate = ClassGate(4, 6)
    assert gate(torch.full((3, 4), 0.25)).tolist() == [[1.0] * 6] * 3
    one = gate(torch.eye(4)).detach()
    assert not torch.allclose(one[0], one[1]) and float(one.min()) > 0 and float(one.max()) < 2
    by_hand = 2 / (1 + torch.exp(-(gate.weights[2] - gate.weights.mean(0))))
    assert torch.allclose(one[2], by_hand)


def test_segments_by_hand():
    assert best_segment(np.array([1.0, -2.0, 3.0, 1.0, -1.0, 2.0])) == (2, 6)  # 3 + 1 - 1 + 2
    assert best_segment(np.array([-3.0, -1.0, -2.0])) == (1, 2)
    assert segment_overlap((0, 4), (2, 6)) == pytest.approx(2 / 6)
    assert segment_overlap((0, 2), (2, 4)) == 0 and segment_overlap((1, 5), (1, 5)) == 1
    with pytest.raises(OptionError, match="no segment"):
        best_segment(np.array([]))


def test_importance_by_hand():
    activity = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0], [2.0, 1.0]])
    found = class_importance(activity, np.array([0, 1, 1, 0]), n=3)
    assert found[:2].tolist() == [[pytest.approx(-1 / 2**0.5), 0], [pytest.approx(1 / 2**0.5), 0]]
    assert np.isnan(found[2]).all()  # no item is of it
    with pytest.raises(OptionError, match="0 to 1 are expected"):
        class_importance(activity[:2], np.array([0, 2]), n=2)


def test_the_first_object_changes_in_every_frame_of_its_action_and_in_no_other():
    frames, drawn = 12, lay_out_many(0, range(12 * 40), World(objects=(0, 1, 1)))
    laid, clips = act_out(drawn, frames=frames, seed=1)
    labels = clips.labels(frames)
    fields = ("colour", "size", "shape", "cell")
    values = np.stack([getattr(laid, name).reshape(40, frames, -1)[..., :2] for name in fields], axis=-1)
    changed = values[:, 1:] != values[:, :-1]  # (clip, frame, slot, field)
    acting = labels[:, 1:] < len(CHANGES)
    assert (changed[:, :, 0].any(-1) == acting).all()
    assert all(changed[clip, acting[clip], 0, clips.action[clip]].all() for clip in range(40))
    assert (changed[:, :, 1].any(-1).sum(1) == 1).all()  # the other object, in passing
    assert (np.sort(laid.cell, axis=1) == np.arange(9)).all() and set(clips.action) == set(
        range(len(CHANGES))
    )
    with pytest.raises(OptionError, match="no clips"):
        act_out(drawn, frames=7, seed=1)


def test_an_action_counts_where_its_name_and_half_of_its_frames_are_right():
    class Planted(ActionFinder):
        def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return frames, frames.mean(1)[:, :4]

    said = torch.zeros(4, 12, 5) - 1
    said[..., 4] = 0
    said[0, 3:7, 2] = said[1, 3:7, 1] = said[2, 6:10, 2] = said[3, 3:7, 2] = 2
    clips = ActedClips(np.array([2, 2, 2, 2]), np.array([3, 3, 3, 3]), np.array([7, 7, 7, 6]))
    assert found_actions(Planted(5, "none"), said, clips).tolist() == [
        1,
        0,
        0,
        1,
    ]  # 1, another name, 1/7, 3/4
    with pytest.raises(OptionError, match="no gate"):
        gates_of(ActionFinder(5, "none"), said)
    with pytest.raises(OptionError, match="gate"):
        ActionFinder(5, "clas")


def test_the_study_of_gates_is_judged_at_a_small_size():
    model = wb.open_model("zoo:marked", device="cpu")
    options = study.ClipSizes(training=8, clips=12, steps=3)
    found = study.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=5))
    assert [claim.verdict for claim in found.claims][-1] == "cannot be tested here"
    assert len(found.numbers["means"]) == 6 * 3
