"""What a bench is asked: which methods, with which options, on which models and tasks. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from workbench.core.errors import OptionError, check_numbers, expect_once, unknown
from workbench.methods.registry import METHODS, get_method
from workbench.model.builtin import locate
from workbench.model.known_circuits import load_truth
from workbench.tasks import registry as tasks_registry

Level = Literal["edge", "node"]

# The shares of MIB, Mueller et al. 2025, arXiv:2504.13151: CPR and CMD are areas over this grid, linear in the share.
GRID = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SHOWN = (0.01, 0.02, 0.05, 0.1)
STABLE_SHARE = 0.05  # of all edges: the size at which circuits of other pairs are compared
TASKS = (
    "zoo:ioi/ioi",
    "zoo:ioi/gendered-pronoun",
    "zoo:ioi/sva",
    "zoo:ioi/greater-than",
    "zoo:induction/induction",
    "zoo:kv/kv-retrieval",
)
QUICK_TASKS = ("zoo:ioi/ioi", "zoo:induction/induction")
QUICK_PASSES = 600


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method with chosen options: one row of the table."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``eap-ig`` or ``eap-ig:steps=20``."""
        chosen = (f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in self.options.items())
        return ":".join([self.method, *chosen])


def parse_variant(text: str) -> Variant:
    """Return ``method`` or ``method:option=value:option=value``; values are read as JSON where they can be.

    Raises:
        OptionError: for an unknown method or option, or a part without ``=``.

    Example:
        >>> parse_variant("eap-ig:steps=20").options
        {'steps': 20}
    """
    name, *parts = text.strip().split(":")
    chosen: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise OptionError(f"cannot read {part!r} of {text!r}", hint=f"write {name}:option=value")
        expect_once(key, chosen)
        try:
            chosen[key] = json.loads(value)
        except ValueError:
            chosen[key] = value
    get_method(name).make_options(**chosen)
    return Variant(method=name, options=chosen)


@dataclass(frozen=True, kw_only=True)
class TrainedTask:
    """A trained model and a task of it, written ``zoo:ioi/ioi`` or with a corruption ``zoo:ioi/ioi/abc``."""

    model: str
    task: str
    corruption: str | None = None

    @property
    def label(self) -> str:
        return "/".join(filter(None, (self.model, self.task, self.corruption)))


def parse_task(text: str) -> TrainedTask:
    """Read ``MODEL/TASK`` or ``MODEL/TASK/CORRUPTION``; the model is built in or a directory.

    Raises:
        OptionError: if there is no task in it.
    """
    known = set(tasks_registry.TASKS)
    model, _, last = text.strip().rpartition("/")
    if last in known and model:
        return TrainedTask(model=model, task=last)
    shorter, _, task = model.rpartition("/")
    if task in known and shorter:
        return TrainedTask(model=shorter, task=task, corruption=last)
    if model:
        raise unknown("task", last, known, error=OptionError)
    raise OptionError(f"cannot read {text!r} as a model and a task", hint="for example zoo:ioi/ioi")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a bench.

    Attributes:
        methods: Rows; all registered methods with their own options when empty.
        truths: Names of models with a known circuit; all built-in ones when None.
        tasks: Trained models and tasks, ``MODEL/TASK``.
        n_truth: Pairs on models with a known circuit; scores and labels need no split.
        n_task: Pairs on trained tasks, each of the train split (scores) and the test split (faithfulness).
        noise: Most noise in the weights of models with a known circuit (``add_noise``); it is halved until the task
            is done as before. With 0 an edge outside the circuit does exactly nothing, and any score but 0 finds
            the circuit.
        seeds: Draws of pairs whose circuits are compared, and seeds of methods that have one.
        repeat_passes: A method of more passes per batch is not scored again on other pairs, nor with other seeds on
            known circuits.
        most_passes: A method that takes more passes per batch is left out, with that reason; None for no limit.

    Example:
        >>> import workbench as wb
        >>> wb.BenchSettings(methods=("eap",)).methods
        ('eap',)
    """

    methods: tuple[str, ...] = ()
    truths: tuple[str, ...] | None = None
    tasks: tuple[str, ...] = TASKS
    levels: tuple[Level, ...] = ("edge", "node")
    n_truth: int = 24
    n_task: int = 32
    noise: float = 0.01
    seeds: int = 3
    seed: int = 0
    repeat_passes: int = 300
    most_passes: int | None = None

    def __post_init__(self) -> None:
        check_numbers({name: value for name, value in vars(self).items() if isinstance(value, int | float)})
        for name in ("n_truth", "n_task"):
            if getattr(self, name) < 2:
                raise OptionError(
                    f"{name} is {getattr(self, name)}; at least 2 pairs are needed", hint=f"{name}=24"
                )
        if self.seeds < 1:
            raise OptionError(f"seeds is {self.seeds}; at least 1 is needed", hint="seeds=3")

    def check_names(self) -> None:
        """Do nothing if all methods, options, models and tasks are there; nothing is loaded for it.

        Raises:
            WorkbenchError: for the first that is not, with the closest spellings.
        """
        self.variants()
        for name in self.truths or ():
            load_truth(name)
        for task in self.parsed_tasks():
            locate(task.model)

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """One seed for every draw of pairs."""
        return tuple(self.seed + k for k in range(self.seeds))

    def variants(self) -> tuple[Variant, ...]:
        """Return the rows, in the order asked; ``all`` stands for every method, and one asked for twice is one row."""
        texts = [
            name
            for text in self.methods or ("all",)
            for name in ([name for name, _ in METHODS.items()] if text == "all" else (text,))
        ]
        found = [parse_variant(text) for text in texts]
        return tuple({variant.label: variant for variant in found}.values())

    def parsed_tasks(self) -> tuple[TrainedTask, ...]:
        return tuple(parse_task(text) for text in self.tasks)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def settings_of(
    *,
    methods: Sequence[str] = (),
    truths: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    levels: Sequence[Level] = ("edge", "node"),
    quick: bool = False,
    pairs: int | None = None,
    noise: float | None = None,
    seed: int = 0,
    **sizes: int | None,
) -> Settings:
    """Say what the options of a command ask for; None is the default.

    Args:
        pairs: On each model and task, for ``n_truth`` and ``n_task``.
        sizes: ``seeds``, ``n_truth``, ``n_task``, ``repeat_passes``, ``most_passes``.

    Raises:
        OptionError: for names that do not exist.
    """
    for level in levels:
        if level not in ("edge", "node"):
            raise OptionError(f"no level called {level!r}", hint="--levels edge,node")
    if not levels:
        raise OptionError("no level is chosen", hint="--levels edge,node")
    settings = Settings(
        methods=tuple(methods),
        truths=None if truths is None else tuple(truths),
        tasks=TASKS if tasks is None else tuple(tasks),
        levels=tuple(levels),
        seed=seed,
    )
    if noise is not None and not 0 <= noise < 1:
        raise OptionError(f"noise is {noise}; expected a share from 0 to 1", hint="--noise 0.01")
    settings = quickened(settings) if quick else settings
    asked = {name: value for name, value in sizes.items() if value is not None}
    given: dict[str, Any] = {"n_truth": pairs, "n_task": pairs, "noise": noise, **asked}
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    settings.check_names()
    settings.variants()
    return settings


def quickened(settings: Settings) -> Settings:
    """Return a bench of two minutes: fewer pairs and tasks, one seed, no method of more than a few hundred passes."""
    return replace(
        settings,
        tasks=QUICK_TASKS if settings.tasks == TASKS else settings.tasks,
        n_truth=min(settings.n_truth, 12),
        n_task=min(settings.n_task, 16),
        seeds=1,
        most_passes=QUICK_PASSES if settings.most_passes is None else settings.most_passes,
    )
