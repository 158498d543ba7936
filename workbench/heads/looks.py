"""Where every head looks on one picture: heads of a tower, or of a language model that is asked about it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch

from workbench.circuits.addresses import VISION
from workbench.core.errors import ModelError, OptionError, TaskError, expect
from workbench.heads.drawn_pictures import prompt_of
from workbench.heads.grid_maps import Size
from workbench.heads.observe import patterns_of
from workbench.heads.picture_look import Box, PictureLook, patch_positions
from workbench.model.architecture import describe
from workbench.model.hooks import forward
from workbench.model.identity import identity
from workbench.model.pixels import with_pictures
from workbench.model.prompt import Prompt
from workbench.model.sight import reads_pictures_alone, sight_of
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.scenes.parse import scene_of
from workbench.tasks.scenes.questions import KINDS, questions
from workbench.tasks.scenes.truth import Scene
from workbench.tasks.token_ids import picture_ids

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SCENE = "scene"
CLASS = "class token"
ROW_END = "end of a row"
MOST_SAID = 3


@torch.no_grad()
def look_at(
    model: TransformerBridge, picture: Picture | Scene, question: str = "", *, tower: str | None = None
) -> PictureLook:
    """Show a model one picture, ask a question if it reads words, and keep what every head looks at.

    Args:
        picture: A picture, or a drawn scene; of a scene it is known where its objects are.
        question: What a model that reads words is asked about the picture.
        tower: The stack whose heads are looked at, such as ``vision``; by default the model's own, which is the
            language model where there is one.

    Returns:
        The picture, the model's answer, and the attention of every head: shares from 0 to 1.

    Raises:
        ModelError: if the model reads no pictures, pictures of another size, or has no such tower.
        OptionError: for a question without a reader of words, or a reader of words without a question.
        TaskError: for words that the model does not know.

    Example:
        >>> import workbench as wb
        >>> look = wb.look_at(wb.open_model("zoo:marked"), wb.Picture("scene:7/12?marked=1"))
        >>> look, look.map_of("a1.h0").shape
        (PictureLook(zoo:marked at scene:7/12?marked=1: 12 heads, said yellow square), (6, 6))
        >>> asked = wb.look_at(wb.open_model("zoo:vlm"), wb.Picture("scene:7/3"), "where is the red star here ?")
        >>> asked.map_of("a0.h1", asked.position_of("star")).shape
        (6, 6)
    """
    expect(picture, (Picture, Scene), what="look_at: picture", hint='wb.Picture("scene:7/12")')
    shown = Picture(f"{SCENE}:{picture.text}") if isinstance(picture, Scene) else picture
    sight = sight_of(model)
    if sight is None:
        raise ModelError("a model that reads pictures is expected", hint='wb.open_model("zoo:marked")')
    if why := sight.why_not(shown):
        raise ModelError(why, hint="resize the picture yourself first, with a picture program or numpy")
    sight = sight.of(shown)
    _check_question(sight, question, tower)
    model, stack = _stack_of_pictures(model, sight, tower)
    prompt = _prompt(model, sight, shown, question)
    places = _places(model, sight, prompt, tower)
    seen = replace(patterns_of(model, prompt, tower=stack), tower=tower).by_head()
    out = forward(model, prompt, last_only=False)
    objects, asked = _objects(shown, sight.grid, question)
    known = identity(model)
    return PictureLook(
        model=known.name,
        image=shown,
        grid=sight.grid,
        first=places.first,
        gap=places.gap,
        patterns={head: A[0] for head, A in seen.items()},
        words=places.words,
        query=places.query,
        question=question,
        said=()
        if tower is not None or out.shape[1] > 1 > len(question)
        else _said(model, out[0, -1], known.outputs),
        objects=objects,
        asked=asked,
    )


@dataclass(frozen=True)
class _Places:
    """Where the patches begin, what stands at the other positions and behind each row, and which looks at first."""

    first: int
    words: dict[int, str]
    query: int
    gap: int = 0


def _check_question(sight: Sight, question: str, tower: str | None) -> None:
    if sight.token is None and question:
        raise OptionError(
            f"the model reads pictures alone and is asked {question!r}", hint="wb.look_at(model, picture)"
        )
    if tower == VISION and question.strip():
        raise OptionError(
            f"a tower sees the picture alone and is asked {question!r}",
            hint='wb.look_at(model, picture, tower="vision"), or no tower: the language model is asked',
        )
    if sight.token is not None and not question.strip() and tower is None:
        raise OptionError(
            "the model reads words beside its picture, and no question was given",
            hint='wb.look_at(model, picture, "what colour is the star here ?"), or tower="vision"',
        )


def _stack_of_pictures(
    model: TransformerBridge, sight: Sight, tower: str | None
) -> tuple[TransformerBridge, str | None]:
    """The model that is shown the picture, and the name by which it knows the stack; None is its own.

    One that compares pictures with captions is shown the picture alone.

    Raises:
        ModelError: if the stack that is looked at reads captions.
    """
    towers = getattr(model, "towers", {})
    if sight.captions is None or VISION not in towers:
        return model, tower
    if (tower or sight.captions.own) != VISION:
        raise ModelError(
            f"the stack {tower or sight.captions.own!r} reads captions and is shown a picture",
            hint='wb.look_at(model, picture, tower="vision")',
        )
    return cast("TransformerBridge", towers[VISION]), None


def _prompt(model: TransformerBridge, sight: Sight, picture: Picture, question: str) -> Prompt:
    """The picture alone, or with its words; an image token in the question says where the picture stands.

    Raises:
        TaskError: if a word is unknown, or there are several image tokens.
    """
    if sight.token is None:
        return prompt_of(model, sight, [picture])
    ids = model.tokenizer(question, add_special_tokens=False)["input_ids"] if question else []
    unknown = model.tokenizer.unk_token_id
    if unknown is not None and unknown in ids:
        raise TaskError(f"the tokenizer does not know a word of {question!r}", hint="workbench task list")
    if ids.count(sight.token) > 1:
        raise TaskError(
            f"{question!r} has {ids.count(sight.token)} image tokens; one picture is given",
            hint=f"leave {sight.token} out of the question: the picture is put there by itself",
        )
    if sight.token not in ids:
        ids = [sight.token, *ids]
    at, bos = ids.index(sight.token), model.tokenizer.bos_token_id
    ids = [*ids[:at], *picture_ids(model.tokenizer, sight), *ids[at + 1 :]]
    if describe(model).prepend_bos and bos is not None and ids[0] != bos:
        ids = [bos, *ids]
    first = next(iter(model.parameters()))
    return with_pictures(sight, torch.tensor([ids], device=first.device), [picture], dtype=first.dtype)


def _places(model: TransformerBridge, sight: Sight, prompt: Prompt, tower: str | None) -> _Places:
    if sight.token is None or tower is not None:
        first = sight.first if sight.token is None else sight.tower_first
        if first is None:
            raise ModelError(
                "which positions of the tower are patches is not known for this model",
                hint="name the tower with a grid of patches: tower='vision'; workbench model show NAME lists towers",
            )
        return _Places(first, {i: CLASS if i == 0 else f"token {i}" for i in range(first)}, 0)
    ids = prompt.ids[0].tolist()
    taken = [i for i, token in enumerate(ids) if token == sight.token]
    patches = tuple(taken[place] for place in sight.patches())
    rows, columns = sight.grid
    gap = patches[columns] - patches[0] - columns if rows > 1 else 0
    if patches != patch_positions(sight.grid, patches[0], gap):
        raise ModelError(
            "the rows of a picture's patches do not follow each other in equal steps in this model",
            hint="wb.observe and the set of positions called image",
        )
    words = {i: model.tokenizer.decode([token]) for i, token in enumerate(ids) if i not in patches}
    words |= {i: sight.before if i < patches[0] else ROW_END for i in taken if i in words}
    return _Places(patches[0], words, len(ids) - 1, gap)


def _said(
    model: TransformerBridge, scores: torch.Tensor, names: tuple[str, ...]
) -> tuple[tuple[str, float], ...]:
    """The classes, or words, with most probability."""
    if not names and reads_pictures_alone(model):
        return ()
    best = scores.double().softmax(-1).topk(min(MOST_SAID, len(scores)))
    found = zip(best.values.tolist(), best.indices.tolist(), strict=True)
    return tuple((names[i] if names else model.tokenizer.decode([i]), float(p)) for p, i in found)


def _objects(image: Picture, grid: Size, question: str) -> tuple[tuple[tuple[str, Box], ...], int | None]:
    """The patches around each object of a drawn picture, and which of them is meant."""
    if image.kind != SCENE:
        return (), None
    scene = scene_of(image.source.partition(":")[2])
    height, width = image.size[0] // grid[0], image.size[1] // grid[1]
    found = sorted(zip(scene.things, scene.boxes, strict=True), key=lambda one: one[0].slot)
    shown = [(thing, box) for thing, box in found if box[2] > box[0]]
    boxes = tuple(
        (thing.phrase, (top // height, left // width, -(-bottom // height), -(-right // width)))
        for thing, (top, left, bottom, right) in shown
    )
    meant = _meant(scene, question)
    return boxes, next((i for i, (thing, _) in enumerate(shown) if thing.slot == meant), None)


def _meant(scene: Scene, question: str) -> int | None:
    """The object that the question is about, or that has the frame."""
    if not question:
        return scene.asked.slot if scene.world.marked and scene.things else None
    every = (one for kind in KINDS for one in questions(scene.things, kind))
    asked = next((one.asked for one in every if one.text == question.strip()), ())
    return asked[0] if len(asked) == 1 else None
