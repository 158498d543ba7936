"""Shards of real runs, put together: bit-identical to one process; what cannot be put together says why."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import workbench.commands.discover as discovery
from tests.families import family_dir
from tests.files import rewrite
from tests.mini import mini_pairs
from workbench.bench.bench import bench_discovery
from workbench.bench.settings import Settings
from workbench.commands.again import rerun, resume
from workbench.commands.do import carry_out, do
from workbench.commands.forms.discover import Discover
from workbench.commands.merge import merge
from workbench.core.errors import OptionError, RunError
from workbench.core.job import Job
from workbench.core.lock import holder
from workbench.core.run_file import load_record
from workbench.engine.distribute import Here, Shard, ShardFinished
from workbench.engine.run_folders.leftovers import tidy
from workbench.engine.run_folders.past_runs import find_runs, look_at
from workbench.engine.store import SweepStore
from workbench.methods.by_name import score


@pytest.fixture(scope="module")
def opening(tmp_path_factory):
    """Five pairs of two lengths on a tiny model: four batches."""
    file = tmp_path_factory.mktemp("pairs") / "mini.jsonl"
    mini_pairs(5).save(file)
    return {
        "model": str(family_dir("gpt2")),
        "task": str(file),
        "metric": "logit-difference",
        "batch_tokens": 60,
    }


@pytest.fixture(scope="module")
def ablated(opening, tmp_path_factory):
    """One process, and three shards of the same."""
    place = tmp_path_factory.mktemp("ablated")
    do("ablate", **opening, ablation="mean", out=place / "one")
    for n in (1, 2, 3):
        do("ablate", **opening, ablation="mean", out=place / "parts", shard=f"{n}/3")
    return place


def test_the_whole_is_the_file_that_one_process_writes(ablated):
    folder, saved = merge([ablated / "parts"])
    assert folder == ablated / "parts" and len(saved.effects) > 1
    one, whole = ((ablated / name / "effects.parquet").read_bytes() for name in ("one", "parts"))
    assert one == whole
    assert look_at(folder).state == "finished"
    states = {run.folder.name: run.state for run in find_runs([folder])}
    assert states == {"parts": "finished", **{f"shard-{n}-of-3": "finished" for n in (1, 2, 3)}}


def test_each_shard_measures_its_own_parts(ablated):
    kept = [
        {p.name for p in (ablated / "parts" / f"shard-{n}-of-3" / "shards").glob("*.safetensors")}
        for n in (1, 2, 3)
    ]
    assert all(kept) and sum(map(len, kept)) == len(set().union(*kept))
    assert set().union(*kept) == {p.name for p in (ablated / "one" / "shards").glob("*.safetensors")}


def test_a_finished_shard_is_shown_not_measured_again(ablated, opening):
    notes: list[str] = []
    again = do("ablate", **opening, ablation="mean", out=ablated / "parts", shard="2/3", note=notes.append)
    assert again.shard.index == 2 and any("already measured" in note for note in notes)


@pytest.fixture
def copies(ablated, tmp_path):
    for n in (1, 2, 3):
        shutil.copytree(ablated / "parts" / f"shard-{n}-of-3", tmp_path / f"shard-{n}-of-3")
    return tmp_path


def refusal(folders, **more) -> str:
    with pytest.raises(RunError) as error:
        merge(folders, **more)
    return str(error.value)


def test_what_is_missing_is_named_with_the_line_to_type(copies):
    shutil.rmtree(copies / "shard-2-of-3")
    said = refusal([copies])
    assert "missing: shard 2/3" in said and "workbench ablate" in said and "--shard 2/3" in said
    assert not (copies / "plan.json").exists()


def test_one_shard_twice_is_refused(copies):
    shutil.copytree(copies / "shard-1-of-3", copies / "again")
    said = refusal([*sorted(copies.glob("shard-*")), copies / "again"], out=copies / "whole")
    assert "overlap" in said and "again" in said


def test_shards_of_another_run_or_another_cut_are_refused(copies, opening, tmp_path):
    do("ablate", **opening, ablation="zero", out=tmp_path / "other", shard="2/3")
    said = refusal([copies / "shard-1-of-3", tmp_path / "other"], out=tmp_path / "whole")
    assert "different runs" in said and "mean" in said and "zero" in said
    do("ablate", **opening, ablation="mean", out=tmp_path / "two", shard="1/2")
    assert "one of 2" in refusal([copies / "shard-2-of-3", tmp_path / "two"], out=tmp_path / "whole")


def test_an_unfinished_shard_is_named_and_resumed(copies, opening):
    calls: list[int] = []

    def stop(done, total, what=""):
        calls.append(done)

    shutil.rmtree(copies / "shard-3-of-3")
    broken = copies / "shard-3-of-3"
    shutil.copytree(copies / "shard-2-of-3", broken)  # as a killed process leaves it: no shard.json, running
    (broken / "shard.json").unlink()
    record = load_record(broken)
    rewrite(broken / "run.json", status="running", arguments={**record.arguments, "shard": "3/3"})
    for part in (broken / "shards").glob("*.safetensors"):
        part.unlink()
    said = refusal([copies])
    assert "shard 3/3" in said and f"workbench runs resume {broken}" in said
    resume(broken)
    merge([copies])
    assert look_at(copies).state == "finished"


def test_a_damaged_part_is_refused_with_its_name(copies):
    part = next((copies / "shard-1-of-3" / "shards").glob("*.safetensors"))
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(bytes(data))
    assert part.name in refusal([copies])


def test_the_parts_of_a_finished_shard_are_not_tidied_away(copies):
    before = sorted((copies).rglob("*.safetensors"))
    assert not [x for x in tidy([copies], remove=True).leftovers if x.path in before]
    assert before and sorted(copies.rglob("*.safetensors")) == before
    merge([copies])


def test_a_shard_that_lost_a_part_is_incomplete_and_resumed(copies):
    lost = next((copies / "shard-1-of-3" / "shards").glob("*.safetensors"))
    before = lost.read_bytes()
    lost.unlink()
    assert look_at(copies / "shard-1-of-3").state == "incomplete"
    assert f"workbench runs resume {copies / 'shard-1-of-3'}" in refusal([copies])
    resume(copies / "shard-1-of-3")
    assert lost.read_bytes() == before and look_at(copies / "shard-1-of-3").state == "finished"


def test_a_shard_that_names_a_file_elsewhere_is_refused(copies):
    shard = copies / "shard-1-of-3" / "shard.json"
    content = json.loads(shard.read_text())
    content["parts"][0][0] = content["mine"][0] = "../../victim"
    rewrite(shard, **content)
    assert "'../../victim'" in refusal([copies])
    assert look_at(shard.parent).state == "unreadable"
    assert not list(copies.rglob("victim*"))


def test_shards_of_different_commits_are_noted(copies):
    path = copies / "shard-1-of-3" / "run.json"
    rewrite(path, git={"commit": "c0ffee" * 7, "dirty": False})
    notes: list[str] = []
    merge([copies], note=notes.append)
    assert any("c0ffeec0ffee" in note for note in notes)


def test_shards_in_different_places_need_a_place_for_the_whole(copies, tmp_path):
    moved = tmp_path / "elsewhere" / "shard-1-of-3"
    shutil.copytree(copies / "shard-1-of-3", moved)
    shutil.rmtree(copies / "shard-1-of-3")
    assert "--out" in refusal([moved, copies / "shard-2-of-3", copies / "shard-3-of-3"])


def test_a_folder_without_shards_says_so(ablated):
    assert "no shard" in refusal([ablated / "one"])


def test_paths_in_two_shards(opening, tmp_path):
    asked = {**opening, "receiver": ["logits"]}
    one = do("path-patch", **asked, out=tmp_path / "one")
    for n in (1, 2):
        do("path-patch", **asked, out=tmp_path / "parts", shard=f"{n}/2")
    _, whole = merge([tmp_path / "parts"])
    assert (whole.effects.patched == one.effects.patched).all()
    assert (tmp_path / "one" / "effects.parquet").read_bytes() == (
        tmp_path / "parts" / "effects.parquet"
    ).read_bytes()


# -- searches ---------------------------------------------------------------------------------------------------


def search(opening, method, **more) -> Discover:
    return Discover(**opening, method=method, random_draws=1, **more)


@pytest.fixture(scope="module")
def found(opening, tmp_path_factory):
    """The search of the tests below, in one process."""
    asked = search(opening, "eap-ig", options={"steps": 2})
    return asked, carry_out(asked, Job(out=tmp_path_factory.mktemp("found") / "one")).folder


def test_a_search_in_shards_finds_the_same_circuit(found, tmp_path):
    asked, one = found
    for n in (1, 2):
        carry_out(replace(asked, shard=f"{n}/2"), Job(out=tmp_path / "parts"))
    merge([tmp_path / "parts"])
    for name in ("scores.safetensors", "circuit.json"):
        assert (one / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    assert not (tmp_path / "parts" / "plan.json").exists()


@pytest.mark.parametrize(
    "method, more",
    [
        ("exact", {"level": "node"}),
        ("exact", {"level": "node", "per_position": True}),
        ("exact", {"level": "edge"}),
        ("atp-star", {"level": "node"}),
        ("hisp", {"level": "node"}),
        ("eap", {"level": "edge", "per_position": True}),
    ],
)
def test_scores_from_two_shares_are_those_of_one_process(runs_of, tmp_path, method, more):
    def runs():
        return runs_of("gpt2", pairs=mini_pairs(3), batch_tokens=60)

    whole = score(runs(), method, **more)
    for n in (1, 2):
        mine = runs()
        with SweepStore(tmp_path, {"plan": method}, resume=True) as store:
            mine.division = Shard(index=n, count=2).asked("question", store)
            with pytest.raises(ShardFinished):
                score(mine, method, **more)
    together = runs()
    with SweepStore(tmp_path, {"plan": method}, resume=True) as store:
        before = store.done()
        together.division = Here().asked("question", store)
        again = score(together, method, **more)
        assert store.done() == before  # everything was there
    assert again.values.tobytes() == whole.values.tobytes()
    assert again.per_pair.tobytes() == whole.per_pair.tobytes()


def test_a_method_that_decides_step_by_step_cannot_be_cut(opening):
    with pytest.raises(OptionError) as error:
        carry_out(replace(search(opening, "acdc"), shard="1/2"), Job())
    assert "one process" in str(error.value) and "eap-ig" in str(error.value)


class Killed(BaseException):
    """Ends a search in the middle, as nothing that is caught."""


@pytest.mark.parametrize("where", ["named", "default"])
def test_a_search_that_was_stopped_goes_on_where_it_was(found, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    asked, whole = found
    place = {"out": Path("named")} if where == "named" else {}
    seen: list[str] = []
    held: list[int | None] = []
    tidied = discovery._tidy
    monkeypatch.setattr(discovery, "_tidy", lambda work: (held.append(holder(work)), tidied(work)))

    def stop(done, total, what=""):
        seen.append(what)
        if len(seen) == 4:  # two steps a batch: the third batch has not begun
            raise Killed

    with pytest.raises(Killed):
        carry_out(asked, Job(**place, progress=stop))
    (left,) = [run for run in find_runs([Path(".")]) if run.state == "failed"]
    kept = list((left.folder / "shards").glob("*.safetensors"))
    assert len(kept) == 1
    with pytest.raises(RunError) as error:
        carry_out(asked, Job(**place))
    assert f"workbench runs resume {left.folder}" in str(error.value)
    steps: list[str] = []
    again = resume(left.folder, progress=lambda done, total, what="": steps.append(what))
    assert not any(run.state != "finished" for run in find_runs([Path(".")]))
    for name in ("scores.safetensors", "circuit.json"):
        assert (again.folder / name).read_bytes() == (whole / name).read_bytes()
    assert (again.folder == left.folder) == (where == "named")
    assert held == ([] if where == "named" else [os.getpid()])  # nobody else comes in meanwhile
    assert not (again.folder / "shards").exists() and not list(Path(".").rglob("*unfinished*"))


def test_another_search_into_the_folder_of_a_finished_one_changes_nothing(found, tmp_path):
    asked, one = found
    folder = tmp_path / "one"
    shutil.copytree(one, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}
    others = {
        "keep": {"keep": "10%"},
        "options": {"options": {"steps": 3}},
        "judging random_draws": {"random_draws": 2},
        "method": {"method": "eap", "options": {}},
    }
    for what, other in others.items():
        with pytest.raises(RunError) as error:
            carry_out(replace(asked, **other), Job(out=folder))
        assert f"holds another circuit: {what}" in str(error.value)
        assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != ".lock"} == before
    carry_out(replace(asked, keep="5%"), Job(out=folder))  # what it keeps anyway: the same search
    assert look_at(folder).state == "finished"
    assert (folder / "circuit.json").read_bytes() == before["circuit.json"]


def test_a_search_that_fails_leaves_a_record(opening, tmp_path):
    with pytest.raises(OptionError):
        carry_out(search({**opening, "metric": "accuracy"}, "eap"), Job(out=tmp_path / "failed"))
    found = look_at(tmp_path / "failed")
    assert found.state == "failed" and found.error


def test_an_evaluation_has_a_record_beside_that_of_its_circuit(found, tmp_path):
    asked, one = found
    do("evaluate", circuit=one, task=asked.task, random_draws=2, out=tmp_path / "judged")
    (run,) = find_runs([tmp_path / "judged"])
    assert run.folder.name == "faithfulness" and run.state == "finished" and run.record.command == "evaluate"
    to, _ = rerun(run.folder, tmp_path / "again")
    assert (to / "faithfulness.json").read_bytes() == (tmp_path / "judged" / "faithfulness.json").read_bytes()
    (tmp_path / "judged" / "faithfulness.json").unlink()
    assert look_at(run.folder).state == "incomplete"
    resume(run.folder)
    assert (to / "faithfulness.json").read_bytes() == (tmp_path / "judged" / "faithfulness.json").read_bytes()


@pytest.mark.slow
def test_a_bench_in_shards_measures_every_cell_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # else two processes are started for what is measured
    settings = Settings(
        methods=("attribution-patching", "magnitude"),
        truths=("zoo:truth-induction", "zoo:truth-count"),
        tasks=(),
        levels=("node",),
        n_truth=4,
        seeds=1,
    )
    whole = bench_discovery(settings, tmp_path / "one")
    for n in (1, 2):
        share = bench_discovery(settings, tmp_path / "parts", shard=f"{n}/2")
        assert len(share.shard.mine) == 1
    _, merged = merge([tmp_path / "parts"])

    def numbers(result):
        cells = result.document["truth"]
        return [{k: v for k, v in cell.items() if not k.endswith("seconds")} for cell in cells]

    assert numbers(merged) == numbers(whole) and len(numbers(whole)) == 4
    assert not (tmp_path / "parts" / "plan.json").exists()
