"""What every job that opens a model is asked: the model, the task, the metric, how it is opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.circuits.addresses import VISION, Node, parse_node
from workbench.core.bounds import exists, expanded
from workbench.core.errors import ModelError, OptionError, TaskError, check_numbers, unknown
from workbench.engine.interventions.site import check_index, check_layer
from workbench.engine.metric_names import check_metric
from workbench.model import builtin as zoo
from workbench.model.outline import Outline, outline
from workbench.model.settings import BATCH_TOKENS, check_device, check_dtype, check_map, parse_size
from workbench.tasks.pairs_file import load_pairs
from workbench.tasks.reading import is_file
from workbench.tasks.registry import SPLITS, Option, check_corruption, get_task, parse_options

if TYPE_CHECKING:
    from workbench.commands.forms.discover import Demo
    from workbench.commands.forms.survey import SurveyModel
    from workbench.core.job import Job
    from workbench.engine.metrics import Metric
    from workbench.engine.room import Work


BOS = {"on": True, "off": False}


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a job opens: a model, pairs of a task for it, and how much of them goes through it at once.

    A model without pairs has no task. What is None is not asked for.

    Attributes:
        options: Of the task, in its own types.
        task_options: The same as ``name=value`` texts; they come first.
        max_memory: Most memory of the whole process, "4GB" or bytes: passes are made as small as it needs.
        work: What the runs are for, which decides how much a pass keeps.
        by_model: Some passes may go through the hooked model whatever its blocks are; it keeps more.
        in_tower: Interventions may begin in a tower; its activations then count for every stacked copy.
        with_tower: Edges cross from the tower that sees to the language model, or are of two towers that meet.
        bos: ``on`` or ``off``: whether a token that starts a prompt comes first; None is as the model reads.
        chat: Prompts are put into the model's chat template.
    """

    model: str | None = None
    task: str | None = None
    metric: str | Metric | None = None
    limit: int | None = None
    split: str = "test"
    corruption: str | None = None
    seed: int = 0
    options: Mapping[str, Any] | None = None
    task_options: Sequence[str] = ()
    batch_tokens: int = BATCH_TOKENS
    device: str | None = None
    device_map: str | None = None
    dtype: str = "float32"
    revision: str | None = None
    offline: bool | None = None
    trust_remote_code: bool = False
    max_memory: int | str | None = None
    work: Work = "nodes"
    by_model: bool = True
    in_tower: bool = False
    with_tower: bool = False
    bos: str | None = None
    chat: bool = False

    def check(self) -> None:
        """Do nothing if all of this is there and can be meant.

        Raises:
            WorkbenchError: for the first that is not, with the closest spellings.
        """
        check_numbers({"limit": self.limit, "seed": self.seed, "batch_tokens": self.batch_tokens})
        if self.task is not None:
            check_task(self.task, split=self.split, corruption=self.corruption)
            chosen_options(self.task, self.task_options)
        if isinstance(self.metric, str):
            check_metric(self.metric)
        bos_of(self.bos)
        check_dtype(self.dtype)
        check_device(self.device)
        check_map(self.device_map, self.device)
        if self.max_memory is not None:
            parse_size(self.max_memory)
        if self.model is not None:
            check_model(self.model, offline=self.offline, revision=self.revision)

    @property
    def manner(self) -> dict[str, Any]:
        """How prompts become tokens, where that is not as usual."""
        return {"bos": bos_of(self.bos), "chat": self.chat}

    @property
    def place(self) -> dict[str, Any]:
        """Where the weights go, and as which numbers."""
        names = ("device", "device_map", "dtype", "max_memory")
        return {name: getattr(self, name) for name in names}

    @property
    def origin(self) -> dict[str, Any]:
        """Where the model is from, and whether its code runs."""
        whose = {"revision": self.revision, "trust_remote_code": self.trust_remote_code}
        return {**whose, "offline": self.offline or None}

    def chosen(self) -> dict[str, Any]:
        """Return the options of the task, those typed before those given."""
        return {**(self.options or {}), **chosen_options(str(self.task), self.task_options)}


def bos_of(word: str | None) -> bool | None:
    """Return what ``--bos`` says: on, off, or nothing.

    Raises:
        OptionError: for another word.
    """
    if word is not None and word not in BOS:
        raise unknown("--bos", word, BOS, error=OptionError)
    return None if word is None else BOS[word]


def check_opening(**asked: Any) -> None:
    """Do nothing if all that an `Opening` has of this is there and can be meant.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    Opening(**asked).check()


def check_model(name: str, *, offline: bool | None = None, revision: str | None = None) -> None:
    """Do nothing if a built-in model, a directory or, without a network, a Hub model of the cache has this name.

    Raises:
        ModelError: if not. With a network the Hub is asked when the model is opened.
        OptionError: for a revision of a model that has none.
    """
    if revision is not None and zoo.locate(name).directory is not None:
        raise OptionError(
            f"--revision {revision} is a branch, tag or commit of a Hub model; {name} is none",
            hint="leave out --revision",
        )
    if zoo.locate(name).directory is None:
        from workbench.model import hub  # a third of a second

        if hub.is_offline(offline or None):
            hub.fetch(name, revision=revision, offline=True, code=False)


def check_task(task: str, *, split: str = "test", corruption: str | None = None) -> None:
    """Do nothing if there is such a task, with this split and corruption, or such a file.

    Raises:
        TaskError: for a task or a file that is not there.
        OptionError: for another split or corruption.
    """
    if is_file(task):
        if not exists(expanded(task, error=TaskError)):
            load_pairs(Path(task))  # says so in its own words
        return
    found = get_task(task)
    if split not in SPLITS:
        raise unknown("split", str(split), SPLITS, error=OptionError)
    check_corruption(found, corruption)


def chosen_options(task: str, texts: Sequence[str]) -> dict[str, Option]:
    """Return options of a task from ``name=value`` texts, each in the type of its default.

    Raises:
        OptionError: for an unknown option or another type; for a file of pairs, which has none.
    """
    if not texts:
        return {}
    if is_file(task):
        raise OptionError(
            f"{task} is a file: its pairs are as they are, without --task-option",
            hint=f"leave out --task-option, or make other pairs: workbench task make TASK -o {task}",
        )
    return parse_options(get_task(task), texts)


def check_asked(asked: Demo, job: Job) -> None:
    """Do nothing if the model is there.

    Raises:
        ModelError: if it is not, with the closest spellings.
    """
    check_opening(model=asked.model, limit=asked.limit, seed=asked.seed, **asked.opening())


def check_survey(asked: SurveyModel, job: Job) -> None:
    """Do nothing if the model, the task and the words are there.

    Raises:
        WorkbenchError: for the first that is not, with the closest spellings.
    """
    check_opening(**asked.on_pairs())


def check_files(files: Iterable[str | Path]) -> None:
    """Do nothing if all these files are there.

    Raises:
        ModelError: for the first that is not.
    """
    for file in files:
        if not exists(file):
            raise ModelError(f"no file {file}", hint="check the spelling and the folder you are in")


def check_positions(task: str, positions: Iterable[str]) -> None:
    """Do nothing if a task names these positions in some pair; numbers are positions of any task.

    Raises:
        OptionError: for a name that no pair of the task has.
    """
    if is_file(task):
        return
    found = get_task(task)
    if found.pictures:  # the regions of its pictures are known when they are drawn
        return
    known = (*found.positions, "end", "each")
    for position in positions:
        if not position.isdecimal() and position not in known:
            raise OptionError(
                f"task {task!r} has no position called {position!r}",
                hint=f"positions of this task: {', '.join(known)}, or a number",
            )


def check_addresses(addresses: Sequence[str], model: str, *, offline: bool | None = None) -> None:
    """Do nothing if these are addresses, and the model has such layers and heads as far as its configuration says.

    Raises:
        NameFormatError: for what is no address.
        ModelError: for a layer or head that the model does not have.
    """
    nodes = [parse_node(address, towers=True) for address in addresses]
    if not nodes or (shape := shape_of(model, offline=offline)) is None:
        return
    for node in nodes:
        _check_there(node, shape.of(node.tower))


def check_tower(model: str, *, offline: bool | None = None) -> None:
    """Do nothing if a model has a tower for pictures, as far as its configuration says.

    Raises:
        ModelError: if it has none.
    """
    shape = shape_of(model, offline=offline)
    if shape is not None and VISION not in shape.towers:
        able = [f"{zoo.PREFIX}{name}" for name in zoo.names()]
        able = [name for name in able if (found := shape_of(name)) is not None and VISION in found.towers]
        raise ModelError(
            f"{model} has no tower for pictures beside a language model or a tower for captions",
            hint=f"leave out --with-tower; built-in models that have one: {', '.join(able)}",
        )


def _check_there(node: Node, shape: Outline) -> None:
    check_layer(node, shape.n_layers)
    if node.kind == "head":
        check_index(node, shape.n_heads)


def shape_of(model: str, *, offline: bool | None = None) -> Outline | None:
    """Return layers and heads by the configuration of a model that is on this machine; None where it does not say."""
    if zoo.locate(model).directory is None:
        return None
    try:
        return outline(model, offline=offline, sizes=False)
    except ModelError:  # another family's words for layers and heads: known once the model is open
        return None
