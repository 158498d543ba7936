"""What the loss costs when a head is replaced by its mean: the causal column of a portrait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.circuits.addresses import parse_node
from workbench.core.errors import ModelError
from workbench.core.progress import Progress
from workbench.engine.answers import Answers
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.words import Ablation
from workbench.engine.metrics import Metric
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep
from workbench.heads.every_head import Measurement
from workbench.heads.grounds import Ground
from workbench.heads.readouts import mean_and_error
from workbench.model.outputs import why_no_words
from workbench.model.probe import wiring
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.pairs import Pair, Pairs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

LOGIT_FLOATS = 5 * 10**7  # 0.2 GB of logits at a time


def loss_metric(rows: slice | None = None) -> Metric:
    """Return the mean next-token loss in nats; ``rows`` are the queries whose next token counts.

    The tokens of a sequence are its ``correct`` answers, one column per position.
    """
    counted = slice(None) if rows is None else rows

    def loss(logits: Tensor, answers: Answers, clean: Tensor | None = None) -> Tensor:
        ids = answers.correct[:, : logits.shape[1]]
        each = cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")  # (pair, query)
        return each[:, counted].mean(1)

    return Metric(name="next-token-loss", unit="nats", direction=-1, reads="all", fn=loss)


def runs_of(model: TransformerBridge, ground: Ground, *, batch_tokens: int | None = None) -> PairedRuns:
    """Return a ground as runs of the sweep engine: both prompts of a pair are the sequence.

    Raises:
        ModelError: if the model predicts no next token.
    """
    wires = wiring(model)
    if why := why_no_words(model):
        raise ModelError(
            f"{why}, so there is no loss" if not wires.has_lm_head else why,
            hint="workbench heads --no-loss leaves it out",
        )
    if not wires.causal:
        raise ModelError(
            "the model is not causal: it does not predict the next token, so there is no such loss",
            hint="workbench heads --no-loss leaves it out",
        )
    ids = tuple(s.cpu().numpy() for s in ground.sequences)
    items = tuple(Pair(id=f"{ground.name}-{i}", clean=ground.about, corrupted=ground.about, correct=(" ",))
                  for i in range(len(ids)))  # fmt: skip
    aligned = AlignedPairs(
        pairs=Pairs(items=items, task=f"heads on {ground.name}"),
        clean=ids,
        corrupted=ids,
        correct=tuple(tuple(s.tolist()) for s in ids),
        incorrect=((),) * len(ids),
        positions=tuple({"end": len(s) - 1} for s in ids),
        dropped=(),
        prepend_bos=bool(ground.prefix),
    )
    rows = ground.rows and slice(ground.rows.start, ground.rows.stop - 1)  # the last query has no next token
    most = batch_tokens or max(512, LOGIT_FLOATS // int(model.cfg.d_vocab))
    return PairedRuns(model, aligned, metric=loss_metric(rows), batch_tokens=most)


def loss_change(
    model: TransformerBridge,
    ground: Ground,
    *,
    ablation: Ablation = "mean",
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> Measurement:
    """Rise of the next-token loss when a head's output is its mean over sequences and positions; positive: it helps.

    On repeated random tokens the loss is that of the second copy; on a text of all tokens.
    """
    wires = wiring(model)
    values = np.full((len(ground.sequences), wires.n_layers, wires.n_heads), np.nan)
    missing: dict[str, tuple[int, ...]] = {}
    try:
        runs = runs_of(model, ground, batch_tokens=batch_tokens)
        chosen = ablations(parts_of(wires, "heads"), ablation)
        with torch.no_grad():
            found = sweep(runs, chosen, kind=f"{ablation} ablation", progress=progress)
        for label, change in zip(found.labels, found.per_pair, strict=True):
            node = parse_node(label)
            values[:, node.layer, node.index] = change
    except ModelError as problem:
        missing = {problem.message: ()}
    mean, error = mean_and_error(values)
    return Measurement(
        name="loss",
        on=ground.name,
        evidence="causal",
        values=mean,
        stderr=error,
        null=np.where(np.isfinite(mean), 0.0, np.nan),
        low=None,
        high=None,
        unit="nats per token",
        about=f"rise of the next-token loss under {ablation} ablation of the head at all positions"
        + (", second copy" if ground.period else ""),
        null_about="a head that writes the same everywhere, or nothing",
        source="",
        n=len(ground.sequences),
        missing=missing,
    )
