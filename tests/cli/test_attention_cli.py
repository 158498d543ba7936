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


def test_an_interrupted_run_goes_on_with_the_rows_it_has(run, monkeypatch):
    from workbench.edits import pattern_worth

    words = (*ASKED, "--with", "own", "--with", "mean", "--with", "top-k", "-o", "cut", "--json")
    whole = json.loads(run(*words[:-2], "whole", "--json")[1])["rows"]
    measured, runs = pattern_worth.Texts.measured, []

    def interrupted(self, edit=None):
        runs.append(edit)
        if len(runs) == 3:  # as it is, own, and then
            raise KeyboardInterrupt
        return measured(self, edit)

    monkeypatch.setattr(pattern_worth.Texts, "measured", interrupted)
    code, _, err = run(*words)
    assert code == 130 and "workbench runs resume cut" in err
    assert sorted(file.stem for file in Path("cut/shards").glob("*.safetensors")) == [
        "as-it-is",
        "place0-own",
    ]
    code, _, err = run(*words)
    assert code == 1 and "2 finished parts of this very run" in err and "--resume" in err
    code, _, err = run(*words[:-3], "-o", "cut", "--with", "block", "--resume")
    assert code == 1 and "holds another run" in err
    runs.append(None)
    code, out, err = run(*words, "--resume")
    assert code == 0, err
    assert len(runs) == 6  # mean and top-k; those that were there are not run again
    assert json.loads(out)["rows"] == whole and not Path("cut/shards").exists()


def test_a_dry_run_counts_rows_passes_operations_and_bytes(run):
    code, out, err = run(*ASKED, "--with", "own", "--with", "mean", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert (plan["rows"], plan["passes_over_the_prompts"], plan["passes_over_other_texts"]) == (2, 4, 1)
    assert plan["on"] == "4 pairs of ioi" and plan["gflop"] > 0 and plan["kv_mb"] > 0


MASKED = ("attention", "mask", "-m", "zoo:induction", "-t", "induction", "-n", 4)


def test_masks_are_measured_beside_random_ones(run):
    words = (
        *MASKED,
        "--mask",
        "causal",
        "--mask",
        "window:6",
        "--mask",
        "routed:4",
        "--controls",
        2,
        "--json",
    )
    code, out, err = run(*words)
    assert code == 0, err
    rows = json.loads(out)["rows"]
    drawn = "random, same degree"
    assert [row["mask"] for row in rows] == [
        "causal",
        drawn,
        "window:width=6",
        drawn,
        "routed:block=4",
        drawn,
    ]
    assert all(
        abs(row["difference"]) < 1e-4 for row in rows[:2]
    )  # as many keys as there are: nothing is masked
    assert rows[2]["difference"] < -1 and rows[2]["keys"] == rows[3]["keys"] < 6 and rows[4]["keys"] is None


def test_masks_that_cannot_work_are_refused(run):
    for mask, said in (
        ("windo:4", "did you mean window"),
        ("window:0", "width is 0; at least 1"),
        ("neighborhood:3", "leaks: query 0 sees key 1"),
        ("at-distances:3", "leaves query 0, 1, 2 without any key"),
        ("axial:rows=7", "no grid of 7 rows"),
    ):
        code, out, err = run(*MASKED, "--mask", mask)
        assert code == 1 and said in err and out == "" and "hint:" in err
    code, out, err = run(*MASKED)
    assert code == 1 and "no mask is named" in err


def test_a_dry_run_counts_the_passes_of_masks(run):
    code, out, err = run(*MASKED, "--mask", "window:6", "--each", "layer", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["rows"] == 4 and plan["passes_over_the_prompts"] == 1 + 2 * 5


def test_a_model_without_heads_says_so_before_it_is_opened(run):
    Path("mamba").mkdir()
    config = {
        "model_type": "mamba",
        "architectures": ["MambaForCausalLM"],
        "hidden_size": 16,
        "state_size": 4,
    }
    Path("mamba/config.json").write_text(json.dumps(config | {"num_hidden_layers": 2, "vocab_size": 40}))
    for words in (("replace", "--with", "mean"), ("mask", "--mask", "window:4")):
        code, out, err = run("attention", words[0], "-m", "./mamba", *words[1:])
        assert (
            code == 1
            and out == ""
            and "the model has no attention heads: its 2 layers mix positions by" in err
        )
