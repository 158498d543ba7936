"""`python -m workbench.training NAME`: train a built-in model, measure it, write its directory and card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from workbench.core.errors import WorkbenchError
from workbench.model.builtin import ZOO
from workbench.training import RECIPES, get_recipe
from workbench.training.recipe import make, measure_again, sentences
from workbench.training.zoo_page import checkout, write_page


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, say where everything is."""
    parser = argparse.ArgumentParser(prog="python -m workbench.training", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--out", type=Path, help="directory of the model (default: its place in the zoo)")
    parser.add_argument("--seed", type=int, help="default: the recipe's own")
    parser.add_argument(
        "--scratch", type=Path, help="folder for checkpoints; a killed run goes on from there"
    )
    parser.add_argument("--measure", action="store_true", help="only measure the model that is there again")
    parser.add_argument("--docs", action="store_true", help="only write docs/zoo.md from the cards")
    options = parser.parse_args(arguments)
    if not options.docs and options.name is None:
        parser.error("say which model, or --docs")
    try:
        if options.name is not None:
            directory = options.out or ZOO / options.name
            recipe = get_recipe(options.name)
            if options.measure:
                card = measure_again(recipe, directory)
            else:
                card = make(recipe, directory, seed=options.seed, scratch=options.scratch)
            for line in (*sentences(card, "can"), *sentences(card, "cannot")):
                print(line)
            print(f"wrote {directory}", file=sys.stderr)
        root = checkout()
        if root is not None and (options.docs or options.out is None):
            print(f"wrote {write_page(root)}", file=sys.stderr)
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
