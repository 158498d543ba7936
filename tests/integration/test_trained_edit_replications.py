"""Soft injection and LoFiT as replications: verdicts that can go both ways, and prompts that never meet."""

from __future__ import annotations

import numpy as np
import pytest

from tests.families import VOCABULARY
from workbench.circuits.verdicts.statistics import mean_interval
from workbench.core.errors import OptionError, TaskError
from workbench.core.stats.crossed import crossed_interval
from workbench.core.stats.permutation import groupings
from workbench.edits.task_prompts import Split, prompts_of
from workbench.edits.unasked import make_task
from workbench.model.open import open_model
from workbench.papers import find_replication, lofit, soft_injection
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions
from workbench.tasks.mappings import KINDS


@pytest.fixture(scope="module")
def icl():
    return open_model("zoo:icl")


def findings(model, name: str, *options: str):
    chosen = find_replication(name)
    made = chosen.make_options(options)
    return chosen.run(Setting(model=model, name="zoo:icl", options=made))


def verdict(claims, words: str) -> str:
    (found,) = [claim for claim in claims if words in claim.claim]
    return found.verdict


# -- soft injection -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def injected(icl):
    small = ("steps=12", "prompts=12", "test=11", "tasks=letter-to-animal,person-to-city", "shots=5")
    return findings(icl, "soft-injection", *small)


def test_a_small_run_says_what_was_measured(injected):
    claims = injected.claims
    assert len(claims) == 9 and all(claim.reason and claim.source for claim in claims)
    assert verdict(claims, "made from (clean") == "cannot be tested here"  # nothing left to gain
    assert verdict(claims, "carries over") == "cannot be tested here"  # two tasks, not similar
    means = injected.numbers["means"]
    soft, none, random = (means[f"clean examples, {n}"] for n in ("soft", "no examples", "random vectors"))
    assert soft > none + 0.3 and soft >= random


def test_the_same_seed_gives_the_same_numbers(icl, injected):
    small = ("steps=12", "prompts=12", "test=11", "tasks=letter-to-animal,person-to-city", "shots=5")
    assert str(findings(icl, "soft-injection", *small).numbers) == str(injected.numbers)  # some are NaN


def made(groups: list[int], cost: np.ndarray, **right: float) -> Conditions:
    """Eight tasks of 25 prompts with these accuracies; what another task's mix costs."""
    parts = {f"task {i}": Conditions() for i in range(8)}
    for part in parts.values():
        for kind in (soft_injection.CLEAN, soft_injection.MISLED):
            for name, share in right.items():
                part[f"{kind}, {name.replace('_', ' ')}"] = np.arange(25) < round(25 * share)
    c = Conditions.joined(parts, crossed=True)
    soft_injection.judge_better(c)
    soft_injection.judge_transfer(c, 1 - cost, groups)
    for name, value in (("near ends", 0.9), ("near ends, random vectors", 0.2)):
        c.add(name, np.full(8, value))
    for name, value in (("effects and alpha", 1.0), ("effects and alpha, random vectors", -1.0)):
        c.add(name, np.full(8, value))
    return c


ALL = {
    "no_examples": 0.1, "examples": 0.7, "soft": 0.96, "one_prompt": 0.9, "hard_heads": 0.6, "function_vector": 0.4,
    "random_vectors": 0.1, "other_task": 0.0, "other_task's_answer": 0.9,
}  # fmt: skip


def exchanged(n: int, *, similar: float, dissimilar: float) -> tuple[list[int], np.ndarray]:
    """Tasks in pairs, the last three a group if their number is odd, and what another task's mix costs."""
    group = np.minimum(np.arange(n) // 2, n // 2 - 1)
    alike = group[:, None] == group[None]
    return group.tolist(), np.where(np.eye(n, dtype=bool), 0.0, np.where(alike, similar, dissimilar))


def judged(spread: tuple[list[int], np.ndarray] | None = None, **changed: float):
    c = made(*(spread or exchanged(7, similar=0.02, dissimilar=0.5)), **(ALL | changed))
    return soft_injection.REPLICATION.judge(c)


def p_of(spread: tuple[list[int], np.ndarray]) -> float:
    return soft_injection.CLAIMS["transfer"].by(made(*spread, **ALL)).p


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("makes the model do the task", {"random_vectors": 0.96}),  # tuning alone would do it
        ("made from (misleading", {"soft": 0.72}),
        ("single prompt", {"one_prompt": 0.6}),
        ("hard choice", {"function_vector": 0.96}),
        ("which task is done", {"other_task": 0.9}),  # the embedding does not matter
    ],
)
def test_verdicts_go_both_ways(words, changed):
    assert verdict(judged(), words) == "holds"
    assert verdict(judged(**changed), words) == "fails"


def test_transfer_is_judged_by_the_difference():
    alike = exchanged(7, similar=0.05, dissimilar=0.06)
    assert verdict(judged(), "carries over") == "holds" and verdict(judged(alike), "carries over") == "fails"
    costly = exchanged(7, similar=0.4, dissimilar=0.9)
    assert verdict(judged(costly), "carries over") == "fails"


def test_six_tasks_in_three_pairs_are_too_few_to_permute():
    six, seven = (exchanged(n, similar=0.0, dissimilar=0.5) for n in (6, 7))
    assert (
        groupings(six[0]) == 15 and groupings(seven[0]) == 105
    )  # by hand: 5 * 3, and 35 triples * 3 matchings
    assert p_of(six) == pytest.approx(1 / 15) and p_of(seven) == pytest.approx(1 / 105)
    assert verdict(judged(six), "carries over") == "cannot be tested here"
    eight = exchanged(8, similar=0.0, dissimilar=0.5)
    assert groupings(eight[0]) == 105 and 0 < p_of(eight) < 0.03  # drawn permutations


def test_one_task_that_differs_does_not_make_pairs_significant():
    groups, cost = exchanged(7, similar=0.0, dissimilar=0.0)
    cost[1:, 0] = 1.0  # one task fails under every mix but its own: its six pairs are no independent draws
    assert p_of((groups, cost)) > 0.05


def test_the_interval_is_as_wide_as_tasks_differ():
    rows = [np.full(11, float(i < 3)) for i in range(6)]  # right in all questions of half of the tasks
    low, high, stderr = crossed_interval(rows)
    assert stderr == pytest.approx(0.5 / 6**0.5, rel=0.1) and low < 0.2 and high > 0.8
    assert (
        mean_interval(np.concatenate(rows)).stderr < 0.4 * stderr
    )  # what resampling prompts would have said
    low, high, stderr = crossed_interval([np.arange(11) < 5] * 6)
    assert stderr == pytest.approx((5 / 11 * 6 / 11 / 11) ** 0.5, rel=0.1)


def test_a_small_gain_over_random_vectors_is_not_enough():
    assert verdict(judged(random_vectors=0.6), "makes the model do the task") == "holds"
    assert verdict(judged(random_vectors=0.8), "makes the model do the task") == "fails"  # 0.16 above


def test_a_model_that_does_not_learn_from_examples_cannot_be_asked():
    claims = judged(examples=0.3)
    assert {claim.verdict for claim in claims} == {"cannot be tested here"} and "32%" in claims[
        0
    ].why  # 8 of 25


def test_a_model_of_other_words_is_refused_with_the_reason(bridge_of):
    assert "koala" not in VOCABULARY
    with pytest.raises(TaskError, match="does not know"):
        findings(bridge_of("llama"), "soft-injection")


def test_splits_never_meet():
    split = Split.drawn(0)
    parts = [set(split.training), set(split.validation), set(split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 26
    assert Split.drawn(1) != split


def test_an_embedding_sees_no_word_of_validation_or_test(icl):
    split = Split.drawn(0)
    prompts = prompts_of(icl, "letter-to-animal", split, shots=5, n=20, n_test=11)
    said = set(icl.tokenizer.decode(prompts.single[0]).split())
    kept = {words[i] for words in KINDS.values() for i in (*split.validation, *split.test)}
    assert len(said) > 5 and not said & kept


# -- LoFiT --------------------------------------------------------------------------------------------------


def test_tasks_ask_for_words_that_were_not_trained_on():
    task = make_task("mixed", 0)
    asked = [set(part.prompts) for part in (task.training, task.validation, task.test)]
    assert sum(map(len, asked)) == len(set.union(*asked)) == 5 * 26
    for part in (task.training, task.test):
        assert not set(zip(part.prompts, part.right, strict=True)) & set(
            zip(part.prompts, part.wrong, strict=True)
        )
    unseen = make_task("next-animal", 0).test
    told = dict(zip(unseen.prompts, unseen.right, strict=True))
    assert all(told.get(f"{letter} ->", word) == word for letter, word in (("a", "bear"), ("z", "ant")))
    with pytest.raises(OptionError, match="did you mean"):
        make_task("animal", 0)


@pytest.mark.slow
def test_a_small_run_of_lofit(icl):
    found = findings(
        icl, "lofit", "steps=10", "scale_steps=10", "random=1", "heads=1", "unknown=", "tasks=animals,cities"
    )
    assert len(found.claims) == 6
    assert verdict(found.claims, "fewer trained numbers") in ("holds", "fails")


def tuned(*, own: bool = True, tasks: int = 3, **accuracy: float) -> Conditions:
    """Tasks of 50 prompts about ten places; ``own``: every task chooses four heads of its own."""
    parts = {f"task {i}": Conditions(clusters=range(50)) for i in range(tasks)}
    for part in parts.values():
        part.clusters = [place % 10 for place in range(50)]
        for name, share in accuracy.items():
            part[name] = np.arange(50) < round(50 * share)
    c = Conditions.joined(parts)
    c.numbers |= {"by LoFiT": 32, "by low rank": 1000, "whole model": 10_000, "heads": 4}
    heads = [[f"a0.h{4 * i * own + j}" for j in range(4)] for i in range(tasks)]
    lofit.compare_choices(c, {name: [heads[i]] * len(lofit.SEEDS) for i, name in enumerate(parts)})
    return c


LOFIT = {
    "nothing": 0.1, "ITI": 0.4, "LoFiT": 0.9, "random heads": 0.5, "another task's heads": 0.6, "low rank": 0.86,
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("inference-time intervention)", {"ITI": 0.12}),
        ("better than inference-time", {"ITI": 0.94}),
        ("better than random heads", {"random heads": 0.9}),  # any head would do
        ("do worse than the task's own", {"another task's heads": 0.9}),
        ("low-rank", {"low rank": 1.0}),
        (
            "low-rank",
            {"low rank": 0.9},
        ),  # equal in ten places of ten: the eleventh may lack more than is allowed
    ],
)
def test_lofit_verdicts_go_both_ways(words, changed):
    assert verdict(lofit.REPLICATION.judge(tuned(**LOFIT)), words) == "holds"
    assert verdict(lofit.REPLICATION.judge(tuned(**(LOFIT | changed))), words) == "fails"


def test_heads_of_tasks_are_compared_by_permuting_tasks():
    words = "choose different heads"
    assert verdict(lofit.REPLICATION.judge(tuned(**LOFIT)), words) == "holds"
    assert (
        verdict(lofit.REPLICATION.judge(tuned(own=False, **LOFIT)), words) == "fails"
    )  # the same heads for all
    few = lofit.REPLICATION.judge(tuned(tasks=2, **LOFIT))
    assert verdict(few, words) == "cannot be tested here"  # six choices in two threes: ten ways


def test_where_offsets_do_nothing_the_choice_of_heads_cannot_be_judged():
    idle = {"nothing": 0.1, "LoFiT": 0.1, "random heads": 0.1, "another task's heads": 0.1}
    claims = lofit.REPLICATION.judge(tuned(**(LOFIT | idle)))
    assert verdict(claims, "better than random heads") == "cannot be tested here"
    assert verdict(claims, "do worse than the task's own") == "cannot be tested here"


def test_another_tasks_heads_are_none_of_the_own():
    from workbench.edits.lofit import Localised

    other = Localised(heads=tuple(f"a0.h{i}" for i in range(4)), norms=(4.0, 3.0, 2.0, 1.0))
    assert other.unlike(("a0.h0", "a0.h2")) == ("a0.h1", "a0.h3")


def test_a_model_that_is_right_already_leaves_nothing_to_repair():
    claims = lofit.REPLICATION.judge(tuned(**(LOFIT | {"nothing": 0.8})))
    assert {claim.verdict for claim in claims} == {"cannot be tested here"}
