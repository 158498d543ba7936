"""Claims: counted, kept as JSON, read strictly, shown escaped."""

from __future__ import annotations

import json

import pytest

from workbench.core.claims import JudgedClaim, counts, judge, plain, source_of, tally, untestable
from workbench.core.errors import RunError
from workbench.view.claims import claims_html


def test_a_verdict_follows_from_the_test_alone():
    claims = [judge("a", "x > 1", 2 > 1), judge("b", "x > 1", 0 > 1), untestable("c", "x > 1", "no images")]
    assert [c.verdict for c in claims] == ["holds", "fails", "cannot be tested here"]
    assert counts(claims) == {"holds": 1, "fails": 1, "cannot be tested here": 1}
    assert tally(claims) == "1 hold, 1 fail, 1 cannot be tested here"


def test_what_is_not_the_papers_is_not_said_to_be():
    assert source_of("P 2024", "section 3") == "P 2024, section 3"
    assert (
        source_of("P 2024", "an extension of ours: no number there")
        == "an extension of ours: no number there"
    )
    assert source_of("P 2024", "a map of section 2") == "P 2024, a map of section 2"


def test_a_claim_survives_json_and_what_is_not_finite_becomes_nothing():
    claim = judge("a", "rule", True, found=float("nan"), control=0.5, n=3, reason="r", source="s")
    again = JudgedClaim.from_dict(json.loads(json.dumps(claim.to_dict(), allow_nan=False)))
    assert again.found is None and again.control == 0.5 and again.n == 3


@pytest.mark.parametrize("broken", [{"claim": "a"}, {"claim": "a", "criterion": "r", "verdict": "proved"}])
def test_what_is_no_claim_is_refused(broken):
    with pytest.raises(RunError):
        JudgedClaim.from_dict(broken)


def test_numbers_of_rows_are_plain_json():
    import numpy as np

    row = {"a": np.float32(0.5), "b": [np.int64(2), float("inf")], "c": {"d": np.float64(1)}, "e": True}
    assert plain(row) == {"a": 0.5, "b": [2.0, None], "c": {"d": 1.0}, "e": True}


def test_text_of_a_claim_cannot_be_markup():
    page = claims_html([{"claim": "<script>alert(1)</script>", "verdict": "holds"}])
    assert "<script" not in page and "&lt;script" in page and "color:var(--yes, #2c7a4b)" in page
