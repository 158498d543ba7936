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

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs
from workbench.papers.kit.criteria import above, at_least, below, correlates, equal
from workbench.papers.registry import add_paper
from workbench.view.pictures import Curves

with lazily():
    from workbench.heads import crosstalk, grounds, memory_capacity
    from workbench.model import hooks, probe

# Criteria, fixed before anything was measured.
CLOSE, SLOPE, LEAST, MOST = (
    0.02,
    0.1,
    0.7,
    1.0,
)  # cosine; of an exponent; fidelity that is kept; error that is allowed
FIRST_SEED = 15_000_000
SIMULATED, FORMULA = "fidelity", "fidelity by formula"
OWN, SAME, OWN_FORMULA = "memories with own keys", "memories with the same keys", "own keys by formula"
DEEP, DEEP_FORMULA, FRESH = (
    "after all layers",
    "after all layers by formula",
    "last layer, asked with the exact key",
)
HEBB, DELTA = "plain addition", "errors corrected"
AVERAGE, WORST = "exponent of the capacity on average", "exponent of the capacity at worst"
MEASURED, PREDICTED, RANDOM = "heads, measured", "heads, predicted", "random keys, measured"
COSINE = "cosine with the right value"


@dataclass(frozen=True, kw_only=True)
class PavlovSizes:
    """Sizes.

    Attributes:
        dimensions: Of keys and values.
        draws: Of random pairs, for every number.
        copies, layers: Memories beside each other, and one behind the other.
        sweeps: Of the rule that corrects errors.
        windows, window: Of the text, on which heads are read.
    """

    dimensions: tuple[int, ...] = (16, 32, 64, 128, 256)
    draws: int = 20
    copies: int = 4
    layers: int = 3
    sweeps: int = 30
    windows: int = 16
    window: int = 64

    def __post_init__(self) -> None:
        if len(self.dimensions) < 3 or self.draws < 3:
            raise OptionError(
                "three dimensions and three draws are the least that has a slope and an interval"
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
    import torch

    simulated, formula, rows = [], [], []
    for d in o.dimensions:
        for pairs in (d // 4, d, 2 * d, 4 * d):
            keys, values = memory_capacity.random_pairs(pairs, d, draws=o.draws, seed=[seed, d, pairs])
            read = keys @ crosstalk.write_pairs(keys, values)
            found = crosstalk.fidelity(read, values)
            right = ((read @ values.mT).argmax(-1) == torch.arange(pairs)).double().mean()
            told = float(crosstalk.predicted_fidelity(pairs, float(d)))
            simulated += found.mean(-1).tolist()
            formula += [told] * o.draws
            rows.append({"d": d, "pairs": pairs, "cosine": float(found.mean()), "by formula": told,
                         "least": float(found.min()), "nearest value is right": float(right)})  # fmt: skip
    c.add(SIMULATED, np.array(simulated), unit=COSINE)
    c.add(FORMULA, np.array(formula), unit=COSINE)
    c.tables["Random pairs"] = rows
    lines = {
        f"d = {d}": [(row["pairs"] / d, row["cosine"]) for row in rows if row["d"] == d] for d in o.dimensions
    }
    at = sorted({x for line in lines.values() for x, _ in line})
    shown = [
        {"pairs per dimension": x, **{name: dict(line).get(x) for name, line in lines.items()}} for x in at
    ]
    c.pictures["Fidelity by pairs per dimension"] = Curves.of_rows(
        shown, "pairs per dimension", list(lines), log_x=True, x_label="pairs per dimension", y_label=COSINE
    )


def _capacity(c: Conditions, o: PavlovSizes, seed: int) -> None:
    """How many pairs are held at a fidelity, and with the worst values: one exponent of d for each draw."""
    shares = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
    average: list[float] = []
    worst: list[float] = []
    for draw in range(o.draws):
        held, safe = [], []
        for d in o.dimensions:
            tried = [max(2, round(share * d)) for share in shares]
            found = []
            for pairs in tried:
                keys, values = memory_capacity.random_pairs(pairs, d, seed=[seed, draw, d, pairs])
                found.append(
                    float(crosstalk.fidelity(keys @ crosstalk.write_pairs(keys, values), values).mean())
                )
            held.append(memory_capacity.capacity(found, tried, LEAST))
            [many], _ = memory_capacity.random_pairs(4 * int(d**0.5) + 8, d, seed=[seed, draw, d])
            safe.append(memory_capacity.capacity_of_worst(many, MOST))
        for exponents, counts in ((average, held), (worst, safe)):
            exponents.append(np.polyfit(np.log(o.dimensions), np.log(counts), 1)[0])
    c.add(AVERAGE, np.array(average), unit="exponent")
    c.add(WORST, np.array(worst), unit="exponent")


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
    c.add(
        FRESH,
        memory_capacity.by_layers(d, d, 1, draws=o.draws, seed=seed + 1)[0].mean(-1).numpy(),
        unit=COSINE,
    )
    keys, values = memory_capacity.random_pairs(d // 2, d, draws=o.draws, seed=[seed, 3])
    plain, corrected = (
        crosstalk.write_pairs(keys, values),
        crosstalk.correct_pairs(keys, values, sweeps=o.sweeps),
    )
    for name, memory in ((HEBB, plain), (DELTA, corrected)):
        c.add(name, crosstalk.fidelity(keys @ memory, values).mean(-1).numpy(), unit=COSINE)


def _heads(c: Conditions, setting: Setting) -> None:
    """Every head's keys and values on windows of a text; heads that share keys are one item."""
    o, model, wires = setting.options, setting.model, probe.wiring(setting.model)
    ground, notes = grounds.text_ground(model, None, n=o.windows, length=o.window, seed=setting.seed)
    if ground is None:
        ground, _ = grounds.random_ground(model, n=o.windows, length=o.window, seed=setting.seed)
        for said in notes:
            setting.note(f"random tokens in place of the text: {said}")
    rows = []
    for layer in wires.attention_layers:
        names = [hooks.hook_name(site, layer) for site in ("k", "v")]
        parts = [probe.record(model, ids, names)[1] for _, ids in ground.batches()]
        if any(part.get(name) is None or part[name].ndim != 4 for part in parts for name in names):
            continue
        for head in range(parts[0][names[0]].shape[2]):
            pairs = [tuple(part[n][:, ground.prefix :, head].double() for n in names) for part in parts]
            size = float(np.mean([float(crosstalk.effective_dimension(k).mean()) for k, _ in pairs]))
            found = float(np.mean([float(crosstalk.retrieval_fidelity(k, v).mean()) for k, v in pairs]))
            n, d = pairs[0][0].shape[1:]
            drawn = crosstalk.retrieval_fidelity(
                *memory_capacity.random_pairs(n, d, draws=8, seed=[setting.seed, layer, head])
            )
            rows.append({"keys": f"a{layer}.g{head}", "pairs": n, "dimensions": size, "measured": found,
                         "predicted": float(crosstalk.predicted_fidelity(n, size)),
                         "random": float(drawn.mean())})  # fmt: skip
    if len(rows) < 3:
        for name in (MEASURED, PREDICTED, RANDOM):
            c.lack(
                name,
                f"keys and values of {len(rows)} heads can be seen; 3 are the least that can be compared",
            )
        return
    for name, key in ((MEASURED, "measured"), (PREDICTED, "predicted"), (RANDOM, "random")):
        c.add(name, np.array([row[key] for row in rows]), unit=f"{COSINE}, heads")
    c.tables["Heads as memories"] = rows


RECONSTRUCTED, OURS = "abstract, reconstructed", "an extension of ours"
ENOUGH = needs(
    lambda c: MEASURED in c and c.n(MEASURED) >= 8, "fewer than 8 heads of the model show keys and values"
)
CLAIMS = {
    "fidelity": Claim(
        "what is retrieved fits as 1 / sqrt(1 + (N - 1) / d), so that only pairs per dimension count",
        equal(SIMULATED, FORMULA, within=CLOSE),
        why=f"the formula takes means inside the root; {CLOSE} is a fortieth of its range here",
        where=RECONSTRUCTED, models=None,
    ),
    "linear": Claim(
        "the number of pairs held at a fixed fidelity grows linearly with the dimension",
        above(AVERAGE, by=1 - SLOPE) & below(AVERAGE, by=1 + SLOPE),
        why=f"pairs at which the mean cosine falls to {LEAST}; an exponent of one half would be far outside",
        where=RECONSTRUCTED, models=None,
    ),
    "worst": Claim(
        "where no retrieval may fail it grows like the root of the dimension",
        above(WORST, by=0.5 - SLOPE) & below(WORST, by=0.5 + SLOPE),
        why=f"no values whatever may make an error above {MOST:g}, the length of a value itself",
        where=RECONSTRUCTED, models=None,
    ),
    "redundancy": Claim(
        "redundant heads average the noise",
        above(OWN, SAME) & equal(OWN, OWN_FORMULA, within=CLOSE),
        why="copies with the same keys make the same error, and average nothing",
        where=RECONSTRUCTED, models=None,
    ),
    "depth": Claim(
        "depth multiplies the error",
        below(DEEP, FRESH) & equal(DEEP, DEEP_FORMULA, within=CLOSE),
        why="the last layer, asked with the exact key, makes the error of one layer; by formula fidelities multiply",
        where=f"{RECONSTRUCTED}; the formula is of ours", models=None,
    ),
    "delta": Claim(
        "a rule that corrects errors retrieves better",
        above(DELTA, HEBB),
        why="half as many pairs as dimensions, so that an exact memory exists",
        where=RECONSTRUCTED, models=None,
    ),
    "heads": Claim(
        "heads whose keys have more dimensions for their pairs disturb their memory less",
        correlates(MEASURED, PREDICTED),
        why="a real head's keys and values are not random; the rank is what the formula can still say",
        where=OURS, needs=[ENOUGH],
    ),
    "random": Claim(
        "keys of trained heads disturb each other more than random keys",
        below(MEASURED, RANDOM),
        why="as many pairs of the same width, in random directions",
        where=OURS, needs=[ENOUGH],
    ),
    "formula": Claim(
        "the formula with the effective dimension of the keys gives what a head's memory would retrieve",
        equal(MEASURED, PREDICTED, within=0.05) & at_least(MEASURED, 0.0),
        why="0.05 is a twentieth of the largest cosine",
        where=OURS, needs=[ENOUGH],
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="pavlov", source="Qiao 2025", model="zoo:stdlib", options=PavlovSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
