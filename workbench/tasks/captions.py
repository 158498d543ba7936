"""Captions beside a picture, as token ids of a model that says how alike they are: one on each line of a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.errors import TaskError
from workbench.tasks.outputs import ANY_TOKEN, Outputs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.picture_ids import PictureAligner
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.prompt_tokens import Drop

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]


def captions_in(text: str) -> tuple[str, ...]:
    """Return the captions of a prompt, one on each line.

    Example:
        >>> captions_in("a red disc\\na blue star")
        ('a red disc', 'a blue star')
    """
    return tuple(line.strip() for line in text.split("\n"))


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Token ids of the captions of one pair; the model's output j is how alike its caption j and its picture are."""

    clean: tuple[Ids, ...]
    corrupted: tuple[Ids, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each caption, equal in both prompts."""
        return tuple(map(len, self.clean))

    def of(self, side: int) -> tuple[Ids, ...]:
        """Return those of the clean (0) or the corrupted (1) prompt."""
        return self.corrupted if side else self.clean


@dataclass(kw_only=True)
class CaptionAligner:
    """Reads a picture and captions beside it; an answer is one of the clean prompt's captions.

    A pair without words is read as a picture alone.
    """

    tokenizer: PreTrainedTokenizerBase
    sight: Sight
    outputs: Outputs = ANY_TOKEN
    read: dict[str, Ids] = field(default_factory=dict)
    alone: bool = False

    def read_ahead(self, pairs: Pairs) -> None:
        """Tokenize every caption once.

        Raises:
            TaskError: if some pairs have captions and others none.
        """
        worded = [bool(pair.clean.strip() or pair.corrupted.strip()) for pair in pairs]
        self.alone = not any(worded)
        if any(worded) and not all(worded):
            bare = pairs[worded.index(False)].id
            raise TaskError(
                f"pair {bare} has no captions and others have; one way of reading is expected",
                hint="write the captions of every pair, one on each line, or of none",
            )
        for text in dict.fromkeys(c for p in pairs for t in (p.clean, p.corrupted) for c in captions_in(t)):
            if text:
                self.read[text] = tuple(self.tokenizer(text, verbose=False)["input_ids"])

    def align(
        self, pair: Pair
    ) -> tuple[np.ndarray, np.ndarray, Ids, Ids, dict[str, int], Mapping[str, tuple[int, ...]]]:
        """Return ids of both prompts, correct and incorrect captions by number, positions, and sets of positions.

        Raises:
            Drop: if the model cannot take the picture or a caption, or an answer is no caption.
        """
        pictures = PictureAligner(sight=self.sight, outputs=self.outputs)
        if self.alone:
            return pictures.align(pair)
        pictures.check_pictures(pair)
        if pair.image is not None and pair.clean == pair.corrupted and pair.image[0] == pair.image[1]:
            raise Drop("picture", "clean and corrupted are the same picture and the same captions")
        found = self.captions_of(pair)
        known = captions_in(pair.clean)
        correct, incorrect = (
            tuple(_number(known, a) for a in side) for side in (pair.correct, pair.incorrect)
        )
        if same := set(correct) & set(incorrect):
            raise Drop(
                "same-answer", f"{known[min(same)]!r} is both correct and incorrect", [known[min(same)]]
            )
        assert self.sight.captions is not None
        if self.sight.captions.own == "text":
            rows = [np.array([i for one in found.of(side) for i in one]) for side in (0, 1)]
            return rows[0], rows[1], correct, incorrect, {"end": len(rows[0]) - 1}, {}
        ids = np.arange(self.sight.n_tokens)
        return ids, ids, correct, incorrect, {"end": 0}, self.sight.sets(pair.regions, 0)

    def captions_of(self, pair: Pair) -> Captions:
        """Return the captions of a pair as token ids.

        Raises:
            Drop: if one is empty, unknown or too long, is there twice, or both prompts do not line up.
        """
        made = [tuple(map(self._ids, captions_in(text))) for text in (pair.clean, pair.corrupted)]
        for text, rows in zip((pair.clean, pair.corrupted), made, strict=True):
            if len(set(rows)) < len(rows):
                twice = next(c for i, c in enumerate(captions_in(text)) if rows[i] in rows[:i])
                raise Drop("same-answer", f"the caption {twice!r} is there twice in one prompt", [twice])
        lengths = [[len(one) for one in rows] for rows in made]
        if lengths[0] != lengths[1]:
            raise Drop(
                "length", f"captions of {lengths[0]} and {lengths[1]} tokens; they must be of one length"
            )
        return Captions(clean=made[0], corrupted=made[1])

    def _ids(self, caption: str) -> Ids:
        if not caption:
            raise Drop("empty", "a line of captions is empty")
        ids, said = self.read[caption], self.sight.captions
        assert said is not None
        unknown = self.tokenizer.unk_token_id
        if unknown is not None and unknown in ids and unknown != said.end:
            words = [
                w
                for w in caption.split()
                if unknown in self.tokenizer(w, add_special_tokens=False)["input_ids"]
            ]
            raise Drop("unknown", f"the tokenizer does not know {', '.join(map(repr, words))}", words)
        if len(ids) > said.n_ctx:
            raise Drop(
                "context", f"caption {caption!r:.60} has {len(ids)} tokens; the model reads {said.n_ctx}"
            )
        if max(ids) >= said.d_vocab:
            raise Drop("embedding", f"caption {caption!r:.60}: token {max(ids)} has no embedding")
        if said.end is not None and (said.end not in ids or ids.index(said.end) != len(ids) - 1):
            where = "does not end with" if said.end not in ids else "goes on after"
            raise Drop("unknown", f"caption {caption!r:.60} {where} the end of text (id {said.end})")
        return ids


def _number(known: tuple[str, ...], answer: str) -> int:
    if answer.strip() in known:
        return known.index(answer.strip())
    outputs = Outputs(size=len(known), classes=known)
    near = outputs.closest(answer)
    meant = f"; did you mean {near!r}?" if near else ""
    listed = "; ".join(map(repr, known[:4])) + (" ..." if len(known) > 4 else "")
    raise Drop(
        "output", f"the answer {answer!r} is none of the {len(known)} captions ({listed}){meant}", [answer]
    )
