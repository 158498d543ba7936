"""Pairs for one tokenizer: token ids, answers and positions, and what had to be left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import TaskError
from workbench.core.show import Shown
from workbench.tasks.captions import CaptionAligner, Captions
from workbench.tasks.chat import in_chat_template
from workbench.tasks.outputs import ANY_TOKEN, Outputs
from workbench.tasks.pairs import Pairs
from workbench.tasks.picture_ids import PictureAligner
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.prompt_tokens import Drop
from workbench.tasks.token_ids import Aligner, require_whole
from workbench.tasks.two_answers import WholeAnswers, doubled, why_not

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BOTH = "both"  # edges of a tower for pictures and of one for captions, which meet
KINDS = {
    "empty": "empty prompt",
    "unknown": "words the tokenizer does not know",
    "length": "clean and corrupted of different length",
    "context": "longer than the model's context",
    "embedding": "tokens beyond the model's embedding",
    "not text": "tokens that stand for a picture or a sound",
    "picture": "a picture that the model cannot take, or in another number of tokens",
    "position": "a named position that is not the same token in both prompts",
    "answer": "an answer that is not one token",
    "output": "an answer that the model does not put out",
    "same-answer": "one token is both a correct and an incorrect answer",
}


# What pairs must be like instead, for those who write their own.
_NEEDED = {
    "empty": "write both prompts of every pair",
    "unknown": "use words that the tokenizer knows, or another model",
    "length": "clean and corrupted need equally many tokens: reword one of them",
    "context": "shorten the prompts to what the model reads",
    "not text": "give each prompt its picture (image), or leave such tokens out",
    "picture": 'each prompt needs what this model reads: no picture, or one ("image": {"clean": "a.png", "corrupted": '
    '"b.png"}) of its size and on its grid, with one image token in the text where it reads words',
    "embedding": "leave out tokens that were added to the tokenizer after the model was made, or resize its embedding",
    "position": "a named position must be the same token index in clean and corrupted",
    "answer": "every pair needs a correct answer, and each answer must be exactly one token; --metric answer-logprob "
    "reads one answer of several tokens for each pair",
    "output": "every answer must be one of the model's outputs: a class by its name, a caption of the pair, or a token "
    "that it can predict",
    "same-answer": "correct and incorrect answers must be different tokens",
}


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A pair that was left out: why, which words were at fault, and the kind of reason (see `KINDS`)."""

    id: str
    reason: str
    words: tuple[str, ...] = ()
    kind: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"id": self.id, "kind": self.kind, "reason": self.reason, "words": list(self.words)}


@dataclass(frozen=True, kw_only=True)
class AlignedPairs(Shown, shown_in="workbench.tasks.show"):
    """Pairs as token ids: within a pair both prompts have one length, and nothing is padded.

    Args:
        pairs: The kept pairs, in their order.
        clean: Token ids of each clean prompt, int64, with the BOS token if ``prepend_bos``.
        corrupted: The same for the corrupted prompts.
        correct: Token ids of the correct answers of each pair.
        incorrect: Token ids of the incorrect answers; may be empty.
        positions: Name -> token index (BOS counted), valid in both prompts; always has ``end``, the last
            token of the text.
        dropped: What was left out.
        sets: Name -> token indices, for pairs with a picture: ``image``, ``background``, ``class`` and the regions of
            the pair. Where a region is elsewhere in the other picture, it is at both places. Empty without pictures.
        captions: Captions of each pair that its picture is compared with; empty where a model compares none.
        read_at: Of pairs with whole answers: the token index after which each token of ``correct``, which then is one
            answer in its order, comes next (of ``incorrect``, in the second row of a pair with two whole answers). Both
            prompts are followed by all its tokens but the last. Empty where every answer is one token.
        chat: Whether the prompts stand in the model's chat template.
    """

    pairs: Pairs
    clean: tuple[np.ndarray, ...]
    corrupted: tuple[np.ndarray, ...]
    correct: tuple[tuple[int, ...], ...]
    incorrect: tuple[tuple[int, ...], ...]
    positions: tuple[dict[str, int], ...]
    dropped: tuple[Dropped, ...]
    prepend_bos: bool
    sets: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    captions: tuple[Captions, ...] = ()
    read_at: tuple[tuple[int, ...], ...] = ()
    chat: bool = False

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def position_names(self) -> tuple[str, ...]:
        """Positions that every pair names, in the order of the prompts; ``end`` is where the answer is read."""
        rows = self.positions
        shared = set.intersection(*(set(row) for row in rows)) if rows else set()
        return tuple(sorted(shared, key=lambda name: (sum(row[name] for row in rows), name)))

    @property
    def set_names(self) -> tuple[str, ...]:
        """Sets of positions that every pair names."""
        shared = set.intersection(*(set(row) for row in self.sets)) if self.sets else set()
        return tuple(name for name in (self.sets[0] if self.sets else ()) if name in shared)

    def require_change_of(self, stack: str | None) -> None:
        """Do nothing if clean and corrupted differ in what this stack reads, and in nothing else.

        Args:
            stack: ``vision`` or ``text`` of a model that compares pictures with captions; ``both`` if edges of both are
                asked for, where the picture must differ in some pair and the captions in some; None for any other
                model.

        Raises:
            TaskError: naming the first pair that does not.
        """
        if stack == BOTH:
            self._require_change_of_both()
            return
        for pair, captions in zip(self.pairs, self.captions if stack else (), strict=False):
            image = pair.image is not None and pair.image[0] != pair.image[1]
            found = {"vision": image, "text": captions.clean != captions.corrupted}
            if [name for name, differs in found.items() if differs] != [stack]:
                said = " and ".join(
                    n for n, differs in zip(("picture", "captions"), found.values(), strict=True) if differs
                )
                raise TaskError(
                    f"clean and corrupted of pair {pair.id} differ in {said}; edges of the {stack} stack carry what "
                    "changes there alone",
                    hint="--corruption picture for edges of vision; those of text are measured from Python alone: "
                    "wb.paired_runs(wb.captioned(model, 'text'), task, corruption='caption')",
                )

    def _require_change_of_both(self) -> None:
        pictures = any(pair.image is not None and pair.image[0] != pair.image[1] for pair in self.pairs)
        captions = any(one.clean != one.corrupted for one in self.captions)
        for name, tower, differ in (("picture", "vision", pictures), ("captions", "text", captions)):
            if not differ:
                raise TaskError(
                    f"clean and corrupted have the same {name} in all {len(self)} pairs; every edge of the {tower} "
                    "tower would have no effect",
                    hint="--corruption both changes picture and captions; without --with-tower edges are of the "
                    "pictures' tower alone",
                )

    def __getitem__(self, index: slice) -> AlignedPairs:
        if not isinstance(index, slice):
            raise TypeError("take aligned pairs by slice; single pairs are in .pairs")
        names = ("pairs", "clean", "corrupted", "correct", "incorrect", "positions", "sets", "captions")
        cut = {name: getattr(self, name)[index] for name in (*names, "read_at")}
        return replace(self, **cut)

    def subset(self, indices: Sequence[int]) -> AlignedPairs:
        """These pairs in this order; one may come twice."""
        names = ["clean", "corrupted", "correct", "incorrect", "positions"]
        names += [name for name in ("sets", "captions", "read_at") if getattr(self, name)]
        chosen: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in indices) for name in names}
        return replace(self, pairs=replace(self.pairs, items=tuple(self.pairs[i] for i in indices)), **chosen)

    def __repr__(self) -> str:
        lengths = sorted({len(ids) for ids in self.clean})
        tokens = f"{lengths[0]}-{lengths[-1]} tokens" if lengths else "no tokens"
        return f"AlignedPairs({len(self)} of {len(self) + len(self.dropped)} pairs, {tokens})"

    @property
    def reasons(self) -> dict[str, int]:
        """Kind of reason -> number of pairs dropped for it, most frequent first."""
        return dict(Counter(drop.kind for drop in self.dropped).most_common())


def align(
    pairs: Pairs,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    prepend_bos: bool,
    n_ctx: int | None = None,
    special_tokens: bool = False,
    d_vocab: int | None = None,
    other_inputs: Mapping[int, str] = MappingProxyType({}),
    outputs: Outputs = ANY_TOKEN,
    sight: Sight | None = None,
    whole_answers: WholeAnswers = False,
    chat: bool = False,
    minimum: int = 1,
) -> AlignedPairs:
    """Tokenize pairs and keep those in which clean and corrupted line up token by token.

    A pair is dropped, with a reason, when a prompt is empty, holds words the tokenizer does not know or tokens the
    model has no embedding for, is longer than ``n_ctx`` or than its partner; when a named position is not made of
    whole tokens or is another token index in the partner; when an answer is not exactly one known token or is none
    of the model's outputs; or when one token is both correct and incorrect. Answers are read as they continue the
    clean prompt; where prompt and answer would merge into one token (a year, "17" and "00") the answer's own token
    is taken. Where the outputs are classes, an answer is the name of a class.

    Args:
        prepend_bos: Put the BOS token first, unless the text already starts with it.
        n_ctx: Most tokens a prompt may have, BOS counted.
        special_tokens: Let the tokenizer add its own special tokens (encoders: ``[CLS] ... [SEP]``).
        d_vocab: Rows of the model's embedding; None if any token id will do.
        tokenizer: None for a model that reads pictures alone. Of one that compares pictures with captions, the prompts
            are captions, one on each line, and answers are some of these.
        sight: How the model takes pictures; None where it takes none. One image token in a text becomes as many as the
            picture takes.
        other_inputs: Token ids that stand for something else than text, and for what: pairs with one are dropped.
        outputs: Where answers are looked up; by default any token will do.
        whole_answers: A correct answer may have several tokens; both prompts are followed by all of them but the last.
            A pair needs exactly one, and its incorrect ones are not read. ``"both"``: each pair is two rows of one id,
            followed by the correct and by the incorrect answer; it needs exactly one of each.
        chat: Put every prompt into the tokenizer's chat template, as the user's message.
        minimum: Fewest pairs that must be left.

    Raises:
        TaskError: if fewer are left, naming the words at fault; if a BOS token is wanted and there is none.
    """
    if prepend_bos and tokenizer is not None and tokenizer.bos_token_id is None:
        raise TaskError(
            "a BOS token is to be prepended, but this tokenizer has none",
            hint="open the model with a tokenizer that defines bos_token, or use prepend_bos=False (--bos off)",
        )
    of_text: dict[str, Any] = {"n_ctx": n_ctx, "special_tokens": special_tokens, "d_vocab": d_vocab}
    of_text |= {"prepend_bos": prepend_bos, "other_inputs": other_inputs}
    of_text["whole_answers"] = bool(whole_answers)
    shown = in_chat_template(pairs, tokenizer) if chat else pairs
    work = _aligner(tokenizer, sight, outputs, of_text)
    if whole_answers:
        require_whole(work, outputs, special_tokens=special_tokens)
    if whole_answers == "both":
        found = _two_rows(shown, _aligned(doubled(shown), work, prepend_bos=prepend_bos))
    else:
        found = _aligned(shown, work, prepend_bos=prepend_bos)
    found = replace(found, chat=chat)
    if len(found) < minimum:
        raise too_few(found, minimum, hint=_hint(found))
    return found


def _aligner(
    tokenizer: PreTrainedTokenizerBase | None, sight: Sight | None, outputs: Outputs, of_text: dict[str, Any]
) -> Aligner | PictureAligner | CaptionAligner:
    """What turns the pairs of a model into tokens, by what the model reads: text, pictures, or both.

    Raises:
        TaskError: if it reads neither.
    """
    if tokenizer is not None and sight is not None and sight.captions is not None:
        return CaptionAligner(tokenizer=tokenizer, sight=sight, outputs=outputs)
    if tokenizer is not None:
        return Aligner(tokenizer=tokenizer, outputs=outputs, sight=sight, **of_text)
    if sight is not None:
        return PictureAligner(sight=sight, outputs=outputs)
    raise TaskError(
        "there is no tokenizer, and the model takes no pictures",
        hint="open_model(..., tokenizer=...), or a model that takes pictures",
    )


def _aligned(
    pairs: Pairs, work: Aligner | PictureAligner | CaptionAligner, *, prepend_bos: bool
) -> AlignedPairs:
    """The pairs that line up, and those that do not with their reason."""
    work.read_ahead(pairs)
    rows, dropped = [], []
    for pair in pairs:
        try:
            rows.append((pair, *work.align(pair)))
        except Drop as drop:
            dropped.append(Dropped(id=pair.id, reason=drop.reason, words=tuple(drop.words), kind=drop.kind))
    kept, clean, corrupted, correct, incorrect, positions, sets = (
        zip(*rows, strict=True) if rows else ((),) * 7
    )
    beside = work.captions_of if isinstance(work, CaptionAligner) and not work.alone else None
    return AlignedPairs(
        pairs=replace(pairs, items=tuple(kept)),
        clean=tuple(clean),
        corrupted=tuple(corrupted),
        correct=tuple(correct),
        incorrect=tuple(incorrect),
        positions=tuple(positions),
        dropped=tuple(dropped),
        prepend_bos=prepend_bos,
        sets=tuple(sets) if any(sets) else (),
        captions=() if beside is None else tuple(map(beside, kept)),
        read_at=tuple(map(_read_at, correct, positions)) if getattr(work, "whole_answers", False) else (),
    )


def _two_rows(pairs: Pairs, found: AlignedPairs) -> AlignedPairs:
    """Of pairs that were read twice, those whose both rows align; the tokens of the second row are incorrect."""
    at: dict[str, list[int]] = {}
    for i, pair in enumerate(found.pairs):
        at.setdefault(pair.id, []).append(i)
    first = {drop.id: drop for drop in reversed(found.dropped)}
    kept: list[int] = []
    dropped = []
    for pair in pairs:
        rows = at.get(pair.id, [])
        kind, reason = why_not(pair, [found.correct[i] for i in rows])
        if not kind:
            kept += rows
        elif pair.id in first and len(pair.incorrect) == 1:
            dropped.append(first[pair.id])
        else:
            dropped.append(Dropped(id=pair.id, reason=reason, words=pair.incorrect, kind=kind))
    two = found.subset(kept)
    right = [(tokens, ()) if i % 2 == 0 else ((), tokens) for i, tokens in enumerate(two.correct)]
    return replace(
        two,
        correct=tuple(one for one, _ in right),
        incorrect=tuple(other for _, other in right),
        dropped=tuple(dropped),
    )


def _read_at(answer: Sequence[int], positions: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(range(positions["end"], positions["end"] + len(answer)))


def too_few(
    found: AlignedPairs, minimum: int, *, hint: str = "use another task or tokenizer, or ask for more pairs"
) -> TaskError:
    """The error for an alignment that left fewer pairs than needed."""
    total = len(found) + len(found.dropped)
    message = f"{len(found)} of {total} pairs of task {found.pairs.task!r} align with this model"
    message += f"; {minimum} needed"
    if found.dropped:
        said = "; ".join(_counted(count, KINDS[kind]) for kind, count in found.reasons.items())
        first = found.dropped[0]
        message += f". Dropped: {said}\n  first: pair {first.id}: {first.reason}"
    if words := list(count_words(found.dropped).items())[:8]:
        message += "\n  words at fault: " + ", ".join(f"{word!r} ({count})" for word, count in words)
    return TaskError(message, hint=hint)


def _counted(count: int, reason: str) -> str:
    """How many pairs have a reason: `3 words the tokenizer does not know`, `2 with an answer that is not one token`."""
    joint = {"a": "with ", "an": "with ", "one": "where "}.get(reason.split()[0], "")
    return f"{count} {joint}{reason}"


def _hint(found: AlignedPairs) -> str:
    """What given pairs need, by the reason most were dropped for, with its first pair unless that is said."""
    if not found.dropped:
        return "give more pairs"
    kind = next(iter(found.reasons))
    first = next(drop for drop in found.dropped if drop.kind == kind)
    return _NEEDED[kind] + ("" if first is found.dropped[0] else f"; pair {first.id}: {first.reason}")


def count_words(dropped: Iterable[Dropped]) -> Mapping[str, int]:
    """How many dropped pairs each word was at fault in, most frequent first."""
    words = Counter(word for drop in dropped for word in sorted(set(drop.words)))
    return dict(sorted(words.items(), key=lambda item: (-item[1], item[0])))
