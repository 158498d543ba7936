"""Circuits of a tower and the language model behind it, by the command line: found, shown, judged, refused."""

import json
import re

import numpy as np

from tests.seeing import picture_pairs, seeing_dir
from workbench.model.builtin import names


def test_a_circuit_behind_a_tower_is_found_shown_judged_and_drawn(run, tmp_path):
    pairs = picture_pairs(tmp_path, 2)
    what = ("-m", seeing_dir("llava"), "-t", pairs)
    search = ("discover", *what, "--with-tower", "--method", "eap", "--keep", "60%", "--random", "1")
    code, out, _ = run(*search, "--dry-run", "--json")
    assert code == 0
    cost = json.loads(out)
    assert (cost["candidates"], cost["in_tower"]) == (247, cost["forward"])
    code, out, err = run(*search, "--out", "c", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["circuit"]["of"] == 247 and found["faithfulness"]["candidates"] == 247
    code, out, err = run("circuit", "show", "c", "--json")
    assert code == 0 and "vision:embed" in out and "projector" in out, err
    code, out, err = run("evaluate", "c", *what[2:], "--random", "1", "--json")
    assert code == 0, err
    again = json.loads(out)["faithfulness"]
    np.testing.assert_allclose(again, found["faithfulness"]["faithfulness"], atol=1e-4)
    code, _, err = run("circuit", "view", "c")
    page = (tmp_path / "c" / "circuit.html").read_text()
    assert code == 0 and '"vision:embed"' in page and '"vision"' in page, err


def test_exports_of_one_stack_refuse_a_tower(run, tmp_path):
    run("discover", "-m", seeing_dir("llava"), "-t", picture_pairs(tmp_path, 2), "--with-tower", "--method", "random",
        "--random", "0", "--out", "c")  # fmt: skip
    code, _, err = run("circuit", "export", "c", "-f", "graphml", "-o", "c.graphml")
    assert code == 0, err
    for kind in ("eap-ig", "neuronpedia"):
        code, _, err = run("circuit", "export", "c", "-f", kind, "-o", "c.out")
        assert code == 1 and "this circuit also has a tower" in err


def test_what_has_no_tower_is_refused_before_anything_is_loaded(run):
    code, out, err = run("discover", "-m", "zoo:ioi", "-t", "ioi", "--with-tower")
    assert (code, out) == (1, "") and "zoo:ioi has no tower for pictures beside a language model" in err
    named = re.findall(r"zoo:(?:vlm|clip)[a-z-]*", err)
    assert named == sorted(f"zoo:{name}" for name in names() if name.startswith(("vlm", "clip")))
    code, _, err = run("discover", "-m", "zoo:vlm", "-t", "scene-exist", "--with-tower", "--level", "node")
    assert code == 1 and "workbench ablate --parts vision:heads" in err


def test_two_towers_that_meet(run, tmp_path):
    """Pictures and captions both change: a circuit has parts of both, and its page a column for each."""
    asked = (
        "discover",
        "-m",
        "zoo:clip",
        "-t",
        "scene-captions",
        "--with-tower",
        "--method",
        "eap",
        "-n",
        "2",
    )
    for dry in ((), ("--dry-run",)):  # by default the picture alone changes
        code, out, err = run(*asked, *dry)
        assert (
            (code, out) == (1, "")
            and "the same captions in all 2 pairs" in err
            and "--corruption both" in err
        )
    small = ("--random", "0", "--exact-sample", "0", "--keep", "20%", "--out", "c")
    code, _, err = run(*asked, "--corruption", "both", *small)
    assert code == 0, err
    code, out, err = run("circuit", "show", "c")
    assert code == 0 and "vision tower" in out and "text tower" in out, err
    page = (tmp_path / "c" / "circuit.html").read_text()
    assert all(f'"{address}"' in page for address in ("vision:embed", "text:embed", "logits"))
