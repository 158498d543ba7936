"""Pairs that share a clean prompt, on a model: what is measured on them knows it, and a plain task has no groups."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.edits.kinds import Rows
from workbench.edits.measure import measure_edit
from workbench.engine.direct_logits import direct_logits
from workbench.engine.explained_edge import why
from workbench.engine.of_task import paired_runs
from workbench.evaluate.completeness import completeness
from workbench.evaluate.faithfulness import faithfulness
from workbench.evaluate.minimality import minimality
from workbench.evaluate.stability import stability
from workbench.evaluate.subject import Subject
from workbench.methods.by_name import score
from workbench.model.open import open_model
from workbench.tasks.registry import make_pairs

ROWS = ("clean", "corrupted", "correct", "incorrect")


@pytest.fixture(scope="module")
def model():
    return open_model("zoo:ioi")


def corrupted_twice():
    """Eight clean prompts, each with two corrupted partners."""
    every = [pair for how in ("s2-flip", "abc") for pair in make_pairs("ioi", n=8, seed=1, corruption=how)]
    return [{name: getattr(pair, name) for name in ROWS} for pair in every]


def test_what_is_measured_on_grouped_pairs_knows_their_groups(model):
    runs = paired_runs(model, corrupted_twice())
    circuit = score(runs, "eap").top(40)
    subject = Subject(runs=runs, circuit=circuit)
    assert faithfulness(circuit, runs).to_dict()["clusters"] == 8
    assert minimality(subject, limit=1).to_rows()[0]["clusters"] == 8
    rows = completeness(subject, random_sets=1, restarts=0).to_rows()
    assert all(row["clusters"] == 8 for row in rows)
    edit = Rows(heads=("a2.h2",), operation="set", queries=("end",), keys=(0,))
    assert {row["clusters"] for row in measure_edit(edit, runs).rows} == {8}


def test_pairs_of_a_task_are_as_they_were(model):
    runs = paired_runs(model, "ioi", n=8)
    circuit = score(runs, "eap").top(40)
    assert "clusters" not in faithfulness(circuit, runs).to_dict()
    chosen = score(runs, "eap").keep("5%")
    assert stability(chosen, runs, draws=2, refits=0).note == ""


def test_errors_of_logits_and_reasons_count_groups_not_pairs(model):
    runs = paired_runs(model, corrupted_twice())  # the clean run of pairs i and i + 8 is one
    parts, reason = direct_logits(runs, ablation=None), why(runs, "a2.h2->logits")

    def by_hand(values):
        return values[:8].std(ddof=1) / 8**0.5

    assert (
        np.allclose(parts.values[:, :8], parts.values[:, 8:], atol=1e-4) and parts.to_dict()["clusters"] == 8
    )
    told = {row["part"]: row["stderr"] for row in parts.rows()}
    assert told == pytest.approx(dict(zip(parts.labels, map(by_hand, parts.values), strict=True)), rel=1e-3)
    assert parts.lens.rows()[-1]["stderr"] == pytest.approx(by_hand(parts.lens.values[-1]), rel=1e-3)
    terms = reason.rankings[0]
    told = {row["term"]: row["stderr"] for row in terms.rows()}
    assert told == pytest.approx(
        dict(zip(terms.labels, map(by_hand, terms.values), strict=True)), rel=1e-3, abs=1e-5
    )
