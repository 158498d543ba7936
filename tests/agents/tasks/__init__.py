"""Tasks by kind. Each is drawn from a seed, asked in words, and verified by the library without the tools."""

from __future__ import annotations

from tests.agents.tasks.circuits import CIRCUITS
from tests.agents.tasks.effects import EFFECTS
from tests.agents.tasks.logits import LOGITS
from tests.agents.tasks.runs import RUNS
from tests.agents.tasks.task import AgentTask, wrong

__all__ = ["TASKS", "AgentTask", "wrong"]

TASKS: tuple[AgentTask, ...] = (*EFFECTS, *LOGITS, *CIRCUITS, *RUNS)
