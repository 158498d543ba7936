"""Prompts in the chat template of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from workbench.core.errors import OptionError, TaskError
from workbench.tasks.pairs import Pair, Pairs, Span

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def in_template(text: str, tokenizer: PreTrainedTokenizerBase | None) -> str:
    """Return a text as a user's message in a chat template, up to where the answer begins.

    Raises:
        OptionError: if the tokenizer has no such template.
    """
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise OptionError("the model's tokenizer has no chat template", hint="leave out --chat")
    messages = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def in_chat_template(pairs: Pairs, tokenizer: PreTrainedTokenizerBase | None) -> Pairs:
    """Return pairs with both prompts in the template; named positions move along with their words.

    Raises:
        OptionError: if the tokenizer has no such template.
        TaskError: if the template does not hold a prompt as it is.
    """
    return replace(pairs, items=tuple(_pair(pair, tokenizer) for pair in pairs))


def _pair(pair: Pair, tokenizer: PreTrainedTokenizerBase | None) -> Pair:
    (clean, before), (corrupted, other) = (_put(text, tokenizer) for text in (pair.clean, pair.corrupted))
    moved: Mapping[str, tuple[Span, Span]] = {
        name: (_by(one, before), _by(two, other)) for name, (one, two) in pair.positions.items()
    }
    return replace(pair, clean=clean, corrupted=corrupted, positions=moved)


def _put(text: str, tokenizer: PreTrainedTokenizerBase | None) -> tuple[str, int]:
    """A prompt in the template, and how many characters come before it."""
    whole = in_template(text, tokenizer)
    if whole.count(text) != 1:
        raise TaskError(
            f"the chat template does not hold the prompt {text!r} once and as it is",
            hint="leave out spaces at its ends, or write the template into the pairs and leave out --chat",
        )
    return whole, whole.index(text)


def _by(span: Span, characters: int) -> Span:
    return span[0] + characters, span[1] + characters
