"""Searches that are sequential go on where they were killed: the same bits, and what was measured is not run again."""

import numpy as np
import pytest

import workbench as wb
from workbench.engine.distribute import Here
from workbench.engine.store import SweepStore

OPTIONS = {
    "acdc": {"tau": 0.3},
    "edge-pruning": {"steps": 8, "warmup": 4, "restarts": 2, "batch": 4},
    "subnetwork-probing": {"steps": 8, "batch": 4},
}


class Stopped(Exception):
    """As a kill, at a moment that the test chooses."""


@pytest.fixture(scope="module")
def model():
    return wb.open_model("zoo:induction")


class Counted(SweepStore):
    """A store that counts what is kept, and stops when it has kept so much."""

    most, kept = 10**9, 0

    def put(self, key, values):
        if self.kept == self.most:
            raise Stopped
        super().put(key, values)
        self.kept += 1


def searched(model, method, folder, most=10**9):
    """The scores of a search in a folder, and how many parts it computed."""
    runs = wb.paired_runs(model, "induction", n=8)
    with Counted(folder, {"method": method}, resume=True) as store:
        store.most = most
        runs.division = Here().asked(method, store)
        return wb.score(runs, method, **OPTIONS[method]), store.kept


@pytest.mark.parametrize("method", list(OPTIONS))
def test_a_search_that_was_stopped_goes_on_and_ends_with_the_same_bits(method, model, tmp_path):
    plain = wb.score(wb.paired_runs(model, "induction", n=8), method, **OPTIONS[method])
    whole, every = searched(model, method, tmp_path / "whole")
    assert np.array_equal(plain.values, whole.values, equal_nan=True) and every > 4
    with pytest.raises(Stopped):
        searched(model, method, tmp_path / "stopped", most=every // 2)
    again, rest = searched(model, method, tmp_path / "stopped")
    assert np.array_equal(again.values, whole.values, equal_nan=True)
    assert rest == every - every // 2
    assert again.options == whole.options == plain.options
