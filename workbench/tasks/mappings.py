"""Mapping tasks for few-shot prompts: ``c -> cat ; k -> koala ; x ->``. The same inputs occur in many tasks.

There are seven kinds of words, 26 of each, paired by their place: ``c``, ``C``, ``3``, ``cat``, ``Carol``, ``Cairo``,
``cake``. A task goes from one kind to another (or the same), or picks the word of one kind out of three. A single input
says nothing about which task is meant; the examples before it do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from workbench.core.errors import OptionError, TaskError, unknown

ARROW, END = "->", ";"
KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        kind: tuple(words.split())
        for kind, words in {
            "letter": "a b c d e f g h i j k l m n o p q r s t u v w x y z",
            "capital": "A B C D E F G H I J K L M N O P Q R S T U V W X Y Z",
            "number": " ".join(str(n) for n in range(1, 27)),
            "animal": "ant bear cat dog eel fox goat hen ibis jay koala lion mouse newt owl pig quail rat seal tiger "
            "urchin viper wolf xerus yak zebra",
            "person": "Alice Bob Carol David Emma Frank Grace Henry Iris Jack Kate Liam Mary Nina Oscar Paul Quinn "
            "Rose Sam Tom Uma Victor Wendy Xavier Yara Zoe",
            "city": "Athens Berlin Cairo Delhi Essen Florence Geneva Havana Istanbul Jakarta Kyoto London Madrid "
            "Naples Oslo Paris Quito Rome Seoul Tokyo Utrecht Vienna Warsaw Xian York Zurich",
            "food": "apple bread cake dates egg fig grape honey ice jam kale leek melon nuts olive pear quince rice "
            "soup tea udon vanilla wine xacuti yam ziti",
        }.items()
    }
)
WORDS = tuple(sorted({ARROW, END, *(word for words in KINDS.values() for word in words)}))
SIZE = 26  # words of each kind
PICKED = ("letter", "number", "animal")  # the kinds of which three-word inputs have one each
_HELD_OUT = 13  # one pair in so many is never trained


@dataclass(frozen=True, kw_only=True)
class MappingTask:
    """A rule from inputs to answers.

    Attributes:
        inputs: The kind of its inputs, or ``three``: one word of each of three kinds in any order.
        gives: The kind of its answers; tasks that give one kind are a family.
    """

    name: str
    inputs: str
    gives: str

    def answer(self, given: str) -> str:
        """Return the answer to one input.

        Raises:
            TaskError: if the input is none of this task's.
        """
        try:
            if self.inputs == "three":
                return next(word for word in given.split() if word in KINDS[self.gives])
            return KINDS[self.gives][KINDS[self.inputs].index(given)]
        except (ValueError, StopIteration):
            raise TaskError(
                f"{given!r} is no input of {self.name}",
                hint=f"inputs are {self.inputs}: {', '.join(KINDS.get(self.inputs, ('three words',))[:4])}",
            ) from None

    def turned(self, kind: str, given: str) -> str:
        """Return the answer to one input of this task if words of another kind were to be given.

        Raises:
            TaskError: if the input has none: three words, none of that kind.
        """
        if self.inputs == "three":
            return MappingTask(name=f"pick-{kind}", inputs="three", gives=kind).answer(given)
        return MappingTask(name=f"{self.inputs}-to-{kind}", inputs=self.inputs, gives=kind).answer(given)

    def similar(self, other: MappingTask) -> bool:
        """Say whether both give words of one kind, or both pick."""
        if "three" in (self.inputs, other.inputs):
            return self.inputs == other.inputs
        return self.gives == other.gives

    def held_out(self, given: str) -> bool:
        """Say whether the pair of this input and its answer is kept from training; a twelfth or so of each task is."""
        if self.inputs == "three":
            return False
        i, k = KINDS[self.inputs].index(given), list(KINDS)
        return (i + 3 * k.index(self.inputs) + 5 * k.index(self.gives)) % _HELD_OUT == 0


MAPPINGS: Mapping[str, MappingTask] = MappingProxyType(
    {
        task.name: task
        for task in (
            *(MappingTask(name=f"{a}-to-{b}", inputs=a, gives=b) for a in KINDS for b in KINDS),
            *(MappingTask(name=f"pick-{kind}", inputs="three", gives=kind) for kind in PICKED),
        )
    }
)


@dataclass(frozen=True, kw_only=True)
class Shots:
    """One prompt: worked examples, a question, its answer."""

    task: str
    examples: tuple[tuple[str, str], ...]
    question: str
    answer: str

    @property
    def text(self) -> str:
        """The prompt, ending in the arrow after the question."""
        shown = "".join(f"{given} {ARROW} {answer} {END} " for given, answer in self.examples)
        return f"{shown}{self.question} {ARROW}"

    @property
    def zero_shot(self) -> str:
        """The same question without examples."""
        return f"{self.question} {ARROW}"


def find_mapping(name: str) -> MappingTask:
    """Return a mapping task by name.

    Raises:
        OptionError: if there is none, with the closest spellings.
    """
    if name not in MAPPINGS:
        raise unknown("mapping task", name, MAPPINGS, error=OptionError)
    return MAPPINGS[name]


def draw_shots(
    task: str,
    n: int,
    *,
    shots: int,
    seed: int,
    places: Sequence[int] = tuple(range(SIZE)),
    shown: Sequence[int] = tuple(range(SIZE)),
    wrong: float = 0.0,
) -> tuple[Shots, ...]:
    """Draw prompts; the inputs of one prompt all differ.

    Args:
        places: Of the words that may be asked; every place is asked in turn. Inputs of three words have two others
            of these places, at random.
        shown: Places of the words that examples may show, besides the one that is asked.
        wrong: Probability that an example is of another task with the same inputs.

    Raises:
        OptionError: if there are not enough words.
    """
    rule = find_mapping(task)
    if not places or any(len(set(shown) - {place}) < shots for place in places):
        raise OptionError(
            f"{shots} examples of {len(set(shown))} words, {len(places)} asked: not enough words",
            hint="shots=1, or more words in shown=",
        )
    rng = np.random.default_rng([seed, *task.encode()])
    return tuple(_draw(rule, rng, i, shots, places, shown, wrong) for i in range(n))


def _draw(
    rule: MappingTask,
    rng: np.random.Generator,
    index: int,
    shots: int,
    places: Sequence[int],
    shown: Sequence[int],
    wrong: float,
) -> Shots:
    place = places[index % len(places)]
    others = [other for other in shown if other != place]
    if rule.inputs == "three":
        rows = np.stack([rng.permutation(others)[:shots] for _ in PICKED], axis=1).tolist()
        rows.append([place, *rng.choice(places, 2).tolist()])
        inputs = [" ".join(_three(row, rng.permutation(3).tolist())) for row in rows]
    else:
        inputs = [KINDS[rule.inputs][i] for i in [*rng.permutation(others)[:shots].tolist(), place]]
    asked = inputs.pop()
    tasks = [task for task in MAPPINGS.values() if task.inputs == rule.inputs and task is not rule]
    drawn = [tasks[rng.integers(len(tasks))] if rng.random() < wrong else rule for _ in range(shots)]
    examples = tuple((given, task.answer(given)) for given, task in zip(inputs, drawn, strict=True))
    return Shots(task=rule.name, examples=examples, question=asked, answer=rule.answer(asked))


def _three(row: Sequence[int], order: Sequence[int]) -> list[str]:
    """One word of each kind that can be picked, by their places, in an order of the kinds."""
    return [KINDS[PICKED[k]][row[k]] for k in order]
