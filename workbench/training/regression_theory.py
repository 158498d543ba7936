"""In-context linear regression on paper: data, predictors, exact risks, what trained matrices look like. No torch.

Notation as in the paper: context tokens are ``(x_l, y_l)``, the query is ``(x_q, 0)``; ``x ~ N(m, I)``,
``beta ~ N(0, I/d)``, ``y = beta x + noise``, noise of variance ``noise``. The target has fresh noise too, so that no
predictor's risk is below ``noise``.

Source: He, Pan, Chen, Yang 2025, "In-Context Linear Regression Demystified" (ICML); risks derived here and checked
by simulation in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

D, LENGTH, NOISE = 5, 40, 0.1


@dataclass(frozen=True, kw_only=True)
class RegressionPrompts:
    """Regression problems.

    Attributes:
        x: ``(draw, length, d)``; y: ``(draw, length)``; query: ``(draw, d)``; target: ``(draw,)``.
    """

    x: Float[np.ndarray, "draw length d"]
    y: Float[np.ndarray, "draw length"]
    query: Float[np.ndarray, "draw d"]
    target: Float[np.ndarray, "draw"]

    @property
    def tokens(self) -> Float[np.ndarray, "draw token width"]:
        """Context tokens ``(x, y)`` and last the query ``(x_q, 0)``."""
        x = np.concatenate([self.x, self.query[:, None]], 1)
        y = np.concatenate([self.y, np.zeros((len(self.y), 1))], 1)
        return np.concatenate([x, y[..., None]], -1)

    def errors(self, guess: Float[np.ndarray, "draw"]) -> Float[np.ndarray, "draw"]:
        """Squared error of a predictor, problem by problem."""
        return (guess - self.target) ** 2


def draw(
    rng: np.random.Generator,
    n: int,
    *,
    d: int = D,
    length: int = LENGTH,
    noise: float = NOISE,
    mean: float = 0.0,
) -> RegressionPrompts:
    """Return ``n`` problems; ``mean`` moves every covariate, context and query alike."""
    beta = rng.normal(size=(n, d, 1)) / np.sqrt(d)
    x = rng.normal(mean, 1.0, size=(n, length + 1, d))
    y = (x @ beta)[..., 0] + rng.normal(0.0, np.sqrt(noise), size=(n, length + 1))
    return RegressionPrompts(x=x[:, :-1], y=y[:, :-1], query=x[:, -1], target=y[:, -1])


def softmax_pair(
    prompts: RegressionPrompts, omega: Sequence[float] | np.ndarray, mu: Sequence[float] | np.ndarray
) -> Float[np.ndarray, "draw"]:
    """Return ``sum_h mu_h sum_l y_l softmax_l(omega_h x_l . x_q)``: what heads of the trained form compute."""
    match = np.einsum("nld,nd->nl", prompts.x, prompts.query)
    weights = np.exp(match * np.reshape(omega, (-1, 1, 1)))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("h,hnl,nl->n", np.asarray(mu, dtype=float), weights, prompts.y)


def gradient_descent(prompts: RegressionPrompts, eta: float, *, debiased: bool) -> Float[np.ndarray, "draw"]:
    """Return one step of gradient descent from zero, ``(eta / L) sum_l y_l (x_l - m) . x_q``; m the context's mean
    or 0.
    """
    x = prompts.x - prompts.x.mean(1, keepdims=True) if debiased else prompts.x
    return eta / x.shape[1] * np.einsum("nl,nld,nd->n", prompts.y, x, prompts.query)


def ridge(prompts: RegressionPrompts, *, noise: float = NOISE) -> Float[np.ndarray, "draw"]:
    """Return the Bayes predictor for this prior: ridge regression with penalty ``d * noise``."""
    x, d = prompts.x, prompts.x.shape[-1]
    gram = np.einsum("nld,nle->nde", x, x) + d * noise * np.eye(d)
    moment = np.einsum("nld,nl->nd", x, prompts.y)
    return np.einsum("nd,nd->n", np.linalg.solve(gram, moment[..., None])[..., 0], prompts.query)


def predictors(
    prompts: RegressionPrompts, omega: np.ndarray, mu: np.ndarray
) -> dict[str, Float[np.ndarray, "draw"]]:
    """Compute what heads of these values are compared with: their formula, one head, steps of gradient descent, ridge.

    The step ``eta = sum_h mu_h omega_h`` is what the heads' formula is to first order, so ``same eta``.
    """
    length, eta = prompts.x.shape[1], float(np.dot(omega, mu))
    return {
        "its formula": softmax_pair(prompts, omega, mu),
        "one head": softmax_pair(prompts, *(np.array([value]) for value in one_head())),
        "best debiased step": gradient_descent(prompts, best_debiased(length=length)[0], debiased=True),
        "plain step, same eta": gradient_descent(prompts, eta, debiased=False),
        "debiased step, same eta": gradient_descent(prompts, eta, debiased=True),
        "ridge": ridge(prompts),
    }


def best_step_risk(prompts: RegressionPrompts, *, debiased: bool) -> float:
    """Risk of a step of gradient descent on the second half of the problems, at the eta that is best on the first."""
    half = len(prompts.target) // 2
    unit = gradient_descent(prompts, 1.0, debiased=debiased)
    eta = float(unit[:half] @ prompts.target[:half] / (unit[:half] @ unit[:half]))
    return float(prompts.errors(eta * unit)[half:].mean())


def gd_risk(eta: float, *, d: int = D, length: int = LENGTH, noise: float = NOISE) -> float:
    """Risk of plain gradient descent: ``1 - 2 eta + eta^2 (1 + (d + 1 + d noise)/L) + noise``."""
    return 1 - 2 * eta + eta**2 * (1 + (d + 1 + d * noise) / length) + noise


def best_gd(*, d: int = D, length: int = LENGTH, noise: float = NOISE) -> tuple[float, float]:
    """Return the best step ``eta* = 1/(1 + (d (1 + noise) + 1)/L)`` and its risk ``1 + noise - eta*``."""
    eta = 1 / (1 + (d * (1 + noise) + 1) / length)
    return eta, 1 + noise - eta


def best_debiased(*, d: int = D, length: int = LENGTH, noise: float = NOISE) -> tuple[float, float]:
    """Return the same, debiased: step ``1/(1 + d (1 + noise)/L)``, risk ``1 + noise - (L - 1)/(L + d (1 + noise))``."""
    eta = 1 / (1 + d * (1 + noise) / length)
    return eta, 1 + noise - (length - 1) / (length + d * (1 + noise))


def one_head(*, d: int = D, length: int = LENGTH, noise: float = NOISE) -> tuple[float, float]:
    """Return ``omega = 1/sqrt(d)``, ``mu = sqrt(d)/(1 + e (1 + noise) d/L)``: what a single head is trained to."""
    return d**-0.5, d**0.5 / (1 + np.e * (1 + noise) * d / length)


def simplified_loss(
    omega: np.ndarray, mu: np.ndarray, *, d: int = D, length: int = LENGTH, noise: float = NOISE
) -> float:
    """Return the paper's approximate population loss in two vectors over heads."""
    grown = np.outer(omega, omega) + (1 + noise) / length * np.exp(d * np.outer(omega, omega))
    return float(1 + noise - 2 * mu @ omega + mu @ grown @ mu)


def simplified_flow(
    omega: Sequence[float] | np.ndarray,
    mu: Sequence[float] | np.ndarray,
    *,
    rate: float = 0.02,
    steps: int = 20_000,
    every: int = 50,
    d: int = D,
    length: int = LENGTH,
    noise: float = NOISE,
) -> Float[np.ndarray, "time two head"]:
    """Gradient descent on the simplified loss from a start; ``(omega, mu)`` every so many steps."""
    o, m = np.array(omega, dtype=float), np.array(mu, dtype=float)
    path = []
    for step in range(steps + 1):
        if step % every == 0:
            path.append((o.copy(), m.copy()))
        spread = (1 + noise) / length * np.exp(d * np.outer(o, o))
        by_m = -2 * o + 2 * (np.outer(o, o) + spread) @ m
        by_o = -2 * m + 2 * (m @ o) * m + 2 * d * m * (spread @ (o * m))
        o, m = o - rate * by_o, m - rate * by_m
    return np.array(path)


def matrices_in_shape(
    kq: Float[np.ndarray, "head row column"], ov: Float[np.ndarray, "head column"], *, active: float = 0.1
) -> dict[str, float | list[float]]:
    """Compute how far trained matrices have the paper's form, over the active heads.

    Args:
        kq: ``K^T Q / sqrt(d + 1)`` of each head, rows keys, the last row and column belong to y.
        ov: What each head writes to the prediction, per dimension of a token.
        active: A head is a dummy if its ``|omega mu|`` is below this share of the largest.

    Returns:
        ``omega`` (mean diagonal of the x block) and ``mu`` (last entry of ov) of every head, how many are active,
        and over these: ``off_diagonal``, share of KQ outside the diagonal of the x block (0 in the paper's form,
        Frobenius; without the last column, which a query's y of 0 never uses); ``leakage``, share of OV outside
        the last entry; ``sign_agreement``; ``homogeneity``, std/mean of ``|omega|``; ``zero_sum``,
        ``|sum mu| / sum |mu|``.
    """
    d = kq.shape[-1] - 1
    kq = kq[:, :, :d]  # a query's y is 0: the last column multiplies nothing and stays as it started
    diagonal = np.einsum("hdd->hd", kq[:, :d])
    omega, mu = diagonal.mean(-1), ov[:, -1]
    strength = np.abs(omega * mu)
    on = strength >= active * strength.max()
    rest = np.sqrt(np.maximum((kq**2).sum((1, 2)) - (diagonal**2).sum(-1), 0))
    size = np.abs(omega[on])
    return {
        "omega": omega.tolist(),
        "mu": mu.tolist(),
        "active": int(on.sum()),
        "off_diagonal": float((rest / np.sqrt((kq**2).sum((1, 2))))[on].max()),
        "leakage": float((np.linalg.norm(ov[:, :-1], axis=1) / np.linalg.norm(ov, axis=1))[on].max()),
        "sign_agreement": float((np.sign(omega) == np.sign(mu))[on].mean()),
        "homogeneity": float(size.std() / size.mean()),
        "zero_sum": float(abs(mu[on].sum()) / np.abs(mu[on]).sum()),
    }


def active_heads(
    omega: Sequence[float] | np.ndarray, mu: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``omega`` and ``mu`` of the heads whose product is at least a tenth of the largest; the others are
    dummies.

    Example:
        >>> active_heads([0.1, -0.1, 0.001], [3.0, -3.0, 3.0])[1].tolist()
        [3.0, -3.0]
    """
    o, m = np.asarray(omega), np.asarray(mu)
    strength = np.abs(o * m)
    on = strength >= 0.1 * strength.max()
    return o[on], m[on]


def is_pair(omega: np.ndarray, mu: np.ndarray, *, zero_sum: float) -> bool:
    """Say whether active heads have matching signs, both signs, and values that cancel to a share ``zero_sum``.

    Example:
        >>> is_pair(np.array([0.1, -0.1]), np.array([3.0, -3.0]), zero_sum=0.1)
        True
    """
    omega, mu = active_heads(omega, mu)
    matched = bool((np.sign(omega) == np.sign(mu)).all()) and len(set(np.sign(mu))) == 2
    return matched and bool(abs(mu.sum()) <= zero_sum * np.abs(mu).sum())


def pairs_among(
    omega: Float[np.ndarray, "network head"], mu: Float[np.ndarray, "network head"], *, zero_sum: float
) -> Bool[np.ndarray, " network"]:
    """Say which networks are a pair (``is_pair``)."""
    return np.array([is_pair(*heads, zero_sum=zero_sum) for heads in zip(omega, mu, strict=True)])
