"""What each replication can be asked: its sizes and thresholds, with their defaults. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from workbench.core.errors import OptionError, check_numbers, unknown
from workbench.edits.kinds import ALPHA, BETA
from workbench.tasks.mappings import SIZE

WORDS = (
    SIZE - 15
)  # for test questions of soft injection: ten places of words are for training, five for validation


@dataclass(frozen=True, kw_only=True)
class CalibrationSizes:
    """Sizes and thresholds.

    Attributes:
        task, templates: Where heads are chosen and accuracy is measured; templates as the task has them.
        beside: Unrelated tasks.
        selection, evaluation: Prompts on which heads are chosen, and on which they are judged.
        alpha, beta: A sink has more than ``alpha / N`` of the attention; ``beta`` of it is left.
        draws: Random sets of heads.
        language: The model of the claim about text.
        windows: Windows of text, half of them to choose heads.
    """

    task: str = "docstring"
    templates: str = "held-out"
    beside: tuple[str, ...] = ("ioi", "greater-than", "colored-objects", "induction")
    selection: int = 200
    evaluation: int = 300
    alpha: float = ALPHA
    beta: float = BETA
    draws: int = 20
    language: str = "zoo:stdlib"
    windows: int = 96
    window: int = 64

    def __post_init__(self) -> None:
        if min(self.selection, self.evaluation, self.windows // 2) < 2 or self.draws < 1:
            raise OptionError("two prompts are the least that has an interval, one draw the least control")


@dataclass(frozen=True, kw_only=True)
class ComponentReuse:
    """Sizes.

    Attributes:
        share, at_least: Heads kept in each round of path patching: 2 % as in the paper, or so many.
        control_tasks: Tasks that IOI should share less with.
        guessing_model: Where the repair is measured if the model itself answers Colored Objects.
        inhibition, negative: Most heads of each kind that are edited.
    """

    rounds: int = 3
    share: float = 0.02
    at_least: int = 2
    n_circuit: int = 32
    n_test: int = 150
    n_objects: int = 3
    shots: int = 1
    control_tasks: tuple[str, ...] = ("sva", "gendered-pronoun", "induction")
    guessing_model: str = "zoo:elimination"
    inhibition: int = 3
    negative: int = 1
    draws: int = 8


@dataclass(frozen=True, kw_only=True)
class LofitSizes:
    """Sizes.

    Attributes:
        tasks: Of ``workbench/edits/unasked.py``; heads chosen for the next one are a control.
        unknown: A rule that the model was never taught, or nothing.
        heads: Numbers of heads; claims are judged at the last, the others are shown beside it (the paper: 3 % of all).
        random: Random choices of heads for each task at the last number; one at the others.
        steps, batch, lr: Of learning offsets.
        scale_steps, scale_lr, penalty: Of learning scales (step 1).
    """

    tasks: tuple[str, ...] = ("animals", "cities", "mixed")
    unknown: str = "next-animal"
    heads: tuple[int, ...] = (1, 4)
    random: int = 4
    steps: int = 50
    batch: int = 16
    lr: float = 0.05
    scale_steps: int = 60
    scale_lr: float = 0.01
    penalty: float = 0.005
    rank: int = 1

    def __post_init__(self) -> None:
        if len(self.tasks) < 2 or not self.heads or min(self.heads) < 1 or self.random < 1:
            raise OptionError("at least two tasks, one head and one random choice of heads are needed")


@dataclass(frozen=True, kw_only=True)
class PreplanSizes:
    """Sizes and thresholds; the paper's where it states them.

    ``grouping`` responses choose the head groups, ``responses`` others are analysed; tokens are swapped at every
    ``stride``-th place (fewer lengths, fewer passes). ``planted`` is a check that
    verdicts can go the other way: ``entropy`` puts the entropy of each token in place of WAAD, ``fai`` puts FAI
    there, ``noise`` puts random numbers in place of FAI.
    """

    grouping: int = 24
    responses: int = 70
    prompt: int = 24
    length: int = 127
    temperature: float = 0.7
    window: int = 10
    low: int = 10
    group: float = 0.3
    share: float = 0.4
    within: int = 1
    rollout: int = 30
    stride: int = 4
    draws: int = 300
    planted: str = "none"

    def __post_init__(self) -> None:
        if self.planted not in ("none", "entropy", "fai", "noise"):
            raise OptionError(f"planted is {self.planted!r}; one of none, entropy, fai, noise")


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Sizes. ``others`` are further models and tasks, as ``model task``; ``bias_free`` a model without biases."""

    task: str = "ioi"
    n_pairs: int = 32
    others: tuple[str, ...] = (
        "zoo:ioi sva",
        "zoo:induction induction",
        "zoo:kv kv-retrieval",
        "zoo:stdlib docstring",
    )
    n_pairs_others: int = 12
    bias_free: str = "zoo:kv kv-retrieval"
    networks: int = 20


@dataclass(frozen=True, kw_only=True)
class RetrievalSizes:
    """Sizes and conditions.

    ``samples`` prompts select the heads, ``evaluated`` others per context test them; ``draws`` sets of matched heads;
    ``cell`` prompts per cell of the needle grid; ``masked`` is what is masked as the top heads: ``retrieval`` heads,
    ``random`` ones or those with the ``lowest`` score (both controls: the causal claims then have to fail).
    """

    samples: int = 60
    evaluated: int = 8
    contexts: tuple[int, ...] = (32, 64, 120, 250, 500)
    depths: tuple[int, ...] = (0, 25, 50, 75, 100)
    cell: int = 3
    draws: int = 40
    values: int = 3
    keys: int = 2
    threshold: float = 0.1
    count: str = "set"
    mode: str = "uniform"
    when: str = "decode"
    masked: str = "retrieval"
    derived: str = "zoo:needle-base"
    other: str = "zoo:needle-other"
    models: tuple[str, ...] = ("zoo:kv", "zoo:induction", "zoo:truth-induction")


@dataclass(frozen=True, kw_only=True)
class SoftInjectionSizes:
    """Sizes.

    Attributes:
        tasks: Of ``workbench/tasks/mappings.py``; tasks that give words of one kind are similar. Seven, since six in
            three pairs can be paired in 15 ways only, too few for a p below 0.05.
        prompts, shots: Of which an embedding is the mean, and examples in each.
        misleading: Probability that an example is of another task, in the second setting.
        steps, batch: Of learning a mix (the paper: 400 of 1).
        test: Prompts for each task; there are eleven words for them, so more would ask some of them twice.
    """

    tasks: tuple[str, ...] = (
        "letter-to-animal",
        "number-to-animal",
        "person-to-city",
        "food-to-city",
        "pick-number",
        "pick-animal",
        "pick-letter",
    )
    prompts: int = 50
    shots: int = 5
    misleading: float = 0.5
    steps: int = 40
    batch: int = 8
    test: int = 11

    def __post_init__(self) -> None:
        if len(self.tasks) < 2 or len(set(self.tasks)) != len(self.tasks):
            raise OptionError(f"{len(self.tasks)} tasks; two or more different ones are needed")
        if not 2 <= self.test <= WORDS:
            raise OptionError(f"{self.test} test prompts for each task; there are {WORDS} words for them")


def options_from(texts: Iterable[str], kind: type, name: str) -> Any:
    """Options of a replication from ``name=value`` texts, each in the type of its default; a list is comma-separated.

    Raises:
        OptionError: for an unknown name, or a value of another type.

    Example:
        >>> @dataclass(frozen=True)
        ... class Sizes:
        ...     pairs: int = 24
        >>> options_from(["pairs=4"], Sizes, "name-decides").pairs
        4
    """
    made = kind()
    for text in texts:
        option, equals, value = text.partition("=")
        if not equals:
            defaults = ", ".join(f"{k}={v}" for k, v in asdict(made).items()) or "none"
            raise OptionError(f"option {text!r} is not NAME=VALUE", hint=f"options: {defaults}")
        known = [f.name for f in fields(kind)]
        if option not in known:
            raise unknown(f"option of {name}", option, known, error=OptionError)
        typed = _typed(option, value, getattr(made, option))
        check_numbers({option: typed}, name)
        made = replace(made, **{option: typed})
    return made


def _typed(name: str, text: str, default: Any) -> Any:
    """A value from text, of the type of the default; a tuple has the type of its first item."""
    if isinstance(default, tuple):
        return tuple(_typed(name, part.strip(), default[0]) for part in text.split(",") if part.strip())
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(default)(text)
    except (KeyError, ValueError):
        words = {bool: "true or false", int: "a whole number", float: "a number"}
        raise OptionError(f"option {name} is {text!r}; expected {words[type(default)]}") from None
