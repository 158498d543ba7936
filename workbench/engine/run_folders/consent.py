"""Code that a file names: it runs only when the person at this command line names it too, or trusts it knowingly."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workbench.core.bounds import expanded
from workbench.core.errors import OptionError, RunError
from workbench.core.named_plugins import use_plugin
from workbench.core.plugins import TYPED, package_version, was_named
from workbench.core.run_file import digest_of_file

_FUNCTION = re.compile(r"\S+\.pyw?:\w+", re.IGNORECASE)
_CODE = ("plugin", "plugins")  # arguments that are code whatever they say; a metric is where it has a colon
_SWITCHES = ("trust_remote_code", "trust_code")  # arguments that let somebody's code run


@dataclass(frozen=True, kw_only=True)
class NamedCode:
    """Code that an argument of a record stands for.

    Attributes:
        field: Name of the argument, ``metric``.
        text: What the argument says, ``gift/metric.py:f``.
    """

    field: str
    text: str

    @property
    def file(self) -> str:
        """The Python file, ``gift/metric.py``; empty where the argument names none."""
        name, colon, _ = self.text.rpartition(":")
        return name if colon else self.text if self.text.endswith(".py") else ""

    def __str__(self) -> str:
        """``metric: file gift/metric.py, function f, sha256 ...``; what would run, to be read before it does."""
        path = expanded(self.file) if self.file else None
        if path is None or not path.is_file():
            return f"{self.field}: {self.text}"
        function = self.text.rpartition(":")[2] if ":" in self.text else "all of it"
        return f"{self.field}: file {path}, function {function}, sha256 {digest_of_file(path)['sha256']}"


def named_code(arguments: Any, field: str = "arguments") -> Iterator[NamedCode]:
    """Return every argument, at any depth, that stands for code: a function of a file, a plug-in, a cluster, a
    trust.

    Example:
        >>> [code.text for code in named_code({"metric": "gift/m.py:f", "task": "ioi", "corpus": ["a.py"]})]
        ['gift/m.py:f']
    """
    if isinstance(arguments, Mapping):
        for name, value in arguments.items():
            yield from named_code(value, str(name))
    elif isinstance(arguments, list | tuple):
        for value in arguments:
            yield from named_code(value, field)
    elif isinstance(arguments, str):
        is_metric = field == "metric" and ":" in arguments
        is_elsewhere = field == "ray" and arguments not in ("", "local")  # its answers are pickles
        if is_metric or is_elsewhere or field in _CODE or _FUNCTION.fullmatch(arguments):
            yield NamedCode(field=field, text=arguments)
    elif field in _SWITCHES and arguments:
        yield NamedCode(field=field, text=str(arguments))


@dataclass(frozen=True, kw_only=True)
class Consent:
    """Which code of a record may run.

    Attributes:
        metric: The metric as named on this command line, ``file.py:function``.
        trust_code: Whether all code that the record names may run; ``tell`` says what that is, first.
    """

    metric: str | None = None
    trust_code: bool = False
    tell: Callable[[str], None] = lambda text: None

    def check(self, arguments: Mapping[str, Any], plugins: Iterable[Mapping[str, str]] = ()) -> None:
        """Do nothing if all code that the arguments name may run, and so may the plug-ins that a record names.

        Raises:
            RunError: for code that nobody consented to, saying how to.
            OptionError: if the metric named here is not that of the record.
        """
        found = list(named_code(arguments))
        recorded = arguments.get("metric")
        if self.metric is not None and not _same(self.metric, recorded):
            raise OptionError(
                f"--metric is {self.metric}, but the run was measured with {recorded or 'the metric of its task'}",
                hint="leave --metric out, or start a new run with it",
            )
        for code in found:
            if code.field == "metric" and code.text == recorded and self.metric is not None:
                continue
            if not self.trust_code:
                raise RunError(
                    _refusal(code), hint="--trust-code says what it runs, and runs all that the run names"
                )
            self.tell(f"running code that the run names: {code}")
        for plugin in plugins:
            self._check_plugin(plugin)

    def _check_plugin(self, plugin: Mapping[str, str]) -> None:
        """Whoever installed a package consented to its code; a file has to be named again."""
        name = plugin["plugin"]
        if plugin.get("version"):
            if not package_version(name):
                raise RunError(
                    f"the run used the plug-in {name}, which is not installed", hint=f"pip install {name}"
                )
        elif not was_named(plugin):
            if name == TYPED:
                raise RunError(
                    "the run used code that was typed into a notebook or a shell",
                    hint="write it into a file, name that with --plugin FILE.py, and start a new run",
                )
            if not self.trust_code:
                raise RunError(
                    f"the run used the plug-in {name}; code that a file names does not run by itself",
                    hint=f"type the same with --plugin {name}, or with --trust-code",
                )
            self.tell(f"running code that the run names: {NamedCode(field='plugin', text=name)}")
            use_plugin(name)


def _refusal(code: NamedCode) -> str:
    if code.field == "metric":
        return f"the run names {code.text} as its metric; give --metric {code.text} to use that code"
    return f"the run names {code.text} as its {code.field}; code that a file names does not run by itself"


def _same(here: str, recorded: Any) -> bool:
    """Whether both name one function of one file, or are one name."""
    if not isinstance(recorded, str):
        return False
    if here == recorded:
        return True
    (file, _, function), (other, _, another) = here.rpartition(":"), recorded.rpartition(":")
    if not file or not other or function != another:
        return False
    return expanded(file).resolve() == expanded(other).resolve()
