"""The words of interventions: what may be put in place, of which parts, in which run. No torch here."""

from __future__ import annotations

from typing import Literal, cast, get_args

from workbench.core.errors import unknown

Value = Literal[
    "zero", "mean", "mean-per-position", "mean-per-name", "mean-per-template", "clean", "corrupted"
]
VALUES: tuple[str, ...] = get_args(Value)
Ablation = Literal["resample", "mean", "mean-per-position", "mean-per-name", "mean-per-template", "zero"]
ABLATIONS: tuple[str, ...] = get_args(Ablation)
Parts = Literal["heads", "mlps", "attention", "layers"]
PARTS: tuple[str, ...] = get_args(Parts)
Mode = Literal["noising", "denoising"]
MODES: tuple[str, ...] = get_args(Mode)
Mlps = Literal["recomputed", "frozen"]  # of the MLPs that a path may pass through
MLPS: tuple[str, ...] = get_args(Mlps)
SpanKind = Literal["spans", "positions", "tokens"]  # which tokens are looked at together
SPAN_KINDS: tuple[str, ...] = get_args(SpanKind)


def value_named(ablation: str) -> Value:
    """Return the value that an ablation puts in place: resample is the corrupted partner's.

    Raises:
        WorkbenchError: for a word that is no ablation.

    Example:
        >>> value_named("resample"), value_named("mean")
        ('corrupted', 'mean')
    """
    if ablation not in ABLATIONS:
        raise unknown("ablation", ablation, ABLATIONS)
    return "corrupted" if ablation == "resample" else cast(Value, ablation)
