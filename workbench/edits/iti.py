"""Inference-time intervention: push the heads that tell right from wrong towards right.

For every head a logistic probe on its output at the last token of right and wrong statements; the heads whose probes
are best on other statements get ``alpha * sigma * theta`` added, ``theta`` the mean of the right minus the mean of the
wrong at unit length, ``sigma`` the standard deviation of the projections on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.circuits.addresses import parse_node
from workbench.core.errors import OptionError, ShapeError
from workbench.edits.affine import Affine
from workbench.edits.questions import Questions, losses

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Outputs = Float[Tensor, "statement layer head d_head"]
PerHead = Float[Tensor, "layer head d_head"]


@dataclass(frozen=True, kw_only=True)
class Probes:
    """What the heads' outputs tell of right and wrong.

    Attributes:
        accuracy: Of each head's probe on the statements it was not trained on.
        direction: ``theta``, unit length; zero where the means are equal.
        spread: ``sigma``, the standard deviation of the projections on theta.
    """

    accuracy: Float[Tensor, "layer head"]
    direction: PerHead
    spread: Float[Tensor, "layer head"]

    def ranked(self) -> tuple[str, ...]:
        """Return all heads, the best probe first; equal ones in the model's order."""
        order = self.accuracy.flatten().argsort(descending=True, stable=True).tolist()
        return tuple("a{}.h{}".format(*divmod(i, self.accuracy.shape[1])) for i in order)

    def edit(self, heads: Sequence[str], *, strength: float) -> Affine:
        """Add ``strength * sigma * theta`` to some heads at the last position of every forward pass.

        So each token of a greedy generation is chosen under it; the paper's strength is 15.
        """
        at = [(node.layer, node.index) for node in map(parse_node, heads)]
        offset = torch.stack([strength * self.spread[i] * self.direction[i] for i in at])
        return Affine(heads=tuple(heads), a=torch.ones_like(offset[:, :1]), b=offset, positions=(-1,))


def best_shift(
    model: TransformerBridge,
    probes: Probes,
    validation: Questions,
    *,
    counts: Sequence[int] = (1, 2, 4, 8),
    strengths: Sequence[float] = (1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
) -> tuple[int, float, Affine]:
    """Choose number of heads and strength by the loss on questions of words that the numbers are not reported on."""
    ranked, tried = probes.ranked(), {}
    for k in counts:
        for strength in strengths:
            with probes.edit(ranked[:k], strength=strength).on(model):
                tried[k, strength] = float(losses(model, validation).mean())
    k, strength = min(tried, key=tried.__getitem__)
    return k, strength, probes.edit(ranked[:k], strength=strength)


def probe_heads(
    outputs: Outputs,
    right: Bool[Tensor, " statement"],
    *,
    held_out: Bool[Tensor, " statement"],
    penalty: float = 1.0,
) -> Probes:
    """Probes, directions and spreads of all heads.

    Args:
        outputs: Head outputs at the last token of each statement.
        held_out: Statements on which the probes' accuracy is measured; neither probes nor directions see them.
        penalty: L2 penalty on a probe's weights (its inputs are standardised).

    Raises:
        ShapeError: if the three do not belong together.
        OptionError: if right or wrong statements are missing from a part.

    Source:
        Li et al. 2023, "Inference-Time Intervention", arXiv:2306.03341.
    """
    if right.shape != held_out.shape or len(outputs) != len(right):
        raise ShapeError(
            f"{len(outputs)} outputs, {len(right)} labels, {len(held_out)} marks; expected as many of each",
            hint="give one output, one label and one mark for each statement",
        )
    right, held_out = right.to(outputs.device), held_out.to(outputs.device)
    for part in (held_out, ~held_out):
        if len(right[part].unique()) < 2:
            raise OptionError(
                "right and wrong statements must both be among the held-out and among the others",
                hint="mark some right and some wrong statements in held_out, and leave some of both unmarked",
            )
    seen, labels = outputs[~held_out].double(), right[~held_out]
    flat = seen.flatten(1, 2).transpose(0, 1)  # (layer * head, statement, d_head)
    weight, bias, mean, std = logistic(flat, labels, penalty=penalty)
    asked = ((outputs[held_out].double().flatten(1, 2).transpose(0, 1)) - mean) / std
    said = (asked @ weight[:, :, None]).squeeze(-1) + bias[:, None] > 0
    accuracy = (said == right[held_out]).double().mean(1)
    direction = mass_mean_shift(seen, labels)
    spread = torch.einsum("nlhd,lhd->nlh", seen, direction).std(0)
    return Probes(
        accuracy=accuracy.view(outputs.shape[1:3]).to(outputs),
        direction=direction.to(outputs),
        spread=spread.to(outputs),
    )


def mass_mean_shift(outputs: Outputs, right: Bool[Tensor, " statement"]) -> PerHead:
    """Return the mean of the right minus mean of the wrong statements, at unit length for each head."""
    shift = outputs[right].mean(0) - outputs[~right].mean(0)
    length = shift.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, shift / length.clamp(min=1e-30), torch.zeros_like(shift))


def logistic(
    inputs: Float[Tensor, "probe statement d"],
    right: Bool[Tensor, " statement"],
    *,
    penalty: float,
    steps: int = 15,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return many logistic regressions at once by Newton's method, inputs standardised.

    Returns:
        Weights (probe, d) and biases (probe) for inputs ``(x - mean) / std``; mean and std (probe, 1, d).
    """
    mean, std = inputs.mean(1, keepdim=True), inputs.std(1, keepdim=True).clamp(min=1e-12)
    x = torch.cat([(inputs - mean) / std, torch.ones_like(inputs[..., :1])], dim=-1)
    ridge = torch.full((x.shape[-1],), float(penalty), dtype=x.dtype, device=x.device)
    ridge[-1] = 1e-6  # the bias is free
    weight = x.new_zeros(x.shape[0], x.shape[-1])
    for _ in range(steps):
        p = (x @ weight[:, :, None]).squeeze(-1).sigmoid()
        gradient = ((p - right.to(x))[:, None, :] @ x).squeeze(1) + ridge * weight
        curvature = x.transpose(1, 2) @ (x * (p * (1 - p))[..., None]) + torch.diag(ridge)
        weight = weight - torch.linalg.solve(curvature, gradient)
    return weight[:, :-1], weight[:, -1], mean, std
