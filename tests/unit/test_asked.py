"""What is asked is looked for before anything is loaded, and nothing that works is refused."""

from __future__ import annotations

import pytest
import torch

from workbench.commands.asked.inputs import check_addresses, check_opening, check_positions, shape_of
from workbench.core.errors import ModelError, NameFormatError, OptionError
from workbench.edits.task_prompts import Split
from workbench.engine.metric_names import METRICS, check_metric
from workbench.engine.metrics import list_metrics
from workbench.model.settings import DTYPES, check_device, check_map, is_device
from workbench.papers.soft_injection import WORDS
from workbench.tasks.registry import list_tasks, make_pairs


def test_every_device_that_torch_knows_on_this_machine_passes():
    for device in ("cpu", "cuda", "cuda:1", "mps", "meta", "cpu:0", str(torch.device("cpu"))):
        assert torch.device(device).type and is_device(device)
    for wrong in ("cdua", "CPU", "cuda:", "cuda:x", "", "gpu"):
        with pytest.raises(RuntimeError):
            torch.device(wrong)
        with pytest.raises(OptionError, match="no device called"):
            check_device(wrong)


@pytest.mark.parametrize(("device_map", "device"), [("evenly", None), ("auto", "cpu"), ("meta", None)])
def test_device_maps_that_cannot_be_are_refused(device_map, device):
    with pytest.raises(OptionError):
        check_map(device_map, device)


def test_dtypes_are_those_of_torch():
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in DTYPES)


def test_metrics_that_are_known_before_torch_are_those_that_there_are():
    assert [metric.name for metric in list_metrics()] == list(METRICS)
    for name in METRICS:
        check_metric(name)


def test_positions_of_every_task_pass():
    for task in list_tasks():
        pairs = make_pairs(task.name, n=8)
        check_positions(task.name, [*{name for pair in pairs for name in pair.positions}, "end", "each", "3"])
    with pytest.raises(OptionError, match="no position called 'S3'"):
        check_positions("ioi", ["S2", "S3"])


def test_addresses_are_held_against_the_configuration():
    assert (shape_of("zoo:ioi").n_layers, shape_of("zoo:ioi").n_heads) == (4, 4)
    check_addresses(["a3.h3", "m3", "r0", "input", "logits", "a3.h3<q>@S2", "a3.g3<k>"], "zoo:ioi")
    for address in ("a4.h0", "a0.h4", "m4", "a0.h4<q>"):
        with pytest.raises(ModelError, match=r"the model has layers|has heads"):
            check_addresses([address], "zoo:ioi")
    with pytest.raises(NameFormatError):
        check_addresses(["b1"], "zoo:ioi")


def test_a_configuration_in_other_words_refuses_no_address(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mamba", "num_hidden_layers": 2}')
    assert shape_of(str(tmp_path)) is None
    check_addresses(["a9.h9"], str(tmp_path))  # known once the model is open


def test_what_is_not_asked_is_not_looked_for():
    check_opening(dtype="float64", device="cpu")


def test_soft_injection_has_as_many_test_words_as_it_says():
    assert len(Split.drawn(0).test) == WORDS
