"""What a model could do but does not do unasked, as questions without examples: tasks to train edits for.

The model knows which words belong together; without examples it cannot know which kind is wanted. A task fixes the kind
for every kind of input; ``next-animal`` wants what the model was never taught.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.core.errors import OptionError, unknown
from workbench.edits.iti import Probes, probe_heads
from workbench.edits.questions import Questions, ask, head_outputs
from workbench.edits.task_prompts import Split
from workbench.tasks.mappings import ARROW, KINDS, SIZE

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Task -> kind of each input's answer, and how many places on.
RULES: Mapping[str, tuple[Mapping[str, str], int]] = {
    "animals": (dict.fromkeys(("letter", "capital", "number", "person", "city", "food"), "animal"), 0),
    "cities": (dict.fromkeys(("letter", "capital", "number", "person", "animal", "food"), "city"), 0),
    "mixed": (
        {"letter": "animal", "number": "city", "person": "food", "food": "person", "city": "letter"},
        0,
    ),
    "next-animal": (dict.fromkeys(("letter", "capital", "number", "person", "city", "food"), "animal"), 1),
}


@dataclass(frozen=True, kw_only=True)
class UnaskedPrompts:
    """Prompts, right answers and wrong ones (another kind's word for the same input).

    ``places`` are those of the words that are asked: prompts about one place have one answer in most tasks.
    """

    prompts: tuple[str, ...]
    places: tuple[int, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]

    def questions(self, model: TransformerBridge) -> Questions:
        """Return the prompts with the right answers."""
        return ask(model, self.prompts, self.right)

    def answered(self, model: TransformerBridge) -> np.ndarray:
        """Say which prompts the model answers rightly: 1 or 0 for each."""
        return self.questions(model).answered(model)


@dataclass(frozen=True, kw_only=True)
class UnaskedTask:
    """A task's prompts: words in training, validation and test never meet."""

    name: str
    training: UnaskedPrompts
    validation: UnaskedPrompts
    test: UnaskedPrompts


def make_task(name: str, seed: int, *, training: int = 12, validation: int = 5) -> UnaskedTask:
    """Return questions about ``training`` words of every kind, ``validation`` others, and the rest.

    Raises:
        OptionError: for an unknown task.
    """
    if name not in RULES:
        raise unknown("task", name, RULES, error=OptionError)
    split = Split.drawn(seed, training=training, validation=validation)
    rng, sets = np.random.default_rng([seed, *name.encode()]), ("training", "validation", "test")
    return UnaskedTask(name=name, **{part: _part(name, getattr(split, part), rng) for part in sets})


def _part(name: str, places: Sequence[int], rng: np.random.Generator) -> UnaskedPrompts:
    gives, on = RULES[name]
    prompts, asked, right, wrong = [], [], [], []
    for kind, wanted in gives.items():
        others = [k for k in KINDS if k not in (kind, wanted)]
        for place in places:
            prompts.append(f"{KINDS[kind][place]} {ARROW}")
            asked.append(place)
            right.append(KINDS[wanted][(place + on) % SIZE])
            wrong.append(KINDS[str(rng.choice(others))][place])
    return UnaskedPrompts(prompts=tuple(prompts), places=tuple(asked), right=tuple(right), wrong=tuple(wrong))


def probes_of(model: TransformerBridge, task: UnaskedTask) -> Probes:
    """Probe heads for right against wrong statements (a prompt with its answer), accuracy on the validation words."""
    rows, right, held_out = [], [], []
    for part, is_held_out in ((task.training, False), (task.validation, True)):
        for answers, is_right in ((part.right, True), (part.wrong, False)):
            said = ask(model, part.prompts, answers)
            rows += [(*row, answer) for row, answer in zip(said.rows, said.answers, strict=True)]
            right += [is_right] * len(answers)
            held_out += [is_held_out] * len(answers)
    return probe_heads(head_outputs(model, rows), torch.tensor(right), held_out=torch.tensor(held_out))
