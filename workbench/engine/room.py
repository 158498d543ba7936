"""How large passes may be when memory is limited: the activations of a kind of work on these runs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal

import numpy as np

from workbench.circuits.graph import Graph
from workbench.engine.gradients import TAPE_FLOATS
from workbench.engine.paired_runs import BATCH_FLOATS, PairedRuns
from workbench.engine.passes import ENTERED
from workbench.model.memory import Activations, PictureRoom, resident_bytes, tokens_within
from workbench.model.settings import parse_size
from workbench.model.sight import sight_of
from workbench.model.trial import N_TRIED, blocks_of
from workbench.model.unhooked import limits_of
from workbench.tasks.pictures.image import AT_HAND, MEMORY

Work = Literal["nodes", "gradients", "edges"]
CACHE_FLOATS = (
    2**20
)  # hidden units of one MLP, 4 MB in float32: what lies between products still fits in the cache
FEWEST_TOKENS = 2048  # and matrix products are at their best


def activations(runs: PairedRuns, work: Work, *, plain: bool = False, in_tower: bool = False) -> Activations:
    """Say what passes over these runs keep: exact effects of nodes, gradients at edges, or those and ablated edges.

    Args:
        plain: No pass goes through the hooked model.
        in_tower: Interventions may begin in a tower, so that all stacked copies go through it.
    """
    wiring, model = runs.wiring, runs.model
    edges, half = work != "nodes", next(iter(model.parameters())).element_size() < 4
    capped = "cap" in limits_of(model)
    stacks = wiring.stacks  # a tower's layers count as further ones, each as wide as the widest
    return Activations(
        n_layers=sum(stack.n_layers for stack in stacks),
        n_heads=max(stack.n_heads for stack in stacks),
        d_model=max(stack.d_model for stack in stacks),
        d_heads=max(stack.n_heads * stack.d_head for stack in stacks),
        d_mlp=max(stack.d_mlp or 4 * stack.d_model for stack in stacks),
        d_vocab=model.cfg.d_vocab,
        sources=sum(len(Graph(stack.node_shape()).sources) for stack in stacks) if edges else 0,
        all_logits=runs.metric.reads == "all"
        or any(
            ends["end"] != len(ids) - 1
            for ends, ids in zip(runs.pairs.positions, runs.pairs.clean, strict=True)
        ),
        gradients=edges,
        stacked=work == "edges",
        plain=plain,
        gated=bool(getattr(model.cfg, "gated_mlp", True)),
        patterns=3 if half else 2 if capped else 1,
        batch_floats=BATCH_FLOATS,
        tape_floats=TAPE_FLOATS,
        itemsize=max(2, next(iter(model.parameters())).element_size()),
        pictures=pictures_of(runs, in_tower=in_tower or edges),
    )


def pictures_of(runs: PairedRuns, *, in_tower: bool) -> PictureRoom | None:
    """Say what the pictures of runs keep in passes; None where they have none."""
    if not any(pair.image for pair in runs.pairs.pairs) or (sight := sight_of(runs.model)) is None:
        return None
    sights = [sight.of(pair.image[0]) for pair in runs.pairs.pairs if pair.image] if sight.sizes else [sight]
    sight = max(sights, key=lambda one: one.size[0] * one.size[1])
    height, width = sight.size
    n = 2 * runs.n_pairs
    longest = max(len(ids) for ids in runs.pairs.clean)
    seen: dict[str, Any] = {
        "pixels": 3 * height * width,
        "n_pictures": n,
        "entered": longest * runs.wiring.d_model,
        "most_entered": max(ENTERED, longest * runs.wiring.d_model * runs.n_pairs),
        "in_tower": in_tower,
        "held": _held(runs, 3 * height * width),
    }
    tower = next(iter(runs.wiring.towers.values()), None)
    if tower is None:
        return PictureRoom(**seen)
    captions = max((sum(one.lengths) for one in runs.pairs.captions), default=0)
    return PictureRoom(
        **seen,
        n_positions=max(sight.n_tokens, captions),
        n_layers=tower.n_layers,
        n_heads=tower.n_heads,
        d_model=tower.d_model,
        d_mlp=tower.d_mlp or 4 * tower.d_model,
    )


def _held(runs: PairedRuns, pixels: int) -> int:
    """Numbers (of four bytes) of the pictures that are kept as they were loaded: drawn ones are of one byte."""
    kinds = [picture.kind for pair in runs.pairs.pairs for picture in pair.image or ()]
    sizes = sorted((0 if k == MEMORY else pixels // 4 if k else pixels for k in kinds), reverse=True)
    return sum(sizes[:AT_HAND])


def keep_within(
    runs: PairedRuns, max_memory: int | str, *, work: Work, by_model: bool = True, in_tower: bool = False
) -> int:
    """Return the ``batch_tokens`` with which this work stays within a budget for the whole process.

    Args:
        by_model: Some passes may go through the hooked model whatever its blocks are: backward rules, edits of
            patterns. Without them long prompts take less than half where blocks are plain.
        in_tower: Interventions may begin in a tower.

    Raises:
        ModelError: if even one pair does not fit.
    """
    resident = resident_bytes(str(runs.device))
    plain = not by_model and is_plain(runs, parse_size(max_memory) - resident)
    return tokens_within(
        max_memory,
        activations(runs, work, plain=plain, in_tower=in_tower),
        lengths=[len(ids) for ids in runs.pairs.clean],
        resident=resident,
        most=runs.batch_tokens,
    )


def is_plain(runs: PairedRuns, room: float) -> bool:
    """Say whether plain blocks are this model at all lengths of its prompts; tried on as many prompts as fit."""
    if runs.metric.reads == "all":
        return False
    kept, by_length = activations(runs, "nodes"), defaultdict(list)
    for index, ids in enumerate(runs.pairs.clean):
        by_length[len(ids)].append(index)
    for length, pairs in sorted(by_length.items()):
        fit = [n for n in range(2, N_TRIED + 1) if kept.trial_bytes(length, n) <= room]
        prompt = runs.prompt_of("clean", np.array(pairs[: max([1, *fit])]))
        if isinstance(blocks_of(runs.model, prompt), str):
            return False
    return True


def cached_tokens(runs: PairedRuns) -> int:
    """Return tokens of a pass that a processor's cache holds; elsewhere as many as a pass may have."""
    if runs.device.type != "cpu":
        return runs.batch_tokens
    hidden = runs.wiring.d_mlp or 4 * runs.wiring.d_model
    return min(runs.batch_tokens, max(FEWEST_TOKENS, CACHE_FLOATS // hidden))
