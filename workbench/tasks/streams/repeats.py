"""Induction: a row repeats itself, with a period that is drawn for every row."""

from __future__ import annotations

import numpy as np

from workbench.core.errors import OptionError
from workbench.tasks.streams.rows import NOTHING, StreamRows, check_at_least


def repeated_rows(
    rng: np.random.Generator,
    n: int,
    *,
    length: int = 24,
    tokens: int = 32,
    periods: tuple[int, int] = (6, 12),
) -> StreamRows:
    """Draw rows that repeat their first ``period`` tokens; the next token is asked from the second round on.

    Every row draws its own period. With one period for all rows, looking back by a fixed number of tokens would do the
    task, and a mean pattern would look as good as a model's own.

    Returns:
        ``length`` tokens a row. The target at a position is the next token, and its source is where that token stood a
        period before.

    Example:
        >>> rows = repeated_rows(np.random.default_rng(0), 1, length=8, periods=(3, 3))
        >>> bool((rows.inputs[0, 3:] == rows.inputs[0, :-3]).all()), [int(at) for at in rows.asked[1]]
        (True, [3, 4, 5, 6])
    """
    low, high = periods
    check_at_least("tokens", tokens, 2)
    if not 2 <= low <= high <= length - 2:
        raise OptionError(
            f"periods {low} to {high} of {length} tokens; expected 2 <= low <= high <= length - 2",
            hint="length=8, periods=(3, 3)",
        )
    period = rng.integers(low, high + 1, (n, 1))
    first = rng.permuted(np.tile(np.arange(max(tokens, high)), (n, 1)), axis=1)[:, :high] % tokens
    at = np.arange(length)[None]
    inputs = np.take_along_axis(first, at % period, 1)
    asked = (at >= period) & (at < length - 1)
    following = np.concatenate([inputs[:, 1:], inputs[:, :1]], axis=1)
    return StreamRows(
        inputs=inputs,
        target=np.where(asked, following, NOTHING),
        source=np.where(asked, at + 1 - period, NOTHING),
    )
