"""A table of effects says what the model does, and which effects survive: in rows, dictionary, frame and picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from workbench.circuits.behavior import Behavior
from workbench.circuits.effects import Effects
from workbench.circuits.show.terminal import effects_table
from workbench.core.stats.multiplicity import benjamini_hochberg
from workbench.view.terminal import console, render

RNG = np.random.default_rng(0)
BASE = RNG.normal(8, 1, 20)


def table(drops: np.ndarray, *, gap=None, clusters=(), right=None) -> Effects:
    """Four heads of two layers, each with a drop per pair."""
    n = drops.shape[1]
    base = BASE[:n]
    gap = np.full(n, 9.0) + RNG.normal(0, 0.1, n) if gap is None else gap
    right = np.ones(n) if right is None else right
    told = {"metric": "logit-difference", "unit": "logits", "direction": 1}
    return Effects(
        labels=("a0.h0", "a0.h1", "a1.h0", "a1.h1")[: len(drops)],
        patched=base - drops,
        base=base,
        gap=gap,
        mode="noising",
        kind="resample ablation",
        task="t",
        model="m",
        clusters=clusters,
        behavior=Behavior.of(base, base - gap, right=right, guess=0.5, **told),
        **told,
    )


def drops(n: int = 20) -> np.ndarray:
    found = RNG.normal(0, 1, (4, n))
    found[0] += 4  # clear
    found[3] = 1e-6  # below 1e-5 of the largest score: rounding, though alike on every pair
    return found


def test_clear_effects_are_marked_and_rounding_is_not():
    found = table(drops())
    assert found.marks[0] == "**" and found.marks[3] == ""
    assert found.significance.p[3] == found.significance.q[3] == 1.0
    assert found.significance.q == pytest.approx(benjamini_hochberg(found.significance.p))
    assert "of 4 effects survive" in found.legend and "20 independent pairs" in found.legend


def test_marks_are_in_every_form_of_the_table():
    found = table(drops())
    frame, document = found.to_dataframe(), json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (
        frame["survives"].tolist()
        == [bool(m) for m in found.marks]
        == [r["survives"] for r in document["rows"]]
    )
    assert frame["q"].tolist() == [r["q"] for r in document["rows"]] == found.significance.q.tolist()
    assert {"p", "p_family"} <= set(frame) and document["significance"]["smallest"] == 1e-4
    assert document["behavior"]["finding"] == "yes"
    assert {r["part"]: r["survives"] for r in found.to_rows()} == dict(
        zip(found.labels, found.marks, strict=True)
    )
    frames = ET.fromstring(found.picture()).findall(".//*[@class='mark']")
    assert len(frames) == sum(map(bool, found.marks))
    terminal = console()
    with terminal.capture() as printed:
        terminal.print(render(found))
    assert printed.get().count("**") >= 2 and found.lead[:30] in printed.get()


def test_the_sentence_comes_first_and_stands_in_the_picture():
    noise = table(drops(), gap=RNG.normal(0, 1, 20), right=np.tile([0.0, 1.0], 10))
    sentence = noise.behavior.sentence()
    assert noise.behavior.finding == "noise" and noise.to_terminal()[0] == sentence
    text = " ".join(
        "".join(e.itertext()) for e in ET.fromstring(noise.picture()).iter() if e.tag.endswith("text")
    )
    assert "does not do this task" in text and "effects below are noise" in text
    assert noise.picture("png").startswith(b"\x89PNG")
    assert np.isnan(noise.share).all()  # a share of noise is no share


def test_four_pairs_can_show_nothing_and_it_says_so():
    found = table(drops(4))
    assert set(found.marks) == {""} and "none of 4 effects can survive" in found.legend


def test_copies_of_pairs_do_not_sharpen_it():
    few = drops(5)
    one = table(few)
    copied = table(np.repeat(few, 4, axis=1), clusters=tuple(np.repeat(np.arange(5), 4).tolist()))
    assert one.significance.resolution.clusters == copied.significance.resolution.clusters == 5
    assert one.significance.p == pytest.approx(copied.significance.p)
    assert not any(copied.marks) and any(table(np.repeat(few, 4, axis=1)).marks)


def test_no_effect_has_no_minus_sign():
    row = table(np.zeros((1, 4))).to_dict()["rows"][0]
    assert "-0.0" not in json.dumps([row["effect"], row["per_pair"]])


def test_rows_that_are_left_out_are_counted():
    few = table(np.ones((4, 6)))
    many = replace(few, labels=tuple(f"a{i}.h0" for i in range(24)), patched=np.tile(few.patched, (6, 1)))
    assert few.shown_rows == "" and many.shown_rows == "the 20 largest of 24 rows"
    assert many.shown_rows in effects_table(many)
