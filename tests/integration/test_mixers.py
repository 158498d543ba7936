"""The attention of the lab: hooks that can be edited, masks that are checked, arms that start and are fed alike."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from workbench.core.errors import ModelError, OptionError
from workbench.tasks.streams.recall import recall_rows
from workbench.training.mixers import normalisers, scores
from workbench.training.mixers.comparison import LabComparison, train
from workbench.training.mixers.kept_weights import files_of
from workbench.training.mixers.lab import Lab, LabShape
from workbench.training.mixers.plugs import Plugs
from workbench.training.mixers.shipped import keep_arms, read_arms, trained

SOFTMAX = Plugs(score=scores.dot_product, mix=normalisers.softmax)
SHAPE = LabShape(layers=(SOFTMAX,), n_ctx=12, n_out=7, d_vocab=7, d_model=8, n_heads=2, d_head=4)
IDS = torch.randint(0, 7, (3, 9), generator=torch.Generator().manual_seed(5))


def with_mask(mask, **changes):
    return Lab(replace(SHAPE, layers=(replace(SOFTMAX, mask=mask),), **changes))


@pytest.mark.parametrize("positions", ["learned", "none"])
def test_softmax_attention_is_that_of_torch(positions):
    model = Lab(replace(SHAPE, positions=positions))
    _, cache = model.run_with_cache(IDS)
    q, k, v, z = (cache[f"blocks.0.attn.hook_{name}"] for name in ("q", "k", "v", "z"))
    wanted = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)), is_causal=True)
    assert torch.allclose(z, wanted.transpose(1, 2), atol=1e-6)
    assert torch.allclose(model.patterns(IDS)[0].sum(-1), torch.ones(3, 2, 9))


def test_an_edit_of_the_pattern_changes_what_the_model_says():
    model, eye = Lab(SHAPE), torch.eye(9).expand(3, 2, 9, 9)
    hooks = [("blocks.0.attn.hook_pattern", lambda pattern, hook: eye)]
    own = with_mask(torch.eye(9, dtype=torch.bool))(IDS)
    assert torch.allclose(model.run_with_hooks(IDS, fwd_hooks=hooks), own, atol=1e-6)


def test_rotary_scores_depend_on_distances_alone():
    model = Lab(replace(SHAPE, positions="rotary"))
    _, cache = model.run_with_cache(torch.full((1, 9), 3))
    found = cache["blocks.0.attn.hook_attn_scores"][0, 0]
    assert torch.allclose(found[1:, 1:], found[:-1, :-1], atol=1e-5) and found[3, 0] != found[3, 1]


def test_queries_and_keys_are_made_of_the_source_that_is_named():
    by_place, by_token = (
        Lab(replace(SHAPE, layers=(replace(SOFTMAX, source=source),))).patterns(IDS)[0]
        for source in ("position", "embedding")
    )
    assert torch.equal(by_place[0], by_place[1])  # whatever stands there
    same = Lab(replace(SHAPE, layers=(replace(SOFTMAX, source="embedding"),))).patterns(torch.full((1, 9), 2))
    assert torch.allclose(same[0][0, 0, 4, :5], torch.full((5,), 0.2)) and not torch.equal(*by_token[:2])


def test_keys_of_a_shifted_attention_read_the_token_before():
    model = Lab(replace(SHAPE, shift=True, positions="none"))
    _, cache = model.run_with_cache(IDS)
    x = model.blocks[0].ln1(model.embed(IDS))
    before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
    wanted = ((x + before) / 2) @ model.blocks[0].attn.k.weight.T
    assert torch.allclose(cache["blocks.0.attn.hook_k"].flatten(2), wanted, atol=1e-6)


def test_masks_that_leak_or_are_empty_or_do_not_fit_are_refused_with_the_place():
    ahead = torch.ones(9, 9, dtype=torch.bool).tril()
    ahead[2, 5] = True
    with pytest.raises(OptionError, match="query 2 would see key 5"):
        with_mask(ahead)(IDS)
    assert with_mask(ahead, causal=False)(IDS).shape == (3, 9, 7)
    empty = torch.ones(9, 9, dtype=torch.bool).tril()
    empty[4] = False
    with pytest.raises(OptionError, match="query 4 without any key"):
        with_mask(empty)(IDS)
    with pytest.raises(OptionError, match=r"\(query, key\) is \(9, 9\)"):
        with_mask(torch.ones(8, 8, dtype=torch.bool).tril())(IDS)


def test_a_mask_of_content_is_asked_at_every_call_and_one_of_heads_is_each_heads_own():
    def first_only(scores, visible, content):
        first = torch.zeros_like(visible)
        first[:, 0] = True
        return first.expand(len(content.x), 2, *visible.shape)

    assert torch.equal(with_mask(first_only).patterns(IDS)[0][..., 0], torch.ones(3, 2, 9))
    heads = torch.stack([torch.eye(9, dtype=torch.bool), torch.ones(9, 9, dtype=torch.bool).tril()])[None]
    pattern = with_mask(heads).patterns(IDS)[0]
    assert torch.equal(pattern[0, 0], torch.eye(9)) and pattern[0, 1, 8, 0] > 0


def test_what_cannot_be_made_is_refused():
    with pytest.raises(OptionError, match="d_head is 3"):
        Lab(replace(SHAPE, positions="rotary", d_head=3))
    with pytest.raises(OptionError, match="tokens or pictures"):
        replace(SHAPE, patch=4)
    with pytest.raises(OptionError, match="a mix or a memory"):
        Plugs()
    with pytest.raises(OptionError, match="13 positions"):
        Lab(SHAPE)(torch.zeros(1, 13, dtype=torch.long))


def test_a_layer_without_attention_mixes_nothing_and_has_as_many_weights():
    model = Lab(replace(SHAPE, layers=(None,)))
    other = IDS.clone()
    other[:, 0] = (other[:, 0] + 1) % 7
    assert torch.equal(model(IDS)[:, 1:], model(other)[:, 1:])
    count = [sum(w.numel() for w in m.blocks.parameters()) for m in (model, Lab(SHAPE))]
    assert abs(count[0] - count[1]) <= 24  # 4 * 8 / 3 is no whole number


def test_a_reader_of_pictures_says_a_class_for_each():
    shape = replace(SHAPE, d_vocab=0, patch=4, n_ctx=6, causal=False)
    pixels = torch.rand(2, 3, 8, 12)
    model = Lab(shape)
    assert model(pixels).shape == (2, 7) and model.patterns(pixels)[0].shape == (2, 2, 6, 6)
    assert torch.equal(model.patches(pixels)[0, 1], pixels[0, :, :4, 4:8].flatten())
    with pytest.raises(OptionError, match="patches are 4 wide"):
        model(torch.rand(1, 3, 9, 12))


def test_readers_of_pictures_start_alike_to_the_last_bias_whatever_was_drawn_before():
    shape = replace(SHAPE, d_vocab=0, patch=4, n_ctx=6, causal=False)
    torch.rand(7)  # somebody else's draws
    first, other = Lab(shape, seed=2), Lab(replace(shape, layers=(SOFTMAX, SOFTMAX)), seed=2)
    assert torch.equal(first.embed.bias, other.embed.bias) and float(first.embed.bias.abs().max()) > 0
    assert not torch.equal(first.embed.bias, Lab(shape, seed=3).embed.bias)
    before = torch.random.get_rng_state()
    Lab(shape, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())


ARMS = {
    "softmax": replace(SHAPE, d_vocab=16, n_out=16, shift=True),
    "linear": replace(
        SHAPE,
        d_vocab=16,
        n_out=16,
        shift=True,
        layers=(Plugs(score=scores.elu_features, mix=normalisers.normalised),),
    ),
}
DRAW = partial(recall_rows, pairs=3, queries=3, keys=8, values=8)
SMALL = LabComparison(name="small", arms=ARMS, reference="softmax", draw=DRAW, steps=6, batch=4, seeds=(3,))


def test_arms_start_alike_and_each_is_trained_as_it_would_be_alone():
    begun = SMALL.begin(3)
    assert torch.equal(begun["softmax"].embed.weight, begun["linear"].embed.weight)
    both = train(SMALL)
    alone = train(replace(SMALL, arms={"linear": ARMS["linear"]}, reference="linear"))
    for one, other in zip(
        both.models[3]["linear"].parameters(), alone.models[3]["linear"].parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert not torch.equal(begun["linear"].embed.weight, both.models[3]["linear"].embed.weight)


def test_muon_learns_recall_and_the_reference_says_whether_it_did():
    arms = {"softmax": replace(ARMS["softmax"], d_model=16, d_head=8)}
    learned = train(replace(SMALL, arms=arms, steps=80, batch=16, muon=True, rate=2e-2))
    rows = DRAW(np.random.default_rng(0), 100)
    assert learned.right("softmax", rows).shape == (1, 300) and learned.learned(rows) == [True]
    assert learned.why_not(rows) == "" and float(learned.loss("softmax", rows).mean()) < 0.5
    assert "reference, answers" in train(SMALL).why_not(rows)


def test_a_killed_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    import workbench.training.loop as loop

    whole, saved = train(replace(SMALL, steps=6)), loop._save

    def dies(*args, **kwargs):
        saved(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_save", dies)
    with pytest.raises(KeyboardInterrupt):
        train(replace(SMALL, steps=6), scratch=tmp_path, checkpoint_every=4)
    monkeypatch.undo()
    again = train(replace(SMALL, steps=6), scratch=tmp_path, checkpoint_every=4)
    one, other = (arms.models[3]["softmax"].state_dict() for arms in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_arms_that_are_kept_come_back_and_changed_ones_are_refused(tmp_path):
    arms = train(SMALL)
    file = keep_arms(arms, retrain="workbench replicate small --retrain", home=tmp_path)
    back = read_arms(SMALL, tmp_path)
    assert back.shipped and back.seeds == (3,)
    for name in ARMS:
        one, other = arms.models[3][name], back.models[3][name]
        assert torch.equal(one(IDS[:, :8]), other(IDS[:, :8]))
    with pytest.raises(ModelError, match="another recipe"):
        read_arms(replace(SMALL, steps=7), tmp_path)
    with pytest.raises(ModelError, match=r"seeds \(3,\), not \(9,\)"):
        trained(SMALL, seeds=(9,), home=tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="was changed"):
        read_arms(SMALL, tmp_path)
    files_of("small", tmp_path)[0].unlink()
    with pytest.raises(ModelError, match="no trained arms of small"):
        trained(SMALL, home=tmp_path)
