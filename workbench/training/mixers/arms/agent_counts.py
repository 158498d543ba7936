"""`agents`: one layer that sees the whole row, through more and more agents, on multi-query recall."""

from __future__ import annotations

from functools import partial

from workbench.tasks.streams.recall import recall_rows
from workbench.training.mixers.agents import FixedAgents, PooledAgents
from workbench.training.mixers.comparison import LabComparison
from workbench.training.mixers.lab import one_layer
from workbench.training.mixers.normalisers import softmax
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.scores import dot_product

PAIRS = 8
COUNTS = (1, 2, 4, 8, 12, 24)

shape = partial(one_layer, pairs=PAIRS, words=64, d_head=16, causal=False)

AGENTS = LabComparison(
    name="agents",
    arms={
        "softmax": shape(Plugs(score=dot_product, mix=softmax)),
        **{f"{n} agents": shape(Plugs(mix=partial(PooledAgents, n=n))) for n in COUNTS},
        "4 random agents": shape(Plugs(mix=partial(FixedAgents, n=4))),
    },
    reference="softmax",
    draw=partial(recall_rows, pairs=PAIRS, queries=PAIRS, keys=32, values=32),
    steps=300,
    rate=5e-3,
    cannot="anything but recall of 8 pairs among 32 keys and 32 values",
)
