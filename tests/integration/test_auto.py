"""The method that chooses among cheap ones: the choice is the best by its sample, the scores are of the choice."""

from __future__ import annotations

import numpy as np
import pytest

from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.bench.quantities import agreement
from workbench.core.errors import OptionError
from workbench.engine.distribute import Here
from workbench.engine.of_task import paired_runs
from workbench.engine.store import SweepStore
from workbench.evaluate.found_circuit import discover
from workbench.methods.by_name import score
from workbench.methods.registry import get_method
from workbench.model.open import open_model

OF = ("random", "eap", "eap-ig")


@pytest.fixture(scope="module")
def runs():
    return paired_runs(open_model(family_dir("native"), device="cpu"), mini_pairs(2))


def test_with_all_edges_it_takes_the_best_of_all(runs):
    found = score(runs, "auto", of=OF, sample=10_000)
    truth = score(runs, "exact", level="edge")
    full = {name: agreement(score(runs, name), truth)["pearson"] for name in OF}
    assert found.options["chosen"] == max(full, key=full.__getitem__) != "random"
    for name in OF:  # 1e-4: float32 in passes stacked otherwise
        assert found.options["correlations"][name]["linear"]["value"] == pytest.approx(full[name], abs=1e-4)


def test_scores_are_those_of_the_chosen_method_and_the_sample_is_of_the_seed(runs):
    found, again = (score(runs, "auto", of=OF, sample=12, seed=3) for _ in range(2))
    assert found.method == "auto" and found.options == again.options
    chosen = score(runs, found.options["chosen"])
    assert np.array_equal(found.values, chosen.values, equal_nan=True) and found.unit == chosen.unit


def test_methods_keep_their_parts_apart_on_disk(runs, tmp_path):
    """Before, every method found the parts of the first one in the folder, and all had its scores."""
    plain = score(runs, "auto", of=OF, sample=12).options["correlations"]
    with SweepStore(tmp_path / "kept", {"of": "this test"}, resume=False) as store:
        runs.division = Here().asked("this test", store)
        try:
            kept, again = (score(runs, "auto", of=OF, sample=12).options["correlations"] for _ in range(2))
        finally:
            runs.division = Here()
    assert kept == again == plain and plain["random"] != plain["eap"] != plain["eap-ig"]


def test_discover_says_which_and_why(runs):
    how = {"of": OF, "sample": 12}
    found = discover(runs, "auto", amount="20%", options=how, random_draws=0, shares=(0.2, 1.0), roles=False)
    chosen = found.scores.options["chosen"]
    assert f"{chosen} agrees best with exact effects (12 of" in found.to_terminal()[0]
    assert found.circuit.provenance["options"]["chosen"] == chosen


def test_cost_is_that_of_all_and_of_the_sample(runs):
    method, graph = get_method("auto"), runs.wiring.graph()
    cost = method.cost(method.make_options(of=("eap", "eap-ig"), sample=8), graph, "edge")
    assert (cost.forward, cost.backward) == (2 + 7 + 8, 1 + 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"of": ("eap",)}, "two methods or more"),
        ({"of": ("eap", "auto")}, "cannot choose itself"),
        ({"of": ("eap", "eapig")}, "did you mean eap-ig"),
        ({"of": ("eap", "hisp")}, "not edges"),
        ({"sample": 3}, "at least 4"),
    ],
)
def test_mistakes_are_explained_before_anything_is_run(options, said):
    with pytest.raises(OptionError, match=said):
        get_method("auto").make_options(**options)
