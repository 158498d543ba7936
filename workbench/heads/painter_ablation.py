"""What a picture loses without one head of a painter: by what the reader reads, and by the velocity loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.circuits.addresses import Node, parse_node
from workbench.core.errors import ModelError, OptionError
from workbench.core.progress import Progress
from workbench.core.show import Told
from workbench.model.flow_painter.sample import GUIDANCE, STEPS, paint, require_painter, velocity_loss
from workbench.model.hooks import hook_name
from workbench.model.probe import wiring
from workbench.tasks.canvas.flat_shapes import Drawing
from workbench.tasks.canvas.picture_reader import PictureVerdict

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The velocity loss is the mean over these times."""
JUDGED = ("colour", "shape", "side", "count", "binding", "intact")


@dataclass(frozen=True, kw_only=True, eq=False)
class PainterAblation(Told):
    """Heads of a painter set to zero, one at a time.

    Attributes:
        heads: Addresses; ``cross:a1.h2`` looks at words.
        read: What share of pictures is right: (head, what is judged), in the order of ``judged``.
        whole: The same of the whole model.
        loss: Velocity loss per picture: (head, picture); ``whole_loss`` of the whole model.
    """

    heads: tuple[str, ...]
    read: Float[np.ndarray, "head judged"]
    whole: Float[np.ndarray, " judged"]
    loss: Float[np.ndarray, "head picture"]
    whole_loss: Float[np.ndarray, " picture"]
    judged: tuple[str, ...] = JUDGED

    @property
    def n(self) -> int:
        """Pictures behind each number."""
        return len(self.whole_loss)

    def drop(self, judged: str) -> Float[np.ndarray, " head"]:
        """Return by how much the share of right pictures falls without each head; positive supports it."""
        at = self.judged.index(judged)
        return self.whole[at] - self.read[:, at]

    def rise(self) -> tuple[Float[np.ndarray, " head"], Float[np.ndarray, " head"]]:
        """Return by how much the velocity loss rises without each head, and its standard error; positive supports."""
        more = self.loss - self.whole_loss
        return more.mean(1), more.std(1, ddof=1) / self.n**0.5 if self.n > 1 else np.full(len(more), np.nan)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per head: drops of what is read, and the rise of the loss with its standard error."""
        rise, error = self.rise()
        return [
            {
                "head": head,
                **{name: round(float(self.drop(name)[i]), 4) for name in self.judged},
                "velocity loss": round(float(rise[i]), 5),
                "± se": round(float(error[i]), 5),
            }
            for i, head in enumerate(self.heads)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        whole = {name: float(value) for name, value in zip(self.judged, self.whole, strict=True)}
        return {
            "n": self.n,
            "whole": whole,
            "velocity_loss": float(self.whole_loss.mean()),
            "heads": self.rows(),
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        whole = ", ".join(f"{name} {value:.3f}" for name, value in zip(self.judged, self.whole, strict=True))
        return [
            f"whole model, {self.n} pictures: {whole}; velocity loss {self.whole_loss.mean():.4f}",
            "without each head: by how much the share of right pictures falls, and the velocity loss rises",
            self.rows(),
        ]


@contextmanager
def without_heads(model: TransformerBridge, heads: Sequence[str]) -> Iterator[None]:
    """Inside, what these heads write is zero.

    Args:
        heads: ``a1.h2`` among patches, ``cross:a1.h2`` to words.

    Raises:
        ModelError: for a head that the model does not have.
    """
    by_hook: dict[str, list[int]] = {}
    for node in (head_node(model, text) for text in heads):
        prefix = "" if node.tower in (None, "vision") else f"{node.tower}."
        by_hook.setdefault(f"{prefix}{hook_name('head-output', node.depth)}", []).append(int(node.index or 0))

    def silent(own: list[int]) -> Callable[..., Tensor]:
        def zero(z: Tensor, hook: object) -> Tensor:
            z = z.clone()
            z[:, :, own] = 0
            return z

        return zero

    with model.hooks(fwd_hooks=[(name, silent(own)) for name, own in by_hook.items()]):
        yield


def head_node(model: TransformerBridge, text: str) -> Node:
    """Read the address of a head of a painter.

    Raises:
        OptionError: if it is of something else.
        ModelError: if the painter has no such head.
    """
    node = parse_node(text, towers=True)
    if node.kind != "head" or node.slot or node.position is not None:
        raise OptionError(f"{text} is no head", hint="a1.h2, or cross:a1.h2 for one that looks at words")
    known = every_head(model)
    plain = f"{'cross:' if node.tower == 'cross' else ''}a{node.layer}.h{node.index}"
    if plain not in known or node.tower not in (None, "vision", "cross"):
        raise ModelError(f"the painter has no head {text}", hint=f"{known[0]} to {known[-1]}")
    return node


def every_head(model: TransformerBridge) -> tuple[str, ...]:
    """Return the addresses of all heads: among patches, then to words."""
    found = wiring(model)
    return tuple(
        f"{stack}a{layer}.h{head}"
        for stack in ("", "cross:")
        for layer in found.attention_layers
        for head in range(found.n_heads)
    )


def ablate_painter(
    model: TransformerBridge,
    drawings: Sequence[Drawing],
    *,
    heads: Sequence[str] | None = None,
    seed: int = 0,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    progress: Progress | None = None,
) -> PainterAblation:
    """Set heads to zero one at a time, in the captioned passes, and judge the pictures.

    Args:
        drawings: Captions to paint; the velocity loss is measured on their pictures.
        heads: By default all, of both stacks.

    Returns:
        Shares of right pictures and losses, with each head set to zero and of the whole model.

    Raises:
        OptionError: if there are no drawings.

    Example:
        >>> import workbench as wb
        >>> from workbench.tasks.canvas.flat_shapes import draw_many
        >>> drawn = draw_many(0, range(2))
        >>> found = wb.ablate_painter(wb.open_model("zoo:painter"), drawn, heads=["cross:a1.h1"], steps=4)
        >>> bool(found.rise()[0][0] > 0)  # the velocity loss rises without it
        True
    """
    require_painter(model)
    if not drawings:
        raise OptionError("there are no drawings to paint", hint="draw_many(seed, range(32))")
    named = every_head(model) if heads is None else tuple(heads)
    for head in named:
        head_node(model, head)
    pictures = torch.from_numpy(np.stack([drawing.pixels for drawing in drawings]))
    captions = [drawing.items for drawing in drawings]
    read, losses = [], []
    for i, off in enumerate(((), *((head,) for head in named))):
        painted = paint(
            model,
            captions,
            seed=seed,
            steps=steps,
            guidance=guidance,
            under=lambda _: without_heads(model, off),  # noqa: B023
        )
        read.append(shares(painted.verdicts()))
        with without_heads(model, off), torch.no_grad():
            each = [velocity_loss(model, pictures, captions, t=t, seed=seed) for t in TIMES]
        losses.append(torch.stack(each).mean(0).numpy())
        if progress is not None:
            progress(i + 1, 1 + len(named), "heads set to zero")
    return PainterAblation(
        heads=named,
        read=np.array(read[1:]).reshape(len(named), len(JUDGED)),
        whole=np.array(read[0]),
        loss=np.array(losses[1:]).reshape(len(named), len(drawings)),
        whole_loss=losses[0],
    )


def shares(verdicts: Sequence[PictureVerdict], judged: Sequence[str] = JUDGED) -> list[float]:
    """Return what share of pictures is right, for each thing that is judged."""
    return [float(np.mean([getattr(verdict, name) for verdict in verdicts])) for name in judged]
