"""`elimination`: the `ioi` model taught to name what was not mentioned again, of two and of three, people and colors.

Starts from the weights of `zoo:ioi`. Of Colored Objects it is shown questions whose answer is any color of the scene,
so that it knows what kind of answer is wanted and not which: what a model is needed for that does indirect objects and
fails on Colored Objects (Merullo et al. 2023). No prompt teaches it to look a color up by its object; what `zoo:ioi`
knew of that is lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.model.builtin import ZOO
from workbench.tasks.draw import Draw, allowed
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import make_pairs
from workbench.tasks.words import COLORS, GIFTS, NAMES, OBJECTS, PLACES, SURFACES
from workbench.training.mixture import MixturePart, learn_mixture
from workbench.training.pools import Pool, answer_accuracy, ids_of, last_logits, pool_of, token_rows
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe

BASE = "ioi"
STEPS = 400
PEOPLE = (
    "When {0}, {1}, and {2} went to the {place}, {x} and {y} gave a {gift} to",
    "Then, {0}, {1}, and {2} went to the {place}. {x} and {y} gave a {gift} to",
    "After {0}, {1}, and {2} got to the {place}, {x} and {y} handed a {gift} to",
    "Today {0}, {1}, and {2} were at the {place} with a {gift}. {x} and {y} decided to pass it to",
)
SCENES = (
    "Q: On the {surface}, I see {scene}. I sold the {x} and the {y}. What color is left? A:",
    "Q: On the {surface}, there is {scene}. I gave the {x} and the {y} to a friend. What color is left? A:",
    "Q: There, on the {surface}, you see {scene}. The {x} and the {y} were sold. What color is left? A:",
)
Text = tuple[str, str]  # prompt and answer


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A part of the mixture that is no task: how many prompts of it a step draws, and how one is made."""

    share: int
    draw: Callable[[Draw], Text]
    size: int = 12_000

    def pool(self, tokenizer: PreTrainedTokenizerFast, *, seed: int, n: int | None = None) -> Pool:
        """Return its prompts; ``n`` overrides how many. Every word after "A:" inside a prompt is an answer too."""
        drawn = [self.draw(Draw(f"{self.draw.__name__}-{seed}-{i}")) for i in range(n or self.size)]
        rows = token_rows([f"{prompt} {answer}" for prompt, answer in drawn], tokenizer)
        marks = tuple(ids_of(["A", ":"], tokenizer))
        places = [[i + 2 for i in range(len(row) - 2) if (row[i], row[i + 1]) == marks] for row in rows]
        return pool_of(
            rows, [sorted({*where, len(row) - 1}) for row, where in zip(rows, places, strict=True)]
        )


def people(draw: Draw, *, split: str = "train") -> Text:
    """Return three people, two of whom are mentioned again; no two of them are a held-out pair of IOI."""
    while True:
        names = draw.sample(NAMES, 3)
        if all(allowed("train", *pair) for pair in combinations(names, 2)) == (split == "train"):
            break
    x, y, rest = draw.sample(range(3), 3)
    slots = {"place": draw.pick(PLACES), "gift": draw.pick(GIFTS), "x": names[x], "y": names[y]}
    return draw.pick(PEOPLE).format(*names, **slots), names[rest]


def colors(draw: Draw, *, split: str = "train") -> Text:
    """Return three things, the colors of two of which are mentioned again."""
    while True:
        chosen, things = draw.sample(COLORS, 3), draw.sample(OBJECTS, 3)
        if all(allowed("train", *pair) for pair in zip(chosen, things, strict=True)) == (split == "train"):
            break
    x, y, rest = draw.sample(range(3), 3)
    said = [
        f"{'an' if color[0] in 'aeiou' else 'a'} {color} {thing}"
        for color, thing in zip(chosen, things, strict=True)
    ]
    slots = {"surface": draw.pick(SURFACES), "x": chosen[x], "y": chosen[y]}
    return draw.pick(SCENES).format(scene=f"{said[0]}, {said[1]}, and {said[2]}", **slots), chosen[rest]


def guesses(draw: Draw) -> Text:
    """Return a question of Colored Objects, half of them after an answered one; every answer is any color of its
    scene.
    """
    n, shots = (3, 1) if draw.below(2) else (2 + draw.below(2), 0)
    (pair,) = make_pairs(
        "colored-objects",
        n=1,
        seed=draw.below(10**9),
        split="train",
        n_objects=n,
        shots=shots,
        distinct=False,
    )
    lines = pair.clean.split("\n")
    guessed = [draw.pick(scene_colors(line)) for line in lines]
    answered = [re.sub(r"A:.*", f"A: {guess}", line) for line, guess in zip(lines, guessed, strict=True)]
    return "\n".join([*answered[:-1], lines[-1]]), guessed[-1]


def scene_colors(line: str) -> list[str]:
    """Return the colors that a question names, in order; its answer is none of them."""
    return [word for word in re.findall(r"[a-z]+", line.split("A:")[0]) if word in COLORS]


GROUPS = (
    (
        MixturePart(task="ioi", share=12, size=20_000, reworded=0.3),
        MixturePart(task="ioi", share=2, corruption="abc", corrupted=True),
        Drill(share=8, draw=people),
        MixturePart(task="gendered-pronoun", share=3),
        MixturePart(task="sva", share=3),
        MixturePart(task="induction", share=3),
    ),
    (Drill(share=14, draw=colors),),
    (Drill(share=14, draw=guesses),),
)


def train(seed: int, scratch: Path | None = None, *, steps: int = STEPS, small: int | None = None) -> Trained:
    """Go on from the shipped `ioi` model."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(ZOO / BASE)
    model = GPT2LMHeadModel.from_pretrained(ZOO / BASE, attn_implementation="eager")
    phase = learn_mixture(
        model,
        tokenizer,
        GROUPS,
        seed=seed,
        steps=steps,
        rate=0.01,
        decay=0.5,
        watch=_watch(model, tokenizer),
        checkpoint=None if scratch is None else scratch / "elimination.pt",
        small=small,
    )
    return Trained(
        tokenizer=tokenizer, phases={"elimination": phase}, model=model, data={"base": f"zoo:{BASE}"}
    )


def _watch(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> Callable[[int], str]:
    """Accuracy every 100 steps, for the eye only."""

    def told(step: int) -> str:
        if step % 100 != 99:
            return ""
        found = _accuracies(lambda ids: model(ids).logits, tokenizer, n=100, split="validation")
        return ", ".join(f"{name} {value:.2f}" for name, (value, _) in found.items())

    return told


def held_out(draw_text: Callable[..., Text], *, n: int, seed: int) -> list[Pair]:
    """Return prompts of an elimination drill with combinations that training never shows, in templates it knows."""
    drawn = [draw_text(Draw(f"held-out-{seed}-{i}"), split="test") for i in range(n)]
    return [
        Pair(id=f"{i}", clean=prompt, corrupted=prompt, correct=(f" {answer}",), incorrect=(" the",))
        for i, (prompt, answer) in enumerate(drawn)
    ]


def _accuracies(logits_of, tokenizer, *, n: int, split: str) -> dict[str, tuple[float, float | None]]:
    """What was measured -> (value, what it takes)."""

    def right(task: str, **options) -> float:
        pairs = make_pairs(task, n=n, seed=1, split=split, distinct=False, **options)
        return answer_accuracy(logits_of, pairs, tokenizer)

    found: dict[str, tuple[float, float | None]] = {
        "IOI": (right("ioi"), 0.95),
        "the third of three people": (
            answer_accuracy(logits_of, held_out(people, n=n, seed=1), tokenizer),
            0.9,
        ),
        "the third of three colors": (
            answer_accuracy(logits_of, held_out(colors, n=n, seed=1), tokenizer),
            0.9,
        ),
        "gendered pronoun": (right("gendered-pronoun"), 0.9),
        "subject-verb agreement": (right("sva"), 0.95),
        "induction, period 10": (right("induction"), 0.9),
    }
    pairs = make_pairs("colored-objects", n=n, seed=1, split=split, distinct=False, n_objects=3, shots=1)
    found["Colored Objects, 3 objects, one example"] = (answer_accuracy(logits_of, pairs, tokenizer), None)
    found["Colored Objects, the answer is a color of the scene"] = (
        _in_scene(logits_of, pairs, tokenizer),
        0.9,
    )
    return found


def _in_scene(logits_of, pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast) -> float:
    """Share of prompts whose most likely next word is one of the colors of the last scene."""
    right = 0
    for rows, logits in last_logits(logits_of, pairs, tokenizer):
        for i, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
            scene = scene_colors(pairs[i].clean.split("\n")[-1])
            right += token in ids_of(scene, tokenizer)
    return right / len(pairs)


def measure(model: TransformerBridge) -> list[CardNumber]:
    """Accuracy on held-out combinations, the whole vocabulary competing."""
    found = _accuracies(model, model.tokenizer, n=300, split="test")
    return [CardNumber(name=name, value=value, n=300, needs=needs) for name, (value, needs) in found.items()]


RECIPE = TrainingRecipe(
    name="elimination",
    title="the ioi model, taught to name what was not mentioned again",
    what="Of two or three people or colors, says the one that is not mentioned again. Knows that a Colored Objects "
    "question wants a color of its scene and was not taught which.",
    train=train,
    measure=measure,
    held_out={
        "names": "as in `zoo:ioi`; three people are drawn so that no two are a held-out pair",
        "colors": "scenes hold no held-out combination of a color and an object",
        "templates": "IOI and the other tasks are measured in templates that were not trained on; the drills with "
        "three people or colors in the templates of training",
    },
    limits=(
        "Colored Objects: it picks any color of the scene, on purpose",
        "docstrings, greater-than: not kept from the model it starts from",
        "free text: it knows a few hundred words and the tasks' sentences",
    ),
    source="made for Merullo et al. 2023, arXiv:2310.08744",
)
