"""The built wheel, weights included, in an empty environment of each Python that is here, and the tests on it.

``make pythons`` runs all tests that need no browser; ``make pythons SUITE=tests/unit`` a part of them. The tests stand
in a copy of the checkout in which ``workbench`` and ``cli`` are what was installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
INSTALLED = ("workbench", "cli")


def pythons() -> Iterator[tuple[str, str]]:
    """Versions from 3.11 on that can be started here, and how: by name, or where pyenv keeps them."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        found = [shutil.which(f"python{version}"), *sorted(kept.glob(f"{version}.*/bin/python"))]
        for python in map(str, filter(None, found)):
            asked = "import sys; print('%d.%d' % sys.version_info[:2])"
            done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
            if done.stdout.strip() == version:
                yield version, python
                break


def try_on(python: str, wheel: Path, folder: Path, suite: str) -> int:
    """Install the wheel into an empty environment and run tests there; the exit code of pytest."""
    subprocess.run([python, "-m", "venv", folder / "env"], check=True)
    own = folder / "env" / "bin" / "python"
    pip = [
        own,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-c",
        ROOT / "constraints.txt",
    ]
    subprocess.run([*pip, f"{wheel}[test]"], check=True)
    copy = folder / "checkout"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if name.partition("/")[0] not in INSTALLED:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    site = subprocess.run(
        [own, "-c", "import workbench; print(workbench.__path__[0])"],
        **{"cwd": folder, "capture_output": True, "text": True, "check": True},
    )
    for name in INSTALLED:
        (copy / name).symlink_to(Path(site.stdout.strip()).parent / name)
    run = [
        own,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        "-m",
        "not web",
        *suite.split(),
    ]
    return subprocess.run(run, cwd=copy, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False).returncode


def main(suite: str) -> int:
    """Build once, try everywhere; 1 where tests failed anywhere."""
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        for version, python in pythons():
            print(f"Python {version}", flush=True)
            with tempfile.TemporaryDirectory() as place:
                failed += [version] if try_on(python, wheel, Path(place), suite) else []
    print(f"failed on: {', '.join(failed)}" if failed else "passed on all")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:]) or "tests"))
