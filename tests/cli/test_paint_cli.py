"""``workbench paint``: a run folder like any other, and what it refuses."""

from __future__ import annotations

import json

import pytest

from tests import forks
from tests.integration.test_painter import fresh
from workbench.commands.do import do
from workbench.core.errors import WorkbenchError
from workbench.core.run_file import load_record
from workbench.edits.file import save_edit
from workbench.edits.word_looks import WordLooks

CAPTIONS = ("a red disc left, a blue square right", "a green triangle right")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The directory of an untrained painter."""
    folder, made = tmp_path_factory.mktemp("painter"), fresh()
    made.config.architectures = ["PainterModel"]
    made.save_pretrained(folder)
    return str(folder)


def test_another_process_opens_it_by_its_directory(model):
    """Nothing of the painter is loaded before: transformers does not know its configuration by itself."""
    program = "import sys, workbench as wb; print(wb.open_model(sys.argv[1]))"
    found = forks.run(["-c", program, model])
    assert "Tower(vision of PainterModel" in found.stdout, found.stderr


def test_a_run_is_kept_shown_again_repeated_and_compared(model, tmp_path):
    asked = {"captions": CAPTIONS, "model": model, "steps": 2, "seed": 3}
    first = do("paint", **asked, out=tmp_path / "a")
    assert {p.name for p in (tmp_path / "a").iterdir() if not p.name.startswith(".")} == {
        "painting.json",
        "page.html",
        "run.json",
    }
    record = load_record(tmp_path / "a")
    assert record.status == "done" and record.arguments["guidance"] == 2.0 and record.arguments["seed"] == 3
    notes: list[str] = []
    again = do("paint", **asked, out=tmp_path / "a", note=notes.append)
    assert again.to_dict() == first.to_dict() and "already measured" in notes[0]
    do("paint", **asked, out=tmp_path / "b")
    do("paint", **{**asked, "seed": 4}, out=tmp_path / "c")
    assert do("runs diff", folder=tmp_path / "a", other=tmp_path / "b").identical
    assert not do("runs diff", folder=tmp_path / "a", other=tmp_path / "c").identical
    with pytest.raises(WorkbenchError, match="holds another run"):
        do("paint", **{**asked, "seed": 4}, out=tmp_path / "a")


def test_an_edit_is_painted_beside_the_same_noise_without_it(model, tmp_path):
    edit = WordLooks(heads=("a0", "a1"), slots=("first colour",), region=(0, 4, 8, 8), inside=5.0)
    save_edit(edit, tmp_path / "edit")
    plain = do("paint", captions=CAPTIONS, model=model, steps=2, out=tmp_path / "plain")
    found = do(
        "paint", captions=CAPTIONS, model=model, steps=2, edit=tmp_path / "edit", out=tmp_path / "edited"
    )
    said = found.to_dict()
    assert said["edit"] == edit.describe()
    for one, other in zip(said["pictures"], plain.to_dict()["pictures"], strict=True):
        assert one["plain"] == other["picture"] and one["picture"]["pixels"] != other["picture"]["pixels"]
    page = (tmp_path / "edited" / "page.html").read_text()
    assert (
        "without the edit" in page
        and "second colour" in page
        and "http://" not in page.replace("http://www.w3.org", "")
    )


def test_a_killed_run_goes_on_to_the_same_numbers(model, tmp_path, monkeypatch):
    captions = CAPTIONS * 5  # two parts
    asked = {"captions": captions, "model": model, "steps": 1}
    whole = do("paint", **asked, out=tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(done, total, what):
        raise Killed

    with pytest.raises(Killed):
        do("paint", **asked, out=tmp_path / "killed", progress=kill)
    assert not (tmp_path / "killed" / "painting.json").exists()
    found = do("runs resume", folder=tmp_path / "killed")
    assert found is not None
    saved = json.loads((tmp_path / "killed" / "painting.json").read_text())
    assert saved["pictures"] == whole.to_dict()["pictures"]
    assert not (tmp_path / "killed" / "shards").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"captions": ("a pink disc left",)}, "does not know 'pink'"),
        ({"captions": ("red disc",)}, "2 words"),
        ({"captions": ()}, "nothing to paint"),
        ({"guidance": -1.0}, "guidance -1"),
        ({"steps": 0}, "steps is 0"),
        ({"edit": "nowhere"}, "no file nowhere"),
        ({"edit": __file__, "guidance": 0.0}, "would change nothing"),
        ({"model": "zoo:marked"}, "does not paint"),
        ({"model": "zoo:ioi"}, "does not paint"),
    ],
)
def test_what_cannot_be_painted_is_refused(model, tmp_path, given, said):
    with pytest.raises(WorkbenchError, match=said):
        do("paint", **{"captions": CAPTIONS, "model": model, "out": tmp_path / "x", **given})


def test_a_dry_run_counts_passes(model, tmp_path):
    plan = do("paint", captions=CAPTIONS, model=model, dry_run=True, out=tmp_path / "x").to_dict()
    assert plan["passes"] == 2 * 20 * 2 and not (tmp_path / "x").exists()
