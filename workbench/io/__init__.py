"""Circuit files in and out. Nothing here imports torch."""

from __future__ import annotations

from workbench.io.atomic import write_atomic

__all__ = ["write_atomic"]
