"""A model placed by accelerate: the same numbers, and parts on disk are refused. No GPU is needed, none is tested."""

from __future__ import annotations

import numpy as np
import pytest

from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.core.errors import ModelError, OptionError
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import sweep
from workbench.methods.by_name import score
from workbench.model.open import open_model
from workbench.model.several_devices import refuse_elsewhere


@pytest.fixture(scope="module", params=["auto", "cpu"])
def mapped(request):
    return open_model(family_dir("llama"), device_map=request.param)


def test_a_mapped_model_gives_the_same_tables_and_scores(mapped, runs_of):
    plain = runs_of("llama")
    runs = PairedRuns(mapped, mini_pairs(), metric=plain.metric, batch_tokens=100)
    tables = [sweep(r, ablations(parts_of(r.wiring, "heads")), kind="heads").patched for r in (plain, runs)]
    assert np.array_equal(*tables)
    assert np.array_equal(*(score(r, "eap").values for r in (plain, runs)), equal_nan=True)


@pytest.mark.parametrize(
    "asked", [{"device_map": "nowhere"}, {"device_map": "meta"}, {"device_map": "auto", "device": "cpu"}]
)
def test_maps_that_are_none_are_refused(asked):
    with pytest.raises(OptionError) as error:
        open_model(family_dir("llama"), **asked)
    assert "device" in str(error.value)


def test_built_in_models_take_a_device(tmp_path):
    with pytest.raises(OptionError) as error:
        open_model("zoo:induction", device_map="auto")
    assert "native" in str(error.value)


def test_weights_on_disk_are_refused(bridge_of):
    import torch
    from torch import nn

    away = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    with pytest.raises(ModelError) as error:
        refuse_elsewhere(away)
    assert "1.weight" in str(error.value)
    assert torch.zeros(1).device.type == "cpu"
