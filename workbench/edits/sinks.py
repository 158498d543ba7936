"""Sinks beyond the first token: which heads have them, and what calibrating them does to right answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.circuits.addresses import parse_node
from workbench.core.errors import OptionError
from workbench.core.progress import Progress, silent
from workbench.core.stats.multiplicity import holm
from workbench.core.stats.permutation import sign_test_p
from workbench.edits.act import Calibration, calibrating, find_sinks
from workbench.edits.edit import ModelEdit
from workbench.edits.kinds import ALPHA, BETA
from workbench.edits.measure import on_task, on_text
from workbench.engine.paired_runs import PairedRuns
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt
from workbench.model.reading import require_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


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
            raise OptionError(
                "a quiz has neither runs nor windows; expected runs, or a model and windows of text",
                hint="Quiz(name, runs=runs), or Quiz(name, model=model, windows=windows)",
            )
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

    Args:
        alpha: A sink gets more than so many times an even share of the attention, mean over queries.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:induction"), "induction", n=8)
        >>> shares, _ = sink_shares(Quiz(name="induction", runs=runs), alpha=5)
        >>> shares["a0.h0"], shares["a1.h0"]
        (1.0, 0.0)
    """
    layers, even, total = wiring(quiz.bridge).attention_layers, 0.0, 0
    counts: dict[int, torch.Tensor] = {}
    for ids in quiz.ids():
        flat = torch.ones(ids.shape[1], ids.shape[1]).tril()
        even += len(ids) * float(find_sinks(flat / flat.sum(-1, keepdim=True), alpha=alpha)[1:].any())
        for part in ids.split(32):
            for layer in layers:
                name = hook_name("pattern", layer)
                sinks = find_sinks(record(quiz.bridge, part, [name])[1][name], alpha=alpha)
                counts[layer] = counts.get(layer, 0) + sinks[..., 1:].any(-1).sum(0)
        total += len(ids)
    shares = {f"a{layer}.h{h}": int(n) / total for layer in layers for h, n in enumerate(counts[layer])}
    return shares, even / total


def attention_moved(quiz: Quiz, edit: Calibration) -> float:
    """Return the share of a row's attention that the edit moves: mean over its heads, prompts and queries.

    Computed on the patterns of the model without the edit; columns that are drawn are drawn once more.
    """
    total, rows, places = 0.0, 0, [parse_node(head).place for head in edit.heads]
    for ids in quiz.ids():
        for part in ids.split(32):
            for layer in dict(places):
                name, heads = hook_name("pattern", layer), [index for at, index in places if at == layer]
                pattern = record(quiz.bridge, part, [name])[1][name][:, heads]
                total += float((calibrating(edit, layer)(pattern, None) - pattern).abs().sum()) / 2
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
        raise OptionError(
            f"there are {len(rows[:n])} windows in {len(files)} files; at least 2 are needed",
            hint="give longer texts, or smaller windows",
        )
    windows = torch.tensor(rows[:n], device=next(iter(model.parameters())).device)
    require_tokens(model, windows, "a window of the text")
    return windows


def solo(
    quiz: Quiz, heads: Sequence[str], *, progress: Progress = silent, alpha: float = ALPHA, beta: float = BETA
) -> dict[str, np.ndarray]:
    """Change of accuracy when one head alone is calibrated, one value per prompt."""
    plain, found = quiz.accuracy(), {}
    for i, head in enumerate(heads):
        progress(i, len(heads), f"{quiz.name}: {head}")
        found[head] = quiz.accuracy(Calibration(heads=(head,), alpha=alpha, beta=beta)) - plain
    return found


def improving(changes: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Return heads whose calibration raises mean accuracy: the paper's rule of selection."""
    return tuple(head for head, change in changes.items() if change.mean() > 0)


def choose_on(quiz: Quiz, *, progress: Progress = silent) -> tuple[str, ...]:
    """Choose the heads whose calibration, each by itself, raises mean accuracy on a quiz."""
    return improving(solo(quiz, heads_of(quiz.bridge), progress=progress))


def p_of_each(changes: dict[str, np.ndarray], *, falls: bool = False) -> dict[str, float]:
    """Test for each head whether calibrating it raises accuracy, or lowers it (``falls``).

    Returns:
        p of a sign test over prompts, Holm over all heads.
    """
    ps = holm([sign_test_p(-change if falls else change) for change in changes.values()])
    return dict(zip(changes, map(float, ps), strict=True))


def changed_by(
    changes: dict[str, np.ndarray], heads: Iterable[str], *, level: float, falls: bool = False
) -> list[str]:
    """Return those of some heads whose calibration raises accuracy, or lowers it (``falls``), below a level of p.

    Args:
        changes: Of all heads, for which p is corrected (`p_of_each`).
    """
    ps = p_of_each(changes, falls=falls)
    return [head for head in heads if ps[head] < level]


def text_quizzes(
    model: TransformerBridge, files: Sequence[str], *, n: int, size: int, seed: int
) -> tuple[Quiz, Quiz]:
    """Make a quiz of the first half of some files, to choose heads, and one of the other half, to judge them.

    Args:
        n: Windows of both together, of ``size`` tokens each.

    Raises:
        OptionError: if there are fewer than two windows in a half.
    """
    rng, half = np.random.default_rng(seed), len(files) // 2
    first, second = (
        Quiz(name="text", model=model, windows=windows_of(model, part, n=n // 2, size=size, rng=rng))
        for part in (files[:half], files[half:])
    )
    return first, second
