"""Measure the memory that a sweep of heads behind many drawn pictures needs beyond the open model.

Each number of pictures has a process of its own. ``python -m benchmarks.picture_memory`` prints one row for each: what
is needed does not grow with the pictures beyond what their batches keep.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")


def measure(model: str, task: str, parts: str, n: int) -> tuple[float, float, float]:
    """Return MB before the sweep, the peak of the process in MB, and seconds."""
    import workbench as wb
    from workbench.core.run_record import peak_memory_mb
    from workbench.model.memory import resident_bytes

    opened = wb.open_model(model)
    wb.ablate(wb.paired_runs(opened, task, n=4), parts)  # what is loaded once is there
    runs = wb.paired_runs(opened, task, n=n)
    before, begun = resident_bytes("cpu") / 1e6, time.perf_counter()
    wb.ablate(runs, parts)
    return before, peak_memory_mb(), time.perf_counter() - begun


def main() -> None:
    """Print what each number of pictures needs."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--model", default="zoo:vlm")
    asked.add_argument("--task", default="scene-attributes")
    asked.add_argument("--parts", nargs="+", default=["heads", "vision:heads"])
    asked.add_argument("--pictures", type=int, nargs="+", default=[250, 1000])
    asked.add_argument("--one", action="store_true", help="measure here, and print three numbers")
    given = asked.parse_args()
    if given.one:
        print(*measure(given.model, given.task, given.parts[0], given.pictures[0]))
        return
    print("parts  pictures  MB before  MB at most  MB more  seconds")
    for parts in given.parts:
        for n in given.pictures:
            words = [
                "--model",
                given.model,
                "--task",
                given.task,
                "--parts",
                parts,
                "--pictures",
                str(n),
                "--one",
            ]
            command = [sys.executable, "-m", "benchmarks.picture_memory", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            before, peak, seconds = map(float, done.stdout.split()[-3:])
            print(f"{parts}  {n}  {before:.0f}  {peak:.0f}  {peak - before:.0f}  {seconds:.1f}", flush=True)


if __name__ == "__main__":
    main()
