"""Whether a search measures some edges exactly by itself, and how many. No torch: a dry run asks it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.circuits.graph import Graph
from workbench.core.errors import OptionError
from workbench.core.stats.strata import LEAST_DRAWN
from workbench.methods.registry import Level, Method

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of all edges: the sizes of a curve
SAMPLE = 40
MOST = 0.1  # of the passes of the run: what a sample may cost without being asked for


def check_sample(asked: int | None, method: Method, level: Level) -> None:
    """Do nothing if a sample of so many exact effects can be measured beside these scores.

    Raises:
        OptionError: for a sample of nodes or neurons, one of exact scores, or one that is too small.
    """
    if not asked:
        return
    if method.name == "exact":
        raise OptionError(
            "scores of exact are exact effects: there is nothing to compare them with",
            hint="leave out --exact-sample",
        )
    if level != "edge":
        raise OptionError(
            f"an exact sample is one of edges, and {method.name} scores {level}s here",
            hint="--level edge, or leave out --exact-sample",
        )
    if asked < LEAST_DRAWN:
        raise OptionError(
            f"a sample of {asked} edges is too small",
            hint=f"--exact-sample {LEAST_DRAWN} or more; 0 measures none",
        )


def planned_sample(
    asked: int | None,
    method: Method,
    options: Mapping[str, Any],
    graph: Graph,
    level: Level,
    *,
    sizes: int,
    random_draws: int,
) -> int:
    """Return how many edges are measured exactly: what was asked, else 40 where they cost under a tenth of the run.

    One edge is one pass at most. The run is the passes of the method, and those that judge the circuit: the circuit and
    nothing, then the best and the random circuits of every size. Where the method's scores are exact effects, or not of
    edges, none is measured.

    Returns:
        A number of edges; 0 for none.
    """
    check_sample(asked, method, level)
    if asked is not None:
        return asked
    if level != "edge" or method.name == "exact":
        return 0
    judging = 2 + sizes * (1 + random_draws)
    run = method.cost(method.make_options(**options), graph, level).passes + judging
    n = min(SAMPLE, graph.n_edges)
    return n if n >= LEAST_DRAWN and n < MOST * run else 0
