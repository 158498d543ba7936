"""`workbench bench discovery`: clean stdout, files, resumption, mistakes before any work."""

import json
import subprocess
import sys

import pytest

SMALL = [
    *(
        "bench",
        "discovery",
        "--methods",
        "random,magnitude",
        "--truth",
        "zoo:truth-induction",
        "--tasks",
        "none",
    ),
    *("--limit", "4", "--seeds", "1", "--workers", "1", "-o", "out"),
]


def test_help_has_a_claim_and_an_example(run):
    code, out, _ = run("bench", "discovery", "--help")
    assert code == 0 and "Example: workbench bench discovery" in " ".join(out.split())


def test_json_table_page_and_docs(run, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- bench: begin -->\n<!-- bench: end -->\n")
    code, out, err = run(*SMALL, "--json", "--docs", page)
    assert code == 0, err
    document = json.loads(out)
    assert document == json.loads((tmp_path / "out" / "bench.json").read_text())
    assert {(c["method"], c["level"]) for c in document["truth"]} == {
        (m, level) for m in ("random", "magnitude") for level in ("edge", "node")
    }
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["command"], record["status"]) == ("bench discovery", "done")
    assert "| random |" in page.read_text() and "<svg" in (tmp_path / "out" / "bench.html").read_text()
    cells = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "cells").iterdir()}
    code, out, err = run(*SMALL)  # nothing is measured again
    assert code == 0 and "edge AUROC" in out and "wrote out" in err
    assert cells == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out" / "cells").iterdir()}


WRONG = [
    (["--methods", "eapig"], "did you mean eap-ig"),
    (["--methods", "all,eap-ig:stepz=3"], "no option 'stepz'"),
    (["--methods", "eap-ig:steps"], "cannot read 'steps'"),
    (["--truth", "zoo:truth-inductoin"], "truth-induction"),
    (["--tasks", "zoo:ioi/ioii"], "did you mean ioi"),
    (["--tasks", "zoo:ioii/ioi"], "did you mean zoo:ioi"),
    (["--tasks", "./nowhere/ioi"], "no directory ./nowhere"),
    (["--levels", "layer"], "no level called 'layer'"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_mistakes_are_explained_before_any_work(run, tmp_path, wrong, said):
    code, out, err = run("bench", "discovery", *wrong, "-o", "out")
    assert code == 1 and out == "" and said in err and not (tmp_path / "out").exists()


def test_names_are_checked_before_torch_is_loaded(tmp_path):
    """All mistakes in one process; then its modules are looked at."""
    code = (
        "import sys, json\n"
        "from cli.app import app\n"
        "from workbench.core.errors import WorkbenchError\n"
        "for wrong, said in json.loads(sys.argv[1]):\n"
        "    try:\n"
        "        app(['bench', 'discovery', *wrong, '-o', sys.argv[2]], standalone_mode=False)\n"
        "    except WorkbenchError as problem:\n"
        "        assert said in str(problem), problem\n"
        "print(sorted({'torch', 'transformers', 'transformer_lens'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, json.dumps(WRONG), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stderr + done.stdout
    assert not (tmp_path / "out").exists()
