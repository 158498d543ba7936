"""The kit that papers are written with: criteria, needs, families, a whole paper on made-up numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from workbench.core.claims import UNTESTABLE as CANNOT
from workbench.papers.kit import (
    Claim,
    Conditions,
    above,
    at_least,
    at_most,
    beats_draws,
    below,
    between,
    beyond,
    correlates,
    equal,
    fact,
    flips,
    given_p,
    groups_agree,
    interval_excludes,
    judge_all,
    less,
    more,
    needs,
    no_worse,
    order,
    permuted,
    share_above,
    sign_changes,
    slopes,
    tells,
    untried,
)
from workbench.papers.kit.paper import Paper


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
        (at_most("plain", "edited", times=1 / 3), True, "plain at most a third of edited"),
        (at_least("random", "edited", times=0.7), False, "random at least 70% of edited"),
        (less("plain", 0.25), False, "plain less than 0.25"),
        (more("edited", "random"), True, "edited more than random"),
        (between("plain", 0.25, 0.5), True, "plain between 0.25 and 0.5"),
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
    assert (claim.verdict, claim.why) == (CANNOT, "19 draws cannot give p below 0.05")
    assert claim.control == pytest.approx(0.49) and claim.found == 0.75
    c.draws["random heads"] = [np.full(40, 0.4 + i / 50) for i in range(20)]
    (claim,) = judge_all({"x": Claim("heads matter", beats_draws("edited", "random heads"))}, c)
    assert claim.verdict == "fails"  # two of them are larger


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


def test_a_claim_tells_what_its_criterion_looked_at_and_how_far_it_reaches():
    c = measured(plain=0.25, edited=0.75)
    c.tell("overlap", 0.5, control="none by chance", n=9, around=(0.3, 0.7), p=0.02)
    c.numbers["models"] = 5
    claims = {
        "gain": Claim("it helps", above("edited", "plain")),
        "told": Claim("they share", above("overlap") & beyond("overlap", "other heads"), models="{models}"),
        "other": Claim("so elsewhere", at_least("plain", 0.1), model="zoo:kv"),
        "never": untried("it reasons", "accuracy", "nothing here reasons"),
    }
    gain, told, other, never = judge_all(claims, c)
    low, high, _ = c.interval("edited", "plain")
    assert (gain.found, gain.control, gain.difference, gain.low, gain.high) == (0.75, 0.25, 0.5, low, high)
    assert gain.decided == "holds on this model" and gain.here.startswith("0.75, difference +0.5 [")
    assert told.here == "0.5 [0.3, 0.7], p 0.02" and told.decided == "holds on 5 models" and told.n == 9
    assert told.criterion == "overlap above 0, interval included, and above that of other heads, p below 0.05"
    assert other.decided == "holds on zoo:kv" and never.decided == CANNOT
    assert gain.row(data=True)["here"] == 0.75 and gain.row(data=True)["scope"] == "on this model"


def test_of_several_rules_a_claim_tells_the_one_that_failed():
    """The first rule holds by far, another fails: beside "fails" stand its difference, interval, means, p and n."""
    c = measured(none=0.0, plain=0.25, edited=0.75)
    c["few"] = np.zeros(7)
    c.draws["as large"] = [np.ones(3)] * 40
    gain, loss, even = above("edited", "plain"), above("plain", "edited"), above("few")
    chance, mean = beats_draws("plain", "as large"), at_least("none", 0.5)
    rules = {"second": gain & loss, "third": gain & above("edited", "none") & even, "both": loss & even}
    rules |= {
        "held": mean & gain,
        "by chance": gain & chance,
        "not by chance": beats_draws("edited", "low") & loss,
    }
    c.draws["low"] = [np.zeros(3)] * 40
    found = {name: judge_all({name: Claim("so", rule)}, c)[0] for name, rule in rules.items()}
    assert all(one.verdict == "fails" for one in found.values())
    low, high, _ = c.interval("plain", "edited")
    for name in ("second", "both", "not by chance"):
        one = found[name]
        assert (one.found, one.control, one.difference, one.low, one.high) == (0.25, 0.75, -0.5, low, high)
        assert one.p is None and high < 0
    assert (found["third"].found, found["third"].n, found["third"].difference) == (0.0, 7, None)
    assert found["third"].low == 0.0 < found["third"].high < 0.5  # of seven zeros
    assert (found["held"].found, found["held"].difference) == (
        0.0,
        None,
    )  # no interval of the rule that holds
    assert found["by chance"].p == 1.0 and found["by chance"].difference is None
    both = judge_all({"x": Claim("so", gain & above("edited", "none"))}, c)[0]
    assert (both.verdict, both.found, both.control, both.difference) == ("holds", 0.75, 0.25, 0.5)


def test_two_numbers_are_compared_by_the_interval_of_their_difference():
    c = Conditions()
    for name, value in (("RelP", 0.9), ("AtP", 0.4)):
        c.tell(name, value, n=7, around=(value - 0.1, value + 0.1))
    c.tell("RelP minus AtP", 0.5, around=(0.2, 0.8), p=0.01)
    by = above("RelP", "AtP") & beyond("RelP minus AtP")
    (found,) = judge_all({"x": Claim("better", by)}, c)
    assert (found.found, found.control, found.difference, found.low, found.p) == (0.9, 0.4, 0.5, 0.2, 0.01)
    assert found.criterion == "RelP minus AtP above 0, interval included, and beyond chance, p below 0.05"
    assert [row["number"] for row in c.told()] == ["RelP", "AtP", "RelP minus AtP"] and c.told()[0]["n"] == 7


def test_what_was_not_measured_is_why_a_claim_about_it_cannot_be_tested():
    c = measured(plain=0.25)
    c.lack("facts", "the model answers none")
    found = judge_all(
        {"x": Claim("facts stay", at_least("plain", 0.1) & no_worse("facts", "plain", within=0.1))}, c
    )
    assert (found[0].verdict, found[0].why) == (CANNOT, "the model answers none")


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


def test_items_of_one_cluster_are_drawn_together_by_criteria_about_pairs_of_values():
    """Six clusters of 20 items with one value each are six items: what 120 would show is not seen."""
    held = np.zeros(3)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        c = Conditions(within=None, clusters=np.repeat(range(6), 20), seed=seed)
        c["x"], c["y"] = np.repeat(rng.normal(size=6), 20), np.repeat(rng.normal(size=6), 20)
        c["late"] = np.repeat([0, 0, 0, 1, 1, 1], 20)
        held += [rule(c).holds for rule in (correlates("x", "y"), slopes("x", "y"), tells("x", "late"))]
    assert (held <= 3).all()  # 6, 5 and 5 while items were drawn one by one


@pytest.mark.parametrize(
    "rule",
    [
        above("r"),
        below("r", by=2.0),
        at_least("r", 0.0),
        at_most("r", 1.0),
        interval_excludes("r", value=5.0),
        equal("r", "r", within=1.0),
        no_worse("r", "r", within=1.0),
        order("two", "r"),
        share_above("r", 0.2, least=0.1),
        correlates("r", "up"),
        slopes("r", "up"),
        tells("r", "late"),
        tells("up", "r"),
        groups_agree("r", "up", least=-2.0),
        sign_changes("r", "down"),
        flips("r"),
        beats_draws("r", "draws"),
        given_p("p"),
        at_least("two", 1.0) & given_p("p"),
        permuted("r", lambda labels, c: float(labels[c["r"] > 0.2].mean() * c.mean("r")), lambda c: range(8)),
    ],
)
def test_nothing_holds_of_a_number_that_is_not_there(rule):
    c = Conditions(within=None)
    c.add("r", np.array([0.5, np.nan, *np.full(6, 0.9)]), undefined=True)
    c["up"], c["down"], c["late"] = np.arange(8.0), -np.arange(8.0) - 1, np.arange(8) > 3
    c.draws["draws"] = [np.zeros(8)] * 30
    c.numbers |= {"two": 2.0, "p": float("nan")}
    (claim,) = judge_all({"x": Claim("it is so", rule)}, c)
    assert claim.verdict == CANNOT and "not defined" in claim.why


def test_a_paper_s_own_rule_about_a_number_that_is_not_there_cannot_be_tested():
    claim = Claim("it is so", fact("it is", lambda c: True), found=lambda c: float("nan"), family="all")
    other = Claim("so is this", given_p("p"), family="all")
    nothing, held = judge_all({"x": claim, "y": other}, Conditions(numbers={"p": 0.04}))
    assert (nothing.verdict, nothing.found) == (CANNOT, None) and "not a number" in nothing.why
    assert held.verdict == "holds"


def test_too_few_items_for_any_small_p_are_no_failure():
    c = Conditions(within=None)
    c["four"], c["five"] = np.ones(4), -np.ones(5)
    c.add("one cluster", np.arange(1.0, 5), clusters=[0] * 4)
    c.draws["draws"] = [np.zeros(4)] * 7
    rules = {
        "signs of 4 independent items cannot give p below 0.05": flips("four"),
        "7 draws cannot give p below 0.05": beats_draws("four", "draws") & above("four"),
        "3 labels in other orders cannot give p below 0.05": permuted(
            "r", lambda labels, c: 1.0, lambda c: list("abc")
        ),
        "the interval of one cluster is not defined here: all 4 values are of one cluster": above(
            "one cluster"
        ),
    }
    found = judge_all({why: Claim("x", rule) for why, rule in rules.items()}, c)
    assert [(claim.verdict, claim.why) for claim in found] == [(CANNOT, why) for why in rules]
    assert found[0].found == 1.0 and judge_all({"x": Claim("x", flips("five"))}, c)[0].verdict == "fails"


def test_a_share_in_words_can_be_read_back():
    shares = {0.8: "80%", 0.995: "99.5%", 0.29: "29%", 0.07: "7%", 1 / 3: "33.33333333%"}
    for least, words in shares.items():
        assert share_above("edited", 0.5, least=least).words == f"at least {words} of edited above 0.5"


def test_a_paper_gives_tables_bars_claims_and_numbers_by_itself():
    def measure(setting) -> Conditions:
        c = measured(plain=0.25, edited=0.75)
        c.add("lean", np.linspace(0, 1, 40), unit="nats")
        c.numbers["seed"] = setting
        return c

    @dataclass(frozen=True, kw_only=True)
    class Singles:
        singles: int = 2

    paper = Paper(
        name="none",
        source="P 2024",
        options=Singles,
        controls=(),
        measure=measure,
        claims={"helps": Claim("it helps", above("edited", "plain"), paper=0.5, where="abstract")},
    )
    found = paper.run(3)
    assert found.claims[0].verdict == "holds" and found.claims[0].source == "P 2024, abstract"
    assert [row["condition"] for row in found.tables["Conditions"]] == ["plain", "edited", "lean"]
    (shown,) = found.pictures.values()  # "lean" has no other of its unit: no bar is beside it
    assert [bar.name for bar in shown.bars] == ["plain", "edited"]
    assert (
        found.numbers["means"] == {"plain": 0.25, "edited": 0.75, "lean": 0.5} and found.numbers["seed"] == 3
    )
    assert paper.make_options(["singles=9"]).singles == 9
    assert paper.module == __name__ and paper.about == " ".join(__doc__.split())  # what its file says
