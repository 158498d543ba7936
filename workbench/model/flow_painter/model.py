"""The painter: a text-conditional rectified-flow transformer, written as a model of transformers.

A state is ``x_t = (1 - t) noise + t picture``. The painter predicts the *clean* picture; the velocity follows from it,
``v = (picture - x_t) / (1 - t)``. It has no text encoder: a word is its embedding plus those of its role and of its
object, so the cross-attention map of a word is that word's only. What its parts write is added to the stream without a
gate; time shifts and scales what they read.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench.tasks.canvas.words import OBJECTS, PATCH, ROLES, SIDE, WORDS

LATEST = 0.95
"""The velocity divides by 1 - t; from this time on by what is left here."""
N_PARTS = 3  # of a layer: self-attention, cross-attention, MLP; each is shifted and scaled


class PainterConfig(PretrainedConfig):
    """How large a painter is."""

    model_type = "painter"

    def __init__(
        self,
        num_hidden_layers: int = 3,
        num_attention_heads: int = 4,
        hidden_size: int = 64,
        intermediate_size: int = 192,
        image_size: int = SIDE,
        patch_size: int = PATCH,
        num_channels: int = 3,
        vocab_size: int = len(WORDS),
        max_position_embeddings: int = len(ROLES) * len(OBJECTS),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.hidden_size, self.intermediate_size = hidden_size, intermediate_size
        self.image_size, self.patch_size, self.num_channels = image_size, patch_size, num_channels
        self.vocab_size, self.max_position_embeddings = vocab_size, max_position_embeddings
        self.hidden_act = "gelu_pytorch_tanh"


class PainterAttention(nn.Module):
    """Attention of patches to patches, or to words."""

    is_causal = False

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        self.config, self.num_heads = config, config.num_attention_heads
        self.d_head = config.hidden_size // self.num_heads
        d = config.hidden_size
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(d, d, bias=False) for _ in range(4))

    def forward(
        self, hidden_states: Float[Tensor, "row query d_model"], read: Float[Tensor, "row key d_model"]
    ) -> Float[Tensor, "row query d_model"]:
        """Let every query position read from the key positions."""
        q, k, v = self.q_proj(hidden_states), self.k_proj(read), self.v_proj(read)
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, _attend)
        z, _ = attend(self, q, k, v, None, scaling=self.d_head**-0.5, dropout=0.0)
        return self.o_proj(z.flatten(2))


class PainterMLP(nn.Module):
    """Two matrices with a GELU between them."""

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        """Compute what the MLP writes."""
        return self.fc2(nn.functional.gelu(self.fc1(x), approximate="tanh"))


class PainterLayer(nn.Module):
    """Self-attention, cross-attention to the words, MLP."""

    def __init__(self, config: PainterConfig) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = PainterAttention(config), PainterAttention(config)
        self.mlp = PainterMLP(config)
        self.times = nn.Parameter(torch.zeros(2 * N_PARTS, config.hidden_size))

    def forward(
        self,
        hidden_states: Float[Tensor, "row patch d_model"],
        words: Float[Tensor, "row word d_model"],
        times: Float[Tensor, "row map d_model"],
    ) -> Float[Tensor, "row patch d_model"]:
        """Run the layer."""
        x = hidden_states
        shift, scale = (times + self.times)[:, :, None].chunk(2, 1)  # (row, part, 1, d_model)
        y = normed(x) * (1 + scale[:, 0]) + shift[:, 0]
        x = x + self.self_attn(y, y)
        x = x + self.cross_attn(normed(x) * (1 + scale[:, 1]) + shift[:, 1], words)
        return x + self.mlp(normed(x) * (1 + scale[:, 2]) + shift[:, 2])


class PainterModel(PreTrainedModel):
    """Predicts the clean picture from a noisy one, its time and a caption of eight words."""

    config_class = PainterConfig
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: PainterConfig) -> None:
        super().__init__(config)
        d, pixels = config.hidden_size, config.patch_size**2 * 3
        self.patch_in, self.patch_out = nn.Linear(pixels, d), nn.Linear(d, pixels)
        self.places = nn.Parameter(torch.zeros((config.image_size // config.patch_size) ** 2, d))
        self.word = nn.Parameter(torch.zeros(config.vocab_size, d))
        self.role = nn.Parameter(torch.zeros(len(ROLES), d))
        self.object = nn.Parameter(torch.zeros(len(OBJECTS), d))
        self.time_in, self.time_out = nn.Linear(d, d), nn.Linear(d, (2 * N_PARTS + 2) * d)
        self.last_times = nn.Parameter(torch.zeros(2, d))
        self.layers = nn.ModuleList(PainterLayer(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: `begin` gives a new model its weights."""

    def forward(
        self,
        input_ids: Int[Tensor, "row word"],
        pixel_values: Float[Tensor, "row 3 height width"],
        time: Float[Tensor, " row"],
    ) -> BaseModelOutput:
        """Predict.

        Args:
            input_ids: The eight words; all 0 is the empty caption.
            pixel_values: The state, of a picture whose pixels are between -1 and 1.
            time: From 0, noise, to 1, a picture.

        Returns:
            ``last_hidden_state``: the pixels of each patch of the clean picture (row, patch, 27).
        """
        x = self.patch_in(to_patches(pixel_values, self.config.patch_size)) + self.places
        return BaseModelOutput(last_hidden_state=self.through(x, self.words(input_ids), time))

    def through(
        self,
        x: Float[Tensor, "row patch d_model"],
        words: Float[Tensor, "row word d_model"],
        time: Float[Tensor, " row"],
    ) -> Float[Tensor, "row patch values"]:
        """Run all layers on embedded patches and words, and return the pixels of each patch of the clean picture."""
        waves = time_waves(time, self.config.hidden_size)
        maps = self.time_out(nn.functional.silu(self.time_in(waves))).unflatten(-1, (-1, waves.shape[-1]))
        for layer in self.layers:
            x = layer(x, words, maps[:, :-2])
        shift, scale = (maps[:, -2:] + self.last_times)[:, :, None].unbind(1)
        return self.patch_out(normed(x) * (1 + scale) + shift)

    def words(self, input_ids: Int[Tensor, "row word"]) -> Float[Tensor, "row word d_model"]:
        """Return what cross-attention reads of each word: word, role and object together, normed."""
        slots = (self.object[:, None] + self.role[None]).flatten(0, 1)
        return normed(self.word[input_ids] + slots)


AutoConfig.register(PainterConfig.model_type, PainterConfig)


@torch.no_grad()
def begin(seed: int, config: PainterConfig | None = None) -> PainterModel:
    """Return an untrained painter: matrices of unit gain, and a time that changes nothing."""
    torch.manual_seed(seed)
    model = PainterModel(config or PainterConfig())
    for name, weight in model.named_parameters():
        if name in ("word", "role", "object"):
            weight.normal_(0, 1.0 if name == "word" else 0.7)
        elif weight.ndim == 2 and not name.startswith("time_out") and not name.endswith("times"):
            weight.normal_(0, weight.shape[1] ** -0.5)
        else:
            weight.zero_()
    model.places.copy_(sines(math.isqrt(len(model.places)), model.places.shape[1]))
    model.patch_out.weight.mul_(0.1)
    return model


def velocity(
    picture: Float[Tensor, "row 3 height width"],
    x: Float[Tensor, "row 3 height width"],
    t: Float[Tensor, " row"],
) -> Float[Tensor, "row 3 height width"]:
    """Return where a state moves to, given the clean picture that is predicted from it."""
    left = (1 - t).clamp(min=1 - LATEST)
    return (picture - x) / left[:, None, None, None]


def to_patches(x: Float[Tensor, "row 3 height width"], patch: int) -> Float[Tensor, "row patch values"]:
    """Cut pictures into patches, row by row; the values of a patch are rows of pixels of three colours."""
    x = x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))  # (row, 3, down, patch, across, patch)
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def from_patches(y: Float[Tensor, "row patch values"], patch: int) -> Float[Tensor, "row 3 height width"]:
    """Put patches together again."""
    n = math.isqrt(y.shape[1])
    y = y.view(len(y), n, n, patch, patch, 3).permute(0, 5, 1, 3, 2, 4)
    return y.reshape(len(y), 3, n * patch, n * patch)


def time_waves(t: Float[Tensor, " row"], width: int) -> Float[Tensor, "row width"]:
    """Return sines and cosines of the time, at frequencies from 1 to 1000."""
    frequencies = torch.exp(torch.linspace(0, math.log(1000), width // 2, device=t.device, dtype=t.dtype))
    angles = t[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)


def sines(grid: int, width: int) -> Float[Tensor, "patch width"]:
    """Return what positions begin as: sines and cosines of the row, then of the column."""
    frequencies = torch.exp(torch.linspace(math.log(math.pi / grid), math.log(math.pi), width // 4))
    angles = torch.arange(grid)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], -1)  # (grid, width / 2)
    rows, columns = line[:, None].expand(-1, grid, -1), line[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)


def normed(x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
    """Return a layer norm without weights of its own."""
    return nn.functional.layer_norm(x, x.shape[-1:])


def _attend(
    module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: None, *, scaling: float, dropout: float
) -> tuple[Tensor, Tensor]:
    """Attention without hook points."""
    pattern = (torch.matmul(q, k.transpose(2, 3)) * scaling).softmax(-1)
    return torch.matmul(pattern, v).transpose(1, 2), pattern
