"""What `vlm` is measured on: one question a prompt, through plain transformers, by kind and by number of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import coverage, draw_many, owner_map
from workbench.tasks.scenes.questions import DESCRIBE, KINDS, SceneQuestion, askable
from workbench.tasks.scenes.truth import Thing, things_of
from workbench.tasks.scenes.words import N_PATCHES, NUMBERS, SEEN
from workbench.training.dense_labels import pixel_values
from workbench.training.recipe import CardNumber
from workbench.training.seeing_words import IMAGE, PICTURE, pick, scene_tokenizer, unlocked_mask
from workbench.training.vocabulary import BOS

HELD_OUT, EACH = 1_000_000, 150
AT_ONCE = 64
NEEDED = {"relation": 0.80}  # other kinds 0.90; one step more than finding an object


def exactly(n: int, *, noise: float = 0.04) -> World:
    """Return the world whose pictures have ``n`` objects."""
    return World(objects=tuple(float(i == n) for i in range(1, 5)), noise=noise)


class Eyes:
    """A model and its words: answers of many prompts, one question each.

    Args:
        unlocked: Let patches see the question (`unlocked_mask`).
    """

    def __init__(self, model: LlavaForConditionalGeneration, *, unlocked: bool = False) -> None:
        self.model, self.vocabulary, self.unlocked = model, scene_tokenizer().get_vocab(), unlocked
        self.start = [BOS, *[self.vocabulary[IMAGE]] * N_PATCHES]

    def logits(self, pixels: np.ndarray, texts: Sequence[str]) -> Float[Tensor, "prompt d_vocab"]:
        """Return logits after the last word of each text; the texts have one length."""
        ids = torch.tensor(
            [[*self.start, *(self.vocabulary[word] for word in text.split())] for text in texts]
        )
        return self._last(ids, pixel_values(pixels))

    def _last(
        self, ids: Int[Tensor, "prompt pos"], pixels: Float[Tensor, "prompt 3 height width"]
    ) -> Float[Tensor, "prompt d_vocab"]:
        mask = {"attention_mask": unlocked_mask(ids.shape[1])} if self.unlocked else {}
        parts = [
            self.model(input_ids=i, pixel_values=p, logits_to_keep=1, use_cache=False, **mask).logits[:, -1]
            for i, p in zip(ids.split(AT_ONCE), pixels.split(AT_ONCE), strict=True)
        ]
        return torch.cat(parts)

    def patterns(self, pixels: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        """Return attention from the words of each text to the patches: (prompt, layer, head, word, patch)."""
        ids = torch.tensor(
            [[*self.start, *(self.vocabulary[word] for word in text.split())] for text in texts]
        )
        mask = {"attention_mask": unlocked_mask(ids.shape[1])} if self.unlocked else {}
        before = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")  # the others do not give their patterns away
        try:
            out = self.model(
                input_ids=ids,
                pixel_values=pixel_values(pixels),
                output_attentions=True,
                use_cache=False,
                **mask,
            )
        finally:
            self.model.set_attn_implementation(before)
        return torch.stack(out.attentions, dim=1)[:, :, :, PICTURE:, 1:PICTURE].numpy()

    def answers(self, pixels: np.ndarray, texts: Sequence[str]) -> list[str]:
        """Return the most likely word after each text, of all words."""
        words = {index: word for word, index in self.vocabulary.items()}
        return [words[index] for index in self.logits(pixels, texts).argmax(-1).tolist()]

    def descriptions(self, pixels: np.ndarray, longest: int = 16) -> list[list[str]]:
        """Say what is said of each picture, up to the full stop, the most likely word each time."""
        texts = [DESCRIBE] * len(pixels)
        for _ in range(longest):
            said = self.answers(pixels, texts)
            texts = [f"{text} {word}" for text, word in zip(texts, said, strict=True)]
            if all(" ." in text for text in texts):
                break
        return [text.removeprefix(DESCRIBE).partition(" .")[0].split() for text in texts]


def asked_of(
    n: int, kind: str, count: int, *, noise: float = 0.04
) -> tuple[np.ndarray, list[SceneQuestion], list[tuple[Thing, ...]]]:
    """Return pictures of ``n`` objects never trained on, with one question of a kind to each."""
    world, rng = exactly(n, noise=noise), np.random.default_rng([n, KINDS.index(kind)])
    pixels: list[np.ndarray] = []
    found: list[SceneQuestion] = []
    there: list[tuple[Thing, ...]] = []
    start = 1_000_000 * KINDS.index(kind)
    while len(found) < count:
        drawn, layout = draw_many(HELD_OUT + n, range(start, start + 64), world)
        start += 64
        for i in range(64):
            things = things_of(layout, i)
            if (possible := askable(things, kind, world)) and len(found) < count:
                found.append(pick(possible, rng))
                pixels.append(drawn[i])
                there.append(things)
    return np.stack(pixels), found, there


@torch.no_grad()
def accuracy_by_kind(
    eyes: Eyes, kinds: Sequence[str], *, each: int = EACH, noise: float = 0.04
) -> Iterator[tuple[str, int, list[SceneQuestion], list[bool]]]:
    """List kind, number of objects, the questions, and which were answered rightly."""
    for kind in kinds:
        for n in range(1, 5):
            if kind == "relation" and n == 1:
                continue
            pixels, found, _ = asked_of(n, kind, each, noise=noise)
            said = eyes.answers(pixels, [question.text for question in found])
            yield kind, n, found, [a == q.answer for a, q in zip(said, found, strict=True)]


@torch.no_grad()
def hallucination(eyes: Eyes, *, pictures: int = 100, noise: float = 0.04) -> tuple[float, float]:
    """Return the share of the objects said (colour and shape) that are not there, and share of those there that are
    said.

    Returns:
        CHAIR_i and recall, from 0 to 1, over pictures of two to four objects.
    """
    named = invented = there = found = 0
    for n in (2, 3, 4):
        pixels, layout = draw_many(HELD_OUT + 10 + n, range(pictures // 3), exactly(n, noise=noise))
        for i, words in enumerate(eyes.descriptions(pixels)):
            said = {tuple(part.split()[-2:]) for part in " ".join(words).split(" , ") if part}
            real = {(thing.colour, thing.shape) for thing in things_of(layout, i)}
            named, invented = named + len(said), invented + len(said - real)
            there, found = there + len(real), found + len(said & real)
    return invented / max(1, named), found / there


@torch.no_grad()
def attention_on_objects(eyes: Eyes, kind: str, *, pictures: int = 200) -> tuple[float, float, int]:
    """Return how much of its weight the head that finds the asked object best has on it, and on the other objects.

    Head and word of the question are chosen on the first half of the pictures, by the difference, and measured on the
    second: the control is the other objects, for the background is no rival.

    Returns:
        Weight on the asked object and on the others, each from 0 to 1 (the rest is on words and background), and the
        number of pictures of the second half.
    """
    world, rng = exactly(3), np.random.default_rng(KINDS.index(kind))
    pixels, layout = draw_many(HELD_OUT + 20, range(pictures), world)
    seen = coverage(owner_map(layout, world)) >= SEEN  # (picture, patch, slot)
    asked: dict[int, SceneQuestion] = {}
    for i in range(pictures):
        possible = [q for q in askable(things_of(layout, i), kind, world) if q.asked]
        if possible:
            asked[i] = pick(possible, rng)
    rows = list(asked)
    own = np.array([seen[i][:, list(asked[i].asked)].any(1) for i in rows])
    others = seen[rows].any(2) & ~own
    patterns = eyes.patterns(pixels[rows], [question.text for question in asked.values()])
    on_own, on_others = (
        np.einsum("plhqk,pk->plhq", patterns, mask).reshape(len(rows), -1) for mask in (own, others)
    )
    half = len(rows) // 2
    best = (on_own - on_others)[:half].mean(0).argmax()
    return float(on_own[half:, best].mean()), float(on_others[half:, best].mean()), len(rows) - half


def card_numbers(
    model: LlavaForConditionalGeneration, kinds: Sequence[str] = KINDS, *, unlocked: bool = False
) -> list[CardNumber]:
    """List everything that the card of a model that answers questions says."""
    eyes = Eyes(model, unlocked=unlocked)
    numbers, details = [], []
    several: dict[str, list[bool]] = {kind: [] for kind in kinds}
    counts: dict[str, list[bool]] = {}
    for kind, n, found, right in accuracy_by_kind(eyes, kinds):
        details.append(_accuracy(f"{kind}, {NUMBERS[n]} objects" if n > 1 else f"{kind}, one object", right))
        if n == 1:
            continue
        several[kind] += right
        for question, ok in zip(found, right, strict=True):
            if kind == "count":
                what = f"count of a colour: {question.answer}" if question.words else "count of everything"
                counts.setdefault(what, []).append(ok)
            if kind == "exist":
                what = "exist, yes" if question.asked else "exist, no though colour or shape is there"
                counts.setdefault(what, []).append(ok)
    for kind, right in several.items():
        numbers.append(_accuracy(f"{kind}, two to four objects", right, needs=NEEDED.get(kind, 0.90)))
    numbers += details
    numbers += [_accuracy(name, counts[name]) for name in sorted(counts)]
    for noise in (0.04, 0.12):
        chair, recall = hallucination(eyes, noise=noise)
        n = 99
        numbers.append(
            CardNumber(name=f"described objects that are not there, noise {noise}", value=chair, n=n)
        )
        numbers.append(CardNumber(name=f"objects that are described, noise {noise}", value=recall, n=n))
    for kind in (k for k in ("colour", "shape", "place", "exist") if k in kinds):
        own, others, n = attention_on_objects(eyes, kind)
        whose = f"of the head that finds it best, {kind}"
        numbers.append(
            CardNumber(name=f"weight on the asked object {whose}", value=own, n=n, unit="attention")
        )
        numbers.append(
            CardNumber(name=f"weight on other objects {whose}", value=others, n=n, unit="attention")
        )
    noisy = [x for k in ("colour", "shape", "place", "exist") if k in kinds for x in _noisy(eyes, k)]
    return [*numbers, *noisy]


def _noisy(eyes: Eyes, kind: str) -> Iterator[CardNumber]:
    pixels, found, _ = asked_of(3, kind, EACH, noise=0.12)
    said = eyes.answers(pixels, [question.text for question in found])
    right = [a == q.answer for a, q in zip(said, found, strict=True)]
    yield _accuracy(f"{kind}, three objects, noise 0.12", right)


def _accuracy(name: str, right: Sequence[bool], needs: float | None = None) -> CardNumber:
    return CardNumber(name=name, value=float(np.mean(right)), n=len(right), needs=needs)
