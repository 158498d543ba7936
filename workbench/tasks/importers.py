"""Pairs from other tools' files: EAP-IG csv, auto-circuit json, MIB rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core.bounds import read_bytes
from workbench.core.errors import TaskError
from workbench.core.registry import Registry, load
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.pairs_file import MAX_BYTES, Problem, parse_pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


MAX_ROWS = 2_000_000
"""Most rows of a foreign file."""


@dataclass(frozen=True, kw_only=True)
class ImportedPairs:
    """Pairs out of a foreign file, and the rows that could not be used."""

    pairs: Pairs
    problems: tuple[Problem, ...]
    n_rows: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One foreign row as a pair's JSON value, and where it stood; or what is wrong with it."""

    line: int
    data: Mapping[str, object] | None = None
    wrong: str = ""


@dataclass(frozen=True, kw_only=True)
class FoundPairs:
    """What a format's reader makes of a file."""

    rows: list[Row]
    task: str
    metric: str = "logit-difference"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Options of an import.

    Args:
        tokenizer: Turns token ids into text; formats that hold only ids need it.
        layout: Column layout of an EAP-IG csv; found by the columns when empty.
        counterfactual: Which counterfactual of a MIB row becomes the corrupted prompt.
        corrupted: Column with the corrupted prompt (some EAP-IG files have several).
    """

    tokenizer: PreTrainedTokenizerBase | None = None
    layout: str = ""
    counterfactual: str = ""
    corrupted: str = ""


Reader = Callable[[str, Path, Request], FoundPairs]


@dataclass(frozen=True)
class PairImport:
    """A format of another tool that pairs are read from.

    Attributes:
        describe: What such files are.
        reader: Gives `FoundPairs` of the text, the path and a `Request`; or ``module:function`` of it.
    """

    name: str
    describe: str
    reader: Reader | str

    def read(self, text: str, path: Path, request: Request) -> FoundPairs:
        """Say what is in a file."""
        reader: Reader = load(self.reader) if isinstance(self.reader, str) else self.reader
        return reader(text, path, request)


PAIR_IMPORTS: Registry[PairImport] = Registry(
    "format of pairs",
    group="workbench.pair_imports",
    holds=lambda made: isinstance(made, PairImport),
    error=TaskError,
)
for _ours in (
    PairImport(
        "eap-ig",
        "csv of EAP-IG: ioi, greater-than, gender-bias, sva, hypernymy, fact-retrieval",
        "workbench.tasks.import_eap_ig:read_eap_ig",
    ),
    PairImport(
        "auto-circuit",
        "json of auto-circuit: prompts with clean, corrupt, answers, wrong_answers",
        "workbench.tasks.import_json:read_auto_circuit",
    ),
    PairImport(
        "mib",
        "rows of MIB (json, jsonl, csv): prompt, choices, answerKey, ..._counterfactual",
        "workbench.tasks.import_json:read_mib",
    ),
):
    PAIR_IMPORTS.add(_ours.name, _ours, home=__name__)


def pair_import(name: str, *, describe: str) -> Callable[[Reader], Reader]:
    """Register a function that reads pairs of another tool: it gets the text, the path and a `Request`."""

    def register(reader: Reader) -> Reader:
        PAIR_IMPORTS.add(name, PairImport(name, describe, reader), home=reader.__module__)
        return reader

    return register


def list_formats() -> dict[str, str]:
    """Return names of the formats that can be imported, and what each is."""
    return {name: found.describe for name, found in PAIR_IMPORTS.items()}


def import_pairs(name: str, path: str | Path, *, request: Request | None = None) -> ImportedPairs:
    """Read a foreign file of prompt pairs.

    Raises:
        TaskError: for an unknown format, a file that cannot be read, or columns that fit no layout. Single
            rows that cannot be used are returned as problems.
    """
    made = PAIR_IMPORTS.get(name)
    path = Path(path)
    found = made.read(read_text(path), path, request or Request())
    if len(found.rows) > MAX_ROWS:
        raise TaskError(
            f"{path} has {len(found.rows):,} rows; at most {MAX_ROWS:,} are read",
            hint="split the file, or use its first lines: head -n 1000 FILE > SHORT",
        )
    items: list[Pair] = []
    problems: list[Problem] = []
    for number, row in enumerate(found.rows):
        pair, wrong = None, [row.wrong]
        if row.data is not None:
            pair, wrong = parse_pair(row.data, default_id=f"{path.stem}-{number:04d}")
        if pair is not None:
            items.append(pair)
        problems += [Problem(line=row.line, message=message) for message in wrong]
    pairs = Pairs(
        items=tuple(items), task=found.task, split="all", metric=found.metric, source=f"{name}: {path.name}"
    )
    return ImportedPairs(pairs=pairs, problems=tuple(problems), n_rows=len(found.rows))


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        TaskError: if it cannot be opened, is too large, or is not UTF-8.
    """
    data = read_bytes(path, most_bytes=MAX_BYTES, error=TaskError)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise TaskError(
            f"{path} is not UTF-8: {problem.reason} at byte {problem.start}",
            hint="save it as UTF-8: iconv -f latin1 -t utf8 FILE > NEW",
        ) from problem


def spaced(answer: str, prompt: str) -> str:
    """Return an answer as it continues a prompt: with a space, unless one is there already."""
    return answer if answer[:1].isspace() or prompt[-1:].isspace() else f" {answer}"


def token_text(tokenizer: PreTrainedTokenizerBase | None, prompt: str, token: int) -> str:
    """Return the text that continues a prompt with exactly this token.

    Raises:
        ValueError: if there is no tokenizer, no such token, or no such text.
    """
    if tokenizer is None:
        raise ValueError("the file holds token ids; name the model they belong to with -m/--model")
    if not 0 <= token < len(tokenizer):
        raise ValueError(f"token id {token} is outside the tokenizer's {len(tokenizer)} tokens")

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    plain = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))  # of one row of ids: one text
    before = ids(prompt)
    for text in dict.fromkeys((plain, f" {plain.lstrip()}")):
        if text and ids(prompt + text) == [*before, token]:
            return text
    for text in dict.fromkeys((plain, f" {plain.lstrip()}")):
        if text and ids(text) == [token]:
            return text
    raise ValueError(f"token id {token} ({plain!r}) is not the token of any text after this prompt")
