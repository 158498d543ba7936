"""How far estimates of patching effects agree with exact patching, for each kind of part.

Every point is one part (an MLP, a layer's attention, a head) at one named position (or at all other tokens together) of
one prompt. Points where the part is the same in both runs are left out: every estimate is right there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from workbench.core.claims import Quantity
from workbench.core.errors import ShapeError
from workbench.core.progress import silent
from workbench.core.stats.intervals import resampled_interval, resamples
from workbench.engine.gradients import taped_run
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.rules import Backward
from workbench.methods.exact_parts import ExactPart, Parts, part_drops
from workbench.model.hooks import hook_name, per_head

RULES: Mapping[str, Backward] = {"AtP": "plain", "RelP": "relp", "AttnLRP": "attnlrp", "CP-LRP": "cp-lrp"}
KINDS = {
    "residual stream": "resid",
    "attention outputs": "attn-out",
    "MLP outputs": "mlp-out",
    "heads": "head-output",
}
Points = Float[np.ndarray, "pair point"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """Exact effects and their estimates, by kind of part, in the metric's unit.

    Attributes:
        exact: Kind -> ``(pair, point)``, a point being a part at a position label.
        estimates: Kind -> estimate -> the same points.
    """

    exact: Mapping[str, Points]
    estimates: Mapping[str, Mapping[str, Points]]

    def points(self, kind: str, name: str) -> list[tuple[float, float, str]]:
        """Exact effect, its estimate and the prompt, where either is not 0."""
        exact, estimates = self.exact[kind], self.estimates[kind][name]
        return [
            (float(exact[i, j]), float(estimates[i, j]), f"prompt {i}")
            for i, j in np.argwhere((exact != 0) | (estimates != 0)).tolist()
        ]


def agreement(
    runs: PairedRuns,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    progress: Callable[[int, int, str], None] | None = None,
) -> Agreement:
    """Exact noising effects of parts at positions, and every estimate of them, at the clean run.

    ``estimate(part) = sum over its positions and dimensions of (clean - corrupted) * dF/d(part)``, with the gradient of
    each backward rule. Kinds that the model does not have (MLPs) are left out.
    """
    exact, estimates = {}, {}
    for kind in kinds:
        parts = _parts(runs, kind)
        if not parts:
            continue
        exact[kind] = _exact(runs, parts, progress or silent)
        estimates[kind] = {name: estimate(runs, list(parts), backward=rule) for name, rule in RULES.items()}
    return Agreement(exact=exact, estimates=estimates)


def _parts(runs: PairedRuns, kind: str) -> Parts:
    """Everything of a kind; the stream from the second layer on, since the first is the input."""
    wiring, site = runs.wiring, KINDS[kind]
    layers = {"resid": range(1, wiring.n_layers), "mlp-out": wiring.mlp_layers}.get(
        site, wiring.attention_layers
    )
    units = range(wiring.n_heads) if per_head(site) else [None]
    return {
        (layer, site): [ExactPart(unit=unit, place=(i, unit or 0)) for unit in units]
        for i, layer in enumerate(layers)
    }


def _exact(runs: PairedRuns, parts: Parts, progress: Callable[..., None]) -> Points:
    shape = (len(parts), len(next(iter(parts.values()))))
    found = np.zeros((runs.n_pairs, len(runs.position_labels), *shape))
    for batch, drops in part_drops(
        runs, parts, shape, ablation="resample", per_position=True, progress=progress
    ):
        found[batch.index] = drops
    return found.reshape(runs.n_pairs, -1)


def estimate(runs: PairedRuns, sites: Sequence[tuple[int, str]], *, backward: Backward) -> Points:
    """Return ``(pair, label x site x unit)``: difference times gradient by a backward rule."""
    found: list[np.ndarray] = []
    order: list[np.ndarray] = []
    hooks = [hook_name(site, layer) for layer, site in sites]
    for batch in runs.batches:
        run = taped_run(runs, batch, hooks, backward=backward)
        gradients = run.gradients()
        clean, corrupted = (runs.activations(batch, side, hooks) for side in ("clean", "corrupted"))
        product = torch.stack(
            [_summed(gradients[name], clean[name] - corrupted[name]) for name in hooks], 2
        )  # (pair, pos, site, unit)
        labels = torch.nn.functional.one_hot(runs.labels_of(batch), len(runs.position_labels)).double()
        found.append(torch.einsum("bpl,bpsu->blsu", labels, product).flatten(1).cpu().numpy())
        order.append(batch.index)
        runs.release(batch)
    return np.concatenate(found)[np.argsort(np.concatenate(order), kind="stable")]


def _summed(gradient: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """``(pair, pos, unit)`` in float64; a part without units is one."""
    product = (gradient.double() * difference.double()).detach().sum(-1)
    return product if product.dim() == 3 else product[..., None]


def correlations(
    exact: Points, estimates: Mapping[str, Points], *, draws: int = 1000, seed: int = 0
) -> tuple[dict[str, Quantity], dict[str, np.ndarray]]:
    """Return Pearson's r of each estimate with the exact effects and its interval over prompts; and r in every
    resample of prompts (the same resamples for all).

    Points at which exact effect and all estimates are 0 do not count.
    """
    for name, values in estimates.items():
        if values.shape != exact.shape:
            raise ShapeError(
                f"{name} has shape {values.shape}, the exact effects {exact.shape}",
                hint="give one estimate for each exact effect",
            )
    counts = np.any([exact != 0, *(values != 0 for values in estimates.values())], axis=0)
    drawn = resamples(len(exact), draws=draws, seed=seed)
    found, bootstrap = {}, {}
    for name, values in estimates.items():
        sums = _sums(exact, values, counts)
        again = _pearson(sums[:, drawn].sum(2))
        r = float(_pearson(sums.sum(1)[:, None])[0])
        around = resampled_interval(again, r)[:2] if len(exact) > 1 else (np.nan, np.nan)
        found[name] = Quantity(r, int(counts.sum()), around=around)
        bootstrap[name] = again
    return found, bootstrap


def gain(
    measured: tuple[Mapping[str, Quantity], Mapping[str, np.ndarray]], better: str, worse: str
) -> Quantity:
    """Return the difference of two correlations over the same resamples of prompts.

    Returns:
        Above 0 where ``better`` is; with its 95 % interval and its two-sided p, NaN for one prompt, which does not
        show how others differ.
    """
    table, draws = measured
    more, apart = table[better].value - table[worse].value, draws[better] - draws[worse]
    ends = [end for name in (better, worse) for end in table[name].around or ()]
    if not np.isfinite(ends).all():
        return Quantity(more, p=float("nan"), around=(float("nan"), float("nan")))
    tail = min(np.mean(apart <= 0), np.mean(apart >= 0))
    p = min(1.0, 2 * max(tail, 1 / (len(apart) + 1)))
    return Quantity(more, p=float(p), around=resampled_interval(apart, more)[:2])


def _sums(x: Points, y: Points, counts: np.ndarray) -> Float[np.ndarray, "moment pair"]:
    """Per prompt: number of points, sums of x, y, x^2, y^2, xy; what Pearson's r is made of."""
    x, y = np.where(counts, x, 0.0), np.where(counts, y, 0.0)
    return np.stack([counts.sum(1), x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)])


def _pearson(sums: Float[np.ndarray, "moment draw"]) -> np.ndarray:
    n, x, y, xx, yy, xy = sums
    n = np.maximum(n, 1)
    spread = (xx - x * x / n) * (yy - y * y / n)
    flat = spread <= 1e-18 * np.maximum(xx * yy, 1e-300)
    return np.where(flat, np.nan, (xy - x * y / n) / np.sqrt(np.where(flat, 1.0, spread)))


def shuffled(exact: Points, values: Points, *, seed: int = 0, draws: int = 20) -> float:
    """Mean correlation when the estimates of each prompt's points are exchanged at random: what chance gives."""
    rng = np.random.default_rng(seed)
    counts = (exact != 0) | (values != 0)
    found = []
    for _ in range(draws):
        mixed = np.zeros_like(values)
        for row, (points, mine) in enumerate(zip(values, counts, strict=True)):
            mixed[row, mine] = rng.permutation(points[mine])
        found.append(_pearson(_sums(exact, mixed, counts).sum(1)[:, None])[0])
    return float(np.mean(found))


def error_share(exact: Sequence[float] | np.ndarray, estimate: Sequence[float] | np.ndarray) -> float:
    """Root mean squared error of an estimate over the root mean square of the exact effects; 0 is perfect, 1 is as good
    as the estimate 0.

    Example:
        >>> error_share([3.0, 4.0], [3.0, 4.0]), error_share([3.0, 4.0], [0.0, 0.0])
        (0.0, 1.0)
    """
    true, guess = np.asarray(exact, dtype=float), np.asarray(estimate, dtype=float)
    size = np.sqrt((true**2).mean())
    return float(np.sqrt(((guess - true) ** 2).mean()) / size) if size else float("nan")
