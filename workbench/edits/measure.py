"""What an edit does: accuracy, loss and metric with and without it, prompt by prompt, on a task and beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.verdicts.statistics import CHANGE, mean_interval
from workbench.core.errors import ModelError, OptionError
from workbench.core.show import Told
from workbench.core.stats.dependent_pairs import Clusters, independent_of
from workbench.edits.edit import ModelEdit
from workbench.edits.place import At
from workbench.engine.paired_runs import PairedRuns
from workbench.model.hooks import forward
from workbench.model.outputs import require_words
from workbench.model.prompt import Prompt
from workbench.model.reading import require_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Outcomes = dict[str, np.ndarray]  # measure -> one value per prompt
MOVED = 1e-4  # below it is rounding: float32 logits of 10 to 40 are exact to about 1e-5
CHANGES = "differences below"  # what stands or falls with the model's behavior
UNITS = {"accuracy": "share", "loss": "nats"}
Silent = Callable[[int, int, str], None]
Made = Callable[[Prompt], ModelEdit]  # an edit that is made for the prompts of one pass


@contextmanager
def held(
    model: TransformerBridge, edit: ModelEdit | None, *, at: At | None = None, decode_from: int | None = None
) -> Iterator[None]:
    """The edit if there is one; the model as it is otherwise."""
    if edit is None:
        yield
        return
    with edit.on(model, at=at, decode_from=decode_from):
        yield


def _for(edit: ModelEdit | Made | None, prompt: Prompt) -> ModelEdit | None:
    return edit if edit is None or isinstance(edit, ModelEdit) else edit(prompt)


@torch.no_grad()
def on_task(runs: PairedRuns, edit: ModelEdit | Made | None = None, *, metric: bool = True) -> Outcomes:
    """Accuracy (the most likely token is a correct answer), loss (nats of the correct answers) and the task's metric.

    Args:
        edit: Or a function that makes it for the prompts of each pass.

    Raises:
        ModelError: if the model has no language-model head.
    """
    if not runs.wiring.has_lm_head:
        raise ModelError(
            "accuracy and loss are of next tokens; this model has no language-model head",
            hint="open a language model: zoo:ioi",
        )
    found: dict[str, list[np.ndarray]] = {}
    index = np.concatenate([batch.index for batch in runs.batches])
    for batch in runs.batches:
        start = int(batch.answer_pos.min())
        prompt = batch.prompt("clean")
        with held(runs.model, _for(edit, prompt), at=batch.at, decode_from=start):
            whole = forward(runs.model, prompt, last_only=runs.last_only(batch))
        rows = torch.arange(len(batch), device=whole.device)
        logits = whole[:, 0] if whole.shape[1] == 1 else whole[rows, batch.answer_pos]
        correct, mask = batch.answers.correct, batch.answers.correct_mask
        log_probs = logits.float().log_softmax(-1)
        theirs = log_probs.gather(1, correct).masked_fill(~mask, -torch.inf)
        right = ((logits.argmax(-1, keepdim=True) == correct) & mask).any(1)
        values = {"accuracy": right.float(), "loss": -theirs.logsumexp(1)}
        if metric:
            read = whole if runs.metric.reads == "all" else logits
            values[runs.metric.name] = runs.measure(batch, read)
        for name, value in values.items():
            found.setdefault(name, []).append(value.double().cpu().numpy())
    order = np.argsort(index)
    return {name: np.concatenate(parts)[order] for name, parts in found.items()}


def right_on_task(runs: PairedRuns, edit: ModelEdit | Made | None = None) -> Float[np.ndarray, " pair"]:
    """Return 1 for every pair whose most likely token is a correct answer under the edit, and 0 for every other."""
    return on_task(runs, edit, metric=False)["accuracy"]


@torch.no_grad()
def on_text(
    model: TransformerBridge,
    windows: Int[Tensor, "window pos"],
    edit: ModelEdit | Made | None = None,
    *,
    skip: int = 0,
    rows: int = 32,
) -> Outcomes:
    """Mean accuracy and loss of the next token, one value per window of text.

    Args:
        edit: Or a function that makes it for the windows of each pass.
        skip: Tokens at the beginning that are read and not asked for.
        rows: Windows in one pass.

    Raises:
        ModelError: if the model puts out no words.
        TaskError: for a token that the model has no embedding for, or windows beyond its context.
    """
    require_words(model, "the next token of a text")
    require_tokens(model, windows, "a window of the text")
    found: dict[str, list[Tensor]] = {"accuracy": [], "loss": []}
    for part in windows.split(rows):
        with held(model, _for(edit, Prompt.of(part)), decode_from=skip):
            logits = model(part)[:, skip:-1].float()
        wanted = part[:, skip + 1 :]
        found["accuracy"].append((logits.argmax(-1) == wanted).double().mean(1))
        nll = -logits.log_softmax(-1).gather(2, wanted[..., None]).squeeze(2)
        found["loss"].append(nll.double().mean(1))
    return {name: torch.cat(parts).cpu().numpy() for name, parts in found.items()}


@dataclass(frozen=True, kw_only=True)
class Measured(Told):
    """An edit's effect: one row per place and measure, each with a paired difference and its interval.

    Attributes:
        notes: What is to be said of the file that it was read from; not written to files.
        behaviors: What the model does without the edit, by task; ``Behavior.to_dict``.
    """

    edit: str
    model: str
    rows: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    behaviors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told = {"behaviors": {name: dict(one) for name, one in self.behaviors.items()}}
        return {"edit": self.edit, "model": self.model, **told, "rows": [dict(row) for row in self.rows]}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [
            *(f"{name}, without the edit: {one['sentence']}" for name, one in self.behaviors.items()),
            f"{self.edit} on {self.model}: differences are with minus without; intervals 95 % bootstrap over prompts "
            "(over groups of prompts where a row counts clusters), "
            f"exact where all differ by the same; changed: prompts that moved by more than {MOVED:g}",
            list(self.rows),
            *(f"note: {said}" for said in self.notes),
        ]


def compare(
    where: str,
    without: Outcomes,
    with_edit: Outcomes,
    *,
    units: Mapping[str, str] = UNITS,
    seed: int = 0,
    clusters: Clusters = (),
) -> list[dict[str, Any]]:
    """Return rows of means without and with, the mean paired difference, and its 95 % interval over prompts.

    Args:
        clusters: A name per prompt, equal for prompts that are not independent: these are drawn together.
    """
    rows = []
    for name, before in without.items():
        change = with_edit[name] - before
        within = CHANGE if name == "accuracy" else None
        low, high, _ = mean_interval(change, within=within, seed=seed, clusters=clusters)
        row = {"on": where, "measure": name, "unit": units.get(name, ""), "without": before.mean()}
        row |= {"with": with_edit[name].mean(), "difference": change.mean(), "low": low, "high": high}
        row["changed"] = int((np.abs(change) > MOVED).sum())
        row |= {"n": len(change), **independent_of(clusters)}
        rows.append({k: _plain(v) for k, v in row.items()})
    return rows


def _plain(value: Any) -> Any:
    """NumPy's numbers as plain ones; NaN (an interval of a single prompt) as none."""
    if not isinstance(value, float | np.floating):
        return value
    return None if np.isnan(value) else float(value)


def measure_edit(
    edit: ModelEdit,
    runs: PairedRuns,
    *,
    name: str = "task",
    beside: Mapping[str, PairedRuns] | None = None,
    text: Int[Tensor, "window pos"] | None = None,
    seed: int = 0,
    progress: Silent = lambda done, total, what: None,
) -> Measured:
    """Return the effect on a task, on unrelated tasks beside it (collateral damage), and on text.

    Raises:
        OptionError: if the runs beside are of another model.
    """

    places = {name: runs, **(beside or {})}
    if any(other.model is not runs.model for other in places.values()):
        raise OptionError(
            "an edit is measured on one model; the tasks beside it are run on another",
            hint="make all runs of one model: wb.paired_runs(model, task)",
        )
    rows: list[dict[str, Any]] = []
    total = len(places) + (text is not None)
    for i, (where, own) in enumerate(places.items()):
        units = {**UNITS, own.metric.name: own.metric.unit}
        how: dict[str, Any] = {"units": units, "seed": seed, "clusters": own.pairs.pairs.clusters}
        rows += compare(where, on_task(own), on_task(own, edit), **how)
        progress(i + 1, total, where)
    if text is not None:
        plain, edited = (on_text(runs.model, text, one) for one in (None, edit))
        rows += compare("text", plain, edited, seed=seed)
        progress(total, total, "text")
    told = {where: own.behavior.to_dict(CHANGES) for where, own in places.items()}
    return Measured(edit=edit.describe(), model=runs.identity.title, rows=tuple(rows), behaviors=told)


def windows_of(
    model: TransformerBridge, text: str, *, length: int, most: int = 64
) -> Int[Tensor, "window pos"]:
    """Return windows of ``length`` tokens of a text, BOS first where the model has one.

    Raises:
        OptionError: if the text is shorter than one window.
        TaskError: for a token that the model has no embedding for, or windows beyond its context.
    """
    chunks: Sequence[int] = model.to_tokens(text, truncate=False)[0].tolist()
    bos = getattr(model.tokenizer, "bos_token_id", None)
    head = [bos] if bos is not None and chunks and chunks[0] == bos else []
    body, size = chunks[len(head) :], length - len(head)
    count = min(most, len(body) // size)
    if count < 2:
        raise OptionError(
            f"the text has {len(body)} tokens; at least two windows of {size} are needed",
            hint="a shorter --window",
        )
    rows = [head + list(body[i * size : (i + 1) * size]) for i in range(count)]
    windows = torch.tensor(rows, device=next(iter(model.parameters())).device)
    require_tokens(model, windows, "the text")
    return windows
