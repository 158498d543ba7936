"""`gates`: one layer whose state forgets by a sigmoid, or as a state-space model does, on multi-query recall."""

from __future__ import annotations

from functools import partial

from workbench.tasks.streams.recall import recall_rows
from workbench.training.mixers.comparison import LabComparison
from workbench.training.mixers.lab import one_layer
from workbench.training.mixers.normalisers import LearnedNormaliser, normalised, softmax
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.recurrent import Decayed
from workbench.training.mixers.scores import dot_product, elu_features, plain_product

PAIRS, KEYS, VALUES = 20, 64, 32

shape = partial(one_layer, pairs=PAIRS, words=KEYS + VALUES, d_head=8, positions="none")

GATES = LabComparison(
    name="gates",
    arms={
        "softmax": shape(Plugs(score=dot_product, mix=softmax)),
        "linear": shape(Plugs(score=elu_features, mix=normalised)),
        **{
            f"normalised, {kind}": shape(Plugs(score=elu_features, mix=partial(LearnedNormaliser, kind=kind)))
            for kind in ("exponential", "softplus", "sigmoid")
        },
        "quasi-LSTM": shape(Plugs(score=plain_product, mix=partial(Decayed, kind="lstm"))),
        "reversed sigmoid": shape(Plugs(score=plain_product, mix=partial(Decayed, kind="reversed"))),
        "reversed and tied": shape(Plugs(score=plain_product, mix=partial(Decayed, kind="tied"))),
    },
    reference="softmax",
    draw=partial(recall_rows, pairs=PAIRS, queries=PAIRS, keys=KEYS, values=VALUES),
    steps=300,
    rate=5e-3,
    cannot="anything but recall of 20 pairs among 64 keys and 32 values",
)
