"""`docs/families.md` says of every family what really happens on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests import family_table
from tests.families import family_dir
from workbench.model import architecture
from workbench.model.architecture import Support

MODELS = dict(family_table.models())


def test_every_family_has_a_row():
    missing = set(MODELS) - set(family_table.read_page())
    assert not missing


@pytest.mark.parametrize("name", MODELS)
def test_row_is_what_happens(name):
    """Each claim is carried out by the engine and compared with the naive loop; see `tests/family_table.py`."""
    found = family_table.verify(MODELS[name], encoder=name in ("bert", family_table.MINILM))
    said = {kind: family_table.said(support) for kind, support in found.support.items()}
    assert family_table.read_page()[name] == said


@pytest.mark.parametrize(
    ("family", "kind", "claim"),
    [("opt", "mlp-out", False), ("native", "mlp-out", True), ("bert", "edge-level", True)],
)
def test_false_claims_are_found_out(monkeypatch, family, kind, claim):
    honest = architecture.describe

    def wrong(bridge):
        found = honest(bridge)
        return replace(found, support={**found.support, kind: Support(works=claim, why="they say")})

    monkeypatch.setattr(family_table, "describe", wrong)
    with pytest.raises(family_table.Refuted, match=kind):
        family_table.verify(family_dir(family), encoder=family == "bert")


def test_wrong_numbers_are_found_out(monkeypatch):
    honest = family_table.sweep

    def wrong(runs, interventions, **options):
        table = honest(runs, interventions, **options)
        return replace(table, patched=table.patched + 1e-3)

    monkeypatch.setattr(family_table, "sweep", wrong)
    with pytest.raises(family_table.Refuted, match=r"differs from the naive loop by 0\.001"):
        family_table.verify(family_dir("gpt2"), encoder=False)
