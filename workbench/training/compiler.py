"""A small compiler: short programs of attention and lookups become transformers whose circuit is known.

A program declares blocks of the residual stream and fills them, part by part:

- ``token`` and ``place`` blocks are written by the embedding (place: the same in every prompt);
- ``head`` selects positions by a sum of `Match` terms (a constant, equality of codes, an offset of positions) and
  copies or averages a block into another;
- ``mlp`` maps blocks into another by hidden ReLU units;
- ``answer`` says which block the unembedding reads.

What nothing declared is filled with busy parts: random heads and MLPs that read everything and write to a block that
only other busy parts read. ``compile`` gives the weights, and the edges that the program uses: *content* edges where
what is read depends on the prompt, *supporting* edges where it does not.

Source: the idea of compiling programs to transformers is Lindner et al. 2023, arXiv:2301.05062 (Tracr).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from workbench.core.errors import OptionError
from workbench.training.blocks import Head, Lookup, Machine, Residual, Table, Vector
from workbench.training.vocabulary import BOS, N_SPECIAL

SPARE = 8  # dimensions of the block that busy parts write to
LOGITS = "logits"


@dataclass(frozen=True)
class Subspace:
    """Some dimensions of the residual stream."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Match:
    """One term of an attention score: ``weight * key . (by @ query)``, without a query ``weight * key . by``.

    ``by`` is ``(key.size, query.size)``, by default the identity: equality of codes. Without a query it is
    ``(key.size,)``, by default all ones.
    """

    key: Subspace
    weight: float
    query: Subspace | None = None
    by: Table | None = None

    @property
    def width(self) -> int:
        """Dimensions of the head that it takes."""
        return 1 if self.query is None else self.key.size


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A machine and its circuit, in the words of `truth_circuit.true_circuit`."""

    machine: Machine
    content: tuple[str, ...]
    supporting: tuple[str, ...]
    roles: Mapping[str, str]
    idle: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A head or an MLP: which blocks each of its inputs reads, which block it writes."""

    node: str
    reads: tuple[tuple[str, Subspace], ...]  # (q, k, v or "", block)
    into: Subspace
    role: str

    @property
    def rank(self) -> int:
        """When it runs: heads of a layer before its MLP."""
        return 2 * int(self.node[1:].split(".")[0]) + (self.node[0] == "m")


@dataclass(frozen=True, kw_only=True)
class _Writer:
    """Who writes a block: at which place in the model, and whether what it writes depends on the prompt."""

    rank: int
    node: str
    varies: bool


@dataclass(kw_only=True)
class Program:
    """What is declared so far. Busy parts are drawn from ``seed``."""

    words: Sequence[str]
    context: int
    n_layers: int
    n_heads: int
    n_kv_heads: int | None = None
    mlps: bool = True
    seed: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    varies: dict[str, bool] = field(default_factory=dict)  # of the blocks the embedding writes
    parts: list[_Part] = field(default_factory=list)
    heads: dict[str, tuple[Sequence[Match], Subspace, Table]] = field(default_factory=dict)
    lookups: dict[int, list[tuple[Mapping[Subspace, Table], Vector, Table, Subspace]]] = field(
        default_factory=dict
    )
    answers: tuple[Subspace, Table] | None = None

    @property
    def d_vocab(self) -> int:
        return N_SPECIAL + len(self.words)

    def block(self, name: str, size: int) -> Subspace:
        """Return a new block, empty until a part writes it."""
        if name in self.sizes:
            raise OptionError(f"two blocks are called {name!r}", hint="give each block a name of its own")
        self.sizes[name] = size
        return Subspace(name, size)

    # -- what the embedding writes --------------------------------------------------------------------------

    def token(
        self, name: str, of: Mapping[str, Sequence[float] | Vector], *, varies: bool = True
    ) -> Subspace:
        """Return a vector for some words, zero for all others; ``varies=False`` where all prompts of a template
        agree.
        """
        rows = {word: torch.as_tensor(row, dtype=torch.float64) for word, row in of.items()}
        made = self.block(name, len(next(iter(rows.values()))))
        table = torch.zeros(self.d_vocab, made.size, dtype=torch.float64)
        for word, row in rows.items():
            table[N_SPECIAL + list(self.words).index(word)] = row
        self.tables[name], self.varies[name] = table, varies
        return made

    def start(self) -> Subspace:
        """Return 1 at `<bos>`: a place to rest on."""
        made = self.block("start", 1)
        table = torch.zeros(self.d_vocab, 1, dtype=torch.float64)
        table[BOS] = 1.0
        self.tables["start"], self.varies["start"] = table, False
        return made

    def place(self) -> Subspace:
        """Return one dimension for each position."""
        made = self.block("position", self.context)
        self.varies["position"] = False
        return made

    def back(self, place: Subspace, n: int, weight: float) -> Match:
        """Select the position ``n`` before the current one; the first positions select the first."""
        by = torch.zeros(self.context, self.context, dtype=torch.float64)
        queries = torch.arange(self.context)
        by[(queries - n).clamp(min=0), queries] = 1.0
        return Match(key=place, query=place, weight=weight, by=by)

    # -- what parts write -------------------------------------------------------------------------------------

    def head(
        self,
        node: str,
        match: Sequence[Match],
        *,
        copy: Subspace,
        into: Subspace,
        role: str,
        by: Table | float = 1.0,
    ) -> None:
        """Attend by the sum of the matches (none: evenly), and add ``by @ copy`` of what is found to a block."""
        table = torch.eye(into.size, copy.size, dtype=torch.float64) * by if isinstance(by, float) else by
        reads = [("k", m.key) for m in match] + [("q", m.query) for m in match if m.query is not None]
        self.heads[node] = (match, copy, table)
        self.parts.append(_Part(node=node, reads=(*reads, ("v", copy)), into=into, role=role))

    def mlp(
        self,
        layer: int,
        reads: Mapping[Subspace, Table],
        *,
        bias: Vector,
        out: Table,
        into: Subspace,
        role: str,
    ) -> None:
        """Add ``out @ relu(sum of reads[block] @ block + bias)`` to a block; tables are (hidden, size)."""
        self.lookups.setdefault(layer, []).append((reads, bias, out, into))
        blocks = tuple(("", block) for block in reads)
        self.parts.append(_Part(node=f"m{layer}", reads=blocks, into=into, role=role))

    def answer(self, block: Subspace, of: Mapping[str, Sequence[float] | Vector]) -> None:
        """The logit of a word: its row times the block."""
        table = torch.zeros(self.d_vocab, block.size, dtype=torch.float64)
        for word, row in of.items():
            table[N_SPECIAL + list(self.words).index(word)] = torch.as_tensor(row, dtype=torch.float64)
        self.answers = block, table

    def _answers(self) -> tuple[Subspace, Table]:
        if self.answers is None:
            raise OptionError(
                "the program has no answer", hint="call answer(block, of) before it is compiled"
            )
        return self.answers

    # -- the circuit ------------------------------------------------------------------------------------------

    def target(self, node: str, slot: str) -> str:
        """Return the address of an input of a part; keys and values may be a group's."""
        if slot in ("k", "v") and self.n_kv_heads not in (None, self.n_heads):
            layer, head = node.split(".h")
            node = f"{layer}.g{int(head) * self.n_kv_heads // self.n_heads}"
        return f"{node}<{slot}>" if slot else node

    def edges(self) -> dict[str, bool]:
        """Return edges on a way to the answer, and whether what they carry depends on the prompt."""
        into, found = self._declared_edges()
        todo = list(found)
        while todo:  # backwards from the logits
            for edge, varies in into.get(todo.pop().split("->")[0], {}).items():
                if edge not in found:
                    todo.append(edge)
                found[edge] = found.get(edge, False) or varies
        return found

    def _declared_edges(self) -> tuple[dict[str, dict[str, bool]], dict[str, bool]]:
        """The edges into every part, in the order of the model, and those into the logits."""
        writers: dict[str, list[_Writer]] = {  # of each block
            name: [_Writer(rank=-1, node="input", varies=varies)] for name, varies in self.varies.items()
        }
        into: dict[str, dict[str, bool]] = {}
        for part in sorted(self.parts, key=lambda part: part.rank):
            mine = into.setdefault(part.node, {})
            for slot, block in part.reads:
                for writer in writers.get(block.name, []):
                    if writer.rank < part.rank:
                        edge = f"{writer.node}->{self.target(part.node, slot)}"
                        mine[edge] = mine.get(edge, False) or writer.varies
            made = _Writer(rank=part.rank, node=part.node, varies=any(mine.values()))
            writers.setdefault(part.into.name, []).append(made)
        block, _ = self._answers()
        return into, {f"{w.node}->{LOGITS}": w.varies for w in writers.get(block.name, [])}

    # -- the weights ------------------------------------------------------------------------------------------

    def compile(self) -> Compiled:
        """Return the machine and its circuit.

        Raises:
            ValueError: if two heads of one KV group want different keys or values.
        """
        self.block("spare", SPARE)
        residual = Residual(sizes=self.sizes)
        self._random = torch.Generator().manual_seed(self.seed)
        edges, roles = self.edges(), self._roles()
        working = {edge.split("->")[0] for edge in edges} - {"input"}
        return Compiled(
            machine=self._machine(residual),
            content=tuple(edge for edge, varies in edges.items() if varies),
            supporting=tuple(edge for edge, varies in edges.items() if not varies),
            roles={node: role for node, role in roles.items() if node in working},
            idle={node: role for node, role in roles.items() if node not in working},
        )

    def _machine(self, residual: Residual) -> Machine:
        """The weights: heads as declared, the others busy, every table in its block."""
        d_head = max(self._width(*head) for head in self.heads.values())
        declared = {node: self._head(residual, d_head, *head) for node, head in self._with_into()}
        place = {"position": torch.eye(self.context, dtype=torch.float64)} if "position" in self.sizes else {}
        block, unembed = self._answers()
        return Machine(
            embed=residual.table(self.d_vocab, **self.tables),
            position=residual.table(self.context, **place),
            heads=[self._layer(residual, d_head, layer, declared) for layer in range(self.n_layers)],
            unembed=residual.table(self.d_vocab, **{block.name: unembed}),
            lookups=self._lookups(residual) if self.mlps else (),
            n_kv_heads=self.n_kv_heads,
        )

    def _roles(self) -> dict[str, str]:
        """What every head and MLP does, in the words of its parts; the others are busy with nothing."""
        layers = range(self.n_layers)
        every = [f"a{layer}.h{head}" for layer in layers for head in range(self.n_heads)]
        every += [f"m{layer}" for layer in layers] if self.mlps else []
        said = {node: [part.role for part in self.parts if part.node == node] for node in every}
        return {node: "; ".join(roles or ["busy"]) for node, roles in said.items()}

    def _with_into(self) -> list[tuple[str, tuple[Sequence[Match], Subspace, Table, Subspace]]]:
        into = {part.node: part.into for part in self.parts}
        return [(node, (*head, into[node])) for node, head in self.heads.items()]

    def _width(self, match: Sequence[Match], copy: Subspace, by: Table) -> int:
        return max(sum(m.width for m in match), len(by))

    def _head(
        self,
        residual: Residual,
        d_head: int,
        match: Sequence[Match],
        copy: Subspace,
        by: Table,
        into: Subspace,
    ) -> Head:
        q, k, v = (torch.zeros(d_head, residual.width, dtype=torch.float64) for _ in range(3))
        o = torch.zeros(residual.width, d_head, dtype=torch.float64)
        bias = torch.zeros(d_head, dtype=torch.float64)
        row = 0
        for m in match:
            rows = slice(row, row + m.width)
            if m.query is None:
                k[rows, residual.where(m.key.name)] = 1.0 if m.by is None else m.by
                bias[rows] = m.weight
            else:
                k[rows, residual.where(m.key.name)] = torch.eye(m.key.size, dtype=torch.float64)
                by_query = torch.eye(m.key.size, m.query.size, dtype=torch.float64) if m.by is None else m.by
                q[rows, residual.where(m.query.name)] = m.weight * by_query
            row += m.width
        v[: len(by), residual.where(copy.name)] = by
        o[residual.where(into.name), : len(by)] = torch.eye(len(by), dtype=torch.float64)
        return Head(q=q, k=k, v=v, o=o, q_bias=bias)

    def _layer(self, residual: Residual, d_head: int, layer: int, declared: Mapping[str, Head]) -> list[Head]:
        """The heads of a layer: those declared, busy ones in between; a group shares keys and values."""
        share = self.n_heads // (self.n_kv_heads or self.n_heads)
        found: list[Head] = []
        for first in range(0, self.n_heads, share):
            nodes = [f"a{layer}.h{head}" for head in range(first, first + share)]
            known = [declared[node] for node in nodes if node in declared]
            if any(not torch.equal(h.k, known[0].k) or not torch.equal(h.v, known[0].v) for h in known):
                raise OptionError(
                    f"{' and '.join(nodes)} share keys and values but were given different ones",
                    hint="give heads of one KV group the same k and v, or compile with n_kv_heads=None",
                )
            base = known[0] if known else self._busy_head(residual, d_head)
            found += [declared.get(node) or self._busy_head(residual, d_head, like=base) for node in nodes]
        return found

    def _busy_head(self, residual: Residual, d_head: int, like: Head | None = None) -> Head:
        """Random queries, keys and values of everything, written to the spare block."""
        q, k, v = (self._draw(d_head, residual.width) for _ in range(3))
        o = torch.zeros(residual.width, d_head, dtype=torch.float64)
        o[residual.where("spare")] = self._draw(SPARE, d_head)
        if like is not None and self.n_kv_heads not in (None, self.n_heads):
            k, v = like.k, like.v
        return Head(q=q, k=k, v=v, o=o)

    def _draw(self, rows: int, columns: int) -> Table:
        drawn = torch.randn(rows, columns, generator=self._random, dtype=torch.float64)
        return drawn / columns**0.5

    def _lookups(self, residual: Residual) -> list[Lookup]:
        hidden = max(sum(len(bias) for _, bias, _, _ in units) for units in self.lookups.values())
        return [self._lookup(residual, hidden, self.lookups.get(layer)) for layer in range(self.n_layers)]

    def _lookup(self, residual: Residual, hidden: int, units: list | None) -> Lookup:
        """One layer's hidden units; a layer without a lookup is busy."""
        into = torch.zeros(hidden, residual.width, dtype=torch.float64)
        bias = torch.zeros(hidden, dtype=torch.float64)
        out = torch.zeros(residual.width, hidden, dtype=torch.float64)
        if units is None:
            into[:], out[residual.where("spare")] = self._draw(*into.shape), self._draw(SPARE, hidden)
            return Lookup(into=into, bias=bias, out=out)
        row = 0
        for reads, shift, table, target in units:
            rows = slice(row, row + len(shift))
            for block, weights in reads.items():
                into[rows, residual.where(block.name)] = weights
            bias[rows], out[residual.where(target.name), rows] = shift, table
            row += len(shift)
        return Lookup(into=into, bias=bias, out=out)


def bends(knots: Sequence[float], values: Table) -> tuple[Table, Vector, Table]:
    """Return hidden units of a function of one number: straight lines between knots, constant outside.

    Args:
        knots: Rising numbers.
        values: ``(output, knot)``, the function at each knot.

    Returns:
        The units' reading weights ``(hidden, 1)``, biases ``(hidden,)`` and output table ``(output, hidden)``; the
        first unit is the constant 1.
    """
    x = torch.tensor(list(knots), dtype=torch.float64)
    slopes = torch.diff(values) / torch.diff(x)
    ends = torch.zeros(len(values), 1, dtype=torch.float64)
    change = torch.diff(torch.cat([ends, slopes, ends], dim=1))  # (output, knot)
    into = torch.cat([torch.zeros(1, dtype=torch.float64), torch.ones_like(x)])[:, None]
    bias = torch.cat([torch.ones(1, dtype=torch.float64), -x])
    return into, bias, torch.cat([values[:, :1], change], dim=1)
