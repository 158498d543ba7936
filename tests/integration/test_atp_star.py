"""AtP*: the QK fix against a loop that computes every row again, GradDrop on a cancellation that was put there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.integration.test_methods import edited
from tests.mini import mini_pairs
from workbench.methods.atp_star import PARTS, AtPStar, part_scores
from workbench.methods.score import score
from workbench.model.hooks import hook_name
from workbench.sweep.gradients import writer_gradients
from workbench.sweep.runs import PairedRuns


def loop(runs, layer: int, head: int) -> tuple[float, float]:
    """Query and key scores of a head, pair 0: one softmax at a time, scores from q and k by the formula."""
    batch = runs.batches[0]
    names = {s: hook_name(s if s != "z" else "head-output", layer) for s in "qkvz"}
    clean, corrupted = (runs.activations(batch, run, list(names.values())) for run in ("clean", "corrupted"))
    q, k, v = (clean[names[s]][0, :, head].double() for s in "qkv")
    q2, k2 = (corrupted[names[s]][0, :, head].double() for s in "qk")
    gz = writer_gradients(runs, batch, [(layer, "head-output")])[layer, "head-output"][0, :, head].double()
    n, scale, query, key = len(q), q.shape[-1] ** 0.5, 0.0, 0.0
    for i in range(n):
        row = (q[i] @ k[: i + 1].T) / scale
        at, slope = row.softmax(0), v[: i + 1] @ gz[i]
        query += float((at - ((q2[i] @ k[: i + 1].T) / scale).softmax(0)) @ slope)
        for j in range(i + 1):
            moved = row.clone()
            moved[j] = (q[i] @ k2[j]) / scale  # the corrupted key, the clean query
            key += float((at - moved.softmax(0)) @ slope)
    return query, key


@pytest.mark.parametrize("family", ["native", "gpt2"])
def test_the_fix_equals_a_loop_over_rows_and_columns(family, runs_of):
    """float32 patterns of the model against float64 by hand."""
    runs = runs_of(family, pairs=mini_pairs(1))
    options = AtPStar(graddrop=False)
    means, _ = part_scores(runs, options)
    rows = {(s.layer, s.index): i for i, s in enumerate(runs.wiring.graph().sources) if s.kind == "head"}
    largest = 0.0
    for (layer, head), row in rows.items():
        query, key = loop(runs, layer, head)
        assert means[PARTS.index("query"), row] == pytest.approx(abs(query), abs=2e-6, rel=1e-4)
        assert means[PARTS.index("key"), row] == pytest.approx(abs(key), abs=2e-6, rel=1e-4)
        largest = max(largest, abs(query), abs(key))
    assert largest > 1e-3
    linear, _ = part_scores(runs, AtPStar(graddrop=False, qk_fix=False))
    assert (
        abs(linear - means)[1:3].max() > 1e-5
    )  # the fix changes something, if little where attention is flat


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gpt-neox"])
def test_without_the_fix_queries_are_difference_times_gradient(family, runs_of):
    """Linear scores of queries, from patterns, against the gradient at the query hook itself; rotary and norms too."""
    runs = runs_of(family, pairs=mini_pairs(1))
    batch = runs.batches[0]
    means, _ = part_scores(runs, AtPStar(graddrop=False, qk_fix=False))
    for layer in runs.wiring.attention_layers:
        name = hook_name("q", layer)
        grad = writer_gradients(runs, batch, [(layer, "q")])[layer, "q"].double()
        clean, corrupted = (
            runs.activations(batch, run, [name])[name].double() for run in ("clean", "corrupted")
        )
        truth = ((clean - corrupted) * grad).sum((0, 1, 3))
        rows = [i for i, s in enumerate(runs.wiring.graph().sources) if s.kind == "head" and s.layer == layer]
        found = means[PARTS.index("query"), rows]
        if family != "qwen3":  # there a norm of the query lies between, which the pattern has behind it
            assert found == pytest.approx(abs(truth).numpy(), abs=1e-5)
        assert found.max() > 1e-4


@pytest.fixture(scope="module")
def saturated(tmp_path_factory):
    """Queries and keys of the last layer times 12: nearly all attention on one token."""

    def sharpen(weights):
        for slot in "qk":
            weights[f"blocks.1.attn.{slot}.weight"] *= 12

    return edited("native", tmp_path_factory.mktemp("sharp") / "model", sharpen)


def test_the_fix_repairs_saturated_attention(saturated):
    """Against the exact effect of the queries of all heads: the fixed sum is nearer than the linear one."""
    runs = PairedRuns(saturated, mini_pairs(3))
    rows = [i for i, s in enumerate(runs.wiring.graph().sources) if s.kind == "head" and s.layer == 1]
    fixed, linear = (
        part_scores(runs, AtPStar(graddrop=False, qk_fix=fix))[0][PARTS.index("query"), rows]
        for fix in (True, False)
    )
    exact = np.zeros(len(rows))
    for batch in runs.batches:
        name = hook_name("q", 1)
        corrupted = runs.activations(batch, "corrupted", [name])[name]
        for h in range(len(rows)):

            def put(tensor, hook, h=h, corrupted=corrupted):
                tensor = tensor.clone()
                tensor[:, :, h] = corrupted[:, :, h]
                return tensor

            with torch.no_grad(), runs.model.hooks(fwd_hooks=[(name, put)]):
                moved = runs.measure(batch, runs.output(batch, batch.clean))
            exact[h] += (
                float((runs.measure(batch, runs.clean_output(batch)) - moved).abs().sum()) / runs.n_pairs
            )
    # last layer, no norm, no MLP: linear after the softmax, so the fixed score is the exact one
    assert fixed == pytest.approx(exact, abs=3e-6, rel=1e-4)
    assert abs(linear - exact).max() > 10 * abs(fixed - exact).max() + 1e-3


@pytest.fixture(scope="module")
def cancelling(tmp_path_factory):
    """Head 0.0 writes +v; head 1.0 reads that and writes -v: the indirect way works against the direct one."""

    def plant(weights):
        for name in weights:
            if name.startswith("blocks.") and ".attn." in name:
                weights[name] = torch.zeros_like(weights[name])
        generator = torch.Generator().manual_seed(0)
        value = torch.randn(8, 32, generator=generator)
        out = torch.linalg.qr(torch.randn(32, 8, generator=generator))[0]
        weights["blocks.0.attn.v.weight"][:8] = value
        weights["blocks.0.attn.o.weight"][:, :8] = out
        # at the last of T tokens 1.0 reads the mean over tokens: minus it takes away what head 0.0 wrote on average
        weights["blocks.1.attn.v.weight"][:8] = out.T
        weights["blocks.1.attn.o.weight"][:, :8] = -out

    return edited("native", tmp_path_factory.mktemp("cancel") / "model", plant)


def test_graddrop_sees_through_a_cancellation(cancelling):
    """Head 0.0's direct effect is taken back by head 1.0: small with the whole gradient, large with layer 1 shut."""
    runs = PairedRuns(cancelling, mini_pairs(1))
    plain = score(runs, "atp-star", graddrop=False, heads="output")
    dropped = score(runs, "atp-star", heads="output")
    row = next(i for i, s in enumerate(plain.graph.sources) if str(s) == "a0.h0")
    batch = runs.batches[0]
    name = hook_name("head-output", 0)
    clean, corrupted = (runs.activations(batch, run, [name])[name] for run in ("clean", "corrupted"))
    written = (clean - corrupted)[0, -1, 0] @ runs.model.blocks[0].attn.W_O[0]  # at the last token
    head = runs.model.unembed.W_U
    correct, incorrect = runs.pairs.correct[0][0], runs.pairs.incorrect[0][0]
    direct = abs(float(written @ (head[:, correct] - head[:, incorrect])))
    # two layers: the mean over the other layer is the gradient with layer 1 shut, the direct effect alone
    assert dropped.values[row] == pytest.approx(direct, rel=1e-4)
    assert plain.values[row] < 0.9 * direct
    assert dropped.unit == "|logits|"


def test_a_layer_that_is_shut_silences_its_own_nodes(runs_of):
    """With two layers, a node of layer 1 is scored with layer 0 shut only: its own round gives 0."""
    runs = runs_of("native-ln")
    dropped, plain = score(runs, "atp-star", heads="output"), score(runs, "hisp")
    rows = [i for i, s in enumerate(plain.graph.sources) if s.layer == 1]
    # what comes after layer 1 does not pass layer 0, so its gate changes nothing
    assert dropped.values[rows] == pytest.approx(plain.values[rows], abs=1e-6)


def test_positions_and_batches(runs_of):
    whole = score(runs_of("llama", pairs=mini_pairs(5), batch_tokens=10_000), "atp-star")
    singly = score(runs_of("llama", pairs=mini_pairs(5), batch_tokens=1), "atp-star")
    assert singly.values == pytest.approx(whole.values, abs=3e-6)
    assert whole.per_pair.mean(0) == pytest.approx(whole.values, abs=1e-6)
    apart = score(runs_of("llama", pairs=mini_pairs(2)), "atp-star", per_position=True)
    together = score(runs_of("llama", pairs=mini_pairs(2)), "atp-star", heads="output", graddrop=False)
    assert apart.values.shape == (4, *together.values.shape) and (apart.values >= 0).all()


@pytest.mark.parametrize("family", ["mixtral", "opt", "bert"])
def test_families_whose_patterns_cannot_be_edited(family, runs_of):
    """Patterns need only be seen; experts matter to rules, not here."""
    runs = runs_of(family, pairs=mini_pairs(1))
    found = score(runs, "atp-star")
    assert np.isfinite(found.values).all() and found.values.max() > 1e-3
    assert (found.values >= score(runs, "atp-star", heads="output").values - 1e-6).all()


def test_neurons_have_graddrop(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    found = score(runs, "atp-star", level="neuron")
    assert found.values.shape == (3, 128) and (found.values > 0).any(1).all()
    assert found.passes == 2 + 3
