"""A model with learned sinks (GPT-OSS): its rows over keys sum to less than 1, and nothing takes them for 1."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from tests.families import build_hf, save_tokenizer
from tests.mini import mini_pairs
from workbench.circuits.addresses import parse_node
from workbench.edits.act import find_sinks
from workbench.edits.kinds import Rows
from workbench.engine.interventions.apply import hooks_for
from workbench.engine.interventions.intervention import Intervention, KnockOut
from workbench.engine.patterns import corrupted_patterns, key_effect
from workbench.evaluate.roles import mean_attention
from workbench.heads.grounds import random_ground
from workbench.heads.readouts import read_outs
from workbench.heads.show.atlas import _data
from workbench.heads.shown_patterns import example_patterns
from workbench.model.hooks import hook_name
from workbench.model.open import open_model
from workbench.model.probe import record


@cache
def plain():
    return build_hf("gpt-oss")


@torch.no_grad()
def attentions(ids: torch.Tensor) -> np.ndarray:
    """``(layer, row, head, query, key)`` of Hugging Face's own forward pass."""
    model = plain()
    model.set_attn_implementation("eager")
    return torch.stack(model(ids, output_attentions=True).attentions).double().numpy()


@pytest.fixture(scope="module")
def measured(bridge_of):
    ground, _ = random_ground(bridge_of("gpt-oss"), n=3, length=21)
    found, _ = read_outs(bridge_of("gpt-oss"), ground)
    return {m.name: m for m in found}, attentions(torch.stack(ground.sequences))


def test_the_bridge_shows_the_rows_as_they_are(bridge_of):
    ids = torch.tensor([[0, 6, 7, 8, 9, 10, 11, 12]])
    rows = attentions(ids)
    assert rows.sum(-1).max() < 1 and rows.sum(-1).min() < 0.7
    _, seen = record(bridge_of("gpt-oss"), ids, [hook_name("pattern", n) for n in range(2)])
    for layer in range(2):
        assert np.abs(seen[hook_name("pattern", layer)].numpy() - rows[layer]).max() < 1e-6


def test_read_outs_are_of_what_is_looked_at_and_the_sink_is_a_column(measured):
    found, rows = measured
    total = rows.sum(-1)  # (layer, row, head, query)
    assert found["sink-share"].values == pytest.approx((1 - total).mean((1, 3)), abs=1e-6)
    far = np.abs(np.subtract.outer(np.arange(21), np.arange(21)))
    looked = rows / total[..., None]
    assert found["distance"].values == pytest.approx((looked * far).sum(-1).mean((1, 3)), abs=1e-5)
    assert found["first-token"].values == pytest.approx(looked[..., 1:, 0].mean((1, 3)), abs=1e-6)
    entropy = -(looked * np.log(np.where(looked > 0, looked, 1))).sum(-1)
    assert found["entropy"].values == pytest.approx(entropy.mean((1, 3)), abs=1e-5)
    before = np.diagonal(looked, -1, -2, -1)
    assert found["previous-token"].values == pytest.approx(before.mean((1, 3)), abs=1e-6)
    assert found["sink-share"].null.max() == 0  # a head that looks at every key alike has no sink


def test_a_head_whose_sink_takes_everything_looks_nowhere_and_is_named(tmp_path):
    """float32 has nothing left for its keys: no distance, no entropy, no NaN without a word."""
    model = build_hf("gpt-oss")
    with torch.no_grad():
        model.model.layers[0].self_attn.sinks[2] = 300.0
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    opened = open_model(tmp_path, device="cpu")
    ground, _ = random_ground(opened, n=2, length=21)
    found = {m.name: m for m in read_outs(opened, ground)[0]}
    assert found["sink-share"].values[0, 2] == 1 and not np.isnan(found["sink-share"].values).any()
    for name in ("distance", "entropy", "previous-token", "locality", "first-token"):
        assert np.argwhere(np.isnan(found[name].values)).tolist() == [[0, 2]]
        assert found[name].missing == {
            "a0.h2: all rows of a pattern sum to 0, so the head looks nowhere": (0,)
        }


def test_models_without_sinks_have_no_such_column(bridge_of):
    for family in ("gpt2", "gemma2", "mistral"):  # soft caps and windows leave rows of 1
        ground, _ = random_ground(bridge_of(family), n=2, length=21)
        assert "sink-share" not in {m.name for m in read_outs(bridge_of(family), ground)[0]}


def test_a_page_shows_where_a_row_looks_and_what_it_keeps_from_keys(bridge_of):
    prompt = example_patterns(bridge_of("gpt-oss"))[0]
    assert np.abs(prompt.weights.sum(-1).astype(int) - 255).max() <= prompt.weights.shape[-1]
    assert prompt.sinks.shape == prompt.weights.shape[:-1] and prompt.sinks.max() > 100
    assert _data([prompt])[0]["sinks"]
    assert _data([example_patterns(bridge_of("gpt2"))[0]])[0]["sinks"] is None


def test_roles_and_calibration_look_at_the_same_shares(runs_of):
    runs = runs_of("gpt-oss", pairs=mini_pairs(1))
    rows = attentions(torch.tensor(runs.pairs.clean[0])[None])[:, 0]
    at = runs.pairs.positions[0]
    row = rows[:, :, at["end"]]
    found = mean_attention(runs, [("end", "S")])[0]
    assert found == pytest.approx(row[..., at["S"]] / row.sum(-1), abs=1e-6)
    A = torch.tensor(rows)
    assert torch.equal(find_sinks(A, alpha=2.0), find_sinks(A / A.sum(-1, keepdim=True), alpha=2.0))


def without(key: int, query: int, ids: torch.Tensor) -> np.ndarray:
    """Heads' outputs of the first layer where every head's score of this key at this query is minus infinity."""
    model, seen, n = plain().model, [], ids.shape[1]
    at = torch.arange(n)
    hidden = (at > at[:, None]) | (at <= at[:, None] - 6)  # causal, and a window of 6
    hidden[query, key] = True
    attention, stream = model.layers[0].self_attn, model.embed_tokens(ids)
    handle = attention.o_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        attention(
            model.layers[0].input_layernorm(stream),
            position_embeddings=model.rotary_emb(stream, at[None]),
            attention_mask=torch.zeros(n, n).masked_fill(hidden, -torch.inf)[None, None],
        )
    handle.remove()
    return seen[0].reshape(*ids.shape, 4, 8).numpy()


def test_a_knock_out_and_a_dropped_key_are_a_score_of_minus_infinity(runs_of):
    """What the key had goes to the other keys and to the sink, as the softmax has it."""
    runs = runs_of("gpt-oss", pairs=mini_pairs(1))
    batch, at, name = runs.batches[0], runs.pairs.positions[0], hook_name("head-output", 0)
    expected = without(at["S"], at["end"], batch.clean)
    heads = tuple(f"a0.h{h}" for h in range(4))
    knocks = tuple(KnockOut(node=parse_node(h), query="end", key="S") for h in heads)
    hooks = hooks_for(runs, batch, [Intervention(label="all", edits=knocks)], None)
    with torch.no_grad(), runs.model.hooks(fwd_hooks=hooks):
        knocked = record(runs.model, batch.clean, [name])[1][name]
    edit = Rows(heads=heads, operation="drop", keys=(at["S"],), queries=(at["end"],))
    with torch.no_grad(), edit.on(runs.model):
        dropped = record(runs.model, batch.clean, [name])[1][name]
    bare = record(runs.model, batch.clean, [name])[1][name].numpy()
    assert np.abs(knocked.numpy() - expected).max() < 1e-6 > np.abs(dropped.numpy() - expected).max()
    assert np.abs(bare - expected).max() > 1e-3


def test_the_fix_of_keys_counts_the_sink_among_the_others(runs_of):
    """Against one pass for every key that is replaced: the model's own softmax, sink and all."""
    runs = runs_of("gpt-oss", pairs=mini_pairs(1))
    batch = runs.batches[0]
    names = {s: [hook_name(s, n) for n in range(2)] for s in ("resid", "k", "pattern")}
    clean = runs.activations(batch, "clean", names["resid"] + names["k"])
    corrupted = runs.activations(batch, "corrupted", names["k"])
    hold = [(n, lambda t, hook, n=n: clean[n]) for n in names["resid"]]
    own = corrupted_patterns(runs, batch)
    for layer in range(2):
        at = own[layer]
        grad = torch.randn(
            at.clean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(layer)
        )
        expected = torch.zeros(at.clean.shape[:2] + at.clean.shape[-1:], dtype=torch.float64)
        for key in range(batch.n_tokens):
            value = clean[names["k"][layer]].clone()
            value[:, key] = corrupted[names["k"][layer]][:, key]
            put = (names["k"][layer], lambda t, hook, value=value: value)
            with runs.model.hooks(fwd_hooks=[*hold, put]):
                moved = record(runs.model, batch.clean, [names["pattern"][layer]])[1][names["pattern"][layer]]
            expected[..., key] = ((at.clean - moved.double()) * grad).sum((-1, -2))
        assert (key_effect(at, grad) - expected).abs().max() < 1e-5
        assert expected.abs().max() > 1e-2
