"""The same work on another device or in half precision, beside float32 on the CPU: time, and how far the numbers move.

    python -m benchmarks.devices --device cuda --dtype bfloat16 -m gpt2 -n 32     # on a machine that has a GPU
    OMP_NUM_THREADS=1 python -m benchmarks.devices --dtype bfloat16               # here: half precision on the CPU

Four jobs on one model and task: an ablation of every head, EAP, EAP-IG, and the faithfulness of a circuit (the best 5 %
of edges of EAP in float32 on the CPU, the same in every column). Each is done in float32 on the CPU, in float32 on the
device where that is another one, and in the wanted precision there. Every round starts from an open model on which
nothing was run. Rounds are in turns, the first is not counted, medians are printed. Processor seconds where everything
runs on the CPU; with a GPU seconds by the clock, after it has finished.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

import workbench as wb
from benchmarks.timing import in_turns
from workbench.circuits.circuit import Circuit
from workbench.core.errors import WorkbenchError
from workbench.core.stats.agreement import spearman
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep
from workbench.evaluate.faithfulness import run_circuits

Values = np.ndarray
TOP = 10


def heads(runs: PairedRuns) -> Values:
    """Mean change of the metric by the mean ablation of each head."""
    table = sweep(runs, ablations(parts_of(runs.wiring, "heads"), "mean"), kind="ablation")
    return (table.patched - table.base).mean(1)


def attribution(runs: PairedRuns, method: str) -> Values:
    """Scores of all edges."""
    scores = wb.score(runs, method)
    return scores.values[scores.exists]


def metric_of(runs: PairedRuns, circuit: Circuit) -> Values:
    """The metric of each pair when the circuit runs alone."""
    return run_circuits(runs, [circuit])[0]


def agreement(here: Values, reference: Values) -> dict[str, float]:
    """How far some values are from those in float32 on the CPU."""
    first = [set(np.argsort(-np.abs(x))[:TOP].tolist()) for x in (here, reference)]
    return {
        "largest change": float(np.abs(here - reference).max()),
        "largest value": float(np.abs(reference).max()),
        "spearman": float(spearman(here, reference)),
        f"same among the {TOP} largest": len(first[0] & first[1]),
    }


def measured(columns: dict[str, PairedRuns], clock: Callable[[], float], rounds: int) -> list[dict]:
    """Seconds and agreement of every job, one row for each column."""
    reference, *others = columns
    circuit = wb.score(columns[reference], "eap").fraction(0.05)
    jobs: dict[str, Callable[[PairedRuns], Values]] = {
        "ablation of all heads": heads,
        "EAP": partial(attribution, method="eap"),
        "EAP-IG, 5 steps": partial(attribution, method="eap-ig"),
        "faithfulness of a circuit": partial(metric_of, circuit=circuit),
    }
    rows = []
    for job, work in jobs.items():
        found: dict[str, Values] = {}

        def run(column: str, work=work, found=found) -> None:
            runs = columns[column]
            found[column] = work(PairedRuns(runs.model, runs.pairs))

        seconds = in_turns({column: partial(run, column) for column in columns}, rounds, clock=clock)
        median = {column: statistics.median(own) for column, own in seconds.items()}
        rows += [{"job": job, "on": reference, "seconds": median[reference]}]
        for column in others:
            times = {"seconds": median[column], "times the reference's": median[column] / median[reference]}
            rows += [{"job": job, "on": column, **times, **agreement(found[column], found[reference])}]
    return rows


def finished(device: str) -> Callable[[], float]:
    """A clock: of the processor, or where a GPU works beside it of the wall, read when the GPU has finished."""
    if device == "cpu":
        return time.process_time

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", default="zoo:ioi")
    parser.add_argument("-t", "--task", default="ioi")
    parser.add_argument("-n", type=int, default=16, help="pairs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    wanted = [("cpu", "float32"), (asked.device, "float32"), (asked.device, asked.dtype)]
    try:
        columns = {
            f"{dtype} on {device}": wb.paired_runs(
                wb.open_model(asked.model, device=device, dtype=dtype), asked.task, n=asked.n
            )
            for device, dtype in dict.fromkeys(wanted)
        }
    except WorkbenchError as problem:
        print(problem, file=sys.stderr)
        return 2
    gpu = asked.device != "cpu"
    rows = measured(columns, finished(asked.device), asked.rounds)
    told = {
        "model": asked.model,
        "task": asked.task,
        "n": next(iter(columns.values())).n_pairs,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(asked.device) if gpu else None,
        "seconds are of": "the clock" if gpu else "the processor",
        "rounds": asked.rounds,
        "rows": rows,
    }
    if asked.json:
        print(json.dumps(told, indent=1))
        return 0
    print(*(f"{key}: {value}" for key, value in told.items() if key != "rows"), sep=", ")
    for row in rows:
        print(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k}: {v}" for k, v in row.items()))
    if not gpu:
        print("all of this ran on the CPU: it says nothing about a GPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
