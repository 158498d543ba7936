"""Circuits run by their live parts alone: those with a way to the logits, each remembered by what it reads.

In a circuit of few edges most parts have no way to the logits: whatever they write, removed edges carry the reference.
Such parts are not computed. Of what a live part reads, everything that comes from removed edges, or from sources that
do what they do in the clean run, is known beforehand:

::

    input(target) = clean input(target) + sum over removed s of (reference(s) - clean(s))
                                        + sum over kept s that changed of (current(s) - clean(s))

A part that reads what it read in an earlier circuit writes what it wrote then: it is looked up. So two circuits that
differ by one edge share everything that has no path from that edge.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.circuits.graph import Graph
from workbench.engine.differences import Outputs
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.sides import Side, sides_of
from workbench.engine.source_outputs import StackOutputs, outputs_of_side
from workbench.model.blocks import Blocks
from workbench.model.hooks import hook_name, output_matrix, projection
from workbench.model.wiring import writer_hooks

Key = int  # 0: as in the clean run
RUNS: tuple[RunName, RunName] = ("clean", "corrupted")
MOST_NUMBERS = 2**19  # of what parts read and write; then all is forgotten
CHUNK_TOKENS = 2048  # tokens of one product of an MLP: what lies between still fits in a processor's cache


def live_parts(
    runs: PairedRuns, batch: Batch, graph: Graph, reference: StackOutputs | None = None, *, room: int
) -> LiveParts | None:
    """Return what runs circuits by their live parts; None where plain blocks are not the model, or see not every edge.

    Args:
        reference: What removed edges carry, ``(pair, pos, source, d_model)``; by default the corrupted run's content.
        room: How many numbers may be remembered.
    """
    if isinstance(reference, tuple) or len(graph.entering) > 1 or not graph.shape.head_writes:
        return None
    blocks, sides = runs.blocks(batch), sides_of(runs, graph)
    if isinstance(blocks, str) or len(sides) > 1 or sides[0].tower is not None:
        return None
    return LiveParts(runs, batch, sides[0], blocks, reference, room=room)


class LiveParts:
    """One batch, on which circuits are run; results are those of ``ablate_edges`` up to rounding.

    Args:
        room: How many numbers may be remembered between calls; what was not used for longest goes first.
    """

    def __init__(
        self,
        runs: PairedRuns,
        batch: Batch,
        side: Side,
        blocks: Blocks,
        reference: Outputs | None = None,
        *,
        room: int,
    ) -> None:
        self.runs, self.batch, self.blocks, self.graph, self.room = runs, batch, blocks, side.graph, room
        self._model, self._at_last = side.model, runs.last_only(batch)
        self._clean = _Clean(runs, batch, side.graph, at_last=self._at_last)
        self._change = _changes(runs, batch, side, reference)
        self._change_at_end = self._change[:, :, -1:].contiguous()
        self._slots = _slots(side.graph)
        self._groups = _groups(side.graph)
        self._numbers: dict[Hashable, Key] = {}
        self._known: dict[Hashable, Tensor] = {}
        self._held = 0
        self._weights: dict[tuple[int, str], tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def values(
        self, removed: Bool[np.ndarray, "copy source target"], *, afresh: bool = False
    ) -> Float[Tensor, "copy pair"]:
        """Return the metric of circuits, one row each.

        Args:
            afresh: Nothing is looked up: the result depends on nothing that was run before.
        """
        before = self._numbers, self._known, self._held
        if afresh:
            self._numbers, self._known, self._held = {}, {}, 0
        try:
            return self._values(removed & self.graph.edge_mask)
        finally:
            if afresh:
                self._numbers, self._known, self._held = before
            else:
                self._forget()

    def _values(self, removed: Bool[np.ndarray, "copy source target"]) -> Tensor:
        circuits = _Circuits(self.graph, removed, self._slots, self._numbers)
        for group in self._groups:
            self._write(group, circuits)
        t = len(self.graph.targets) - 1
        end = circuits.reads(t, range(len(removed)))
        new = [key for key in dict.fromkeys(end) if ("value", key) not in self._known]
        self._prepare([(t, key) for key in new], circuits)
        for key, row in zip(new, self._measured(new, circuits) if new else (), strict=True):
            self._keep(("value", key), row)
        return torch.stack([self._look_up(("value", key)) for key in end])

    def _measured(self, keys: list[Key], circuits: _Circuits) -> Float[Tensor, "copy pair"]:
        """The metric of what the logits read."""
        t, batch = len(self.graph.targets) - 1, self.batch
        read = torch.stack([self._input(t, key, circuits) for key in keys])  # (copy, pair, pos, d_model)
        at = torch.arange(len(batch), device=read.device)
        hidden = read[:, :, -1] if self._at_last else read[:, at, batch.answer_pos]
        ids = batch.prompt("clean").last.repeat(len(keys))
        return self.runs.value_of(batch, self.blocks, hidden.flatten(0, 1), ids).view(len(keys), -1)

    # -- what parts write -----------------------------------------------------------------------------------

    def _write(self, group: Sequence[int], circuits: _Circuits) -> None:
        """Number what sources that stand side by side write where they are live, and compute what is new."""
        new = {i: found for i in group if (found := self._new(i, circuits))}
        inputs = {
            (self._slots[i][slot], key)
            for i, found in new.items()
            for one in found.values()
            for slot, key in one.items()
        }
        self._prepare([place for place in sorted(inputs) if ("in", *place) not in self._known], circuits)
        for i, found in new.items():
            node = self.graph.sources[i]
            compute = self._mlp if node.kind == "mlp" else self._head
            for key, out in zip(
                found, compute(i, node.layer or 0, list(found.values()), circuits), strict=True
            ):
                self._keep(("out", key), out)

    def _new(self, i: int, circuits: _Circuits) -> dict[Key, dict[str, Key]]:
        """What a source has not written yet: number -> the numbers of what it reads."""
        live = circuits.live[i]
        slots = {slot: circuits.reads(t, live) for slot, t in self._slots[i].items()}
        new: dict[Key, dict[str, Key]] = {}
        for c, *keys in zip(live, *slots.values(), strict=True):
            if any(keys):
                key = circuits.written[c][i] = _number(self._numbers, (i, *keys))
                if ("out", key) in self._known:
                    self._look_up(("out", key))
                else:
                    new[key] = dict(zip(slots, keys, strict=True))
        return new

    def _mlp(self, i: int, layer: int, inputs: list[dict[str, Key]], circuits: _Circuits) -> list[Tensor]:
        """Change of what an MLP writes, ``(pair, pos, d_model)``, for each of the inputs."""
        block, clean, t = self.blocks.layers[layer], self._clean.mlp(layer), self._slots[i]["in"]
        assert block.neurons is not None, "a layer without an MLP has no such source"
        size, found = max(1, CHUNK_TOKENS // clean[..., 0].numel()), []
        for k in range(0, len(inputs), size):
            x = torch.stack([self._input(t, one["in"], circuits) for one in inputs[k : k + size]])
            found += list(block.mlp_out(block.neurons(block.mlp_norm(x))).sub_(clean))
        return found

    def _head(self, i: int, layer: int, inputs: list[dict[str, Key]], circuits: _Circuits) -> list[Tensor]:
        """Change of what a head writes, ``(pair, pos, d_model)``, for each of the inputs."""
        head, slots = self.graph.sources[i].index or 0, self._slots[i]
        q, k, v = (
            torch.stack([self._projected(layer, slot, slots[slot], one[slot], circuits) for one in inputs])
            for slot in "qkv"
        )
        mask = None if q.shape[2] == 1 else self.blocks.mask(k[0])
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (copy, pair, pos, d_head)
        change = z.sub_(self._clean.z(layer)[:, :, head])
        return list(change @ output_matrix(self._model, layer)[head])

    def _projected(
        self, layer: int, slot: str, t: int, key: Key, circuits: _Circuits
    ) -> Float[Tensor, "pair pos d_head"]:
        """A query, key or value of one head, as attention compares it."""
        place = ("in", t, key)
        if place in self._known:
            return self._look_up(place)
        block, node = self.blocks.layers[layer], self.graph.targets[t]
        matrix, bias = self._projection(layer, slot)
        found = block.norm(self._input(t, key, circuits)) @ matrix[node.index] + bias[node.index]
        if slot != "v":
            first = self.batch.n_tokens - found.shape[1]
            found = self.blocks.turned(block, "qk".index(slot), found[:, :, None], first)[:, :, 0]
        return self._keep(place, found)

    def _projection(self, layer: int, slot: str) -> tuple[Tensor, Tensor]:
        """A layer's matrices and biases, one of each for a head."""
        if (layer, slot) not in self._weights:
            matrix = projection(self._model, layer, slot)
            bias = getattr(self.blocks.layers[layer], slot)(matrix.new_zeros(1, matrix.shape[1]))
            self._weights[layer, slot] = matrix, bias.reshape(len(matrix), -1)
        return self._weights[layer, slot]

    # -- what parts read ------------------------------------------------------------------------------------

    def _input(self, t: int, key: Key, circuits: _Circuits) -> Float[Tensor, "pair pos d_model"]:
        """What a target reads."""
        if key == 0:
            return self._clean.input(t)
        column, changed = circuits.content[t, key]
        # what it reads where all kept sources do what they do in the clean run
        known = self._look_up(("constant", t, column)) if any(column) else self._clean.input(t)
        if not changed:
            return known
        pos = known.shape[1]
        total = known + self._known["out", changed[0]][:, -pos:]
        for one in changed[1:]:
            total += self._known["out", one][:, -pos:]
        return total

    def _prepare(self, places: Sequence[tuple[int, Key]], circuits: _Circuits) -> None:
        """Compute the constants of what targets that see the same sources read: one product for all."""
        columns = dict.fromkeys((t, circuits.content[t, key][0]) for t, key in places if key)
        new = [(t, c) for t, c in columns if any(c) and ("constant", t, c) not in self._known]
        for at_end in (False, True):
            some = [place for place in new if (self._clean.input(place[0]).shape[1] == 1) is at_end]
            if not some:
                continue
            n = int(self.graph.n_visible[some[0][0]])
            change = (self._change_at_end if at_end else self._change)[:n]
            rows = np.stack([np.frombuffer(column, dtype=bool)[:n] for _, column in some])
            weights = torch.as_tensor(rows, device=change.device).to(change.dtype)
            made = (weights @ change.flatten(1)).view(len(some), *change.shape[1:])
            for (t, column), one in zip(some, made, strict=True):
                self._keep(("constant", t, column), one.add_(self._clean.input(t)))

    # -- what is remembered ---------------------------------------------------------------------------------

    def _keep(self, place: Hashable, value: Tensor) -> Tensor:
        self._known[place] = value
        self._held += value.numel()
        return value

    def _look_up(self, place: Hashable) -> Tensor:
        """Return what is known, and remember that it was used."""
        value = self._known[place] = self._known.pop(place)
        return value

    def _forget(self) -> None:
        """Keep within the room."""
        if len(self._numbers) > MOST_NUMBERS:
            self._numbers, self._known, self._held = {}, {}, 0
        while self._held > self.room:
            self._held -= self._known.pop(next(iter(self._known))).numel()


class _Circuits:
    """Circuits that are run together: which parts are live, and what they read and write, by number.

    Attributes:
        live: ``[source]``: the circuits in which it has a way to the logits.
        written: ``[circuit]``: source -> number of what it writes, where that is not as in the clean run.
        content: Target and number -> which edges are removed, and the numbers of what changed sources write.
    """

    def __init__(
        self,
        graph: Graph,
        removed: Bool[np.ndarray, "copy source target"],
        slots: Sequence[dict[str, int]],
        numbers: dict[Hashable, Key],
    ) -> None:
        kept = graph.edge_mask & ~removed
        live, asked = np.zeros(removed.shape[:2], bool), np.zeros((len(removed), len(graph.targets)), bool)
        asked[:, -1] = True
        for i in reversed(range(len(graph.sources))):
            live[:, i] = (kept[:, i] & asked).any(1)
            for t in slots[i].values():
                asked[:, t] |= live[:, i]
        self.live = [np.flatnonzero(live[:, i]).tolist() for i in range(len(graph.sources))]
        self.written: list[dict[int, Key]] = [{} for _ in removed]
        self.content: dict[tuple[int, Key], tuple[bytes, tuple[Key, ...]]] = {}
        self._removed = np.ascontiguousarray(removed.transpose(0, 2, 1))  # (copy, target, source)
        self._kept = np.ascontiguousarray(kept.transpose(0, 2, 1))
        self._numbers = numbers

    def reads(self, t: int, circuits: Sequence[int]) -> list[Key]:
        """Number what a target reads in each of these circuits."""
        found = []
        for c in circuits:
            column, kept = self._removed[c, t].tobytes(), self._kept[c, t].tobytes()
            changed = tuple([key for i, key in self.written[c].items() if kept[i]])
            key = _number(self._numbers, (t, column, changed)) if changed or any(column) else 0
            self.content[t, key] = column, changed
            found.append(key)
        return found


class _Clean:
    """The clean run of one batch; in the last layer at the last position alone, where nothing else is read there."""

    def __init__(self, runs: PairedRuns, batch: Batch, graph: Graph, *, at_last: bool) -> None:
        self.graph, self.last, self.at_last = graph, graph.shape.n_layers - 1, at_last
        layers, sites = range(graph.shape.n_layers), ["resid", "attn-out", "head-output"]
        names = [hook_name(site, layer) for site in sites for layer in layers]
        names += [hook_name("mlp-out", layer) for layer in layers if graph.shape.has_mlp(layer)]
        self._end = f"blocks.{self.last}.hook_out"
        self._found = runs.activations(batch, "clean", [*names, self._end])
        self._inputs: dict[tuple[int, str], Tensor] = {}

    def z(self, layer: int) -> Float[Tensor, "pair pos head d_head"]:
        """What heads write before their output matrix."""
        return self._at(layer, self._found[hook_name("head-output", layer)])

    def mlp(self, layer: int) -> Float[Tensor, "pair pos d_model"]:
        """What an MLP writes."""
        return self._at(layer, self._found[hook_name("mlp-out", layer)])

    def input(self, t: int) -> Float[Tensor, "pair pos d_model"]:
        """What a target reads, before its norm; the same tensor for all heads."""
        node = self.graph.targets[t]
        layer = self.last if node.layer is None else node.layer
        kind = "keys" if node.slot in ("k", "v") else node.slot or node.kind
        if (layer, kind) not in self._inputs:
            self._inputs[layer, kind] = self._read(layer, kind)
        return self._inputs[layer, kind]

    def _read(self, layer: int, kind: str) -> Tensor:
        resid = self._found[hook_name("resid", layer)]
        if kind == "keys":
            return resid
        if kind == "q" or (kind == "mlp" and self.graph.shape.parallel):
            return self._at(layer, resid)
        if kind == "mlp":
            return self._at(layer, resid) + self._at(layer, self._found[hook_name("attn-out", layer)])
        return self._at(layer, self._found[self._end])

    def _at(self, layer: int, tensor: Tensor) -> Tensor:
        return tensor[:, -1:] if self.at_last and layer == self.last else tensor


def _slots(graph: Graph) -> list[dict[str, int]]:
    """``[source]``: its inputs by name, ``q``, ``k``, ``v`` or ``in``, and which target each is."""
    found: list[dict[str, int]] = [{} for _ in graph.sources]
    for t, target in enumerate(graph.targets[:-1]):
        for node in graph.fed_by(target.writer):
            if node in graph.source_index:
                found[graph.source_index[node]][target.slot or "in"] = t
    return found


def _groups(graph: Graph) -> list[list[int]]:
    """Sources behind the entering ones in the order in which they are computed; heads of a layer read the same."""
    found: dict[tuple[str, int | None], list[int]] = {}
    for i, node in enumerate(graph.sources):
        if node not in graph.entering:
            found.setdefault((node.kind, node.layer), []).append(i)
    return list(found.values())


def _changes(
    runs: PairedRuns, batch: Batch, side: Side, reference: Outputs | None
) -> Float[Tensor, "source pair pos d_model"]:
    """What removed edges carry minus what they carry in the clean run."""
    if reference is not None:
        own = outputs_of_side(runs, batch, "clean", side)
        return (reference - own).movedim(2, 0).contiguous()
    return _corrupted_minus_clean(runs, batch, side)


def _corrupted_minus_clean(
    runs: PairedRuns, batch: Batch, side: Side
) -> Float[Tensor, "source pair pos d_model"]:
    """By how much what sources write differs between the runs; heads write linearly, so one product is enough."""
    writers = writer_hooks(side.graph)
    names = [hook_name("resid", 0), *(hook_name(site, layer) for layer, site in writers)]
    clean, corrupted = (runs.activations(batch, run, names) for run in RUNS)
    first = corrupted[names[0]] - clean[names[0]]
    found = first.new_empty(len(side.graph.sources), *first.shape)
    found[0], at = first, 1
    for name, (layer, site) in zip(names[1:], writers, strict=True):
        change = corrupted[name] - clean[name]
        if site == "head-output":
            matrix = output_matrix(side.model, layer)
            torch.bmm(
                change.flatten(0, 1).transpose(0, 1), matrix, out=found[at : at + len(matrix)].flatten(1, 2)
            )
            at += len(matrix)
        else:
            found[at] = change
            at += 1
    return found


def _number(numbers: dict[Hashable, Key], what: Hashable) -> Key:
    """The same number for the same; none is 0."""
    return numbers.setdefault(what, len(numbers) + 1)
