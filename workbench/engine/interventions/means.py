"""Means of activations over a reference set, for mean ablation.

Four means, each a mean of the activation itself, over real tokens only (nothing is ever padded):

- ``mean``: over pairs and positions;
- ``mean-per-position``: over pairs, at each position, among prompts of the same token length; in a text tower, among
  prompts whose captions have the same lengths one by one;
- ``mean-per-template``: over pairs made from the same template (``Pair.group``) and of the same length, at each
  position: the convention of Wang et al. 2023 for IOI, with prompts of other names as reference set;
- ``mean-per-name``: over pairs at each named position, and at all unnamed positions together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from workbench.circuits.addresses import TEXT
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
    _positions: dict = field(default_factory=dict)

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

    def _lengths(self, name: str, batch: Batch) -> tuple[int, ...]:
        """What must be equal for two positions to be the same: of a text tower, the length of every caption."""
        stack, inner, _ = name.partition(".blocks.")
        captions = batch.caption_lengths
        reads_captions = (stack if inner else self.reference.own_stack) == TEXT
        return captions if captions and reads_captions else (batch.n_tokens,)

    def _add(self, name: str, batch: Batch, tensor: Tensor) -> None:
        lengths = self._lengths(name, batch)
        if name.endswith("hook_pattern"):  # (pair, head, query, key): only a mean per position has a meaning
            self._put(("length", name, lengths), tensor.sum(0, dtype=torch.float64), len(batch))
            return
        if "mean" in self.kinds:
            self._put(("all", name), tensor.sum((0, 1), dtype=torch.float64), len(tensor) * tensor.shape[1])
            self._positions[name, lengths] = tensor.shape[1]  # a tower has positions of its own
        if "mean-per-position" in self.kinds:
            self._put(("length", name, lengths), tensor.sum(0, dtype=torch.float64), len(batch))
        if "mean-per-template" in self.kinds:
            for row, template in enumerate(batch.groups):
                self._put(("template", name, lengths, template), tensor[row].double(), 1)
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
                "length": f"prompts of {_said(key[2])} tokens",
                "name": f"a position called {key[2]!r}",
                "template": f"template {key[-1]!r} with prompts of {_said(key[2])} tokens",
            }[key[0]]
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
        lengths = self._lengths(name, batch)
        if kind == "mean-per-position" or name.endswith("hook_pattern"):
            if kind != "mean-per-position":
                raise TaskError(
                    "a pattern has no mean over positions", hint="use --ablation mean-per-position"
                )
            mean = self._mean(("length", name, lengths)).to(dtype)
            return mean.expand(len(batch), *mean.shape)
        if kind == "mean":
            mean = self._mean(("all", name)).to(dtype)
            length = self._positions.get((name, lengths), sum(lengths))
            return mean.expand(len(batch), length, *mean.shape)
        if kind == "mean-per-template":
            keys = [("template", name, lengths, template) for template in batch.groups]
            return torch.stack([self._mean(key) for key in keys]).to(dtype)
        rows = []
        for named in batch.positions:
            at = {index: position for position, index in named.items()}
            rows.append(torch.stack([self._mean(("name", name, at.get(p))) for p in range(batch.n_tokens)]))
        return torch.stack(rows).to(dtype)


def _said(lengths: object) -> str:
    """Lengths of a prompt, or of its captions, in words."""
    return " and ".join(map(str, lengths)) if isinstance(lengths, tuple) else str(lengths)


def found_means(means: Means | None, value: str) -> Means:
    """Return the means that an ablation by ``value`` puts there; asked for before any run."""
    if means is None:
        raise ModelError(
            f"{value} needs means of the clean run, and none were taken",
            hint="--ablation zero or resample needs no means",
        )
    return means
