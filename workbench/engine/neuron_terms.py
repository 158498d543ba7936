"""What an edge into an MLP does: which hidden units it moves, who else writes what they read, and what they write.

A hidden unit ``j`` reads ``pre[j] = W_in[:, j] . norm(x) + b[j]``. With the norm's scale held at its value in the clean
run that is a sum over what was written before the MLP. The metric's slope at ``pre[j]`` says what a change of it is
worth; so the edge's first-order score is a sum over hidden units. What the units do with a larger change is no sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from workbench.circuits.reason import Ranking, Reason
from workbench.core.errors import ModelError, OptionError
from workbench.engine.asked_edge import AskedEdge, place_names
from workbench.engine.carried_values import LinearLogits
from workbench.engine.gradients import writer_gradients
from workbench.engine.norm_map import NormMap, measure_norm
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.score_terms import EARLIER
from workbench.engine.sides import sides_of
from workbench.engine.source_outputs import outputs_of_side
from workbench.model.hooks import TOLERANCE, hook_name, norm_before

OWN = "unit's bias"
MOST_UNITS, MOST_TOKENS = 3, 3
NOTHING = 1e-9  # of the largest metric: a score below is rounding
_ACTS: tuple[Callable[[Tensor], Tensor], ...] = (
    functional.relu,
    functional.gelu,
    lambda x: functional.gelu(x, approximate="tanh"),
    functional.silu,
    lambda x: x * torch.sigmoid(1.702 * x),
    lambda x: functional.relu(x) ** 2,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class NeuronTerms:
    """The hidden units of one MLP on one batch, what they read taken apart.

    Attributes:
        writers: Addresses of what was written before the MLP, and the output biases of attention.
        written: What each wrote into the stream ``x`` that the MLP reads.
        pre, slope: What each unit reads, and how its output moves with that.
        errors: How far sums are from the model's own values.
    """

    writers: tuple[str, ...]
    x: Float[Tensor, "pair pos d_model"]
    written: Float[Tensor, "pair pos writer d_model"]
    norm: Callable[[Tensor], Tensor]
    map: NormMap | None
    matrix: Float[Tensor, "d_model unit"]
    bias: Float[Tensor, " unit"]
    out: Float[Tensor, "unit d_model"]
    pre: Float[Tensor, "pair pos unit"]
    slope: Float[Tensor, "pair pos unit"]
    errors: dict[str, float]

    def live(self, x: Float[Tensor, "pair pos d_model"]) -> Float[Tensor, "pair pos unit"]:
        """Return what the units read of a stream, the norm computed anew."""
        return self.norm(x).double() @ self.matrix + self.bias

    def normed(self, written: Float[Tensor, "pair pos *writer d_model"]) -> Tensor:
        """Return what the norm makes of parts of the stream, its scale frozen."""
        parts = written.double()
        if self.map is None:
            return parts
        inverse = self.map.inverse_scale(self.x.double(), self.norm(self.x).double())
        inverse = inverse.view(*inverse.shape[:2], *[1] * (parts.dim() - 3), 1)
        gain = self.map.gain.double().reshape(-1)
        return gain * self.map.center(parts) * inverse

    def constant(self) -> Float[Tensor, " unit"]:
        """Return what the units read whatever was written: the norm's offset and their own bias."""
        if self.map is None:
            return self.bias
        return self.bias + self.map.offset.double().reshape(-1) @ self.matrix

    def of_unit(self, unit: int) -> tuple[tuple[str, ...], Float[Tensor, "pair pos term"]]:
        """Return the names of all terms of what one unit reads, and the terms: writers, then its own bias."""
        made = self.normed(self.written) @ self.matrix[:, unit]
        own = self.constant()[unit].expand(*made.shape[:2], 1)
        return (*self.writers, OWN), torch.cat([made, own], dim=2)


@torch.no_grad()
def neuron_terms(runs: PairedRuns, batch: Batch, layer: int, *, run: RunName = "clean") -> NeuronTerms:
    """Take what the hidden units of one MLP read apart on one batch, and compare with the model's own values.

    Raises:
        ModelError: if its units are no function of one sum each, such as in a gated MLP or a mixture of experts.
    """
    written, writers, x, unexplained = _written_before_mlp(runs, batch, layer, run)
    norm = norm_before(runs.model, layer, "ln2")
    normed = norm(x)
    found = None if torch.equal(normed, x) else measure_norm(norm, x[:1, :1])
    matrix, bias, out, out_bias = _weights(runs, layer)
    pre = normed.double() @ matrix + bias
    hooks = [hook_name("neurons", layer), hook_name("mlp-out", layer)]
    seen = runs.activations(batch, run, hooks)
    act, hidden_error = _act(pre, seen[hooks[0]].double(), layer)
    gives = act(pre) @ out + out_bias
    errors = {"writers": unexplained, "hidden units": hidden_error}
    errors["output of the MLP"] = _off(gives, seen[hooks[1]].double())
    limit = TOLERANCE.get(x.dtype, 2e-4)
    if (found is None and not torch.equal(normed, x)) or not errors["output of the MLP"] <= limit:
        raise _no_sum(layer, "something stands between its hidden units and the stream", "a norm of its own")
    with torch.enable_grad():
        at = pre.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(act(at).sum(), at)
    made = NeuronTerms(
        writers=writers, x=x, written=written, norm=norm, map=found, matrix=matrix, bias=bias, out=out, pre=pre,
        slope=slope, errors=errors,
    )  # fmt: skip
    total = made.normed(written).sum(2) @ matrix + made.constant()
    errors["pre-activations"] = _off(total, pre)
    return made


def _off(found: Tensor, own: Tensor) -> float:
    return float((found - own).abs().max() / (1 + own.abs().max()))


def _no_sum(layer: int, what: str, such: str) -> ModelError:
    return ModelError(
        f"edges into m{layer} have no reason here: {what} (such as {such})",
        hint="their effect can be measured: workbench discover --method exact",
    )


def _written_before_mlp(
    runs: PairedRuns, batch: Batch, layer: int, run: RunName
) -> tuple[
    Float[Tensor, "pair pos writer d_model"], tuple[str, ...], Float[Tensor, "pair pos d_model"], float
]:
    """What was written before an MLP, by whom, the stream that it reads, and how much of that nobody wrote."""
    side = sides_of(runs, runs.wiring.graph())[0]
    shape = side.graph.shape
    after = shape.has_attention(layer) and not shape.parallel
    x = runs.resid(batch, run, layer)
    if after:
        name = hook_name("attn-out", layer)
        x = x + runs.activations(batch, run, [name])[name]
    every = [s for s in side.graph.sources if s.layer is None or s.layer <= layer]
    kept = [i for i, s in enumerate(every) if s.layer != layer or (after and s.kind != "mlp")]
    written = outputs_of_side(runs, batch, run, side, before=layer + 1)[:, :, kept]
    rest = x - written.sum(2)
    bias = rest.mean((0, 1))
    error = float((rest - bias).abs().max() / (1 + x.abs().max()))
    if not error <= TOLERANCE.get(x.dtype, 2e-4):
        raise _no_sum(
            layer, f"what was written before it does not sum to its stream (off by {error:.2g})", "scaling"
        )
    return torch.cat([written, rest[:, :, None]], dim=2), (*(str(every[i]) for i in kept), EARLIER), x, error


def _weights(runs: PairedRuns, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``W_in``, ``b_in``, ``W_out`` and ``b_out`` of an MLP of one input matrix."""
    mlp: Any = runs.model.blocks[layer].mlp
    names = ("W_in", "b_in", "W_out", "b_out")
    given = {name: getattr(mlp, name, None) for name in (*names, "W_gate")}
    w_in, b_in, w_out, b_out = (given[name] for name in names)
    if given["W_gate"] is not None or w_in is None or w_out is None or w_in.dim() != 2:
        raise _no_sum(layer, "its hidden units are products of two readings, or several experts'", "SwiGLU")
    b_in = w_in.new_zeros(w_in.shape[1]) if b_in is None else b_in
    b_out = w_in.new_zeros(w_in.shape[0]) if b_out is None else b_out
    return w_in.detach().double(), b_in.detach().double(), w_out.detach().double(), b_out.detach().double()


def _act(pre: Tensor, post: Tensor, layer: int) -> tuple[Callable[[Tensor], Tensor], float]:
    """The function that makes the model's hidden values of what its units read, and how well it does."""
    errors = [_off(act(pre), post) if pre.shape == post.shape else float("inf") for act in _ACTS]
    best = int(np.argmin(errors))
    if not errors[best] <= TOLERANCE.get(torch.float32, 2e-4):
        raise _no_sum(layer, "its hidden units are no known function of one sum each", "SwiGLU")
    return _ACTS[best], errors[best]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Moved:
    """What was found on one batch: the edge's score by unit and by position, and how the units are made."""

    index: np.ndarray
    terms: NeuronTerms
    by_unit: Float[Tensor, "pair unit"]
    by_pos: Float[Tensor, "pair pos"]
    whole: Float[Tensor, " pair"]
    at: Tensor
    names: list[list[str]]
    toward: LinearLogits | None


def mlp_reason(runs: PairedRuns, asked: AskedEdge, *, at: str | int | None = None) -> Reason:
    """Say which hidden units an edge into an MLP moves, who else writes what they read, and which logits they raise.

    Raises:
        OptionError: if the metric does not depend on what the edge writes there.
        ModelError: if the units are no function of one sum each.
    """
    with torch.no_grad():
        seen = [_of_batch(runs, batch, asked, at) for batch in runs.batches]
    largest = max(float(one.by_pos.abs().max()) for one in seen)
    if not largest > NOTHING * float(np.abs(runs.clean).max()):
        raise OptionError(
            f"{asked.edge} carries nothing on which {runs.metric.name} depends here",
            hint="take another --corruption, or --metric logit-difference",
        )
    return _reason(runs, asked, seen)


def _of_batch(runs: PairedRuns, batch: Batch, asked: AskedEdge, at: str | int | None) -> _Moved:
    terms = neuron_terms(runs, batch, asked.layer)
    there = _written_before_mlp(runs, batch, asked.layer, "corrupted")[0]
    u = terms.writers.index(asked.source)
    moved = terms.written[:, :, u] - there[:, :, u]
    site = asked.layer, "mlp-out"
    grad = (
        writer_gradients(runs, batch, [site])[site].double() @ terms.out.T * terms.slope
    )  # at what units read
    each = (terms.normed(moved) @ terms.matrix) * grad
    with torch.enable_grad():
        x = terms.x.detach().clone().requires_grad_(True)
        (back,) = torch.autograd.grad((terms.live(x) * grad).sum(), x)
    try:
        toward = LinearLogits.of(runs, batch)
    except ModelError:
        toward = None
    by_pos = each.sum(2)
    return _Moved(
        index=batch.index,
        terms=terms,
        by_unit=each.sum(1),
        by_pos=by_pos,
        whole=(back * moved).double().sum((1, 2)),
        at=by_pos.abs().argmax(1) if at is None else batch.at(at),
        names=place_names(runs, batch),
        toward=toward,
    )


def _reason(runs: PairedRuns, asked: AskedEdge, seen: list[_Moved]) -> Reason:
    """The batches put together."""
    order = np.argsort(np.concatenate([one.index for one in seen]))
    unit, mlp = runs.metric.unit, str(asked.edge.target)
    by_unit = np.concatenate([one.by_unit.cpu().numpy() for one in seen])[order].T
    best = [int(i) for i in np.argsort(-np.abs(by_unit.mean(1)), kind="stable")[:MOST_UNITS]]
    clusters, total = runs.pairs.pairs.clusters, "the edge's score, first order, norm frozen"

    def ranking(title: str, sums_to: str, of: str, labels: tuple[str, ...], values: np.ndarray) -> Ranking:
        return Ranking(title=title, sums_to=sums_to, unit=of, labels=labels, values=values, clusters=clusters)

    units = tuple(f"{mlp}.n{i}" for i in range(len(by_unit)))
    names, made = _read_by(seen, best[0])
    rankings = (
        ranking("which hidden units it moves", total, unit, units, by_unit),
        ranking("at which positions", total, unit, *_by_place(seen, order)),
        ranking(f"who writes what {units[best[0]]} reads there", "its pre-activation", "pre-activation", names,
                made[order].T),
    )  # fmt: skip
    whole = float(torch.cat([one.whole for one in seen]).mean())
    counted = Counter(one.names[n][int(p)] for one in seen for n, p in enumerate(one.at))
    return Reason(
        edge=str(asked.edge),
        read=asked.read,
        task=runs.pairs.pairs.task,
        model=str(runs.provenance()["model"]),
        n_pairs=runs.n_pairs,
        places=tuple({"position": name, "pairs": n} for name, n in counted.most_common()),
        rankings=rankings,
        facts={
            f"edge score, first order ({unit})": whole,
            "of it through what units read, norm frozen": rankings[0].total,
            "of it through the norm": whole - rankings[0].total,
            "half of all that is moved is in": f"{_half(by_unit.mean(1))} of {len(units)} hidden units",
            **_written_by(runs, seen, {units[i]: i for i in best}),
        },
        errors={name: max(one.terms.errors[name] for one in seen) for name in seen[0].terms.errors},
        notes=(
            "sums are exact for a frozen norm and small changes; what hidden units do with a larger change is no sum",
        ),
        provenance=runs.provenance(),
    )


def _half(terms: np.ndarray) -> int:
    """How few terms have half of the sum of all sizes."""
    sizes = np.sort(np.abs(terms))[::-1]
    return int(np.searchsorted(sizes.cumsum(), 0.5 * sizes.sum())) + 1


def _read_by(seen: list[_Moved], unit: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Terms of what one unit reads where the edge acts, ``(pair, term)``."""
    found = []
    for one in seen:
        names, made = one.terms.of_unit(unit)
        found.append(made[torch.arange(len(made), device=made.device), one.at].cpu().numpy())
    return names, np.concatenate(found)


def _by_place(seen: list[_Moved], order: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of positions, and their share of the score ``(place, pair)``: 0 where a pair has no such position."""
    labels = tuple(dict.fromkeys(name for one in seen for row in one.names for name in row))
    at = {name: i for i, name in enumerate(labels)}
    made = np.zeros((sum(len(one.names) for one in seen), len(labels)))
    numbers = [row for one in seen for row in one.by_pos.cpu().numpy()]
    for pair, (row, own) in enumerate(zip((r for one in seen for r in one.names), numbers, strict=True)):
        np.add.at(made[pair], [at[name] for name in row], own)
    return labels, made[order].T


def _written_by(runs: PairedRuns, seen: list[_Moved], units: dict[str, int]) -> dict[str, str]:
    """The tokens whose logits the output weights of some units raise, the last norm frozen; not said where unknown."""
    if any(one.toward is None for one in seen):
        return {}
    found = {}
    for name, unit in units.items():
        raised = []
        for one in seen:
            assert one.toward is not None
            raised.append(one.toward.logits(one.terms.out[unit].expand(len(one.at), -1)))
        mean = torch.cat(raised).mean(0)
        order = (mean - mean.mean()).argsort(descending=True)
        tokens = [repr(runs.model.tokenizer.decode([int(t)])) for t in order[:MOST_TOKENS]]
        found[f"{name}, when active, raises directly"] = " ".join(tokens)
    return found


__all__ = ["NeuronTerms", "mlp_reason", "neuron_terms"]
