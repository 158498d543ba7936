"""Teaching a model that reads a picture and words to say and to read coordinates, in adapters alone.

"where is the red disc here :" is answered by two words, row and column of the cell in which the thing stands; "what
thing is in one two ?" is answered by what stands there. Questions can be made by the model itself: it says which shape
has a color, is asked whether that is there, and where; what it says of the place becomes the coordinates.

Source:
    Pink: Unveiling the Power of Referential Comprehension for Multi-modal LLMs, 2023 (a summary was read).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from workbench.core.errors import ModelError, OptionError
from workbench.core.stats.permutation import derangement
from workbench.edits.all_linear import AllLinear
from workbench.heads.asked_pictures import AskedPictures, prompt_of, said, token_of, with_words
from workbench.heads.pointing_accuracy import points_in_boxes
from workbench.model.hooks import forward
from workbench.model.prompt import Extras, Prompt
from workbench.tasks.scenes.truth import box_of
from workbench.tasks.scenes.words import CELL, COLOURS, GRID, NUMBERS, PLACES, SHAPES
from workbench.training.side_by_side import begin_alike, step_alike

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WORDS = NUMBERS[:GRID]
"""Names of rows and of columns."""
MANY = 2**20  # numbers that items are drawn from: each set of questions takes them modulo its length


@dataclass(frozen=True, eq=False)
class Taught:
    """Prompts with two tokens to be said at their end; the first of them stands in the prompt as its last.

    Attributes:
        said: Tokens; -1 where nothing is taught.
    """

    prompt: Prompt
    said: Int[Tensor, "question 2"]

    def __len__(self) -> int:
        return len(self.said)

    def at(self, rows: Int[Tensor, " question"]) -> Taught:
        """Return some of them, by number."""
        return Taught(self.prompt[rows], self.said[rows])

    def and_those(self, other: Taught) -> Taught:
        """Return these and others behind them."""
        extras = {k: torch.cat([v, other.prompt.extras[k]]) for k, v in self.prompt.extras.items()}
        prompt = Prompt(torch.cat([self.prompt.ids, other.prompt.ids]), Extras.of(extras))
        return Taught(prompt, torch.cat([self.said, other.said]))


def taught_words(prompt: Prompt, first: Int[np.ndarray, " question"]) -> Taught:
    """Teach one token for each prompt.

    A second one of any kind is put behind it, so that such prompts and those with two words go together.
    """
    said = torch.as_tensor(np.stack([first, np.full(len(first), -1)], axis=1))
    return Taught(with_words(prompt, [first]), said)


def taught_places(
    model: TransformerBridge, asked: AskedPictures, things: Sequence[str], cells: Int[np.ndarray, " question"]
) -> Taught:
    """Teach row and column of the cell of each thing, and for each cell what shape stands in it.

    Args:
        things: Color and shape.
        cells: Row by row, from 0 on.

    Returns:
        Two for each picture: first all that are answered with coordinates, then all that are asked with them.
    """
    tokens = np.array([token_of(model, word) for word in WORDS])
    pair = tokens[np.stack([cells // GRID, cells % GRID], axis=1)]
    says = with_words(_ask(model, asked, [f"where is the {thing} here :" for thing in things]), [pair[:, 0]])
    shapes = np.array([token_of(model, thing.split()[1]) for thing in things])
    return Taught(says, torch.as_tensor(pair)).and_those(
        taught_words(_ask(model, asked, [by_cell(cell) for cell in cells]), shapes)
    )


def by_cell(cell: int) -> str:
    """Ask what stands in a cell, by its coordinates.

    Example:
        >>> by_cell(5)
        'what thing is in one two ?'
    """
    return f"what thing is in {WORDS[cell // GRID]} {WORDS[cell % GRID]} ?"


def true_places(asked: AskedPictures) -> tuple[list[str], Int[np.ndarray, " question"]]:
    """Return what questions about places are about, and in which cell it stands.

    Raises:
        OptionError: if other things than places are asked for.
    """
    if any(question.kind != "place" for question in asked.questions):
        raise OptionError("questions about places are expected", hint="ask_pictures(..., kinds=['place'])")
    return [" ".join(q.words) for q in asked.questions], np.array(
        [PLACES.index(q.answer) for q in asked.questions]
    )


def self_made(
    model: TransformerBridge, asked: AskedPictures, *, seed: int
) -> tuple[list[str], Int[np.ndarray, " question"], Bool[np.ndarray, " picture"]]:
    """Let a model find things and their cells in pictures by itself; nothing of the truth about them is used.

    For each picture a color is drawn. The model says what shape that thing has, whether such a thing is there, and
    where. Pictures are left out where it says no, or no shape or place.

    Returns:
        The things and cells, and which pictures they are in.
    """
    colours = np.random.default_rng([55, seed]).integers(len(COLOURS), size=len(asked))

    def told(texts: list[str], answers: tuple[str, ...]) -> Int[np.ndarray, " question"]:
        known = {token_of(model, word): i for i, word in enumerate(answers)}
        return np.array([known.get(int(token), -1) for token in said(model, _ask(model, asked, texts))])

    shape = told([f"what shape is the {COLOURS[c]} thing ?" for c in colours], SHAPES)
    things = [f"{COLOURS[c]} {SHAPES[s]}" for c, s in zip(colours, shape, strict=True)]
    there = told([f"is there a {thing} here ?" for thing in things], ("no", "yes"))
    cell = told([f"where is the {thing} here ?" for thing in things], PLACES)
    kept = (shape >= 0) & (there == 1) & (cell >= 0)
    return [things[i] for i in np.flatnonzero(kept)], cell[kept], kept


class TaughtPlaces(NamedTuple):
    """What arms are taught about places.

    Attributes:
        few: Labels alone.
        both: Labels, and what the model made itself.
        dealt: The same with the cells of others: none keeps its own place in the row of all cells.
    """

    few: Taught
    both: Taught
    dealt: Taught


@dataclass(frozen=True, eq=False)
class PlaceSources:
    """Pictures with labels, and pictures with what a model said about them itself.

    Attributes:
        labelled: Questions about places, with their answers.
        shown: Pictures in which the model found a thing.
        things, cells: What it found there, and where.
    """

    labelled: AskedPictures
    shown: AskedPictures
    things: list[str]
    cells: Int[np.ndarray, " question"]

    @classmethod
    def found(
        cls, model: TransformerBridge, labelled: AskedPictures, shown: AskedPictures, *, seed: int
    ) -> PlaceSources:
        """Let a model make questions about some pictures, and keep those that it is sure of (`self_made`).

        Raises:
            ModelError: if it is sure of none.
        """
        things, cells, kept = self_made(model, shown, seed=seed)
        if not things:
            raise ModelError(
                f"the model is sure of no thing in {len(shown)} pictures, so it makes no questions",
                hint="-m zoo:vlm, or --set pictures=900",
            )
        return cls(labelled, shown.at(np.flatnonzero(kept)), things, cells)

    def taught(self, model: TransformerBridge, *, seed: int) -> TaughtPlaces:
        """Return what arms are taught: few labels, both sources, and both with the coordinates of others.

        Args:
            seed: Of how coordinates are dealt.

        Source:
            Pink, 2023 (a summary was read); dealt coordinates are a control of ours.

        Example:
            >>> import workbench as wb
            >>> from workbench.heads.asked_pictures import ask_pictures
            >>> from workbench.tasks.scenes import World
            >>> model = wb.open_model("zoo:vlm")
            >>> world = World(objects=(0, 1, 1))
            >>> few, more = (ask_pictures(model, world, kinds=["place"], n=n, seed=n) for n in (2, 12))
            >>> places = PlaceSources.found(model, few, more, seed=0).taught(model, seed=0)
            >>> len(places.few), len(places.both) == len(places.dealt)
            (4, True)
        """
        names, cells = true_places(self.labelled)
        few = taught_places(model, self.labelled, names, cells)
        own = taught_places(model, self.shown, self.things, self.cells)
        every = np.concatenate([cells, self.cells])
        every = every[derangement(len(every), np.random.default_rng([55, seed]))]
        dealt = (
            taught_places(model, self.labelled, names, every[: len(cells)]),
            taught_places(model, self.shown, self.things, every[len(cells) :]),
        )
        return TaughtPlaces(few, few.and_those(own), dealt[0].and_those(dealt[1]))


def teach(
    model: TransformerBridge,
    places: Mapping[str, Taught],
    plain: Taught,
    *,
    steps: int,
    rank: int,
    batch: int,
    rate: float,
    seed: int,
) -> dict[str, AllLinear]:
    """Train adapters side by side from the same start, each on its places and all on the same plain questions.

    The model itself stays as it is.

    Args:
        places: Of each arm.
        batch: Half of it are places, half plain questions.
    """
    tokens = [token_of(model, word) for word in WORDS]
    arms = begin_alike(
        {name: lambda: AllLinear(model, rank=rank, tokens=tokens) for name in places}, seed=seed
    )

    def loss(name: str, arm: AllLinear, items: Int[Tensor, " item"]) -> Float[Tensor, ""]:
        half = len(items) // 2
        own = places[name].at(items[:half] % len(places[name]))
        rows = own.and_those(plain.at(items[half:] % len(plain)))
        with arm.on(model):
            logits = forward(model, rows.prompt, last_only=False)[:, -2:]
        return cross_entropy(logits.flatten(0, 1), rows.said.to(logits.device).flatten(), ignore_index=-1)

    step_alike(arms, loss, items=MANY, steps=steps, batch=batch, rate=rate, seed=seed)
    return arms


def cell_hits(
    model: TransformerBridge, asked: AskedPictures, arm: AllLinear | None = None
) -> Float[np.ndarray, " question"]:
    """Return 1 where the cell that a model says has its middle in the box of the thing that is meant, else 0.

    Args:
        arm: Changes under which it answers.
    """
    things, _ = true_places(asked)
    under = None if arm is None else (lambda rows: arm.on(model))
    prompt = _ask(model, asked, [f"where is the {thing} here :" for thing in things])
    row = said(model, prompt, under=under)
    column = said(model, with_words(prompt, [row]), under=under)
    known = {token_of(model, word): i for i, word in enumerate(WORDS)}
    cells = np.array([[known.get(int(t), np.nan) for t in each] for each in (row, column)], dtype=float).T
    slots = [question.asked[0] for question in asked.questions]
    boxes = [box_of(scene.owner == slot) for scene, slot in zip(asked.scenes, slots, strict=True)]
    return points_in_boxes((cells + 0.5) * CELL, np.array(boxes, dtype=float))


def shapes_in_cells(
    model: TransformerBridge, asked: AskedPictures, arm: AllLinear | None = None
) -> Float[np.ndarray, " question"]:
    """Return 1 where a model says which shape stands in the cell whose coordinates are asked for, else 0."""
    things, cells = true_places(asked)
    under = None if arm is None else (lambda rows: arm.on(model))
    found = said(model, _ask(model, asked, [by_cell(cell) for cell in cells]), under=under)
    return (found == np.array([token_of(model, thing.split()[1]) for thing in things])).astype(float)


def _ask(model: TransformerBridge, asked: AskedPictures, texts: Sequence[str]) -> Prompt:
    return prompt_of(model, asked.sight, texts, [scene.pixels for scene in asked.scenes])
