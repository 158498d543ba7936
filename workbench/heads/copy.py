"""Copy scores: does a head's value-output circuit turn a token into a vote for that same token?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import ModelError
from workbench.model.hooks import component, hook_name, norm_before, output_matrix, projection
from workbench.names import parse_node
from workbench.sweep.runs import PairedRuns

TOP = 5  # the input is copied when it is among this many largest logits


def copied(
    read: Float[Tensor, "token d_model"],
    value: Float[Tensor, "d_model d_head"],
    bias: Float[Tensor, "d_head"],
    output: Float[Tensor, "d_head d_model"],
    unembed: Callable[[Tensor], Tensor],
    ids: Int[Tensor, "token"],
    *,
    sign: float = 1.0,
    top: int = TOP,
) -> Float[Tensor, "token"]:
    """1 where a token is among the ``top`` largest logits of what the head would write on it alone, else 0.

    ``unembed(sign * (read W_V + b_V) W_O)``; ``sign=-1`` gives the negative copy score.

    Source:
        Wang et al. 2023, arXiv:2211.00593, section 3.1.
    """
    logits = unembed(sign * ((read @ value + bias) @ output))  # (token, d_vocab)
    own = logits.gather(1, ids[:, None])
    return ((logits > own).sum(1) < top).to(read.dtype)


@torch.no_grad()
def copy_scores(
    runs: PairedRuns, heads: Sequence[str], positions: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Head -> ``copy`` and ``negative``: shares of tokens copied, by the head and by the head times -1.

    The tokens at these positions of the clean prompts are read after the first block, through the second block's
    input norm, as the paper's code does for heads of any layer.

    Raises:
        ModelError: for models of one layer, and where a norm follows what heads write (post-norm).
    """
    wiring, model = runs.wiring, runs.model
    if wiring.n_layers < 2 or not wiring.head_writes:
        raise ModelError(
            "copy scores need a second block and heads that write to the residual stream themselves"
        )
    read, ids = _names(runs, positions)
    read = norm_before(model, 1, "ln1")(read)
    found = {}
    for address in heads:
        node = parse_node(address)
        group = int(node.index or 0) * wiring.n_kv_heads // wiring.n_heads
        value = projection(model, node.layer, "v")[group]
        bias = getattr(model.blocks[node.layer].attn, "b_V", None)
        bias = read.new_zeros(value.shape[-1]) if bias is None else bias.reshape(-1, value.shape[-1])[group]
        parts = (read, value, bias, output_matrix(model, node.layer)[node.index], _unembed(model), ids)
        found[address] = {
            "copy": float(copied(*parts).mean()),
            "negative": float(copied(*parts, sign=-1.0).mean()),
            "n": len(ids),
        }
    return found


def _names(runs: PairedRuns, positions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What is read at these positions after the first block, and which tokens stand there."""
    read, ids, name = [], [], hook_name("resid", 1)
    for batch in runs.batches:
        resid = runs.activations(batch, "clean", [name])[name]
        rows = torch.arange(len(batch), device=resid.device)
        for position in positions:
            read.append(resid[rows, batch.at(position)])
            ids.append(batch.clean[rows, batch.at(position)])
        runs.release(batch)
    return torch.cat(read), torch.cat(ids)


def _unembed(model: Any) -> Callable[[Tensor], Tensor]:
    norm = component(model, "ln_final")

    def logits(written: Tensor) -> Tensor:
        shaped = written[None]  # (1, token, d_model): norms and heads expect a batch
        return model.unembed(shaped if norm is None else norm(shaped))[0]

    return logits
