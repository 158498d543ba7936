"""Layer-wise relevance propagation written out, layer by layer, on networks small enough to read.

What the modified gradients of ``workbench/engine/backward.py`` must be equal to.

Row-vector convention: ``y = x W + b``, ``W`` is ``(d_in, d_out)``. ``r`` is the relevance of a layer's output.

Source: Achtibat et al. 2024, arXiv:2402.05602; the z+ rule as in Li et al. 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.engine.backward import slope_at_zero

Layer = tuple[Tensor, Tensor | None]  # weight (d_in, d_out), bias (d_out,)
Activation = Callable[[Tensor], Tensor]


def linear_epsilon(
    x: Float[Tensor, "*any d_in"],
    weight: Float[Tensor, "d_in d_out"],
    bias: Float[Tensor, " d_out"] | None,
    r: Float[Tensor, "*any d_out"],
    *,
    epsilon: float = 1e-9,
) -> Float[Tensor, "*any d_in"]:
    """Return ``R_x = x * ((r / (y + epsilon sign(y))) W^T)``: each input has what it adds to each output.

    The bias keeps its own part; without one the sum stays as epsilon goes to 0.
    """
    y = x @ weight if bias is None else x @ weight + bias
    sign = torch.where(y < 0, -1.0, 1.0).to(y.dtype)
    return x * ((r / (y + epsilon * sign)) @ weight.T)


def linear_z_plus(
    x: Float[Tensor, "*any d_in"],
    weight: Float[Tensor, "d_in d_out"],
    r: Float[Tensor, "*any d_out"],
    *,
    epsilon: float = 1e-9,
) -> Float[Tensor, "*any d_in"]:
    """Return ``R_x = x * ((r / (x W+ + epsilon)) W+^T)``, ``W+`` the positive part of ``W``; for inputs that are
    not negative.

    Example:
        >>> one = torch.tensor([[1.0, 3.0]])
        >>> linear_z_plus(one, torch.tensor([[2.0], [-5.0]]), torch.tensor([[7.0]])).tolist()
        [[7.0, 0.0]]
    """
    positive = weight.clamp(min=0)
    return x * ((r / (x @ positive + epsilon)) @ positive.T)


def softmax_rule(x: Float[Tensor, "*any n"], r: Float[Tensor, "*any n"]) -> Float[Tensor, "*any n"]:
    """Return ``R_x[i] = x_i (r_i - s_i sum_j r_j)`` with ``s = softmax(x)`` (AttnLRP).

    Not conserved, and another one for scores that are all moved by a constant although the softmax is the same.
    """
    s = x.softmax(-1)
    return x * (r - s * r.sum(-1, keepdim=True))


def product_rule(
    a: Float[Tensor, "*any i j"],
    v: Float[Tensor, "*any j k"],
    r: Float[Tensor, "*any i k"],
    *,
    epsilon: float = 1e-9,
) -> tuple[Float[Tensor, "*any i j"], Float[Tensor, "*any j k"]]:
    """Return the relevance of both factors of ``y = a v``: half of it to each."""
    y = a @ v
    share = r / (2 * (y + epsilon * torch.where(y < 0, -1.0, 1.0).to(y.dtype)))
    return a * (share @ v.transpose(-1, -2)), v * (a.transpose(-1, -2) @ share)


def forward_pass(
    x: Float[Tensor, "row d"], layers: Sequence[Layer], activation: Activation = torch.relu
) -> list[Tensor]:
    """Return the input of every layer, and the output; no activation after the last layer."""
    seen = [x]
    for i, (weight, bias) in enumerate(layers):
        y = seen[-1] @ weight if bias is None else seen[-1] @ weight + bias
        seen.append(activation(y) if i < len(layers) - 1 else y)
    return seen


def network_relevance(
    x: Float[Tensor, "row d"],
    layers: Sequence[Layer],
    *,
    activation: Activation = torch.relu,
    epsilon: float = 1e-9,
) -> Float[Tensor, "row d"]:
    """Return the relevance of a network's input for the sum of its outputs: epsilon rule, activations passed
    through.
    """
    seen = forward_pass(x, layers, activation)
    r = seen[-1]
    for before, (weight, bias) in zip(reversed(seen[:-1]), reversed(layers), strict=True):
        r = linear_epsilon(before, weight, bias, r, epsilon=epsilon)
    return r


def network_input_times_gradient(
    x: Float[Tensor, "row d"],
    layers: Sequence[Layer],
    *,
    activation: Activation = torch.relu,
    secant: bool = True,
) -> Float[Tensor, "row d"]:
    """Input times gradient of the summed outputs, activations having the slope ``f(z) / z`` (or their derivative)."""
    slopes, inputs = [], x
    for weight, bias in layers[:-1]:
        z = (inputs @ weight if bias is None else inputs @ weight + bias).detach().requires_grad_(True)
        y = activation(z)
        (derivative,) = torch.autograd.grad(y.sum(), z)
        limit = slope_at_zero(activation, z.detach().flatten()[:1])
        ratio = torch.where(z == 0, torch.full_like(z, limit), y / torch.where(z == 0, 1, z))
        slopes.append((ratio if secant else derivative).detach())
        inputs = y.detach()
    back = layers[-1][0].sum(1).expand(len(x), -1)
    for (weight, _), slope in zip(reversed(layers[:-1]), reversed(slopes), strict=True):
        back = (back * slope) @ weight.T
    return x * back


def random_network(sizes: Sequence[int], *, seed: int, biases: bool = False) -> list[Layer]:
    """Return layers with normal weights, in float64."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for a, b in pairwise(sizes):
        weight = torch.randn(a, b, generator=generator, dtype=torch.float64) / a**0.5
        bias = torch.randn(b, generator=generator, dtype=torch.float64) if biases else None
        made.append((weight, bias))
    return made


def identities(n: int) -> dict[str, float]:
    """Say how far two identities of the epsilon rule are from holding, the worst of ``n`` random networks.

    Relevance sums to the output without biases, and it is input times a gradient with activation slope ``f(z) / z``.
    Beside each, the median where it must not hold: with biases, and with the derivative of the activation.
    """
    gelu, found = torch.nn.functional.gelu, []
    for seed in range(n):
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        net, biased = (random_network((6, 10, 10, 3), seed=seed, biases=kind) for kind in (False, True))
        lost, kept = (
            _off(network_relevance(x, one, epsilon=1e-12).sum(1), forward_pass(x, one)[-1].sum(1))
            for one in (net, biased)
        )
        relevance = network_relevance(x, net, activation=gelu, epsilon=1e-12)
        modified, plain = (
            _off(network_input_times_gradient(x, net, activation=gelu, secant=secant), relevance)
            for secant in (True, False)
        )
        found.append((lost, kept, modified, plain))
    columns = [[float(row[i]) for row in found] for i in range(4)]
    return {
        "lost without biases": max(columns[0]),
        "lost with biases": median(columns[1]),
        "modified gradient": max(columns[2]),
        "plain gradient": median(columns[3]),
    }


def _off(here: Tensor, there: Tensor) -> float:
    """Largest difference over the root mean square of the second."""
    return float((here - there).abs().max() / there.pow(2).mean().sqrt())
