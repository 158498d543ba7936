"""Prompts and pictures as the page of a circuit shows them: names of positions, patterns of heads, what heads write."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from workbench.circuits.addresses import parse_node
from workbench.circuits.details import Patches, ShownPrompt, WrittenTokens, pattern_text
from workbench.core.errors import WorkbenchError
from workbench.core.text import printable
from workbench.engine.carried_values import LinearLogits
from workbench.engine.paired_runs import Batch, PairedRuns, RunName
from workbench.engine.sides import sides_of
from workbench.engine.source_outputs import outputs_of_side
from workbench.heads.observe import patterns_of
from workbench.heads.picture_look import patch_positions
from workbench.model.captions import CAPTIONS
from workbench.model.pattern_rows import looked
from workbench.model.sight import sight_of
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Sight
from workbench.view.raster import png

MOST_TOKENS = 5
MOST_PIXELS = 512 * 512  # of a picture that a page holds: half a megabyte as a PNG of noise


def shown_prompts(runs: PairedRuns, heads: Sequence[str], n: int, notes: list[str]) -> list[ShownPrompt]:
    """Return the clean prompts of the first pairs and the corrupted partner of the first, once for each stack of heads.

    Args:
        heads: Whose patterns are shown; those of a tower on its own positions.
        n: How many pairs.
        notes: Takes what is not shown, and why.
    """
    wanted: list[tuple[int, RunName]] = [
        *((i, "clean") for i in range(min(n, runs.n_pairs))),
        (0, "corrupted"),
    ]
    stacks: dict[str | None, list[str]] = defaultdict(list)
    for head in heads:
        stacks[parse_node(head, towers=True).tower].append(head)
    found = []
    for tower, own in stacks.items():
        try:
            found += [_shown(runs, i, run, tower, own, notes) for i, run in wanted]
        except WorkbenchError as problem:
            of_tower = "" if tower is None else f" of {tower}"
            notes.append(f"patterns{of_tower} are not shown: {problem.message}")
    return found


def _shown(
    runs: PairedRuns, i: int, run: RunName, tower: str | None, heads: Sequence[str], notes: list[str]
) -> ShownPrompt:
    one = runs.subset([i])
    [batch] = one.batches
    stack = None if tower == runs.own_stack else tower  # the model's own, under its name
    seen = patterns_of(runs.model, batch.prompt(run), tower=stack).patterns
    places = {head: parse_node(head, towers=True).place for head in heads}
    weights = {
        head: _bytes(looked(seen[layer])[0, index])
        for head, (layer, index) in places.items()
        if layer in seen
    }
    causal = not any(np.triu(pattern, 1).any() for pattern in weights.values())
    size = len(next(iter(weights.values())))
    picture = _picture(runs, i, run, batch, stack)
    of_tower = "" if tower is None else f", {tower}"
    return ShownPrompt(
        title=printable(f"pair {runs.pairs.pairs[i].id}, {run}{of_tower}"),
        tokens=_names(one, batch, run, size, picture, stack),
        read_at=int(batch.answer_pos[0]) if stack is None else 0,
        reads="where the answer is read" if stack is None else "its first position",
        causal=causal,
        patterns={head: pattern_text(pattern, causal=causal) for head, pattern in weights.items()},
        writes=_writes(one, heads, notes) if run == "clean" and stack is None else {},
        picture=picture,
    )


def _bytes(shares: Tensor) -> UInt8[np.ndarray, "query key"]:
    return (shares.nan_to_num().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _names(
    runs: PairedRuns, batch: Batch, run: RunName, size: int, picture: Patches | None, stack: str | None
) -> list[str]:
    """What stands at each position: a word, a patch by row and column, or a class token."""
    sight = sight_of(runs.model)
    reads_words = stack is None and (sight is None or sight.token is not None)
    ids = (batch.clean if run == "clean" else batch.corrupted)[0].tolist()
    if stack == "text" and CAPTIONS in batch.prompt(run).extras:
        reads_words, ids = True, batch.prompt(run).extras[CAPTIONS][0].tolist()
    names = [_text(runs, token) for token in ids] if reads_words else [str(at) for at in range(size)]
    if picture is not None:
        if not reads_words and picture.first:
            names[0] = "class"
        for k, at in enumerate(patch_positions((picture.rows, picture.columns), picture.first, picture.gap)):
            names[at] = f"patch {k // picture.columns},{k % picture.columns}"
    return names


def _text(runs: PairedRuns, token: int) -> str:
    tokenizer = runs.model.tokenizer
    return str(token) if tokenizer is None or not len(tokenizer) else str(tokenizer.decode([token]))


def _picture(runs: PairedRuns, i: int, run: RunName, batch: Batch, stack: str | None) -> Patches | None:
    """The picture of a prompt and where its patches stand; None without one, or where patches are in no rows."""
    images, sight = runs.pairs.pairs[i].image, sight_of(runs.model)
    if images is None or sight is None or not batch.sets:
        return None
    image = images[0 if run == "clean" else 1]
    sight = sight.of(image)
    place = _first_and_gap(batch, sight, stack)
    if place is None:
        return None
    rows, columns = sight.grid
    return Patches(rows=rows, columns=columns, first=place[0], gap=place[1], png=_png(image))


def _first_and_gap(batch: Batch, sight: Sight, stack: str | None) -> tuple[int, int] | None:
    """Where the first patch stands, and how many other positions are between two rows."""
    if stack is not None:
        return None if batch.tower_start is None or stack != "vision" else (batch.tower_start, 0)
    at = tuple(batch.sets[0].get("image", ()))
    rows, columns = sight.grid
    if len(at) != rows * columns:
        return None
    gap = at[columns] - at[0] - columns if rows > 1 else 0
    return (at[0], gap) if at == patch_positions(sight.grid, at[0], gap) else None


def _png(image: Picture) -> str:
    """The picture in base64 where it is colours and not too large; else nothing."""
    pixels = image.pixels
    if pixels.dtype != np.uint8 or pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        return ""
    return base64.b64encode(png(pixels)).decode("ascii")


def _writes(one: PairedRuns, heads: Sequence[str], notes: list[str]) -> dict[str, WrittenTokens]:
    """The tokens that each head raises and lowers most where the answer is read, the last norm frozen."""
    if not one.wiring.head_writes or one.wiring.compares:
        return {}
    [batch] = one.batches
    try:
        with torch.no_grad():
            out = LinearLogits.of(one, batch)
            side = next(side for side in sides_of(one, one.wiring.graph()) if side.tower is None)
            written = outputs_of_side(one, batch, "clean", side)[0, batch.answer_pos[0]].double()
            labels = [str(source) for source in side.graph.sources]
            rows = [labels.index(head) for head in heads]
            logits = torch.cat([out.logits(written[row][None]) for row in rows])
    except WorkbenchError as problem:
        if (note := f"which tokens heads raise is not shown: {problem.message}") not in notes:
            notes.append(note)
        return {}
    return dict(zip(heads, _extremes(one, logits - logits.mean(1, keepdim=True)), strict=True))


def _extremes(one: PairedRuns, logits: Float[Tensor, "head d_vocab"]) -> Iterable[WrittenTokens]:
    k = min(MOST_TOKENS, logits.shape[1])
    for row in logits:
        high, low = row.topk(k), row.topk(k, largest=False)
        yield WrittenTokens(
            raised=[
                (_text(one, i), v) for i, v in zip(high.indices.tolist(), high.values.tolist(), strict=True)
            ],
            lowered=[
                (_text(one, i), v) for i, v in zip(low.indices.tolist(), low.values.tolist(), strict=True)
            ],
        )
