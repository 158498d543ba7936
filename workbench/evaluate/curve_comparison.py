"""Faithfulness curves beside each other, where they may share an axis: one metric, one unit, one ablation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.core.errors import OptionError
from workbench.core.show import Shown
from workbench.evaluate.curve import Curve


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveComparison(Shown, shown_in="workbench.evaluate.show"):
    """Curves of several methods on one axis, which they may share: one metric, one unit, one ablation."""

    curves: Mapping[str, Curve]

    def to_dataframe(self):
        """One row per method and size."""
        import pandas as pd

        rows = [{"curve": name, **row} for name, c in self.curves.items() for row in c.to_dict()["points"]]
        return pd.DataFrame(rows)

    def areas(self) -> dict[str, dict[str, float]]:
        """CPR and CMD of each curve.

        Raises:
            OptionError: if the curves are over different shares, whose areas cannot be compared.
        """
        grids = {tuple(sorted(c.shares)) for c in self.curves.values()}
        if len(grids) > 1:
            raise OptionError(
                f"the curves are over {len(grids)} different grids of shares; their areas cannot be compared",
                hint="measure them with the same shares=",
            )
        return {name: curve.area() for name, curve in self.curves.items()}


def compare_curves(curves: Mapping[str, Curve]) -> CurveComparison:
    """Put curves on one axis.

    Returns:
        The curves with their areas: faithfulness is a share of the gap, sizes are shares of all edges or nodes.

    Raises:
        OptionError: if they are of different metrics, units or ablations: one axis cannot be of two quantities.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> curve = wb.faithfulness_curve(wb.score(runs, "eap"), runs, shares=(0.1, 1.0), random_draws=1)
        >>> list(wb.compare_curves({"eap": curve}).curves)
        ['eap']
    """
    if not curves:
        raise OptionError("no curves to compare", hint="give at least one curve: {'eap-ig': curve}")
    first, *others = curves.items()
    for name, curve in others:
        if curve.quantity != first[1].quantity:
            raise OptionError(
                f"{first[0]} is measured by {_words(first[1].quantity)}, {name} by {_words(curve.quantity)}; "
                "they cannot share an axis",
                hint="measure both with one metric and one ablation",
            )
    return CurveComparison(curves=dict(curves))


def _words(quantity: tuple[str, str, str]) -> str:
    return "{} in {} under {} ablation".format(*quantity)
