"""A sweep killed, starved and raced on purpose, in real processes; afterwards its table must be as if nothing had been.

One process opens the model; every victim is a fork of it. Run:

    OMP_NUM_THREADS=1 python -m benchmarks.crashes --kills 200 --seed 0 [--json] [--only random-kills ...]

Exit code 3 if anything was not as it must be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.crash_sweep import Outcome, Sweep, Victim, die_at_write, mounted, visible


def random_kills(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """kill -9 at random moments, again and again in one folder until it is finished, then in the next."""
    found, folder = Outcome("random kills"), sweep.fresh()
    while found.times < count:
        victim = sweep.start(folder)
        time.sleep(rng.uniform(0, 1.2 * sweep.seconds))
        victim.kill()
        said = victim.wait()
        state, wrong = sweep.look(folder)
        found.wrong += [f"after a kill: {w}" for w in wrong]
        if said == "killed":
            found.times += 1
            found.seen[f"seen as {state}"] += 1
            found.seen["with a half-written file"] += any(folder.rglob("*.tmp"))
            found.expect(state in ("nothing", "no record", "killed", "finished"), f"a killed run is {state}")
        else:
            found.expect(said in ("measured", "already there"), f"it said: {said}")
        if state == "finished":
            sweep.finish(folder, found)
            folder = sweep.fresh()
    sweep.finish(folder, found)
    return found


def kills_at_every_write(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """kill -9 in the middle of a write, before its flush, before and after its rename; at every write in turn."""
    found = Outcome("kills between write and rename")
    n_writes = len(sweep.files) + 1  # run.json is written twice
    moments = [(k, what) for k in range(n_writes) for what in ("half", "flush", "rename", "renamed")]
    for k, what in rng.sample(moments, min(count, len(moments))):
        folder = sweep.fresh()
        said = sweep.start(folder, before=lambda k=k, what=what: die_at_write(k, what)).wait()
        found.times += 1
        found.expect(said == "killed", f"write {k}, {what}: it said {said}")
        state, wrong = sweep.look(folder)
        found.wrong += [f"write {k}, {what}: {w}" for w in wrong]
        last = k == n_writes - 1 and what == "renamed"  # the record of the end is in place
        found.expect((state == "finished") == last, f"write {k}, {what}: {state}")
        found.seen[f"seen as {state}"] += 1
        sweep.finish(folder, found)
    return found


def start_race(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """Four processes start one run at one moment: one measures, the others are told, the table is whole."""
    found = Outcome("four starts at one moment")
    for _ in range(max(1, count // 10)):
        folder, moment = sweep.fresh(), time.monotonic() + 0.2

        def hold(moment: float = moment) -> None:
            while time.monotonic() < moment:
                pass

        said = [victim.wait() for victim in [sweep.start(folder, before=hold) for _ in range(4)]]
        found.times += 1
        found.seen["measured"] += said.count("measured")
        told = [s for s in said if "another process" in s and "wait for it" in s]
        found.seen["told that another has it"] += len(told)
        found.seen["found it finished"] += said.count("already there")
        found.expect(said.count("measured") == 1, f"{said.count('measured')} of 4 measured")
        found.expect(len(told) + said.count("already there") == 3, f"they said: {said}")
        sweep.finish(folder, found)
    return found


def damaged_parts(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """One bit flipped, or the end cut off, anywhere in any part: refused, never read as whole."""
    from workbench.core.errors import RunError
    from workbench.engine.store import SweepStore

    found, folder = Outcome("flipped bits and cut-off parts"), sweep.copied()
    parts = sorted((folder / "shards").glob("*.safetensors"))
    with SweepStore(folder, sweep.plan, resume=True) as store:
        for i in range(count):
            path = rng.choice(parts)
            good = bytearray(path.read_bytes())
            shape = json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])["values"]["shape"]
            bad = bytearray(good)
            if i % 4:
                bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            else:
                bad = bad[: rng.randrange(len(bad))]
            path.write_bytes(bad)
            try:
                store.get(path.stem, tuple(shape))
                found.wrong.append(f"{path.name}: a damaged part was read")
            except RunError as problem:
                found.seen["refused"] += 1
                found.expect(str(path) in problem.message and "rm" in problem.hint, problem.message)
            found.times += 1
            path.write_bytes(good)
    path.write_bytes(bad)
    said = sweep.start(folder).wait()
    found.expect("refused" in said and str(path) in said, f"resume said: {said}")
    path.unlink()  # what the hint says
    sweep.finish(folder, found)
    return found


def moved_parts(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """A part under another part's name: refused, though it is whole and of the right shape."""
    found = Outcome("parts under other names")
    folder = sweep.copied()
    parts = sorted((folder / "shards").glob("*.safetensors"))
    by_size: dict[int, list[Path]] = {}
    for path in parts:
        by_size.setdefault(path.stat().st_size, []).append(path)
    a, b = next(group for group in by_size.values() if len(group) > 1)[:2]
    shutil.copy(a, b)
    said = sweep.start(folder).wait()
    found.times += 1
    found.expect("refused" in said and str(b) in said and "damaged" in said, f"it said: {said}")
    b.unlink()
    sweep.finish(folder, found)
    return found


def full_disk(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """A file system of a few dozen kilobytes: what was finished stays, the error says the disk is full."""
    found = Outcome("full disk")
    for size in rng.sample(range(16, 120, 4), max(2, min(20, count // 10))):
        with mounted(sweep.fresh(), f"size={size}k") as disk:
            if disk is None:
                found.note = "no file system can be mounted here: not done"
                return found
            said = sweep.start(disk / "run").wait()
            found.times += 1
            full = "No space left" in said and "the disk is full" in said
            found.seen["refused" if full else "fitted"] += 1
            found.expect(full or said == "measured", f"{size} kB: {said}")
            state, wrong = sweep.look(disk / "run")
            found.wrong += [f"{size} kB: {w}" for w in wrong]
            found.expect(state in ("failed", "killed", "no record", "nothing", "finished"), state)
            found.seen[f"seen as {state}"] += 1
            subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
            sweep.finish(disk / "run", found)
    return found


def file_limit(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """No file may grow beyond some bytes (ulimit -f): an error that says so, and a resume without the limit."""
    found = Outcome("limit on the size of files")
    sizes = sorted({len(data) for data in sweep.files.values()})
    for limit in (16, *(size - 1 for size in sizes[-3:])):
        folder = sweep.fresh()

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        said = sweep.start(folder, before=limited).wait()
        found.times += 1
        # the lock of 5 digits fits; what does not is said
        found.expect("refused" in said and "File too large" in said and "ulimit -f" in said, said)
        _, wrong = sweep.look(folder)
        found.wrong += wrong
        found.seen["refused"] += "refused" in said
        sweep.finish(folder, found)
    return found


def little_memory(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """Less and less address space: stacks are halved, numbers stay; or the error says what to try."""
    import numpy as np

    found = Outcome("little memory")
    big = Sweep(sweep.root / "big", pairs=400, batch_tokens=1 << 17, hooked=True)
    from workbench.circuits.files.effects_file import load_effects

    def hooked() -> None:
        from workbench.model.bare import Modules

        Modules.are_bare = lambda modules: False  # stacks of the hooked model are what is starved here

    unhurt = big.fresh()
    found.expect(big.start(unhurt, before=hooked).wait() == "measured", "no table to compare with")
    truth = load_effects(unhurt).patched
    largest = 0.0
    for extra in [int(1e6 * 2**k) for k in (7, 4, 2, 0)]:
        folder = big.fresh()
        halved = folder.with_name("halved")

        def starved(extra: int = extra, halved: Path = halved) -> None:
            import workbench.engine.sweep as engine

            stacked = engine._stacked

            def counted(runs, batch, layer, chunk, *rest):
                with halved.open("a") as out:
                    out.write(f"{len(chunk)}\n")
                return stacked(runs, batch, layer, chunk, *rest)

            engine._stacked = counted
            hooked()
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + extra
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

        said = big.start(folder, before=starved).wait()
        found.times += 1
        sizes = [int(n) for n in halved.read_text().split()] if halved.exists() else []
        if said == "measured":
            table = load_effects(folder).patched
            largest = max(largest, float(np.abs(table - truth).max()))
            was = len(set(sizes)) > 1
            found.seen["halved and finished" if was else "finished without halving"] += 1
            found.expect(np.allclose(table, truth, rtol=0, atol=1.5e-5), f"{extra} bytes: numbers moved")
        else:
            found.seen["told that memory is not enough"] += "memory" in said.lower()
            found.expect("memory" in said.lower(), f"{extra} bytes more: {said[:200]}")
            # parts that were done stay as they are, so the rest is measured the same way
            found.expect(big.start(folder, before=hooked).wait() == "measured", f"{extra} bytes: no resume")
            found.expect(
                np.array_equal(load_effects(folder).patched, truth), f"{extra} bytes: resumed to others"
            )
            found.seen["resumed to the same bits"] += 1
    found.note = f"largest difference after halving {largest:.1e} logits"
    found.expect(found.seen["halved and finished"] > 0, "no limit made it halve")
    return found


def clock_jumps(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """The clock goes back or ahead by years between and within runs, and files are older than they can be."""
    from workbench.core.run_file import load_record

    found = Outcome("clock jumps")
    for years in (-30, -1, 1, 30):
        folder = sweep.copied(without=("effects.parquet", "heatmap.svg"))
        for path in rng.sample(sorted((folder / "shards").glob("*.safetensors")), 5):
            path.unlink()
        for path in folder.rglob("*"):
            moment = time.time() + rng.uniform(-40, 40) * 3e7
            os.utime(path, (moment, moment))
        record = load_record(folder)
        record.status, record.seconds = "running", None
        record.write(folder)

        def jump(years: int = years) -> None:
            now, calls = time.time, [0]

            def elsewhere() -> float:
                calls[0] += 1
                return now() + years * 3.15e7 * (1 if calls[0] % 2 else -1)

            time.time = elsewhere

        said = sweep.start(folder, before=jump).wait()
        found.times += 1
        found.expect(said == "measured", f"{years} years: {said}")
        sweep.finish(folder, found)
        seconds = json.loads((folder / "run.json").read_text())["seconds"]
        found.expect(0 <= seconds < 1000, f"{years} years: it took {seconds} s")
    return found


def forbidden_folder(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """A folder that may be read and not written, before the start and in the middle of a run."""
    found = Outcome("read-only folder")
    folder = sweep.copied(without=("effects.parquet", "heatmap.svg"))
    next(iter((folder / "shards").glob("*.safetensors"))).unlink()
    with mounted(sweep.fresh(), "size=10m") as disk:
        if disk is None:
            found.note = "no file system can be mounted here: not done"
            return found
        shutil.copytree(folder, disk / "run")
        before = {p: p.read_bytes() for p in visible(disk)}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        said = sweep.start(disk / "run").wait()
        found.times += 1
        found.expect("refused" in said and "ead-only" in said and "choose another" in said, said)
        found.expect({p: p.read_bytes() for p in visible(disk)} == before, "something changed")
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        sweep.finish(disk / "run", found)
    return found


def discovery_kills(sweep: Sweep, count: int, rng: random.Random) -> Outcome:
    """kill -9 while a discovery is being saved: not finished before it is, and the circuit whole or not there."""
    from workbench.circuits.files import load_circuit
    from workbench.commands.forms.discover import Discover
    from workbench.commands.inputs import record_of
    from workbench.core.errors import WorkbenchError
    from workbench.engine.run_folders.past_runs import look_at
    from workbench.evaluate.found_circuit import discover, save_discovery

    found = Outcome("kills while a discovery is saved")
    circuit = discover(sweep.runs, "eap", amount="5%", random_draws=1, roles=False)

    def save(folder: Path) -> str:
        save_discovery(
            circuit, folder, record_of(Discover(model="zoo:ioi", task="ioi", method="eap"), sweep.runs)
        )
        return "saved"

    whole = sweep.fresh()
    found.expect(Victim(lambda: save(whole)).wait() == "saved", "it could not be saved undisturbed")
    names = [p.name for p in visible(whole)]
    moments = [(k, what) for k in range(len(names)) for what in ("half", "flush", "rename", "renamed")]
    for k, what in rng.sample(moments, min(count, len(moments))):
        folder = sweep.fresh()

        def work(folder: Path = folder, k: int = k, what: str = what) -> str:
            die_at_write(k, what)
            return save(folder)

        found.expect(Victim(work).wait() == "killed", f"write {k}, {what}: it was not killed")
        found.times += 1
        state = look_at(folder).state
        found.seen[f"seen as {state}"] += 1
        complete = {p.name for p in visible(folder)} == set(names)
        found.expect(state != "finished" or complete, f"write {k}, {what}: called finished, incomplete")
        for name in ("circuit.json", "scores.safetensors"):
            there = folder / name
            same = not there.exists() or there.read_bytes() == (whole / name).read_bytes()
            found.expect(same, f"write {k}, {what}: {name} is not whole")
        try:
            load_circuit(folder)
            found.seen["circuit there, whole"] += 1
        except WorkbenchError:
            found.seen["no circuit"] += 1
        found.expect(Victim(lambda folder=folder: save(folder)).wait() == "saved", "it cannot be saved again")
        found.expect(look_at(folder).state == "finished", "saved again, it is not finished")
    return found


HARMS = {
    "random-kills": random_kills,
    "writes": kills_at_every_write,
    "race": start_race,
    "damage": damaged_parts,
    "moved": moved_parts,
    "discovery": discovery_kills,
    "full-disk": full_disk,
    "file-limit": file_limit,
    "memory": little_memory,
    "clock": clock_jumps,
    "read-only": forbidden_folder,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="how often each kind of harm is done, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(HARMS), default=list(HARMS))
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="crashes-") as root:
        sweep = Sweep(Path(root) / "small")
        found = []
        for name in asked.only:
            found.append(HARMS[name](sweep, asked.kills, random.Random(asked.seed)))
            if not asked.json:
                print(_line(found[-1]), flush=True)
    if asked.json:
        print(json.dumps([vars(outcome) for outcome in found], indent=2))
    return 3 if any(outcome.wrong for outcome in found) else 0


def _line(found: Outcome) -> str:
    seen = ", ".join(f"{count} {what}" for what, count in found.seen.items() if count)
    wrong = "".join(f"\n  WRONG: {w}" for w in found.wrong[:20])
    return f"{found.harm}: {found.times} times, {len(found.wrong)} wrong; {seen} {found.note}{wrong}"


if __name__ == "__main__":
    sys.exit(main())
