"""Everything that a bench measured, as one JSON value."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.bench.quantities import options_of
from workbench.bench.settings import Settings, Variant
from workbench.core.run_record import code_versions
from workbench.methods.registry import get_method
from workbench.model.known_circuits import Truth


def document_of(
    settings: Settings,
    variants: Sequence[Variant],
    truths: Sequence[Truth],
    cells: Mapping[str, Sequence[Mapping[str, Any]]],
    left_out: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """Put settings, methods, known circuits and cells together.

    Returns:
        The content of ``bench.json``, as plain values.
    """
    found = {
        "settings": settings.to_dict(),
        "code": code_versions(),
        "machine": f"{platform.machine()}, 1 thread",
        "methods": [_of_method(variant) for variant in variants],
        "known": [_of_truth(truth) for truth in truths],
        **cells,
        "left_out": left_out,
    }
    return json.loads(json.dumps(found, allow_nan=False))


def _of_method(variant: Variant) -> dict[str, Any]:
    method = get_method(variant.method)
    return {
        "method": variant.label,
        "levels": list(method.levels),
        "claim": method.claim,
        "source": method.source,
        "options": options_of(variant),
        "ranking": "signed" if method.signed else "absolute",
        "selection": method.selection,
    }


def _of_truth(truth: Truth) -> dict[str, Any]:
    names = ("model", "algorithm", "norm", "sharpness", "about")
    return {name: getattr(truth, name) for name in names}
