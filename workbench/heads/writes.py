"""What an induction head writes: of the tokens of the text, does the one that really follows get the most?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.heads.every_head import Measurement
from workbench.heads.grounds import BATCH_TOKENS, Ground
from workbench.heads.readouts import mean_and_error
from workbench.heads.weights import unembedding
from workbench.model.hooks import hook_name, output_matrix
from workbench.model.probe import record, wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def favours_next(
    written: Float[Tensor, "row query d_model"],
    columns: Float[Tensor, "row d_model token"],
) -> Float[Tensor, " row"]:
    """Return the share of queries at which what a head writes gives the query's own token (query i: token i) the
    most.

    Args:
        written: What the head writes at each query that should be followed by token i of the text.
        columns: Unembedding of the text's tokens, the final norm folded in. Its division by the length of the
            residual stream is the same for all tokens and changes no order.
    """
    logits = written.to(columns) @ columns  # (row, query, token)
    own = logits.diagonal(dim1=-2, dim2=-1)[..., None]
    ahead = (logits > own).sum(-1)
    # the head that writes nothing gives all tokens alike: nothing is favoured
    return ((ahead == 0) & (logits.amin(-1) < own[..., 0])).double().mean(-1)


def _favours(
    model: TransformerBridge, ground: Ground, batch_tokens: int
) -> Iterator[tuple[list[int], Float[np.ndarray, "sequence layer head"]]]:
    """For each batch: which sequences, and how often each head favours the next token; NaN in layers without heads.

    Raises:
        ModelError: if what one head writes is not known, or the model does not predict the next token.
    """
    wires = wiring(model)
    if not wires.head_writes:
        what = "a norm or a factor follows the sum of the heads, so what one head writes is not known"
        raise ModelError(what, hint="measure what heads do: workbench ablate")
    if not wires.causal:
        raise ModelError(
            "the model is not causal: it does not predict the next token",
            hint="open a causal model: zoo:induction",
        )
    table, period = unembedding(model), int(ground.period or 0)
    first = ground.prefix + period
    queries = slice(first, first + period - 1)  # what follows the last token is not known
    for where, ids in ground.batches(batch_tokens):
        columns = table.T[ids[:, first + 1 : first + period]].transpose(-1, -2)
        found = np.full((len(ids), wires.n_layers, wires.n_heads), np.nan)
        with torch.no_grad():
            _, seen = record(model, ids, [hook_name("head-output", n) for n in wires.attention_layers])
            for layer in wires.attention_layers:
                z, output = seen[hook_name("head-output", layer)][:, queries], output_matrix(model, layer)
                for h in range(wires.n_heads):
                    found[:, layer, h] = favours_next(z[:, :, h] @ output[h], columns).cpu().numpy()
        yield where, found


def induction_copying(
    model: TransformerBridge, ground: Ground, *, batch_tokens: int = BATCH_TOKENS
) -> Measurement:
    """Say how often each head's own output raises the right next token above all others of the text, second copy.

    By the direct path to the logits: what later parts make of it is not counted.

    Source:
        Olsson et al. 2022, arXiv:2209.11895 (copying); the share of first places in place of summed logits, so that
        it is bounded and has a null.
    """
    wires = wiring(model)
    values = np.full((len(ground.sequences), wires.n_layers, wires.n_heads), np.nan)
    missing: dict[str, tuple[int, ...]] = {}
    try:
        for where, found in _favours(model, ground, batch_tokens):
            values[where] = found
    except (
        ModelError
    ) as problem:  # what one head writes is not known, or nothing is predicted: the reason is told
        values[:] = np.nan
        missing = {problem.message: ()}
    period = int(ground.period or 0)
    mean, error = mean_and_error(values)
    return Measurement(
        name="induction-copying",
        on="random",
        evidence="read-out",
        values=mean,
        stderr=error,
        null=np.where(np.isfinite(mean), 1 / max(period - 1, 1), np.nan),
        low=0.0,
        high=1.0,
        unit="share of queries",
        about="share of queries of the second copy at which, of the copy's tokens, the one that follows gets most from "
        "what the head writes by itself",
        null_about="one of the tokens by chance",
        source="Olsson et al. 2022, arXiv:2209.11895",
        n=len(ground.sequences),
        missing=missing,
    )
