"""Stability: would other pairs of the same task have given the same circuit?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.circuits.circuit import Circuit
from workbench.circuits.scores import Scores
from workbench.circuits.selection.rules import said, said_least
from workbench.core.errors import OptionError
from workbench.core.progress import Progress
from workbench.core.show import Shown
from workbench.core.stats.agreement import chance_jaccard, mean_jaccard
from workbench.core.stats.dependent_pairs import grouped
from workbench.core.stats.intervals import pair_resamples
from workbench.engine.of_task import on_a_task
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.methods.registry import get_method

OWN = "own"  # the rule of a circuit whose method made the decision


@dataclass(frozen=True, kw_only=True, eq=False)
class Stability(Shown, shown_in="workbench.evaluate.show"):
    """Circuits found again on resampled pairs.

    Attributes:
        parts: Edges (or nodes) that any of them has; ``sets`` are indices into it, one set per resample.
        candidates: Edges (or nodes) there are to choose from.
        refitted: Whether the method was run again each time, or its scores of single pairs were averaged again.
        note: What is to be said of the pairs, such as that the circuit was found on others.
    """

    method: str
    parts: tuple[str, ...]
    sets: tuple[tuple[int, ...], ...]
    candidates: int
    refitted: bool
    n_pairs: int
    seed: int
    note: str = ""

    @property
    def jaccard(self) -> float:
        """Mean Jaccard of every two circuits; NaN where two are empty."""
        return mean_jaccard(self.sets)

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
        """Return it as JSON values."""
        return {
            "method": self.method,
            "parts": list(self.parts),
            "sets": [list(s) for s in self.sets],
            "candidates": self.candidates,
            "refitted": self.refitted,
            "n_pairs": self.n_pairs,
            "seed": self.seed,
            "note": self.note,
        }

    def to_dataframe(self):
        """One row per edge or node with the share of resamples that choose it."""
        import pandas as pd

        return pd.DataFrame(self.frequency().items(), columns=["part", "chosen"])

    def __repr__(self) -> str:
        return f"<Stability: Jaccard {self.jaccard:.2f} over {len(self.sets)} resamples, by chance {self.chance:.2f}>"


@on_a_task
def stability(
    circuit: Circuit,
    runs: PairedRuns,
    *,
    draws: int = 100,
    refits: int = 10,
    seed: int = 0,
    note: str = "",
    progress: Progress | None = None,
) -> Stability:
    """Choose the circuit again on resampled pairs, by its own method, options and rule.

    Args:
        runs: The pairs it was found on.
        draws: Resamples where the method gives scores of single pairs, which are only averaged again.
        refits: Resamples where it does not, and must be run again each time.

    Returns:
        Mean Jaccard overlap of the circuits, from 0 to 1, with the overlap that chance gives.

    Raises:
        OptionError: if the circuit does not say how it was chosen and with which options, or by no method of ours.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> found = wb.stability(wb.score(runs, "eap").top(100), runs, draws=2, refits=0)
        >>> sorted(vars(found))[:3]
        ['candidates', 'method', 'n_pairs']
    """
    again, clusters = Chooser(circuit, runs, progress=progress), runs.pairs.pairs.clusters
    n = draws if again.averages else refits
    chosen, candidates = [], 0
    for k, drawn in enumerate(pair_resamples(runs.n_pairs, clusters, draws=n, seed=seed)):
        found, candidates = again.on(drawn)
        chosen.append(tuple(_parts(found)))
        if progress and not again.averages:
            progress(k + 1, n, "circuits on resampled pairs")
    parts = tuple(dict.fromkeys(part for parts in chosen for part in parts))
    index = {part: i for i, part in enumerate(parts)}
    return Stability(
        method=circuit.method,
        parts=parts,
        sets=tuple(tuple(sorted(index[p] for p in s)) for s in chosen),
        candidates=candidates,
        refitted=not again.averages,
        n_pairs=runs.n_pairs,
        seed=seed,
        note="; ".join(filter(None, (note, _together(clusters)))),
    )


class Chooser:
    """Chooses a circuit again on some of the pairs it was found on, by its own method, options and rule.

    Attributes:
        averages: Whether the method's scores of single pairs are averaged again; else it is run again each time.

    Raises:
        OptionError: if the circuit does not say how it was chosen and with which options.
    """

    def __init__(self, circuit: Circuit, runs: PairedRuns, *, progress: Progress | None = None) -> None:
        self.circuit, self.runs = circuit, runs
        self._choose, self._how = _rule(circuit), _how(circuit)
        decides = _decides(circuit)
        whole = None if decides else score(runs, circuit.method, progress=progress, **self._how)
        self._whole = whole
        self.averages = whole is not None and whole.per_pair is not None

    def on(self, pairs: np.ndarray) -> tuple[Circuit, int]:
        """Return the circuit of these pairs (one may come twice), and how many parts there were to choose from."""
        if self._whole is not None and self._whole.per_pair is not None:
            scores = replace(self._whole, values=self._whole.per_pair[pairs].mean(0), per_pair=None)
        else:
            scores = score(self.runs.subset(pairs.tolist()), self.circuit.method, **self._how)
        return self._choose(scores), scores.n_candidates


def _together(clusters: Sequence[int]) -> str:
    """How pairs are drawn, where not one by one."""
    return f"pairs of one group are drawn together: {len(set(clusters))} groups" if grouped(clusters) else ""


def _how(circuit: Circuit) -> dict[str, Any]:
    """Level, positions and options by which the circuit's method is run again.

    Raises:
        OptionError: if the circuit does not say the options: the method's defaults may be others.
    """
    said = circuit.provenance.get("options")
    if not isinstance(said, Mapping):
        raise OptionError(
            f"the circuit does not say with which options {circuit.method or 'its method'} was run",
            hint="find the circuit with workbench discover, which writes this down",
        )
    known = get_method(circuit.method).option_names()  # scores also say what is no option, such as the path
    options = {name: value for name, value in said.items() if name in known}
    per_position = any(data["position"] is not None for data in circuit.nodes.values())
    return {"level": circuit.level, "per_position": per_position, **options}


def _decides(circuit: Circuit) -> bool:
    """Whether the method itself decided what is in the circuit; it must then decide again each time."""
    return circuit.selection.get("rule") == OWN


def _parts(circuit: Circuit) -> Iterator[str]:
    return (a for a in circuit if a not in ("input", "logits"))


def _rule(circuit: Circuit) -> Callable[[Scores], Circuit]:
    """How the circuit was chosen from its scores, from the words of its selection."""
    rule = str(circuit.selection.get("rule", ""))
    prune = bool(circuit.selection.get("pruned", True))
    if _decides(circuit):
        return lambda scores: scores.keep(OWN, prune=prune)
    if words := said(rule):
        how, n, by = words
        return lambda scores: scores.choose(n, by=by, select=how, prune=prune or how == "greedy")
    if least := said_least(rule):
        tau, by = least
        return lambda scores: scores.threshold(tau, by=by, prune=prune)
    raise OptionError(
        f"the circuit does not say how it was chosen from scores: {rule or 'no rule'!r}",
        hint="find the circuit with workbench discover, which writes this down",
    )
