"""How often the 95 % intervals of evaluations hold what they should, by the number of pairs.

``python -m benchmarks.coverage`` draws pairs whose true faithfulness is known, thousands of times, and counts. The
smallest number of pairs from which a verdict may rest on such an interval
(``workbench/circuits/verdicts/criteria.py``) is read off here. Four shapes are formulas; three are pairs of built-in
models, of which small samples are drawn and held against all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np

from workbench.circuits.files.markdown import table
from workbench.core.stats.intervals import mean_interval, ratio, ratio_interval
from workbench.core.stats.student import clustered_interval

SIZES = (2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64)
MODELS = {"zoo:ioi": "ioi", "zoo:kv": "kv-retrieval", "zoo:induction": "induction"}
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray, np.ndarray]]


def shape(gap: float, spread: float, noise: float, skewed: bool = False, kept: float = 0.8) -> Draw:
    """Pairs with a mean gap, a spread of single gaps and noise of the circuit; in units of the metric."""

    def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = rng.exponential(1, n) - 1 if skewed else rng.normal(0, 1, n)
        other = rng.exponential(1, n) - 1 if skewed else rng.normal(0, 1, n)
        full, empty = gap / 2 + spread * own, -gap / 2 + spread * rng.normal(0, 1, n)
        return empty + kept * (full - empty) + noise * other, full, empty

    return draw


SHAPES: dict[str, tuple[Draw, float]] = {
    "clear gap": (shape(10, 2, 1), 0.8),
    "wide pairs": (shape(4, 3, 2), 0.8),
    "skewed pairs": (shape(4, 3, 2, skewed=True), 0.8),
    "circuit as good as the model": (shape(10, 2, 1, kept=1.0), 1.0),
}


def measured(model: str, task: str, n: int = 400) -> tuple[Draw, float]:
    """Pairs of a built-in model with a circuit of 5 % of its edges; all of them are the truth for samples of them."""
    import workbench as wb

    found = wb.discover(wb.open_model(model), task, amount="5%", n=n, random_draws=1, roles=False)
    values = found.faithfulness.circuit, found.faithfulness.full, found.faithfulness.empty

    def draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        chosen = rng.integers(0, len(values[0]), size)
        return values[0][chosen], values[1][chosen], values[2][chosen]

    return draw, ratio(*values)


def covered(draw: Draw, truth: float, n: int, *, repeats: int, seed: int) -> dict[str, float]:
    """Share of draws of ``n`` pairs whose intervals hold the truth: of a faithfulness, and of a mean two ways."""
    rng, counts = np.random.default_rng([seed, n]), np.zeros(3)
    big = draw(np.random.default_rng([seed, 1]), 400_000)
    mean = float((big[0] - big[1]).mean())
    for k in range(repeats):
        circuit, full, empty = draw(rng, n)
        change = circuit - full
        intervals = (
            (ratio_interval(circuit, full, empty, seed=k), truth),
            (mean_interval(change, seed=k), mean),
            (clustered_interval(change), mean),
        )
        counts += [low <= value <= high for (low, high, _), value in intervals]
    return dict(
        zip(
            ("faithfulness, bootstrap", "a mean, bootstrap", "a mean, Student"), counts / repeats, strict=True
        )
    )


def rows(names: dict[str, tuple[Draw, float]], *, repeats: int, seed: int) -> Iterator[dict[str, object]]:
    """One row per number of pairs: coverage of the faithfulness for every shape, the least, and of means."""
    for n in SIZES:
        found = {name: covered(*of, n, repeats=repeats, seed=seed) for name, of in names.items()}
        kept = {name: got["faithfulness, bootstrap"] for name, got in found.items()}
        row = {"pairs": str(n)} | {name: f"{x:.3f}" for name, x in kept.items()}
        row["least"] = f"{min(kept.values()):.3f}"
        for what in ("a mean, bootstrap", "a mean, Student"):
            row[f"{what}: least"] = f"{min(got[what] for got in found.values()):.3f}"
        yield row


def main() -> None:
    """Print the table as Markdown."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--repeats", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--no-models", action="store_true", help="formulas only, without torch")
    asked = options.parse_args()
    names = SHAPES | (
        {} if asked.no_models else {name: measured(name, task) for name, task in MODELS.items()}
    )
    print(table(list(rows(names, repeats=asked.repeats, seed=asked.seed))))


if __name__ == "__main__":
    main()
