"""One graph of both towers of a CLIP, which meet in ``logits``: every number from hooks on transformers' modules."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from tests.integration.plain_meeting import STACKS, PlainMeeting
from tests.integration.test_acdc import compare, plain_acdc
from tests.towers import tower_dir
from workbench.circuits.addresses import Edge
from workbench.circuits.files import load_circuit, save_circuit
from workbench.core.errors import CircuitError, OptionError, TaskError
from workbench.engine.edges import ablate_edges
from workbench.methods.by_name import score
from workbench.model.identity import identity
from workbench.tasks.pairs import Pair, Pairs
from workbench.training.clip import caption_tokenizer

TOLERANCE = 2e-5  # as with one tower: edits at q, k, v against a copy of the stream, float32
LINES = ("large red disc", "small blue star", "large green cross", "small cyan square")
N = 2


def pairs(changes: str = "both") -> Pairs:
    """Pairs in which picture and captions are other ones, or one of them alone."""
    rng = np.random.default_rng(5)
    pictures = [wb.Picture.of(rng.normal(size=(3, 12, 12)).astype("float32")) for _ in range(4)]
    items = []
    for i in range(N):
        lines = [LINES[i], LINES[i + 1], LINES[3]]
        other = lines if changes == "vision" else [lines[1], lines[0], lines[2]]
        items.append(
            Pair(
                id=f"p{i}",
                clean="\n".join(lines),
                corrupted="\n".join(other),
                correct=(lines[0],),
                incorrect=(lines[1],),
                image=(pictures[i], pictures[i if changes == "text" else i + 2]),
            )
        )
    return Pairs(items=tuple(items), task="captions")


class Ground:
    """A model as the workbench runs both its towers, and as transformers does."""

    def __init__(self, folder) -> None:
        self.kind, self.pairs = folder.name, pairs()
        self.runs = wb.paired_runs(wb.open_model(folder, device="cpu"), self.pairs, with_tower=True)
        self.graph = self.runs.wiring.graph()
        kind = getattr(transformers, type(self.runs.model.original_model).__name__)
        plain = kind.from_pretrained(folder, attn_implementation="eager").eval().requires_grad_(False)
        heads = tuple(self.runs.wiring.of(stack).n_heads for stack in STACKS)
        self.plain = PlainMeeting(plain, lambda out: out[0] - out[1], heads)
        with torch.no_grad():
            self.other = [self.run(i, 1)[1] for i in range(N)]

    def run(self, i: int, side: int, **edits):
        pair = self.pairs[i]
        lines = (pair.corrupted if side else pair.clean).split("\n")
        captions = [self.runs.model.tokenizer(line)["input_ids"] for line in lines]
        return self.plain.run(torch.tensor(pair.image[side].pixels), captions, **edits)

    @torch.no_grad()
    def cut(self, i: int, edges) -> float:
        """The metric of a pair with these edges carrying what their sources write on the corrupted prompt."""
        return float(self.run(i, 0, ablated=edges, instead=self.other[i])[0])


@pytest.fixture(params=["clip", "siglip"], scope="module")
def ground(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("meeting") / request.param
    shutil.copytree(tower_dir(request.param), folder)
    caption_tokenizer().save_pretrained(folder)
    return Ground(folder)


def names_of(graph, edges=None) -> list[tuple[str, str]]:
    return [(str(e.source), str(e.target)) for e in edges or graph.edges()]


def test_both_runs_are_transformers_and_no_edge_goes_from_one_tower_to_the_other(ground):
    for i in range(N):
        for side, values in enumerate((ground.runs.clean, ground.runs.corrupted)):
            assert values[i] == pytest.approx(float(ground.run(i, side)[0].detach()), abs=TOLERANCE)
    stacks = {(s.split(":")[0], t.split(":")[0]) for s, t in names_of(ground.graph)}
    assert stacks == {("vision", "vision"), ("text", "text"), ("vision", "logits"), ("text", "logits")}
    alone = [wb.Graph(part.shape).n_edges for part in ground.graph.parts]
    assert ground.graph.n_edges == sum(alone)
    assert len(ground.graph.targets) == sum(len(part.targets) for part in ground.graph.parts) - 1


def test_exact_edges_equal_a_loop_and_both_towers_have_effects(ground):
    graph, found = ground.graph, score(ground.runs, "exact")
    edges = list(graph.edges())
    for edge in [*edges[::37], *(e for e in edges if e.target.kind == "logits")]:
        drops = [ground.runs.clean[i] - ground.cut(i, names_of(graph, [edge])) for i in range(N)]
        index = graph.index(edge)
        assert found.per_pair[(slice(None), *index)] == pytest.approx(drops, abs=TOLERANCE), edge
    for part, first in zip(graph.parts, (0, len(graph.parts[0].sources)), strict=True):
        own = found.values[first : first + len(part.sources)]
        assert (np.nanmax(abs(own), axis=1) > 1e-4).all(), part.stack  # each part of either tower


def test_eap_ig_equals_a_loop_and_is_complete(ground):
    graph, steps = ground.graph, 2
    expected = np.zeros(graph.edge_mask.shape)
    for i in range(N):
        clean, corrupted = (ground.run(i, side)[1] for side in (0, 1))
        enters = {stack: [wrote[f"{stack}:embed"] for wrote in (clean, corrupted)] for stack in STACKS}
        for k in range(steps):
            copies: dict = {}
            start = {stack: b + (k + 0.5) / steps * (a - b) for stack, (a, b) in enters.items()}
            out = ground.run(i, 0, start=start, copies=copies)[0]
            grads = dict(zip(copies, torch.autograd.grad(out, copies.values()), strict=True))
            for edge in graph.edges():
                source, stack = str(edge.source), edge.source.tower
                grad = grads[stack, str(edge.target).removeprefix(f"{stack}:")]
                expected[graph.index(edge)] += float(((clean[source] - corrupted[source]) * grad).sum())
    found, mask = score(ground.runs, "eap-ig", steps=steps).values, graph.edge_mask
    assert found[mask] == pytest.approx(expected[mask] / steps / N, abs=TOLERANCE)
    roots = [graph.source_index[node] for node in graph.roots]
    whole = score(ground.runs, "eap-ig", steps=64).values
    assert np.nansum(whole[roots]) == pytest.approx(
        float((ground.runs.clean - ground.runs.corrupted).mean()),
        abs=1e-3,  # the midpoint rule, 64 points
    )
    for part in (roots[0], roots[1]):
        assert np.nanmax(abs(whole[part])) > 1e-4


@pytest.mark.every_row
def test_acdc_makes_the_decisions_of_a_loop(ground, request):
    if ground.kind == "siglip" and "every_row" not in request.config.option.markexpr:
        pytest.skip("pytest -m every_row searches both")
    one, tau = ground.runs.subset([1]), 0.01
    damage, removed = plain_acdc(ground.graph, lambda edges: ground.cut(1, edges), tau)
    compare(ground.graph, score(one, "acdc", tau=tau), damage, removed, tau)


def test_a_circuit_of_both_runs_as_in_a_loop_and_is_kept_in_a_file(ground, tmp_path):
    graph, circuit = ground.graph, score(ground.runs, "eap").top(200)
    kept = {(str(e.source), str(e.target)) for e in circuit.parsed_edges}
    assert {s.split(":")[0] for s, _ in kept} == set(STACKS)
    values = [ground.cut(i, set(names_of(graph)) - kept) for i in range(N)]
    assert wb.faithfulness(circuit, ground.runs).circuit == pytest.approx(values, abs=TOLERANCE)
    back = load_circuit(save_circuit(circuit, tmp_path / "c.json"))
    assert back.edges == circuit.edges and back.shape == circuit.shape and back.shape.meets


def test_no_edge_is_the_clean_run_and_every_edge_the_corrupted_one_from_either_stack(ground):
    before = identity(ground.runs.model)
    for stack in STACKS:
        runs = wb.paired_runs(wb.captioned(ground.runs.model, stack), ground.pairs, with_tower=True)
        graph = runs.wiring.graph()
        assert graph.sources == ground.graph.sources
        masks = torch.as_tensor(np.stack([np.zeros_like(graph.edge_mask), graph.edge_mask]))
        for batch in runs.batches:
            none, every = ablate_edges(runs, batch, graph, masks)
            assert none.numpy() == pytest.approx(runs.clean[batch.index], abs=TOLERANCE)
            assert every.numpy() == pytest.approx(runs.corrupted[batch.index], abs=TOLERANCE)
    assert identity(ground.runs.model) == before


def test_what_cannot_be_asked_of_both_towers_says_why(ground):
    model, circuit = ground.runs.model, score(ground.runs, "eap").top(50)
    for changes, what in (("vision", "captions"), ("text", "picture")):
        runs = wb.paired_runs(model, pairs(changes), with_tower=True)
        with pytest.raises(TaskError, match=f"have the same {what} in all 2 pairs"):
            score(runs, "eap")
    with pytest.raises(CircuitError, match="has edges of a tower, which these runs lack"):
        wb.faithfulness(circuit, wb.paired_runs(model, pairs("vision")))
    with pytest.raises(OptionError, match="tower"):
        score(ground.runs, "eap", per_position=True)
    with pytest.raises(CircuitError, match="meet in logits"):
        ground.graph.index(Edge(ground.graph.sources[0], ground.graph.targets[-2]))
