"""The little package that adds one of each thing: made from its folder and the page, installed outside the tree."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.commands.doctor import REGISTRIES
from workbench.core import plugins as core
from workbench.core import show, source_digest
from workbench.core.named_plugins import VARIABLE

FOLDER = Path(__file__).parent / "plugin"
PAGE = Path(__file__).parents[1] / "docs" / "extending.md"


def files_of_page() -> dict[str, str]:
    """File -> source, of every example of the page that has a file's name as title."""
    return dict(
        re.findall(
            r'^```python title="([\w/.]+)"\n(.*?)^```$', PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
    )


def install(place: Path) -> Path:
    """Build and install the package into a folder of its own, without network; gives that folder."""
    shutil.copytree(FOLDER, place / "source")
    for name, text in files_of_page().items():
        (place / "source" / name).write_text(text, encoding="utf-8")
    quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--target", place / "site", place / "source"]
    subprocess.run(command, check=True, capture_output=True)
    return place / "site"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def pretend(place: Path, name: str, version: str, **groups: dict[str, str]) -> Path:
    """A package by its metadata alone, as an installer leaves it: what is imported for it is not there, or is."""
    info = place / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = []
    for group, points in groups.items():
        lines += [f"[workbench.{group}]", *(f"{point} = {target}" for point, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return place


@contextmanager
def used(monkeypatch, *places: Path) -> Iterator[None]:
    """As in a process of its own: packages in these folders are installed, no plug-in was named before."""
    faces, path = dict(show._FACES), list(sys.path)
    with monkeypatch.context() as patch:
        for name in ("_NAMED", "_LOADED", "_ROOTS", "_MODULES"):
            patch.setattr(core, name, type(getattr(core, name))())
        patch.setenv(VARIABLE, "")
        for place in places:
            patch.syspath_prepend(str(place))
        _forget()
        try:
            yield
        finally:
            _forget()
            show._FACES.update(faces)
            sys.path[:] = path  # a file that was named may import what is beside it


def _forget() -> None:
    """Forget what plug-ins have registered, and their modules."""
    for registry in (*REGISTRIES, show.LOADERS):
        for name in set(registry._known) - set(registry.ours()):
            registry.remove(name)
    for key, function in list(show._FACES.items()):
        if not core.is_ours(function.__module__):
            del show._FACES[key]
    for name in list(sys.modules):
        if name.partition(".")[0] == "lab_extras" or name.startswith("workbench_plugin_"):
            del sys.modules[name]
    source_digest.source_digest.cache_clear()
