"""The ``workbench`` command. Its commands are those of the registry, each made when it is asked for."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from cli.ending import run
from cli.groups import Root
from cli.plugins import PluginNames

app = typer.Typer(
    name="workbench",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
