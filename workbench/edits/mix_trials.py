"""A learned mix of head outputs put to the test: right answers under it, and under everything it is compared with.

Hard choices of heads and function vectors do without a learned mix; random vectors, another task's embedding and
unrelated examples say whether what is injected is the task or a disturbance.

Source:
    Park and Rhee 2025, "Soft Injection of Task Embeddings Outperforms Prompt-Based In-Context Learning".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from workbench.core.stats.permutation import within_and_between
from workbench.edits.soft_injection import (
    Embedding,
    Mix,
    Mixed,
    SoftMix,
    best_vector_added,
    hard_choice,
    injection,
    learn_mix,
    near_ends,
    single_effects,
    task_embedding,
)
from workbench.edits.task_prompts import Prompts, asked_as, scrambled, unlike

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Right = Float[np.ndarray, " question"]
FEW = 16  # training prompts on which single effects are measured


class _Learned(NamedTuple):
    """Mixes of one embedding, one for each seed; and the right answers to the test questions under each, 1 or 0."""

    mixes: list[Mixed]
    right: list[Right]

    @property
    def alpha(self) -> Mix:
        return self.mixes[0].alpha

    def near_ends(self, *, kept: bool = False) -> float:
        """The mean share of alphas near 0 or 1 after the last step; ``kept``: of the mixes that are kept."""
        return float(np.mean([near_ends(mix.alpha if kept else mix.last) for mix in self.mixes]))


def _learned(
    model: TransformerBridge,
    prompts: Prompts,
    embedding: Embedding,
    *,
    options: SoftMix,
    seeds: Sequence[int],
) -> _Learned:
    """Mixes of a task's own embedding, or of another one as a control, learned on its training prompts."""
    words = {"training": prompts.training, "validation": prompts.validation}
    mixes = [learn_mix(model, embedding, options=options, seed=seed, **words) for seed in seeds]
    right = [prompts.test.answered(model, injection(embedding, mix.alpha)) for mix in mixes]
    return _Learned(mixes, right)


def _hard_choices(model: TransformerBridge, prompts: Prompts, alpha: Mix) -> tuple[dict[str, Right], Mix]:
    """Right answers under hard choices of heads in place of a mix; how much each head alone lowers the loss, in nats.

    *Open heads only* are those that the mix opens by more than half; *hard heads* and the layer of the *function
    vector* (Todd et al. 2024, arXiv:2310.15213) are chosen on validation prompts.
    """
    own, validation = prompts.embedding, prompts.validation
    effects = single_effects(model, own, prompts.training.subset(range(min(FEW, len(prompts.training)))))
    hard = hard_choice(model, own, effects, validation)
    right = {
        "open heads only": prompts.test.answered(model, injection(own, (alpha > 0.5).to(own))),
        "hard heads": prompts.test.answered(model, injection(own, hard)),
    }
    with best_vector_added(model, own, effects, validation):
        right["function vector"] = prompts.test.answered(model)
    return right, effects


def _other_content(
    model: TransformerBridge, prompts: Prompts, other: Prompts, alpha: Mix, noise: Embedding
) -> dict[str, Right]:
    """Right answers with other content injected by the same mix: random vectors (``noise``), another task's embedding.

    The prompts with examples of the ``other`` task are the unrelated ones. Under its embedding answers are also judged
    by what that task would answer, where there is such an answer: a control of ours.
    """
    own, theirs = injection(prompts.embedding, alpha), injection(other.embedding, alpha)
    right = {
        "same mix, random vectors": prompts.test.answered(model, injection(noise, alpha)),
        "unrelated examples": other.shown.answered(model),
        "unrelated examples, injected": other.shown.answered(model, own),
        "other task": prompts.test.answered(model, theirs),
    }
    if wanted := asked_as(model, prompts, other):
        right["other task's answer"] = wanted.answered(model, theirs)
    return right


@dataclass(frozen=True, kw_only=True, eq=False)
class TriedMix:
    """A task's mix and everything it is compared with.

    Attributes:
        alpha: The mix of the first seed.
        right: Right answers to the test questions, by what they are asked under: 1 or 0; a list for learned mixes, one
            for each seed.
        numbers: Shares of alphas near 0 or 1, alphas and single effects; none where the content was not tried.
    """

    alpha: Mix
    right: dict[str, Right | list[Right]]
    numbers: dict[str, Any]


def try_mix(
    model: TransformerBridge,
    drawn: Sequence[Prompts],
    i: int,
    *,
    options: SoftMix,
    seeds: Sequence[int],
    content: bool = True,
) -> TriedMix:
    """Learn the mix of one of several tasks, and ask its test questions under it and all that it is compared with.

    Args:
        drawn: Prompts of all tasks.
        seeds: One mix is learned with each; the first also draws random vectors.
        content: Compare with random vectors and another task, in place of the embedding of a single prompt.

    Source:
        Park and Rhee 2025.

    Example:
        >>> import workbench as wb
        >>> from workbench.edits.task_prompts import Split, prompts_of
        >>> model, sizes = wb.open_model("zoo:icl"), {"shots": 2, "n": 2, "n_test": 3}
        >>> drawn = [prompts_of(model, task, Split.drawn(0), **sizes) for task in ("pick-animal", "pick-letter")]
        >>> step = SoftMix(steps=1, batch=2, every=1)
        >>> tried = try_mix(model, drawn, 0, options=step, seeds=[0])
        >>> list(tried.right)[2:6], sorted(tried.numbers)[:3]
        (['soft', 'open heads only', 'hard heads', 'function vector'], ['alpha', 'alpha, random vectors', 'effects'])
    """
    own = drawn[i]
    learn = partial(_learned, model, own, options=options, seeds=seeds)
    soft = learn(own.embedding)
    hard, effects = _hard_choices(model, own, soft.alpha)
    right: dict[str, Right | list[Right]] = {
        "no examples": own.test.answered(model),
        "examples": own.shown.answered(model),
        "soft": soft.right,
        **hard,
    }
    if not content:
        right["one prompt"] = learn(task_embedding(model, own.single)).right
        return TriedMix(alpha=soft.alpha, right=right, numbers={})
    noise = scrambled(own.embedding, seed=seeds[0])
    random = learn(noise)
    right["random vectors"] = random.right
    right |= _other_content(model, own, unlike(drawn, i), soft.alpha, noise)
    ends = {
        "near ends": soft.near_ends(),
        "near ends, random vectors": random.near_ends(),
        "near ends, kept mix": soft.near_ends(kept=True),
    }
    grids = {"alpha": soft.alpha, "alpha, random vectors": random.alpha, "effects": effects}
    return TriedMix(
        alpha=soft.alpha,
        right=right,
        numbers=ends | {name: grid.cpu().numpy().tolist() for name, grid in grids.items()},
    )


def accuracy_of_mixes(
    model: TransformerBridge, mixes: Sequence[Mix], drawn: Sequence[Prompts]
) -> Float[np.ndarray, "mix task"]:
    """Say how many of each task's test questions are answered rightly with its own embedding under every mix."""
    edits = [[(own.test, injection(own.embedding, mix)) for own in drawn] for mix in mixes]
    return np.array([[test.answered(model, edit).mean() for test, edit in row] for row in edits])


def transfer_cost(
    accuracy: Float[np.ndarray, "mix task"], groups: Sequence[int]
) -> tuple[Float[np.ndarray, "mix task"], float, float]:
    """Say how many right answers another task's mix costs, between similar and between dissimilar tasks.

    Args:
        accuracy: Of every task under every mix (`accuracy_of_mixes`).
        groups: Tasks of one number are similar.

    Returns:
        What is lost for every mix and task, as a share of the answers, above 0 where it is worse than the own one; its
        means between similar and between dissimilar tasks.

    Example:
        >>> accuracy = np.array([[1.0, 0.9, 0.5], [0.8, 1.0, 0.5], [0.25, 0.25, 1.0]])
        >>> [round(cost, 3) for cost in transfer_cost(accuracy, [0, 0, 1])[1:]]
        [0.15, 0.625]
    """
    lost = np.diag(accuracy)[None] - accuracy
    return lost, *within_and_between(lost, groups)
