"""Questions whether something is in a picture, and their answers: yes though it is absent, yes where it is present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from workbench.core.stats.association import auroc
from workbench.heads.asked_pictures import AskedPictures, Under, ask_existence, ask_pictures, said, token_of
from workbench.tasks.scenes.layout import World

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

OBJECTS = (0, 1, 1, 1)  # two to four of them, as often


def ask_at_noise(model: TransformerBridge, noise: float, *, n: int, seed: int) -> AskedPictures:
    """Ask whether something is there in pictures of two to four objects, by turns about what is and what is not.

    Args:
        noise: Of the pixels.
    """
    return ask_existence(model, World(objects=OBJECTS, noise=noise), n=n, seed=seed)


def ask_kinds(
    model: TransformerBridge, noise: float, *, kinds: Sequence[str], n: int, seed: int
) -> AskedPictures:
    """Ask other kinds of questions about such pictures, by turns."""
    return ask_pictures(model, World(objects=OBJECTS, noise=noise), kinds=kinds, n=n, seed=seed)


class YesAnswers(NamedTuple):
    """1 for every *yes*, 0 for every other answer.

    Attributes:
        absent: About what is not in its picture: a *yes* is a hallucination.
        present: About what is there.
    """

    absent: Float[np.ndarray, " question"]
    present: Float[np.ndarray, " question"]

    @property
    def counts(self) -> dict[str, int]:
        """How many answers *yes* are hallucinated, and how many are true."""
        return {"hallucinated": int(self.absent.sum()), "truly": int(self.present.sum())}

    def row(self) -> dict[str, float]:
        """Both shares, as a row of a table."""
        return {
            "yes though absent": float(self.absent.mean()),
            "yes where present": float(self.present.mean()),
        }


def yes_answers(yes: np.ndarray, there: Bool[np.ndarray, " question"]) -> YesAnswers:
    """Separate answers about absent objects from answers about objects that are there.

    Args:
        yes: Whether the answer is *yes*, one value for each question.
        there: Whether what is asked about is in the picture.

    Example:
        >>> yes_answers(np.array([1, 1, 0, 1]), np.array([True, False, False, True])).row()
        {'yes though absent': 0.5, 'yes where present': 1.0}
    """
    values = np.asarray(yes, dtype=float)
    return YesAnswers(values[~there], values[there])


def says_yes(
    model: TransformerBridge, asked: AskedPictures, *, rows: int = 128, under: Under | None = None
) -> Float[np.ndarray, " question"]:
    """Return 1 for every question that is answered with *yes*, 0 for every other one.

    Args:
        rows: Questions of one pass.
        under: What a pass is in: an edit for these rows of the questions.
    """
    return (said(model, asked.prompt, rows=rows, under=under) == token_of(model, "yes")).astype(float)


def tells_true(
    values: Float[np.ndarray, " question"], yes: np.ndarray, there: Bool[np.ndarray, " question"]
) -> float:
    """Return how well a value tells true answers *yes* from hallucinated ones: the area under the ROC curve.

    Example:
        >>> yes, there = np.array([1.0, 1.0, 0.0]), np.array([True, False, False])
        >>> tells_true(np.array([2.0, 1.0, 9.0]), yes, there)
        1.0
    """
    among = np.asarray(yes) > 0.5
    return auroc(np.asarray(values)[among], there[among])


def noise_row(
    noise: float, answers: Mapping[str, np.ndarray], there: Bool[np.ndarray, " question"]
) -> dict[str, float]:
    """Return what was answered at a noise of the pixels, as a row of a table.

    Args:
        answers: By way of answering, whether the answer is *yes*; one way without a name needs none.

    Example:
        >>> noise_row(0.1, {"plain": np.array([1, 0])}, np.array([True, False]))
        {'noise': 0.1, 'yes though absent, plain': 0.0, 'yes where present, plain': 1.0}
    """
    row = {"noise": noise}
    for name, yes in answers.items():
        shares = yes_answers(yes, there).row()
        row |= {f"{what}, {name}" if name else what: share for what, share in shares.items()}
    return row
