"""Is a circuit its task's? On a model with two circuits planted side by side, and by hand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.circuits.addresses import parse_edge
from workbench.circuits.circuit import Circuit
from workbench.circuits.files.evaluation_file import load_evaluation, save_evaluation
from workbench.circuits.specificity import Specificity, TaskDamage
from workbench.circuits.verdicts.criteria import Criteria
from workbench.circuits.verdicts.table import recompute_verdicts
from workbench.core.errors import OptionError
from workbench.engine.of_task import paired_runs
from workbench.evaluate.judge_plan import JudgePlan
from workbench.evaluate.specificity import OtherTasks, cross_damage, other_tasks, specificity
from workbench.evaluate.trial import judge
from workbench.model.native import write_native
from workbench.model.open import open_model
from workbench.tasks.pairs import Pair, Pairs
from workbench.training.compiler import Program
from workbench.training.vocabulary import word_tokenizer

FILLERS = tuple(f"f{i}" for i in range(13))
TASKS = {"colors": ("red", "blue", "warm", "cold"), "ways": ("up", "down", "north", "south")}
WORDS = (*FILLERS, *(word for words in TASKS.values() for word in words))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """One layer: a0.h0 answers colors, a0.h1 answers ways, and neither reads what the other reads."""
    p = Program(words=WORDS, context=4, n_layers=1, n_heads=2, mlps=False)
    other = {filler: [0.1 * i] for i, filler in enumerate(FILLERS)}  # the same in both prompts of a pair
    read = [p.token(name, {w[0]: [1.0], w[1]: [-1.0]} | other) for name, w in TASKS.items()]
    here, out = [p.back(p.place(), 0, 8.0)], p.block("out", 2)
    for head, (block, by) in enumerate(zip(read, ([[9.0], [0.0]], [[0.0], [9.0]]), strict=True)):
        table = torch.tensor(by, dtype=torch.float64)
        p.head(f"a0.h{head}", here, copy=block, into=out, role="copy", by=table)
    p.answer(out, {"warm": [1, 0], "cold": [-1, 0], "north": [0, 1], "south": [0, -1]})
    folder = tmp_path_factory.mktemp("two")
    write_native(*p.compile().machine.native(), folder)
    word_tokenizer(list(WORDS)).save_pretrained(folder)
    return open_model(folder, device="cpu")


def pairs_of(task: str) -> Pairs:
    """Two pairs for each filler, drawn one by one."""
    one, two, first, second = TASKS[task]
    rows = [(one, two, first, second), (two, one, second, first)]
    items = [
        Pair(
            id=f"{task}-{filler}-{clean}",
            clean=f"{filler} {clean}",
            corrupted=f"{filler} {corrupted}",
            correct=(f" {right}",),
            incorrect=(f" {wrong}",),
            positions={},
            group="",
        )
        for filler in FILLERS
        for clean, corrupted, right, wrong in rows
    ]
    return Pairs(items=tuple(items), task=task, seed=0)


@pytest.fixture(scope="module")
def runs(model):
    return {task: paired_runs(model, pairs_of(task), metric="logit-difference") for task in TASKS}


@pytest.fixture(scope="module")
def planted(runs):
    shape = runs["colors"].wiring.shape()

    def through(head: str) -> Circuit:
        edges = [parse_edge(f"input->{head}<v>"), parse_edge(f"{head}->logits")]
        return Circuit.build(shape=shape, nodes={}, edges={(e.source, e.target): 1.0 for e in edges})

    return {"colors": through("a0.h0"), "ways": through("a0.h1")}


def test_two_planted_circuits_hurt_their_own_task_alone(runs, planted):
    found = cross_damage(list(planted.values()), list(runs.values()))
    assert found == pytest.approx(np.eye(2), abs=1e-6)
    one = specificity(planted["colors"], runs["colors"], others=[runs["ways"]], draws=4)
    assert one.value == pytest.approx(1.0, abs=1e-6) and one.interval().low == pytest.approx(1.0, abs=1e-6)
    # every random path is one of the two circuits, through values or through where nothing is read
    assert set(np.round(one.own.random_drops, 6)) | set(np.round(one.others[0].random_drops, 6)) <= {0.0, 1.0}


def test_the_same_task_twice_loses_the_same(runs, planted):
    both = Circuit.build(
        shape=planted["colors"].shape,
        nodes={},
        edges={(e.source, e.target): 1.0 for c in planted.values() for e in c.parsed_edges},
    )
    same = specificity(both, runs["colors"], others=[runs["colors"]] * 3, draws=2)
    assert same.value == 0.0 and same.interval()[:2] == (0.0, 0.0) and not same.random.any()
    shared = specificity(both, runs["colors"], others=[runs["ways"]], draws=0)
    assert shared.own.drop == pytest.approx(1.0) and shared.value == pytest.approx(0.0, abs=1e-6)


def damage(task: str, without: list[float], random: float, **changes) -> TaskDamage:
    told = {"task": task, "metric": "logit-difference", "unit": "logits", "pairs": task} | changes
    full, nothing = np.full(len(without), 4.0), np.zeros(len(without))
    return TaskDamage(
        full=full, without=np.array(without), nothing=nothing, random=np.array([random] * 10), **told
    )


def by_hand(n: int = 24, *, other: float = 3.0, random: float = 3.0) -> Specificity:
    """Its own task keeps 1 of 4; others keep 3, 2 and ``other``."""
    others = [damage(t, [v] * n, 3.0) for t, v in (("b", 3.0), ("c", 2.0), ("d", other))]
    own = damage("a", [1.0] * n, random)
    return Specificity(own=own, others=tuple(others), sizes=(2,) * 10, seed=0)


def test_it_is_the_difference_of_lost_shares_by_hand():
    found = by_hand()
    assert [d.drop for d in (found.own, *found.others)] == [0.75, 0.25, 0.5, 0.25]
    assert found.value == pytest.approx(0.75 - 1 / 3) and found.random.tolist() == [0.0] * 10
    assert found.rows()[0]["loses of its gap"] == 0.75 and "its task loses 75.0%" in found.sentence()


def test_the_interval_is_of_pairs_with_all_of_their_values():
    without = np.random.default_rng(0).normal(2.0, 1.0, 400)
    own = damage("a", without.tolist(), 3.0)
    others = tuple(damage(name, [2.0] * 400, 3.0) for name in "bcd")
    found = Specificity(own=own, others=others, sizes=(2,) * 10, seed=0).interval()
    assert found.stderr == pytest.approx(without.std() / 4 / np.sqrt(400), rel=0.1)
    copied = damage("a", [*without, *without], 3.0, clusters=tuple(range(400)) * 2)
    doubled = Specificity(own=copied, others=others, sizes=(2,) * 10, seed=0).interval()
    assert doubled.stderr == pytest.approx(found.stderr, rel=0.1)  # copies tell nothing new


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (by_hand(), True),
        (by_hand(n=8), None),  # too few pairs
        (by_hand(random=1.0), False),  # random circuits of its size do as much
        (by_hand(other=-3.0), False),  # others lose more: 25 %, 50 %, 175 %
    ],
)
def test_the_verdict_follows_from_the_numbers(found, holds):
    n = len(found.own.full)
    scores = {name: [1.0] * n for name in ("model", "circuit", "nothing", "complement")}
    document = {
        "criteria": asdict(Criteria()),
        "pairs": {"ids": [str(i) for i in range(n)], "groups": [""] * n},
        "direction": 1,
        "unit": "logits",
        "evidence": {"scores": scores, "specificity": found.to_dict()},
        "missing": {},
    }
    verdict = recompute_verdicts(document)[-1]
    assert verdict.name == "specific" and verdict.holds is holds, verdict
    del document["evidence"]["specificity"]  # files of before it was asked
    assert "specific" not in [v.name for v in recompute_verdicts(document)]
    document["missing"] = {"specificity": "no other task"}
    assert recompute_verdicts(document)[-1].measured == "no other task"


def test_an_evaluation_has_it_in_file_and_page(runs, planted, tmp_path):
    plan = JudgePlan(draws=2, cuts=2, edges=1, matched=1, random_sets=1, restarts=1, steps=1, candidates=1)
    others = OtherTasks(runs=(runs["ways"],), skipped={"sums": "no: answers as guessing does"}, least=1)
    found = judge(planted["colors"], runs["colors"], others=others, plan=plan)
    assert found["specific"].value == pytest.approx(1.0, abs=1e-6)
    files = save_evaluation(found, tmp_path)
    again = load_evaluation(tmp_path)
    assert again["specific"] == found["specific"]
    page = Path(files["page"]).read_text()
    assert "Its task&#x27;s own?" in page and "sums" in page
    few = judge(planted["colors"], runs["colors"], others=OtherTasks(runs=()), plan=plan)
    assert few["specific"].holds is None and "3 are needed" in few.document["missing"]["specificity"]


def test_tasks_that_the_model_does_not_do_are_left_out_or_refused(runs):
    found = other_tasks(runs["colors"])
    assert not found.runs and len(found.skipped) > 10 and "3 are needed" in found.lack
    with pytest.raises(OptionError, match="3 are needed"):
        specificity(Circuit.build(shape=runs["colors"].wiring.shape(), nodes={}, edges={}), runs["colors"])
