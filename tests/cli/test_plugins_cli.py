"""Plug-ins on the command line: named by --plugin or installed; in help, lists, the bench, replicate all, and again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests import plugins
from tests.circuits import small
from workbench.circuits.files.circuit_file import save_circuit
from workbench.core import plugins as core

SEARCH = ("discover", "-m", "zoo:ioi", "-t", "ioi", "--method", "eap-between", "-n", "8", "--random", "1")


@pytest.fixture
def lab(lab_site, monkeypatch):
    with plugins.used(monkeypatch, lab_site):
        yield lab_site


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The files of the page in the folder that commands run in; nobody has installed anything."""
    for name, text in plugins.files_of_page().items():
        (tmp_path / Path(name).name).write_text(text)
    with plugins.used(monkeypatch):
        yield tmp_path


def forget(monkeypatch):
    """What a new process would not know: the plug-ins that were named before."""
    return plugins.used(monkeypatch)


LISTS = {
    "methods": ("method", "eap-between"),
    "task list": ("name", "pronoun"),
    "replicate list": ("name", "name-decides"),
    "edit list": ("kind", "lean"),
}


@pytest.mark.parametrize("words", LISTS)
def test_lists_have_what_is_installed(words, lab, run):
    key, name = LISTS[words]
    code, out, err = run(*words.split(), "--json")
    assert code == 0 and name in {row[key] for row in json.loads(out)} and err == ""


HELP = {
    "discover --help": "eap-between",
    "ablate --help": "margin",
    "bench discovery --help": "eap-between",
    "replicate --help": "name-decides",
    "edit make --help": "lean",
    "circuit export --help": "edge-list",
    "patch --help": "pronoun",
    "--help": "--plugin",
    "circuit --help": "weigh",
    "circuit weigh --help": "--power",
    "circuit import --help": "edge-list",
    "task import --help": "columns",
}


@pytest.mark.parametrize("words", HELP)
def test_help_names_what_is_installed(words, lab, run):
    code, out, _ = run(*words.split())
    assert code == 0 and HELP[words] in "".join(out.split()) and "{" not in out.partition("Options")[2]


def test_a_plug_in_is_named_at_any_place_of_the_line(mine, run):
    for line in (["--plugin", "method.py", "methods"], ["methods", "--json", "--plugin=method.py"]):
        with_it = run(*line)
        assert with_it[0] == 0 and "eap-between" in with_it[1]
    code, out, err = run("methods", "--plugin", "nofile.py", "--json")
    assert code == 1 and "there is no file nofile.py" in err and json.loads(out)["error"]["hint"]
    assert run("methods", "--plugin")[0] == 2


def test_a_command_is_recorded_and_run_again(lab, run, tmp_path):
    save_circuit(small(), tmp_path / "c")
    code, out, err = run("circuit", "weigh", "c", "--power", "2", "-o", "w", "--json")
    assert code == 0, err
    weights = json.loads(out)
    assert weights == {"a0": 1.5**2 + 0.25**2, "a1": 9, "input": 0.5**2 + 4, "m1": 0.125**2}
    record = json.loads(Path("w/run.json").read_text())
    assert record["arguments"] == {"circuit": "c", "power": 2.0} and record["status"] == "done"
    assert {"plugin": "lab-extras", "version": "0.3"} in record["plugins"]
    assert "workbench circuit weigh c --power 2.0" in run("runs", "show", "w")[1]
    assert run("runs", "rerun", "w", "-o", "again")[0] == 0
    assert Path("again/weights.csv").read_bytes() == Path("w/weights.csv").read_bytes()
    assert run("circuit", "weigh", "c", "--power", "x")[0] == 2


def test_a_command_of_a_named_file_may_have_a_group_of_its_own(mine, run, monkeypatch):
    file = mine / "command.py"
    file.write_text(file.read_text().replace("circuit weigh", "lab weigh"))
    save_circuit(small(), mine / "c")
    assert "lab" not in run("--help")[1].split()
    assert "lab" in run("--plugin", "command.py", "--help")[1].split()
    assert run("lab", "weigh", "c", "-o", "w", "--plugin", "command.py")[0] == 0
    with forget(monkeypatch):
        assert run("lab", "weigh", "c")[0] == 2
        code, _, err = run("runs", "rerun", "w")
        assert code == 1 and "type the same with --plugin command.py" in err
        assert run("runs", "rerun", "w", "--plugin", "command.py")[0] == 0


def test_a_command_that_cannot_be_imported_is_told_and_hides_nothing(tmp_path, run, monkeypatch):
    place = plugins.pretend(tmp_path, "broken-lab", "2.1", commands={"circuit gone": "no_such_module:X"})
    with plugins.used(monkeypatch, place):
        code, out, err = run("circuit", "--help")
        assert code == 0 and "export" in out and "gone of the plug-in broken-lab 2.1" in err
        code, _, err = run("circuit", "gone")
        assert code == 1 and "No module named 'no_such_module'" in err
        assert run("circuit", "published")[0] == 0


def test_the_environment_names_plug_ins_too(mine, run, monkeypatch):
    monkeypatch.setenv("WORKBENCH_PLUGINS", "method.py, task.py")
    assert "eap-between" in run("methods")[1] and "pronoun" in run("task", "list")[1]


def test_a_search_is_recorded_and_run_again_when_the_plug_in_is_named_again(mine, run, monkeypatch):
    code, _, err = run(*SEARCH, "--plugin", "method.py", "-o", "found")
    assert code == 0, err
    record = json.loads(Path("found/run.json").read_text())
    assert record["plugins"] == [{"plugin": "method.py", "sha256": plugins.sha256(mine / "method.py")}]
    with forget(monkeypatch):
        shown = run("runs", "show", "found")[1]
        assert "--plugin method.py discover" in shown and record["plugins"][0]["sha256"] in shown
        code, _, err = run("runs", "rerun", "found", "-o", "again")
        assert code == 1 and "the run used the plug-in method.py" in err and "--plugin method.py" in err
        assert not Path("again").exists() and "workbench_plugin_method" not in sys.modules
        code, _, err = run("runs", "rerun", "found", "-o", "again", "--plugin", "method.py", "-q")
        assert code == 0, err
        assert run("runs", "diff", "found", "again")[0] == 0
    with forget(monkeypatch):
        code, _, err = run("runs", "rerun", "found", "-o", "trusted", "--trust-code")
        assert code == 0 and "running code that the run names: plugin: file method.py" in err


def test_a_changed_plug_in_is_another_question(mine, run, monkeypatch):
    assert run(*SEARCH, "--plugin", "method.py", "-o", "found")[0] == 0
    file = mine / "method.py"
    file.write_text(file.read_text().replace("alpha=options.at", "alpha=1 - options.at"))
    with forget(monkeypatch):
        code, _, err = run(*SEARCH, "--plugin", "method.py", "-o", "found")
        assert code == 1 and "another" in err
        code, _, err = run("runs", "rerun", "found", "-o", "again", "--plugin", "method.py")
        assert code == 0 and "the plug-in method.py has changed since" in err
        assert "plugins" in {
            row["what"] for row in json.loads(run("runs", "diff", "found", "again", "--json")[1])["setting"]
        }


@pytest.mark.parametrize("again", [(*SEARCH, "-o", "found", "--resume"), ("runs", "resume", "found")])
def test_a_search_that_was_stopped_goes_on_when_the_plug_in_is_named_again(again, mine, run, monkeypatch):
    file = mine / "method.py"
    stop = "    if __import__('pathlib').Path('stop').exists():\n        raise KeyboardInterrupt\n"
    file.write_text(
        file.read_text().replace(
            "    from workbench.methods.attribution", stop + "    from workbench.methods.attribution"
        )
    )
    Path("stop").touch()
    assert run(*SEARCH, "--plugin", "method.py", "-o", "found")[0] == 130
    assert json.loads(Path("found/run.json").read_text())["status"] == "interrupted"
    Path("stop").unlink()
    with forget(monkeypatch):
        code, _, err = run("runs", "resume", "found")
        assert code == 1 and "--plugin method.py" in err
        assert run(*again, "--plugin", "method.py")[0] == 0
    record = json.loads(Path("found/run.json").read_text())
    assert record["status"] == "done" and [past["status"] for past in record["attempts"]] == ["interrupted"]


def test_a_task_that_was_named_is_measured_once(mine, run):
    line = ["ablate", "-m", "zoo:ioi", "-t", "pronoun", "-n", "6", "--plugin", "task.py", "-o", "table"]
    assert run(*line)[0] == 0
    code, _, err = run(*line, "--resume")
    assert code == 0 and "already measured" in err


def test_the_bench_has_an_installed_method(lab, run):
    line = ["bench", "discovery", "--methods", "eap-between:at=1,eap", "--truth", "zoo:truth-induction"]
    code, out, err = run(
        *line, "--tasks", "none", "-n", "4", "--seeds", "1", "--workers", "1", "-o", "b", "--json"
    )
    assert code == 0, err
    rows = [r for r in json.loads(out)["truth"] if r["level"] == "edge"]
    mine, eap = (next(r for r in rows if r["method"].startswith(name)) for name in ("eap-between", "eap"))
    assert mine["auroc"] == pytest.approx(next(r for r in rows if r["method"] == "eap")["auroc"]) and eap
    assert {"plugin": "lab-extras", "version": "0.3"} in json.loads(Path("b/run.json").read_text())["plugins"]


def test_processes_of_the_bench_know_the_plug_ins_that_were_named_and_find_what_one_process_finds(mine, run):
    line = ["bench", "discovery", "--methods", "eap-between,random", "--plugin", "method.py", "--json"]
    line += ["--truth", "zoo:truth-induction,zoo:truth-greater", "--tasks", "none", "-n", "4", "--seeds", "2"]
    found = []
    for workers in ("1", "2"):
        code, out, err = run(*line, "--workers", workers, "-o", workers)
        assert code == 0, err
        cells = json.loads(out)["truth"]
        found.append([{k: v for k, v in c.items() if not k.endswith("seconds")} for c in cells])
    assert found[0] == found[1] and {row["method"] for row in found[1]} == {"eap-between", "random"}
    assert len(found[0]) == 8 and all(row["status"] == "done" for row in found[0])


def test_replicate_all_has_an_installed_paper(lab, run, monkeypatch):
    from workbench.papers.registry import PAPERS

    monkeypatch.setattr(PAPERS, "_known", {})  # ours take minutes
    code, out, err = run("replicate", "all", "-o", "all", "--device", "cpu", "--json")
    assert code == 0, err
    assert "name-decides" in out and "name-decides" in Path("all/all.html").read_text()
    code, _, err = run("runs", "rerun", "all/name-decides", "-o", "again", "-q")
    assert code == 0 and run("runs", "diff", "all/name-decides", "again")[0] == 0, err


def test_an_installed_study_is_listed_and_run(lab, run):
    assert "naming" in {row["name"] for row in json.loads(run("replicate", "list", "--json")[1])}
    line = (
        "replicate",
        "naming",
        "-m",
        "zoo:ioi",
        "--set",
        "limit=8",
        "--set",
        "n_reference=8",
        "-o",
        "study",
    )
    code, out, err = run(*line, "--json")
    assert code == 0, err
    (step,) = json.loads(out)["steps"]
    assert [claim["verdict"] for claim in step["claims"]] == ["holds"]


def test_an_edit_an_export_and_a_metric_are_used_by_name(lab, run):
    assert run("edit", "make", "lean", "--set", "heads=a0.h0", "--set", "by=0", "-o", "e")[0] == 0
    code, out, _ = run("edit", "show", "e", "--json")
    assert code == 0 and json.loads(out)["edit"] == "outputs of a0.h0 times 0"
    code, out, err = run(
        "edit", "measure", "e", "-m", "zoo:ioi", "-t", "ioi", "-n", "8", "-o", "m", "-q", "--json"
    )
    assert code == 0, err
    assert (
        run("ablate", "-m", "zoo:ioi", "-t", "ioi", "-n", "4", "--metric", "margin", "-q", "-o", "t")[0] == 0
    )
    code, out, err = run("circuit", "export", "published:ioi", "-f", "edge-list", "-o", "-")
    assert code == 0, err
    assert run("runs", "verify", "m", "t")[0] == 0


def test_doctor_lists_plug_ins_and_what_is_wrong_with_them(lab, run, tmp_path, monkeypatch):
    gone = plugins.pretend(
        tmp_path / "gone", "broken-lab", "2.1", methods={"mine": "no_such_module_anywhere"}
    )
    with plugins.used(monkeypatch, lab, gone):
        code, out, _ = run("doctor", "--json")
        told = json.loads(out)
        assert code == 3 and told["plug-ins"]["lab-extras"].startswith("0.3: methods: eap-between")
        (problem,) = [text for text in told["problems"] if "broken-lab" in text]
        assert "broken-lab 2.1" in problem and "No module named 'no_such_module_anywhere'" in problem
        code, out, err = run("methods", "--json")
        assert code == 0 and "warning: methods: mine of the plug-in broken-lab 2.1" in err
        assert {"eap", "eap-between"} <= {row["method"] for row in json.loads(out)}


def test_a_package_that_is_gone_is_told_by_name(lab, run, monkeypatch):
    assert run(*SEARCH, "-o", "found")[0] == 0
    with forget(monkeypatch), monkeypatch.context() as patch:
        patch.setattr(sys, "path", [p for p in sys.path if p != str(lab)])
        code, _, err = run("runs", "rerun", "found", "-o", "again")
        assert code == 1 and "the run used the plug-in lab-extras, which is not installed" in err


def test_an_error_in_a_plug_in_is_not_called_ours(mine, run, capsys):
    (mine / "method.py").write_text(
        (mine / "method.py").read_text().replace("alpha=options.at", "alpha=1 / 0")
    )
    with pytest.raises(ZeroDivisionError):
        run(*SEARCH, "--plugin", "method.py", "--json", "-o", "found")
    told = json.loads(capsys.readouterr().out)["error"]
    assert told["hint"] == "this is a fault of the plug-in method.py; please tell its author"
    with pytest.raises(ZeroDivisionError) as ours:
        1 / 0  # noqa: B018
    assert core.at_fault(ours.value) == ""


def test_a_file_beside_a_named_one_may_be_imported_and_is_part_of_the_question(mine, run, monkeypatch):
    file, helper = mine / "method.py", mine / "halfway.py"
    own = file.read_text()
    file.write_text(own.replace("at: float = 0.5", "at: float = HALF").replace('"""EAP', '"""EAP', 1))
    file.write_text(
        file.read_text().replace("from dataclasses", "from halfway import HALF\nfrom dataclasses", 1)
    )
    shas = []
    for half, folder in (("0.5", "found"), ("0.25", "other"), ("0.5", "same")):
        helper.write_text(f"HALF = {half}\n")
        with plugins.used(monkeypatch):
            sys.modules.pop("halfway", None)
            code, _, err = run(*SEARCH, "--plugin", "method.py", "-o", folder)
            assert code == 0, err
        shas.append(json.loads(Path(f"{folder}/run.json").read_text())["plugins"][0]["sha256"])
    assert shas[0] == shas[2] != shas[1] and shas[0] != plugins.sha256(file)
    questions = [
        json.loads(Path(f"{f}/run.json").read_text())["question"] for f in ("found", "other", "same")
    ]
    assert questions[0] == questions[2] != questions[1]
    helper.write_text("HALF = 0.5  # the same number, written otherwise\n")
    with plugins.used(monkeypatch):
        sys.modules.pop("halfway", None)
        code, _, err = run("runs", "rerun", "found", "-o", "again", "--plugin", "method.py")
        assert code == 0 and "the plug-in method.py has changed since" in err
    sys.modules.pop("halfway", None)
