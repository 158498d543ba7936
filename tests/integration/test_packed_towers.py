"""Towers that pack pictures or see crops: every number of the engine from hooks on transformers' own modules.

The tests are those of a tower alone (`test_tower_engine.py`), behind which stands the language model here. Each model
has pictures of two sizes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import transformers

import tests.integration.test_tower_engine as engine
import workbench as wb
from tests.integration.plain_packed import PlainPacked, given
from tests.towers import IMAGE, VOCABULARY, speaking_dir
from workbench.circuits.circuit import Circuit
from workbench.core.errors import ModelError, TaskError
from workbench.engine.edges import ablate_edges
from workbench.evaluate.faithfulness import run_circuits
from workbench.model.hooks import forward
from workbench.model.pixels import with_pictures
from workbench.model.prompt import Extras, Prompt
from workbench.model.sight import sight_of
from workbench.tasks.pairs import Pair, Pairs

KINDS = ("qwen2vl", "qwen2_5_vl", "qwen3vl", "llavanext", "mistral3")
SIZES = {"llavanext": ((16, 8), (16, 16)), "mistral3": ((16, 24), (8, 16))}
QWEN = ((16, 24), (24, 16))  # as many patches, in another form
TEXT = "w10 w119 w31 w40"

test_both_runs_are_transformers = engine.test_both_runs_are_transformers
test_every_head_and_mlp_ablated = engine.test_every_head_and_mlp_ablated
test_every_head_patched_from_the_clean_run = engine.test_every_head_patched_from_the_clean_run
test_every_pattern_taken_from_the_other_picture = engine.test_every_pattern_taken_from_the_other_picture


@cache
def pictures(kind: str) -> tuple[tuple[wb.Picture, wb.Picture], ...]:
    rng = np.random.default_rng(5)
    return tuple(
        tuple(wb.Picture.of(rng.normal(size=(3, *size)).astype("float32")) for _ in range(2))
        for size in SIZES.get(kind, QWEN)
    )


def pairs(kind: str, text: str = TEXT) -> Pairs:
    names = {"correct": (" Mary",), "incorrect": (" John",)}
    items = [
        Pair(id=f"p{i}", clean=text, corrupted=text, image=image, **names)
        for i, image in enumerate(pictures(kind))
    ]
    return Pairs(items=tuple(items), task="seen")


class Ground:
    """The tower of a model opened by us, the same by transformers, and the pairs on both."""

    def __init__(self, kind: str) -> None:
        self.kind, self.pair = kind, 0
        self.model = wb.open_model(speaking_dir(kind), device="cpu")
        self.runs = wb.paired_runs(self.model.towers["vision"], pairs(kind))
        cfg = self.model.towers["vision"].cfg
        self.n_layers, self.n_heads = cfg.n_layers, cfg.n_heads
        plain = getattr(transformers, type(self.model.original_model).__name__)
        plain = plain.from_pretrained(speaking_dir(kind), attn_implementation="eager").eval()
        self.plain = PlainPacked(plain.requires_grad_(False), self.n_layers, self.n_heads)
        self.plain.read = self.read

    def read(self, out) -> torch.Tensor:
        last = out.logits[0, -1]
        return last[VOCABULARY.index("Mary")] - last[VOCABULARY.index("John")]

    def run(self, i: int, side: int, **edits):
        pixels = torch.tensor(pictures(self.kind)[i][side].pixels)
        self.plain.prompt = given(self.kind, self.runs.pairs.clean[i].tolist(), pixels)
        return self.plain.run(pixels, **edits)

    def ablated(self, i: int, edges) -> float:
        return float(self.run(i, 0, ablated=edges, instead=self.run(i, 1)[1])[0])


@pytest.fixture(params=KINDS, scope="module")
def ground(request):
    return Ground(request.param)


@pytest.fixture(params=[kind for kind in KINDS if kind != "qwen3vl"], scope="module")
def with_edges(request):
    return Ground(request.param)


def test_exact_edges(with_edges):
    engine.test_exact_edges(with_edges)


def test_eap_ig(with_edges):
    engine.test_eap_ig(with_edges)


@pytest.mark.every_row
def test_acdc(with_edges, request):
    engine.test_acdc(with_edges, request)


def test_edges_are_refused_where_a_tower_is_read_in_its_middle():
    """Qwen3-VL's language model reads earlier layers of its tower in later layers of its own."""
    model = wb.open_model(speaking_dir("qwen3vl"), device="cpu")
    for stack, why in (("vision", "other layers than its last one"), ("text", "between its layers")):
        with pytest.raises(ModelError, match=why):
            wb.paired_runs(model.towers[stack], pairs("qwen3vl")).wiring.graph()


def test_another_number_of_image_tokens_is_refused_before_anything_runs(ground):
    n = ground.runs.pairs.clean[0].tolist().count(IMAGE)
    with pytest.raises(TaskError, match=f"{n} are expected, or 1 that stands for all"):
        wb.paired_runs(ground.model, pairs(ground.kind, "w10 w119 w119 w119 w31"))
    sight, picture = sight_of(ground.model), pictures(ground.kind)[0][0]
    ids = torch.tensor([[10, *[IMAGE] * (n - 1), 31]])
    with pytest.raises(ModelError, match=f"has {n - 1} image tokens .* {n} are expected"):
        forward(ground.model, with_pictures(sight, ids, [picture], dtype=torch.float32), last_only=True)
    with pytest.raises(ModelError, match="and no picture"):
        forward(ground.model, Prompt(ids), last_only=True)


def test_a_picture_of_no_such_size_is_refused(ground):
    odd = wb.Picture.of(np.zeros((3, 16, 18), dtype="float32"))
    pair = pairs(ground.kind).items[0]
    other = replace(pair, image=(odd, pair.image[1]))
    with pytest.raises(TaskError, match=r"16 x 18 pixels; the model reads .*, and nothing is resized"):
        wb.paired_runs(ground.model, Pairs(items=(other,), task="odd"))


def test_pictures_of_two_sizes_are_no_batch(ground):
    model, (a, b) = ground.model, (pictures(ground.kind)[i][0] for i in range(2))
    with pytest.raises(ModelError, match="several sizes"):
        with_pictures(sight_of(model), torch.tensor([[IMAGE], [IMAGE]]), [a, b], dtype=torch.float32)
    assert len(ground.runs.batches) == 2  # one of each
    name = "image_grid_thw" if ground.kind.startswith("qwen") else "image_sizes"
    extras = Extras.of({name: torch.tensor([[1, 2, 3], [1, 3, 2]]), "pixel_values": torch.zeros(2, 1)})
    with pytest.raises(ModelError, match=f"{name} has several sizes"):
        model(torch.tensor([[IMAGE], [IMAGE]]), **extras)


def test_edges_cross_to_the_language_model(with_edges):
    """All kept is the clean run and none the corrupted one; an edge inside the tower does what it does there alone."""
    alone, runs = with_edges.runs, wb.paired_runs(with_edges.model, pairs(with_edges.kind), with_tower=True)
    graph, inside = runs.wiring.graph(), alone.wiring.graph()
    everything = {(edge.source, edge.target): 1.0 for edge in graph.edges()}
    full, empty = (
        Circuit.build(shape=graph.shape, nodes={}, edges=edges, level="edge") for edges in (everything, {})
    )
    found = run_circuits(runs, [full, empty])
    assert found[0] == pytest.approx(runs.clean, abs=5e-5)
    assert found[1] == pytest.approx(runs.corrupted, abs=5e-5)
    some = [e for e in inside.edges() if str(e.target) != "logits"][::23]
    mask = torch.zeros(len(some), *graph.edge_mask.shape, dtype=torch.bool)
    names = {str(e): graph.index(e) for e in graph.edges()}
    for row, edge in enumerate(some):
        source = "vision:embed" if str(edge.source) == "input" else f"vision:{edge.source}"
        mask[(row, *names[f"{source}->vision:{edge.target}"])] = True
    for batch in runs.batches:
        across = ablate_edges(runs, batch, graph, mask)
        for row, edge in enumerate(some):
            for column, i in enumerate(batch.index):
                expected = with_edges.ablated(int(i), {(str(edge.source), str(edge.target))})
                assert float(across[row, column]) == pytest.approx(expected, abs=5e-5), edge
    moved = abs(across - torch.as_tensor(runs.clean[runs.batches[-1].index])).max()
    assert moved > 1e-4


def test_no_edges_cross_where_the_tower_is_read_in_its_middle():
    model = wb.open_model(speaking_dir("qwen3vl"), device="cpu")
    with pytest.raises(ModelError, match=r"between its layers|reaches later layers"):
        wb.paired_runs(model, pairs("qwen3vl"), with_tower=True)
