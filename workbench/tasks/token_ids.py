"""One pair as token ids of one model, or the reason why it cannot be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import OptionError, TaskError
from workbench.tasks.outputs import ANY_TOKEN, Outputs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.prompt_tokens import Drop, PromptTokens, different_length, position_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(kw_only=True)
class Aligner:
    """Reads prompts and answers as a model does; what it has tokenized once it keeps.

    The fields are the arguments of ``align``.
    """

    tokenizer: PreTrainedTokenizerBase
    prepend_bos: bool
    n_ctx: int | None = None
    special_tokens: bool = False
    d_vocab: int | None = None
    other_inputs: Mapping[int, str] = field(default_factory=dict)
    outputs: Outputs = ANY_TOKEN
    sight: Sight | None = None
    whole_answers: bool = False
    prompts: dict[str, PromptTokens] = field(default_factory=dict)
    answers: dict[tuple[str, str], tuple[int, ...] | Drop] = field(default_factory=dict)

    def read_ahead(self, pairs: Pairs) -> None:
        """Tokenize all prompts in one call: ten times faster than one by one."""
        texts = list(
            dict.fromkeys(text for pair in pairs for text in (pair.clean, pair.corrupted) if text.strip())
        )
        if not texts:
            return
        if not self.tokenizer.is_fast:
            self.prompts = {text: self._slow(text) for text in texts}
            return
        out = self.tokenizer(
            texts,
            add_special_tokens=self.special_tokens,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            truncation=False,
            padding=False,
            verbose=False,
        )
        columns = zip(texts, out["input_ids"], out["offset_mapping"], out["special_tokens_mask"], strict=True)
        for text, ids, spans, special in columns:
            marks = [bool(mark) and a == b for mark, (a, b) in zip(special, spans, strict=True)]
            self.prompts[text] = PromptTokens(text, list(ids), [tuple(span) for span in spans], marks)

    def _slow(self, text: str) -> PromptTokens:
        """Character spans without offsets, from how many tokens each prefix of the text has."""
        if self.special_tokens:
            raise TaskError(
                "this tokenizer gives no character offsets, which special tokens need",
                hint="give a fast tokenizer: PreTrainedTokenizerFast",
            )
        ids = self._ids([text])[0]
        ends, done = [], 0
        for end in range(1, len(text) + 1):
            prefix = self._ids([text[:end]])[0]
            while done < len(ids) and len(prefix) > done and prefix[: done + 1] == ids[: done + 1]:
                ends.append(end)
                done += 1
        if len(ends) != len(ids):
            ends += [len(text)] * (len(ids) - len(ends))
        return PromptTokens(text, ids, list(zip([0, *ends[:-1]], ends, strict=True)), [False] * len(ids))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def align(
        self, pair: Pair
    ) -> tuple[
        np.ndarray,
        np.ndarray,
        tuple[int, ...],
        tuple[int, ...],
        dict[str, int],
        Mapping[str, tuple[int, ...]],
    ]:
        """Token ids of both prompts, correct and incorrect answers, positions, and sets of positions.

        Raises:
            Drop: if the pair does not align.
        """
        for side, text in (("clean", pair.clean), ("corrupted", pair.corrupted)):
            if not text.strip():
                raise Drop("empty", f"the {side} prompt is empty")
        image = pair.image or (None, None)
        clean = self._with_picture("clean", self.prompts[pair.clean], image[0])
        corrupted = self._with_picture("corrupted", self.prompts[pair.corrupted], image[1])
        self._check_differ(pair)
        for side, tokens in (("clean", clean), ("corrupted", corrupted)):
            self._check_known(side, tokens)
        clean_ids, shift = self._with_bos(clean.ids)
        corrupted_ids, other_shift = self._with_bos(corrupted.ids)
        for side, ids in (("clean", clean_ids), ("corrupted", corrupted_ids)):
            self._check_embedded(side, ids, shown=pair.image is not None)
        if len(clean_ids) != len(corrupted_ids):
            raise different_length(clean, corrupted, len(clean_ids), len(corrupted_ids))
        positions = {
            name: position_of(name, *spans, clean, corrupted) for name, spans in pair.positions.items()
        }
        positions["end"] = max(index for index, special in enumerate(clean.special) if not special)
        if shift != other_shift:
            raise Drop("length", "only one of the two prompts starts with the BOS token")
        prompt = self.prompts[pair.clean]
        correct, incorrect = self._both_answers(pair, prompt)
        followed = correct[:-1] if self.whole_answers else ()
        clean_ids, corrupted_ids = [*clean_ids, *followed], [*corrupted_ids, *followed]
        if self.n_ctx is not None and len(clean_ids) > self.n_ctx:
            raise Drop("context", f"{len(clean_ids)} tokens, the model's context holds {self.n_ctx}")
        for answer, token in zip(pair.incorrect if incorrect else (), incorrect, strict=True):
            if token in correct:
                other = pair.correct[correct.index(token)]
                raise Drop(
                    "same-answer", f"correct {other!r} and incorrect {answer!r} are the same token", [answer]
                )
        if not self.whole_answers:  # two spellings of one token are one answer: its probability counts once
            correct, incorrect = (tuple(dict.fromkeys(side)) for side in (correct, incorrect))
        indices = {name: index + shift for name, index in positions.items()}
        sets = self._sets(pair, clean_ids, corrupted_ids)
        if twice := [name for name in indices if name in sets]:
            raise Drop("position", f"{twice[0]!r} is a position and a set of the picture's patches", twice)
        return np.array(clean_ids), np.array(corrupted_ids), correct, incorrect, indices, sets

    def _with_bos(self, ids: list[int]) -> tuple[list[int], int]:
        bos = self.tokenizer.bos_token_id
        if self.prepend_bos and ids[:1] != [bos]:
            return [bos, *ids], 1
        return ids, 0

    def _check_known(self, side: str, tokens: PromptTokens) -> None:
        if not any(not special for special in tokens.special):
            raise Drop("empty", f"the {side} prompt has no tokens")
        unknown = self.tokenizer.unk_token_id
        if unknown is None or unknown not in tokens.ids:
            return
        places = [i for i, token in enumerate(tokens.ids) if token == unknown and not tokens.special[i]]
        words = [tokens.token(i).strip() for i in places]
        words = [
            word for word in words if word != self.tokenizer.unk_token
        ]  # written out, as GPT-2's <|endoftext|>
        if words:
            listed = ", ".join(repr(word) for word in dict.fromkeys(words))
            raise Drop(
                "unknown", f"the {side} prompt has words this tokenizer does not know: {listed}", words
            )

    def _with_picture(self, side: str, tokens: PromptTokens, picture: Picture | None) -> PromptTokens:
        """The tokens with as many for the picture as the model gives it."""
        if picture is None:
            return tokens
        if self.sight is None or self.sight.token is None:
            raise Drop("picture", f"the {side} prompt has a picture, and the model takes none beside words")
        if why := self.sight.why_not(picture):
            raise Drop("picture", f"the {side} prompt: {why}")
        sight = self.sight.of(picture)
        whole = picture_ids(self.tokenizer, sight)
        n, found = sight.n_tokens, tokens.ids.count(self.sight.token)
        name = self.tokenizer.convert_ids_to_tokens([self.sight.token])[0]
        if found == n:
            at = tokens.ids.index(self.sight.token)
            if tokens.ids[at : at + len(whole)] != whole:
                runs, expected = (_runs(ids, self.sight.token) for ids in (tokens.ids, whole))
                reason = f"the {side} prompt has {' + '.join(map(str, runs))} tokens {name!r} with others between; "
                reason += f"one run of {n} is expected" if len(expected) == 1 else ""
                reason += _row_by_row(expected, sight) if len(expected) > 1 else ""
                raise Drop("picture", reason, [name])
            return tokens
        if found != 1:
            reason = (
                f"the {side} prompt has {found} tokens {name!r}; {n} are expected, or 1 that stands for all"
            )
            raise Drop("picture", reason, [name])
        return tokens.spread(tokens.ids.index(self.sight.token), whole)

    def _sets(self, pair: Pair, clean: list[int], corrupted: list[int]) -> Mapping[str, tuple[int, ...]]:
        """The sets of positions that the picture has in the prompt."""
        if pair.image is None or self.sight is None or self.sight.token is None:
            return {}
        starts = [ids.index(self.sight.token) for ids in (clean, corrupted)]
        if starts[0] != starts[1]:
            raise Drop(
                "position",
                f"the picture is at token {starts[0]} of the clean and {starts[1]} of the corrupted prompt",
            )
        sizes = [picture.size for picture in pair.image] if self.sight.sizes is not None else []
        if sizes and sizes[0] != sizes[1]:
            (a, b), (c, d) = sizes
            reason = f"the pictures of the clean and the corrupted prompt have {a} x {b} and {c} x {d} pixels"
            raise Drop("picture", f"{reason}; one size is expected")
        sight = self.sight.of(pair.image[0])
        if why := sight.why_no_grid(pair.grid):
            raise Drop("picture", why)
        return sight.sets(pair.regions, [i for i, token in enumerate(clean) if token == self.sight.token])

    def _check_differ(self, pair: Pair) -> None:
        if pair.image and pair.clean == pair.corrupted and pair.image[0].digest == pair.image[1].digest:
            raise Drop("picture", "clean and corrupted are the same text and the same picture")

    def _check_embedded(self, side: str, ids: Sequence[int], *, shown: bool) -> None:
        beyond = beyond_embedding(self.tokenizer, ids, self.d_vocab)
        if beyond:
            raise Drop("embedding", f"the {side} prompt: {next(iter(beyond.values()))}", beyond)
        other = not_text(self.tokenizer, ids, unseen(self.other_inputs, self.sight, shown))
        if other:
            raise Drop("not text", f"the {side} prompt: {next(iter(other.values()))}", other)

    def _both_answers(self, pair: Pair, prompt: PromptTokens) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids of correct and incorrect answers; of whole answers the tokens of the one that is correct.

        Raises:
            Drop: if they are not what the metric reads.
        """
        if not pair.correct:
            raise Drop("answer", "there is no correct answer")
        if self.outputs.classes:
            found = ([class_of(self.outputs, one) for one in side] for side in (pair.correct, pair.incorrect))
            return tuple(next(found)), tuple(next(found))
        if self.whole_answers:
            if len(pair.correct) > 1:
                reason = f"there are {len(pair.correct)} correct answers; a whole answer is exactly one"
                raise Drop("answer", reason, list(pair.correct))
            return self._answers(pair, prompt, pair.correct)[0], ()
        both = (self._answers(pair, prompt, side) for side in (pair.correct, pair.incorrect))
        correct, incorrect = (tuple(tokens[0] for tokens in side) for side in both)
        return correct, incorrect

    def _answers(self, pair: Pair, prompt: PromptTokens, answers: Sequence[str]) -> list[tuple[int, ...]]:
        last_word = re.findall(r"\S*\s*$", pair.clean)[0]  # an answer can merge with no more than this
        missing = [answer for answer in answers if (last_word, answer) not in self.answers]
        if missing:
            joined = self._ids([pair.clean + answer for answer in missing])
            alone = self._ids(list(missing))
            base = self._ids([pair.clean])[0] if self.special_tokens else prompt.ids
            for answer, with_prompt, own in zip(missing, joined, alone, strict=True):
                self.answers[last_word, answer] = self._answer(answer, base, with_prompt, own)
        found = []
        for answer in answers:
            value = self.answers[last_word, answer]
            if isinstance(value, Drop):
                raise value
            found.append(value)
        return found

    def _answer(
        self, answer: str, prompt: list[int], joined: list[int], alone: list[int]
    ) -> tuple[int, ...] | Drop:
        tokens = joined[len(prompt) :] if joined[: len(prompt)] == prompt else alone
        if not tokens or (len(tokens) != 1 and not self.whole_answers):
            names = (
                " + ".join(repr(name) for name in self.tokenizer.convert_ids_to_tokens(tokens)) or "nothing"
            )
            return Drop(
                "answer",
                f"answer {answer!r} is {len(tokens)} tokens, not one: {names}",
                [answer.strip() or answer],
            )
        if self.tokenizer.unk_token_id in tokens and answer.strip() != self.tokenizer.unk_token:
            return Drop("answer", f"answer {answer!r} is not a word this tokenizer knows", [answer.strip()])
        if self.outputs.size is not None and max(tokens) >= self.outputs.size:
            reason = f"answer {answer!r} (id {max(tokens)}) is beyond the model's {self.outputs.size} outputs"
            return Drop("output", reason, [answer.strip() or answer])
        return tuple(tokens)


def require_whole(work: object, outputs: Outputs, *, special_tokens: bool) -> None:
    """Do nothing if a model spells an answer token by token, from left to right.

    Raises:
        OptionError: if it puts out classes, compares captions, or fills gaps.
    """
    reason = ""
    if outputs.classes:
        reason = f"this model puts out {outputs.describe()}"
    elif not isinstance(work, Aligner):
        reason = "this model spells no words"
    elif special_tokens:
        reason = "this model fills gaps and spells nothing from left to right"
    if reason:
        raise OptionError(
            f"the metric reads answers token by token, and {reason}", hint="--metric logit-difference, or nll"
        )


def picture_ids(tokenizer: PreTrainedTokenizerBase, sight: Sight) -> list[int]:
    """Return the ids that stand for a picture in a text: image tokens, and what ends its rows where that is usual."""
    assert sight.token is not None
    ends: Any = [] if sight.row_ends is None else tokenizer.convert_tokens_to_ids(list(sight.row_ends))
    if not ends or None in ends or tokenizer.unk_token_id in ends:
        return [sight.token] * sight.n_tokens
    rows, columns = sight.grid
    row = [*[sight.token] * columns, ends[0]]
    return [*(row * rows)[:-1], ends[1]]


def _row_by_row(runs: Sequence[int], sight: Sight) -> str:
    assert sight.row_ends is not None
    return f"{len(runs)} rows of {runs[0]} with {sight.row_ends[0]} between and {sight.row_ends[1]} last are expected"


def _runs(ids: Sequence[int], token: int) -> list[int]:
    """How long each unbroken run of a token is."""
    return [len(list(run)) for own, run in groupby(ids, key=lambda one: one == token) if own]


def unseen(other_inputs: Mapping[int, str], sight: Sight | None, shown: bool) -> Mapping[int, str]:
    """The tokens that stand for something which a prompt does not have: all, or all but that of its picture."""
    if not shown or sight is None:
        return other_inputs
    return {token: kind for token, kind in other_inputs.items() if token != sight.token}


def class_of(outputs: Outputs, answer: str) -> int:
    """Which output a class name stands for.

    Raises:
        Drop: if there is no such class, with the closest one.
    """
    index = outputs.index(answer)
    if index is None:
        near = outputs.closest(answer)
        meant = f"; did you mean {near!r}?" if near else ""
        raise Drop("output", f"answer {answer!r} is none of the {outputs.describe()}{meant}", [answer])
    return index


def beyond_embedding(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], d_vocab: int | None
) -> dict[str, str]:
    """Tokens that the model has no embedding for, each with a sentence that says so."""
    if d_vocab is None or not len(ids) or (min(ids) >= 0 and max(ids) < d_vocab):
        return {}
    found = {}
    for token in dict.fromkeys(int(i) for i in ids if not 0 <= i < d_vocab):
        name = tokenizer.convert_ids_to_tokens([token])[0] if token >= 0 else None
        what = f"token id {token}" if name is None else f"token {name!r} (id {token})"
        found[str(token) if name is None else name] = f"{what} is beyond the model's embedding of {d_vocab}"
    return found


def not_text(
    tokenizer: PreTrainedTokenizerBase | None, ids: Sequence[int], other_inputs: Mapping[int, str]
) -> dict[str, str]:
    """Tokens that stand for something else than text, each with a sentence that says so."""
    found = {}
    for token in dict.fromkeys(int(i) for i in ids if int(i) in other_inputs) if other_inputs else ():
        name = None if tokenizer is None else tokenizer.convert_ids_to_tokens([token])[0]
        what = f"token id {token}" if name is None else f"token {name!r} (id {token})"
        kind = other_inputs[token]
        found[str(token) if name is None else name] = (
            f"{what} stands for {'an' if kind[0] in 'aeiou' else 'a'} {kind}, and the model is given text alone"
        )
    return found
