"""A language model behind pictures is measured as without an engine: every number from a loop in plain torch."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import workbench as wb
from tests.integration.plain_llava import N_HEADS, PlainLlava
from tests.integration.test_acdc import compare, plain_acdc
from tests.seeing import IMAGE, SIDE, picture_pairs, picture_rows, seeing_dir
from workbench.core.errors import ModelError, TaskError
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.methods.by_name import score
from workbench.model.hooks import forward
from workbench.model.identity import identity
from workbench.model.report import check_bridge
from workbench.tasks.pictures.image import Picture
from workbench.tasks.pictures.sight import Scaling, Sight

# 2e-6: largest difference seen between the model written out and transformers' own, logits of order 1.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return wb.load_pairs(picture_pairs(tmp_path_factory.mktemp("pictures")))


@pytest.fixture(scope="module")
def model():
    return wb.open_model(seeing_dir("llava"), device="cpu")


@pytest.fixture
def runs(model, pairs):
    return wb.paired_runs(model, pairs)


@pytest.fixture(scope="module")
def plain(pairs):
    """The model written out, what enters its language model for each pair, and the answers."""
    written = PlainLlava()
    return written, [[written.rows(pair, side)[0] for side in (0, 1)] for pair in pairs]


def gap(logits: torch.Tensor, runs, i: int) -> torch.Tensor:
    return logits[runs.pairs.correct[i][0]] - logits[runs.pairs.incorrect[i][0]]


def test_the_model_written_out_is_transformers(plain, pairs, runs):
    written, rows = plain
    for i, pair in enumerate(pairs):
        for side, values in enumerate((runs.clean, runs.corrupted)):
            expected = written.rows(pair, side)[1]
            assert written.run(rows[i][side])[0] == pytest.approx(expected, abs=TOLERANCE)
            assert values[i] == pytest.approx(float(gap(expected, runs, i)), abs=TOLERANCE)


def test_both_pictures_matter(runs, model, pairs):
    swapped = [replace(p, image=(p.image[1], p.image[0])) for p in pairs]
    other = wb.paired_runs(model, replace(pairs, items=tuple(swapped)))
    assert (abs(other.clean - runs.clean) > 1e-2).all() and (
        abs(other.corrupted - runs.corrupted) > 1e-2
    ).all()
    assert other.pairs.pairs.digest != runs.pairs.pairs.digest and other.tokens_digest != runs.tokens_digest


@pytest.mark.parametrize("name", ["llava", "llava-siglip", "gemma3"])
def test_models_are_their_plain_forward_with_pixels(name, pairs):
    model = wb.open_model(seeing_dir(name), device="cpu")
    assert identity(model).parity < 1e-5 and check_bridge(model).passes
    runs = wb.paired_runs(model, pairs)
    assert (abs(wb.ablate(runs, "heads").mean) > 1e-5).any()


@pytest.mark.parametrize("mode", ["noising", "denoising"])
def test_heads_and_mlps_equal_a_loop(mode, runs, plain):
    written, rows = plain
    parts = [*(f"a{n}.h{h}" for n in range(2) for h in range(N_HEADS)), "m0", "m1"]
    value = "corrupted" if mode == "noising" else "clean"
    asked = [Intervention(label=part, edits=(Edit(node=part, value=value),)) for part in parts]
    found = wb.measure(runs, asked, kind="patching", mode=mode)
    base, other = (0, 1) if mode == "noising" else (1, 0)
    for i in range(runs.n_pairs):
        wrote = written.run(rows[i][other])[1]
        for j, part in enumerate(parts):
            expected = gap(written.run(rows[i][base], put={part: wrote[part]})[0], runs, i)
            assert found.patched[j, i] == pytest.approx(float(expected), abs=TOLERANCE)
    assert (abs(found.patched - found.base) > 1e-4).all()


def test_patterns_equal_a_loop(runs, plain):
    """A head of layer 1 does not look from the last token at the first word of the question."""
    written, rows = plain
    rows_asked = wb.knock_outs(["a1.h0", "a1.h2"], "end", "V")
    found = wb.measure(runs, rows_asked, kind="knock-out")
    at = runs.pairs.positions
    for j, head in enumerate((0, 2)):
        for i in range(runs.n_pairs):

            def edit(layer, A, head=head, i=i):
                if layer != 1:
                    return A
                A = A.clone()
                row = A[head, at[i]["end"]]
                row[at[i]["V"]] = 0
                row /= row.sum()
                return A

            expected = gap(written.run(rows[i][0], pattern=edit)[0], runs, i)
            assert found.patched[j, i] == pytest.approx(float(expected), abs=TOLERANCE)
    assert (abs(found.patched - found.base) > 1e-4).any()


def ablated(runs, plain, i: int, edges) -> float:
    written, rows = plain
    instead = written.run(rows[i][1])[1]
    return float(gap(written.run(rows[i][0], ablated=edges, instead=instead)[0], runs, i))


def test_exact_edges_equal_a_loop(runs, plain):
    graph = runs.wiring.graph()
    found = score(runs, "exact").values
    for edge in list(graph.edges())[::7]:
        pair = str(edge.source), str(edge.target)
        drops = [runs.clean[i] - ablated(runs, plain, i, {pair}) for i in range(runs.n_pairs)]
        assert found[graph.index(edge)] == pytest.approx(np.mean(drops), abs=TOLERANCE), edge
    assert np.nanmax(abs(found)) > 1e-2


def test_eap_ig_equals_a_loop(runs, plain):
    """Midpoints of the line between what enters the language model for both pictures."""
    written, rows = plain
    graph, steps = runs.wiring.graph(), 3
    expected = np.zeros(graph.edge_mask.shape)
    for i in range(runs.n_pairs):
        clean, corrupted = (written.run(rows[i][side])[1] for side in (0, 1))
        for k in range(steps):
            copies: dict[str, torch.Tensor] = {}
            start = rows[i][1] + (k + 0.5) / steps * (rows[i][0] - rows[i][1])
            logits = written.run(start, copies=copies)[0]
            grads = dict(zip(copies, torch.autograd.grad(gap(logits, runs, i), copies.values()), strict=True))
            for edge in graph.edges():
                source = str(edge.source)
                product = (clean[source] - corrupted[source]) * grads[str(edge.target)]
                expected[graph.index(edge)] += float(product.sum()) / steps / runs.n_pairs
    found = score(runs, "eap-ig", steps=steps).values
    mask = graph.edge_mask
    assert found[mask] == pytest.approx(expected[mask], abs=TOLERANCE) and abs(expected).max() > 1e-2


def test_acdc_equals_a_loop(runs, plain):
    graph, tau = runs.wiring.graph(), 0.012
    damage, removed = plain_acdc(
        graph, lambda edges: np.mean([ablated(runs, plain, i, edges) for i in range(runs.n_pairs)]), tau
    )
    compare(graph, score(runs, "acdc", tau=tau), damage, removed, tau)


# -- the tower runs once ---------------------------------------------------------------------------------------


class Pictures(TorchDispatchMode):
    """Counts the pictures that go through a tower: its patches are the only convolution in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.seen += len(args[0])
        return function(*args, **(kwargs or {}))


def sweep(runs):
    wb.ablate(runs, "heads")
    wb.ablate(runs, "mlps", ablation="mean")
    wb.patch(runs, "head-output", positions=["V", "end"])


def patterns(runs):
    wb.knock_out(runs, "end", "V")


def edges(runs):
    score(runs, "exact")
    score(runs, "eap-ig", steps=3)


@pytest.mark.parametrize("work", [sweep, patterns, edges])
def test_the_tower_sees_each_picture_once(work, runs):
    work(wb.paired_runs(runs.model, runs.pairs))  # what is asked of a model once is asked
    fresh = wb.paired_runs(runs.model, runs.pairs)
    with Pictures() as count:
        work(fresh)
    assert count.seen == 2 * runs.n_pairs


# -- nothing runs without the pixels it needs --------------------------------------------------------------------


def changed(folder, **fields):
    """One pair of a picture and words, with something else in it."""
    row = picture_rows(folder, 1)[0] | fields
    path = folder / "pairs.jsonl"
    path.write_text(json.dumps(row))
    return wb.load_pairs(path)


def save(folder, name: str, array) -> dict[str, str]:
    np.save(folder / name, array)
    return {"clean": name, "corrupted": "b0.npy"}


def test_a_picture_of_another_size_is_refused(model, tmp_path):
    image = save(tmp_path, "wide.npy", np.zeros((3, SIDE, 24), "float32"))
    with pytest.raises(
        TaskError, match=f"has {SIDE} x 24 pixels; the model reads {SIDE} x {SIDE}, and nothing"
    ):
        wb.paired_runs(model, changed(tmp_path, image=image))


def test_colours_need_to_be_told_how_they_become_numbers(model, tmp_path):
    image = save(tmp_path, "colours.npy", np.zeros((SIDE, SIDE, 3), "uint8"))
    with pytest.raises(
        TaskError, match="holds colours, and nothing beside the model says how they become numbers"
    ):
        wb.paired_runs(model, changed(tmp_path, image=image))


@pytest.mark.parametrize("times", [0, 2, 5])
def test_other_numbers_of_image_tokens_are_refused(model, tmp_path, times):
    words = " ".join(["w10", *["w119"] * times, "w31"])
    with pytest.raises(
        TaskError, match=f"has {times} tokens 'w119'; 4 are expected, or 1 that stands for all"
    ):
        wb.paired_runs(model, changed(tmp_path, clean=words, corrupted=words, positions={}))


def test_one_image_token_and_all_of_them_are_the_same_prompt(model, tmp_path):
    words = "w10 w119 w119 w119 w119 w31"
    whole = wb.paired_runs(model, changed(tmp_path, clean=words, corrupted=words, positions={}))
    words = "w10 w119 w31"
    one = wb.paired_runs(model, changed(tmp_path, clean=words, corrupted=words, positions={}))
    assert one.clean == whole.clean and one.corrupted == whole.corrupted
    assert (one.pairs.clean[0] == IMAGE).sum() == 4


def test_image_tokens_with_words_between_are_refused(model, tmp_path):
    words = "w10 w119 w119 w12 w119 w119 w31"
    with pytest.raises(TaskError, match=r"has 2 \+ 2 tokens 'w119' with others between; one run of 4 is exp"):
        wb.paired_runs(model, changed(tmp_path, clean=words, corrupted=words, positions={}))


@pytest.mark.parametrize("name", ["image", "background"])
def test_a_word_with_the_name_of_a_set_is_refused(model, tmp_path, name):
    named = {"positions": {name: [[9, 12], [9, 12]]}, "grid": [2, 2], "regions": {"object": [[0], [1]]}}
    with pytest.raises(TaskError, match=f"'{name}' is a position and a set of the picture's patches"):
        wb.paired_runs(model, changed(tmp_path, **named))


def test_no_patch_is_in_two_sets(model, tmp_path):
    regions = {"others": [[1, 2], [0, 2]], "object": [[0], [1]], "answer": [[1], [1]]}
    runs = wb.paired_runs(model, changed(tmp_path, grid=[2, 2], regions=regions))
    start = runs.pairs.clean[0].tolist().index(IMAGE)
    sets = {name: [place - start for place in where] for name, where in runs.pairs.sets[0].items()}
    assert sets == {"image": [0, 1, 2, 3], "object": [0, 1], "others": [2], "background": [3]}
    with pytest.raises(TaskError, match="pair 0 has no position called 'answer'"):
        wb.ablate(runs, ["m0@answer"])


def test_an_image_token_without_a_picture_is_refused(model):
    pair = wb.Pair(
        id="a", clean="w10 w119 w31", corrupted="w10 w119 w32", correct=(" Mary",), incorrect=(" John",)
    )
    with pytest.raises(TaskError, match="stands for an image, and the model is given text alone"):
        wb.paired_runs(model, wb.Pairs(items=(pair,), task="t"))
    with pytest.raises(
        ModelError, match=r"a prompt has 1 image tokens \(id 119\) and no picture; 0 are expected"
    ):
        forward(model, torch.tensor([[10, IMAGE, 31]]), last_only=True)


def test_words_alone_are_measured_as_before(model):
    pair = wb.Pair(
        id="a", clean="w10 w12 w31", corrupted="w10 w13 w31", correct=(" Mary",), incorrect=(" John",)
    )
    runs = wb.paired_runs(model, wb.Pairs(items=(pair,), task="t"))
    written = PlainLlava().model
    logits = written(input_ids=torch.tensor([[0, 10, 12, 31]])).logits[0, -1]
    assert runs.clean == pytest.approx([float(gap(logits, runs, 0))], abs=TOLERANCE)


def test_a_picture_for_a_model_of_words_is_refused(bridge_of, tmp_path):
    with pytest.raises(TaskError, match="has a picture, and the model takes none"):
        wb.paired_runs(bridge_of("llama"), changed(tmp_path))


def test_the_same_picture_twice_is_refused_also_in_memory(model):
    image = (
        Picture.of(np.zeros((3, SIDE, SIDE), "float32")),
        Picture.of(np.zeros((3, SIDE, SIDE), "float32")),
    )
    words = {"clean": "w10 w119 w31", "corrupted": "w10 w119 w31"}
    pair = wb.Pair(id="a", **words, correct=(" Mary",), incorrect=(" John",), image=image)
    with pytest.raises(TaskError, match="the same text and the same picture"):
        wb.paired_runs(model, wb.Pairs(items=(pair,), task="t"))


def test_colours_are_scaled_as_the_file_beside_the_model_says(tmp_path, pairs):
    sight = Sight(
        size=(2, 2), grid=(1, 1), n_tokens=1, scaling=Scaling(mean=(0.5, 0.0, 0.0), std=(0.5, 1.0, 2.0))
    )
    colours = np.zeros((2, 2, 3), "uint8")
    colours[0, 1] = (255, 51, 102)
    numbers = sight.numbers(Picture.of(colours))
    assert numbers[:, 0, 1] == pytest.approx([1.0, 0.2, 0.2]) and numbers[:, 0, 0] == pytest.approx(
        [-1, 0, 0]
    )
