"""`workbench heads`: what it prints, writes and refuses; a finished equal run is shown, its record can be repeated."""

from __future__ import annotations

import json

import pandas as pd

COMMON = ["heads", "-m", "zoo:truth-induction", "-n", "2", "--length", "20"]


def test_a_portrait_from_the_command_line(run, tmp_path):
    prompt = "<script>alert(1)</script>"
    code, out, err = run(*COMMON, "--sort", "induction", "--prompt", prompt, "--out", "here")
    assert code == 0 and "by chance" in out and "wrote here" in err
    heads = [line.split()[0] for line in out.splitlines() if line.strip().startswith("a")]
    assert set(heads[:2]) == {"a1.h0", "a1.h1"}
    folder = tmp_path / "here"
    assert {p.name for p in folder.iterdir()} >= {"portrait.json", "heads.parquet", "atlas.html", "run.json"}
    page = (folder / "atlas.html").read_text()
    before = page.split('<script type="application/json"')[0]
    assert "<script>alert" not in before and "&lt;script&gt;alert(1)" in before  # in the line that repeats it
    assert page.count("</script>") == 4  # data, the atlas, what all pages share, the copy button
    assert pd.read_parquet(folder / "heads.parquet")["head"].tolist() == ["a0.h0", "a0.h1", "a1.h0", "a1.h1"]

    code, out, err = run(*COMMON, "--sort", "loss", "--prompt", prompt, "--out", "here", "--json")
    document = json.loads(out)
    assert code == 0 and "already measured" in err
    assert document["order"][:2] == ["a0.h1", "a1.h0"] or document["order"][:2] == ["a1.h0", "a0.h1"]
    assert {m["evidence"] for m in document["measurements"]} == {"read-out", "weight", "causal"}
    assert "built-in text is not used" in err
    assert any(n.startswith("prompt 1: ") and "unknown to the tokenizer" in n for n in document["notes"])
    assert "note: prompt 1: " in err

    code, out, _ = run("runs", "list", ".", "--json")
    assert code == 0 and [r["what"].split()[0] for r in json.loads(out)] == ["heads"]
    code, _, err = run("runs", "rerun", "here", "--out", "again")
    assert code == 0, err
    assert (tmp_path / "again" / "portrait.json").read_text() == (folder / "portrait.json").read_text()
    code, _, err = run(*COMMON, "-n", "3", "--out", "here")
    assert code == 1 and "another run" in err


def test_mistakes_are_told_before_a_model_is_opened(run, tmp_path):
    code, _, err = run(*COMMON, "--sort", "inducton")
    assert code == 1 and "did you mean induction" in err
    code, _, err = run(*COMMON, "--corpus", "none.txt")
    assert code == 1 and "no file none.txt" in err
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_what_it_costs_and_writes_nothing(run, tmp_path):
    code, out, _ = run(*COMMON, "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0 and plan["heads"] == 4 and plan["passes_ablating"].startswith("8 sequences")
    assert not list(tmp_path.iterdir())
