"""Transformers written by hand: a residual stream cut into named blocks, heads and lookups as matrices between them.

Every block keeps its meaning from layer to layer, so the true circuit follows from the construction. `Machine.normed`
puts norms before the readers without changing what they read: constant dimensions hold the vector's length nearly
still. `workbench/training/compiler.py` makes machines from short programs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.graph import GraphShape
from workbench.core.errors import OptionError

Table = Float[Tensor, "_ _"]  # any two sizes
Vector = Float[Tensor, "_"]


@dataclass(frozen=True, kw_only=True)
class Residual:
    """The residual stream as blocks of dimensions, in order."""

    sizes: Mapping[str, int]

    @property
    def width(self) -> int:
        """d_model."""
        return sum(self.sizes.values())

    def where(self, block: str) -> slice:
        """Return dimensions of a block."""
        names = list(self.sizes)
        start = sum(self.sizes[name] for name in names[: names.index(block)])
        return slice(start, start + self.sizes[block])

    def table(self, rows: int, **blocks: Table) -> Table:
        """Return a table (rows, d_model) that is zero outside the blocks given."""
        whole = torch.zeros(rows, self.width, dtype=torch.float64)
        for name, part in blocks.items():
            whole[:, self.where(name)] = part
        return whole


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head: what its query, key and value read (d_head, d_model), what it writes (d_model, d_head)."""

    q: Table
    k: Table
    v: Table
    o: Table
    q_bias: Float[Tensor, "d_head"] | None = None

    @property
    def d_head(self) -> int:
        return self.q.shape[0]


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """An MLP with ReLU: ``out @ relu(into @ x + bias)``; shapes (d_mlp, d_model), (d_mlp,), (d_model, d_mlp)."""

    into: Table
    bias: Float[Tensor, " d_mlp"]
    out: Table


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A whole hand-built model."""

    embed: Table  # (d_vocab, d_model)
    position: Table  # (n_ctx, d_model)
    heads: Sequence[Sequence[Head]]  # per layer
    unembed: Table  # (d_vocab, d_model)
    lookups: Sequence[Lookup] = ()  # per layer, or none at all
    n_kv_heads: int | None = None  # heads of one group have the same k and v; None: every head its own
    norm: Literal["LN", "RMS"] | None = None
    gain: float = 1.0  # weight of every norm

    @property
    def shape(self) -> GraphShape:
        """The computation graph's shape."""
        n_heads = len(self.heads[0])
        return GraphShape(
            n_layers=len(self.heads),
            n_heads=n_heads,
            n_kv_heads=self.n_kv_heads or n_heads,
            mlp_layers=None if self.lookups else (),
        )

    def rotated(self, seed: int) -> Machine:
        """Return the same function in a residual stream turned by a random orthogonal matrix: no dimension means
        anything.

        Not after a LayerNorm was put in: it subtracts the mean, and a turn moves that.
        """
        if self.norm == "LN":
            raise OptionError(
                "a LayerNorm's mean does not survive a rotation",
                hint="rotate before the LayerNorm is put in, or use RMS",
            )
        generator = torch.Generator().manual_seed(seed)
        width = self.embed.shape[1]
        turn = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q
        heads = [
            [replace(h, q=h.q @ turn, k=h.k @ turn, v=h.v @ turn, o=turn.T @ h.o) for h in layer]
            for layer in self.heads
        ]
        lookups = [replace(m, into=m.into @ turn, out=turn.T @ m.out) for m in self.lookups]
        tables = {"embed": self.embed, "position": self.position, "unembed": self.unembed}
        turned = {name: table @ turn for name, table in tables.items()}
        return replace(self, heads=heads, lookups=lookups, **turned)

    def normed(self, kind: Literal["LN", "RMS"], *, ballast: float) -> Machine:
        """Return the same with a norm before every reader, nearly the same function.

        A constant dimension (for LayerNorm a positive and a negative one) makes up almost all of every vector's
        length, so that the norm divides by nearly the same number everywhere, which its weight multiplies back. For
        LayerNorm another dimension holds minus the sum of all others, so that the mean is 0.
        """
        constant = {"RMS": [ballast], "LN": [ballast, -ballast]}[kind]
        extra = len(constant) + (kind == "LN")

        def wide(table: Table) -> Table:
            return torch.cat([table, table.new_zeros(len(table), extra)], dim=1)

        def balanced(rows: Table) -> Table:
            """What is written, one vector a row."""
            grown = wide(rows)
            if kind == "LN":
                grown[:, -1] = -rows.sum(1)
            return grown

        width = self.embed.shape[1]
        embed = balanced(self.embed)
        embed[:, width : width + len(constant)] = torch.tensor(constant, dtype=torch.float64)
        heads = [
            [replace(h, q=wide(h.q), k=wide(h.k), v=wide(h.v), o=balanced(h.o.T).T) for h in layer]
            for layer in self.heads
        ]
        return replace(
            self,
            embed=embed,
            position=balanced(self.position),
            heads=heads,
            unembed=wide(self.unembed),
            lookups=[replace(m, into=wide(m.into), out=balanced(m.out.T).T) for m in self.lookups],
            norm=kind,
            gain=(sum(c * c for c in constant) / (width + extra)) ** 0.5,
        )

    def native(self) -> tuple[dict[str, object], dict[str, Tensor]]:
        """Configuration and weights of the native TransformerLens model."""
        d_vocab, d_model = self.embed.shape
        d_head = self.heads[0][0].d_head
        config: dict[str, object] = {
            "d_model": d_model,
            "d_head": d_head,
            "n_heads": len(self.heads[0]),
            "n_layers": len(self.heads),
            "n_ctx": self.position.shape[0],
            "d_vocab": d_vocab,
            "d_mlp": len(self.lookups[0].bias) if self.lookups else None,
            "attn_only": not self.lookups,
            "act_fn": "relu",
            "normalization_type": self.norm,
            "init_weights": False,
            "dtype": "float32",
        }
        if self.n_kv_heads:
            config["n_key_value_heads"] = self.n_kv_heads
        weights = {
            "embed.weight": self.embed,
            "pos_embed.weight": self.position,
            "unembed.weight": self.unembed,
            "unembed.bias": torch.zeros(d_vocab),
        }
        for layer, heads in enumerate(self.heads):
            weights |= _attention(f"blocks.{layer}.attn.", heads, self.n_kv_heads or len(heads))
            if self.lookups:
                lookup, at = self.lookups[layer], f"blocks.{layer}.mlp."
                weights |= {f"{at}in.weight": lookup.into, f"{at}in.bias": lookup.bias}
                weights |= {f"{at}out.weight": lookup.out, f"{at}out.bias": torch.zeros(d_model)}
        weights |= self._norms()
        return config, {name: value.to(torch.float32).contiguous() for name, value in weights.items()}

    def _norms(self) -> dict[str, Tensor]:
        """Weights of all norms; a LayerNorm has a bias, too."""
        if self.norm is None:
            return {}
        d_model, kinds = self.embed.shape[1], ("ln1", "ln2") if self.lookups else ("ln1",)
        places = [f"blocks.{layer}.{kind}" for layer in range(len(self.heads)) for kind in kinds]
        found = {f"{at}.weight": torch.full((d_model,), self.gain) for at in (*places, "ln_final")}
        biases = {f"{at}.bias": torch.zeros(d_model) for at in (*places, "ln_final")}
        return found | (biases if self.norm == "LN" else {})


def _attention(at: str, heads: Sequence[Head], n_kv_heads: int) -> dict[str, Tensor]:
    """Weights of one attention layer, heads stacked; the model divides scores by sqrt(d_head), so queries get it."""
    shared = heads[:: len(heads) // n_kv_heads]  # one of each group
    scale = heads[0].d_head ** 0.5
    zero = torch.zeros(heads[0].d_head)
    biases = [zero if h.q_bias is None else h.q_bias * scale for h in heads]
    return {
        f"{at}q.weight": torch.cat([h.q * scale for h in heads]),
        f"{at}q.bias": torch.cat(biases),
        f"{at}k.weight": torch.cat([h.k for h in shared]),
        f"{at}k.bias": torch.cat([zero for _ in shared]),
        f"{at}v.weight": torch.cat([h.v for h in shared]),
        f"{at}v.bias": torch.cat([zero for _ in shared]),
        f"{at}o.weight": torch.cat([h.o for h in heads], dim=1),
        f"{at}o.bias": torch.zeros(heads[0].o.shape[0]),
    }


def reads(residual: Residual, d_head: int, block: str, *, into: int = 0, scale: float = 1.0) -> Table:
    """Return a matrix (d_head, d_model) that copies a block into the head's dimensions from ``into`` on."""
    size = residual.sizes[block]
    matrix = torch.zeros(d_head, residual.width, dtype=torch.float64)
    matrix[into : into + size, residual.where(block)] = scale * torch.eye(size, dtype=torch.float64)
    return matrix


def writes(residual: Residual, d_head: int, block: str, *, since: int = 0) -> Table:
    """Return a matrix (d_model, d_head) that copies the head's dimensions from ``since`` on into a block."""
    return reads(residual, d_head, block, into=since).T


def previous_token(
    residual: Residual, d_head: int, *, source: str, target: str, sharpness: float = 40.0
) -> Head:
    """Return a head that looks one position back and copies block ``source`` into block ``target``.

    Block ``position`` must hold one dimension for each position. Position 0 looks at itself.
    """
    n_ctx = residual.sizes["position"]
    back = torch.zeros(n_ctx, n_ctx, dtype=torch.float64)
    back[range(n_ctx - 1), range(1, n_ctx)] = 1.0  # the query of position i is the key of position i - 1
    back[0, 0] = 1.0
    q = torch.zeros(d_head, residual.width, dtype=torch.float64)
    q[:n_ctx, residual.where("position")] = sharpness * back
    return Head(
        q=q,
        k=reads(residual, d_head, "position"),
        v=reads(residual, d_head, source),
        o=writes(residual, d_head, target),
    )


def codes(n: int, size: int, *, seed: int) -> Table:
    """Return ``n`` random unit vectors, pushed apart until the largest cosine hardly falls."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, size, generator=generator, dtype=torch.float64)
    for _ in range(200):
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        cosines = vectors @ vectors.T - 2 * torch.eye(n, dtype=torch.float64)
        weights = torch.softmax(20 * cosines, dim=1)  # neighbors that stand too close repel
        vectors = vectors - 0.1 * weights @ vectors
    return vectors / vectors.norm(dim=1, keepdim=True)
