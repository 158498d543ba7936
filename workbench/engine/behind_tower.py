"""What is behind the layers of a tower: an answer, beside the other tower of a CLIP, or a whole language model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.model import hooks
from workbench.model.blocks import Blocks
from workbench.model.captions import BLOCKS, CAPTIONS, READ, ROWS, SEEN
from workbench.model.hooks import layers_give
from workbench.model.inner_towers import stack_of
from workbench.model.prompt import Prompt
from workbench.model.sight import PIXELS, sight_of
from workbench.model.trial import ALIKE, is_near
from workbench.model.unhooked import entering
from workbench.model.wiring import HandOver

if TYPE_CHECKING:
    from workbench.engine.paired_runs import Batch, PairedRuns, RunName

PROJECTOR = "vision_projector"
Final = Float[Tensor, "row pos d_model"]
"""What leaves the last layer of a tower."""


class Behind(Protocol):
    """What reads a tower, as a function of what leaves its last layer."""

    def base(self) -> Tensor:
        """What it makes of the run itself."""
        ...

    def of(self, final: Final, pair: Int[Tensor, " row"]) -> Tensor:
        """What it makes of rows of these pairs."""
        ...

    def by_model(self, final: Final, pair: Int[Tensor, " row"]) -> tuple[Tensor, dict[str, Any]]:
        """The same by the model without the tower's layers, and what these are told."""
        ...

    def metric(self, made: Tensor, times: int) -> Float[Tensor, " row"]:
        """The metric of so many copies of the batch, of what it made."""
        ...


def behind_of(
    runs: PairedRuns, batch: Batch, base: RunName, tower: str | None, final: Float[Tensor, "pair pos d_model"]
) -> Behind | str:
    """Return what is behind a tower, or why it is not known apart from the layers.

    Args:
        final: What leaves the tower's last layer in this run.
    """
    sight = sight_of(runs.model)
    if sight is None or sight.paints is not None:
        return "what is behind its layers is not known"
    if sight.token is None:
        return AnswerBehind(runs, batch, base, tower)
    if tower is None:
        return "a language model reads pictures"
    if isinstance(blocks := runs.blocks(batch), str):
        return f"a language model is behind the tower: {blocks}"
    return LanguageModelBehind(runs, batch, base, tower, blocks, final)


class AnswerBehind:
    """The model itself: it pools, compares with captions, answers.

    Attributes:
        known: What the other tower of a CLIP makes of the pairs, where there is one; it runs once.
    """

    def __init__(self, runs: PairedRuns, batch: Batch, base: RunName, tower: str | None) -> None:
        self.runs, self.batch, self.run, self.stack = runs, batch, base, stack_of(runs.model, tower)
        self.prompt = batch.prompt(base)
        has_captions = CAPTIONS in self.prompt.extras
        self.known = self._of_other_tower(tower or runs.own_stack) if has_captions else {}

    @torch.no_grad()
    def _of_other_tower(self, own: str | None) -> dict[str, Tensor]:
        towers: Any = self.runs.model.towers
        other, name = ("text", READ) if own == "vision" else ("vision", SEEN)
        kept = self.batch.cache.get((self.run, name))
        return {name: towers[other].vectors(self.prompt.extras) if kept is None else kept}

    def base(self) -> Tensor:
        """What the metric reads of the run."""
        found = self.batch.cache.get((self.run, "output"))
        return self.runs.output(self.batch, self.prompt) if found is None else found

    def of(self, final: Final, pair: Int[Tensor, " row"]) -> Tensor:
        """What the metric reads of rows of these pairs."""
        return self.by_model(final, pair)[0]

    def by_model(self, final: Final, pair: Int[Tensor, " row"]) -> tuple[Tensor, dict[str, Any]]:
        """The same, and what layers are told; pictures enter once, however many rows leave the last layer."""
        with layers_give(self.stack, final) as told:
            return self.runs.read(self.batch, self._answer(pair)), told

    def _answer(self, pair: Int[Tensor, " row"]) -> Tensor:
        prompt = self.prompt
        if not self.known:
            return hooks.forward(self.runs.model, prompt[:1], last_only=False)
        given = {name: tensor[pair] for name, tensor in self.known.items()}
        if READ in given:  # its rows come from what leaves the last layer
            given |= {name: prompt[:1].extras[name] for name in ("pixel_values", CAPTIONS)}
        else:
            given |= {name: prompt.extras[name][pair] for name in (CAPTIONS, BLOCKS)}
            given[ROWS] = torch.arange(len(pair), device=pair.device)
        answer: Tensor = self.runs.model(**given)
        return answer

    def metric(self, made: Tensor, times: int) -> Float[Tensor, " row"]:
        """The metric of what the model answers."""
        return self.runs.measure(self.batch, made)


class LanguageModelBehind:
    """A language model of plain blocks, which reads what a tower saw among its words, through a projector.

    Attributes:
        projector: The projector alone, where it is all that is between the tower and the language model.
        first: The first position of the tower that it reads.
    """

    def __init__(
        self,
        runs: PairedRuns,
        batch: Batch,
        base: RunName,
        tower: str,
        blocks: Blocks,
        final: Float[Tensor, "pair pos d_model"],
    ) -> None:
        self.runs, self.batch, self.run, self.blocks = runs, batch, base, blocks
        self.stack, self.prompt = stack_of(runs.model, tower), batch.prompt(base)
        sight, place = sight_of(runs.model), runs.wiring.of(tower).hand_over
        assert sight is not None and sight.token is not None
        self.image, self.first = self.prompt.ids == sight.token, 0
        self.projector: Callable[[Tensor], Tensor] | None = None
        if isinstance(place, HandOver) and place.hook.startswith(f"{PROJECTOR}."):
            part: Any = getattr(runs.model, PROJECTOR)
            self.projector, self.first = part.original_component.forward, place.first
            if not self._is_alone(final):
                self.projector = None

    @torch.no_grad()
    def _is_alone(self, final: Float[Tensor, "pair pos d_model"]) -> bool:
        """Whether the projector makes what the model makes where something else leaves the last layer."""
        rows = torch.arange(len(final), device=final.device)
        other = final + torch.randn(final.shape, generator=torch.Generator().manual_seed(2)).to(final)
        return is_near(self.of(other, rows), self.by_model(other, rows)[0], ALIKE[final.dtype])

    def base(self) -> Tensor:
        """What enters the first layer of the language model in the run."""
        return self.runs.resid(self.batch, self.run, 0)

    def of(self, final: Final, pair: Int[Tensor, " row"]) -> Tensor:
        """What enters the first layer of the language model, of rows of these pairs."""
        if self.projector is None:
            return self.by_model(final, pair)[0]
        entered = self.base()[pair]
        entered[self.image[pair]] = self.projector(final[:, self.first :]).flatten(0, -2)
        return entered

    def by_model(self, final: Final, pair: Int[Tensor, " row"]) -> tuple[Tensor, dict[str, Any]]:
        """The same, and what layers are told; pictures enter once, however many rows leave the last layer."""
        rows, one = self.prompt[pair], self.prompt[:1].extras
        seen = {name: (lambda _, name=name: one[name]) for name in PIXELS & set(one)}
        prompt = Prompt(rows.ids, rows.extras.without(PIXELS).beside(seen))
        with layers_give(self.stack, final) as told:
            return entering(self.runs.model, self.blocks, prompt), told

    def metric(self, made: Tensor, times: int) -> Float[Tensor, " row"]:
        """The metric of what the language model says."""
        return self.runs.values(self.batch, self.prompt.repeat(times), resid=made, at_last=True)
