"""Jobs over pictures: shards, a table that goes on where it was killed, and memory that pictures do not fill."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from contextlib import nullcontext
from importlib.util import find_spec

import numpy as np
import pytest

import workbench as wb
from tests.forks import start
from tests.integration.test_search_resumed import Counted, Stopped
from tests.seeing import picture_pairs, seeing_dir
from tests.towers import tower_dir
from workbench.commands.again import resume
from workbench.commands.do import do
from workbench.commands.merge import merge
from workbench.core.errors import ModelError, OptionError
from workbench.core.stats.sign_flips import Resolution
from workbench.engine.cost import numbers_seen, sweep_cost, tower_gflop
from workbench.engine.distribute import Here
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.run_folders.consent import Consent
from workbench.engine.run_folders.past_runs import look_at
from workbench.engine.sweep import sweep
from workbench.heads.drawn_pictures import draw_pictures
from workbench.heads.picture_portrait import SCENES
from workbench.heads.portrait import portrait
from workbench.heads.show.atlas import atlas_page
from workbench.heads.show.portrait import terminal_parts
from workbench.heads.table import load_portrait
from workbench.model.outline import Outline


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return picture_pairs(tmp_path_factory.mktemp("jobs"), 5)


@pytest.mark.parametrize("parts", ["heads", "vision:heads"])
def test_shards_over_pictures_are_the_table_of_one_process(parts, file, tmp_path):
    opening = {"model": str(seeing_dir("llava")), "task": str(file), "parts": parts, "batch_tokens": 100}
    do("ablate", **opening, out=tmp_path / "one")
    for n in (1, 2):
        do("ablate", **opening, out=tmp_path / "parts", shard=f"{n}/2")
    merge([tmp_path / "parts"])
    one, whole = ((tmp_path / name / "effects.parquet").read_bytes() for name in ("one", "parts"))
    assert one == whole


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_in_the_middle_of_drawn_pictures_is_resumed_to_the_same_bytes(tmp_path):
    """Six batches of two pairs in every layer: the process is killed after the first part, long before the last."""
    asked = {
        "model": "zoo:vlm",
        "task": "scene-attributes",
        "limit": 24,
        "batch_tokens": 400,
        "parts": "vision:heads",
    }
    words = ["ablate", *(f"--{name.replace('_', '-')}={value}" for name, value in asked.items())]
    job = start(["-m", "cli.app", *words, f"--out={tmp_path / 'run'}"], stderr=subprocess.PIPE)
    end = time.monotonic() + 600
    while not list((tmp_path / "run" / "shards").glob("*.safetensors")) and job.poll() is None:
        assert time.monotonic() < end, "no part was finished in time"
        time.sleep(0.002)
    assert job.poll() is None, job.stderr.read()[-500:]
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert look_at(tmp_path / "run").state == "killed"
    resume(tmp_path / "run", consent=Consent(trust_code=True))
    do("ablate", **asked, out=tmp_path / "whole")
    found, whole = ((tmp_path / name / "effects.parquet").read_bytes() for name in ("run", "whole"))
    assert found == whole


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
def test_workers_of_a_cluster_read_the_pictures_themselves(file, tmp_path):
    import ray

    from workbench.engine.cluster.ray_crew import connect

    opening = {"model": str(seeing_dir("llava")), "task": str(file), "batch_tokens": 100}
    connect(ray, "local", cpus=1)
    try:
        for parts in ("heads", "vision:heads"):
            do("ablate", **opening, parts=parts, out=tmp_path / f"one {parts}")
            do("ablate", **opening, parts=parts, out=tmp_path / f"ray {parts}", ray="local", workers=1)
            one, many = (tmp_path / f"{how} {parts}" / "effects.parquet" for how in ("one", "ray"))
            assert one.read_bytes() == many.read_bytes()
    finally:
        ray.shutdown()


def test_a_killed_sweep_of_a_tower_goes_on_with_the_same_bits(file, tmp_path):
    model = wb.open_model(seeing_dir("llava"), device="cpu")
    runs = wb.paired_runs(model, wb.load_pairs(file), batch_tokens=100)
    assert len(runs.batches) > 1
    rows = ablations(parts_of(runs.wiring, "vision:heads"))
    whole = sweep(runs, rows, kind="tower")

    class Killed(Exception):
        pass

    def kill(done, total, what):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        sweep(runs, rows, kind="tower", folder=tmp_path / "run", progress=kill)
    told = []
    again = sweep(
        runs, rows, kind="tower", folder=tmp_path / "run", resume=True, progress=lambda *now: told.append(now)
    )
    assert (again.patched == whole.patched).all() and told


def test_a_search_over_pictures_that_was_stopped_goes_on_and_ends_with_the_same_bits(tmp_path):
    model, found, every = wb.open_model("zoo:marked"), {}, 0
    for name, most in (("whole", 10**9), ("stopped", 7), ("stopped", 10**9)):
        runs = wb.paired_runs(model, "scene-marked", n=1)
        with Counted(tmp_path / name, {"method": "acdc"}, resume=True) as store:
            store.most, runs.division = most, Here().asked("acdc", store)
            with pytest.raises(Stopped) if most == 7 else nullcontext():
                found[name] = wb.score(runs, "acdc", tau=1.0).values
            every = every or store.kept
    assert store.kept == every - 7 > 0
    assert np.array_equal(found["stopped"], found["whole"], equal_nan=True)


def test_batches_hold_no_pixels(file):
    """Pixels are made when a pass reads them: a thousand pictures are a thousand names until then."""
    runs = wb.paired_runs(wb.open_model(seeing_dir("llava"), device="cpu"), wb.load_pairs(file))
    extras = runs.batches[0].prompt("clean").repeat(1000).extras
    first, second = extras["pixel_values"], extras["pixel_values"]
    assert len(first) == 1000 * len(runs.batches[0]) and first is not second


def test_portraits_of_words_leave_pictures_out(file):
    found = portrait(wb.open_model(seeing_dir("llava"), device="cpu"), n=2, length=20, loss=False)
    assert found.n_layers == 2
    assert "the language model is measured on words alone, without pictures" in found.notes
    with pytest.raises(ModelError, match="the model reads 12 x 12, and nothing is resized"):
        portrait(wb.open_model(tower_dir("vit"), device="cpu"))


def test_portraits_of_towers_are_of_drawn_pictures(tmp_path):
    model = wb.open_model("zoo:marked")
    found = portrait(model, n=3, seed=5)
    shown = draw_pictures(model, SCENES, n=3, seed=5)
    pattern = wb.patterns_of(model, shown.prompt).patterns[1].double().numpy()
    assert found["class-to-itself"].values[1, 2] == pytest.approx(pattern[:, 2, 0, 0].mean())
    assert found["class-from-patches"].values[1, 2] == pytest.approx(pattern[:, 2, 1:, 0].mean())
    to_patches = pattern[:, 2, 0, 1:].reshape(3, 6, 6)
    own = (to_patches * shown.own).sum((1, 2)) / to_patches.sum((1, 2))
    assert found["object-mass"].values[1, 2] == pytest.approx(own.mean())
    assert found["neighbor-strength"].null[0, 0] == pytest.approx(1 / 37)  # 36 patches and the class token
    words = "\n".join(part for part in terminal_parts(found) if isinstance(part, str))
    assert "random tokens" not in words + found._repr_html_() + atlas_page(
        found
    )  # nothing was measured on them
    found.to_json(tmp_path / "portrait.json")
    assert load_portrait(tmp_path / "portrait.json").rows() == found.rows()
    with pytest.raises(OptionError, match="reads pictures alone and is given texts"):
        portrait(model, "a text")


def test_a_plan_counts_what_the_tower_computes():
    shape = {
        "n_heads": 1,
        "n_kv_heads": 1,
        "d_model": 4,
        "attn_only": False,
        "parallel": False,
        "head_writes": True,
    }
    tower = Outline(
        name="t", n_layers=2, n_parameters=100, n_block_parameters=100, n_positions=5, n_pixels=48, **shape
    )
    layer = 2 * 5 * 50 + 4 * 5**2 * 4  # weights at five positions, scores and values of attention
    assert tower_gflop(tower, []) == pytest.approx(2 * 2 * layer / 1e9)  # both runs
    assert tower_gflop(tower, [0, 1]) == pytest.approx((4 + 2 + 1) * layer / 1e9)


def test_a_dry_run_counts_pictures_and_towers(file):
    asked = {"model": str(seeing_dir("llava")), "task": str(file), "dry_run": True}
    words, tower = (do("ablate", **asked, parts=parts) for parts in ("heads", "vision:heads"))
    assert words.pictures == tower.pictures == 5 and words.to_dict()["pictures"] == 5
    assert tower.gflop > words.gflop > 0 and words.peak_activation_mb > 0


@pytest.mark.parametrize("parts", ["heads", "vision:heads"])
def test_a_dry_run_refuses_a_budget_that_is_taken_before_any_pass(file, parts):
    asked = {
        "model": str(seeing_dir("llava")),
        "task": str(file),
        "dry_run": True,
        "device": "cpu",
        "parts": parts,
    }
    with pytest.raises(
        ModelError, match=r"max_memory is 70.0 MB; this process takes .* 64.0 MB are set aside"
    ) as no:
        do("ablate", **asked, max_memory="70MB")
    named = re.search(r"--max-memory (\S+);", no.value.hint)[1]
    assert do("ablate", **asked, max_memory=named).pictures == 5


def test_a_dry_run_counts_the_pictures_of_one_batch():
    """Of 40 prompts of 10 tokens, passes of 160 hold four at once."""
    shape = dict.fromkeys(("n_layers", "n_heads", "n_kv_heads"), 1) | {"d_model": 4, "n_parameters": 100}
    kind = dict.fromkeys(("attn_only", "parallel", "head_writes"), False)
    tower = Outline(**shape, **kind, name="t", n_positions=50, n_pixels=4800)
    model = Outline(**shape, **kind, name="m", towers={"vision": tower})
    found = sweep_cost(
        model,
        [0],
        [10] * 40,
        batch_tokens=160,
        folder="f",
        resolution=Resolution(tests=1, clusters=40),
        pictures=40,
    )
    assert found.peak_activation_mb == pytest.approx(4 * numbers_seen(tower) * 4 / 1e6)
