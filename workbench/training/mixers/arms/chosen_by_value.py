"""`dynamic-recall` and `dynamic-needle`: two layers that see all keys, a few by content, a window or random ones."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.masks.derived import same_degree
from workbench.masks.sequences import window
from workbench.tasks.streams.recall import recall_rows
from workbench.tasks.streams.relay import relay_rows
from workbench.training.mixers.comparison import LabComparison
from workbench.training.mixers.dynamic_mask import DynamicMask
from workbench.training.mixers.lab import LabShape
from workbench.training.mixers.normalisers import softmax
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.scores import dot_product

PAIRS, QUESTIONS, NEEDLE, KEYS = 8, 4, 48, 8
RECALL = 2 * PAIRS + QUESTIONS


def shape(n: int, words: int, *, mask: Any = None, mix: Any = softmax) -> LabShape:
    """Return two layers of attention alone whose keys read the token before, too."""
    plugs = Plugs(score=dot_product, mask=mask, mix=mix)
    return LabShape(
        layers=(plugs, plugs),
        n_ctx=n,
        n_out=words,
        d_vocab=words,
        d_model=32,
        n_heads=2,
        d_head=16,
        shift=True,
    )


def arms_of(n: int, words: int) -> dict[str, LabShape]:
    """Return the arms for rows of ``n`` tokens; all but the first have as many keys for every query."""
    near = window(n, KEYS)
    return {
        "all keys": shape(n, words),
        "dynamic": shape(n, words, mix=partial(DynamicMask, keys=KEYS)),
        "dynamic, half the keys": shape(n, words, mix=partial(DynamicMask, keys=KEYS // 2)),
        "window": shape(n, words, mask=near),
        "random keys": shape(n, words, mask=same_degree(near, seed=27)),
    }


BY_VALUE_RECALL = LabComparison(
    name="dynamic-recall",
    arms=arms_of(RECALL, 40),
    reference="all keys",
    draw=partial(recall_rows, pairs=PAIRS, queries=QUESTIONS, keys=24, values=16),
    steps=600,
    rate=1e-2,
    seeds=(11, 12),
    cannot="anything but recall of 8 pairs among 24 keys and 16 values",
)
BY_VALUE_NEEDLE = LabComparison(
    name="dynamic-needle",
    arms=arms_of(NEEDLE, 25),
    reference="all keys",
    draw=partial(relay_rows, length=NEEDLE),
    steps=300,
    rate=1e-2,
    seeds=(11, 12),
    cannot="anything but rows of 48 tokens with one word among fillers",
)
