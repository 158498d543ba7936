"""Ensembles, bootstrap averaging and warm starts by hand."""

import numpy as np
import pytest
from scipy.special import expit

from workbench.core.errors import OptionError
from workbench.core.stats.intervals import pair_resamples
from workbench.methods import hard_concrete
from workbench.methods.bootstrap import agreed, resampled
from workbench.methods.ensemble import combined, scaled
from workbench.methods.options.combinations import Bootstrap, Ensemble, HybridEnsemble, SerialEnsemble
from workbench.methods.registry import get_method
from workbench.methods.warm_start import warm_start


@pytest.mark.parametrize("seed", range(3))
def test_every_layer_starts_a_tenth_open_in_the_order_of_its_scores(seed):
    rng = np.random.default_rng(seed)
    layer, sizes = rng.integers(0, 3, 200), rng.lognormal(0, 3, 200)
    m = warm_start(sizes, layer)
    stretched = (
        expit(m / hard_concrete.BETA) * (hard_concrete.ZETA - hard_concrete.GAMMA) + hard_concrete.GAMMA
    )
    for one in range(3):
        here = layer == one
        assert stretched[here].mean() == pytest.approx(0.10, abs=1e-6)
        assert (np.argsort(m[here], kind="stable") == np.argsort(sizes[here], kind="stable")).all()


def test_equal_scores_start_equal():
    assert np.ptp(warm_start(np.ones(7), np.zeros(7, dtype=int))) == 0


def test_draws_are_means_over_pairs_with_replacement():
    per_pair = np.arange(12.0).reshape(3, 2, 2)
    drawn = resampled(per_pair, 500, seed=0)
    chosen = list(pair_resamples(3, draws=500, seed=0))
    assert drawn == pytest.approx(np.stack([per_pair[rows].mean(0) for rows in chosen]))
    assert drawn.mean(0) == pytest.approx(per_pair.mean(0), abs=0.3)


def test_copies_of_a_pair_are_no_further_evidence():
    one = np.random.default_rng(0).normal(0.3, 1, (8, 200))
    copies = np.repeat(one, 16, axis=0)
    names = [str(i) for i in range(8) for _ in range(16)]
    options = Bootstrap(draws=40)
    alone = agreed(resampled(one, 40, 0), options)
    together = agreed(resampled(copies, 40, 0, names), options)
    apart = agreed(resampled(copies, 40, 0), options)
    assert (alone == together).all() and apart.sum() > 2 * alone.sum()


def test_lists_are_typed_with_commas():
    made = get_method("ensemble").make_options(of="eap, eap-ig", combine="weighted", weights="1,2")
    assert made.of == ("eap", "eap-ig") and made.weights == (1.0, 2.0)
    assert get_method("acdc").make_options(sweep=0.1).taus() == [0.1]
    with pytest.raises(OptionError, match="not a list of numbers"):
        get_method("ensemble").make_options(weights="one,two")


def test_draws_that_do_not_agree_on_the_sign_count_for_nothing():
    means = np.array([[1.0, 1.0, -2.0], [1.2, -0.5, -2.0], [0.8, 0.4, -2.1]])
    assert agreed(means, Bootstrap(draws=3)).tolist() == [True, False, True]
    assert agreed(means, Bootstrap(draws=3, z=0.1)).tolist() == [True, True, True]
    wide = np.tile(means[:, 1], 40)[:, None]  # the published spread shrinks with the number of draws alone
    assert not agreed(wide, Bootstrap(draws=120))[0] and agreed(wide, Bootstrap(draws=120, spread="se"))[0]


def test_a_method_counts_the_same_whatever_its_unit():
    rows = np.array([[4.0, -2.0, 1.0, 0.0], [0.1, 0.3, -0.2, 0.0]])
    for scale in ("sum", "rank"):
        one = combined(np.stack([scaled(row, scale) for row in rows]), "mean")
        other = combined(np.stack([scaled(rows[0] * 1000, scale), scaled(rows[1], scale)]), "mean")
        assert one == pytest.approx(other)
    mixed = combined(np.stack([scaled(row, "none") for row in rows]), "mean")
    assert mixed == pytest.approx(rows.mean(0))


def test_union_and_intersection_by_hand():
    rows = np.array([[0.5, -0.4, 0.0], [-0.1, -0.6, 0.2]])
    assert combined(rows, "max").tolist() == [0.5, -0.6, 0.2]
    assert combined(rows, "min").tolist() == [-0.1, -0.4, 0.0]
    assert combined(rows, "weighted", [3, 1]) == pytest.approx([0.35, -0.45, 0.05])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Bootstrap(of="eap-ih"), "eap-ig"),
        (lambda: Bootstrap(draws=1), "at least 2"),
        (lambda: Bootstrap(of="acdc"), "of=NAME"),
        (lambda: Bootstrap(of="ensemble"), "of=NAME"),
        (lambda: Bootstrap(spread="iqr"), "sd, se"),
        (lambda: Ensemble(of=("eap",)), "two methods"),
        (lambda: Ensemble(of=("eap", "hisp")), "node and neurons"),
        (lambda: Ensemble(combine="weighted"), "weights"),
        (lambda: Ensemble(weights=(1.0, 1.0, 1.0)), "weights"),
        (lambda: Ensemble(combine="weighted", weights=(0.0, 0.0, 0.0)), "positive sum"),
        (lambda: SerialEnsemble(start=""), "start is empty"),
        (lambda: SerialEnsemble(start="hisp"), "node and neurons"),
        (lambda: HybridEnsemble(of=("eap",)), "two methods"),
    ],
)
def test_options_that_cannot_be_are_refused(make, says):
    with pytest.raises(OptionError) as caught:
        make()
    assert says in f"{caught.value} {caught.value.hint}"


def test_a_combination_costs_what_its_parts_cost():
    from tests.circuits import TWO
    from workbench.circuits.graph import Graph

    graph = Graph(TWO)

    def cost(name, **options):
        made = get_method(name)
        return made.cost(made.make_options(**options), graph, "edge")

    each = [cost(name) for name in ("eap", "eap-ig")]
    assert cost("ensemble", of=("eap", "eap-ig")).backward == sum(c.backward for c in each)
    assert cost("bootstrap", of="eap-ig") == each[1]
    assert cost("serial-ensemble", steps=7, warmup=3).backward == 7 + each[1].backward
    assert cost("edge-pruning", steps=7, warmup=3).backward == 7
