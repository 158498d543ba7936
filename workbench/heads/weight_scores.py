"""The weight scores of all heads as measurements: eigenvalues and composition, each beside random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.heads import weights
from workbench.heads.every_head import Measurement
from workbench.heads.weights import Embedding, Kind, LayerWeights
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_ELHAGE = "Elhage et al. 2021, A Mathematical Framework for Transformer Circuits"


def weight_measurements(model: TransformerBridge, *, seed: int = 0) -> list[Measurement]:
    """OV copying and QK matching by eigenvalues (plain and effective embedding), composition with earlier heads.

    What a family does not allow is NaN, with the reason in ``missing``.
    """
    kinds: tuple[Embedding, ...] = ("plain", "effective") if 0 in wiring(model).mlp_layers else ("plain",)
    found = []
    for kind in kinds:
        found += [_eigen(model, kind, seed, copying=copying) for copying in (True, False)]
    return found + [_composition(model, kind, seed) for kind in ("q", "k", "v")]


def _eigen(model: TransformerBridge, kind: Embedding, seed: int, *, copying: bool) -> Measurement:
    """One eigenvalue score of all heads."""
    wires = wiring(model)
    values = np.full((wires.n_layers, wires.n_heads), np.nan)
    null, missing, about = np.full_like(values, np.nan), {}, "random matrices of the same shape"
    try:
        table = weights.embedding(model, kind)
        between = weights.unembedding(model) @ table if copying else table.T @ table
        of = weights.ov_copying if copying else weights.qk_matching
        name = "between" if copying else "gram"
        for layer in wires.attention_layers:
            values[layer] = of(model, layer, **{name: between}).cpu().numpy()
        mean, spread = weights.eigen_null(between, wires.d_head, seed=seed)
        null[list(wires.attention_layers)] = mean
        about += f" (standard deviation {spread:.2g})"
    except _TROUBLE as problem:
        values[:], missing = np.nan, {_why(problem): ()}
    effect = (
        "raises the logit of the token it looks at" if copying else "looks at the token that its query is"
    )
    matrix = "W_E W_V W_O W_U" if copying else "W_E W_Q W_K^T W_E^T"
    with_mlp = " with what the first MLP adds to W_E" if kind == "effective" else ""
    return Measurement(
        name=("ov-copying" if copying else "qk-matching") + ("-effective" if kind == "effective" else ""),
        on="weights",
        evidence="weight",
        values=values,
        null=null,
        low=-1.0,
        high=1.0,
        unit="eigenvalue share",
        about=f"sum over sum of absolute eigenvalues of {matrix}{with_mlp}: near 1 it {effect}"
        + ("" if copying else "; at one position, where positions are rotary"),
        null_about=about,
        source=_ELHAGE,
        missing={**missing, **_without(wires)},
    )


def _composition(model: TransformerBridge, kind: Kind, seed: int) -> Measurement:
    """The largest composition score of each head with an earlier one, and which one that is."""
    wires = wiring(model)
    shape = (wires.n_layers, wires.n_heads)
    values, null = np.full(shape, np.nan), np.full(shape, np.nan)
    partners = [["" for _ in range(wires.n_heads)] for _ in range(wires.n_layers)]
    missing: dict[str, tuple[int, ...]] = {}
    try:
        why = weights.why_no_position_free(model) if kind != "v" else ""
        if why:
            raise ModelError(why, hint="open a model without rotary positions to score these: zoo:ioi")
        first = wires.attention_layers[:1]
        after = wires.attention_layers[1:2]
        start = f"measured from layer {after[0]} on; the first" if after else "the only"
        missing = {f"{start} layer with heads has no earlier ones": first} if first else {}
        for layer, (scores, heads) in _all_pairs(model, kind).items():
            best = scores.argmax(1)
            values[layer] = scores.amax(1).cpu().numpy()
            partners[layer] = [heads[i] for i in best.tolist()]
            null[layer] = weights.composition_null(wires.d_model, wires.d_head, len(heads), seed=seed)
    except _TROUBLE as problem:
        values[:], missing = np.nan, {_why(problem): ()}
    what = {"q": "its queries", "k": "its keys", "v": "its values"}[kind]
    return Measurement(
        name=f"{kind}-composition",
        on="weights",
        evidence="weight",
        values=values,
        null=null,
        low=0.0,
        high=1.0,
        unit="share of norm",
        about=f"largest composition score with an earlier head: how much {what} can read of what it writes",
        null_about="the largest among as many random heads; one random pair has 1 / sqrt(d_model)",
        source=_ELHAGE,
        missing={**missing, **_without(wires)},
        partners=tuple(tuple(row) for row in partners),
    )


def _all_pairs(model: TransformerBridge, kind: Kind) -> dict[int, tuple[Tensor, list[str]]]:
    """Layer -> scores ``(head, earlier head)`` and the addresses of the earlier heads."""
    wires = wiring(model)
    before: list[tuple[int, LayerWeights]] = []
    found = {}
    for layer in wires.attention_layers:
        own = weights.layer_weights(model, layer)
        if before:
            scores = torch.cat([weights.composition(earlier, own, kind) for _, earlier in before], 1)
            found[layer] = (scores, [f"a{n}.h{h}" for n, _ in before for h in range(wires.n_heads)])
        before.append((layer, own))
    return found


# What a missing part of an unusual architecture raises: no W_U, no W_Q, matrices of another shape.
_TROUBLE = (ModelError, AttributeError, RuntimeError, TypeError, ValueError)


def _why(problem: Exception) -> str:
    if isinstance(problem, ModelError):
        return problem.message
    return f"its weights are not where they were looked for ({type(problem).__name__}: {str(problem)[:120]})"


def _without(wires: Any) -> dict[str, tuple[int, ...]]:
    none = tuple(n for n in range(wires.n_layers) if n not in wires.attention_layers)
    return {"no attention": none} if none else {}


__all__ = ["weight_measurements"]
