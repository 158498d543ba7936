"""How a command ends: what is said on stderr, one JSON document where ``--json`` was asked, and the exit code."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typer import Abort

from cli import streams
from cli.printing import begin, complain, emit, has_emitted, show_warning, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERRUPTED, PIPE_CLOSED = 130, 141


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a command did not do what was asked.

    Attributes:
        code: Exit code: 1 explained, 2 wrong usage, 130 interrupted.
        usage: What is printed instead of the message, for wrong usage.
    """

    message: str
    hint: str = ""
    code: int = 1
    usage: Callable[[], None] | None = None

    def tell(self, *, as_json: bool) -> None:
        """Say it on stderr; with ``--json`` as the one document on stdout, too."""
        if self.usage is not None:
            self.usage()
        else:
            complain(self.message)
            if self.hint:
                warn(f"  hint: {self.hint}")
        if as_json and not has_emitted():
            told = {"message": self.message, "hint": self.hint, "exit_code": self.code}
            emit({"error": told}, as_json=True)


def run(app: Callable[..., Any]) -> int:
    """Run the command line and say how it ended.

    Returns:
        The exit code. What nobody foresaw is raised on, after the document that says so.
    """
    as_json = asks_for_json(sys.argv[1:])
    begin()
    try:
        try:
            streams.prepare()
            code = _called(app)
        except BaseException as problem:
            failure = failure_of(problem)
            if failure is None:
                if not isinstance(problem, Exception):
                    raise
                _tell_unforeseen(problem, as_json=as_json)
                raise
            failure.tell(as_json=as_json)
            code = failure.code
        streams.flush()
        return code
    except BrokenPipeError:
        streams.give_up()
        return PIPE_CLOSED
    except streams.StreamError as problem:  # of the document, or of what was still to be brought out
        complain(problem.message)
        return 1


def asks_for_json(words: Sequence[str]) -> bool:
    """Say whether ``--json`` is among the words of a command line, which may be wrong in other places."""
    options = words[: words.index("--")] if "--" in words else words
    return "--json" in options


def failure_of(problem: BaseException) -> Failure | None:
    """Say what to say of an error; None for one that nobody foresaw."""
    from workbench.core.errors import WorkbenchError, in_one_line

    if isinstance(problem, WorkbenchError | streams.StreamError):
        return Failure(message=problem.message, hint=problem.hint, code=getattr(problem, "exit_code", 1))
    if hasattr(problem, "show") and hasattr(problem, "exit_code"):  # wrong usage, of typer's own click
        return _wrong_usage(problem)
    if isinstance(problem, KeyboardInterrupt | Abort):
        return Failure(message="interrupted", code=INTERRUPTED)
    if isinstance(problem, MemoryError) or _ran_out(problem):
        said = in_one_line(problem) if str(problem) else "no more to be had"
        hint = "use a smaller --batch-tokens, fewer pairs (--limit) or --dtype bfloat16"
        return Failure(message=f"out of memory: {said}", hint=hint)
    if isinstance(problem, OSError) and not isinstance(problem, BrokenPipeError) and problem.strerror:
        from workbench.core.bounds import shown

        named = isinstance(problem.filename, str | bytes)
        what = shown(os.fsdecode(problem.filename)) if named else "a file or stream cannot be used"
        return Failure(message=f"{what}: {problem.strerror}")
    return None


def _ran_out(problem: BaseException) -> bool:
    return isinstance(problem, RuntimeError) and "memory" in str(problem).lower()


def _wrong_usage(problem: Any) -> Failure:
    context = getattr(problem, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else ""
    return Failure(message=problem.format_message(), hint=hint, code=problem.exit_code, usage=problem.show)


def _called(app: Callable[..., Any]) -> int:
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning(warnings.showwarning)
            result = app(standalone_mode=False, prog_name="workbench")
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # typer makes it a plain 1
            return PIPE_CLOSED
        return ended.code if isinstance(ended.code, int) else 0
    if result == INTERRUPTED:
        raise KeyboardInterrupt
    return result if isinstance(result, int) else 0


def _tell_unforeseen(problem: Exception, *, as_json: bool) -> None:
    """The document of an error that is a fault of ours; its traceback follows on stderr."""
    from workbench.core.errors import in_one_line
    from workbench.core.plugins import at_fault

    plugin = at_fault(problem)
    whose = f"the plug-in {plugin}; please tell its author" if plugin else "the workbench; please report it"
    if plugin:
        warn(f"an error in {whose}")
    if as_json and not has_emitted():
        message = f"{type(problem).__name__}: {in_one_line(problem)}"
        told = {
            "message": message,
            "hint": f"this is a fault of {whose}",
            "exit_code": 1,
        }
        emit({"error": told}, as_json=True)
        streams.flush()
