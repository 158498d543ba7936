"""Edge attribution as plain functions: the same scores with the least work, and how little that can be.

The last layer computes queries, attention's output and the MLP at the answer's position alone, answers are read as two
columns of the unembedding, and no weight gets a gradient: one backward pass for each point, to the activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.floor.plain import Plain, _affine


@dataclass(eq=False)
class Seen:
    """One layer of one run: what enters it, its normed input, queries, keys, values, and what it writes."""

    x: Tensor
    normed: Tensor
    qkv: tuple[Tensor, Tensor, Tensor]
    z: Tensor
    mid: Tensor
    out: Tensor


def _layer(p: Plain, n: int, x: Tensor, last: bool) -> tuple[Tensor, Seen]:
    """The stream after a layer, at the last position alone where ``last``."""
    w, heads = p.layers[n], p.n_heads * p.d_head
    normed = p.norm(x, w["ln1"])
    if last:
        bias = (None, None) if w["qkv_b"] is None else (w["qkv_b"][:heads], w["qkv_b"][heads:])
        flat_q = _affine(normed[:, -1:], w["qkv"][:, :heads], bias[0])
        flat_kv = _affine(normed, w["qkv"][:, heads:], bias[1])
        q, (k, v) = p.split(flat_q), map(p.split, flat_kv.chunk(2, -1))
    else:
        sizes = [heads, p.n_kv * p.d_head, p.n_kv * p.d_head]
        q, k, v = map(p.split, _affine(normed, w["qkv"], w["qkv_b"]).split(sizes, -1))
    first = x.shape[1] - q.shape[1]
    z = p.attend(p.rotate(q, first), p.rotate(k, 0), v, first)
    mid = x[:, first:] + _affine(z, w["o"], w["o_b"])
    read = mid.view_as(mid)  # the MLP's own copy of the stream
    out = p.mlp(n, read)
    return mid + out, Seen(x, normed, (q, k, v), z, read, out)


def _run(p: Plain, x: Tensor) -> tuple[Tensor, list[Seen]]:
    """What leaves the last layer at the last position, and every layer."""
    seen, end = [], len(p.layers) - 1
    for n in range(end + 1):
        x, layer = _layer(p, n, x, n == end)
        seen.append(layer)
    return x, seen


def _written(p: Plain, start: Tensor, other: Tensor, a: list[Seen], b: list[Seen]) -> Tensor:
    """``(pair, pos, source, d_model)``: what every source writes in one run minus in the other."""
    pairs, length, width = start.shape
    found = start.new_zeros(pairs * length, 1 + len(a) * (p.n_heads + 1), width)
    found[:, 0] = (start - other).flatten(0, 1)
    for n, (one, two) in enumerate(zip(a, b, strict=True)):
        at, out = 1 + n * (p.n_heads + 1), p.layers[n]["o"].unflatten(0, (-1, p.d_head))
        rows = found if one.z.shape[1] == length else found[length - 1 :: length]
        z = p.split(one.z - two.z).flatten(0, 1)
        for head in range(p.n_heads):
            torch.mm(z[:, head], out[head], out=rows[:, at + head])
        rows[:, at + p.n_heads] = (one.out - two.out).flatten(0, 1)
    return found.unflatten(0, (pairs, length))


def _norm_parts(p: Plain, n: int, x: Tensor, normed: Tensor) -> tuple[Tensor, Tensor]:
    """``1 / scale`` of the first norm and its output before gain and offset."""
    weight = p.layers[n]["ln1"]
    offset = weight[1] if len(weight) > 1 else 0
    unit = (normed - offset) / weight[0]
    moved = x - x.mean(-1, keepdim=True) if p.kind == "gpt2" else x
    return (moved * unit).sum(-1, keepdim=True) / moved.pow(2).sum(-1, keepdim=True), unit


def _folded(p: Plain, n: int) -> tuple[list[Tensor], list[Tensor]]:
    """For q, k, v: ``(head, d_model, d_head)`` with the norm's gain and centring, and what the projection adds."""
    w, sizes = p.layers[n], [p.n_heads * p.d_head, p.n_kv * p.d_head, p.n_kv * p.d_head]
    gain = w["ln1"][0][:, None] * w["qkv"]
    gain = gain - gain.mean(0, keepdim=True) if p.kind == "gpt2" else gain
    constant = w["ln1"][1] @ w["qkv"] if len(w["ln1"]) > 1 else w["qkv"].new_zeros(w["qkv"].shape[1])
    constant = constant if w["qkv_b"] is None else constant + w["qkv_b"]
    matrices = [m.unflatten(1, (-1, p.d_head)).transpose(0, 1) for m in gain.split(sizes, 1)]
    return matrices, [c.unflatten(0, (-1, p.d_head)) for c in constant.split(sizes)]


def _gradients(p: Plain, x: Tensor, answers: Tensor) -> tuple[list[Seen], list[Tensor]]:
    """One run from ``x`` and its gradients: q, k, v and the MLP's copy of each layer, last what leaves the model."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        out, seen = _run(p, x)
        out = out.view_as(out)
        total = p.difference(out[:, 0], answers).sum()
        wanted = [t for s in seen for t in (*s.qkv, s.mid)]
        return seen, list(torch.autograd.grad(total, [*wanted, out]))


@torch.no_grad()
def edge_scores(
    p: Plain, clean: Tensor, corrupted: Tensor, answers: Tensor, alphas: Sequence[float] = (1.0,)
) -> Tensor:
    """``(source, target)``: mean over pairs of difference times gradient, averaged over points between the two inputs.

    ``alphas`` 1 alone is EAP; the midpoints of five equal steps are EAP-IG. Columns by layer: q of every head, k and v
    of every KV head, the MLP; last the logits. Entries that are no edges carry meaningless values.
    """
    start, other = p.start(clean), p.start(corrupted)
    wanted = [_folded(p, n) for n in range(len(p.layers))]
    delta = None
    if tuple(alphas) != (1.0,):
        delta = _written(p, start, other, _run(p, start)[1], _run(p, other)[1])
    sums: list[Tensor] = []
    taken = []  # (norm's output, along) of every point and layer
    for alpha in alphas:
        seen, grads = _gradients(p, other + alpha * (start - other), answers)
        if delta is None:
            delta = _written(p, start, other, seen, _run(p, other)[1])
        scaled = _scaled(p, seen, grads, wanted)
        del grads
        near = [t / len(alphas) for t in scaled[0]]
        sums = near if not sums else [a.add_(b) for a, b in zip(sums, near, strict=True)]
        taken.append(_take_away(delta, scaled[1], len(alphas)))
        del seen, scaled
    return (_contract(p, delta, sums, wanted) - sum(taken)) / len(clean)


def _scaled(p: Plain, seen: list[Seen], grads: list[Tensor], wanted) -> tuple[list[Tensor], list]:
    """Gradients over the norm's scale, and what the norm takes away along its output."""
    near, thin = [], []
    for n, layer in enumerate(seen):
        inverse, unit = _norm_parts(p, n, layer.x, layer.normed)
        for slot in range(3):
            grad = grads[4 * n + slot]
            grad = grad * inverse[:, -grad.shape[1] :, None]
            near.append(grad)
            along = (grad * (layer.qkv[slot] - wanted[n][1][slot])).sum(-1) / layer.x.shape[-1]
            thin.append((n, slot, along, unit))
        near.append(grads[4 * n + 3])
    return [*near, grads[-1]], thin


def _columns(p: Plain, n: int) -> list[int]:
    """First column of q, k, v and the MLP of a layer, and the first of the next."""
    at = n * (p.n_heads + 2 * p.n_kv + 1)
    return [at, at + p.n_heads, at + p.n_heads + p.n_kv, at + p.n_heads + 2 * p.n_kv]


def _take_away(delta: Tensor, thin: list, points: int) -> Tensor:
    """Sum over tokens of ``(difference . normed) * along`` at every q, k and v."""
    layers = sorted({n for n, *_ in thin})
    units = torch.stack([next(u for m, _, _, u in thin if m == n) for n in layers], -1).flatten(0, 1)
    shadow = torch.bmm(delta.flatten(0, 1), units).unflatten(0, delta.shape[:2])  # (pair, pos, source, layer)
    found = []
    for n in layers:
        for _, _, along, _ in [t for t in thin if t[0] == n]:
            part = shadow[:, -along.shape[1] :, :, n].flatten(0, 1)
            found.append(part.T @ along.flatten(0, 1) / points)
        found.append(delta.new_zeros(delta.shape[2], 1))
    return torch.cat([*found, delta.new_zeros(delta.shape[2], 1)], 1)


def _contract(p: Plain, delta: Tensor, sums: list[Tensor], wanted) -> Tensor:
    """``(source, target)``: the differences times the summed gradients, one layer's targets in one product."""
    pairs, length, sources, width = delta.shape
    ends = len(p.layers)
    found = delta.new_zeros(sources, ends * (p.n_heads + 2 * p.n_kv + 1) + 1)
    buffer = delta.new_empty(pairs * length, p.n_heads + 2 * p.n_kv + 1, width)
    for n in range(ends):
        short = n == ends - 1  # q and the MLP of the last layer are read at the last position alone
        matrices, place, slots = wanted[n][0], 0, ((1, 2) if short else (0, 1, 2))
        for slot in slots:
            grad = sums[4 * n + slot].flatten(0, 1)
            for head in range(grad.shape[1]):
                torch.mm(grad[:, head], matrices[slot][head].T, out=buffer[:, place])
                place += 1
        if not short:
            buffer[:, place] = sums[4 * n + 3].flatten(0, 1)
            place += 1
        seen = 1 + n * (p.n_heads + 1) + (0 if short else p.n_heads)
        product = torch.bmm(delta[:, :, :seen].flatten(0, 1), buffer[:, :place].transpose(1, 2)).sum(0)
        first = _columns(p, n)[1 if short else 0]
        found[:seen, first : first + place] = product
    last = delta[:, -1]  # (pair, source, d_model)
    grad = torch.einsum("bhe,hde->bhd", sums[4 * (ends - 1)][:, -1], wanted[-1][0][0])
    grad = torch.cat([grad, sums[4 * ends - 1][:, -1:], sums[-1][:, -1:]], 1)
    product = torch.einsum("bsd,btd->st", last, grad)
    at = _columns(p, ends - 1)
    found[:, at[0] : at[1]], found[:, at[3] :] = product[:, : p.n_heads], product[:, p.n_heads :]
    return found


def count(p: Plain, pairs: int, length: int, points: int = 0) -> float:
    """Multiply-adds that no exact method avoids: passes, writing sources and gradients out, one product per edge.

    Args:
        points: Points of the path besides the clean run; 0 is EAP, whose gradient is taken in the clean run itself.
    """
    tokens, ends = pairs * length, len(p.layers)
    one = {k: v.numel() for k, v in p.layers[0].items() if k in ("qkv", "o", "in", "out")}
    heads, d = p.n_heads * p.d_head, p.embed.shape[1]
    attention = 2 * heads * (length + 1) / 2  # scores and values of the keys a token sees, on average
    whole = tokens * (sum(one.values()) + attention)
    keys_values = one["qkv"] * 2 * p.n_kv / (p.n_heads + 2 * p.n_kv)
    short = tokens * keys_values + pairs * (sum(one.values()) - keys_values + 2 * heads * length)
    forward = (ends - 1) * whole + short
    backward = forward + tokens * attention * (ends - 1)
    passes = 2 * forward + backward if points == 0 else (2 + points) * forward + points * backward
    write = tokens * ends * heads * d
    project = tokens * ends * (p.n_heads + 2 * p.n_kv) * p.d_head * d
    targets = p.n_heads + 2 * p.n_kv
    edges = sum(
        targets * (1 + n * (p.n_heads + 1)) + 1 + n * (p.n_heads + 1) + p.n_heads for n in range(ends)
    )
    return float(passes + write + project + tokens * edges * d)
