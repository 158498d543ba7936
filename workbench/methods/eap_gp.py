"""EAP-GP: EAP along a path that the model's own gradients choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.scores import Scores
from workbench.engine.gradients import frozen
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.options.after_eap_ig import EAPGP
from workbench.methods.points import Point
from workbench.methods.registry import Level
from workbench.model.hooks import forward, hook_name

Inputs = Float[Tensor, "pair pos d_model"]


def gradient_path(runs: PairedRuns, batch: Batch, steps: int, length: float = 1.0) -> list[Inputs]:
    """Return inputs on the way from the clean run to where the outputs are those of the corrupted run.

    Each step goes ``length`` against the gradient of ``|logits - logits of the corrupted run|^2``, over all tokens. The
    gradient is normed for every prompt by itself: what a batch holds does not change the path.
    """
    x, path = runs.activations(batch, "clean", [hook_name("resid", 0)])[hook_name("resid", 0)], []
    with torch.no_grad():
        goal = forward(runs.model, batch.prompt("corrupted"), last_only=False)
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        entering = [(hook_name("resid", 0), lambda tensor, hook, x=x: x)]
        with torch.enable_grad(), frozen(runs.model), runs.model.hooks(fwd_hooks=entering):
            logits = forward(runs.model, batch.prompt("clean"), last_only=False)
            (grad,) = torch.autograd.grad((logits - goal).pow(2).sum(), x)
        size = grad.flatten(1).norm(dim=1).clamp_min(torch.finfo(grad.dtype).tiny)
        x = x.detach() - length * grad / size[:, None, None]
        path.append(x)
    return path


def eap_gp(
    runs: PairedRuns,
    options: EAPGP,
    *,
    level: Level,
    progress: Callable[..., None],
    per_position: bool = False,
) -> Scores:
    """EAP with the gradient averaged along a path that follows the difference of the outputs down.

    The path starts at the clean input and steps against the gradient of the squared distance to the corrupted run's
    logits; its points weigh the same, however far apart, so that scores do not sum to the difference of the metric.

    Returns:
        Scores in the metric's unit; positive supports the behavior.

    Source:
        arXiv:2502.06852. There is no code of the authors; this reads it as one path of inputs, as a re-implementation
        does (the paper's update is per node).
    """
    between = [k / (options.steps + 1) for k in range(1, options.steps + 1)]  # names only: the path is found
    return gradient_scores(
        runs,
        Recipe(
            points=lambda graph: [Point(alpha=alpha) for alpha in between],
            path=lambda runs, batch: gradient_path(runs, batch, options.steps, options.length),
        ),
        level=level,
        method="eap-gp",
        source="arXiv:2502.06852",
        options=asdict(options),
        passes=3 + 4 * options.steps,
        per_position=per_position,
        progress=progress,
    )
