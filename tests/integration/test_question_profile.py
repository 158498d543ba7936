"""Portraits on pictures: heads of a language model by kind of question, heads of its tower; planted heads, sums."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from tests.seeing import seeing_dir
from workbench.core.errors import ModelError
from workbench.heads.asked_pictures import ask_pictures
from workbench.heads.drawn_pictures import draw_pictures
from workbench.heads.example_looks import ASKED, about_one
from workbench.heads.portrait import portrait
from workbench.heads.table import load_portrait
from workbench.heads.tower_profile import tower_profile


@pytest.fixture(scope="module")
def vlm():
    return wb.open_model("zoo:vlm", device="cpu")


@pytest.fixture(scope="module")
def found(vlm):
    return portrait(vlm, n=4, length=20, loss=False, seed=3)


def test_what_the_asked_object_gets_is_a_sum_over_its_patches(vlm, found):
    asked = ask_pictures(vlm, ASKED, kinds=["shape"], n=4, seed=3, wanted=[about_one])
    own = others = word = image = 0.0
    for i, (scene, question) in enumerate(zip(asked.scenes, asked.questions, strict=True)):
        pattern = wb.patterns_of(vlm, asked.prompt[i : i + 1]).patterns[0][0, 1].double().numpy()
        at = 37 + question.text.split().index(
            question.words[0]
        )  # the beginning of a text, 36 patches, then words
        owner = scene.owner.reshape(6, 8, 6, 8)
        on = {t.slot: (owner == t.slot).any((1, 3)).flatten() for t in scene.things}
        rest = [on[slot] for slot in on if slot != question.asked[0]]
        image += pattern[43, 1:37].sum() / 4
        own += pattern[43, 1:37][on[question.asked[0]]].sum() / 4
        others += np.mean([pattern[43, 1:37][patches].sum() for patches in rest]) / 4
        word += pattern[at, 1:37][on[question.asked[0]]].sum() / 4
    row = next(row for row in found.rows() if row["head"] == "a0.h1")
    assert row["image-shape"] == pytest.approx(image, abs=1e-6)
    assert row["asked-shape"] == pytest.approx(own, abs=1e-6)
    assert row["others-shape"] == pytest.approx(others, abs=1e-6)
    assert row["word-asked-shape"] == pytest.approx(word, abs=1e-6)
    assert found["image-shape"].null[0, 0] == pytest.approx(
        36 / 44
    )  # of 44 positions that the last word sees


def test_the_word_for_a_colour_finds_the_object_of_that_colour(found):
    """A finding about these weights that a reader of the notebook meets: in layer 0, and no other object gets any."""
    head, share = found.top("word-asked-shape", 1)[0]
    assert head.startswith("a0.") and share > 0.8
    assert found["word-others-shape"].values[0, int(head[-1])] < 0.05


def test_heads_of_the_tower_have_a_portrait_of_their_own(vlm, tmp_path):
    tower = portrait(vlm, n=3, seed=1, tower="vision")
    assert tower.heads[0] == "vision:a0.h0" and len(tower.heads) == 12
    rings = sum(tower[f"ring-{i}"].values for i in ("0", "1", "2", "far"))
    assert np.allclose(rings + tower["class-from-patches"].values, 1, atol=1e-6)  # a patch gives all it has
    assert np.isnan(tower["object-mass"].values).all()  # no object is meant
    assert "the vision tower of zoo:vlm" in tower.title
    again = load_portrait(tower.save(tmp_path))
    assert again.rows() == tower.rows() and again.tower == "vision"
    with pytest.raises(ModelError, match="no stack called 'text'"):
        portrait(vlm, tower="text")


def test_what_patches_of_an_object_give_is_a_plain_sum(vlm):
    """A planted head whose patches look at themselves keeps all within the object; one that looks at patch 0 not."""
    shown = draw_pictures(vlm, ASKED, n=3, seed=1, tower="vision")
    themselves = np.broadcast_to(np.eye(37), (3, 37, 37))
    found = tower_profile({"own": themselves}, shown)["own"]
    assert np.allclose(found.within.mass, 1) and np.allclose(found.within.other_mass, 0)
    first = np.zeros((3, 37, 37))
    first[..., 1] = 1
    at = tower_profile({"first": first}, shown)["first"].within
    assert np.array_equal(at.mass, shown.own[:, 0, 0].astype(float))


def test_pictures_of_another_size_are_said_and_words_are_measured():
    found = portrait(wb.open_model(seeing_dir("llava"), device="cpu"), n=2, length=20, loss=False)
    assert any(note.startswith("no questions about drawn pictures are asked:") for note in found.notes)
    assert "asked-shape" not in found and "previous-token" in found


def test_positions_of_a_tower_are_no_words():
    """CLIP has a tokenizer, and the ids of its pictures are positions: as words they would be its vocabulary."""
    runs = wb.paired_runs(wb.open_model("zoo:clip", device="cpu"), "scene-captions", n=4)
    found = wb.discover(runs, "eap", amount=5, shares=(1.0,), random_draws=1)
    assert found.circuit.prompt == ()
