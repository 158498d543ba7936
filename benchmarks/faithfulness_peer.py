"""Circuits of several sizes beside the package auto-circuit, which needs an interpreter of its own.

    OMP_NUM_THREADS=1 python -m benchmarks.faithfulness_peer --peer "PYTHON" [--sizes 24] [--sizes 5 10 24 48 96 240]

Same weights, prompts and circuits: the best edges of one random ranking. Both start from an open model: runs with
nothing measured, so that the clean and the corrupted run are in the time. Processor seconds, one thread, rounds in
turns. The peer is a new process in every round, so it measures twice and its second time counts. The logit differences
of all circuits are compared.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.acdc_peer import LENGTH, SIZES, hand_over
from benchmarks.models import gpt2
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.faithfulness import run_masks


def ranking(exists: np.ndarray) -> np.ndarray:
    """A score for every edge, all different; 0 where there is none."""
    order = np.random.default_rng(0).permutation(int(exists.sum())) + 1.0
    found = np.zeros(exists.shape)
    found[exists] = order
    return found


def best(scores: np.ndarray, size: int) -> np.ndarray:
    """A mask of the edges with the highest scores."""
    return scores > np.sort(scores, axis=None)[::-1][size]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", required=True, help="interpreter with auto-circuit, and its arguments")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--weights", type=float, default=0.1, help="standard deviation of all matrices")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[24])
    parser.add_argument("--full", action="store_true", help="GPT-2 small's own shape")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shape = gpt2(asked.pairs, LENGTH, **({} if asked.full else SIZES), initializer_range=asked.weights)
    runs = shape.runs
    graph = runs.wiring.graph()
    scores = ranking(graph.edge_mask)
    masks = np.stack([best(scores, size) for size in asked.sizes])
    named = {str(edge): float(scores[graph.index(edge)]) for edge in graph.edges()}
    run_masks(PairedRuns(runs.model, runs.pairs), masks[:1])  # warm up
    seconds: dict[str, list[float]] = {"ours": [], "auto-circuit": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        hand_over(runs, folder, 0.0)
        config = json.loads((folder / "config.json").read_text()) | {"sizes": asked.sizes}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "scores.json").write_text(json.dumps(named))
        script = Path(__file__).parent / "peers" / "auto_circuit_acdc.py"
        command = [*shlex.split(asked.peer), str(script), str(folder), "2"]
        for _ in range(asked.rounds):
            fresh = PairedRuns(runs.model, runs.pairs)
            begun = time.process_time()
            values = run_masks(fresh, masks)
            seconds["ours"].append(time.process_time() - begun)
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
            peer = json.loads((folder / "peer.json").read_text())
            seconds["auto-circuit"].append(peer["seconds"][-1])
        logits = np.load(folder / "peer.npz")
        (batch,) = runs.batches
        pairs = np.arange(len(batch))
        right, wrong = batch.answers.correct[:, 0].numpy(), batch.answers.incorrect[:, 0].numpy()
        theirs = [logits[str(size)][pairs, right] - logits[str(size)][pairs, wrong] for size in asked.sizes]
    told = {
        "about": shape.about,
        "edges of circuits": asked.sizes,
        "of": graph.n_edges,
        "processor seconds": seconds,
        "times faster": float(np.median(seconds["auto-circuit"]) / np.median(seconds["ours"])),
        "largest difference of logit differences": float(np.abs(values - np.stack(theirs)).max()),
        "largest logit difference": float(np.abs(values).max()),
    }
    print(json.dumps(told, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
