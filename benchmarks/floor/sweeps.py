"""The exact sweeps as plain functions: the same numbers with the least work, and how little that can be.

Answers are read at the last position, as two columns of the unembedding. ``count_*`` give multiply-adds that no
exact method avoids: matrix products of the positions and layers that change and are read, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from benchmarks.floor.plain import CHUNK, Plain


def _base(p: Plain, ids: Tensor) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """The residual stream before each layer and after the last, and what each layer computed."""
    resid, seen = [p.start(ids)], []
    for n in range(len(p.layers)):
        seen.append({})
        resid.append(p.layer(n, resid[-1], see=seen[-1]))
    return resid, seen


def _through(p: Plain, layer: int, x: Tensor, first: int, before) -> Tensor:
    """What leaves the last layer at the last position, from what enters ``layer`` from ``first`` on."""
    end = len(p.layers) - 1
    for n in range(layer, end + 1):
        x = p.layer(n, x, first=first, before=before(n) if first else None, last=n == end)
    return x[:, -1]


@torch.no_grad()
def head_ablation(
    p: Plain, clean: Tensor, corrupted: Tensor, answers: Tensor, heads: Iterable[int] | None = None
) -> tuple[Tensor, Tensor]:
    """``(layer * head, pair)``: the logit difference with each head's output replaced by its mean over the prompts.

    And ``(pair,)``, the gap that effects are shares of: the clean minus the corrupted logit difference.
    """
    resid, seen = _base(p, clean)
    gap = p.difference(resid[-1][:, -1], answers)
    gap = gap - p.difference(_through(p, 0, p.start(corrupted), 0, None), answers)
    found, n, end = [], len(clean), len(p.layers) - 1
    heads = list(range(p.n_heads) if heads is None else heads)
    per_chunk = max(1, CHUNK // clean.numel())
    for layer in range(len(p.layers)):
        z, mid, o = seen[layer]["z"], seen[layer]["mid"], p.layers[layer]["o"].unflatten(0, (-1, p.d_head))
        change = z.mean((0, 1)) - z
        if layer == end:
            change, mid = change[:, -1:], mid[:, -1:]
        for k in range(0, len(heads), per_chunk):
            chosen = heads[k : k + per_chunk]
            x = torch.cat([mid + change[:, :, h] @ o[h] for h in chosen])
            x += p.mlp(layer, x)
            x = x[:, -1] if layer == end else _through(p, layer + 1, x, 0, None)
            found.append(p.difference(x, answers.repeat(len(chosen), 1)).view(len(chosen), n))
    return torch.cat(found), gap


@torch.no_grad()
def head_patching(
    p: Plain, clean: Tensor, corrupted: Tensor, answers: Tensor, heads: Iterable[int] | None = None
) -> Tensor:
    """``(layer, position, head, pair)``: each head's clean output at one position put into the corrupted run."""
    _, given = _base(p, clean)
    resid, seen = _base(p, corrupted)
    n, length = clean.shape
    heads, end = list(range(p.n_heads) if heads is None else heads), len(p.layers) - 1
    found = p.difference(resid[-1][:, -1], answers).repeat(end + 1, length, len(heads), 1)
    for layer in range(end + 1):
        change, o = given[layer]["z"] - seen[layer]["z"], p.layers[layer]["o"].unflatten(0, (-1, p.d_head))
        for pos in range(length - 1 if layer == end else 0, length):
            per_chunk = max(1, CHUNK // (n * (length - pos)))
            for k in range(0, len(heads), per_chunk):
                chosen = heads[k : k + per_chunk]
                x = torch.cat([seen[layer]["mid"][:, pos] + change[:, pos, h] @ o[h] for h in chosen])
                x += p.mlp(layer, x)
                if layer < end:
                    rest = resid[layer + 1][:, pos + 1 :].repeat(len(chosen), 1, 1)
                    x = torch.cat([x[:, None], rest], 1)

                    def before(m: int, pos: int = pos, times: int = len(chosen)) -> tuple[Tensor, ...]:
                        return tuple(seen[m][s][:, :pos].repeat(times, 1, 1, 1) for s in "kv")

                    x = _through(p, layer + 1, x, pos, before)
                out = p.difference(x, answers.repeat(len(chosen), 1)).view(len(chosen), n)
                found[layer, pos, k : k + len(chosen)] = out
    return found


@torch.no_grad()
def faithfulness(p: Plain, clean: Tensor, corrupted: Tensor, answers: Tensor, kept: Tensor) -> Tensor:
    """``(3, pair)``: the logit difference of the circuit, of nothing (the corrupted run) and of the whole model.

    Args:
        kept: ``(source, target)``, sources ``input, heads and MLP of each layer``, targets ``q of each head, k of each
            KV head, v of each KV head, MLP`` by layer, then the logits. Every other edge carries what it carries on
            the corrupted prompt. A reader's input is that of the corrupted run plus the kept sources' differences to
            it, so parts without a kept edge are not computed.
    """
    resid, seen = _base(p, corrupted)
    whole = p.start(clean)
    for n in range(len(p.layers)):
        whole = p.layer(n, whole, last=n == len(p.layers) - 1)
    differences: list[Tensor | None] = [p.start(clean) - resid[0]]
    column = 0

    def read(x: Tensor) -> Tensor | None:
        """What a reader sees, or nothing where all it sees is the corrupted run."""
        nonlocal column
        rows = [d for d, keep in zip(differences, kept[: len(differences), column], strict=True) if keep]
        column, rows = column + 1, [d for d in rows if d is not None]
        return sum(rows, x) if rows else None

    for n in range(len(p.layers)):
        slots = {s: [read(resid[n]) for _ in range(p.n_heads if s == "q" else p.n_kv)] for s in "qkv"}
        differences += _heads(p, n, slots, seen[n])
        x = read(seen[n]["mid"])
        differences.append(None if x is None else p.mlp(n, x) - p.mlp(n, seen[n]["mid"]))
    x = read(resid[-1])
    ends = [resid[-1] if x is None else x, resid[-1], whole]
    return torch.stack([p.difference(e[:, -1], answers) for e in ends])


def _heads(p: Plain, layer: int, slots: dict[str, list], seen: dict[str, Tensor]) -> list[Tensor | None]:
    """What each head of a layer writes beyond what it writes on the corrupted prompt."""
    w, found, group = p.layers[layer], [], p.n_heads // p.n_kv
    sizes = {"q": p.n_heads, "k": p.n_kv, "v": p.n_kv}
    starts = {"q": 0, "k": p.n_heads, "v": p.n_heads + p.n_kv}

    def project(slot: str, h: int) -> Tensor | None:
        x = slots[slot][h]
        if x is None:
            return None
        at = (starts[slot] + h) * p.d_head
        bias = None if w["qkv_b"] is None else w["qkv_b"][at : at + p.d_head]
        y = p.norm(x, w["ln1"]) @ w["qkv"][:, at : at + p.d_head]
        y = p.split(y if bias is None else y + bias)
        return y if slot == "v" else p.rotate(y, 0)

    made = {s: [project(s, h) for h in range(sizes[s])] for s in "qkv"}
    o = w["o"].unflatten(0, (-1, p.d_head))
    single = Plain(**{**vars(p), "n_heads": 1, "n_kv": 1})
    for h in range(p.n_heads):
        parts = made["q"][h], made["k"][h // group], made["v"][h // group]
        if all(part is None for part in parts):
            found.append(None)
            continue
        own = seen["q"][:, :, h : h + 1], *(seen[s][:, :, h // group : h // group + 1] for s in "kv")
        q, k, v = (b if a is None else a for a, b in zip(parts, own, strict=True))
        z = single.attend(q, k, v, 0)
        found.append((z - seen["z"][:, :, h]) @ o[h])
    return found


def _sizes(p: Plain) -> dict[str, int]:
    """Multiply-adds at one token of each part."""
    d, w = p.embed.shape[1], p.layers[0]
    inner = p.n_heads * p.d_head
    kv = d * 2 * p.n_kv * p.d_head
    return {"kv": kv, "qo": 2 * d * inner, "mlp": w["in"].numel() + w["out"].numel(), "z": d * p.d_head}


def count_head_ablation(p: Plain, n: int, length: int, heads: int | None = None) -> int:
    """Multiply-adds of matrix products that the ablation of heads cannot do without."""
    s, layers = _sizes(p), len(p.layers)
    whole, at = s["kv"] + s["qo"] + s["mlp"], length * n * (p.n_heads if heads is None else heads)
    total = 0
    for layer in range(layers):
        later = layers - 1 - layer
        if later == 0:
            total += at // length * (s["z"] + s["mlp"])
            continue
        total += at * (s["z"] + s["mlp"] + (later - 1) * whole + s["kv"])
        total += at // length * (s["qo"] + s["mlp"])
    corrupted = n * length * ((layers - 1) * whole + s["kv"]) + n * (s["qo"] + s["mlp"])
    return total + n * length * layers * whole + corrupted


def count_head_patching(p: Plain, n: int, length: int, heads: int | None = None) -> int:
    """The same for patching of every head at every position."""
    s, layers = _sizes(p), len(p.layers)
    whole, rows = s["kv"] + s["qo"] + s["mlp"], n * (p.n_heads if heads is None else heads)
    total = 2 * n * length * layers * whole
    for layer in range(layers):
        later = layers - 1 - layer
        for pos in range(length if later else 1):
            total += rows * (s["z"] + s["mlp"])
            if later:
                tokens = length - pos
                total += rows * (tokens * ((later - 1) * whole + s["kv"]) + s["qo"] + s["mlp"])
    return total


def count_faithfulness(p: Plain, n: int, length: int, kept: Tensor) -> int:
    """Multiply-adds of the two runs and of the parts that have a kept edge going in."""
    s, layers = _sizes(p), len(p.layers)
    whole, per_head = s["kv"] + s["qo"] + s["mlp"], s["z"]
    read = kept.any(0)
    width = p.n_heads + 2 * p.n_kv + 1
    total = 2 * layers * whole
    for layer in range(layers):
        columns = read[layer * width : (layer + 1) * width]
        total += int(columns[:-1].sum()) * per_head + (s["mlp"] if columns[-1] else 0)
        total += p.n_heads * per_head if bool(columns[:-1].any()) else 0
    return n * length * total
