"""Runs of a task on a model: a task by name, a file of pairs, or pairs in memory; and functions that take either."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from workbench.circuits.circuit import Circuit
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError, expect
from workbench.engine.metrics import Metric, get_metric, metric_from_file
from workbench.engine.paired_runs import BATCH_TOKENS, PairedRuns, align_to
from workbench.engine.user_function import MetricFunction
from workbench.model.lens import check_opened, is_bridge
from workbench.model.reading import reading_of_model
from workbench.model.sealed import Sealed
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.fit import N_PAIRS, fit_pairs
from workbench.tasks.in_memory import given_pairs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.reading import is_file
from workbench.tasks.two_answers import WholeAnswers

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Task = str | Path | Pairs | AlignedPairs | Sequence[Pair | Mapping[str, object] | Sequence[str]]
"""A task's name, a ``.jsonl`` file, or pairs in memory: ``Pairs``, or a list of dicts, ``Pair`` or four texts."""

R = TypeVar("R")
_KINDS = {"circuit": Circuit, "scores": Scores}  # what else these functions take
_HINTS = {
    "circuit": "wb.load_circuit(path), or found.circuit of wb.discover(...)",
    "scores": "wb.score(runs, method)",
}
_OPENING = (
    "n",
    "split",
    "corruption",
    "metric",
    "with_tower",
    "seed",
    "bos",
    "chat",
)  # of paired_runs


def paired_runs(
    model: TransformerBridge | Sealed,
    task: Task,
    *,
    n: int | None = None,
    seed: int = 0,
    split: str = "test",
    corruption: str | None = None,
    metric: str | Metric | MetricFunction | None = None,
    batch_tokens: int = BATCH_TOKENS,
    with_tower: bool = False,
    bos: bool | None = None,
    chat: bool = False,
    **options: Any,
) -> PairedRuns:
    """Make runs of a task on a model, in the form its tokenizer can align.

    Args:
        task: A name, a ``.jsonl`` file of pairs, or pairs in memory: ``Pairs``, or a list of dicts with the keys of
            such a file, of ``Pair``, or of four texts (clean, corrupted, correct, incorrect).
        n: Number of pairs; by default 64 of a named task, and all of a file or a list.
        metric: A name, ``file.py:function``, a ``Metric``, or a function of logits and answers that returns one
            value per pair.
        with_tower: Edges and circuits are of the tower that sees and the language model together.
        bos: Whether a token that starts a prompt comes first; by default as the model reads.
        chat: Put every prompt into the model's chat template, as the user's message.

    Returns:
        Runs of aligned pairs, with the metric of both; nothing has been run yet.

    Raises:
        TaskError: if there is no such task or file, or too few pairs align.
        OptionError: if a corruption is asked for of given pairs, which already have theirs; for a wrong type.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=8)
        >>> runs.n_pairs
        8
    """
    if not isinstance(model, Sealed):
        check_opened(model)
    chosen = None if metric is None else get_metric(metric)
    how: dict[str, Any] = {"metric": chosen, "batch_tokens": batch_tokens, "with_tower": with_tower}
    if isinstance(task, AlignedPairs):
        _require_as_read(task, bos=bos, chat=chat)
        return PairedRuns(model, task, **how)
    whole: WholeAnswers = False if chosen is None else chosen.whole_answers
    manner: dict[str, Any] = {"bos": bos, "chat": chat}
    if not isinstance(task, str | Path) or is_file(str(task)):
        if options:
            raise OptionError(
                f"{', '.join(options)}: options are for tasks by name; these pairs are given",
                hint="leave them out, or name a task",
            )
        given = given_pairs(task, n=n, seed=seed, corruption=corruption)
        if chosen is None:
            whole = metric_from_file(given.metric).whole_answers
        return PairedRuns(model, align_to(model, given, whole_answers=whole, **manner), **how)
    reading = reading_of_model(model).asked(whole_answers=whole, **manner)
    aligned = fit_pairs(
        str(task),
        reading.tokenizer,
        **reading.options,
        n=N_PAIRS if n is None else n,
        seed=seed,
        split=split,
        corruption=corruption,
        **options,
    )
    return PairedRuns(model, aligned, **how)


def _require_as_read(pairs: AlignedPairs, *, bos: bool | None, chat: bool) -> None:
    """Do nothing if aligned pairs were read as is asked for."""
    if (bos is not None and bos != pairs.prepend_bos) or (chat and not pairs.chat):
        raise OptionError(
            "bos and chat decide how pairs become tokens; these pairs are tokens already",
            hint="give pairs as text: pairs.pairs",
        )


@overload
def on_a_task(function: Callable[..., R], *, judged_by: str = "") -> Callable[..., R]: ...
@overload
def on_a_task(*, judged_by: str) -> Callable[[Callable[..., R]], Callable[..., R]]: ...
def on_a_task(function: Callable[..., Any] | None = None, *, judged_by: str = "") -> Callable[..., Any]:
    """Let a function of ``runs`` also be called with a model and a task in their place.

    ``ablate(model, "ioi")`` is ``ablate(paired_runs(model, "ioi"))``; n, split, corruption, metric and seed go to
    ``paired_runs``. A function that has a seed of its own gets it too.

    Args:
        judged_by: The parameter with the runs that a result is judged on. With a task by name the function then gets
            the task's train split, and this parameter the test split.
    """
    if function is None:
        return functools.partial(on_a_task, judged_by=judged_by)
    signature = inspect.signature(function)
    others = {name: kind for name, kind in _KINDS.items() if name in signature.parameters}
    place = list(signature.parameters).index("runs")
    routed = [name for name in _OPENING if name not in signature.parameters]
    if any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        routed = [name for name in routed if name != "seed"]  # one of the method's own options

    @functools.wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        for name, kind in others.items():
            at = list(signature.parameters).index(name)
            value = args[at] if len(args) > at else named.get(name)
            if value is not None:
                expect(value, kind, what=f"{function.__name__}: {name}", hint=_HINTS[name])
        given: Any = args[place] if len(args) > place else named.get("runs")
        if isinstance(given, PairedRuns) or (given is None and "runs" not in named and len(args) <= place):
            return function(*args, **named)
        if not is_bridge(given):
            raise OptionError(
                f"{function.__name__}: runs is of type {type(given).__name__}",
                hint=f'give wb.paired_runs(model, "ioi"), or a model and a task: {function.__name__}(model, "ioi")',
            )
        args, task = _without_task(function.__name__, args, named, place)
        opening = {name: named.pop(name) for name in routed if name in named}
        if "seed" in named and "seed" in signature.parameters:
            opening["seed"] = named["seed"]  # of the pairs and of every choice, as on the command line
        if judged_by and isinstance(task, str) and not is_file(task) and named.get(judged_by) is None:
            named[judged_by] = paired_runs(given, task, **{"split": "test"} | opening)
            opening = {"split": "train"} | opening
        runs = paired_runs(given, task, **opening)
        if len(args) > place:
            return function(*args[:place], runs, *args[place + 1 :], **named)
        return function(*args, **{**named, "runs": runs})

    return call


def _without_task(name: str, args: tuple, named: dict[str, Any], place: int) -> tuple[tuple, Task]:
    """The arguments without the task that follows the model, and the task."""
    if len(args) > place + 1:
        return (*args[: place + 1], *args[place + 2 :]), args[place + 1]
    if "task" in named:
        return args, named.pop("task")
    raise OptionError(
        f"{name} has a model and no task", hint=f'{name}(model, "ioi"), or runs: wb.paired_runs(...)'
    )
