"""`workbench attention replace`: a table, a record, and a folder that is shown again."""

from __future__ import annotations

import json
from pathlib import Path

ASKED = ("attention", "replace", "-m", "zoo:ioi", "-t", "ioi", "-n", 4, "--layers", "odd")


def test_a_table_is_kept_with_its_record_and_shown_again(run):
    words = (*ASKED, "--with", "own", "--with", "mean", "--with", "top-k", "-o", "kept", "--json")
    code, out, err = run(*words)
    rows = json.loads(out)["rows"]
    assert code == 0, err
    assert [row["pattern"] for row in rows] == ["own", "mean", "top-k of 8 keys"]
    assert rows[0]["difference"] == 0 and rows[1]["difference"] != 0 and rows[1]["n"] == 4
    assert {"measured.json", "run.json"} <= {file.name for file in Path("kept").iterdir()}
    code, again, err = run(*words)
    assert code == 0 and "already measured" in err and json.loads(again)["rows"] == rows
    code, _, err = run(*ASKED, "--with", "uniform", "-o", "kept")
    assert code == 1 and "is another measurement" in err
    assert run("show", "kept/measured.json")[0] == 0


def test_a_text_file_is_measured_by_its_loss(run):
    Path("words.py").write_text("def add(first, second):\n    return first + second\n" * 40)
    code, out, err = run("attention", "replace", "-m", "zoo:stdlib", "--text", "words.py", "--window", 16,
                         "-n", 2, "--with", "identity", "--each", "head", "--layers", 0, "--json")  # fmt: skip
    assert code == 0, err
    rows = json.loads(out)["rows"]
    assert [row["layers"] for row in rows] == ["a0.h0", "a0.h1", "a0.h2", "a0.h3"]
    assert all(row["measure"] == "loss" and row["unit"] == "nats" and row["n"] == 2 for row in rows)
