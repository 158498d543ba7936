"""Kinetics: what generating costs is reading keys and values, and that changes which model and which attention is best.

Costs are counted by the model that ``--dry-run`` and the page on larger models use: operations, and bytes of keys and
values, joined by the operations that a device does in the time of one byte: this sum is told in *equivalents*. Shapes
are those of six published models of one family (Qwen3, 0.6 to 32 billion parameters). Whether sparse attention wins at
equal cost is asked of a model that finds values by keys: it reads its whole prompt, or only a few keys for every query.
The time of one token is measured here, on one core, in layers with random numbers.

Controls:
- as many keys drawn at random
- as many of the last keys
- layers with equal operations of attention whose heads share keys, for time
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.edits.mask_kinds import Mask
from workbench.edits.substitute import Substitute
from workbench.engine.generation_cost import cost_rows, next_larger, qwen3, read_curves, read_shares
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, untried
from workbench.papers.kit.criteria import above, beats_draws, below, correlates, less, no_worse
from workbench.papers.kit.frames import Extension, answers
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import measure as edits
    from workbench.engine import decode_time, of_task
    from workbench.model import probe

# Criteria, fixed before anything was measured.
HALF, LEARNED, NEAR, RANK = 0.5, 0.8, 0.05, 0.8
PROMPT, LONG, BUDGET = 1_000, 10_000, 1_024  # tokens of a prompt and of a long answer; keys in a table
INTENSITY_HERE = (
    10.0  # operations of one core in the time of one number read; only the order of costs is used
)
FIRST_SEED = 18_000_000
READS, SHORT_READS = "share of reads", "share of reads at a tenth of the length"
BY_FLOP = "cost of the next larger model, by operations"
BY_COST = "cost of the next larger model, by equivalents"
FULL, SPARSE = "all keys", "few keys by the head's own score"
RANDOM, LAST = "few random keys", "the last few keys"
TIME, COUNTED = "seconds of one token", "equivalents of one token"
OWN, SHARED = "seconds, keys of every head", "seconds, keys shared by heads"


@dataclass(frozen=True, kw_only=True)
class KineticsSizes(Sizes):
    """How much is asked, and at which lengths."""

    lengths: tuple[int, ...] = size((100, 300, 1_000, 3_000, 10_000, 30_000), "tokens generated, in tables")
    pairs: int = size(128, "prompts of the task", least=2)
    keys: int = size(8, "that every query keeps")
    draws: int = size(20, "of random keys")
    contexts: tuple[int, ...] = size(
        (256, 512, 1_024, 2_048, 4_096, 8_192, 16_384), "tokens that are kept, for the time of one token"
    )
    repeats: int = size(7, "of a timed step; the least counts")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.contexts) < 3:
            raise OptionError(
                f"contexts is {list(self.contexts)}; at least three are needed for a rank correlation",
                hint="--set contexts=256,512,1024, or more",
            )


def measure(setting: Setting) -> Conditions:
    """Count costs of the family, ask the model with few keys, and time one token."""
    c = Conditions(unit="share of right answers", within=SHARE, seed=setting.seed)
    _costs(c, setting.options)
    setting.progress(1, 3, "few keys for every query")
    _sparse(c, setting)
    setting.progress(2, 3, "time of one token")
    _times(c, setting.options, setting.seed)
    return c


def _costs(c: Conditions, o: KineticsSizes) -> None:
    """Shares of reads, and how much more the next larger model costs, by operations and by equivalents."""
    models = qwen3()
    for name, generated in ((READS, LONG), (SHORT_READS, LONG // 10)):
        shares = read_shares(models, prompt=PROMPT, generated=generated)
        c.add(name, np.array(shares), unit="share of equivalents")
    times = next_larger(models, prompt=PROMPT, generated=LONG)
    for name, of in ((BY_FLOP, "flop"), (BY_COST, "equivalent")):
        c.add(name, np.array(times[of]), unit="times the cost of the smaller")
    c.tell("least step", min(times["equivalent"]), control=min(times["flop"]), n=c.n(BY_COST))
    rows = cost_rows(models, o.lengths, prompt=PROMPT, budget=BUDGET)
    c.tables["Costs by length of the answer"] = rows
    c.keep(read_curves(rows))


def _sparse(c: Conditions, setting: Setting) -> None:
    """Right answers of the model with all keys, and with few of them for every query of every head."""
    o, model = setting.options, setting.model
    runs = of_task.paired_runs(model, "kv-retrieval", n=o.pairs, seed=FIRST_SEED + setting.seed)
    setting.begin(runs)
    heads = tuple(f"a{n}" for n in probe.wiring(model).attention_layers)
    right = partial(edits.right_on_task, runs)
    few_keys, lengths = partial(Substitute, heads=heads, keys=o.keys), list(map(len, runs.pairs.clean))
    window = {"heads": heads, "mask": "window", "tokens": max(lengths), "width": o.keys}
    c[FULL], c[SPARSE] = right(), right(few_keys(pattern="top-k"))
    c[LAST] = right(Mask.made_of(window))
    c.draws[RANDOM] = [right(few_keys(pattern="random", seed=seed)) for seed in range(o.draws)]
    length = float(np.mean(lengths))
    c.numbers |= {"keys of a query": o.keys, "tokens of a prompt": length}
    few, whole = o.keys * length, length * (length + 1) / 2
    c.tables["Keys and values that are read for a prompt"] = [
        {"attention": FULL, "keys read": whole, "right": c.mean(FULL)},
        *({"attention": name, "keys read": few, "right": c.mean(name)} for name in (SPARSE, RANDOM, LAST)),
    ]


def _times(c: Conditions, o: KineticsSizes, seed: int) -> None:
    """Seconds of one token in two layers of equal operations in attention, one of which shares keys among heads."""
    how = {"heads": 8, "d_head": 32, "repeats": o.repeats, "seed": seed}
    rows = decode_time.token_times(o.contexts, kv_heads=(8, 1), **how)
    c.tables["One token, one layer, one core"] = rows
    counted = [row["FLOP"] + INTENSITY_HERE * row["numbers read"] for row in rows]
    c.add(TIME, np.array([row["seconds"] for row in rows]), unit="seconds")
    c.add(COUNTED, np.array(counted), unit="operations")
    for name, kv_heads in ((OWN, 8), (SHARED, 1)):
        c.add(name, np.array([row["seconds"] for row in rows if row["KV heads"] == kv_heads]), unit="seconds")


DOES = answers(FULL, LEARNED)
Counted = partial(Claim, models=None)
CountedHere = partial(Extension, models=None)
Answered = partial(Claim, where="abstract, reconstructed; a small model", needs=[DOES])
CLAIMS = {
    "reads": Counted(
        "reading keys and values dominates the cost of long answers",
        above(READS, by=HALF) & above(READS, SHORT_READS),
        why=f"{LONG:,} tokens after {PROMPT:,}; answers of a tenth of that length are the control",
        where="abstract, reconstructed; the formula is that of the code",
    ),
    "sizes": Counted(
        "in equivalents the step to the next larger model is cheaper than in operations alone",
        below(BY_COST, BY_FLOP),
        why="which model is best at a cost depends on how many answers it can give for it; accuracy is left out",
        where="the mechanism of the abstract's claim, reconstructed",
    ),
    "threshold": CountedHere(
        "at some size the next larger model costs hardly more for the same length",
        less("least step", 1.5),
        why="the cheapest step of the family by equivalents; the control is the cheapest by operations",
    ),
    "sparse": Answered(
        "at equal keys read, keys of the head's own choice answer more than the last ones",
        above(SPARSE, LAST),
        why="both read as many keys for every query; the choice itself costs nothing here",
    ),
    "random": Claim(
        "keys of the head's own choice answer more than as many random ones",
        beats_draws(SPARSE, RANDOM),
        why="the same keys for all prompts, drawn anew for each of the draws",
        where="a control of ours", needs=[DOES],
    ),
    "kept": Answered(
        "keys of the head's own choice answer nearly as much as all keys",
        no_worse(SPARSE, FULL, within=NEAR),
        paper="over 5 points better in high-cost regimes",
        why="at a fraction of the reads; the paper's gain comes from longer answers for the same cost",
    ),
    "time": CountedHere(
        "the time of one token follows the counted cost",
        correlates(TIME, COUNTED, least=RANK),
        why="over contexts and two ways of sharing keys, on one core; the rank needs no rate of the machine",
    ),
    "shared": CountedHere(
        "at equal operations of attention a layer whose heads share keys is faster",
        below(SHARED, OWN),
        why="scores and values take the same operations, reads differ eightfold",
    ),
    "coverage": untried(
        "by equivalents larger models solve more problems from a threshold on, and sparse attention over 60 points "
        "more at low cost",
        "coverage on AIME by cost",
        "models of billions of parameters and their answers cannot be had here",
        where="abstract",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="kinetics", source="Sadhukhan et al. 2025", model="zoo:kv", options=KineticsSizes, measure=measure,
    claims=CLAIMS,
))  # fmt: skip
