"""The area under ACDC's circuits on a model whose circuit is known, and the whole path on a stand-in."""

import pytest

import workbench as wb
from workbench.bench.acdc_areas import TAUS, acdc_area, reference_of
from workbench.bench.measured_bars import measured_bars, more_areas
from workbench.core.errors import OptionError

NAME = "zoo:truth-induction"


@pytest.fixture(scope="module")
def known():
    return wb.open_model(NAME)


def test_circuits_that_are_the_true_one_have_all_of_the_area(known):
    runs = wb.paired_runs(known, wb.load_truth(NAME).pairs(3))
    truth = reference_of(NAME, "induction", runs.wiring.graph())
    assert acdc_area(runs, truth, (0.1, 1.0)) == 1.0
    assert acdc_area(runs, truth, (1e6,)) == 0.0  # above every effect: nothing is kept, the diagonal's end


def test_a_task_that_cannot_be_measured_leaves_the_others(known, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.bench.measured_bars.TAUS", dict.fromkeys(TAUS, (0.1, 1.0)))
    own = wb.load_truth(NAME).pairs(2)
    for task in ("ioi", "greater-than"):
        own.save(tmp_path / f"{task}.jsonl")
    both = measured_bars("acdc-auc", known, name=NAME, data=tmp_path)
    assert {task for _, task, _ in both.ours} == {"ioi", "greater-than"} and not both.notes
    wb.make_pairs("ioi", n=2).save(tmp_path / "greater-than.jsonl")  # words that it does not know
    one = measured_bars("acdc-auc", known, name=NAME, data=tmp_path)
    assert one.ours == {at: value for at, value in both.ours.items() if at[1] == "ioi"}
    (note,) = one.notes
    assert note.startswith("greater-than: 0 of 2 pairs") and "words this tokenizer does not know" in note
    (tmp_path / "ioi.jsonl").unlink()
    with pytest.raises(OptionError, match=r"no file ioi.jsonl.*greater-than: 0 of 2 pairs"):
        measured_bars("acdc-auc", known, name=NAME, data=tmp_path)


def test_a_folder_without_prompts_and_areas_of_edges(tmp_path):
    model = wb.open_model("zoo:ioi")
    with pytest.raises(OptionError, match="no prompts of acdc-auc"):
        measured_bars("acdc-auc", model, name="gpt2", data=tmp_path)
    runs = wb.paired_runs(model, "ioi", n=2)
    found = more_areas(runs, runs)
    assert set(found) == {f"{m} {a}" for m in ("NAP-IG", "EAP", "EAP-IG-inputs") for a in ("CPR", "CMD")}
    assert all(0 <= found[f"{m} CMD"] < 1 for m in ("EAP", "EAP-IG-inputs"))
