"""Go through the architectures and write the table, or show some rows."""

from __future__ import annotations

import sys
import warnings

import torch
import transformers

from benchmarks.families.page import replace_half, written
from benchmarks.families.rows import names, row


def main() -> int:
    """Write the table of all; show the rows of those that are named."""
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    asked = sys.argv[1:]
    rows = []
    for name in asked or names():
        rows.append(row(name))
        print(rows[-1], flush=True)
    print(f"{sum(found.equal for found in rows)} of {len(rows)} are equal")
    if not asked:
        replace_half(written(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
