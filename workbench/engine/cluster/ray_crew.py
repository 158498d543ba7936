"""Workers on a Ray cluster: each opens the model once and computes the parts it is asked for; lost ones are replaced.

Ray is an extra: ``pip install "circuit-workbench[ray]"``. Its usage reports and its dashboard are off.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np

from workbench.core.errors import OptionError, RunError
from workbench.core.named_plugins import VARIABLE as PLUGINS
from workbench.engine.cluster.worker import Refusal, Worker
from workbench.engine.distribute import Compute, Here, WorkPart

Note = Callable[[str], None]
_PATIENCE = 600.0  # seconds without anybody at work before the crew is given up: machines boot in minutes
_TELL_AFTER = 30.0  # seconds of that after which it is told
_MOST_LOST = 3  # times that one part may take its worker down with it
_SETTINGS = {  # of a cluster started here, read by Ray's processes when they start
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "120",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray lets everything else go before its workers (niceness 15): beside other work they hardly start
    "RAY_worker_niceness": "0",
}
_PASSED_ON = ("HF_HUB_OFFLINE", "HF_HOME", "WORKBENCH_QUIET", PLUGINS)


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Here):
    """A crew computes the parts; they are kept here as they come, and given out in order."""

    crew: Crew

    def values(self, parts: Sequence[WorkPart], compute: Compute) -> Iterator[np.ndarray]:
        done = self.store.done() if self.store else set()
        arriving = self.crew.work(self.question, [p for p in parts if self.prefix + p.key not in done])
        early: dict[str, np.ndarray] = {}
        for part in parts:
            if self.store is not None and self.prefix + part.key in done:
                kept = self.store.get(self.prefix + part.key, part.shape)
                assert kept is not None, "a finished part is there"
                yield kept
                continue
            while part.key not in early:
                other, values = next(arriving)
                if self.store:
                    self.store.put(self.prefix + other.key, values)
                early[other.key] = values
            yield early.pop(part.key)


@contextmanager
def ray_crew(
    program: Callable[..., Any],
    *,
    address: str = "local",
    workers: int | None = None,
    device: str | None = None,
    note: Note = lambda text: None,
) -> Iterator[Crew]:
    """A crew on a cluster, which is started here for ``local`` and ends with the block.

    Args:
        program: Runs in every worker as ``program(serving=...)``, see ``Serving``.
        workers: By default one for each GPU where the model is on CUDA, else one for each ``OMP_NUM_THREADS`` CPUs.

    Raises:
        OptionError: if Ray is not installed.
        RunError: if the cluster cannot be reached, or has no room for a worker.
    """
    if find_spec("ray") is None:
        raise OptionError(
            "--ray needs Ray, which is not installed", hint='pip install "circuit-workbench[ray]"'
        )
    import ray

    mine = not ray.is_initialized()
    threads = threads_each(workers)
    if mine:
        connect(ray, address, cpus=(workers or 1) * threads if workers else None)
    gpus = int(_on_cuda(device))
    try:
        room = _room(ray, threads, gpus)
        if workers is not None and workers > room:
            raise RunError(
                f"{workers} workers of {_needs(threads, gpus)} do not fit on the cluster: it has room for {room}",
                hint=f"--workers {room}, or fewer CPUs for each with OMP_NUM_THREADS",
            )
        count = workers or room
        crew = Crew(ray=ray, program=program, threads=threads, gpus=gpus, note=note)
        note(f"{count} workers with {threads} threads each; so does one process: OMP_NUM_THREADS={threads}")
        # Ray tells of lost workers on standard output, which is for results
        with _same_threads(threads), redirect_stdout(sys.stderr):
            crew.hire(count)
            try:
                yield crew
            finally:
                crew.dismiss()
    finally:
        if mine:
            ray.shutdown()


def threads_each(workers: int | None) -> int:
    """Threads of one worker: ``OMP_NUM_THREADS``, else the CPUs of this machine shared among them."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    return max(1, (os.cpu_count() or 1) // workers) if workers else 1


@contextmanager
def _same_threads(threads: int) -> Iterator[None]:
    """This process computes with as many threads as its workers: sums may depend on it in the last digit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def connect(ray: Any, address: str, *, cpus: int | None) -> None:
    """Join the cluster at an address, or start one on this machine for ``local``.

    Raises:
        RunError: if there is none, or it does not start.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    quiet = {"log_to_driver": False, "configure_logging": False}
    if address != "local":
        try:
            ray.init(address=address, **quiet)
        except Exception as problem:  # Ray raises many kinds, plain Exception among them
            raise RunError(
                f"no Ray cluster at {address}: {_first_line(problem)}",
                hint="start one with ray start --head, or use --ray without an address",
            ) from None
        return
    for last in (False, True):
        try:
            # the address: machines without a network have no other; the store: values of parts are small
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=10**8,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
            return
        except Exception as problem:  # on a machine under load Ray's own time limits pass; once more helps
            ray.shutdown()
            if last:
                raise RunError(
                    f"Ray did not start on this machine: {_first_line(problem)}",
                    hint="is it busy with other work? try again, or use --shard I/N, which needs no cluster",
                ) from None


def _first_line(problem: BaseException) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0][:200]


def _room(ray: Any, threads: int, gpus: int) -> int:
    """How many workers fit on the cluster.

    Raises:
        RunError: if none does.
    """
    have = ray.cluster_resources()
    room = int(have.get("CPU", 0)) // threads
    room = min(room, int(have.get("GPU", 0)) // gpus) if gpus else room
    if room < 1:
        raise RunError(
            f"the cluster has no {_needs(threads, gpus)} for a worker", hint="ray status shows what it has"
        )
    return room


def _needs(threads: int, gpus: int) -> str:
    """What one worker takes, in words."""
    cpus = f"{threads} CPU{'s' if threads > 1 else ''}"
    return f"{gpus} GPU and {cpus}" if gpus else cpus


def _on_cuda(device: str | None) -> bool:
    if device is not None:
        return device.startswith("cuda")
    import torch

    return torch.cuda.is_available()


@dataclass
class Crew:
    """The workers and what each is doing.

    Attributes:
        threads, gpus: Of each worker.
        patience: Seconds to wait while no worker is there: the cluster may have given its room to others.
        lost: Workers that died, in all.
        hired: Every worker that was not dismissed, whatever it does.
        starting: Workers that are not there yet, by the reference that tells when they are.
    """

    ray: Any
    program: Callable[..., Any]
    threads: int
    gpus: int
    note: Note
    patience: float = _PATIENCE
    lost: int = 0
    hired: list[Any] = field(default_factory=list)
    starting: dict[Any, Any] = field(default_factory=dict)
    idle: list[Any] = field(default_factory=list)
    busy: dict[Any, tuple[Any, WorkPart]] = field(default_factory=dict)
    batch_of: dict[Any, int] = field(default_factory=dict)

    def hire(self, count: int) -> None:
        """Start workers; they open their model when first asked."""
        variables = {
            "OMP_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        }
        kind = self.ray.remote(Worker).options(
            num_cpus=self.threads,
            num_gpus=self.gpus,
            max_restarts=0,
            runtime_env={"env_vars": variables},
        )
        for _ in range(count):
            worker = kind.remote(self.program, os.getcwd())
            self.hired.append(worker)
            self.starting[worker.ready.remote()] = worker

    def dismiss(self) -> None:
        """End all workers."""
        for worker in self.hired:
            self.ray.kill(worker)
        self.hired, self.starting, self.idle, self.busy = [], {}, [], {}

    def work(self, question: str, parts: Sequence[WorkPart]) -> Iterator[tuple[WorkPart, np.ndarray]]:
        """Return every part with its values, as they are finished.

        Raises:
            WorkbenchError: what a worker refused, or if workers die again and again.
        """
        todo, attempts = list(parts), dict.fromkeys((p.key for p in parts), 0)
        while todo or self.busy:
            while todo and self.idle:
                self._send(question, self.idle.pop(0), todo)
            reference = self._next()
            if reference in self.starting:
                self._welcome(reference)
                continue
            worker, part = self.busy.pop(reference)
            try:
                answer = self.ray.get(reference)
            except self.ray.exceptions.RayActorError:
                attempts[part.key] += 1
                self._dropped(worker)
                self._replace(part, attempts[part.key])
                todo.insert(0, part)
                continue
            self.idle.append(worker)
            if isinstance(answer, Refusal):
                raise answer.error()
            yield part, answer

    def _next(self) -> Any:
        """The next reference that has an answer: of a worker that is there now, or of a part.

        A worker gets no part before it is there, so that no part waits for one that never comes.

        Raises:
            RunError: if no worker is there and none comes.
        """
        since, told = time.monotonic(), False
        while True:
            ready, _ = self.ray.wait(
                [*self.busy, *self.starting], num_returns=1, timeout=min(5.0, self.patience / 4)
            )
            if ready:
                return ready[0]
            waited = time.monotonic() - since
            waiting = f"{len(self.starting)} wait for {_needs(self.threads, self.gpus)} each"
            if not self.busy and waited >= self.patience:
                raise RunError(
                    f"no worker started within {self.patience:.0f} s: {waiting}",
                    hint="is the cluster busy with other work? ray status shows it; what is finished is kept "
                    "for --resume",
                )
            if not self.busy and not told and waited >= _TELL_AFTER:
                self.note(
                    f"no worker has started for {waited:.0f} s: {waiting}; given up after {self.patience:.0f} s"
                )
                told = True

    def _welcome(self, reference: Any) -> None:
        """A worker that has started can be asked from now on; one that could not start is replaced.

        Raises:
            RunError: if several could not start.
        """
        worker = self.starting.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayError as problem:
            self.lost += 1
            self._dropped(worker)
            if self.lost >= _MOST_LOST:
                raise RunError(
                    f"workers cannot start: {_first_line(problem)}",
                    hint="install the workbench on every machine of the cluster: pip install circuit-workbench",
                ) from None
            self.note("a worker was lost before it had started; another one is hired")
            self.hire(1)
            return
        self.idle.append(worker)

    def _dropped(self, worker: Any) -> None:
        """Forget a worker that died."""
        self.hired.remove(worker)
        self.batch_of.pop(worker, None)

    def _send(self, question: str, worker: Any, todo: list[WorkPart]) -> None:
        """Ask a worker for the next part, of the batch it knows if there is one, else of one that few work on."""
        batch = self.batch_of.get(worker)
        taken = list(self.batch_of.values())
        best = min(todo, key=lambda p: (p.batch != batch, taken.count(p.batch)))
        todo.remove(best)
        self.batch_of[worker] = best.batch
        self.busy[worker.compute.remote(question, best.key)] = (worker, best)

    def _replace(self, part: WorkPart, attempts: int) -> None:
        self.lost += 1
        what = part.what or part.key
        if attempts >= _MOST_LOST:
            raise RunError(
                f"{attempts} workers died one after the other computing {what}",
                hint="is there memory for so many models? fewer --workers, or a smaller --batch-tokens; "
                "what is finished is kept for --resume",
            )
        self.note(f"a worker was lost while computing {what}; another one does it again")
        self.hire(1)
