"""The numbers of a run that are laid beside another's come from files that are as they were written."""

from __future__ import annotations

import json

import pytest

from tests.files import rewrite
from workbench.circuits.files.faithfulness_file import FAITHFULNESS, FILE_NAME
from workbench.core.errors import WorkbenchError
from workbench.engine.run_folders.numbers import numbers_of

CONTENT = {
    **dict.fromkeys(("faithfulness", "stderr", "low", "high"), 0.5),
    **dict.fromkeys(("metric_circuit", "metric_full", "metric_empty"), 1.5),
    **dict.fromkeys(("size", "candidates", "n", "n_dropped", "seed"), 4),
    **dict.fromkeys(("metric", "unit", "ablation", "model", "weights", "task", "split", "pairs"), "x"),
    **{"same_weights": None, "corruption": None},
}


@pytest.fixture
def folder(tmp_path):
    FAITHFULNESS.save({**CONTENT, "random": {"draws": 0}}, tmp_path / FILE_NAME)
    return tmp_path


def test_a_result_that_was_changed_is_not_compared(folder):
    (found,) = numbers_of(folder).values()
    assert found.values[found.labels.index("faithfulness")] == 0.5
    file = folder / FILE_NAME
    file.write_text(file.read_text().replace('"faithfulness": 0.5', '"faithfulness": 0.9'))
    with pytest.raises(WorkbenchError, match="was changed since it was written"):
        numbers_of(folder)
    rewrite(file, version=1)
    with pytest.raises(WorkbenchError, match="says version 1 and has a digest"):
        numbers_of(folder)
    rewrite(file, format="another", version=2)
    with pytest.raises(WorkbenchError, match="its format is 'another'"):
        numbers_of(folder)


def test_json_of_others_is_compared_as_it_is(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"format": "mine", "a": [1, 2.5]}))
    (found,) = numbers_of(tmp_path).values()
    assert found.labels == ("a[0]", "a[1]") and found.values.tolist() == [1.0, 2.5]
