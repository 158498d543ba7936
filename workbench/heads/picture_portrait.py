"""The portrait of a tower: how far its heads look between patches, and on which object, on drawn pictures.

A tower behind a language model has not been told which object is meant: no picture has a frame, and what its class
token looks at has no control. What patches of one object give to their own object and to others has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.circuits.addresses import parse_node
from workbench.core.run_record import digest_of
from workbench.heads.drawn_pictures import DrawnPictures, draw_pictures
from workbench.heads.every_head import Measurement
from workbench.heads.example_looks import ASKED, MARKED
from workbench.heads.observe import patterns_of
from workbench.heads.tower_profile import HeadOnPictures, tower_profile
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

SCENES, UNMARKED = MARKED, ASKED
NO_CLASS = "the tower has no class token"
NOT_MEANT = "no object of the pictures is meant: the tower stands behind a language model that is asked"
FAR = 3  # hops; as far and farther is one ring
Told = tuple[str, str, float | None]
KINDS: dict[str, Told] = {
    "neighbor-strength": ("attention of a patch to one patch beside it (a hop away)", "share of a row", 1.0),
    "hop-distance": ("mean distance that patches look", "hops", None),
    "ring-0": ("attention of a patch to itself", "share of a row", 1.0),
    "ring-1": ("attention of a patch to all patches beside it", "share of a row", 1.0),
    "ring-2": ("attention of a patch to all patches two hops away", "share of a row", 1.0),
    "ring-far": (f"attention of a patch to all patches {FAR} hops away and farther", "share of a row", 1.0),
    "within-object": ("what patches of an object give to that object", "share of what patches get", 1.0),
    "to-other-object": ("what they give to another object, mean over them", "share of what patches get", 1.0),
    "class-to-itself": ("what the class token gives to itself", "share of its row", 1.0),
    "class-from-patches": ("what a patch gives to the class token", "share of a row", 1.0),
    "object-mass": ("what the class token gives to the framed object", "share of what patches get", 1.0),
    "other-object-mass": ("the same for another object, mean over them", "share of what patches get", 1.0),
}


def picture_measurements(
    model: TransformerBridge, *, n: int, seed: int, tower: str | None = None
) -> tuple[list[Measurement], dict[str, Any]]:
    """Measure every head of a tower on drawn pictures, one object of each in a frame.

    Args:
        tower: The tower of a model that also reads words; its pictures have no frames.

    Returns:
        Measurements, ``(layer, head)`` each, and what was shown, for the record.

    Raises:
        ModelError: if the model reads no pictures alone, or pictures of another size than is drawn.
    """
    shown = shown_pictures(model, n=n, seed=seed, tower=tower)
    found = tower_profile(patterns_of(model, shown.prompt, tower=tower).by_head(), shown)
    even = tower_profile({"even": _even(shown)}, shown)["even"]
    wires = wiring(model).of(tower)
    shape = (wires.n_layers, wires.n_heads)
    measured = [_measurement(name, found, even, shape, n, meant=tower is None) for name in KINDS]
    about = "drawn scenes of two to four objects" + ("" if tower else ", a white frame around one")
    digest = digest_of([picture.tobytes().hex() for picture in shown.pixels])
    distinct = len({picture.tobytes() for picture in shown.pixels})
    ground = {"name": "pictures", "about": about, "n": n, "asked": n, "distinct": distinct, "digest": digest}
    return measured, ground


def shown_pictures(model: TransformerBridge, *, n: int, seed: int, tower: str | None = None) -> DrawnPictures:
    """Draw what the heads of a tower are looked at on; an object of each picture is framed where words ask nothing."""
    return draw_pictures(model, UNMARKED if tower else SCENES, n=n, seed=seed, tower=tower)


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
    if name.startswith("ring-"):
        mass = head.rings.mass
        return mass[:, FAR:].sum(-1) if name == "ring-far" else mass[:, int(name[-1])]
    if name in ("within-object", "to-other-object"):
        return head.within.mass if name == "within-object" else head.within.other_mass
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
    chance: HeadOnPictures,
    shape: tuple[int, int],
    n: int,
    *,
    meant: bool,
) -> Measurement:
    about, unit, high = KINDS[name]
    unknown = not meant and name in ("object-mass", "other-object-mass")
    even = None if unknown else _values(chance, name)
    values, stderr, null = (np.full(shape, np.nan) for _ in range(3))
    for head, measured in found.items():
        layer, index = parse_node(head, towers=True).place
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
        missing={} if even is not None else {NOT_MEANT if unknown else NO_CLASS: ()},
    )
