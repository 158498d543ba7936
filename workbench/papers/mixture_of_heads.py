"""Mixture of heads: for every token a router keeps some heads, and a trained model is tuned on to live with them.

The attention of a trained language model is tuned on, the rest of it stays: with all heads, or with three of four
heads for every token, the first of each layer and two of the others. A learned router with weights in two stages, and
the paper's router without weights (the longest queries), are tuned from the same start, on the same windows, two seeds
each. They read 0.7% as many tokens as the first training did, which is the paper's share; the rate was chosen of two on
seed 91, where a learned router was seen, too. Before that, heads are routed without tuning. Losses are of windows of
files that nothing was trained on.

Controls:
- a router that draws as many heads at random, for every token and step anew
- the same heads always: of each layer those without which the loss rises most
- the model tuned with all of its heads, the reference
- without tuning: the shortest queries, and random heads
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.errors import ModelError, OptionError
from workbench.core.loading import lazily
from workbench.edits.route_heads import RouteHeads
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import at_most, beats_draws, below
from workbench.papers.kit.trained_arms import TRAININGS, OfTrainings, in_each, of_training
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.edits import head_routing
    from workbench.edits import measure as edit_measure
    from workbench.training import routed_arms, routed_heads

# Criteria, fixed before anything was measured.
NEARLY, CONVERGED, ROUNDING, FIRST_SEED = 0.02, 0.01, 1e-4, 13_000_000
ALL, LEARNED, QUERY, RANDOM, SAME = "all heads", "learned", "query-norm", "random", "same heads"
LIMIT, AS_IS, NOT_TUNED = "2% above all heads", "the model as it is", "untuned"
LOWEST, CHANGED = "lowest-norm", "largest change of a loss with all heads routed and active"
UNIT = "nats a token"


@dataclass(frozen=True, kw_only=True)
class MixtureSizes:
    """How much is read, and how heads are routed."""

    windows: int = size(96, "of the text on which losses are taken")
    window: int = size(64, "tokens of each")
    draws: int = size(20, "random routers, without tuning")
    shared: int = size(1, "heads of every layer that always stay")
    active: int = size(2, "of the others that do for a token")
    retrain: bool = size(False, "tune anew in place of the shipped arms, with seeds that none of them has")
    steps: int = size(0, "of a tuning anew; 0 for those of the recipe")

    def __post_init__(self) -> None:
        if self.windows < 2 or self.draws < 1:
            raise OptionError(
                f"{self.windows} windows and {self.draws} draws; two and one are the least",
                hint="--set windows=96 --set draws=20",
            )
        if self.steps and not self.retrain:
            raise OptionError("steps are those of a tuning anew", hint="--retrain --set steps=100")


def measure(setting: Setting) -> Conditions:
    """Route the heads of the model without tuning, then ask the tuned arms on the same windows."""
    o, model = setting.options, setting.model
    c = Conditions(unit=UNIT, within=None, seed=setting.seed)
    windows = routed_arms.held_out_windows(model, o.windows, window=o.window, seed=[FIRST_SEED, setting.seed])
    steps = o.steps or routed_arms.TUNING.steps
    tuning = routed_heads.HeadTuning(shared=o.shared, active=o.active, steps=steps)
    heads = routed_heads.routed_names(model, tuning)

    def loss(edit: RouteHeads | None) -> Any:
        return edit_measure.on_text(model, windows, edit)["loss"]

    c[AS_IS] = loss(None)
    whole = loss(RouteHeads(heads=heads, active=len(heads) // len({head.split(".")[0] for head in heads})))
    c.tell(CHANGED, float(abs(whole - c[AS_IS]).max()), n=o.windows)
    for by in ("query-norm", "lowest-norm"):
        c[f"{by}, {NOT_TUNED}"] = loss(RouteHeads(heads=heads, active=o.active, by=by))
    drawn = [RouteHeads(heads=heads, active=o.active, by="random", seed=i) for i in range(o.draws)]
    c.draws[f"{RANDOM}, {NOT_TUNED}"] = [loss(edit) for edit in setting.each(drawn, "random routers")]
    _tuned(c, setting, tuning, windows)
    return c


def _tuned(c: Conditions, setting: Setting, tuning: Any, windows: Any) -> None:
    """The tuned arms, over their trainings and in each; and how evenly they use heads."""
    o, model = setting.options, setting.model
    if setting.name != routed_arms.MODEL and not o.retrain:
        why = f"tuned arms are shipped for {routed_arms.MODEL}; --retrain tunes those of {setting.name}"
        for arm in (ALL, LEARNED, QUERY, RANDOM, SAME):
            c.lack(arm, why)
        return
    seeds = [1000 + 10 * setting.seed + i for i in range(TRAININGS)] if o.retrain else routed_arms.SEEDS
    how: dict[str, Any] = {"tuning": tuning, "progress": setting.progress}
    try:
        arms = routed_arms.tuned_arms(model, retrain=o.retrain, seeds=seeds, **how)
    except ModelError as problem:  # none are shipped, or they are of another recipe
        for arm in (ALL, LEARNED, QUERY, RANDOM, SAME):
            c.lack(arm, problem.message)
        return
    rows = []
    for i, own in enumerate(arms.values()):
        for arm, tuned in own.items():
            with head_routing.watched() as routings:
                c[of_training(arm, i)] = tuned.loss(model, windows)
            rows += [{"arm": arm, "training": i + 1, **row} for row in head_routing.use_of_heads(routings)]
        c[of_training(LIMIT, i)] = (1 + NEARLY) * c[of_training(ALL, i)]
    c.tables["How evenly heads are used"] = rows
    for name in (*routed_heads.ARMS, LIMIT):
        c[name] = np.mean([c[of_training(name, i)] for i in range(TRAININGS)], axis=0)
    c.numbers["gain of tuning"] = c.mean(AS_IS) - c.mean(ALL)
    c.numbers["weights"] = "tuned anew" if o.retrain else "shipped"


FIT = [
    needs(
        lambda c: c.numbers.get("gain of tuning", 0) <= CONVERGED * c.mean(AS_IS),
        "tuned on with all heads it gains {gain of tuning:.3f} nats: it had not converged, which flatters routing",
    )
]


def _back(arm: str, says: str, **how: Any) -> Claim:
    return OfTrainings(
        says,
        in_each(below, arm, LIMIT),
        why="the loss of the model that was tuned on with all heads, plus two in a hundred; in each of two tunings",
        needs=FIT,
        **how,
    )


def _better(arm: str, over: str, says: str) -> Claim:
    return OfTrainings(
        says,
        in_each(below, arm, over),
        why="the same start, windows and number of heads; paired over windows, in each of two tunings",
        where="a control of ours",
        needs=FIT,
    )


TUNED = "continue-tuning of LLaMA3-8B"
CLAIMS = {
    "identity": Claim(
        "with all heads active routing changes nothing", at_most(CHANGED, ROUNDING),
        why="an identity, up to rounding of float32", where="definition of the router",
    ),
    "lowest": Claim(
        "without tuning, heads with long queries are worth more than heads with short ones",
        below(f"{QUERY}, {NOT_TUNED}", f"{LOWEST}, {NOT_TUNED}"),
        why="as many heads of each layer for every token; paired over windows",
        where="the router of the paper's code",
    ),
    "drawn": Claim(
        "without tuning, heads with long queries are worth more than random heads",
        beats_draws(f"{QUERY}, {NOT_TUNED}", f"{RANDOM}, {NOT_TUNED}", lower=True),
        why="as many heads of each layer, drawn for every token", where="a control of ours",
    ),
    "back, query": _back(
        QUERY,
        "tuned on with three of four heads, those of the longest queries, the loss comes back to that of all heads",
        paper="about 95% of the quality after 10B tokens", where=TUNED,
    ),
    "back, learned": _back(
        LEARNED, "tuned on with a learned router, the loss comes back to that of all heads, too",
        paper="beats plain attention with 50 to 90% of the heads",
        where="vision, pictures and language models",
    ),
    "query, random": _better(QUERY, RANDOM, "tuned, the longest queries beat random heads"),
    "query, same": _better(QUERY, SAME, "tuned, the longest queries beat the same heads for every token"),
    "learned, random": _better(LEARNED, RANDOM, "tuned, a learned router beats random heads"),
    "learned, same": _better(LEARNED, SAME, "tuned, a learned router beats the same heads for every token"),
    "benchmarks": untried(
        "the tuned model is better than the dense one on 14 benchmarks",
        "accuracy on 14 benchmarks, LLaMA3-8B, 100B tokens", "a model and a tuning of that size cannot be had here",
        paper="64.0%, +2.4", where=TUNED,
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="mixture-of-heads",
        source="Jin et al. 2024",
        model="zoo:stdlib",
        options=MixtureSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
