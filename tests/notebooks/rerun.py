"""Run the notebooks again and keep their outputs: ``python -m tests.notebooks.rerun [notebooks/01_*.ipynb]``."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat
from jupyter_client.provisioning import LocalProvisioner
from nbclient import NotebookClient

from tests.forks import Forked

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
REPOSITORY = Path(__file__).parents[2]


class ForkedKernel(LocalProvisioner):
    """A kernel that begins with torch and the like imported, and nothing of the library (``tests.forks``)."""

    async def launch_kernel(self, cmd: list[str], **how):
        words = cmd[cmd.index("-m") :]
        self.process = Forked(words, cwd=how["cwd"], env=how["env"])
        self.pid = self.process.pid
        return self.connection_info


class ForkedClient(NotebookClient):
    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        manager.provisioner = ForkedKernel(
            kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager
        )
        return manager


def run_notebook(
    path: Path,
    folder: Path,
    *,
    timeout: int = 600,
    claims: Mapping[str, Iterable[str]] | None = None,
    forked: bool = False,
) -> nbformat.NotebookNode:
    """The notebook with fresh outputs, from a clean kernel that works in ``folder``.

    Args:
        claims: Expressions that must be true after a cell, by its id.
        forked: Save the kernel the seconds in which it imports what is not ours.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.
    """
    book = nbformat.read(path, as_version=4)
    shown = list(book.cells)
    for cell in shown if claims else ():
        told = [nbformat.v4.new_code_cell(f"assert {claim}") for claim in claims.get(cell.id, ())]
        at = book.cells.index(cell) + 1
        book.cells[at:at] = told
    # A checkout need not be installed; commands that a notebook starts inherit this too.
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    client = (ForkedClient if forked else NotebookClient)(
        book, timeout=timeout, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=environment)
    book.cells = shown
    return book


def cleaned(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook as it is kept: no times, no messages on stderr, nothing of the machine."""
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not _is_passing(o)]
    return book


def _is_passing(output: nbformat.NotebookNode) -> bool:
    """Messages on stderr and progress bars."""
    widget = "application/vnd.jupyter.widget-view+json"
    return output.get("name") == "stderr" or widget in output.get("data", {})


def main(chosen: list[str]) -> None:
    """Run the chosen notebooks, or all, and write them back."""
    for path in [Path(name) for name in chosen] or NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            book = cleaned(run_notebook(path, Path(folder)))
        nbformat.write(book, path)
        sys.stderr.write(f"ran {path.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
