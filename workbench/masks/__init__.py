"""Who may look at whom: masks by name, what they let through, and attention under them in two forms.

>>> import workbench as wb
>>> wb.masks.reached(wb.masks.window(64, 9), 3)
[9, 17, 25]

Public names are loaded when they are first used: names and options of masks are checked without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "registry": ("MASKS", "CONTENT_MASKS", "mask", "content_mask"),
    "mask_words": ("NamedMask", "named_mask"),
    "sequences": (
        "causal",
        "every_key",
        "window",
        "at_distances",
        "dilated",
        "powers_of_two",
        "power_blocks",
        "stride",
        "neighborhood",
        "blocks",
        "agents",
    ),
    "grids": ("grid_neighborhood", "axial", "grid_dilated", "grid_blocks"),
    "chosen_keys": ("top_keys", "routed_regions", "routed_behind", "of_regions", "regions_of_grid"),
    "reachable": ("degree", "reach", "reached", "without_gaps", "layers_to_reach"),
    "refusals": ("check_mask", "leaks_of"),
    "derived": ("unlock", "unlock_at_random", "visible_to", "same_degree", "check_span"),
    "gathers": (
        "masked_attention",
        "gathered_attention",
        "windowed_attention",
        "keys_of",
        "neighborhood_keys",
        "grid_neighborhood_keys",
    ),
    "region_gathers": ("routed_attention", "halo_attention", "halo_keys"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"workbench.masks has no public name {name!r}; it has {', '.join(__all__)}")
    found = getattr(import_module(f"workbench.masks.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return list(__all__)
