"""PEAP: its spans sum to EAP, sizes do not cancel, and what heads carry between positions is what a loop measures."""

import numpy as np
import pytest
import torch

import workbench as wb
from tests.mini import mini_pairs
from workbench.core.errors import OptionError
from workbench.engine.gradients import taped_run
from workbench.engine.spans import spans_of
from workbench.methods.by_name import score
from workbench.model.hooks import hook_name


@pytest.fixture(scope="module")
def induction():
    return wb.paired_runs(wb.open_model("zoo:induction"), "induction", n=3, seed=1)


@pytest.mark.parametrize("spans", ["spans", "positions", "tokens"])
def test_spans_sum_to_eap_and_sizes_are_no_smaller(induction, spans):
    plain = np.nan_to_num(score(induction, "eap").values)
    total = np.nan_to_num(score(induction, "peap", spans=spans, together="sum").values)
    sizes = np.nan_to_num(score(induction, "peap", spans=spans).values)
    assert total == pytest.approx(plain, abs=1e-5)
    assert (np.abs(sizes) >= np.abs(plain) - 1e-5).all()
    assert spans == "spans" or np.abs(sizes).sum() > np.abs(plain).sum() + 1e-3
    assert (np.sign(sizes) == np.sign(plain))[np.abs(plain) > 1e-4].all()


def test_finer_spans_cancel_less(induction):
    sizes = [np.nansum(np.abs(score(induction, "peap", spans=kind).values)) for kind in ("spans", "tokens")]
    assert sizes[0] < sizes[1]


def test_the_order_of_pairs_and_batches_do_not_matter(induction):
    found = score(induction, "peap").values
    turned = score(induction.subset([2, 0, 1]), "peap").values
    single = wb.paired_runs(induction.model, induction.pairs, batch_tokens=20)
    for other in (turned, score(single, "peap").values):
        assert np.nan_to_num(other) == pytest.approx(np.nan_to_num(found), abs=1e-5)


def test_positions_are_those_of_eap(induction):
    found = [score(induction, name, per_position=True) for name in ("peap", "eap")]
    assert found[0].positions == found[1].positions
    assert np.array_equal(found[0].values, found[1].values, equal_nan=True)
    with pytest.raises(OptionError, match="positions that all prompts name"):
        score(induction, "peap", per_position=True, spans="tokens")
    with pytest.raises(OptionError, match="did you mean spans"):
        score(induction, "peap", spans="span")


def test_a_span_begins_at_its_name_and_ends_at_the_next(induction):
    spans = spans_of(induction)
    assert spans.names == ("start", "A1", "B1", "A2", "end")
    (batch, *_) = induction.batches
    for row, places in zip(spans.of(batch).tolist(), batch.positions, strict=True):
        a1, b1, a2 = places["A1"], places["B1"], places["A2"]
        assert row == [0] * a1 + [1] * (b1 - a1) + [2] * (a2 - b1) + [3] * (len(row) - a2)


def naive(runs, layer, head):
    """``(slot, query, key)`` of the only pair: every score replaced in turn, every softmax taken anew."""
    (batch,) = runs.batches
    z, names = hook_name("head-output", layer), [f"blocks.{layer}.attn.hook_{x}" for x in "qkv"]
    grad = taped_run(runs, batch, [z]).gradients()[z][0, :, head].double()
    with torch.no_grad():
        caches = [runs.model.run_with_cache(ids)[1] for ids in (batch.clean, batch.corrupted)]
    (q, k, v), (q2, k2, v2) = ([c[n][0, :, head].double() for n in names] for c in caches)
    n, scale = len(q), q.shape[-1] ** -0.5
    found = torch.zeros(3, n, n, dtype=torch.double)
    for t in range(n):
        row = q[t] @ k[: t + 1].T * scale
        pattern = row.softmax(0)
        for s in range(t + 1):
            found[2, t, s] = grad[t] @ (pattern[s] * (v[s] - v2[s]))
            for slot, one in enumerate((q2[t] @ k[s], q[t] @ k2[s])):
                other = row.clone()
                other[s] = one * scale
                found[slot, t, s] = grad[t] @ ((pattern - other.softmax(0)) @ v[: t + 1])
    return found.numpy()


def test_what_heads_carry_is_what_a_loop_measures(runs_of):
    runs = runs_of("gpt2", pairs=mini_pairs(1))
    found = wb.between_positions(runs, spans="tokens")
    for layer, head in ((0, 1), (1, 0)):
        mine = found.values[:, found.heads.index(f"a{layer}.h{head}")]
        assert mine == pytest.approx(naive(runs, layer, head), abs=1e-6)


def test_values_sum_to_the_attribution_of_the_value(induction):
    found = wb.between_positions(induction)
    whole = np.zeros(4)
    for batch in induction.batches:
        name = hook_name("v", 1)
        grad = taped_run(induction, batch, [name]).gradients()[name]
        clean, other = (induction.activations(batch, run, [name])[name] for run in ("clean", "corrupted"))
        whole += ((clean - other) * grad).sum((0, 1, 3)).double().numpy() / induction.n_pairs
    mine = [found.of("v", f"a1.h{head}").sum() for head in range(4)]
    assert mine == pytest.approx(whole, abs=1e-4)


def test_a_query_that_does_not_change_carries_nothing_and_the_planted_key_does():
    truth = wb.load_truth("zoo:truth-induction")
    pairs = wb.make_pairs("induction", n=3, seed=1, corruption="match")  # the last word, and B1, stay
    found = wb.between_positions(wb.paired_runs(wb.open_model(truth.model), pairs))
    assert np.abs(found.of("q", "a1.h0")).max() < 1e-6
    key, spans = found.of("k", "a1.h0"), found.spans
    assert key.argmax() == np.ravel_multi_index((spans.index("A2"), spans.index("B1")), key.shape)
    assert key.max() > 10 * np.abs(found.of("k", "a1.h1")).max()
    assert found.rows(1)[0]["edge"].startswith("a1.h0")
