"""Twenty tasks. Each is drawn from a seed, asked in words, and verified by the library without the tools."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workbench as wb
from tests.agents.client import Reader
from workbench.circuits.files.circuit_file import load_circuit, save_circuit
from workbench.tasks.registry import get_task

TINY = (("zoo:truth-induction", "induction"), ("zoo:truth-ioi", "ioi"))
PUBLISHED = ("ioi", "greater-than")
Facts = dict[str, Any]
_MODELS: dict[str, Any] = {}


def model_of(name: str) -> Any:
    """A model, opened once."""
    if name not in _MODELS:
        _MODELS[name] = wb.open_model(name)
    return _MODELS[name]


def runs_of(facts: Facts, **more: Any) -> Any:
    return wb.paired_runs(
        model_of(facts["model"]), facts["task"], n=facts["limit"], seed=facts["seed"], **more
    )


@dataclass(frozen=True, kw_only=True)
class AgentTask:
    """One task.

    Attributes:
        draw: Makes what is asked about: facts by the names of arguments; may prepare files in the folder.
        solve: Asks a reader, and answers with a value.
        truth: The value, recomputed from the library.
        heavy: Whether a model is opened.
    """

    name: str
    draw: Callable[[random.Random, Path], Facts]
    solve: Callable[[Reader, Facts], Awaitable[Any]]
    truth: Callable[[Facts, Path], Any]
    heavy: bool = True
    close: float = 1e-3
    files: tuple[str, ...] = field(default=())

    def accepts(self, answer: Any, expected: Any) -> bool:
        """Whether an answer is the expected one; numbers to a thousandth."""
        if isinstance(expected, tuple):
            return (
                isinstance(answer, tuple)
                and len(answer) == len(expected)
                and all(map(self.accepts, answer, expected))
            )
        if isinstance(expected, float):
            return abs(float(answer) - expected) <= self.close * (1 + abs(expected))
        return answer == expected


def wrong(answer: Any) -> Any:
    """An answer that is not the one given."""
    if isinstance(answer, tuple):
        return (wrong(answer[0]), *answer[1:])
    if isinstance(answer, bool):
        return not answer
    if isinstance(answer, int | float):
        return answer + 1
    if isinstance(answer, set | frozenset):
        return frozenset([*answer, "input->logits", "nobody"])
    return f"{answer}x"


def _measured(rng: random.Random, folder: Path) -> Facts:
    model, task = rng.choice(TINY)
    return {"model": model, "task": task, "limit": rng.choice((8, 12)), "seed": rng.randrange(100)}


def _head(rng: random.Random, folder: Path) -> Facts:
    facts = _measured(rng, folder)
    return {**facts, "node": [f"a{rng.randrange(2)}.h{rng.randrange(2)}"]}


async def _most(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Ablate heads one by one and measure what the metric loses", facts)
    best = max(found["rows"], key=lambda row: abs(row["effect"]))
    return best["label"], best["effect"]


async def _one_head(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Ablate a head and measure what the metric loses without it", facts)
    return found["rows"][0]["effect"]


async def _does(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Ablate heads: measure what the metric loses", facts)
    return found["behavior"]["finding"]


async def _direct(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask(
        "what does each head or MLP add directly to the logits", {**facts, "no_effects": True}
    )
    best = found["parts"][0]
    return best["part"], best["direct"]


async def _lens(reader: Reader, facts: Facts) -> Any:
    question = "what the stream says layer by layer, and what each part adds to the logits directly"
    found = await reader.ask(question, {**facts, "by": "layer", "no_effects": True})
    return next(row["stream"] for row in found["lens"] if row["right"] > 0.9)


def _lens_truth(facts: Facts, folder: Path) -> Any:
    lens = wb.direct_logits(runs_of(facts), by="layer", ablation=None).lens
    return next(s for s, right in zip(lens.labels, lens.right.mean(1), strict=True) if right > 0.9)


def _prompt(rng: random.Random, folder: Path) -> Facts:
    facts = _measured(rng, folder)
    runs = runs_of({**facts, "limit": 4})
    pair = runs.pairs.pairs[rng.randrange(4)]
    return {"model": facts["model"], "text": pair.clean, "answers": [pair.correct[0]]}


async def _next(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Look at one prompt: what comes next", facts)
    return found["next"][0]["token"]


async def _said(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Look at one prompt and what comes next", facts)
    return found["answers"][0]["log_probability"]


def _logits(facts: Facts) -> Any:
    model = model_of(facts["model"])
    return model, model(wb.as_pairs and model.to_tokens(facts["text"], prepend_bos=_bos(model)))[
        0, -1
    ].double()


def _bos(model: Any) -> bool:
    return bool(wb.describe(model).prepend_bos)


def _next_truth(facts: Facts, folder: Path) -> Any:
    model, logits = _logits(facts)
    return model.tokenizer.decode([int(logits.argmax())])


def _said_truth(facts: Facts, folder: Path) -> Any:
    model, logits = _logits(facts)
    token = model.tokenizer(facts["answers"][0], add_special_tokens=False)["input_ids"][0]
    return float(logits.log_softmax(-1)[token])


async def _cost(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Ablate heads and measure what the metric loses", {**facts, "dry_run": True})
    return found["interventions"], found["pairs"]


async def _heads_there(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Show what a model is made of", facts)
    made = found.get("architecture", found)
    return made["n_layers"] * made["n_heads"]


async def _positions(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Show what a task is, and some of its pairs and positions", facts)
    return frozenset(found["task"]["positions"])


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


async def _strongest(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Count a circuit: its size, its strongest edges and paths", facts)
    return found["strongest_edges"][0]["edge"]


def _strongest_truth(facts: Facts, folder: Path) -> Any:
    edges = load_circuit(folder / facts["circuit"]).edges
    return max(edges, key=lambda edge: abs(edges[edge]))


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


def _discover(rng: random.Random, folder: Path) -> Facts:
    facts = _measured(rng, folder)
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


async def _patched(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Patch activations of one run into the other, site by site", facts)
    best = max(found["rows"], key=lambda row: row["effect"])
    return best["label"], best["effect"]


def _patch_truth(facts: Facts, folder: Path) -> Any:
    runs = runs_of(facts)
    found = wb.patch(runs, "resid", positions=runs.position_names)
    label, effect = found.top(1, by="signed")[0]
    return label, effect


async def _knocked(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Forbid heads to look from one position at another", facts)
    return found["rows"][0]["effect"]


def _knock(rng: random.Random, folder: Path) -> Facts:
    facts = {**_measured(rng, folder), "model": "zoo:truth-induction", "task": "induction"}
    return {**facts, "query": "end", "key": rng.choice(("A1", "B1")), "together": True}


def _killed(rng: random.Random, folder: Path) -> Facts:
    """A run that was killed in the middle: its record says running, and half of its parts are missing."""
    return {**_measured(rng, folder), "out": f"killed-{rng.randrange(1000)}"}


async def _resumed(reader: Reader, facts: Facts) -> Any:
    job = await reader.ask(
        "Begin long work in a process of its own and return at once",
        {"command": "ablate", "options": {k: v for k, v in facts.items()}},
    )
    await reader.ask("End a job as Ctrl-C does", {"job": job["job"]})
    await asyncio.sleep(0.1)
    run = Path(job["folder"])
    command, options = (
        ("runs resume", {"folder": str(run)}) if (run / "run.json").exists() else ("ablate", facts)
    )
    again = await reader.ask(
        "Begin long work in a process of its own: start", {"command": command, "options": dict(options)}
    )
    for _ in range(600):
        said = await reader.ask("Say what became of a job: state, result or error", {"job": again["job"]})
        if said["state"] != "running":
            break
        await asyncio.sleep(0.5)
    found = await reader.ask("Show any saved result by its file", {"file": str(run / "effects.parquet")})
    best = max(found["rows"], key=lambda row: abs(row["effect"]))
    return best["label"], best["effect"]


def _effect_truth(facts: Facts, folder: Path) -> Any:
    return wb.ablate(runs_of(facts)).top(1)[0]


async def _runs(reader: Reader, facts: Facts) -> Any:
    await reader.ask("Ablate heads one by one and measure what the metric loses", facts)
    found = await reader.ask(
        "List the runs in some folders: what, finished or not", {"folders": [facts["out"]]}
    )
    return found[0]["status"], found[0]["task"]


async def _edges_of(reader: Reader, facts: Facts) -> Any:
    found = await reader.ask("Show a circuit: its strongest edges", facts)
    ports = {"q": "<q>", "k": "<k>", "v": "<v>"}
    edges = found["graph"]["edges"]
    return frozenset(f"{e['source']}->{e['target']}{ports.get(e['key'], '')}" for e in edges)


TASKS: tuple[AgentTask, ...] = (
    AgentTask(name="which head matters most", draw=_measured, solve=_most, truth=_effect_truth),
    AgentTask(
        name="what one head costs",
        draw=_head,
        solve=_one_head,
        truth=lambda f, d: float(wb.ablate(runs_of(f), f["node"]).mean[0]),
    ),
    AgentTask(
        name="does it do the task",
        draw=_measured,
        solve=_does,
        truth=lambda f, d: runs_of(f).behavior.finding,
    ),
    AgentTask(
        name="what adds most directly",
        draw=_measured,
        solve=_direct,
        truth=lambda f, d: (lambda r: (r["part"], r["direct"]))(
            wb.direct_logits(runs_of(f), ablation=None).rows(1)[0]
        ),
    ),
    AgentTask(name="from which layer on it is right", draw=_measured, solve=_lens, truth=_lens_truth),
    AgentTask(name="what comes next", draw=_prompt, solve=_next, truth=_next_truth),
    AgentTask(name="how likely an answer is", draw=_prompt, solve=_said, truth=_said_truth),
    AgentTask(
        name="what a sweep would cost",
        draw=_measured,
        solve=_cost,
        truth=lambda f, d: (len(wb.parts_of(runs_of(f).wiring, "heads")), f["limit"]),
    ),
    AgentTask(
        name="how many heads there are",
        draw=lambda r, d: {"name": r.choice(TINY)[0]},
        solve=_heads_there,
        truth=lambda f, d: (
            wb.describe(model_of(f["name"])).n_layers * wb.describe(model_of(f["name"])).n_heads
        ),
    ),
    AgentTask(
        name="which positions a task names",
        draw=lambda r, d: {"name": r.choice(("ioi", "induction", "greater-than")), "limit": 2},
        solve=_positions,
        truth=lambda f, d: frozenset({*get_task(f["name"]).positions, "end"}),
        heavy=False,
    ),
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
    AgentTask(
        name="where patching brings the answer back",
        draw=lambda r, d: {**_measured(r, d), "site": "resid", "positions": ["each"]},
        solve=_patched,
        truth=_patch_truth,
    ),
    AgentTask(
        name="what not looking costs",
        draw=_knock,
        solve=_knocked,
        truth=lambda f, d: float(wb.knock_out(runs_of(f), f["query"], f["key"], together=True).mean[0]),
    ),
    AgentTask(name="the killed run, resumed", draw=_killed, solve=_resumed, truth=_effect_truth),
    AgentTask(
        name="what was run",
        draw=lambda r, d: {**_measured(r, d), "out": f"ran-{r.randrange(1000)}"},
        solve=_runs,
        truth=lambda f, d: ("finished", f["task"]),
    ),
)
