"""Compare a circuit found with pixels with the same circuit of a Llama that sees no pixels, edge by edge.

Tower and projector of ``zoo:vlm`` run once; what they write becomes rows of the embedding and words of the tokenizer
(``tests/picture_words.py``). What remains is a plain Llama in a directory, on which everything runs that runs on words.
``python -m benchmarks.picture_as_words`` prints how far the two agree and writes one row for each edge.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

import workbench as wb
from tests.picture_words import patch_word, picture_as_words, save_as_words
from workbench.core.stats.agreement import spearman
from workbench.engine.paired_runs import PairedRuns
from workbench.model.builtin import locate
from workbench.tasks.pairs import Pair, Pairs

IMAGE = "<image>"


@dataclass(frozen=True)
class Beside:
    """Scores of the same edges, in the metric's unit: with pixels, and with the picture as words."""

    edges: tuple[str, ...]
    pixels: np.ndarray
    words: np.ndarray

    def rows(self) -> list[tuple[str, float, float, float]]:
        """Return edge, both scores and their difference, the largest score with pixels first."""
        order = np.argsort(-abs(self.pixels), kind="stable")
        values = (self.pixels, self.words, self.pixels - self.words)
        return [(self.edges[i], *(float(v[i]) for v in values)) for i in order]

    def facts(self, share: float = 0.05) -> dict[str, float | int]:
        """Return how far the two agree."""
        n = int(share * len(self.edges))
        best = [set(np.argsort(-abs(v), kind="stable")[:n].tolist()) for v in (self.pixels, self.words)]
        return {
            "edges": len(self.edges),
            "largest score with pixels": float(abs(self.pixels).max()),
            "largest difference": float(abs(self.pixels - self.words).max()),
            "rank correlation of sizes": spearman(abs(self.pixels), abs(self.words)),
            f"of the best {n} with pixels also among the best with words": len(best[0] & best[1]),
        }


def as_words(runs: PairedRuns, name: str, folder: Path) -> tuple[Path, Pairs]:
    """Write the Llama whose words are these pictures, and say the same pairs in its words."""
    directory = locate(name).directory or Path(name)
    llava = LlavaForConditionalGeneration.from_pretrained(directory).eval()
    index = np.arange(runs.n_pairs)
    sides = [runs.prompt_of(run, index).extras["pixel_values"] for run in ("clean", "corrupted")]
    llama, ids = picture_as_words(llava, torch.cat(sides))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    save_as_words(llama, tokenizer, ids, folder)

    def said(text: str, picture: int) -> str:
        return text.replace(IMAGE, " ".join(patch_word(picture, patch) for patch in range(ids.shape[1])))

    items = tuple(
        Pair(
            id=pair.id,
            clean=said(pair.clean, i),
            corrupted=said(pair.corrupted, runs.n_pairs + i),
            correct=pair.correct,
            incorrect=pair.incorrect,
        )
        for i, pair in enumerate(runs.pairs.pairs)
    )
    return folder, Pairs(items=items, task=runs.pairs.pairs.task)


def compare(name: str, task: str, method: str, n: int) -> tuple[Beside, dict[str, tuple[float, float]]]:
    """Score every edge both ways, and run the best 20 % as a circuit both ways."""
    seen = wb.paired_runs(wb.open_model(name), task, n=n, split="train")
    with TemporaryDirectory() as folder:
        place, pairs = as_words(seen, name, Path(folder))
        read = wb.paired_runs(wb.open_model(place), pairs)
        both = [wb.score(runs, method) for runs in (seen, read)]
        circuit = both[0].fraction(0.2)
        kept = [wb.faithfulness(circuit, runs).faithfulness for runs in (seen, read)]
        ends = {
            "metric of the clean run": (float(seen.clean.mean()), float(read.clean.mean())),
            "metric of the corrupted run": (float(seen.corrupted.mean()), float(read.corrupted.mean())),
            "faithfulness of the best 20 % with pixels": (kept[0], kept[1]),
        }
    graph = seen.wiring.graph()
    where = graph.edge_mask
    names = tuple(map(str, graph.edges()))
    return Beside(names, both[0].values[where], both[1].values[where]), ends


def main() -> None:
    """Print the comparison and write the table."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--model", default="zoo:vlm")
    asked.add_argument("--task", default="scene-exist")
    asked.add_argument("--method", default="eap-ig")
    asked.add_argument("--pairs", type=int, default=32)
    asked.add_argument("--out", type=Path, default=Path("picture-as-words.csv"))
    given = asked.parse_args()
    torch.set_num_threads(1)
    found, ends = compare(given.model, given.task, given.method, given.pairs)
    print(
        f"{given.model}, {given.task}, {given.method}, {given.pairs} pairs: with pixels, with the picture as words"
    )
    for what, (pixels, words) in ends.items():
        print(f"{what:45} {pixels:12.6f} {words:12.6f}")
    for what, value in found.facts().items():
        print(f"{what:65} {value:.8g}")
    rows = found.rows()
    for edge, pixels, words, difference in rows[:10]:
        print(f"{edge:28} {pixels:12.6f} {words:12.6f} {difference:10.1e}")
    with given.out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("edge", "pixels", "words", "difference"))
        writer.writerows((edge, *map(repr, values)) for edge, *values in rows)
    print(f"wrote {given.out}: {len(rows)} edges")


if __name__ == "__main__":
    main()
