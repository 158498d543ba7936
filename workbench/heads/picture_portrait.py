"""The portrait of a tower: how far its heads look between patches, and on which object, on drawn pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.run_record import digest_of
from workbench.heads.drawn_pictures import DrawnPictures, draw_pictures
from workbench.heads.observe import patterns_of
from workbench.heads.table import Measurement
from workbench.heads.tower_profile import HeadOnPictures, tower_profile
from workbench.tasks.scenes.layout import World

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SCENES = World(objects=(0.0, 1.0, 1.0, 1.0), marked=True)  # two to four objects, a frame around one
NO_CLASS = "the tower has no class token"
Told = tuple[str, str, float | None]
KINDS: dict[str, Told] = {
    "neighbor-strength": ("attention of a patch to one patch beside it (a hop away)", "share of a row", 1.0),
    "hop-distance": ("mean distance that patches look", "hops", None),
    "class-to-itself": ("what the class token gives to itself", "share of its row", 1.0),
    "class-from-patches": ("what a patch gives to the class token", "share of a row", 1.0),
    "object-mass": ("what the class token gives to the framed object", "share of what patches get", 1.0),
    "other-object-mass": ("the same for another object, mean over them", "share of what patches get", 1.0),
}


def picture_measurements(
    model: TransformerBridge, *, n: int, seed: int
) -> tuple[list[Measurement], dict[str, Any]]:
    """Measure every head of a tower on drawn pictures, one object of each in a frame.

    Returns:
        Measurements, ``(layer, head)`` each, and what was shown, for the record.

    Raises:
        ModelError: if the model reads no pictures alone, or pictures of another size than is drawn.
    """
    shown = draw_pictures(model, SCENES, n=n, seed=seed)
    found = tower_profile(patterns_of(model, shown.prompt).by_head(), shown)
    even = tower_profile({"even": _even(shown)}, shown)["even"]
    shape = (model.cfg.n_layers, model.cfg.n_heads)
    measured = [_measurement(name, found, _values(even, name), shape, n) for name in KINDS]
    about = "drawn scenes of two to four objects, a white frame around one"
    digest = digest_of([picture.tobytes().hex() for picture in shown.pixels])
    distinct = len({picture.tobytes() for picture in shown.pixels})
    ground = {"name": "pictures", "about": about, "n": n, "asked": n, "distinct": distinct, "digest": digest}
    return measured, ground


def _even(shown: DrawnPictures) -> np.ndarray:
    """The pattern of a head that looks everywhere alike."""
    size = shown.sight.n_tokens
    return np.full((len(shown), size, size), 1 / size)


def _values(head: HeadOnPictures, name: str) -> np.ndarray | None:
    """One number per picture; None where a tower has no such thing."""
    if name == "neighbor-strength":
        return head.rings.strength[:, 1]
    if name == "hop-distance":
        return head.distance
    if head.shares is None or head.located is None:
        return None
    return {
        "class-to-itself": np.asarray(head.shares.to_itself),
        "class-from-patches": np.asarray(head.shares.from_patches),
        "object-mass": head.located.mass,
        "other-object-mass": head.located.other_mass,
    }[name]


def _measurement(
    name: str,
    found: dict[str, HeadOnPictures],
    even: np.ndarray | None,
    shape: tuple[int, int],
    n: int,
) -> Measurement:
    about, unit, high = KINDS[name]
    values, stderr, null = (np.full(shape, np.nan) for _ in range(3))
    for head, measured in found.items():
        layer, index = (int(part[1:]) for part in head.split("."))
        own = _values(measured, name)
        if own is None or even is None:
            continue
        values[layer, index], null[layer, index] = np.nanmean(own), np.nanmean(even)
        stderr[layer, index] = np.nanstd(own, ddof=1) / np.sqrt(np.isfinite(own).sum())
    return Measurement(
        name=name,
        on="pictures",
        evidence="read-out",
        values=values,
        stderr=stderr,
        null=null,
        low=0.0,
        high=high,
        unit=unit,
        about=about,
        null_about="a head that looks everywhere alike",
        n=n,
        missing={} if even is not None else {NO_CLASS: ()},
    )
