"""In-context linear regression demystified (2025): what two softmax heads learn, as matrices and as a function.

The matrices are read from an opened model of the paper's shape; training, one head and four heads are run here. Exact
formulas are in ``workbench/training/regression_theory.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.circuits.verdicts.statistics import mean_interval
from workbench.core.claims import JudgedClaim, Rows, judge, source_of, untestable
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.options import RegressionSizes
from workbench.training.regression import Networks, Training, matrices, predict, tensors, train_networks
from workbench.training.regression_theory import (
    LENGTH,
    NOISE,
    D,
    Prompts,
    best_debiased,
    draw,
    gd_risk,
    gradient_descent,
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


def run(setting: Setting) -> Findings:
    """Every claim on a model of the paper's shape; on another none can be tested."""
    why = unfit(setting.model)
    if why:
        return Findings(claims=tuple(_open(key, why) for key in _WORDS))
    options: RegressionSizes = setting.options
    kq, ov = matrices(setting.model)
    shape = matrices_in_shape(kq, ov)
    chance = _untrained(setting.seed)
    lengths = {n: _risks(setting.model, shape, n, options.draws, setting.seed) for n in options.lengths}
    own = _risks(setting.model, shape, LENGTH, options.draws, setting.seed)
    trained = {
        heads: train_networks(
            options.networks, heads, steps=options.steps, seed=setting.seed, progress=setting.progress
        )
        for heads in (1, 2, 4)
    }
    claims = (
        *_of_matrices(shape, chance),
        *_of_function(own),
        *_of_lengths(lengths),
        *_of_training(trained),
    )
    return Findings(
        claims=claims,
        tables={
            "Mean squared error by number of examples": [
                {"examples": n, **{name: float(e.mean()) for name, e in found.errors.items()}}
                for n, found in lengths.items()
            ],
            "Covariates with a mean of 1: where debiasing pays (not in the paper)": [
                _with_a_mean(options.draws, setting.seed, shape)
            ],
            "Networks trained here": _trained_rows(trained),
        },
        pictures=_pictures(kq, ov, lengths, trained[2]),
        numbers={"shape": shape, "untrained": chance},
    )


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


_WORDS: Mapping[str, tuple[str, str]] = {
    "diagonal": (
        "KQ is a multiple of the identity",
        f"at most {OFF_DIAGONAL:.0%} of every active head's KQ is off the diagonal (Frobenius)",
    ),
    "last": ("OV reads the y entry only", f"at most {LEAKAGE:.0%} of every active head's OV is elsewhere"),
    "signs": ("the signs of KQ and OV match in every head", "sign(omega) = sign(mu) in all active heads"),
    "homogeneous": (
        "heads share one size of KQ",
        f"std / mean of |omega| over active heads at most {HOMOGENEOUS:.0%}",
    ),
    "zero": ("OV sums to zero over heads", f"|sum mu| / sum |mu| at most {ZERO_SUM:.0%}"),
    "gamma": (f"KQ settles at {GAMMA}", f"mean |omega| of the active heads within {CLOSE:.0%} of {GAMMA}"),
    "function": (
        "two heads compute one step of debiased gradient descent",
        "closer to the debiased than to the plain step in squared distance, in 95 % of resamples",
    ),
    "risk": (
        "their risk is that of the best debiased step",
        "the 95 % interval of the difference, problem by problem, lies within 3 % of that step's exact risk",
    ),
    "bayes": ("and above that of ridge regression (Bayes)", "model - ridge above 0 in 95 % of resamples"),
    "lengths": (
        "it works at other lengths than the one it was trained at",
        "within 5 % of the debiased step with the same eta at every length, and falling with it",
    ),
    "one": (
        "two heads are better than the best single head",
        "best two-head loss below the best one-head loss by more than 10 %",
    ),
    "settles": (
        "a single head settles at omega = 1/sqrt(d), mu = sqrt(d)/(1 + e(1+noise)d/L)",
        "omega and mu of at least half of the networks within 25 % of these",
    ),
    "more": (
        "four heads split into a positive and a negative group that add up to a pair",
        f"in at least half of the networks: signs match, both signs occur, zero sum within {ZERO_SUM:.0%}",
    ),
    "phases": (
        "signs match before the loss falls",
        "more than half of the networks that find a pair have all signs matched before half of the fall",
    ),
    "flow": (
        "gradient flow on the loss in two vectors ends where training does",
        "2 mu omega of the flow within 10 % of that of the median network that found a pair",
    ),
}
_SOURCE = "He et al. 2025 (ICML), In-Context Linear Regression Demystified"
_WHERE: Mapping[str, str] = {
    **dict.fromkeys(("diagonal", "last", "signs", "homogeneous", "zero"), "patterns after training"),
    "gamma": "the trained values of the released runs",
    "function": "the heads as a debiased step of gradient descent",
    "risk": "a formula of ours for the exact risk of that step",
    "bayes": "a check of ours: ridge is the best there is with this prior",
    "lengths": "length generalisation; the bound of 5 % is of ours",
    "one": "the losses at which the released runs settle (0.22 to 0.25 and 0.40)",
    "settles": "one head",
    "more": "more heads: groups and dummy heads",
    **dict.fromkeys(("phases", "flow"), "training dynamics"),
}


def _claim(key: str, holds: bool, **numbers: Any) -> JudgedClaim:
    text, rule = _WORDS[key]
    return judge(text, rule, holds, source=source_of(_SOURCE, _WHERE[key]), **numbers)


def _open(key: str, why: str) -> JudgedClaim:
    return untestable(*_WORDS[key], why, source=source_of(_SOURCE, _WHERE[key]))


def _untrained(seed: int) -> dict[str, float]:
    """The same measures on networks that were not trained, means over 64: what chance gives."""
    networks = Networks(64, 2, seed=seed).requires_grad_(False)
    found = [
        matrices_in_shape(kq, ov)
        for kq, ov in zip(networks.kq.double().numpy(), networks.ov.double().numpy(), strict=True)
    ]
    names = ("off_diagonal", "leakage", "sign_agreement", "homogeneity", "zero_sum")
    return {name: float(np.mean([f[name] for f in found])) for name in names}


def _of_matrices(shape: Mapping[str, Any], chance: Mapping[str, float]) -> tuple[JudgedClaim, ...]:
    n, size = int(shape["active"]), float(np.abs(_active(shape)[0]).mean())
    return (
        _claim(
            "diagonal", shape["off_diagonal"] <= OFF_DIAGONAL, n=n,
            paper=0.0, found=shape["off_diagonal"], control=chance["off_diagonal"],
            reason="a matrix of random entries has 0.93; training for ever would give 0",
        ),
        _claim(
            "last", shape["leakage"] <= LEAKAGE, n=n,
            paper=0.0, found=shape["leakage"], control=chance["leakage"],
            reason="random entries have 0.91",
        ),
        _claim(
            "signs", shape["sign_agreement"] == 1, n=n,
            paper=1.0, found=shape["sign_agreement"], control=chance["sign_agreement"],
            reason="one head with the other sign works against the rest",
        ),
        _claim(
            "homogeneous", shape["homogeneity"] <= HOMOGENEOUS and n > 1, n=n,
            paper=0.0, found=shape["homogeneity"], control=chance["homogeneity"],
            reason="with fewer than two active heads there is nothing to compare, which fails",
        ),
        _claim(
            "zero", shape["zero_sum"] <= ZERO_SUM, n=n,
            paper=0.0, found=shape["zero_sum"], control=chance["zero_sum"],
            reason="the constant part of the softmax, a plain mean of y, is left in proportion to it",
        ),
        _claim(
            "gamma", abs(size - GAMMA) <= CLOSE * GAMMA, n=n, paper=GAMMA, found=size,
            reason="the loss is nearly flat along mu omega = const, so that this is a matter of training time",
        ),
    )  # fmt: skip


def _active(shape: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    omega, mu = np.array(shape["omega"]), np.array(shape["mu"])
    strength = np.abs(omega * mu)
    on = strength >= 0.1 * strength.max()
    return omega[on], mu[on]


@dataclass(frozen=True, kw_only=True)
class Risks:
    """Squared errors per problem, by predictor, and squared distances of the model from two of them."""

    errors: Mapping[str, np.ndarray]
    from_debiased: np.ndarray
    from_plain: np.ndarray


def _risks(model: TransformerBridge, shape: Mapping[str, Any], length: int, n: int, seed: int) -> Risks:
    """The model, the formula its matrices amount to, and the predictors it is compared with, on the same problems."""
    prompts = draw(np.random.default_rng([seed, length]), n, length=length)
    omega, mu = _active(shape)
    eta = float(omega @ mu)
    here = predict(model, tensors(prompts)[0]).double().numpy()
    debiased, plain = (gradient_descent(prompts, eta, debiased=kind) for kind in (True, False))
    guesses = {
        "model": here,
        "its formula": softmax_pair(prompts, omega, mu),
        "one head": softmax_pair(prompts, *([value] for value in one_head())),
        "best debiased step": gradient_descent(prompts, best_debiased(length=length)[0], debiased=True),
        "plain step, same eta": plain,
        "debiased step, same eta": debiased,
        "ridge": ridge(prompts),
    }
    return Risks(
        errors={name: (guess - prompts.target) ** 2 for name, guess in guesses.items()},
        from_debiased=(here - debiased) ** 2,
        from_plain=(here - plain) ** 2,
    )


def _of_function(own: Risks) -> tuple[JudgedClaim, ...]:
    nearer = mean_interval(own.from_plain - own.from_debiased)
    mine, ridge_error = own.errors["model"], own.errors["ridge"]
    above, off = (mean_interval(mine - other) for other in (ridge_error, own.errors["best debiased step"]))
    risk, best, n = float(mine.mean()), best_debiased()[1], len(mine)
    return (
        _claim(
            "function", nearer.low > 0, n=n,
            found=float(own.from_debiased.mean()), control=float(own.from_plain.mean()),
            reason="both steps have the model's own eta = sum mu omega: only the form can decide",
        ),
        _claim(
            "risk", max(abs(off.low), abs(off.high)) <= 0.03 * best, n=n, found=risk,
            control=f"that step {best:.4f}; predicting 0 {gd_risk(0.0):.2f}",
            reason="on the same problems, since their luck moves every risk alike; predicting 0 is the control",
        ),
        _claim(
            "bayes", above.low > 0, n=n, found=risk, control=float(ridge_error.mean()),
            reason="no predictor is better than ridge with this prior, so the contrary would be a mistake",
        ),
    )  # fmt: skip


def _of_lengths(lengths: Mapping[int, Risks]) -> tuple[JudgedClaim, ...]:
    here = {n: float(found.errors["model"].mean()) for n, found in lengths.items()}
    step = {n: float(found.errors["debiased step, same eta"].mean()) for n, found in lengths.items()}
    alone = {n: float(found.errors["one head"].mean()) for n, found in lengths.items()}
    inside = all(abs(here[n] - step[n]) <= 0.05 * step[n] for n in here)
    falling = all(np.diff([here[n] for n in sorted(here)]) < 0)
    return (
        _claim(
            "lengths", inside and falling,
            found=_listed(here), control=f"one head {_listed(alone)}",
            n=len(next(iter(lengths.values())).from_plain),
            reason="the step is what the heads should still compute; the single head's formula is the control",
        ),
    )  # fmt: skip


def _listed(values: Mapping[int, float]) -> str:
    return ", ".join(f"{v:.3f}" for v in values.values()) + " at " + ", ".join(map(str, values))


def _of_training(trained: Mapping[int, Training]) -> tuple[JudgedClaim, ...]:
    one, two, four = (trained[heads] for heads in (1, 2, 4))
    n = one.loss.shape[1]
    best = {heads: float(found.loss[-1].min()) for heads, found in trained.items()}
    omega, mu = one_head()
    alone = np.abs([one.omega[-1, :, 0], one.mu[-1, :, 0]])
    settled = (np.abs(alone - [[omega], [mu]]) <= 0.25 * np.array([[omega], [mu]])).all(0).mean()
    groups = [_is_split(four.omega[-1, i], four.mu[-1, i]) for i in range(n)]
    course = phases(two)
    paired = [i for i in range(n) if _is_split(two.omega[-1, i], two.mu[-1, i])]
    early = [course[i][0] < course[i][1] for i in paired]
    started = float((np.sign(two.omega[0]) == np.sign(two.mu[0])).all(-1)[paired].mean()) if paired else 0.0
    flow, pairs = _flow_eta(), _pair_etas(two)
    median = float(np.median(pairs)) if len(pairs) else float("nan")
    return (
        _claim(
            "one", best[2] < 0.9 * best[1], n=n, paper="0.22 to 0.25 against 0.40", found=best[2], control=best[1],
            reason="best of the networks trained here: some pairs end as one effective head",
        ),
        _claim(
            "settles", settled >= SHARE, n=n, paper=f"{omega:.2f}, {mu:.2f} (its formula)",
            found=f"{np.median(alone[0]):.2f}, {np.median(alone[1]):.2f}",
            reason="the formula is the paper's limit of large L; 25 % is what L = 40 costs",
        ),
        _claim(
            "more", float(np.mean(groups)) >= SHARE, n=n, found=float(np.mean(groups)),
            reason="a head whose product mu omega is below a tenth of the largest is a dummy and does not count",
        ),
        _claim(
            "phases", bool(early) and float(np.mean(early)) > SHARE, n=len(paired),
            found=float(np.mean(early)) if early else None, control=f"matched at the start: {started:.2f}",
            reason="half of the fall is the middle between a network's first and last loss; networks that end as one "
            "head have no signs to match; two heads match by chance at the start in one of four",
        ),
        _claim(
            "flow", bool(abs(median - flow) <= CLOSE * flow), n=len(pairs), found=median,
            control=f"the flow {flow:.3f}",
            reason="mu and omega go on drifting along mu omega = const; their product is what is determined",
        ),
    )  # fmt: skip


def _is_split(omega: np.ndarray, mu: np.ndarray) -> bool:
    omega, mu = _active({"omega": omega, "mu": mu})
    matched = bool((np.sign(omega) == np.sign(mu)).all()) and len(set(np.sign(mu))) == 2
    return matched and abs(mu.sum()) <= ZERO_SUM * np.abs(mu).sum()


def phases(found: Training) -> list[tuple[int, float]]:
    """Per network: the step from which all signs match for good, and the step at which half of the loss has gone."""
    out = []
    for i in range(found.loss.shape[1]):
        same = (np.sign(found.omega[:, i]) == np.sign(found.mu[:, i])).all(-1)
        wrong = np.flatnonzero(~same)
        matched = 0 if not len(wrong) else wrong[-1] + 1
        loss = found.loss[:, i]
        fallen = int(np.argmax(loss <= (loss[0] + loss[-1]) / 2))
        steps = [*found.steps, np.inf]
        out.append((steps[matched], steps[fallen]))
    return out


def _pair_etas(two: Training) -> list[float]:
    """``sum mu omega`` of the networks whose heads have opposite signs at the end."""
    omega, mu = two.omega[-1], two.mu[-1]
    return [float(o @ m) for o, m in zip(omega, mu, strict=True) if _is_split(o, m)]


def _flow_eta() -> float:
    path = simplified_flow([0.02, -0.03], [0.03, -0.02], rate=0.01, steps=5_000)
    return float(path[-1, 0] @ path[-1, 1])


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
    pair = softmax_pair(_part(prompts, half), *_active(shape))
    return row | {"the model's formula": float(((pair - prompts.target[half:]) ** 2).mean())}


def _part(prompts: Prompts, start: int) -> Prompts:
    return Prompts(**{name: values[start:] for name, values in prompts.__dict__.items()})


def _pictures(
    kq: np.ndarray, ov: np.ndarray, lengths: Mapping[int, Risks], two: Training
) -> dict[str, Picture]:
    names = [*(f"x{i + 1}" for i in range(kq.shape[-1] - 1)), "y"]
    pictures: dict[str, Picture] = {
        f"KQ of head {h}: rows are keys": Heatmap.of(m, names, names, row_title="key", column_title="query")
        for h, m in enumerate(kq)
    }
    rows = [f"head {h}" for h in range(len(ov))]
    pictures["OV: what each head adds to the prediction"] = Heatmap.of(ov, rows, names)
    series = {
        name: [(n, float(found.errors[name].mean())) for n, found in lengths.items()]
        for name in ("model", "one head", "debiased step, same eta", "ridge")
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


REPLICATION = Replication(
    name="in-context-regression",
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
    run=run,
)
