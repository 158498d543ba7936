"""Published numbers measured again, each by the rules of its source: which sums, which selection, which ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.bench.acdc_areas import TAUS, acdc_area, reference_of
from workbench.bench.quantities import areas, faithfulness_curves
from workbench.circuits.circuit import Circuit
from workbench.circuits.published.bars import PublishedNumber, PublishedNumbers, bars_of, edge_counts
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError, TaskError, WorkbenchError
from workbench.core.progress import Progress, silent
from workbench.core.stats.intervals import ratio
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.faithfulness import run_circuits
from workbench.methods.by_name import score
from workbench.methods.registry import Level
from workbench.tasks.importers import Request, import_pairs
from workbench.tasks.pairs import Pairs
from workbench.tasks.pairs_file import load_pairs

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

MOST_OF_ACDC = 100  # pairs of each task
MOST_ROWS = 3000  # of a file of the published curves, for scoring and judging alike
SIZES = (100, 200, 500, 1000)
_PROBABILITIES = ("greater-than", "hypernymy-comma", "sva")  # the others are logit differences
_SPLITS = ("train", "validation")
_LEFT: dict[str, Any] = {"steps": 5, "rule": "left"}
_MIB_METHODS: tuple[tuple[str, str, Level, dict[str, Any]], ...] = (
    ("NAP-IG", "eap-ig", "node", _LEFT),
    ("EAP", "eap", "edge", {}),
    ("EAP-IG-inputs", "eap-ig", "edge", _LEFT),
)
_ENDINGS = (".jsonl", ".json", ".csv")

Ours = dict[tuple[str, str, str], float]


def measured_bars(
    group: str,
    model: TransformerBridge | None,
    *,
    name: str = "",
    data: Path | None = None,
    n: int = MOST_ROWS,
    progress: Progress | None = None,
) -> PublishedNumbers:
    """Measure a set of published numbers by the rules of its source.

    Args:
        name: What the model is called; bars are compared where it is theirs.
        data: The folder with the prompts of the source.
        n: Most pairs of a file.

    Returns:
        Published numbers beside ours; ours are measured on a stand-in too, without a verdict.

    Raises:
        OptionError: if the folder has no file of the set that can be used.
    """
    bars = bars_of(group)
    if group == "edge-counts":
        return PublishedNumbers(group=group, model="", bars=bars, ours=edge_counts())
    if model is None or data is None:
        raise OptionError(
            f"{group} needs a model and its prompts", hint=f"-m gpt2 --data DIR, with {bars[0].data}"
        )
    tell, notes = progress or silent, list[str]()
    if group == "mib":
        found, judged = (paired_runs(model, _split(model, data, split, n)) for split in _SPLITS)
        told = node_areas(found, judged) | more_areas(found, judged)
        ours = {("", "ioi", what): value for what, value in told.items()}
        return PublishedNumbers(group=group, model=name, bars=bars, ours=ours, notes=notes)

    def curves_of(task: str) -> dict[str, float]:
        file = _csv_of(data, task, name)
        metric = "prob-difference" if task in _PROBABILITIES else "logit-difference"
        runs = paired_runs(model, _eap_ig_pairs(model, file, n), metric=metric)
        notes.extend([f"{task}: {len(gone)} pairs do not align"] if (gone := runs.pairs.dropped) else [])
        return curves(runs, _sizes(bars, task, name, runs))

    def areas_of(task: str) -> dict[str, float]:
        pairs = load_pairs(_there(Path(data) / f"{task}.jsonl", f"file {task}.jsonl"))[: min(n, MOST_OF_ACDC)]
        return acdc_areas(model, pairs, task, name, progress=tell)

    tasks = tuple(dict.fromkeys(bar.task for bar in bars))
    ours = _task_by_task(tasks, curves_of if group == "eap-ig-curves" else areas_of, notes, tell)
    if not ours:
        raise OptionError(
            f"{data} has no prompts of {group} that can be used. {'. '.join(notes)}",
            hint=f"it should have {bars[0].data}",
        )
    return PublishedNumbers(group=group, model=name, bars=bars, ours=ours, notes=notes)


def _task_by_task(
    tasks: Sequence[str], measure: Callable[[str], Mapping[str, float]], notes: list[str], tell: Progress
) -> Ours:
    """Measure each task; what is finished stays, and a note says of a task that cannot be measured why not."""
    ours = Ours()
    for done, task in enumerate(tasks):
        try:
            ours |= {("", task, what): value for what, value in measure(task).items()}
        except WorkbenchError as problem:
            notes.append(f"{task}: {problem.message}")
        tell(done + 1, len(tasks), task)
    return ours


def acdc_areas(
    model: TransformerBridge, pairs: Pairs, task: str, name: str, *, progress: Progress | None = None
) -> dict[str, float]:
    """Measure the areas under ACDC's circuits on some pairs, with KL and with the task's own metric.

    Returns:
        Areas from 0 to 1 by the bars' names.

    Raises:
        OptionError: if the model's circuit on the task is not known.
    """
    told, tell = {}, progress or silent
    for n, (what, metric) in enumerate((("ACDC, KL", "kl"), ("ACDC, loss", None))):
        runs = paired_runs(model, pairs, metric=metric)
        truth = reference_of(name, task, runs.wiring.graph())
        taus = TAUS[task, "kl" if metric else "loss"]
        told[what] = acdc_area(runs, truth, taus)
        tell(n + 1, 2, f"{task}: {what}, {len(taus)} thresholds")
    return told


def more_areas(found: PairedRuns, judged: PairedRuns) -> dict[str, float]:
    """Measure edge attribution and nodes along the line as the benchmark does: five left ends.

    Returns:
        Areas by the bars' names: CPR of circuits by signed score, CMD by size.
    """
    told: dict[str, float] = {}
    for what, method, level, options in _MIB_METHODS:
        by = faithfulness_curves(score(found, method, level=level, **options), judged)
        for area, order in (("CPR", "signed"), ("CMD", "absolute")):
            value = areas(by[order])[area]
            told[f"{what} {area}"] = float("nan") if value is None else value
    return told


def curves(runs: PairedRuns, sizes: Sequence[int]) -> dict[str, float]:
    """Measure the published curves of EAP and EAP-IG on some pairs, which circuits are found and judged on.

    EAP takes the gradient at the clean input, EAP-IG the mean of five right ends. Circuits grow greedily from the
    logits by size of score; all that is cut off is pruned, and what is left is counted.

    Returns:
        Mean metric of both prompts in its unit, edges left and share of the gap at each size; by the bars' names.
    """
    told = {"clean": float(runs.clean.mean()), "corrupted": float(runs.corrupted.mean())}
    methods = {"eap": score(runs, "eap"), "eap-ig": score(runs, "eap-ig", steps=5, rule="right")}
    for method, scores in methods.items():
        chosen = {n: grown(scores, n) for n in sizes if n <= scores.n_candidates}
        if not chosen:
            continue
        values = run_circuits(runs, list(chosen.values()))
        for (n, circuit), value in zip(chosen.items(), values, strict=True):
            told[f"{method} edges at {n}"] = float(circuit.n_edges)
            told[f"{method} f at {n}"] = ratio(value, runs.clean, runs.corrupted)
    return told


def grown(scores: Scores, n: int) -> Circuit:
    """Return the circuit that the published curves take: greedy by size of score, all that is cut off pruned."""
    return scores.choose(n, by="absolute", select="greedy", prune=True)


def node_areas(found: PairedRuns, judged: PairedRuns) -> dict[str, float]:
    """Measure node attribution patching as the benchmark does: found on one split, judged on another.

    Returns:
        Areas by the bars' names: CPR of circuits by signed score, CMD by size, and CMD of the signed ones.
    """
    by = faithfulness_curves(score(found, "attribution-patching", level="node"), judged)
    nan = float("nan")
    each = {
        "NAP CPR": areas(by["signed"])["CPR"],
        "NAP CMD": areas(by["absolute"])["CMD"],
        "NAP CMD of the signed run": areas(by["signed"])["CMD"],
    }
    return {what: nan if value is None else value for what, value in each.items()}


def _sizes(bars: Sequence[PublishedNumber], task: str, name: str, runs: PairedRuns) -> list[int]:
    """Sizes at which the source has numbers of this model, or the usual ones for a stand-in."""
    own = PublishedNumbers(group="", model=name, bars=tuple(bars), ours={})
    said = [b.quantity.rsplit(" ", 1)[-1] for b in bars if b.task == task and own.is_of(b)]
    return sorted({int(s) for s in said if s.isdigit()}) or list(SIZES)


def _csv_of(data: Path, task: str, name: str) -> Path:
    """The file of a task for this model's tokenizer."""
    own = "pythia" if "pythia" in name.lower() else "gpt2"
    return _there(Path(data) / task / f"{own}.csv", "csv file")


def _there(file: Path, kind: str) -> Path:
    """The file.

    Raises:
        OptionError: if it is not there.
    """
    if not file.is_file():
        raise OptionError(f"no {kind} in {file.parent}", hint=f"put {file.name} there")
    return file


def _eap_ig_pairs(model: TransformerBridge, file: Path, n: int) -> Pairs:
    """The first rows of a csv file; a row that cannot be used is an error.

    Raises:
        TaskError: for the first such row.
    """
    found = import_pairs("eap-ig", file, request=Request(tokenizer=model.tokenizer))
    if found.problems:
        raise TaskError(
            f"{file}: {found.problems[0]}", hint="workbench task import says what is wrong with each row"
        )
    return found.pairs[:n]


def _split(model: TransformerBridge, data: Path, split: str, n: int) -> Pairs:
    """Pairs of one split, from a file of pairs or rows of the benchmark.

    Raises:
        OptionError: if there is no file of that split.
    """
    for ending in _ENDINGS:
        file = Path(data) / f"{split}{ending}"
        if not file.is_file():
            continue
        try:
            return load_pairs(file)[:n]
        except TaskError:  # no pairs of ours: rows of the benchmark
            return import_pairs("mib", file, request=Request(tokenizer=model.tokenizer)).pairs[:n]
    raise OptionError(
        f"{data} has no file of the {split} split", hint=f"{split}.jsonl with rows of MIB, or pairs"
    )
