"""Jobs killed by ``kill -9`` at random moments, in real processes: nothing is lost, the end is the same bit for bit.

    OMP_NUM_THREADS=1 python -m benchmarks.crash_jobs --kills 10 --seed 0 [--json] [--only evaluate heads ...]

One process imports everything; every victim is a fork of it that opens its model by itself. Killed are ``evaluate
--full``, ``replicate``, ``edit make``, ``bench discovery`` and ``heads``; sweeps and discoveries are killed by
``benchmarks.crashes``. Exit code 3 if anything was not as it must be.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.crash_sweep import Outcome, Victim, visible
from workbench.circuits.files.markdown import replace_part, table

BEGIN, END = "<!-- kills: python -m benchmarks.crash_jobs --docs PAGE -->", "<!-- end of kills -->"

# What a second run may well have otherwise: when, where, how long; and digests of files that say so.
_OTHERWISE = {"started", "folder", "digest", "attempts", "machine", "peak_memory_mb"}
_STATES = ("nothing", "no record", "killed", "finished")
_ENDS = {".html": "</html>", ".svg": "</svg>"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something that writes a folder.

    Attributes:
        work: The job as its command calls it, into a folder.
        run: Where in that folder the run has its record; None for a job that keeps none.
        last: The file that says that all is there, for a job without a record.
    """

    name: str
    work: Callable[[Path], object]
    run: str | None = "."
    last: str = ""

    def start(self, folder: Path) -> Victim:
        """The command, in a process of its own."""

        def said() -> str:
            self.work(folder)
            return "done"

        return Victim(said)

    def resume(self, folder: Path) -> Victim:
        """``workbench runs resume``, or the command again where there is no record yet."""
        from workbench.commands.again import resume

        def said() -> str:
            resume(folder / str(self.run))
            return "done"

        has_record = self.run is not None and (folder / self.run / "run.json").exists()
        return Victim(said) if has_record else self.start(folder)

    def state(self, folder: Path) -> str:
        """What ``runs list`` says of the folder."""
        from workbench.engine.run_folders.past_runs import find_runs

        if self.run is None:
            return "finished" if (folder / self.last).exists() else "nothing"
        found = find_runs([folder]) if folder.is_dir() else []
        states = {run.folder.resolve(): run.state for run in found}
        return states.get((folder / self.run).resolve(), "nothing")


def facts(folder: Path) -> dict[str, Any]:
    """What every finished file says, by its path; moments, durations and places are left out."""
    return {str(p.relative_to(folder)): _fact(p) for p in visible(folder) if p.name != "run.json"}


def _fact(path: Path) -> Any:
    """The numbers of a file; an exception where only half of it is there."""
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_bytes()))
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path, use_threads=False).to_pydict()
    if path.suffix in _ENDS:
        text = path.read_text("utf-8").rstrip()
        if not text.endswith(_ENDS[path.suffix]):
            raise ValueError(f"{path.name} has no end")
        return text if path.suffix == ".svg" else "whole"
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = (k for k in sorted(value) if k not in _OTHERWISE and not k.endswith("seconds"))
        return {k: _timeless(value[k]) for k in kept}  # in one order: a cell that was read again has another
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def _same(one: Any, two: Any) -> bool:
    return repr(one) == repr(two)  # NaN is NaN, and every digit of a number counts


def killed(job: Job, root: Path, count: int, rng: random.Random) -> Outcome:
    """Kill it at random moments, again and again in one folder until it is finished, then in the next."""
    found = Outcome(f"kill -9 over {job.name}")
    whole, begun = _fresh(root), time.monotonic()
    said = job.start(whole).wait()
    seconds = time.monotonic() - begun
    found.note = f"; one takes {seconds:.1f} s"
    found.expect(said == "done", f"undisturbed it said: {said}")
    truth = facts(whole)
    folder = _fresh(root)
    while found.times < count:
        before = facts(folder)
        victim = (job.resume if rng.random() < 0.5 else job.start)(folder)
        time.sleep(rng.uniform(0, 1.05 * seconds))
        victim.kill()
        said = victim.wait()
        found.expect(said in ("killed", "done"), f"it said: {said}")
        found.times += said == "killed"
        _look(job, folder, before, truth, found)
        if job.state(folder) == "finished":
            _finish(job, folder, truth, found)
            folder = _fresh(root)
    _finish(job, folder, truth, found)
    return found


def _look(job: Job, folder: Path, before: dict[str, Any], truth: dict[str, Any], found: Outcome) -> None:
    """After a kill: listed as it is, no half file, nothing lost, every number that is there the right one."""
    state = job.state(folder)
    found.seen[f"seen as {state}"] += 1
    found.expect(state in _STATES, f"a killed run is {state}")
    found.seen["with a half-written file"] += folder.is_dir() and any(folder.rglob("*.tmp"))
    try:
        now = facts(folder)
    except Exception as problem:
        found.wrong.append(f"a half file is readable: {type(problem).__name__}: {problem}")
        return
    found.expect(set(before) <= set(now) | {"plan.json"}, f"lost: {sorted(set(before) - set(now))}")
    wrong = [name for name, fact in now.items() if not _same(truth.get(name), fact)]
    found.expect(not wrong, f"other numbers than undisturbed: {wrong[:4]}")
    found.expect(state != "finished" or set(now) == set(truth), f"called finished with {sorted(now)}")


def _finish(job: Job, folder: Path, truth: dict[str, Any], found: Outcome) -> None:
    """Resume undisturbed: finished, the same in every number, nothing left behind."""
    said = job.resume(folder).wait()
    found.expect(said == "done", f"resumed, it said: {said}")
    now = facts(folder)
    wrong = [name for name in sorted({*truth, *now}) if not _same(truth.get(name), now.get(name))]
    found.expect(not wrong, f"resumed, these are not as undisturbed: {wrong[:4]}")
    found.expect(job.state(folder) == "finished", f"resumed, it is {job.state(folder)}")
    left = [p.name for p in folder.rglob("*.tmp")]
    found.expect(not left, f"left behind: {left}")
    found.seen["resumed to the same numbers"] += not wrong


def _fresh(root: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=root)) / "run"


def jobs(root: Path) -> list[Job]:
    """The five jobs, each a few seconds long; the circuit to evaluate is found first."""
    from workbench.bench.bench import bench_discovery
    from workbench.bench.settings import Settings
    from workbench.commands.do import do
    from workbench.commands.replicate import replicate_job
    from workbench.edits.file import save_edit
    from workbench.edits.making import make_edit

    circuit = root / "circuit"

    def evaluate(folder: Path) -> object:
        sizes = {"limit": 16, "random_draws": 10, "edges": 10, "bootstraps": 10, "refits": 4}
        return do("evaluate", circuit=_found(circuit), full=True, **sizes, out=folder)

    def bench(folder: Path) -> object:
        truths, tasks = ("zoo:truth-cancelling", "zoo:truth-greater"), ("zoo:induction/induction",)
        few = {"n_truth": 8, "n_task": 8, "seeds": 1}
        return bench_discovery(Settings(methods=("eap", "eap-ig"), truths=truths, tasks=tasks, **few), folder)

    def edit(folder: Path) -> object:
        words = [
            f"heads={','.join(f'a{n}.h{h}' for n in range(4) for h in range(4))}",
            "operation=drop",
            "keys=0",
        ]
        return save_edit(make_edit("rows", words, model="zoo:ioi"), folder)

    few = ["conflicts=20", "majorities=40", "singles=60", "documents=3", "size=4"]
    return [
        Job(name="evaluate --full", work=evaluate, run="evaluation"),
        Job(name="replicate", work=lambda folder: replicate_job("pine", options=few, out=folder)),
        Job(name="edit make", work=edit, run=None, last="edit.json"),
        Job(name="bench discovery", work=bench),
        Job(name="heads", work=lambda folder: do("heads", model="zoo:ioi", limit=4, out=folder)),
    ]


def _found(circuit: Path) -> Path:
    """A circuit to evaluate; found when it is first asked for."""
    from workbench.commands.do import do

    if not (circuit / "circuit.json").exists():
        do("discover", model="zoo:ioi", task="ioi", method="eap", limit=8, keep="40", out=circuit)
    return circuit


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="kills of each job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", help="words in the names of jobs, such as evaluate or heads")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", type=Path, help="put the counts between the marks of this page")
    asked = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory(prefix="crash-jobs-") as folder:
        for job in jobs(Path(folder)):
            if asked.only and not any(word in job.name for word in asked.only):
                continue
            found.append(killed(job, Path(folder), asked.kills, random.Random(asked.seed)))
            if not asked.json:
                print(said_of(found[-1]), flush=True)
    if asked.json:
        print(json.dumps([vars(outcome) for outcome in found], indent=2))
    if asked.docs:
        replace_part(asked.docs, BEGIN, END, table([row_of(outcome) for outcome in found]))
    return 3 if any(outcome.wrong for outcome in found) else 0


def row_of(found: Outcome) -> dict[str, Any]:
    """One row for the page."""
    seen = ", ".join(f"{count} {what}" for what, count in found.seen.items() if count)
    return {
        "what": found.harm,
        "kills": str(found.times),
        "wrong": str(len(found.wrong)),
        "seen": seen + found.note,
    }


def said_of(found: Outcome) -> str:
    """One line: what was done, how often, what was seen; below it what was wrong."""
    seen = ", ".join(f"{count} {what}" for what, count in found.seen.items() if count)
    wrong = "".join(f"\n  WRONG: {words}" for words in found.wrong[:20])
    return f"{found.harm}: {found.times} times, {len(found.wrong)} wrong; {seen}{found.note}{wrong}"


if __name__ == "__main__":
    sys.exit(main())
