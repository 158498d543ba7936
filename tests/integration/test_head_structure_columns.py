"""The columns of ``--structure``: of every family, within bounds, equal to the functions by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.families import family_dir
from workbench.heads import crosstalk, key_bias, pattern_rank
from workbench.heads.kernel_alignment import cka
from workbench.heads.portrait import portrait
from workbench.heads.structure import AGENTS, KINDS, structure_measurements
from workbench.model.hooks import hook_name
from workbench.model.open import open_model
from workbench.model.probe import record

IDS = torch.arange(3, 39).reshape(2, 18)


@pytest.mark.parametrize("family", ["gpt-neox", "gemma2", "bert", "gpt-oss"])
def test_every_family_is_served_or_told_why_not(family):
    found = structure_measurements(open_model(family_dir(family), device="cpu"), [IDS], on="random")
    assert [m.name for m in found] == list(KINDS)
    for m in found:
        known = m.values[np.isfinite(m.values)]
        assert known.size or m.missing, m.name
        assert m.low is None or (known >= m.low - 1e-6).all(), m.name
        assert m.high is None or (known <= m.high + 1e-6).all(), m.name


def test_columns_are_the_functions_on_patterns_keys_and_outputs():
    model = open_model(family_dir("gpt2"), device="cpu")
    found = {m.name: m for m in structure_measurements(model, [IDS[:1], IDS[1:]], on="random", skip=1)}
    names = [hook_name(site, 1) for site in ("pattern", "k", "v", "head-output")]
    A, k, v, z = (record(model, IDS, names)[1][name] for name in names)
    seen = torch.ones(18, 18, dtype=torch.bool).tril()
    assert found["rank-error"].values[1, 2] == pytest.approx(
        pattern_rank.rank_error(A[:, 2], AGENTS).mean().item(), abs=1e-6
    )
    assert found["key-bias"].values[1, 2] == pytest.approx(
        key_bias.key_bias_share(A[:, 2], seen).mean().item(), abs=1e-6
    )
    keys, values = k[:, 1:, 2], v[:, 1:, 2]
    assert found["key-dimension"].values[1, 2] == pytest.approx(
        crosstalk.effective_dimension(keys).mean().item(), abs=1e-4
    )
    assert found["fidelity"].values[1, 2] == pytest.approx(
        crosstalk.retrieval_fidelity(keys, values).mean().item(), abs=1e-5
    )
    partner = found["cka"].partners[1][2]
    layer, head = int(partner[1]), int(partner[4])
    other = record(model, IDS, [hook_name("head-output", layer)])[1][hook_name("head-output", layer)]
    alike = cka(z[:, 1:, 2].flatten(0, 1), other[:, 1:, head].flatten(0, 1))
    assert found["cka"].values[1, 2] == pytest.approx(alike.item(), abs=1e-5)


def test_a_portrait_has_them_where_they_are_asked_for():
    model = open_model("zoo:marked")
    assert "sensitivity" not in portrait(model, n=2)
    found = portrait(model, n=2, structure=True)
    assert np.isfinite(found["sensitivity"].values).all() and found["sensitivity"].on == "pictures"
    assert found["cka"].partners[0][0].startswith("a")
