"""A few pairs of prompts for the tiny models: two lengths, named positions that differ from pair to pair."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.tasks.pairs import Pair, Pairs

# (words, {name: index of a word}, {index: word of the corrupted prompt}, correct, incorrect)
_ROWS = (
    ("w10 w23 w31 w47 w52 w60", {"S": 2, "V": 4}, {2: "w77", 3: "w90"}, "Mary", "John"),
    ("w11 w23 w35 w41 w58 w66", {"S": 1, "V": 3}, {1: "w81", 5: "w93"}, "Alex", "Anna"),
    ("w14 w29 w31 w40 w50 w61 w72 w83", {"S": 3, "V": 6}, {3: "w78", 4: "w95"}, "Kate", "Mark"),
    ("w15 w22 w39 w45 w57 w64", {"S": 3, "V": 4}, {3: "w86", 0: "w99"}, "Lucy", "Paul"),
    ("w17 w28 w33 w46 w54 w69 w71 w80", {"S": 2, "V": 5}, {2: "w88", 7: "w91"}, "Tom", "Emma"),
)


def make_pair(row: tuple, identity: str) -> Pair:
    """One pair from words, word positions and replacements."""
    text, named, changed, correct, incorrect = row
    words = text.split()
    other = [changed.get(i, word) for i, word in enumerate(words)]
    positions = {name: (_span(words, i), _span(other, i)) for name, i in named.items()}
    return Pair(
        id=identity,
        clean=" ".join(words),
        corrupted=" ".join(other),
        correct=(f" {correct}",),
        incorrect=(f" {incorrect}",),
        positions=positions,
        group=f"{len(words)} words",
    )


def _span(words: Sequence[str], index: int) -> tuple[int, int]:
    start = sum(len(word) + 1 for word in words[:index])
    return start, start + len(words[index])


def mini_pairs(n: int = 3) -> Pairs:
    """The first ``n`` of five pairs; the first two have six words, the third has eight."""
    return Pairs(items=tuple(make_pair(row, f"mini-{i}") for i, row in enumerate(_ROWS[:n])), task="mini")


def hidden_metric():
    """A metric for models without a language-model head: the mean hidden state along a fixed direction."""
    import torch

    from workbench.engine.metrics import Metric

    def along(hidden, answers, clean=None):
        direction = torch.linspace(-1, 1, hidden.shape[-1], dtype=hidden.dtype).sin()
        return hidden.mean(1) @ direction

    return Metric(
        name="hidden", unit="activation units", direction=1, reads="all", needs_clean=False, fn=along
    )


def metric_for(name: str):
    """Logit difference, or the metric of hidden states on the encoder."""
    return hidden_metric() if name == "bert" else "logit-difference"
