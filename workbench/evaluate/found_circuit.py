"""The main jobs, each one call: runs of a task on a model, a circuit found and judged, everything saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench.circuits.addresses import parse_node
from workbench.circuits.behavior import Behavior
from workbench.circuits.circuit import Circuit
from workbench.circuits.connection import connection_advice
from workbench.circuits.effects import Effects
from workbench.circuits.files import export, load_circuit, save_circuit, save_scores, write_atomic
from workbench.circuits.files.effects_file import save_effects
from workbench.circuits.scores import Ranking, Scores, as_rule
from workbench.circuits.selection.rules import RANKINGS
from workbench.circuits.summed import SummedScores, summed_scores
from workbench.core.errors import OptionError, RunError, expect_word
from workbench.core.lock import locked
from workbench.core.progress import Progress
from workbench.core.run_file import recording
from workbench.core.run_record import RunRecord, digest_of
from workbench.core.show import Shown
from workbench.core.text import folder_name
from workbench.engine.distribute import Here
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.curve import Curve, faithfulness_curve
from workbench.evaluate.exact_sample import ExactSample, compare_with_exact
from workbench.evaluate.faithfulness import Faithfulness, faithfulness
from workbench.evaluate.roles import HeadRoles, head_roles
from workbench.evaluate.sample_plan import SHARES, check_sample, planned_sample
from workbench.methods.by_name import score
from workbench.methods.registry import Level, check_level, get_method
from workbench.model.sight import reads_pictures_alone
from workbench.tasks.pairs import Pair

SCORED = "the circuit and its numbers"  # what stands or falls with the model's behavior


@dataclass(frozen=True, kw_only=True, eq=False)
class Discovery(Shown, shown_in="workbench.evaluate.show"):
    """A circuit, the scores it was selected from, and what was measured of how good it is.

    Attributes:
        agreement: Some edges measured exactly, beside their scores; None where that was not asked for.
        summed: What scores of EAP-IG sum to, beside the gap; None for other scores.
    """

    circuit: Circuit
    scores: Scores
    faithfulness: Faithfulness
    curve: Curve
    roles: HeadRoles = field(default_factory=HeadRoles)
    behavior: Behavior | None = None
    found_on: Behavior | None = None
    advice: str = ""
    agreement: ExactSample | None = None
    summed: SummedScores | None = None

    @property
    def lead(self) -> list[str]:
        """What the model itself does on the pairs it was judged on, and on those it was found on where they differ."""
        told = (("", self.behavior), ("where it was found: ", self.found_on))
        return [f"{where}{seen.sentence(SCORED)}" for where, seen in told if seen is not None]

    @property
    def size_sentence(self) -> str:
        """How much of the graph the circuit is, of what, and how much of what was chosen connects to nothing."""
        c, level, of = self.circuit, self.scores.level, self.scores.n_candidates
        loose = int(c.selection.get("nominal", c.size)) - c.size
        dropped = (
            f"; {c.size + loose:,} were chosen, {loose:,} of them on no path from input to logits"
            if loose > 0
            else ""
        )
        share = f"{100 * c.size / of:.3g}%"
        return f"the circuit has {c.size:,} of all {of:,} {level}s of the graph ({share}){dropped}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "behavior": None if self.behavior is None else self.behavior.to_dict(SCORED),
            "behavior_found_on": None if self.found_on is None else self.found_on.to_dict(SCORED),
            "advice": self.advice,
            "circuit": {
                "nodes": self.circuit.n_nodes,
                "edges": self.circuit.n_edges,
                "of": self.scores.n_candidates,
                "heads": list(self.circuit.heads),
            },
            "method": self.scores.method,
            "options": dict(self.scores.options),
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
            **({} if self.summed is None else {"summed": self.summed.to_dict()}),
            "faithfulness": self.faithfulness.to_dict(),
            "curve": self.curve.to_dict(),
            "roles": [r.to_dict() for r in self.roles],
        }

    def __repr__(self) -> str:
        return f"<Discovery {self.circuit!r}, faithfulness {self.faithfulness.faithfulness:.3f}>"


@on_a_task(judged_by="test_runs")
def discover(
    runs: PairedRuns,
    method: str = "eap-ig",
    *,
    amount: str | int | float | None = None,
    level: Level | None = None,
    per_position: bool = False,
    by: Ranking | None = None,
    greedy: bool | None = None,
    select: str | None = None,
    test_runs: PairedRuns | None = None,
    shares: tuple[float, ...] = SHARES,
    random_draws: int = 5,
    roles: bool = True,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    exact_sample: int | None = None,
    progress: Progress | None = None,
) -> Discovery:
    """Find the circuit of a behavior: score every edge (or node, neuron), keep the best, measure what they carry.

    Args:
        runs: Pairs it is found on; or a model and a task: ``discover(model, "ioi")`` finds on the train split and
            judges on the test split.
        method: A name that ``workbench methods`` lists: ``eap-ig``, ``exact``, ``acdc``, and so on.
        level: ``edge``, ``node`` or ``neuron``; by default what the method scores.
        amount: How much to keep: 200 or ``"200"`` edges, ``0.05`` or ``"5%"`` of all, ``">=0.01"`` or ``"own"``. By
            default what the method itself decides (ACDC, edge pruning ...), else 5 %.
        per_position: Score and keep edges (nodes, neurons) at single positions.
        by, greedy, select: How the best are chosen; by default as the method's paper does. ``select`` names a rule:
            ``top``, ``greedy``, ``pnr:0.7`` or ``ilp``.
        test_runs: Pairs the circuit is judged on; other prompts than it was selected on. By default the same,
            which flatters the circuit.
        shares: Sizes, as shares of all edges, at which faithfulness is measured besides.
        random_draws: How many random circuits of each size are measured beside it.
        options: The method's own options by name, such as ``{"steps": 10}``.
        roles: Also measure what role each head plays, where the task names positions.
        exact_sample: How many edges to measure exactly too, on ``runs``, which says how good the scores are; 0 for
            none. By default 40 where these take less than a tenth of all passes.

    Returns:
        Circuit, scores and faithfulness; scores are in the metric's unit, and positive supports the behavior.

    Raises:
        OptionError: for a method, level, amount or option that is not one of these; the error says what is.
        TaskError: for a task that this model cannot read. Whether it does the task is told in ``behavior``.

    Source:
        Wang et al. 2022, arXiv:2211.00593 (circuits); Hanna, Pezzelle and Belinkov 2024, arXiv:2403.17806 (the
        default method); Conmy et al. 2023, arXiv:2304.14997 (ACDC).

    Example:
        >>> import workbench as wb
        >>> found = wb.discover(wb.open_model("zoo:ioi"), "ioi", "eap", n=8, amount="5%", random_draws=1)
        >>> found.circuit.method, found.circuit.level
        ('eap', 'edge')
    """
    judged = _judged(runs, test_runs)
    if by is not None:
        expect_word("ranking", by, RANKINGS)
    check_sample(exact_sample, get_method(method), check_level(get_method(method), level))
    chosen = get_method(method).choice(
        None if amount is None else as_rule(amount),
        None if by is None else by == "signed",
        greedy,
        select,
        per_position=per_position,
    )
    scores = score(runs, method, level=level, per_position=per_position, progress=progress, **(options or {}))
    # workers know the scores' question; the sample is measured here, and kept where finished parts are
    runs.division = Here(store=runs.division.store)
    sizes = {"sizes": len(shares), "random_draws": random_draws}
    n = planned_sample(exact_sample, get_method(method), options or {}, scores.graph, scores.level, **sizes)
    agreement = compare_with_exact(runs, scores, n, seed=seed, progress=progress) if n else None
    runs.division = Here()  # judging is of few passes
    circuit = scores.keep(chosen.keep, by=chosen.by, select=chosen.select)
    how: dict[str, Any] = {"by": chosen.by, "select": chosen.select}
    drawn: dict[str, Any] = {"random_draws": random_draws, "seed": seed}
    found = Discovery(
        circuit=circuit,
        scores=scores,
        faithfulness=faithfulness(circuit, judged, progress=progress),
        curve=faithfulness_curve(scores, judged, shares=shares, **how, **drawn, progress=progress),
        roles=head_roles(judged) if roles and _can_have_roles(judged) else HeadRoles(),
        behavior=judged.behavior,
        found_on=None if judged is runs else runs.behavior,
        advice=". ".join(filter(None, [connection_advice(scores, circuit, **how), flattered(runs, judged)])),
        agreement=agreement,
        summed=summed_scores(scores, float((runs.clean - runs.corrupted).mean()) * runs.metric.direction),
    )
    return replace(found, circuit=_described(found, runs, judged, drawn))


def _judged(runs: PairedRuns, test_runs: PairedRuns | None) -> PairedRuns:
    """The pairs a circuit is judged on."""
    judged = runs if test_runs is None else test_runs
    if not isinstance(judged, PairedRuns):
        raise OptionError(
            f"test_runs is of type {type(judged).__name__}; runs are expected",
            hint='wb.paired_runs(model, "ioi", split="test")',
        )
    return judged


def flattered(found_on: PairedRuns, judged: PairedRuns) -> str:
    """Say how many of the pairs that judge a circuit are among those it was found on; empty where none is.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> flattered(runs, runs.subset([0, 2]))
        'all 2 pairs that judge the circuit are among those it was found on, which flatters it: judge it on others'
    """
    known, n = {_prompts(pair) for pair in found_on.pairs.pairs}, judged.n_pairs
    shared = sum(_prompts(pair) in known for pair in judged.pairs.pairs)
    if not shared:
        return ""
    said = f"all {n} pairs that judge" if shared == n else f"{shared} of the {n} pairs that judge"
    return f"{said} the circuit are among those it was found on, which flatters it: judge it on others"


def _prompts(pair: Pair) -> tuple[object, ...]:
    """What a model reads of a pair, whatever the pair is called."""
    return pair.clean, pair.corrupted, tuple(picture.digest for picture in pair.image or ())


def _can_have_roles(runs: PairedRuns) -> bool:
    """Whether the pairs name positions that heads can look at, on a model with heads and words."""
    wiring = runs.wiring
    return len(runs.position_names) > 1 and wiring.has_lm_head and bool(wiring.attention_layers)


def _described(found: Discovery, runs: PairedRuns, judged: PairedRuns, drawn: Mapping[str, Any]) -> Circuit:
    """The circuit with names for its nodes, what was measured of it, and where it is from."""
    known = {r.head: r.role for r in found.roles}
    names = {
        a: known[part]
        for a in found.circuit.nodes
        if (part := str(parse_node(a, towers=True).writer)) in known
    }
    return found.circuit.with_roles(names).with_fields(
        task=runs.pairs.pairs.task,
        model=runs.identity.name,
        evaluation=_evaluation(found, judged),
        prompt=_prompt(judged),
        provenance={
            **found.scores.provenance,
            "options": dict(found.scores.options),
            "task_options": dict(runs.pairs.pairs.options),
            "judged_on": {
                "pairs": judged.pairs.pairs.digest,
                "split": judged.pairs.pairs.split,
                "n_pairs": judged.n_pairs,
                "n_dropped": len(judged.pairs.dropped),
                **drawn,
            },
        },
    )


def _evaluation(found: Discovery, judged: PairedRuns) -> dict[str, Any]:
    """What a circuit's file says of how good it is."""
    told = {"behavior": found.behavior, "behavior_found_on": found.found_on}
    return {
        **{name: seen.to_dict(SCORED) for name, seen in told.items() if seen is not None},
        **({"advice": found.advice} if found.advice else {}),
        **({} if found.agreement is None else {"agreement": found.agreement.to_dict()}),
        **found.faithfulness.to_dict(),
        "evaluated_on": judged.pairs.pairs.split,
        "curve": found.curve.to_dict(),
        "roles": [r.to_dict() for r in found.roles],
    }


def _prompt(runs: PairedRuns) -> tuple[str, ...]:
    """Tokens of the first clean prompt, as text; none of a model that reads pictures alone: its ids are positions."""
    if runs.model.tokenizer is None or reads_pictures_alone(runs.model):
        return ()
    ids = runs.pairs.clean[0].tolist()
    return tuple(runs.model.tokenizer.decode([i]) for i in ids)


def question_of(circuit: Circuit) -> str:
    """Return the digest of what decides a circuit and its judgement: equal questions have equal answers."""
    decided = {
        "selection": dict(circuit.selection),
        "provenance": {k: v for k, v in circuit.provenance.items() if k != "device"},
        "method": circuit.method,
        "level": circuit.level,
    }
    return digest_of(decided)


def folder_of(circuit: Circuit, root: Path) -> Path:
    """Return ``root/<task>/<model>/<method>-<digest>``; the digest is of the question, see ``question_of``."""
    name = f"{folder_name(circuit.method)}-{question_of(circuit)[:8]}"
    return Path(root) / folder_name(circuit.task) / folder_name(circuit.model) / name


def save_discovery(
    found: Discovery,
    folder: Path,
    record: RunRecord,
    *,
    effects: Effects | None = None,
    exports: Sequence[str] = (),
) -> dict[str, str]:
    """Write circuit, scores, effects, report page and ``run.json`` into one folder; returns what is where.

    Args:
        exports: Formats of other tools to write the circuit in too.

    Raises:
        RunError: if the folder holds the answer to another question, or another process is writing there.
    """
    folder = Path(folder)
    with locked(folder):
        refuse_other_circuit(folder, found.circuit)
        record.question = question_of(found.circuit)
        with recording(record, folder):
            return write_discovery(found, folder, record, effects=effects, exports=exports)


def write_discovery(
    found: Discovery,
    folder: Path,
    record: RunRecord,
    *,
    effects: Effects | None = None,
    exports: Sequence[str] = (),
) -> dict[str, str]:
    """Write the files of a discovery into a folder whose lock and record the caller holds.

    Raises:
        RunError: if the folder holds the answer to another question.
    """
    refuse_other_circuit(folder, found.circuit)
    record.question = question_of(found.circuit)
    record.outputs.update(
        circuit="circuit.json", scores="scores.safetensors", page="circuit.html", report="report.html"
    )
    save_scores(found.scores, folder / "scores.safetensors")
    if effects is not None:
        save_effects(effects, folder)
        record.outputs["effects"] = "effects.parquet"
    write_atomic(folder / "circuit.html", found.circuit.page(scores=found.scores, path=str(folder)))
    write_atomic(folder / "report.html", found.page(effects=effects))
    for kind in exports:
        export(found.circuit, kind, folder / f"circuit.{kind}")
        record.outputs[kind] = f"circuit.{kind}"
    save_circuit(found.circuit, folder / "circuit.json")
    return {name: str(folder / file) for name, file in {**record.outputs, "run": "run.json"}.items()}


def refuse_other_circuit(folder: Path, circuit: Circuit) -> None:
    """Never overwrite the circuit of another question.

    Raises:
        RunError: if there is one.
    """
    if not (folder / "circuit.json").exists():
        return
    before = load_circuit(folder / "circuit.json")
    if question_of(before) != question_of(circuit):
        raise RunError(f"{folder} holds another circuit: {before!r}", hint="choose another --out")
