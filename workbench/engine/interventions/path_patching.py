"""Path patching: the effect of a sender on the metric through chosen inputs of chosen receivers only.

1. Run the base prompts with every head's output frozen to its base value, except the senders, which take their
   value from the other run. MLPs and norms are recomputed (paths may pass through MLPs) or frozen too.
   Record what the receivers read.
2. Run the base prompts again and put the recorded inputs into the receivers; everything after them is recomputed.

Source: Goldowsky-Dill et al. 2023, arXiv:2304.05969; Wang et al. 2023, arXiv:2211.00593 (MLPs recomputed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.addresses import LOGITS, Node
from workbench.circuits.effects import Effects
from workbench.core.errors import ModelError, OptionError, unknown
from workbench.core.progress import Progress, live
from workbench.core.run_record import code_versions, digest_of
from workbench.engine.distribute import Here, WorkPart, remembered
from workbench.engine.interventions.apply import hooks_for
from workbench.engine.interventions.intervention import (
    Edit,
    Intervention,
    as_node,
    as_positions,
    check,
    placed_once,
)
from workbench.engine.interventions.site import site_of
from workbench.engine.interventions.words import Mlps, Mode, Value
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.store import SweepStore
from workbench.model.hooks import Wiring, hook_name


@on_a_task
def path_patches(
    runs: PairedRuns,
    senders: Sequence[Node | str | Sequence[Node | str]],
    receivers: Sequence[Node | str],
    *,
    mode: Mode = "noising",
    mlps: Mlps = "recomputed",
    positions: str | int | Sequence[str | int] = (),
    folder: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Effects:
    """Measure the effect of each sender (or group of senders) through the receivers, all receivers together.

    Args:
        senders: Heads, MLPs or ``input``; a group of several is patched together and is one row.
        receivers: ``a9.h9<q>``, ``<k>``, ``<v>`` (``a9.g1<k>`` on grouped-query models), ``m3``, ``logits``.
        mode: ``noising``: base is the clean run, senders take corrupted values, effect is the drop.
        mlps: ``recomputed`` lets paths pass through MLPs (IOI); ``frozen`` leaves only direct paths.
        positions: Receiver positions; all when empty.
        folder: Where finished parts are kept; with ``resume`` an interrupted run in it is continued.

    Returns:
        One row per sender: effect in the metric's unit, one value per pair; positive supports the behavior.

    Raises:
        ModelError: for a part the model does not have.
        OptionError: if a receiver stands before every sender's layer, or is no input.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> wb.path_patches(runs, ["a0.h0"], ["logits"]).labels
        ('a0.h0',)
    """
    if mlps not in ("recomputed", "frozen"):
        raise unknown("treatment of MLPs", mlps, ("recomputed", "frozen"), error=OptionError)
    if mode not in ("noising", "denoising"):
        raise unknown("mode", mode, ("noising", "denoising"), error=OptionError)
    groups, targets = _ends(runs, senders, receivers)
    positions = as_positions(positions)
    placed_once(targets, positions)
    base: RunName = "clean" if mode == "noising" else "corrupted"
    plan = path_plan(runs, groups, targets, mode=mode, mlps=mlps, positions=positions)
    store = (
        nullcontext(runs.division.store) if folder is None else SweepStore(Path(folder), plan, resume=resume)
    )
    question = digest_of(plan)
    with (
        store as kept,
        runs.left_alone(live(progress)) as told,
        remembered(runs.division.asked(question, kept), question, bare=runs.is_bare()) as division,
    ):
        patched = _all_batches(runs, groups, targets, base, mlps, positions, division, told)
    labels = ("+".join(str(node) for node in group) for group in groups)
    where = f" at {', '.join(map(str, positions))}" if positions else ""
    kind = f"path patching to {', '.join(map(str, targets))}{where}, MLPs {mlps}"
    return _effects(runs, patched, plan, labels=tuple(labels), base=base, mode=mode, kind=kind)


def _ends(
    runs: PairedRuns, senders: Sequence[Node | str | Sequence[Node | str]], receivers: Sequence[Node | str]
) -> tuple[list[tuple[Node, ...]], list[Node]]:
    """Where paths begin, group by group, and where they end.

    Raises:
        OptionError: where there are none, or one sender is named twice.
        ModelError: for a part that the model does not have.
    """
    groups, targets = [_group(s) for s in senders], [as_node(r, towers=False) for r in receivers]
    if len(set(groups)) != len(groups):
        raise OptionError(
            "one sender is named twice; once is expected, as results would be mixed up",
            hint="name each sender once",
        )
    if not groups or not targets:
        raise OptionError(
            f"{len(groups)} senders and {len(targets)} receivers; path patching needs at least one of each",
            hint="--sender a0.h1 --receiver logits",
        )
    _check(runs.wiring, groups, targets)
    return groups, targets


def _effects(
    runs: PairedRuns,
    patched: Float[np.ndarray, "sender pair"],
    plan: dict[str, Any],
    *,
    labels: tuple[str, ...],
    base: RunName,
    mode: Mode,
    kind: str,
) -> Effects:
    """What was measured, as a table of effects with its provenance."""
    sign = runs.metric.direction
    return Effects(
        labels=labels,
        patched=patched,
        base=getattr(runs, base),
        gap=sign * (runs.clean - runs.corrupted),
        direction=sign,
        mode=mode,
        kind=kind,
        metric=runs.metric.name,
        unit=runs.metric.unit,
        task=runs.pairs.pairs.task,
        model=plan["model"],
        pair_ids=tuple(pair.id for pair in runs.pairs.pairs),
        clusters=runs.pairs.pairs.clusters,
        behavior=runs.behavior,
        provenance={"plan": digest_of(plan), **plan},
    )


def path_plan(
    runs: PairedRuns,
    senders: Sequence[Node | str | Sequence[Node | str]],
    receivers: Sequence[Node | str],
    *,
    mode: Mode,
    mlps: Mlps,
    positions: Sequence[str | int] = (),
) -> dict[str, Any]:
    """Everything that decides the numbers, as JSON values."""
    return {
        "kind": "path patching",
        "senders": [[str(n) for n in _group(g)] for g in senders],
        "receivers": [str(t) for t in receivers],
        "positions": [str(p) for p in positions],
        "mode": mode,
        "mlps": mlps,
        "batch_tokens": runs.batch_tokens,
        "code": code_versions(),
        **runs.provenance(),
    }


def _all_batches(
    runs: PairedRuns,
    groups: Sequence[tuple[Node, ...]],
    receivers: Sequence[Node],
    base: RunName,
    mlps: Mlps,
    positions: Sequence[str | int],
    division: Here,
    progress: Progress,
) -> np.ndarray:
    """``(group, pair)`` metric values; one part on disk is some senders on one batch."""
    patched = np.full((len(groups), runs.n_pairs), np.nan)
    parts, chunk_of = [], {}
    for b, batch in enumerate(runs.batches):
        size = max(1, runs.batch_tokens // (len(batch) * batch.n_tokens))
        for k in range(0, len(groups), size):
            n = len(groups[k : k + size])
            part = WorkPart(
                key=f"b{b:05d}-s{k:05d}",
                shape=(n, len(batch)),
                batch=b,
                cost=float(n * len(batch) * batch.n_tokens),
                what=f"{n} senders, {len(batch)} pairs",
            )
            chunk_of[part.key] = slice(k, k + n)
            parts.append(part)

    def compute(part: WorkPart) -> np.ndarray:
        batch = runs.batches[part.batch]
        runs.release_others(batch)
        return _stacked(runs, batch, groups[chunk_of[part.key]], receivers, base, mlps, positions)

    for done, (part, values) in enumerate(zip(parts, division.values(parts, compute), strict=True)):
        patched[chunk_of[part.key], runs.batches[part.batch].index] = values
        progress(done + 1, len(parts), part.what)
    for batch in runs.batches:
        runs.release(batch)
    if not np.isfinite(patched).all():
        row = int(np.argwhere(~np.isfinite(patched))[0, 0])
        raise ModelError(
            f"{'+'.join(map(str, groups[row]))} as sender gives a metric that is not finite",
            hint="--dtype float32, or leave this sender out",
        )
    return patched


def _group(sender: Node | str | Sequence[Node | str]) -> tuple[Node, ...]:
    if isinstance(sender, Node | str):
        sender = (sender,)
    return tuple(as_node(n, towers=False) for n in sender)


def _check(wiring: Wiring, groups: Sequence[tuple[Node, ...]], receivers: Sequence[Node]) -> None:
    for node in (n for group in groups for n in group):
        check(Edit(node=node, value="corrupted"), wiring)
        if node.slot is not None or node.kind not in ("input", "head", "mlp"):
            raise OptionError(
                f"{node} cannot be a sender", hint="senders are heads, MLPs or input: a5.h5, m3, input"
            )
    for node in receivers:
        if node == LOGITS:
            continue
        if (node.kind == "mlp" and node.slot is None) or node.slot in ("q", "k", "v"):
            check(Edit(node=node, value="corrupted"), wiring)
        else:
            raise OptionError(f"{node} is no receiver", hint="receivers are a9.h9<q>, <k>, <v>, m3 or logits")
    senders = [node for group in groups for node in group]
    if not any(reads(s, r, parallel=wiring.parallel) for s in senders for r in receivers):
        raise OptionError(
            f"{receivers[0]} comes before {senders[0]} writes, so no path leads from any sender to any receiver",
            hint="senders come first: --sender a5.h5 --receiver 'a9.h9<q>'",
        )


def reads(sender: Node, receiver: Node, *, parallel: bool) -> bool:
    """Whether a receiver can see what a sender writes: it comes later in the residual stream."""
    if sender.kind == "input" or receiver == LOGITS:
        return True
    if receiver.layer == sender.layer:
        return sender.kind == "head" and receiver.kind == "mlp" and not parallel
    return (receiver.layer or 0) > (sender.layer or 0)


def _receiver_hook(wiring: Wiring, receiver: Node) -> str:
    """The hook that carries what a receiver reads."""
    if receiver == LOGITS:
        return f"blocks.{wiring.n_layers - 1}.hook_out"
    if receiver.kind == "mlp":
        return f"blocks.{receiver.layer}.mlp.hook_in"
    assert receiver.slot is not None and receiver.layer is not None, "checked where receivers are read"
    return hook_name(receiver.slot, receiver.layer)


@torch.no_grad()
def _stacked(
    runs: PairedRuns,
    batch: Batch,
    groups: Sequence[tuple[Node, ...]],
    receivers: Sequence[Node],
    base: RunName,
    mlps: Mlps,
    positions: Sequence[str | int],
) -> np.ndarray:
    """``(group, pair)`` metric: two passes with one sender group per block of rows."""
    wiring, times = runs.wiring, len(groups)
    prompt = batch.prompt(base).repeat(times)
    other: RunName = "corrupted" if base == "clean" else "clean"
    value: Value = "corrupted" if base == "clean" else "clean"
    runs.activations(batch, other, sorted({hook_name(site_of(n), n.layer or 0) for g in groups for n in g}))
    stacked = [
        Intervention(label=str(i), edits=tuple(Edit(node=n, value=value) for n in group))
        for i, group in enumerate(groups)
    ]
    sender_hooks = hooks_for(runs, batch, stacked, None)
    seen: dict[str, Tensor] = {}
    keep = [(name, _keeper(seen, name)) for name in sorted({_receiver_hook(wiring, r) for r in receivers})]
    frozen = _frozen(runs, batch, base, times, mlps)
    runs.output(batch, prompt, [*frozen, *sender_hooks, *keep])  # in this order on one hook point
    puts = _put_back(wiring, batch, receivers, seen, positions)
    start = min((r.layer for r in receivers if r.layer is not None), default=wiring.n_layers - 1)
    resid = runs.resid(batch, base, start).repeat(times, 1, 1)
    values = runs.values(batch, prompt, puts, start=start, resid=resid)
    return values.reshape(times, len(batch)).double().cpu().numpy()


def _keeper(seen: dict[str, Tensor], name: str) -> Callable[..., None]:
    def store(tensor: Tensor, hook) -> None:
        seen[name] = tensor.detach().clone()

    return store


def _frozen(runs: PairedRuns, batch: Batch, base: RunName, times: int, mlps: Mlps) -> list[tuple[str, Any]]:
    """Hooks that hold every head (and MLP) at its base value."""
    names = [hook_name("head-output", n) for n in runs.wiring.attention_layers]
    names += [hook_name("mlp-out", n) for n in runs.wiring.mlp_layers] if mlps == "frozen" else []
    values = runs.activations(batch, base, names)

    def hold(name: str) -> Callable[..., Tensor]:
        def put(tensor: Tensor, hook) -> Tensor:
            return values[name].repeat(times, *([1] * (tensor.dim() - 1)))

        return put

    return [(name, hold(name)) for name in names]


def _put_back(
    wiring: Wiring,
    batch: Batch,
    receivers: Sequence[Node],
    seen: dict[str, Tensor],
    positions: Sequence[str | int],
) -> list[tuple[str, Any]]:
    """Hooks that give the receivers, and nothing else, what they read in the first pass."""
    by_hook: dict[str, list[Node]] = {}
    for receiver in receivers:
        by_hook.setdefault(_receiver_hook(wiring, receiver), []).append(receiver)

    def put(name: str, nodes: Sequence[Node]) -> Callable[..., Tensor]:
        def edit(tensor: Tensor, hook) -> Tensor:
            if name not in seen:
                raise ModelError(
                    f"hook {name} never fires on this model; nothing can be received there",
                    hint="workbench model show NAME says which receivers work; --receiver logits always does",
                )
            tensor, recorded = tensor.clone(), seen[name]
            rows = torch.arange(len(tensor), device=tensor.device)
            for node in nodes:
                wanted = [node.position] if node.position is not None else list(positions)
                places = [batch.at(p).repeat(len(tensor) // len(batch)) for p in wanted]
                for at in places or (None,):
                    index: tuple[Any, ...] = (slice(None), slice(None)) if at is None else (rows, at)
                    index = index if node.index is None else (*index, node.index)
                    tensor[index] = recorded[index]
            return tensor

        return edit

    return [(name, put(name, nodes)) for name, nodes in by_hook.items()]
