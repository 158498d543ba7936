"""What is measured for one task of the soft-injection replication, and the exchange of mixes between tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from transformer_lens.model_bridge import TransformerBridge

from workbench.claims import Rows
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
from workbench.errors import TaskError
from workbench.replications.soft_injection_prompts import Prompts, right_with, scrambled

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
        similar, dissimilar: Accuracy lost to another task's mix, for each ordered pair.
    """

    names: tuple[str, ...]
    accuracy: Float[np.ndarray, "mix task"]
    similar: Float[np.ndarray, "pair"]
    dissimilar: Float[np.ndarray, "pair"]

    def p(self, seed: int, *, draws: int = 2000) -> float:
        """Probability of a difference as large when similar and dissimilar are labels drawn at random."""
        both, n = np.concatenate([self.similar, self.dissimilar]), len(self.similar)
        seen = self.dissimilar.mean() - self.similar.mean()
        rng = np.random.default_rng(seed)
        above = 0
        for _ in range(draws):
            drawn = rng.permutation(both)
            above += bool(drawn[n:].mean() - drawn[:n].mean() >= seen - 1e-12)
        return (1 + above) / (1 + draws)

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
    similar, dissimilar = [], []
    for j, task in enumerate(names):
        own = prompts[task]
        for i, name in enumerate(names):
            edit = injection(own.embedding, torch.from_numpy(mixes[name]).to(own.embedding))
            accuracy[i, j] = right_with(model, edit, own.test).float().mean()
        for i, name in enumerate(names):
            if i != j:
                alike = own.task.similar(prompts[name].task)
                (similar if alike else dissimilar).append(accuracy[j, j] - accuracy[i, j])
    return Transfer(
        names=names, accuracy=accuracy, similar=np.array(similar), dissimilar=np.array(dissimilar)
    )
