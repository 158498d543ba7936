"""All runs of some folders as one page: a table to filter and sort, and curves over those that can be compared."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from workbench.circuits.files.circuit_file import FILE_NAME, load_circuit
from workbench.commands.told import Output
from workbench.core.atomic import write_output
from workbench.core.errors import WorkbenchError
from workbench.core.job import Job
from workbench.engine.run_folders.past_runs import PastRun, duration, find_runs, size
from workbench.view.curve import curve_svg
from workbench.view.page import asset, frame
from workbench.view.text import escape

if TYPE_CHECKING:
    from workbench.commands.runs import PageOfRuns

COLUMNS = ("what", "model", "task", "does the task", "status", "when", "took", "size", "folder", "next")
CHOSEN = ("what", "model", "task", "status")  # columns with a list to choose from
PAGES = ("report.html", "atlas.html", "circuit.html", "page.html", "replication.html", "painting.html")


def write_page(asked: PageOfRuns, job: Job) -> Output:
    """Find the runs and write their page."""
    runs = list(find_runs(asked.folders or None))
    write_output(asked.out, runs_page(runs, asked.out.absolute().parent))
    return Output(text="", path=asked.out, facts={"runs": len(runs)})


def runs_page(runs: Sequence[PastRun], beside: Path) -> str:
    """Return the page; links lead from the folder ``beside``, where it will lie, to the pages of the runs.

    Whatever a record says is escaped. Links lead only to files of these names inside the folder of a run.
    """
    body = "".join(_row(run, beside) for run in runs)
    heads = "".join(f'<th><button type="button">{escape(name)}</button></th>' for name in COLUMNS)
    chosen = "".join(
        f'<label>{name} <select id="{name}" data-column="{COLUMNS.index(name)}"><option value="">all</option>'
        "</select></label>"
        for name in CHOSEN
    )
    parts = [
        '<main class="report runs"><header><div><h1>Runs</h1><p class="soft">Type words to filter; click a heading to '
        'sort. The address of this page keeps the filter.</p></div><button type="button" id="theme">Dark</button>'
        f'</header><section><p class="filters"><label>words <input type="search" id="text"></label> {chosen} '
        f'<span id="told" class="soft" role="status"></span></p><div class="wide"><table id="runs"><thead><tr>{heads}'
        f"</tr></thead><tbody>{body}</tbody></table></div></section>",
        *(f"<section><h2>{escape(title)}</h2>{drawn}</section>" for title, drawn in _curves(runs)),
        "</main>",
    ]
    return frame(title="Runs", body="".join(parts), scripts=(asset("theme.js"), asset("runs.js")))


def _row(run: PastRun, beside: Path) -> str:
    row = run.row()
    cells = [
        (row["what"], None),
        (row["model"], None),
        (row["task"], None),
        (row["does_task"], None),
        (row["status"], None),
        (row["when"] or "", None),
        (duration(row["seconds"]), row["seconds"] or 0),
        (size(row["bytes"]), row["bytes"]),
    ]
    plain = "".join(map(_cell, cells))
    return f"<tr>{plain}<td>{_folder(run, beside)}</td><td><code>{escape(run.next)}</code></td></tr>"


def _cell(cell: tuple[object, float | None]) -> str:
    """A cell, with the number that it is sorted by where its text is none."""
    text, value = cell
    by = "" if value is None else f' data-value="{float(value)}"'
    return f"<td{by}>{escape(str(text))}</td>"


def _folder(run: PastRun, beside: Path) -> str:
    """The folder, and links to the pages that are in it."""
    found = [name for name in PAGES if (run.folder / name).is_file() and not (run.folder / name).is_symlink()]
    near = os.path.relpath(run.folder, beside)
    links = " ".join(f'<a href="{escape(quote(f"{near}/{name}"))}">{escape(name)}</a>' for name in found)
    return f"<code>{escape(str(run.folder))}</code> {links}".rstrip()


def _curves(runs: Sequence[PastRun]) -> list[tuple[str, str]]:
    """Faithfulness over the size of circuits, one picture per model and task, one curve per method."""
    found: dict[tuple[str, str], dict[str, list[tuple[float, float, float, float]]]] = defaultdict(dict)
    for run in runs:
        row, point = run.row(), _point(run)
        if point is not None:
            found[row["model"], row["task"]].setdefault(row["what"], []).append(point)
    return [
        (
            f"Circuits of {model} on {task}",
            curve_svg(
                {name: sorted(points) for name, points in series.items()},
                x_label="edges or nodes kept",
                y_label="faithfulness on other prompts",
                log_x=True,
                reference={"the whole model": 1.0},
            ),
        )
        for (model, task), series in found.items()
    ]


def _point(run: PastRun) -> tuple[float, float, float, float] | None:
    """Size and faithfulness of the circuit that a finished run found; None where it found none."""
    file = run.folder / FILE_NAME
    if run.state != "finished" or not file.is_file() or file.is_symlink():
        return None
    try:
        known = load_circuit(file).evaluation
    except WorkbenchError:
        return None
    numbers = [known.get(name) for name in ("size", "faithfulness", "low", "high")]
    found = [float(number) for number in numbers if isinstance(number, int | float)]
    return (found[0], found[1], found[2], found[3]) if len(found) == 4 else None
