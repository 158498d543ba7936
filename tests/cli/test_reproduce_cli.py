"""`workbench reproduce` and published circuits on the command line."""

import json

import pytest

from workbench.circuits.files import load_circuit, save_circuit
from workbench.circuits.published import load_published

FAST = ("reproduce", "ioi", "-m", "zoo:ioi", "--limit", "4", "--reference-pairs", "16")


def data(result):
    code, out, err = result
    assert code == 0, err
    return json.loads(out)


def test_help_has_a_claim_and_an_example(run):
    code, out, _ = run("reproduce", "--help")
    assert code == 0 and "Example: workbench reproduce ioi -m gpt2" in " ".join(out.split())


def test_studies_are_listed(run):
    rows = data(run("reproduce", "list", "--json"))
    assert {"ioi", "greater-than"} <= {row["study"] for row in rows}
    assert all(row["published circuit"].startswith("published:") for row in rows)


def test_a_study_prints_steps_then_claims_and_writes_its_folder(run, tmp_path):
    code, out, err = run(*FAST, "--out", "study")
    assert code == 0, err
    assert "1. The task" in out and "logit difference, clean" in out and "3.56" in out
    assert out.index("1. The task") < out.index("Claims") < out.index("another model than the paper's")
    assert "wrote study" in err and "1/11" in err
    assert {"run.json", "study.json", "report.html", "circuit.json", "tables", "plan.json"} <= {
        p.name for p in (tmp_path / "study").iterdir()
    }
    shown = data(run(*FAST, "--out", "study", "--json"))  # measured before: read, not run again
    assert shown["verdicts"]["holds"] >= 2 and shown["comparable"] is False
    found = data(run("circuit", "diff", "published:ioi", "study", "--json"))
    assert found["difference"] is None and "different models" in found["note"]


def test_dry_run_counts_passes_and_writes_nothing(run, tmp_path):
    plan = data(run(*FAST, "--dry-run", "--json"))
    by_step = {row["step"]: row["passes"] for row in plan["steps"]}
    assert plan["heads"] == 16 and by_step["writers"] == 32 and plan["pairs"] == 4
    assert plan["passes"] == sum(by_step.values())
    assert not list(tmp_path.iterdir())


def test_mistakes_are_explained_before_anything_is_loaded(run):
    code, _, err = run("reproduce", "ioy", "-m", "zoo:ioi")
    assert code == 1 and "did you mean ioi" in err
    code, _, err = run("reproduce", "ioi")
    assert code == 2 and "-m" in err


def test_published_circuits_are_listed_shown_exported_and_checked(run, tmp_path):
    rows = {row["circuit"]: row for row in data(run("circuit", "published", "--json"))}
    assert (
        rows["published:ioi"]["heads"] == 26 and rows["published:colored-objects"]["model"] == "gpt2-medium"
    )
    code, out, _ = run("circuit", "show", "published:ioi")
    assert code == 0 and "a9.h9@end" in out and "arXiv:2211.00593" in out and "uncertain" in out
    summary = data(run("circuit", "summary", "published:ioi", "--json"))
    assert len(summary["roles"]["backup name mover"]) == 8
    page = data(run("circuit", "view", "published:ioi", "--json"))["page"]
    assert page == "published-ioi.html" and "backup name mover" in (tmp_path / page).read_text()
    code, out, err = run("circuit", "export", "published:ioi", "-f", "svg")
    assert code == 0 and out.startswith("<svg") and "S-inhibition" in out
    code, _, err = run("circuit", "show", "published:ioy")
    assert code == 1 and "did you mean ioi" in err


def test_diff_of_one_s_own_with_a_published_circuit(run, tmp_path):
    paper = load_published("ioi")
    keep = [a for a, d in paper.nodes.items() if d["role"] in ("name mover", "S-inhibition")]
    own = paper.without(*[a for a in paper.nodes if a not in keep]).with_fields(method="mine", provenance={})
    save_circuit(own, tmp_path / "mine")
    found = data(run("circuit", "diff", "published:ioi", "mine", "--json"))
    heads = next(row for row in found["overlap"] if row["what"] == "heads")
    assert (heads["here"], heads["there"], heads["shared"], heads["universe"]) == (26, 7, 7, 144)
    movers = next(row for row in found["classes"] if row["role"] == "name mover")
    assert movers["same_role"] == 3 and movers["expected_by_chance"] == pytest.approx(3 * 7 / 144)
    placed = data(run("circuit", "diff", "published:ioi", "mine", "--positions", "--json"))
    heads = next(row for row in placed["overlap"] if row["what"] == "heads")
    assert heads["shared"] == 7 and heads["universe"] == 144 * 3  # end, S2, S1+1
    code, out, _ = run("circuit", "diff", "published:ioi", "mine")
    assert code == 0 and "same role in both" in out
    assert load_circuit(tmp_path / "mine").method == "mine"
