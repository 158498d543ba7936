"""What a model says that a drawn picture shows, and what of it is not there: the truth is exact."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.heads.asked_pictures import Under
from workbench.model.hooks import forward
from workbench.model.prompt import Prompt
from workbench.tasks.scenes.truth import Scene

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

STOP, COMMA = ".", ","


@dataclass(frozen=True, kw_only=True, eq=False)
class Hallucination:
    """What descriptions say, one value per picture.

    Attributes:
        invented: Share of the things it names (a colour and a shape) that are not there; 0 where it names none.
        any_invented: 1 where it names one that is not there.
        recall: Share of the things there that it names.
        named: How many it names.
    """

    invented: Float[np.ndarray, " picture"]
    any_invented: Float[np.ndarray, " picture"]
    recall: Float[np.ndarray, " picture"]
    named: Float[np.ndarray, " picture"]

    @property
    def chair(self) -> float:
        """CHAIR_i: things named that are not there, of all that are named in all pictures."""
        return float((self.invented * self.named).sum() / max(1.0, self.named.sum()))

    def row(self) -> dict[str, float]:
        """Return means over the pictures, as a row of a table."""
        return {
            "CHAIR_i": self.chair,
            "CHAIR_s": float(self.any_invented.mean()),
            "recall": float(self.recall.mean()),
            "things named": float(self.named.mean()),
        }


def hallucination(said: Sequence[str], scenes: Sequence[Scene]) -> Hallucination:
    """Count what descriptions name that is there and that is not; a thing is named by colour and shape, once.

    Example:
        >>> from workbench.tasks.scenes import draw
        >>> found = hallucination(["large yellow square , small red star ."], [draw(7, 12)])
        >>> found.invented.tolist(), found.recall.tolist(), found.chair
        ([0.5], [1.0], 0.5)
    """
    named = [things_said(text) for text in said]
    there = [{(thing.colour, thing.shape) for thing in scene.things} for scene in scenes]
    pairs = list(zip(named, there, strict=True))
    wrong = np.array([len(say - real) for say, real in pairs], dtype=float)
    count = np.array([len(say) for say in named], dtype=float)
    return Hallucination(
        invented=wrong / np.maximum(count, 1),
        any_invented=(wrong > 0).astype(float),
        recall=np.array([len(say & real) / max(1, len(real)) for say, real in pairs]),
        named=count,
    )


def things_said(text: str) -> set[tuple[str, ...]]:
    """Return the last two words of every part up to the full stop: a colour and a shape, where it was said well.

    Example:
        >>> sorted(things_said("large red disc , small blue star . and more"))
        [('blue', 'star'), ('red', 'disc')]
    """
    parts = text.partition(STOP)[0].split(COMMA)
    return {tuple(part.split()[-2:]) for part in parts if part.split()}


@torch.no_grad()
def descriptions(
    model: TransformerBridge,
    prompt: Prompt,
    *,
    steps: int = 16,
    rows: int = 128,
    under: Under | None = None,
) -> list[str]:
    """Write on behind every prompt, the most likely word each time, up to the full stop.

    Args:
        prompt: Pictures with an instruction behind them.
        steps: Words at most.
        rows: Prompts of one pass.
        under: What a pass is in: an edit for these rows.

    Returns:
        The words of each; without a full stop, where the last step came before it.
    """
    found: list[str] = []
    stop = model.tokenizer(STOP, add_special_tokens=False)["input_ids"][0]
    for start in range(0, len(prompt), rows):
        at = slice(start, start + rows)
        with nullcontext() if under is None else under(at):
            ids = _written(model, prompt[at], steps, stop)
        found += [model.tokenizer.decode(row) for row in ids]
    return found


def _written(model: TransformerBridge, prompt: Prompt, steps: int, stop: int) -> Tensor:
    text = prompt
    for _ in range(steps):
        chosen = forward(model, text, last_only=True)[:, -1].argmax(-1)
        text = Prompt(torch.cat([text.ids, chosen[:, None]], 1), prompt.extras)
        new = text.ids[:, prompt.shape[1] :]
        if bool((new == stop).any(1).all()):
            break
    return text.ids[:, prompt.shape[1] :]
