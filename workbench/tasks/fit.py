"""Pairs of a task in the form that a tokenizer can align."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from workbench.core.errors import TaskError
from workbench.tasks.alignment import AlignedPairs, align, too_few
from workbench.tasks.outputs import ANY_TOKEN, Outputs
from workbench.tasks.pairs import Pairs
from workbench.tasks.pictures.sight import Sight
from workbench.tasks.registry import Option, get_task, make_pairs
from workbench.tasks.two_answers import WholeAnswers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_PAIRS = 64  # of a task by name, where nobody says how many


def fit_pairs(
    name: str,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    prepend_bos: bool,
    n_ctx: int | None = None,
    special_tokens: bool = False,
    d_vocab: int | None = None,
    other_inputs: Mapping[int, str] = MappingProxyType({}),
    outputs: Outputs = ANY_TOKEN,
    sight: Sight | None = None,
    whole_answers: WholeAnswers = False,
    chat: bool = False,
    minimum: int = 1,
    n: int = 100,
    seed: int = 0,
    split: str = "test",
    corruption: str | None = None,
    **options: Option,
) -> AlignedPairs:
    """Make pairs of a task and align them, in the first form of the task of which at least half align.

    Only options that depend on the tokenizer (``Task.alternatives``) and that the caller leaves open are
    tried; the one taken is recorded in ``.pairs.options``. Where no form reaches half, the best one is
    taken.

    Raises:
        TaskError: if fewer than ``minimum`` pairs align in every form, naming the words at fault; if the task's
            answers are words and the model puts out classes.
    """
    open_options = {key: values for key, values in get_task(name).alternatives.items() if key not in options}
    found: list[AlignedPairs] = []
    for values in product(*open_options.values()):
        form: dict[str, Any] = options | dict(zip(open_options, values, strict=True))
        pairs = make_pairs(name, n=n, seed=seed, split=split, corruption=corruption, **form)
        if outputs.classes:
            _require_classes(pairs, outputs)
        found.append(
            align(
                pairs,
                tokenizer,
                prepend_bos=prepend_bos,
                n_ctx=n_ctx,
                special_tokens=special_tokens,
                d_vocab=d_vocab,
                other_inputs=other_inputs,
                outputs=outputs,
                sight=sight,
                whole_answers=whole_answers,
                chat=chat,
                minimum=0,
            )
        )
        if 2 * len(found[-1]) >= len(pairs):
            break
    best = max(found, key=len)  # the first of those
    if len(best) >= minimum:
        return best
    problem = too_few(best, minimum, hint=_instead(best))
    tried = "; ".join(f"{key} {', '.join(map(str, values))}" for key, values in open_options.items())
    raise TaskError(f"{problem.message}\n  tried: {tried}", hint=problem.hint) if tried else problem


def _instead(found: AlignedPairs) -> str:
    """What to take in place of a task whose pairs do not fit the model."""
    if "picture" in found.reasons:
        return (
            "take a model that reads such pictures, -m zoo:vlm or -m zoo:marked, or a task of words: -t ioi"
        )
    if "unknown" in found.reasons:
        return "take a model whose tokenizer knows these words, or another task: workbench task list"
    return "take another task or tokenizer, or ask for more pairs: -n 64"


def _require_classes(pairs: Pairs, outputs: Outputs) -> None:
    """Refuse a task none of whose answers is a class of the model."""
    answers = dict.fromkeys(answer for pair in pairs for answer in (*pair.correct, *pair.incorrect))
    if answers and all(outputs.index(answer) is None for answer in answers):
        asked = ", ".join(repr(answer) for answer in list(answers)[:3])
        raise TaskError(
            f"the answers of task {pairs.task!r} are words ({asked} ...), and this model puts out no words but "
            f"{outputs.describe()}",
            hint="write pairs whose answers are class names (docs/pairs-format.md): -t my-pairs.jsonl",
        )
