"""Two speakers in one text, and a drawn signal that says with noise whom a listener attends to. No torch here.

No brain is recorded: a signal is a fixed random mixture of the voice of the attended speaker, plus noise. What the
listener attends to is therefore known exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from workbench.core.errors import OptionError

SPEAKERS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Talks:
    """Texts in which two speakers take turns; each says one word after giving their name.

    Attributes:
        words: Token ids of the texts without a question, ``(talk, pos)``.
        speakers: Who speaks, numbers of names, ``(talk, speaker)``.
        said: What each says, a token id, ``(talk, speaker)``.
        attended: Which of the two is listened to.
    """

    words: Int[np.ndarray, "talk pos"]
    speakers: Int[np.ndarray, "talk speaker"]
    said: Int[np.ndarray, "talk speaker"]
    attended: Int[np.ndarray, " talk"]

    @property
    def heard(self) -> Int[np.ndarray, " talk"]:
        """Who is attended to."""
        return np.take_along_axis(self.speakers, self.attended[:, None], 1)[:, 0]

    @property
    def other(self) -> Int[np.ndarray, " talk"]:
        """Who speaks too."""
        return np.take_along_axis(self.speakers, 1 - self.attended[:, None], 1)[:, 0]


def draw_talks(
    names: Sequence[int],
    values: Sequence[int],
    fillers: Sequence[int],
    *,
    among: Sequence[int],
    n: int,
    length: int,
    seed: int,
) -> Talks:
    """Draw talks: two names, each followed by a value, at random places among fillers; either may be attended to.

    Args:
        names, values, fillers: Token ids.
        among: Numbers of the names that may speak.
        length: Tokens of a talk.

    Raises:
        OptionError: for fewer than two names or too short a talk.

    Example:
        >>> talks = draw_talks([7, 8, 9], [1, 2, 3], [4, 5], among=[0, 2], n=4, length=12, seed=0)
        >>> talks.words.shape, sorted(set(talks.speakers.flatten().tolist()))
        ((4, 12), [0, 2])
    """
    if len(set(among)) < SPEAKERS or length < 3 * SPEAKERS:
        raise OptionError(
            f"{len(set(among))} names and {length} words; two names and {3 * SPEAKERS} words are needed",
            hint="length=48, and at least two names",
        )
    rng = np.random.default_rng(seed)
    words = rng.choice(np.asarray(fillers), (n, length))
    speakers = np.stack([rng.choice(np.asarray(among), SPEAKERS, replace=False) for _ in range(n)])
    said = np.stack([rng.choice(np.asarray(values), SPEAKERS, replace=False) for _ in range(n)])
    for i in range(n):
        first, second = np.sort(rng.choice(length - SPEAKERS, SPEAKERS, replace=False))
        at = np.array([first, second + 1])[rng.permutation(SPEAKERS)]  # turns do not overlap
        words[i, at], words[i, at + 1] = np.asarray(names)[speakers[i]], said[i]
    return Talks(words=words, speakers=speakers, said=said, attended=rng.integers(0, SPEAKERS, n))


def mixture(electrodes: int, width: int, *, seed: int) -> Float[np.ndarray, "electrode d"]:
    """Draw how the voices of speakers show at electrodes: a fixed random matrix, its columns of about length 1."""
    return np.random.default_rng(seed).normal(size=(electrodes, width)) / np.sqrt(electrodes)


def signals(
    voices: Float[np.ndarray, "trial d"],
    mixed: Float[np.ndarray, "electrode d"],
    *,
    noise: float,
    seed: int,
) -> Float[np.ndarray, "trial electrode"]:
    """Draw what is measured while voices are attended to.

    Args:
        noise: Standard deviation at each electrode, in units of the spread of voices there.

    Example:
        >>> signals(np.ones((2, 3)), np.eye(3), noise=0.0, seed=0).tolist()
        [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    clean = voices @ mixed.T
    drawn = np.random.default_rng(seed).normal(size=clean.shape)
    return clean + noise * float(clean.std()) * drawn
