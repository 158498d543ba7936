"""Tables that fit a terminal: names and paths stay whole, columns that have no room are left out and named.

Each column needs the width of its longest word, and of short texts whole. Where all fit, the room that is left goes to
the columns with sentences. Where they do not fit, the first column and those asked to stay have the first places, then
the others from the left; a last line says which ones are left out, and how wide a terminal shows them.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

BETWEEN, EDGES = (
    3,
    2,
)  # columns of the terminal that stand between two columns of a table, and at its two edges
INDENT, UNBROKEN = 3, 14


class FittedTable:
    """Show rows of text in columns, as many as the terminal has room for.

    ``staying`` names columns that are left out last, such as a verdict.
    """

    def __init__(
        self,
        names: Sequence[Text],
        rows: Sequence[Sequence[Text]],
        *,
        right: Sequence[bool],
        title: Text | None = None,
        staying: Sequence[str] = (),
    ) -> None:
        self.names, self.rows, self.right, self.title = (
            list(names),
            [list(r) for r in rows],
            list(right),
            title,
        )
        columns = [[name, *(row[i] for row in self.rows)] for i, name in enumerate(self.names)]
        self.least = [max(map(_narrowest, column)) for column in columns]
        self.most = [max(map(_longest_line, column)) for column in columns]
        self.staying = {0, *(i for i, name in enumerate(self.names) if name.plain in staying)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for this width, and what was left out."""
        kept = self.kept(options.max_width)
        yield self.table(kept, options.max_width)
        if absent := [name.plain for i, name in enumerate(self.names) if i not in kept]:
            needed = room(self.least)
            yield Text(
                f" not shown at {options.max_width} columns: {', '.join(absent)} ({needed} columns show all)",
                style="dim",
            )

    def kept(self, width: int) -> list[int]:
        """Return which columns have room in this width."""
        kept: list[int] = []
        for i in sorted(range(len(self.names)), key=lambda i: (i not in self.staying, i)):
            if not kept or room([self.least[k] for k in [*kept, i]]) <= width:
                kept.append(i)
        return sorted(kept)

    def table(self, kept: Sequence[int], width: int) -> Table:
        """Return these columns as a table of rich, not wider than ``width``."""
        made = Table(box=box.SIMPLE_HEAD, title=self.title, title_justify="left", pad_edge=False)
        wide = shared([self.least[i] for i in kept], [self.most[i] for i in kept], width)
        for i, columns in zip(kept, wide, strict=True):
            made.add_column(
                self.names[i], justify="right" if self.right[i] else "left", overflow="fold", width=columns
            )
        for row in self.rows:
            made.add_row(*(row[i] for i in kept))
        return made


class Fields:
    """Show names and their values, a line each; a value with a word too long for its place stands below its name."""

    def __init__(self, rows: Sequence[tuple[Text, Text]], *, title: Text | None = None) -> None:
        self.rows, self.title = list(rows), title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines for this width; a word longer than the terminal is wide is left to the terminal."""
        if self.title is not None:
            yield self.title
        stub = max((_longest_line(name) for name, _ in self.rows), default=0)
        beside = options.max_width - stub - BETWEEN
        for name, value in self.rows:
            head = Text(f" {name.plain:<{stub}}", style="bold")
            whole = _longest_word(value) <= beside
            wide = beside if whole else max(options.max_width - INDENT, _longest_word(value))
            lines = list(value.wrap(console, wide, overflow="fold")) or [Text()]
            if whole:
                yield _unbroken(Text.assemble(head, "  ", lines.pop(0)))
            else:
                yield _unbroken(head)
            margin = " " * (stub + BETWEEN if whole else INDENT)
            for line in lines:
                yield _unbroken(Text.assemble(margin, line))


def _unbroken(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ignore"
    return line


def room(widths: Sequence[int]) -> int:
    """Return the columns of a terminal that a table with columns of these widths takes.

    >>> room([10, 5])
    20
    """
    return sum(widths) + BETWEEN * (len(widths) - 1) + EDGES


def shared(least: Sequence[int], most: Sequence[int], width: int) -> list[int]:
    """Return the width of each column: what it needs, and of the rest as much as it can use.

    What is left is given out from the column that wants least on, so that short columns never wrap for long ones.

    >>> shared([4, 6, 6], [4, 10, 80], 40)
    [4, 10, 18]
    """
    found = [min(a, max(1, width - EDGES)) for a in least]
    left = width - room(found)
    wanting = sorted(range(len(found)), key=lambda i: most[i] - found[i])
    for place, i in enumerate(wanting):
        more = min(most[i] - found[i], max(0, left) // (len(wanting) - place))
        found[i] += max(0, more)
        left -= max(0, more)
    return found


def _longest_word(text: Text) -> int:
    return max((cell_len(word) for word in text.plain.split()), default=1)


def _narrowest(text: Text) -> int:
    """The width under which this text would break: short ones, such as ``2.1 s``, break nowhere."""
    return min(_longest_line(text), max(UNBROKEN, _longest_word(text)))


def _longest_line(text: Text) -> int:
    return max((cell_len(line) for line in text.plain.splitlines()), default=1)


__all__ = ["Fields", "FittedTable", "room", "shared"]
