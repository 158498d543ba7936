"""What a circuit keeps by itself, beside random circuits of its size: the content of ``faithfulness.json``, told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.circuits.behavior import Behavior
from workbench.core.show import Told
from workbench.core.stats.dependent_pairs import pairs_said

JUDGED = "faithfulness and verdicts"  # what stands or falls with the model's behavior
_SETTING = ("model", "same_weights", "task", "corruption", "split", "seed", "n_dropped", "ablation")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Told, saved_in="workbench.circuits.files.faithfulness_file"):
    """A circuit's faithfulness beside that of random circuits of its size.

    Attributes:
        values: The document of ``faithfulness.json``.
        notes: What is to be said of the file that it was read from; not written to files.
    """

    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dict(self.values)

    def to_terminal(self) -> list[Any]:
        """Return lines, rows and tables for a terminal."""
        v, random = self.values, self.values["random"]
        value, low, high = (
            np.nan if v[name] is None else v[name] for name in ("faithfulness", "low", "high")
        )
        verdict = faithfulness_sentence(
            v["metric_circuit"],
            v["metric_full"],
            v["metric_empty"],
            value=value,
            low=low,
            high=high,
            metric=v["metric"],
            unit=v["unit"],
            n=v["n"],
            independent=v.get("clusters", v["n"]),
        )
        share = f"{100 * v['size'] / max(1, v['candidates']):.3g}%"
        size = f"the circuit has {v['size']:,} of all {v['candidates']:,} parts of the graph ({share})"
        told = v.get("behavior")
        lead = [] if told is None else [Behavior.from_dict(told).sentence(JUDGED)]
        lines = [*lead, size, verdict]
        if random["draws"]:
            lines.append(
                f"faithfulness of {random['draws']} random circuits of {random['mean_size']:.0f} parts: mean "
                f"{random['faithfulness_mean']:.1%}, largest {random['faithfulness_max']:.1%}, "
                f"{random['as_good_or_better']} of them as near to 100 % or nearer"
            )
        known = {**v} | ({"same_weights": "not recorded"} if v["same_weights"] is None else {})
        notes = [f"note: {note}" for note in self.notes]
        return ["\n".join(lines), *notes, {name.replace("_", " "): known[name] for name in _SETTING}]


def faithfulness_sentence(
    circuit: float,
    full: float,
    empty: float,
    *,
    value: float,
    low: float,
    high: float,
    metric: str,
    unit: str,
    n: int,
    independent: int,
) -> str:
    """Return one sentence from the mean metric of the circuit, of the model and of nothing.

    Example:
        >>> told = {"value": 0.7133, "low": 0.65, "high": 0.77, "metric": "logit-difference", "unit": "logits"}
        >>> print(faithfulness_sentence(5.222, 13.112, -14.41, n=64, independent=64, **told).split(", the share")[0])
        faithfulness = (5.222 - (-14.410)) / (13.112 - (-14.410)) = 71.3% (95% interval 65.0% to 77.0%)
    """
    gap, many = full - empty, pairs_said(n, independent)
    digits = 3 if gap == 0 else min(12, max(3, 4 - int(np.floor(np.log10(abs(gap))))))
    own, whole, nothing = (
        f"{x:.{digits}f}" if x >= 0 else f"({x:.{digits}f})" for x in (circuit, full, empty)
    )
    if not np.isfinite(value):
        return (
            f"faithfulness is not defined: {metric} has no gap between the model ({whole} {unit}) and nothing "
            f"({nothing} {unit}), {many}"
        )
    value, low, high = (round(x, 3) + 0.0 for x in (value, low, high))  # -0.00003 is 0.0%, not -0.0%
    interval = f" (95% interval {low:.1%} to {high:.1%})" if np.isfinite(low) else ""
    return (
        f"faithfulness = ({own} - {nothing}) / ({whole} - {nothing}) = {value:.1%}{interval}, the share "
        f"that the circuit keeps of the {metric} (in {unit}) between nothing and the model, {many}"
    )
