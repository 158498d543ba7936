"""EAP-IG as the paper writes it, with the hooks of TransformerLens alone: slow, short, the test of the fast one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WRITES = ("attn.hook_result", "hook_mlp_out")  # every head, then the MLP
READS = (
    "hook_q_input",
    "hook_k_input",
    "hook_v_input",
    "hook_mlp_in",
)  # copies of the stream, before the norm

_FLAGS = ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in")


@contextmanager
def per_head_hooks(model: TransformerBridge) -> Iterator[None]:
    """Let the hooks of single heads fire inside the block; give the flags back as they were, also after an error."""
    before = {flag: bool(getattr(model.cfg, flag, False)) for flag in _FLAGS}
    try:
        for flag in _FLAGS:
            getattr(model, f"set_{flag}")(True)
        yield
    finally:
        for flag, value in before.items():
            getattr(model, f"set_{flag}")(value)


def eap_ig_reference(
    model: TransformerBridge,
    clean: Int[Tensor, "pair pos"],
    corrupted: Int[Tensor, "pair pos"],
    metric: Callable[[Float[Tensor, "pair pos d_vocab"]], Float[Tensor, " pair"]],
    *,
    steps: int = 5,
) -> Float[Tensor, "source target"]:
    """Estimate what each edge of a model adds to the metric, summed over pairs and positions.

    ``score[u, v] = sum (clean[u] - corrupted[u]) . (mean over points of d metric / d input[v])``. A point has the input
    embeddings a part of the way from the corrupted to the clean ones; the midpoints of ``steps`` equal parts are taken.

    Returns:
        Scores in the metric's unit; positive supports the behavior. Sources are the input, then the heads and the MLP
        of each layer; targets are q, k and v of each head and the MLP of each layer, then the logits. Where a source
        is not before a target, the value means nothing.

    Source:
        Hanna, Pezzelle and Belinkov 2024, arXiv:2403.17806.
    """
    layers = range(model.cfg.n_layers)
    first, last = "blocks.0.hook_resid_pre", f"blocks.{layers[-1]}.hook_resid_post"
    sources = [first, *(f"blocks.{layer}.{name}" for layer in layers for name in WRITES)]
    targets = [*(f"blocks.{layer}.{name}" for layer in layers for name in READS), last]
    found: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor, hook: torch.nn.Module) -> Tensor:
        found[name] = (
            value.clone()
        )  # hook_mlp_in is the stream itself, whose gradient would come by the way past, too
        return found[name]

    def stacked(tensors: list[Tensor]) -> Float[Tensor, "pair pos part d_model"]:
        return torch.cat([x if x.dim() == 4 else x[:, :, None] for x in tensors], dim=2)

    def outputs(tokens: Tensor) -> Float[Tensor, "pair pos source d_model"]:
        with torch.no_grad():
            model.run_with_hooks(tokens, fwd_hooks=[(name, partial(keep, name)) for name in sources])
        return stacked([found[name] for name in sources])

    def gradients(alpha: float) -> Float[Tensor, "pair pos target d_model"]:
        between = [(first, lambda value, hook: (start + alpha * delta[:, :, 0]).requires_grad_())]
        logits = model.run_with_hooks(
            clean, fwd_hooks=[*between, *((name, partial(keep, name)) for name in targets)]
        )
        return stacked(list(torch.autograd.grad(metric(logits).sum(), [found[name] for name in targets])))

    with per_head_hooks(model):
        of_corrupted = outputs(corrupted)
        delta, start = outputs(clean) - of_corrupted, of_corrupted[:, :, 0]
        mean = sum(gradients((k + 0.5) / steps) for k in range(steps)) / steps
    return torch.einsum("bpsd,bptd->st", delta, mean)
