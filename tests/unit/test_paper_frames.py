"""Frames that papers share: places of claims, needs that are counted, options that are checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from workbench.core.claims import UNTESTABLE as CANNOT
from workbench.core.errors import OptionError
from workbench.papers.kit import Conditions, at_least, judge_all, untried
from workbench.papers.kit.criteria import area, dealt
from workbench.papers.kit.frames import HALLUCINATED, Control, Reconstructed, answers, enough
from workbench.papers.options import Sizes, options_from, size, words_of


@dataclass(frozen=True, kw_only=True)
class Asked(Sizes):
    """Some options."""

    questions: int = size(600, "that are reported", least=4, most=900)
    tasks: tuple[str, ...] = size(("sort", "copy", "find"), "tasks", several=2)
    noises: tuple[float, ...] = size((0.1, 0.2), "of a table", least=0.05)
    how: Literal["mask", "mean"] = size("mask", "what being away is")
    free: int = 3


def test_options_are_checked_and_say_what_they_are():
    assert words_of(Asked()) == {
        "questions": "that are reported",
        "tasks": "tasks",
        "noises": "of a table",
        "how": "what being away is",
    }
    assert options_from(["questions=4", "how=mean", "noises=0.05"], Asked, "p").how == "mean"
    with pytest.raises(OptionError, match=r"questions is 3; 4 is the least(.|\n)*--set questions=600"):
        options_from(["questions=3"], Asked, "p")
    with pytest.raises(
        OptionError, match=r"questions is 901; there are 900 at most(.|\n)*--set questions=900"
    ):
        options_from(["questions=901"], Asked, "p")
    for wrong in (("sort",), ("sort", "sort"), ()):
        with pytest.raises(
            OptionError, match=r"2 or more different ones are needed(.|\n)*--set tasks=sort,copy"
        ):
            Asked(tasks=wrong)
    with pytest.raises(OptionError, match=r"noises is .*0.05 is the least"):
        Asked(noises=(0.1, 0.01))
    with pytest.raises(OptionError, match=r"how is 'gone'; mask or mean is expected(.|\n)*--set how=mask"):
        Asked(how="gone")


def test_a_need_of_answers_or_counts_says_what_was_found_and_asked_for():
    c = Conditions(numbers={"right": 0.5, "hallucinated": 19, "truly": 30})
    able, errs = answers("right", 0.6), enough("hallucinated", "truly", least=20, of=HALLUCINATED)
    assert (
        not able.met(c) and c.say(able.why) == "50% of the questions are answered rightly; 60% is asked for"
    )
    told = "19 answers yes are hallucinated and 30 right; 20 of each are asked for"
    assert not errs.met(c) and c.say(errs.why) == told
    c.numbers["hallucinated"] = 20
    assert errs.met(c)


def test_what_nothing_can_test_says_so_whatever_the_paper_needs():
    claims = {
        "control": Control("a control", at_least("right", 0.1)),
        "abstract": Reconstructed("a claim", at_least("right", 0.1)),
        "photographs": untried("photographs too", "a benchmark", "there are none here"),
    }
    c = Conditions(numbers={"right": 0.5})
    judged = judge_all(claims, c, authors="Somebody", common=[answers("right", 0.6)])
    assert [claim.verdict for claim in judged] == [CANNOT] * 3
    assert [claim.why for claim in judged][1:] == [
        "50% of the questions are answered rightly; 60% is asked for",
        "there are none here",
    ]
    assert judged[0].source == "a control of ours" and "abstract, reconstructed" in judged[1].source


def test_dealt_labels_tell_a_value_that_goes_with_them_from_one_that_does_not():
    c, truth = Conditions(), np.repeat([0.0, 1.0], 20)
    c["truth"], c["knows"] = truth, truth + np.linspace(0, 0.5, 40)
    c["knows not"] = np.tile([0.0, 1.0], 20)
    tests = [dealt(f"AUROC of {name}", area, name, "truth", draws=200)(c) for name in ("knows", "knows not")]
    assert [test.met for test in tests] == [True, False]
    assert tests[0].found == 1.0 and tests[1].found == 0.5
