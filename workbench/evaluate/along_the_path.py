"""Where a gradient is taken, and what it then says: scores along the path of EAP-IG beside exact effects.

EAP multiplies differences with the gradient of the clean run, EAP-IG with its mean along the straight line of inputs.
Which is nearer to exact effects depends on the model. Four things can make the mean worse, and each is turned off here
by itself: points of the line are no prompts (a path of prompts); the softmax, or a norm, is another function there
(patterns frozen, norms frozen); every input moves at once, where an exact effect moves one edge (each part on a line of
its own); and an effect measured in the clean run is compared with a mean over both runs (effects in both runs).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.circuits.addresses import parse_node
from workbench.circuits.scores import Scores
from workbench.core.errors import ModelError, TaskError
from workbench.core.progress import Progress, silent
from workbench.core.show import Told
from workbench.core.stats.agreement import pearson
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.rules import Backward
from workbench.methods.attribution import Recipe, gradient_scores
from workbench.methods.by_name import score
from workbench.methods.points import Point, quadrature
from workbench.methods.prompt_path import prompt_path

ALPHAS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
LINE = tuple(quadrature(5, "midpoint"))
EAP_NAME, IG_NAME = "EAP (clean end)", "EAP-IG (mean of 5 points)"
SAME = 0.01  # correlations that differ by less are alike
_RULES: tuple[tuple[str, Backward], ...] = (
    ("patterns frozen", "patterns-frozen"),
    ("norms frozen", "norms-frozen"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class AlongThePath(Told):
    """Scores of every edge from gradients taken at different places, and exact effects.

    Attributes:
        scores: Name of a variant -> ``(edge,)`` scores in the metric's unit; positive supports the behavior.
        noising: ``(edge,)`` exact drops in the clean run, in that unit.
        denoising: ``(edge,)`` exact gains in the corrupted run.
        kinds: What each edge's target is: ``q``, ``k``, ``v``, ``mlp`` or ``logits``.
        refused: Variant -> why it was not measured.
        differ: Mean number of positions at which the two prompts of a pair differ.
    """

    task: str
    n_pairs: int
    unit: str
    scores: dict[str, Float[np.ndarray, " edge"]]
    noising: Float[np.ndarray, " edge"]
    denoising: Float[np.ndarray, " edge"]
    kinds: tuple[str, ...]
    refused: dict[str, str]
    differ: float

    def agrees(self, name: str, *, both: bool = False) -> float:
        """Return Pearson's correlation of a variant with effects in the clean run, or their mean over both."""
        exact = (self.noising + self.denoising) / 2 if both else self.noising
        return pearson(self.scores[name], exact)

    @property
    def gain(self) -> float:
        """Correlation of EAP-IG with effects in the clean run minus that of EAP; negative where the mean is worse."""
        return self.agrees(IG_NAME) - self.agrees(EAP_NAME)

    @property
    def reason(self) -> str:
        """Say what the comparison of variants speaks for; a correlation that differs by less than 0.01 says nothing."""
        clean, mean = self.agrees(EAP_NAME), self.agrees(IG_NAME)
        ends = max(clean, self.agrees("path of prompts"))
        if mean > clean + SAME:
            saturated = mean > ends + SAME
            return "the ends are saturated" if saturated else "the clean end alone is worse than both ends"
        if mean >= clean - SAME:
            return "no difference"
        if self.agrees(IG_NAME, both=True) > self.agrees(EAP_NAME, both=True) + SAME:
            return "it estimates effects in both runs, which differ"
        if ends > mean + SAME and self.agrees("path of prompts") >= clean - SAME:
            return "points of the line are no prompts"
        others = ("each part on its own line", "EAP-IG, norms frozen", "EAP-IG, patterns frozen")
        helps = [name for name in others if name in self.scores and self.agrees(name) >= clean - SAME]
        return f"mended by: {', '.join(helps)}" if helps else "open"

    def error_by_kind(self, name: str) -> dict[str, float]:
        """Return the share of a variant's squared error that edges into each kind of target have; they sum to 1."""
        error, kinds = (self.scores[name] - self.noising) ** 2, np.array(self.kinds)
        whole = float(error.sum())
        return {
            k: float(error[kinds == k].sum()) / whole if whole else 0.0 for k in dict.fromkeys(self.kinds)
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per variant: correlation with effects in the clean run, and in both runs."""
        return [
            {"gradient": n, "clean run": self.agrees(n), "both runs": self.agrees(n, both=True)}
            for n in self.scores
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return correlations and shares of errors as JSON values."""
        told = {n: {"clean": self.agrees(n), "both": self.agrees(n, both=True)} for n in self.scores}
        errors = {n: self.error_by_kind(n) for n in (EAP_NAME, IG_NAME)}
        head = {"task": self.task, "n_pairs": self.n_pairs, "unit": self.unit, "differ": self.differ}
        return {
            **head,
            "reason": self.reason,
            "agreement": told,
            "errors": errors,
            "refused": dict(self.refused),
        }

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        errors = [{"error of": n, **self.error_by_kind(n)} for n in (EAP_NAME, IG_NAME)]
        return [self.reason, self.rows(), errors, *(f"{n}: {why}" for n, why in self.refused.items())]

    def __repr__(self) -> str:
        return (
            f"<AlongThePath {self.task}: EAP {self.agrees(EAP_NAME):.3f}, EAP-IG {self.agrees(IG_NAME):.3f}>"
        )


@on_a_task
def along_the_path(
    runs: PairedRuns, *, alphas: Sequence[float] = ALPHAS, progress: Progress | None = None
) -> AlongThePath:
    """Score every edge with gradients from different places, and measure every edge exactly in both runs.

    Args:
        alphas: Places on the straight line of inputs, from 0 (corrupted) to 1 (clean).

    Returns:
        Scores and effects in the metric's unit; positive supports the behavior.

    Raises:
        TaskError: for pairs with pictures, whose two prompts are not exchanged here.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=2)
        >>> found = wb.along_the_path(runs, alphas=(1.0,))
        >>> len(found.noising), found.agrees("EAP (clean end)") > 0.5
        (479, True)
    """
    other = exchanged(runs)
    exact = score(runs, "exact", progress=progress)
    back = score(other, "exact", progress=progress)
    at = exact.candidates

    def values(found: Scores) -> np.ndarray:
        return found.values[at]

    scores = {f"at {a:g} of the line": values(_at(runs, [a])) for a in alphas}
    scores[EAP_NAME] = values(score(runs, "eap"))
    scores[IG_NAME] = values(_at(runs, LINE))
    scores["path of prompts"] = values(_on_prompts(runs))
    scores["each part on its own line"] = values(score(runs, "eap-ig-activations"))
    refused = {}
    for name, rule in _RULES:
        try:
            scores[f"EAP, {name}"] = values(_at(runs, [1.0], rule))
            scores[f"EAP-IG, {name}"] = values(_at(runs, LINE, rule))
        except ModelError as problem:  # the rule does not cover this architecture
            refused[name] = problem.message
    targets = [exact.address(tuple(i)).partition("->")[2] for i in np.argwhere(at).tolist()]
    return AlongThePath(
        task=runs.pairs.pairs.task,
        n_pairs=runs.n_pairs,
        unit=runs.metric.unit,
        scores=scores,
        noising=values(exact),
        denoising=-values(back),
        kinds=tuple(_kind(target) for target in targets),
        refused=refused,
        differ=float(
            np.mean([(a != b).sum() for a, b in zip(runs.pairs.clean, runs.pairs.corrupted, strict=True)])
        ),
    )


def exchanged(runs: PairedRuns) -> PairedRuns:
    """Return runs whose clean and corrupted prompts have changed places; the answers stay.

    An exact drop there, with its sign turned, is the gain in the corrupted run.

    Raises:
        TaskError: for pairs with pictures.
    """
    aligned = runs.pairs
    if aligned.sets or aligned.captions:
        raise TaskError("clean and corrupted pictures are not exchanged", hint="use a task of words")
    items = tuple(
        replace(
            pair,
            clean=pair.corrupted,
            corrupted=pair.clean,
            positions={name: (there, here) for name, (here, there) in pair.positions.items()},
        )
        for pair in aligned.pairs
    )
    pairs = replace(
        aligned, pairs=replace(aligned.pairs, items=items), clean=aligned.corrupted, corrupted=aligned.clean
    )
    return PairedRuns(runs.model, pairs, metric=runs.metric, batch_tokens=runs.batch_tokens)


def _kind(target: str) -> str:
    """What a target is: ``q``, ``k``, ``v``, ``mlp`` or ``logits``."""
    node = parse_node(target)
    return node.slot or ("mlp" if node.kind == "mlp" else str(node.kind))


def _at(runs: PairedRuns, alphas: Sequence[float], backward: Backward = "plain") -> Scores:
    """Scores from the mean gradient at these places of the line."""
    recipe = Recipe(points=lambda graph: [Point(alpha=a) for a in alphas], backward=backward)
    return _scored(runs, recipe, len(alphas))


def _on_prompts(runs: PairedRuns, points: int = 6) -> Scores:
    """Scores from the mean gradient over prompts between the corrupted and the clean one."""
    between = [(k + 1) / (points + 1) for k in range(points)]  # names only: the path is found
    recipe = Recipe(
        points=lambda graph: [Point(alpha=a) for a in between],
        path=lambda runs, batch: prompt_path(runs, batch, points),
    )
    return _scored(runs, recipe, points)


def _scored(runs: PairedRuns, recipe: Recipe, points: int) -> Scores:
    return gradient_scores(
        runs,
        recipe,
        level="edge",
        method="along the path",
        source="none",
        options={},
        passes=2 + 2 * points,
        progress=silent,
    )
