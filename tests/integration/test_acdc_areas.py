"""The area under ACDC's circuits on a model whose circuit is known, and the whole path on a stand-in."""

import pytest

import workbench as wb
from workbench.bench.acdc_areas import acdc_area, reference_of
from workbench.bench.measured_bars import measured_bars, more_areas
from workbench.core.errors import OptionError

NAME = "zoo:truth-induction"


def test_circuits_that_are_the_true_one_have_all_of_the_area():
    runs = wb.paired_runs(wb.open_model(NAME), wb.load_truth(NAME).pairs(3))
    truth = reference_of(NAME, "induction", runs.wiring.graph())
    assert acdc_area(runs, truth, (0.1, 1.0)) == 1.0
    assert acdc_area(runs, truth, (1e6,)) == 0.0  # above every effect: nothing is kept, the diagonal's end


def test_a_folder_without_prompts_and_areas_of_edges(tmp_path):
    model = wb.open_model("zoo:ioi")
    with pytest.raises(OptionError, match="no prompts of acdc-auc"):
        measured_bars("acdc-auc", model, name="gpt2", data=tmp_path)
    runs = wb.paired_runs(model, "ioi", n=2)
    found = more_areas(runs, runs)
    assert set(found) == {f"{m} {a}" for m in ("NAP-IG", "EAP", "EAP-IG-inputs") for a in ("CPR", "CMD")}
    assert all(0 <= found[f"{m} CMD"] < 1 for m in ("EAP", "EAP-IG-inputs"))
