"""Published numbers on the command line: no model for counts, checks before one is opened, nothing kept."""

import json


def test_counts_of_edges_need_no_model(run):
    code, out, _ = run("replicate", "edge-counts", "--json")
    rows = {row["model"]: row for row in json.loads(out)["rows"]}
    assert code == 0 and rows["gpt2"]["ours"] == rows["gpt2"]["theirs"] == 32491
    assert {row["verdict"] for row in rows.values()} == {"within"}


def test_every_bar_is_listed_with_who_measures_it(run):
    code, out, _ = run("replicate", "bars", "--json")
    rows = json.loads(out)["rows"]
    assert code == 0 and len(rows) > 200 and all(row["source"] for row in rows)
    assert any(row["verdict"].startswith("not here: workbench discover") for row in rows)


def test_what_is_missing_is_said_before_a_model_is_opened(run, tmp_path):
    code, _, err = run("replicate", "eap-ig-curves", "-m", "zoo:ioi")
    assert code == 2 and "needs a model and its prompts" in err and "--data DIR" in err
    code, _, err = run("replicate", "mib", "-m", "zoo:ioi", "--data", tmp_path / "none")
    assert code == 1 and "is no folder" in err
    code, _, err = run("replicate", "mib", "-m", "zoo:ioi", "--data", tmp_path, "-o", "out")
    assert code == 2 and "nothing is kept" in err
    code, _, err = run("replicate", "pine", "--data", tmp_path)
    assert code == 2 and "--data" in err
    code, _, err = run("replicate", "mib", "-m", "zoo:iio", "--data", tmp_path)
    assert code == 1 and "zoo:ioi" in err
