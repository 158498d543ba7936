"""Classifiers of pictures: classes by name, positions as sets of patches, every number from a ViT in plain torch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import workbench as wb
from tests.integration.plain_vit import N_HEADS, PlainVit
from tests.integration.test_acdc import compare, plain_acdc
from tests.towers import CLASSES, tower_dir
from workbench.core.errors import ModelError, TaskError
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.methods.by_name import score
from workbench.model.from_files import reading_of
from workbench.model.hooks import forward
from workbench.tasks.reading import align_for

TOLERANCE = 2e-5  # as with words: edits at q, k, v against a copy of the stream, float32
SIDE = 12
CELLS = {"object": ([0, 1], [1, 4]), "others": ([8], [8])}


def rows_in(folder, n: int = 3) -> list[dict[str, object]]:
    rng, rows = np.random.default_rng(3), []
    for i in range(n):
        for side in "ab":
            np.save(folder / f"{side}{i}.npy", rng.normal(size=(3, SIDE, SIDE)).astype("float32"))
        row = {
            "id": f"p{i}",
            "clean": "",
            "corrupted": "",
            "correct": [CLASSES[i]],
            "incorrect": [CLASSES[i + 1]],
        }
        row |= {"image": {"clean": f"a{i}.npy", "corrupted": f"b{i}.npy"}, "grid": [3, 3], "regions": CELLS}
        rows.append(row)
    return rows


def saved(folder, **changed):
    rows = rows_in(folder)
    rows[0] |= changed
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return wb.load_pairs(saved(tmp_path_factory.mktemp("classes")))


@pytest.fixture(scope="module")
def model():
    return wb.open_model(tower_dir("vit"), device="cpu")


@pytest.fixture
def runs(model, pairs):
    return wb.paired_runs(model, pairs)


@pytest.fixture(scope="module")
def plain(pairs):
    written = PlainVit()
    return written, [[written.rows(torch.tensor(p.pixels)) for p in pair.image] for pair in pairs]


def gap(scores: torch.Tensor, i: int) -> torch.Tensor:
    return scores[i] - scores[i + 1]


def test_the_classifier_written_out_is_transformers_and_its_metric_ours(plain, pairs, runs):
    written, rows = plain
    for i, pair in enumerate(pairs):
        for side, values in enumerate((runs.clean, runs.corrupted)):
            expected = written.model(torch.tensor(pair.image[side].pixels)[None]).logits[0]
            assert written.run(rows[i][side])[0] == pytest.approx(expected, abs=TOLERANCE)
            assert values[i] == pytest.approx(float(gap(expected, i)), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("position", "at"),
    [
        (None, list(range(10))),
        ("image", list(range(1, 10))),
        ("class", [0]),
        ("object", [1, 2, 5]),  # where it is in either picture
        ("others", [9]),
        ("background", [3, 4, 6, 7, 8]),
        (4, [4]),
    ],
)
def test_heads_and_mlps_at_sets_of_patches_equal_a_loop(position, at, runs, plain):
    written, rows = plain
    parts = [*(f"a{n}.h{h}" for n in range(3) for h in range(N_HEADS)), *(f"m{n}" for n in range(3))]
    places = () if position is None else [position]
    found = wb.ablate(runs, parts, positions=places)
    for i in range(runs.n_pairs):
        other = written.run(rows[i][1])[1]
        for j, part in enumerate(parts):
            expected = gap(written.run(rows[i][0], put={part: (at, other[part])})[0], i)
            assert found.patched[j, i] == pytest.approx(float(expected), abs=TOLERANCE)
    assert (abs(found.mean) > 1e-5).any()


def test_keys_in_a_set_are_taken_from_the_class_token(runs, plain):
    written, rows = plain
    found = wb.measure(runs, wb.knock_outs(["a2.h1"], "class", "object"), kind="knock-out")
    for i in range(runs.n_pairs):

        def edit(layer, A):
            if layer == 2:
                A = A.clone()
                A[1, 0, [1, 2, 5]] = 0
                A[1, 0] /= A[1, 0].sum()
            return A

        expected = gap(written.run(rows[i][0], pattern=edit)[0], i)
        assert found.patched[0, i] == pytest.approx(float(expected), abs=TOLERANCE)
    assert (abs(found.patched - found.base) > 1e-5).any()


def test_a_pattern_of_the_other_picture_equals_a_loop(runs, plain):
    written, rows = plain
    found = wb.measure(
        runs,
        [Intervention(label="p", edits=(Edit(node="a1.h3<pattern>", value="corrupted"),))],
        kind="pattern",
    )
    for i in range(runs.n_pairs):
        kept: dict[int, torch.Tensor] = {}
        written.run(rows[i][1], pattern=lambda layer, A, kept=kept: kept.setdefault(layer, A))

        def edit(layer, A, kept=kept):
            if layer == 1:
                A = A.clone()
                A[3] = kept[1][3]
            return A

        expected = gap(written.run(rows[i][0], pattern=edit)[0], i)
        assert found.patched[0, i] == pytest.approx(float(expected), abs=TOLERANCE)


def ablated(plain, i: int, edges) -> float:
    written, rows = plain
    instead = written.run(rows[i][1])[1]
    return float(gap(written.run(rows[i][0], ablated=edges, instead=instead)[0], i))


def test_exact_edges_equal_a_loop(runs, plain):
    graph, found = runs.wiring.graph(), score(runs, "exact").values
    for edge in list(graph.edges())[::17]:
        pair = str(edge.source), str(edge.target)
        drops = [runs.clean[i] - ablated(plain, i, {pair}) for i in range(runs.n_pairs)]
        assert found[graph.index(edge)] == pytest.approx(np.mean(drops), abs=TOLERANCE), edge


def test_eap_ig_equals_a_loop(runs, plain):
    written, rows = plain
    graph, steps = runs.wiring.graph(), 2
    expected = np.zeros(graph.edge_mask.shape)
    for i in range(runs.n_pairs):
        clean, corrupted = (written.run(rows[i][side])[1] for side in (0, 1))
        for k in range(steps):
            copies: dict[str, torch.Tensor] = {}
            start = rows[i][1] + (k + 0.5) / steps * (rows[i][0] - rows[i][1])
            out = gap(written.run(start, copies=copies)[0], i)
            grads = dict(zip(copies, torch.autograd.grad(out, copies.values()), strict=True))
            for edge in graph.edges():
                source = str(edge.source)
                product = (clean[source] - corrupted[source]) * grads[str(edge.target)]
                expected[graph.index(edge)] += float(product.sum()) / steps / runs.n_pairs
    found = score(runs, "eap-ig", steps=steps).values[graph.edge_mask]
    assert found == pytest.approx(expected[graph.edge_mask], abs=TOLERANCE) and abs(found).max() > 1e-2


def test_acdc_equals_a_loop(runs, plain):
    graph, tau = runs.wiring.graph(), 0.05
    damage, removed = plain_acdc(
        graph, lambda edges: np.mean([ablated(plain, i, edges) for i in range(runs.n_pairs)]), tau
    )
    compare(graph, score(runs, "acdc", tau=tau), damage, removed, tau)


# -- what is refused, before anything runs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"correct": ["cats"]}, "answer 'cats' is none of the 5 classes: .*; did you mean 'cat'"),
        ({"clean": "a cat"}, r"the clean prompt has words \('a cat'\), and the model reads none"),
        ({"grid": [4, 4]}, "regions are on a grid of 4 x 4 patches; the model's is 3 x 3"),
        ({"correct": ["dog"], "incorrect": ["cat", "dog"]}, "both correct and incorrect"),
        (
            {"image": {"clean": "wide.npy", "corrupted": "b0.npy"}},
            "has 12 x 16 pixels; the model reads 12 x 12",
        ),
        (
            {"image": {"clean": "grey.npy", "corrupted": "b0.npy"}},
            "holds colours, and nothing beside the model",
        ),
    ],
)
def test_pairs_that_the_model_cannot_take_are_refused(model, tmp_path, changed, says):
    np.save(tmp_path / "wide.npy", np.zeros((3, 12, 16), "float32"))
    np.save(tmp_path / "grey.npy", np.zeros((12, 12, 3), "uint8"))
    with pytest.raises(TaskError, match=says):
        pairs = wb.load_pairs(saved(tmp_path, **changed))
        wb.paired_runs(model, pairs[:1])


@pytest.mark.parametrize(
    ("regions", "left"), [({}, ("image", "class")), ({"object": [[], []]}, ("image", "background", "class"))]
)
def test_a_region_that_some_pairs_lack_is_refused_where_it_is_asked_for(model, tmp_path, regions, left):
    runs = wb.paired_runs(model, wb.load_pairs(saved(tmp_path, regions=regions)))
    assert runs.set_names == left
    with pytest.raises(
        TaskError, match="(?s)pair 0 has no region called 'object'.*patches: " + ", ".join(left)
    ):
        wb.ablate(runs, ["a0.h0"], positions=["object"])
    with pytest.raises(TaskError, match="no position called 'objcet'"):
        wb.ablate(runs, ["a0.h0"], positions=["objcet"])


def test_words_for_a_model_of_pictures_are_refused(model):
    pair = wb.Pair(id="a", clean="", corrupted="", correct=("cat",), incorrect=("dog",))
    with pytest.raises(TaskError, match="the pair has no picture, and the model reads nothing without one"):
        wb.paired_runs(model, wb.Pairs(items=(pair,), task="t"))
    with pytest.raises(ModelError, match="the model reads pictures, and the prompt has none"):
        forward(model, torch.arange(10)[None], last_only=True)


def test_files_alone_say_how_pictures_are_read(pairs, runs):
    planned = align_for(pairs, reading_of(str(tower_dir("vit"))))
    assert planned.correct == runs.pairs.correct and planned.sets == runs.pairs.sets
