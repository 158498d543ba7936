"""Names to choose among by clicks in a notebook; a table that says what is chosen where there are no widgets."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import OptionError, ShapeError, unknown
from workbench.view.color import ColorScale, css, ink
from workbench.view.text import escape, number, shorten

if TYPE_CHECKING:
    from ipywidgets import VBox

CHOSEN, WIDE = "check", 46  # the icon of a chosen button; characters of the longest text on a button


class Picker:
    """Names, some of which are chosen: by clicks where a notebook has widgets, or by ``choose``.

    Args:
        names: What is chosen among, each once.
        rows: The row of each name; names of one row follow each other.
        texts: What its button says; by default the name itself.
        values: A number for each name, shown by colour and in the tooltip; NaN for none.
        title: What is chosen.

    Raises:
        ShapeError: if there are not as many rows, texts and values as names.

    Example:
        >>> picker = Picker(["a0.h0", "a0.h1", "a1.h0"], ["layer 0", "layer 0", "layer 1"], title="heads")
        >>> picker.choose("a1.h0", "a0.h1").chosen, picker.places
        (('a0.h1', 'a1.h0'), (1, 2))
    """

    def __init__(
        self,
        names: Sequence[str],
        rows: Sequence[str],
        *,
        texts: Sequence[str] | None = None,
        values: Sequence[float] | None = None,
        title: str = "",
        unit: str = "",
    ) -> None:
        self.names, self.rows, self.title, self.unit = tuple(names), tuple(rows), title, unit
        self.texts = self.names if texts is None else tuple(texts)
        self.values = tuple([np.nan] * len(names) if values is None else map(float, values))
        if {len(self.rows), len(self.texts), len(self.values)} != {len(self.names)}:
            raise ShapeError(
                f"{len(self.names)} names, {len(self.rows)} rows, {len(self.texts)} texts, {len(self.values)} values",
                hint="give one row, text and value for each name",
            )
        self._chosen: set[str] = set()
        self._buttons: list[dict[str, Any]] = []  # of every view that was made

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names that are chosen, in the order of all names."""
        return tuple(name for name in self.names if name in self._chosen)

    @property
    def places(self) -> tuple[int, ...]:
        """Where they stand among all names, counted from 0."""
        return tuple(i for i, name in enumerate(self.names) if name in self._chosen)

    def choose(self, *names: str) -> Picker:
        """Choose these and no others; nothing chooses none.

        Raises:
            OptionError: for a name that is not there.
        """
        for name in names:
            if name not in self.names:
                raise unknown("name to choose", name, self.names, error=OptionError)
        self._chosen = set(names)
        for buttons in self._buttons:
            for name, button in buttons.items():
                button.icon = CHOSEN if name in self._chosen else ""
        return self

    def toggle(self, name: str) -> Picker:
        """Choose a name that is not chosen, or leave it out if it is."""
        return self.choose(*(self._chosen ^ {name}))

    def __repr__(self) -> str:
        return f"<Picker {self.title}: {', '.join(self.chosen) or 'none'} of {len(self.names)}>"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Show buttons where there are widgets, and beside them the table that a page without them shows."""
        still = {"text/html": self.table(), "text/plain": repr(self)}
        try:
            live = self.widget()._repr_mimebundle_()
        except OptionError:
            return still
        return {**(live or {}), **still}

    def table(self) -> str:
        """Return all names as HTML, one row a line, those that are chosen in bold."""
        lines = []
        for row, items in groupby(range(len(self.names)), key=lambda i: self.rows[i]):
            cells = "".join(self._cell(i) for i in items)
            lines.append(f'<tr><th style="text-align:left">{escape(row)}</th>{cells}</tr>')
        said = f"{self.title}: {', '.join(self.chosen) or 'none'} chosen"
        return f"<table><caption>{escape(said)}</caption><tbody>{''.join(lines)}</tbody></table>"

    def _cell(self, i: int) -> str:
        color = self._color(i)
        style = f"background:{css(color)};color:{ink(color)}"
        mark = ";font-weight:700;outline:2px solid" if self.names[i] in self._chosen else ""
        return f'<td style="text-align:left;{style}{mark}" title="{escape(self._tip(i))}">{escape(self.texts[i])}</td>'

    def _color(self, i: int) -> tuple[int, int, int]:
        value = self.values[i]
        return ColorScale.around_zero(np.array(self.values)).color(value if np.isfinite(value) else 0.0)

    def _tip(self, i: int) -> str:
        value = f": {number(self.values[i])} {self.unit}".rstrip() if np.isfinite(self.values[i]) else ""
        return f"{self.names[i]}{value}"

    def widget(self) -> VBox:
        """Return a view with a button for each name; all views of a picker show the same choice.

        Raises:
            OptionError: if ipywidgets is not installed.
        """
        try:
            import ipywidgets
        except ImportError:
            raise OptionError(
                "buttons need ipywidgets, which is not installed",
                hint="pip install 'circuit-workbench[notebooks]', or picker.choose(\"a0.h1\")",
            ) from None
        buttons: dict[str, Any] = {}
        for i, name in enumerate(self.names):
            button = ipywidgets.Button(
                description=shorten(self.texts[i], WIDE),
                tooltip=self._tip(i),
                icon=CHOSEN if name in self._chosen else "",
                layout={"width": "auto"},
            )
            button.style.button_color, button.style.text_color = css(self._color(i)), ink(self._color(i))
            button.on_click(lambda pressed, name=name: self.toggle(name))
            buttons[name] = button
        self._buttons.append(buttons)
        lines = [ipywidgets.Label(self.title)]
        for row, items in groupby(range(len(self.names)), key=lambda i: self.rows[i]):
            own = [ipywidgets.Label(row), *(buttons[self.names[i]] for i in items)]
            lines.append(ipywidgets.HBox(own, layout={"flex_flow": "row wrap"}))
        return ipywidgets.VBox(lines)
