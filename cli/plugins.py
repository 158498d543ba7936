"""``--plugin`` at any place of a command line, and help texts that name what is registered, plug-ins included."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def use_plugins(texts: list[str] | None) -> list[str]:
    """Run the plug-ins of the environment, then those named here."""
    from workbench.core.named_plugins import use_plugin, use_plugins_of_environment

    use_plugins_of_environment()
    for text in texts or ():
        use_plugin(text)
    return texts or []


PluginNames = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        callback=use_plugins,
        is_eager=True,
        help="Run a Python file, package.module or module:name that adds methods, tasks, papers ...; may stand "
        "anywhere in the line and be repeated. Those of WORKBENCH_PLUGINS (separated by commas) come first.",
    ),
]


def lifted(args: list[str]) -> tuple[list[str], list[str]]:
    """Return the words of ``--plugin`` from wherever they stand before ``--``, and the others."""
    end = args.index("--") if "--" in args else len(args)
    options: list[str] = []
    rest: list[str] = []
    words = iter(args[:end])
    for word in words:
        if word == "--plugin" and (value := next(words, None)) is not None:
            options += [word, value]
        else:
            (options if word.startswith("--plugin=") else rest).append(word)
    return options, [*rest, *args[end:]]


def name_all(command: Any) -> None:
    """Put the names of what is registered into the help texts of a command."""
    from workbench.commands.choices import with_names

    for parameter in command.params:
        if "{" in (getattr(parameter, "help", None) or ""):
            parameter.help = with_names(parameter.help)
