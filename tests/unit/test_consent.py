"""Code that a record names: refused, unless named here as well or trusted aloud."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from workbench.commands.again import rerun, resume
from workbench.core.errors import OptionError, RunError, WorkbenchError
from workbench.core.run_record import RunRecord
from workbench.engine.run_folders.consent import Consent, named_code

EVIL = "open('ran', 'w').close()\nraise RuntimeError('it ran')\n"


@pytest.fixture
def gift(tmp_path, monkeypatch):
    """A folder that somebody sent: a run that was interrupted, measured with a file beside it."""
    monkeypatch.chdir(tmp_path)
    Path("gift").mkdir()
    Path("gift/evil.py").write_text(EVIL)

    def record(**arguments):
        given = {"model": "zoo:ioi", "task": "ioi", "metric": "gift/evil.py:f", **arguments}
        RunRecord(command="ablate", arguments=given, status="interrupted").write(Path("gift"))
        return Path("gift")

    return record


@pytest.mark.parametrize("again", [resume, rerun])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"metric": "./gift/../gift/evil.py:f"},
        {"metric": None, "options": {"deep": ["gift/evil.py:f"]}},
        {"metric": None, "plugin": "gift/evil.py"},
        {"metric": None, "trust_remote_code": True},
    ],
)
def test_code_that_a_record_names_does_not_run(again, arguments, gift):
    with pytest.raises(RunError, match=r"the run names .* as its "):
        again(gift(**arguments))
    assert not Path("ran").exists() and not Path("gift-again").exists()


def test_the_refusal_says_what_to_type(gift):
    with pytest.raises(RunError) as refused:
        resume(gift())
    wanted = "the run names gift/evil.py:f as its metric; give --metric gift/evil.py:f to use that code"
    assert refused.value.message == wanted


@pytest.mark.parametrize("spelling", ["gift/evil.py:f", "./gift/evil.py:f"])
def test_code_that_is_named_again_runs(spelling, gift):
    with pytest.raises(OptionError, match="it ran"):
        resume(gift(), consent=Consent(metric=spelling))
    assert Path("ran").exists()


@pytest.mark.parametrize("other", ["gift/other.py:f", "gift/evil.py:g", "kl"])
def test_another_metric_than_the_recorded_one_is_refused(other, gift):
    with pytest.raises(OptionError, match=r"was measured with gift/evil\.py:f"):
        resume(gift(), consent=Consent(metric=other))
    with pytest.raises(OptionError, match="the metric of its task"):
        resume(gift(metric=None), consent=Consent(metric=other))
    assert not Path("ran").exists()


def test_trusted_code_is_told_before_it_runs(gift):
    told = []

    def tell(text):
        assert not Path("ran").exists()
        told.append(text)

    with pytest.raises(OptionError, match="it ran"):
        resume(gift(), consent=Consent(trust_code=True, tell=tell))
    digest = hashlib.sha256(EVIL.encode()).hexdigest()
    (line,) = told
    assert "file gift/evil.py, function f" in line and digest in line and Path("ran").exists()


@pytest.mark.parametrize("name", ["out", "root", "resume", "note", "serving"])
def test_a_record_does_not_say_where_to_write(name, gift):
    with pytest.raises(RunError, match=f"the argument '{name}', which no record has"):
        resume(gift(metric=None, **{name: "elsewhere"}))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("limit", "x", "limit is text; a whole number"),
        ("seed", True, "seed is true; a whole number"),
        ("seed", 10**30, r"seed is about 10\^30; at most 9,223,372,036,854,775,807"),
        ("limit", 10**30, r"limit is about 10\^30; at most 1,000,000,000"),
        ("positions", "end", "positions is text; a list of texts"),
        ("node", [1], "node is a list; a list of texts"),
        ("model", 5, "model is a number; text"),
        ("offline", "no", "offline is text; true or false"),
    ],
)
def test_arguments_of_a_record_are_of_the_type_that_its_command_takes(name, value, words, gift):
    with pytest.raises(WorkbenchError, match=words):
        resume(gift(**{"metric": None, name: value}))


def test_text_is_not_code():
    given = {"corpus": ["a.py"], "prompt": ["see a.py:f there"], "model": "zoo:ioi", "metric": "kl"}
    assert list(named_code(given)) == []


def test_a_cluster_that_a_record_names_is_asked_for():
    """What its workers answer are pickles: whoever runs it runs code here."""
    assert [code.text for code in named_code({"ray": "ray://elsewhere:10001"})] == ["ray://elsewhere:10001"]
    assert not list(named_code({"ray": "local"})) and not list(named_code({"ray": None}))
    with pytest.raises(RunError, match="names ray://elsewhere:10001 as its ray"):
        Consent().check({"ray": "ray://elsewhere:10001"})
