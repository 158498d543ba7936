"""What exact patching of every edge of a GPT-2-shaped model takes: some edges into some layers are timed and summed up.

    OMP_NUM_THREADS=1 python -m benchmarks.exact_edges [--pairs 8] [--length 16] [--edges 8] [--layers 0,4,8,11]

An edge is one pass from its reader's layer on, many stacked. Seconds an edge are the slope between this many edges and
three times as many into each of these layers: what is done once for all edges is not in them. They are taken to lie on
straight lines between the layers; the sum over all edges of the graph is the estimate.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

from benchmarks.models import gpt2
from workbench.methods.exact import effects_of_pairs
from workbench.methods.registry import get_method


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--edges", type=int, default=8)
    parser.add_argument("--layers", default="0,4,8,11")
    parser.add_argument("--json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shape = gpt2(asked.pairs, asked.length)
    runs, graph = shape.runs, shape.runs.wiring.graph()
    layers = [int(layer) for layer in asked.layers.split(",")]
    count = [int(graph.edge_mask[:, list(into)].sum()) for _, into in graph.steps]
    effects_of_pairs(runs, graph, _some(graph, layers[-1], 2))  # warm up

    def taken(layer: int, n: int) -> float:
        begun = time.process_time()
        effects_of_pairs(runs, graph, _some(graph, layer, n))
        return time.process_time() - begun

    seconds = [
        (taken(layer, 3 * asked.edges) - taken(layer, asked.edges)) / (2 * asked.edges) for layer in layers
    ]
    every = np.interp(range(len(count)), layers, seconds)
    method = get_method("exact")
    told = {
        "about": shape.about,
        "edges": graph.n_edges,
        "passes of the dry run": method.cost(method.make_options(), graph, "edge").passes,
        "edges into each step": count,
        "seconds an edge, by layer": dict(zip(layers, seconds, strict=True)),
        "hours of one core for all": float(np.dot(every, count) / 3600),
    }
    print(json.dumps(told, indent=1))
    if asked.json:
        with open(asked.json, "w") as file:
            json.dump(told, file, indent=1)


def _some(graph, step: int, n: int) -> list[tuple[int, int]]:
    """Edges into the targets of one step, spread over all of them."""
    into = list(graph.steps[step][1])
    places = [(i, j) for j in into for i in np.flatnonzero(graph.edge_mask[:, j]).tolist()]
    return [places[k] for k in np.linspace(0, len(places) - 1, n).astype(int).tolist()]


if __name__ == "__main__":
    main()
