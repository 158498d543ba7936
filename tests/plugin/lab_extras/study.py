"""A study of one step: does the model tell the two names apart?"""

from __future__ import annotations

from workbench.papers.kit import Claim, Conditions, at_least, judge_all
from workbench.papers.studies.kinds import State, Step, StepResult, Study
from workbench.papers.studies.registry import add_study

NAMES = {"names": Claim("the model names the receiver", at_least("right", 0.9), why="as in the study of IOI")}


def task(state: State) -> StepResult:
    """How many prompts are answered rightly."""
    c = Conditions(numbers={"right": float((state.runs.clean > 0).mean())})
    return StepResult(name="task", title="The task", claims=judge_all(NAMES, c), found={"does_task": True})


def circuit(state: State) -> None:
    """No circuit is looked for."""


NAMING = add_study(
    Study(
        name="naming",
        published="ioi",
        task="ioi",
        corruption="abc",
        model_names=(),
        circuit=circuit,
        steps=(Step(name="task", title="the task", run=task, passes="2"),),
    )
)
