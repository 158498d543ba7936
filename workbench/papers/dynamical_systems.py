"""Dynamical systems: attention, state-space models and recurrent networks as one recurrence, and what a gate is worth.

A layer is a state that is carried on: a transition says what stays, and what comes in is added. Linear attention,
normalised attention, a state-space model with a scalar transition and a quasi-LSTM differ in transition and gain alone.
Models of one layer are trained side by side on multi-query recall from the same start, two trainings each; all gated
ones begin with the same transition, 0.982. Of the paper its common form was read in an account of others, and its
table is reconstructed. The model that is asked for gives the table of transitions: of a Mamba, Mamba-2 or RWKV, or of
softmax heads.

Controls:
- transitions of another row
- a transition of one
- the pattern of another row
- softmax attention trained alike
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions, Paper, room, untried
from workbench.papers.kit.criteria import above, at_most, below, slopes
from workbench.papers.kit.trained_arms import (
    REFERENCE_LEARNED,
    OfTrainings,
    Trained,
    TrainedSizes,
    add_arms,
    arms_for,
    in_each,
)
from workbench.papers.options import size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.heads import state_spectrum, transitions
    from workbench.training.mixers import arm_states

# Criteria, fixed before anything was measured.
ROUNDING, ROOM, FIRST_SEED = 1e-3, 0.98, 16_000_000
SOFTMAX, LSTM, REVERSED, TIED = "softmax", "quasi-LSTM", "reversed sigmoid", "reversed and tied"
NORMALISERS = tuple(f"normalised, {kind}" for kind in ("exponential", "softplus", "sigmoid"))


@dataclass(frozen=True, kw_only=True)
class GateSizes(TrainedSizes):
    """How much is asked, and with how many features."""

    rows: int = size(100, "on which trained arms are judged")
    states: int = size(32, "rows on which step by step and at once are compared")
    features: tuple[int, ...] = size((16, 64, 256, 1024), "how many features approach softmax")
    draws: int = size(4, "random features of each number")
    texts: int = size(4, "random texts for the transitions of the model that is asked for")
    tokens: int = size(32, "of each text")

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.states, len(self.features)) < 2:
            raise OptionError(
                f"states is {self.states}, features {list(self.features)}; at least two states and two "
                "numbers of features are needed",
                hint="--set states=2 --set features=16,64, or more",
            )


def measure(setting: Setting) -> Conditions:
    """Compare step by step with at once, features with softmax, gates with each other; read transitions."""
    import torch

    o: GateSizes = setting.options
    c = Conditions(seed=setting.seed)
    found, rows = arms_for(setting, "gates", first_seed=FIRST_SEED)
    add_arms(c, found, rows)
    ids = torch.from_numpy(rows.inputs[: o.states]).long()
    _step_by_step(c, found, ids)
    _features(c, found, ids, o)
    _tables(c, setting, found, ids)
    return c


def _step_by_step(c: Conditions, found: Any, ids: Any) -> None:
    """How far outputs of a recurrence are from those of the pattern, with the right transitions and with others."""
    import torch

    unit = "share of the largest output"
    for arm in (LSTM, TIED, NORMALISERS[0]):
        parts = [arm_states.read_state(models[arm], ids) for models in found.models.values()]
        own = np.mean([part.apart() for part in parts], axis=0)
        other = np.mean([part.apart(part.transition.roll(1, 0)) for part in parts], axis=0)
        one = np.mean([part.apart(torch.ones_like(part.transition)) for part in parts], axis=0)
        c.add(f"difference, {arm}", own, unit=unit)
        c.add(f"difference, {arm}, transitions of another row", other, unit=unit)
        c.add(f"difference, {arm}, a transition of one", one, unit=unit)


def _features(c: Conditions, found: Any, ids: Any, o: GateSizes) -> None:
    """How far linear attention with random features is from softmax, by their number, on trained queries and keys."""
    errors = []
    for models in found.models.values():
        seen = arm_states.queries_and_keys(models[SOFTMAX], ids)
        errors.append([arm_states.feature_errors(*seen, n=n, draws=o.draws) for n in o.features])
    own, other = np.mean(errors, axis=0).transpose(1, 0, 2)  # (own or another row's, number, row)
    rows = list(range(len(ids)))
    clusters = rows * len(o.features)
    c.add("log error", np.log(own).ravel(), unit="log of the distance", clusters=clusters)
    doubled = np.repeat(np.log(o.features), len(rows))
    c.add("log features", doubled, unit="log of their number", clusters=clusters)
    c["error, most features"], c["error, the pattern of another row"] = own[-1], other[-1]
    c.tables["Distance of linear attention from softmax"] = [
        {"features": n, "its own pattern": float(mine), "that of another row": float(theirs)}
        for n, mine, theirs in zip(o.features, own.mean(1), other.mean(1), strict=True)
    ]


def _tables(c: Conditions, setting: Setting, found: Any, ids: Any) -> None:
    """Transitions of trained arms, and of the model that is asked for."""
    first = next(iter(found.models.values()))
    c.tables["Transitions of trained arms"] = [
        {"arm": arm, **transitions.spectrum_row(arm_states.read_state(first[arm], ids).transition)}
        for arm in (LSTM, "reversed sigmoid", TIED, *NORMALISERS)
    ]
    o = setting.options
    how = {"texts": o.texts, "tokens": o.tokens, "seed": FIRST_SEED + setting.seed}
    kind, spectrum = state_spectrum.spectrum_of(setting.model, **how)
    c.tables[f"Transitions of {setting.name}: {kind}, {o.texts} random texts"] = [
        {"part": part, **row} for part, row in spectrum.items()
    ]


FormTold = partial(OfTrainings, where="the common form, as told by others")
GAIN = room(LSTM, ROOM, f"the {LSTM} answers {{{LSTM}:.1%}} of the questions rightly")
TRAINED = [REFERENCE_LEARNED, GAIN]
CLAIMS = {
    "recurrent": FormTold(
        "a gated network computes the same step by step and at once",
        at_most(f"difference, {LSTM}", ROUNDING)
        & below(f"difference, {LSTM}", f"difference, {LSTM}, transitions of another row"),
        why="float32 on both sides; transitions of another row show that the transition matters",
    ),
    "state space": FormTold(
        "normalised attention is a state-space model whose transition is the ratio of its normalisers",
        at_most(f"difference, {NORMALISERS[0]}", ROUNDING)
        & below(f"difference, {NORMALISERS[0]}", f"difference, {NORMALISERS[0]}, a transition of one"),
        why="a transition of one, as linear attention without a normaliser has it, is the control",
    ),
    "features": FormTold(
        "with more features linear attention approaches softmax",
        slopes("log error", "log features", falls=True),
        why="positive random features of trained queries and keys; the slope of log error, rows drawn together",
    ),
    "own": OfTrainings(
        "linear attention approaches the softmax pattern of its own row, not that of any row",
        below("error, most features", "error, the pattern of another row"),
        why="patterns of one layer are alike: a distance alone does not say that it is this row's",
        where="a control of ours",
    ),
    "gate": OfTrainings(
        "the reversed sigmoid of a state-space model as transition beats the gate of a quasi-LSTM",
        in_each(above, REVERSED, LSTM),
        why="only the transition differs; both begin with 0.982; in each of two trainings",
        where="as told by others",
        needs=TRAINED,
    ),
    "tied": OfTrainings(
        "the reversed sigmoid beats a quasi-LSTM also with its gain tied, as in a state-space model",
        in_each(above, TIED, LSTM),
        why="the other reading of the exchange: a state-space model discretises both alike",
        where="as told by others, reconstructed",
        needs=TRAINED,
    ),
    "exponential": Trained(
        "of learned normalisers the exponential is best",
        in_each(above, NORMALISERS[0], NORMALISERS[1]) & in_each(above, NORMALISERS[0], NORMALISERS[2]),
        why="the same attention with another positive function",
        where="as told by others",
    ),
    "arena": untried(
        "rankings on Long Range Arena and WikiText-103",
        "accuracy and perplexity of the paper's models",
        "training at that size cannot be had here",
        where="as told by others",
    ),
}  # fmt: skip
REPLICATION = add_paper(
    Paper(
        name="dynamical-systems",
        source="Sieber et al. 2024",
        model="zoo:induction",
        options=GateSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
