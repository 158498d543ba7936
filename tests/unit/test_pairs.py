"""Pairs as strings: the file format, its strict reader, and how pairs show themselves."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import workbench
from workbench.core.errors import RunError, TaskError
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.pairs_file import MAX_LINE, load_pairs, scan_pairs
from workbench.tasks.registry import list_tasks, make_pairs

ONE = Pair(
    id="a",
    clean="Mary met John",
    corrupted="Mary met Mary",
    correct=(" Mary",),
    incorrect=(" John",),
    positions={"S": ((9, 13), (9, 13))},
    group="g",
)
GOOD = {"clean": "x y", "corrupted": "x z", "correct": [" a"]}


def write(tmp_path: Path, *lines: object) -> Path:
    path = tmp_path / "pairs.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def problems(path: Path) -> list[tuple[int, str]]:
    return [(problem.line, problem.message) for problem in scan_pairs(path).problems]


def test_digest_is_the_hash_of_the_canonical_json():
    expected = (
        '[{"clean":"Mary met John","correct":[" Mary"],"corrupted":"Mary met Mary","group":"g","id":"a",'
        '"incorrect":[" John"],"positions":{"S":[[9,13],[9,13]]}}]'
    )
    assert Pairs(items=(ONE,), task="t").digest == hashlib.sha256(expected.encode()).hexdigest()[:16]


def test_digest_ignores_metadata_and_follows_content():
    pairs = Pairs(items=(ONE,), task="t")
    assert pairs.digest == Pairs(items=(ONE,), task="other", seed=7).digest
    assert pairs.digest != make_pairs("ioi", n=1).digest


def test_pairs_behave_like_a_sequence():
    pairs = make_pairs("ioi", n=5)
    assert (
        len(pairs) == 5 and pairs[0].id == "ioi-0000" and [p.id for p in pairs] == [p.id for p in pairs.items]
    )
    part = pairs[1:3]
    assert (
        isinstance(part, Pairs) and part.items == pairs.items[1:3] and part.task == "ioi" and part.seed == 0
    )
    assert pairs[-1] == pairs.items[4]


@pytest.mark.parametrize("name", [task.name for task in list_tasks() if not task.pictures])
def test_saving_and_loading_gives_the_same_pairs(tmp_path, name):
    pairs = make_pairs(name, n=8, seed=3)
    path = pairs.save(tmp_path / "p.jsonl")
    assert load_pairs(path) == pairs and load_pairs(path).digest == pairs.digest
    schema_path = Path(workbench.__file__).parent / "circuits/files/schema/pairs.schema.json"
    check = jsonschema.Draft202012Validator(json.loads(schema_path.read_text()))
    for line in path.read_text().splitlines():
        check.validate(json.loads(line))


def test_a_file_without_header_takes_its_name_and_line_numbers(tmp_path):
    path = write(tmp_path, GOOD, "", GOOD | {"id": "mine", "group": "g"})
    pairs = load_pairs(path)
    assert pairs.task == "pairs" and [pair.id for pair in pairs] == ["line-0001", "mine"]
    assert pairs[0].incorrect == () and pairs[1].group == "g" and pairs.split == "all"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", "not JSON: Expecting property name"),
        ("[1]", "expected an object with clean, corrupted and correct; found a list"),
        (GOOD | {"clean": " \n"}, "clean is empty, and the pair has no picture"),
        (GOOD | {"clean": "<image> x", "corrupted": "<image> x"}, "same text, and the pair has no picture"),
        (GOOD | {"corrupted": None}, "corrupted is null; expected text"),
        (GOOD | {"correct": " a"}, 'correct is text; expected a list: [" a"]'),
        (GOOD | {"correct": []}, "correct has no answer"),
        (GOOD | {"correct": [" a", " a"]}, "correct lists ' a' twice"),
        (GOOD | {"correct": [3]}, "an answer of correct is a number; expected text"),
        (GOOD | {"incorrect": [" a"]}, "answer ' a' is both correct and incorrect"),
        (GOOD | {"incorrect": {}}, "incorrect is an object; expected a list of texts"),
        (GOOD | {"corrupted": "x y"}, "clean and corrupted are the same text"),
        (GOOD | {"clena": "x"}, "unknown key 'clena'"),
        ({"clean": "x", "correct": [" a"]}, "corrupted is missing"),
        (GOOD | {"id": 3}, "id is a number; expected text"),
        ('{"clean": NaN, "corrupted": "b", "correct": [" a"]}', "not JSON: NaN is not allowed"),
        ('{"clean": "a", "clean": "b", "corrupted": "c", "correct": [" a"]}', "key 'clean' is there twice"),
        ('{"clean": "\\ud800", "corrupted": "c", "correct": [" a"]}', "half of a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        (GOOD | {"positions": {"end": [[0, 1], [0, 1]]}}, "cannot be called 'end'"),
        (GOOD | {"positions": {"rest": [[0, 1], [0, 1]]}}, "always all tokens that no name holds"),
        (GOOD | {"positions": {"each": [[0, 1], [0, 1]]}}, "--position each asks for all names"),
        (GOOD | {"positions": {"7": [[0, 1], [0, 1]]}}, "cannot be called '7'"),
        (GOOD | {"positions": {"a b": [[0, 1], [0, 1]]}}, "cannot be called 'a b'"),
        (
            GOOD | {"positions": {"A": [[0, 9], [0, 1]]}},
            "[0, 9] is no part of the clean prompt of 3 characters",
        ),
        (GOOD | {"positions": {"A": [[0, 1], [1, 1]]}}, "[1, 1] is no part of the corrupted prompt"),
        (
            GOOD | {"positions": {"A": [0, 1]}},
            "position 'A' is [0, 1]; expected [[start, end], [start, end]]",
        ),
        (GOOD | {"positions": {"A": [[0, True], [0, 1]]}}, "expected [[start, end], [start, end]]"),
        (GOOD | {"positions": [1]}, "positions is a list; expected an object"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, line, says):
    path = write(tmp_path, GOOD, line)
    found = problems(path)
    assert [number for number, _ in found] == [2] and says in found[0][1]
    with pytest.raises(TaskError, match="1 problem\n  line 2: "):
        load_pairs(path)


def test_all_problems_are_collected_and_good_lines_kept(tmp_path):
    path = write(tmp_path, GOOD | {"id": "a"}, "nope", GOOD | {"id": "a"}, {"correct": []}, GOOD)
    found = scan_pairs(path)
    assert [pair.id for pair in found.pairs] == ["a", "line-0005"] and found.lines == (1, 5)
    assert problems(path)[1] == (3, "id 'a' was already used in line 1")
    assert [line for line, _ in problems(path)] == [2, 3, 4, 4, 4]


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"\xef\xbb\xbf", "byte order mark"),
        (b"\xff\xfe", "the file is UTF-16"),
        (b'{"clean": "\xe9"}\n', "not UTF-8: byte 0xe9 at column 12"),
    ],
)
def test_encodings_are_told_apart(tmp_path, start, says):
    path = tmp_path / "p.jsonl"
    path.write_bytes(start + json.dumps(GOOD).encode() + b"\n")
    found = problems(path)
    assert len(found) == 1 and found[0][0] == 1 and says in found[0][1]


def test_a_huge_line_is_refused_and_the_rest_still_read(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"[" * (3 * MAX_LINE) + b"\n" + json.dumps(GOOD).encode())
    assert problems(path) == [(1, "longer than 1,000,000 bytes")] and scan_pairs(path).lines == (2,)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"format": "circuit-workbench/pairs", "version": 2}, "version is 2; this program reads version 1"),
        ({"format": "other", "version": 1}, "format is 'other'"),
        ({"format": "circuit-workbench/pairs", "version": 1, "seed": "x"}, "seed in the header is 'x'"),
        ({"format": "circuit-workbench/pairs", "version": 1, "x": 1}, "unknown key 'x' in the header"),
        ({"format": "circuit-workbench/pairs", "version": 1, "task": "\ud800"}, "half of a surrogate pair"),
        (
            {"format": "circuit-workbench/pairs", "version": 1, "options": {"a": ["\udc00"]}},
            "half of a surrogate",
        ),
    ],
)
def test_a_header_this_program_does_not_know_is_refused(tmp_path, header, says):
    assert says in problems(write(tmp_path, header, GOOD))[0][1]


def test_a_header_may_only_come_first(tmp_path):
    header = {"format": "circuit-workbench/pairs", "version": 1}
    assert problems(write(tmp_path, GOOD, header)) == [(2, "a header may only be the first line")]


def test_missing_empty_and_unwritable_files_are_explained(tmp_path):
    with pytest.raises(TaskError, match="No such file"):
        load_pairs(tmp_path / "missing.jsonl")
    with pytest.raises(TaskError, match="is a folder"):
        load_pairs(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(TaskError, match="the file has no pairs"):
        load_pairs(tmp_path / "empty.jsonl")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        make_pairs("ioi", n=1).save(tmp_path / "file" / "p.jsonl")


def test_the_example_in_the_docs_is_a_good_file(tmp_path):
    text = (Path(workbench.__file__).parent.parent / "docs/pairs-format.md").read_text(encoding="utf-8")
    (pair,) = load_pairs(write(tmp_path, text.split("```json\n")[1].split("\n```")[0]))
    (a, b), (c, d) = pair.positions["S2"]
    assert (pair.clean[a:b], pair.corrupted[c:d]) == ("John", "Mary")


def test_html_escapes_prompts_and_repr_is_one_line():
    bad = "<script>alert(1)</script>\n"
    pairs = Pairs(items=(Pair(id="<b>", clean=bad, corrupted="x", correct=("<i>",)),), task="<t>\n")
    page = pairs._repr_html_()
    assert "<script>" not in page and "<b>" not in page and "<i>" not in page and "&lt;script&gt;" in page
    assert "\n" not in repr(pairs)


def test_dataframe_has_a_row_per_pair():
    frame = make_pairs("sva", n=3).to_dataframe()
    assert (
        list(frame.columns) == ["id", "group", "clean", "corrupted", "correct", "incorrect"]
        and len(frame) == 3
    )


def test_making_and_reading_pairs_imports_no_torch():
    code = (
        "import sys; from workbench.tasks import alignment, importers, pairs, pairs_file, registry, words\n"
        "[registry.make_pairs(t.name, n=2) for t in registry.list_tasks()]; registry.vocabulary()\n"
        "bad = {'torch', 'transformers', 'transformer_lens', 'rich', 'typer'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(workbench.__file__).parent.parent)
