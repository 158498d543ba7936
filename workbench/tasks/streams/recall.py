"""MQAR, multi-query associative recall: keys and values in a row, then keys are asked again, each for its value."""

from __future__ import annotations

import numpy as np

from workbench.core.errors import OptionError
from workbench.tasks.streams.rows import NOTHING, StreamRows, check_at_least


def recall_rows(
    rng: np.random.Generator, n: int, *, pairs: int = 8, queries: int = 8, keys: int = 32, values: int = 32
) -> StreamRows:
    """Draw rows ``k v k v ... | k k ...``: no key twice among the pairs, and no key asked twice.

    Tokens 0 to ``keys - 1`` are keys, the next ``values`` are values. The answer is never shown after its question, so
    a model that sees the whole row knows no more than one that does not.

    Returns:
        ``2 * pairs + queries`` tokens a row; the target at each asked key is the value behind its first appearance.

    Example:
        >>> rows = recall_rows(np.random.default_rng(0), 1, pairs=2, queries=1, keys=4, values=4)
        >>> [int(at) for at in rows.asked[1]], bool(rows.inputs[0, rows.source[0, 4]] == rows.target[0, 4])
        ([4], True)
    """
    check_at_least("pairs", pairs, 1)
    if not 1 <= queries <= pairs <= keys:
        raise OptionError(
            f"{queries} of {pairs} pairs are asked, among {keys} keys; expected 1 <= queries <= pairs <= keys",
            hint="pairs=2, queries=1, keys=4",
        )
    shown = rng.permuted(np.tile(np.arange(keys), (n, 1)), axis=1)[:, :pairs]
    said = rng.integers(keys, keys + values, (n, pairs))
    which = rng.permuted(np.tile(np.arange(pairs), (n, 1)), axis=1)[:, :queries]
    told = np.stack([shown, said], axis=2).reshape(n, 2 * pairs)
    inputs = np.concatenate([told, np.take_along_axis(shown, which, 1)], axis=1)
    nothing = np.full((n, 2 * pairs), NOTHING)
    return StreamRows(
        inputs=inputs,
        target=np.concatenate([nothing, np.take_along_axis(said, which, 1)], axis=1),
        source=np.concatenate([nothing, 2 * which + 1], axis=1),
    )
