"""The command ``evaluate``: faithfulness alone, or the whole evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.circuits.faithfulness import JUDGED, Evaluation
from workbench.circuits.files.circuit_file import EVALUATION_NAME
from workbench.circuits.files.evaluation_file import save_evaluation
from workbench.circuits.files.faithfulness_file import FAITHFULNESS, FILE_NAME
from workbench.circuits.files.scores_file import scores_beside
from workbench.circuits.scores import Scores
from workbench.circuits.variance import Variance
from workbench.circuits.verdicts.judgement import Judgement, circuit_digest
from workbench.circuits.verdicts.statistics import ROUNDING, ratio
from workbench.commands.asked.evaluate import CircuitCase, case_of, opening_of
from workbench.commands.forms.evaluate import Evaluate
from workbench.commands.inputs import open_runs, record_of
from workbench.commands.plans.evaluate import folder_of, plan_of
from workbench.core.errors import RunError, WorkbenchError
from workbench.core.job import Job, Note
from workbench.core.progress import Progress
from workbench.core.run_file import load_record
from workbench.core.run_record import NAME as RUN
from workbench.core.run_record import RunRecord, digest_of
from workbench.engine.metrics import Metric, metric_from_file
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.told import tell_behavior
from workbench.evaluate.baselines import random_circuit
from workbench.evaluate.faithfulness import (
    Faithfulness,
    faithfulness,
    run_circuits,
)
from workbench.evaluate.found_circuit import flattered
from workbench.evaluate.judge_plan import require_pairs
from workbench.evaluate.positions import positions_of
from workbench.evaluate.specificity import other_tasks
from workbench.evaluate.trial import judge
from workbench.model.builtin import PREFIX
from workbench.tasks.reading import is_file

T = TypeVar("T")


def _open(case: CircuitCase, asked: Evaluate, note: Note) -> tuple[PairedRuns, list[str]]:
    """The runs a circuit is judged on, and in what the model differs from the circuit's own."""
    runs = open_runs(options=case.options, note=note, **opening_of(case, asked))
    here, weights = runs.identity, case.known.get("weights")
    changed = ["weights"] if weights is not None and not here.has_weights(weights) else []
    changed += ["dtype"] if case.known.get("dtype") not in (None, here.dtype) else []
    if changed:
        note(f"the circuit was found with other {' and '.join(changed)}: this is another model")
    return runs, changed


_DECIDES = (
    "full",
    "ablation",
    "random_draws",
    "edges",
    "bootstraps",
    "refits",
)  # beside circuit, model and pairs


def _recorded(
    case: CircuitCase,
    asked: Evaluate,
    runs: PairedRuns,
    file: Path,
    measure: Callable[[], T],
    save: Callable[[T], Mapping[str, str]],
    job: Job,
) -> T:
    """Measure with a record in a folder of its own; the circuit's record is that of the search."""
    record = record_of(asked, runs)
    decided = {name: getattr(asked, name) for name in _DECIDES}
    decided |= {"other_task": list(asked.other_task)} if asked.other_task else {}
    record.question = digest_of([circuit_digest(case.circuit), runs.provenance(), decided])

    def begin(place: Path) -> None:
        if job.replace:
            (place / RUN).unlink(missing_ok=True)
        elif file.exists():
            _refuse_another(file, place / RUN, record)

    def compute(place: Path) -> T:
        record.behaviors = tell_behavior(runs, job.note, what=JUDGED)
        return measure()

    place = file.parent / ("evaluation" if asked.full else "faithfulness")
    return job.keep(place, record, compute, lambda found, place: save(found), begin=begin)


def _refuse_another(file: Path, record: Path, now: RunRecord) -> None:
    """Do nothing if the file is of this very evaluation.

    Raises:
        RunError: if it is of another one, or nobody can say of which.
    """
    said = "an evaluation without a record"
    if record.exists():
        before = load_record(record)
        if before.question == now.question:
            return
        names = [n for n, value in now.arguments.items() if before.arguments.get(n) != value]
        said = f"another evaluation{': other ' if names else ''}{', '.join(names)}"
    raise RunError(f"{file} is of {said}", hint="choose another --out, or --replace to write over it")


def evaluate(asked: Evaluate, job: Job) -> Evaluation | SavedJudgement:
    """Run a saved circuit on a model and task, by default its own: its faithfulness, or with ``full`` everything."""
    if asked.full:
        return _judge(asked, job)
    case = case_of(asked)
    runs, changed = _open(case, asked, job.note)
    found_on, _ = _found_on(case, runs)
    if said := "" if found_on is None else flattered(found_on, runs):
        job.note(said)

    def measure() -> Evaluation:
        return _evaluated(case, asked, runs, changed, job.progress)

    out = job.out
    if out is None:
        tell_behavior(runs, job.note, what=JUDGED)
        return measure()

    file = Path(out) / FILE_NAME

    def save(found: Evaluation) -> dict[str, str]:
        FAITHFULNESS.save(found.values, file)
        return {"faithfulness": f"../{FILE_NAME}"}

    return _recorded(case, asked, runs, file, measure, save, job)


def _evaluated(
    case: CircuitCase, asked: Evaluate, runs: PairedRuns, changed: list[str], progress: Progress | None
) -> Evaluation:
    result = faithfulness(case.circuit, runs, ablation=asked.ablation, progress=progress)
    here = runs.provenance()
    content = {
        "behavior": runs.behavior.to_dict(JUDGED),
        **result.to_dict(),
        "model": case.model,
        "weights": here["weights"],
        "same_weights": None if case.known.get("weights") is None else "weights" not in changed,
        "task": case.task,
        "corruption": here["corruption"],
        "split": here["split"],
        "pairs": here["pairs"],
        "n_dropped": here["n_dropped"],
        "seed": asked.seed,
        "random": _random_beside(case.circuit, runs, result, asked, progress),
    }
    return Evaluation(values=FAITHFULNESS.document(content))


def _random_beside(
    circuit: Circuit, runs: PairedRuns, result: Faithfulness, asked: Evaluate, progress: Progress | None
) -> dict[str, Any]:
    """Faithfulness of random circuits of a circuit's size; no draws where faithfulness is not defined."""
    draws = 20 if asked.random_draws is None else asked.random_draws
    if not draws or not np.isfinite(result.faithfulness) or circuit.level == "neuron":
        return {"draws": 0}
    rng = np.random.default_rng(asked.seed)
    at = runs.position_labels if positions_of([circuit]) else ()
    drawn = [
        random_circuit(circuit.graph, circuit.size, rng, level=circuit.level, positions=at)
        for _ in range(draws)
    ]
    values = run_circuits(runs, drawn, ablation=asked.ablation, progress=progress)
    shares = np.array([ratio(v, result.full, result.empty) for v in values])
    # equal circuits are as good whichever stack they ran in
    rounding = ROUNDING * np.abs(result.full).max() / abs(result.full.mean() - result.empty.mean())
    return {
        "draws": draws,
        "mean_size": float(np.mean([c.size for c in drawn])),
        "faithfulness_mean": float(np.mean(shares)),
        "faithfulness_max": float(np.max(shares)),
        "as_good_or_better": int(as_good(shares, result.faithfulness, rounding=rounding).sum()),
    }


def as_good(shares: np.ndarray, own: float, *, rounding: float) -> np.ndarray:
    """Say whether each faithfulness is as near to 1 as a circuit's own, or nearer."""
    return np.abs(1 - shares) <= abs(1 - own) + rounding


# -- the whole evaluation --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SavedJudgement:
    """A judgement and where it was written."""

    judgement: Judgement
    files: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the verdicts; all evidence is in the file."""
        d = self.judgement.document
        head = {name: d[name] for name in ("circuit", "metric", "unit", "ablation", "criteria", "missing")}
        told = {"behavior": d.get("behavior"), **head, "n": len(d["pairs"]["ids"])}
        if "variance" in d["evidence"]:
            told["variance"] = Variance.from_dict(d["evidence"]["variance"]).to_dict()
        return {**told, "verdicts": d["verdicts"], "files": dict(self.files)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return self.judgement.to_terminal()


def _judge(asked: Evaluate, job: Job) -> SavedJudgement:
    """Measure everything, decide, and write ``evaluation.json`` and ``evaluation.html`` beside the circuit.

    Raises:
        OptionError: for a single pair.
    """
    require_pairs(2 if asked.limit is None else asked.limit)
    plan, case, note = plan_of(asked), case_of(asked), job.note
    folder = folder_of(asked, job)
    runs, _ = _open(case, asked, note)
    found_on, found_note = _found_on(case, runs)
    for said in (found_note, "" if found_on is None else flattered(found_on, runs)):
        if said:
            note(said)
    others = other_tasks(runs, asked.other_task) if asked.other_task else None
    files: dict[str, str] = {}

    def measure() -> Judgement:
        return judge(
            case.circuit,
            runs,
            found_on=found_on,
            found_note=found_note,
            scores=_scores_beside(asked.circuit, case.circuit),
            others=others or other_tasks(runs, progress=job.progress),
            ablation=asked.ablation,
            plan=plan,
            progress=job.progress,
        )

    def save(found: Judgement) -> dict[str, str]:
        files.update(save_evaluation(found, folder))
        return {name: f"../{Path(file).name}" for name, file in files.items()}

    judgement = _recorded(case, asked, runs, folder / EVALUATION_NAME, measure, save, job)
    return SavedJudgement(judgement=judgement, files=files)


def _scores_beside(path: Path, circuit: Circuit) -> Scores | None:
    """The scores in the folder of a circuit file, if there are any."""
    if str(path).startswith(PREFIX):
        return None
    return scores_beside(path, circuit)


def _found_on(case: CircuitCase, runs: PairedRuns) -> tuple[PairedRuns | None, str]:
    """The pairs a circuit was found on with the metric it was found by, and what is to be said of them.

    None where they are not at hand; the text then says why.
    """
    known = case.known
    if "pairs" not in known:
        return None, "the circuit does not record the pairs it was found on"
    if known.get("weights") is not None and not runs.identity.has_weights(known["weights"]):
        return None, "the circuit was found with other weights"
    try:
        metric = metric_from_file(case.circuit.metric or runs.metric.name)
        if is_file(case.task):
            if runs.pairs.pairs.digest != known["pairs"]:
                return None, f"{Path(case.task).name} does not hold the pairs that the circuit was found on"
            return _with_metric(runs, metric), ""
        if not case.is_own or "split" not in known:
            return None, "the pairs it was found on are of another task or file"
        again = paired_runs(
            runs.model,
            case.task,
            n=known["n_pairs"] // (2 if metric.whole_answers == "both" else 1) + known.get("n_dropped", 0),
            seed=known["seed"],
            split=known["split"],
            corruption=known.get("corruption") or None,
            metric=metric,
            batch_tokens=runs.batch_tokens,
            with_tower=runs.wiring.with_tower,
            bos=runs.pairs.prepend_bos,
            chat=runs.pairs.chat,
            **(case.options or {}),
        )
    except WorkbenchError as problem:
        return None, f"the pairs the circuit was found on cannot be made again: {problem.message}"
    others = again.pairs.pairs.digest != known["pairs"]
    return again, "measured on other pairs of the split than those the circuit was found on" if others else ""


def _with_metric(runs: PairedRuns, metric: Metric) -> PairedRuns:
    """The same pairs on the same model with another metric."""
    tokens, tower = runs.batch_tokens, runs.wiring.with_tower
    return PairedRuns(runs.model, runs.pairs, metric=metric, batch_tokens=tokens, with_tower=tower)
