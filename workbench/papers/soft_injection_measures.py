"""What is measured for one task of the soft-injection replication, and the exchange of mixes between tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial, prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from workbench.circuits.verdicts.statistics import RESAMPLES, Interval, equal_interval, resamples
from workbench.core.claims import Rows
from workbench.core.errors import TaskError
from workbench.edits.questions import Questions, losses, right_answers
from workbench.edits.soft_injection import (
    SoftMix,
    function_vector,
    hardest,
    injection,
    learn_mix,
    mix_loss,
    near_ends,
    single_effects,
    task_embedding,
    vector_added,
)
from workbench.papers.soft_injection_prompts import Prompts, right_with, scrambled

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HARD = (1, 2, 4, 8, 16)  # heads to choose from for the hard choice
VECTOR = 4  # heads in a function vector


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One task's numbers.

    Attributes:
        right: Condition -> whether each test prompt was answered rightly.
        alpha: The learned mix; ``alpha_random`` is the one learned for random vectors.
        effects: Of single heads, in nats.
        near_ends: Share of alphas within 0.1 of 0 or 1 after the last step; ``near_ends_best`` of the mix that is kept.
        n_hard: Heads in the hard choice.
    """

    right: Mapping[str, np.ndarray]
    alpha: Float[np.ndarray, "layer head"]
    alpha_random: Float[np.ndarray, "layer head"]
    effects: Float[np.ndarray, "layer head"]
    near_ends: float
    near_ends_best: float
    near_ends_random: float
    n_hard: int

    def to_dict(self) -> dict[str, Any]:
        accuracy = {name: float(values.mean()) for name, values in self.right.items()}
        return {"accuracy": accuracy, "alpha": self.alpha.tolist(), "effects": self.effects.tolist()}


def measure_task(
    model: TransformerBridge,
    prompts: Prompts,
    other: Prompts,
    *,
    steps: int,
    batch: int,
    seed: int,
    competitors: bool = False,
) -> Measured:
    """Learn a mix and ask the test questions under it and everything it is compared with.

    Args:
        competitors: Only what competes: a mix learned for a single prompt's embedding instead of the controls with
            random vectors and other tasks.
    """
    options = SoftMix(steps=steps, batch=batch, every=max(1, steps // 4))
    t, test = prompts.embedding, prompts.test

    def learned(embedding):
        return learn_mix(
            model,
            embedding,
            training=prompts.training,
            validation=prompts.validation,
            options=options,
            seed=seed,
        )

    mix = learned(t)
    alpha = mix.alpha
    effects = single_effects(model, t, prompts.training.subset(range(min(16, len(prompts.training)))))
    k, hard = _hard(model, prompts, effects)
    one = task_embedding(model, prompts.single)
    own = learned(one).alpha if competitors else alpha
    right = {
        "no examples": right_answers(model, test),
        "examples": right_answers(model, prompts.shown),
        "soft": right_with(model, injection(t, alpha), test),
        "one prompt": right_with(model, injection(one, own), test),
        "open heads only": right_with(model, injection(t, (alpha > 0.5).to(t)), test),
        "hard heads": right_with(model, injection(t, hard), test),
        "function vector": _with_vector(model, prompts, effects),
    }
    random, ends = alpha.new_full(alpha.shape, 0.5), 0.0
    if not competitors:
        noise = scrambled(t, seed=seed)
        found = learned(noise)
        random, ends = found.alpha, near_ends(found.last)
        right |= {
            "random vectors": right_with(model, injection(noise, random), test),
            "same mix, random vectors": right_with(model, injection(noise, alpha), test),
            "unrelated examples": right_answers(model, other.shown),
            "unrelated examples, injected": right_with(model, injection(t, alpha), other.shown),
        }
        right |= _other(model, prompts, other, alpha)
    return Measured(
        right={name: values.numpy() for name, values in right.items()},
        alpha=alpha.cpu().numpy(),
        alpha_random=random.cpu().numpy(),
        effects=effects.cpu().numpy(),
        near_ends=near_ends(mix.last),
        near_ends_best=near_ends(alpha),
        near_ends_random=ends,
        n_hard=k,
    )


def _hard(model: TransformerBridge, prompts: Prompts, effects: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The number of heads with the largest single effects that does best on validation prompts, and the choice."""
    choices = {k: hardest(effects, k) for k in HARD if k <= effects.numel()}
    best = min(choices, key=lambda k: mix_loss(model, prompts.embedding, choices[k], prompts.validation))
    return best, choices[best]


def _with_vector(model: TransformerBridge, prompts: Prompts, effects: torch.Tensor) -> torch.Tensor:
    """Answers with the function vector of the best heads, added in the layer that is best on validation prompts."""
    order = effects.flatten().argsort(descending=True, stable=True)[:VECTOR].tolist()
    n_heads = effects.shape[1]
    vector = function_vector(model, prompts.embedding, [divmod(i, n_heads) for i in order])

    def lost(layer: int) -> float:
        with vector_added(model, vector, layer=layer):
            return float(losses(model, prompts.validation).mean())

    best = min(range(effects.shape[0]), key=lost)
    with vector_added(model, vector, layer=best):
        return right_answers(model, prompts.test)


def _other(
    model: TransformerBridge, prompts: Prompts, other: Prompts, alpha: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The own questions under another task's embedding: answered as the own task wants, or as the other would."""
    edit = injection(other.embedding, alpha)
    found = {"other task": right_with(model, edit, prompts.test)}
    wanted = [_as_other(prompts, other, i) for i in range(len(prompts.test))]
    kept = [i for i, answer in enumerate(wanted) if answer is not None]
    if not kept:
        return found
    ids = [int(model.to_tokens(f"{prompts.words[i]} {wanted[i]}")[0][-1]) for i in kept]
    asked = Questions(rows=tuple(prompts.test.rows[i] for i in kept), answers=tuple(ids))
    return found | {"other task's answer": right_with(model, edit, asked)}


def _as_other(prompts: Prompts, other: Prompts, i: int) -> str | None:
    """What the other task's kind of word would be for this question; None where it cannot be said."""
    try:
        return prompts.task.turned(other.task.gives, prompts.words[i])
    except TaskError:
        return None


# -- exchange -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Transfer:
    """Accuracy of every task's questions and embedding under every task's mix, and what that costs.

    Attributes:
        accuracy: (mix learned for, embedding and questions of).
        alike: Whether two tasks are similar; similar tasks form groups.
    """

    names: tuple[str, ...]
    accuracy: Float[np.ndarray, "mix task"]
    alike: Bool[np.ndarray, "mix task"]

    @property
    def lost(self) -> Float[np.ndarray, "mix task"]:
        """Accuracy lost to another task's mix."""
        return np.diag(self.accuracy)[None] - self.accuracy

    @property
    def similar(self) -> Float[np.ndarray, " pair"]:
        """What is lost, for each ordered pair of similar tasks."""
        return self.lost[self.alike & ~np.eye(len(self.alike), dtype=bool)]

    @property
    def dissimilar(self) -> Float[np.ndarray, " pair"]:
        """What is lost, for each ordered pair of dissimilar tasks."""
        return self.lost[~self.alike]

    @property
    def groupings(self) -> int:
        """In how many ways as many groups of the same sizes can be made of these tasks; ``1 / groupings`` is the
        smallest p that there can be."""
        sizes = [int(row.sum()) for row in np.unique(self.alike, axis=0)]
        same = prod(factorial(size) for size in sizes) * prod(factorial(n) for n in Counter(sizes).values())
        return factorial(len(self.alike)) // same

    def p(self, seed: int, *, draws: int = 4000) -> float:
        """Probability of a difference as large when it is drawn at random which tasks are similar.

        Tasks are permuted, not pairs: the pairs of one task share its embedding or its mix. Up to seven tasks every
        permutation counts, beyond that ``draws`` of them.
        """
        n, lost, own = len(self.alike), self.lost, np.eye(len(self.alike), dtype=bool)
        if n <= 7:
            orders = np.array(list(permutations(range(n))))
        else:
            rng = np.random.default_rng(seed)
            orders = np.stack([np.arange(n), *(rng.permutation(n) for _ in range(draws))])
        alike = self.alike[orders[:, :, None], orders[:, None, :]]
        near, far = alike & ~own, ~alike
        seen = (lost * far).sum((1, 2)) / far.sum((1, 2)) - (lost * near).sum((1, 2)) / near.sum((1, 2))
        return float((seen >= seen[0] - 1e-12).mean())  # the first order is the one that was measured

    def rows(self) -> Rows:
        return [
            {"mix learned for": name, **dict(zip(self.names, row.tolist(), strict=True))}
            for name, row in zip(self.names, self.accuracy, strict=True)
        ]


def transfer(
    model: TransformerBridge, prompts: Mapping[str, Prompts], mixes: Mapping[str, np.ndarray]
) -> Transfer:
    """Ask every task's test questions with its own embedding under every task's mix."""
    names = tuple(prompts)
    accuracy = np.zeros((len(names), len(names)))
    for j, task in enumerate(names):
        own = prompts[task]
        for i, name in enumerate(names):
            edit = injection(own.embedding, torch.from_numpy(mixes[name]).to(own.embedding))
            accuracy[i, j] = right_with(model, edit, own.test).float().mean()
    alike = [[prompts[here].task.similar(prompts[there].task) for there in names] for here in names]
    return Transfer(names=names, accuracy=accuracy, alike=np.array(alike))


# -- uncertainty --------------------------------------------------------------------------------------------


def crossed_interval(
    rows: Sequence[np.ndarray],
    *,
    within: tuple[float, float] | None = None,
    draws: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of a mean over tasks and questions; tasks and places of questions are both drawn with replacement.

    Answers of one task depend on its one embedding and mix, answers about one place on its words: neither are
    independent draws.

    Args:
        rows: One value per question for each task; the same places in the same order. A shorter one is padded.
        within: What the values can be. If all are equal, the interval is that of as many independent draws as there
            are tasks or places, whichever are fewer (``equal_interval``).
    """
    longest = max(map(len, rows))
    table = np.full((len(rows), longest), np.nan)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    if within is not None and np.nanmax(table) - np.nanmin(table) <= 1e-9:
        return equal_interval(float(np.nanmin(table)), min(len(rows), longest), within=within)
    tasks = _counts(len(rows), draws, seed)
    places = _counts(longest, draws, seed + 1)
    there = np.isfinite(table)
    total = np.einsum("dt,tp,dp->d", tasks, np.where(there, table, 0.0), places)
    means = total / np.maximum(1, np.einsum("dt,tp,dp->d", tasks, there.astype(float), places))
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high), float(means.std(ddof=1)))


def _counts(n: int, draws: int, seed: int) -> Float[np.ndarray, "draw n"]:
    """How often each of ``n`` is drawn."""
    drawn = resamples(n, draws=draws, seed=seed)
    return np.stack([(drawn == i).sum(1) for i in range(n)], axis=1).astype(float)
