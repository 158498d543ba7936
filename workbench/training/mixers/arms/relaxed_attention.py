"""`relaxed`: four layers that lose one ingredient of attention each, in all layers or in every second one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from workbench.tasks.streams.gists import VOCABULARY, gist_rows
from workbench.training.mixers.comparison import LabComparison
from workbench.training.mixers.lab import LabShape
from workbench.training.mixers.normalisers import FixedPattern, nothing, softmax, taylor
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.scores import dot_product, key_only

LENGTH, LAYERS = 48, 4
STANDARD = Plugs(score=dot_product, mix=softmax)
VARIANTS: dict[str, Plugs | None] = {
    "no mixing": None,
    "Taylor": replace(STANDARD, mix=taylor),
    "key-only": replace(STANDARD, score=key_only),
    "random embeddings": replace(STANDARD, source="random-embeddings"),
    "another text": replace(STANDARD, source="another-text"),
    "token embeddings": replace(STANDARD, source="embedding"),
    "random pattern": Plugs(mix=FixedPattern),
}
WITHOUT = "nothing in odd layers"


def hybrid(variant: str) -> str:
    """Name the arm whose odd layers alone are of a variant."""
    return f"{variant}, odd layers"


def shape(even: Plugs | None, odd: Plugs | None) -> LabShape:
    """Return four layers with rotary positions, even ones of one kind and odd ones of another; keys read the token
    before, too.
    """
    return LabShape(
        layers=(even, odd) * (LAYERS // 2),
        n_ctx=LENGTH,
        n_out=VOCABULARY,
        d_vocab=VOCABULARY,
        d_model=32,
        n_heads=2,
        d_head=16,
        positions="rotary",
        shift=True,
    )


RELAXED = LabComparison(
    name="relaxed",
    arms={
        "standard": shape(STANDARD, STANDARD),
        **{name: shape(plugs, plugs) for name, plugs in VARIANTS.items()},
        **{hybrid(name): shape(STANDARD, plugs) for name, plugs in VARIANTS.items()},
        WITHOUT: shape(STANDARD, replace(STANDARD, mix=nothing)),
    },
    reference="standard",
    draw=partial(gist_rows, length=LENGTH),
    steps=400,
    rate=1e-2,
    seeds=(11, 12),
    cannot="anything but rows of 48 tokens of a drawn language with three kinds of sentences",
)
