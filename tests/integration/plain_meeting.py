"""Both towers of a CLIP or SigLIP in plain transformers: one picture with its captions, edges of either cut."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from torch import Tensor, nn

from tests.integration.plain_captions import PlainCaptions

Edge = tuple[str, str]
STACKS = ("vision", "text")


class PlainMeeting:
    """Hooks on transformers' own modules of both towers; addresses have the name of the tower before them.

    Args:
        answer: What is read of how alike a picture and its captions are, one number for each.
        n_heads: Of the tower for pictures and of that for captions.
    """

    def __init__(
        self, model: nn.Module, answer: Callable[[Tensor], Tensor], n_heads: tuple[int, int]
    ) -> None:
        self.text = PlainCaptions(model, "text", answer, n_heads[1])
        self.vision = PlainCaptions(model, "vision", answer, n_heads[0])
        self.vision.model, self.vision.answer = self._with_captions, lambda out: out

    def run(
        self,
        pixels: Tensor,
        captions: Sequence[Sequence[int]],
        *,
        ablated: Collection[Edge] = (),
        instead: Mapping[str, Tensor] | None = None,
        start: Mapping[str, Tensor] | None = None,
        copies: dict[Edge, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The answer, and what every part of both towers writes.

        Args:
            ablated, instead: Edges that carry what their source writes there.
            start: What enters the first layer of each tower.
            copies: Takes zeros added to what each reader reads, by tower and reader: both have ``logits``.
        """
        found: dict[str, dict[str, Tensor]] = {stack: {} for stack in STACKS}
        own = {stack: _own(stack, ablated, instead, start) for stack in STACKS}
        own = {
            stack: {**how, "copies": None if copies is None else found[stack]} for stack, how in own.items()
        }
        self.text.beside(captions)
        self.inside = own["text"]
        out, seen = self.vision.run(pixels, **own["vision"])
        if copies is not None:
            copies |= {(stack, name): zeros for stack, some in found.items() for name, zeros in some.items()}
        wrote = {"vision": seen, "text": self.text.now}
        return out, {_address(stack, name): t for stack, some in wrote.items() for name, t in some.items()}

    def _with_captions(self, pixel_values: Tensor) -> Tensor:
        return self.text.run(pixel_values[0], **self.inside)[0]


def _address(stack: str, name: str) -> str:
    return f"{stack}:{'embed' if name == 'input' else name}"


def _own(
    stack: str,
    ablated: Collection[Edge],
    instead: Mapping[str, Tensor] | None,
    start: Mapping[str, Tensor] | None,
) -> dict:
    """What is asked of one tower, by names without it."""

    def bare(address: str) -> str:
        return address.removeprefix(f"{stack}:").replace("embed", "input")

    return {
        "ablated": {(bare(s), bare(t)) for s, t in ablated if s.startswith(f"{stack}:")},
        "instead": {bare(s): t for s, t in (instead or {}).items() if s.startswith(f"{stack}:")},
        "start": None if start is None else start[stack],
    }
