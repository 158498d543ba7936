"""Modality-mutual attention: patches that see the question behind them; as many entries at random; what leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Bool
from torch import Tensor

from workbench.edits.leaks import depends
from workbench.edits.mask_kinds import Mask
from workbench.edits.masks import causal, unlock, unlock_at_random
from workbench.heads.asked_pictures import AskedPictures, RightAndLoss, right_and_loss, with_words

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

WORDS = 4  # of an answer


def mutual_mask(model: TransformerBridge, asked: AskedPictures) -> Mask:
    """Return the mask under which patches see the words behind them, in every layer.

    Source:
        Wang et al. 2025 (modality-mutual attention).
    """
    n, patches = asked.prompt.shape[1], _patches(asked)
    return _everywhere(model, unlock(causal(n), patches, (patches[1], n)))


def causal_mask(model: TransformerBridge, asked: AskedPictures) -> Mask:
    """Return the usual mask, for a model that was trained with another one: patches are blind to the question."""
    return _everywhere(model, causal(asked.prompt.shape[1]))


def random_masks(model: TransformerBridge, asked: AskedPictures, draws: int, seed: int) -> list[Mask]:
    """Return masks that open as many entries as ``mutual_mask``, in the same rows, at random places ahead."""
    usual, opened = causal(asked.prompt.shape[1]), len(asked.image) * (len(asked.question) + 1)
    rows = _patches(asked)
    drawn = [unlock_at_random(usual, opened, seed=seed + i, queries=rows) for i in range(draws)]
    return [_everywhere(model, each) for each in drawn]


def asked_under(edit: Mask, model: TransformerBridge, asked: AskedPictures) -> RightAndLoss:
    """Return which questions are answered rightly under a mask, and the loss of the right answers."""
    with edit.on(model):
        return right_and_loss(model, asked)


class Felt(NamedTuple):
    """What changes in which positions when another token stands at one position.

    Attributes:
        opened: Share of the entries from patches to words that are felt.
        leaks: How many positions of answers are felt before them.
        n: How many could be.
    """

    opened: float
    leaks: int
    n: int


def leaks_of(model: TransformerBridge, asked: AskedPictures, *, leak: bool = False) -> Felt:
    """Change what stands at every position of prompts with an answer behind them, and see what is felt before it.

    Args:
        leak: Let patches see the answer too: what a mask must not do, planted.
    """
    prompt, n = with_words(asked.prompt, [asked.right] * WORDS), asked.prompt.shape[1]
    first, last = _patches(asked)
    allowed = unlock(causal(n + WORDS), (first, last), (last, n + WORDS if leak else n))
    felt = depends(model, prompt, _everywhere(model, allowed)).numpy()
    return Felt(float(felt[first:last, last:n].mean()), int(felt[:n, n:].sum()), n * WORDS)


def _patches(asked: AskedPictures) -> tuple[int, int]:
    return min(asked.image), max(asked.image) + 1


def _everywhere(model: TransformerBridge, allowed: Bool[Tensor, "query key"]) -> Mask:
    return Mask(heads=tuple(f"a{layer}" for layer in range(model.cfg.n_layers)), allowed=allowed)
