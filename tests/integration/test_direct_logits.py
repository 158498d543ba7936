"""Logits taken apart: parts sum to the model's own metric, LayerNorm by hand, the lens, ablation beside it."""

import numpy as np
import pytest
import torch

import workbench as wb
from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.core.errors import ModelError, OptionError
from workbench.model.bare import is_bare


@pytest.fixture(scope="module")
def gpt2():
    return wb.paired_runs(wb.open_model(str(family_dir("gpt2"))), mini_pairs(3))


def logits_of(runs):
    """Clean logits where the answer is read, pair by pair, by the plain model."""
    rows = []
    for ids, place in zip(runs.pairs.clean, runs.pairs.positions, strict=True):
        with torch.no_grad():
            rows.append(runs.model(torch.tensor(ids)[None])[0, place["end"]])
    return torch.stack(rows).double()


def difference(runs, rows):
    """The logit difference of the first answers."""
    right = [c[0] for c in runs.pairs.correct]
    wrong = [i[0] for i in runs.pairs.incorrect]
    at = torch.arange(len(right))
    return (rows[at, right] - rows[at, wrong]).numpy()


@pytest.mark.parametrize(("family", "by"), [("gpt2", "layer"), ("llama", "head"), ("gpt-neox", "head")])
def test_contributions_and_biases_sum_to_the_logit_difference(family, by):
    runs = wb.paired_runs(wb.open_model(str(family_dir(family))), mini_pairs(3))
    found = wb.direct_logits(runs, by=by, ablation=None)
    own = difference(runs, logits_of(runs))
    assert np.abs(own).max() > 0.01
    assert found.values.sum(0) == pytest.approx(own, abs=1e-4)
    assert found.errors["sum of the parts"] < 1e-4 and found.errors["stream"] < 1e-4
    assert found.lens.values[-1] == pytest.approx(own, abs=1e-4)
    assert found.lens.frozen[-1] == pytest.approx(own, abs=1e-4)


def test_one_head_by_hand(gpt2):
    """GPT-2's last LayerNorm written out: centred, over its scale in the clean run, times gain, times the answers."""
    found = wb.direct_logits(gpt2, ablation=None)
    model = gpt2.model
    norm, seen = model.ln_final.original_component, {}
    last = f"blocks.{model.cfg.n_layers - 1}.hook_out"
    names = ("blocks.1.attn.hook_z", last)
    hooks = [(name, lambda t, hook, name=name: seen.__setitem__(name, t.detach().double())) for name in names]
    for pair in range(gpt2.n_pairs):
        ids, end = gpt2.pairs.clean[pair], gpt2.pairs.positions[pair]["end"]
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            model(torch.tensor(ids)[None])
        x = seen[last][0, end]
        write = seen["blocks.1.attn.hook_z"][0, end, 2] @ model.blocks[1].attn.W_O[2].double()
        towards = (
            model.unembed.W_U[:, gpt2.pairs.correct[pair][0]]
            - model.unembed.W_U[:, gpt2.pairs.incorrect[pair][0]]
        )
        gain, towards = norm.weight.double(), towards.double()
        scale = (x.var(unbiased=False) + norm.eps).sqrt()
        by_hand = ((write - write.mean()) / scale * gain) @ towards
        less = x - write
        gone = (less - less.mean()) / (less.var(unbiased=False) + norm.eps).sqrt() * gain
        live = ((x - x.mean()) / scale * gain - gone) @ towards
        row = found.labels.index("a1.h2")
        assert found.values[row, pair] == pytest.approx(float(by_hand), abs=1e-5)
        assert found.live[row, pair] == pytest.approx(float(live), abs=1e-5)


def test_the_lens_is_the_unembedding_of_a_stream_through_its_own_norm(gpt2):
    found = wb.direct_logits(gpt2, ablation=None)
    rows = []
    for ids, place in zip(gpt2.pairs.clean, gpt2.pairs.positions, strict=True):
        seen = {}
        hook = ("blocks.1.hook_in", lambda t, hook, seen=seen: seen.__setitem__("x", t.detach()))
        with torch.no_grad(), gpt2.model.hooks(fwd_hooks=[hook]):
            gpt2.model(torch.tensor(ids)[None])
            rows.append((gpt2.model.ln_final(seen["x"]) @ gpt2.model.unembed.W_U)[0, place["end"]])
    stacked = torch.stack(rows).double()
    assert found.lens.values[1] == pytest.approx(difference(gpt2, stacked), abs=1e-4)
    right = [
        row[c[0]] > row[i[0]]
        for row, c, i in zip(stacked, gpt2.pairs.correct, gpt2.pairs.incorrect, strict=True)
    ]
    assert found.lens.right[1].tolist() == [bool(r) for r in right]


def test_layers_are_the_sums_of_their_heads_and_heads_of_their_positions(gpt2):
    heads, layers = (wb.direct_logits(gpt2, by=by, ablation=None) for by in ("head", "layer"))
    of_layer = [i for i, label in enumerate(heads.labels) if label.startswith("a1.")]
    assert layers.values[layers.labels.index("a1")] == pytest.approx(heads.values[of_layer].sum(0), abs=1e-9)
    by_place = heads.carried
    assert by_place.attention[of_layer].sum(1) == pytest.approx(np.ones(len(of_layer)), abs=1e-5)
    bias = heads.values[of_layer].mean(1) - by_place.direct[of_layer].sum(1)
    assert bias == pytest.approx(np.zeros(len(of_layer)), abs=1e-5)


def test_effects_beside_are_those_of_ablate_and_nothing_stays_on_the_model(gpt2):
    found = wb.direct_logits(gpt2)
    alone = wb.ablate(gpt2, ["a1.h2", "m0"])
    for label in ("a1.h2", "m0"):
        mean = found.effect[found.labels.index(label)].mean()
        assert mean == pytest.approx(alone[label], abs=1e-6)
    assert np.isnan(found.effect[found.labels.index("input")]).all()
    assert is_bare(gpt2.model)
    grouped = wb.direct_logits(gpt2, by="layer")
    heads = tuple(f"a1.h{h}" for h in range(gpt2.model.cfg.n_heads))
    whole = wb.ablate(gpt2, [heads]).mean[0]
    assert grouped.effect[grouped.labels.index("a1")].mean() == pytest.approx(whole, abs=1e-6)


def test_the_order_of_pairs_changes_no_number(gpt2):
    found, turned = (wb.direct_logits(r, ablation=None) for r in (gpt2, gpt2.subset([2, 0, 1])))
    assert turned.values == pytest.approx(found.values[:, [2, 0, 1]], abs=1e-6)
    assert turned.carried.direct[:-1].sum(1) == pytest.approx(found.carried.direct[:-1].sum(1), abs=1e-6)


def test_a_part_that_writes_the_answer_is_found():
    """The compiled induction head writes the answer itself; the head before it adds nothing directly."""
    found = wb.direct_logits(wb.open_model("zoo:truth-induction"), "induction", n=4, ablation=None)
    assert found.rows(1)[0]["part"] == "a1.h0" and found["a1.h0"] > 100 * abs(found["a0.h1"])


def test_what_cannot_be_a_sum_is_refused(gpt2):
    for metric in ("prob-difference", "nll"):
        with pytest.raises(OptionError, match="not linear in the logits"):
            wb.direct_logits(gpt2.model, mini_pairs(2), metric=metric)
    with pytest.raises(OptionError, match="did you mean head"):
        wb.direct_logits(gpt2, by="heads")
    with pytest.raises(ModelError, match=r"cannot be taken apart|--by layer|logits are not"):
        wb.direct_logits(wb.open_model(str(family_dir("gemma2"))), mini_pairs(2))
