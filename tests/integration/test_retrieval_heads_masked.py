"""Masking heads of a model whose circuit is known, and verdicts that go both ways."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from workbench.edits.masked_heads import mask, recalls
from workbench.heads.alike import rest
from workbench.heads.retrieval import random_needles, retrieval_scores
from workbench.model.open import open_model
from workbench.papers.kit import Conditions, judge_all
from workbench.papers.retrieval_heads import (
    CLAIMS,
    KNOWN,
    KNOWN_MASKED,
    MASKED,
    PLAIN,
    RANDOM,
    RetrievalSizes,
    of_contexts,
    top_heads,
)


@pytest.fixture(scope="module")
def hand_built():
    """a0.h1 previous token, a1.h0 induction, a1.h1 the same pattern without effect."""
    return open_model("zoo:truth-induction")


@pytest.fixture(scope="module")
def samples(hand_built):
    return random_needles(hand_built, n=6, length=36, size=3, seed=5)


@pytest.mark.parametrize("mode", ["uniform", "zero", "mean"])
def test_the_induction_head_is_needed_and_its_idle_twin_is_not(hand_built, samples, mode):
    edits = {h: mask(hand_built, [h], mode=mode, reference=samples) for h in ("a1.h0", "a1.h1")}
    assert recalls(hand_built, samples, edits["a1.h0"]).max() <= 1 / 3
    assert recalls(hand_built, samples, edits["a1.h1"]).tolist() == [1.0] * 6


def test_the_previous_token_head_works_while_the_prompt_is_read(hand_built, samples):
    head = ["a0.h1"]
    assert recalls(hand_built, samples, mask(hand_built, head, when="decode")).tolist() == [1.0] * 6
    assert recalls(hand_built, samples, mask(hand_built, head, when="all")).max() <= 1 / 3
    assert recalls(hand_built, samples).tolist() == [1.0] * 6  # and the model is as it was


def test_random_sets_leave_out_twice_as_many_top_heads(hand_built, samples):
    scores = retrieval_scores(hand_built, samples)
    assert top_heads(scores, RetrievalSizes()) == ("a1.h0",)
    assert rest(scores, ["a1.h0"]) == ["a1.h1", "a0.h0", "a0.h1"]  # a1.h1 is second, but layer 1 has no other
    assert rest(scores, ["a0.h0"]) == ["a0.h1"]


def table(masked: float, random: float, *, n: int = 16, draws: int = 30) -> Conditions:
    """Measurements of two contexts as if they had come out like this."""
    c, jitter = Conditions(), np.random.default_rng(0).uniform(-0.01, 0.01, (draws, n))
    c[PLAIN], c[MASKED] = np.ones(n), np.full(n, masked)
    c.draws[RANDOM] = list(np.full((draws, n), random) + jitter)
    of_contexts(c, [32 if i % 2 else 64 for i in range(n)])
    return c


def verdicts(c: Conditions, *names: str) -> set[str]:
    return {claim.verdict for claim in judge_all({name: CLAIMS[name] for name in names}, c)}


@pytest.mark.parametrize(("masked", "random", "verdict"), [(0.1, 0.9, "holds"), (0.9, 0.9, "fails")])
def test_causal_claims_follow_the_numbers(masked, random, verdict):
    assert verdicts(table(masked, random), "loss", "causal", "lengths") == {verdict}


@pytest.mark.parametrize(
    ("left", "n", "verdict"), [(1.0, 80, "holds"), (1.0, 20, "fails"), (0.2, 80, "fails")]
)
def test_memory_claims_follow_the_numbers(left, n, verdict):
    c = table(0.1, 0.9)  # 20 of 20 do not exclude a loss of 5 %
    c[KNOWN], c[KNOWN_MASKED] = np.ones(n), np.full(n, left)
    assert verdicts(c, "memory") == {verdict}


def test_what_is_missing_is_said():
    c = table(0.1, 0.9, draws=5)  # five sets cannot give p < 0.05
    c.numbers["why no facts"] = "no facts"
    assert verdicts(c, "memory", "causal") == {"cannot be tested here"}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
def test_freed_blocks_are_kept_and_not_asked_for_again():
    """Five blocks of 12 MB, 3,072 pages each, twenty times over: at most a tenth of the pages is asked for again."""
    code = (
        "import resource, torch\n"
        "from workbench.edits.masked_heads import keep_freed\n"
        "keep_freed()\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for i in range(22):\n"
        "    if i == 2: before = faults()\n"
        "    blocks = [torch.ones(3 << 20) for _ in range(5)]\n"
        "    del blocks\n"
        "print(faults() - before)"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env)
    # without keep_freed nearly all pages are asked for again, unless something small lies at the end of the heap
    assert int(done.stdout) < 0.1 * 20 * 5 * 3072
