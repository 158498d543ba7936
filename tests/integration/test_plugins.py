"""A package that adds one of each thing, installed outside the tree and used from Python; and packages that fail."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests import plugins
from tests.circuits import SMALL
from tests.circuits import circuit as small_circuit
from workbench.circuits.files.importers import import_circuit
from workbench.core.errors import OptionError, PluginError, PluginWarning, RunError, TaskError
from workbench.core.named_plugins import use_plugin
from workbench.core.source_digest import source_digest
from workbench.methods.registry import METHODS, Cost, get_method, method
from workbench.papers.registry import PAPERS
from workbench.tasks.importers import import_pairs, list_formats
from workbench.tasks.registry import TASKS, get_task, list_tasks, task


@pytest.fixture
def lab(lab_site, monkeypatch):
    with plugins.used(monkeypatch, lab_site):
        yield lab_site


@pytest.fixture(scope="module")
def runs():
    return wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=8)


def test_the_page_has_a_method_a_task_a_paper_and_a_command_in_one_file_each(capsys):
    pages = plugins.files_of_page()
    assert list(pages) == [f"lab_extras/{name}.py" for name in ("method", "task", "paper", "command")]
    for name, text in pages.items():
        lines = [line for line in text.splitlines() if line.strip()]
        assert len(lines) < 60
        with capsys.disabled():
            print(f"\n{Path(name).stem}: 1 file, {len(lines)} lines", end="")


def test_the_same_files_in_our_rooms_would_be_found_without_another_line():
    places = {"method": METHODS, "task": TASKS, "paper": PAPERS}
    for name, registry in places.items():
        text = plugins.files_of_page()[f"lab_extras/{name}.py"]
        found = {one for mark in registry.marks for one in re.findall(mark, text, re.MULTILINE)}
        assert found == {{"method": "eap-between", "task": "pronoun", "paper": "name-decides"}[name]}


def test_a_method_is_found_and_is_eap_at_the_clean_input(lab, runs):
    assert "eap-between" in wb.list_methods() and "lab_extras" not in sys.modules
    clean = wb.score(runs, "eap-between", at=1.0)
    np.testing.assert_allclose(clean.values, wb.score(runs, "eap").values, rtol=0, atol=1e-5)
    assert np.nanmax(np.abs(wb.score(runs, "eap-between").values - clean.values)) > 0.01
    found = wb.discover(runs, "eap-between", amount="5%", random_draws=1)
    assert found.circuit.method == "eap-between" and found.circuit.provenance["plug-in sources"]


def test_a_task_and_a_metric_measure_a_model(lab):
    pairs = wb.make_pairs("pronoun", n=6)
    assert pairs.task == "pronoun" and "pronoun" in {one.name for one in list_tasks()}
    runs = wb.paired_runs(wb.open_model("zoo:ioi"), "pronoun", n=6, metric="margin")
    assert runs.metric.unit == "logits" and "lab_extras.metric" in runs.metric.source
    assert (runs.clean > 0).all() and (runs.corrupted < 0).all()  # the model says the pronoun of each name


def test_a_paper_is_measured(lab, tmp_path):
    found = wb.replicate("name-decides", options=["pairs=12"], out=tmp_path / "r", device="cpu")
    (claim,) = found.findings.claims
    assert claim.verdict == "holds" and claim.n == 12


def test_an_edit_and_a_mask_are_made_saved_and_read(lab, tmp_path, runs):
    edit = wb.edits.make_edit("lean", ["heads=a0.h0,a1.h1", "by=0"])
    read = wb.edits.load_edit(wb.edits.save_edit(wb.edits.stack([edit]), tmp_path / "e"))
    assert read.edits == (edit,)
    ids = runs.model.to_tokens("When Mary and John went to the store")
    with edit.on(runs.model):
        leaned = runs.model(ids)
    with wb.edits.turn_off(runs.model, ["a0.h0", "a1.h1"], mode="zero").on(runs.model):
        off = runs.model(ids)
    assert (leaned - off).abs().max() < 1e-4 < (leaned - runs.model(ids)).abs().max()
    mask = wb.edits.make_edit("mask", ["heads=a0", "mask=stripes", "tokens=4", "every=3"])
    assert mask.allowed.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]


def test_a_result_has_its_file_its_card_and_its_export(lab, tmp_path):
    circuit = small_circuit(SMALL)
    edges = wb.export(circuit, "edge-list", tmp_path / "c.edges").splitlines()
    assert (
        edges == list(circuit.edges) and wb.export(circuit, path=tmp_path / "d.edges").splitlines() == edges
    )
    from lab_extras.tally import Tally

    tally = Tally.of(circuit)
    wb.save(tally, tmp_path / "tally.json")
    assert wb.load(tmp_path / "tally.json") == tally and sum(tally.counts.values()) == len(edges)
    assert "<td>head</td>" in tally._repr_html_() and tally.to_terminal()[0] == f"{len(edges)} edges"


def test_files_of_another_tool_are_read(lab, tmp_path):
    circuit = small_circuit(SMALL)
    wb.export(circuit, "edge-list", tmp_path / "c.edges")
    assert list(import_circuit(tmp_path / "c.edges", "edge-list", task="ioi").edges) == list(circuit.edges)
    with pytest.raises(OptionError, match="no scores to choose from"):
        import_circuit(tmp_path / "c.edges", "edge-list", keep="2")
    (tmp_path / "p.txt").write_text("Mary met John\tJohn met John\tMary\tJohn\n")
    found = import_pairs("columns", tmp_path / "p.txt").pairs
    assert found.task == "p" and found[0].correct == (" Mary",) and "columns" in list_formats()


def test_a_card_of_a_plug_in_goes_before_ours_whenever_ours_is_imported(tmp_path, monkeypatch):
    from workbench.core.show import card, face

    circuit = small_circuit(SMALL)
    ours = face("card", type(circuit))
    (tmp_path / "mine.py").write_text(
        "from workbench.circuits.circuit import Circuit\nfrom workbench.core.show import card\n"
        "@card(Circuit)\ndef mine(circuit):\n    return f'<p>{circuit.n_edges}</p>'\n"
    )
    with plugins.used(monkeypatch):
        use_plugin(str(tmp_path / "mine.py"))
        assert circuit._repr_html_() == f"<p>{circuit.n_edges}</p>"
        card(type(circuit))(ours)  # as when our module is imported after the plug-in
        assert circuit._repr_html_() == f"<p>{circuit.n_edges}</p>"
    assert face("card", type(circuit)) is ours


def test_names_are_known_without_torch_and_without_the_plug_in(lab):
    code = (
        "import sys, workbench as wb\n"
        "from workbench.methods.registry import METHODS\n"
        "from workbench.core.errors import WorkbenchError\n"
        "try: METHODS.check('eap-betwen')\n"
        "except WorkbenchError as said: print(said.hint)\n"
        "print({'torch', 'lab_extras'} & set(sys.modules))\n"
        "METHODS.get('eap-between'), wb.make_pairs('pronoun', n=2)\n"
        "print({'torch', 'lab_extras'} & set(sys.modules))"
    )
    path = os.pathsep.join([str(lab), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    hint, before, after = done.stdout.splitlines()
    assert "eap-between" in hint and before == "set()" and after == "{'lab_extras'}", done.stderr


GONE = {"methods": {"mine": "no_such_module_anywhere:method"}, "tasks": {"gone": "no_such_module_anywhere"}}


def test_a_plug_in_that_fails_is_told_by_name_and_hides_nothing(tmp_path, monkeypatch):
    place = plugins.pretend(tmp_path, "broken-lab", "2.1", **GONE)
    with plugins.used(monkeypatch, place):
        with pytest.raises(
            PluginError, match=r"mine of the plug-in broken-lab 2.1 .*No module named 'no_such"
        ):
            get_method("mine")
        with pytest.warns(PluginWarning, match="broken-lab 2.1"):
            names = [one.name for one in list_tasks()]
        assert "ioi" in names and "gone" not in names and get_method("eap").name == "eap"


def test_a_name_of_ours_stays_ours_and_two_of_one_name_are_refused(tmp_path, monkeypatch):
    from workbench.commands.doctor import plugin_problems

    given = {"eap": "json:dumps", "twice": "json:dumps"}
    first = plugins.pretend(tmp_path / "a", "one-lab", "1.0", methods=given)
    second = plugins.pretend(
        tmp_path / "b", "two-lab", "2.0", methods={"twice": "json:loads", "none": "json:loads"}
    )
    with plugins.used(monkeypatch, first, second):
        assert get_method("eap").module == "workbench.methods.eap"
        with pytest.raises(PluginError, match=r"'twice' is in two-lab 2.0 and one-lab 1.0"):
            get_method("twice")
        with pytest.raises(PluginError, match=r"json:loads is a method called 'none'; it is none"):
            get_method("none")
        assert "one-lab 1.0 has a method called eap; the workbench's own is used" in plugin_problems()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        (
            "from workbench.methods.registry import declare as d\nd('eap', claim='', levels=('edge',), source='', "
            "options=object, cost=None, run=lambda: None)",
            "is the name of one of the workbench",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(text, said, tmp_path, monkeypatch):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with plugins.used(monkeypatch):
        with pytest.raises(PluginError, match=said):
            use_plugin(str(file))
        assert (
            "workbench_plugin_mine" not in sys.modules
            and METHODS.get("eap").module == "workbench.methods.eap"
        )


def test_a_module_and_a_name_in_it_are_plug_ins_too(tmp_path, monkeypatch):
    (tmp_path / "lab_extras.py").write_text(
        "from workbench.engine.metric_names import metric\n"
        "def begin():\n    metric('first-logit', unit='logits')(lambda logits, answers: logits[:, 0])\n"
    )
    with plugins.used(monkeypatch, tmp_path):
        use_plugin("lab_extras")
        with pytest.raises(OptionError, match="no metric called 'first-logit'"):
            wb.get_metric("first-logit")
        use_plugin("lab_extras:begin")
        assert wb.get_metric("first-logit").unit == "logits"
        with pytest.raises(PluginError, match="has no attribute 'nothing'"):
            use_plugin("lab_extras:nothing")


def test_the_digest_of_a_plug_in_follows_its_own_modules(tmp_path, monkeypatch):
    """Relative imports and those inside functions count; what is neither ours nor the plug-in's does not."""
    package = tmp_path / "lab_extras"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "entry.py").write_text("import json\ndef f():\n    from .deep import X\n    return X\n")
    digests = []
    for value in (1, 2, 1):
        (package / "deep.py").write_text(f"X = {value}\n")
        with plugins.used(monkeypatch, tmp_path):
            use_plugin("lab_extras.entry")
            digests.append(source_digest("lab_extras.entry"))
    assert digests[0] == digests[2] != digests[1]
    with pytest.raises(ModuleNotFoundError, match=r"no source of workbench\.core\.nothing"):
        source_digest("workbench.core.nothing")


def test_nobody_takes_a_name_of_ours():
    ours = get_task("ioi")
    with pytest.raises(TaskError, match="which is the name of one of the workbench"):
        task("ioi", source="", corruptions=("a",), positions=(), describe="", texts=())(lambda draw: None)
    assert get_task("ioi") is ours


def test_a_changed_method_of_a_notebook_is_another_question(monkeypatch):
    """A cell has no file: the function itself is what its digest is of, in a search as in a bench."""
    from workbench.bench.cells import code_of
    from workbench.core.source_digest import sources_of_plugin

    cell = "def mine(runs, options, *, level, progress):\n    return {}\n"
    found = []
    with plugins.used(monkeypatch):
        for number in (1, 2, 1):
            space: dict[str, Any] = {"__name__": "a_notebook"}
            exec(cell.format(number), space)
            method("mine", levels=("node",), source="", options=object, cost=lambda *_: Cost(forward=0))(
                space["mine"]
            )
            made = get_method("mine")
            found.append([sources_of_plugin(made.module, made.run), code_of(made)["plug-in sources"]])
    assert found[0] == found[2] != found[1] and all(digests[1] for digests in found)
    assert "plug-in sources" not in code_of(get_method("eap"))


def test_a_worker_elsewhere_uses_the_plug_ins_of_the_process_that_asks(tmp_path, monkeypatch):
    from workbench.core.named_plugins import VARIABLE
    from workbench.engine.cluster.ray_crew import _PASSED_ON
    from workbench.engine.cluster.worker import Worker

    (tmp_path / "task.py").write_text(plugins.files_of_page()["lab_extras/task.py"])
    monkeypatch.chdir(tmp_path)
    with plugins.used(monkeypatch):
        use_plugin("task.py")
        told = os.environ[VARIABLE]
    with plugins.used(monkeypatch):
        monkeypatch.setenv(VARIABLE, told)
        assert VARIABLE in _PASSED_ON and Worker(lambda serving: None, str(tmp_path)).ready()
        assert get_task("pronoun").positions == ("name",)


def test_a_plug_in_that_was_imported_is_in_the_record_too(tmp_path, monkeypatch):
    """Nobody named it: it is recorded as the module that a person may name, or as what was typed."""
    from workbench.core.run_record import RunRecord
    from workbench.engine.run_folders.command_line import command_line
    from workbench.engine.run_folders.consent import Consent

    (tmp_path / "lab_extras.py").write_text(plugins.files_of_page()["lab_extras/task.py"])
    with plugins.used(monkeypatch, tmp_path):
        assert RunRecord(command="ablate", arguments={}).plugins == []
        importlib.import_module("lab_extras")
        record = RunRecord(command="ablate", arguments={"model": "zoo:ioi", "task": "pronoun"})
        digest = plugins.sha256(tmp_path / "lab_extras.py")
        assert record.plugins == [{"plugin": "lab_extras", "sha256": digest}]
        assert "--plugin lab_extras ablate" in command_line(record)
        Consent().check({}, record.plugins)  # it is here already
    with plugins.used(monkeypatch, tmp_path), pytest.raises(RunError, match="used the plug-in lab_extras"):
        Consent().check({}, record.plugins)
    with plugins.used(monkeypatch):
        monkeypatch.setitem(
            sys.modules, "__main__", ModuleType("__main__")
        )  # as in a notebook: without a file
        task("typed", source="", corruptions=("a",), positions=(), describe="", texts=("a",))(typed_here())
        typed = RunRecord(command="ablate", arguments={})
        assert typed.plugins == [{"plugin": "__main__"}] and "--plugin" not in command_line(typed)
    with plugins.used(monkeypatch), pytest.raises(RunError, match="typed into a notebook or a shell"):
        Consent().check({}, typed.plugins)


def typed_here():
    """A function as a notebook has it: of ``__main__``, which has no file there."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def typed(draw, *, split, corruption):\n    return None\n", space)
    return space["typed"]
