"""A survey on the built-in IOI model: its steps, its page, what it does when it is started again."""

from __future__ import annotations

import json
import re

import pytest

from workbench.circuits.files.effects_file import load_effects
from workbench.commands.do import asked_of
from workbench.commands.forms.survey import SurveyModel
from workbench.commands.survey import steps_of
from workbench.core.command import COMMANDS

STEPS = ["heads", "ablate", "patch", "discover-eap-ig", "discover-eap", "details", "evaluate"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("survey") / "s<b>"


def line(folder, *more):
    return ("survey", "-m", "zoo:ioi", "-t", "ioi", "--quick", "-n", 6, "-o", folder, *more)


def test_a_survey_does_its_steps_once_and_goes_on_where_one_is_missing(run, folder):
    code, out, err = run(*line(folder, "--json"))
    assert code == 0, err
    told = json.loads(out)
    assert list(told["steps"]) == STEPS and not any("refused" in step for step in told["steps"].values())
    effects = load_effects(folder / "ablate")
    best = max(zip(effects.labels, effects.mean, strict=True), key=lambda row: abs(row[1]))
    first = told["steps"]["ablate"]["rows"][0]
    assert (first["part"], first["effect (logits)"]) == (best[0], pytest.approx(best[1]))
    assert told["overlaps"][0]["circuit"] == "eap-ig" and "ioi" in told["published"]

    page = (folder / "index.html").read_text()
    links = re.findall(r'href="([^"]+)"', page)
    assert len(links) == 6 and all((folder / link).is_file() for link in links)
    assert page.count("wb-heatmap") >= 2
    assert told["steps"]["details"]["facts"]["heads"] > 0 and "discover-eap-ig/page.html" in links

    (folder / "patch" / "effects.parquet").unlink()  # as if a step had been lost
    before = {
        name: (folder / name / "run.json").read_bytes()
        for name in STEPS
        if name not in ("patch", "evaluate", "details")
    }
    code, out, err = run(*line(folder, "--json"))
    assert code == 0, err
    assert (folder / "patch" / "effects.parquet").is_file()
    assert before == {name: (folder / name / "run.json").read_bytes() for name in before}
    again = json.loads(out)["steps"]
    assert again["patch"]["rows"] == told["steps"]["patch"]["rows"]
    assert {k: v for k, v in again.items() if k != "patch"} == {
        k: v for k, v in told["steps"].items() if k != "patch"
    }

    listed = json.loads(run("runs", "list", folder, "--json")[1])
    assert sorted(row["status"] for row in listed) == ["finished"] * 6  # the survey itself is no lost run

    code, out, err = run(*line(folder, "--seed", 1))
    assert code != 0 and "has a survey with other options" in err and "-o" in err
    (folder / "survey.json").write_text("{")
    code, out, err = run(*line(folder))
    assert code != 0 and "survey.json is no survey" in err


def test_every_step_opens_the_model_as_it_was_asked_for(tmp_path):
    asked = SurveyModel(model="zoo:ioi", task="ioi", dtype="float64", device="cpu", offline=True)
    steps = list(steps_of(asked, tmp_path))
    assert len(steps) == 8
    assert all(
        (s.given["dtype"], s.given["device"], s.given["offline"]) == ("float64", "cpu", True) for s in steps
    )
    for step in steps:
        asked_of(COMMANDS.get(step.command), step.command, step.given)


def test_words_are_looked_at_before_anything_is_measured(run, tmp_path):
    code, _, err = run("survey", "-m", "zoo:ioi", "-t", "ioj", "-o", tmp_path / "s")
    assert code != 0 and "ioi" in err and not (tmp_path / "s").exists()
