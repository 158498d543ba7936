"""Learning masks by gradient descent: minibatches of pairs, what is to be kept, and the loop.

Independent restarts are stacked along the first axis of the masks and share every pass; each has its own noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import OptionError
from workbench.engine.distribute import WorkPart
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.methods import hard_concrete
from workbench.methods.options.masks import Loss

KEPT = 20  # how often in a training its state is kept: a killed one loses a twentieth


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What a training left behind.

    Attributes:
        m: ``(restart, ...)`` parameters of the masks.
        fit: ``(step, restart)`` what was minimised besides the penalty: KL in nats, or minus the metric.
    """

    m: Float[Tensor, " restart *mask"]
    fit: np.ndarray

    def curve(self, points: int = 5) -> list[float]:
        """Return the fit's mean over restarts in ``points`` equal stretches of the training, for the record."""
        return [float(part.mean()) for part in np.array_split(self.fit, points) if len(part)]


def check_loss(runs: PairedRuns, loss: Loss, method: str) -> None:
    """Refuse what cannot be minimised on these runs.

    Raises:
        OptionError: for KL without a language-model head, or a metric without a gradient.
    """
    if loss == "kl" and not runs.wiring.has_lm_head:
        raise OptionError(
            f"{method} compares next-token distributions; this model has no language-model head",
            hint="--option loss=metric",
        )
    if loss == "metric" and not runs.metric.differentiable:
        raise OptionError(f"metric {runs.metric.name} has no useful gradient", hint="--option loss=kl")


def rows_of(batch: Batch, rows: np.ndarray) -> Batch:
    """Return some pairs of a batch, with what is known of their activations."""
    at = torch.as_tensor(rows, device=batch.clean.device)
    return replace(
        batch,
        index=batch.index[rows],
        prompts=(batch.prompts[0][at], batch.prompts[1][at]),
        answers=batch.answers[at],
        answer_pos=batch.answer_pos[at],
        positions=tuple(batch.positions[i] for i in rows),
        sets=tuple(batch.sets[i] for i in rows) if batch.sets else (),
        groups=tuple(batch.groups[i] for i in rows),
        cache={key: tensor[at] for key, tensor in batch.cache.items()},
    )


def draw(runs: PairedRuns, size: int, rng: np.random.Generator) -> Batch:
    """Return ``size`` random pairs of one token length (fewer where there are fewer), every pair equally likely."""
    lengths = np.array([len(batch) for batch in runs.batches])
    batch = runs.batches[int(rng.choice(len(lengths), p=lengths / lengths.sum()))]
    return rows_of(batch, np.sort(rng.permutation(len(batch))[:size]))


def misfit(runs: PairedRuns, batch: Batch, output: Tensor, loss: Loss) -> Float[Tensor, " row"]:
    """Say what a circuit's output lacks: KL from the model at the answer position in nats, or minus the metric."""
    if loss == "metric":
        return -runs.metric.direction * runs.measure(batch, output)
    times = len(output) // len(batch)
    clean = runs.clean_output(batch)
    clean = clean.repeat(times, *([1] * (clean.dim() - 1)))
    if output.dim() == 3:  # metrics that read every position
        rows = torch.arange(len(output), device=output.device)
        output, clean = (t[rows, batch.answer_pos.repeat(times)] for t in (output, clean))
    own, model = output.float().log_softmax(-1), clean.float().log_softmax(-1)
    return (model.exp() * (model - own)).sum(-1)


def learn(
    runs: PairedRuns,
    m: Float[Tensor, " restart *mask"],
    output: Callable[[Batch, Tensor], Tensor],
    penalty: Callable[[Tensor, int], Float[Tensor, " restart"]],
    *,
    prepare: Callable[[Batch], object],
    steps: int,
    lr: float,
    batch: int,
    draws: int,
    seed: int,
    loss: Loss,
    ascending: Sequence[Tensor] = (),
    ascent: float = 1.0,
    progress: Callable[[int, int, str], None],
    gate: Callable[[Tensor, Tensor], Tensor] = hard_concrete.sample,
) -> Learned:
    """Adam on masks: ``mean misfit(output(pairs, sampled masks)) + penalty(m, step)``, each restart for itself.

    The learning rate of the masks falls to zero over the last third, where sampled masks settle.

    Args:
        m: Starting parameters; restart ``r`` has the noise of seed ``seed + r``.
        output: What the metric reads with these masks, ``(restart * draw * pair, ...)``.
        draws: Samples of the masks in a step, stacked in one pass.
        prepare: Asks once for the activations of a batch that every step needs, so that they are kept.
        ascending: Multipliers of the penalty, on which the same loss is maximised, with learning rate ``ascent``.
        gate: Masks from parameters and uniform noise; by default samples of hard-concrete masks.
    """
    m = m.clone().requires_grad_(True)
    rng = np.random.default_rng(seed)
    generators = [torch.Generator().manual_seed(seed + r) for r in range(len(m))]
    # 0.95: a mask that is open for nothing has a tiny gradient; Adam must forget the large ones of its first steps
    optimiser = torch.optim.Adam([{"params": [m]}], lr=lr, betas=(0.9, 0.95))
    if ascending:
        optimiser.add_param_group({"params": list(ascending), "maximize": True, "lr": ascent})
    fits = np.zeros((steps, len(m)))
    for each in runs.batches:
        runs.clean_output(each)
        prepare(each)

    def chance() -> tuple[Batch, Tensor]:
        pairs = draw(runs, batch, rng)
        return pairs, torch.stack([hard_concrete.uniform((draws, *m.shape[1:]), g, m) for g in generators])

    def take(step: int) -> None:
        pairs, noise = chance()
        with torch.enable_grad():
            found = output(pairs, gate(m[:, None], noise).flatten(0, 1))
            fit = misfit(runs, pairs, found, loss).reshape(len(m), -1).mean(1)
            total = (fit + penalty(m, step)).sum()
        learned = [m, *ascending]
        for parameter, grad in zip(learned, torch.autograd.grad(total, learned), strict=True):
            parameter.grad = grad
        optimiser.param_groups[0]["lr"] = lr * min(1.0, 3 * (steps - step) / steps)
        optimiser.step()
        fits[step] = fit.detach().double().cpu().numpy()
        progress(step + 1, steps, f"{loss} {fits[step].mean():.3g}")

    for stretch in np.array_split(np.arange(steps), min(steps, KEPT)):
        _kept(runs, stretch, optimiser, fits, take, chance)
    for each in runs.batches:
        runs.release(each)
    return Learned(m=m.detach(), fit=fits)


def _kept(
    runs: PairedRuns,
    stretch: np.ndarray,
    optimiser: torch.optim.Adam,
    fits: np.ndarray,
    take: Callable[[int], None],
    chance: Callable[[], object],
) -> None:
    """Take some steps, or go to where an earlier start of the same training was after them.

    What is kept is everything that the next step depends on but chance, which is drawn again: parameters, Adam's two
    moments of each, and the fits.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    first, last = int(stretch[0]), int(stretch[-1])

    trained = False

    def train(part: WorkPart) -> np.ndarray:
        nonlocal trained
        trained = True
        for step in stretch.tolist():
            take(step)
        moments = [optimiser.state[p][name] for p in parameters for name in ("exp_avg", "exp_avg_sq")]
        kept = [x.detach().double().cpu().numpy().ravel() for x in (*parameters, *moments)]
        return np.concatenate([*kept, fits[first : last + 1].ravel()])

    values = runs.division.finished(WorkPart(key=f"training-{last + 1:06d}", shape=None, batch=0), train)
    if not trained:
        _go_to(values, parameters, optimiser, last + 1)
        fits[first : last + 1] = values[-fits[first : last + 1].size :].reshape(-1, fits.shape[1])
        for _ in stretch:
            chance()


def _go_to(values: np.ndarray, parameters: list[Tensor], optimiser: torch.optim.Adam, step: int) -> None:
    """Put the parameters and moments of a kept training where they were."""
    at = 0

    def taken(like: Tensor) -> Tensor:
        nonlocal at
        found = torch.as_tensor(values[at : at + like.numel()], dtype=like.dtype, device=like.device)
        at += like.numel()
        return found.reshape(like.shape)

    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(taken(parameter))
        for parameter in parameters:
            moments = {name: taken(parameter) for name in ("exp_avg", "exp_avg_sq")}
            optimiser.state[parameter] = {"step": torch.tensor(float(step)), **moments}
