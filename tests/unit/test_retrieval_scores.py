"""The retrieval score by hand: attention rows written down, no weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.core.errors import OptionError, ShapeError
from workbench.heads.alike import copying, correlation, fewest_heads, least_loss, model_row
from workbench.heads.retrieval import Needle, RetrievalScores, copied, copied_share, recall_of

# Tokens 10..17 at positions 0..7; the needle is 13 14 15 at positions 3 to 5.
NEEDLE = Needle(prompt=tuple(range(10, 18)), start=3, end=6)


def looks_at(*keys: int) -> torch.Tensor:
    """Rows of one head (step, key): 0.6 at the key of each step, the rest spread over all others."""
    rows = torch.full((len(keys), 10), 0.4 / 9)
    rows[torch.arange(len(keys)), list(keys)] = 0.6
    return rows


def score(rows, tokens, needle=NEEDLE, **options) -> float:
    return float(copied_share(copied(rows, tokens, needle), tokens, needle.answer, **options))


def test_a_head_that_reads_each_needle_token_as_it_is_written_scores_one():
    assert score(looks_at(3, 4, 5), [13, 14, 15]) == 1.0


def test_a_head_that_looks_one_position_early_copies_nothing():
    # Positions 3 and 4 are in the needle, and hold other tokens than those written: condition (iii).
    assert score(looks_at(2, 3, 4), [13, 14, 15]) == 0.0


def test_a_previous_token_head_copies_nothing():
    assert score(looks_at(7, 8, 9), [13, 14, 15]) == 0.0


def test_the_same_token_outside_the_needle_is_not_copied_from_it():
    prompt = (14, *NEEDLE.prompt[1:])
    outside = Needle(prompt=prompt, start=3, end=6)
    assert score(looks_at(0), [14], outside) == 0.0
    assert score(looks_at(4), [14], outside) == pytest.approx(1 / 3)


def test_a_token_that_is_not_in_the_needle_counts_for_nothing():
    assert score(looks_at(3, 4, 6), [13, 14, 16]) == pytest.approx(2 / 3)


def test_a_learned_sink_changes_nothing_and_a_row_of_zeros_copies_nothing():
    assert score(0.1 * looks_at(3, 4, 5), [13, 14, 15]) == 1.0
    first = Needle(prompt=NEEDLE.prompt, start=0, end=3)  # the earliest key is in the needle
    assert score(looks_at(0), [10], first) == pytest.approx(1 / 3)
    assert score(torch.zeros(1, 10), [10], first) == 0.0


def test_a_token_written_twice_counts_twice_in_steps_and_once_in_the_set():
    rows, written = looks_at(3, 4, 5, 5), [13, 14, 15, 15]
    assert score(rows, written, count="steps") == pytest.approx(4 / 3)  # (m + 1) / m with m = 3
    assert score(rows, written, count="set") == 1.0


def test_a_repeated_needle_token_is_one_of_the_set():
    twice = Needle(prompt=(10, 11, 13, 13, 14, 15), start=2, end=5)  # 13 13 14: two different tokens
    assert score(looks_at(2), [13], twice) == pytest.approx(1 / 2)
    assert score(looks_at(2), [13], twice, count="steps") == pytest.approx(1 / 3)


def test_of_equal_weights_the_earliest_key_counts():
    tie = torch.zeros(1, 10)
    tie[0, [3, 7]] = 0.5
    assert score(tie, [13]) == pytest.approx(1 / 3)
    tie[0, [2, 3, 7]] = 1 / 3
    assert score(tie, [13]) == 0.0
    assert score(torch.full((3, 10), 0.1), [13, 14, 15]) == 0.0  # a uniform head: the earliest is key 0


def test_heads_are_told_apart():
    heads = torch.stack([looks_at(3, 4, 5), looks_at(2, 3, 4), looks_at(3, 0, 5)])
    found = copied_share(copied(heads, [13, 14, 15], NEEDLE), [13, 14, 15], NEEDLE.answer)
    assert found.tolist() == pytest.approx([1.0, 0.0, 2 / 3])


def test_recall_is_of_different_tokens():
    assert recall_of([13, 15, 15], (13, 14, 15)) == pytest.approx(2 / 3)
    assert recall_of([1, 2, 3], (13, 14, 15)) == 0.0


def test_mistakes_are_explained():
    with pytest.raises(OptionError, match="needle is tokens 6 to 6"):
        Needle(prompt=NEEDLE.prompt, start=6, end=6)
    with pytest.raises(ShapeError, match="2 rows of attention for 3 written"):
        copied(looks_at(3, 4), [13, 14, 15], NEEDLE)
    with pytest.raises(ShapeError, match="rows over 5 keys; the prompt has 8"):
        copied(looks_at(3)[:, :5], [13], NEEDLE)


def test_scores_that_do_not_vary_are_correlated_with_nothing():
    def scores(mean: np.ndarray) -> RetrievalScores:
        tables, answered = dict.fromkeys(("score", "frequency", "mass"), mean), np.ones(2, dtype=bool)
        per_sample = np.stack([mean, mean])
        return RetrievalScores(
            **tables, per_sample=per_sample, recall=np.ones(2), counted=answered, layers=(0, 1, 2)
        )

    here, there = scores(np.random.default_rng(0).random((3, 4))), scores(np.zeros((3, 4)))
    assert correlation(here, here, seed=0, draws=20).value == pytest.approx(1.0)
    assert "the same score" in correlation(here, there, seed=0, draws=20).why  # r was NaN, p 1 / 21


def test_a_row_of_a_model_is_its_scores_counted_by_hand():
    score = np.array([[0.05, 0.3], [0.1, np.nan]])  # 0.1 reaches the threshold, 0.05 does not
    tables = dict.fromkeys(("score", "frequency", "mass"), score)
    scores = RetrievalScores(
        **tables,
        per_sample=np.zeros((4, 2, 2)),
        recall=np.ones(4),
        counted=np.array([True, True, True, False]),
        layers=(0, 3),  # layers 1 and 2 have no attention
    )
    assert model_row("one", scores) == {
        "model": "one",
        "answers": 0.75,
        "heads": 4,
        "at the threshold": 2,
        "which": "a0.h1, a3.h0",
        "highest": 0.3,
    }
    assert model_row("other", "no needle fits") == {"model": "other", "note": "no needle fits"}
    assert (
        fewest_heads([scores, "no needle fits"], 0.5).value == 2 and fewest_heads([scores], 0.8).value is None
    )
    own = replace(
        scores,
        score=np.array(
            [[0.0, 0.6], [0.1, 0.05]]
        ),  # one never copies, two reach the threshold, one passes 0.5
        frequency=np.array([[0.0, 1.0], [0.9, 1.0]]),  # of these two one copies in every sample
        samples=(Needle(prompt=(1, 2, 3, 4), start=1, end=3),) * 4,
    )
    found = copying(own, seed=0)
    assert [one.value for one in found.values()] == [0.5, 0.25, 0.25, 1, 1]
    assert found["share of heads at the threshold"].control.startswith(
        "0.250"
    )  # one over the prompt's length
    rows = [{"lost beyond matched": lost, "p": p, "n": 4} for lost, p in ((0.5, 0.01), (0.25, 0.04))]
    least = least_loss(rows)
    assert (least.value, least.n, least.p) == (0.25, 8, pytest.approx(0.04))  # Holm: 0.02 and 0.04
