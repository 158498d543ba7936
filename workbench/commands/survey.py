"""The command ``survey`` as a function: the steps of a first day with a model, each a run, and one page of links."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from workbench.circuits.circuit import Circuit
from workbench.circuits.compare import overlap
from workbench.circuits.effects import Effects
from workbench.circuits.faithfulness import Evaluation
from workbench.circuits.files.circuit_file import load_circuit
from workbench.circuits.files.effects_file import load_effects
from workbench.circuits.published.by_name import list_published, load_published
from workbench.commands.discover import SavedDiscovery
from workbench.commands.do import asked_of, carry_out
from workbench.commands.evaluate import SavedJudgement
from workbench.commands.forms.survey import SurveyModel
from workbench.commands.heads import HeadsRun
from workbench.commands.survey_site import site
from workbench.core.atomic import write_atomic
from workbench.core.bounds import read_bytes
from workbench.core.command import COMMANDS
from workbench.core.errors import RunError, WorkbenchError
from workbench.core.job import Job
from workbench.core.lock import locked
from workbench.core.run_record import digest_of
from workbench.core.show import Told
from workbench.core.text import folder_name
from workbench.engine.run_folders.past_runs import SURVEY
from workbench.engine.saved_effects import Saved
from workbench.heads.show.portrait import table_rows

FORMAT, NAME, PAGE = "circuit-workbench/survey", SURVEY, "index.html"
METHODS = ("eap-ig", "eap", "information-flow")
SHOWN = ("induction", "previous-token", "first-token", "copy-score", "loss")
MOST = 8  # heads and effects on the page; the pages of the steps have all
JUDGED = METHODS[0]
QUICK_REASONS = 12  # edges: a quick survey of zoo:ioi then takes 12.6 s of a processor, 11.7 without details


@dataclass(frozen=True, kw_only=True)
class SurveyStep:
    """One command of a survey.

    Attributes:
        name: Its folder.
        result: The file that is there when it is finished.
        page: What its link opens, below the survey's folder; empty where there is none.
        told: What is kept of the result: ``facts``, a mapping, and ``rows``, a table.
    """

    name: str
    title: str
    command: str
    given: Mapping[str, Any]
    result: str
    page: str = ""
    told: Callable[[Any], dict[str, Any]] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class SurveyRun(Told):
    """What a survey found, step by step, and where its page is.

    Attributes:
        steps: Name of a step -> title, seconds, facts, rows, page; ``refused`` where it could not be done.
        overlaps: Rows of what circuits share, those of the methods and those that were published.
    """

    model: str
    task: str
    index: Path
    steps: Mapping[str, Mapping[str, Any]]
    overlaps: tuple[Mapping[str, Any], ...] = ()
    published: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        rows = [dict(row) for row in self.overlaps]
        told = {"model": self.model, "task": self.task, "page": str(self.index), "steps": dict(self.steps)}
        return {**told, "overlaps": rows, "published": self.published}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        parts: list[Any] = [f"{self.model} on {self.task}"]
        for step in self.steps.values():
            parts.append(step["title"])
            if "refused" in step:
                parts.append(f"not done: {step['refused']}")
            parts += [part for part in (step.get("facts"), step.get("rows")) if part]
        return [*parts, "What the circuits share", [dict(row) for row in self.overlaps], self.published]


def survey(asked: SurveyModel, job: Job) -> SurveyRun:
    """Carry out every step that is not finished, then write the page.

    A step that this model or task cannot have is told with its reason; the others go on.

    Raises:
        RunError: if the folder holds a survey with other options, or another process is writing there.
    """
    folder = asked.out or Path("surveys") / folder_name(asked.task) / folder_name(asked.model)
    with locked(folder):
        kept = _kept(folder, asked)
        steps = tuple(steps_of(asked, folder))
        for number, step in enumerate(steps, 1):
            if step.name in kept and (folder / step.result).is_file():
                job.note(f"{number} of {len(steps)}: {step.title}: already there")
                continue
            job.note(f"{number} of {len(steps)}: {step.title}")
            kept[step.name] = _done(step, folder, job)
            _keep(folder, asked, kept)
        circuits = {
            step.given["method"]: load_circuit(folder / step.result)
            for step in steps
            if step.command == "discover" and (folder / step.result).is_file()
        }
        rows, said = _overlaps(circuits, asked.task)
        found = SurveyRun(
            model=asked.model,
            task=asked.task,
            index=folder / PAGE,
            steps={step.name: kept[step.name] for step in steps},
            overlaps=tuple(rows),
            published=said,
        )
        write_atomic(found.index, site(found.to_dict(), _sweeps(steps, folder)))
    return found


def steps_of(asked: SurveyModel, folder: Path) -> Iterator[SurveyStep]:
    """Yield the steps in their order."""
    pairs = asked.on_pairs()
    profile = {**asked.on_model(), "seed": asked.seed, **({"limit": 4} if asked.quick else {})}
    heads = "Where heads look and what their weights do"
    yield SurveyStep(name="heads", title=heads, command="heads", given=profile, result="heads/portrait.json",
               page="heads/atlas.html", told=_told_heads)  # fmt: skip
    for name, title in (("ablate", "What the model loses without a head"), ("patch", "What a head carries")):
        yield SurveyStep(
            name=name,
            title=title,
            command=name,
            given=pairs,
            result=f"{name}/effects.parquet",
            told=_told_sweep,
        )
    for method in METHODS[:2] if asked.quick else METHODS:
        yield SurveyStep(
            name=f"discover-{method}",
            title=f"A circuit by {method}",
            command="discover",
            given={**pairs, "method": method},
            result=f"discover-{method}/circuit.json",
            page=f"discover-{method}/report.html",
            told=_told_circuit,
        )
    yield from _of_circuit(asked, folder / f"discover-{JUDGED}" / "circuit.json")


def _of_circuit(asked: SurveyModel, circuit: Path) -> Iterator[SurveyStep]:
    """What a click on the page of the circuit shows, and what the circuit is worth."""
    opening = {
        name: value for name, value in asked.on_model().items() if name != "model"
    }  # the circuit names it
    given = {**opening, "circuit": circuit, "limit": asked.on_pairs()["limit"], "seed": asked.seed}
    clicked = {**given, "reasons": QUICK_REASONS} if asked.quick else given
    shown, beside = "What a click on the circuit's page shows", circuit.parent.name
    yield SurveyStep(name="details", title=shown, command="circuit details", given=clicked,
               result=f"{beside}/details.json", page=f"{beside}/page.html", told=_told_details)  # fmt: skip
    if asked.quick:
        yield SurveyStep(name="evaluate", title="How much the circuit keeps", command="evaluate", given=given,
                   result="evaluate/faithfulness.json", told=_told_faithfulness)  # fmt: skip
    else:
        yield SurveyStep(
            name="evaluate",
            title="Can the circuit be trusted",
            command="evaluate",
            given={**given, "full": True},
            result="evaluate/evaluation.json",
            page="evaluate/evaluation.html",
            told=_told_verdicts,
        )


def _done(step: SurveyStep, folder: Path, job: Job) -> dict[str, Any]:
    """Carry out a step; what is kept of it."""
    asked = asked_of(COMMANDS.get(step.command), step.command, step.given)
    begun = time.monotonic()
    out = folder / step.name
    told: dict[str, Any] = {"title": step.title, "page": step.page, "command": step.command}
    try:
        result = carry_out(
            asked, replace(job, out=out, resume="resume" in asked.declared.offers and out.exists())
        )
    except WorkbenchError as problem:
        why = f"{problem.message} (hint: {problem.hint})" if problem.hint else problem.message
        job.warn(f"{step.title}: not done: {why}")
        return {**told, "refused": why, "page": ""}
    return {**told, "seconds": round(time.monotonic() - begun, 1), **step.told(result)}


def _told_heads(found: HeadsRun) -> dict[str, Any]:
    portrait = found.portrait
    rows = table_rows(portrait, columns=[name for name in SHOWN if name in portrait])
    kinds = Counter(kind for row in rows for kind in filter(None, row["kind"].split(", ")))
    named = sorted(rows, key=lambda row: not row["kind"])  # heads that a score names come first
    return {"facts": {"heads": len(portrait.heads), **kinds}, "rows": named[:MOST]}


def _told_sweep(found: Saved) -> dict[str, Any]:
    d = found.effects.to_dict()
    effect = f"effect ({d['unit']})"
    strongest = sorted(d["rows"], key=lambda row: -abs(row["effect"]))[:MOST]
    rows = [{"part": r["label"], effect: r["effect"], "share of the gap": r["share"], "survives": r.get("survives")}
            for r in strongest]  # fmt: skip
    return {"facts": {}, "rows": rows}


def _told_circuit(found: SavedDiscovery) -> dict[str, Any]:
    d = found.to_dict()
    share = d["faithfulness"]
    near = min(d["curve"]["points"], key=lambda point: abs(point["edges"] - share["size"]))
    facts = {
        "edges": f"{d['circuit']['edges']} of {d['circuit']['of']}",
        "faithfulness on other prompts": share["faithfulness"],
        "95 % interval": f"{share['low']:.3g} to {share['high']:.3g}",
        f"random circuits of {near['edges']} edges": near["random_mean"],
        "n": share["n"],
        "heads": ", ".join(d["circuit"]["heads"]),
    }
    return {"facts": facts, "rows": [{"role": r["role"], "head": r["head"]} for r in d["roles"]]}


def _told_details(found: Mapping[str, Any]) -> dict[str, Any]:
    names = ("prompts", "heads", "edges", "reasons", "n_pairs")
    return {"facts": {name: found[name] for name in names}, "rows": []}


def _told_faithfulness(found: Evaluation) -> dict[str, Any]:
    d = found.to_dict()
    kept = (
        "faithfulness",
        "low",
        "high",
        "random_mean",
        "size",
        "candidates",
        "n",
        "metric",
        "ablation",
        "split",
    )
    return {"facts": {name: d[name] for name in kept if name in d}, "rows": []}


def _told_verdicts(found: SavedJudgement) -> dict[str, Any]:
    verdicts = found.to_dict()["verdicts"]
    return {
        "facts": {},
        "rows": [{k: v[k] for k in ("name", "verdict", "measured", "criterion")} for v in verdicts],
    }


def _overlaps(circuits: Mapping[str, Circuit], task: str) -> tuple[list[dict[str, Any]], str]:
    """What each two circuits share beside what chance would; and what was published of the task."""
    rows = [_shared(a, b, circuits[a], circuits[b]) for a, b in combinations(circuits, 2)]
    names = [record.name for record in list_published() if record.task == task]
    if not circuits or not names:
        return (
            rows,
            f"No published circuit of {task} comes with the workbench: workbench circuit published lists them.",
        )
    own, others = circuits.get(JUDGED) or next(iter(circuits.values())), []
    for name in names:
        published = load_published(name)
        if overlap(own, published).matching.startswith("same"):
            rows += [
                _shared(method, f"published:{name}", found, published) for method, found in circuits.items()
            ]
        else:
            others.append(name)
    said = f"Of models of another shape, not compared: {', '.join(others)}." if others else ""
    return rows, said


def _shared(a: str, b: str, here: Circuit, there: Circuit) -> dict[str, Any]:
    row = overlap(here, there)["heads"].to_dict()
    counts = {name: row[name] for name in ("here", "there", "shared", "expected_by_chance", "p_value")}
    return {"circuit": a, "beside": b, **counts}


def _sweeps(steps: tuple[SurveyStep, ...], folder: Path) -> dict[str, Effects]:
    """The tables that become pictures."""
    files = {step.name: folder / step.result for step in steps if step.result.endswith("effects.parquet")}
    return {name: load_effects(file) for name, file in files.items() if file.is_file()}


def _question(asked: SurveyModel) -> str:
    return digest_of(asked.arguments())


def _kept(folder: Path, asked: SurveyModel) -> dict[str, Any]:
    """What an earlier start finished here.

    Raises:
        RunError: if it was asked something else, or the file is no survey.
    """
    file = folder / NAME
    if not file.exists():
        return {}
    content = read_bytes(file, most_bytes=16_000_000)
    try:
        known = json.loads(content)
        question, steps = known["question"], known["steps"]
    except (ValueError, KeyError, TypeError) as problem:
        raise RunError(f"{file} is no survey", hint=f"write elsewhere: -o {folder}-2") from problem
    if question != _question(asked):
        raise RunError(
            f"{folder} has a survey with other options",
            hint=f"write elsewhere: -o {folder}-2, or use its options again",
        )
    return {name: step for name, step in steps.items() if "refused" not in step}


def _keep(folder: Path, asked: SurveyModel, kept: Mapping[str, Any]) -> None:
    document = {"format": FORMAT, "version": 1, "question": _question(asked), "arguments": asked.arguments()}
    write_atomic(folder / NAME, json.dumps({**document, "steps": dict(kept)}, default=str, indent=1))
