"""Tasks by name: what generators exist, what they offer, and making pairs with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count, islice

from workbench.core.errors import OptionError, TaskError, check_numbers, expect_once, unknown
from workbench.core.registry import Registry
from workbench.tasks.draw import PIECES, Draw
from workbench.tasks.pairs import Pair, Pairs

MOST_REPEATS = 2000  # pairs in a row that bring nothing new, from which on there is nothing new
SPLITS = ("train", "validation", "test")

Option = str | int | bool
Generator = Callable[..., Pair]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A registered generator and what it offers.

    Args:
        source: Paper the task comes from.
        metric: Name of its usual metric.
        corruptions: How the corrupted prompt can differ; the first is the default.
        positions: Named positions of its pairs, besides ``end``.
        regions: Named sets of patches of its pictures, besides ``image`` and ``background``; some may be empty.
        describe: One sentence.
        texts: Everything it can write: word lists and templates with the slots blank.
        alternatives: Options whose best value depends on the tokenizer, with the values to try in order
            (see `workbench.tasks.fit`).
        generate: ``(draw, *, split, corruption, **options) -> Pair``.
        pictures: Whether its pairs carry pictures; their words are no part of the `vocabulary`.
    """

    name: str
    source: str
    metric: str
    corruptions: tuple[str, ...]
    positions: tuple[str, ...]
    describe: str
    texts: tuple[str, ...]
    generate: Generator
    alternatives: Mapping[str, tuple[Option, ...]] = field(default_factory=dict)
    pictures: bool = False
    regions: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Option]:
        """Options of the generator and their defaults."""
        parameters = inspect.signature(self.generate).parameters.values()
        return {p.name: p.default for p in parameters if p.default is not p.empty}

    def to_dict(self) -> dict[str, object]:
        """Say what `workbench task list --json` prints."""
        return {
            "name": self.name,
            "describe": self.describe,
            "source": self.source,
            "metric": self.metric,
            "corruptions": list(self.corruptions),
            "positions": [*self.positions, "end"],
            "regions": list(self.regions),
            "options": self.options,
        }


TASKS: Registry[Task] = Registry(
    "task", group="workbench.tasks", holds=lambda made: isinstance(made, Task), error=TaskError
)
for _room in ("workbench.tasks", "workbench.tasks.scenes"):
    TASKS.read(_room, r'^@task\(\s*"([\w-]+)"')


def task(
    name: str,
    *,
    source: str,
    metric: str = "logit-difference",
    corruptions: tuple[str, ...],
    positions: tuple[str, ...],
    describe: str,
    texts: Iterable[str],
    alternatives: Mapping[str, tuple[Option, ...]] | None = None,
    pictures: bool = False,
    regions: tuple[str, ...] = (),
) -> Callable[[Generator], Generator]:
    """Register a generator under a name; it may stand in any module."""

    def register(generate: Generator) -> Generator:
        made = Task(
            name=name,
            source=source,
            metric=metric,
            corruptions=corruptions,
            positions=positions,
            describe=describe,
            texts=tuple(texts),
            generate=generate,
            alternatives=dict(alternatives or {}),
            pictures=pictures,
            regions=regions,
        )
        TASKS.add(name, made, home=generate.__module__)
        return generate

    return register


def list_tasks() -> tuple[Task, ...]:
    """List every task.

    Returns:
        Tasks in the order of their names.

    Example:
        >>> import workbench as wb
        >>> [task.name for task in wb.list_tasks()][:3]
        ['addition', 'brackets', 'colored-objects']
    """
    return tuple(found for _, found in sorted(TASKS.items()))


def get_task(name: str) -> Task:
    """Return the task of this name.

    Raises:
        TaskError: if there is none, with the closest spellings.
    """
    return TASKS.get(name)


def make_pairs(
    name: str,
    *,
    n: int = 100,
    seed: int = 0,
    split: str = "test",
    corruption: str | None = None,
    distinct: bool = True,
    **options: Option,
) -> Pairs:
    """Make ``n`` pairs of a task; the same arguments give the same pairs everywhere.

    The first k of n pairs are the pairs of n = k, and the clean prompts do not depend on the corruption.

    Args:
        split: train, validation or test; they share no combination of answers (see the docs of each task),
            and test also uses templates that the other two never use.
        corruption: One of the task's corruptions; the first when left out.
        distinct: Every clean prompt at most once. Turn it off to draw more than exist (training).
        options: The task's own (``get_task(name).options``).

    Returns:
        ``n`` pairs, or as many different ones as there are, in a fixed order.

    Raises:
        TaskError: for an unknown task, or when fewer than ``n`` distinct prompts can be found.
        OptionError: for any other argument that cannot work.

    Example:
        >>> import workbench as wb
        >>> pairs = wb.make_pairs("ioi", n=2)
        >>> pairs[0].correct
        (' Katie',)
    """
    found = get_task(name)
    corruption = _checked(found, n, seed, split, corruption, options)
    drawn: Iterator[Pair] = (
        found.generate(Draw(f"{name}|{split}|{seed}|{i}"), split=split, corruption=corruption, **options)
        for i in count()
    )
    if distinct:
        drawn = _distinct(drawn, n, f"task {name!r}", split)
    items = (replace(pair, id=f"{name}-{i:04d}") for i, pair in enumerate(islice(drawn, n)))
    return Pairs(
        items=tuple(items),
        task=name,
        split=split,
        seed=seed,
        corruption=corruption,
        metric=found.metric,
        source=found.source,
        options=dict(options),
    )


def _distinct(drawn: Iterator[Pair], n: int, what: str, split: str) -> Iterator[Pair]:
    """The pairs whose clean prompt did not come before.

    Raises:
        TaskError: if ``MOST_REPEATS`` pairs in a row bring nothing new.
    """
    seen: set[tuple[object, ...]] = set()
    repeats = 0
    for pair in drawn:
        prompt = (pair.clean, *((pair.image[0].source, pair.image[0].folder) if pair.image else ()))
        if prompt not in seen:
            repeats = 0
            seen.add(prompt)
            yield pair
            continue
        repeats += 1
        if repeats > MOST_REPEATS:
            raise TaskError(
                f"{what} has only about {len(seen)} distinct prompts in split {split}; {n} asked for",
                hint=f"ask for n={len(seen)} or less, or pass distinct=False",
            )


def _checked(
    found: Task, n: int, seed: int, split: str, corruption: str | None, options: Mapping[str, Option]
) -> str:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise OptionError(f"n is {n!r}; expected a whole number of pairs, at least 1", hint="n=64 (-n 64)")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise OptionError(f"seed is {seed!r}; expected a whole number", hint="seed=0 (--seed 0)")
    check_numbers({"n": n, "seed": seed, **options}, f"task {found.name!r}")
    if split not in SPLITS:
        raise unknown("split", str(split), SPLITS, error=OptionError)
    known = found.options
    for key, value in options.items():
        _check_option(found, key)
        if type(value) is not type(known[key]):
            kind = type(known[key]).__name__
            raise OptionError(
                f"option {key} of task {found.name!r} is {value!r}; expected {kind}",
                hint=f"{key}={known[key]!r} is the default",
            )
    return check_corruption(found, corruption)


def _check_option(found: Task, name: str) -> None:
    if not found.options:
        raise OptionError(
            f"task {found.name!r} has no options; found {name!r}", hint="leave --task-option out"
        )
    if name not in found.options:
        raise unknown(f"option of task {found.name!r}", name, found.options, error=OptionError)


def check_corruption(found: Task, corruption: str | None) -> str:
    """Say how the corrupted prompts of a task are made: as asked, by default the task's first way.

    Raises:
        OptionError: for a corruption that the task does not have.
    """
    corruption = found.corruptions[0] if corruption is None else corruption
    if corruption not in found.corruptions:
        raise unknown(f"corruption of task {found.name!r}", corruption, found.corruptions, error=OptionError)
    return corruption


def parse_options(found: Task, texts: Iterable[str]) -> dict[str, Option]:
    """Return options of a task from ``name=value`` texts, each in the type of its default.

    Raises:
        OptionError: if a text has no ``=``, there is no such option, or a value is not of its type.
    """
    out: dict[str, Option] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"option {text!r} is not NAME=VALUE", hint=f"options: {_defaults(found)}")
        _check_option(found, name)
        expect_once(name, out)
        kind = type(found.options[name])
        try:
            out[name] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            expected = {bool: "true or false", int: "a whole number"}[kind]
            raise OptionError(
                f"option {name} is {value!r}; expected {expected}",
                hint=f"--task-option {name}={found.options[name]}",
            ) from None
    return out


def _defaults(found: Task) -> str:
    return ", ".join(f"{name}={default}" for name, default in found.options.items()) or "none"


def vocabulary() -> list[str]:
    """Return every word and punctuation mark that any task of the workbench about text alone can write, sorted.

    Pieces are what a word-level tokenizer with the pattern ``\\w+|[^\\w\\s]+`` sees.
    """
    return sorted(
        {
            piece
            for found in map(get_task, TASKS.ours())
            if not found.pictures
            for text in found.texts
            for piece in PIECES.findall(text)
        }
    )


def blank(template: str) -> str:
    """Return a template with its slots replaced by spaces, for `Task.texts`."""
    from string import Formatter

    return " ".join(literal for literal, *_ in Formatter().parse(template))
