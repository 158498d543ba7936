"""Towers that pack the patches of all pictures, or crops of one: the plain way, one prompt at a time.

Pictures are cut here by loops, patterns are those of transformers' own eager attention.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tests.integration.plain_tower import PlainTower
from tests.towers import IMAGE
from workbench.model.towers.parts import part, stacks

PATCH, MERGE, SIDE = 4, 2, 8


def given(kind: str, ids: list[int], pixels: Tensor) -> dict[str, Tensor]:
    """What transformers' model is called with for one prompt and its picture (3, height, width)."""
    found = {"input_ids": torch.tensor([ids])}
    height, width = pixels.shape[1:]
    if kind.startswith("qwen"):
        found["mm_token_type_ids"] = (found["input_ids"] == IMAGE).long()
        found["image_grid_thw"] = torch.tensor([[1, height // PATCH, width // PATCH]])
        return {**found, "pixel_values": torch.stack(list(_patches(pixels)))}
    found["image_sizes"] = torch.tensor([[height, width]])
    if kind == "mistral3":
        return {**found, "pixel_values": pixels[None]}
    block = (height // SIDE, width // SIDE)
    crops = [nn.functional.avg_pool2d(pixels, block)]
    crops += [
        pixels[:, y : y + SIDE, x : x + SIDE] for y in range(0, height, SIDE) for x in range(0, width, SIDE)
    ]
    return {**found, "pixel_values": torch.stack(crops)[None]}


def _patches(pixels: Tensor) -> Iterator[Tensor]:
    """Patches of two moments, square by square."""
    side = PATCH * MERGE
    for top in range(0, pixels.shape[1], side):
        for left in range(0, pixels.shape[2], side):
            for y in range(top, top + side, PATCH):
                for x in range(left, left + side, PATCH):
                    patch = pixels[:, y : y + PATCH, x : x + PATCH]
                    yield torch.stack([patch, patch], dim=1).flatten()


class PlainPacked(PlainTower):
    """The tower of a language model that sees, run with edits; ``prompt`` is what the pass is given."""

    def __init__(self, model: nn.Module, n_layers: int, n_heads: int) -> None:
        super().__init__(lambda pixel_values: model(**self.prompt), lambda out: self.read(out), n_heads)
        self.whole = model
        self.layers = next(list(found) for place, found in stacks(model) if "vis" in place)[:n_layers]
        self.prompt: Mapping[str, Tensor] = {}
        self.read = lambda out: out.logits

    def run(self, pixels: Tensor, **edits: Any) -> tuple[Tensor, dict[str, Tensor]]:
        with self._patterns_kept():
            out, now = super().run(pixels, **edits)
        for n in range(len(self.layers)):
            runs = self.kept[n]  # one of each window, or of each crop
            squares = [row for pattern in runs for row in pattern]
            heads = [torch.block_diag(*(square[head] for square in squares)) for head in range(self.n_heads)]
            now[f"a{n}<pattern>"] = torch.stack(heads)[None]
        return out, now

    @contextmanager
    def _patterns_kept(self) -> Iterator[None]:
        """Inside, what transformers' eager attention attends to in this tower is kept."""
        attentions = {id(part(layer, "attn")): n for n, layer in enumerate(self.layers)}
        self.kept: dict[int, list[Tensor]] = {n: [] for n in attentions.values()}
        home = sys.modules[type(part(self.layers[0], "attn")).__module__]
        plain = home.eager_attention_forward

        def eager(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            out, pattern = plain(module, *args, **kwargs)
            if id(module) in attentions:
                self.kept[attentions[id(module)]].append(pattern.detach())
            return out, pattern

        home.eager_attention_forward = eager
        try:
            yield
        finally:
            home.eager_attention_forward = plain

    def _hang(self, n: int, layer: nn.Module) -> list[Any]:
        """Hooks of a layer; where one matrix makes queries, keys and values, of that one."""
        attn, mlp = part(layer, "attn"), part(layer, "mlp")
        found = [
            layer.register_forward_pre_hook(
                lambda m, args, kwargs: self._begin(n, args, kwargs), with_kwargs=True
            )
        ]
        if (fused := part(attn, "qkv")) is not None:
            found.append(fused.register_forward_hook(lambda m, args, out: self._read_all(n, layer, m, out)))
        else:
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
        for end, name in ((attn, "attn"), (mlp, "mlp")):
            found.append(
                end.register_forward_hook(lambda m, args, out, name=name: self._wrote(n, layer, name, out))
            )
        found.append(mlp.register_forward_pre_hook(lambda m, args: self._read_mlp(n, layer)))
        if n == len(self.layers) - 1:  # before transformers notes what left
            found.append(
                layer.register_forward_hook(
                    lambda m, args, out: out + self._change("logits", out), prepend=True
                )
            )
        return found

    def _begin(self, n: int, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        if args:
            return self._enter(n, args), kwargs
        return args, {**kwargs, "hidden_states": self._enter(n, (kwargs["hidden_states"],))[0]}

    def _read_all(self, n: int, layer: nn.Module, project: nn.Linear, out: Tensor) -> Tensor:
        """One matrix as three."""
        made = []
        for slot, own, rows in zip("qkv", out.chunk(3, -1), project.weight.chunk(3), strict=True):
            third = nn.Linear(rows.shape[1], rows.shape[0], bias=False)
            third.weight = nn.Parameter(rows, requires_grad=False)
            made.append(self._read(n, layer, slot, third, own))
        return torch.cat(made, -1)

    def _write(self, n: int, layer: nn.Module, project: nn.Linear, args: tuple) -> tuple:
        """What heads write; a pattern is over all patches of the picture, whatever the shape of a pass."""
        patterns, self.patterns = self.patterns, {}
        values = self.seen["v"].chunk(self.n_heads, -1)
        for name, pattern in patterns.items():
            if name.startswith(f"a{n}."):
                own = values[int(name[-1])]
                self.put = {**self.put, f"{name}<z>": (pattern @ own.reshape(len(pattern), -1)).view_as(own)}
        try:
            return super()._write(n, layer, project, args)
        finally:
            self.patterns = patterns
