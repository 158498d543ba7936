"""Details beside a circuit: read back as written, of this circuit alone, and no pattern of another size."""

from __future__ import annotations

import msgspec
import pytest

from tests.circuits import details, small
from workbench.circuits.details import pattern_of
from workbench.circuits.files.circuit_file import save_circuit
from workbench.circuits.files.details_file import DETAILS, find_details, save_details
from workbench.core.errors import CircuitError
from workbench.core.typed import as_json


def test_details_come_back_and_belong_to_one_circuit(tmp_path):
    made = small()
    assert find_details(tmp_path, made) is None
    save_circuit(made, tmp_path)
    save_details(details(made), tmp_path)
    found = find_details(tmp_path, made)
    assert found == details(made) and pattern_of(found.prompts[0], made.heads[0])[1].tolist() == [51, 204]
    with pytest.raises(CircuitError, match="of another circuit") as refused:
        find_details(tmp_path, made.without("m1"))
    assert "workbench circuit details" in refused.value.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patterns": {"a0.h0": "AAA"}}, "is no base64"),
        ({"patterns": {"a0.h0": "AAA="}}, "has 2 bytes; 2 tokens have 3"),
        ({"causal": False}, "has 3 bytes; 2 tokens have 4"),
        ({"read_at": 2}, "read_at is 2; the prompt has 2 tokens"),
        ({"picture": {"rows": 2, "columns": 2, "first": 0}}, "patches end at position 4"),
    ],
)
def test_a_pattern_that_does_not_fit_its_prompt_is_refused(change, said):
    content = as_json(details(small()))
    content["prompts"][0] |= change
    with pytest.raises(CircuitError, match=said):
        DETAILS.document(content)
    assert msgspec.to_builtins(details(small()))["prompts"]
