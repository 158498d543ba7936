"""The ``workbench`` command: command groups from one file each, mounted here."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli import bench, circuit, discover, edit, model, runs, sweeps, task
from cli.doctor import doctor
from cli.ending import run
from cli.evaluate import evaluate
from cli.heads import heads
from cli.options import Spreading
from cli.plugins import Open, PluginNames
from cli.replicate import replicate
from cli.reproduce import reproduce

app = typer.Typer(
    name="workbench",
    cls=Open,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(model.app, name="model")
app.add_typer(task.app, name="task")
app.command("demo")(discover.demo)
sweeps.mount(app)
app.command("discover", cls=Spreading)(discover.discover)
app.command("evaluate")(evaluate)
app.command("methods")(discover.methods)
app.add_typer(circuit.app, name="circuit")
app.add_typer(runs.app, name="runs")
app.command("heads")(heads)
app.add_typer(edit.app, name="edit")
app.command("reproduce")(reproduce)
app.command("replicate")(replicate)
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor)


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
