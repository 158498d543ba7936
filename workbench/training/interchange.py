"""Strict interchange training: a model learns its task through edges that were chosen beforehand, and no others.

Every step draws base prompts and, beside them, source prompts of the same length. Three kinds of runs are made on the
base prompts: one as it is; one in which edges outside the circuit carry what they carry in the source run, which must
not change the answer (*strict*); one in which an edge of the circuit carries it too, which must change the answer to
what the algorithm says (*interchange*). The share of exchanged edges rises from none to all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from workbench.circuits.addresses import parse_edge
from workbench.circuits.graph import Graph, GraphShape
from workbench.training.loop import Fit, fit
from workbench.training.schedule import adamw

Tokens = Int[Tensor, "pair pos"]
Answers = Int[Tensor, " pair"]
Swapped = Callable[[Tensor, Tensor], Tensor]  # (base tokens, source tokens) -> answers after the exchange
EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """What is to be learned, and through which edges.

    Attributes:
        draw: ``(generator, n)`` to token ids ``(n, pos)``.
        answer: Token ids to the right answers at the last position.
        content: Edges that carry what the answer depends on.
        supporting: Edges that the algorithm needs, whose content is the same in every prompt. They are exchanged
            like edges outside the circuit, so they cannot carry anything else.
        swaps: For an edge of the circuit, the answers when it carries what it carries in the source prompt.
    """

    draw: Callable[[np.random.Generator, int], Tensor]
    answer: Callable[[Tensor], Tensor]
    content: Sequence[str]
    supporting: Sequence[str]
    swaps: Mapping[str, Swapped]


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """NetworkSizes of the model, in the words of a native TransformerLens configuration."""

    d_vocab: int
    n_ctx: int
    n_layers: int = 2
    n_heads: int = 3
    d_model: int = 48
    d_head: int = 16
    d_mlp: int = 128

    @property
    def graph(self) -> Graph:
        """Its computation graph: every edge can be exchanged by itself."""
        return Graph(GraphShape(n_layers=self.n_layers, n_heads=self.n_heads, n_kv_heads=self.n_heads))

    def config(self) -> dict[str, object]:
        """Return the configuration file of the native model."""
        sizes = {name: getattr(self, name) for name in self.__dataclass_fields__}
        rest = {
            "attn_only": False,
            "act_fn": "relu",
            "normalization_type": "LN",
            "init_weights": False,
            "dtype": "float32",
        }
        return {**sizes, **rest}


class Exchangeable(nn.Module):
    """A GPT-2-like model of which every edge can carry another run's content, one mask per prompt.

    Its parameters have the names of a native TransformerLens model.
    """

    def __init__(self, sizes: NetworkSizes, *, seed: int) -> None:
        super().__init__()
        self.sizes, self.graph = sizes, sizes.graph
        self._targets = {str(target): at for at, target in enumerate(self.graph.targets)}
        first = self._place("a0.h0<q>")
        self._columns = {
            slot: [self._place(f"a0.h{head}<{slot}>") - first for head in range(sizes.n_heads)]
            for slot in "qkv"
        }
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(_start(name, shape, generator))
                for name, shape in _shapes(sizes).items()
            }
        )
        for layer in range(sizes.n_layers):  # what no node writes cannot be exchanged
            self.weights[f"blocks/{layer}/attn/o/bias"].requires_grad_(False)

    def weight(self, name: str) -> Tensor:
        """Return a parameter by its name in the native model."""
        return self.weights[name.replace(".", "/")]

    def native(self) -> dict[str, Tensor]:
        """Return all weights, by the names of the native model."""
        return {name.replace("/", "."): value.detach().clone() for name, value in self.weights.items()}

    def forward(
        self,
        tokens: Int[Tensor, "pair pos"],
        exchanged: Float[Tensor, "pair source target"] | None = None,
        other: Float[Tensor, "pair source pos d_model"] | None = None,
    ) -> tuple[Float[Tensor, "pair d_vocab"], Float[Tensor, "pair source pos d_model"]]:
        """Return logits at the last position, and what every node writes.

        Args:
            exchanged: 1 where an edge carries what its source writes in ``other``.
            other: What every node writes in another run.
        """
        written = functional.embedding(tokens, self.weight("embed.weight"))
        written = (written + self.weight("pos_embed.weight")[: tokens.shape[1]])[
            :, None
        ]  # (pair, source, pos, d)

        def read(targets: slice) -> Tensor:
            """What consecutive targets of one layer read: ``(pair, target, pos, d_model)``."""
            total = written.sum(1)[:, None]
            if exchanged is None or other is None:
                return total.expand(-1, targets.stop - targets.start, -1, -1)
            n = written.shape[1]
            change = (other[:, :n] - written).flatten(2)  # (pair, source, pos * d_model)
            return total + (exchanged[:, :n, targets].transpose(1, 2) @ change).unflatten(
                2, written.shape[2:]
            )

        for layer in range(self.sizes.n_layers):
            written = torch.cat([written, self._heads(layer, read(self._slots(layer)))], dim=1)
            mlp = self._place(f"m{layer}")
            written = torch.cat([written, self._mlp(layer, read(slice(mlp, mlp + 1)))], dim=1)
        last = len(self.graph.targets) - 1
        final = self._norm("ln_final", read(slice(last, last + 1))[:, 0, -1])
        return final @ self.weight("unembed.weight").T + self.weight("unembed.bias"), written

    def _place(self, target: str) -> int:
        return self._targets[target]

    def _slots(self, layer: int) -> slice:
        """Queries, keys and values of a layer's heads stand side by side."""
        first = self._place(f"a{layer}.h0<q>")
        return slice(first, first + 3 * self.sizes.n_heads)

    def _norm(self, at: str, x: Tensor) -> Tensor:
        return functional.layer_norm(
            x, x.shape[-1:], self.weight(f"{at}.weight"), self.weight(f"{at}.bias"), EPS
        )

    def _heads(
        self, layer: int, x: Float[Tensor, "pair slot pos d_model"]
    ) -> Float[Tensor, "pair head pos d_model"]:
        at, heads = f"blocks.{layer}.attn", self.sizes.n_heads
        x = self._norm(f"blocks.{layer}.ln1", x)
        q, k, v = (
            torch.einsum("bhtd,hed->bhte", x[:, self._columns[slot]], self._split(f"{at}.{slot}.weight"))
            + self.weight(f"{at}.{slot}.bias").view(heads, 1, -1)
            for slot in "qkv"
        )
        z = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = self.weight(f"{at}.o.weight").unflatten(1, (heads, -1))  # (d_model, head, d_head)
        return torch.einsum("bhte,dhe->bhtd", z, out)

    def _split(self, name: str) -> Float[Tensor, "head d_head d_model"]:
        return self.weight(name).unflatten(0, (self.sizes.n_heads, -1))

    def _mlp(self, layer: int, x: Tensor) -> Tensor:
        at = f"blocks.{layer}"
        hidden = self._norm(f"{at}.ln2", x) @ self.weight(f"{at}.mlp.in.weight").T
        hidden = (hidden + self.weight(f"{at}.mlp.in.bias")).relu()
        return hidden @ self.weight(f"{at}.mlp.out.weight").T + self.weight(f"{at}.mlp.out.bias")


def _shapes(sizes: NetworkSizes) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight of the native model."""
    d, heads, hidden = sizes.d_model, sizes.n_heads * sizes.d_head, sizes.d_mlp
    found: dict[str, tuple[int, ...]] = {
        "embed.weight": (sizes.d_vocab, d),
        "pos_embed.weight": (sizes.n_ctx, d),
    }
    for layer in range(sizes.n_layers):
        at = f"blocks.{layer}"
        for slot in "qkv":
            found |= {f"{at}.attn.{slot}.weight": (heads, d), f"{at}.attn.{slot}.bias": (heads,)}
        found |= {f"{at}.attn.o.weight": (d, heads), f"{at}.attn.o.bias": (d,)}
        found |= {f"{at}.mlp.in.weight": (hidden, d), f"{at}.mlp.in.bias": (hidden,)}
        found |= {f"{at}.mlp.out.weight": (d, hidden), f"{at}.mlp.out.bias": (d,)}
        found |= {f"{at}.{norm}.{kind}": (d,) for norm in ("ln1", "ln2") for kind in ("weight", "bias")}
    found |= {"ln_final.weight": (d,), "ln_final.bias": (d,)}
    return found | {"unembed.weight": (sizes.d_vocab, d), "unembed.bias": (sizes.d_vocab,)}


def _start(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Norms start at 1, biases at 0, matrices at random."""
    if len(shape) == 1:
        return torch.ones(shape) if name.endswith("weight") else torch.zeros(shape)
    scale = 0.5 if "embed.weight" in name and "un" not in name else shape[1] ** -0.5
    return scale * torch.randn(shape, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """How the weight of interchange rises, and how long it takes."""

    steps: int = 3000
    pairs: int = 128
    lr: float = 3e-3
    warmup: int = 200
    alone: float = 0.1  # share of the steps in which the task alone is learned
    full: float = 0.4  # from this share of the steps on every edge may be exchanged
    still: float = 1.0  # weight of the squared change of the logits under a strict exchange


def exchange_loss(
    model: Exchangeable,
    algorithm: Algorithm,
    rng: np.random.Generator,
    *,
    share: float,
    curriculum: Curriculum,
) -> Float[Tensor, ""]:
    """Compute the loss of one step: the task, strict exchanges and interchanges.

    Args:
        share: How far the exchange has risen, from 0 to 1.

    Returns:
        A sum of cross-entropies in nats, and of ``still`` times a mean squared change in logits.
    """
    base, source = algorithm.draw(rng, curriculum.pairs), algorithm.draw(rng, curriculum.pairs)
    logits, _ = model(base)
    loss = functional.cross_entropy(logits, algorithm.answer(base))
    if share <= 0:
        return loss
    _, other = model(source)
    outside = outside_edges(model.graph, algorithm.content)
    strict = drawn_masks(outside, rng, curriculum.pairs, share=share)
    changed, _ = model(base, strict, other)
    loss = loss + share * functional.cross_entropy(changed, algorithm.answer(base))
    loss = loss + curriculum.still * share * (changed - logits).square().mean()
    edge = list(algorithm.swaps)[rng.integers(len(algorithm.swaps))]
    inside = drawn_masks(outside, rng, curriculum.pairs, share=share)
    at = model.graph.index(parse_edge(edge))
    inside[:, at[0], at[1]] = 1.0
    swapped, _ = model(base, inside, other)
    return loss + share * functional.cross_entropy(swapped, algorithm.swaps[edge](base, source))


def outside_edges(graph: Graph, content: Sequence[str]) -> Bool[np.ndarray, "source target"]:
    """Mark every edge that is not among these: the ones that may carry another prompt's content."""
    found = np.array(graph.edge_mask, dtype=bool)
    for edge in content:
        found[graph.index(parse_edge(edge))] = False
    return found


def drawn_masks(
    outside: Bool[np.ndarray, "source target"], rng: np.random.Generator, n: int, *, share: float
) -> Float[Tensor, "pair source target"]:
    """Draw which edges are exchanged, for each prompt: half of the prompts exchange all (or ``share`` of them), the
    others a random part.
    """
    rate = np.where(rng.random((n, 1, 1)) < 0.5, share, share * rng.random((n, 1, 1)))
    return torch.from_numpy(((rng.random((n, *outside.shape)) < rate) & outside).astype(np.float32))


def train_by_interchange(
    model: Exchangeable,
    algorithm: Algorithm,
    *,
    curriculum: Curriculum,
    seed: int,
    checkpoint: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> Fit:
    """Train a model to do an algorithm through its circuit: the task first, then ever more exchanges.

    Returns:
        Steps, seconds and the last mean loss; the model holds the weights.

    Source:
        Geiger et al. 2022, arXiv:2112.00826; the strict part: Gupta et al. 2024, arXiv:2407.14494.
    """

    def loss_of_step(step: int) -> Tensor:
        rise = (step / curriculum.steps - curriculum.alone) / (curriculum.full - curriculum.alone)
        rng = np.random.default_rng([seed, step])
        return exchange_loss(model, algorithm, rng, share=min(1.0, max(0.0, rise)), curriculum=curriculum)

    def watch(step: int) -> str:
        found = agreement(model, algorithm, np.random.default_rng([seed, 10**9]), n=500)
        return ", ".join(f"{name} {value:.3f}" for name, value in found.items())

    return fit(
        model,
        loss_of_step,
        optimisers=[adamw(model, lr=curriculum.lr)],
        steps=curriculum.steps,
        warmup=curriculum.warmup,
        decay=0.4,
        every=250,
        watch=watch,
        checkpoint=checkpoint,
        tell=tell,
    )


@torch.no_grad()
def agreement(
    model: Exchangeable, algorithm: Algorithm, rng: np.random.Generator, *, n: int
) -> dict[str, float]:
    """Measure the share of prompts answered as the algorithm says.

    Returns:
        ``task``: nothing exchanged. ``strict``: every edge outside the circuit carries another prompt's content.
        An edge's name: that edge too. ``moved``: root mean square change of the logits under ``strict``.
    """
    base, source = algorithm.draw(rng, n), algorithm.draw(rng, n)
    logits, _ = model(base)
    _, other = model(source)
    outside = torch.from_numpy(outside_edges(model.graph, algorithm.content).astype(np.float32))
    masks = outside.expand(n, *outside.shape)
    changed, _ = model(base, masks, other)
    found = {
        "task": _right(logits, algorithm.answer(base)),
        "strict": _right(changed, algorithm.answer(base)),
        "moved": (changed - logits).square().mean().sqrt().item(),
    }
    for edge, swap in algorithm.swaps.items():
        at = model.graph.index(parse_edge(edge))
        with_edge = masks.clone()
        with_edge[:, at[0], at[1]] = 1.0
        found[edge] = _right(model(base, with_edge, other)[0], swap(base, source))
    return found


def _right(logits: Tensor, answers: Tensor) -> float:
    return (logits.argmax(-1) == answers).double().mean().item()
