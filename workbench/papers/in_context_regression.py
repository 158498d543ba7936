"""In-context linear regression demystified (2025): what two softmax heads learn, as matrices and as a function.

The matrices are read from an opened model of the paper's shape; training, one head and four heads are run here. Exact
formulas are in ``workbench/training/regression_theory.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.claims import Rows
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, above, equal, fact
from workbench.papers.options import RegressionSizes
from workbench.training.regression import (
    Networks,
    Training,
    matrices,
    phases,
    predict,
    tensors,
    train_networks,
)
from workbench.training.regression_theory import (
    LENGTH,
    NOISE,
    D,
    RegressionPrompts,
    active_heads,
    best_debiased,
    draw,
    gd_risk,
    gradient_descent,
    is_pair,
    matrices_in_shape,
    one_head,
    ridge,
    simplified_flow,
    softmax_pair,
)
from workbench.view.pictures import Curves, Heatmap, Picture

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Criteria, fixed before anything was measured.
OFF_DIAGONAL, LEAKAGE, HOMOGENEOUS, ZERO_SUM = 0.25, 0.1, 0.1, 0.1
CLOSE = 0.1  # of the paper's value
GAMMA, MU = 0.13, 3.45
SHARE = 0.5  # of networks
SAME, STEP = "debiased step, same eta", "best debiased step"
FROM_PLAIN, FROM_DEBIASED = "model from plain step, same eta", "model from debiased step, same eta"


def measure(setting: Setting) -> Conditions:
    """Matrices, function and training of a model of the paper's shape; on another nothing can be tested."""
    why = unfit(setting.model)
    if why:
        return Conditions(why=why)
    options, seed = setting.options, setting.seed
    c = Conditions(seed=0, unit="squared error")
    kq, ov = matrices(setting.model)
    shape = matrices_in_shape(kq, ov)
    c.numbers |= {"shape": shape, "untrained": _untrained(seed)}
    c.numbers["risks"] = risks = []
    for length in options.lengths:
        errors = _errors(setting.model, shape, length, options.draws, seed)
        risks.append({"examples": length, **{name: float(e.mean()) for name, e in errors.items()}})
    for name, errors in _errors(setting.model, shape, LENGTH, options.draws, seed).items():
        c.add(name, errors)
    trained = {}
    for heads in (1, 2, 4):
        how = {"steps": options.steps, "seed": seed, "progress": setting.progress}
        trained[heads] = train_networks(options.networks, heads, **how)
    _of_training(c, trained)
    c.tables["Mean squared error by number of examples"] = risks
    mean = _with_a_mean(options.draws, seed, shape)
    c.tables["Covariates with a mean of 1: where debiasing pays (not in the paper)"] = [mean]
    c.tables["Networks trained here"] = _trained_rows(trained)
    c.pictures |= _pictures(kq, ov, risks, trained[2])
    return c


def unfit(model: TransformerBridge) -> str:
    """Why a model cannot be asked, or nothing: one attention layer, no MLP, no norm, a head as wide as a token."""
    cfg = model.cfg
    if cfg.n_layers != 1 or not getattr(cfg, "attn_only", False):
        return f"the model has {cfg.n_layers} layers or MLPs; the paper's is one attention layer on vectors"
    if cfg.normalization_type is not None:
        return f"the model has a norm ({cfg.normalization_type}); the paper's has none"
    if cfg.d_model != D + 1 or cfg.d_head != cfg.d_model:
        return f"the model's tokens have {cfg.d_model} dimensions; the problems have {D + 1}"
    return ""


def _untrained(seed: int) -> dict[str, float]:
    """The same measures on networks that were not trained, means over 64: what chance gives."""
    networks = Networks(64, 2, seed=seed).requires_grad_(False)
    found = [
        matrices_in_shape(kq, ov)
        for kq, ov in zip(networks.kq.double().numpy(), networks.ov.double().numpy(), strict=True)
    ]
    names = ("off_diagonal", "leakage", "sign_agreement", "homogeneity", "zero_sum")
    return {name: float(np.mean([f[name] for f in found])) for name in names}


def _errors(
    model: TransformerBridge, shape: Mapping[str, Any], length: int, n: int, seed: int
) -> dict[str, np.ndarray]:
    """Squared errors of the model, the formula of its matrices and other predictors, on the same problems."""
    prompts = draw(np.random.default_rng([seed, length]), n, length=length)
    omega, mu = active_heads(shape["omega"], shape["mu"])
    eta, here = float(omega @ mu), predict(model, tensors(prompts)[0]).double().numpy()
    debiased, plain = (gradient_descent(prompts, eta, debiased=kind) for kind in (True, False))
    guesses = {
        "model": here,
        "its formula": softmax_pair(prompts, omega, mu),
        "one head": softmax_pair(prompts, *([value] for value in one_head())),
        STEP: gradient_descent(prompts, best_debiased(length=length)[0], debiased=True),
        "plain step, same eta": plain,
        SAME: debiased,
        "ridge": ridge(prompts),
    }
    found = {name: (guess - prompts.target) ** 2 for name, guess in guesses.items()}
    return found | {FROM_PLAIN: (here - plain) ** 2, FROM_DEBIASED: (here - debiased) ** 2}


def _of_training(c: Conditions, trained: Mapping[int, Training]) -> None:
    """Where one, two and four heads end, and in which order two of them get there."""
    one, two, four = (trained[heads] for heads in (1, 2, 4))
    n, (omega, mu) = one.loss.shape[1], one_head()
    alone = np.abs([one.omega[-1, :, 0], one.mu[-1, :, 0]])
    near = np.abs(alone - [[omega], [mu]]) <= 0.25 * np.array([[omega], [mu]])
    split = [is_pair(o, m, zero_sum=ZERO_SUM) for o, m in zip(four.omega[-1], four.mu[-1], strict=True)]
    paired = [i for i in range(n) if is_pair(two.omega[-1, i], two.mu[-1, i], zero_sum=ZERO_SUM)]
    course = phases(two)
    start = (np.sign(two.omega[0]) == np.sign(two.mu[0])).all(-1)[paired]
    flow = simplified_flow([0.02, -0.03], [0.03, -0.02], rate=0.01, steps=5_000)
    c.numbers |= {
        "networks": n,
        "trained": {str(heads): {"best": float(found.loss[-1].min())} for heads, found in trained.items()},
        "settled": float(near.all(0).mean()),
        "single heads": [float(np.median(values)) for values in alone],
        "split": float(np.mean(split)),
        "pairs": len(paired),
        "matched early": float(np.mean([course[i][0] < course[i][1] for i in paired])) if paired else None,
        "matched at the start": float(start.mean()) if paired else 0.0,
        "eta": float(np.median([two.omega[-1, i] @ two.mu[-1, i] for i in paired]))
        if paired
        else float("nan"),
        "flow": float(flow[-1, 0] @ flow[-1, 1]),
    }


def _trained_rows(trained: Mapping[int, Training]) -> Rows:
    return [
        {
            "heads": heads,
            "network": i,
            "loss": float(found.loss[-1, i]),
            "omega": [round(float(v), 3) for v in found.omega[-1, i]],
            "mu": [round(float(v), 3) for v in found.mu[-1, i]],
            "signs match from step": matched,
            "half of the fall at step": fallen,
        }
        for heads, found in trained.items()
        for i, (matched, fallen) in enumerate(phases(found))
    ]


def _with_a_mean(n: int, seed: int, shape: Mapping[str, Any]) -> dict[str, Any]:
    """Risks where covariates have mean 1, each step at the eta that is best on half of the problems."""
    prompts = draw(np.random.default_rng([seed, 7]), n, mean=1.0)
    half = n // 2
    row: dict[str, Any] = {"n": n - half}
    for name, debiased in (("plain step", False), ("debiased step", True)):
        unit = gradient_descent(prompts, 1.0, debiased=debiased)
        eta = float(unit[:half] @ prompts.target[:half] / (unit[:half] @ unit[:half]))
        row[name] = float(((eta * unit - prompts.target)[half:] ** 2).mean())
    pair = softmax_pair(_part(prompts, half), *active_heads(shape["omega"], shape["mu"]))
    return row | {"the model's formula": float(((pair - prompts.target[half:]) ** 2).mean())}


def _part(prompts: RegressionPrompts, start: int) -> RegressionPrompts:
    return RegressionPrompts(**{name: values[start:] for name, values in prompts.__dict__.items()})


def _pictures(kq: np.ndarray, ov: np.ndarray, risks: Rows, two: Training) -> dict[str, Picture]:
    names = [*(f"x{i + 1}" for i in range(kq.shape[-1] - 1)), "y"]
    pictures: dict[str, Picture] = {
        f"KQ of head {h}: rows are keys": Heatmap.of(m, names, names, row_title="key", column_title="query")
        for h, m in enumerate(kq)
    }
    rows = [f"head {h}" for h in range(len(ov))]
    pictures["OV: what each head adds to the prediction"] = Heatmap.of(ov, rows, names)
    series = {
        name: [(row["examples"], row[name]) for row in risks] for name in ("model", "one head", SAME, "ridge")
    }
    pictures["Risk by number of examples"] = Curves.of(
        series, x_label="examples", y_label="mean squared error", log_x=True, reference={"noise": NOISE}
    )
    course = {
        f"network {i}": list(zip(two.steps, two.loss[:, i].tolist(), strict=True))
        for i in range(two.loss.shape[1])
    }
    pictures["Training of two heads"] = Curves.of(course, x_label="step", y_label="mean squared error")
    return pictures


# -- claims -------------------------------------------------------------------------------------------------


def _shape(c: Conditions) -> Mapping[str, Any]:
    return c.numbers["shape"]


def _matrix(key: str, says: str, criterion: str, holds: Any, why: str, *, paper: float = 0.0) -> Claim:
    return Claim(
        says,
        fact(key, lambda c: holds(_shape(c))),
        criterion,
        paper=paper,
        why=why,
        where="patterns after training",
        found=lambda c: _shape(c)[key],
        control=lambda c: c.numbers["untrained"][key],
        n=lambda c: int(_shape(c)["active"]),
    )


def _size(c: Conditions) -> float:
    return float(np.abs(active_heads(_shape(c)["omega"], _shape(c)["mu"])[0]).mean())


def _close_everywhere(c: Conditions) -> bool:
    risks = c.numbers["risks"]
    here, step = ([row[name] for row in risks] for name in ("model", SAME))
    inside = all(abs(a - b) <= 0.05 * b for a, b in zip(here, step, strict=True))
    order = np.argsort([row["examples"] for row in risks])
    return inside and bool((np.diff(np.array(here)[order]) < 0).all())


def _listed(c: Conditions, name: str) -> str:
    risks = c.numbers["risks"]
    return (
        ", ".join(f"{row[name]:.3f}" for row in risks)
        + " at "
        + ", ".join(str(row["examples"]) for row in risks)
    )


def _best(c: Conditions, heads: int) -> float:
    return c.numbers["trained"][str(heads)]["best"]


CLAIMS = {
    "diagonal": _matrix(
        "off_diagonal",
        "KQ is a multiple of the identity",
        f"at most {OFF_DIAGONAL:.0%} of every active head's KQ is off the diagonal (Frobenius)",
        lambda shape: shape["off_diagonal"] <= OFF_DIAGONAL,
        "a matrix of random entries has 0.93; training for ever would give 0",
    ),
    "last": _matrix(
        "leakage",
        "OV reads the y entry only",
        f"at most {LEAKAGE:.0%} of every active head's OV is elsewhere",
        lambda shape: shape["leakage"] <= LEAKAGE,
        "random entries have 0.91",
    ),
    "signs": _matrix(
        "sign_agreement",
        "the signs of KQ and OV match in every head",
        "sign(omega) = sign(mu) in all active heads",
        lambda shape: shape["sign_agreement"] == 1,
        "one head with the other sign works against the rest",
        paper=1.0,
    ),
    "homogeneous": _matrix(
        "homogeneity",
        "heads share one size of KQ",
        f"std / mean of |omega| over active heads at most {HOMOGENEOUS:.0%}",
        lambda shape: shape["homogeneity"] <= HOMOGENEOUS and shape["active"] > 1,
        "with fewer than two active heads there is nothing to compare, which fails",
    ),
    "zero": _matrix(
        "zero_sum",
        "OV sums to zero over heads",
        f"|sum mu| / sum |mu| at most {ZERO_SUM:.0%}",
        lambda shape: shape["zero_sum"] <= ZERO_SUM,
        "the constant part of the softmax, a plain mean of y, is left in proportion to it",
    ),
    "gamma": Claim(
        f"KQ settles at {GAMMA}",
        fact("close to it", lambda c: abs(_size(c) - GAMMA) <= CLOSE * GAMMA),
        f"mean |omega| of the active heads within {CLOSE:.0%} of {GAMMA}",
        paper=GAMMA,
        why="the loss is nearly flat along mu omega = const, so that this is a matter of training time",
        where="the trained values of the released runs",
        found=_size,
        n=lambda c: int(_shape(c)["active"]),
    ),
    "function": Claim(
        "two heads compute one step of debiased gradient descent",
        above(FROM_PLAIN, FROM_DEBIASED),
        "closer to the debiased than to the plain step in squared distance, in 95 % of resamples",
        why="both steps have the model's own eta = sum mu omega: only the form can decide",
        where="the heads as a debiased step of gradient descent",
        found=lambda c: c.mean(FROM_DEBIASED),
        control=lambda c: c.mean(FROM_PLAIN),
    ),
    "risk": Claim(
        "their risk is that of the best debiased step",
        equal("model", STEP, within=0.03 * best_debiased()[1]),
        "the 95 % interval of the difference, problem by problem, lies within 3 % of that step's exact risk",
        why="on the same problems, since their luck moves every risk alike; predicting 0 is the control",
        where="a formula of ours for the exact risk of that step",
        control=f"that step {best_debiased()[1]:.4f}; predicting 0 {gd_risk(0.0):.2f}",
    ),
    "bayes": Claim(
        "and above that of ridge regression (Bayes)",
        above("model", "ridge"),
        "model - ridge above 0 in 95 % of resamples",
        why="no predictor is better than ridge with this prior, so the contrary would be a mistake",
        where="a check of ours: ridge is the best there is with this prior",
    ),
    "lengths": Claim(
        "it works at other lengths than the one it was trained at",
        fact("close at every length, and falling", _close_everywhere),
        "within 5 % of the debiased step with the same eta at every length, and falling with it",
        why="the step is what the heads should still compute; the single head's formula is the control",
        where="length generalisation; the bound of 5 % is of ours",
        found=lambda c: _listed(c, "model"),
        control=lambda c: f"one head {_listed(c, 'one head')}",
        n=lambda c: c.n("model"),
    ),
    "one": Claim(
        "two heads are better than the best single head",
        fact("better by a tenth", lambda c: _best(c, 2) < 0.9 * _best(c, 1)),
        "best two-head loss below the best one-head loss by more than 10 %",
        paper="0.22 to 0.25 against 0.40",
        why="best of the networks trained here: some pairs end as one effective head",
        where="the losses at which the released runs settle (0.22 to 0.25 and 0.40)",
        found=lambda c: _best(c, 2),
        control=lambda c: _best(c, 1),
        n=lambda c: c.numbers["networks"],
    ),
    "settles": Claim(
        "a single head settles at omega = 1/sqrt(d), mu = sqrt(d)/(1 + e(1+noise)d/L)",
        fact("half of them settle there", lambda c: c.numbers["settled"] >= SHARE),
        "omega and mu of at least half of the networks within 25 % of these",
        paper=f"{one_head()[0]:.2f}, {one_head()[1]:.2f} (its formula)",
        why="the formula is the paper's limit of large L; 25 % is what L = 40 costs",
        where="one head",
        found=lambda c: "{:.2f}, {:.2f}".format(*c.numbers["single heads"]),
        n=lambda c: c.numbers["networks"],
    ),
    "more": Claim(
        "four heads split into a positive and a negative group that add up to a pair",
        fact("half of them split", lambda c: c.numbers["split"] >= SHARE),
        f"in at least half of the networks: signs match, both signs occur, zero sum within {ZERO_SUM:.0%}",
        why="a head whose product mu omega is below a tenth of the largest is a dummy and does not count",
        where="more heads: groups and dummy heads",
        found=lambda c: c.numbers["split"],
        n=lambda c: c.numbers["networks"],
    ),
    "phases": Claim(
        "signs match before the loss falls",
        fact("most match early", lambda c: c.numbers["pairs"] and c.numbers["matched early"] > SHARE),
        "more than half of the networks that find a pair have all signs matched before half of the fall",
        why="half of the fall is the middle between a network's first and last loss; networks that end as one head "
        "have no signs to match; two heads match by chance at the start in one of four",
        where="training dynamics",
        found=lambda c: c.numbers["matched early"],
        control=lambda c: f"matched at the start: {c.numbers['matched at the start']:.2f}",
        n=lambda c: c.numbers["pairs"],
    ),
    "flow": Claim(
        "gradient flow on the loss in two vectors ends where training does",
        fact("close to it", lambda c: abs(c.numbers["eta"] - c.numbers["flow"]) <= CLOSE * c.numbers["flow"]),
        "2 mu omega of the flow within 10 % of that of the median network that found a pair",
        why="mu and omega go on drifting along mu omega = const; their product is what is determined",
        where="training dynamics",
        found=lambda c: c.numbers["eta"],
        control=lambda c: f"the flow {c.numbers['flow']:.3f}",
        n=lambda c: c.numbers["pairs"],
    ),
}
REPLICATION = Paper(
    name="in-context-regression",
    authors="He et al. 2025 (ICML), In-Context Linear Regression Demystified",
    about=(
        "One softmax attention layer trained on regression problems, five covariates and forty examples. Trained "
        "heads have KQ = omega I and OV that reads y alone; heads of opposite sign cancel the mean and leave one "
        "step of gradient descent on centred covariates.\n\n"
        "Matrices and function are those of the model; its predictions are compared with closed forms whose exact "
        "risks are known. The last column of KQ meets only the query's y, which is 0: it is never trained and is "
        "left out. One, two and four heads are trained here from random starts."
    ),
    options=RegressionSizes,
    controls=(
        "networks that were not trained",
        "the best single head",
        "the plain step of gradient descent with the same eta",
        "predicting zero",
    ),
    measure=measure,
    claims=CLAIMS,
)
