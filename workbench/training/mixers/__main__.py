"""Train the arms of a comparison and keep them: ``python -m workbench.training.mixers NAME --out FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workbench.training.mixers.arms import COMPARISONS, get_comparison
from workbench.training.mixers.comparison import train
from workbench.training.mixers.kept_weights import HOME, files_of
from workbench.training.mixers.shipped import keep_arms


def main() -> None:
    """Train, keep and say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help=f"one of {', '.join(COMPARISONS)}")
    parser.add_argument("--out", type=Path, default=HOME, help="the folder of weights and card")
    parser.add_argument(
        "--scratch", type=Path, help="a folder for checkpoints, from which a killed run goes on"
    )
    asked = parser.parse_args()
    comparison = get_comparison(asked.name)
    arms = train(comparison, scratch=asked.scratch)
    keep_arms(arms, retrain=f"python -m workbench.training.mixers {asked.name}", home=asked.out)
    print(f"wrote {', '.join(map(str, files_of(asked.name, asked.out)))}", file=sys.stderr)


if __name__ == "__main__":
    main()
