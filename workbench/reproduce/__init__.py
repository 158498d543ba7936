"""Published studies re-run on the user's model: ``workbench reproduce ioi -m gpt2``."""

from __future__ import annotations

from workbench.claims import Claim
from workbench.reproduce.kinds import State, Step, StepResult, Study
from workbench.reproduce.registry import find_study, list_studies

__all__ = ["Claim", "State", "Step", "StepResult", "Study", "find_study", "list_studies"]
