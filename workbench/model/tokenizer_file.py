"""A tokenizer from ``tokenizer.json`` without transformers: what reading pairs asks of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer


class FileTokenizer:
    """The part of transformers' tokenizer classes that reading pairs needs, with the same names and the same answers.

    Attributes:
        bos_token_id, unk_token_id, unk_token: None where the configuration names no such token.
    """

    is_fast = True

    def __init__(self, directory: Path) -> None:
        self._own = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._own.no_truncation()
        self._own.no_padding()
        config = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.unk_token: str | None = config.get("unk_token")
        self.bos_token_id = self._id(config.get("bos_token"))
        self.unk_token_id = self._id(self.unk_token)

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self._own.token_to_id(token)

    def __len__(self) -> int:
        return self._own.get_vocab_size(with_added_tokens=True)

    def __call__(
        self, texts: Sequence[str], *, add_special_tokens: bool = True, **unused: Any
    ) -> dict[str, list[Any]]:
        """Token ids, the characters that each covers, and which are marks around the text.

        Args:
            unused: What transformers would be told: never truncate, never pad, return all three.
        """
        found = self._own.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return {
            "input_ids": [encoded.ids for encoded in found],
            "offset_mapping": [encoded.offsets for encoded in found],
            "special_tokens_mask": [encoded.special_tokens_mask for encoded in found],
        }

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> str | list[str | None] | None:
        """Return the tokens of some ids; None for an id that it does not have."""
        if isinstance(ids, int):
            return self._own.id_to_token(ids)
        return [self._own.id_to_token(int(i)) for i in ids]
