"""How a model reads text, known from its tokenizer and configuration alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import ModelError
from workbench.tasks.align import AlignedPairs, align
from workbench.tasks.pairs import Pairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a model reads text: its tokenizer, whether BOS comes first, the most tokens it takes."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    prepend_bos: bool
    n_ctx: int | None


def reading_of(name: str, *, offline: bool | None = None, trust_remote_code: bool = False) -> Reading:
    """The reading of a model by name, from its tokenizer and configuration; weights are not loaded.

    Raises:
        ModelError: if the model cannot be found or has no tokenizer.
    """
    from workbench.model import hub, zoo
    from workbench.model.bos import prepends_bos
    from workbench.model.tokenizers import load_tokenizer

    directory = zoo.locate(name).directory
    if directory is None:
        directory = hub.fetch(name, revision=None, offline=hub.is_offline(offline), code=trust_remote_code)
    tokenizer = load_tokenizer(directory, trust_remote_code=trust_remote_code)
    if tokenizer is None:
        raise ModelError(
            f"{name} has no tokenizer; pairs of text need one", hint="put a tokenizer.json beside it"
        )
    has_bos = tokenizer.bos_token_id is not None and prepends_bos(
        directory, trust_remote_code=trust_remote_code
    )
    return Reading(name=name, tokenizer=tokenizer, prepend_bos=has_bos, n_ctx=_context(directory))


def _context(directory: Path) -> int | None:
    """The most tokens a model takes, from its configuration; None where that does not say."""
    for file in ("tl_native.json", "config.json"):
        try:
            config = json.loads((directory / file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for part in (config, config.get("text_config")) if isinstance(config, dict) else ():
            for key in ("n_ctx", "max_position_embeddings", "n_positions"):
                if isinstance(part, dict) and type(part.get(key)) is int:
                    return part[key]
    return None


def is_file(task: str) -> bool:
    """Whether a task's name is meant as a file of pairs."""
    return task.endswith(".jsonl") or "/" in task or "\\" in task


def align_for(pairs: Pairs, reading: Reading, *, minimum: int = 1) -> AlignedPairs:
    """Pairs as a model reads them."""
    return align(
        pairs, reading.tokenizer, prepend_bos=reading.prepend_bos, n_ctx=reading.n_ctx, minimum=minimum
    )
