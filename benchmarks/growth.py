"""How time and memory grow: one size doubled at a time, the slope of a straight line through the logarithms.

Head ablation, EAP and ACDC on models of GPT-2's shape with random weights; one thread, processor seconds, the faster of
two runs; memory is what the process needs at most beyond what it had before. Run:

    python -m benchmarks.growth [--svg docs/growth.svg] [--json growth.json]
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

BASE = {"layers": 4, "heads": 8, "pairs": 16, "tokens": 32}
AXES = {
    "layers": (2, 4, 8, 16),
    "heads": (4, 8, 16),
    "pairs": (16, 32, 64, 128),
    "tokens": (16, 32, 64, 128, 256),
}
D_HEAD = 32
# ACDC's work depends on what it removes: it is run on few pairs of few tokens, on its own axes, and keeps some edges
GREEDY = {"layers": 2, "heads": 4, "pairs": 8, "tokens": 12}
GREEDY_AXES = {"layers": (1, 2, 4), "heads": (2, 4, 8), "pairs": (8, 32, 128), "tokens": (12, 24, 48)}
TAU = 3e-5
_STATUS = Path("/proc/self/status")


def runs_of(layers: int, heads: int, pairs: int, tokens: int):
    """A model and pairs of these sizes."""
    from benchmarks.models import gpt2

    size = {"n_layer": layers, "n_head": heads, "n_embd": heads * D_HEAD, "vocab_size": 500}
    return gpt2(pairs, tokens, **size).runs


def _status(key: str) -> float:
    """A line of this process's status, in MB."""
    found = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return int(found.split()[1]) / 1000


def _given_back() -> None:
    """What was freed goes back to the system, so that what is needed next is seen; where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """Processor seconds, and MB that were needed beyond what was there before; after one unmeasured run."""
    work()
    seconds = []
    for _ in range(2):
        gc.collect()
        _given_back()
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before, start = _status("VmRSS"), time.process_time()
        work()
        seconds.append(time.process_time() - start)
        peak = _status("VmHWM") - before
    return min(seconds), peak


def work_of(runs) -> dict[str, Callable[[], object]]:
    """The jobs, on fresh runs each time."""
    from workbench.engine.interventions.ablation import ablations, parts_of
    from workbench.engine.paired_runs import PairedRuns
    from workbench.engine.sweep import sweep
    from workbench.methods.by_name import score

    def fresh() -> PairedRuns:
        return PairedRuns(runs.model, runs.pairs)

    heads = ablations(parts_of(runs.wiring, "heads"), "mean")
    return {
        "head ablation": lambda: sweep(fresh(), heads, kind="ablation"),
        "EAP": lambda: score(fresh(), "eap"),
        "ACDC": lambda: score(fresh(), "acdc", tau=TAU),
    }


def slope(x: list[float], y: list[float]) -> float | None:
    """Of a straight line through the logarithms; None where a value is not above zero."""
    if min(y) <= 0:
        return None
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def grow(job: str, axis: str) -> dict:
    """One job along one axis."""
    base, axes = (GREEDY, GREEDY_AXES) if job == "ACDC" else (BASE, AXES)
    rows = []
    for size in axes[axis]:
        runs = runs_of(**{**base, axis: size})
        seconds, megabytes = measured(work_of(runs)[job])
        edges = runs.wiring.graph().n_edges
        rows.append({"size": size, "edges": edges, "seconds": seconds, "MB": megabytes})
    sizes, edges = [r["size"] for r in rows], [r["edges"] for r in rows]
    times, memory = [r["seconds"] for r in rows], [r["MB"] for r in rows]
    slopes = {"time": slope(sizes, times), "memory": slope(sizes, memory)}
    if edges[0] != edges[-1]:
        slopes["time against edges"] = slope(edges, times)
    return {"job": job, "axis": axis, "rows": rows, "slopes": slopes}


def picture(found: list[dict]) -> str:
    """Time against each size, all jobs, as powers of ten beside the smallest size."""
    from workbench.view.small_multiples import panels_svg

    panels: dict[str, dict[str, list]] = {}
    for line in found:
        first = line["rows"][0]
        panels.setdefault(line["axis"], {})[line["job"]] = [
            (float(np.log2(r["size"] / first["size"])), float(np.log2(r["seconds"] / first["seconds"])))
            for r in line["rows"]
        ]
    return panels_svg(
        panels,
        x_label="doublings of the size",
        y_label="doublings of the time",
        title="How time grows",
        y_range=(0.0, 6.0),
        behind=False,
        columns=4,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--svg")
    parser.add_argument("--json")
    parser.add_argument("--jobs", nargs="+", default=["head ablation", "EAP", "ACDC"])
    chosen = parser.parse_args()
    found = []
    for job in chosen.jobs:
        for axis in AXES:
            found.append(grow(job, axis))
            shown = {k: None if v is None else round(v, 2) for k, v in found[-1]["slopes"].items()}
            rows = [(r["size"], round(r["seconds"], 3), round(r["MB"], 1)) for r in found[-1]["rows"]]
            print(job, axis, shown, rows, flush=True)
    if chosen.svg:
        Path(chosen.svg).write_text(picture(found), encoding="utf-8")
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
