"""Circuits that papers name, as data with their source: ``published:ioi``, ``published:greater-than``, ...

``python -m workbench.circuits.published`` writes them to ``circuits/published/`` as circuit files.
"""

from __future__ import annotations

from workbench.circuits.published.by_name import list_published, load_published, published_name
from workbench.circuits.published.kinds import Published, PublishedClass, Way

__all__ = [
    "PublishedClass",
    "Published",
    "Way",
    "list_published",
    "load_published",
    "published_name",
]
