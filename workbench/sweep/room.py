"""How large passes may be when memory is limited: the activations of a kind of work on these runs."""

from __future__ import annotations

from typing import Literal

from workbench.graph import Graph
from workbench.model.memory import Activations, resident_bytes, tokens_within
from workbench.sweep.runs import PairedRuns

Work = Literal["nodes", "edges"]
CACHE_FLOATS = (
    2**20
)  # hidden units of one MLP, 4 MB in float32: what lies between products still fits in the cache
FEWEST_TOKENS = 2048  # and matrix products are at their best


def activations(runs: PairedRuns, work: Work) -> Activations:
    """What passes over these runs keep: exact effects of nodes, or edges with everything gradients need."""
    wiring = runs.wiring
    edges = work == "edges"
    return Activations(
        n_layers=wiring.n_layers,
        n_heads=wiring.n_heads,
        d_model=wiring.d_model,
        d_mlp=wiring.d_mlp or 4 * wiring.d_model,
        d_vocab=runs.model.cfg.d_vocab,
        sources=len(Graph(wiring.node_shape()).sources) if edges else 0,
        all_logits=runs.metric.reads == "all"
        or any(
            ends["end"] != len(ids) - 1
            for ends, ids in zip(runs.pairs.positions, runs.pairs.clean, strict=True)
        ),
        gradients=edges,
        itemsize=max(2, next(iter(runs.model.parameters())).element_size()),
    )


def keep_within(runs: PairedRuns, max_memory: int | str, *, work: Work) -> int:
    """The ``batch_tokens`` with which this work stays within a budget for the whole process.

    Raises:
        ModelError: if even one pair does not fit.
    """
    return tokens_within(
        max_memory,
        activations(runs, work),
        lengths=[len(ids) for ids in runs.pairs.clean],
        resident=resident_bytes(str(runs.device)),
        most=runs.batch_tokens,
    )


def cached_tokens(runs: PairedRuns) -> int:
    """Tokens of a pass that a processor's cache holds; elsewhere as many as a pass may have."""
    if runs.device.type != "cpu":
        return runs.batch_tokens
    hidden = runs.wiring.d_mlp or 4 * runs.wiring.d_model
    return min(runs.batch_tokens, max(FEWEST_TOKENS, CACHE_FLOATS // hidden))
