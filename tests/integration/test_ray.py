"""Two workers on a real Ray cluster on this machine: same bits, lost workers replaced, a killed driver resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.families import family_dir
from tests.forks import start
from tests.mini import mini_pairs
from workbench.commands.again import resume
from workbench.commands.do import do
from workbench.core.errors import OptionError, RunError
from workbench.engine.distribute import WorkPart
from workbench.engine.run_folders.consent import Consent
from workbench.engine.run_folders.past_runs import look_at

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")


@pytest.fixture(scope="module")
def opening(tmp_path_factory):
    """Five pairs of two lengths on a tiny model: four batches of two layers."""
    file = mini_pairs(5).save(tmp_path_factory.mktemp("pairs") / "mini.jsonl")
    return {
        "model": str(family_dir("gpt2")),
        "task": str(file),
        "metric": "logit-difference",
        "batch_tokens": 60,
    }


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this process, as a notebook may have one; jobs use it and leave it running."""
    ray = pytest.importorskip("ray")
    from workbench.engine.cluster.ray_crew import connect

    connect(ray, "local", cpus=2)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def one(opening, tmp_path_factory):
    """What one process writes."""
    return do("ablate", **opening, out=tmp_path_factory.mktemp("one") / "run").folder / "effects.parquet"


def hardest_worker() -> psutil.Process:
    """Of the processes of workers below this one, the one that has worked most.

    The death of one that is still starting may not matter to a short job, and then nobody is told of it.
    """
    workers = [p for p in psutil.Process().children(recursive=True) if "ray::Worker" in " ".join(_words(p))]
    return max(workers, key=lambda p: sum(p.cpu_times()[:2]))


def computes(process: psutil.Process) -> bool:
    """Whether a process still runs; one that ended stays in the list until the cluster has looked."""
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


@needs_ray
def test_a_worker_killed_midway_is_replaced_and_changes_no_bit(cluster, opening, one, tmp_path):
    """On a busy machine the worker that is killed may have had nothing left to do: then it is tried again."""
    notes: list[str] = []
    for attempt in range(4):
        killed: list[psutil.Process] = []

        def kill(done, total, what="", killed=killed):
            if not killed:
                killed.append(hardest_worker())
                killed[0].send_signal(signal.SIGKILL)

        how = {"ray": "local", "workers": 2, "progress": kill, "note": notes.append}
        saved = do("ablate", **opening, out=tmp_path / f"ray{attempt}", **how)
        assert not computes(killed[0])
        assert (saved.folder / "effects.parquet").read_bytes() == one.read_bytes()
        if any("a worker was lost" in note for note in notes):
            break
    else:
        raise AssertionError(notes)
    assert cluster.is_initialized()  # it was there before the job


@needs_ray
def test_a_search_on_workers_finds_the_same_circuit(cluster, opening, tmp_path):
    asked = {**opening, "method": "eap-ig", "options": {"steps": 2}, "random_draws": 1}
    do("discover", **asked, out=tmp_path / "one")
    do("discover", **asked, out=tmp_path / "ray", ray="local", workers=2)
    for name in ("scores.safetensors", "circuit.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()


def parts(count: int) -> list[WorkPart]:
    return [WorkPart(key=str(n), shape=(1,), batch=n) for n in range(count)]


def program(count: int, compute):
    """A job without a model, whose parts are numbers."""
    known = parts(count)

    def job(serving):
        list(serving.asked("question", None).values(known, compute))

    return job


@contextmanager
def crew(cluster, job, count: int = 1, **more):
    """Workers hired without asking whether there is room for them."""
    from workbench.engine.cluster.ray_crew import Crew

    hired = Crew(**{"ray": cluster, "program": job, "threads": 1, "gpus": 0, "note": print, **more})
    hired.hire(count)
    try:
        yield hired
    finally:
        hired.dismiss()


@needs_ray
def test_a_worker_that_never_starts_is_given_no_part(cluster):
    with crew(cluster, program(3, lambda p: np.array([int(p.key)])), 2, threads=2) as two:  # room for one
        found = {part.key: values.tolist() for part, values in two.work("question", parts(3))}
        assert found == {"0": [0], "1": [1], "2": [2]}
        assert len(two.starting) == 1 and len(two.idle) == 1


@needs_ray
def test_workers_that_all_never_start_are_told_of_and_given_up(cluster, monkeypatch):
    monkeypatch.setattr("workbench.engine.cluster.ray_crew._TELL_AFTER", 0.1)
    notes: list[str] = []
    with (
        crew(cluster, print, threads=3, patience=1.0, note=notes.append) as one,
        pytest.raises(RunError, match="no worker started") as error,
    ):
        list(one.work("question", parts(1)))
    assert "3 CPUs" in str(error.value)
    assert len(notes) == 1 and "1 wait for 3 CPUs each" in notes[0]


@needs_ray
def test_more_workers_than_there_is_room_for_are_refused(cluster):
    from workbench.engine.cluster.ray_crew import ray_crew

    with pytest.raises(RunError) as error, ray_crew(print, workers=3, device="cpu"):
        pass
    assert "has room for 2" in str(error.value) and "--workers 2" in str(error.value)


@needs_ray
def test_a_mistake_in_a_worker_is_told_as_one_here(cluster):
    with (
        crew(cluster, program(1, lambda p: np.zeros(1))) as one,
        pytest.raises(RunError, match="asked for something else"),
    ):
        list(one.work("another question", parts(1)))


@needs_ray
def test_a_worker_with_an_unexpected_error_is_ended_too(cluster):
    with crew(cluster, program(1, lambda p: 1 / 0)) as one:
        (worker,) = one.hired
        with pytest.raises(ZeroDivisionError):
            list(one.work("question", parts(1)))
    end = time.monotonic() + 120
    with pytest.raises(cluster.exceptions.RayActorError):  # told to end, it may answer once or twice more
        while time.monotonic() < end:
            cluster.get(worker.ready.remote(), timeout=60)
            time.sleep(0.05)


@needs_ray
def test_a_killed_driver_is_resumed_from_what_its_workers_finished(cluster, tmp_path):
    """A job of 96 parts: it is killed after the first, long before the last."""
    whole, folder = tmp_path / "whole", tmp_path / "run"
    address = cluster.get_runtime_context().gcs_address
    words = ["ablate", "-m", "zoo:ioi", "-t", "ioi", "--limit", "24", "--batch-tokens", "100"]
    words += ["--ray", address, "--workers", "1", "--out", str(folder)]
    driver = start(["-m", "cli.app", *words], stderr=subprocess.PIPE)
    end = time.monotonic() + 600
    while not list((folder / "shards").glob("*.safetensors")) and driver.poll() is None:
        assert time.monotonic() < end, "no part was finished in time"
        time.sleep(0.002)
    assert driver.poll() is None, driver.stderr.read()[-500:]
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    found = look_at(folder)
    assert found.state == "killed"
    assert len(list((folder / "shards").glob("*.safetensors"))) < 96
    resume(folder, consent=Consent(trust_code=True))  # on the same cluster: the record says so
    do("ablate", model="zoo:ioi", task="ioi", limit=24, batch_tokens=100, out=whole)
    assert (folder / "effects.parquet").read_bytes() == (whole / "effects.parquet").read_bytes()


@needs_ray
def test_a_cluster_that_is_not_there_says_how_to_start_one(opening, tmp_path):
    code = (
        "from workbench.engine.cluster.ray_crew import ray_crew\n"
        "from workbench.core.errors import RunError\n"
        "try:\n    with ray_crew(print, address='127.0.0.1:1', workers=1): pass\n"
        "except RunError as error: print(error.message, '|', error.hint)"
    )
    environment = {
        **os.environ,
        "RAY_gcs_rpc_server_connect_timeout_s": "1",
        "RAY_NUM_REDIS_GET_RETRIES": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert "no Ray cluster at 127.0.0.1:1" in done.stdout and "ray start --head" in done.stdout, done.stderr[
        -500:
    ]


def test_without_ray_the_way_to_install_it_is_said(monkeypatch, opening, tmp_path):
    import workbench.engine.cluster.ray_crew as ray_crew

    monkeypatch.setattr(ray_crew, "find_spec", lambda name: None)
    with pytest.raises(OptionError) as error:
        do("ablate", **opening, out=tmp_path / "run", ray="local")
    assert 'pip install "circuit-workbench[ray]"' in str(error.value)
