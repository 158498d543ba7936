"""Means of activations over a reference set, for mean ablation.

Four means, each a mean of the activation itself, over real tokens only (nothing is ever padded):

- ``mean``: over pairs and positions;
- ``mean-per-position``: over pairs, at each position, among prompts of the same token length;
- ``mean-per-template``: over pairs made from the same template (``Pair.group``) and of the same length, at each
  position: the convention of Wang et al. 2023 for IOI, with prompts of other names as reference set;
- ``mean-per-name``: over pairs at each named position, and at all unnamed positions together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.core.errors import ModelError, TaskError
from workbench.engine.paired_runs import Batch, PairedRuns, RunName

ALL = frozenset({"mean", "mean-per-position", "mean-per-template", "mean-per-name"})


@dataclass(eq=False)
class Means:
    """Means at some hooks over one run of a reference set; computed in float64, batch by batch."""

    reference: PairedRuns
    run: RunName
    names: tuple[str, ...]
    kinds: frozenset[str] = ALL
    _sums: dict = field(default_factory=dict)
    _counts: dict = field(default_factory=dict)
    _lengths: dict = field(default_factory=dict)

    @classmethod
    def over(
        cls, reference: PairedRuns, run: RunName, names: Iterable[str], kinds: Iterable[str] = ALL
    ) -> Means:
        """Run the reference set once and sum up, for these kinds of means."""
        means = cls(reference, run, tuple(sorted(set(names))), frozenset(kinds))
        for batch in reference.batches:
            found = reference.activations(batch, run, means.names)
            for name in means.names:
                means._add(name, batch, found[name])
            if len(reference.batches) > 1:  # the activations of one batch may be read again at once
                reference.release(batch)
        return means

    def _add(self, name: str, batch: Batch, tensor: Tensor) -> None:
        if name.endswith("hook_pattern"):  # (pair, head, query, key): only a mean per position has a meaning
            self._put(("length", name, batch.n_tokens), tensor.sum(0, dtype=torch.float64), len(batch))
            return
        if "mean" in self.kinds:
            self._put(("all", name), tensor.sum((0, 1), dtype=torch.float64), len(tensor) * tensor.shape[1])
            self._lengths[name, batch.n_tokens] = tensor.shape[1]  # a tower has positions of its own
        if "mean-per-position" in self.kinds:
            self._put(("length", name, batch.n_tokens), tensor.sum(0, dtype=torch.float64), len(batch))
        if "mean-per-template" in self.kinds:
            for row, template in enumerate(batch.groups):
                self._put(("template", name, batch.n_tokens, template), tensor[row].double(), 1)
        if "mean-per-name" in self.kinds:
            self._add_named(name, batch, tensor)

    def _add_named(self, name: str, batch: Batch, tensor: Tensor) -> None:
        for row, named in enumerate(batch.positions):
            where = sorted(set(named.values()))
            rest = [p for p in range(batch.n_tokens) if p not in where]
            for position, index in named.items():
                self._put(("name", name, position), tensor[row, index].double(), 1)
            if rest:
                self._put(("name", name, None), tensor[row, rest].sum(0, dtype=torch.float64), len(rest))

    def _put(self, key: tuple, total: Tensor, count: int) -> None:
        self._sums[key] = self._sums[key] + total if key in self._sums else total
        self._counts[key] = self._counts.get(key, 0) + count

    def _mean(self, key: tuple) -> Tensor:
        if key not in self._sums:
            what = {
                "length": "prompts of {2} tokens",
                "name": "a position called {2!r}",
                "template": "template {3!r} with prompts of {2} tokens",
            }[key[0]].format(*key)
            raise TaskError(
                f"the reference set has no {what}, so its mean is not defined",
                hint="give a larger reference set, or use --ablation mean",
            )
        return self._sums[key] / self._counts[key]

    def of(self, kind: str, name: str, batch: Batch, dtype: torch.dtype) -> Tensor:
        """Return the replacement for a batch, shaped like the activation: ``(pair, pos, ...)``.

        Raises:
            TaskError: if the reference set does not define this mean.
        """
        if kind == "mean-per-position" or name.endswith("hook_pattern"):
            if kind != "mean-per-position":
                raise TaskError(
                    "a pattern has no mean over positions", hint="use --ablation mean-per-position"
                )
            mean = self._mean(("length", name, batch.n_tokens)).to(dtype)
            return mean.expand(len(batch), *mean.shape)
        if kind == "mean":
            mean = self._mean(("all", name)).to(dtype)
            length = self._lengths.get((name, batch.n_tokens), batch.n_tokens)
            return mean.expand(len(batch), length, *mean.shape)
        if kind == "mean-per-template":
            keys = [("template", name, batch.n_tokens, template) for template in batch.groups]
            return torch.stack([self._mean(key) for key in keys]).to(dtype)
        rows = []
        for named in batch.positions:
            at = {index: position for position, index in named.items()}
            rows.append(torch.stack([self._mean(("name", name, at.get(p))) for p in range(batch.n_tokens)]))
        return torch.stack(rows).to(dtype)


def found_means(means: Means | None, value: str) -> Means:
    """Return the means that an ablation by ``value`` puts there; asked for before any run."""
    if means is None:
        raise ModelError(f"{value} needs means of the clean run, and none were taken")
    return means
