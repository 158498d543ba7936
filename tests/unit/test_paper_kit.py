"""The kit that papers are written with: conditions, criteria, needs, families, a whole paper on made-up numbers."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from workbench.core.errors import RunError, ShapeError
from workbench.core.stats.crossed import crossed_interval
from workbench.core.stats.intervals import CHANGE, SHARE, mean_interval
from workbench.papers.kit import (
    Claim,
    Conditions,
    above,
    at_least,
    at_most,
    beats_draws,
    below,
    correlates,
    equal,
    fact,
    flips,
    groups_agree,
    interval_excludes,
    judge_all,
    needs,
    no_worse,
    order,
    permuted,
    share_above,
    sign_changes,
    slopes,
    tells,
)
from workbench.papers.kit.paper import Paper
from workbench.papers.options import PineSizes


def measured(**shares: float) -> Conditions:
    """Forty items, of which these shares are right."""
    c = Conditions()
    for name, share in shares.items():
        c[name] = np.arange(40) < round(40 * share)
    return c


C = measured(plain=0.25, edited=0.75, random=0.5, nearly=0.725)


@pytest.mark.parametrize(
    ("criterion", "holds", "words"),
    [
        (above("edited", "plain"), True, "edited minus plain above 0, interval included"),
        (above("edited", "plain", by=0.5), False, "edited minus plain above 0.5, interval included"),
        (below("plain", by=0.5), True, "plain below 0.5, interval included"),
        (interval_excludes("plain", "edited"), True, "the interval of plain minus edited excludes 0"),
        (
            no_worse("nearly", "edited", within=0.2),
            True,
            "nearly at most 0.2 below edited, interval included",
        ),
        (no_worse("plain", "edited", within=0.2), False, "plain at most 0.2 below edited, interval included"),
        (equal("nearly", "edited", within=0.01), False, "nearly within 0.01 of edited, interval included"),
        (at_least("edited", 0.3, over="random"), False, "edited minus random at least 0.3"),
        (at_most("plain", 0.3), True, "plain at most 0.3"),
        (order("edited", "random", "plain"), True, "edited above random above plain"),
        (share_above("edited", 0.5, least=0.8), False, "at least 80% of edited above 0.5"),
        (fact("it is so", lambda c: c.n("plain") == 40), True, "it is so"),
        (
            at_least("edited", 0.5) & at_most("plain", 0.1),
            False,
            "edited at least 0.5, and plain at most 0.1",
        ),
    ],
)
def test_a_criterion_says_itself_and_decides(criterion, holds, words):
    assert criterion.words == words and criterion(C).holds is holds and criterion(C).p is None


def test_tests_of_chance_give_a_p_that_the_claim_judges():
    c = measured(plain=0.5, edited=0.75)
    c.draws["random heads"] = [np.full(40, 0.4 + i / 100) for i in range(19)]
    assert beats_draws("edited", "random heads")(c).p == 1 / 20 and c.mean("random heads") == pytest.approx(
        0.49
    )
    assert flips("edited", "plain")(c).p < 0.01  # ten items better, none worse: about 2 ** -10

    def apart(labels: np.ndarray, c: Conditions) -> float:
        return float(c["edited"][labels == 1].mean() - c["edited"][labels == 0].mean())

    same = permuted("halves apart", apart, lambda c: [1] * 20 + [0] * 20)
    assert same(c).p < 0.01 and same.words.startswith("halves apart above 0")
    (claim,) = judge_all({"x": Claim("heads matter", beats_draws("edited", "random heads"))}, c)
    assert claim.verdict == "fails" and claim.control == pytest.approx(0.49)  # p is not below 0.05


@pytest.mark.parametrize(
    ("criterion", "holds", "words"),
    [
        (
            correlates("up", "noisy", least=0.5),
            True,
            "rank correlation of up and noisy at least 0.5, interval above 0",
        ),
        (
            correlates("up", "noise", least=0.0),
            False,
            "rank correlation of up and noise at least 0, interval above 0",
        ),
        (slopes("noisy", "up"), True, "noisy grows with up, interval of the slope included"),
        (slopes("noisy", "up", falls=True), False, "noisy falls with up, interval of the slope included"),
        (tells("noisy", "late"), True, "AUROC of noisy for late above 0.5, interval included"),
        (tells("noise", "late"), False, "AUROC of noise for late above 0.5, interval included"),
        (sign_changes("noisy", "down"), True, "noisy has the other sign than down, intervals included"),
        (sign_changes("noisy", "up"), False, "noisy has the other sign than up, intervals included"),
    ],
)
def test_criteria_about_values_of_the_same_items(criterion, holds, words):
    rng, c = np.random.default_rng(0), Conditions(within=None)
    c["up"] = np.arange(40.0)
    c["noisy"], c["noise"] = c["up"] + 5 * rng.normal(size=40), rng.normal(size=40)
    c["late"], c["down"] = c["up"] >= 20, -c["up"]
    assert criterion(c).holds is holds and criterion.words == words


def test_groupings_agree_or_do_not():
    c = Conditions(within=None)
    c["mine"], c["theirs"] = np.repeat([0, 1, 2], 10), np.repeat([2, 0, 1], 10)
    c["other"] = np.arange(30) % 3
    same, apart = groups_agree("mine", "theirs", least=0.8)(c), groups_agree("mine", "other", least=0.8)(c)
    assert same.holds and same.p < 0.01 and not apart.holds and apart.p > 0.3


def test_a_family_is_corrected_by_holm():
    c = Conditions(clusters=range(6))
    c["a"], c["b"], c["none"] = np.full(6, 0.5), np.array([1, 1, 1, 1, 1, 0.5]), np.zeros(6)
    alone = judge_all({"a": Claim("a", flips("a", "none"))}, c)
    assert alone[0].verdict == "holds"  # p is 1 / 64
    family = {name: Claim(name, flips("a", "none"), family="all") for name in "abcd"}
    assert {claim.verdict for claim in judge_all(family, c)} == {"fails"}  # 4 / 64
    family |= {name: Claim(name, flips("a", "none"), family="all", needs=[NEVER]) for name in "bcd"}
    assert judge_all(family, c)[0].verdict == "holds"  # what cannot be tested does not count


NEVER = needs(lambda c: False, "it cannot")


def test_a_claim_that_cannot_be_tested_says_why_and_keeps_what_it_may():
    able = needs(at_least("plain", 0.5), lambda c: f"{c.mean('plain'):.0%} are right", "control", "n")
    claim = Claim(
        "it helps", above("edited", "plain"), where="a control of ours", why="r", needs=[able, NEVER]
    )
    (found,) = judge_all({"x": claim}, C, authors="P 2024")
    assert found.verdict == "cannot be tested here" and found.why == "25% are right"
    assert (found.found, found.control, found.n, found.source) == (None, 0.25, 40, "a control of ours")
    nothing = judge_all({"x": claim}, Conditions(why="no model"))
    assert nothing[0].why == "no model" and nothing[0].criterion == claim.words_of(C)


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


def test_an_edit_is_asked_when_it_is_set_and_undone():
    model = [0.25]
    c = Conditions(model=model, score=lambda m: np.full(4, m[0]))
    c["nothing"], c["doubled"] = None, Doubled()
    assert c.mean("nothing") == 0.25 and c.mean("doubled") == 0.5 and model == [0.25]
    with pytest.raises(RunError, match="an edit is measured by a score"):
        Conditions()["nothing"] = None


def test_mistakes_are_explained():
    with pytest.raises(RunError, match="did you mean edited"):
        C.mean("editde")
    c = measured(plain=0.5)
    c["other"] = np.zeros(3)
    with pytest.raises(ShapeError, match="they are paired"):
        c.mean("plain", "other")


def test_a_paper_gives_tables_bars_claims_and_numbers_by_itself():
    def measure(setting) -> Conditions:
        c = measured(plain=0.25, edited=0.75)
        c.add("lean", np.linspace(0, 1, 40), unit="nats")
        c.numbers["seed"] = setting
        return c

    paper = Paper(
        name="pine",
        authors="P 2024",
        about="",
        options=PineSizes,
        controls=(),
        measure=measure,
        claims={"helps": Claim("it helps", above("edited", "plain"), paper=0.5, where="abstract")},
    )
    found = paper.run(3)
    assert found.claims[0].verdict == "holds" and found.claims[0].source == "P 2024, abstract"
    assert [row["condition"] for row in found.tables["Conditions"]] == ["plain", "edited", "lean"]
    assert (
        len(found.pictures) == 2 and found.numbers["means"]["edited"] == 0.75 and found.numbers["seed"] == 3
    )
    assert paper.make_options(["singles=9"]).singles == 9 and paper.paper.title.startswith("Eliminating")
