"""Conditions of a paper: values by name, their intervals and clusters, texts with what was measured, mistakes."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from workbench.core.errors import OptionError, RunError, ShapeError
from workbench.core.stats.crossed import crossed_interval
from workbench.core.stats.intervals import CHANGE, SHARE, mean_interval
from workbench.papers.kit import (
    Claim,
    Conditions,
    at_least,
    judge_all,
    needs,
    untried,
)


def test_a_text_tells_what_was_measured():
    c = Conditions(numbers={"r": {"heads": 0.5, "all: MLPs": [1, 2]}, "pairs": 9})
    c["plain"], c["edited"] = np.array([0.0, 1.0, 0.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0])
    assert c.say("{r[heads]:.2f} of {pairs}, {r[all: MLPs][1]} {{}}") == "0.50 of 9, 2 {}"
    low, high, _ = c.interval("edited", "plain")
    told = "{edited minus plain:+.0%} [{low of edited minus plain}, {high of edited minus plain}], n {n of plain}"
    assert c.say(told) == f"+50% [{low}, {high}], n 4"
    assert (c.say("{pairs}"), c.say("{edited}"), c.mean("r[heads]")) == (9, 0.75, 0.5)  # one field: its value
    with pytest.raises(RunError, match="no condition called 'edit'"):
        c.say("{edit:.2f}")
    (never,) = judge_all({"a": untried("it reasons", "accuracy", "nothing here reasons")}, c)
    assert (never.verdict, never.why) == ("cannot be tested here", "nothing here reasons")
    few = Claim("it copies", at_least("plain", 1), needs=[needs(at_least("pairs", 10), "only {pairs} pairs")])
    assert judge_all({"a": few}, c)[0].why == "only 9 pairs"


def test_intervals_are_of_items_clusters_or_tasks_and_items():
    values = np.random.default_rng(0).random(30)
    c = Conditions(clusters=[i // 3 for i in range(30)])
    c["x"], c["y"] = values, values / 2
    assert (
        c.interval("x") == pytest.approx(mean_interval(values, within=SHARE, clusters=c.clusters))
        and c.n("x") == 10
    )
    assert c.interval("x", "y") == pytest.approx(
        mean_interval(values / 2, within=CHANGE, clusters=c.clusters)
    )
    parts = {name: Conditions() for name in ("one", "two", "three")}
    for i, part in enumerate(parts.values()):
        part["x"] = values[10 * i : 10 * i + 10]
    joined = Conditions.joined(parts, crossed=True)
    assert joined.interval("x") == crossed_interval(np.split(values, 3), within=SHARE)
    assert joined.mean("x") == pytest.approx(values.mean())


class Doubled:
    """An edit of a "model" that is a list with one number."""

    @contextmanager
    def on(self, model):
        model[0] *= 2
        yield
        model[0] /= 2


def test_a_cluster_has_one_name_for_interval_and_count():
    c = Conditions(clusters=[("a", "x"), ("a", "x"), ("b", "y"), ("b", "y")])  # read as a table: IndexError
    c["x"] = np.array([0.0, 0.0, 1.0, 0.5])
    assert c.n("x") == 2 and c.interval("x") == mean_interval(np.array([0.0, 0.75]), within=SHARE)
    mixed = Conditions(clusters=[1, "1", 2, "2"])
    mixed["x"] = np.array([0.0, 1.0, 0.5, 0.25])
    assert mixed.n("x") == 4 and mixed.interval("x") == mean_interval(mixed["x"], within=SHARE)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused_by_name(bad):
    values = np.array([0.0, bad, 1.0])
    c = Conditions(within=None, score=lambda model: values, model=object())
    for value in (values, None):
        with pytest.raises(
            OptionError, match=r"edited: 1 of 3 values are not finite, the first .* at item 1"
        ):
            c["edited"] = value
    with pytest.raises(OptionError, match="random, draw 2: 1 of 3 values"):
        c.draws["random"] = [np.zeros(3), values]
    assert "edited" not in c and "random" not in c and "random" not in c.draws
    c.add("r", np.array([0.0, np.nan, 1.0]), undefined=True)
    with pytest.raises(OptionError, match="at item 2"):
        c.add("r", np.array([0.0, np.nan, np.inf]), undefined=True)


def test_an_edit_is_asked_when_it_is_set_and_undone():
    model = [0.25]
    c = Conditions(model=model, score=lambda m: np.full(4, m[0]))
    c["nothing"], c["doubled"] = None, Doubled()
    assert c.mean("nothing") == 0.25 and c.mean("doubled") == 0.5 and model == [0.25]
    with pytest.raises(RunError, match="an edit is measured by a score"):
        Conditions()["nothing"] = None


def test_mistakes_are_explained():
    c = Conditions()
    c["plain"], c["edited"] = np.zeros(4), np.ones(4)
    with pytest.raises(RunError, match="did you mean edited"):
        c.mean("editde")
    c["other"] = np.zeros(3)
    with pytest.raises(ShapeError, match="they are paired"):
        c.mean("plain", "other")


def test_heads_are_drawn_by_address_or_as_a_grid():
    c = Conditions()
    c.draw_heads("by address", {"a0.h1": 1.0, "a1.h0": -1.0}, unit="nats")
    c.draw_heads("as a grid", np.array([[np.nan, 1.0], [-1.0, np.nan]]), unit="nats")
    assert c.pictures["by address"].values == c.pictures["as a grid"].values == ((None, 1.0), (-1.0, None))
    assert c.pictures["by address"].rows == ("layer 0", "layer 1")
