"""A model that is measured: sealed or open, left alone or changed meanwhile, and what has to be forgotten then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.progress import Progress, silent, tell_stopped
from workbench.model import hooks
from workbench.model.bare import is_bare
from workbench.model.blocks import Blocks
from workbench.model.hooks import Wiring
from workbench.model.identity import ModelIdentity, identity
from workbench.model.probe import wiring
from workbench.model.sealed import Sealed
from workbench.model.standing import state_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


class WatchedModel:
    """A model with what was measured of it, which is forgotten where the model is no longer what it was.

    A sealed model is opened when something but its plain blocks is asked for.

    Attributes:
        kept: What others measured on these runs and keep with them.
    """

    def __init__(self, model: TransformerBridge | Sealed, wiring: Wiring) -> None:
        self._of, self.wiring = model, wiring
        self._known: dict[Any, Any] | None = None  # what was asked of the model while it is left alone
        self._state = self._state_now()  # of which everything that is kept here was measured
        self.kept: dict[str, Any] = {}

    @property
    def model(self) -> TransformerBridge:
        """The model; a sealed one is opened now."""
        return self._of.open() if isinstance(self._of, Sealed) else self._of

    @property
    def sealed(self) -> Sealed | None:
        """The model while nothing has needed more of it than its plain blocks; nobody can have changed it then."""
        return self._of if isinstance(self._of, Sealed) and not self._of.is_open else None

    @property
    def identity(self) -> ModelIdentity:
        """Who the model is."""
        return self.sealed.identity if self.sealed else identity(self.model)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.sealed else next(iter(self.model.parameters())).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return torch.float32 if self.sealed else next(iter(self.model.parameters())).dtype

    def output_matrix(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """``W_O`` of a layer."""
        return (
            self.sealed.plain.output_matrix(layer) if self.sealed else hooks.output_matrix(self.model, layer)
        )

    @contextmanager
    def left_alone(self, progress: Progress) -> Iterator[Progress]:
        """Inside, each question about the model is asked once, and again after ``progress``: others may act there."""

        def told(done: int, total: int, what: str) -> None:
            progress(done, total, what)
            self._known = {}

        outer, self._known = self._known, {}
        try:
            self.settle(every_number=True)
            yield silent if progress is silent else told
        except KeyboardInterrupt as stop:
            division = getattr(self, "division", None)
            kept = division is not None and (division.store is not None or division.memory is not None)
            tell_stopped(progress, kept=kept or hasattr(stop, "keeps"))
            raise
        finally:
            self._known = None if outer is None else {}

    def settle(self, *, every_number: bool = False) -> None:
        """Forget what was measured if the model is no longer what it was: hooks came or went, weights changed.

        Args:
            every_number: Also look for numbers that were written past torch; for the start of a measurement.

        Raises:
            ModelError: if a part of the model is in training mode.
        """
        state = self._asked("state", lambda: self._state_now(every_number=every_number))
        if state != self._state:
            found = wiring(self.model)
            self.wiring = found.joined() if self.wiring.with_tower else found
            self.forget()
            self._state = state

    def _state_now(self, *, every_number: bool = False) -> tuple[Any, ...]:
        """What the model is now; as long as it is sealed nobody can have changed it."""
        return () if self.sealed else state_of(self.model, every_number=every_number)

    def forget(self) -> None:
        """Forget everything that was measured."""
        self.kept.clear()

    def _asked(self, question: Any, ask: Callable[[], Any]) -> Any:
        if self._known is None:
            return ask()
        if question not in self._known:
            self._known[question] = ask()
        return self._known[question]

    def is_bare(self) -> bool:
        """Whether nobody attached anything to the model; known where it gave its blocks."""
        given = any(isinstance(answer, Blocks) for answer in (self._known or {}).values())
        return given or self._asked("bare", lambda: self.sealed is not None or is_bare(self.model))
