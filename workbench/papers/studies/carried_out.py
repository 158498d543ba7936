"""A study that is re-run: its plan, its steps in order, each kept as it is finished, and what it would cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from workbench.circuits.circuit import Circuit
from workbench.circuits.files import save_circuit, write_atomic
from workbench.circuits.graph import GraphShape
from workbench.circuits.published import load_published
from workbench.core.claims import untestable
from workbench.core.errors import RunError, TaskError
from workbench.core.job import Note
from workbench.core.run_record import code_versions, digest_of
from workbench.core.show import Told
from workbench.core.source_digest import source_digest
from workbench.core.strict_json import dump
from workbench.core.text import folder_name
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.papers.studies.file import PLAN, PLAN_NAME, STEP, STEPS, STUDY_NAME
from workbench.papers.studies.kinds import Progress, State, Step, StepResult, Study
from workbench.papers.studies.result import Reproduction


def reference_runs(runs: PairedRuns, study: Study, seed: int, n: int) -> PairedRuns:
    """Return more pairs of the same kind, the measured ones first: no template or length of theirs is missing."""
    n = max(n, runs.n_pairs)
    pairs = runs.pairs.pairs
    how = {"split": pairs.split, "corruption": pairs.corruption, "metric": runs.metric}
    common: dict[str, Any] = {"seed": seed, "batch_tokens": runs.batch_tokens, **how, **pairs.options}
    more = paired_runs(runs.model, study.task, n=n, **common)
    known = {(p.clean, p.corrupted) for p in more.pairs.pairs}
    missing = [p for p in pairs if (p.clean, p.corrupted) not in known]
    if missing:
        raise TaskError(
            f"{len(missing)} measured pairs are not among the {more.n_pairs} that give the means",
            hint="give a reference with all measured pairs: --reference FILE.jsonl",
        )
    return more


def study_plan(study: Study, runs: PairedRuns, reference: PairedRuns, seed: int) -> dict[str, Any]:
    """Return everything that decides the numbers, as JSON values."""
    return {
        "study": study.name,
        "steps": [step.name for step in study.steps],
        "rules": dict(study.rules),
        "reference": {"pairs": reference.pairs.pairs.digest, "tokens": reference.tokens_digest},
        "seed": seed,
        "batch_tokens": runs.batch_tokens,
        "code": {**code_versions(), "sources": source_digest(*_modules(study))},
        "runs": runs.provenance(),
    }


def _modules(study: Study) -> list[str]:
    """Where the code of a study stands: what runs its steps, and the steps themselves."""
    steps = (getattr(step.run, "func", step.run) for step in study.steps)
    return sorted({"workbench.papers.studies.carried_out", *(step.__module__ for step in steps)})


def finished_steps(folder: Path, plan: Mapping[str, Any], resume: bool, note: Note) -> dict[str, StepResult]:
    """Return the finished steps of an equal earlier run; the folder is this run's afterwards.

    Raises:
        RunError: if it holds another run, or finished steps that would be thrown away.
    """
    path, steps = folder / PLAN_NAME, folder / STEPS
    if not path.exists():
        if steps.exists() or (folder / "circuit.json").exists():
            raise RunError(f"{folder} holds something else", hint="choose another --out")
        PLAN.save(plan, path)
        return {}
    before = msgspec.to_builtins(PLAN.load(path).content)
    if digest_of(before) != digest_of(plan):
        changed = next((k for k in plan if before.get(k) != plan[k]), "steps")
        raise RunError(
            f"{folder} holds another run: {changed} was {str(before.get(changed))[:60]}, now "
            f"{str(plan.get(changed))[:60]}",
            hint="choose another --out",
        )
    done = {p.stem: StepResult.of(STEP.load(p).content) for p in sorted(steps.glob("*.json"))}
    finished = (folder / STUDY_NAME).exists()
    if done and not resume and not finished:
        raise RunError(
            f"{folder} holds {len(done)} finished steps of this very run",
            hint="--resume continues it; another --out starts anew",
        )
    note(f"already measured; showing {folder}" if finished else f"continuing: {len(done)} steps are done")
    return done


def run_study(
    study: Study,
    runs: PairedRuns,
    reference: PairedRuns,
    *,
    seed: int = 0,
    folder: Path | None = None,
    done: Mapping[str, StepResult] | None = None,
    progress: Progress | None = None,
    note: Note = lambda text: None,
) -> Reproduction:
    """Return every step in order, each kept on disk as soon as it is finished; nothing is written without a folder."""
    published = load_published(study.published)
    missing = [p for p in study.positions if p not in runs.position_names]
    if missing:
        raise TaskError(
            f"these pairs do not all name the position {missing[0]!r}, which {study.name} needs",
            hint="--position takes names that all pairs have; give every pair the position "
            f"{missing[0]!r} (docs/pairs-format.md)",
        )
    name = runs.identity.name
    state = State(
        runs=runs,
        reference=reference,
        published=published,
        comparable=is_papers_model(study, name, runs.wiring.node_shape(), published),
        seed=seed,
        parts=None if folder is None else folder / "parts",
        progress=progress,
    )
    results = []
    for i, step in enumerate(study.steps, start=1):
        kept = (done or {}).get(step.name)
        if kept is None:
            note(f"{i}/{len(study.steps)} {step.title}")
            kept = _one(step, state)
            if folder is not None:
                STEP.save(kept.to_dict(), folder / STEPS / f"{step.name}.json")
        state.found.update(kept.found)
        results.append(kept)
    return Reproduction(
        study=study.name,
        source=str(published.provenance["source"]),
        model=name,
        comparable=state.comparable,
        n_pairs=runs.n_pairs,
        n_reference=reference.n_pairs,
        steps=tuple(results),
        circuit=study.circuit(state) if state.found.get("does_task") else None,
        setting=runs.provenance(),
        folder=folder or Path(),
    )


def _one(step: Step, state: State) -> StepResult:
    """One step; where the model does not do the task there is nothing to explain, so nothing is tested."""
    if state.found.get("does_task", True):
        return step(state)
    gap = untestable(step.title, "the model does the task", "the model does not do the task")
    return StepResult(name=step.name, title=step.title, claims=(gap,))


def is_papers_model(study: Study, name: str, shape: GraphShape, published: Circuit) -> bool:
    """Say whether head numbers mean the same: the paper's shape, and a name that says it is that model."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()
    return shape == published.shape and any(known in last for known in study.model_names)


def save_reproduction(found: Reproduction, folder: Path) -> dict[str, str]:
    """Write tables, circuit, report and ``study.json``, each whole or not at all; returns what is where."""
    for file, text in found.tables().items():
        write_atomic(folder / "tables" / file, text)
    outputs = {"tables": "tables", "steps": "steps", "report": "report.html", "study": STUDY_NAME}
    if found.circuit is not None:
        save_circuit(found.circuit, folder / "circuit.json")
        outputs["circuit"] = "circuit.json"
    write_atomic(folder / "report.html", found.page())
    write_atomic(folder / STUDY_NAME, dump(found.to_dict(), where=STUDY_NAME, indent=1))
    return outputs


@dataclass(frozen=True, kw_only=True)
class ReproductionCost(Told):
    """What a reproduction would run."""

    study: str
    model: str
    pairs: int
    tokens: int
    heads: int
    steps: tuple[tuple[str, str, int], ...]
    folder: str

    @property
    def passes(self) -> int:
        return sum(n for _, _, n in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        steps = [{"step": name, "title": title, "passes": n} for name, title, n in self.steps]
        return {
            "dry_run": True,
            **{k: v for k, v in self.__dict__.items() if k != "steps"},
            "passes": self.passes,
            "steps": steps,
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        shown = self.to_dict()
        steps = shown.pop("steps")
        return [
            "dry run: nothing was measured; no weights were loaded; passes are per pair, at most",
            steps,
            shown,
        ]


def study_cost(study: Study, planned: Any, out: Path | None) -> ReproductionCost:
    """Return what a re-run would compute: passes per pair of every step, at most."""
    wiring = planned.wiring
    heads = len(wiring.attention_layers) * wiring.n_heads
    steps = []
    for step in study.steps:
        words = step.passes.split()
        times = {"head": heads, "part": heads + len(wiring.mlp_layers)}.get(words[-1], 1)
        steps.append((step.name, step.title, int(words[0]) * times))
    return ReproductionCost(
        study=study.name,
        model=wiring.name,
        pairs=len(planned.pairs),
        tokens=sum(len(ids) for ids in planned.pairs.clean),
        heads=heads,
        steps=tuple(steps),
        folder=str(out or f"runs/reproduce/{study.name}/{folder_name(wiring.name)}-DIGEST"),
    )
