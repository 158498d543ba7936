"""How much a circuit varies: on templates, halves and a null task, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.circuits.variance import Variance
from workbench.core.errors import OptionError
from workbench.engine.of_task import paired_runs
from workbench.evaluate.faithfulness import faithfulness
from workbench.evaluate.variance import deranged, variance
from workbench.methods.by_name import score
from workbench.model.open import open_model
from workbench.tasks.pairs import Pairs


@pytest.fixture(scope="module")
def runs():
    return paired_runs(open_model("zoo:ioi", device="cpu"), "ioi", n=64, split="train")


def test_templates_and_single_pairs_are_those_of_a_plain_loop(runs):
    circuit = score(runs, "eap").top(30)
    found = variance(circuit, runs, draws=3, splits=3)
    groups = [pair.group for pair in runs.pairs.pairs]
    assert set(found.templates) == {g for g in groups if groups.count(g) >= 4} and len(found.templates) > 1
    alone = {g: runs.subset([i for i, one in enumerate(groups) if one == g]) for g in found.templates[:2]}
    own = {g: score(one, "eap").top(30) for g, one in alone.items()}
    for i, row in enumerate(found.templates[:2]):
        for j, column in enumerate(found.templates[:2]):
            a, b = set(own[row].edges), set(own[column].edges)
            assert found.overlap[i, j] == pytest.approx(len(a & b) / len(a | b))
            expected = faithfulness(own[row], alone[column]).faithfulness
            assert found.faithfulness[i, j] == pytest.approx(expected, abs=1e-4)
    single = faithfulness(circuit, runs.subset([5])).faithfulness
    assert found.each[5] == pytest.approx(single, abs=1e-4) and len(found.halves) == 3
    assert found.variation == pytest.approx(found.each.std(ddof=1) / found.each.mean())
    again = Variance.from_dict(found.to_dict())
    assert again.facts() == found.facts()


def test_on_a_null_task_no_pair_keeps_its_answers_and_prompts_stay(runs):
    null = deranged(runs)
    for own, other in zip(runs.pairs.pairs, null.pairs.pairs, strict=True):
        assert own.clean == other.clean and own.correct + own.incorrect != other.correct + other.incorrect
    assert sorted(null.pairs.correct) == sorted(runs.pairs.correct)
    assert abs(null.clean.mean()) < abs(runs.clean.mean()) / 3  # the model does not do it
    one = runs.pairs.pairs[0]
    same = Pairs(items=(one, one), task="same")
    with pytest.raises(OptionError, match="no null task"):
        deranged(paired_runs(runs.model, same))


def test_all_pairs_alike_do_not_vary():
    whole = np.ones((2, 2))
    made = Variance(
        templates=("a", "b"),
        overlap=whole,
        faithfulness=whole * 0.5,
        halves=(1.0,),
        resampled=1.0,
        null=0.5,
        each=np.array([0.5, 0.5, np.nan]),
    )
    assert (made.over_null, made.variation, made.quantiles((0.5,))) == (2.0, 0.0, (0.5,))
