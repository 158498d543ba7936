"""Attention as Pavlovian conditioning: a head as a memory of pairs, and how much they disturb each other.

Keys stand for cues, values for what was paired with them, and a query asks with a cue. Linear attention adds up value
times key. Only abstracts of the paper were read, in two versions: capacity grows with the dimension on average, and
with its root where no retrieval may fail. Here the worst case is taken over values, as no random draw would find it.
The formulas are tried on random pairs; then keys and values of a trained model's heads are read on a text, in
windows, and what a linear memory of them would give is compared with the formula.

Controls:
- memories with the same keys, for redundancy
- the exact key in every layer, for depth
- plain addition, for the rule that corrects errors
- keys and values in random directions, as many and as wide as the head's
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, below, correlates, equal
from workbench.papers.kit.frames import RECONSTRUCTED, Extension, Reconstructed
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.heads import crosstalk, grounds, heads_as_memories, memory_capacity

# Criteria, fixed before anything was measured.
CLOSE, SLOPE = 0.02, 0.1  # cosine; of an exponent
LEAST, MOST = 0.7, 1.0  # fidelity that is kept; error that is allowed
FIRST_SEED = 15_000_000
SIMULATED, FORMULA = "fidelity", "fidelity by formula"
OWN, SAME, OWN_FORMULA = "memories with own keys", "memories with the same keys", "own keys by formula"
DEEP, DEEP_FORMULA = "after all layers", "after all layers by formula"
FRESH = "last layer, asked with the exact key"
HEBB, DELTA = "plain addition", "errors corrected"
AVERAGE, WORST = "exponent of the capacity on average", "exponent of the capacity at worst"
MEASURED, PREDICTED, RANDOM = "heads, measured", "heads, predicted", "random keys, measured"
COSINE = "cosine with the right value"


@dataclass(frozen=True, kw_only=True)
class PavlovSizes:
    """How much is stored and read."""

    dimensions: tuple[int, ...] = size((16, 32, 64, 128, 256), "of keys and values")
    draws: int = size(20, "of random pairs, for every number")
    copies: int = size(4, "memories beside each other")
    layers: int = size(3, "memories one behind the other")
    sweeps: int = size(30, "of the rule that corrects errors")
    windows: int = size(16, "of the text, on which heads are read")
    window: int = size(64, "tokens of each")

    def __post_init__(self) -> None:
        if len(self.dimensions) < 3 or self.draws < 3:
            raise OptionError(
                f"dimensions is {list(self.dimensions)}, draws {self.draws}; at least three of each "
                "are needed for a slope and its interval",
                hint="--set dimensions=16,32,64 --set draws=3, or more",
            )


def measure(setting: Setting) -> Conditions:
    """Simulate memories of random pairs, then read those of the model's heads."""
    o: PavlovSizes = setting.options
    c, seed = Conditions(seed=setting.seed), FIRST_SEED + setting.seed
    setting.progress(0, 3, "random pairs")
    _fidelity(c, o, seed)
    _capacity(c, o, seed)
    setting.progress(1, 3, "copies, layers, corrections")
    _variants(c, o, seed)
    setting.progress(2, 3, "heads of the model")
    _heads(c, setting)
    return c


def _fidelity(c: Conditions, o: PavlovSizes, seed: int) -> None:
    """The cosine at every number of pairs and dimensions, one value for each draw."""
    filled = [
        memory_capacity.fill(pairs, d, draws=o.draws, seed=[seed, d, pairs])
        for d in o.dimensions
        for pairs in (d // 4, d, 2 * d, 4 * d)
    ]
    c.add(SIMULATED, np.concatenate([one.cosines.mean(-1).numpy() for one in filled]), unit=COSINE)
    c.add(FORMULA, np.repeat([one.predicted for one in filled], o.draws), unit=COSINE)
    c.tables["Random pairs"] = [one.row() for one in filled]
    c.keep(memory_capacity.fidelity_curves(filled))


def _capacity(c: Conditions, o: PavlovSizes, seed: int) -> None:
    """How many pairs are held at a fidelity, and with the worst values: one exponent of d for each draw."""
    average, worst = memory_capacity.capacity_exponents(
        o.dimensions, least=LEAST, most=MOST, draws=o.draws, seed=seed
    )
    c.add(AVERAGE, average, unit="exponent")
    c.add(WORST, worst, unit="exponent")


def _variants(c: Conditions, o: PavlovSizes, seed: int) -> None:
    """Copies, layers and the rule that corrects errors, at as many pairs as dimensions; one value for each draw."""
    d = o.dimensions[len(o.dimensions) // 2]
    how = {"draws": o.draws, "seed": seed}
    for name, own in ((OWN, True), (SAME, False)):
        found = memory_capacity.by_copies(d, d, o.copies, own_keys=own, **how)
        c.add(name, found.mean(-1).numpy(), unit=COSINE)
    told = float(crosstalk.predicted_fidelity(d, float(d), copies=o.copies))
    c.add(OWN_FORMULA, np.full(o.draws, told), unit=COSINE)
    deep = memory_capacity.by_layers(d, d, o.layers, **how)
    c.add(DEEP, deep[-1].mean(-1).numpy(), unit=COSINE)
    c.add(DEEP_FORMULA, np.full(o.draws, memory_capacity.layers_fidelity(d, d, o.layers)), unit=COSINE)
    fresh = memory_capacity.by_layers(d, d, 1, draws=o.draws, seed=seed + 1)[0]
    c.add(FRESH, fresh.mean(-1).numpy(), unit=COSINE)
    rules = memory_capacity.by_rule(d // 2, d, sweeps=o.sweeps, draws=o.draws, seed=[seed, 3])
    for name, cosines in zip((HEBB, DELTA), rules, strict=True):
        c.add(name, cosines.mean(-1).numpy(), unit=COSINE)


def _heads(c: Conditions, setting: Setting) -> None:
    """Every head's keys and values on windows of a text; heads that share keys are one item."""
    o, model = setting.options, setting.model
    ground, notes = grounds.text_or_random(model, n=o.windows, length=o.window, seed=setting.seed)
    for said in notes:
        setting.note(said)
    rows = heads_as_memories.heads_as_memories(model, ground, seed=setting.seed)
    columns = {MEASURED: "measured", PREDICTED: "predicted", RANDOM: "random"}
    if len(rows) < 3:
        why = f"keys and values of {len(rows)} heads can be seen; 3 are the least that can be compared"
        c.lacking |= dict.fromkeys(columns, why)
        return
    for name, column in columns.items():
        c.add(name, np.array([row[column] for row in rows]), unit=f"{COSINE}, heads")
    c.tables["Heads as memories"] = rows


ENOUGH = needs(
    lambda c: MEASURED in c and c.n(MEASURED) >= 8, "fewer than 8 heads of the model show keys and values"
)
OfPairs = partial(Reconstructed, models=None)
OfHeads = partial(Extension, needs=[ENOUGH])
CLAIMS = {
    "fidelity": OfPairs(
        "what is retrieved fits as 1 / sqrt(1 + (N - 1) / d), so that only pairs per dimension count",
        equal(SIMULATED, FORMULA, within=CLOSE),
        why=f"the formula takes means inside the root; {CLOSE} is a fortieth of its range here",
    ),
    "linear": OfPairs(
        "the number of pairs held at a fixed fidelity grows linearly with the dimension",
        above(AVERAGE, by=1 - SLOPE) & below(AVERAGE, by=1 + SLOPE),
        why=f"pairs at which the mean cosine falls to {LEAST}; an exponent of one half would be far outside",
    ),
    "worst": OfPairs(
        "where no retrieval may fail the number of pairs grows like the root of the dimension",
        above(WORST, by=0.5 - SLOPE) & below(WORST, by=0.5 + SLOPE),
        why=f"no values whatever may make an error above {MOST:g}, the length of a value itself",
    ),
    "redundancy": OfPairs(
        "redundant heads average the noise",
        above(OWN, SAME) & equal(OWN, OWN_FORMULA, within=CLOSE),
        why="copies with the same keys make the same error, and average nothing",
    ),
    "depth": OfPairs(
        "depth multiplies the error",
        below(DEEP, FRESH) & equal(DEEP, DEEP_FORMULA, within=CLOSE),
        why="the last layer, asked with the exact key, makes the error of one layer; by formula fidelities multiply",
        where=f"{RECONSTRUCTED}; the formula is of ours",
    ),
    "delta": OfPairs(
        "a rule that corrects errors retrieves better",
        above(DELTA, HEBB),
        why="half as many pairs as dimensions, so that an exact memory exists",
    ),
    "heads": OfHeads(
        "heads whose keys have more dimensions for their pairs disturb their memory less",
        correlates(MEASURED, PREDICTED),
        why="a real head's keys and values are not random; the rank is what the formula can still say",
    ),
    "random": OfHeads(
        "keys of trained heads disturb each other more than random keys",
        below(MEASURED, RANDOM),
        why="as many pairs of the same width, in random directions",
    ),
    "formula": OfHeads(
        "the formula with the effective dimension of the keys gives what a head's memory would retrieve",
        equal(MEASURED, PREDICTED, within=0.05) & at_least(MEASURED, 0.0),
        why="0.05 is a twentieth of the largest cosine",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="pavlov", source="Qiao 2025", model="zoo:stdlib", options=PavlovSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
