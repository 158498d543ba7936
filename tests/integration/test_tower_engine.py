"""Every number of the engine on a tower alone, for every kind of tower, from hooks on transformers' own modules."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from tests.integration.plain_tower import PlainTower
from tests.integration.test_acdc import compare, plain_acdc
from tests.mini import hidden_metric
from tests.towers import CLASSES, tower_dir
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.methods.by_name import score
from workbench.tasks.pairs import Pair, Pairs

KINDS = ("deit", "clip-vision", "siglip-vision", "dinov2", "dinov3", "beit")
CLASSIFIERS = ("deit", "dinov2", "beit")
SEARCHED = ("clip-vision", "dinov2")  # by ACDC each time: the plain loop has a pass for every edge
TOLERANCE = 2e-5  # as with words: edits at q, k, v against a copy of the stream, float32


@cache
def pairs() -> Pairs:
    rng = np.random.default_rng(5)
    pictures = [
        [wb.Picture.of(rng.normal(size=(3, 12, 12)).astype("float32")) for _ in range(2)] for _ in range(2)
    ]
    items = [
        Pair(
            id=f"p{i}",
            clean="",
            corrupted="",
            correct=(CLASSES[i],),
            incorrect=(CLASSES[i + 1],),
            image=(a, b),
        )
        for i, (a, b) in enumerate(pictures)
    ]
    return Pairs(items=tuple(items), task="seen")


class Ground:
    """A tower opened by us, the same by transformers, and the pairs on both."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        model = wb.open_model(tower_dir(kind), device="cpu")
        self.runs = wb.paired_runs(model, pairs(), metric=None if kind in CLASSIFIERS else hidden_metric())
        self.n_layers, self.n_heads = model.cfg.n_layers, model.cfg.n_heads
        plain = getattr(transformers, type(model.original_model).__name__)
        plain = (
            plain.from_pretrained(tower_dir(kind), attn_implementation="eager").eval().requires_grad_(False)
        )
        self.plain = PlainTower(plain, self.read, self.n_heads)
        self.pixels = [[torch.tensor(picture.pixels) for picture in pair.image] for pair in pairs()]
        self.pair = 0

    def read(self, out) -> torch.Tensor:
        """The metric of the pair that is being run."""
        if out.get("logits") is not None:
            return out.logits[0, self.pair] - out.logits[0, self.pair + 1]
        hidden = out.last_hidden_state[0]
        return hidden.mean(0) @ torch.linspace(-1, 1, hidden.shape[-1]).sin()

    def run(self, i: int, side: int, **edits):
        self.pair = i
        return self.plain.run(self.pixels[i][side], **edits)

    def ablated(self, i: int, edges) -> float:
        return float(self.run(i, 0, ablated=edges, instead=self.run(i, 1)[1])[0])


@pytest.fixture(params=KINDS, scope="module")
def ground(request):
    return Ground(request.param)


@torch.no_grad()
def test_both_runs_are_transformers(ground):
    for i in range(len(pairs())):
        for side, values in enumerate((ground.runs.clean, ground.runs.corrupted)):
            assert values[i] == pytest.approx(float(ground.run(i, side)[0]), abs=TOLERANCE)


@pytest.mark.parametrize("ablation", ["zero", "resample"])
@torch.no_grad()
def test_every_head_and_mlp_ablated(ground, ablation):
    heads = [f"a{n}.h{h}" for n in range(ground.n_layers) for h in range(ground.n_heads)]
    mlps = [f"m{n}" for n in range(ground.n_layers)]
    found = wb.ablate(ground.runs, [*heads, *mlps], ablation=ablation)
    assert (abs(found.patched - found.base).max(1) > 1e-5).all()  # each does something
    for i in range(len(pairs())):
        other = ground.run(i, 1)[1]
        for j, name in enumerate([*(f"{head}<z>" for head in heads), *mlps]):
            new = torch.zeros_like(other[name]) if ablation == "zero" else other[name]
            expected = float(ground.run(i, 0, put={name: new})[0])
            assert found.patched[j, i] == pytest.approx(expected, abs=TOLERANCE), name


@torch.no_grad()
def test_every_head_patched_from_the_clean_run(ground):
    found = wb.patch(ground.runs, "head-output")
    for i in range(len(pairs())):
        clean = ground.run(i, 0)[1]
        for j, head in enumerate(found.labels):
            expected = float(ground.run(i, 1, put={f"{head}<z>": clean[f"{head}<z>"]})[0])
            assert found.patched[j, i] == pytest.approx(expected, abs=TOLERANCE), head


@torch.no_grad()
def test_every_pattern_taken_from_the_other_picture(ground):
    heads = [f"a{n}.h{h}" for n in range(ground.n_layers) for h in range(ground.n_heads)]
    edits = [Intervention(label=h, edits=(Edit(node=f"{h}<pattern>", value="corrupted"),)) for h in heads]
    found = wb.measure(ground.runs, edits, kind="pattern")
    assert (abs(found.patched - found.base).max(1) > 1e-6).all()
    for i in range(len(pairs())):
        other = ground.run(i, 1)[1]
        for j, head in enumerate(heads):
            layer, index = int(head[1 : head.index(".")]), int(head[-1])
            pattern = other[f"a{layer}<pattern>"][0, index]
            expected = float(ground.run(i, 0, patterns={head: pattern})[0])
            assert found.patched[j, i] == pytest.approx(expected, abs=TOLERANCE), head


@torch.no_grad()
def test_exact_edges(ground):
    graph, found = ground.runs.wiring.graph(), score(ground.runs, "exact").values
    assert (abs(found[graph.edge_mask]) > 1e-7).mean() > 0.5
    for edge in list(graph.edges())[::29]:
        pair = str(edge.source), str(edge.target)
        drops = [ground.runs.clean[i] - ground.ablated(i, {pair}) for i in range(len(pairs()))]
        assert found[graph.index(edge)] == pytest.approx(np.mean(drops), abs=TOLERANCE), edge


def test_eap_ig(ground):
    graph, steps = ground.runs.wiring.graph(), 2
    expected = np.zeros(graph.edge_mask.shape)
    for i in range(len(pairs())):
        clean, corrupted = (ground.run(i, side)[1] for side in (0, 1))
        for k in range(steps):
            copies: dict[str, torch.Tensor] = {}
            between = corrupted["input"] + (k + 0.5) / steps * (clean["input"] - corrupted["input"])
            out = ground.run(i, 0, start=between, copies=copies)[0]
            grads = dict(zip(copies, torch.autograd.grad(out, copies.values()), strict=True))
            for edge in graph.edges():
                source = str(edge.source)
                product = (clean[source] - corrupted[source]) * grads[str(edge.target)]
                expected[graph.index(edge)] += float(product.sum()) / steps / len(pairs())
    found = score(ground.runs, "eap-ig", steps=steps).values[graph.edge_mask]
    assert found == pytest.approx(expected[graph.edge_mask], abs=TOLERANCE) and abs(found).max() > 1e-3


@pytest.mark.every_row
@torch.no_grad()
def test_acdc(ground, request):
    if ground.kind not in SEARCHED and "every_row" not in request.config.option.markexpr:
        pytest.skip("pytest -m every_row searches all kinds")
    runs, tau = ground.runs.subset([0]), 0.025 if ground.kind == "siglip-vision" else 0.03  # near no damage
    graph = runs.wiring.graph()
    damage, removed = plain_acdc(graph, lambda edges: ground.ablated(0, edges), tau)
    compare(graph, score(runs, "acdc", tau=tau), damage, removed, tau)
