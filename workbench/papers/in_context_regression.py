"""In-context linear regression demystified (2025): what two softmax heads learn, as matrices and as a function.

One softmax attention layer trained on regression problems, five covariates and forty examples. KQ is the matrix by
which a head compares two examples, OV the one by which it writes what it reads, and their strengths are omega and mu.
Trained heads have KQ = omega I and OV that reads y alone; heads of opposite sign cancel the mean and leave one step of
gradient descent on centred covariates.

Matrices and function are those of the model; its predictions are compared with closed forms whose exact risks are known
(eta is the size of a step). The last column of KQ meets only the query's y, which is 0: it is never trained and is left
out. One, two and four heads are trained here from random starts.

Controls:
- networks that were not trained
- the best single head
- the plain step of gradient descent with the same eta
- predicting zero
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from workbench.core.loading import lazily
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper
from workbench.papers.kit.criteria import above, at_least, at_most, below, between, equal, less, more
from workbench.papers.registry import add_paper
from workbench.training import regression_theory as theory
from workbench.view.pictures import Curves, Heatmap

with lazily():
    from workbench.training import regression as networks

OFF_DIAGONAL, LEAKAGE, HOMOGENEOUS, ZERO_SUM = 0.25, 0.1, 0.1, 0.1
GAMMA, CLOSE, SHARE = 0.13, 0.1, 0.5  # the paper's value, how far from one, of networks
STEP, SAME = "best debiased step", "debiased step, same eta"
FROM_PLAIN, FROM_DEBIASED = "model from plain step, same eta", "model from debiased step, same eta"


@dataclass(frozen=True, kw_only=True)
class RegressionSizes:
    """``draws`` problems for every risk; ``networks`` trained anew for ``steps``, per number of heads and seed."""

    draws: int = 8_000
    networks: int = 4
    seeds: int = 2
    steps: int = 2_000
    lengths: tuple[int, ...] = (10, 20, 40, 100)


def measure(setting: Setting) -> Conditions:
    """Matrices, function and training of a model of the paper's shape; on another nothing can be tested."""
    if why := networks.unfit(setting.model):
        return Conditions(why=why)
    o, seed, c = setting.options, setting.seed, Conditions(unit="squared error")
    kq, ov = networks.matrices(setting.model)
    shape: dict[str, Any] = theory.matrices_in_shape(kq, ov)
    of_matrices(c, shape, networks.untrained_shape(seed))
    heads = theory.active_heads(shape["omega"], shape["mu"])
    _of_function(c, setting, heads)
    how = {"steps": o.steps, "seeds": range(seed, seed + o.seeds), "progress": setting.progress}
    trained = {n: networks.train_with_seeds(o.networks, n, **how) for n in (1, 2, 4)}
    _of_training(c, trained)
    shifted = theory.draw(np.random.default_rng([seed, 7]), o.draws, mean=1.0)
    risks = {f"debiased: {yes}": theory.best_step_risk(shifted, debiased=yes) for yes in (False, True)}
    c.tables["Covariates with a mean of 1: where debiasing pays (not in the paper)"] = [risks]
    c.tables["Networks trained here"] = [row for found in trained.values() for row in found.to_rows()]
    names = [*(f"x{i + 1}" for i in range(kq.shape[-1] - 1)), "y"]
    for h, one in enumerate(kq):
        c.pictures[f"KQ of head {h}"] = Heatmap.of(one, names, names, row_title="key", column_title="query")
    c.pictures["OV: what each head adds"] = Heatmap.of(ov, [f"head {h}" for h in range(len(ov))], names)
    return c


def of_matrices(c: Conditions, shape: Mapping[str, Any], untrained: Mapping[str, float]) -> None:
    """The form of the matrices beside that of networks that were not trained."""
    for key, value in untrained.items():
        c.tell(key, shape[key], control=value, n=shape["active"])
    c.numbers["active heads"] = shape["active"]
    size = np.abs(theory.active_heads(shape["omega"], shape["mu"])[0]).mean()
    c.tell("size", float(size), n=shape["active"])


def _of_function(c: Conditions, setting: Setting, heads: tuple[np.ndarray, np.ndarray]) -> None:
    """Squared errors at the length of training are conditions; at every length their means are a table."""
    risks, n = [], setting.options.draws
    for length in sorted({theory.LENGTH, *setting.options.lengths}):
        errors = networks.errors_of(setting.model, heads, length=length, draws=n, seed=setting.seed)
        risks.append({"examples": length, **{name: float(e.mean()) for name, e in errors.items()}})
        for name, values in errors.items() if length == theory.LENGTH else ():
            c.add(name, values)
    model, step, one = (np.array([row[name] for row in risks]) for name in ("model", SAME, "one head"))
    off, alone = ((np.abs(risk - step) / step).max() for risk in (model, one))
    c.tell("off the step", off, control=alone, n=n)
    c.numbers |= {"risks": risks, "falls": bool((np.diff(model) < 0).all())}
    c.tables["Mean squared error by number of examples"] = risks
    lines, noise = ("model", "one head", SAME, "ridge"), {"noise": theory.NOISE}
    c.pictures["Risk by number of examples"] = Curves.of_rows(
        risks, "examples", lines, log_x=True, reference=noise, x_label="examples", y_label="squared error"
    )


def _of_training(c: Conditions, trained: Mapping[int, networks.Training]) -> None:
    """Where one, two and four heads end, and in which order two of them get there."""
    one, two, four = trained.values()
    n, pairs = one.loss.shape[1], two.pairs(zero_sum=ZERO_SUM)
    c.numbers["single heads"] = np.median(np.abs([one.omega[-1, :, 0], one.mu[-1, :, 0]]), axis=1).tolist()
    c.tell("settled", one.settled(*theory.one_head(), within=0.25).mean(), n=n)
    c.tell("split", four.pairs(zero_sum=ZERO_SUM).mean(), n=n)
    c.numbers["one head, trained"] = one.loss[-1].min()
    c.tell("two heads", two.loss[-1].min(), n=n)
    c.numbers["pairs"] = found = int(pairs.sum())
    if not found:
        c.lacking |= dict.fromkeys(("matched early", "eta"), "none of the networks of two heads found a pair")
        return
    early, start = two.matched_early[pairs].mean(), two.matched_at_start[pairs].mean()
    c.tell("matched early", early, control=start, n=found)
    flow = theory.simplified_flow([0.02, -0.03], [0.03, -0.02], rate=0.01, steps=5_000)[-1]
    c.numbers["flow"] = float(flow[0] @ flow[1])
    c.tell("eta", np.median((two.omega[-1] * two.mu[-1]).sum(-1)[pairs]), n=found)


Pattern = partial(Claim, where="patterns after training")
Course = partial(Claim, where="training dynamics")
CLAIMS = {
    "diagonal": Pattern(
        "KQ is a multiple of the identity", at_most("off_diagonal", OFF_DIAGONAL),
        f"at most {OFF_DIAGONAL:.0%} of every active head's KQ is off the diagonal (Frobenius)", paper=0.0,
        why="a matrix of random entries has 0.93; training for ever would give 0",
    ),
    "last": Pattern(
        "OV reads the y entry only", at_most("leakage", LEAKAGE),
        f"at most {LEAKAGE:.0%} of every active head's OV is elsewhere", paper=0.0,
        why="random entries have 0.91",
    ),
    "signs": Pattern(
        "the signs of KQ and OV match in every head", at_least("sign_agreement", 1),
        "sign(omega) = sign(mu) in all active heads", paper=1.0,
        why="one head with the other sign works against the rest",
    ),
    "homogeneous": Pattern(
        "heads share one size of KQ", at_most("homogeneity", HOMOGENEOUS) & at_least("active heads", 2),
        f"std / mean of |omega| over active heads at most {HOMOGENEOUS:.0%}", paper=0.0,
        why="with fewer than two active heads there is nothing to compare, which fails",
    ),
    "zero": Pattern(
        "OV sums to zero over heads", at_most("zero_sum", ZERO_SUM),
        f"|sum mu| / sum |mu| at most {ZERO_SUM:.0%}", paper=0.0,
        why="the constant part of the softmax, a plain mean of y, is left in proportion to it",
    ),
    "gamma": Claim(
        f"KQ settles at {GAMMA}", between("size", (1 - CLOSE) * GAMMA, (1 + CLOSE) * GAMMA),
        f"mean |omega| of the active heads within {CLOSE:.0%} of {GAMMA}", paper=GAMMA,
        why="the loss is nearly flat along mu omega = const, so that this is a matter of training time",
        where="the trained values of the released runs",
    ),
    "function": Claim(
        "two heads compute one step of debiased gradient descent", below(FROM_DEBIASED, FROM_PLAIN),
        why="both steps have the model's own eta = sum mu omega: only the form can decide",
        where="the heads as a debiased step of gradient descent",
    ),
    "risk": Claim(
        "their risk is that of the best debiased step",
        equal("model", STEP, within=0.03 * theory.best_debiased()[1]),
        "the 95 % interval of the difference, problem by problem, lies within 3 % of that step's exact risk",
        why=f"on the same problems, since their luck moves every risk alike. Exactly that step has "
        f"{theory.best_debiased()[1]:.4f}, predicting 0 {theory.gd_risk(0.0):.2f}",
        where="a formula of ours for the exact risk of that step",
    ),
    "bayes": Claim(
        "their risk is above that of ridge regression, the least that is possible (Bayes)", above("model", "ridge"),
        why="no predictor is better than ridge with this prior, so the contrary would be a mistake",
        where="a check of ours: ridge is the best there is with this prior",
    ),
    "lengths": Claim(
        "two heads also work at other lengths than the one they were trained at",
        at_most("off the step", 0.05) & at_least("falls", 1),
        "within 5 % of the debiased step with the same eta at every length, and falling with it",
        why="the step is what the heads should still compute; the single head's formula is the control",
        where="length generalisation; the bound of 5 % is of ours",
    ),
    "one": Claim(
        "two heads are better than the best single head", less("two heads", "one head, trained", times=0.9),
        "best two-head loss below the best one-head loss by more than 10 %",
        paper="0.22 to 0.25 against 0.40",
        why="best of the networks trained here: some pairs end as one effective head",
        where="the losses at which the released runs settle (0.22 to 0.25 and 0.40)",
    ),
    "settles": Claim(
        "a single head settles at omega = 1/sqrt(d), mu = sqrt(d)/(1 + e(1+noise)d/L)",
        at_least("settled", SHARE), "omega and mu of at least half of the networks within 25 % of these",
        paper=f"{theory.one_head()[0]:.2f}, {theory.one_head()[1]:.2f} (its formula)",
        why="the formula is the paper's limit of large L; 25 % is what L = 40 costs", where="one head",
        found="{single heads[0]:.2f}, {single heads[1]:.2f}",
    ),
    "more": Claim(
        "four heads split into a positive and a negative group that add up to a pair",
        at_least("split", SHARE),
        f"in at least half of the networks: signs match, both signs occur, zero sum within {ZERO_SUM:.0%}",
        why="a head whose product mu omega is below a tenth of the largest is a dummy and does not count",
        where="more heads: groups and dummy heads",
    ),
    "phases": Course(
        "signs match before the loss falls", more("matched early", SHARE),
        "more than half of the networks that find a pair have all signs matched before half of the fall",
        why="half of the fall is the middle between a network's first and last loss; networks that end as one head "
        "have no signs to match; the control is how many match at the start, by chance one in four",
    ),
    "flow": Course(
        "gradient flow on the loss in two vectors ends where training does",
        at_most("eta", "flow", times=1 + CLOSE) & at_least("eta", "flow", times=1 - CLOSE),
        "2 mu omega of the flow within 10 % of that of the median network that found a pair",
        why="mu and omega go on drifting along mu omega = const; their product is what is determined",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="in-context-regression", source="He, Pan, Chen, Yang 2025 (ICML)", model="zoo:regression",
    options=RegressionSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
