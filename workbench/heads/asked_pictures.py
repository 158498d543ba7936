"""Questions about drawn pictures as prompts of a model that reads both, with the truth on the model's own patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from workbench.core.errors import ModelError, OptionError
from workbench.heads.crops import covered
from workbench.heads.grid_maps import Size, owned_patches
from workbench.model.hooks import forward
from workbench.model.pixels import with_pictures
from workbench.model.prompt import Prompt
from workbench.model.sight import sight_of
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.questions import SceneQuestion, askable
from workbench.tasks.scenes.truth import Scene
from workbench.tasks.scenes.words import N_CELLS
from workbench.tasks.token_ids import picture_ids

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Wanted = Callable[[SceneQuestion, Scene], bool]
Under = Callable[[slice], AbstractContextManager]
"""What a pass over these rows of the prompts is in, such as an edit for them."""
TRIES = 100  # pictures per question that is wanted


@dataclass(frozen=True, kw_only=True, eq=False)
class AskedPictures:
    """Questions, each about its own drawn picture.

    Attributes:
        prompt: One row per question, as the model reads it: the picture, then the words.
        right: Token of the right answer.
        sight: How the model takes a picture in.
    """

    scenes: tuple[Scene, ...]
    questions: tuple[SceneQuestion, ...]
    prompt: Prompt
    right: Int[np.ndarray, " question"]
    sight: Sight

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, rows: slice) -> AskedPictures:
        """Some of the questions."""
        return replace(
            self,
            scenes=self.scenes[rows],
            questions=self.questions[rows],
            prompt=self.prompt[rows],
            right=self.right[rows],
        )

    def at(self, rows: Int[np.ndarray, " question"]) -> AskedPictures:
        """Return some of the questions, by number."""
        return replace(
            self,
            scenes=tuple(self.scenes[i] for i in rows),
            questions=tuple(self.questions[i] for i in rows),
            prompt=self.prompt[torch.as_tensor(rows)],
            right=self.right[rows],
        )

    @property
    def grid(self) -> Size:
        """Rows and columns of the model's patches."""
        return self.sight.grid

    @property
    def image(self) -> tuple[int, ...]:
        """The positions of the picture's patches: the same in every prompt."""
        return picture_positions(self.prompt, self.sight)

    def keys(self, patches: Bool[np.ndarray, "question patch"]) -> Bool[torch.Tensor, "question pos"]:
        """Return patches of every picture as positions of its prompt."""
        found = torch.zeros(tuple(self.prompt.shape), dtype=torch.bool)
        found[:, list(self.image)] = torch.from_numpy(np.asarray(patches))
        return found.to(self.prompt.device)

    @property
    def question(self) -> tuple[int, ...]:
        """The positions of the words behind the picture but the last one, at which the answer is said."""
        return tuple(range(max(self.image) + 1, self.prompt.shape[1] - 1))

    @property
    def there(self) -> Bool[np.ndarray, " question"]:
        """Whether the object that is asked about is in the picture."""
        return np.array([bool(question.asked) for question in self.questions])

    @cached_property
    def objects(self) -> Bool[np.ndarray, "question slot row column"]:
        """The patches on which each object has a pixel, by its number in the order of drawing."""
        owner = np.stack([scene.owner for scene in self.scenes])
        return owned_patches(owner, self.grid, n=N_CELLS)

    @property
    def background(self) -> Bool[np.ndarray, "question patch"]:
        """The patches on which no object has a pixel, row by row of the grid."""
        return ~self.objects.any(1).reshape(len(self), -1)

    @property
    def own(self) -> Bool[np.ndarray, "question row column"]:
        """The patches of the object that is asked about.

        Raises:
            OptionError: if a question is about no object, or about several.
        """
        return self.objects[np.arange(len(self)), self._asked()]

    @property
    def others(self) -> Bool[np.ndarray, "question slot row column"]:
        """The patches of every other object; an object that a picture does not have is on none."""
        others = self.objects.copy()
        others[np.arange(len(self)), self._asked()] = False
        return others

    def _asked(self) -> np.ndarray:
        if any(len(question.asked) != 1 for question in self.questions):
            raise OptionError(
                "a question is not about one object", hint="ask about colour or shape: kinds=['colour']"
            )
        return np.array([question.asked[0] for question in self.questions])

    def showing(self, model: TransformerBridge, pixels: Sequence[np.ndarray]) -> Prompt:
        """Return the same words about other pictures, one for each."""
        return with_pictures(
            self.sight, self.prompt.ids, [Picture.of(each) for each in pixels], dtype=_first(model).dtype
        )

    def covering(self, model: TransformerBridge, regions: Bool[np.ndarray, "question row column"]) -> Prompt:
        """Return the same words about pictures of which a region alone is left."""
        pairs = zip(self.scenes, regions, strict=True)
        return self.showing(model, [covered(scene.pixels, region) for scene, region in pairs])

    def asking(self, model: TransformerBridge, text: str) -> Prompt:
        """Return the same pictures with other words behind them."""
        return prompt_of(model, self.sight, [text] * len(self), [scene.pixels for scene in self.scenes])


def ask_pictures(
    model: TransformerBridge,
    world: World,
    *,
    kinds: Sequence[str],
    n: int,
    seed: int,
    wanted: Sequence[Wanted] = (),
) -> AskedPictures:
    """Draw pictures and ask one question about each; kinds take turns, and so do the wishes.

    Args:
        kinds: Of questions, such as ``exist`` or ``colour``.
        wanted: What may be asked, by turns: of question ``i`` the wish ``i``; nothing asks anything.

    Raises:
        ModelError: for a model that does not read a picture and words.
        OptionError: if such questions can hardly be asked of pictures of this world.

    Example:
        >>> import workbench as wb
        >>> from workbench.tasks.scenes import World
        >>> asked = ask_pictures(wb.open_model("zoo:vlm"), World(), kinds=["colour"], n=2, seed=7)
        >>> len(asked), asked.prompt.shape[1], asked.questions[0].text
        (2, 44, 'what colour is the square here ?')
    """
    sight = sight_of(model)
    if sight is None or sight.token is None:
        raise ModelError("a model that reads a picture and words is expected", hint="-m zoo:vlm")
    scenes: list[Scene] = []
    questions: list[SceneQuestion] = []
    for index in range(TRIES * n):
        i = len(scenes)
        if i == n:
            break
        scene = Scene(seed, index, world)
        wish = wanted[i % len(wanted)] if wanted else None
        kind = kinds[(i // max(1, len(wanted))) % len(kinds)]
        able = [q for q in askable(scene.things, kind, world) if wish is None or wish(q, scene)]
        if able:
            scenes.append(scene)
            questions.append(able[int(np.random.default_rng([seed, index]).integers(len(able)))])
    if len(scenes) < n:
        raise OptionError(
            f"{len(scenes)} of {n} questions could be asked of {TRIES * n} pictures of {world}",
            hint="ask for fewer (n=), for other kinds of questions (kinds=), or draw another World(...)",
        )
    texts = [question.text for question in questions]
    sight = sight.of(Picture.of(scenes[0].pixels))
    return AskedPictures(
        scenes=tuple(scenes),
        questions=tuple(questions),
        prompt=prompt_of(model, sight, texts, [scene.pixels for scene in scenes]),
        right=np.array([token_of(model, question.answer) for question in questions]),
        sight=sight,
    )


def draw_patches(
    allowed: Bool[np.ndarray, "question patch"],
    many: Int[np.ndarray, " question"],
    rng: np.random.Generator,
) -> Bool[np.ndarray, "question patch"]:
    """Draw so many random patches of each picture, among those that are allowed.

    Raises:
        OptionError: for a picture with fewer.

    Example:
        >>> allowed = np.array([[True, False, True, False]])
        >>> draw_patches(allowed, np.array([2]), np.random.default_rng(0)).tolist()
        [[True, False, True, False]]
    """
    if (short := np.flatnonzero(allowed.sum(1) < many)).size:
        found, asked = int(allowed[short[0]].sum()), int(many[short[0]])
        raise OptionError(
            f"picture {short[0]} has {found} patches to draw from, {asked} are asked for",
            hint="leave out such pictures, and count them",
        )
    at_random = rng.random(allowed.shape) - ~allowed  # those that are allowed come last
    return at_random.argsort(1).argsort(1) >= allowed.shape[1] - many[:, None]


def ask_existence(model: TransformerBridge, world: World, *, n: int, seed: int) -> AskedPictures:
    """Ask whether a coloured shape is there, by turns about one that is and one that is not.

    What is not there shares its colour or its shape with something that is; a *yes* about it is a hallucination.

    Returns:
        ``n`` questions, each about its own picture.
    """
    wishes = [lambda q, scene: q.answer == "yes", lambda q, scene: q.answer == "no"]
    return ask_pictures(model, world, kinds=["exist"], n=n, seed=seed, wanted=wishes)


def prompt_of(
    model: TransformerBridge, sight: Sight, texts: Sequence[str], pixels: Sequence[np.ndarray]
) -> Prompt:
    """Return pictures, each with its words behind it and the beginning of a text before it.

    Raises:
        ModelError: for words of different numbers of tokens, or pictures of another size than the model's.
    """
    words = [model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    if len({len(ids) for ids in words}) > 1:
        raise ModelError(
            "questions have different numbers of tokens, and nothing is padded",
            hint="ask questions of one length together: group them by len(tokenizer.encode(text))",
        )
    pictures = [Picture.of(each) for each in pixels]
    if why := sight.why_not(pictures[0]):
        raise ModelError(
            why, hint="use pictures of that size, or another model: -m zoo:vlm reads drawn scenes"
        )
    bos = (
        model.tokenizer.bos_token_id if model.cfg.default_prepend_bos else None
    )  # else TransformerLens' invention
    start = [] if bos is None else [bos]
    rows = [[*start, *picture_ids(model.tokenizer, sight.of(pictures[0])), *ids] for ids in words]
    first = _first(model)
    return with_pictures(sight, torch.tensor(rows, device=first.device), pictures, dtype=first.dtype)


def with_words(prompt: Prompt, tokens: Sequence[Int[np.ndarray, " question"]]) -> Prompt:
    """Return prompts with more tokens behind them, one of each array for every prompt."""
    more = torch.from_numpy(np.stack(tokens, axis=1)).to(prompt.ids)
    return Prompt(torch.cat([prompt.ids, more], dim=1), prompt.extras)


def token_of(model: TransformerBridge, word: str) -> int:
    """Return the one token of an answer.

    Raises:
        ModelError: if it is not one token, or the model reads no words.
    """
    if model.tokenizer is None:
        raise ModelError(
            f"the model reads no words, so {word!r} is no answer of it; one that reads a picture and words is expected",
            hint="-m zoo:vlm",
        )
    ids = model.tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1 or ids[0] == model.tokenizer.unk_token_id:
        raise ModelError(f"{word!r} is not one token of the model", hint="-m zoo:vlm")
    return int(ids[0])


def picture_positions(prompt: Prompt, sight: Sight) -> tuple[int, ...]:
    """Return the positions of the patches of the picture in every prompt.

    Raises:
        ModelError: if prompts differ in them.
    """
    here = torch.eq(prompt.ids, -1 if sight.token is None else sight.token)
    if bool((here != here[:1]).any()):
        raise ModelError(
            "the picture stands at other positions in some prompts",
            hint="run prompts with the same text before the picture together",
        )
    if sight.sizes is not None and prompt.extras:
        sight = sight.of_size(sight.sizes.size_in(prompt.extras))
    places = here[0].nonzero().flatten().tolist()
    return tuple(places[i] for i in sight.patches())


@torch.no_grad()
def said(
    model: TransformerBridge, prompt: Prompt, *, rows: int = 128, under: Under | None = None
) -> Int[np.ndarray, " question"]:
    """Return the token that the model finds most likely after each prompt, of all that it has.

    Args:
        rows: Prompts of one pass.
        under: What a pass is in: an edit for these rows of the prompts.
    """
    parts = []
    for start in range(0, len(prompt), rows):
        at = slice(start, start + rows)
        with nullcontext() if under is None else under(at):
            parts.append(forward(model, prompt[at], last_only=True)[:, -1].argmax(-1))
    return torch.cat(parts).cpu().numpy()


def answered(
    model: TransformerBridge,
    asked: AskedPictures,
    prompt: Prompt | None = None,
    *,
    rows: int = 128,
    under: Under | None = None,
) -> Float[np.ndarray, " question"]:
    """Return 1 for every question that is answered rightly, 0 for every other one.

    Args:
        prompt: The same words about other pictures; by default the questions' own.
        rows, under: As ``said`` has them.
    """
    found = said(model, asked.prompt if prompt is None else prompt, rows=rows, under=under)
    return (found == asked.right).astype(float)


class RightAndLoss(NamedTuple):
    """How questions were answered, one value for each.

    Attributes:
        right: 1 where the most likely token is the right one, else 0.
        loss: Of the right answer, in nats; at least 0.
    """

    right: Float[np.ndarray, " question"]
    loss: Float[np.ndarray, " question"]


@torch.no_grad()
def right_and_loss(model: TransformerBridge, asked: AskedPictures, *, rows: int = 128) -> RightAndLoss:
    """Say which questions are answered rightly, and how unlikely the right answer is."""
    parts = [forward(model, part, last_only=True)[:, -1].log_softmax(-1) for part in asked.prompt.split(rows)]
    logs = torch.cat(parts).double().cpu().numpy()
    right = (logs.argmax(1) == asked.right).astype(float)
    return RightAndLoss(right, -logs[np.arange(len(asked)), asked.right])


def _first(model: TransformerBridge) -> torch.Tensor:
    return next(iter(model.parameters()))
