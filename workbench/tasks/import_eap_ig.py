"""Reading the csv files of EAP-IG and of its paper's repositories."""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from workbench.core.errors import TaskError, unknown
from workbench.tasks.importers import MAX_ROWS, FoundPairs, Request, Row, spaced, token_text
from workbench.tasks.sva import VERBS
from workbench.tasks.words import TWO_DIGITS

Cells = Mapping[str, str]
Answers = tuple[list[str], list[str]]

_PAIRS_OF_IDS = {  # layout -> columns with the token ids of the correct and the incorrect answer
    "ioi": ("correct_idx", "incorrect_idx"),
    "gender-bias": ("clean_answer_idx", "corrupted_answer_idx"),
    "fact-retrieval": ("country_idx", "corrupted_country_idx"),
}


_FILLED = 1_000_000  # cells that rows may lack in all
_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,18}\s*")
_ENDS = re.compile(r"\d*(\d\d)(?!\d)")  # the last two digits of every number


def read_eap_ig(text: str, path: Path, request: Request) -> FoundPairs:
    """Return rows of an EAP-IG csv; the layout is found by its columns, unless the request names one.

    ioi, gender-bias and fact-retrieval hold token ids. greater-than holds the start year's last two digits
    (``label`` or ``correct_idx``): correct are all endings above it. sva says only whether the subject is
    plural: the answers become is, was, has and are, were, have. hypernymy lists its answers.

    Raises:
        TaskError: if the file is no csv, or its columns fit no layout.
    """
    columns, table = csv_rows(text, path.name)
    corrupted = request.corrupted or "corrupted"
    for needed in ("clean", corrupted):
        if needed not in columns:
            raise TaskError(
                f"{path.name} has no column {needed!r}; found {', '.join(columns) or 'none'}",
                hint="name the column of corrupted prompts with --corrupted COLUMN, and call the other one clean",
            )
    layout = _layout(columns, request.layout, path.name)
    rows = [_row(line, cells, layout, corrupted, request) for line, cells in table]
    metric = "prob-difference" if layout in ("greater-than", "hypernymy", "sva") else "logit-difference"
    return FoundPairs(rows=rows, task=layout, metric=metric)


def csv_rows(text: str, name: str) -> tuple[list[str], list[tuple[int, Cells]]]:
    """Columns of a csv file, and its rows with the line each ends in.

    Raises:
        TaskError: if it is not csv, or has many more columns than its rows have cells.
    """
    rows: list[tuple[int, Cells]] = []
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = list(reader.fieldnames or [])
        for cells in reader:
            rows.append((reader.line_num, cells))
            # each cell has a comma or an end of line; rows that are too short are filled up
            if len(rows) > MAX_ROWS or len(rows) * len(columns) > len(text) + _FILLED:
                raise TaskError(
                    f"{name} has {len(columns):,} columns, and rows of fewer cells: {len(rows):,} so far",
                    hint="is it the right file? a column for each cell is expected",
                )
        return columns, rows
    except csv.Error as problem:
        raise TaskError(
            f"{name} is not a csv file: {problem}", hint="save it as comma-separated text, in UTF-8"
        ) from problem


def _layout(columns: list[str], asked: str, name: str) -> str:
    if asked:
        if asked not in _LAYOUTS:
            raise unknown("layout", asked, _LAYOUTS, error=TaskError)
        return asked
    fitting = [layout for layout, (fits, _) in _LAYOUTS.items() if fits(set(columns))]
    if not fitting:
        known = ", ".join(_LAYOUTS)
        raise TaskError(
            f"the columns of {name} fit no layout: {', '.join(columns)}", hint=f"--layout: {known}"
        )
    return fitting[0]


def _row(line: int, cells: Cells, layout: str, corrupted: str, request: Request) -> Row:
    if None in cells or None in cells.values():
        return Row(line=line, wrong="the row has more or fewer cells than the header")
    try:
        correct, incorrect = _LAYOUTS[layout][1](cells, request)
    except (KeyError, ValueError) as problem:
        missing = isinstance(problem, KeyError)
        return Row(line=line, wrong=f"column {problem} is missing" if missing else str(problem))
    data = {
        "clean": cells["clean"],
        "corrupted": cells[corrupted],
        "correct": correct,
        "incorrect": incorrect,
    }
    return Row(line=line, data=data | ({"group": cells["group"]} if cells.get("group") else {}))


def _from_ids(layout: str) -> Callable[[Cells, Request], Answers]:
    columns = _PAIRS_OF_IDS[layout]

    def read(cells: Cells, request: Request) -> Answers:
        if layout == "gender-bias" and request.tokenizer is None and "label" in cells:
            answers = ([" she"], [" he"])  # label 1 is the masculine reading
            return answers[::-1] if _integer(cells["label"], "label") else answers
        found = [token_text(request.tokenizer, cells["clean"], _integer(cells[c], c)) for c in columns]
        return [found[0]], [found[1]]

    return read


def _greater_than(cells: Cells, request: Request) -> Answers:
    column = "label" if "label" in cells else "correct_idx"
    year = _integer(cells[column], column)
    if not 0 <= year <= 98:
        raise ValueError(f"{column} is {year}; expected the last two digits of a year, 0 to 98")
    if f"{year:02d}" not in _ENDS.findall(cells["clean"]):
        raise ValueError(f"{column} is {year}, and no year in the prompt ends in {year:02d}")
    gap = "" if cells["clean"][-1:].isdigit() else " "
    return [gap + n for n in TWO_DIGITS[year + 1 :]], [gap + n for n in TWO_DIGITS[: year + 1]]


def _sva(cells: Cells, request: Request) -> Answers:
    plural = _integer(cells["plural"], "plural")
    if plural not in (0, 1):
        raise ValueError(f"plural is {plural}; expected 0 or 1")
    return list(VERBS[plural]), list(VERBS[1 - plural])


def _hypernymy(cells: Cells, request: Request) -> Answers:
    prompt = cells["clean"]

    def read(name: str) -> list[str]:
        if request.tokenizer is not None and f"{name}_idx" in cells:
            ids = _list(cells[f"{name}_idx"], f"{name}_idx", int)
            return [token_text(request.tokenizer, prompt, token) for token in dict.fromkeys(ids)]
        if name not in cells:
            raise ValueError(f"the file holds only {name}_idx, token ids; name their model with -m/--model")
        return [spaced(answer, prompt) for answer in dict.fromkeys(_list(cells[name], name, str))]

    correct = read("answers")
    return correct, [answer for answer in read("corrupted_answers") if answer not in correct]


def _integer(text: str, column: str) -> int:
    if not _WHOLE.fullmatch(text):  # int() would also take 1_0 and digits of other scripts
        raise ValueError(f"{column} is {text[:40]!r}; expected a whole number")
    return int(text)


def _list(text: str, column: str, kind: type) -> list:
    try:
        value = ast.literal_eval(text) if len(text) < 100_000 else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, list) or not value or not all(type(each) is kind for each in value):
        raise ValueError(
            f"{column} is {text[:40]!r}; expected a list of {'texts' if kind is str else 'token ids'}"
        )
    return value


_LAYOUTS: dict[str, tuple[Callable[[set[str]], bool], Callable[[Cells, Request], Answers]]] = {
    "gender-bias": (lambda c: {"clean_answer_idx", "corrupted_answer_idx"} <= c, _from_ids("gender-bias")),
    "fact-retrieval": (lambda c: {"country_idx", "corrupted_country_idx"} <= c, _from_ids("fact-retrieval")),
    "hypernymy": (lambda c: bool({"corrupted_answers", "corrupted_answers_idx"} & c), _hypernymy),
    "sva": (lambda c: "plural" in c, _sva),
    "ioi": (lambda c: {"correct_idx", "incorrect_idx"} <= c, _from_ids("ioi")),
    "greater-than": (lambda c: bool({"label", "correct_idx"} & c), _greater_than),
}
