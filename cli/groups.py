"""Groups of commands: their names come from the registry of commands, and each is made when it is asked for."""

from __future__ import annotations

import warnings
from typing import Any

from typer.core import TyperGroup

from cli.forms import command_of
from cli.plugins import lifted, name_all
from workbench.core.command import COMMANDS

ABOUT = {
    "model": "Models: list, show, check, import.",
    "task": "Tasks: prompt pairs, built in or your own.",
    "circuit": "Saved circuits: look, compare, export, import, check.",
    "runs": "Runs on disk: look, continue, repeat, compare, tidy.",
    "edit": "Standing changes to how a model computes.",
    "attention": "What attention patterns are worth.",
    "bench": "Measure methods side by side.",
}
_HELP = {"-h", "--help"}


class Group(TyperGroup):
    """The commands whose names begin with the same words; those of plug-ins are among them.

    Attributes:
        words: With what their names begin.
        helped: Whether help is asked for, which names what is registered.
    """

    words: tuple[str, ...] = ()
    helped = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the next words of the names, in the order of the registry. Nothing is imported."""
        n = len(self.words)
        names = (tuple(name.split()) for name in COMMANDS)
        return list(dict.fromkeys(name[n] for name in names if name[:n] == self.words and len(name) > n))

    def get_command(self, ctx: Any, word: str) -> Any:
        """Return the command of a word, or the group of those that begin with it; None where there is neither."""
        words = (*self.words, word)
        if (name := " ".join(words)) in COMMANDS:
            made = command_of(name)
            if self.helped:
                name_all(made)
            return made
        if word not in self.list_commands(ctx):
            return None
        group = Group(
            name=word,
            help=ABOUT.get(name, "Commands of plug-ins."),
            no_args_is_help=True,
            rich_markup_mode=None,
        )
        group.words, group.helped = words, self.helped
        return group

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List what can be listed; a plug-in that cannot be imported is told, and hides nothing."""
        from workbench.core.errors import PluginError, PluginWarning

        made: dict[str, Any] = {}
        for word in self.list_commands(ctx):
            try:
                made[word] = self.get_command(ctx, word)
            except PluginError as problem:
                warnings.warn(str(problem), PluginWarning, stacklevel=2)
        TyperGroup(commands=made, rich_markup_mode=None).format_commands(ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of a line; a misspelt word is compared with all names."""
        names: dict[str, Any] = dict.fromkeys(self.list_commands(ctx))
        self.commands = names
        return super().resolve_command(ctx, args)


class Root(Group):
    """The root of all commands; ``--plugin`` may stand anywhere in the line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Use the plug-ins that are named before anything else is read."""
        options, rest = lifted(args)
        self.helped = bool(_HELP & set(rest))
        return super().parse_args(ctx, [*options, *rest])
