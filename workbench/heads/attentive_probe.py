"""Probes of frozen features that choose where to look: efficient probing, attention pooling, the mean of all positions.

A probe shows where something can be read, not what the model uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.core.errors import OptionError
from workbench.model.probe import record

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.heads.drawn_pictures import DrawnPictures

Features = Float[Tensor, "item pos d"]


class MeanProbe(nn.Module):
    """A linear classifier of the mean over positions: linear probing."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(width, classes)

    def forward(self, features: Features) -> Float[Tensor, "item answer"]:
        """Return scores of the classes."""
        return self.classify(features.mean(1))


class EfficientProbe(nn.Module):
    """Learned queries that look at the features themselves; each reads its own group of channels of one projection.

    ``a_j = softmax(X u_j / sqrt(D))``, ``V = X W_V``, ``y_j = sum_n a_j[n] V[n, group j]``, then a linear classifier.
    There is no projection of queries or keys.

    Source:
        Psomas et al. 2025, Attention, Please! Revisiting Attentive Probing for Masked Image Modeling.
    """

    def __init__(self, width: int, classes: int, *, queries: int = 8) -> None:
        super().__init__()
        if queries < 1 or width % queries:
            raise OptionError(
                f"{queries} queries cannot share {width} channels; a divisor of {width} is expected",
                hint="queries=1",
            )
        self.queries = nn.Parameter(0.02 * torch.randn(queries, width))
        self.values = nn.Linear(width, width, bias=False)
        self.classify = nn.Linear(width, classes)

    def maps(self, features: Features) -> Float[Tensor, "item query pos"]:
        """Say where every query looks; each map sums to 1."""
        return (self.queries @ features.transpose(1, 2) / features.shape[-1] ** 0.5).softmax(-1)

    def forward(self, features: Features) -> Float[Tensor, "item answer"]:
        """Return scores of the classes."""
        groups = self.values(features).unflatten(-1, (len(self.queries), -1))  # (item, pos, query, channel)
        read = torch.einsum("iqp,ipqc->iqc", self.maps(features), groups)
        return self.classify(read.flatten(1))


class AttentionPooling(nn.Module):
    """One learned query in several heads, with projections of keys and values: attentive probing as usual."""

    def __init__(self, width: int, classes: int, *, heads: int = 8) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise OptionError(
                f"{heads} heads cannot share {width} channels; a divisor of {width} is expected",
                hint="heads=1",
            )
        self.query = nn.Parameter(0.02 * torch.randn(heads, width // heads))
        self.keys, self.values = nn.Linear(width, width), nn.Linear(width, width)
        self.classify = nn.Linear(width, classes)

    def maps(self, features: Features) -> Float[Tensor, "item query pos"]:
        """Say where every head looks; each map sums to 1."""
        keys = self.keys(features).unflatten(-1, self.query.shape)
        return (torch.einsum("qc,ipqc->iqp", self.query, keys) / self.query.shape[-1] ** 0.5).softmax(-1)

    def forward(self, features: Features) -> Float[Tensor, "item answer"]:
        """Return scores of the classes."""
        groups = self.values(features).unflatten(-1, self.query.shape)
        return self.classify(torch.einsum("iqp,ipqc->iqc", self.maps(features), groups).flatten(1))


@dataclass(frozen=True, kw_only=True)
class ProbeTraining:
    """How a probe is trained: AdamW, the rate constant and then linearly to 0."""

    steps: int = 400
    batch: int = 128
    lr: float = 3e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.lr <= 0:
            raise OptionError(f"{self} cannot train", hint="steps and batch of 1 or more, lr above 0")


def standardised(features: Features, like: Float[Tensor, "other pos d"]) -> Features:
    """Return features with the mean and spread that others have turned to 0 and 1, channel by channel.

    Positions with large norms would otherwise decide where queries look.
    """
    mean, spread = like.mean((0, 1)), like.std((0, 1))
    return (features - mean) / spread.clamp(min=1e-6)


def fit_probe(
    make: Callable[[], nn.Module],
    features: Features,
    right: Int[Tensor, " item"],
    *,
    training: ProbeTraining,
    seed: int = 0,
) -> nn.Module:
    """Train a probe; the same seed gives the same probe.

    Args:
        make: Makes it, untrained.
        right: The class of each item.

    Returns:
        The trained probe, in eval mode.

    Example:
        >>> import torch
        >>> right = torch.arange(32) % 2
        >>> features = torch.randn(32, 5, 8, generator=torch.Generator().manual_seed(0))
        >>> features[:, 2, 0] += 6 * right  # one of five patches says it
        >>> few = ProbeTraining(steps=60, batch=16)
        >>> probe = fit_probe(lambda: EfficientProbe(8, 2, queries=2), features, right, training=few)
        >>> bool((probe(features).argmax(-1) == right).float().mean() > 0.8)
        True
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = make().to(features)
    drawn = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(probe.parameters(), lr=training.lr)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, 2 * (1 - step / training.steps))
    )
    with torch.enable_grad():
        for _ in range(training.steps):
            rows = torch.randint(0, len(features), (training.batch,), generator=drawn).to(features.device)
            loss = cross_entropy(probe(features[rows]), right[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
    return probe.eval().requires_grad_(False)


def parameters_of(probe: nn.Module) -> int:
    """Say how many numbers of a probe are learned."""
    return sum(p.numel() for p in probe.parameters())


def classes_tensor(classes: Int[np.ndarray, " item"], like: Tensor) -> Int[Tensor, " item"]:
    """Return classes as a tensor beside features."""
    return torch.as_tensor(classes, device=like.device)


@torch.no_grad()
def patch_features(
    model: TransformerBridge, shown: DrawnPictures, layer: int, *, rows: int = 128
) -> Float[Tensor, "picture patch d_model"]:
    """Say what the patches of each picture hold after a layer; the class token is left out."""
    name, found = f"blocks.{layer}.hook_out", []
    for part in shown.prompt.split(rows):
        found.append(record(model, part, [name])[1][name][:, shown.sight.first :])
    return torch.cat(found)
