"""The methods that score nodes or edges: one file each, one signature, one list. Listing them loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from workbench.circuits.selection.rules import asked
from workbench.core.errors import OptionError, check_numbers
from workbench.core.registry import Registry, load

if TYPE_CHECKING:
    from workbench.circuits.graph import Graph
    from workbench.circuits.scores import Scores

Level = Literal["edge", "node", "neuron"]
Selection = Literal["top", "greedy", "own"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Passes over every batch of pairs; ``note`` says what the numbers cannot."""

    forward: int
    backward: int = 0
    note: str = ""

    @property
    def passes(self) -> int:
        return self.forward + self.backward


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a circuit is chosen from scores: how much, by which order, by which rule of selection."""

    keep: str
    by: Literal["absolute", "signed"]
    select: str


@dataclass(frozen=True, kw_only=True)
class Method:
    """A registered method. Call it with ``PairedRuns``; get ``Scores``.

    Attributes:
        claim: What its scores are, in one line: the first of the function's docstring.
        run: The function, or ``module:function`` where it is imported when it is first called.
        per_position: Whether it can score every position by itself.
        selection: How a circuit is chosen from its scores unless asked otherwise: the best, grown from the
            logits, or as the method itself decides.
        in_parts: Whether its scores are sums over parts that are known beforehand: these can be computed anywhere.
        signed: Whether only positive scores are a reason to keep; else the size of a score is.
        with_tower: Whether it scores edges that cross from a tower to the language model.
    """

    name: str
    claim: str
    levels: tuple[Level, ...]
    source: str
    options: type
    cost: Callable[[Any, Graph, Level], Cost]
    run: Callable[..., Scores] | str
    per_position: bool = False
    selection: Selection = "top"
    signed: bool = False
    in_parts: bool = False
    with_tower: bool = False

    @property
    def function(self) -> Callable[..., Scores]:
        """What scores: imported now, and torch with it."""
        return load(self.run) if isinstance(self.run, str) else self.run

    @property
    def module(self) -> str:
        """The module whose source decides the scores."""
        return self.run.partition(":")[0] if isinstance(self.run, str) else self.run.__module__

    def choice(
        self,
        keep: str | None,
        signed: bool | None,
        greedy: bool | None,
        select: str | None = None,
        *,
        per_position: bool = False,
    ) -> Choice:
        """Say how a circuit is chosen from this method's scores: what was asked, else the method's own way.

        A number or share that was asked for is taken the method's way (signed, greedy) unless that was asked too.
        """
        if keep is None:
            keep = "own" if self.selection == "own" else "5%"
        if keep == "own" and signed is False:
            raise OptionError(
                f"{self.name} decides by signed score; an order by size would not be that of its own circuit",
                hint="leave out --absolute (by=...), or say how much: --keep 5%",
            )
        grows = keep != "own" and not keep.lstrip().startswith(">") and not per_position
        rule = asked(select or "top")
        if rule.rule.own_order and signed is not None:
            rule.check("edge", positions=False, by="signed")
        grown = (self.selection == "greedy" and grows) if greedy is None else greedy
        return Choice(
            keep=keep,
            by="signed"
            if (self.signed if signed is None else signed) and not rule.rule.own_order
            else "absolute",
            select=select or ("greedy" if grown else "top"),
        )

    def option_names(self) -> tuple[str, ...]:
        return tuple(f.name for f in fields(self.options))

    def make_options(self, **chosen: Any) -> Any:
        """Return the method's options; unknown names are an error that lists the known ones.

        Raises:
            OptionError: if the method has no such option.
        """
        for name in chosen:
            if name not in self.option_names():
                raise OptionError(
                    f"method {self.name} has no option {name!r}",
                    hint=f"options: {', '.join(self.option_names()) or 'none'}",
                )
        listed = {f.name: str(f.type) for f in fields(self.options) if str(f.type).startswith("Sequence[")}
        chosen = {name: _listed(value, listed.get(name, "")) for name, value in chosen.items()}
        check_numbers(chosen, f"method {self.name}")
        kinds = {f.name: str(f.type) for f in fields(self.options)}
        for name, value in chosen.items():
            _check_kind(self.name, name, value, kinds[name])
        return self.options(**chosen)


_KINDS: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"),
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "str": (str, "a word"),
}


def _check_kind(method: str, name: str, value: object, kind: str) -> None:
    """Do nothing if a value is of the type that an option has: Python takes the text "false" for true."""
    base, _, optional = kind.partition(" | ")
    if base not in _KINDS or (optional and value is None) or optional not in ("", "None"):
        return
    of, said = _KINDS[base]
    if not isinstance(value, of) or (isinstance(value, bool) and of is not bool):
        raise OptionError(
            f"option {name} of method {method} is {value!r:.60}; expected {said}",
            hint="workbench methods shows every option with its usual value",
        )


def _listed(value: Any, kind: str) -> Any:
    """Several values that were typed with commas, or a single one, where several are meant."""
    if not kind or not isinstance(value, str | int | float):
        return value
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    if "float" not in kind:
        return tuple(parts)
    try:
        return tuple(float(part) for part in parts)
    except ValueError:
        raise OptionError(
            f"{value!r:.60} is not a list of numbers", hint="write numbers with commas between them: 1,2,1"
        ) from None


METHODS: Registry[Method] = Registry(
    "method", group="workbench.methods", holds=lambda made: isinstance(made, Method)
)
for _package, _first in {
    "workbench.methods.options": ("passes", "gradients"),
    "workbench.methods": (),
}.items():
    METHODS.read(_package, r'^(?:declare|@method)\(\s*"([\w-]+)"', first=_first)


def declare(
    name: str,
    *,
    claim: str,
    levels: tuple[Level, ...],
    source: str,
    options: type,
    cost: Callable[[Any, Graph, Level], Cost],
    run: Callable[..., Scores] | str,
    per_position: bool = False,
    selection: Selection = "top",
    signed: bool = False,
    in_parts: bool = False,
    with_tower: bool = False,
) -> None:
    """Register a method with all that can be said of it before it is run; ``run`` may name it, ``module:function``."""
    made = Method(
        name=name,
        claim=claim,
        levels=levels,
        source=source,
        options=options,
        cost=cost,
        run=run,
        per_position=per_position,
        selection=selection,
        signed=signed,
        in_parts=in_parts,
        with_tower=with_tower,
    )
    METHODS.add(name, made, home=made.module)


def method(name: str, **declared: Any) -> Callable[[Callable[..., Scores]], Callable[..., Scores]]:
    """Register ``function(runs, options, *, level, progress) -> Scores``; the arguments are those of ``declare``.

    A method that can score positions by themselves takes ``per_position`` as well.
    """

    def register(function: Callable[..., Scores]) -> Callable[..., Scores]:
        claim = (function.__doc__ or "").strip().partition("\n")[0]
        declare(name, claim=claim, run=function, **declared)
        return function

    return register


def list_methods() -> tuple[str, ...]:
    """List the names of all methods.

    Returns:
        Names in the order of the tables.

    Example:
        >>> import workbench as wb
        >>> "eap-ig" in wb.list_methods()
        True
    """
    return tuple(METHODS)


def get_method(name: str) -> Method:
    """Return a method by name. Only what can be said of it is loaded, not what runs it.

    Raises:
        OptionError: if there is none, with the closest spellings.
    """
    return METHODS.get(name)


def check_level(
    method: Method, level: Level | None, *, per_position: bool = False, with_tower: bool = False
) -> Level:
    """Return the level to score at; asked before any weights are read.

    Raises:
        OptionError: if the method does not have it, cannot tell positions apart, or works on one stack of layers.
    """
    if level is not None and level not in method.levels:
        able = [name for name, other in METHODS.items() if level in other.levels]
        raise OptionError(
            f"method {method.name} scores {' and '.join(method.levels)}s, not {level}s",
            hint=f"methods that do: {', '.join(able) or 'none'}",
        )
    if per_position and not method.per_position:
        able = [name for name, other in METHODS.items() if other.per_position]
        raise OptionError(
            f"method {method.name} cannot score single positions", hint=f"methods that do: {', '.join(able)}"
        )
    if with_tower:
        _check_with_tower(method, level or method.levels[0], per_position=per_position)
    return level or method.levels[0]


def _check_with_tower(method: Method, level: Level, *, per_position: bool) -> None:
    if level != "edge":
        raise OptionError(
            f"{level}s of a tower are not scored beside those of the language model; edges are",
            hint="its heads one by one: workbench ablate --parts vision:heads",
        )
    if not method.with_tower:
        able = [name for name, other in METHODS.items() if other.with_tower]
        raise OptionError(
            f"method {method.name} scores edges of one stack of layers, not those that cross from a tower",
            hint=f"methods that do: {', '.join(able)}",
        )
    if per_position:
        raise OptionError(
            "named positions are those of the words; a tower's positions are others",
            hint="leave out --per-position, or --with-tower",
        )
