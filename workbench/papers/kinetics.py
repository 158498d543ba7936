"""Kinetics: what generating costs is reading keys and values, and that changes which model and which attention is best.

Costs are counted by the model that ``--dry-run`` and the page on larger models use: operations, and bytes of keys and
values, joined by the operations that a device does in the time of one byte. Shapes are those of six published models
of one family (Qwen3, 0.6 to 32 billion parameters). Whether sparse attention wins at equal cost is asked of a model
that finds values by keys: it reads its whole prompt, or only a few keys for every query. The time of one token is
measured here, on one core, in layers with random numbers.

Controls:
- as many keys drawn at random
- as many of the last keys
- layers with equal operations of attention whose heads share keys, for time
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.edits import kinds, substitute
from workbench.engine.generation_cost import GenerationCost, generation_cost
from workbench.model.outline import Outline
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, beats_draws, below, correlates, less, no_worse
from workbench.papers.registry import add_paper
from workbench.view.pictures import Curves

if TYPE_CHECKING:
    from workbench.edits.edit import ModelEdit

with lazily():
    from workbench.edits import measure as edits
    from workbench.engine import decode_time, of_task
    from workbench.model import probe

# Criteria, fixed before anything was measured.
HALF, LEARNED, NEAR, RANK = 0.5, 0.8, 0.05, 0.8
PROMPT, LONG = 1_000, 10_000  # tokens of a prompt and of a long answer
FIRST_SEED = 18_000_000
FAMILY = {  # billions of parameters, layers, heads; every one has 8 KV heads of 128
    "0.6B": (0.596, 28, 16), "1.7B": (1.72, 28, 16), "4B": (4.02, 36, 32),
    "8B": (8.19, 36, 32), "14B": (14.8, 40, 40), "32B": (32.8, 64, 64),
}  # fmt: skip
READS, SHORT_READS = "share of reads", "share of reads at a tenth of the length"
BY_FLOP, BY_COST = (
    "cost of the next larger model, by operations",
    "cost of the next larger model, by equivalents",
)
FULL, SPARSE, RANDOM, LAST = (
    "all keys",
    "few keys by the head's own score",
    "few random keys",
    "the last few keys",
)
TIME, COUNTED = "seconds of one token", "equivalents of one token"
OWN, SHARED = "seconds, keys of every head", "seconds, keys shared by heads"


@dataclass(frozen=True, kw_only=True)
class KineticsSizes:
    """Sizes.

    Attributes:
        lengths: Tokens generated, in the tables.
        pairs: Prompts of the task.
        keys: That every query keeps.
        draws: Of random keys.
        contexts: Tokens that are kept, for the time of one token.
        repeats: Of a timed step; the least counts.
    """

    lengths: tuple[int, ...] = (100, 300, 1_000, 3_000, 10_000, 30_000)
    pairs: int = 128
    keys: int = 8
    draws: int = 20
    contexts: tuple[int, ...] = (256, 512, 1_024, 2_048, 4_096, 8_192, 16_384)
    repeats: int = 7

    def __post_init__(self) -> None:
        if self.pairs < 2 or len(self.contexts) < 3:
            raise OptionError("two prompts and three contexts are the least that can be compared")


def family() -> dict[str, Outline]:
    """The outlines of six published models of one family."""
    return {
        name: Outline(
            name=name, n_layers=layers, n_heads=heads, n_kv_heads=8, d_model=heads * 128, d_head=128,
            n_parameters=int(billions * 1e9), attn_only=False, parallel=False, head_writes=True,
        )
        for name, (billions, layers, heads) in FAMILY.items()
    }  # fmt: skip


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
    models = family()

    def cost(name: str, generated: int, **how: Any) -> GenerationCost:
        return generation_cost(models[name], prompt=PROMPT, generated=generated, **how)

    for name, generated in ((READS, LONG), (SHORT_READS, LONG // 10)):
        c.add(
            name, np.array([cost(one, generated).read_share for one in models]), unit="share of equivalents"
        )
    steps = list(pairwise(models))
    for name, of in ((BY_FLOP, "flop"), (BY_COST, "equivalent")):
        times = [getattr(cost(large, LONG), of) / getattr(cost(small, LONG), of) for small, large in steps]
        c.add(name, np.array(times), unit="times the cost of the smaller")
    c.tell("least step", float(c[BY_COST].min()), control=float(c[BY_FLOP].min()), n=len(steps))
    rows = []
    for name in models:
        for generated in o.lengths:
            dense, few = cost(name, generated), cost(name, generated, budget=1_024)
            rows.append({
                "model": name, "generated": generated, "TFLOP": dense.flop / 1e12,
                "equivalent TFLOP": dense.equivalent / 1e12, "share of reads": dense.read_share,
                "equivalent TFLOP, 1,024 keys": few.equivalent / 1e12,
            })  # fmt: skip
    c.tables["Costs by length of the answer"] = rows
    lines: list[dict[str, Any]] = [
        {"generated": n, **{str(r["model"]): r["share of reads"] for r in rows if r["generated"] == n}}
        for n in o.lengths
    ]
    c.pictures["Reads by length of the answer"] = Curves.of_rows(
        lines, "generated", list(models), log_x=True, x_label="tokens generated", y_label="share of reads"
    )


def _sparse(c: Conditions, setting: Setting) -> None:
    """Right answers of the model with all keys, and with few of them for every query of every head."""
    o, model = setting.options, setting.model
    runs = setting.begin(
        of_task.paired_runs(model, "kv-retrieval", n=o.pairs, seed=FIRST_SEED + setting.seed)
    )
    heads = tuple(f"a{n}" for n in probe.wiring(model).attention_layers)

    def answers(edit: ModelEdit | None) -> np.ndarray:
        return edits.on_task(runs, edit)["accuracy"]

    c[FULL] = answers(None)
    c[SPARSE] = answers(substitute.Substitute(heads=heads, pattern="top-k", keys=o.keys))
    most = max(map(len, runs.pairs.clean))
    settings = {"heads": heads, "mask": "window", "tokens": most, "width": o.keys}
    c[LAST] = answers(kinds.Mask.made_of(settings))
    c.draws[RANDOM] = [
        answers(substitute.Substitute(heads=heads, pattern="random", keys=o.keys, seed=seed))
        for seed in range(o.draws)
    ]
    length = float(np.mean([len(ids) for ids in runs.pairs.clean]))
    c.numbers |= {"keys of a query": o.keys, "tokens of a prompt": length}
    few, whole = o.keys * length, length * (length + 1) / 2
    c.tables["Keys and values that are read for a prompt"] = [
        {"attention": FULL, "keys read": whole, "right": c.mean(FULL)},
        *({"attention": name, "keys read": few, "right": c.mean(name)} for name in (SPARSE, RANDOM, LAST)),
    ]


def _times(c: Conditions, o: KineticsSizes, seed: int) -> None:
    """Seconds of one token in two layers of equal operations in attention, one of which shares keys among heads."""
    import torch

    threads, rows = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for kv_heads in (8, 1):
            shape = decode_time.LayerShape(heads=8, kv_heads=kv_heads, d_head=32)
            for context in o.contexts:
                step = decode_time.decode_step(shape, context, seed=seed)
                rows.append({
                    "KV heads": kv_heads, "context": context, "FLOP": shape.flop(context),
                    "numbers read": shape.read(context), "seconds": decode_time.seconds_of(step, repeats=o.repeats),
                })  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    c.tables["One token, one layer, one core"] = rows
    c.add(TIME, np.array([row["seconds"] for row in rows]), unit="seconds")
    # a core does about as many operations as it reads numbers in the same time, to one order of magnitude
    c.add(
        COUNTED,
        np.array([row["FLOP"] + INTENSITY_HERE * row["numbers read"] for row in rows]),
        unit="operations",
    )
    for name, kv_heads in ((OWN, 8), (SHARED, 1)):
        c.add(name, np.array([row["seconds"] for row in rows if row["KV heads"] == kv_heads]), unit="seconds")


INTENSITY_HERE = (
    10.0  # operations in the time of one number read, of one core; only the order of costs is used
)
DOES = needs(
    at_least(FULL, LEARNED),
    f"with all keys the model answers {{{FULL}:.0%}} of the prompts; 80 % is asked for",
)
CLAIMS = {
    "reads": Claim(
        "reading keys and values dominates the cost of long answers",
        above(READS, by=HALF) & above(READS, SHORT_READS),
        why=f"{LONG:,} tokens after {PROMPT:,}; answers of a tenth of that length are the control",
        where="abstract, reconstructed; the formula is that of the code", models=None,
    ),
    "sizes": Claim(
        "operations flatter small models: by equivalents the next larger one costs less for the same length",
        below(BY_COST, BY_FLOP),
        why="which model is best at a cost depends on how many answers it can give for it; accuracy is left out",
        where="the mechanism of the abstract's claim, reconstructed", models=None,
    ),
    "threshold": Claim(
        "from the small models on a larger one costs hardly more",
        less("least step", 1.5),
        why="the cheapest step of the family by equivalents; the control is the cheapest by operations",
        where="an extension of ours", models=None,
    ),
    "sparse": Claim(
        "at equal keys read, keys of the head's own choice answer more than the last ones",
        above(SPARSE, LAST),
        why="both read as many keys for every query; the choice itself costs nothing here",
        where="abstract, reconstructed; a small model", needs=[DOES],
    ),
    "random": Claim(
        "and more than as many random ones",
        beats_draws(SPARSE, RANDOM),
        why="the same keys for all prompts, drawn anew for each of the draws",
        where="a control of ours", needs=[DOES],
    ),
    "kept": Claim(
        "and nearly as many as with all keys",
        no_worse(SPARSE, FULL, within=NEAR),
        paper="over 5 points better in high-cost regimes",
        why="at a fraction of the reads; the paper's gain comes from longer answers for the same cost",
        where="abstract, reconstructed; a small model", needs=[DOES],
    ),
    "time": Claim(
        "the time of one token follows the counted cost",
        correlates(TIME, COUNTED, least=RANK),
        why="over contexts and two ways of sharing keys, on one core; the rank needs no rate of the machine",
        where="an extension of ours", models=None,
    ),
    "shared": Claim(
        "at equal operations of attention a layer whose heads share keys is faster",
        below(SHARED, OWN),
        why="scores and values take the same operations, reads differ eightfold",
        where="an extension of ours", models=None,
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
