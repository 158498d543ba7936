"""A second client, written from ``llms.txt`` alone: it types lines of the command line and reads their documents.

What it types and what it reads is looked for in that text: a command, a flag or a key that the text does not name is an
error. So the tasks it does can be done by somebody who has read nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.forks import Forked, start
from workbench.commands.agents.guide import LLMS, text_of

ROOT = str(Path(__file__).parents[2])
# How the facts of a task are typed.
FLAGS = {
    "model": "-m", "task": "-t", "limit": "-n", "seed": "--seed", "corruption": "--corruption", "node": "--node",
    "positions": "--position", "site": "--site", "query": "--query", "key": "--key", "answers": "--answer",
    "method": "--method", "keep": "--keep", "out": "-o", "random_draws": "--random", "at": "--at",
    "exact_sample": "--exact-sample", "together": "--together",
}  # fmt: skip
DONE, CHECK_DID_NOT_PASS, INTERRUPTED = 0, 3, 130


class NotInTheText(AssertionError):
    """The client types or reads something that ``llms.txt`` does not name."""


def in_this_process(words: Sequence[str]) -> tuple[int, str]:
    """Exit code and standard output of a line, carried out here."""
    import cli.app

    out, before = io.StringIO(), sys.argv
    sys.argv = ["workbench", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            cli.app.main()
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    finally:
        sys.argv = before
    return 0, out.getvalue()


def started(words: Sequence[str]) -> subprocess.Popen[str] | Forked:
    """A line in a process of its own."""
    env = {**os.environ, "PYTHONPATH": ROOT}
    return start(["-m", "cli.app", *words], cwd=os.getcwd(), stdout=subprocess.PIPE, env=env)


def in_a_process(words: Sequence[str]) -> tuple[int, str]:
    """Exit code and standard output of a line, as somebody types it."""
    process = started(words)
    out, _ = process.communicate()
    return process.returncode, out


class Typist:
    """Types lines that the text names and reads keys that the text names."""

    def __init__(self, carry_out: Callable[[Sequence[str]], tuple[int, str]] = in_this_process) -> None:
        self.text, self.carry_out = text_of(LLMS), carry_out

    def line(self, command: str, *words: str, **facts: Any) -> list[str]:
        """The words of a line, each command and flag of which the text has."""
        typed = [*command.split(), *words]
        for name, value in facts.items():
            values = value if isinstance(value, list | tuple) else [value]
            for one in values:
                typed += [FLAGS[name]] if one is True else [FLAGS[name], str(one)]
        if f"workbench {command} " not in self.text:
            raise NotInTheText(f"workbench {command}")
        for word in typed:
            if re.fullmatch(r"--?[a-z-]+", word) and not re.search(
                rf"[\s`]{re.escape(word)}[\s`]", self.text
            ):
                raise NotInTheText(word)
        return [*typed, "--json"]

    def ask(self, command: str, *words: str, **facts: Any) -> Any:
        """The document of a line; an error is raised with its hint."""
        code, out = self.carry_out(self.line(command, *words, **facts))
        document = json.loads(out)
        if code not in (DONE, CHECK_DID_NOT_PASS):
            raise RuntimeError(f"{command}: {document['error']}")
        return document

    def read(self, document: Any, path: str) -> Any:
        """What stands at a path such as ``rows[].label``; a list where the path goes through one."""
        if f"`{path}`" not in self.text:
            raise NotInTheText(path)
        return _at(document, path.split("."))


def _at(value: Any, names: list[str]) -> Any:
    if not names:
        return value
    name, rest = names[0], names[1:]
    if not name.endswith("[]"):
        return _at(value[name], rest)
    listed = value[name[:-2]] if name != "[]" else value
    return [_at(item, rest) for item in listed]


Facts = Mapping[str, Any]


def _strongest(typist: Typist, document: Any, size: Callable[[float], float] = abs) -> tuple[str, float]:
    effects = typist.read(document, "rows[].effect")
    best = max(range(len(effects)), key=lambda row: size(effects[row]))
    return typist.read(document, "rows[].label")[best], effects[best]


def _direct(typist: Typist, facts: Facts) -> Any:
    found = typist.ask("logits", "--no-effects", **facts)
    return typist.read(found, "parts[].part")[0], typist.read(found, "parts[].direct")[0]


def _lens(typist: Typist, facts: Facts) -> Any:
    found = typist.ask("logits", "--by", "layer", "--no-effects", **facts)
    streams, right = typist.read(found, "lens[].stream"), typist.read(found, "lens[].right")
    return next(stream for stream, share in zip(streams, right, strict=True) if share > 0.9)


def _cost(typist: Typist, facts: Facts) -> Any:
    found = typist.ask("ablate", "--dry-run", **facts)
    return typist.read(found, "interventions"), typist.read(found, "pairs")


def _heads(typist: Typist, facts: Facts) -> Any:
    found = typist.ask("model show", facts["name"])
    return typist.read(found, "architecture.n_layers") * typist.read(found, "architecture.n_heads")


def _positions(typist: Typist, facts: Facts) -> Any:
    return frozenset(typist.read(typist.ask("task show", facts["name"], "-n", "2"), "task.positions"))


def _shared(typist: Typist, facts: Facts) -> Any:
    found = typist.ask("circuit diff", facts["circuit"], facts["other"])
    return len(typist.read(found, "difference.shared.edges"))


def _edges(typist: Typist, facts: Facts) -> Any:
    found = typist.ask("circuit show", facts["circuit"])
    ends = (typist.read(found, f"graph.edges[].{name}") for name in ("source", "target", "key"))
    return frozenset(
        f"{s}->{t}<{key}>" if key in "qkv" else f"{s}->{t}" for s, t, key in zip(*ends, strict=True)
    )


def _damaged(typist: Typist, facts: Facts) -> Any:
    found = typist.ask("circuit validate", *facts["files"])
    checked = zip(typist.read(found, "[].path"), typist.read(found, "[].valid"), strict=True)
    return frozenset(path for path, valid in checked if not valid)


def _roles(typist: Typist, facts: Facts) -> Any:
    return frozenset(typist.read(typist.ask("circuit summary", facts["circuit"]), "roles")[facts["role"]])


def _found(typist: Typist, facts: Facts) -> Any:
    typist.ask("discover", **facts)
    return len(typist.read(typist.ask("circuit show", facts["out"]), "graph.edges[].source"))


def _faithful(typist: Typist, facts: Facts) -> Any:
    typist.ask("discover", **facts)
    found = typist.ask("evaluate", facts["out"], limit=facts["limit"], random_draws=4, seed=facts["seed"])
    return typist.read(found, "faithfulness")


def _why(typist: Typist, facts: Facts) -> Any:
    given = {name: value for name, value in facts.items() if name != "edge" and value is not None}
    found = typist.ask("circuit why", facts["edge"], **given)
    return typist.read(found, "rankings[].terms[].term")[0][0]


def _resumed(typist: Typist, facts: Facts) -> Any:
    """Start the run, kill it once its folder has a record, go on."""
    process, record = started(typist.line("ablate", **facts)), Path(facts["out"]) / "run.json"
    while process.poll() is None and not record.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    typist.ask("runs resume", facts["out"])
    return _strongest(typist, typist.ask("show", f"{facts['out']}/effects.parquet"))


def _runs(typist: Typist, facts: Facts) -> Any:
    typist.ask("ablate", **facts)
    found = typist.ask("runs list", facts["out"])
    return typist.read(found, "[].status")[0], typist.read(found, "[].task")[0]


def _looked(typist: Typist, facts: Facts) -> Any:
    return typist.ask("look", facts["text"], model=facts["model"], answers=facts["answers"])


DOES: dict[str, Callable[[Typist, Facts], Any]] = {
    "which head matters most": lambda t, f: _strongest(t, t.ask("ablate", **f)),
    "what one head costs": lambda t, f: t.read(t.ask("ablate", **f), "rows[].effect")[0],
    "does it do the task": lambda t, f: t.read(t.ask("ablate", **f), "behavior.finding"),
    "what a sweep would cost": _cost,
    "how many heads there are": _heads,
    "which positions a task names": _positions,
    "where patching brings the answer back": lambda t, f: _strongest(t, t.ask("patch", **f), size=float),
    "what not looking costs": lambda t, f: t.read(t.ask("knock-out", **f), "rows[].effect")[0],
    "what adds most directly": _direct,
    "from which layer on it is right": _lens,
    "what comes next": lambda t, f: t.read(_looked(t, f), "next[].token")[0],
    "how likely an answer is": lambda t, f: t.read(_looked(t, f), "answers[].log_probability")[0],
    "edges that two circuits share": _shared,
    "how many edges a circuit has": lambda t, f: t.read(t.ask("circuit summary", f["circuit"]), "edges"),
    "all edges of a circuit": _edges,
    "which file was changed": _damaged,
    "which heads have a role": _roles,
    "how large a found circuit is": _found,
    "how faithful a found circuit is": _faithful,
    "why an edge is there": _why,
    "the killed run, resumed": _resumed,
    "what was run": _runs,
}
