"""The whole path of published curves on a stand-in: each rule against a loop, or a case worked by hand."""

import csv
import json
from functools import partial

import numpy as np
import pytest

from tests.mini import mini_pairs
from workbench.bench.measured_bars import curves, grown, measured_bars, node_areas
from workbench.circuits.circuit import Circuit
from workbench.circuits.graph import Graph, GraphShape
from workbench.circuits.scores import Scores
from workbench.core.errors import OptionError
from workbench.engine.of_task import paired_runs
from workbench.evaluate.faithfulness import run_circuits
from workbench.methods.by_name import score
from workbench.methods.reference import READS
from workbench.model.open import open_model


@pytest.fixture(scope="module")
def ioi():
    return open_model("zoo:ioi")


@pytest.fixture(scope="module")
def folder(ioi, tmp_path_factory):
    """Prompts of the stand-in in the files of the sources."""
    made = tmp_path_factory.mktemp("data")
    aligned = paired_runs(ioi, "ioi", n=6).pairs
    (made / "ioi").mkdir()
    with (made / "ioi/gpt2.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["", "clean", "corrupted", "corrupted_hard", "correct_idx", "incorrect_idx"])
        for i, pair in enumerate(aligned.pairs):
            ids = aligned.correct[i][0], aligned.incorrect[i][0]
            rows.writerow([i, pair.clean, pair.corrupted, "", *ids])
    for split in ("train", "validation"):
        paired_runs(ioi, "ioi", n=6, split="train" if split == "train" else "test").pairs.pairs.save(
            made / f"{split}.jsonl"
        )
    return made


def test_one_right_end_is_eap_and_one_left_end_is_its_other_end(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    same = [score(runs, "eap-ig", steps=1, rule="right"), score(runs, "eap")]
    other = [score(runs, "eap-ig", steps=1, rule="left"), score(runs, "eap", at="corrupted")]
    for one, two in (same, other):
        assert np.allclose(one.values, two.values, atol=1e-5, equal_nan=True)
    assert not np.allclose(same[0].values, other[0].values, atol=1e-3, equal_nan=True)
    # five right ends and five left ones differ by a fifth of the difference of the two ends, whatever the function
    right, left = (score(runs, "eap-ig", steps=5, rule=rule).values for rule in ("right", "left"))
    assert np.allclose(right - left, (same[0].values - other[0].values) / 5, atol=1e-5, equal_nan=True)


def by_hand(best):
    """Scores of a graph of one layer with one head: those that are named, and 0."""
    graph = Graph(GraphShape(n_layers=1, n_heads=1, n_kv_heads=1))
    values = np.where(graph.edge_mask, 0.0, np.nan)
    for edge, value in best.items():
        source, target = edge.split("->")
        i = [str(n) for n in graph.sources].index(source)
        values[i, [str(n) for n in graph.targets].index(target)] = value
    told = {"method": "x", "unit": "logits", "metric": "m", "n_pairs": 1, "level": "edge", "source": ""}
    return Scores(graph=graph, values=values, provenance={}, **told)


def test_greedy_grows_from_the_logits_where_the_best_edges_hang_in_the_air():
    scores = by_hand({"input->a0.h0<v>": 9, "a0.h0->m0": -8, "m0->logits": 1, "input->logits": -2})
    # the two best have no way to the logits: top-n prunes both, greedy starts with what the logits read
    assert list(scores.top(2).edges) == [] and list(grown(scores, 2).edges) == ["input->logits"]
    # greedy takes input->logits, m0->logits, then a0.h0->m0 and what it reads: the fourth makes all four count
    assert grown(scores, 3).n_edges == 1  # m0 and a0.h0 have no way from the input yet
    assert sorted(grown(scores, 4).edges) == ["a0.h0->m0", "input->a0.h0<v>", "input->logits", "m0->logits"]
    assert scores.choose(2, by="signed", prune=False).n_edges == 2


def test_what_is_pruned_changes_the_count_and_not_the_circuit(ioi):
    """A node that nothing enters writes what it writes on the corrupted prompt, as if it were out."""
    runs = paired_runs(ioi, "ioi", n=4)
    scores = score(runs, "eap")
    whole, pruned = (scores.choose(40, prune=p) for p in (False, True))
    assert whole.n_edges == 40 > pruned.n_edges
    values = run_circuits(runs, [whole, pruned])
    assert values[0] == pytest.approx(values[1], abs=1e-4)  # logits of size 15, float32


def test_curves_are_those_of_a_loop_over_hooks(runs_of):
    """Scores by the loop of the reference, circuits by hand, every edge outside carries the corrupted output."""
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    found = curves(runs, [30])
    scores = score(runs, "eap-ig", steps=5, rule="right")
    circuit = grown(scores, 30)
    values = ablated_by_hand(runs, circuit)
    share = (values.mean() - runs.corrupted.mean()) / (runs.clean.mean() - runs.corrupted.mean())
    assert found["eap-ig f at 30"] == pytest.approx(share, abs=1e-5)
    assert found["eap-ig edges at 30"] == circuit.n_edges and found["clean"] == pytest.approx(
        runs.clean.mean()
    )
    assert "eap f at 1000000" not in found


def ablated_by_hand(runs, circuit: Circuit) -> np.ndarray:
    """One pass with split inputs: at every reader, what sources outside the circuit write is swapped in this run."""
    import torch

    from workbench.methods.reference import WRITES, per_head_hooks

    model, edges = runs.model, set(circuit.edges)
    (batch,) = runs.batches
    layers = range(model.cfg.n_layers)
    sources = [("input", "blocks.0.hook_resid_pre", None)]
    for n in layers:
        sources += [(f"a{n}.h{h}", f"blocks.{n}.{WRITES[0]}", h) for h in range(model.cfg.n_heads)]
        sources.append((f"m{n}", f"blocks.{n}.{WRITES[1]}", None))
    heads = {f"blocks.{n}.{name}": (n, name[-7]) for n in layers for name in READS[:3]}
    corrupted, now = {}, {}

    def keep(store, name, tensor, hook):
        store[name] = tensor

    def part(store, name, h):
        return store[name] if h is None else store[name][:, :, h]

    def swapped(target, before):
        gone = [s for s in before if f"{s[0]}->{target}" not in edges]
        return sum((part(corrupted, name, h) - part(now, name, h) for _, name, h in gone), 0.0)

    def edit(name, tensor, hook):
        n = int(name.split(".")[1])
        before = sources[: 1 + n * (model.cfg.n_heads + 1)]
        if name in heads:
            slot = heads[name][1]
            moved = [swapped(f"a{n}.h{h}<{slot}>", before) for h in range(model.cfg.n_heads)]
            return torch.stack([tensor[:, :, h] + moved[h] for h in range(model.cfg.n_heads)], 2)
        if name.endswith("mlp_in"):
            return tensor + swapped(
                f"m{n}", [*before, *sources[len(before) : len(before) + model.cfg.n_heads]]
            )
        return tensor + swapped("logits", sources)

    names = {name for _, name, _ in sources}
    readers = [f"blocks.{n}.{name}" for n in layers for name in READS]
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    with torch.no_grad(), per_head_hooks(model):
        model.run_with_hooks(
            batch.corrupted, fwd_hooks=[(name, partial(keep, corrupted, name)) for name in names]
        )
        hooks = [(name, partial(keep, now, name)) for name in names]
        hooks += [(name, partial(edit, name)) for name in (*readers, last)]
        logits = model.run_with_hooks(batch.clean, fwd_hooks=hooks)
    rows = torch.arange(len(batch))
    at_end = logits[rows, batch.answer_pos]
    difference = at_end.gather(1, batch.answers.correct) - at_end.gather(1, batch.answers.incorrect)
    return difference[:, 0].double().numpy()


def test_the_stand_in_is_measured_and_not_compared(ioi, folder):
    found = measured_bars("eap-ig-curves", ioi, name="zoo:ioi", data=folder)
    rows = {row["quantity"]: row for row in found.rows()}
    assert rows["clean"]["ours"] > 5 and {row["verdict"] for row in rows.values()} == {"another model"}
    assert rows["eap-ig f at 200"]["ours"] == pytest.approx(1.0, abs=0.1)
    assert len(found.notes) == 5 and "no csv file" in found.notes[0]
    assert json.dumps(found.to_dict(), allow_nan=False)
    areas = measured_bars("mib", ioi, name="zoo:ioi", data=folder)
    assert 0 < areas.ours["", "ioi", "NAP CPR"] < 1.5


def test_areas_of_nodes_are_of_signed_and_of_sized_circuits(ioi):
    runs = paired_runs(ioi, "ioi", n=4)
    found = node_areas(runs, runs)
    assert found["NAP CMD"] >= 0 and found["NAP CMD of the signed run"] >= 0
    assert found["NAP CPR"] <= 0.999 + found["NAP CMD of the signed run"]  # f is at most 1 + |1 - f|


def test_a_folder_without_the_prompts_says_what_is_missing(ioi, tmp_path):
    with pytest.raises(OptionError, match="no prompts"):
        measured_bars("eap-ig-curves", ioi, name="gpt2", data=tmp_path)
    with pytest.raises(OptionError, match="train split"):
        measured_bars("mib", ioi, name="gpt2", data=tmp_path)
    with pytest.raises(OptionError, match="needs a model"):
        measured_bars("mib", None)
    assert measured_bars("edge-counts", None).outside == 0
