"""Bootstrap and ensembles on a model: what they are made of, measured again by itself."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.mini import mini_pairs
from workbench.core.errors import OptionError
from workbench.core.stats.intervals import pair_resamples
from workbench.evaluate.exact_sample import compare_with_exact
from workbench.methods.by_name import score
from workbench.methods.ensemble import combined, scaled


def test_bootstrap_is_the_mean_of_draws_of_pairs(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(5))
    plain = score(runs, "eap")
    found = score(runs, "bootstrap", of="eap", draws=8, seed=3)
    chosen = list(pair_resamples(5, draws=8, seed=3))
    draws = np.stack([plain.per_pair[rows].mean(0) for rows in chosen])[:, plain.candidates]
    mean, spread = draws.mean(0), draws.std(0, ddof=1)
    stands = abs(mean) > 1.96 * spread
    assert 0 < stands.sum() < stands.size and found.options["agreed"] == stands.sum()
    assert found.values[found.candidates] == pytest.approx(np.where(stands, mean, 0), abs=1e-6)
    assert found.unit == plain.unit and found.options["of"] == "eap"
    with pytest.raises(OptionError, match="one pair"):
        score(runs_of("gpt2", pairs=mini_pairs(1)), "bootstrap", of="eap")


def test_ensembles_are_made_of_their_methods(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(3))
    each = [score(runs, name) for name in ("eap", "eap-ig")]
    rows = np.stack([scaled(found.values[found.candidates], "sum") for found in each])
    both = score(runs, "ensemble", of=("eap", "eap-ig"))
    assert both.values[both.candidates] == pytest.approx(combined(rows, "mean"))
    assert both.unit == "share of all scores" and both.passes == sum(found.passes for found in each)
    # they have a sign, whatever their unit: they are compared with effects, not with the sizes of effects
    sample, exact = compare_with_exact(runs, both, both.n_candidates), score(runs, "exact")
    own, effects = both.values[both.candidates], exact.values[exact.candidates]
    assert not sample.unsigned and sample.rank == pytest.approx(spearmanr(own, effects).statistic)
    with pytest.raises(OptionError, match="magnitude are sizes, those of eap have a sign"):
        score(runs, "ensemble", of=("eap", "magnitude"))
    plain = score(runs, "ensemble", of=("eap", "eap-ig"), scale="none")
    assert plain.unit == each[0].unit
    asked = {"steps": 4, "warmup": 2}
    serial = score(runs, "serial-ensemble", **asked)
    same = score(runs, "edge-pruning", start="eap-ig", **asked)
    assert serial.values[serial.candidates] == pytest.approx(same.values[same.candidates])
    assert serial.keep("own").n_edges == same.keep("own").n_edges
    cold = score(runs, "edge-pruning", **asked)
    assert abs(serial.values - cold.values)[serial.candidates].max() > 0.1
    hybrid = score(runs, "hybrid-ensemble", of=("eap", "eap-ig"), steps=4)
    ranks = np.stack([scaled(found.values[found.candidates], "rank") for found in each])
    masks = scaled(serial.values[serial.candidates], "rank") * np.sign(ranks.mean(0))
    assert hybrid.values[hybrid.candidates] == pytest.approx(np.mean([*ranks, masks], axis=0))
