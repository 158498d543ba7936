"""ACDC on all edges beside the package auto-circuit, which needs an older TransformerLens and so its own interpreter.

    OMP_NUM_THREADS=1 python -m benchmarks.acdc_peer --peer "PYTHON" [--pairs 32] [--tau 0.001] [--metric kl]

``PYTHON`` has the packages auto-circuit and transformer-lens < 3. Without ``--peer`` ours is compared with the plain
loop alone. Same weights, prompts, metric and threshold; processor seconds, one thread, in turns. Ours is compared
with the plain loop decision by decision. The peer visits the edges in another order, so its circuit may differ: a plain
loop in the peer's order is compared with the peer in the same way.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from benchmarks.acdc_speed import plain_loop
from benchmarks.models import gpt2
from workbench.circuits.addresses import parse_edge
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score

SIZES = {"n_layer": 4, "n_head": 4, "n_embd": 128, "vocab_size": 1000}
LENGTH = 16


def hand_over(runs: PairedRuns, folder: Path, tau: float) -> None:
    """Write weights, prompts and the clean logits for the other interpreter."""
    plain = runs.model.original_model
    state = {name.replace("._original_component", ""): x for name, x in plain.state_dict().items()}
    known = GPT2LMHeadModel(plain.config).state_dict()
    torch.save({name: state[name] for name in known}, folder / "weights.pt")
    names = ("n_layer", "n_head", "n_embd", "vocab_size", "n_positions")
    config = {"gpt2": {name: getattr(plain.config, name) for name in names}, "tau": tau}
    (folder / "config.json").write_text(json.dumps(config))
    (batch,) = runs.batches
    with torch.no_grad():
        logits = plain(batch.clean).logits[:, -1]
    arrays = {"clean": batch.clean, "corrupted": batch.corrupted, "logits": logits}
    np.savez(folder / "prompts.npz", **{name: value.numpy() for name, value in arrays.items()})


def beside_peer(
    runs: PairedRuns, tau: float, theirs: Mapping[str, bool], ours: np.ndarray
) -> dict[str, object]:
    """Compare the peer's decisions with ours, and with a plain loop that visits edges in the peer's order.

    Args:
        theirs: Whether an edge was removed, in the order in which edges were visited.
        ours: Damages by our own order.
    """
    graph = runs.wiring.graph()
    at = {name: graph.index(parse_edge(name)) for name in theirs}
    loop = plain_loop(runs, tau, order=list(at.values()))

    def unlike(damage: np.ndarray) -> dict[str, float]:
        return {
            name: float(damage[at[name]]) for name, gone in theirs.items() if gone != (damage[at[name]] < tau)
        }

    return {
        "edges decided in another way than auto-circuit: our damages": unlike(ours),
        "the same of a plain loop in auto-circuit's order": unlike(loop),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", help="interpreter with auto-circuit, and its arguments")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--tau", type=float, default=0.001)
    parser.add_argument("--metric", default="kl")
    parser.add_argument("--weights", type=float, default=0.02, help="standard deviation of all matrices")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-loop", action="store_true", help="leave out the plain loop")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shape = gpt2(asked.pairs, LENGTH, **SIZES, initializer_range=asked.weights)

    def fresh() -> PairedRuns:
        return PairedRuns(shape.runs.model, shape.runs.pairs, metric=asked.metric)

    runs = fresh()
    exists = runs.wiring.graph().edge_mask
    score(runs.subset([0, 1]), "acdc", tau=1e9)  # warm up
    told: dict[str, object] = {"about": shape.about, "metric": asked.metric, "tau": asked.tau}
    seconds: dict[str, list[float]] = {"ours": [], "auto-circuit": []}
    found, theirs = None, dict[str, bool]()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        hand_over(runs, folder, asked.tau)
        script = Path(__file__).parent / "peers" / "auto_circuit_acdc.py"
        for _ in range(asked.rounds):  # in turns
            begun = time.process_time()
            found = score(fresh(), "acdc", tau=asked.tau)
            seconds["ours"].append(time.process_time() - begun)
            if asked.peer:
                subprocess.run(
                    [*shlex.split(asked.peer), str(script), str(folder)],
                    check=True,
                    stderr=subprocess.DEVNULL,
                )
                peer = json.loads((folder / "peer.json").read_text())
                seconds["auto-circuit"] += peer.pop("seconds")
                theirs = dict(peer.pop("visited"))
                told["auto-circuit"] = peer
    assert found is not None
    kept = (found.values >= asked.tau)[exists]
    told |= {"edges": int(exists.sum()), "removed": int((~kept).sum())}
    told |= {
        name: found.options[name]
        for name in ("tested", "circuits_run", "forward_passes", "tested_again_alone")
    }
    if not asked.no_loop:
        begun = time.process_time()
        loop = plain_loop(fresh(), asked.tau)[exists]
        told["seconds of the plain loop"] = time.process_time() - begun
        told["decisions as the plain loop's"] = int((kept == (loop >= asked.tau)).sum())
        if theirs:
            told |= beside_peer(fresh(), asked.tau, theirs, found.values)
    told["processor seconds"] = seconds
    if asked.peer:
        told["times faster"] = float(np.median(seconds["auto-circuit"]) / np.median(seconds["ours"]))
    print(json.dumps(told, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
