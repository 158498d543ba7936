"""How commands end: one JSON document whatever happens, closed and full streams, terminals of few characters."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli import printing, streams
from cli.ending import asks_for_json
from workbench.core.errors import OptionError, WorkbenchError
from workbench.engine.run_folders.differences import compare_runs

WORKBENCH = [sys.executable, "-c", "from cli.app import main; main()"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["circuit", "show", "none", "--json"], 1, "no file none", ""),
        (["circuit", "show", "--json"], 2, "Missing argument 'circuit'.", "workbench circuit show --help"),
        (["circuit", "nonsense", "--json"], 2, "No such command 'nonsense'.", "workbench circuit --help"),
        (
            ["runs", "list", "--json", "--limit", "x"],
            2,
            "No such option: --limit",
            "workbench runs list --help",
        ),
        (["circuit", "list", "n" * 300, "--json"], 1, f"no folder {'n' * 300}", ""),
    ],
)
def test_with_json_an_error_is_one_document_too(run, words, code, message, hint):
    found, out, err = run(*words)
    error = json.loads(out)["error"]
    assert found == error["exit_code"] == code and set(error) == {"message", "hint", "exit_code"}
    assert error["message"].startswith(message) and (hint == "" or error["hint"] == hint)
    assert message.split("'")[0] in err  # the plain words stay on stderr


def test_without_json_an_error_leaves_stdout_empty(run):
    for words, code in ((["circuit", "show", "none"], 1), (["circuit", "show"], 2), (["--", "--json"], 2)):
        found, out, err = run(*words)
        assert (found, out) == (code, "") and err


def test_an_error_that_nobody_foresaw_is_a_document_and_a_traceback(run, monkeypatch):
    def broken(*given, **named):
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr("workbench.commands.circuit.find_circuits", broken)
    with pytest.raises(ZeroDivisionError):
        run("circuit", "list", "--json")
    monkeypatch.undo()


def test_no_second_document_follows_a_first(run, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "circuit.json").write_text("{}")
    code, out, _ = run("circuit", "validate", "c", "--json")  # a check that does not pass has its result
    assert code == 3 and isinstance(json.loads(out), list)


def test_json_is_an_option_only_before_two_dashes():
    assert asks_for_json(["x", "--json"]) and not asks_for_json(["x", "--", "--json"])


def test_a_result_that_json_cannot_hold_is_named(capsys):
    printing.begin()
    with pytest.raises(WorkbenchError, match=r"the result\.rows\[1\] is nan"):
        printing.emit({"rows": [1.0, float("nan")]}, as_json=True)
    assert capsys.readouterr().out == "" and not printing.has_emitted()


@pytest.mark.parametrize("tolerance", [float("inf"), float("nan"), -1.0])
def test_a_tolerance_that_is_no_number_to_compare_with_is_refused(tolerance, tmp_path):
    with pytest.raises(OptionError, match="a finite number"):
        compare_runs(tmp_path, tmp_path, tolerance=tolerance)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "koi8-r"])
def test_characters_that_a_terminal_lacks_are_replaced_readably(encoding, monkeypatch):
    text = "−3 – 4 × 5 → … ≥ ± │─█ “a” é 漢 \udcff"
    made = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", made)
    streams.prepare()
    streams.put(text)
    made.flush()
    shown = made.buffer.getvalue().decode(encoding)
    assert shown.startswith("-3") and "\\u6f22" in shown and "\\udcff" in shown and "?" not in shown
    if encoding == "ascii":
        assert shown == '-3 - 4 x 5 -> ... >= +/- |-# "a" \\xe9 \\u6f22 \\udcff'


def test_a_file_on_standard_output_is_utf_8_whatever_the_terminal(run, monkeypatch):
    made = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", made)
    streams.put_file("é −")
    assert made.buffer.getvalue() == "é −".encode()


@pytest.mark.parametrize(
    ("shell", "code", "words"),
    [
        ("circuit published >&-", 1, "standard output is closed"),
        ("circuit published --json > /dev/full", 1, "No space left on device"),
        ("circuit published 2>&- >/dev/null", 0, ""),
        ("circuit export published:ioi -f html | true; exit ${PIPESTATUS[0]}", 141, ""),
        (
            "circuit show published:ioi | COLUMNS=0 PYTHONIOENCODING=ascii {} circuit show published:ioi",
            0,
            "",
        ),
    ],
)
def test_closed_and_full_streams_end_in_one_line(shell, code, words):
    command = " ".join(f"'{word}'" for word in WORKBENCH)
    done = subprocess.run(
        ["bash", "-c", f"{command} {shell}".replace("{}", command)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == code and words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize("columns", ["0", "20", "1", "abc", "99999999999"])
def test_any_width_can_be_printed_to(run, columns, monkeypatch):
    with (
        monkeypatch.context() as narrowed
    ):  # given back before pytest prints, which takes COLUMNS at its word
        narrowed.setenv("COLUMNS", columns)
        code, out, _ = run("circuit", "published")
    widest = max(map(len, out.splitlines()))
    assert code == 0 and widest <= {"20": 20, "1": 20}.get(columns, 10_000)
