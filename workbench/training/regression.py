"""`regression`: one softmax attention layer that learns linear regression in context, and its training.

A token is ``(x, y)``, six numbers; two heads of width six, no norm, no positions, and the query does not look at
itself. The shipped model is a native one of that shape whose embedding is empty: tokens are put in at ``hook_embed``
(``predict``). Head matrices are saved in the readable form, KQ in the query and OV in the output.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge

from workbench.model.hooks import hook_name
from workbench.training.blocks import Head, Machine
from workbench.training.loop import Fit
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.regression_theory import (
    LENGTH,
    NOISE,
    D,
    RegressionPrompts,
    draw,
    matrices_in_shape,
    pairs_among,
    predictors,
)
from workbench.training.vocabulary import N_SPECIAL, word_tokenizer

CONTEXT = 256
BATCH, STEPS, RATE = 256, 40_000, 5e-3


class Networks(nn.Module):
    """Several networks trained side by side: parameters ``(network, head, ...)``.

    ``prediction = sum_h O_h V_h Z softmax(Z^T K_h^T Q_h z_q / sqrt(d + 1))``
    """

    def __init__(self, n: int, heads: int, *, d: int = D, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        width, bound = d + 1, 1 / math.sqrt(d + 1)

        def start(*shape: int) -> nn.Parameter:  # as a linear layer starts
            return nn.Parameter((2 * torch.rand(n, heads, *shape, generator=generator) - 1) * bound)

        self.q, self.k, self.v = (start(width, width) for _ in range(3))
        self.o = start(width)

    @property
    def kq(self) -> Float[Tensor, "network head key query"]:
        return self.k.transpose(-1, -2) @ self.q / math.sqrt(self.q.shape[-1])

    @property
    def ov(self) -> Float[Tensor, "network head token"]:
        return (self.o.unsqueeze(-2) @ self.v).squeeze(-2)

    def forward(self, tokens: Float[Tensor, "draw token width"]) -> Float[Tensor, "network draw"]:
        """Predictions of every network for the same draws; the last token is the query."""
        tokens, query = tokens[:, :-1], tokens[:, -1]
        n, heads, width, _ = self.q.shape
        wanted = torch.einsum("nhkq,bq->bnhk", self.kq, query).reshape(len(query), n * heads, width)
        pattern = (wanted @ tokens.transpose(1, 2)).softmax(-1)
        found = (pattern @ tokens).reshape(len(query), n, heads, width)
        return torch.einsum("bnhk,nhk->nb", found, self.ov)


def tensors(prompts: RegressionPrompts) -> tuple[Tensor, Tensor]:
    """Return tokens ``(draw, token, d + 1)``, the query last, and targets ``(draw,)``."""
    return torch.from_numpy(prompts.tokens).float(), torch.from_numpy(prompts.target).float()


@dataclass(frozen=True, kw_only=True)
class Training:
    """What training left: the networks, and their course.

    Attributes:
        steps: Steps at which the course was noted.
        loss: ``(time, network)`` mean squared error on a fixed sample.
        omega, mu: ``(time, network, head)``: mean diagonal of KQ's x block, last entry of OV.
    """

    networks: Networks
    steps: list[int]
    loss: np.ndarray
    omega: np.ndarray
    mu: np.ndarray
    seconds: float

    @property
    def matched_early(self) -> np.ndarray:
        """Whether all signs of each network match for good before half of its loss has gone."""
        return np.array([matched < fallen for matched, fallen in phases(self)])

    @property
    def matched_at_start(self) -> np.ndarray:
        """Whether all signs of each network match before it is trained."""
        return (np.sign(self.omega[0]) == np.sign(self.mu[0])).all(-1)

    def pairs(self, *, zero_sum: float) -> np.ndarray:
        """Whether each network ended as a pair, or as groups of heads that add up to one (``pairs_among``)."""
        return pairs_among(self.omega[-1], self.mu[-1], zero_sum=zero_sum)

    def settled(self, omega: float, mu: float, *, within: float) -> np.ndarray:
        """Whether the first head of each network ended near these sizes, whatever its signs.

        Args:
            within: How far each may be off, as a share.
        """
        formula = np.array([omega, mu])[:, None]
        alone = np.abs([self.omega[-1, :, 0], self.mu[-1, :, 0]])
        return (np.abs(alone - formula) <= within * formula).all(0)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row per network: where it ended, and when its signs matched and its loss fell."""
        ends = zip(
            self.loss[-1].tolist(), self.omega[-1].astype(float), self.mu[-1].astype(float), strict=True
        )
        return [
            {
                "heads": len(omega),
                "network": i,
                "loss": loss,
                "omega": omega.round(3).tolist(),
                "mu": mu.round(3).tolist(),
                "signs match from step": matched,
                "half of the fall at step": fallen,
            }
            for i, ((loss, omega, mu), (matched, fallen)) in enumerate(zip(ends, phases(self), strict=True))
        ]


def train_networks(
    n: int,
    heads: int,
    *,
    steps: int = STEPS,
    seed: int = 0,
    d: int = D,
    length: int = LENGTH,
    noise: float = NOISE,
    every: int = 50,
    progress=None,
) -> Training:
    """Adam on fresh problems each step, rate falling linearly; networks differ in their start alone."""
    networks = Networks(n, heads, d=d, seed=seed)
    optimiser = torch.optim.Adam(networks.parameters(), lr=RATE)
    rng = np.random.default_rng([seed, 1])
    sample = tensors(draw(np.random.default_rng([seed, 2]), 2_000, d=d, length=length, noise=noise))
    course: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    begun = time.time()
    for step in range(steps + 1):
        if step % every == 0:
            course.append(_noted(networks, sample))
            if progress is not None:
                progress(step, steps, f"training {n} networks of {heads} heads")
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / (steps + 1))
        tokens, target = tensors(draw(rng, BATCH, d=d, length=length, noise=noise))
        loss = (networks(tokens) - target).square().mean(-1).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    losses, omega, mu = (np.array(part) for part in zip(*course, strict=True))
    return Training(
        networks=networks.requires_grad_(False),
        steps=list(range(0, steps + 1, every)),
        loss=losses,
        omega=omega,
        mu=mu,
        seconds=time.time() - begun,
    )


def train_with_seeds(n: int, heads: int, *, seeds: Sequence[int], **how: Any) -> Training:
    """Return ``train_networks`` for each seed, as one training of all these networks.

    Networks of one seed see the same problems; those of another seed start elsewhere and see others.

    Returns:
        The networks in the order of the seeds; ``seconds`` is the sum.
    """
    parts = [train_networks(n, heads, seed=seed, **how) for seed in seeds]
    networks = Networks(n * len(parts), heads)
    for name, whole in networks.named_parameters():
        whole.data = torch.cat([getattr(part.networks, name) for part in parts])
    course = {
        name: np.concatenate([getattr(part, name) for part in parts], axis=1)
        for name in ("loss", "omega", "mu")
    }
    seconds = sum(part.seconds for part in parts)
    return Training(networks=networks.requires_grad_(False), steps=parts[0].steps, seconds=seconds, **course)


def phases(found: Training) -> list[tuple[int, float]]:
    """Per network: the step from which all signs match for good, and the step at which half of the loss has gone."""
    out: list[tuple[int, float]] = []
    for i in range(found.loss.shape[1]):
        same = (np.sign(found.omega[:, i]) == np.sign(found.mu[:, i])).all(-1)
        wrong = np.flatnonzero(~same)
        matched = 0 if not len(wrong) else wrong[-1] + 1
        loss = found.loss[:, i]
        fallen = int(np.argmax(loss <= (loss[0] + loss[-1]) / 2))
        steps: list[Any] = [*found.steps, np.inf]  # infinite where the signs never match for good
        out.append((steps[matched], steps[fallen]))
    return out


def untrained_shape(seed: int, *, n: int = 64) -> dict[str, float]:
    """Return ``matrices_in_shape`` of networks of two heads that were not trained, means over ``n``: what chance
    gives.
    """
    networks = Networks(n, 2, seed=seed).requires_grad_(False)
    each = zip(networks.kq.double().numpy(), networks.ov.double().numpy(), strict=True)
    found = [matrices_in_shape(kq, ov) for kq, ov in each]
    return {
        name: float(np.mean([one[name] for one in found])) for name in found[0] if name not in ("omega", "mu")
    }


def errors_of(
    model: TransformerBridge,
    heads: tuple[np.ndarray, np.ndarray],
    *,
    length: int,
    draws: int,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Measure the squared errors of a model, of closed forms, and of the model from the steps with its own eta.

    Args:
        heads: ``omega`` and ``mu`` of the model's heads, for the closed forms of ``predictors``.
        length: Examples of each problem.

    Returns:
        By name, one squared error per problem; ``model from NAME`` is how far the model is from that step.

    Example:
        >>> import workbench as wb
        >>> heads = np.array([0.13, -0.13]), np.array([3.0, -3.0])
        >>> errors = errors_of(wb.open_model("zoo:regression"), heads, length=40, draws=16)
        >>> errors["model"].shape, bool(errors["model"].mean() < errors["one head"].mean())
        ((16,), True)
    """
    prompts = draw(np.random.default_rng([seed, length]), draws, length=length)
    here = predict(model, tensors(prompts)[0]).double().numpy()
    guesses = {"model": here, **predictors(prompts, *heads)}
    errors = {name: prompts.errors(guess) for name, guess in guesses.items()}
    steps = ("plain step, same eta", "debiased step, same eta")
    return errors | {f"model from {name}": (here - guesses[name]) ** 2 for name in steps}


@torch.no_grad()
def _noted(networks: Networks, sample: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    tokens, target = sample
    loss = (networks(tokens) - target).square().mean(-1)
    diagonal = networks.kq.diagonal(dim1=-2, dim2=-1)[..., :-1].mean(-1)
    return loss.numpy(), diagonal.numpy(), networks.ov[..., -1].numpy()


@torch.no_grad()
def matrices(model: TransformerBridge) -> tuple[np.ndarray, np.ndarray]:
    """Return ``KQ (head, key, query)`` and ``OV (head, token)`` of the first layer of a bridge.

    KQ is ``K^T Q / sqrt(d_head)``; OV is what a head writes to the last dimension of the residual stream.
    """
    attention, heads, width = model.blocks[0].attn, model.cfg.n_heads, model.cfg.d_head
    q, k, v = (part.weight.reshape(heads, width, -1) for part in (attention.q, attention.k, attention.v))
    o = attention.o.weight[-1].reshape(heads, width)
    kq = torch.einsum("hek,heq->hkq", k, q) / math.sqrt(width)
    return kq.double().numpy(), torch.einsum("he,het->ht", o, v).double().numpy()


def unfit(model: TransformerBridge) -> str:
    """Say why a model is not of the paper's shape, or nothing: one attention layer on vectors, no MLP, no norm."""
    cfg = model.cfg
    if cfg.n_layers != 1 or not getattr(cfg, "attn_only", False):
        return f"the model has {cfg.n_layers} layers or MLPs; the paper's is one attention layer on vectors"
    if cfg.normalization_type is not None:
        return f"the model has a norm ({cfg.normalization_type}); the paper's has none"
    if cfg.d_model != D + 1 or cfg.d_head != cfg.d_model:
        return f"the model's tokens have {cfg.d_model} dimensions; the problems have {D + 1}"
    return ""


@torch.no_grad()
def predict(model: TransformerBridge, tokens: Float[Tensor, "draw token width"]) -> Float[Tensor, "draw"]:
    """Return the bridge's prediction: tokens put in as embeddings, the query, last, kept from looking at itself.

    Read from the last dimension of what the heads add to the query's residual stream.
    """
    ids = torch.full(tokens.shape[:2], model.cfg.d_vocab - 1)

    def put(embedding: Tensor, hook) -> Tensor:
        return tokens.to(embedding)

    def keep(name: str):
        def store(tensor: Tensor, hook) -> None:
            seen[name] = tensor

        return store

    def away(z: Tensor, hook) -> Tensor:
        # An edit of the scores would be discarded by this model's attention, so its outcome is written instead.
        q, k, v = (seen[name] for name in "qkv")
        scores = torch.einsum("bhe,bkhe->bhk", q[:, -1], k[:, :-1]) / math.sqrt(q.shape[-1])
        z = z.clone()
        z[:, -1] = torch.einsum("bhk,bkhe->bhe", scores.softmax(-1), v[:, :-1])
        return z

    seen: dict[str, Tensor] = {}
    hooks = [("hook_embed", put), *((hook_name(name, 0), keep(name)) for name in "qkv")]
    hooks += [(hook_name("head-output", 0), away), (hook_name("attn-out", 0), keep("written"))]
    with model.hooks(fwd_hooks=hooks):
        model(ids)
    return seen["written"][:, -1, -1]


def build(kq: Float[Tensor, "head key query"], ov: Float[Tensor, "head token"]) -> Machine:
    """Return the native model with these matrices: KQ in the queries, OV in the outputs, no embedding."""
    width = kq.shape[-1]
    eye, zero = torch.eye(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    rows = N_SPECIAL + 1

    def head(one: Tensor, written: Tensor) -> Head:
        out = zero.clone()
        out[-1] = written.double()
        return Head(q=one.double(), k=eye, v=eye, o=out)

    return Machine(
        embed=torch.zeros(rows, width, dtype=torch.float64),
        position=torch.zeros(CONTEXT, width, dtype=torch.float64),
        heads=[[head(one, written) for one, written in zip(kq, ov, strict=True)]],
        unembed=torch.zeros(rows, width, dtype=torch.float64),
    )


def train(seed: int, scratch: Path | None = None, *, steps: int = STEPS, tries: int = 3) -> Trained:
    """Return some networks of two heads; the one with the smallest loss on its sample is kept."""
    done = train_networks(tries, 2, steps=steps, seed=seed)
    best = int(done.loss[-1].argmin())
    networks = done.networks
    machine = build(networks.kq[best], networks.ov[best])
    fit = Fit(steps=steps, seconds=round(done.seconds, 1), loss=float(done.loss[-1, best]))
    return Trained(tokenizer=word_tokenizer(["vector"]), phases={"regression": fit}, native=machine.native())


def measure(model: TransformerBridge) -> list[CardNumber]:
    """Squared error at the trained length, at others, and with each head silenced."""
    found = []
    for length, needs in ((LENGTH, 0.26), (10, None), (100, None)):
        tokens, target = tensors(draw(np.random.default_rng(5), 4_000, length=length))
        value = (predict(model, tokens) - target).square().mean().item()
        found.append(
            CardNumber(
                name=f"squared error with {length} examples",
                value=value,
                n=4_000,
                unit="squared error",
                needs=needs,
                lower_is_better=True,
            )
        )
    return found


RECIPE = TrainingRecipe(
    name="regression",
    title="linear regression in context by two softmax heads",
    what="One attention layer on vectors (x, y), no norm, no positions. Its heads are one step of gradient descent.",
    train=train,
    measure=measure,
    held_out={"regression": "every problem is drawn anew"},
    limits=(
        "text: its embedding is empty; vectors are put in at hook_embed",
        f"more than {CONTEXT - 1} examples",
    ),
    source="He, Pan, Chen, Yang 2025, In-Context Linear Regression Demystified",
)
