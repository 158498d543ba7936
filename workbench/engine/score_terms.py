"""Attention scores of one head as sums of bilinear terms: what each writer adds on the query and on the key side.

The scores of a head are ``S[p, s] = q[p] . k[s] * scale``. With every norm's scale held at its value in the clean run,
``q`` and ``k`` are linear in the residual stream, which is the sum of what was written before. So the score is the
sum over writers ``u`` of the query side and ``w`` of the key side of ``M[u, w] = q_u[p] . k_w[s] * scale``.
The softmax does not see what is equal for all keys; terms are therefore centred over keys, weighted by the pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.engine.norm_map import NormMap, measure_norm
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.sides import Side, sides_of
from workbench.engine.source_outputs import outputs_of_side
from workbench.model.blocks import rotate
from workbench.model.hooks import TOLERANCE, component, hook_name, norm_before, projection

Stream = Float[Tensor, "pair pos d_model"]
Parts = Float[Tensor, "pair pos writer d_head"]
Scores = Float[Tensor, "pair query key"]
Place = Int[Tensor, " pair"]
EARLIER = "output biases"
OWN = {"q": "query bias", "k": "key bias", "v": "value bias"}


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadInput:
    """What the query, key or value of one head is made from: norm, projection, its own norm, rotary positions.

    Attributes:
        index: Which of the projection's heads it is; of keys and values the KV group.
        own: The norm of all its queries or keys, or of each head's, behind the projection; None where there is none.
        flat: Whether that norm goes over all heads together.
        turns: Cosines and sines by position; None without rotary positions.
    """

    norm: Callable[[Tensor], Tensor]
    matrix: Float[Tensor, "head d_model d_head"]
    bias: Float[Tensor, "head d_head"]
    index: int
    map: NormMap | None
    own: Callable[[Tensor], Tensor] | None = None
    own_map: NormMap | None = None
    flat: bool = False
    turns: tuple[Tensor, Tensor] | None = None

    def live(self, x: Stream) -> Float[Tensor, "pair pos d_head"]:
        """Return the query, key or value of a residual stream, norms computed anew."""
        raw = self._projected(self.norm(x))
        return self._turned(self._normed(raw)[:, :, self.index : self.index + 1])[:, :, 0].double()

    def parts(self, written: Float[Tensor, "pair pos writer d_model"], x: Stream) -> Parts:
        """Return what each writer adds to the query, key or value of the stream ``x``, norms frozen there."""
        read = written.double()
        if self.map is not None:
            inverse = self.map.inverse_scale(x.double(), self.norm(x).double())[:, :, None]
            read = self.map.gain.double()[:, :, None] * self.map.center(read) * inverse
        read = read @ self.matrix[self.index].double()
        return self._turned(self._own_gain(x, read))

    def constant(self, x: Stream) -> Parts:
        """Return what is there whatever was written: the norm's offset and the bias, as a writer of its own."""
        bias = self.bias[self.index].double()
        if self.map is not None:
            bias = bias + self.map.offset.double().reshape(-1) @ self.matrix[self.index].double()
        made = self._own_gain(x, bias.expand(*x.shape[:2], 1, -1))
        if self.own_map is not None:
            made = made + self._of_head(self.own_map.offset)
        return self._turned(made)

    def _projected(self, normed: Stream) -> Float[Tensor, "pair pos head d_head"]:
        return torch.einsum("btd,hde->bthe", normed, self.matrix.to(normed.dtype)) + self.bias.to(
            normed.dtype
        )

    def _normed(self, raw: Float[Tensor, "pair pos head d_head"]) -> Float[Tensor, "pair pos head d_head"]:
        if self.own is None:
            return raw
        return self.own(raw.flatten(2)).view_as(raw) if self.flat else self.own(raw)

    def _own_gain(self, x: Stream, read: Parts) -> Parts:
        """Behind the head's own norm, its scale frozen at that of the stream ``x``."""
        if self.own_map is None:
            return read
        raw = self._projected(self.norm(x))
        before = raw.flatten(2) if self.flat else raw
        inverse = self.own_map.inverse_scale(before.double(), (self.own or _same)(before).double())
        inverse = inverse[:, :, None] if self.flat else inverse[:, :, self.index : self.index + 1]
        return self._of_head(self.own_map.gain) * self.own_map.center(read) * inverse

    def _of_head(self, gain: Tensor) -> Float[Tensor, " d_head"]:
        """The gain or offset of this head's part."""
        wide, width = gain.double().reshape(-1, gain.shape[-1]), self.matrix.shape[-1]
        if self.flat:
            return wide[0].view(-1, width)[self.index]
        return wide[self.index if len(wide) > 1 else 0]

    def _turned(self, x: Parts) -> Parts:
        if self.turns is None:
            return x
        cos, sin = self.turns
        return rotate(x, (cos.to(x.dtype), sin.to(x.dtype)), 0)


def _same(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadTerms:
    """One head on one batch: its inputs, what was written before it, its pattern.

    Attributes:
        writers: Addresses of what was written before the head's layer, and the output biases of earlier layers.
        x, written: The residual stream that it reads, and the summands of it.
        scale: What products of query and key are multiplied by.
        cap: The soft cap of its scores; 0 without one. Terms are of the score before the cap.
        visible: Which keys a query may attend to.
        errors: How far scores and attention summed here are from the model's own.
    """

    layer: int
    head: int
    q: HeadInput
    k: HeadInput
    writers: tuple[str, ...]
    x: Stream
    written: Float[Tensor, "pair pos writer d_model"]
    scale: float
    cap: float
    visible: Bool[Tensor, "pair query key"]
    scores: Scores
    pattern: Scores
    errors: dict[str, float]

    def sides(self, slot: str) -> tuple[tuple[str, ...], Parts]:
        """Return the names of all terms of queries or keys, and the terms: those of the writers, then its own bias."""
        part = self.q if slot == "q" else self.k
        made = torch.cat([part.parts(self.written, self.x), part.constant(self.x)], dim=2)
        return (*self.writers, OWN[slot]), made

    def attention(self, scores: Scores) -> Scores:
        """Return the pattern of such scores: soft cap, mask and softmax."""
        return self.capped(scores).masked_fill(~self.visible, -torch.inf).softmax(-1)

    def capped(self, scores: Scores) -> Scores:
        """Return scores under the soft cap, as they are without one."""
        return self.cap * (scores / self.cap).tanh() if self.cap else scores

    def slope(self) -> Scores:
        """Return how much the capped score moves with the score: 1 without a cap."""
        return 1 - (self.scores / self.cap).tanh() ** 2 if self.cap else torch.ones_like(self.scores)

    def score_gradient(self, grad_pattern: Scores) -> Scores:
        """Return the gradient at the scores, from that at the pattern."""
        centred = grad_pattern - (self.pattern * grad_pattern).sum(-1, keepdim=True)
        return self.pattern * centred * self.slope()

    def centred(self, keys: Parts, query: Place) -> Parts:
        """Return what each writer adds to every key, less the mean over keys that the query attends to."""
        rows = torch.arange(len(keys), device=keys.device)
        return keys - torch.einsum("bs,bswe->bwe", self.pattern[rows, query], keys)[:, None]

    def part_of(self, slot: str, parts: Parts, writer: int) -> Scores:
        """Return the part of every score that is of one writer of its queries or keys."""
        other = (self.k if slot == "q" else self.q).live(self.x)
        q, k = (parts[:, :, writer], other) if slot == "q" else (other, parts[:, :, writer])
        return torch.einsum("bqe,bke->bqk", q, k) * self.scale

    def over_rivals(
        self, keys: Parts, query: Place, key: Place, scores: Scores
    ) -> Float[Tensor, "pair writer d_head"]:
        """Return what each writer adds to one key, less the mean over the other keys, by the attention of ``scores``.

        With the model's own scores that is the centred term over ``1 - attention to the key``. It is 0 for a query
        that sees one key alone.
        """
        rows = torch.arange(len(keys), device=keys.device)
        own = torch.zeros_like(self.visible[:, 0]).scatter_(1, key[:, None], True)
        others = self.visible[rows, query] & ~own
        weights = self.capped(scores)[rows, query].masked_fill(~others, -torch.inf).softmax(-1)
        weights = torch.where(others.any(-1, keepdim=True), weights, own.double())
        return keys[rows, key] - torch.einsum("bs,bswe->bwe", weights, keys)


@torch.no_grad()
def head_terms(runs: PairedRuns, batch: Batch, layer: int, head: int, *, run: RunName = "clean") -> HeadTerms:
    """Take the scores of one head apart on one batch, and check the sum against the model's own attention.

    Raises:
        ModelError: if its scores are no products of queries and keys that are linear behind frozen norms.
    """
    side = sides_of(runs, runs.wiring.graph())[0]
    x = runs.resid(batch, run, layer)
    q, k = (head_input(runs, batch, side, layer, head, slot) for slot in "qk")
    written, writers, unexplained = written_before(runs, batch, side, layer, run)
    pattern = runs.activations(batch, run, [hook_name("pattern", layer)])[hook_name("pattern", layer)]
    scores = torch.einsum("bqe,bke->bqk", *(_summed(one, written, x) for one in (q, k)))
    visible = _visible(runs, batch, layer, head, run, scores)
    made = HeadTerms(
        layer=layer,
        head=head,
        q=q,
        k=k,
        writers=writers,
        x=x,
        written=written,
        scale=1.0,
        cap=_cap(runs),
        visible=visible,
        scores=scores,
        pattern=pattern[:, head].double(),
        errors={"writers": unexplained},
    )
    return _scaled(runs, made, batch, run)


def _summed(part: HeadInput, written: Tensor, x: Stream) -> Float[Tensor, "pair pos d_head"]:
    return part.parts(written, x).sum(2) + part.constant(x)[:, :, 0]


def _scaled(runs: PairedRuns, made: HeadTerms, batch: Batch, run: RunName) -> HeadTerms:
    """The same with the scale under which its scores give the model's pattern."""
    limit, best = TOLERANCE.get(made.x.dtype, 2e-4), float("inf")
    for scale in _scales(runs, made.layer, made.q.matrix.shape[-1]):
        scaled = replace(made, scale=scale, scores=made.scores * scale)
        error = float((scaled.attention(scaled.scores) - made.pattern).abs().max())
        shown = _score_error(runs, batch, run, scaled)
        if error <= limit and not shown.get("score", 0.0) > limit * (1 + float(scaled.scores.abs().max())):
            return replace(scaled, errors={**made.errors, **shown, "attention": error})
        best = min(best, error)
    raise ModelError(
        f"the attention of a{made.layer}.h{made.head} is not the softmax of its queries times its keys "
        f"(off by {best:.2g}): something else enters its scores, such as distances (ALiBi), "
        "a learned sink, or rotary positions that turn other pairs of coordinates",
        hint="its head can be knocked out (workbench knock-out) or patched (workbench patch --site pattern)",
    )


def _score_error(runs: PairedRuns, batch: Batch, run: RunName, made: HeadTerms) -> dict[str, float]:
    """How far the summed scores are from those the model shows, where it shows them without a cap."""
    name = hook_name("scores", made.layer)
    if made.cap or name not in runs.model.hook_dict:
        return {}
    own = runs.activations(batch, run, [name])[name][:, made.head].double()
    if torch.allclose(own, made.pattern):  # native models fire this hook behind the softmax
        return {}
    return {"score": float((made.scores - own)[made.visible].abs().max())}


def _scales(runs: PairedRuns, layer: int, d_head: int) -> list[float]:
    """Scales that models use; which of them is this model's is seen at its pattern."""
    attn = runs.model.blocks[layer].attn
    said = getattr(getattr(attn, "original_component", None), "scaling", None)
    given = getattr(runs.model.cfg, "attn_scale", None)
    found = [float(said)] if isinstance(said, int | float) else []
    found += [1 / float(given)] if isinstance(given, int | float) and given > 0 else []
    usual = d_head**-0.5
    return list(dict.fromkeys([*found, usual, usual / (layer + 1), 1.0]))


def _cap(runs: PairedRuns) -> float:
    given = getattr(runs.model.cfg, "attn_scores_soft_cap", None)
    return float(given) if isinstance(given, int | float) and given > 0 else 0.0


def _visible(
    runs: PairedRuns, batch: Batch, layer: int, head: int, run: RunName, like: Scores
) -> Bool[Tensor, "pair query key"]:
    """Keys that a query may attend to: the earlier ones, and of these the ones whose score is not masked."""
    seen = torch.ones_like(like, dtype=torch.bool)
    seen = seen.tril() if runs.wiring.causal else seen
    name = hook_name("scores", layer)
    if name in runs.model.hook_dict:
        seen &= runs.activations(batch, run, [name])[name][:, head] > -1e4
    return seen


def written_before(
    runs: PairedRuns, batch: Batch, side: Side, layer: int, run: RunName
) -> tuple[Float[Tensor, "pair pos writer d_model"], tuple[str, ...], float]:
    """Return what was written before a layer, by whom, and how much of the stream nobody wrote.

    Output biases of earlier attention layers belong to no head: they are one writer more, the same at every position.
    """
    x = runs.resid(batch, run, layer)
    written = outputs_of_side(runs, batch, run, side, before=layer)
    names = [str(s) for s in side.graph.sources if s.layer is None or s.layer < layer]
    rest = x - written.sum(2)
    if layer == 0:
        return written, tuple(names), float(rest.abs().max())
    bias = rest.mean((0, 1))
    error = float((rest - bias).abs().max() / (1 + x.abs().max()))
    if not error <= TOLERANCE.get(x.dtype, 2e-4):
        raise ModelError(
            f"what was written before layer {layer} does not sum to the stream (off by {error:.2g})",
            hint="workbench model show NAME says whether the residual stream is a sum; ask about <v> or logits",
        )
    return torch.cat([written, rest[:, :, None]], dim=2), (*names, EARLIER), error


def head_input(runs: PairedRuns, batch: Batch, side: Side, layer: int, head: int, slot: str) -> HeadInput:
    """Return how one head makes its query, key or value.

    Raises:
        ModelError: if a norm there is not gain, centring and scale.
    """
    attn: Any = side.model.blocks[layer].attn
    matrix = projection(side.model, layer, slot)
    bias = getattr(attn, f"b_{slot.upper()}", None)
    bias = matrix.new_zeros(len(matrix), matrix.shape[-1]) if bias is None else bias.view(len(matrix), -1)
    norm, x = norm_before(side.model, layer, "ln1"), runs.resid(batch, "clean", layer)
    own = None if slot == "v" else _original(component(attn, f"{slot}_norm"))
    flat, own_map = False, None
    if own is not None:
        raw = torch.einsum("btd,hde->bthe", norm(x[:1, :1]), matrix) + bias
        flat = _width(own, raw.shape[-1]) != raw.shape[-1]
        own_map = _map(own, raw.flatten(2) if flat else raw, f"the norm of {slot} in layer {layer}")
        if own_map is not None and flat and own_map.centred:
            raise ModelError(
                f"the norm of {slot} in layer {layer} takes a mean over all heads; its terms mix them",
                hint="ask about the value: ->a1.h0<v>",
            )
    return HeadInput(
        norm=norm,
        matrix=matrix.detach(),
        bias=bias.detach(),
        index=head * len(matrix) // runs.wiring.n_heads,
        map=_map(norm, x[:1, :1], f"the norm before attention in layer {layer}"),
        own=own,
        own_map=own_map,
        flat=flat,
        turns=None if slot == "v" else _turns(runs, batch, layer),
    )


def _original(module: Any) -> Callable[[Tensor], Tensor] | None:
    return getattr(module, "original_component", None)


def _width(norm: Any, usual: int) -> int:
    weight = getattr(norm, "weight", None)
    return usual if weight is None else int(weight.shape[-1])


def _map(norm: Callable[[Tensor], Tensor], like: Tensor, what: str) -> NormMap | None:
    if torch.equal(norm(like), like):
        return None
    found = measure_norm(norm, like)
    if found is None:
        raise ModelError(
            f"{what} is not gain, centring and scale, so its terms cannot be told apart",
            hint="ask about another edge; workbench model show NAME says which norms it has",
        )
    return found


def _turns(runs: PairedRuns, batch: Batch, layer: int) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines of the positions of these prompts, as the model shows them."""
    names = [f"blocks.{layer}.attn.hook_{part}" for part in ("cos", "sin")]
    if not all(name in runs.model.hook_dict for name in names):
        return None
    seen = runs.activations(batch, "clean", names)
    cos, sin = (seen[name].reshape(-1, *seen[name].shape[-2:])[0] for name in names)
    return cos, sin
