"""Long work of a program: a process of its own that writes a run's folder, and what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.commands.agents.confined import check_values, inside
from workbench.commands.agents.tools import STARTED, carried_out, check_names, error_of
from workbench.commands.do import asked_of
from workbench.core.atomic import write_atomic
from workbench.core.bounds import read_bytes
from workbench.core.command import COMMANDS, options_of
from workbench.core.errors import OptionError, RunError, WorkbenchError, unknown
from workbench.core.job import Job
from workbench.core.json_document import document_of
from workbench.engine.run_folders.past_runs import look_at

JOBS = Path("runs") / "started"
REQUEST, RESULT, LOG, PROCESS = "request.json", "result.json", "log.txt", "process"
MOST, TAIL = 50_000_000, 2000


def start(command: str, options: Mapping[str, Any], *, root: Path, hub: bool = False) -> dict[str, Any]:
    """Begin a command in a process of its own and return at once: its job, its folder.

    Returns:
        ``job`` (what `status` and `stop` take), ``folder`` (the run's own, which `runs resume` takes).

    Raises:
        WorkbenchError: for anything that is misspelt or not there, before anything is started.
    """
    if command not in STARTED:
        raise unknown("command to start", command, STARTED, error=OptionError)
    form = COMMANDS.get(command)
    check_names(command, options)
    check_values(form, options, root, hub=hub)
    how = {name for name in form.declared.offers if name in ("out", "resume", "replace")}
    job = _new_folder(root)
    folder = _folder_of(command, options, job)
    wanted = {name: value for name, value in options.items() if name not in ("out", "dry_run")}
    if not hub and "offline" in {option.name for option in options_of(form)}:
        wanted.setdefault("offline", True)
    asked = asked_of(form, command, {k: v for k, v in wanted.items() if k not in how})
    asked.check(Job())
    out = {"out": str(folder)} if "out" in how else {}
    request = {"command": command, "options": {**wanted, **out}, "folder": str(folder)}
    write_atomic(root / job / REQUEST, json.dumps(request, indent=1))
    with open(root / job / LOG, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench.commands.agents.background", str(job)],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    write_atomic(root / job / PROCESS, str(process.pid))
    _CHILDREN[process.pid] = process
    return {"job": str(job), "folder": str(folder), "process": process.pid}


_CHILDREN: dict[
    int, subprocess.Popen
] = {}  # of this process: asked for how they ended, so that none stays behind


def _new_folder(root: Path) -> Path:
    n = 1
    while True:
        job = JOBS / f"job-{n:03d}"
        try:
            (root / job).mkdir(parents=True)
        except FileExistsError:
            n += 1
        else:
            return job


def _folder_of(command: str, options: Mapping[str, Any], job: Path) -> Path:
    if command == "runs resume":
        return Path(str(options.get("folder", "")))
    return Path(str(options["out"])) if options.get("out") else job / "run"


def status(job: str, *, root: Path) -> dict[str, Any]:
    """Say what became of a job: running, done, failed or killed; the result or the error, and the end of its log.

    Raises:
        RunError: for a folder that is no job.
    """
    folder = root / inside(root, job)
    request = _request(folder, job)
    found: dict[str, Any] = {"job": job, **request, "running": _is_running(_process(folder))}
    result = folder / RESULT
    if result.is_file():
        found["result"] = _read(result)
    found["state"] = _state(found)
    found["log"] = (folder / LOG).read_text(encoding="utf-8", errors="replace")[-TAIL:]
    run = root / request["folder"]
    found["run"] = document_of(look_at(request["folder"])) if run.is_dir() and any(run.iterdir()) else None
    return found


def _state(found: Mapping[str, Any]) -> str:
    if found["running"]:
        return "running"
    result = found.get("result")
    if result is None:
        return "killed"
    return "failed" if isinstance(result, dict) and "error" in result else "done"


def _request(folder: Path, job: str) -> dict[str, Any]:
    if not (folder / REQUEST).is_file():
        raise RunError(f"{job} is no job that was started here", hint="start returns the name of its job")
    return dict(_read(folder / REQUEST))


def _read(path: Path) -> Any:
    """A document that this module wrote."""
    return json.loads(read_bytes(path, most_bytes=MOST))


def _process(folder: Path) -> int | None:
    path = folder / PROCESS
    return int(path.read_text()) if path.is_file() else None


def _is_running(process: int | None) -> bool:
    if process is None:
        return False
    if process in _CHILDREN:
        return _CHILDREN[process].poll() is None
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def stop(job: str, *, root: Path) -> dict[str, Any]:
    """End a job as Ctrl-C does; finished parts stay, and ``runs resume`` goes on from them.

    Raises:
        RunError: for a folder that is no job.
    """
    folder = root / inside(root, job)
    _request(folder, job)
    process = _process(folder)
    was = _is_running(process)
    if was and process in _CHILDREN:
        _CHILDREN[process].send_signal(signal.SIGINT)
        try:
            _CHILDREN[process].wait(timeout=20)
        except subprocess.TimeoutExpired:
            _CHILDREN[process].kill()
            _CHILDREN[process].wait()
    elif was:
        raise RunError(f"{job} was started by another server", hint=f"a person ends process {process}")
    return {"job": job, "stopped": was}


def main(job: str) -> None:
    """Carry out the request of a job in this process, and leave its document beside it."""
    folder = Path(job)
    request = _request(folder, job)
    options = {k: Path(v) if k == "out" else v for k, v in request["options"].items()}
    try:
        found = document_of(carried_out(request["command"], options, note=_say))
    except WorkbenchError as problem:
        found = error_of(problem)
    write_atomic(folder / RESULT, json.dumps(found, allow_nan=False))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
