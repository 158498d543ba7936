"""The ``workbench`` command: command groups from one file each, mounted here."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from cli import bench, circuit, discover, edit, model, runs, sweeps, task
from cli.doctor import doctor
from cli.evaluate import evaluate
from cli.heads import heads
from cli.options import Spreading
from cli.output import complain, show_warning
from cli.replicate import replicate
from cli.reproduce import reproduce

app = typer.Typer(
    name="workbench",
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
) -> None:
    """Open a transformer, find which parts do the work, save the answer as a graph.

    Start with: workbench demo
    """


def main() -> None:
    """Run the command line; explained mistakes exit with 1 and no traceback, an interrupt with 130."""
    # Spinning OpenMP threads on a shared machine made one loaded run 12 times slower; read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from workbench.errors import WorkbenchError

    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning(warnings.showwarning)
            app(standalone_mode=True)
    except WorkbenchError as mistake:
        complain(mistake.message)
        if mistake.hint:
            sys.stderr.write("  hint: ")
            from workbench.view.text import printable

            sys.stderr.write(printable(mistake.hint, keep_newlines=True) + "\n")
        sys.exit(1)
    except (MemoryError, RuntimeError) as problem:
        if not isinstance(problem, MemoryError) and "memory" not in str(problem).lower():
            raise
        complain(f"out of memory: {str(problem).splitlines()[0] if str(problem) else 'no more to be had'}")
        sys.stderr.write("  hint: use a smaller --batch-tokens, fewer pairs (--limit) or --dtype bfloat16\n")
        sys.exit(1)
    except KeyboardInterrupt:
        complain("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
