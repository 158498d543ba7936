"""Colored Objects under forced attention: heads of another task's circuit are made to look at the wrong colors.

Source: Merullo, Eickhoff and Pavlick 2023, arXiv:2310.08744, section 5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from workbench.circuits.addresses import parse_node
from workbench.edits.rows import Rows
from workbench.engine.paired_runs import PairedRuns, align_to
from workbench.model.hooks import hook_name
from workbench.model.pattern_rows import looked
from workbench.model.probe import record
from workbench.tasks.pairs import Pair, Span
from workbench.tasks.words import COLORS


def scene_runs(runs: PairedRuns) -> PairedRuns:
    """Return the same Colored Objects pairs, with every color and object of the last scene named.

    All other colors of the scene become incorrect answers, so that ``correct above every incorrect`` is the choice
    among the scene's colors.
    """
    pairs = runs.pairs.pairs
    named = replace(pairs, items=tuple(_named(pair) for pair in pairs))
    return PairedRuns(
        runs.model, align_to(runs.model, named), metric=runs.metric, batch_tokens=runs.batch_tokens
    )


def _named(pair: Pair) -> Pair:
    correct = pair.correct[0].strip()
    spans, wrong = {}, []
    for color, its_span, object_span in scene_of(pair.clean):
        if color == correct.lower():
            continue
        wrong.append(color.capitalize() if correct[0].isupper() else color)
        spans[f"wrong color {len(wrong)}"] = (its_span, its_span)
        spans[f"wrong object {len(wrong)}"] = (object_span, object_span)
    return replace(
        pair, incorrect=tuple(f" {color}" for color in wrong), positions={**pair.positions, **spans}
    )


def scene_of(text: str) -> list[tuple[str, Span, Span]]:
    """Color, where it stands, and where its object stands, for every object of the last question."""
    start = text.rfind("\n") + 1
    words = [(m.group(), m.span()) for m in re.finditer(r"[A-Za-z]+", text[start:])]
    return [
        (word, (a + start, b + start), (after[1][0] + start, after[1][1] + start))
        for (word, (a, b)), after in pairwise(words)
        if word in COLORS
    ]


def forced(heads: Sequence[str], columns: Sequence[str | int]) -> Rows:
    """At the last position these heads look at the columns alone, in equal parts."""
    return Rows(heads=tuple(heads), operation="set", queries=("end",), keys=tuple(columns))


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneAnswers:
    """What a model answers, one value per pair.

    Attributes:
        among: The correct color has the largest logit of the scene's colors.
        top: It has the largest of the whole vocabulary.
        attention: Head -> ``(pair, 2)`` attention from the last position to the correct and to all wrong colors, of
            what it gives to keys.
    """

    among: np.ndarray
    top: np.ndarray
    attention: dict[str, np.ndarray]

    def lost(self, then: SceneAnswers) -> np.ndarray:
        """Say of every pair that is answered rightly among the colors whether ``then`` it no longer is."""
        return then.among[self.among == 1] == 0


@torch.no_grad()
def answers(runs: PairedRuns, edit: Rows | None = None, *, watch: Sequence[str] = ()) -> SceneAnswers:
    """Right or wrong on the clean prompts, with an edit or as the model is.

    Args:
        runs: From ``scene_runs``, or any task: ``among`` is then correct above every incorrect answer.
        watch: Heads whose attention to the colors is recorded; for these ``color`` must be a position.
    """
    among, top = (np.zeros(runs.n_pairs) for _ in range(2))
    attention = {head: np.zeros((runs.n_pairs, 2)) for head in watch}
    for batch in runs.batches:
        patterns = sorted({hook_name("pattern", parse_node(head).depth) for head in watch})
        with nullcontext() if edit is None else edit.on(runs.model, at=batch.at):
            logits, seen = record(runs.model, batch.prompt("clean"), patterns)
        rows = torch.arange(len(batch))
        last = logits[rows, batch.answer_pos].double()
        best = last.gather(1, batch.answers.correct).masked_fill(~batch.answers.correct_mask, -torch.inf)
        other = last.gather(1, batch.answers.incorrect).masked_fill(~batch.answers.incorrect_mask, -torch.inf)
        among[batch.index] = (best.amax(1) > other.amax(1)).cpu().numpy()
        top[batch.index] = (best.amax(1) >= last.amax(1)).cpu().numpy()
        for head in watch:
            layer, index = parse_node(head).place
            row = looked(
                seen[hook_name("pattern", layer)][rows, index, batch.answer_pos]
            ).nan_to_num()  # (pair, key)
            attention[head][batch.index] = _to_colors(row, batch, rows)
    return SceneAnswers(among=among, top=top, attention=attention)


def _to_colors(row: Tensor, batch, rows: Tensor) -> np.ndarray:
    """``(pair, 2)``: to the correct color, to all wrong ones."""
    wrong = [name for name in batch.positions[0] if name.startswith("wrong color")]
    right = row[rows, batch.at("color")]
    others = sum((row[rows, batch.at(name)] for name in wrong), torch.zeros_like(right))
    return torch.stack([right, others], 1).double().cpu().numpy()


def color_runs(runs: PairedRuns) -> PairedRuns:
    """Scenes in which the correct color is another one in the corrupted prompt: which heads bring it to the answer?

    Unlike the corruption of the query it shows who writes colors also in a model that cannot tell which one is asked
    for: the incorrect answer is a color that only the corrupted prompt holds.
    """
    pairs = runs.pairs.pairs
    changed = replace(pairs, items=tuple(_recolored(pair, i) for i, pair in enumerate(pairs)))
    return PairedRuns(runs.model, align_to(runs.model, changed), batch_tokens=runs.batch_tokens)


def _recolored(pair: Pair, number: int) -> Pair:
    correct = pair.correct[0].strip()
    start, end = next(span for color, span, _ in scene_of(pair.clean) if color == correct.lower())
    present = set(re.findall(r"[a-z]+", pair.clean.lower()))
    free = [c for c in COLORS if c not in present and (c[0] in "aeiou") == (correct[0].lower() in "aeiou")]
    free = free or [c for c in COLORS if c not in present]
    new = free[number % len(free)]
    corrupted = pair.clean[:start] + new + pair.clean[end:]
    shift = len(new) - (end - start)
    spans = {
        name: ((low, high), (low + shift * (low > start), high + shift * (high > start)))
        for name, ((low, high), _) in pair.positions.items()
    }
    shown = new.capitalize() if correct[0].isupper() else new
    return replace(pair, corrupted=corrupted, incorrect=(f" {shown}",), positions=spans)
