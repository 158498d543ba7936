"""Locks of folders, with and without ``fcntl``: one holder, told by its number, gone with its process."""

import os
import signal
import subprocess
import sys

import pytest

HIDE = {"with fcntl": "", "without": "sys.modules['fcntl'] = None\n"}


@pytest.mark.parametrize("hide", HIDE.values(), ids=HIDE)
def test_a_lock_has_one_holder_and_goes_with_it(hide, tmp_path):
    """A second process is told who holds the folder; after kill -9 it gets the lock."""
    begin = f"import sys, time\n{hide}from workbench.core.lock import holder, locked\nfolder = {str(tmp_path)!r}\n"
    holding = f"{begin}with locked(folder):\n    print('held', flush=True)\n    time.sleep(60)"
    asking = (
        f"{begin}from workbench.core.errors import RunError\n"
        "who = holder(folder)\n"
        "try:\n    with locked(folder):\n        print('got it', who, holder(folder))\n"
        "except RunError as problem:\n    print(problem.message, who)"
    )
    first = subprocess.Popen([sys.executable, "-c", holding], stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    assert said_by(asking) == f"another process ({first.pid}) is writing {tmp_path} {first.pid}"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    said = said_by(asking)
    assert said.startswith("got it None "), said
    assert int(said.split()[-1]) > 0  # who holds it inside, seen from inside


def said_by(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout.strip()
