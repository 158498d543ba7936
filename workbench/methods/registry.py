"""The methods that score nodes or edges: one file each, one signature, one list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from workbench.errors import OptionError, unknown

if TYPE_CHECKING:
    from workbench.graph import Graph
    from workbench.scores import Scores

Level = Literal["edge", "node", "neuron"]
Selection = Literal["top", "greedy", "own"]
# name -> module; a module registers its function with @method when it is imported.
_MODULES = {
    "exact": "exact",
    "acdc": "acdc",
    "iterative-path-patching": "iterative_path_patching",
    "information-flow": "information_flow",
    "magnitude": "magnitude",
    "random": "random_scores",
    "attribution-patching": "attribution_patching",
    "eap": "eap",
    "eap-ig": "eap_ig",
    "eap-ig-activations": "eap_ig_activations",
    "clean-corrupted": "clean_corrupted",
    "relp": "relp",
    "attnlrp": "attnlrp",
    "hisp": "hisp",
    "atp-star": "atp_star",
    "subnetwork-probing": "subnetwork_probing",
    "edge-pruning": "edge_pruning",
}
_METHODS: dict[str, Method] = {}


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
    """How a circuit is chosen from scores: how much, by which order, grown from the logits or not."""

    keep: str
    by: Literal["absolute", "signed"]
    greedy: bool


_IN_PARTS = {
    *("eap", "eap-ig", "eap-ig-activations", "clean-corrupted", "attribution-patching", "relp", "attnlrp"),
    *("hisp", "atp-star", "exact"),
}


@dataclass(frozen=True, kw_only=True)
class Method:
    """A registered method. Call it with ``PairedRuns``; get ``Scores``.

    Attributes:
        per_position: Whether it can score every position by itself.
        selection: How a circuit is chosen from its scores unless asked otherwise: the best, grown from the
            logits, or as the method itself decides.
        signed: Whether only positive scores are a reason to keep; else the size of a score is.
    """

    name: str
    levels: tuple[Level, ...]
    source: str
    options: type
    cost: Callable[[Any, Graph, Level], Cost]
    function: Callable[..., Scores]
    per_position: bool = False
    selection: Selection = "top"
    signed: bool = False

    @property
    def in_parts(self) -> bool:
        """Whether its scores are sums over parts that are known beforehand: these can be computed anywhere."""
        return self.name in _IN_PARTS

    @property
    def claim(self) -> str:
        """The first line of its docstring."""
        return (self.function.__doc__ or "").strip().splitlines()[0]

    def choice(
        self, keep: str | None, signed: bool | None, greedy: bool | None, *, per_position: bool = False
    ) -> Choice:
        """How a circuit is chosen from this method's scores: what was asked, else the method's own way.

        A number or share that was asked for is taken the method's way (signed, greedy) unless that was asked too.
        """
        if keep is None:
            keep = "own" if self.selection == "own" else "5%"
        grows = keep != "own" and not keep.lstrip().startswith(">") and not per_position
        return Choice(
            keep=keep,
            by="signed" if (self.signed if signed is None else signed) else "absolute",
            greedy=(self.selection == "greedy" and grows) if greedy is None else greedy,
        )

    def option_names(self) -> tuple[str, ...]:
        return tuple(f.name for f in fields(self.options))

    def make_options(self, **chosen: Any) -> Any:
        """The method's options; unknown names are an error that lists the known ones.

        Raises:
            OptionError: if the method has no such option.
        """
        for name in chosen:
            if name not in self.option_names():
                raise OptionError(
                    f"method {self.name} has no option {name!r}",
                    hint=f"options: {', '.join(self.option_names()) or 'none'}",
                )
        return self.options(**chosen)


def method(
    name: str,
    *,
    levels: tuple[Level, ...],
    source: str,
    options: type,
    cost: Callable[[Any, Graph, Level], Cost],
    per_position: bool = False,
    selection: Selection = "top",
    signed: bool = False,
) -> Callable[[Callable[..., Scores]], Callable[..., Scores]]:
    """Register ``function(runs, options, *, level, progress) -> Scores``.

    A method that can score positions by themselves takes ``per_position`` as well.
    """

    def register(function: Callable[..., Scores]) -> Callable[..., Scores]:
        _METHODS[name] = Method(
            name=name,
            levels=levels,
            source=source,
            options=options,
            cost=cost,
            function=function,
            per_position=per_position,
            selection=selection,
            signed=signed,
        )
        return function

    return register


def list_methods() -> tuple[str, ...]:
    """Names of all methods."""
    return tuple(_MODULES)


def get_method(name: str) -> Method:
    """A method by name.

    Raises:
        OptionError: if there is none, with the closest spellings.
    """
    if name not in _MODULES:
        raise unknown("method", name, _MODULES, error=OptionError)
    import_module(f"workbench.methods.{_MODULES[name]}")
    return _METHODS[name]
