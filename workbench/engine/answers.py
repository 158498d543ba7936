"""The answers of some prompts as tensors of token ids: what metrics read beside the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from workbench.tasks.alignment import AlignedPairs


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answer tokens of some pairs; a mask is false where a pair has fewer answers than the widest.

    Attributes:
        read_at: Where a pair's answer is one of several tokens: the positions whose logits predict ``correct``, which
            then are the tokens of one answer in their order. None where every answer is one token, read at the end.
    """

    correct: Int[Tensor, "pair k"]
    correct_mask: Bool[Tensor, "pair k"]
    incorrect: Int[Tensor, "pair j"]
    incorrect_mask: Bool[Tensor, "pair j"]
    read_at: Int[Tensor, "pair k"] | None = None

    @classmethod
    def of(cls, aligned: AlignedPairs, device: torch.device | str = "cpu") -> Answers:
        """Return the answers of aligned pairs, on a device."""
        correct, correct_mask = _padded(aligned.correct, device)
        incorrect, incorrect_mask = _padded(aligned.incorrect, device)
        return cls(
            correct=correct,
            correct_mask=correct_mask,
            incorrect=incorrect,
            incorrect_mask=incorrect_mask,
            read_at=_padded(aligned.read_at, device)[0] if aligned.read_at else None,
        )

    def __len__(self) -> int:
        return len(self.correct)

    def __getitem__(self, index: slice | Int[Tensor, " some"]) -> Answers:
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Answers:
        """Return the same answers on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def repeat(self, times: int) -> Answers:
        """Return the answers ``times`` times after each other, for interventions stacked along the batch."""
        if times == 1:
            return self
        return self._each(lambda tensor: tensor.repeat(times, 1))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Answers:
        """The same with every tensor changed."""
        names = ("correct", "correct_mask", "incorrect", "incorrect_mask")
        read_at = None if self.read_at is None else change(self.read_at)
        return Answers(**{name: change(getattr(self, name)) for name in names}, read_at=read_at)


def _padded(rows: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
    width = max((len(row) for row in rows), default=0)
    ids = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.arange(width) < np.array([len(row) for row in rows], dtype=np.int64)[:, None]
    ids[mask] = [token for row in rows for token in row]
    return torch.as_tensor(ids, device=device), torch.as_tensor(mask, device=device)


def arrays(values: Tensor, rightly: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the metric, and which pairs are answered rightly where the model has answers, as numpy arrays."""
    right = torch.cat(list(rightly)).double().cpu().numpy() if rightly else None
    return values.double().cpu().numpy(), right
