"""Copy scores: does a head's value-output circuit turn a token into a vote for that same token?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.addresses import head, parse_node
from workbench.core.errors import ModelError
from workbench.engine.paired_runs import PairedRuns
from workbench.heads.every_head import Measurement
from workbench.heads.grounds import Ground
from workbench.model.hooks import component, hook_name, norm_before, output_matrix, projection
from workbench.model.outputs import why_no_words
from workbench.model.probe import record, wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TOP = 5  # the input is copied when it is among this many largest logits


def copied(
    read: Float[Tensor, "token d_model"],
    value: Float[Tensor, "d_model d_head"],
    bias: Float[Tensor, " d_head"],
    output: Float[Tensor, "d_head d_model"],
    unembed: Callable[[Tensor], Tensor],
    ids: Int[Tensor, " token"],
    *,
    sign: float = 1.0,
    top: int = TOP,
) -> Float[Tensor, " token"]:
    """Return 1 where a token is among the ``top`` largest logits of what the head would write on it alone, else 0.

    ``unembed(sign * (read W_V + b_V) W_O)``; ``sign=-1`` gives the negative copy score.

    Source:
        Wang et al. 2023, arXiv:2211.00593, section 3.1.
    """
    logits = unembed(sign * ((read @ value + bias) @ output))  # (token, d_vocab)
    own = logits.gather(1, ids[:, None])
    # Ties count against it: a head that writes nothing gives all tokens alike and copies none.
    return ((logits >= own).sum(1) <= top).to(read.dtype)


@torch.no_grad()
def copy_scores(
    runs: PairedRuns, heads: Sequence[str], positions: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Head -> ``copy`` and ``negative``: shares of tokens copied, by the head and by the head times -1.

    The tokens at these positions of the clean prompts are read after the first block, through the input norm of the
    head's own layer. The paper's code takes the second block's norm of weights whose norms are folded in, so that each
    head has its own layer's gain there, too: the two are the same.

    Raises:
        ModelError: for models of one layer, and where a norm follows what heads write (post-norm).
    """
    _require(runs.model)
    read, ids = _names(runs, positions)
    return copy_scores_of(runs.model, read, ids, heads)


@torch.no_grad()
def copy_scores_of(
    model: TransformerBridge,
    resid: Float[Tensor, "token d_model"],
    ids: Int[Tensor, " token"],
    heads: Sequence[str],
) -> dict[str, dict[str, Any]]:
    """Head -> ``copy`` and ``negative`` for these tokens, as the residual stream has them after the first block.

    Raises:
        ModelError: for models of one layer, without a language-model head, and where a norm follows what heads write.
    """
    _require(model)
    found, wires = {}, wiring(model)
    for address in heads:
        node = parse_node(address)
        layer, head = node.place
        read = norm_before(model, layer, "ln1")(resid[None])[0]
        group = head * wires.n_kv_heads // wires.n_heads
        value = projection(model, layer, "v")[group]
        bias = getattr(model.blocks[layer].attn, "b_V", None)
        bias = read.new_zeros(value.shape[-1]) if bias is None else bias.reshape(-1, value.shape[-1])[group]
        parts = (read, value, bias, output_matrix(model, layer)[head], _unembed(model), ids)
        found[address] = {
            "copy": float(copied(*parts).mean()),
            "negative": float(copied(*parts, sign=-1.0).mean()),
            "n": len(ids),
        }
    return found


def random_tokens(
    model: TransformerBridge, ground: Ground, *, most: int = 64
) -> tuple[Float[Tensor, "token d_model"], Int[Tensor, " token"]]:
    """Return up to ``most`` tokens of the sequences' first copies and the residual stream after the first block
    there.
    """
    _require(model)
    _, ids = next(ground.batches())
    _, seen = record(model, ids, [hook_name("resid", 1)])
    stop = ground.prefix + (ground.period or ids.shape[1] - ground.prefix)
    resid, tokens = seen[hook_name("resid", 1)][:, ground.prefix : stop], ids[:, ground.prefix : stop]
    step = max(1, tokens.numel() // most)  # spread over all sequences
    return resid.flatten(0, 1)[::step][:most], tokens.flatten()[::step][:most]


def copy_measurements(model: TransformerBridge, ground: Ground, *, most: int = 64) -> list[Measurement]:
    """Copy score and negative copy score of every head on random tokens; NaN with the reason where there is none."""
    wires = wiring(model)
    names = [str(head(n, h)) for n in wires.attention_layers for h in range(wires.n_heads)]
    scores, missing = {}, {}
    try:
        resid, ids = random_tokens(model, ground, most=most)
        scores = copy_scores_of(model, resid, ids, names)
    except (ModelError, RuntimeError, AttributeError) as problem:
        missing = {getattr(problem, "message", f"{type(problem).__name__}: {problem}"): ()}
    found = []
    for key, name, sign in (("copy", "copy-score", ""), ("negative", "negative-copy-score", ", times -1")):
        values = np.full((wires.n_layers, wires.n_heads), np.nan)
        for address, score in scores.items():
            values[parse_node(address).layer, parse_node(address).index] = score[key]
        known = np.isfinite(values)
        found.append(
            Measurement(
                name=name,
                on="weights",
                evidence="weight",
                values=values,
                stderr=np.sqrt(
                    values * (1 - values) / max(len(scores) and next(iter(scores.values()))["n"], 1)
                ),
                null=np.where(known, TOP / model.cfg.d_vocab, np.nan),
                low=0.0,
                high=1.0,
                unit="share of tokens",
                about=f"share of random tokens that are among the {TOP} largest logits of what the head writes on "
                f"them alone{sign}; read after the first block",
                null_about=f"{TOP} of all tokens",
                source="Wang et al. 2023, arXiv:2211.00593, section 3.1",
                n=next(iter(scores.values()))["n"] if scores else 0,
                missing=missing,
            )
        )
    return found


def _require(model: TransformerBridge) -> None:
    wires = wiring(model)
    if wires.n_layers < 2 or not wires.head_writes:
        raise ModelError(
            "copy scores need two layers or more, and heads that write to the residual stream "
            "themselves; this model lacks one of them",
            hint="open a model of two layers or more that adds what its heads write: zoo:ioi",
        )
    if why := why_no_words(model):
        raise ModelError(why, hint="open a language model: zoo:ioi")


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
