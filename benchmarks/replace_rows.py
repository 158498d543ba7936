"""Seconds of one core for a row of `attention replace`: ``python -m benchmarks.replace_rows``.

Every pattern in all layers and in odd ones of five built-in models, on the built-in text or a task, as
``workbench attention replace -m MODEL -t TASK --layers all --layers odd`` measures them.
"""

from __future__ import annotations

import time

import torch

import workbench as wb
from workbench.edits.substitute import PATTERNS

MODELS = {
    "zoo:stdlib": None,
    "zoo:ioi": "ioi",
    "zoo:induction": "induction",
    "zoo:kv": "kv-retrieval",
    "zoo:vlm": "scene-attributes",
}


def seconds_of(name: str, task: str | None) -> dict[str, float]:
    """Return processor seconds of every row, by pattern and layers, and of making the texts."""
    model, begun = wb.open_model(name), time.process_time()
    texts = wb.texts_of_corpus(model) if task is None else wb.texts_of_task(model, task)
    found = {"texts": time.process_time() - begun}
    for pattern in PATTERNS:
        for layers in ("all", "odd"):
            begun = time.process_time()
            wb.replace_attention(texts, [pattern], layers=[layers])
            found[f"{pattern}, {layers} layers"] = time.process_time() - begun
    return found


def main() -> None:
    """Print for every model the dearest row, the middle one and mean patterns in odd layers, as Markdown."""
    torch.set_num_threads(1)
    print(
        "| model | dearest row | seconds | middle row | mean in odd layers | texts |\n|---|---|---|---|---|---|"
    )
    for name, task in MODELS.items():
        found = seconds_of(name, task)
        texts = found.pop("texts")
        dearest = max(found, key=found.__getitem__)
        cells = [found[dearest], sorted(found.values())[len(found) // 2], found["mean, odd layers"], texts]
        print(f"| {name} | {dearest} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")


if __name__ == "__main__":
    main()
