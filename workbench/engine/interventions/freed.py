"""What becomes of the weight that an edit of a pattern frees. No torch here: saved edits are read with it."""

from __future__ import annotations

from typing import Literal

Share = Literal["proportional", "uniform"]
Mass = Literal["conserve", "leak"]
