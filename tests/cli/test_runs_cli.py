"""`workbench runs`: on runs that the other commands really made."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import typer.main

import cli.app
from cli.forms import read
from tests.files import rewrite
from workbench.circuits.files.effects_file import load_effects
from workbench.core.command import COMMANDS, Command
from workbench.core.run_file import load_record
from workbench.core.run_record import RunRecord
from workbench.engine.run_folders.command_line import command_line

COMMON = ["-m", "zoo:ioi", "-t", "ioi", "--limit", "4"]


def data(result, code=0):
    assert result[0] == code, result[2]
    return json.loads(result[1])


def kill_record(folder: Path) -> None:
    """What kill -9 before the table leaves: a record that says running, some parts, no table."""
    rewrite(folder / "run.json", status="running", files={})
    for name in ("effects.parquet", "heatmap.svg"):
        (folder / name).unlink(missing_ok=True)
    parts = sorted((folder / "shards").glob("*.safetensors"))
    assert len(parts) > 2
    parts[1].unlink()


@pytest.mark.parametrize("command", ["list", "show", "resume", "rerun", "diff", "clean"])
def test_help_has_a_claim_and_an_example(run, command):
    code, out, _ = run("runs", command, "--help")
    assert code == 0 and f"Example: workbench runs {command}" in " ".join(out.split())


def test_runs_start_without_torch(tmp_path):
    code = "import sys, cli.app; from workbench.commands import again\n"
    code += "from workbench.engine.run_folders import differences, leftovers, past_runs\n"
    code += "sys.exit('torch' in sys.modules)"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", code) == 0


def test_a_killed_sweep_is_listed_resumed_repeated_and_compared(run, tmp_path):
    assert run("ablate", *COMMON, "--ablation", "mean", "--batch-tokens", 100)[0] == 0
    (row,) = data(run("runs", "list", "--json"))
    folder = Path(row["folder"])
    assert (row["status"], row["what"], row["model"], row["task"]) == (
        "finished",
        "ablate mean",
        "zoo:ioi",
        "ioi",
    )
    whole, seconds = (folder / "effects.parquet").read_bytes(), row["seconds"]
    assert row["bytes"] > len(whole) and seconds > 0

    kill_record(folder)
    assert data(run("runs", "list", "--json"))[0]["status"] == "killed"
    code, out, _ = run("runs", "show", folder)
    assert code == 0 and f"workbench runs resume {folder}" in out and "no process holds the folder" in out
    code, out, err = run("runs", "resume", folder, "--json")
    assert code == 0 and len(json.loads(out)["rows"]) == 16
    assert (folder / "effects.parquet").read_bytes() == whole
    assert [a["status"] for a in load_record(folder).attempts] == ["killed"]

    code, out, err = run("runs", "resume", folder)
    assert code == 0 and "nothing to resume" in err
    code, out, err = run("runs", "rerun", folder, "--json")
    again = folder.with_name(folder.name + "-again")
    assert code == 0 and load_record(again).arguments == load_record(folder).arguments
    code, out, _ = run("runs", "diff", folder, again)
    assert code == 0 and "bit-identical" in out
    code, out, err = run("runs", "rerun", folder, "-o", again)
    assert code == 1 and out == "" and "overwrites nothing" in err

    freed = data(run("runs", "clean", "--json"))
    assert not freed["removed"] and {f["kind"] for f in freed["files"]} == {
        "part of a finished table",
        "lock that nobody holds",
    }
    assert data(run("runs", "clean", "--yes", "--json"))["bytes"] == freed["bytes"]
    assert data(run("runs", "clean", "--json"))["files"] == []
    code, out, err = run(
        *shlex.split(json.loads(run("runs", "show", folder, "--json")[1])["command_line"])[1:]
    )
    assert code == 0 and "already measured" in err  # the line asks the same question: same folder, same plan


def test_numbers_that_moved_end_with_3(run, tmp_path):
    patch = ["patch", *COMMON, "--site", "resid", "--node", "r2", "--node", "r3", "-q"]
    for mode in ("noising", "denoising"):
        assert run(*patch, "--mode", mode, "--out", mode)[0] == 0
    found = data(run("runs", "diff", "noising", "denoising", "--json"), code=3)
    assert {"what": "arguments.mode", "before": "noising", "after": "denoising"} in found["setting"]
    a, b = load_effects("noising"), load_effects("denoising")
    per_pair = found["parts"][1]
    assert per_pair["max_absolute"] == pytest.approx(np.abs(a.patched - b.patched).max())
    assert run("runs", "diff", "noising", "denoising", "--tolerance", "1e3")[0] == 0
    assert data(run("runs", "rerun", "denoising", "-o", "again", "-q", "--json"))["mode"] == "denoising"


def test_a_failed_run_says_why_and_can_be_resumed(run, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def fn(logits, answers, clean):\n    return logits[:, 7] + float('nan')\n")
    command = ["ablate", *COMMON, "--metric", f"{own}:fn", "--out", "failed", "-q"]
    code, out, err = run(*command)
    assert code == 1 and out == "" and "not finite" in err
    shown = data(run("runs", "show", "failed", "--json"))
    assert shown["status"] == "failed" and "not finite" in shown["record"]["error"]
    own.write_text("def fn(logits, answers, clean):\n    return logits[:, 7]\n")
    code, out, err = run("runs", "resume", "failed", "-q")
    assert code == 1 and f"give --metric {own}:fn to use that code" in err  # code runs when it is named here
    code, out, err = run("runs", "resume", "failed", "--metric", f"{own}:fn", "-q")
    assert code == 1 and "holds another run" in err  # parts of two metrics are never mixed
    assert data(run("runs", "list", "failed", "--json"))[0]["status"] == "failed"


def test_refusals_leave_the_record_of_the_run_that_is_there(run, tmp_path):
    assert run("ablate", *COMMON, "--out", "mine", "-q")[0] == 0
    before = {p: p.read_bytes() for p in Path("mine").rglob("*") if p.is_file() and p.name != ".lock"}
    assert run("ablate", *COMMON, "--ablation", "zero", "--out", "mine", "-q")[0] == 1
    assert run("patch", *COMMON, "--out", "mine", "-q")[0] == 1
    assert {p: p.read_bytes() for p in before} == before
    with Path("mine/effects.parquet").open("r+b") as table:
        table.seek(200)
        table.write(b"\xff\xff")
    code, out, err = run("ablate", *COMMON, "--out", "mine", "-q")
    assert code == 1 and out == "" and "rm mine/effects.parquet" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nowhere"], "no folder nowhere"),
        (["resume", "empty"], "holds no run"),
        (["list", "nowhere"], "no folder nowhere"),
        (["resume", "parts"], "no run.json"),
        (["rerun", "parts"], "no run.json"),
        (["resume", "foreign"], "cannot be repeated from its record"),
        (["resume", "newer"], "does not fit this version"),
        (["diff", "empty", "parts"], "no results"),
    ],
)
def test_what_cannot_be_done_is_explained(run, tmp_path, arguments, words):
    Path("empty").mkdir()
    Path("parts/shards").mkdir(parents=True)
    RunRecord(command="juggle", arguments={}).write(Path("foreign"))
    newer = {"model": "zoo:ioi", "task": "ioi", "wavelength": 3}
    RunRecord(command="discover", arguments=newer).write(Path("newer"))
    code, out, err = run("runs", *arguments)
    assert code == 1 and out == "" and words in err and "hint" in err and "Traceback" not in err


def test_the_list_says_where_it_looked_and_how_to_look_elsewhere(run):
    RunRecord(command="heads", arguments={}).write(Path("mine/one"))
    assert (
        "no folder runs or circuits here; runs written elsewhere: workbench runs list FOLDER"
        in run("runs", "list")[2]
    )
    Path("runs").mkdir()
    assert "looked in runs; runs written elsewhere" in run("runs", "list")[2]
    code, out, err = run("runs", "list", "mine")
    assert code == 0 and "mine/one" in out and "looked in mine;" in err


def test_shards_are_listed_as_shards_of_their_run_until_it_is_put_together(run):
    for n in (1, 2):
        RunRecord(command="ablate", arguments={"shard": f"{n}/2"}).write(Path(f"runs/heads/shard-{n}-of-2"))
    RunRecord(command="ablate", arguments={"shard": "1/2"}).write(Path("runs/alone"))
    _, out, err = run("runs", "list")
    assert "ablate: shard 2/2 of runs/heads" in out and err.count("runs merge runs/heads") == 1
    owners = {r["folder"]: r["shard_of"] for r in data(run("runs", "list", "--json"))}
    assert owners.pop("runs/alone") is None and set(owners.values()) == {"runs/heads"} and len(owners) == 2
    whole = RunRecord(command="ablate", arguments={})
    whole.write(Path("runs/heads"))
    assert "runs merge runs/heads" in run("runs", "list")[2]  # killed: not put together
    whole.status = "done"
    whole.write(Path("runs/heads"))
    assert "runs merge" not in run("runs", "list")[2]


def test_no_runs_is_no_error(run):
    assert run("runs", "list")[1].strip() == "no runs here" and data(run("runs", "list", "--json")) == []
    assert "nothing to tidy" in run("runs", "clean")[1]


LINES = [
    "ablate -m zoo:ioi -t ioi --parts mlps --together --ablation mean --reference 'my pairs.jsonl' --limit 5",
    "patch -m zoo:ioi -t ioi --site q --mode noising --position end --position 3 --corruption abc",
    "knock-out -m zoo:ioi -t ioi --query end --key IO --node a1.h0 --node a2.h1 --seed 3",
    "path-patch -m zoo:ioi -t ioi --receiver 'a1.h0<q>' --sender input --mlps frozen --dtype float64",
    "heads -m zoo:ioi -n 5 --prompt 'one two' --corpus a.txt --no-loss",
    "discover -m zoo:ioi -t ioi --method eap-ig --keep 5% --option steps=3 --signed --best --random 2",
]


@pytest.mark.parametrize("line", LINES)
def test_the_line_of_a_record_asks_for_what_was_asked(line):
    """Typed, parsed, recorded, written as a line, parsed again: the same options."""

    def parsed(words: list[str]) -> Command:
        command = typer.main.get_command(cli.app.app).get_command(None, words[0])
        return read(COMMANDS.get(words[0]), command.make_context(words[0], words[1:]).params)

    first = parsed(shlex.split(line))
    again = command_line(RunRecord(command=shlex.split(line)[0], arguments=first.arguments()))
    assert parsed(shlex.split(again)[1:]) == first
