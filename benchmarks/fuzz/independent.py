"""Texts of other tools read a second time, by csv and json alone; each check names a difference.

A check gets the folder and what the workbench read, and returns where the two differ: empty if nowhere.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.fuzz.sameness import difference

Check = Callable[[Path, Any], str]
_WHOLE = re.compile(r"\s*[-+]?[0-9]+\s*")


def pairs_of_lines(path: Path, found: Any) -> str:
    """Every pair that was read is its line; in a file without problems, every line was read."""
    rows = path.read_bytes().split(b"\n")
    for number, pair in zip(found.lines, found.pairs.items, strict=True):
        row = json.loads(rows[number - 1].decode("utf-8-sig" if number == 1 else "utf-8"))
        if wrong := difference(_pair(row, f"line-{number:04d}"), pair.to_dict(), f"line {number}"):
            return wrong
    if found.problems:  # every command refuses such a file; ``task check`` lists what is wrong with it
        return ""
    for number, row in enumerate(rows, 1):
        if row.strip() and number not in found.lines:
            header = json.loads(row)
            if not isinstance(header, dict) or "format" not in header:
                return f"line {number} was left out without a word"
            known = {k: v for k, v in header.items() if k not in ("format", "version")}
            if wrong := difference(known, {k: getattr(found.pairs, k) for k in known}, "header"):
                return wrong
    return ""


def _pair(row: Mapping[str, Any], identity: str) -> dict[str, Any]:
    made = {"id": row.get("id", identity), "clean": row["clean"], "corrupted": row["corrupted"]}
    made |= {"correct": row["correct"], "incorrect": row.get("incorrect", [])}
    made |= {k: row[k] for k in ("image", "grid") if k in row}
    return made | {k: row[k] for k in ("positions", "group", "regions") if row.get(k)}


Wanted = Callable[[Mapping[str, str]], tuple[list[str], list[str]]]


def csv_pairs(wanted: Wanted) -> Check:
    """Pairs of a csv file whose answers follow from other columns by a rule."""

    def check(path: Path, found: Any) -> str:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = [(reader.line_num, cells) for cells in reader]
        return _imported(found, rows, lambda c: (c["clean"], c["corrupted"], *wanted(c)))

    return check


def _imported(found: Any, rows: list[tuple[int, Any]], wanted: Callable[[Any], tuple]) -> str:
    """What was imported is what the rows say that are not named as problems, in their order."""
    told = {problem.line for problem in found.problems}
    kept = [(line, row) for line, row in rows if line not in told]
    if len(kept) != len(found.pairs.items):
        return f"{len(rows)} rows, {len(told)} named as problems, {len(found.pairs.items)} read"
    for (line, row), pair in zip(kept, found.pairs.items, strict=True):
        read = (pair.clean, pair.corrupted, list(pair.correct), list(pair.incorrect))
        if wrong := difference(wanted(row), read, f"row of line {line}"):
            return wrong
    return ""


def whole(text: str) -> int:
    """A whole number in plain digits.

    Raises:
        ValueError: for anything else that Python would take, such as ``1_0``.
    """
    if not _WHOLE.fullmatch(text) or not text.isascii():
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def later_years(cells: Mapping[str, str]) -> tuple[list[str], list[str]]:
    year, gap = whole(cells["label"]), "" if cells["clean"][-1:].isdigit() else " "
    two = [f"{gap}{n:02d}" for n in range(100)]
    return two[year + 1 :], two[: year + 1]


def pronouns(cells: Mapping[str, str]) -> tuple[list[str], list[str]]:
    answers = ([" she"], [" he"])
    return answers[::-1] if whole(cells["label"]) else answers


def verbs(cells: Mapping[str, str]) -> tuple[list[str], list[str]]:
    from workbench.tasks.sva import VERBS

    return list(VERBS[whole(cells["plural"])]), list(VERBS[1 - whole(cells["plural"])])


def listed(cells: Mapping[str, str]) -> tuple[list[str], list[str]]:
    right, wrong = (
        [spaced(each, cells["clean"]) for each in dict.fromkeys(ast.literal_eval(cells[name]))]
        for name in ("answers", "corrupted_answers")
    )
    return right, [each for each in wrong if each not in right]


def spaced(answer: str, prompt: str) -> str:
    return answer if answer[:1].isspace() or prompt[-1:].isspace() else f" {answer}"


def by_ids(cells: Mapping[str, str]) -> tuple[list[str], list[str]]:
    from tests.families import VOCABULARY

    first, second = (VOCABULARY[whole(cells[name])] for name in ("correct_idx", "incorrect_idx"))
    return [spaced(first, cells["clean"])], [spaced(second, cells["clean"])]


def auto_circuit(path: Path, found: Any) -> str:
    """Prompts of an auto-circuit file."""
    prompts = json.loads(path.read_text("utf-8-sig"))["prompts"]
    told = [str(problem) for problem in found.problems]
    rows = [(i, p) for i, p in enumerate(prompts, 1) if not any(f"prompt {i}:" in text for text in told)]
    left = len(prompts) - len(rows)
    # problems of the pairs themselves have no line in this format: they are counted
    others = sum("prompt " not in text for text in told)
    if not others:
        return _imported_at(found, rows, left, len(prompts))
    return "" if len(found.pairs.items) <= len(rows) else f"{len(found.pairs.items)} of {len(rows)} prompts"


def _imported_at(found: Any, rows: list, left: int, n: int) -> str:
    if len(rows) != len(found.pairs.items):
        return f"{n} prompts, {left} named as problems, {len(found.pairs.items)} read"
    for (i, row), pair in zip(rows, found.pairs.items, strict=True):
        wanted = (row["clean"], row["corrupt"], list(dict.fromkeys(row["answers"])))
        wanted = (*wanted, list(dict.fromkeys(row.get("wrong_answers", []))))
        read = (pair.clean, pair.corrupted, list(pair.correct), list(pair.incorrect))
        if wrong := difference(wanted, read, f"prompt {i}"):
            return wrong
    return ""


def mib(path: Path, found: Any) -> str:
    """Rows of MIB: a JSON list or one row a line."""
    text = path.read_text("utf-8-sig")
    try:
        whole_file = json.loads(text)
        rows = whole_file.get("rows", [whole_file]) if isinstance(whole_file, dict) else whole_file
        numbered = list(enumerate((r["row"] if isinstance(r, dict) and "row" in r else r for r in rows), 1))
    except ValueError:
        numbered = [(i, json.loads(line)) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    return _imported(found, numbered, _mib_row)


def _mib_row(row: Mapping[str, Any]) -> tuple:
    name = next(n for n in ("s2_io_flip", *_flips(row)) if f"{n}_counterfactual" in row)
    choices, key = row["choices"], row["answerKey"]
    names = choices["label"] if isinstance(choices, dict) else choices
    right = names[key] if type(key) is int else key
    others = [n for n in dict.fromkeys(names) if n != right]
    if not others:
        other = row[f"{name}_counterfactual"]
        others = [n for n in [other["choices"][other["answerKey"]]] if n != right]
    prompt = row["prompt"]
    answers = [spaced(right, prompt)], [spaced(n, prompt) for n in others]
    return (prompt, row[f"{name}_counterfactual"]["prompt"], *answers)


def _flips(row: Mapping[str, Any]) -> list[str]:
    return [key.removesuffix("_counterfactual") for key in row if key.endswith("_counterfactual")]


def eap_ig_graph(path: Path, circuit: Any) -> str:
    """The edges that are in the graph, with their scores."""
    rows = json.loads(path.read_bytes().decode("utf-8"))
    inside = {
        e: float(row["score"])
        for e, row in rows["edges"].items()
        if not isinstance(row, bool) and row["in_graph"]
    }
    found = {str(edge): score for edge, score in circuit.parsed_edges.items()}
    shape = {"n_layers": circuit.shape.n_layers, "n_heads": circuit.shape.n_heads}
    if wrong := difference({k: rows["cfg"][k] for k in shape}, shape, "cfg"):
        return wrong
    if circuit.level == "node":
        return "" if not any(inside.values()) else "edges have scores, and nodes were read"
    return difference(inside, found, "edges")


def eap_ig_scores(path: Path, circuit: Any) -> str:
    """Every edge that was kept has the score that the file gives it."""
    rows = json.loads(path.read_bytes().decode("utf-8"))["edges"]
    found = {str(edge): score for edge, score in circuit.parsed_edges.items()}
    return difference({e: float(rows[e]["score"]) for e in found}, found, "edges")


def words(path: Path, tokens: Any) -> str:
    """One token a line."""
    text = path.read_bytes().decode("utf-8").removesuffix("\n")
    return difference([line.removesuffix("\r") for line in text.split("\n")], list(tokens.words), "words")


def text(path: Path, found: Any) -> str:
    """The text of a file, every character of it."""
    return difference([path.read_bytes().decode("utf-8")], list(found[1]), "text")


def page_around(path: Path, before: bytes) -> str:
    """What is outside the marks of a page is as it was, byte by byte."""
    first, _, rest = before.partition(b"<!-- begin -->")
    last = rest.partition(b"<!-- end -->")[2]
    now = path.read_bytes()
    return "" if now.startswith(first) and now.endswith(last) else "text outside the marks was changed"
