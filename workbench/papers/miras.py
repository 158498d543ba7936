"""Miras: a layer as a memory that is trained while it reads, with a choice of what it minimises and what it keeps.

Random keys and values of length 1 are read one after the other, then every key is asked again: the cosine of what the
memory says with the value. Rates are chosen on other streams. Models of one layer are trained side by side on
multi-query recall from the same start, two trainings each: the dot product (linear attention, *hebb*), the *delta*
rule, and Moneta (*lp*), Yaad (*huber*) and Memora (*kl*), each with its own bias and retention. Here every memory is a
matrix where the paper's is an MLP, and the paper was read in an account of others.

Controls:
- values of other keys
- the same streams without outliers
- softmax attention trained alike
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, room, untried
from workbench.papers.kit.criteria import above, at_least, below
from workbench.papers.kit.frames import AS_TOLD, Told
from workbench.papers.kit.trained_arms import (
    REFERENCE_LEARNED,
    OfTrainings,
    TrainedSizes,
    add_arms,
    arms_for,
    in_each,
)
from workbench.papers.options import size as described
from workbench.papers.registry import add_paper

with lazily():
    from workbench.training.mixers import memory_trials

# Criteria, fixed before anything was measured.
ROOM, CLEAN, FIRST_SEED = 0.98, 0.5, 17_000_000
MODELS: dict[Any, str] = {"hebb": "linear attention", "delta": "the delta rule"}  # by rule
MODELS |= {"lp": "Moneta", "huber": "Yaad", "kl": "Memora"}
COSINE = (-1.0, 1.0)
BOTH: tuple[Any, ...] = ("hebb", "delta")  # that are compared on random pairs and on heads


@dataclass(frozen=True, kw_only=True)
class MemorySizes(TrainedSizes):
    """How much is stored and asked."""

    rows: int = described(100, "on which trained arms are judged")
    streams: int = described(60, "of random pairs")
    d: int = described(32, "length of keys and values")
    loads: tuple[float, ...] = described((0.25, 0.5, 1.0, 2.0), "pairs a stream, as multiples of the length")
    few: int = described(16, "pairs a stream with outliers")
    outliers: int = described(2, "of these, so many are longer")
    size: float = described(30.0, "times as long as the others")
    keep: float = described(0.95, "what a forgetting memory keeps at every step")
    texts: int = described(8, "random texts for the heads of the model")
    tokens: int = described(48, "of each text")

    def __post_init__(self) -> None:
        super().__post_init__()
        if 1.0 not in self.loads or self.streams < 2:
            raise OptionError(
                f"loads is {list(self.loads)}, streams {self.streams}; expected 1.0 among the loads, "
                "and at least two streams",
                hint="--set loads=0.5,1.0 --set streams=2, or more",
            )


def measure(setting: Setting) -> Conditions:
    """Fill memories, with outliers and beyond what they hold; judge trained ones; read heads as memories."""
    o: MemorySizes = setting.options
    c = Conditions(unit="cosine", within=COSINE, seed=setting.seed)
    _loads(c, o, FIRST_SEED + 100 * setting.seed)
    _outliers(c, o, FIRST_SEED + 100 * setting.seed + 1)
    _retention(c, o, FIRST_SEED + 100 * setting.seed + 2)
    arms, rows = arms_for(setting, "memories", first_seed=FIRST_SEED)
    add_arms(c, arms, rows)
    _heads(c, setting, o)
    return c


def _loads(c: Conditions, o: MemorySizes, seed: int) -> None:
    """Recall by the number of pairs."""
    rows = []
    for load in o.loads:
        row: dict[str, object] = {"pairs": (n := max(2, round(load * o.d)))}
        for rule in BOTH:
            found = memory_trials.recall_of_drawn(rule, n, o.d, streams=o.streams, seed=seed)
            row |= {MODELS[rule]: float(found.own.mean()), f"rate of {MODELS[rule]}": found.rate}
            if load == 1:
                c[f"{rule}, full"], c[f"{rule}, full, values of other keys"] = found.own, found.control
        rows.append(row)
    c.tables[f"Recall by the number of pairs, {o.d} dimensions"] = rows


def _outliers(c: Conditions, o: MemorySizes, seed: int) -> None:
    """Recall of ordinary pairs, where some values are far longer, and where none are."""
    how: dict[str, Any] = {"many": o.outliers, "size": o.size, "streams": o.streams, "seed": seed}
    rows = []
    for rule, name in MODELS.items():
        found = memory_trials.recall_beside_outliers(rule, o.few, o.d, **how)
        c[f"{rule}, outliers"], c[f"{rule}, no outliers"] = found.control, found.own
        means = {what: c.mean(f"{rule}, {what}") for what in ("no outliers", "outliers")}
        rows.append({"rule": name, "rate": found.rate, **means})
    c.tables[f"Recall of ordinary pairs beside {o.outliers} values {o.size:g} times as long"] = rows


def _retention(c: Conditions, o: MemorySizes, seed: int) -> None:
    """Recall of the newest and the oldest quarter, of a delta rule that keeps everything and one that forgets."""
    n, rows = o.d + o.d // 2, []
    for name, keep in (("keeping", 1.0), ("forgetting", o.keep)):
        found = memory_trials.recall_by_age("delta", n, o.d, keep=keep, streams=o.streams, seed=seed)
        c[f"{name}, oldest quarter"], c[f"{name}, newest quarter"] = found.oldest, found.newest
        rows.append({"memory": name, **found.row()})
    c.tables[f"Recall by age, {n} pairs in {o.d} dimensions, the first part is the oldest"] = rows


def _heads(c: Conditions, setting: Setting, o: MemorySizes) -> None:
    """Recall of a head's own values from its own keys by both rules."""
    drawn = {"texts": o.texts, "tokens": o.tokens, "seed": FIRST_SEED + setting.seed}
    heads, found = memory_trials.recall_of_heads(setting.model, BOTH, **drawn)
    clusters = [head for head in heads for _ in range(o.texts)]
    for rule, cosines in found.items():
        c.add(f"{rule}, heads", cosines.flatten(), within=COSINE, unit="cosine", clusters=clusters)
    c.tables["Heads of the model as memories"] = [
        {"head": head, **{MODELS[rule]: float(cosines[i].mean()) for rule, cosines in found.items()}}
        for i, head in enumerate(heads)
    ]


def _beats(rule: str) -> Claim:
    return OfTrainings(
        f"trained, {MODELS[rule]} recalls more than linear attention and the delta rule",
        in_each(above, rule, "hebb") & in_each(above, rule, "delta"),
        why="the same layer, start and batches; in each of two trainings",
        where=f"{AS_TOLD}; the memory is a matrix here",
        needs=[REFERENCE_LEARNED, GAIN],
    )


GAIN = room("delta", ROOM, "the delta rule answers {delta:.1%} of the questions rightly")
STORES = needs(
    at_least("delta, no outliers", CLEAN),
    f"without outliers the delta rule recalls with a cosine of {{delta, no outliers:.2f}}; {CLEAN:g} is asked for",
)
CLAIMS = {
    "stores": Told(
        "the delta rule stores more than the dot product",
        above("delta, full", "hebb, full") & above("delta, full", "delta, full, values of other keys"),
        why="as many pairs as dimensions; values of other keys are the chance level",
    ),
    "huber": Told(
        "Huber withstands outliers where squared error does not",
        above("huber, outliers", "delta, outliers"),
        why="recall of the ordinary pairs alone; rates were chosen on streams without outliers",
        needs=[STORES],
    ),
    "lp": Told(
        "an l_p norm with the paper's p of 3 withstands outliers, too",
        above("lp, outliers", "delta, outliers"),
        why="the same streams",
        needs=[STORES],
    ),
    "retention": Told(
        "forgetting recalls new pairs better, and old pairs worse, than keeping everything",
        above("forgetting, newest quarter", "keeping, newest quarter")
        & below("forgetting, oldest quarter", "keeping, oldest quarter"),
        why="half as many pairs again as dimensions: what is kept longer costs what is new",
    ),
    "heads": Claim(
        "on keys and values of a model's heads the delta rule recalls more than the dot product, too",
        above("delta, heads", "hebb, heads"),
        why="keys of heads are not random: heads are drawn together with their texts",
        where="an extension of ours",
    ),
    "moneta": _beats("lp"),
    "yaad": _beats("huber"),
    "memora": _beats("kl"),
    "scale": untried(
        "Moneta, Yaad and Memora surpass transformers and linear recurrent models in language",
        "perplexity and accuracy at the paper's sizes",
        "training at that size cannot be had here",
        where=AS_TOLD,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="miras",
        source="Behrouz et al. 2025",
        model="zoo:induction",
        options=MemorySizes,
        measure=measure,
        claims=CLAIMS,
    )
)
