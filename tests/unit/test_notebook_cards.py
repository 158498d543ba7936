"""Results in a notebook: static, escaped, with the numbers that matter."""

from __future__ import annotations

import re
from html import unescape
from xml.etree import ElementTree

import pytest

from tests.circuits import HOSTILE, circuit, hostile, scores, small
from workbench.circuits.compare import compare
from workbench.evaluate.roles import HeadRole, HeadRoles
from workbench.tasks.check import CheckReport
from workbench.tasks.pairs_file import Problem
from workbench.view.html import facts_html


def cells(card: str) -> list[str]:
    """Text of all cells, in order; the card must be well-formed."""
    tree = ElementTree.fromstring(f"<div>{card}</div>")
    return ["".join(cell.itertext()) for cell in tree.iter() if cell.tag in ("td", "th")]


def role(name: str) -> HeadRole:
    numbers = {"attention": 0.75, "direct_effect": -1.5, "direct_stderr": 0.25, "n": 8}
    return HeadRole(head="a1.h1", role=name, query="end", key="IO", unit="logits", **numbers)


def test_a_summary_names_heads_by_role_and_paths():
    shown = cells(small().summary()._repr_html_())
    assert shown[shown.index("name mover") + 1] == "a1.h1"
    assert (
        shown[shown.index("edges") + 1] == "6 (13 % of the graph's): 4 positive, 2 negative"
    )  # of 30 into q, k, v + 9 into MLPs + 7
    assert "input → a0.h0<v> → m1 → logits" in shown


def test_a_comparison_says_what_is_shared_and_what_chance_would_share():
    other = circuit({"input->a0.h0<q>": 1.0, "a0.h0->logits": 2.0}, unit="logits")
    shown = cells(compare(small(), other)._repr_html_())
    assert shown[shown.index("shared") + 1] == "3 nodes, 1 edges"  # input, a0.h0, logits; the query edge
    at = shown.index("input->a0.h0<q>")
    assert shown[at : at + 4] == ["input->a0.h0<q>", "0.5", "1", "0.5"]  # A, B, B - A
    at = len(shown) - 1 - shown[::-1].index("edges")
    assert shown[at + 1 : at + 6] == ["6", "2", "46", "1", "0.261"]  # 6 * 2 / 46


def test_roles_show_what_makes_them():
    shown = cells(HeadRoles([role("name mover")])._repr_html_())
    assert shown[-7:] == ["a1.h1", "name mover", "from end at IO", "0.75", "−1.5", "0.25", "8"]
    assert HeadRoles()._repr_html_() == "<p>No head fits a role.</p>"
    assert list(HeadRoles([role("x")]).to_dataframe()["attention"]) == [0.75]


def test_a_check_shows_the_lines_that_do_not_pass():
    wrong = tuple(Problem(line=n, id=f"p{n}", message="not JSON") for n in range(1, 24))
    report = CheckReport(file="x.jsonl", model="", n_pairs=30, n_good=7, problems=wrong, words={})
    card = report._repr_html_()
    assert "7 of 30 pairs" in cells(card) and "p20" in cells(card) and "p21" not in cells(card)
    assert "and 3 more problems" in card


def test_scores_show_their_strongest_edges_first():
    made = scores()
    shown = [text for text in cells(made._repr_html_()) if "->" in text]
    best = [made.to_dataframe()["edge"][i] for i in range(10)]
    assert shown == best


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(text):
    cards = [facts_html({text: text}, caption=text), HeadRoles([role(text)])._repr_html_()]
    cards += [hostile().summary()._repr_html_(), compare(hostile(), small())._repr_html_()]
    problem = (Problem(line=1, id=text, message=text),)
    cards.append(
        CheckReport(file=text, model=text, n_pairs=1, n_good=0, problems=problem, words={})._repr_html_()
    )
    for card in cards:
        cells(card)  # well-formed: nothing has become markup
        assert not re.search("<script|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066]", card)
        assert not re.search("[\x1b\x07\u202e]", unescape(card))
