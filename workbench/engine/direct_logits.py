"""Direct logit attribution and the logit lens: what each part adds to the metric through the residual stream alone.

What leaves the last layer is the sum of what the parts write. With the scale of the last norm held at its value in the
clean run, logits are linear in that sum, and so the metric is a sum over parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.logit_parts import BIASES, By, Carried, Lens, LogitParts
from workbench.core.errors import ModelError, OptionError, unknown
from workbench.core.progress import Progress
from workbench.engine.asked_edge import place_names
from workbench.engine.carried_values import LinearLogits
from workbench.engine.experiments import ablate
from workbench.engine.interventions.words import Ablation
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import Batch, PairedRuns
from workbench.engine.sides import sides_of
from workbench.engine.source_outputs import outputs_of_side
from workbench.model.hooks import TOLERANCE, component, hook_name, output_matrix


@on_a_task
def direct_logits(
    runs: PairedRuns,
    *,
    by: By = "head",
    ablation: Ablation | None = "resample",
    progress: Progress | None = None,
) -> LogitParts:
    """Measure what each head and MLP, or each layer, adds to the metric directly, and what the stream says by layer.

    ``DLA(c) = < center(c) / scale * gain, u >``, where ``u`` is the slope of the metric behind the last norm. It sees
    the direct path alone and is not a causal effect: later layers may erase or copy what a part writes. The effect of
    ablating the part stands beside it.

    Args:
        runs: Runs of a task; or a model and a task in their place.
        by: ``head``: every head and every MLP; ``layer``: the attention and the MLP of each layer.
        ablation: With what parts are ablated for the effects beside; None leaves them out.

    Returns:
        One row for each part, and one for biases, in the metric's unit: the rows sum to the metric. Positive supports
        the behavior. Each with the loss of the metric when the norm is computed anew without the part.

    Raises:
        OptionError: for a metric that is not linear in logits, or another word.
        ModelError: if the model's logits are not the last norm and the unembedding alone, its stream is no sum of what
            parts write, or a norm follows the sum of its heads.

    Source:
        Elhage et al. 2021, transformer-circuits.pub; nostalgebraist 2020 for the logit lens.

    Example:
        >>> import workbench as wb
        >>> found = wb.direct_logits(wb.open_model("zoo:ioi"), "ioi", n=8, ablation=None)
        >>> bool(abs(found.values.sum(0) - found.total).max() < 1e-3), len(found)
        (True, 22)
    """
    if by not in get_args(By):
        raise unknown("way to take logits apart", str(by), get_args(By), error=OptionError)
    _check_model(runs, by)
    runs.settle()
    with torch.no_grad():
        seen = [_of_batch(runs, batch, by) for batch in runs.batches]
    found = _together(runs, seen, by)
    if ablation is None:
        return found
    effect = _effects(runs, found.labels, ablation, progress)
    return replace(found, effect=effect, ablation=ablation)


def _check_model(runs: PairedRuns, by: By) -> None:
    if runs.wiring.with_tower:
        raise ModelError("logits are taken apart for the language model alone", hint="leave out with_tower")
    wires = runs.wiring
    if not wires.residual_is_sum or {"early", "between"} & set(wires.errors):
        raise ModelError(
            f"what leaves the last layer cannot be taken apart: {wires.why_no_edges()}",
            hint="measure exact effects instead: workbench ablate",
        )
    if by == "head" and not runs.wiring.head_writes:
        raise ModelError(
            "a norm follows the sum of the heads, so no head writes to the logits by itself",
            hint="take layers: --by layer",
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What was found on one batch; every tensor has the pairs of ``index`` as its last axis."""

    index: np.ndarray
    labels: tuple[str, ...]
    values: Float[Tensor, "row pair"]
    live: Float[Tensor, "row pair"]
    total: Float[Tensor, " pair"]
    lens: Float[Tensor, "stream pair"]
    frozen: Float[Tensor, "stream pair"]
    right: Float[Tensor, "stream pair"]
    errors: dict[str, float]
    places: list[list[str]]
    carried: Float[Tensor, "source pair key"] | None = None
    attention: Float[Tensor, "source pair key"] | None = None


def _of_batch(runs: PairedRuns, batch: Batch, by: By) -> _Seen:
    out = LinearLogits.of(runs, batch)
    slope, read = _slope(runs, batch), torch.arange(len(batch), device=runs.device)
    side = sides_of(runs, runs.wiring.graph())[0]
    streams = _streams(runs, batch)
    written = outputs_of_side(runs, batch, "clean", side)[read, batch.answer_pos].double()
    labels, written = (
        _by_layer(side.graph.sources, written) if by == "layer" else (_names(side.graph), written)
    )
    rest = streams[-1] - written.sum(1)  # what belongs to no part: biases of attention
    unexplained = float((rest - rest.mean(0)).abs().max() / (1 + streams[-1].abs().max()))
    if not unexplained <= TOLERANCE.get(runs.dtype, 2e-4):
        raise ModelError(
            f"what the parts write does not sum to the stream (off by {unexplained:.2g})",
            hint="--dtype float32, or exact effects instead: workbench ablate",
        )
    toward = slope @ out.matrix.T  # of the metric in what leaves the last norm
    frozen = _Frozen.of(out, toward, runs.metric.direction)
    total = runs.metric.direction * runs.measure(batch, runs.clean_output(batch)).double()
    values = frozen.of_writes(written)
    constant = total - values.sum(0) - frozen.of_writes(rest[:, None])[0]
    expected = frozen.offset + runs.metric.direction * (slope @ _bias_of(runs, slope))
    error = float((constant - expected).abs().max() / (1 + total.abs().max()))
    norm = _norm_of(runs)
    live = _live(norm, streams[-1], written, toward) * runs.metric.direction
    biases = frozen.of_writes(rest[:, None])[0] + expected
    own = [_lens(runs, batch, norm, stream, out.matrix) for stream in streams]
    carried = _carried(runs, batch, frozen) if by == "head" else None
    return _Seen(
        index=batch.index,
        labels=(*labels, BIASES),
        values=torch.cat([values, biases[None]]),
        live=torch.cat([live, biases[None]]),
        total=total,
        lens=torch.stack([value for value, _ in own]),
        right=torch.stack([right for _, right in own]),
        frozen=torch.stack([frozen.of_writes(stream[:, None])[0] + expected for stream in streams]),
        errors={"sum of the parts": error, "stream": unexplained, "logits": out.error},
        places=place_names(runs, batch),
        carried=None if carried is None else carried[0],
        attention=None if carried is None else carried[1],
    )


def _slope(runs: PairedRuns, batch: Batch) -> Float[Tensor, "pair d_vocab"]:
    """The slope of the metric in the logits.

    Raises:
        OptionError: if the metric is not the logits times this slope, so that parts do not sum to it.
    """
    with torch.enable_grad():
        logits = runs.clean_output(batch).detach().double().requires_grad_(True)
        value = runs.measure(batch, logits)
        (slope,) = torch.autograd.grad(value.sum(), logits, allow_unused=True)
    if slope is None or not _is_linear(runs, batch, logits.detach(), slope, value.detach()):
        raise OptionError(
            f"{runs.metric.name} is not linear in the logits, so what parts add does not sum to it",
            hint="--metric logit-difference, or correct-logit",
        )
    return slope


def _is_linear(runs: PairedRuns, batch: Batch, logits: Tensor, slope: Tensor, value: Tensor) -> bool:
    """Whether the metric is the logits times its slope, also where they are small: a sure softmax hides its curve."""
    small = 1 / (1 + logits.abs().max())
    near: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
    shrunk = runs.measure(batch, logits * small).to(value)
    return torch.allclose((slope * logits).sum(-1), value, **near) and torch.allclose(
        shrunk, small * value, **near
    )


def _streams(runs: PairedRuns, batch: Batch) -> list[Float[Tensor, "pair d_model"]]:
    """The residual stream where the answer is read: before each layer, and behind the last."""
    rows, n = torch.arange(len(batch), device=runs.device), runs.wiring.n_layers
    leaving = f"blocks.{n - 1}.hook_out"
    last = runs.activations(batch, "clean", [leaving])[leaving]
    every = [*(runs.resid(batch, "clean", layer) for layer in range(n)), last]
    return [x[rows, batch.answer_pos].double() for x in every]


def _names(graph: Any) -> tuple[str, ...]:
    return tuple(str(source) for source in graph.sources)


def _by_layer(
    sources: Sequence[Any], written: Float[Tensor, "pair source d_model"]
) -> tuple[tuple[str, ...], Float[Tensor, "pair part d_model"]]:
    """The heads of a layer summed: one part for the attention of a layer, one for its MLP."""
    names = [str(source).partition(".")[0] for source in sources]
    labels = tuple(dict.fromkeys(names))
    parts = [written[:, [n == label for n in names]].sum(1) for label in labels]
    return labels, torch.stack(parts, dim=1)


def _norm_of(runs: PairedRuns) -> Any:
    norm = component(runs.model, "ln_final")
    return (lambda x: x) if norm is None else getattr(norm, "original_component", norm)


def _bias_of(runs: PairedRuns, like: Float[Tensor, "pair d_vocab"]) -> Float[Tensor, " d_vocab"]:
    bias = getattr(component(runs.model, "unembed"), "b_U", None)
    return like.new_zeros(like.shape[-1]) if bias is None else bias.detach().to(like)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frozen:
    """The metric as a linear function of what is written where the answer is read, the last norm's scale frozen."""

    back: Float[Tensor, "pair d_model"]
    offset: Float[Tensor, " pair"]

    @classmethod
    def of(cls, out: LinearLogits, toward: Float[Tensor, "pair d_model"], direction: int) -> _Frozen:
        if out.map is None:
            return cls(back=direction * toward, offset=torch.zeros_like(toward[:, 0]))
        offset = (out.map.offset.double().reshape(1, -1) * toward).sum(-1)
        return cls(back=direction * out.map.back(toward, out.inverse), offset=direction * offset)

    def of_writes(self, written: Float[Tensor, "pair part d_model"]) -> Float[Tensor, "part pair"]:
        return torch.einsum("bpd,bd->pb", written, self.back)


def _live(
    norm: Any,
    stream: Float[Tensor, "pair d_model"],
    written: Float[Tensor, "pair part d_model"],
    toward: Float[Tensor, "pair d_model"],
) -> Float[Tensor, "part pair"]:
    """What the metric loses when a part is taken out of the stream and the norm is computed anew."""
    kind = (
        next((p.dtype for p in norm.parameters()), torch.float32)
        if hasattr(norm, "parameters")
        else torch.float64
    )

    def through(x: Tensor) -> Tensor:
        return norm(x.to(kind)).double()

    whole = (through(stream[:, None])[:, 0] * toward).sum(-1)
    without = torch.einsum("bpd,bd->pb", through(stream[:, None] - written), toward)
    return whole - without


def _lens(
    runs: PairedRuns, batch: Batch, norm: Any, stream: Float[Tensor, "pair d_model"], matrix: Tensor
) -> tuple[Float[Tensor, " pair"], Float[Tensor, " pair"]]:
    """The metric of the stream through its own norm and the unembedding, and whether the answer is right."""
    logits = norm(stream.to(runs.dtype)).double() @ matrix
    logits = logits + _bias_of(runs, logits)
    answers, low = batch.answers, float("-inf")
    best = logits.gather(1, answers.correct).masked_fill(~answers.correct_mask, low).amax(1)
    against = logits.scatter(1, answers.correct, low)
    if answers.incorrect.shape[1] and bool(answers.incorrect_mask.any(1).all()):
        against = logits.gather(1, answers.incorrect).masked_fill(~answers.incorrect_mask, low)
    value = runs.metric.direction * runs.measure(batch, logits)
    return value.double(), (best > against.amax(1)).double()


def _carried(
    runs: PairedRuns, batch: Batch, frozen: _Frozen
) -> tuple[Float[Tensor, "source pair key"], Float[Tensor, "source pair key"]] | None:
    """What every source adds from each position, and where heads look; None where patterns or values are not live."""
    wires, rows = runs.wiring, torch.arange(len(batch), device=runs.device)
    sites = ("pattern", "v", "head-output")
    hooks = {(s, n): hook_name(s, n) for n in wires.attention_layers for s in sites}
    try:
        seen = runs.activations(batch, "clean", list(hooks.values()))
    except ModelError:
        return None
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in wires.attention_layers:
        pattern, v, z = (seen[hooks[site, layer]] for site in sites)
        look = pattern[rows, :, batch.answer_pos].double()  # (pair, head, key)
        values = v.double().repeat_interleave(wires.n_heads // v.shape[2], dim=2)
        given = torch.einsum("bhk,bkhe->bhe", look, values)
        own = z[rows, batch.answer_pos].double()
        if not float((given - own).abs().max() / (1 + own.abs().max())) <= TOLERANCE.get(runs.dtype, 2e-4):
            return None  # a sink, a gate or a norm stands between: heads are no pattern times values
        toward = torch.einsum("hed,bd->bhe", output_matrix(runs.model, layer).double(), frozen.back)
        each = torch.einsum("bhk,bkhe,bhe->hbk", look, values, toward)
        for head in range(wires.n_heads):
            found[f"a{layer}.h{head}"] = each[head], look[:, head]
    labels = _names(sides_of(runs, wires.graph())[0].graph)
    nothing = torch.zeros(len(batch), batch.n_tokens, dtype=torch.float64, device=runs.device)
    pairs = [found.get(label, (nothing, nothing)) for label in labels]
    return torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])


def _together(runs: PairedRuns, seen: Sequence[_Seen], by: By) -> LogitParts:
    """The batches put together, pairs in their order."""
    order = np.argsort(np.concatenate([one.index for one in seen]))

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name).cpu().numpy() for one in seen], axis=-1)[..., order]

    labels = tuple(f"r{n}" for n in range(len(seen[0].lens)))
    carried = _by_place(seen)
    notes = [
        "direct contributions are exact sums for the norm as it is in the whole model; they are no causal effects: "
        "later layers may erase or copy what a part writes"
    ]
    if by == "head" and carried is None:
        notes.append("where heads look and carry from is not shown: they are not pattern times values here")
    return LogitParts(
        by=by,
        task=runs.pairs.pairs.task,
        model=str(runs.provenance()["model"]),
        metric=runs.metric.name,
        unit=runs.metric.unit,
        labels=seen[0].labels,
        values=joined("values"),
        live=joined("live"),
        total=joined("total"),
        lens=Lens(
            labels=labels,
            values=joined("lens"),
            frozen=joined("frozen"),
            right=joined("right") > 0.5,
            clusters=runs.pairs.pairs.clusters,
        ),
        carried=carried,
        errors={name: max(one.errors[name] for one in seen) for name in seen[0].errors},
        notes=tuple(notes),
        provenance=runs.provenance(),
        clusters=runs.pairs.pairs.clusters,
    )


def _by_place(seen: Sequence[_Seen]) -> Carried | None:
    """Means over pairs by the name of the position; a pair without such a position counts 0."""
    if any(one.carried is None for one in seen):
        return None
    places = _in_order([row for one in seen for row in one.places])
    n, at = sum(len(one.index) for one in seen), {name: i for i, name in enumerate(places)}
    sums = np.zeros((2, len(seen[0].labels), len(places)))
    for one in seen:
        for kind, tensor in enumerate((one.carried, one.attention)):
            numbers = tensor.cpu().numpy()  # type: ignore[union-attr]
            for pair, row in enumerate(one.places):
                np.add.at(sums[kind, :-1].T, [at[name] for name in row], numbers[:, pair].T)
    direct, attention = sums / n
    return Carried(places=tuple(places), direct=direct, attention=attention)


def _in_order(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names of positions by how far from the end they stand on average, the end last."""
    away: dict[str, list[int]] = {}
    for row in rows:
        for at, name in enumerate(row):
            away.setdefault(name, []).append(len(row) - at)
    return sorted(away, key=lambda name: -sum(away[name]) / len(away[name]))


def _effects(
    runs: PairedRuns, labels: Sequence[str], ablation: Ablation, progress: Progress | None
) -> Float[np.ndarray, "row pair"]:
    """What the metric loses without each part; NaN for the input and the biases."""
    parts: dict[str, Any] = {}
    for label in labels:
        if label[0] in "am" and label[1:2].isdecimal():
            layer = int(label[1:].partition(".")[0])
            whole = label[0] == "a" and "." not in label and runs.wiring.head_writes
            parts[label] = tuple(f"a{layer}.h{h}" for h in range(runs.wiring.n_heads)) if whole else label
    found = ablate(runs, list(parts.values()), ablation=ablation, progress=progress)
    effects = np.full((len(labels), runs.n_pairs), np.nan)
    effects[[labels.index(label) for label in parts]] = found.per_pair
    return effects


__all__ = ["direct_logits"]
