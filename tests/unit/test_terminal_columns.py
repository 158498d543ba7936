"""Tables on terminals of every width: no name is broken, and no column goes without being named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.view.terminal import console, fields, table
from workbench.view.terminal_columns import room, shared

PATH = "circuits/published/colored-objects/circuit.json"
ROWS = [
    {
        "path": PATH,
        "task": "objects-of-a-colour",
        "claim": "Heads that move the name are few, and they are found late.",
        "nodes": 36,
        "verdict": "holds",
    },
    {"path": "circuits/b", "task": "ioi", "claim": "No other head does it.", "nodes": 7, "verdict": "fails"},
]


def shown(renderable: object, width: int) -> list[str]:
    made = console(width=width)
    with made.capture() as text:
        made.print(renderable)
    return text.get().splitlines()


@pytest.mark.parametrize("width", range(60, 140, 7))
def test_every_column_is_whole_or_named_as_absent(width: int) -> None:
    lines = shown(table(ROWS), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert PATH in text and "holds" in text and "fails" in text  # the first column and the verdict stay
    told = text.partition("not shown at")[2].partition(":")[2].partition("(")[0]
    absent = {name.strip() for name in told.split(",") if name.strip()}
    for name, value in {"task": "objects-of-a-colour", "nodes": "36", "claim": "found"}.items():
        assert (value in text) != (name in absent)


def test_a_terminal_of_the_width_that_is_named_shows_all() -> None:
    told = shown(table(ROWS), 80)[-1]
    needed = int(told.partition("(")[2].split()[0])
    assert "not shown" not in "".join(shown(table(ROWS), needed))
    assert "not shown" in "".join(shown(table(ROWS), needed - 1))


def test_a_table_names_no_absent_column_where_there_is_room() -> None:
    assert "not shown" not in "".join(shown(table(ROWS), 200))


def test_values_stand_whole_below_their_names_where_they_have_no_room() -> None:
    digest = "f9" * 33
    lines = shown(
        fields({"name": "zoo:ioi", "config_digest": digest, "source": "Wang and others 2022 " * 6}), 80
    )
    assert "   " + digest in lines
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(" ".join(lines).split()).count("Wang and others 2022") == 6


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 90)), min_size=1, max_size=8), st.integers(40, 300)
)
def test_widths_fit_and_short_columns_do_not_wrap_for_long_ones(columns, width) -> None:
    least, most = [a for a, _ in columns], [a + b for a, b in columns]
    if room(least) > width:
        return
    wide = shared(least, most, width)
    assert room(wide) <= width
    assert all(a <= w <= b for a, w, b in zip(least, wide, most, strict=True))
    if room(most) <= width:
        assert wide == most
