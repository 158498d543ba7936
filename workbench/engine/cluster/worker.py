"""The process of one worker: it runs the job up to where it falls into parts, then computes those it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from workbench.core.errors import RunError, WorkbenchError
from workbench.core.named_plugins import use_plugins_of_environment
from workbench.engine.distribute import Served, Serving


@dataclass(frozen=True)
class Refusal:
    """An explained mistake on its way back to the process that asked."""

    kind: type[WorkbenchError]
    message: str
    hint: str

    def error(self) -> WorkbenchError:
        """Return the error as if it had been raised here."""
        return self.kind(self.message, hint=self.hint)


class Worker:
    """Runs ``program(serving=...)`` in a thread of its own, from the first question on.

    Args:
        program: The job; it ends up in ``Serving.values``.
        folder: Where relative paths start; the folder of the process that asks, if it is there.
    """

    def __init__(self, program: Callable[..., Any], folder: str) -> None:
        if os.path.isdir(folder):
            os.chdir(folder)
        use_plugins_of_environment()
        self.program = program
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.outbox: SimpleQueue[Any] = SimpleQueue()
        self.thread: Thread | None = None

    def ready(self) -> bool:
        """Say whether this process is there: an answer tells that it is."""
        return True

    def compute(self, question: str, key: str) -> np.ndarray | Refusal:
        """Return the values of one part."""
        if self.thread is None or not self.thread.is_alive():
            self.thread = Thread(target=self._run, daemon=True)
            self.thread.start()
        self.inbox.put((question, key))
        answer = self.outbox.get()
        if isinstance(answer, WorkbenchError):
            return Refusal(type(answer), answer.message, answer.hint)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _run(self) -> None:
        try:
            self.program(serving=Serving(inbox=self.inbox, outbox=self.outbox))
            self.outbox.put(
                RunError("a worker finished without computing a part", hint="run it again with --resume")
            )
        except Served:
            pass
        except BaseException as problem:  # told to whoever asked
            self.outbox.put(problem)
