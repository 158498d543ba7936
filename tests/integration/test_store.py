"""Sweeps on disk: resumed, locked, refused and killed, with a real process where a real process matters."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests import forks
from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.core.errors import RunError
from workbench.engine.distribute import unfinished
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.path_patching import path_patches
from workbench.engine.store import SweepStore
from workbench.engine.sweep import Reference, sweep
from workbench.evaluate.judge_plan import JudgePlan
from workbench.evaluate.trial import judge
from workbench.methods.by_name import score
from workbench.model.blocks import Blocks

ROOT = Path(__file__).resolve().parents[2]
FAMILY = "native-ln"


def heads(runs, kind: str = "resample"):
    return ablations(parts_of(runs.wiring, "heads"), kind)


@pytest.fixture
def runs(runs_of):
    """Five pairs of two lengths: four or more batches, two layers each."""
    return runs_of(FAMILY, pairs=mini_pairs(5), batch_tokens=60)


@contextmanager
def forward_calls(model):
    """Count passes, the model's own and those through plain blocks; in their classes: a hook would change the way."""
    calls: list[int] = []
    kind = type(model.original_model)
    forward, walk = kind.forward, Blocks.walk

    def counted(function):
        return lambda *args, **options: (calls.append(1), function(*args, **options))[1]

    kind.forward, Blocks.walk = counted(forward), counted(walk)
    try:
        yield calls
    finally:
        kind.forward, Blocks.walk = forward, walk


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "shards").glob("*.safetensors"))


# -- resuming --------------------------------------------------------------------------------------------------


def test_a_folder_changes_no_number(runs, runs_of, tmp_path):
    plain = sweep(runs, heads(runs), kind="ablation")
    kept = sweep(runs, heads(runs), kind="ablation", folder=tmp_path / "run")
    assert np.array_equal(kept.patched, plain.patched)
    again = sweep(runs, heads(runs), kind="ablation", folder=tmp_path / "run", resume=True)
    assert np.array_equal(again.patched, plain.patched)
    assert again.provenance["plan"] == plain.provenance["plan"]


def test_resuming_skips_what_is_finished(runs, runs_of, tmp_path):
    folder = tmp_path / "run"
    whole = sweep(runs, heads(runs), kind="ablation", folder=folder)
    parts = shards(folder)
    assert len(parts) == 2 * len(runs.batches) >= 4

    def passes() -> int:
        fresh = runs_of(FAMILY, pairs=mini_pairs(5), batch_tokens=60)
        with forward_calls(fresh.model) as calls:
            again = sweep(fresh, heads(fresh), kind="ablation", folder=folder, resume=True)
        assert np.array_equal(again.patched, whole.patched)
        return len(calls)

    nothing_left = passes()
    # the metric of both runs, and per length what plain blocks are compared with; no intervention
    lengths = {batch.n_tokens for batch in runs.batches}
    assert nothing_left <= 2 * len(runs.batches) + 2 * len(lengths)
    before = {path: path.stat().st_ino for path in parts}  # a part that is written anew is another file
    parts[-1].unlink()
    passes()
    after = {path: path.stat().st_ino for path in shards(folder)}
    assert set(after) == set(before) and all(after[path] == before[path] for path in parts[:-1])


def test_means_are_not_taken_again_for_finished_parts(runs_of, tmp_path):
    """A resumed sweep whose parts are all there does not run its reference set."""
    runs, other = (runs_of(FAMILY, pairs=p) for p in (mini_pairs(2), mini_pairs(5)[2:]))
    reference = Reference(runs=other)
    first = sweep(runs, heads(runs, "mean"), kind="a", folder=tmp_path, reference=reference)
    fresh = runs_of(FAMILY, pairs=mini_pairs(2))
    with forward_calls(fresh.model) as calls:
        again = sweep(
            fresh, heads(fresh, "mean"), kind="a", folder=tmp_path, reference=reference, resume=True
        )
    # the metric of both runs, and what plain blocks are compared with; the reference set would be two more
    assert len(calls) <= 2 * len(fresh.batches) + 2 and np.array_equal(first.patched, again.patched)


def test_an_unfinished_run_is_not_thrown_away(runs, tmp_path):
    sweep(runs, heads(runs), kind="ablation", folder=tmp_path)
    with pytest.raises(RunError, match="finished parts of this very run") as problem:
        sweep(runs, heads(runs), kind="ablation", folder=tmp_path)
    assert "--resume" in problem.value.hint


def test_path_patching_resumes_too(runs, tmp_path):
    senders, receivers = ["a0.h1", "m0"], ["a1.h0<q>", "logits"]
    plain = path_patches(runs, senders, receivers)
    path_patches(runs, senders, receivers, folder=tmp_path)
    shards(tmp_path)[0].unlink()
    again = path_patches(runs, senders, receivers, folder=tmp_path, resume=True)
    assert np.array_equal(again.patched, plain.patched)


# -- another run ----------------------------------------------------------------------------------------------


def test_another_run_is_refused_and_told_apart(runs, runs_of, tmp_path):
    """The error names the first thing that differs, and what is there stays as it is."""
    folder = tmp_path / "run"
    sweep(runs, heads(runs), kind="ablation", folder=folder)
    before = {p: p.read_bytes() for p in [folder / "plan.json", *shards(folder)]}

    def refused(words: str, other=None, rows=None, **options) -> None:
        other = other or runs
        with pytest.raises(RunError, match=words):
            sweep(other, rows or heads(other), folder=folder, resume=True, **{"kind": "ablation", **options})

    refused("mode was noising, now denoising", mode="denoising")
    refused("kind was ablation, now patching", kind="patching")
    refused("batch_tokens was 60, now 100", runs_of(FAMILY, pairs=mini_pairs(5)))
    refused("n_pairs was 5, now 4", runs_of(FAMILY, pairs=mini_pairs(4), batch_tokens=60))
    refused(
        "metric was logit-difference, now nll",
        runs_of(FAMILY, pairs=mini_pairs(5), batch_tokens=60, metric="nll"),
    )
    refused("interventions was", rows=heads(runs, "zero"))
    refused("reference was None", reference=Reference(runs=runs_of(FAMILY)))
    refused(
        "config was|dtype was|model was|tokens was|weights was",
        runs_of("llama", pairs=mini_pairs(5), batch_tokens=60),
    )
    assert {p: p.read_bytes() for p in before} == before


def test_an_edited_metric_is_another_run(runs_of, tmp_path):
    """A user's metric keeps its address when its file is edited; the parts before and after must not be mixed."""
    file = tmp_path / "own.py"
    tables = []
    for factor in (1, 2):
        file.write_text(f"def fn(logits, answers, clean):\n    return {factor} * logits[:, 7]\n")
        runs = runs_of(FAMILY, pairs=mini_pairs(5), batch_tokens=60, metric=f"{file}:fn")
        if factor == 1:
            tables.append(sweep(runs, heads(runs), kind="ablation", folder=tmp_path / "run"))
            shards(tmp_path / "run")[0].unlink()
        else:
            with pytest.raises(RunError, match=r"metric_source was own\.py sha256"):
                sweep(runs, heads(runs), kind="ablation", folder=tmp_path / "run", resume=True)


def test_the_plan_changes_with_the_tokens(runs_of):
    """The same strings and weights behind another tokenizer are another run."""
    runs, other = runs_of(FAMILY), runs_of(FAMILY)
    assert runs.tokens_digest == other.tokens_digest
    moved = dict(runs.pairs.positions[0]) | {"S": runs.pairs.positions[0]["S"] + 1}
    elsewhere = dataclasses.replace(runs.pairs, positions=(moved, *runs.pairs.positions[1:]))
    assert runs_of(FAMILY, pairs=elsewhere).tokens_digest != runs.tokens_digest


# -- damage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 7, 40, -1])
def test_a_damaged_part_is_an_error_that_names_it(keep, runs, tmp_path):
    sweep(runs, heads(runs), kind="ablation", folder=tmp_path)
    part = shards(tmp_path)[1]
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(RunError) as problem:
        sweep(runs, heads(runs), kind="ablation", folder=tmp_path, resume=True)
    assert str(part) in problem.value.message and "rm" in problem.value.hint
    part.unlink()  # what the hint says
    assert np.isfinite(sweep(runs, heads(runs), kind="ablation", folder=tmp_path, resume=True).patched).all()


@pytest.mark.parametrize("content", [{"values": np.zeros((2, 2))}, {"other": np.zeros((4, 1))}])
def test_a_part_of_something_else_is_refused(content, runs, tmp_path):
    sweep(runs, heads(runs), kind="ablation", folder=tmp_path)
    save_file(content, shards(tmp_path)[0])
    with pytest.raises(RunError, match=r"has shape|is damaged"):
        sweep(runs, heads(runs), kind="ablation", folder=tmp_path, resume=True)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", '{"kind": "ablation"}', "\x00\xff"])
def test_a_damaged_plan_is_refused(content, runs, tmp_path):
    sweep(runs, heads(runs), kind="ablation", folder=tmp_path)
    (tmp_path / "plan.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RunError, match=r"plan\.json is n|expected an object|holds another run"):
        sweep(runs, heads(runs), kind="ablation", folder=tmp_path, resume=True)
    (tmp_path / "plan.json").unlink()
    with pytest.raises(RunError, match=r"no plan\.json"):
        sweep(runs, heads(runs), kind="ablation", folder=tmp_path, resume=True)


def test_temporary_files_are_never_read(runs, tmp_path):
    """A part that a killed process was writing: not counted, not read, and cleared away."""
    plain = sweep(runs, heads(runs), kind="ablation")
    stray = tmp_path / "shards" / ".b00000-l000.safetensors.abc123.tmp"
    stray.parent.mkdir()
    save_file({"values": np.full((4, 1), 99.0)}, stray)
    found = sweep(
        runs, heads(runs), kind="ablation", folder=tmp_path
    )  # no --resume needed: nothing is finished
    assert np.array_equal(found.patched, plain.patched)
    assert not [p for p in tmp_path.rglob("*.tmp")]
    assert all(set(load_file(p)) == {"values"} for p in shards(tmp_path))


# -- other processes, full and forbidden folders ----------------------------------------------------------------


HOLD = """
import sys, time
from pathlib import Path
from workbench.engine.store import SweepStore
with SweepStore(Path(sys.argv[1]), {"kind": "test"}, resume=True):
    print("held", flush=True)
    time.sleep(60)
"""


def start(code: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_cannot_write_one_run(tmp_path):
    """The second is told who holds the folder; a killed holder holds nothing."""
    holder = start(HOLD, str(tmp_path))
    try:
        assert holder.stdout.readline().strip() == "held"
        with (
            pytest.raises(RunError, match=rf"another process \({holder.pid}\) is writing"),
            SweepStore(tmp_path, {"kind": "test"}, resume=True),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with SweepStore(tmp_path, {"kind": "test"}, resume=True) as store:
        store.put("part", np.ones((1, 2)))
        assert store.done() == {"part"} and store.get("part", (1, 2)).tolist() == [[1.0, 1.0]]


def test_the_same_process_cannot_write_one_run_twice(tmp_path):
    with (
        SweepStore(tmp_path, {"kind": "test"}, resume=True),
        pytest.raises(RunError, match="another process"),
        SweepStore(tmp_path, {"kind": "test"}, resume=True),
    ):
        pass


def test_an_error_inside_gives_the_lock_back(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), SweepStore(tmp_path, {"kind": "test"}, resume=True):
            raise ZeroDivisionError
    with (
        pytest.raises(RunError, match="holds another run"),
        SweepStore(tmp_path, {"kind": "other"}, resume=True),
    ):
        pass
    with SweepStore(tmp_path, {"kind": "test"}, resume=True):
        pass


def test_a_file_in_the_way(runs, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="run is a file; a folder is expected") as problem:
        sweep(runs, heads(runs), kind="ablation", folder=tmp_path / "run")
    assert "--out" in problem.value.hint and (tmp_path / "run").read_text() == "mine"


@contextmanager
def mounted(folder: Path, options: str):
    """A small file system of our own; skipped where mounting is not permitted."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_read_only_folder(runs, tmp_path):
    """Mounted read-only, because permissions do not bind a superuser."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        (disk / "run").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(RunError, match=r"(?i)cannot use .*read-only"):
            sweep(runs, heads(runs), kind="ablation", folder=disk / "run")


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_loses_nothing_that_was_finished(runs, tmp_path):
    """The error says the disk is full, no half-written part is left, and --resume goes on when there is room."""
    plain = sweep(runs, heads(runs), kind="ablation").patched
    with mounted(tmp_path / "disk", "size=40k") as disk:
        folder = disk / "run"
        filler = disk / "filler"
        with pytest.raises(RunError, match=r"(?i)cannot write .*no space") as problem:
            done = []
            sweep(
                runs,
                heads(runs),
                kind="ablation",
                folder=folder,
                progress=lambda n, total, what: done.append(n) or (n == 2 and fill(filler)),
            )
        assert "full" in problem.value.hint
        assert len(shards(folder)) == len(done) >= 2 and not list(folder.rglob("*.tmp"))
        with pytest.raises(RunError, match=r"(?i)no space"):
            SweepStore(disk / "another", {"kind": "test"}, resume=True).__enter__()
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
        found = sweep(runs, heads(runs), kind="ablation", folder=folder, resume=True)
        assert np.array_equal(found.patched, plain)


def fill(path: Path) -> None:
    """Write until nothing fits any more."""
    try:
        with path.open("wb", buffering=0) as out:
            while out.write(bytes(1024)):
                pass
    except OSError:
        pass


# -- kill -9 ----------------------------------------------------------------------------------------------------


VICTIM = """
import sys
import time
import torch
torch.set_num_threads(int(sys.argv[3]))
from tests.mini import mini_pairs
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.model.open import open_model
from workbench.engine.sweep import sweep
from workbench.engine.paired_runs import PairedRuns
runs = PairedRuns(open_model(sys.argv[1], device="cpu"), mini_pairs(5), batch_tokens=60, metric="logit-difference")

def tell(done, total, what):
    print(done, total, flush=True)
    if done == 3:
        time.sleep(600)  # here the test kills us

sweep(runs, ablations(parts_of(runs.wiring, "heads"), "mean"), kind="ablation", folder=sys.argv[2], progress=tell)
"""


def test_kill_9_and_resume_give_the_undisturbed_table(runs, runs_of, tmp_path):
    """A real process, really killed in the middle; resumed, the table is equal bit for bit."""
    folder = tmp_path / "killed"
    words = ["-c", VICTIM, str(family_dir(FAMILY)), str(folder), str(torch.get_num_threads())]
    victim = forks.start(words, stdout=subprocess.PIPE)
    try:
        reported = [victim.stdout.readline().split() for _ in range(3)]
        assert [int(a) for a, _ in reported] == [1, 2, 3] and int(reported[0][1]) > 3
    finally:
        os.kill(victim.pid, signal.SIGKILL)
        victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    left = {p.name: p.stat().st_mtime_ns for p in shards(folder)}
    assert len(left) == 3
    # and another was killed while it wrote a part
    (folder / "shards" / ".b00001-l001.safetensors.zzz.tmp").write_bytes(b"\x00half")
    undisturbed = sweep(runs, heads(runs, "mean"), kind="ablation", folder=tmp_path / "undisturbed")
    fresh = runs_of(FAMILY, pairs=mini_pairs(5), batch_tokens=60)
    resumed = sweep(fresh, heads(fresh, "mean"), kind="ablation", folder=folder, resume=True)
    assert resumed.patched.tobytes() == undisturbed.patched.tobytes()
    assert resumed.provenance == undisturbed.provenance
    for a, b in zip(shards(folder), shards(tmp_path / "undisturbed"), strict=True):
        assert a.name == b.name and a.read_bytes() == b.read_bytes()
    # parts that were there were kept, not made again
    assert {name: (folder / "shards" / name).stat().st_mtime_ns for name in left} == left


def test_a_part_too_large_for_memory_is_halved_and_then_explained(runs, monkeypatch):
    """Running out of memory lowers the number of stacked rows, to one; then the error says what to try."""
    import workbench.engine.sweep as engine

    sizes, stacked = [], engine._stacked

    def small(runs, batch, layer, chunk, *rest):
        sizes.append(len(chunk))
        if len(chunk) > 1:
            raise torch.OutOfMemoryError("pretend")
        return stacked(runs, batch, layer, chunk, *rest)

    def never(*arguments):
        raise torch.OutOfMemoryError("pretend")

    plain = sweep(runs, heads(runs), kind="ablation").patched
    monkeypatch.setattr(engine, "restarted", never)  # plain blocks give up and the hooked model goes on
    monkeypatch.setattr(engine, "_stacked", small)
    assert sweep(runs, heads(runs), kind="ablation").patched == pytest.approx(plain, abs=1.5e-5)
    assert max(sizes) > 1 and min(sizes) == 1

    monkeypatch.setattr(engine, "_stacked", never)
    with pytest.raises(RunError, match="not enough memory for one intervention") as problem:
        sweep(runs, heads(runs), kind="ablation")
    assert "--batch-tokens" in problem.value.hint


class InterruptedAt:
    """Told how far work is; presses Ctrl-C once so many parts are done, and hears that the work stopped."""

    def __init__(self, parts):
        self.parts, self.stops = parts, 0

    def __call__(self, done, total, what=""):
        if done == self.parts:
            signal.raise_signal(signal.SIGINT)

    def stopped(self, *, kept):
        self.stops += kept


def in_memory_calls(runs):
    """What is asked in a notebook."""
    return {
        "ablate": lambda progress=None: sweep(runs, heads(runs), kind="t", progress=progress).patched,
        "path": lambda progress=None: (
            path_patches(runs, ["a0.h0", "a0.h1", "a1.h0"], ["logits"], progress=progress).patched
        ),
        "score": lambda progress=None: score(runs, "exact", level="node", progress=progress).values,
    }


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, as in a terminal: a process that was started in the background may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("name", ["ablate", "path", "score"])
def test_an_interrupted_call_in_memory_goes_on(runs, name):
    call = in_memory_calls(runs)[name]
    whole = call()
    runs.forget()
    with forward_calls(runs.model) as calls:
        call()
        usual = len(calls)
    runs.forget()
    stop = InterruptedAt(2)
    with pytest.raises(KeyboardInterrupt):
        call(stop)
    assert stop.stops >= 1 and list(unfinished().values())[-1] >= 1
    runs.forget()
    with forward_calls(runs.model) as calls:
        again = call()
    assert np.array_equal(again, whole, equal_nan=True) and len(calls) < usual
    assert not unfinished()  # forgotten once it is done


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_judgement_goes_on_behind_the_last_answer(runs):
    circuit = score(runs, "eap").top(12)
    small = {"draws": 2, "edges": 2, "random_sets": 1, "restarts": 1, "steps": 1, "candidates": 1}
    plan = JudgePlan(**small, bootstraps=2, refits=0)
    whole = judge(circuit, runs, plan=plan)

    def until_matched(done, total, what=""):
        if what.startswith("matched"):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        judge(circuit, runs, plan=plan, progress=until_matched)
    assert list(unfinished().values())[-1] == 5  # scores, completeness, minimality, edges, random
    again = []
    found = judge(circuit, runs, plan=plan, progress=lambda done, total, what="": again.append(what))
    own, other = found.document["evidence"], whole.document["evidence"]
    for name in ("scores", "completeness", "minimality", "edges", "random"):
        assert json.dumps(own[name]) == json.dumps(other[name])
    drops = [[row["drop"] for row in evidence["matched"]["draws"]] for evidence in (own, other)]
    assert drops[0] == pytest.approx(drops[1], abs=1e-6) and own.keys() == other.keys()  # in rounding alone
    assert [v.words for v in found.verdicts] == [v.words for v in whole.verdicts] and not unfinished()
    assert again[0].startswith("matched") and not any(what.startswith("edges") for what in again)


@pytest.mark.usefixtures("ctrl_c")
def test_nothing_is_kept_of_a_model_that_somebody_changed_or_of_an_error(runs):
    def fail(done, total, what=""):
        raise ValueError("not an interruption")

    with pytest.raises(ValueError, match="not an interruption"):
        sweep(runs, heads(runs), kind="t", progress=fail)
    assert not unfinished()
    with pytest.raises(KeyboardInterrupt):
        sweep(runs, heads(runs), kind="t", progress=InterruptedAt(2))
    before = unfinished()
    weight = next(iter(runs.model.parameters()))
    own = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] += 1
    try:
        changed = sweep(runs, heads(runs), kind="t").patched
        runs.forget()
        assert np.array_equal(changed, sweep(runs, heads(runs), kind="t").patched)
        assert unfinished() == before  # of other weights: another question
    finally:
        with torch.no_grad():
            weight.copy_(own)
    sweep(runs, heads(runs), kind="t")
    assert not unfinished()
