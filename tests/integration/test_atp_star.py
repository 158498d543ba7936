"""AtP*: the QK fix against a loop that computes every row again, GradDrop on a cancellation that was put there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.integration.test_methods import edited
from tests.mini import mini_pairs
from workbench.engine.gradients import writer_gradients
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.patterns import corrupted_patterns, key_effect, linear_key_effect
from workbench.methods.atp_star import PARTS, part_scores
from workbench.methods.by_name import score
from workbench.methods.options.gradients import AtPStar
from workbench.model.hooks import hook_name


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


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gpt-neox", "gpt-oss"])
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


def keys_one_by_one(runs, layer: int, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Effects ``(head, query, key)`` of pair 0, a float64 softmax each, and by how much the key led its row."""
    names = {slot: hook_name(slot, layer) for slot in "qk"}
    batch = runs.batches[0]
    clean, corrupted = (runs.activations(batch, run, list(names.values())) for run in ("clean", "corrupted"))
    q, k, k2 = (t[0].double() for t in (clean[names["q"]], clean[names["k"]], corrupted[names["k"]]))
    n, heads, width = q.shape
    effect, lead = torch.zeros(2, heads, n, n, dtype=torch.float64)
    for h in range(heads):
        for i in range(n):
            row = k[: i + 1, h] @ q[i, h] / width**0.5
            for j in range(i + 1):
                moved = row.clone()
                moved[j] = k2[j, h] @ q[i, h] / width**0.5
                effect[h, i, j] = (row.softmax(0) - moved.softmax(0)) @ grad[h, i, : i + 1]
                others = torch.cat([row[:j], row[j + 1 :]])
                lead[h, i, j] = row[j] - others.max() if i else 0.0
    return effect, lead


@pytest.mark.parametrize("margin", [105, 300])
def test_the_key_fix_sees_past_what_single_precision_keeps(margin, runs_of, tmp_path):
    """Keys 3 and 5 lead by a margin for whose exponential float32 has no number; corrupted, 3 falls and 4 leads."""
    pairs = runs_of("native", pairs=mini_pairs(1)).pairs
    clean, corrupted = pairs.clean[0], pairs.corrupted[0]
    assert np.flatnonzero(clean != corrupted).tolist() == [3, 4]

    def plant(weights):
        place = weights["pos_embed.weight"][: len(clean)]
        rows = [weights["embed.weight"][ids] + place for ids in (clean, corrupted)]
        tokens = torch.cat([rows[0], rows[1][3:5]]).double()
        wanted = torch.tensor([0, 0, 0, margin, 0, margin, 0, 0, 2 * margin], dtype=torch.float64)
        for slot in "qk":
            weights[f"blocks.0.attn.{slot}.weight"][:8] = 0
            weights[f"blocks.0.attn.{slot}.bias"][:8] = 0
        weights["blocks.0.attn.k.weight"][0] = (torch.linalg.pinv(tokens) @ wanted).float()
        weights["blocks.0.attn.q.bias"][0] = 8**0.5

    runs = PairedRuns(edited("native", tmp_path / "model", plant), pairs.pairs)
    at = corrupted_patterns(runs, runs.batches[0])[0]
    grad = torch.randn(at.clean.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    effect, lead = keys_one_by_one(runs, 0, grad[0])
    assert key_effect(at, grad)[0].numpy() == pytest.approx(effect.sum(1).numpy(), abs=1e-4)
    # row 3: all on key 3, then a quarter on each of four; row 5: half on 3 and half on 5, then all on 5
    g, effect, lead = grad[0, 0].numpy(), effect[0].numpy(), lead[0].numpy()
    assert lead[3, 3] == pytest.approx(margin, abs=1e-3)
    assert effect[3, 3] == pytest.approx(g[3, 3] - g[3, :4].mean(), abs=1e-3)
    assert effect[5, 3] == pytest.approx((g[5, 3] - g[5, 5]) / 2, abs=1e-3)
    assert min(abs(effect[3, 3]), abs(effect[5, 3])) > 0.1
    assert torch.isfinite(linear_key_effect(at, grad)).all()


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


def parts_at_labels(runs, layer: int, head: int) -> np.ndarray:
    """``(label, part)`` effects of pair 0, parts in the order of ``PARTS``: token by token, float64 softmaxes."""
    batch = runs.batches[0]
    names = {s: hook_name(s if s != "z" else "head-output", layer) for s in "qkvz"}
    clean, corrupted = (runs.activations(batch, run, list(names.values())) for run in ("clean", "corrupted"))
    q, k, v, z = (clean[names[s]][0, :, head].double() for s in "qkvz")
    q2, k2, v2, z2 = (corrupted[names[s]][0, :, head].double() for s in "qkvz")
    grad = writer_gradients(runs, batch, [(layer, "head-output")])[layer, "head-output"][0, :, head].double()
    found, label = np.zeros((len(runs.position_labels), len(PARTS))), runs.labels_of(batch)[0].tolist()
    for i in range(len(q)):
        row, slope = k[: i + 1] @ q[i] / q.shape[-1] ** 0.5, v[: i + 1] @ grad[i]
        at = row.softmax(0)
        other = (k[: i + 1] @ q2[i] / q.shape[-1] ** 0.5).softmax(0)
        found[label[i], 0] += float((z[i] - z2[i]) @ grad[i])
        found[label[i], 1] += float((at - other) @ slope)
        for j in range(i + 1):  # a key and a value belong to the label of their own token, not of the query's
            moved = row.clone()
            moved[j] = k2[j] @ q[i] / q.shape[-1] ** 0.5
            found[label[j], 2] += float((at - moved.softmax(0)) @ slope)
            found[label[j], 3] += float(at[j] * (v[j] - v2[j]) @ grad[i])
    return found


@pytest.mark.parametrize("family", ["native", "gpt2"])
def test_positions_equal_a_loop_over_tokens(family, runs_of):
    """Outputs and queries count where the query stands, keys and values where they themselves stand."""
    runs = runs_of(family, pairs=mini_pairs(1))
    parts, _ = part_scores(runs, AtPStar(graddrop=False), per_position=True)
    scores = score(runs, "atp-star", graddrop=False, per_position=True)
    assert scores.positions == runs.position_labels and len(scores.positions) == 4
    largest = np.zeros(len(PARTS))
    for i, source in enumerate(scores.graph.sources):
        if source.kind == "head":
            truth = np.abs(parts_at_labels(runs, source.layer, source.index))
            found = parts[:, :, i].T
            assert found == pytest.approx(truth, abs=2e-6, rel=1e-4), str(source)
            assert scores.values[:, i] == pytest.approx(truth.max(1), abs=2e-6, rel=1e-4)
            largest = np.maximum(largest, truth.max(0))
    assert (largest > 5e-5).all()  # 25 times the tolerance


@pytest.mark.parametrize("family", ["mixtral", "opt", "bert"])
def test_families_whose_patterns_ignore_edits_are_scored(family, runs_of):
    """Patterns need only be seen. All parts of heads count, so a score is never below that of the output alone."""
    runs = runs_of(family, pairs=mini_pairs(1))
    found, output = (score(runs, "atp-star", heads=heads).values for heads in ("all", "output"))
    assert np.isfinite(found).all() and (found >= output - 1e-6).all()
    assert (found > output + 1e-4).any()


def test_neurons_have_graddrop(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    found = score(runs, "atp-star", level="neuron")
    assert found.values.shape == (3, 128) and (found.values > 0).any(1).all()
    assert found.passes == 2 + 3
