"""`memories`: one layer whose memory learns by one rule or another while it reads, on multi-query recall."""

from __future__ import annotations

from functools import partial
from typing import get_args

from workbench.tasks.streams.recall import recall_rows
from workbench.training.mixers.associative import MatrixMemory, Rule
from workbench.training.mixers.comparison import LabComparison
from workbench.training.mixers.lab import one_layer
from workbench.training.mixers.normalisers import softmax
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.scores import dot_product

PAIRS, KEYS, VALUES = 8, 32, 32

shape = partial(one_layer, pairs=PAIRS, words=KEYS + VALUES, d_head=4, positions="none")

MEMORIES = LabComparison(
    name="memories",
    arms={
        "softmax": shape(Plugs(score=dot_product, mix=softmax)),
        **{rule: shape(Plugs(memory=partial(MatrixMemory, rule=rule), unit=True)) for rule in get_args(Rule)},
    },
    reference="softmax",
    draw=partial(recall_rows, pairs=PAIRS, queries=PAIRS, keys=KEYS, values=VALUES),
    steps=350,
    rate=5e-3,
    cannot="anything but recall of 8 pairs among 32 keys and 32 values; the memories are matrices, not MLPs",
)
