"""`power`: four layers that see all keys, powers of two, a window, a dilated window or random keys, on a passkey."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workbench.masks.derived import same_degree
from workbench.masks.sequences import dilated, powers_of_two, window
from workbench.tasks.streams.relay import relay_rows
from workbench.tasks.streams.rows import StreamRows
from workbench.training.mixers.comparison import LabComparison
from workbench.training.mixers.lab import LabShape
from workbench.training.mixers.normalisers import softmax
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.scores import dot_product

LENGTH, LAYERS, DEGREE = 64, 4, 7  # distances 0, 1, 2, 4, ..., 32 are seven


def passkeys(rng: np.random.Generator, n: int) -> StreamRows:
    """Draw rows of fillers with one word among them, which every later token is asked for: accuracy by distance."""
    rows = relay_rows(rng, n, length=LENGTH)
    last, place = rows.target[:, -1:], rows.source[:, -1:]
    after = np.arange(LENGTH) >= place
    return replace(rows, target=np.where(after, last, -1), source=np.where(after, place, -1))


def shape(mask) -> LabShape:
    """Return four layers of attention alone, without positions, under one mask."""
    plugs = Plugs(score=dot_product, mask=mask, mix=softmax)
    return LabShape(
        layers=(plugs,) * LAYERS,
        n_ctx=LENGTH,
        n_out=25,
        d_vocab=25,
        d_model=32,
        n_heads=2,
        d_head=16,
        positions="none",
    )


FAR = LabComparison(
    name="power",
    arms={
        "all keys": shape(None),
        "powers of two": shape(powers_of_two(LENGTH)),
        "window": shape(window(LENGTH, DEGREE)),
        "dilated": shape(dilated(LENGTH, DEGREE)),
        "random keys": shape(same_degree(powers_of_two(LENGTH), seed=25)),
    },
    reference="all keys",
    draw=passkeys,
    steps=500,
    batch=16,
    rate=1e-2,
    seeds=(11, 12),
    cannot="anything but rows of 64 tokens with one word among fillers",
)
