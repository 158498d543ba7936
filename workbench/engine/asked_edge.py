"""The edge whose reason is asked for: its head, its input, and the names of positions."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.circuits.addresses import Edge, parse_edge
from workbench.circuits.reason import Read
from workbench.core.errors import ModelError, OptionError
from workbench.engine.batch import Batch
from workbench.engine.paired_runs import PairedRuns

HINT = "a5.h5->a9.h9<q>, <k> or <v>, a5.h5->m6, or a9.h9->logits"


@dataclass(frozen=True, kw_only=True)
class AskedEdge:
    """An edge of the model's graph that ends at an input of one head or at an MLP, or goes from a head to the logits.

    Attributes:
        layer, head: The head that reads, or whose output the logits read; of an MLP its layer, and -1.
    """

    edge: Edge
    read: Read
    layer: int
    head: int

    @property
    def source(self) -> str:
        return str(self.edge.source)


def asked_edge(runs: PairedRuns, text: str) -> AskedEdge:
    """Return the edge that an address names.

    Raises:
        OptionError: if the graph has no such edge, or it is of no single head.
        ModelError: for edges that cross from a tower.
    """
    edge = parse_edge(text)
    if runs.wiring.with_tower:
        raise ModelError("reasons are given for edges of the language model", hint="leave out with_tower")
    if edge.target.kind == "logits":
        return _to_logits(runs, edge)
    if edge.target.kind == "mlp":
        return _into_mlp(runs, edge)
    return _into_head(runs, edge)


def _to_logits(runs: PairedRuns, edge: Edge) -> AskedEdge:
    source = edge.source
    if source.kind != "head":
        raise OptionError(
            f"{source} is no head: it carries no token's value to the logits", hint=f"ask for {HINT}"
        )
    _check_writes(runs, edge, runs.wiring.n_layers)
    layer, head = source.place
    return AskedEdge(edge=edge, read="logits", layer=layer, head=head)


def _into_mlp(runs: PairedRuns, edge: Edge) -> AskedEdge:
    layer, shape = edge.target.depth, runs.wiring.graph().shape
    if layer >= runs.wiring.n_layers or not shape.has_mlp(layer):
        raise OptionError(
            f"the model has no {edge.target}", hint="workbench model show NAME says which it has"
        )
    source = edge.source
    beside = source.layer == layer and source.kind != "mlp" and not shape.parallel
    if not (beside and source in runs.wiring.graph().sources):
        _check_writes(runs, edge, layer)
    return AskedEdge(edge=edge, read="mlp", layer=layer, head=-1)


def _into_head(runs: PairedRuns, edge: Edge) -> AskedEdge:
    target = edge.target
    if target.kind == "group":
        shared = runs.wiring.n_heads // runs.wiring.n_kv_heads
        first = target.place[1] * shared
        heads = ", ".join(f"a{target.depth}.h{n}<{target.slot}>" for n in range(first, first + shared))
        raise OptionError(
            f"{target} is read by several heads, each with a pattern of its own", hint=f"name one of: {heads}"
        )
    slots: dict[str | None, Read] = {"q": "q", "k": "k", "v": "v"}
    if target.kind != "head" or target.slot not in slots:
        raise OptionError(
            f"{edge} is no edge into a query, key or value of a head, or into an MLP", hint=HINT
        )
    layer, head = target.place
    if layer >= runs.wiring.n_layers or head >= runs.wiring.n_heads:
        raise OptionError(
            f"the model has no head a{layer}.h{head}", hint="workbench model show NAME says which it has"
        )
    _check_writes(runs, edge, layer)
    return AskedEdge(edge=edge, read=slots[target.slot], layer=layer, head=head)


def _check_writes(runs: PairedRuns, edge: Edge, layer: int) -> None:
    before = [s for s in runs.wiring.graph().sources if s.layer is None or s.layer < layer]
    if edge.source not in before:
        raise OptionError(
            f"{edge.source} writes nothing that {edge.target} reads",
            hint=f"it reads: {', '.join(map(str, before[:8]))} ...",
        )


def place_names(runs: PairedRuns, batch: Batch) -> list[list[str]]:
    """Return the name of every position of every pair: the task's where it has one, else its distance to the end."""
    names, n = runs.position_names, batch.n_tokens
    return [
        [names[label] if label < len(names) else str(pos - n) for pos, label in enumerate(row)]
        for row in runs.labels_of(batch).tolist()
    ]
