"""A check-up of the installation: versions, devices, memory, threads, built-in models."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from workbench.provenance import versions


@dataclass(frozen=True, kw_only=True)
class CheckUp:
    """What was found, and what is wrong with it."""

    found: dict[str, Any]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**self.found, "problems": list(self.problems)}

    def to_terminal(self) -> list[Any]:
        return [self.found, *(f"problem: {p}" for p in self.problems or ())] + (
            [] if self.problems else ["all well"]
        )


def check_up() -> CheckUp:
    """Look at versions, devices, free memory and the built-in models; nothing is loaded."""
    import psutil
    import torch

    from workbench.errors import WorkbenchError
    from workbench.model.digest import read_headers
    from workbench.model.zoo import list_models, locate

    installed, problems = versions(), []
    problems += [f"{name} is not installed" for name, which in installed.items() if which == "not installed"]
    models = {}
    for card in list_models():
        try:
            directory = locate(f"zoo:{card.name}").directory
            tensors = read_headers(sorted(directory.glob("*.safetensors")))
            models[f"zoo:{card.name}"] = f"{len(tensors)} tensors"
        except WorkbenchError as problem:
            problems.append(f"zoo:{card.name}: {problem.message}")
    if not models:
        problems.append("no built-in models are installed")
    found = {
        **installed,
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        "free memory": f"{psutil.virtual_memory().available / 1e9:.1f} GB",
        "offline": bool(os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")),
        "built-in models": models,
    }
    return CheckUp(found=found, problems=tuple(problems))
