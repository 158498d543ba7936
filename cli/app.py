"""The ``workbench`` command: command groups from one file each, mounted here."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli import circuit, edit, model, runs, task
from cli.doctor import doctor
from cli.ending import run
from cli.forms import mount
from cli.methods import methods
from cli.plugins import Open, PluginNames

app = typer.Typer(
    name="workbench",
    cls=Open,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench = typer.Typer(no_args_is_help=True, help="Measure methods side by side.", rich_markup_mode=None)
app.add_typer(model.app, name="model")
app.add_typer(task.app, name="task")
for _name in ("demo", "ablate", "patch", "path-patch", "knock-out", "discover", "evaluate"):
    mount(app, _name)
app.command("methods")(methods)
app.add_typer(circuit.app, name="circuit")
app.add_typer(runs.app, name="runs")
mount(app, "heads")
app.add_typer(edit.app, name="edit")
mount(edit.app, "edit measure")
mount(app, "reproduce")
mount(app, "replicate")
app.add_typer(bench, name="bench")
mount(bench, "bench discovery")
app.command("doctor")(doctor)


@bench.callback()
def _bench() -> None:
    """Measure methods side by side."""


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"workbench {version('circuit-workbench')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    plugin: PluginNames = None,
) -> None:
    """Open a transformer, find which parts do the work, save the answer as a graph.

    Start with: workbench demo
    """


def main() -> None:
    """Run the command line; how each ending is told, and its exit code, stand in ``cli/ending.py``."""
    # Spinning OpenMP threads on a shared machine made one loaded run 12 times slower; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(app))


if __name__ == "__main__":
    main()
