"""Key-value retrieval: find the value of a key among filler words."""

from __future__ import annotations

from workbench.core.errors import OptionError
from workbench.tasks.draw import Draw, allowed
from workbench.tasks.induction import join_words
from workbench.tasks.pairs import Pair
from workbench.tasks.registry import task
from workbench.tasks.words import ARGUMENTS, EVENTS, NAMES, OBJECTS, PLACES, TWO_DIGITS

FILLER = tuple(sorted({*ARGUMENTS, *EVENTS, *OBJECTS, *PLACES}))
QUERY = "Q"


@task(
    "kv-retrieval",
    source="Wu et al. 2024, arXiv:2404.15574 (needle in a haystack, reduced to keys and values)",
    corruptions=("key", "value"),
    positions=("key", "value", "query", "other-key", "other-value"),
    describe="Give the value that a key had earlier in a long text.",
    texts=(*FILLER, *NAMES, *TWO_DIGITS, QUERY),
)
def kv_retrieval(
    draw: Draw,
    *,
    split: str,
    corruption: str,
    needles: int = 6,
    context: int = 48,
    depth: int = -1,
    values: int = 1,
    given: int = 0,
) -> Pair:
    """One retrieval pair: filler with needles ``key value ...``, then ``Q key`` to be continued by its value.

    Keys are names, values two-digit numbers, all different in one text; fillers are neither. ``key`` asks for
    another key of the same text (one token differs at the end); ``value`` changes the needle's own value.
    Either way the incorrect answer becomes right. Held out are combinations of key and first value; no
    training text holds one. There are no templates: all splits share one group per shape.

    Args:
        needles: Keys in the text, 1 to 20; the corruption ``key`` needs 2.
        context: Words of the prompt in all.
        depth: Where the needle that is asked for stands: 0 the beginning, 100 the end, -1 anywhere.
        values: Values of each key, 1 to 5.
        given: How many of them are already given after the question; the next one is asked for.
    """
    fillers = context - needles * (1 + values) - 2 - given
    _check(corruption, needles=needles, context=context, depth=depth, values=values, given=given)
    asked = draw.below(needles)
    table = _table(draw, split, needles, values, asked)
    fill = [draw.pick(FILLER) for _ in range(fillers)]
    at = draw.below(fillers + 1) if depth < 0 else round(fillers * depth / 100)
    gaps = sorted([at, *(draw.below(fillers + 1) for _ in range(needles - 1))])
    rank = gaps.index(at)  # needles stand in the order of the table, the one asked for at its depth
    order = [index for index in range(needles) if index != asked]
    order.insert(rank, asked)
    other = order[rank - 1]  # with one needle the one that is asked for
    text, places = _lay_out(fill, gaps, order, table)
    target = places[asked] + 1 + given

    changed, asked_there = list(text), asked
    if corruption == "key":
        asked_there, wrong = other, table[other][1 + given]
    else:
        wrong = _unused(draw, table)
        changed[target] = wrong
    clean, clean_spans = join_words(text + _question(table, asked, given))
    corrupted, spans = join_words(changed + _question(table, asked_there, given))
    at_word = {"key": places[asked], "value": target, "query": len(text) + 1}
    if needles > 1:
        at_word |= {"other-key": places[other], "other-value": places[other] + 1 + given}
    return Pair(
        id="",
        clean=clean,
        corrupted=corrupted,
        correct=(f" {table[asked][1 + given]}",),
        incorrect=(f" {wrong}",),
        positions={name: (clean_spans[place], spans[place]) for name, place in at_word.items()},
        group=f"kv-{needles}x{values}-{context}",
    )


def _check(corruption: str, *, needles: int, context: int, depth: int, values: int, given: int) -> None:
    """Do nothing if there is such a text.

    Raises:
        OptionError: for the first number that cannot be.
    """
    least_needles = 2 if corruption == "key" else 1
    limits = ((needles, "needles", least_needles, 20), (values, "values", 1, 5), (depth, "depth", -1, 100))
    for value, name, low, high in limits:
        if not low <= value <= high:
            why = (
                "; with one needle there is no other key to ask for"
                if (name, value) == ("needles", 1)
                else ""
            )
            raise OptionError(
                f"{name} is {value}; expected {low} to {high}{why}",
                hint=f"{name}={low} (--task-option {name}={low})"
                + (", or corruption='value' (--corruption value)" if why else ""),
            )
    if needles * values > 90:
        raise OptionError(
            f"{needles} needles of {values} values need {needles * values} numbers; at most 90 fit",
            hint=f"values={90 // needles} (--task-option values={90 // needles}), or fewer needles",
        )
    if not 0 <= given < values:
        raise OptionError(
            f"given is {given}; expected 0 to {values - 1}, less than values",
            hint="given=0 (--task-option given=0)",
        )
    least = needles * (1 + values) + 2 + given
    if context < least:
        raise OptionError(
            f"context is {context} words; {needles} needles and the question need {least}",
            hint=f"context={least} (--task-option context={least})",
        )


def _question(table: list[list[str]], asked: int, given: int) -> list[str]:
    """The words after the text: the key that is asked for, and those of its values that are given."""
    return [QUERY, *table[asked][: 1 + given]]


def _unused(draw: Draw, table: list[list[str]]) -> str:
    """A number that no needle has."""
    taken = {value for _, *row in table for value in row}
    return draw.pick([number for number in TWO_DIGITS if number not in taken])


def _table(draw: Draw, split: str, needles: int, values: int, asked: int) -> list[list[str]]:
    """Rows of a key and its values; the row asked for is of the split, in training all rows are."""
    keys, numbers = draw.sample(NAMES, needles), draw.sample(TWO_DIGITS, min(100, needles * values + 40))
    rows = []
    for index, key in enumerate(keys):
        strict = index == asked or split == "train"
        first = next((n for n in numbers if not strict or allowed(split, key, f"-{n}")), None)
        if first is None:
            return _table(draw, split, needles, values, asked)
        numbers.remove(first)
        rows.append([key, first])
    for row in rows:
        row += [numbers.pop() for _ in range(values - 1)]
    return rows


def _lay_out(
    fillers: list[str], gaps: list[int], order: list[int], table: list[list[str]]
) -> tuple[list[str], dict[int, int]]:
    """Fillers with needle ``order[i]`` before filler ``gaps[i]``, and where each key came to stand."""
    text, places, done = [], {}, 0
    for gap, row in zip(gaps, order, strict=True):
        text += fillers[done:gap]
        done = gap
        places[row] = len(text)
        text += table[row]
    return text + fillers[done:], places
