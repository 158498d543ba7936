"""ILP: of all connected circuits of a size the one whose scores sum to the most, by integer programming."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.circuits.addresses import LOGITS, Node
from workbench.circuits.graph import Graph
from workbench.circuits.selection.greedy import readers_of
from workbench.circuits.selection.rules import Index, Ranked, Ranking, rule
from workbench.core.errors import OptionError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SECONDS = 120.0  # of the solver; what is not proven to be the best by then is not returned


@rule("ilp", follows_edges=True, source="arXiv:2510.25786")
def best_connected(scores: Ranked, n: int, by: Ranking, share: float | None) -> list[Index]:
    """The connected circuit of at most ``n`` edges whose scores sum to the most, by integer programming.

    ``max sum s_e x_e`` with ``sum x_e <= n``; an edge needs both its ends; every node but the input reads at least one
    edge, every node but the logits is read by at least one. On a graph without cycles each edge then lies on a path
    from input to logits, so nothing has to be pruned. By size, ``s`` is ``|s|``. Best score first.

    Raises:
        OptionError: if the best is not found and proven within two minutes.

    Source:
        arXiv:2510.25786.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    if n < 1:
        return []
    where = np.argwhere(scores.graph.edge_mask)
    value = scores.values[tuple(where.T)]
    gain = np.abs(value) if by == "absolute" else value
    rows, n_nodes = constraints(scores.graph, where)
    always = np.zeros(len(where) + n_nodes)
    always[-1] = 1  # the logits
    if len(scores.graph.roots) == 1:  # behind a tower either the words or the patches do
        always[len(where)] = 1
    size = np.concatenate([np.ones(len(where)), np.zeros(n_nodes)])
    found = milp(
        np.concatenate([-gain, np.zeros(n_nodes)]),
        constraints=[LinearConstraint(rows, lb=0), LinearConstraint(size[None], ub=n)],
        bounds=Bounds(always, 1),
        integrality=np.ones(len(always)),
        options={"time_limit": SECONDS, "mip_rel_gap": 0.0},
    )
    if found.status == 2:  # no path is that short: nothing connects
        return []
    if found.status != 0:
        raise OptionError(
            f"no connected circuit of {n:,} of {len(where):,} edges was proven the best in {SECONDS:g} s",
            hint="--select greedy or --select pnr need no solver",
        )
    taken = where[found.x[: len(where)] > 0.5]
    order = np.argsort(-gain[found.x[: len(where)] > 0.5], kind="stable")
    return list(map(tuple, taken[order].tolist()))


def constraints(graph: Graph, where: np.ndarray) -> tuple[csr_array, int]:
    """Return rows that must be at least 0, over edges, then sources, then the logits; and how many nodes there are.

    ``y_source - x_e``, ``y_target - x_e``, ``edges into a node - y`` and ``edges out of it - y``.
    """
    from scipy.sparse import coo_array

    n_edges, n_nodes = len(where), len(graph.sources) + 1
    place = {node: n_edges + i for i, node in enumerate((*graph.sources, LOGITS))}
    into: dict[Node, list[int]] = {**readers_of(graph), LOGITS: [graph.target_index[LOGITS]]}
    feeds: dict[int, list[Node]] = {}
    for node, targets in into.items():
        for j in targets:
            feeds.setdefault(j, []).append(node)
    at: list[tuple[int, int, float]] = []  # row, column, coefficient
    for e, (i, j) in enumerate(where.tolist()):
        at += [(2 * e, n_edges + i, 1.0), (2 * e, e, -1.0), (2 * e + 1, e, -1.0)]
        at += [(2 * e + 1, place[node], 1.0) for node in feeds.get(j, ())]
    row, edges_of = 2 * n_edges, {j: np.flatnonzero(where[:, 1] == j) for j in range(len(graph.targets))}
    for node, column in place.items():
        reads = [e for j in into[node] for e in edges_of[j]]
        writes = np.flatnonzero(where[:, 0] == column - n_edges)
        for needed, edges in ((bool(into[node]), reads), (node != LOGITS, writes)):
            if needed:
                at += [(row, column, -1.0), *((row, int(e), 1.0) for e in edges)]
                row += 1
    r, c, x = zip(*at, strict=True)
    return coo_array((x, (r, c)), shape=(row, n_edges + n_nodes)).tocsr(), n_nodes
