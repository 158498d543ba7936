"""Where the heads of a language model look when it is asked about a picture, by kind of question.

Every question is about one object of several. Its control are the *other objects*: a head that looks at objects
whatever is asked gives both as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workbench.core.run_record import digest_of
from workbench.heads.asked_pictures import AskedPictures, ask_pictures
from workbench.heads.every_head import Measurement
from workbench.heads.example_looks import ASKED, KINDS, about_one
from workbench.heads.observe import patterns_of

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

UNIT = "share of a row"
COLUMNS = {
    "image": "what the last word gives to the picture, all patches together",
    "asked": "what the last word gives to the object that is asked about",
    "others": "what the last word gives to another object of the picture, mean over them",
    "word-asked": "what the word that names the object gives to that object",
    "word-others": "what the word that names the object gives to another object, mean over them",
}


class _Given(NamedTuple):
    """What one position of every prompt gives, each ``(question, head)``."""

    image: np.ndarray
    asked: np.ndarray
    others: np.ndarray


def question_measurements(
    model: TransformerBridge, *, n: int, seed: int
) -> tuple[list[Measurement], dict[str, Any]]:
    """Measure every head on questions about drawn pictures, kind by kind.

    Args:
        n: Questions of each kind.

    Returns:
        Measurements, ``(layer, head)`` each: shares of attention from 0 to 1; and what was asked, for the record.

    Raises:
        ModelError: if the model reads no picture and words, or pictures of another size than is drawn.
        OptionError: if such questions can hardly be asked.
    """
    found, seen = [], []
    for kind in KINDS:
        asked = ask_pictures(model, ASKED, kinds=[kind], n=n, seed=seed, wanted=[about_one])
        found += _of_kind(model, asked, kind)
        seen += [
            (scene.text, question.text) for scene, question in zip(asked.scenes, asked.questions, strict=True)
        ]
    about = f"questions about one object of two to four in drawn scenes: {', '.join(KINDS)}, {n} of each"
    ground = {
        "name": "pictures", "about": about, "n": len(seen), "asked": n * len(KINDS), "distinct": len(set(seen)),
        "digest": digest_of([list(one) for one in seen]),
    }  # fmt: skip
    return found, ground


def _of_kind(model: TransformerBridge, asked: AskedPictures, kind: str) -> list[Measurement]:
    heads = patterns_of(model, asked.prompt).by_head()
    patterns = np.stack(list(heads.values()), axis=1)  # (question, head, query, key)
    size = patterns.shape[-1]
    even = np.tril(np.ones((size, size)))
    even = np.broadcast_to(even / even.sum(-1, keepdims=True), (len(asked), 1, size, size))
    last, named = np.full(len(asked), size - 1), _naming(asked, size)
    given = {"": (_given(patterns, asked, last), _given(even, asked, last))}
    given["word-"] = (_given(patterns, asked, named), _given(even, asked, named))
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    made = []
    for name, about in COLUMNS.items():
        prefix = "word-" if name.startswith("word-") else ""
        own, chance = (getattr(one, name.removeprefix(prefix)) for one in given[prefix])
        table = dict(zip(heads, own.T, strict=True))
        made.append(_measurement(f"{name}-{kind}", f"{about} ({kind})", table, float(chance.mean()), shape))
    return made


def _naming(asked: AskedPictures, size: int) -> np.ndarray:
    """The position of the last word that names the object, counted from the end: one token a word."""
    places = []
    for question in asked.questions:
        words = question.text.split()
        places.append(size - len(words) + max(i for i, word in enumerate(words) if word in question.words))
    return np.array(places)


def _given(patterns: np.ndarray, asked: AskedPictures, at: np.ndarray) -> _Given:
    """What the positions ``at`` give to patches, to the asked object, and to another object."""
    rows = patterns[np.arange(len(asked)), :, at][..., list(asked.image)]  # (question, head, patch)
    own = asked.own.reshape(len(asked), -1).astype(float)
    others = asked.others.reshape(len(asked), asked.others.shape[1], -1).astype(float)
    n_others = others.any(-1).sum(-1)
    return _Given(
        image=rows.sum(-1),
        asked=np.einsum("qhp,qp->qh", rows, own),
        others=np.einsum("qhp,qtp->qh", rows, others) / n_others[:, None],
    )


def _measurement(
    name: str, about: str, table: dict[str, np.ndarray], chance: float, shape: tuple[int, int]
) -> Measurement:
    values, stderr = np.full(shape, np.nan), np.full(shape, np.nan)
    for head, own in table.items():
        at = tuple(int(part[1:]) for part in head.split("."))
        values[at], stderr[at] = own.mean(), own.std(ddof=1) / np.sqrt(len(own))
    return Measurement(
        name=name,
        on="pictures",
        evidence="read-out",
        values=values,
        stderr=stderr,
        null=np.where(np.isfinite(values), chance, np.nan),
        low=0.0,
        high=1.0,
        unit=UNIT,
        about=about,
        null_about="a head that looks alike at all that it may see",
        n=len(next(iter(table.values()))),
    )
