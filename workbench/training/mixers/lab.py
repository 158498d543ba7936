"""The small model of the lab: a decoder of tokens, or a reader of pictures, made of the attention with plugs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from workbench.core.errors import OptionError
from workbench.training.mixers.attention import Hidden, MixedAttention, source_of
from workbench.training.mixers.plugs import BESIDE, Plugs, Source, Width, described, visible_to


@dataclass(frozen=True, kw_only=True)
class LabShape:
    """What a model of the lab is made of.

    Attributes:
        layers: How each layer attends; None is a layer without attention, which has a gated MLP of as many weights.
        n_ctx: Tokens at most; of a picture, the number of its patches.
        d_vocab: Tokens; 0 for a model that reads pictures.
        n_out: What it chooses among: next tokens, or classes.
        patch: Width of a patch in pixels, for a model that reads pictures.
        d_mlp: Width of the MLP behind each attention; 0 for none.
        shift: Keys read a learned mixture of their token and the one before it.
        each_patch: A reader of pictures chooses at every patch, in place of once for the picture.
    """

    layers: tuple[Plugs | None, ...]
    n_ctx: int
    n_out: int
    d_vocab: int = 0
    patch: int = 0
    d_model: int = 64
    n_heads: int = 2
    d_head: int = 32
    d_mlp: int = 0
    positions: Literal["learned", "rotary", "none"] = "learned"
    causal: bool = True
    shift: bool = False
    each_patch: bool = False

    def __post_init__(self) -> None:
        if bool(self.d_vocab) == bool(self.patch):
            raise OptionError("a model reads tokens or pictures", hint="d_vocab=..., or patch=...")
        if not self.layers:
            raise OptionError("a model has at least one layer", hint="layers=(Plugs(...),)")

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @property
    def beside(self) -> Source | None:
        """What runs beside the rows, for layers whose queries and keys are made of it."""
        found = {plugs.source for plugs in self.layers if plugs is not None and plugs.source in BESIDE}
        if len(found) > 1:
            raise OptionError(
                f"queries and keys of {' and of '.join(sorted(found))} in one model; one row runs beside",
                hint="give all such layers one source",
            )
        return next(iter(found), None)

    @property
    def width(self) -> Width:
        return Width(d_model=self.d_model, n_heads=self.n_heads, d_head=self.d_head)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that decides the function and its weights' shapes, as JSON values."""
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("layers", "each_patch")}
        if self.each_patch:  # told where it is so: cards of before do not know it
            rest["each_patch"] = True
        return {"layers": [None if plugs is None else _told(plugs) for plugs in self.layers], **rest}


def one_layer(
    plugs: Plugs,
    *,
    pairs: int,
    words: int,
    d_head: int,
    positions: Literal["learned", "rotary", "none"] = "learned",
    causal: bool = True,
) -> LabShape:
    """Return one layer for rows of recall, whose keys read the token before, too.

    Args:
        pairs: Of a row, and as many questions: three tokens for each.
        words: Keys and values together.

    Example:
        >>> from workbench.training.mixers.normalisers import softmax
        >>> one_layer(Plugs(mix=softmax), pairs=8, words=64, d_head=4).n_ctx
        24
    """
    return LabShape(
        layers=(plugs,), n_ctx=3 * pairs, n_out=words, d_vocab=words, d_model=32, n_heads=2, d_head=d_head,
        positions=positions, causal=causal, shift=True,
    )  # fmt: skip


def _told(plugs: Plugs) -> dict[str, Any]:
    given = {f.name: getattr(plugs, f.name) for f in fields(plugs)}
    return {
        name: described(value) for name, value in given.items() if value is not None and value is not False
    }


class LabBlock(nn.Module):
    """One layer: attention and MLP, each behind a norm and added to the residual stream."""

    hook_resid_pre: HookPoint
    hook_attn_out: HookPoint
    hook_resid_mid: HookPoint
    hook_mlp_out: HookPoint
    hook_resid_post: HookPoint

    def __init__(self, shape: LabShape, plugs: Plugs | None) -> None:
        super().__init__()
        d = shape.d_model
        self.plugs, self.ln1 = plugs, nn.RMSNorm(d)
        inner = shape.n_heads * shape.d_head
        if plugs is None:
            self.attn: nn.Module = GatedMLP(
                d, round(4 * inner / 3)
            )  # three matrices where attention has four
        else:
            self.attn = MixedAttention(
                shape.width, plugs, rotary=shape.positions == "rotary", shift=shape.shift
            )
        if shape.d_mlp:
            self.ln2, self.mlp = nn.RMSNorm(d), GatedMLP(d, shape.d_mlp)
        for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"):
            setattr(self, f"hook_{name}", HookPoint())

    def forward(self, x: Hidden, embedding: Hidden, position: Hidden, visible: Tensor) -> Hidden:
        """Return the residual stream behind the layer."""
        x = self.hook_resid_pre(x)
        normed = self.ln1(x)
        if self.plugs is None:
            written = self.attn(normed)
        else:
            source = source_of(self.plugs.source, normed, embedding, position)
            written = self.attn(normed, source, visible)
        x = self.hook_resid_mid(x + self.hook_attn_out(written))
        if hasattr(self, "mlp"):
            x = x + self.hook_mlp_out(self.mlp(self.ln2(x)))
        return self.hook_resid_post(x)


class GatedMLP(nn.Module):
    """``out(silu(gate x) * in x)``."""

    def __init__(self, d_model: int, d_mlp: int) -> None:
        super().__init__()
        self.into, self.gate = (nn.Linear(d_model, d_mlp, bias=False) for _ in range(2))
        self.out = nn.Linear(d_mlp, d_model, bias=False)

    def forward(self, x: Hidden) -> Hidden:
        """Return what it writes at every position."""
        return self.out(F.silu(self.gate(x)) * self.into(x))


class Lab(HookedRootModule):
    """A small model whose attention is plugged together; hooks stand where TransformerLens has them.

    Two models of one seed start alike: a weight is drawn from the seed and its own name, so what they have in common
    is equal, whatever else each has.
    """

    beside: Tensor | None

    def __init__(self, shape: LabShape, *, seed: int = 0) -> None:
        super().__init__()
        self.shape = self.cfg = shape
        # biases: those of the embedding are drawn first and are equal in all models of a seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._make(shape)
        self.hook_embed, self.hook_pos_embed = HookPoint(), HookPoint()
        self.register_buffer("beside", fixed_row(shape), persistent=False)
        start_from(self, seed)
        self.setup()

    def _make(self, shape: LabShape) -> None:
        d = shape.d_model
        self.embed = nn.Embedding(shape.d_vocab, d) if shape.d_vocab else nn.Linear(3 * shape.patch**2, d)
        self.pos_embed = nn.Embedding(shape.n_ctx, d) if shape.positions == "learned" else None
        self.blocks = nn.ModuleList(LabBlock(shape, plugs) for plugs in shape.layers)
        self.ln_final, self.unembed = nn.RMSNorm(d), nn.Linear(d, shape.n_out, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(batch, pos, n_out)`` of token ids; of pixels ``(batch, 3, height, width)``, one row a
        picture ``(batch, n_out)``, or of each patch.
        """
        embedding = self.hook_embed(self.embed(inputs if self.shape.d_vocab else self.patches(inputs)))
        n = embedding.shape[1]
        if self.beside is not None:
            embedding = torch.cat([self.beside_row()[:, :n], embedding])
        if n > self.shape.n_ctx:
            raise OptionError(
                f"{n} positions are given; the model has {self.shape.n_ctx}",
                hint=f"cut the input to {self.shape.n_ctx} positions, or make the model with n_ctx={n}",
            )
        position = torch.zeros_like(embedding)
        if self.pos_embed is not None:
            position = self.pos_embed(torch.arange(n, device=embedding.device)).expand_as(embedding)
        x = embedding + self.hook_pos_embed(position)
        visible = visible_to(n, causal=self.shape.causal, device=x.device)
        for block in self.blocks:
            x = block(x, embedding, position, visible)
        x = self.ln_final(x if self.beside is None else x[1:])
        return self.unembed(x if self.shape.d_vocab or self.shape.each_patch else x.mean(1))

    def beside_row(self) -> Float[Tensor, "1 pos d_model"]:
        """Return the embeddings of the row that runs beside the others."""
        assert self.beside is not None
        return self.embed(self.beside) if self.shape.beside == "another-text" else self.beside

    def patches(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch patch values"]:
        """Return the pixels of each patch, row by row."""
        size = self.shape.patch
        if pixels.shape[-1] % size or pixels.shape[-2] % size:
            raise OptionError(
                f"pictures of {tuple(pixels.shape[-2:])} pixels; patches are {size} wide",
                hint=f"give pictures whose height and width are multiples of {size}",
            )
        return F.unfold(pixels, size, stride=size).transpose(1, 2)

    @torch.no_grad()
    def patterns(self, inputs: Tensor) -> dict[int, Float[Tensor, "batch head query key"]]:
        """Return the pattern of every layer that has one."""
        _, cache = self.run_with_cache(inputs)
        found = {i: f"blocks.{i}.attn.hook_pattern" for i in range(self.shape.n_layers)}
        return {i: cache[name] for i, name in found.items() if name in cache}


def fixed_row(shape: LabShape) -> Tensor | None:
    """Return what runs beside the rows: random tokens or random embeddings, the same for every seed of training."""
    drawn = torch.Generator().manual_seed(13)
    if shape.beside == "another-text":
        return torch.randint(shape.d_vocab, (1, shape.n_ctx), generator=drawn)
    if shape.beside == "random-embeddings":
        return 0.5 * torch.randn(1, shape.n_ctx, shape.d_model, generator=drawn)
    return None


@torch.no_grad()
def start_from(model: nn.Module, seed: int) -> None:
    """Draw every matrix from the seed and its own name; vectors stay as they are."""
    for name, weight in model.named_parameters():
        if weight.ndim < 2:
            continue
        drawn = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
        scale = 0.5 if "embed." in name and not name.startswith("unembed") else weight.shape[1] ** -0.5
        weight.copy_(scale * torch.randn(weight.shape, generator=drawn))


def ids_of(rows: Any) -> Int[Tensor, "row pos"]:
    """Return token ids of drawn rows as a tensor."""
    return torch.as_tensor(rows, dtype=torch.long)
