"""What a refused pickle wanted to load, for error messages."""

from __future__ import annotations

import re
from pickle import UnpicklingError


def refused(error: UnpicklingError) -> str:
    """The foreign thing that `torch.load(weights_only=True)` met, or that the file is damaged.

    torch's own message is a page of advice, with terminal escapes, on how to load the file all the same.
    """
    found = re.search(r"Unsupported (?:global: GLOBAL|class|operand) (\S+)", str(error))
    if found is not None:
        return f"holds more than tensors ({found[1]}), and loading that could run code"
    return "holds more than tensors or is damaged, and loading it otherwise could run code"
