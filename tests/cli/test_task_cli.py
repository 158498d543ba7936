"""`workbench task`: what it prints, its exit codes, and that nothing in a prompt can act on a terminal."""

import io
import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from cli.app import app
from workbench.core.errors import OptionError, TaskError
from workbench.tasks.pairs_file import load_pairs
from workbench.tasks.registry import list_tasks, make_pairs, vocabulary

GOOD = {"id": "good", "clean": "Mary met John", "corrupted": "John met John", "correct": [" Mary"]}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments, **more: CliRunner().invoke(app, ["task", *map(str, arguments)], **more)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A native model directory as far as text goes: a configuration and a tokenizer, no weights."""
    directory = tmp_path_factory.mktemp("words")
    words = ["<bos>", "<unk>", *vocabulary(), "met"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", unk_token="<unk>").save_pretrained(
        directory
    )
    config = {"d_model": 8, "d_head": 4, "n_layers": 1, "n_heads": 2, "n_ctx": 70, "d_vocab": len(words)}
    (directory / "tl_native.json").write_text(json.dumps(config | {"act_fn": "relu", "dtype": "float32"}))
    return directory


def test_list_names_every_task(run):
    result = run("list")
    assert result.exit_code == 0 and all(task.name in result.stdout for task in list_tasks())
    listed = json.loads(run("list", "--json").stdout)
    assert [task["name"] for task in listed] == [task.name for task in list_tasks()]
    positions = {task["name"]: task["positions"] for task in listed}
    assert positions["ioi"] == ["IO", "S1", "S1+1", "S2", "end"]


def test_show_marks_positions_and_json_has_the_pairs(run):
    result = run("show", "ioi", "-n", 2, "--option", "order=abba")
    pair = make_pairs("ioi", n=2, order="abba")[0]
    subject, receiver = pair.incorrect[0].strip(), pair.correct[0].strip()
    assert result.exit_code == 0 and f"[{receiver}:IO] and [{subject}:S1]" in result.stdout
    data = json.loads(run("show", "ioi", "-n", 2, "--option", "order=abba", "--json").stdout)
    assert [p["clean"] for p in data["pairs"]] == [p.clean for p in make_pairs("ioi", n=2, order="abba")]
    assert (
        data["options"] == {"order": "abba"} and data["digest"] == make_pairs("ioi", n=2, order="abba").digest
    )


def test_show_with_a_model_prints_its_tokens(run, model):
    data = json.loads(run("show", "greater-than", "-m", model, "-n", 2, "--json").stdout)
    assert data["options"] == {"style": "spaced"} and data["dropped"] == [] and len(data["tokens"]) == 2
    first = data["tokens"][0]
    assert first["clean"][0] == "<bos>" and first["corrupted"][first["positions"]["YY"]] == "01"
    assert first["positions"]["end"] == len(first["clean"]) - 1
    result = run("show", "greater-than", "-m", model, "-n", 2)
    assert result.exit_code == 0 and "2 of 2 pairs" in result.stdout
    joined = json.loads(run("show", "greater-than", "-m", model, "--option", "style=joined", "--json").stdout)
    assert len(joined["dropped"]) == 3 and joined["dropped"][0]["kind"] == "unknown"
    assert "does not know" in run("show", "greater-than", "-m", model, "--option", "style=joined").stdout


def test_two_positions_at_one_token_are_both_shown(run, model):
    shown = run("show", "sva", "-m", model, "-n", 1).stdout
    assert any(
        line.rstrip().endswith("  attractor, end") and line.split()[0].isdigit()
        for line in shown.splitlines()
        if line.strip()
    )


def test_show_takes_a_file_too(run, model, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    result = run("show", path, "-m", model)
    assert result.exit_code == 0 and "Mary met John" in result.stdout and "1 of 1 pairs" in result.stdout
    assert json.loads(run("show", path, "--json").stdout)["pairs"][0]["id"] == "good"
    assert isinstance(run("show", path, "--option", "a=1").exception, TaskError)


def test_errors_carry_suggestions(run):
    assert "did you mean sva" in str(run("show", "svaa").exception)
    result = run("show", "ioi", "--option", "order")
    assert isinstance(result.exception, OptionError) and "options: order=mixed" in str(result.exception)
    assert result.stdout == ""


def test_make_writes_what_load_reads_and_check_accepts(run, tmp_path, model):
    result = run("make", "sva", "-n", 7, "--seed", 3, "-o", "sva.jsonl")
    assert result.exit_code == 0 and result.stdout == "" and "wrote 7 pairs" in result.stderr
    assert load_pairs(tmp_path / "sva.jsonl") == make_pairs("sva", n=7, seed=3)
    checked = run("check", "sva.jsonl", "-m", model)
    assert (
        checked.exit_code == 0
        and "7 of 7 pairs" in checked.stdout
        and "subject, attractor, end" in checked.stdout
    )


def test_check_exits_3_and_names_lines_of_both_kinds(run, tmp_path, model):
    lines = [
        GOOD,
        GOOD | {"id": "unknown", "clean": "Mary met Zoltan"},
        "not json",
        GOOD | {"id": "long", "clean": "Mary met John John"},
        GOOD | {"id": "answer", "correct": [" Mary John"]},
    ]
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (tmp_path / "p.jsonl").write_text("\n".join(texts))
    result = run("check", "p.jsonl", "-m", model)
    assert result.exit_code == 3 and "1 of 5 pairs" in result.stdout and "'Zoltan' (1)" in result.stdout
    data = json.loads(run("check", "p.jsonl", "-m", model, "--json").stdout)
    assert [(p["line"], p["id"]) for p in data["problems"]] == [
        (2, "unknown"),
        (3, ""),
        (4, "long"),
        (5, "answer"),
    ]
    assert "5 clean and 4 corrupted tokens" in data["problems"][2]["problem"] and data["tokens"] == [4, 4]
    only_format = run("check", "p.jsonl", "--json")
    assert only_format.exit_code == 3 and [p["line"] for p in json.loads(only_format.stdout)["problems"]] == [
        3
    ]


def test_check_reads_standard_input(run, model):
    data = io.BytesIO((json.dumps(GOOD) + "\n").encode())
    result = run("check", "-", "-m", model, input=data.getvalue())
    assert result.exit_code == 0 and "1 of 1 pairs" in result.stdout


def test_control_characters_and_markup_stay_text(run, tmp_path):
    nasty = "\x1b]0;title\x07 [bold red]x[/] \x9b31m \u202e Mary"
    line = GOOD | {"id": nasty, "clean": nasty, "group": nasty}
    (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"x\x1b[2J": 1}) + "\n")
    for result in (run("show", "p.jsonl"), run("check", "p.jsonl")):
        written = result.stdout + result.stderr + str(result.exception or "")
        if result.exception is None:
            assert "[bold red]x[/]" in written
        shown = result.stdout + result.stderr
        assert not set("\x1b\x07\x9b\u202e") & set(shown)
    (tmp_path / "p.jsonl").write_text(json.dumps(line) + "\n")
    shown = run("show", "p.jsonl").stdout
    assert (
        "[bold red]x[/]" in shown
        and "\\x1b]0;title\\x07" in shown
        and not set("\x1b\x07\x9b\u202e") & set(shown)
    )


def test_import_writes_pairs_and_refuses_or_skips_bad_rows(run, tmp_path):
    (tmp_path / "gt.csv").write_text("clean,corrupted,label\nx 1705 17,y 17,5\nx 17,y 17,abc\n")
    refused = run("import", "eap-ig", "gt.csv", "-o", "out.jsonl")
    assert isinstance(refused.exception, TaskError) and "line 3: label is 'abc'" in str(refused.exception)
    assert not (tmp_path / "out.jsonl").exists()
    skipped = run("import", "eap-ig", "gt.csv", "-o", "out.jsonl", "--skip")
    assert skipped.exit_code == 0 and skipped.stdout == ""
    assert (
        "left out: line 3" in skipped.stderr
        and "wrote 1 pairs" in skipped.stderr
        and "left out 1 rows" in skipped.stderr
    )
    assert load_pairs(tmp_path / "out.jsonl").task == "greater-than"


def test_import_turns_ids_into_text_with_the_models_tokenizer(run, tmp_path, model):
    ids = {word: i for i, word in enumerate(["<bos>", "<unk>", *vocabulary()])}
    row = f"John gave to,Mary gave to,{ids['Mary']},{ids['John']}\n"
    (tmp_path / "ioi.csv").write_text("clean,corrupted,correct_idx,incorrect_idx\n" + row)
    result = run("import", "eap-ig", "ioi.csv", "-m", model, "-o", "out.jsonl")
    assert result.exit_code == 0, result.exception
    assert load_pairs(tmp_path / "out.jsonl")[0].correct == (" Mary",)
    assert "did you mean" in str(run("import", "eapig", "ioi.csv", "-o", "out.jsonl").exception)


def test_pictures_are_named_where_there_are_some(run, tmp_path):
    (pair,) = make_pairs("scene-marked", n=1)
    shown = run("show", "scene-marked", "-n", "1").stdout
    assert pair.image[0].source in shown and pair.image[1].source in shown
    cells = " ".join(map(str, pair.regions["object"][0]))
    assert "region object" in shown and cells in shown
    assert "\n clean  " not in shown  # there are no words to show
    listed = {task["name"]: task["regions"] for task in json.loads(run("list", "--json").stdout)}
    assert listed["scene-marked"] == ["object", "answer", "others", "rings", "edges"] and listed["ioi"] == []
    assert "regions" in run("list").stdout
