"""One command, one frozen dataclass of its options: the command line, the record and the line to type come from it."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from workbench.core.errors import OptionError, RunError, check_numbers, expect_once
from workbench.core.registry import Registry, load

if TYPE_CHECKING:
    from workbench.core.job import Job

# Where an option stands in the help: what it is about, what is the command's own, which pairs, where to, and so on.
ABOUT, OWN, PAIRS, JOB, SPREAD, SIZE, OPENING = range(7)
# What a record may not say: where is written and who is told is decided at the command line.
_HOW = ("out", "root", "resume", "replace", "dry_run", "serving", "progress", "note", "docs")
_WORDS = {
    str: "text",
    Path: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    tuple: "a list of texts",
    Mapping: "an object",
}
C = TypeVar("C", bound="type[Command]")
_HINTS: dict[type[Command], dict[str, Any]] = {}  # of the options of each command


@dataclass(frozen=True, kw_only=True)
class OptionText:
    """How an option is written on the command line.

    Attributes:
        flags: ``("-m", "--model")``; none for what is typed without a flag. ``"--signed/--absolute"`` is a switch
            of two words.
        help: One claim, the same for a flag in all commands; what differs follows it.
        least: The smallest number that can be meant.
        env: The variable of the environment that stands for it.
        metavar: What the help calls the value.
        place: Where it stands in the help.
        recorded: Whether the record of a run has it.
        commas: The values are one word with commas.
        nothing: The word for none of them.
        hidden: The help leaves it out.
        before: Former spellings, which still work and which the help leaves out.
    """

    flags: tuple[str, ...] = ()
    help: str = ""
    least: float | None = None
    env: str = ""
    metavar: str = ""
    place: int = OWN
    recorded: bool = True
    commas: bool = False
    nothing: str = "none"
    hidden: bool = False
    before: tuple[str, ...] = ()


def argument(help: str, *, default: Any = MISSING, **more: Any) -> Any:
    """Declare what is typed without a flag."""
    text = OptionText(help=help, **{"place": ABOUT, **more})
    return field(default=default, metadata={"text": text})


def option(*flags: str, help: str, default: Any = MISSING, **more: Any) -> Any:
    """Declare an option; without a default it has to be given."""
    factory = {"default_factory": default} if isinstance(default, type) else {"default": default}
    return field(**factory, metadata={"text": OptionText(flags=flags, help=help, **more)})


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What is known about a command besides its options.

    Attributes:
        name: As typed after ``workbench``.
        run: ``module:function`` that does it: called with the options and a ``Job``.
        plan: ``module:function`` that says what a dry run would do, without torch where the model is a built-in one;
            without it ``run`` says so.
        check: ``module:function`` that looks for everything that is named, without torch: called with the options.
        offers: Which of ``out``, ``dry_run``, ``resume`` and ``replace`` can be asked for. A command that keeps
            nothing has no ``out`` here; where one writes a file, the path is an option of its own.
        out: What the help says of ``--out`` after its claim.
        out_default: Where is written when nothing is said.
        resumes: Whether finished parts are kept, so that a killed run goes on.
        retired: Options of earlier versions that decide nothing any more: records may have them.
        hidden: The list of commands leaves it out.
    """

    name: str
    run: str = ""
    plan: str = ""
    check: str = ""
    offers: tuple[str, ...] = ("out",)
    out: str = "Default: a folder of its own."
    out_default: Path | None = None
    resumes: bool = False
    retired: tuple[str, ...] = ()
    hidden: bool = False

    def carried_out(self, job: Job) -> str:
        """Say which ``module:function`` carries it out."""
        return self.plan if job.dry_run and self.plan else self.run

    @property
    def keeps(self) -> bool:
        """Whether runs of it are kept with a record, from which they can be repeated."""
        return "out" in self.offers


def command(name: str, **more: Any) -> Callable[[C], C]:
    """Register a frozen dataclass of options as a command.

    Args:
        more: Of `Declared`. A class with ``check`` and ``run`` of its own needs neither there.
    """

    def keep(cls: C) -> C:
        cls.declared = Declared(name=name, **more)
        COMMANDS.add(name, cls, home=cls.__module__)
        return cls

    return keep


@dataclass(frozen=True, kw_only=True)
class Command:
    """The options of a command. A subclass is a frozen dataclass; its docstring is the help."""

    declared: ClassVar[Declared]

    def check(self, job: Job) -> None:
        """Do nothing if all that is named is there; nothing heavy is loaded.

        Raises:
            WorkbenchError: for the first that is not, with the closest spellings.
        """
        if self.declared.check:
            load(self.declared.check)(self, job)

    def prepare(self, job: Job) -> None:
        """Import what carries it out, which takes seconds."""
        if where := self.declared.carried_out(job):
            load(where)

    def run(self, job: Job) -> Any:
        """Do it, or in a dry run say what would be done, and return the result."""
        return load(self.declared.carried_out(job))(self, job)

    def answer(self) -> Any:
        """Say what can be said at once, in place of a result, without running anything; None for nothing."""

    def said(self, result: Any, job: Job) -> Iterator[str]:
        """Say what is to be known besides a result: where it was written, what comes next."""
        return iter(())

    def exit_code(self, result: Any) -> int:
        """Say how the command ends when it was carried out."""
        return 0

    @classmethod
    def place(cls, folder: Path, *, resume: bool) -> dict[str, Path]:
        """Say where a run whose record is in a folder writes when it is continued, or when it is repeated there."""
        return {"out": folder}

    def arguments(self) -> dict[str, Any]:
        """Return the options as the record of a run has them: JSON values."""
        return {
            f.name: plain_value(getattr(self, f.name)) for f in options_of(type(self)) if text_of(f).recorded
        }

    @classmethod
    def from_record(cls, arguments: Mapping[str, Any], where: str) -> Self:
        """Return the options that a record has; null is as good as absent.

        Raises:
            RunError: naming the first that no version had, or that has another type.
            OptionError: for a number that is not finite, or larger than can be meant.
        """
        known = {f.name: f for f in options_of(cls) if text_of(f).recorded}
        read = {}
        for name, value in arguments.items():
            if name in _HOW:
                raise _changed(f"{where} has the argument {name!r}, which no record has")
            if value is not None and name not in cls.declared.retired:
                read[name] = _read(cls, known, name, value, where)
        check_numbers(read)
        missing = [n for n, f in known.items() if is_required(f) and n not in read]
        if missing:
            raise _changed(f"{where} lacks the argument {missing[0]!r}")
        return cls(**read)


def _read(cls: type[Command], known: Mapping[str, Field], name: str, value: Any, where: str) -> Any:
    if name not in known:
        raise RunError(
            f"{where} does not fit this version: {cls.declared.name} has no option {name!r}",
            hint="repeat it with the version that wrote it: workbench runs show says which",
        )
    kinds = kinds_of(cls, name)
    for one in kinds:
        if _fits(one, value):
            return (
                Path(value)
                if one is Path
                else tuple(map(item_of(cls, name), value))
                if one is tuple
                else value
            )
    kind = load("workbench.core.strict_json:kind")  # numpy: only for a record that was changed
    expected = " or ".join(dict.fromkeys(_WORDS[one] for one in kinds))
    raise _changed(f"{where}: the argument {name} is {kind(value)}; {expected} is expected")


def _changed(message: str) -> RunError:
    return RunError(
        message, hint="the record was changed by hand; workbench runs show has the line to type for the same"
    )


def _fits(one: type, value: Any) -> bool:
    if one is tuple:
        return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
    if one is Path:
        return isinstance(value, str)
    if one is float:
        return type(value) in (int, float)
    return type(value) is one or (one is Mapping and isinstance(value, Mapping))


def plain_value(value: Any) -> Any:
    """Return an option as JSON has it."""
    if isinstance(value, tuple | list):
        return [plain_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def options_of(cls: type[Command]) -> tuple[Field, ...]:
    """Return the options of a command, in the order of its help."""
    return tuple(sorted(fields(cls), key=lambda f: text_of(f).place))


def text_of(option: Field) -> OptionText:
    """Say how an option is written."""
    return option.metadata["text"]


def is_required(option: Field) -> bool:
    """Say whether an option has no default."""
    return option.default is MISSING and option.default_factory is MISSING


def kinds_of(cls: type[Command], name: str) -> tuple[type, ...]:
    """Of which types an option can be: ``str``, ``int``, ``float``, ``bool``, ``Path``, ``tuple`` or ``Mapping``.

    An option that is one of some words is a ``str``.
    """
    given = _members(_hints(cls)[name])
    return tuple(str if get_origin(one) is Literal else get_origin(one) or one for one in given)


def item_of(cls: type[Command], name: str) -> type:
    """Of which type the items of a list are."""
    lists = [one for one in _members(_hints(cls)[name]) if get_origin(one) is tuple]
    return get_args(lists[0])[0]


def _members(annotation: Any) -> tuple[Any, ...]:
    union = get_origin(annotation) in (Union, types.UnionType)
    return tuple(one for one in (get_args(annotation) if union else (annotation,)) if one is not type(None))


def _hints(cls: type[Command]) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


def named_values(texts: Iterable[str]) -> dict[str, Any]:
    """Return ``NAME=VALUE`` texts as names and values; values are read as JSON where they can be.

    Raises:
        OptionError: for a text without ``=``, and for a name that comes twice.

    Example:
        >>> named_values(["steps=10", "path=input"])
        {'steps': 10, 'path': 'input'}
    """
    chosen: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise OptionError(
                f"cannot read the option {text!r}", hint="write NAME=VALUE, for example steps=10"
            )
        expect_once(name.strip(), chosen)
        try:
            chosen[name.strip()] = json.loads(value)
        except ValueError:
            chosen[name.strip()] = value
    return chosen


# Names only: the module with a command's options is imported when the command is asked for.
COMMANDS: Registry[type[Command]] = Registry(
    "command",
    group="workbench.commands",
    holds=lambda made: isinstance(made, type) and issubclass(made, Command),
)
# In the order of the lists of commands.
_FORMS = {
    "model list": "model:ListModels",
    "model show": "model:ShowModel",
    "model check": "model:CheckModel",
    "model import": "model:ImportModel",
    "task list": "task:ListTasks",
    "task show": "task:ShowTask",
    "task make": "task:MakePairs",
    "task check": "task:CheckPairs",
    "task import": "task:ImportPairs",
    "demo": "forms.discover:Demo",
    "ablate": "forms.sweep:Ablate",
    "patch": "forms.sweep:Patch",
    "path-patch": "forms.sweep:PathPatch",
    "knock-out": "forms.sweep:KnockOutHeads",
    "look": "forms.text_look:LookAtPrompt",
    "logits": "forms.logits:Logits",
    "discover": "forms.discover:Discover",
    "evaluate": "forms.evaluate:Evaluate",
    "survey": "forms.survey:SurveyModel",
    "methods": "methods:ListMethods",
    "circuit list": "circuit:ListCircuits",
    "circuit show": "circuit:ShowCircuit",
    "circuit summary": "circuit:SummariseCircuit",
    "circuit diff": "circuit:CompareCircuits",
    "circuit published": "circuit:ListPublished",
    "circuit export": "circuit:ExportCircuit",
    "circuit import": "circuit:ImportCircuit",
    "circuit validate": "circuit:ValidateCircuits",
    "circuit keep": "circuit:KeepEdges",
    "circuit without": "circuit:WithoutParts",
    "circuit prune": "circuit:PruneCircuit",
    "circuit view": "circuit:ViewCircuit",
    "circuit annotate": "circuit:AnnotateCircuit",
    "circuit details": "forms.details:Details",
    "circuit why": "forms.why:Why",
    "show": "show:ShowResult",
    "runs list": "runs:ListRuns",
    "runs page": "runs:PageOfRuns",
    "runs show": "runs:ShowRun",
    "runs resume": "runs:ResumeRun",
    "runs rerun": "runs:RepeatRun",
    "runs merge": "runs:MergeShards",
    "runs diff": "runs:CompareRuns",
    "runs clean": "runs:CleanRuns",
    "runs verify": "runs:VerifyRuns",
    "heads": "forms.heads:Heads",
    "paint": "forms.paint:Paint",
    "paint-atlas": "forms.paint_atlas:PaintAtlas",
    "edit list": "forms.edit:ListEdits",
    "edit make": "forms.edit:MakeEdit",
    "edit show": "forms.edit:ShowEdit",
    "edit stack": "forms.edit:StackEdits",
    "edit measure": "forms.edit:MeasureEdit",
    "attention replace": "forms.attention:ReplaceAttention",
    "attention mask": "forms.attention:MaskAttention",
    "reproduce": "forms.replicate:Reproduce",
    "replicate": "forms.replicate:Replicate",
    "bench discovery": "forms.bench:Bench",
    "mcp": "forms.mcp:ServeTools",
    "doctor": "doctor:Doctor",
}
for _name, _form in _FORMS.items():
    COMMANDS.lazy(_name, f"workbench.commands.{_form}")
