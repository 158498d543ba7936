"""Probes of one layer, each trained once for a seed: of the mean of all patches, efficient, attention pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from workbench.heads.attentive_probe import (
    AttentionPooling,
    EfficientProbe,
    Features,
    MeanProbe,
    ProbeTraining,
    classes_tensor,
    fit_probe,
    parameters_of,
    standardised,
)

MEAN, EFFICIENT, POOLING = "linear probe of the mean", "efficient probe", "attention pooling"


class ProbeSet:
    """Probes of one layer that are trained on some pictures and judged on others.

    Args:
        features: Of all pictures, those for training first.
        right: The class of every picture.
        n: How many are for training.
        queries: Of the efficient probe, and heads of the pooling.
    """

    def __init__(
        self,
        features: Features,
        right: Int[np.ndarray, " item"],
        *,
        n: int,
        queries: int,
        training: ProbeTraining,
    ) -> None:
        train, test, width, classes = features[:n], features[n:], features.shape[-1], len(set(right.tolist()))
        self.train, self.test = standardised(train, train), standardised(test, train)
        self.right, self.n, self.training = right, n, training
        self.makers: dict[str, Callable[[], nn.Module]] = {
            MEAN: lambda: MeanProbe(width, classes),
            EFFICIENT: lambda: EfficientProbe(width, classes, queries=queries),
            POOLING: lambda: AttentionPooling(width, classes, heads=queries),
        }
        self.trained: dict[tuple[str, int], Any] = {}

    def probe(self, name: str, seed: int) -> Any:
        """Return a probe of this name and seed."""
        if (name, seed) not in self.trained:
            self.trained[name, seed] = self._fit(name, seed, self.right[: self.n])
        return self.trained[name, seed]

    def _fit(self, name: str, seed: int, labels: np.ndarray) -> nn.Module:
        wanted = classes_tensor(labels, self.train)
        return fit_probe(self.makers[name], self.train, wanted, training=self.training, seed=seed)

    def accuracy(
        self, name: str, seeds: Sequence[int], *, dealt: bool = False
    ) -> Float[np.ndarray, " picture"]:
        """Return for each picture the share of seeds whose probe is right.

        Args:
            dealt: Labels are dealt to the training pictures anew: what is right then is chance.
        """
        labels = np.random.default_rng(0).permutation(self.right[: self.n])
        probes = [self._fit(name, seed, labels) if dealt else self.probe(name, seed) for seed in seeds]
        said = [probe(self.test).argmax(-1).cpu().numpy() for probe in probes]
        return np.mean([answers == self.right[self.n :] for answers in said], axis=0)

    def sizes(self) -> dict[str, int]:
        """Return how many numbers of each probe are learned."""
        return {name: parameters_of(maker()) for name, maker in self.makers.items()}

    def maps(self, seed: int) -> Float[np.ndarray, "picture query pos"]:
        """Return where the queries of the efficient probe look on the pictures that it is judged on."""
        return self.probe(EFFICIENT, seed).maps(self.test).double().cpu().numpy()


def shared_maps(
    first: Float[np.ndarray, "picture query pos"], other: Float[np.ndarray, "picture query pos"]
) -> Float[np.ndarray, " picture"]:
    """Return what share of their maps two different queries have in common, mean over pairs of queries.

    Args:
        other: The maps of the same probe, or of another one.

    Example:
        >>> maps = np.array([[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]])  # one picture, two queries
        >>> shared_maps(maps, maps).tolist()
        [0.5]
    """
    pairs = [(j, k) for j in range(first.shape[1]) for k in range(first.shape[1]) if j != k]
    shared = [np.minimum(first[:, j], other[:, k]).sum(-1) for j, k in pairs]
    return np.asarray(np.mean(shared, axis=0))
