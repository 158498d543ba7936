"""Reading pairs from JSONL, strictly: every problem of a file is collected, with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from workbench.core.bounds import in_words, open_regular
from workbench.core.errors import TaskError, expect_path
from workbench.tasks.pairs import FORMAT, VERSION, Pair, Pairs, Span
from workbench.tasks.pictures.fields import parse_pictures

MAX_BYTES = 500_000_000
"""Largest file that is read."""
MAX_PROBLEMS = 10_000
"""So many problems are collected; the rest of a file is not looked at."""
MAX_LINE = 1_000_000
"""Longest line in bytes; a longer one is not a pair of prompts."""

_KEYS = {"id", "clean", "corrupted", "correct", "incorrect", "positions", "group", "image", "grid", "regions"}
_HEADER = {"format", "version", "task", "split", "seed", "corruption", "metric", "source", "options"}
_TAKEN = {
    "end": "it is always the last token",
    "rest": "it is always all tokens that no name holds",
    "each": "--position each asks for all names",
}
_POSITION = re.compile(r"(?!\d+$)[^\s<>@]{1,200}")
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with one line; line 0 is the file as a whole."""

    line: int
    message: str
    id: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


@dataclass(frozen=True, kw_only=True)
class PairsFile:
    """What could be read: the good pairs, the line of each, and all problems."""

    pairs: Pairs
    lines: tuple[int, ...]
    problems: tuple[Problem, ...]


def read_pairs(path: str | Path) -> Pairs:
    """Return all pairs of a JSONL file.

    Raises:
        TaskError: if the file cannot be read, has no pairs, or has any problem; the first twenty are listed.
    """
    found = scan_pairs(path)
    refuse(found.problems, str(path))
    return found.pairs


def scan_pairs(path: str | Path) -> PairsFile:
    """Read what can be read of a JSONL file and collect everything that is wrong with it.

    Raises:
        TaskError: if the file cannot be opened.
    """
    path = Path(path)
    with open_regular(path, most_bytes=MAX_BYTES, error=TaskError) as stream:
        return scan_stream(stream, path.name, folder=path.parent)


def scan_stream(stream: BinaryIO, name: str, *, folder: Path | None = None) -> PairsFile:
    """`scan_pairs` for an open file; ``name`` becomes the task where no header says otherwise.

    Args:
        folder: Where the paths of pictures begin; None where there is no such place, as on standard input.
    """
    items: list[Pair] = []
    lines: list[int] = []
    problems: list[Problem] = []
    header: dict[str, object] = {}
    first_line_of: dict[str, int] = {}
    for number, data in _parsed_lines(stream, problems):
        if len(problems) >= MAX_PROBLEMS:
            said = f"{len(problems):,} problems so far; what follows was not looked at"
            problems.append(Problem(line=number, message=said))
            break
        if isinstance(data, dict) and "format" in data:
            header |= _header(data, number, first=not items and not header, problems=problems)
            continue
        pair, wrong = parse_pair(data, default_id=f"line-{number:04d}", folder=folder)
        if pair is not None and pair.id in first_line_of:
            wrong = [f"id {pair.id!r} was already used in line {first_line_of[pair.id]}"]
        named = data.get("id", "") if isinstance(data, dict) else ""
        named = named if isinstance(named, str) else ""
        problems += [Problem(line=number, message=message, id=named) for message in wrong]
        if pair is not None and not wrong:
            first_line_of[pair.id] = number
            items.append(pair)
            lines.append(number)
    if not items and not problems:
        problems.append(Problem(line=0, message="the file has no pairs"))
    known: dict[str, Any] = {"task": Path(name).stem, "split": "all", "source": name} | header
    return PairsFile(pairs=Pairs(items=tuple(items), **known), lines=tuple(lines), problems=tuple(problems))


def refuse(problems: Iterable[Problem], where: str) -> None:
    """Raise a TaskError that lists problems, if there are any."""
    problems = list(problems)
    if not problems:
        return
    listed = "".join(f"\n  {problem}" for problem in problems[:20])
    more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise TaskError(
        f"{where}: {count}{listed}{more}",
        hint="correct the lines; workbench task check FILE reads them again (docs/pairs-format.md)",
    )


def _parsed_lines(stream: BinaryIO, problems: list[Problem]) -> Iterator[tuple[int, object]]:
    number = n_bytes = 0
    while len(problems) < MAX_PROBLEMS and (raw := stream.readline(MAX_LINE + 1)):
        number, n_bytes = number + 1, n_bytes + len(raw)
        if n_bytes > MAX_BYTES:  # of standard input, which may never end
            said = f"more than {in_words(MAX_BYTES)}; what follows was not read"
            problems.append(Problem(line=number, message=said))
            return
        if number == 1 and raw[:2] in _BOMS:
            problems.append(Problem(line=1, message="the file is UTF-16; save it as UTF-8"))
            return
        if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
            message = "the file starts with a byte order mark; save it as UTF-8 without one"
            problems.append(Problem(line=1, message=message))
            raw = raw[3:]
        if len(raw) > MAX_LINE:
            problems.append(Problem(line=number, message=f"longer than {MAX_LINE:,} bytes"))
            while raw and not raw.endswith(b"\n") and n_bytes <= MAX_BYTES:
                raw = stream.readline(MAX_LINE)
                n_bytes += len(raw)
            continue
        if not raw.strip():
            continue
        try:
            yield number, parse_json(raw.decode("utf-8"))
        except UnicodeDecodeError as problem:
            message = f"not UTF-8: byte 0x{raw[problem.start]:02x} at column {problem.start + 1}"
            problems.append(Problem(line=number, message=message))
        except ValueError as problem:
            problems.append(Problem(line=number, message=f"not JSON: {problem}"))


def parse_json(text: str) -> object:
    """JSON without NaN, infinities, repeated keys or nesting beyond Python's limit.

    Raises:
        ValueError: for those and for anything that is not JSON.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            keys = [key for key, _ in pairs]
            raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
        return dict(pairs)

    def refuse_constant(name: str) -> object:
        raise ValueError(f"{name} is not allowed")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant)
    except json.JSONDecodeError as problem:
        raise ValueError(f"{problem.msg} at column {problem.pos + 1}") from problem
    except RecursionError as problem:
        raise ValueError("nested too deeply") from problem


def _header(data: dict, number: int, *, first: bool, problems: list[Problem]) -> dict[str, object]:
    def wrong(message: str) -> dict[str, object]:
        problems.append(Problem(line=number, message=message))
        return {}

    if data["format"] != FORMAT:
        return wrong(f"format is {data['format']!r}; expected {FORMAT!r}")
    if data.get("version") != VERSION:
        return wrong(f"version is {data.get('version')!r}; this program reads version {VERSION}")
    if not first:
        return wrong("a header may only be the first line")
    if unknown := sorted(set(data) - _HEADER):
        return wrong(f"unknown key {unknown[0]!r} in the header")
    known = {key: value for key, value in data.items() if key not in ("format", "version")}
    for key, value in known.items():
        kinds = {"seed": (int, type(None)), "options": (dict,)}.get(key, (str,))
        if not isinstance(value, kinds) or isinstance(value, bool):
            return wrong(f"{key} in the header is {value!r}")
    if half := _half_of_a_pair(known):
        return wrong(f"the header holds {half[:40]!r}, which has half of a surrogate pair and is no text")
    return known


def _half_of_a_pair(value: Any) -> str | None:
    """The first text, key or value, that UTF-8 cannot hold; None if all is text."""
    if isinstance(value, str):
        return value if _is_halved(value) else None
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((half for item in inner if (half := _half_of_a_pair(item)) is not None), None)


def _is_halved(text: str) -> bool:
    return any(0xD800 <= ord(character) < 0xE000 for character in text)


_NO_PICTURE = (
    ", and the pair has no picture (a model that reads pictures needs one for each prompt: "
    '"image": {"clean": "a.png", "corrupted": "b.png"})'
)


def parse_pair(data: object, *, default_id: str, folder: Path | None = None) -> tuple[Pair | None, list[str]]:
    """Return the pair a JSON value describes, or None, and everything that is wrong with it.

    Args:
        folder: Where the paths of its pictures begin.
    """
    if not isinstance(data, dict):
        return None, [f"expected an object with clean, corrupted and correct; found {_kind(data)}"]
    wrong = [f"unknown key {key!r}" for key in sorted(set(data) - _KEYS)]
    wrong += [f"{key} is missing" for key in ("clean", "corrupted", "correct") if key not in data]
    texts = {"id": default_id, "group": ""} | {
        k: data[k] for k in ("id", "group", "clean", "corrupted") if k in data
    }
    seen = parse_pictures(data, folder, wrong)
    shown = "image" in data  # also one that cannot be read: that is said already
    for key, value in texts.items():  # a model that reads no words is shown a picture alone
        wrong += _text(key, value, empty_ok=key == "group" or (key != "id" and shown))
    answers = {key: _answers(key, data.get(key, []), wrong) for key in ("correct", "incorrect")}
    if "correct" in data and data["correct"] == []:
        wrong.append("correct has no answer")
    for answer in answers["correct"]:
        if answer in answers["incorrect"]:
            wrong.append(f"answer {answer!r} is both correct and incorrect")
    if not wrong and texts["clean"] == texts["corrupted"] and seen.are_alike(wrong):
        asked = not shown and "<image>" in texts["clean"]
        wrong.append(f"clean and corrupted are the same text{_NO_PICTURE if asked else seen.alike}")
    positions = (
        {} if wrong else _positions(data.get("positions", {}), texts["clean"], texts["corrupted"], wrong)
    )
    wrong += [f"{name!r} is a position and a region" for name in positions if name in seen.regions]
    wrong += [f"{name!r} is a position and a set of the picture's patches" for name in seen.taken(positions)]
    if wrong:
        return None, wrong
    return Pair(
        **texts,
        correct=answers["correct"],
        incorrect=answers["incorrect"],
        positions=positions,
        image=seen.image,
        grid=seen.grid,
        regions=seen.regions,
    ), []


def _text(key: str, value: object, *, empty_ok: bool) -> list[str]:
    if not isinstance(value, str):
        return [f"{key} is {_kind(value)}; expected text"]
    if not value.strip() and not empty_ok:
        return [f"{key} is empty{_NO_PICTURE if key in ('clean', 'corrupted') else ''}"]
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return [f"{key} holds half of a surrogate pair, which is not text"]
    return []


def _answers(key: str, value: object, wrong: list[str]) -> tuple[str, ...]:
    if isinstance(value, str):
        wrong.append(f"{key} is text; expected a list: [{json.dumps(value)}]")
        return ()
    if not isinstance(value, list):
        wrong.append(f"{key} is {_kind(value)}; expected a list of texts")
        return ()
    found = [problem for answer in value for problem in _text(f"an answer of {key}", answer, empty_ok=False)]
    wrong += found
    if found:
        return ()
    wrong += [f"{key} lists {answer!r} twice" for answer in sorted({a for a in value if value.count(a) > 1})]
    return tuple(value)


def _positions(value: object, clean: str, corrupted: str, wrong: list[str]) -> dict[str, tuple[Span, Span]]:
    if not isinstance(value, dict):
        wrong.append(f"positions is {_kind(value)}; expected an object")
        return {}
    found = {}
    for name, spans in value.items():
        if name in _TAKEN or not _POSITION.fullmatch(name):
            reason = _TAKEN.get(name, "no spaces, @, < or >, and not a number")
            wrong.append(f"a position cannot be called {name!r}: {reason}")
        elif not (isinstance(spans, list) and len(spans) == 2 and all(_is_span(span) for span in spans)):
            wrong.append(
                f"position {name!r} is {_short(spans)}; expected [[start, end], [start, end]] in characters"
            )
        else:
            found[name] = (tuple(spans[0]), tuple(spans[1]))
            for side, text, (start, end) in zip(
                ("clean", "corrupted"), (clean, corrupted), spans, strict=True
            ):
                if not 0 <= start < end <= len(text):
                    message = f"[{start}, {end}] is no part of the {side} prompt of {len(text)} characters"
                    wrong.append(f"position {name!r}: {message}")
    return found


def _is_span(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(edge) is int for edge in value)


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def load_pairs(path: str | Path) -> Pairs:
    """Read a JSONL file of pairs, strictly.

    Returns:
        The pairs in the order of the file.

    Raises:
        TaskError: naming every line that cannot be used.

    Example:
        >>> import workbench as wb
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> file = wb.save(wb.make_pairs("ioi", n=3), Path(mkdtemp()) / "mine.jsonl")
        >>> len(wb.load_pairs(file))
        3
    """
    expect_path(path)
    return read_pairs(path)
