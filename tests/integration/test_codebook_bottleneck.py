"""Codes by hand; one code carries nothing; seekers; the study of the bottleneck at a small size."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError
from workbench.papers import codebook_bottleneck as study
from workbench.papers.kinds import Setting
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import lay_out_many
from workbench.training.codebook import (
    Codebook,
    Seeker,
    SoughtThings,
    found_right,
    probe_said,
    probe_seekers,
    single_colours,
    train_seekers,
    usage_entropy,
    use_of_codes,
)


def test_a_mix_of_codes_by_hand_and_one_code_carries_nothing():
    book = Codebook(2, codes=2, said=3)
    with torch.no_grad():
        book.choose.weight.copy_(torch.tensor([[log(3.0), 0.0], [0.0, 0.0]]))
        book.choose.bias.zero_()
        book.codes.copy_(torch.tensor([[4.0, 0.0, 1.0], [0.0, 8.0, 1.0]]))
    assert book(torch.tensor([[1.0, 5.0]]))[0].tolist() == pytest.approx(
        [3.0, 2.0, 1.0]
    )  # shares 3/4 and 1/4
    alone = Codebook(2, codes=1, said=3)
    seen = torch.randn(5, 2, requires_grad=True)
    alone(seen).sum().backward()
    assert float(seen.grad.abs().sum()) == 0  # nothing that was seen passes
    with pytest.raises(OptionError, match="say nothing"):
        Codebook(2, codes=0, said=3)


def test_use_of_codes_by_hand():
    assert usage_entropy(torch.tensor([[1.0, 0.0], [1.0, 0.0]])) == 0
    assert usage_entropy(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(log(2))


def test_codes_without_the_task_do_not_depend_on_it_and_others_do():
    torch.manual_seed(0)
    features, tasks = torch.randn(3, 36, 8), torch.eye(6)[[0, 1, 2]]
    for way, blind in (("codes", False), ("no bottleneck", False), ("codes without the task", True)):
        arm = Seeker(8, 36, way, codes=4)
        same = torch.equal(arm.said(features, tasks), arm.said(features, tasks.flip(0)))
        assert same is blind and not torch.equal(arm(features, tasks), arm(features, tasks.flip(0)))
    assert use_of_codes(Seeker(8, 36, "codes", codes=1), _sought(features, tasks)) == 0
    with pytest.raises(OptionError, match="has no codes"):
        use_of_codes(Seeker(8, 36, "no bottleneck", codes=1), _sought(features, tasks))
    with pytest.raises(OptionError, match="bottleneck"):
        Seeker(8, 36, "code", codes=4)


def _sought(features: torch.Tensor, task: torch.Tensor) -> SoughtThings:
    return SoughtThings(features, task, torch.zeros(len(task)).long(), torch.ones(len(task)).long())


def test_a_color_is_asked_for_only_where_one_thing_has_it():
    layout = lay_out_many(0, range(2), World(objects=(0, 0, 1)))
    colour = np.array([[2, 1, 1, 2, 2, 2, 2, 2, 2], [2, 1, 2, 0, 0, 0, 0, 0, 0]])
    assert single_colours(replace(layout, colour=colour))[1].tolist() == [
        True,
        False,
    ]  # free cells do not count


def test_a_probe_reads_what_is_there_and_no_more():
    drawn = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (300,), generator=drawn)
    said = torch.nn.functional.one_hot(label, 4).float() + 0.1 * torch.randn(300, 4, generator=drawn)
    parts = (said[:200], said[200:]), (label[:200], label[200:])
    assert probe_said(*parts, seed=0).mean() > 0.95
    nothing = torch.randn(300, 4, generator=drawn)
    assert probe_said((nothing[:200], nothing[200:]), parts[1], seed=0).mean() < 0.5  # a third by chance


def test_seekers_learn_where_things_are_and_probes_read_it_off_them():
    task, cell = torch.eye(6).repeat(20, 1), torch.arange(120) % 9
    features = torch.zeros(120, 9, 4)
    features[torch.arange(120), cell] = 3.0  # the only thing stands out
    sought = SoughtThings(features, task, cell, (cell + 1) % 9)
    arms, half = train_seekers(sought, ["no bottleneck"], codes=2, steps=40, seed=0, halfway=sought)
    assert found_right(arms["no bottleneck"], sought).mean() > 0.8 > 0.6 > half["no bottleneck"].mean()
    probed = probe_seekers(arms, sought, sought, dealt="no bottleneck", seed=0)
    assert probed.asked["no bottleneck"].mean() > 0.8 > 0.5 > probed.dealt.mean()


def test_the_study_of_the_bottleneck_is_judged_at_a_small_size():
    model = wb.open_model("zoo:marked", device="cpu")
    options = study.CodebookSizes(training=40, pictures=40, shifted=60, steps=3)
    found = study.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=5))
    assert [claim.verdict for claim in found.claims][-1] == "cannot be tested here"
    assert len(found.tables["Entropy of the use of codes, nats"]) == 2
