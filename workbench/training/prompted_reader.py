"""A small tower that sees the question, beside one that does not: what is left of the picture behind a narrow pool.

Patches of a frozen tower go through two layers that look at a prompt by cross-attention. Then their mean is all that
the reader of the answer gets, a few numbers wide, beside the question. The arms have equal shapes, starts, pictures and
questions. They differ in the prompt that the layers see: the question, a constant, or the question of another picture.

``python -m workbench.training.prompted_reader --out FOLDER`` trains the arms that are shipped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.core.errors import ModelError
from workbench.core.progress import Progress, silent
from workbench.model.open import open_model
from workbench.tasks.scenes.layout import World
from workbench.tasks.scenes.paint import draw_many
from workbench.tasks.scenes.questions import askable
from workbench.tasks.scenes.truth import things_of
from workbench.tasks.scenes.words import COLOURS, SHAPES
from workbench.training.dense_labels import pixel_values
from workbench.training.loop import fit
from workbench.training.mixers.kept_weights import HOME, keep_weights, parts_under, read_weights
from workbench.training.schedule import adamw

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NAME, MODEL, SEEDS, CHECK_SEED = "prompted-reader", "zoo:vlm", (21, 22), 987_003
SEES, BLIND, ANOTHER = "the tower sees the question", "the tower is blind", "the tower sees another question"
ARMS = (SEES, BLIND, ANOTHER)
KINDS = ("colour", "shape")
WORDS = (*COLOURS, *SHAPES)
NOTHING = len(KINDS) + len(WORDS)  # the prompt of a tower that is blind
CANNOT = "anything but one question about colour or shape of a tiny object, on patches of zoo:vlm"


@dataclass(frozen=True, kw_only=True)
class PromptedReading:
    """Shape and training of a reader."""

    width: int = 24
    layers: int = 2
    pooled: int = 6
    pictures: int = 3000
    steps: int = 1200
    batch: int = 64
    rate: float = 4e-3
    noise: float = 0.04


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchQuestions:
    """Questions about patches: one prompt of two tokens (kind and word) and one answer each.

    Attributes:
        patches: Of every picture, as the frozen tower and its projector give them.
        picture: Number of the picture of each question.
        prompt: Tokens, kind first.
        answer: Index into colours and shapes.
    """

    patches: Float[Tensor, "picture patch d_model"]
    picture: Int[Tensor, " question"]
    prompt: Int[Tensor, "question 2"]
    answer: Int[Tensor, " question"]

    def __len__(self) -> int:
        return len(self.picture)


class PromptedReader(nn.Module):
    """Layers that look at a prompt, a narrow pool, and a reader of the answer."""

    def __init__(self, d_model: int, patches: int, reading: PromptedReading) -> None:
        super().__init__()
        width = reading.width
        self.enter = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, width))
        self.place = nn.Parameter(0.02 * torch.randn(patches, width))
        self.words = nn.Embedding(NOTHING + 1, width)
        self.looks = nn.ModuleList(_Look(width) for _ in range(reading.layers))
        self.pool = nn.Linear(width, reading.pooled)
        self.answer = nn.Sequential(
            nn.Linear(reading.pooled + 2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, len(WORDS))
        )

    def forward(
        self,
        patches: Float[Tensor, "item patch d_model"],
        seen: Int[Tensor, "item 2"],
        prompt: Int[Tensor, "item 2"],
    ) -> Float[Tensor, "item answer"]:
        """Return scores of the answers.

        Args:
            seen: The prompt that the layers look at.
            prompt: The question that is answered.
        """
        x, told = self.enter(patches) + self.place, self.words(seen)
        for look in self.looks:
            x = look(x, told)
        return self.answer(torch.cat([self.pool(x).mean(1), self.words(prompt).flatten(1)], -1))


class _Look(nn.Module):
    """Patches look at a prompt by cross-attention, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        x = x + self.look(self.norm(x), told, told, need_weights=False)[0]
        return x + self.mlp(self.after(x))


def seen_by(arm: str, prompt: Int[Tensor, "item 2"]) -> Int[Tensor, "item 2"]:
    """Return the prompt that the layers of an arm look at.

    Example:
        >>> seen_by(ANOTHER, torch.tensor([[0, 2], [1, 9]])).tolist(), seen_by(BLIND, torch.tensor([[0, 2]])).tolist()
        ([[1, 9], [0, 2]], [[13, 13]])
    """
    if arm == BLIND:
        return torch.full_like(prompt, NOTHING)
    return prompt.roll(1, dims=0) if arm == ANOTHER else prompt


@torch.no_grad()
def patch_questions(model: TransformerBridge, n: int, *, seed: int, noise: float) -> PatchQuestions:
    """Draw pictures of two to four tiny objects, and every question about colour or shape that may be asked of them.

    Raises:
        ModelError: for a model without a tower and a projector.
    """
    original: Any = model.original_model
    if not hasattr(original, "get_image_features"):
        raise ModelError("a tower with a projector is expected", hint=f"-m {MODEL}")
    world = World(objects=(0, 1, 1, 1), tiny=True, noise=noise)
    pixels, layout = draw_many(seed, range(n), world)
    held = [
        torch.stack(list(original.get_image_features(pixel_values=pixel_values(part)).pooler_output))
        for part in np.array_split(pixels, max(1, n // 128))
    ]
    rows = []
    for i in range(n):
        things = things_of(layout, i)
        for kind, name in enumerate(KINDS):
            for asked in askable(things, name, world):
                word = len(KINDS) + WORDS.index(asked.words[0])
                rows.append((i, kind, word, WORDS.index(asked.answer)))
    table = torch.tensor(rows)
    parts = {"picture": table[:, 0], "prompt": table[:, 1:3], "answer": table[:, 3]}
    return PatchQuestions(patches=torch.cat(held), **parts)


def train_readers(
    asked: PatchQuestions, reading: PromptedReading, *, seed: int, tell: Any = None
) -> tuple[dict[str, PromptedReader], float]:
    """Train every arm from one start on the same questions, side by side.

    Returns:
        Arm -> trained reader, and seconds of the processor.
    """
    torch.manual_seed(seed)
    start = PromptedReader(asked.patches.shape[-1], asked.patches.shape[1], reading)
    made = {arm: PromptedReader(asked.patches.shape[-1], asked.patches.shape[1], reading) for arm in ARMS}
    for arm in made.values():
        arm.load_state_dict(start.state_dict())
    arms = nn.ModuleList(made.values())

    def loss_of_step(step: int) -> Tensor:
        rows = torch.from_numpy(np.random.default_rng([seed, step]).integers(len(asked), size=reading.batch))
        patches, prompt = asked.patches[asked.picture[rows]], asked.prompt[rows]
        losses = [
            cross_entropy(reader(patches, seen_by(arm, prompt), prompt), asked.answer[rows])
            for arm, reader in made.items()
        ]
        return torch.stack(losses).sum()

    found = fit(
        arms,
        loss_of_step,
        optimisers=[adamw(arm, lr=reading.rate) for arm in arms],
        steps=reading.steps,
        warmup=min(50, reading.steps // 4),
        each=list(arms),
        tell=tell or (lambda line: None),
    )
    arms.requires_grad_(False).eval()
    return made, found.core_seconds


@torch.no_grad()
def right_of(arm: str, reader: PromptedReader, asked: PatchQuestions) -> Float[np.ndarray, " question"]:
    """Return 1 for every question that is answered rightly, 0 for every other one."""
    said = reader(asked.patches[asked.picture], seen_by(arm, asked.prompt), asked.prompt).argmax(-1)
    return (said == asked.answer).double().numpy()


def readers(
    model: TransformerBridge,
    *,
    retrain: bool = False,
    seeds: Sequence[int] = SEEDS,
    reading: PromptedReading | None = None,
    progress: Progress = silent,
    home: Path = HOME,
) -> dict[int, dict[str, PromptedReader]]:
    """Return the arms by seed: those that are shipped, or trained anew.

    Raises:
        ModelError: if none are shipped, their recipe is another, or a file is not as it was written.
    """
    reading = reading or PromptedReading()
    if retrain:
        found = {}
        for i, seed in enumerate(seeds):
            progress(i, len(seeds), "readers are trained")
            asked = patch_questions(model, reading.pictures, seed=_training_seed(seed), noise=reading.noise)
            found[seed] = train_readers(asked, reading, seed=seed)[0]
        return found
    card, tensors = read_weights(NAME, recipe(reading), home)
    d_model, patches = int(card.recipe["d_model"]), int(card.recipe["patches"])
    made: dict[int, dict[str, PromptedReader]] = {}
    for seed in card.seeds:
        for i, arm in enumerate(ARMS):
            reader = PromptedReader(d_model, patches, reading)
            reader.load_state_dict(parts_under(f"{seed}/{i}/", tensors))
            made.setdefault(seed, {})[arm] = reader.requires_grad_(False).eval()
    return made


def recipe(reading: PromptedReading) -> dict[str, Any]:
    """Return everything that decides the weights, seeds and the library's version apart."""
    return {"model": MODEL, "d_model": 64, "patches": 36, "arms": list(ARMS), **asdict(reading)}


def _training_seed(seed: int) -> int:
    return 401_000_000 + seed


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the arms of both seeds, and write them with their card."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HOME)
    out, reading, model = parser.parse_args(arguments).out, PromptedReading(), open_model(MODEL, device="cpu")
    tensors: dict[str, Tensor] = {}
    right: dict[str, list[float]] = {arm: [] for arm in ARMS}
    cores = 0.0
    checked = patch_questions(model, 256, seed=CHECK_SEED, noise=reading.noise)
    for seed in SEEDS:
        asked = patch_questions(model, reading.pictures, seed=_training_seed(seed), noise=reading.noise)
        made, seconds = train_readers(asked, reading, seed=seed, tell=print)
        cores += seconds
        for i, (arm, reader) in enumerate(made.items()):
            tensors |= {f"{seed}/{i}/{name}": value.clone() for name, value in reader.state_dict().items()}
            right[arm].append(float(right_of(arm, reader, checked).mean()))
    keep_weights(
        NAME,
        tensors,
        recipe=recipe(reading),
        seeds=SEEDS,
        home=out,
        retrain="python -m workbench.training.prompted_reader",
        learned={arm: round(float(np.mean(found)), 4) for arm, found in right.items()},
        n=len(checked),
        steps=reading.steps,
        core_seconds=round(cores, 1),
        cannot=[CANNOT],
    )


if __name__ == "__main__":
    main()
