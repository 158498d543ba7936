"""Reading the json files of auto-circuit and the rows of MIB."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

from workbench.core.errors import TaskError
from workbench.tasks.import_eap_ig import csv_rows
from workbench.tasks.importers import FoundPairs, Request, Row, spaced, token_text
from workbench.tasks.pairs_file import parse_json

_SUFFIX = "_counterfactual"
_USUAL = ("s2_io_flip", "answerPosition", "random")  # taken when a row has several and none is asked for


def read_auto_circuit(text: str, path: Path, request: Request) -> FoundPairs:
    """Return prompts of an auto-circuit file: ``{"prompts": [{clean, corrupt, answers, wrong_answers}, ...]}``.

    Answers are texts, or token ids when the request has a tokenizer. ``word_idxs`` and ``seq_labels`` name
    token positions of one tokenizer and are not taken over.

    Raises:
        TaskError: if the file is not JSON or has no list of prompts.
    """
    data = _json(text, path)
    prompts = data.get("prompts") if isinstance(data, dict) else None
    if not isinstance(prompts, list):
        raise TaskError(
            f"{path.name} has no list called prompts",
            hint='write it as {"prompts": [{"clean": ..., "corrupt": ..., "answers": [...], "wrong_answers": [...]}]}',
        )
    return FoundPairs(
        rows=[_auto_circuit(i + 1, prompt, request) for i, prompt in enumerate(prompts)], task=path.stem
    )


def _auto_circuit(line: int, prompt: object, request: Request) -> Row:
    where = f"prompt {line}"
    if not isinstance(prompt, dict) or not isinstance(prompt.get("clean"), str):
        return Row(line=0, wrong=f"{where}: clean is not text")
    if "answers" not in prompt:
        return Row(line=0, wrong=f"{where}: has no answers")
    try:
        correct = _texts(prompt["answers"], prompt["clean"], request)
        incorrect = _texts(prompt.get("wrong_answers", []), prompt["clean"], request)
    except ValueError as problem:
        return Row(line=0, wrong=f"{where}: {problem}")
    data = {"clean": prompt["clean"], "corrupted": prompt.get("corrupt"), "correct": correct}
    return Row(line=0, data=data | {"incorrect": incorrect})


def _texts(value: object, prompt: str, request: Request) -> list[str]:
    if not isinstance(value, list) or not all(type(each) in (str, int) for each in value):
        raise ValueError("answers are neither texts nor token ids")
    each = [v if isinstance(v, str) else token_text(request.tokenizer, prompt, v) for v in value]
    return list(dict.fromkeys(each))


def read_mib(text: str, path: Path, request: Request) -> FoundPairs:
    """Return rows of a MIB data set: a JSON list, JSONL, the data-set viewer's ``{"rows": ...}``, or csv.

    The correct answer is the choice of ``answerKey`` (for multiple choice its letter), incorrect are the
    other choices; rows with a ``label`` instead take it, and the counterfactual's label as incorrect.
    Answers get a leading space where the prompt does not end in one.

    Raises:
        TaskError: if the file is not JSON, or it is not clear which counterfactual is meant.
    """
    rows = _mib_rows(text, path)
    available = sorted(
        {key for _, row in rows if isinstance(row, dict) for key in row if key.endswith(_SUFFIX)}
    )
    chosen = _counterfactual(available, request.counterfactual, path)
    return FoundPairs(rows=[_mib(line, row, chosen) for line, row in rows], task=path.stem)


def _mib_rows(text: str, path: Path) -> list[tuple[int, object]]:
    if path.suffix == ".csv":
        return [(line, _uncelled(cells)) for line, cells in csv_rows(text, path.name)[1]]
    if text.lstrip()[:1] == "{" and "\n" in text.strip():
        try:
            lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
            return [(i, parse_json(line)) for i, line in lines]
        except ValueError:
            pass  # one object over several lines; read whole below
    data = _json(text, path)
    rows = data.get("rows", [data]) if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise TaskError(
            f"{path.name} holds no rows", hint="give a .json or .jsonl file with one row for each prompt"
        )
    inner = [row["row"] if isinstance(row, dict) and "row" in row else row for row in rows]
    return list(enumerate(inner, 1))


def _uncelled(cells: Mapping[str, str]) -> dict[str, object]:
    """A csv row with its cells of nested values read as JSON or as Python literals."""
    return {key: _cell(key, text) for key, text in cells.items() if key is not None and text}


def _cell(key: str, text: str) -> object:
    if key == "prompt" or not (text[0] in "[{" or text.isdecimal()) or len(text) > 100_000:
        return text
    for read in (parse_json, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return text


def _counterfactual(available: list[str], asked: str, path: Path) -> str:
    names = [key.removesuffix(_SUFFIX) for key in available]
    listed = ", ".join(names) or "none"
    if asked:
        if asked.removesuffix(_SUFFIX) not in names:
            raise TaskError(
                f"{path.name} has no counterfactual {asked!r}; found {listed}",
                hint=f"name one of those: {listed}",
            )
        return asked.removesuffix(_SUFFIX) + _SUFFIX
    usual = names if len(names) == 1 else [name for name in _USUAL if name in names]
    if not usual:
        hint = "--counterfactual NAME" if names else "rows need a key that ends in _counterfactual"
        raise TaskError(
            f"which counterfactual of {path.name} is the corrupted prompt? found {listed}", hint=hint
        )
    return usual[0] + _SUFFIX


def _mib(line: int, row: object, counterfactual: str) -> Row:
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        return Row(line=line, wrong="prompt is not text")
    other = row.get(counterfactual)
    if not isinstance(other, dict) or not isinstance(other.get("prompt"), str):
        return Row(line=line, wrong=f"{counterfactual} has no prompt")
    try:
        right, wrong = _choices(row)
        if not wrong:
            wrong = [each for each in _choices(other)[0] if each not in right]
    except ValueError as problem:
        return Row(line=line, wrong=str(problem))
    prompt = row["prompt"]
    answers = {"correct": [spaced(a, prompt) for a in right], "incorrect": [spaced(a, prompt) for a in wrong]}
    return Row(line=line, data={"clean": prompt, "corrupted": other["prompt"]} | answers)


def _choices(row: Mapping[str, object]) -> tuple[list[str], list[str]]:
    """Right and other answers of a row."""
    if row.get("choices") is None:
        if not isinstance(row.get("label"), str | int) or isinstance(row["label"], bool):
            raise ValueError("the row has neither choices nor a label")
        return [str(row["label"])], []
    choices, key = row["choices"], row.get("answerKey")
    names = choices.get("label") if isinstance(choices, dict) else choices
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError("choices is neither a list of texts nor an object with labels")
    if isinstance(key, str) and key in names:
        key = names.index(key)
    if type(key) is not int or not 0 <= key < len(names):
        raise ValueError(
            f"answerKey is {str(key)[:40]!r}; expected 0 to {len(names) - 1} or one of the choices"
        )
    return [names[key]], [name for name in dict.fromkeys(names) if name != names[key]]


def _json(text: str, path: Path) -> object:
    try:
        return parse_json(text)
    except ValueError as problem:
        raise TaskError(
            f"{path.name} is not JSON: {problem}", hint="save it as JSON, or name another format with -f"
        ) from problem
