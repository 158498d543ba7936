"""`workbench logits`: a table, a page and a picture; `--json` sums to the metric; what is not linear is refused."""

import json

import pytest

ON = ["logits", "-m", "zoo:truth-induction", "-t", "induction", "-n", "4"]


def test_a_table_a_page_and_a_picture(run, tmp_path):
    code, out, err = run(*ON, "-o", "page.html", "--plot", "parts.svg")
    assert code == 0 and "error of the frozen norm" in out and "looks most at" in out
    assert "wrote page.html" in err and "drew parts.svg" in err
    page = (tmp_path / "page.html").read_text()
    assert "default-src 'none'" in page and "Logit lens" in page and "From which positions" in page
    assert (tmp_path / "parts.svg").read_text().startswith("<svg")


def test_the_document_has_every_part_and_their_sum(run):
    code, out, _ = run(*ON, "--by", "layer", "--no-effects", "--json")
    found = json.loads(out)
    assert code == 0 and sum(row["direct"] for row in found["parts"]) == pytest.approx(
        found["total"], abs=1e-3
    )
    assert "effect" not in found["parts"][0] and found["lens"][-1]["stream"] == "r2"


def test_a_metric_that_is_no_sum_is_refused(run):
    code, out, err = run(*ON, "--metric", "nll")
    assert code == 1 and out == "" and "--metric logit-difference" in err
