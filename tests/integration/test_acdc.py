"""ACDC: many tests in one pass decide as one at a time does, and as a plain loop written here does."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.conftest import _opened
from tests.integration.by_hand import MODELS
from tests.integration.naive import SplitInputs, naive_of
from tests.mini import mini_pairs
from workbench.core.errors import OptionError
from workbench.engine.edges import ablate_edges
from workbench.engine.live_parts import live_parts
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.reference import reference_outputs
from workbench.methods.acdc import first_removed
from workbench.methods.acdc_search import Meter, Search
from workbench.methods.by_name import score
from workbench.model.known_circuits import edge_labels, load_truth
from workbench.model.open import open_model

# As in test_edges: edits at q, k, v against edits of split inputs, logits of order 1, float32.
TOLERANCE = 4e-5  # a damage is a difference of two
_SLOW = pytest.mark.slow


def metric_of(runs, removed: np.ndarray) -> float:
    """Mean metric with these edges removed, one mask in a pass from the first layer."""
    total = 0.0
    for batch in runs.batches:
        found = ablate_edges(runs, batch, runs.wiring.graph(), torch.as_tensor(removed)[None])
        total += float(found.double().sum())
    return total / runs.n_pairs


# -- against a loop that knows nothing of the engine ---------------------------------------------------------


def plain_acdc(graph, metric, tau: float) -> tuple[dict[tuple[str, str], float], set[tuple[str, str]]]:
    """Damage of every edge and the removed ones: each edge tested by a whole forward pass, none skipped."""
    removed: set[tuple[str, str]] = set()
    damage: dict[tuple[str, str], float] = {}
    current = metric(removed)
    writers = [str(s) for s in graph.sources]
    for j, target in reversed(list(enumerate(map(str, graph.targets)))):
        for source in reversed(
            [w for w, exists in zip(writers, graph.edge_mask[:, j], strict=True) if exists]
        ):
            new = metric(removed | {(source, target)})
            damage[source, target] = current - new
            if current - new < tau:
                removed.add((source, target))
                current = new
    return damage, removed


def compare(graph, scores, damage, removed, tau: float) -> None:
    """The same edges removed, the same damages; no decision so close that rounding could have made it."""
    assert min(abs(d - tau) for d in damage.values()) > TOLERANCE
    found = {(str(e.source), str(e.target)): scores.values[graph.index(e)] for e in graph.edges()}
    assert {e for e, value in found.items() if value < tau} == removed
    assert 5 < len(removed) < graph.n_edges - 5
    for edge, value in damage.items():
        assert found[edge] == pytest.approx(value, abs=TOLERANCE), edge


@pytest.mark.parametrize(("family", "tau"), [("gemma2", 0.02), pytest.param("llama", 0.011, marks=_SLOW)])
def test_equals_a_plain_loop_on_split_inputs(family, tau, runs_of):
    """Post-norm and grouped queries, with TransformerLens' own split inputs."""
    runs = runs_of(family, pairs=mini_pairs(1))
    graph = runs.wiring.graph()
    with SplitInputs(naive_of(family, runs), whole_layer=not runs.wiring.head_writes) as split:
        damage, removed = plain_acdc(graph, lambda edges: split.ablated(0, edges), tau)
    compare(graph, score(runs, "acdc", tau=tau), damage, removed, tau)


@pytest.mark.parametrize("tau", [0.003, pytest.param(0.02, marks=_SLOW)])
def test_equals_a_plain_loop_by_hand_over_several_batches(tau, runs_of):
    """Means over pairs of two lengths; the model written out from its weights."""
    runs, model = runs_of("native-ln"), MODELS["native-ln"]()
    naive = naive_of("native-ln", runs)
    clean, corrupted = ([torch.tensor(x) for x in side] for side in (runs.pairs.clean, runs.pairs.corrupted))
    references = [model.run(x)[1] for x in corrupted]

    def metric(edges: set[tuple[str, str]]) -> float:
        rows = zip(clean, references, strict=True)
        outs = [model.run(ids, ablated=edges, instead=reference)[0] for ids, reference in rows]
        return float(np.mean([naive.value(out[None], i) for i, out in enumerate(outs)]))

    graph = runs.wiring.graph()
    assert len(runs.batches) == 2
    damage, removed = plain_acdc(graph, metric, tau)
    compare(graph, score(runs, "acdc", tau=tau), damage, removed, tau)


# -- circuits by their live parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["native-ln", "llama", "gpt-neox"])
def test_live_parts_give_what_whole_passes_give(family, runs_of):
    """Two lengths, grouped queries, parallel blocks; sparse and dense circuits, with and without memory of others."""
    runs, draw = runs_of(family, pairs=mini_pairs(3)), np.random.default_rng(0)
    graph = runs.wiring.graph()
    shares = np.array([0.0, 0.02, 0.5, 0.9, 1.0])[:, None, None]
    removed = (draw.random((5, *graph.edge_mask.shape)) < shares) & graph.edge_mask
    for batch in runs.batches:
        reference = reference_outputs(runs, batch, graph)
        live = live_parts(runs, batch, graph, reference, room=10**6)
        assert live is not None
        whole = ablate_edges(runs, batch, graph, torch.as_tensor(removed), reference=reference).numpy()
        assert whole.std() > 0.01
        found = live.values(removed).numpy()
        assert found == pytest.approx(whole, abs=TOLERANCE)
        assert live.values(removed[::-1]).numpy()[::-1] == pytest.approx(
            found, abs=1e-6
        )  # all are remembered
        alone = live.values(removed[2:3], afresh=True).numpy()
        live.room = 0
        live.values(removed[:1])
        assert (live.values(removed[2:3]).numpy() == alone).all()  # nothing is remembered


# -- batched is sequential -----------------------------------------------------------------------------------


def both(runs, **options):
    batched, sequential = (score(runs, "acdc", mode=m, **options) for m in ("batched", "sequential"))
    return batched, sequential


_CASES = [("gemma2", 0.002), ("native", 0.02)]
_MORE = [
    ("llama", 0.002),
    ("gpt2", 0.02),
    ("gpt2", 0.001),
    ("gpt-neox", 0.02),
    ("mixtral", 0.01),
    ("qwen3", 0.005),
    ("olmo2", 0.01),
    ("opt", 0.01),
]


@pytest.mark.parametrize(("family", "tau"), [*_CASES, *(pytest.param(*case, marks=_SLOW) for case in _MORE)])
def test_batched_decides_as_sequential_edge_by_edge(family, tau, runs_of):
    runs = runs_of(family, pairs=mini_pairs(2), batch_tokens=400)
    batched, sequential = both(runs, tau=tau)
    exists = runs.wiring.graph().edge_mask
    assert ((batched.values < tau) == (sequential.values < tau))[exists].all()
    assert 0 < (batched.values < tau)[exists].sum() < exists.sum()
    assert batched.values[exists] == pytest.approx(sequential.values[exists], abs=TOLERANCE)
    assert sequential.options["tested"] == batched.options["tested"]
    assert batched.options["forward_passes"] < sequential.options["forward_passes"]


@pytest.mark.parametrize("options", [{"metric": "kl"}, {"absolute": True}, {"ablation": "mean"}])
def test_batched_decides_as_sequential_under_every_option(options, runs_of):
    options = dict(options)
    runs = runs_of("native-ln", metric=options.pop("metric", "logit-difference"), pairs=mini_pairs(2))
    batched, sequential = both(runs, tau=0.002, **options)
    exists = runs.wiring.graph().edge_mask
    kept = batched.values[exists] >= 0.002
    assert (kept == (sequential.values[exists] >= 0.002)).all() and 0 < kept.sum() < exists.sum()
    assert batched.values[exists] == pytest.approx(sequential.values[exists], abs=TOLERANCE)


@pytest.mark.parametrize("tau", [pytest.param(0.0, marks=_SLOW), 0.004])
def test_guesses_decide_nothing(tau, runs_of):
    """Whether removals, keeps or coin flips are guessed: the same damages; only the work differs."""
    runs = runs_of("native-ln", pairs=mini_pairs(2), batch_tokens=400)
    graph = runs.wiring.graph()
    rng = np.random.default_rng(0)
    guesses = [
        np.zeros(graph.edge_mask.shape),
        np.full(graph.edge_mask.shape, 9.0),
        rng.normal(size=graph.edge_mask.shape),
    ]
    found, copies = [], []
    for guess in guesses:
        meter = Meter(runs, graph, "resample")
        search = Search(meter, guess.copy())
        found.append(search.run(tau, mode="batched", progress=lambda *part: None)[graph.edge_mask])
        copies.append(meter.copies)
    assert len(set(copies)) > 1
    for other in found[1:]:
        assert ((other < tau) == (found[0] < tau)).all()
        assert other == pytest.approx(found[0], abs=TOLERANCE)


def test_a_tie_is_decided_as_one_test_at_a_time_decides_it(runs_of):
    """``tau`` is, to the last bit, the damage that a single pass measures: rounding of a stack must not decide."""
    runs = runs_of("gpt2", pairs=mini_pairs(1), batch_tokens=400)
    graph = runs.wiring.graph()
    column = score(runs, "acdc", tau=10.0, mode="sequential").values[
        ::-1, -1
    ]  # the order of tests; all removed
    before = np.maximum.accumulate(column)[:-1]
    ties = [float(d) for d, most in zip(column[1:], before, strict=True) if d > max(most, 1e-3)]
    assert ties  # larger than all before it, so with tau at it the tests before it end as they did
    for tau in ties[:2]:
        batched, sequential = both(runs, tau=tau)
        assert batched.options["tested_again_alone"] >= 1
        exists = graph.edge_mask
        assert ((batched.values < tau) == (sequential.values < tau))[exists].all()


@pytest.mark.parametrize(
    "family", ["llama", "native-ln", *(pytest.param(f, marks=_SLOW) for f in ("gpt2", "gemma2"))]
)
def test_the_error_bound_holds(family, runs_of):
    """A circuit alone and among others: closer than the bound within which decisions are made again."""
    runs = runs_of(family, batch_tokens=2000)
    graph = runs.wiring.graph()
    meter = Meter(runs, graph, "resample")
    rng = np.random.default_rng(3)
    masks = [
        graph.edge_mask & (rng.random(graph.edge_mask.shape) < share) for share in np.linspace(0.05, 0.95, 24)
    ]
    stacked = np.array(meter.stacked(masks, 0))
    alone = np.array([meter.alone(mask, 0) for mask in masks])
    assert abs(stacked - alone).max() < meter.error_bound / 4
    assert np.ptp(stacked) > 100 * meter.error_bound


# -- every position by itself --------------------------------------------------------------------------------


def plain_positioned(runs, tau: float) -> np.ndarray:
    """Damages ``(label, source, target)`` of the model written by hand: every edge at every label, none skipped."""
    model, naive = MODELS["native-ln"](), naive_of("native-ln", runs)
    graph, labels = runs.wiring.graph(), runs.labels_of(runs.batches[0])[0]
    clean, corrupted = (torch.tensor(side[0]) for side in (runs.pairs.clean, runs.pairs.corrupted))
    other, removed = model.run(corrupted)[1], {}
    damage = np.full((len(runs.position_labels), *graph.edge_mask.shape), np.nan)
    current = naive.value(model.run(clean)[0][None], 0)
    for j in reversed(range(len(graph.targets))):
        for i in reversed(range(int(graph.n_visible[j]))):
            edge = str(graph.sources[i]), str(graph.targets[j])
            for label in reversed(range(len(damage))):
                without = removed | {edge: removed.get(edge, labels < 0) | (labels == label)}
                new = naive.value(model.run(clean, ablated=without, instead=other)[0][None], 0)
                damage[label, i, j] = current - new
                if current - new < tau:
                    removed, current = without, new
    return damage


@pytest.mark.parametrize("tau", [pytest.param(0.002, marks=_SLOW), 0.01])
def test_positions_equal_a_plain_loop_by_hand_in_both_modes(tau, runs_of):
    """Targets backwards, later sources first, labels from the last to the first; a circuit of edges at labels."""
    runs = runs_of("native-ln", pairs=mini_pairs(1), batch_tokens=400)
    truth = plain_positioned(runs, tau)
    exists = ~np.isnan(truth)
    assert abs(truth[exists] - tau).min() > TOLERANCE
    batched, sequential = both(runs, tau=tau, per_position=True)
    for scores in (batched, sequential):
        assert scores.positions == runs.position_labels and len(scores.positions) > 2
        assert scores.values[exists] == pytest.approx(truth[exists], abs=TOLERANCE)
        kept = {scores.address(tuple(at)) for at in np.argwhere(exists & (truth >= tau)).tolist()}
        assert {str(e) for e in scores.keep("own", prune=False).edges} == kept
        assert 5 < len(kept) < exists.sum() - 5
    assert sequential.options["tested"] == batched.options["tested"] < 0.8 * exists.sum()
    assert batched.options["forward_passes"] < sequential.options["forward_passes"]


def test_positions_over_grouped_queries_and_several_batches(runs_of):
    """Shared keys, pairs of two lengths: edges that were not run because they are cut off do cost nothing."""
    runs = runs_of("llama", batch_tokens=300).subset([0, 2])
    scores = score(runs, "acdc", tau=0.01, per_position=True)
    removed = scores.exists & (np.nan_to_num(scores.values) < 0.01)
    assert len(runs.batches) == 2 and (scores.exists & ~removed).sum() > 5
    assert scores.options["tested"] < 0.8 * scores.n_candidates
    fall = 0.0
    for batch in runs.batches:
        mask, labels = torch.as_tensor(removed)[None], runs.labels_of(batch)
        found = ablate_edges(runs, batch, runs.wiring.graph(), mask, labels=labels)
        fall += float(runs.clean[batch.index].sum() - found.double().sum()) / runs.n_pairs
    assert fall == pytest.approx(scores.values[removed].sum(), abs=2e-4) and abs(fall) > 0.1


class OneLabel(PairedRuns):
    """Every token is ``rest``, also the last one, which the answer's position names in all real pairs."""

    position_labels = ("rest",)

    def labels_of(self, batch):
        return torch.zeros_like(batch.clean)


def test_one_label_for_all_tokens_is_the_search_without_positions(runs_of):
    named = runs_of("native-ln", pairs=mini_pairs(2))
    runs = OneLabel(named.model, named.pairs, metric=named.metric, batch_tokens=400)
    apart, whole = (score(runs, "acdc", tau=0.004, per_position=p) for p in (True, False))
    exists = whole.exists
    assert apart.positions == ("rest",)
    assert apart.values[0][exists] == pytest.approx(whole.values[exists], abs=TOLERANCE)
    assert ((apart.values[0] >= 0.004) == (whole.values >= 0.004))[exists].all()
    assert (whole.values[exists] >= 0.004).sum() > 5


# -- identities ----------------------------------------------------------------------------------------------


def test_removing_everything_costs_the_whole_gap(runs_of):
    """Damages telescope: with an endless budget they sum to F(clean) - F(corrupted), and the circuit is empty."""
    runs = runs_of("gemma2")
    scores = score(runs, "acdc", tau=1e6)
    assert np.nansum(scores.values) == pytest.approx((runs.clean - runs.corrupted).mean(), abs=2e-4)
    assert scores.keep("own").n_edges == 0


def test_no_budget_keeps_everything(runs_of):
    scores = score(runs_of("native-ln", pairs=mini_pairs(1)), "acdc", tau=0, absolute=True)
    assert scores.keep("own", prune=False).n_edges == scores.n_candidates
    assert scores.unit == "|logits|"


@pytest.mark.parametrize("tau", [0.005, 0.05])
def test_the_circuit_is_as_far_as_its_removals_say(tau, runs_of):
    """Drift: the metric falls by what the removals cost together, less than tau times their number."""
    runs = runs_of("gpt2")
    scores = score(runs, "acdc", tau=tau)
    removed = scores.values < tau
    fall = float(runs.clean.mean()) - metric_of(runs, removed)
    assert fall == pytest.approx(scores.values[removed].sum(), abs=2e-4)
    assert fall < tau * removed.sum()
    kept = scores.keep("own", prune=False)
    assert kept.n_edges == scores.n_candidates - removed.sum()
    assert fall == pytest.approx(
        float(runs.clean.mean()) - metric_of(runs, _outside(scores, prune=True)), abs=2e-4
    )


def _outside(scores, *, prune: bool) -> np.ndarray:
    inside = {str(e) for e in scores.keep("own", prune=prune).edges}
    names = [(i, j) for i, j in np.argwhere(scores.graph.edge_mask) if scores.address((i, j)) not in inside]
    mask = np.zeros_like(scores.graph.edge_mask)
    mask[tuple(np.array(names).T)] = True
    return mask


def test_parts_that_are_cut_off_are_not_tested(runs_of):
    """What cannot reach the logits any more scores exactly 0, and is not run."""
    runs = runs_of("gpt2")
    scores = score(runs, "acdc", tau=0.05)
    graph = runs.wiring.graph()
    for j, target in enumerate(graph.targets[:-1]):
        i = graph.source_index[target.writer]
        if not (np.nan_to_num(scores.values[i]) >= 0.05).any():
            assert not np.nan_to_num(scores.values[:, j]).any(), str(target)
    assert scores.options["tested"] < 0.8 * graph.n_edges


# -- thresholds ----------------------------------------------------------------------------------------------


def test_a_sweep_is_its_single_runs_with_less_work(runs_of):
    runs = runs_of("native-ln", pairs=mini_pairs(2), batch_tokens=400)
    taus = [0.001, 0.01, 0.1]
    swept = score(runs, "acdc", sweep=taus)
    singles = [score(runs, "acdc", tau=tau) for tau in taus]
    exists = runs.wiring.graph().edge_mask
    for i, j in np.argwhere(exists):
        removed_at = [tau for tau, s in zip(taus, singles, strict=True) if s.values[i, j] < tau]
        expected = removed_at[0] if removed_at else singles[-1].values[i, j]
        assert swept.values[i, j] == pytest.approx(expected, abs=TOLERANCE)
    assert swept.own_rule == "" and singles[0].own_rule == ">=0.001"
    assert swept.options["circuits_run"] < sum(s.options["circuits_run"] for s in singles)


def test_first_removal_by_hand():
    damages = [np.array([0.05, 0.5, 3.0, np.nan]), np.array([0.2, 2.0, 4.0, np.nan])]
    found = first_removed([0.1, 1.0], damages)
    assert found.tolist()[:3] == [0.1, 2.0, 4.0]  # removed at 0.1; kept at both, so its damage at 1.0
    assert np.isnan(found[3])


def test_an_edge_removed_at_the_second_threshold_only():
    found = first_removed([0.1, 1.0], [np.array([0.3]), np.array([0.2])])
    assert found.tolist() == [1.0]


# -- what must hold of every method --------------------------------------------------------------------------


def test_known_circuits_are_found_whole_and_alone():
    """Every true edge whose content varies is kept, and nothing else, at 2 % of the gap."""
    for name in ("zoo:truth-induction", "zoo:truth-greater"):
        truth = load_truth(name)
        runs = PairedRuns(open_model(name), truth.pairs(16), metric=truth.metric)
        positive, counted = edge_labels(truth, runs.wiring.graph())
        tau = 0.02 * float((runs.clean - runs.corrupted).mean())
        for mode in ("batched", "sequential") if name == "zoo:truth-induction" else ("batched",):
            scores = score(runs, "acdc", tau=tau, mode=mode)
            kept = np.nan_to_num(scores.values) >= tau
            assert (kept == positive)[counted].all(), (name, mode)
            assert positive.sum() > 3


def test_order_of_pairs_and_batches_do_not_matter(runs_of):
    one = score(runs_of("native-ln", pairs=mini_pairs(5), batch_tokens=10_000), "acdc", tau=0.01)
    small = score(runs_of("native-ln", pairs=mini_pairs(5), batch_tokens=60), "acdc", tau=0.01)
    runs = runs_of("native-ln", pairs=mini_pairs(5), batch_tokens=10_000)
    turned = score(runs.subset([4, 2, 0, 3, 1]), "acdc", tau=0.01)
    for other in (small, turned):
        assert np.nan_to_num(other.values) == pytest.approx(np.nan_to_num(one.values), abs=TOLERANCE)


def test_the_model_is_untouched(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(1))
    model = runs.model
    before = ([p.requires_grad for p in model.parameters()], model.training, runs.clean.copy())
    score(runs, "acdc", tau=0.01)
    assert [p.requires_grad for p in model.parameters()] == before[0] and model.training == before[1]
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    assert runs_of("gpt2", pairs=mini_pairs(1)).clean.tolist() == before[2].tolist()


def test_progress_reaches_its_end(runs_of):
    seen: list[tuple[int, int, str]] = []
    score(
        runs_of("native", pairs=mini_pairs(1)), "acdc", sweep=[0.01, 0.1], progress=lambda *p: seen.append(p)
    )
    assert seen[-1][0] == seen[-1][1] and [p[0] for p in seen] == sorted(p[0] for p in seen)


@pytest.mark.parametrize(
    "wrong", [{"tau": -1}, {"tau": float("nan")}, {"mode": "fast"}, {"sweep": [0.1, "x"]}]
)
def test_wrong_options_are_refused(wrong, runs_of):
    with pytest.raises(OptionError):
        score(runs_of("native"), "acdc", **wrong)


_SCRIPT = """
from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.model.open import open_model
runs = PairedRuns(open_model(family_dir("native"), device="cpu"), mini_pairs(2))
print([str(edge) for edge in score(runs, "acdc", tau=0.01).keep("own").edges])
"""


@pytest.mark.slow
def test_string_hashing_does_not_decide():
    """Pitfall 'ACDC order': set order gave 94, 91 and 89 edges; here the same for this hash seed and another."""
    other = {**os.environ, "PYTHONHASHSEED": "1" if hash("a5") % 2 else "2"}
    told = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=other, capture_output=True, text=True, check=True
    )
    scores = score(PairedRuns(_opened("native"), mini_pairs(2)), "acdc", tau=0.01)
    edges = [str(edge) for edge in scores.keep("own").edges]
    assert edges and told.stdout.strip() == str(edges)
