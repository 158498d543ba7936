"""Pairs of one token length: what one stack of forward passes runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from workbench.circuits.addresses import Node
from workbench.core.errors import TaskError, expect_word
from workbench.engine.answers import Answers
from workbench.model.captions import BLOCKS, CAPTIONS
from workbench.model.inner_towers import VISION
from workbench.model.prompt import Prompt

RunName = Literal["clean", "corrupted"]
RUNS: tuple[RunName, ...] = get_args(RunName)


def no_picture(node: Node, pair: int) -> TaskError:
    """The error for a part that reads pictures, where a pair has none."""
    return TaskError(
        f"{node}: pair {pair} has no picture, so nothing passes there",
        hint="give the pair its image, or name a part of the language model: a1.h2",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Pairs of one token length.

    Attributes:
        index: Which pairs of the whole set they are.
        prompts: The clean and the corrupted prompts.
        sets: Named sets of positions of each pair, where it has a picture: ``image``, ``object`` ...
        tower_start: The first patch among a tower's own positions; None where its patches are not the image tokens.
    """

    index: np.ndarray
    prompts: tuple[Prompt, Prompt]
    answers: Answers
    answer_pos: Int[Tensor, " pair"]
    positions: tuple[dict[str, int], ...]
    groups: tuple[str, ...]
    sets: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    tower_start: int | None = None
    cache: dict[tuple[str, str], Tensor] = field(default_factory=dict, repr=False)
    _repeated: dict[int, Answers] = field(init=False, default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def columns(self) -> tuple[Int[Tensor, " column"], Answers]:
        """The tokens of all answers, and the answers as indices into them."""
        answers = self.answers
        columns = torch.cat([answers.correct.flatten(), answers.incorrect.flatten()]).unique()
        return columns, replace(
            answers,
            correct=torch.searchsorted(columns, answers.correct),
            incorrect=torch.searchsorted(columns, answers.incorrect),
        )

    def repeated(self, times: int) -> Answers:
        """The answers as indices into ``columns``, for so many stacked copies; the last ones asked for are kept."""
        if times not in self._repeated:
            self._repeated.clear()
            self._repeated[times] = self.columns[1].repeat(times)
        return self._repeated[times]

    @property
    def clean(self) -> Int[Tensor, "pair pos"]:
        """Tokens of the clean prompts."""
        return self.prompts[0].ids

    @property
    def corrupted(self) -> Int[Tensor, "pair pos"]:
        """Tokens of the corrupted prompts."""
        return self.prompts[1].ids

    @property
    def n_tokens(self) -> int:
        """Length of each prompt in tokens."""
        return self.clean.shape[1]

    @cached_property
    def caption_lengths(self) -> tuple[int, ...]:
        """Tokens of each caption beside a picture, the same in all pairs; empty without captions."""
        numbers = self.prompts[0].extras.get(BLOCKS)
        return () if numbers is None else tuple(numbers[0].bincount().tolist())

    @property
    def load(self) -> int:
        """Tokens of a pass over it: of its prompts, or of the captions beside their pictures where these are more."""
        captions = self.prompts[0].extras.get(CAPTIONS)
        return len(self) * (self.n_tokens if captions is None else max(self.n_tokens, captions.shape[1]))

    def prompt(self, run: RunName) -> Prompt:
        """The clean or the corrupted prompts, with their pictures."""
        expect_word("run", run, RUNS)
        return self.prompts[0 if run == "clean" else 1]

    def places(
        self, position: str | int, tower: str | None = None
    ) -> tuple[Int[Tensor, " place"], Int[Tensor, " place"]]:
        """Rows and tokens of a position: one for each pair, or as many as a set of positions has; also in a tower.

        Raises:
            TaskError: if a pair has no such position.
        """
        if tower is not None:
            return self._tower_places(position, tower)
        if not any(position in named for named in self.sets):
            return torch.arange(len(self), device=self.clean.device), self.at(position)
        if missing := [
            int(i) for i, named in zip(self.index, self.sets, strict=True) if position not in named
        ]:
            own = self.sets[self.index.tolist().index(missing[0])]
            raise TaskError(
                f"pair {missing[0]} has no region called {position!r}; other pairs have one",
                hint=f"its sets of patches: {', '.join(own)}; leave such pairs out, or take one of these",
            )
        found = [(row, token) for row, named in enumerate(self.sets) for token in named[str(position)]]
        rows, tokens = (
            torch.tensor(found, dtype=torch.long, device=self.clean.device).reshape(-1, 2).unbind(1)
        )
        return rows, tokens

    def places_of(self, node: Node) -> tuple[Int[Tensor, " place"], Int[Tensor, " place"]] | None:
        """Rows and tokens that an address means; None for all. The projector writes those of the picture alone.

        Raises:
            TaskError: if a pair has no such position, or no picture.
        """
        if node.kind != "projector":
            return None if node.position is None else self.places(node.position, node.tower)
        if not self.sets:
            raise no_picture(node, int(self.index[0]))
        rows, tokens = image = self.places("image")
        if node.position is None:
            return image
        asked = self.places(node.position)
        known = set(zip(rows.tolist(), tokens.tolist(), strict=True))
        if not known.issuperset(zip(asked[0].tolist(), asked[1].tolist(), strict=True)):
            raise TaskError(
                f"{node}: the projector writes the positions of the picture, and {node.position!r} is none of them",
                hint=f"what enters there: input@{node.position}; of the picture: {', '.join(self.sets[0])}",
            )
        return asked

    def _tower_places(self, position: str | int, tower: str) -> tuple[Tensor, Tensor]:
        """Rows and positions of a tower, where a set is at other places than among the words."""
        if self.tower_start is None or isinstance(position, int) or tower != VISION:
            raise TaskError(
                f"{tower}: position {position!r} is not known in this tower",
                hint="leave the position out, or give a part of the language model: a1.h0@image",
            )
        if position == "class" and self.tower_start:
            rows = torch.arange(len(self), device=self.clean.device)
            return rows, torch.zeros_like(rows)
        rows, tokens = self.places(position)
        starts = torch.tensor([named["image"][0] for named in self.sets], device=tokens.device)
        found = tokens - starts[rows]
        if bool((found < 0).any()) or bool((found >= len(self.sets[0]["image"])).any()):
            raise TaskError(
                f"{tower}: {position!r} is no region of a picture",
                hint=f"regions of a picture: {', '.join(name for name in self.sets[0])}",
            )
        return rows, found + self.tower_start

    def at(self, position: str | int) -> Int[Tensor, " pair"]:
        """Token index of a named or numbered position, one per pair.

        Raises:
            TaskError: if a pair has no such position.
        """
        if isinstance(position, int):
            if not 0 <= position < self.n_tokens:
                raise TaskError(
                    f"position {position} is outside prompts of {self.n_tokens} tokens",
                    hint=f"positions are 0 to {self.n_tokens - 1}, or a name: {', '.join(self.positions[0])}",
                )
            return torch.full((len(self),), position, device=self.clean.device)
        missing = [
            int(i) for i, named in zip(self.index, self.positions, strict=True) if position not in named
        ]
        if missing:
            raise TaskError(
                f"pair {missing[0]} has no position called {position!r}",
                hint=f"positions of this task: {', '.join([*self.positions[0], *(self.sets or [()])[0]])}",
            )
        return torch.tensor([named[position] for named in self.positions], device=self.clean.device)
