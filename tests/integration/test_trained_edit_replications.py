"""Soft injection and LoFiT as replications: verdicts that can go both ways, and prompts that never meet."""

from __future__ import annotations

import numpy as np
import pytest

from tests.families import VOCABULARY
from workbench.errors import OptionError, TaskError
from workbench.model.open import open_model
from workbench.replications import find_replication, lofit, soft_injection
from workbench.replications.kinds import Setting
from workbench.replications.lofit import Measured as Tuned
from workbench.replications.lofit_tasks import make_task, matched_heads
from workbench.replications.soft_injection_measures import Measured, Transfer
from workbench.replications.soft_injection_prompts import Split


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
    assert verdict(claims, "makes the model do the task") == "holds"
    assert verdict(claims, "made from (clean") == "cannot be tested here"  # nothing left to gain
    assert verdict(claims, "carries over") == "cannot be tested here"  # two tasks, not similar
    clean = injected.numbers["clean"]["letter-to-animal"]["accuracy"]
    assert clean["soft"] > clean["random vectors"] + 0.3


def test_the_same_seed_gives_the_same_numbers(icl, injected):
    small = ("steps=12", "prompts=12", "test=11", "tasks=letter-to-animal,person-to-city", "shots=5")
    assert findings(icl, "soft-injection", *small).numbers == injected.numbers


def made(**right: float) -> dict[str, Measured]:
    """Eight tasks of 25 prompts with these accuracies."""
    rows = {name.replace("_", " "): np.arange(25) < round(25 * share) for name, share in right.items()}
    alpha = np.linspace(0, 1, 32).reshape(4, 8)
    return {
        f"task {i}": Measured(
            right=rows,
            alpha=alpha,
            alpha_random=alpha[::-1],
            effects=alpha,
            near_ends=0.9,
            near_ends_best=0.5,
            near_ends_random=0.2,
            n_hard=4,
        )
        for i in range(8)
    }


ALL = {
    "no_examples": 0.1, "examples": 0.7, "soft": 0.96, "one_prompt": 0.9, "hard_heads": 0.6, "function_vector": 0.4,
    "random_vectors": 0.1, "other_task": 0.0, "other_task's_answer": 0.9,
}  # fmt: skip


def judged(spread: Transfer | None = None, **changed: float):
    numbers = made(**(ALL | changed))
    spread = spread or Transfer(
        names=("a", "b"), accuracy=np.eye(2), similar=np.full(8, 0.02), dissimilar=np.full(40, 0.5)
    )
    return soft_injection._claims(numbers, numbers, spread, 0)


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
    same = np.random.default_rng(0).normal(0.05, 0.02, 48)
    alike = Transfer(names=("a", "b"), accuracy=np.eye(2), similar=same[:8], dissimilar=same[8:])
    assert verdict(judged(), "carries over") == "holds" and verdict(judged(alike), "carries over") == "fails"
    assert alike.p(0) > 0.05


def test_a_model_that_does_not_learn_from_examples_cannot_be_asked():
    clean = made(**(ALL | {"examples": 0.3}))
    assert not soft_injection._learns(clean)
    claim = soft_injection._unlearned(judged()[0], clean)
    assert claim.verdict == "cannot be tested here" and "32%" in claim.why  # 8 of 25


def test_a_model_of_other_words_is_refused_with_the_reason(bridge_of):
    assert "koala" not in VOCABULARY
    with pytest.raises(TaskError, match="does not know"):
        findings(bridge_of("llama"), "soft-injection")


def test_splits_never_meet():
    split = Split.drawn(0)
    parts = [set(split.training), set(split.validation), set(split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 26
    assert Split.drawn(1) != split


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


def test_random_heads_match_the_layers():
    rng = np.random.default_rng(0)
    for _ in range(20):
        drawn = matched_heads(("a0.h1", "a2.h0", "a2.h3"), 4, rng)
        assert sorted(head[:2] for head in drawn) == ["a0", "a2", "a2"]
        assert not {"a0.h1", "a2.h0", "a2.h3"} & set(drawn) and len(set(drawn)) == 3
    assert set(matched_heads(("a0.h0", "a0.h1", "a0.h2"), 4, rng)) <= {f"a0.h{i}" for i in range(4)}


@pytest.mark.slow
def test_a_small_run_of_lofit(icl):
    found = findings(
        icl, "lofit", "steps=10", "scale_steps=10", "random=1", "heads=1", "unknown=", "tasks=animals,cities"
    )
    assert len(found.claims) == 6
    assert verdict(found.claims, "fewer trained numbers") in ("holds", "fails")


def tuned(**accuracy: float) -> dict[str, Tuned]:
    """Two tasks of 50 prompts; ``own`` and ``again`` are heads chosen by two seeds."""
    from workbench.edits.lofit import Localised

    def heads(*first: int) -> Localised:
        order = [*first, *(i for i in range(8) if i not in first)]
        return Localised(heads=tuple(f"a0.h{i}" for i in order), norms=tuple(range(8, 0, -1)))

    names = [("nothing", 0), ("ITI", 4), ("low rank", 4)]
    names += [(name, k) for k in (1, 4) for name in ("LoFiT", "random heads", "another task's heads")]
    return {
        f"task {i}": Tuned(
            localised=heads(*range(4 * i, 4 * i + 4)),
            again=heads(*range(4 * i, 4 * i + 3)),
            probes=np.zeros((1, 8)),
            iti=(4, 1.0),
            right={(n, k): (np.arange(50) < round(50 * accuracy[n])).astype(float) for n, k in names},
            parameters={(n, k): 1000 if n == "low rank" else 8 * k for n, k in names},
        )
        for i in range(2)
    }


LOFIT = {
    "nothing": 0.1, "ITI": 0.4, "LoFiT": 0.9, "random heads": 0.5, "another task's heads": 0.6, "low rank": 0.92,
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ("inference-time intervention)", {"ITI": 0.12}),
        ("better than inference-time", {"ITI": 0.94}),
        ("better than random heads", {"random heads": 0.9}),  # any head would do
        ("another task do worse", {"another task's heads": 0.9}),
        ("low-rank", {"low rank": 1.0}),
    ],
)
def test_lofit_verdicts_go_both_ways(icl, words, changed):
    setting = Setting(model=icl, name="zoo:icl", options=lofit.Options())
    assert verdict(lofit._claims(setting, tuned(**LOFIT)), words) == "holds"
    assert verdict(lofit._claims(setting, tuned(**(LOFIT | changed))), words) == "fails"


def test_a_model_that_is_right_already_leaves_nothing_to_repair(icl):
    setting = Setting(model=icl, name="zoo:icl", options=lofit.Options())
    claims = lofit._claims(setting, tuned(**(LOFIT | {"nothing": 0.8})))
    assert {claim.verdict for claim in claims} == {"cannot be tested here"}
