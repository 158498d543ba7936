"""A norm as a linear map: what it takes off, and what it multiplies by, measured on the norm itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True, eq=False)
class NormMap:
    """A norm as ``gain * center(x) / scale(x) + offset``; ``center`` takes the mean away, or does nothing.

    Attributes:
        gain, offset: Broadcast against the norm's input.
    """

    gain: Tensor
    offset: Tensor
    centred: bool

    def center(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.centred else x

    def inverse_scale(
        self, x: Float[Tensor, "*any d"], y: Float[Tensor, "*any d"]
    ) -> Float[Tensor, "*any 1"]:
        """Return ``1 / scale`` of the call that made ``y`` of ``x``; 0 where the output does not depend on it."""
        moved = self.gain * self.center(x)
        size = moved.pow(2).sum(-1, keepdim=True)
        return torch.where(
            size > 0, (moved * (y - self.offset)).sum(-1, keepdim=True) / size, torch.zeros_like(size)
        )

    def back(self, grad: Tensor, inverse: Tensor) -> Tensor:
        """Return the gradient before the norm, its scale being a constant."""
        return self.center(self.gain * grad * inverse)


@torch.no_grad()
def measure_norm(norm: Callable[[Tensor], Tensor], like: Float[Tensor, "*any d"]) -> NormMap | None:
    """Gain, offset and centring of a norm, from one call on four made-up inputs; None where it is not of this form.

    Args:
        like: Any input of the norm; only its shape and dtype are used.
    """
    if type(norm) is nn.LayerNorm and norm.weight is not None:  # torch's own says it
        wide = torch.promote_types(like.dtype, torch.float32)
        gain = norm.weight.to(wide).view(*[1] * (like.dim() - 1), -1)
        offset = torch.zeros_like(gain) if norm.bias is None else norm.bias.to(wide).view_as(gain)
        return NormMap(gain=gain, offset=offset, centred=True)
    like = like[:1]
    at = torch.arange(like.shape[-1], device=like.device)
    # size 1,000 to 1,500: far above eps; irregular, so that no two dimensions look the same
    probe = (1000 + 500 * (at * 0.6180339887).frac()) * (1 - 2 * (at % 2))
    other = 3 * probe.roll(1)
    probes = torch.stack([probe * 0, probe, probe + 700, other]).to(like.dtype)
    made = norm(probes.view(4, *[1] * (like.dim() - 2), -1).expand(4, *like.shape[1:])).float()
    offset, y, moved, found = made.split(1)
    centred = bool((moved - y).abs().max() <= _slack(like) * (1 + y.abs().max()))
    gain = (y - offset) / _normed(probe, centred)
    expected = gain * _normed(other.to(like.dtype).float(), centred) + offset
    if not bool((found - expected).abs().max() <= 2 * _slack(like) * (1 + y.abs().max())):
        return None
    wide = torch.promote_types(like.dtype, torch.float32)
    return NormMap(gain=gain.to(wide), offset=offset.to(wide), centred=centred)


def _normed(x: Tensor, centred: bool) -> Tensor:
    x = x - x.mean() if centred else x
    return x / x.pow(2).mean().sqrt()


def _slack(like: Tensor) -> float:
    return 0.03 if like.dtype in (torch.bfloat16, torch.float16) else 1e-4
