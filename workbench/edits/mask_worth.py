"""What a mask costs a model that was trained without it, beside random masks of the same degree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from workbench.core.errors import OptionError
from workbench.core.progress import Progress, silent
from workbench.edits.edit import ModelEdit
from workbench.edits.mask_kinds import ContentMask, Mask
from workbench.edits.measure import CHANGES, Measured
from workbench.edits.pattern_worth import Texts, count_heads
from workbench.edits.substitute import CONTROLS, places_among
from workbench.engine.store import SweepStore
from workbench.masks.derived import same_degree
from workbench.masks.mask_words import NamedMask, named_mask
from workbench.masks.reachable import degree
from workbench.masks.refusals import check_mask
from workbench.model.identity import identity
from workbench.model.probe import wiring
from workbench.model.prompt import Prompt
from workbench.model.wiring import require_heads

RANDOM = "random, same degree"


def mask_attention(
    texts: Texts,
    masks: Sequence[str],
    *,
    layers: Sequence[str] = (),
    heads: Sequence[str] = (),
    each: str = "together",
    controls: int = CONTROLS,
    ahead: bool = False,
    seed: int = 0,
    store: SweepStore | None = None,
    progress: Progress = silent,
) -> Measured:
    """Measure the loss, or the task's metric, while heads look only where a mask allows; and where chance does.

    Args:
        texts: From `texts_of_corpus` or `texts_of_task`.
        masks: In words: ``window:16``, ``powers-of-two``, ``routed:block=4,keep=2``.
        layers: ``all``, ``odd``, ``even``, ``2``, ``0-3``: a group of rows for each.
        heads: Addresses that are masked together, in place of layers.
        each: ``together``; ``layer`` or ``head`` give each of them rows of its own.
        controls: Random masks in which each query has as many keys; the second row of a mask is their mean.
        ahead: A mask may let a causal model see ahead; otherwise it is refused.
        seed: Of random masks and of intervals.
        store: Where what was measured is kept at once; what is there is not run again.

    Returns:
        Two rows for each place and mask, without controls one: the mean without and with it, the paired difference
        (with minus without, in the unit of the metric or in nats) with its 95 % interval, and ``keys``, the mean
        number of keys of a query of the longest prompt (of masks by content there is none).

    Raises:
        OptionError: for an unknown mask, one that leaves a query without a key or looks ahead, or an unknown place.
        ModelError: if the model's patterns cannot be edited, or it has no such head.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:stdlib")
        >>> table = mask_attention(wb.edits.texts_of_corpus(model, n=2), ["causal"], layers=["0"], controls=1)
        >>> [(row["mask"], abs(row["difference"]) < 1e-4) for row in table.rows]
        [('causal', True), ('random, same degree', True)]
    """
    wired = wiring(texts.model)
    require_heads(wired)
    named = [named_mask(text) for text in dict.fromkeys(masks)]
    if not named:
        raise OptionError("no mask is named", hint="--mask window:16")
    places = places_among(layers, heads, each, wired.attention_layers, wired.n_heads)
    for one in named:  # what cannot work is refused before anything is run
        _check(one, texts, causal=wired.causal and not ahead)
    without, rows = texts.kept(store, "as-it-is"), list[dict[str, Any]]()
    cells = list(product(enumerate(places.items()), enumerate(named)))
    for (i, (place, own)), (j, one) in cells:
        said = {"layers": place, "heads": count_heads(own, wired.n_heads), "keys": _keys(one, texts)}
        key = f"place{i}-mask{j}"
        found = texts.kept(store, key, _Masked(one, own))
        rows += [{"mask": one.describe(), **said, **row} for row in texts.rows_of(without, found, seed)]
        drawn = [
            texts.kept(store, f"{key}-random{k}", _Masked(one, own, seed + 1 + k)) for k in range(controls)
        ]
        if drawn:
            mean = {name: np.mean([values[name] for values in drawn], axis=0) for name in without}
            rows += [{"mask": RANDOM, **said, **row} for row in texts.rows_of(without, mean, seed)]
        progress(len(rows), len(cells) * (2 if controls else 1), f"{one.name}, {place}")
    told = {} if texts.runs is None else {texts.runs.pairs.pairs.task: texts.runs.behavior.to_dict(CHANGES)}
    what = f"masks on attention ({texts.about.partition('; other texts')[0]})"
    what += f"; random masks: the mean of {controls}" if controls else ""
    return Measured(
        edit=what, model=identity(texts.model).title, rows=tuple(rows), behaviors=told, notes=texts.notes
    )


def _check(one: NamedMask, texts: Texts, *, causal: bool) -> None:
    """Refuse a mask that does not fit the prompts or the model, and a model whose patterns cannot be edited."""
    if not one.by_content:
        for n in texts.lengths:
            check_mask(one.allowed(n), n=n, causal=causal, what=one.describe())
    layers = wiring(texts.model).attention_layers
    with _Masked(one, (f"a{layers[0]}",)).over(max(texts.lengths)).on(texts.model):
        pass


def _keys(one: NamedMask, texts: Texts) -> float | None:
    if one.by_content:
        return None
    return round(float(degree(one.allowed(max(texts.lengths))).float().mean()), 2)


@dataclass(frozen=True)
class _Masked:
    """Makes the edit for the prompts of a pass: the mask, or a random one of the same degree."""

    mask: NamedMask
    heads: tuple[str, ...]
    drawn: int | None = None

    def __call__(self, prompt: Prompt) -> ModelEdit:
        return self.over(prompt.shape[1])

    def over(self, n: int) -> ModelEdit:
        """Return the edit for prompts of ``n`` tokens."""
        if self.mask.by_content:
            return ContentMask(heads=self.heads, mask=self.mask.describe(), random=self.drawn)
        return Mask(heads=self.heads, allowed=_allowed(self.mask.describe(), n, self.drawn))


@lru_cache(maxsize=32)
def _allowed(text: str, n: int, drawn: int | None) -> Any:
    allowed = named_mask(text).allowed(n)
    return allowed if drawn is None else same_degree(allowed, seed=drawn)
