"""Details beside a circuit: read back as written, of this circuit alone, and no pattern of another size."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.circuits import details, small
from workbench.circuits.details import EdgeDetail, HeadDetail, pattern_of
from workbench.circuits.files.circuit_file import save_circuit
from workbench.circuits.files.details_file import (
    DETAILS,
    find_details,
    find_other_details,
    name_under,
    save_details,
)
from workbench.circuits.show.page_details import effects_beside
from workbench.circuits.show.two_circuits import two_circuits_page
from workbench.commands.circuit import page_of_file
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


def test_effects_under_another_ablation_stand_beside_those_of_the_same_pairs(tmp_path):
    made = small()
    save_circuit(made, tmp_path)
    first = details(made)
    head, edge = made.heads[0], next(iter(made.edges))
    other = msgspec.structs.replace(
        first, ablation="mean", prompts=[], heads={head: HeadDetail(effect=-0.25)}, edges={edge: EdgeDetail(exact=9.5)}
    )  # fmt: skip
    save_details(first, tmp_path)
    assert find_other_details(tmp_path, first) == []
    save_details(other, tmp_path / name_under("mean"))
    assert find_details(tmp_path, made) == first and find_other_details(tmp_path, first) == [other]
    assert effects_beside({"resample": first, "mean": other}) == [
        {"part": head, "resample": 1.25, "mean": -0.25},
        {"part": edge, "resample": 0.75, "mean": 9.5},
    ]
    page = page_of_file(tmp_path)
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["details"]["others"] == [
        {"ablation": "mean", "n_pairs": 8, "heads": {head: [-0.25, None, None]}, "edges": {edge: 9.5}}
    ]
    assert "Heads and edges under each ablation" in page
    both = two_circuits_page(made, made, details=([first], [other]))
    assert "(A resample: logits, n 8; B mean: logits, n 8)" in both and ">B mean</th>" in both
    for change in ({"metric": "answer-rank"}, {"provenance": {"pairs": "others"}}, {"circuit": "another"}):
        save_details(msgspec.structs.replace(other, **change), tmp_path / name_under("mean"))
        with pytest.raises(CircuitError, match=f"is of {next(iter(change))}|is of pairs") as refused:
            find_other_details(tmp_path, first)
        assert "--ablation mean" in refused.value.hint


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
