"""What masking heads does to copying: heads that no longer choose where to look, and what is still recalled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float

from workbench.circuits.addresses import parse_node
from workbench.core.errors import OptionError
from workbench.edits.affine import Affine
from workbench.edits.edit import ModelEdit, When
from workbench.edits.rows import Rows
from workbench.heads.decoding import decode
from workbench.heads.retrieval import Needle, batches, recalls_of
from workbench.model.hooks import hook_name
from workbench.model.probe import record
from workbench.view.pictures import Heatmap

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Mode = Literal["uniform", "zero", "mean"]
# The patterns of a pass are as large as its prompts' lengths squared: 97 MB per layer of zoo:needle at 500 tokens when
# passes have 4,096. malloc asks the system for each such block and gives it back after every operation: half of all
# time. With 512 tokens they are 12 MB, which it can keep (``keep_freed``), and computing takes no longer.
PASS_TOKENS = 512


def keep_freed() -> None:
    """Have glibc's malloc keep freed blocks of up to 32 MB for the next operation; elsewhere nothing happens.

    It keeps what is no larger than the largest block that was freed so far, 32 MB at most (mallopt(3), the dynamic
    threshold), and twice as much in all; so one block is taken and freed. The whole of retrieval-heads: with passes of
    4,096 tokens 23.0 million page faults and 42 s in the system, with 512 12.3 million and 23 s, with this too 1.7
    million and 3 s; 1.05 GB at most each time.
    """
    torch.empty((32 << 20) - 8192, dtype=torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt and an answer that does not stand in it."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def mask(
    model: TransformerBridge,
    heads: Sequence[str],
    *,
    mode: Mode = "uniform",
    when: When = "decode",
    reference: Sequence[Needle] = (),
) -> ModelEdit:
    """Return heads that no longer choose where to look.

    Args:
        mode: ``uniform`` looks at everything alike (the paper's code sets the logits to 0), ``zero`` puts out
            nothing, ``mean`` puts out what the head does on average at the last token of the ``reference`` prompts.
        when: ``decode`` masks only while the answer is written, from the last token of the prompt on (the paper's
            code); ``all`` also while the prompt is read.

    Raises:
        OptionError: for an unknown mode or moment, or ``mean`` without prompts.
    """
    for value, known in ((mode, Mode), (when, When)):
        if value not in get_args(known):
            raise OptionError(
                f"{value!r} is not known here; expected one of {', '.join(get_args(known))}",
                hint=f"use {get_args(known)[0]!r}",
            )
    if mode == "uniform":
        return Rows(heads=tuple(heads), operation="set", when=when)
    b = 0.0 if mode == "zero" else mean_output(model, heads, reference)
    return Affine.of(model, tuple(heads), a=0.0, b=b, when=when)


@torch.no_grad()
def mean_output(
    model: TransformerBridge, heads: Sequence[str], prompts: Sequence[Needle]
) -> Float[torch.Tensor, "head d_head"]:
    """Mean output ``z`` of heads at the last token of prompts."""
    if not prompts:
        raise OptionError("a mean output needs prompts to take it over", hint="reference=samples")
    places = [parse_node(head).place for head in heads]
    sums, device = list[torch.Tensor](), next(iter(model.parameters())).device
    for _, ids, _ in batches(prompts):
        names = sorted({hook_name("head-output", layer) for layer, _ in places})
        seen = record(model, ids.to(device), names, last_only=True)[1]
        last = [seen[hook_name("head-output", layer)][:, -1, head] for layer, head in places]
        sums.append(torch.stack(last, dim=1).sum(0))  # (head, d_head)
    return sum(sums[1:], sums[0]) / len(prompts)


def answers(
    model: TransformerBridge,
    samples: Sequence[Needle | Asked],
    edit: ModelEdit | None = None,
    *,
    batch_tokens: int = PASS_TOKENS,
) -> list[list[int]]:
    """Say what the model writes after each prompt, as many tokens as the answer has, with an edit or without."""
    found: list[list[int]] = [[] for _ in samples]
    device = next(iter(model.parameters())).device
    for index, prompts, expected in batches(samples, batch_tokens):
        prompts, expected = prompts.to(device), expected.to(device)
        held = nullcontext() if edit is None else edit.on(model, decode_from=prompts.shape[1] - 1)
        with held:
            done = decode(model, prompts, steps=expected.shape[1], guess=expected, rows=False)
        for i, tokens in zip(index, done.tokens.tolist(), strict=True):
            found[i] = tokens
    return found


def recalls(
    model: TransformerBridge, samples: Sequence[Needle | Asked], edit: ModelEdit | None = None
) -> Float[np.ndarray, " sample"]:
    """Return the share of each answer's different tokens that the model writes."""
    written = answers(model, samples, edit)
    return recalls_of(written, samples)


@dataclass(frozen=True, kw_only=True)
class Masking:
    """One meaning of masking for all that is measured on a model; ``mask`` says which there are."""

    model: TransformerBridge
    mode: Mode = "uniform"
    when: When = "decode"
    reference: Sequence[Needle] = ()

    def answers(self, heads: Sequence[str], samples: Sequence[Needle | Asked]) -> list[list[int]]:
        """Say what is written with these heads masked; without heads, by the model as it is."""
        if not heads:
            return answers(self.model, samples)
        edit = mask(self.model, heads, mode=self.mode, when=self.when, reference=self.reference)
        return answers(self.model, samples, edit)

    def recall(self, heads: Sequence[str], samples: Sequence[Needle | Asked]) -> Float[np.ndarray, " sample"]:
        """Return the share of each answer's different tokens that is written with these heads masked."""
        written = self.answers(heads, samples)
        return recalls_of(written, samples)

    def every_way(
        self, samples: Sequence[Needle], sets: Mapping[str, Sequence[str]]
    ) -> list[dict[str, object]]:
        """Mean recall for every meaning of masking, with each of several sets of heads masked."""
        ways = [replace(self, mode=mode, when=when) for mode in get_args(Mode) for when in get_args(When)]
        return [
            {"mode": way.mode, "when": way.when}
            | {f"recall, {name}": float(way.recall(heads, samples).mean()) for name, heads in sets.items()}
            for way in ways
        ]

    def grid(
        self, heads: Sequence[str], samples: Mapping[tuple[int, int], Sequence[Needle]]
    ) -> tuple[Float[np.ndarray, "depth context"], list[int], list[int]]:
        """Mean recall in percent by depth and context, depths and contexts; all cells of one length run together.

        Args:
            samples: By (context, depth); a cell without samples is NaN.
        """
        keys = [key for key, own in samples.items() for _ in own]
        flat = self.recall(heads, [s for own in samples.values() for s in own])
        contexts, depths = (sorted({key[axis] for key in samples}) for axis in (0, 1))
        found = np.full((len(depths), len(contexts)), np.nan)
        for context, depth in samples:
            own = [r for key, r in zip(keys, flat, strict=True) if key == (context, depth)]
            found[depths.index(depth), contexts.index(context)] = 100 * np.mean(own)
        return found, depths, contexts

    def picture(self, heads: Sequence[str], samples: Mapping[tuple[int, int], Sequence[Needle]]) -> Heatmap:
        """Draw ``grid``: recall in percent by the needle's depth and the length of the text."""
        percent, *sides = self.grid(heads, samples)
        axes = {
            "row_title": "depth of the needle, %",
            "column_title": "words in the text",
            "unit": "% recalled",
        }
        return Heatmap.of(percent, *([*map(str, side)] for side in sides), **axes)
