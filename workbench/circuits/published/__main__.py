"""Write the circuit files of ``circuits/published/``: ``python -m workbench.circuits.published [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

from workbench.circuits.files.published import FOLDER, write_published

if __name__ == "__main__":
    for path in write_published(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(path)
