"""Sinks beyond the first token: which heads have them, and what calibrating them does to right answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.circuits.addresses import parse_node
from workbench.core.errors import OptionError
from workbench.edits.act import Calibration, calibrate, find_sinks, later_sinks, other_columns
from workbench.edits.edit import ModelEdit
from workbench.edits.measure import on_task, on_text
from workbench.engine.paired_runs import PairedRuns
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt
from workbench.model.reading import require_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Advance = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Quiz:
    """Prompts with answers: pairs of a task, or windows of text of which the second half is asked for."""

    name: str
    runs: PairedRuns | None = None
    model: TransformerBridge | None = None
    windows: torch.Tensor | None = None

    @property
    def bridge(self) -> TransformerBridge:
        """The model that is asked."""
        return self.runs.model if self.runs is not None else self._text[0]

    @property
    def _text(self) -> tuple[TransformerBridge, torch.Tensor]:
        if self.model is None or self.windows is None:
            raise OptionError("a quiz is of runs, or of a model and windows of text")
        return self.model, self.windows

    def accuracy(self, edit: ModelEdit | None = None) -> np.ndarray:
        """Return one value per prompt or window."""
        if self.runs is not None:
            return on_task(self.runs, edit, metric=False)["accuracy"]
        model, windows = self._text
        return on_text(model, windows, edit, skip=windows.shape[1] // 2)["accuracy"]

    def ids(self) -> list[Prompt]:
        """Prompts, of one length each."""
        return (
            [Prompt(self._text[1])]
            if self.runs is None
            else [batch.prompt("clean") for batch in self.runs.batches]
        )


def heads_of(model: TransformerBridge) -> tuple[str, ...]:
    """Return every head."""
    wired = wiring(model)
    return tuple(f"a{layer}.h{h}" for layer in wired.attention_layers for h in range(wired.n_heads))


def sink_shares(quiz: Quiz, *, alpha: float) -> tuple[dict[str, float], float]:
    """Return, per head, the share of prompts with a sink beyond the first token; and the same if attention were
    even.
    """
    wired = wiring(quiz.bridge)
    counts, even, total = np.zeros((wired.n_layers, wired.n_heads)), 0.0, 0
    for ids in quiz.ids():
        n = ids.shape[1]
        flat = torch.ones(n, n).tril()
        even += len(ids) * float(find_sinks(flat / flat.sum(-1, keepdim=True), alpha=alpha)[1:].any())
        for part in ids.split(32):
            names = [hook_name("pattern", layer) for layer in wired.attention_layers]
            for layer, name in zip(wired.attention_layers, names, strict=True):
                pattern = record(quiz.bridge, part, [name])[1][name]
                counts[layer] += find_sinks(pattern, alpha=alpha)[..., 1:].any(-1).sum(0).cpu().numpy()
        total += len(ids)
    shares = {h: counts[parse_node(h).layer, parse_node(h).index] / total for h in heads_of(quiz.bridge)}
    return {head: float(share) for head, share in shares.items()}, even / total


def attention_moved(quiz: Quiz, edit: Calibration) -> float:
    """Return the share of a row's attention that the edit moves: mean over its heads, prompts and queries.

    Computed on the patterns of the model without the edit; columns that are drawn are drawn once more.
    """
    by_layer: dict[int, list[int]] = {}
    for head in edit.heads:
        layer, index = parse_node(head).place
        by_layer.setdefault(layer, []).append(index)
    total, rows = 0.0, 0
    for ids in quiz.ids():
        for part in ids.split(32):
            for layer, heads in by_layer.items():
                name = hook_name("pattern", layer)
                pattern = record(quiz.bridge, part, [name])[1][name][:, heads]
                sinks = find_sinks(pattern, alpha=edit.alpha)
                columns = later_sinks(sinks, keep=edit.keep)
                if edit.columns == "others":
                    columns = other_columns(sinks, columns, seed=edit.seed * 1009 + layer)
                after = calibrate(pattern, columns, beta=edit.beta)
                total += float((after - pattern).abs().sum()) / 2
                rows += pattern[..., 0].numel()
    return total / rows


def windows_of(
    model: TransformerBridge, files: Sequence[str], *, n: int, size: int, rng: np.random.Generator
) -> torch.Tensor:
    """Return ``n`` windows of ``size`` tokens (one the beginning), spread over the files that are long enough.

    Raises:
        OptionError: if there are fewer than two.
        TaskError: for a token that the model has no embedding for, or windows beyond its context.
    """
    rows: list[list[int]] = []
    long = [
        ids for ids in (model.to_tokens(f, truncate=False)[0].tolist()[1:] for f in files) if len(ids) >= size
    ]
    for ids in long:
        starts = rng.integers(0, len(ids) - size + 1, -(-n // len(long)))
        rows += [[model.tokenizer.bos_token_id, *ids[s : s + size - 1]] for s in starts]
    if len(rows[:n]) < 2:
        raise OptionError(f"{len(rows[:n])} windows of {len(files)} files; at least 2 are needed")
    windows = torch.tensor(rows[:n], device=next(iter(model.parameters())).device)
    require_tokens(model, windows, "a window of the text")
    return windows


def solo(
    quiz: Quiz, heads: Sequence[str], *, alpha: float, beta: float, advance: Advance
) -> dict[str, np.ndarray]:
    """Change of accuracy when one head alone is calibrated, one value per prompt."""
    plain, found = quiz.accuracy(), {}
    for head in heads:
        found[head] = quiz.accuracy(Calibration(heads=(head,), alpha=alpha, beta=beta)) - plain
        advance(f"{quiz.name}: {head}")
    return found


def improving(changes: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Return heads whose calibration raises mean accuracy: the paper's rule of selection."""
    return tuple(head for head, change in changes.items() if change.mean() > 0)
