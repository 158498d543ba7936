"""A check-up of the installation: versions, devices, memory, threads, built-in models."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from workbench.circuits.files.export import FORMATS
from workbench.circuits.files.importers import CIRCUIT_IMPORTS
from workbench.circuits.files.kinds import KINDS
from workbench.core.command import COMMANDS, Command, command
from workbench.core.entry_points import offers, plugin_rows
from workbench.core.errors import WorkbenchError
from workbench.core.faults import faults_of, untested
from workbench.core.job import Job
from workbench.core.registry import Registry
from workbench.core.run_record import package_version, versions
from workbench.core.show import Told
from workbench.edits.edit import EDITS
from workbench.engine.metric_names import METRICS
from workbench.masks.registry import CONTENT_MASKS, MASKS
from workbench.methods.registry import METHODS
from workbench.model.builtin import list_models, locate
from workbench.model.stored_tensors import read_headers
from workbench.papers.registry import PAPERS
from workbench.papers.studies.registry import STUDIES
from workbench.tasks.importers import PAIR_IMPORTS
from workbench.tasks.registry import TASKS

REGISTRIES: tuple[Registry[Any], ...] = (
    *(METHODS, TASKS, PAPERS, STUDIES, METRICS, EDITS, MASKS, CONTENT_MASKS, KINDS, FORMATS),
    *(PAIR_IMPORTS, CIRCUIT_IMPORTS, COMMANDS),
)


@dataclass(frozen=True, kw_only=True)
class CheckUp(Told):
    """What was found, what is wrong with it, and what a user must know about it."""

    found: dict[str, Any]
    problems: tuple[str, ...]
    limits: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self.found, "known limits": list(self.limits), "problems": list(self.problems)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        known = (f"known limit: {limit}" for limit in self.limits)
        return [self.found, *known, *(f"problem: {p}" for p in self.problems)]


@dataclass(frozen=True, kw_only=True)
class WholeCheckUp(Told):
    """What was found without torch and with it; a terminal has the first part already."""

    versions: CheckUp
    machine: CheckUp

    @property
    def problems(self) -> tuple[str, ...]:
        """What would stop the installation from working."""
        return (*self.versions.problems, *self.machine.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        told = {**self.versions.found, **self.machine.found}
        return {**told, "known limits": list(self.versions.limits), "problems": list(self.problems)}

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        return [*self.machine.to_terminal(), *([] if self.problems else ["all well"])]


@command("doctor", offers=())
@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Say what is installed, what is known to be wrong with it, the devices, and whether the models are whole.

    Example: workbench doctor
    """

    def run(self, job: Job) -> WholeCheckUp:
        first = check_versions()
        job.show(first)  # said before the seconds that importing torch takes
        return WholeCheckUp(versions=first, machine=check_machine())

    def exit_code(self, result: WholeCheckUp) -> int:
        return 3 if result.problems else 0


def check_versions() -> CheckUp:
    """Look at what is installed, and what is known of it: wrong numbers, untested versions. No torch."""
    installed = {**versions(), **{name: package_version(name) for name in ("tokenizers", "safetensors")}}
    known = faults_of(installed)
    problems = [f"{name} is not installed" for name, which in installed.items() if which == "not installed"]
    problems += [f"wrong numbers: {f.describe(installed)}" for f in known if f.level == "wrong"]
    problems += untested(installed)
    limits = tuple(fault.describe(installed) for fault in known if fault.level == "limit")
    plugins = {row["plugin"]: f"{row['version']}: {row['adds']}" for row in plugin_rows()}
    found = {**installed, "plug-ins": plugins or "none"}
    return CheckUp(found=found, problems=tuple(problems), limits=limits)


def check_machine() -> CheckUp:
    """Look at devices, free memory and the built-in models; torch is loaded for it."""
    import psutil
    import torch

    models, problems = _models()
    found = {
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        "free memory": f"{psutil.virtual_memory().available / 1e9:.1f} GB",
        "offline": bool(os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")),
        "built-in models": models,
    }
    problems += plugin_problems()
    return CheckUp(found=found, problems=tuple(problems))


def plugin_problems() -> list[str]:
    """Load what installed plug-ins add, and say what cannot be; names of theirs that are ours are not used."""
    found = []
    for registry in REGISTRIES:
        for name, given in registry.all_offers().items():
            if name in registry.ours():
                found.append(
                    f"{given[0].plugin} has a {registry.kind} called {name}; the workbench's own is used"
                )
                continue
            try:
                registry.get(name)
            except WorkbenchError as problem:
                found.append(problem.message)
    for given in offers("workbench.cards").values():
        for offer in given:
            try:
                offer.load()
            except WorkbenchError as problem:
                found.append(problem.message)
    return found


def _models() -> tuple[dict[str, str], list[str]]:
    """What the built-in models hold, and which cannot be read."""
    problems: list[str] = []
    models = {}
    for card in list_models():
        try:
            locate(f"zoo:{card.name}")
            tensors = read_headers(sorted(card.directory.glob("*.safetensors")))
            models[f"zoo:{card.name}"] = f"{len(tensors)} tensors"
        except WorkbenchError as problem:
            problems.append(f"zoo:{card.name}: {problem.message}")
    if not models:
        problems.append("no built-in models are installed")
    return models, problems
