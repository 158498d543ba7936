"""Tokens that stand for something else than text: where a picture or a sound would enter. No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_FIELD = re.compile(r"(image|video|vision|audio|speech|boi|eoi|boa|eoa)(_\w+)?_token_(id|index)")
_TEXT = re.compile(r"^\W*(\w+_)?(image|img|video|vision|audio|speech)(_\w+)?\W*$", re.IGNORECASE)
_KINDS = {"boi": "image", "eoi": "image", "boa": "audio", "eoa": "audio", "vision": "image", "img": "image"}


def takes_more_than_text(config: Mapping[str, Any]) -> bool:
    """Say whether a configuration is of a model with a part for something else than text."""
    parts = {
        name for name, value in config.items() if name.endswith("_config") and isinstance(value, Mapping)
    }
    return bool(dict(_named(config))) or bool("text_config" in parts and parts - {"text_config"})


def other_inputs(config: Mapping[str, Any], tokenizer: Any = None) -> dict[int, str]:
    """Token id -> what it stands for, from a model's configuration and the special tokens of its tokenizer."""
    if not takes_more_than_text(config):
        return {}
    found = dict(_named(config))
    for text, token in (tokenizer.get_added_vocab() if tokenizer is not None else {}).items():
        named = _TEXT.match(text)
        if named and not text.isalpha():
            found.setdefault(token, _kind(named[2].lower()))
    return found


def _named(config: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Ids that the configuration, or one inside it, gives by name."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _named(value)
        elif (
            isinstance(value, int) and not isinstance(value, bool) and (found := _FIELD.fullmatch(str(name)))
        ):
            yield value, _kind(found[1])


def _kind(word: str) -> str:
    return _KINDS.get(word, word)
