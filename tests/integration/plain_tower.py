"""A tower in plain torch and transformers: forward hooks on transformers' own modules, one picture at a time.

Nothing of the workbench computes here: only names of modules are looked up by its list of names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.model.towers.parts import part, stacks

Edge = tuple[str, str]  # source and target, by address


class PlainTower:
    """One stack of a transformers model, run with edits.

    Args:
        answer: What is read of the model's output, for the one picture of a pass.
    """

    def __init__(self, model: Callable[..., Any], answer: Callable[[Any], Tensor], n_heads: int) -> None:
        self.model, self.answer, self.n_heads = model, answer, n_heads
        self.layers = list(next(iter(stacks(model)))[1]) if isinstance(model, nn.Module) else []
        self.now: dict[str, Tensor] = {}

    def run(
        self,
        pixels: Tensor,
        *,
        put: Mapping[str, Tensor] | None = None,
        patterns: Mapping[str, Tensor] | None = None,
        ablated: Collection[Edge] = (),
        instead: Mapping[str, Tensor] | None = None,
        start: Tensor | None = None,
        copies: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The answer, and what every part writes to the stream.

        Args:
            put: What parts write in place of their own.
            patterns: Patterns of heads in place of their own, ``(query, key)``.
            ablated, instead: Edges that carry what their source writes there.
            start: What enters the first layer, in place of the picture.
            copies: Takes zeros added to what each reader reads, for gradients.
        """
        self.put, self.patterns, self.start = put or {}, patterns or {}, start
        self.ablated, self.instead, self.copies = ablated, instead or {}, copies
        self.now, self.seen = {}, {}
        handles = [handle for n, layer in enumerate(self.layers) for handle in self._hang(n, layer)]
        try:
            out = self.answer(self.model(pixel_values=pixels[None]))
        finally:
            for handle in handles:
                handle.remove()
        return out, dict(self.now)

    def _hang(self, n: int, layer: nn.Module) -> Sequence[Any]:
        attn, mlp = part(layer, "attn"), part(layer, "mlp")
        found = [layer.register_forward_pre_hook(lambda m, args: self._enter(n, args))]
        for slot in "qkv":
            project = part(attn, slot)
            found.append(
                project.register_forward_hook(
                    lambda m, args, out, slot=slot: self._read(n, layer, slot, m, out)
                )
            )
        found.append(
            part(attn, "o").register_forward_pre_hook(lambda m, args: self._write(n, layer, m, args))
        )
        ends = [(part(layer, f"after_{name}") or end, name) for name, end in (("attn", attn), ("mlp", mlp))]
        found += [
            end.register_forward_hook(lambda m, args, out, name=name: self._wrote(n, layer, name, out))
            for end, name in ends
        ]
        found.append(attn.register_forward_hook(lambda m, args, out: self._keep(f"a{n}<pattern>", out[1])))
        found.append(mlp.register_forward_pre_hook(lambda m, args: self._read_mlp(n, layer)))
        if n == len(self.layers) - 1:
            found.append(layer.register_forward_hook(lambda m, args, out: out + self._change("logits", out)))
        return found

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.now[name] = tensor

    def _change(self, target: str, like: Tensor) -> Tensor:
        """What is added to what a target reads."""
        zeros = torch.zeros_like(like)
        if self.copies is not None:
            self.copies[target] = zeros = zeros.requires_grad_()
        return zeros + sum(self.instead[s] - self.now[s] for s, t in self.ablated if t == target)

    def _enter(self, n: int, args: tuple) -> tuple:
        x = args[0]
        if n == 0:
            x = x if self.start is None else self.start
            self.now["input"] = x
        self.seen["resid"] = x
        return (x, *args[1:])

    def _read(self, n: int, layer: nn.Module, slot: str, project: nn.Linear, out: Tensor) -> Tensor:
        """Queries, keys or values, each head's from its own copy of the stream."""
        x, norm, made = self.seen["resid"], part(layer, "ln1"), []
        for head, own in enumerate(out.chunk(self.n_heads, -1)):
            moved = norm(x + self._change(f"a{n}.h{head}<{slot}>", x)) - norm(x)
            rows = project.weight.chunk(self.n_heads)[head]
            made.append(own + moved @ rows.T)
        self.seen[slot] = torch.cat(made, -1)
        return self.seen[slot]

    def _write(self, n: int, layer: nn.Module, project: nn.Linear, args: tuple) -> tuple:
        """What heads write: their own, or what is put there."""
        heads, gain = list(args[0].chunk(self.n_heads, -1)), _gain(layer, "attn")
        for head in range(self.n_heads):
            name = f"a{n}.h{head}"
            if name in self.patterns:
                heads[head] = self.patterns[name] @ self.seen["v"].chunk(self.n_heads, -1)[head]
            heads[head] = self.put.get(f"{name}<z>", heads[head])
            self.now[f"{name}<z>"] = heads[head]
            self.now[name] = heads[head] @ project.weight.chunk(self.n_heads, 1)[head].T * gain
        return (torch.cat(heads, -1), *args[1:])

    def _wrote(self, n: int, layer: nn.Module, name: str, out: Any) -> Any:
        """What attention or MLP adds to the stream."""
        first = out[0] if isinstance(out, tuple) else out
        vector = 1 if part(layer, f"after_{name}") is not None else _gain(layer, name)
        if name == "attn":
            self.seen["mid"] = self.seen["resid"] + first * vector
            return out
        first = self.put.get(f"m{n}", first * vector) / vector
        self.now[f"m{n}"] = first * vector
        return first

    def _read_mlp(self, n: int, layer: nn.Module) -> tuple:
        mid = self.seen["mid"]
        return (part(layer, "ln2")(mid + self._change(f"m{n}", mid)),)


def _gain(layer: nn.Module, name: str) -> Tensor | float:
    """What multiplies an output before it is added to the stream."""
    scale, vector = part(layer, f"after_{name}"), {"attn": "lambda_1", "mlp": "lambda_2"}[name]
    found = getattr(layer, vector, None) if scale is None else next(scale.parameters())
    return 1.0 if found is None else found
