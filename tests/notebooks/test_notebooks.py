"""Every notebook runs from a clean kernel, and what is kept of it is small and says nothing of a machine."""

from __future__ import annotations

import json
import re
import sys

import nbformat
import pytest

from tests.notebooks.claims import CLAIMS
from tests.notebooks.rerun import NOTEBOOKS, run_notebook

MOST_BYTES = 1_000_000
MACHINE = re.compile(r"(?<![\w.<:/])/(?:home|root|tmp|usr|var|Users|work|opt|mnt|private)/|[A-Z]:\\\\")
ELSEWHERE = re.compile(
    r"<script|<link|<iframe|@import|(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//|url\(\s*[\"']?http"
)

AS_A_READER = ("01", "03")  # whose kernel python starts anew; 03 asks whether torch is loaded

names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def outputs(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]


def markup(book: nbformat.NotebookNode) -> str:
    """All HTML and SVG that a notebook shows."""
    shown = [
        o.data.get(kind, "") for o in outputs(book) if "data" in o for kind in ("text/html", "image/svg+xml")
    ]
    return "\n".join(shown)


def printed(book: nbformat.NotebookNode) -> str:
    """What the last cell prints: the notebook's answer."""
    return "".join(o.text for o in book.cells[-1].outputs if o.output_type == "stream")


def test_all_are_there():
    numbers = [path.name[:3] for path in NOTEBOOKS]
    assert len(numbers) >= 4 and numbers == [f"{k:02d}_" for k in range(1, len(numbers) + 1)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@names
def test_runs_top_to_bottom_from_a_clean_kernel(path, tmp_path):
    kept = nbformat.read(path, as_version=4)
    claims = CLAIMS.get(path.stem, {})
    assert claims.keys() <= {cell.id for cell in kept.cells}
    forked = sys.platform == "linux" and path.name[:2] not in AS_A_READER
    # A cell or a claim that fails raises.
    book = run_notebook(path, tmp_path, timeout=800, claims=claims, forked=forked)
    fresh = {
        c.id: {k for o in c.outputs for k in o.get("data", {})} for c in book.cells if c.cell_type == "code"
    }
    for cell in (c for c in kept.cells if c.cell_type == "code"):
        committed = {kind for output in cell.outputs for kind in output.get("data", {})}
        assert committed <= fresh[cell.id], f"{cell.id} no longer shows what is kept"
    assert not ELSEWHERE.search(markup(book))
    assert len(printed(book).splitlines()) == len(printed(kept).splitlines()) > 0


@names
def test_kept_outputs_are_whole(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))  # run once, in order
    assert not [o for o in outputs(book) if o.output_type == "error" or o.get("name") == "stderr"]
    assert printed(book)


@names
def test_kept_outputs_are_small_and_say_nothing_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    assert not MACHINE.search(text)
    assert not ELSEWHERE.search(markup(nbformat.read(path, as_version=4)))
    assert json.loads(text)["metadata"].keys() == {"kernelspec", "language_info"}


@names
def test_reads_linearly(path):
    """A title and a question first, settings in the first code cell, an answer last; five to fifteen steps."""
    book = nbformat.read(path, as_version=4)
    code = [cell.source for cell in book.cells if cell.cell_type == "code"]
    prose = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    assert prose[0].startswith("# ") and "**Question:**" in prose[0] and prose[-1] == "## Answer"
    assert "MODEL, SEED, N = " in code[0] and 5 <= len(code) <= 15
    assert not re.search(r"^\s*[!%]|sys\.path|workbench\._|from workbench\.", "\n".join(code), re.MULTILINE)


def test_the_checks_can_fail():
    assert MACHINE.search("saved /home/me/x.json") and MACHINE.search("['/tmp/abc/circuit.json']")
    assert not MACHINE.search("circuits/ioi/tmp/x") and not MACHINE.search("https://example.org/home/x")
    assert ELSEWHERE.search('<img src="https://x.org/a.png">') and ELSEWHERE.search("<script>1</script>")
    assert not ELSEWHERE.search('<svg xmlns="http://www.w3.org/2000/svg"></svg>')
