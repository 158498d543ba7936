"""What is kept for the page of a circuit is what the methods themselves measure."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench.circuits.details import pattern_of
from workbench.core.stats.intervals import mean_interval
from workbench.evaluate.circuit_details import details_under
from workbench.evaluate.shown_prompts import shown_prompts


@pytest.fixture(scope="module")
def runs():
    return wb.paired_runs(wb.open_model("zoo:truth-induction"), "induction", n=4, corruption="match")


def test_details_are_those_of_the_methods(runs):
    scores = wb.score(runs, "eap")
    circuit = scores.top(12)
    found = wb.circuit_details(circuit, runs, scores=scores, most_edges=8, n_prompts=2)
    assert set(found.heads) == {name for name in circuit.heads} and len(found.prompts) == 3
    head = next(iter(found.heads))
    layer, index = int(head[1]), int(head[-1])
    seen = wb.patterns_of(runs.model, runs.subset([1]).batches[0].prompt("clean")).patterns[layer][0, index]
    assert np.abs(pattern_of(found.prompts[1], head) / 255 - seen.numpy()).max() <= 0.5 / 255 + 1e-6
    effect = wb.ablate(runs, [head]).per_pair[0]
    assert found.heads[head].effect == pytest.approx(effect.mean(), abs=1e-5)
    assert found.heads[head].low == pytest.approx(mean_interval(effect).low, abs=1e-5)
    exact = wb.score(runs, "exact")
    for edge, detail in found.edges.items():
        [index] = [i for i in np.argwhere(exact.candidates).tolist() if exact.address(tuple(i)) == edge]
        assert detail.exact == pytest.approx(float(exact.values[tuple(index)]), abs=1e-5)
    other = details_under(circuit, runs, "mean", scores=scores, most_edges=2)
    assert other.heads[head].effect == pytest.approx(
        wb.ablate(runs, [head], ablation="mean").mean[0], abs=1e-5
    )
    assert set(other.edges) < set(found.edges) and other.provenance == found.provenance
    edge, detail = next((e, d) for e, d in found.edges.items() if d.reason is not None)
    own = wb.why(runs, edge).rankings[0]
    assert detail.reason.rankings[0].terms[0].term == own.rows(1)[0]["term"]
    assert detail.reason.rankings[0].total == pytest.approx(own.total)
    assert any("8 strongest of" in note for note in found.notes) == (len(circuit.edges) > 8)


def test_a_picture_stands_under_the_patches_of_its_prompt_in_both_stacks():
    runs = wb.paired_runs(wb.open_model("zoo:vlm"), "scene-exist", n=2)
    notes = []
    own, corrupted, tower, _ = shown_prompts(runs, ["a1.h1", "vision:a0.h0"], 1, notes)
    assert not notes and (own.picture.first, tower.picture.first, own.picture.columns) == (1, 1, 6)
    assert (
        own.tokens[:2] == ["<bos>", "patch 0,0"] and own.tokens[36] == "patch 5,5" and own.tokens[-1] == "?"
    )
    assert tower.tokens[0] == "class" and list(tower.patterns) == ["vision:a0.h0"] and not tower.causal
    pixels = np.asarray(Image.open(BytesIO(b64decode(own.picture.png))))
    assert np.array_equal(pixels, runs.pairs.pairs[0].image[0].pixels)
    assert corrupted.picture.png != own.picture.png and tower.picture.png == own.picture.png
    seen = wb.patterns_of(runs.model, runs.subset([0]).batches[0].prompt("clean"), tower="vision").patterns[
        0
    ][0, 0]
    assert np.abs(pattern_of(tower, "vision:a0.h0") / 255 - seen.numpy()).max() <= 0.5 / 255 + 1e-6
