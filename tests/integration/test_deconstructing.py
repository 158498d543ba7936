"""Attention taken apart: its drawn language, its arms, and what patterns are like, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import log, sqrt

import numpy as np
import pytest
import torch

from benchmarks.both_ways import TAKEN_APART, planted_ladder, verdicts
from tests.integration.test_mixers import IDS, SHAPE, SOFTMAX
from workbench.core.errors import OptionError
from workbench.heads import indicators, pattern_shape
from workbench.papers import deconstructing as paper
from workbench.tasks.streams.gists import FILLER, KEY, KINDS, MARK, TITLE, VALUE, WORDS, gist_rows
from workbench.training.mixers.arms import get_comparison
from workbench.training.mixers.lab import Lab

HARMONIC = sum(1 / n for n in range(1, 9))


def test_a_uniform_causal_head_of_eight_tokens():
    A = indicators.uniform(8)[None]
    assert float(indicators.entropy(A)) == pytest.approx(sum(log(n) for n in range(1, 9)) / 8, abs=1e-6)
    assert float(indicators.entropy(A)) == pytest.approx(1.3256, abs=1e-4)
    assert (
        float(pattern_shape.concentration(A))
        == pytest.approx(sqrt(HARMONIC))
        == pytest.approx(1.6486, abs=1e-4)
    )
    assert (
        float(indicators.first_token(A, rows=slice(None)))
        == pytest.approx(HARMONIC / 8)
        == pytest.approx(0.3397, abs=1e-4)
    )


def test_a_head_that_mixes_nothing_and_heads_that_are_alike():
    eye = torch.eye(6).expand(3, 6, 6)
    told = pattern_shape.shape_of_patterns(eye[None])
    assert (
        told["entropy"] == 0 and told["head diversity"] == 0 and told["focus 0"] == 1 and told["focus 1"] == 0
    )
    assert told["concentration"] == pytest.approx(sqrt(6)) and told["sink"] == pytest.approx(1 / 6)
    two = torch.stack([torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])])
    assert float(pattern_shape.head_diversity(two)) == pytest.approx(
        (0 + 0.5 + 0.5) / 3
    )  # visible: (0,0) (1,0) (1,1)
    with pytest.raises(OptionError, match="6 tokens back in patterns of 6"):
        pattern_shape.local_focus(eye, 6)


def test_every_question_of_the_drawn_language_has_its_answer_before_it():
    rows = gist_rows(np.random.default_rng(3), 40)
    at, place = rows.asked
    answers, sources = rows.target[at, place], rows.source[at, place]
    first = {"near": FILLER, "recall": VALUE, "gist": TITLE}
    seen: dict[int, int] = {}
    for row, t, answer, source, kind in zip(at, place, answers, sources, rows.kinds, strict=True):
        ids, name = rows.inputs[row], KINDS[kind]
        assert source <= t and first[name] <= answer < first[name] + WORDS
        if t + 1 < len(ids):
            assert ids[t + 1] == answer
        if name == "near":
            assert (
                source == t - 1 and seen.setdefault(int(ids[source]), int(answer)) == answer
            )  # one function for all
        elif name == "recall":
            assert KEY <= ids[t] < KEY + WORDS and ids[source] == answer and ids[source - 1] == ids[t]
        else:
            assert ids[t] == MARK and ids[source] == answer
    assert min(np.bincount(rows.kinds)) > 40


def test_queries_and_keys_of_a_row_beside_are_the_same_for_all_texts_and_see_nothing_ahead():
    for source in ("another-text", "random-embeddings"):
        layer = replace(SOFTMAX, source=source)
        model = Lab(replace(SHAPE, layers=(layer, layer)))
        patterns = model.patterns(IDS)
        assert all(torch.equal(pattern[:1].expand_as(pattern), pattern) for pattern in patterns.values())
        changed = IDS.clone()
        changed[:, 5:] = (changed[:, 5:] + 1) % 7
        assert torch.allclose(model(IDS)[:, :5], model(changed)[:, :5], atol=1e-6)
        assert model(IDS).shape == (3, 9, 7) and torch.allclose(model(IDS[1:2]), model(IDS)[1:2], atol=1e-6)
    mixed = (replace(SOFTMAX, source="another-text"), replace(SOFTMAX, source="random-embeddings"))
    with pytest.raises(OptionError, match="one row runs beside"):
        Lab(replace(SHAPE, layers=mixed))


def test_the_row_beside_runs_as_standard_attention_would():
    layer = replace(SOFTMAX, source="another-text")
    model = Lab(replace(SHAPE, layers=(layer, layer)), seed=4)
    plain = Lab(replace(SHAPE, layers=(SOFTMAX, SOFTMAX)), seed=4)
    assert model.beside is not None
    own, wanted = model.patterns(IDS), plain.patterns(model.beside[:, :9])
    assert all(torch.allclose(own[layer][1], wanted[layer][0], atol=1e-6) for layer in (0, 1))


def test_arms_lose_one_thing_in_all_layers_or_in_odd_ones():
    comparison = get_comparison("relaxed")
    model = Lab(comparison.arms["standard"], seed=1)
    for name, shape in comparison.arms.items():
        even, odd = shape.layers[0], shape.layers[1]
        assert shape.layers == (even, odd, even, odd)
        if "odd layers" in name:
            assert even == model.shape.layers[0] and odd != even
        elif name != "standard":
            assert even == odd != model.shape.layers[0]
    ids = torch.from_numpy(gist_rows(np.random.default_rng(0), 2).inputs)
    same = Lab(comparison.arms["random pattern"], seed=1).patterns(ids)
    assert all(torch.allclose(pattern.sum(-1), torch.ones(2, 2, 48)) for pattern in same.values())
    assert torch.equal(same[0], Lab(comparison.arms["random pattern"], seed=2).patterns(ids)[0])
    empty = Lab(comparison.arms["nothing in odd layers"], seed=1).patterns(ids)
    assert not empty[1].any() and empty[0].any()


def judged(**planted: float) -> list[bool]:
    return verdicts(paper.CLAIMS, TAKEN_APART, planted_ladder(**planted))


def test_verdicts_go_both_ways():
    assert judged(alone=0.6, odd=0.985, fixed=0.4, none=0.07) == [True, True, True]
    assert judged(alone=0.985, odd=0.985, fixed=0.4, none=0.07)[0] is False  # alone it does not fail
    assert judged(alone=0.6, odd=0.8, fixed=0.75, none=0.3) == [False, False, False]
