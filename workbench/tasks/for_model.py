"""Pairs for a model: its tokenizer's reading of a task or of a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import ModelError, TaskError
from workbench.tasks.align import AlignedPairs, align
from workbench.tasks.fit import fit_pairs
from workbench.tasks.pairs import Pairs, load_pairs
from workbench.tasks.registry import Option

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
    from workbench.model import hub, native, zoo
    from workbench.model.huggingface import read_config
    from workbench.model.tokenizers import load_tokenizer

    directory = zoo.locate(name).directory
    if directory is None:
        directory = hub.fetch(name, revision=None, offline=hub.is_offline(offline), code=trust_remote_code)
    tokenizer = load_tokenizer(directory, trust_remote_code=trust_remote_code)
    if tokenizer is None:
        raise ModelError(
            f"{name} has no tokenizer; pairs of text need one", hint="put a tokenizer.json beside it"
        )
    if native.is_native(directory):
        n_ctx = native.read_native_config(directory).n_ctx
    else:
        config = read_config(directory, trust_remote_code=trust_remote_code).get_text_config()
        n_ctx = getattr(config, "max_position_embeddings", None)
    return Reading(
        name=name, tokenizer=tokenizer, prepend_bos=tokenizer.bos_token_id is not None, n_ctx=n_ctx
    )


def is_file(task: str) -> bool:
    """Whether a task's name is meant as a file of pairs."""
    return task.endswith(".jsonl") or "/" in task or "\\" in task


def read_task(
    task: str,
    reading: Reading,
    *,
    n: int = 100,
    seed: int = 0,
    split: str = "test",
    corruption: str | None = None,
    minimum: int = 1,
    special_tokens: bool = False,
    **options: Option,
) -> AlignedPairs:
    """Aligned pairs of a task by name, or of the first ``n`` lines of a JSONL file.

    Raises:
        TaskError: if the task or file cannot be used, or fewer than ``minimum`` pairs align; if a file is
            asked for a corruption or options, which only generators have.
    """
    reads = {"prepend_bos": reading.prepend_bos, "n_ctx": reading.n_ctx, "special_tokens": special_tokens}
    if not is_file(task):
        asked = {"n": n, "seed": seed, "split": split, "corruption": corruption}
        return fit_pairs(task, reading.tokenizer, minimum=minimum, **asked, **reads, **options)
    if corruption or options:
        raise TaskError(f"{task} is a file: its pairs are as they are, without corruption or options")
    pairs: Pairs = load_pairs(Path(task))[:n]
    return align(pairs, reading.tokenizer, minimum=minimum, **reads)
