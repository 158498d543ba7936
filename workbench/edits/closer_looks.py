"""Questions asked again with a part of the picture magnified, and keys asked for with a chunk of the text repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.edits.magnify import Windows, attended_chunks, fine_patches, magnified, with_chunks_again
from workbench.heads.asked_pictures import AskedPictures, answered
from workbench.heads.crops import Window, best_window, enlarged
from workbench.heads.localisation import lift_apart
from workbench.heads.span_attention import span_attention
from workbench.model.hooks import forward
from workbench.model.prompt import Prompt
from workbench.tasks.registry import make_pairs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HALF = (3, 3)  # patches: a window of half a picture's side
Right = Float[np.ndarray, " question"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CloserLooks:
    """Questions about pictures that are asked again with windows magnified: 1 for each right answer."""

    model: TransformerBridge
    asked: AskedPictures

    @cached_property
    def maps(self) -> Float[np.ndarray, "question layer head row column"]:
        """Where the last token looks, in every head."""
        given = span_attention(self.model, self.asked.prompt)
        return given.reshape(*given.shape[:3], *self.asked.grid)

    def best_head(self) -> tuple[int, int]:
        """Return layer and head that prefer the asked object to the others most."""
        maps = self.maps
        apart = [
            [lift_apart(maps[:, n, h], self.asked.own, self.asked.others) for h in range(maps.shape[2])]
            for n in range(maps.shape[1])
        ]
        layer, head = np.unravel_index(int(np.argmax(apart)), maps.shape[1:3])
        return int(layer), int(head)

    def by_head(self, head: tuple[int, int]) -> list[list[Window]]:
        """Return the window that a head looks at most, of each picture."""
        return [[best_window(each.astype(float), [HALF])] for each in self.maps[:, head[0], head[1]]]

    def around_asked(self) -> list[list[Window]]:
        """Return the window around the asked object of each picture: what a perfect choice would be."""
        return [[best_window(each.astype(float), [HALF])] for each in self.asked.own]

    def at_random(self, seed: Sequence[int]) -> list[list[Window]]:
        """Return a window at a random place of each picture."""
        rng, (rows, columns) = np.random.default_rng(seed), self.asked.grid
        return [
            [Window(int(rng.integers(rows - HALF[0] + 1)), int(rng.integers(columns - HALF[1] + 1)), *HALF)]
            for _ in range(len(self.asked))
        ]

    def everywhere(self) -> list[list[Window]]:
        """Return windows that cover the whole of each picture, without overlap."""
        rows, columns = self.asked.grid
        all_of = [Window(r, c, *HALF) for r in range(0, rows, HALF[0]) for c in range(0, columns, HALF[1])]
        return [all_of] * len(self.asked)

    def mixed(self, windows: Windows, mix: float) -> Right:
        """Return the answers with the patches of windows mixed with finer ones."""
        fine, many = fine_patches(self.model, self._pixels, windows, self.asked.grid)
        with magnified(self.model, fine, many, self.asked.image, mix=mix):
            return answered(self.model, self.asked, rows=len(self.asked))

    def seen_twice(self, windows: Windows) -> Right:
        """Return the answers by the sum of log-probabilities with the picture and with its window as the picture."""
        pairs = zip(self._pixels, windows, strict=True)
        crops = [enlarged(pixels, own[0], self.asked.grid) for pixels, own in pairs]
        logs = sum(_logs(self.model, p) for p in (self.asked.prompt, self.asked.showing(self.model, crops)))
        return (torch.as_tensor(logs).argmax(-1).cpu().numpy() == self.asked.right).astype(float)

    @property
    def _pixels(self) -> list[np.ndarray]:
        return [scene.pixels for scene in self.asked.scenes]


@dataclass(frozen=True, kw_only=True, eq=False)
class AskedKeys:
    """Texts with keys and values, each with a question for one value at the end.

    Attributes:
        ids: All of one length; the last two tokens are the question.
        right: Token of each answer.
    """

    model: TransformerBridge
    ids: Int[Tensor, "row pos"]
    right: Int[np.ndarray, " row"]

    @property
    def end(self) -> int:
        """Where the text ends and the question begins."""
        return self.ids.shape[1] - 2

    @torch.no_grad()
    def answered(self, starts: Int[np.ndarray, " row"] | None = None, *, chunk: int = 2) -> Right:
        """Return 1 for every value that is found, with the chunks that begin here repeated before the question."""
        ids = self.ids if starts is None else with_chunks_again(self.ids, starts, chunk=chunk, end=self.end)
        return (_logs(self.model, Prompt(ids)).argmax(-1).cpu().numpy() == self.right).astype(float)

    def attended(self, *, chunk: int = 2) -> Int[np.ndarray, " row"]:
        """Return where the chunk begins that the last token looks at most."""
        return attended_chunks(self.model, Prompt(self.ids), chunk=chunk, end=self.end).argmax(1)


def ask_keys(model: TransformerBridge, *, n: int, seed: int, needles: int, context: int) -> AskedKeys:
    """Draw texts with keys and values, and ask for one value of each.

    Raises:
        ModelError: for a model that does not know the words.
    """
    pairs = make_pairs("kv-retrieval", n=n, seed=seed, needles=needles, context=context)
    ids = torch.stack([model.to_tokens(pair.clean)[0] for pair in pairs])
    answers = [model.to_tokens(pair.correct[0], prepend_bos=False)[0, -1] for pair in pairs]
    return AskedKeys(model=model, ids=ids, right=torch.stack(answers).cpu().numpy())


@torch.no_grad()
def _logs(model: TransformerBridge, prompt: Prompt) -> Float[Tensor, "row token"]:
    return torch.cat(
        [forward(model, part, last_only=True)[:, -1].log_softmax(-1) for part in prompt.split(128)]
    )
