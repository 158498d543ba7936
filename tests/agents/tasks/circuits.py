"""Tasks about circuits: counted, compared, checked, found, judged, and why an edge is there."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import workbench as wb
from tests.agents.client import Reader
from tests.agents.tasks.task import TINY, AgentTask, Facts, measured, runs_of
from workbench.circuits.files.circuit_file import load_circuit, save_circuit


def _circuits(rng: random.Random, folder: Path) -> Facts:
    """Two circuits cut out of one that is published, saved in the folder."""
    whole = wb.load_truth(rng.choice(TINY)[0]).circuit
    edges = sorted(whole.edges)
    names = []
    for name in ("first", "second"):
        kept = rng.sample(edges, max(2, len(edges) * 2 // 3))
        dropped = [edge for edge in edges if edge not in kept]
        save_circuit(whole.without(*dropped) if dropped else whole, folder / f"{name}.json")
        names.append(f"{name}.json")
    return {"circuit": names[0], "other": names[1], "files": names}


async def _shared(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Compare two circuits: what only one has, and overlap", facts)
    return len(found["difference"]["shared"]["edges"])


def _shared_truth(facts: Facts, folder: Path) -> Any:
    one, two = (load_circuit(folder / facts[name]) for name in ("circuit", "other"))
    return len(set(one.edges) & set(two.edges))


async def _count(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Count a circuit: size, strongest nodes and edges", facts)
    return found["edges"]


def _damaged(rng: random.Random, folder: Path) -> Facts:
    facts = _circuits(rng, folder)
    facts["bad"] = rng.choice(facts["files"])
    path = folder / facts["bad"]
    path.write_text(path.read_text().replace('"method"', '"methid"', 1))
    return facts


async def _broken(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Check circuit files strictly: which does not pass", facts)
    return frozenset(row["path"] for row in found if not row["valid"])


async def _published(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Count a circuit: heads by role", facts)
    return frozenset(found["roles"][facts["role"]])


def _roles(rng: random.Random, folder: Path) -> Facts:
    return {"circuit": "published:ioi", "role": rng.choice(sorted(_roles_of("published:ioi")))}


def _roles_of(name: str) -> dict[str, frozenset[str]]:
    nodes = load_circuit(Path(name)).nodes
    roles = {attributes.get("role") for attributes in nodes.values()} - {None, ""}
    return {role: frozenset(n for n, has in nodes.items() if has.get("role") == role) for role in roles}


async def _edges_of(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Show a circuit: its strongest edges", facts)
    ports = {"q": "<q>", "k": "<k>", "v": "<v>"}
    edges = found["graph"]["edges"]
    return frozenset(f"{e['source']}->{e['target']}{ports.get(e['key'], '')}" for e in edges)


def _discover(rng: random.Random, folder: Path) -> Facts:
    facts = measured(rng, folder)
    return {
        **facts,
        "method": "eap",
        "keep": "20%",
        "random_draws": 2,
        "out": f"found-{facts['seed']}",
        "exact_sample": 0,
    }


async def _found(reader: Reader, facts: Facts) -> Any:
    await reader.ask("Find a circuit: score every edge, keep the best, save it", facts)
    found = await reader.ask("Show a circuit: its strongest edges", {"circuit": facts["out"]})
    return len(found["graph"]["edges"])


def _found_truth(facts: Facts, folder: Path) -> Any:
    train, test = (runs_of(facts, split=split) for split in ("train", "test"))
    found = wb.discover(
        train, facts["method"], amount=facts["keep"], test_runs=test, random_draws=1, exact_sample=0
    )
    return found.circuit.n_edges


async def _chance(reader: Reader, facts: Facts) -> Any:
    await reader.ask("Find a circuit: score every edge, keep the best, save it", facts)
    asked = {"circuit": facts["out"], "limit": facts["limit"], "random_draws": 4, "seed": facts["seed"]}
    found = await reader.ask(
        "Measure how much of the behavior a saved circuit keeps, with every verdict", asked
    )
    return found["faithfulness"]


def _chance_truth(facts: Facts, folder: Path) -> Any:
    circuit = load_circuit(folder / facts["out"])
    return float(wb.faithfulness(circuit, runs_of(facts, split="test")).faithfulness)


def _edge(rng: random.Random, folder: Path) -> Facts:
    edge = rng.choice(("a0.h1->a1.h0<k>", "input->a1.h0<q>"))
    return {
        "model": "zoo:truth-induction", "task": "induction", "limit": 4, "seed": rng.randrange(50),
        "corruption": "match", "edge": edge, "at": "end" if edge.endswith("<q>") else None,
    }  # fmt: skip


async def _why(reader: Reader, facts: Facts) -> Any:
    asked = {name: value for name, value in facts.items() if value is not None}
    found = await reader.ask("Say why an edge is there: which writers make the attention score", asked)
    return found["rankings"][0]["terms"][0]["term"]


def _why_truth(facts: Facts, folder: Path) -> Any:
    runs = runs_of(facts, corruption=facts["corruption"])
    return wb.why(runs, facts["edge"], at=facts["at"]).rankings[0].rows(1)[0]["term"]


CIRCUITS = (
    AgentTask(
        name="edges that two circuits share", draw=_circuits, solve=_shared, truth=_shared_truth, heavy=False
    ),
    AgentTask(
        name="how many edges a circuit has",
        draw=_circuits,
        solve=_count,
        truth=lambda f, d: load_circuit(d / f["circuit"]).n_edges,
        heavy=False,
    ),
    AgentTask(
        name="all edges of a circuit",
        draw=_circuits,
        solve=_edges_of,
        truth=lambda f, d: frozenset(load_circuit(d / f["circuit"]).edges),
        heavy=False,
    ),
    AgentTask(
        name="which file was changed",
        draw=_damaged,
        solve=_broken,
        truth=lambda f, d: frozenset([f["bad"]]),
        heavy=False,
    ),
    AgentTask(
        name="which heads have a role",
        draw=_roles,
        solve=_published,
        truth=lambda f, d: _roles_of(f["circuit"])[f["role"]],
        heavy=False,
    ),
    AgentTask(name="how large a found circuit is", draw=_discover, solve=_found, truth=_found_truth),
    AgentTask(name="how faithful a found circuit is", draw=_discover, solve=_chance, truth=_chance_truth),
    AgentTask(name="why an edge is there", draw=_edge, solve=_why, truth=_why_truth),
)
