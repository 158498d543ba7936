"""Stability: would other pairs of the same task have given the same circuit?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.circuit import Circuit
from workbench.errors import OptionError
from workbench.methods.registry import get_method
from workbench.methods.score import score
from workbench.scores import Scores
from workbench.statistics import chance_jaccard, resamples
from workbench.sweep.runs import PairedRuns
from workbench.verdicts import mean_overlap

Progress = Callable[[int, int, str], None]
_TOP = re.compile(r"(?P<how>top|greedy) (?P<n>\d+) by (?P<by>absolute|signed) score")
_LEAST = re.compile(r"(?P<by>absolute|signed) score >= (?P<tau>\S+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Stability:
    """Circuits found again on resampled pairs.

    Attributes:
        parts: Edges (or nodes) that any of them has; ``sets`` are indices into it, one set per resample.
        candidates: Edges (or nodes) there are to choose from.
        refitted: Whether the method was run again each time, or its scores of single pairs were averaged again.
    """

    method: str
    parts: tuple[str, ...]
    sets: tuple[tuple[int, ...], ...]
    candidates: int
    refitted: bool
    n_pairs: int
    seed: int

    @property
    def jaccard(self) -> float:
        """Mean Jaccard of every two circuits."""
        return mean_overlap(self.sets)

    @property
    def chance(self) -> float:
        """Jaccard expected of random sets of these sizes."""
        size = float(np.mean([len(s) for s in self.sets]))
        return chance_jaccard(size, size, self.candidates)

    def frequency(self) -> dict[str, float]:
        """Part -> share of the resamples that choose it, most frequent first."""
        counts = Counter(i for s in self.sets for i in s)
        return {
            self.parts[i]: counts[i] / len(self.sets) for i in sorted(counts, key=lambda i: (-counts[i], i))
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "parts": list(self.parts),
            "sets": [list(s) for s in self.sets],
            "candidates": self.candidates,
            "refitted": self.refitted,
            "n_pairs": self.n_pairs,
            "seed": self.seed,
        }

    def to_dataframe(self):
        """One row per edge or node with the share of resamples that choose it."""
        import pandas as pd

        return pd.DataFrame(self.frequency().items(), columns=["part", "chosen"])

    def _repr_html_(self) -> str:
        from workbench.view.cards import facts_card
        from workbench.view.html import table_html

        facts = {
            "method": self.method,
            "resamples": f"{len(self.sets)} of {self.n_pairs} pairs",
            "mean Jaccard": self.jaccard,
            "by chance": self.chance,
        }
        rows = [{"part": part, "chosen in": f"{share:.0%}"} for part, share in self.frequency().items()]
        return facts_card(facts) + table_html(rows[:20], caption=f"the most frequent of {len(rows)}")

    def __repr__(self) -> str:
        return f"<Stability: Jaccard {self.jaccard:.2f} over {len(self.sets)} resamples, by chance {self.chance:.2f}>"


def stability(
    circuit: Circuit,
    runs: PairedRuns,
    *,
    draws: int = 100,
    refits: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Stability:
    """Choose the circuit again on resampled pairs, by its own method, options and rule.

    Args:
        runs: The pairs it was found on.
        draws: Resamples where the method gives scores of single pairs, which are only averaged again.
        refits: Resamples where it does not, and must be run again each time.

    Raises:
        OptionError: if the circuit does not say how it was chosen, or by no method of ours.
    """
    choose = _rule(circuit)
    known = get_method(circuit.method).option_names()  # scores also say what is no option, such as the path
    options = {k: v for k, v in circuit.provenance.get("options", {}).items() if k in known}
    per_position = any(data["position"] is not None for data in circuit.nodes.values())
    how = {"level": circuit.level, "per_position": per_position, **options}
    whole = score(runs, circuit.method, progress=progress, **how)

    def found() -> Iterator[Scores]:
        if whole.per_pair is not None:
            for drawn in resamples(runs.n_pairs, draws=draws, seed=seed):
                yield replace(whole, values=whole.per_pair[drawn].mean(0), per_pair=None)
            return
        for k, drawn in enumerate(resamples(runs.n_pairs, draws=refits, seed=seed)):
            yield score(runs.subset(drawn.tolist()), circuit.method, **how)
            if progress:
                progress(k + 1, refits, "circuits on resampled pairs")

    chosen = [tuple(_parts(choose(scores))) for scores in found()]
    parts = tuple(dict.fromkeys(part for parts in chosen for part in parts))
    index = {part: i for i, part in enumerate(parts)}
    return Stability(
        method=circuit.method,
        parts=parts,
        sets=tuple(tuple(sorted(index[p] for p in s)) for s in chosen),
        candidates=whole.n_candidates,
        refitted=whole.per_pair is None,
        n_pairs=runs.n_pairs,
        seed=seed,
    )


def _parts(circuit: Circuit) -> Iterator[str]:
    return (a for a in circuit if a not in ("input", "logits"))


def _rule(circuit: Circuit) -> Callable[[Scores], Circuit]:
    """How the circuit was chosen from its scores, from the words of its selection."""
    rule = str(circuit.selection.get("rule", ""))
    prune = bool(circuit.selection.get("pruned", True))
    if found := _TOP.fullmatch(rule):
        n, by = int(found["n"]), found["by"]
        if found["how"] == "greedy":
            return lambda scores: scores.greedy(n, by=by)
        return lambda scores: scores.top(n, by=by, prune=prune)
    if found := _LEAST.fullmatch(rule):
        return lambda scores: scores.threshold(float(found["tau"]), by=found["by"], prune=prune)
    raise OptionError(
        f"the circuit does not say how it was chosen from scores: {rule or 'no rule'!r}",
        hint="stability needs a circuit that workbench discover made",
    )
