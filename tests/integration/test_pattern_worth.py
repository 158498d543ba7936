"""Other patterns in place of heads' own: each against one hook and one pass; identities; a model left as it was."""

from __future__ import annotations

import pytest
import torch

from workbench.core.errors import ModelError, OptionError, ShapeError, TaskError
from workbench.edits.file import load_edit, save_edit
from workbench.edits.measure import on_text
from workbench.edits.pattern_worth import Texts, replace_attention, texts_of_corpus, texts_of_task
from workbench.edits.recorded_patterns import mean_patterns
from workbench.edits.substitute import KEPT, PATTERNS, Substitute
from workbench.model.hooks import hook_name

N = 8
IDS = torch.randint(6, 100, (2, N), generator=torch.Generator().manual_seed(3))
OTHER = torch.randint(6, 100, (5, N), generator=torch.Generator().manual_seed(4))
PAST = torch.ones(N, N).tril().bool()
NUMBERS = {"keys": 4, "block": 2, "order": 2}


def numbers(pattern):
    takes = {"keys": pattern in KEPT, "block": pattern == "block", "order": pattern == "taylor"}
    return {name: value for name, value in NUMBERS.items() if takes[name]}


def made(model, pattern, heads=("a1",), ids=IDS, **more):
    given = {**numbers(pattern), **more}
    return Substitute.of(model, pattern, heads=heads, prompt=ids, reference=[OTHER], **given)


@torch.no_grad()
def run(model, ids=IDS, hooks=()):
    with model.hooks(fwd_hooks=list(hooks)):
        return model(ids)


@torch.no_grad()
def look(model, site, layer, ids=IDS, hooks=()):
    kept = []
    keep = (hook_name(site, layer), lambda x, hook: kept.append(x.clone()))
    run(model, ids, [*hooks, keep])
    return kept[0]


def kept_softmax(scores, keys):
    """One query: the softmax over these keys alone."""
    row = torch.zeros(N)
    row[list(keys)] = scores[list(keys)].softmax(-1)
    return row


def naive(model, pattern):
    """The pattern that is expected in layer 1, row by row, head by head, query by query."""
    own, scores = look(model, "pattern", 1), look(model, "scores", 1)
    new = torch.zeros_like(own)
    others = [look(model, "pattern", 1, ids[None])[0] for ids in OTHER]
    if pattern == "token-embeddings":
        first = look(model, "resid", 0)
        return look(model, "pattern", 1, hooks=[(hook_name("resid", 1), lambda x, hook: first)])
    for b, h in [(b, h) for b in range(2) for h in range(4)]:
        for t in range(N):
            s, a, seen = scores[b, h, t], own[b, h, t], range(t + 1)
            if pattern == "own":
                row = a
            elif pattern == "mean":
                row = sum(other[h, t] for other in others) / len(others)
            elif pattern == "identity":
                row = torch.eye(N)[t]
            elif pattern == "uniform":
                row = PAST[t] / (t + 1)
            elif pattern == "key-only":
                row = kept_softmax(scores[b, h].diagonal(), seen)
            elif pattern == "taylor":
                s = s.masked_fill(~PAST[t], 0.0)
                row = (1 + s + s**2 / 2) * PAST[t]
                row = row / row.sum()
            elif pattern == "top-k":
                row = kept_softmax(s, sorted(seen, key=lambda i: -float(a[i]))[:4])
            elif pattern == "column":
                got = own[b, h, : t + 1].sum(0)
                row = kept_softmax(s, sorted(seen, key=lambda i: -float(got[i]))[:4])
            else:  # two blocks of two
                best = sorted(range(N // 2), key=lambda i: -float(a[2 * i : 2 * i + 2].sum()))[:2]
                row = kept_softmax(s, [i for i in seen if i // 2 in best])
            new[b, h, t] = row
    return new


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if p not in ("random", "another-text")])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_each_pattern_is_what_one_hook_would_put_there(bridge_of, family, pattern):
    model = bridge_of(family)
    expected = naive(model, pattern)
    assert torch.allclose(expected.sum(-1), torch.ones(2, 4, N), atol=1e-5)
    wanted = run(model, hooks=[(hook_name("pattern", 1), lambda x, hook: expected)])
    plain = run(model)
    with made(model, pattern).on(model):
        found = run(model)
    assert torch.allclose(found, wanted, atol=2e-5)
    assert torch.equal(found, plain) == (pattern == "own")
    assert torch.equal(run(model), plain)  # as it was


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "opt", "native", "gemma2"])
def test_the_own_pattern_put_back_costs_nothing(bridge_of, family):
    model = bridge_of(family)
    plain = run(model)
    same = [
        made(model, "own", ("a0", "a1.h2")),
        made(model, "top-k", ("a0", "a1"), keys=N),
        made(model, "block", ("a0", "a1"), keys=N, block=N),
        made(model, "column", ("a0", "a1"), keys=99),
        made(model, "random", ("a0", "a1"), keys=N),
        made(model, "token-embeddings", ("a0",)),  # the first layer reads nothing else
        Substitute.of(model, "another-text", heads=["a0", "a1"], reference=[IDS[:1]]),
    ]
    for edit in same[:-1]:
        with edit.on(model):
            assert torch.equal(run(model), plain), edit.describe()
    one = run(model, IDS[:1])
    with same[-1].on(model):
        assert torch.equal(run(model, IDS[:1]), one)
    first = IDS[:1, :1]
    alone = run(model, first)
    with Substitute(heads=("a0", "a1"), pattern="uniform").on(model):
        assert torch.equal(run(model, first), alone)


def test_kept_keys_are_gathered_too(bridge_of):
    """Values of the four best keys alone, gathered, are what the mask over all keys gives."""
    model = bridge_of("gpt2")
    scores, values = look(model, "scores", 1), look(model, "v", 1)
    best = scores.masked_fill(~PAST, -torch.inf).topk(4, dim=-1)
    values = values.permute(0, 2, 1, 3)[:, :, None].expand(
        -1, -1, N, -1, -1
    )  # (row, head, query, key, d_head)
    index = best.indices[..., None].expand(*best.indices.shape, values.shape[-1])
    expected = (best.values.softmax(-1)[..., None] * values.gather(3, index)).sum(3).transpose(1, 2)
    with made(model, "top-k").on(model):
        assert torch.allclose(look(model, "head-output", 1), expected, atol=1e-5)


def test_random_keys_are_as_many_the_same_for_every_prompt_and_of_the_seed(bridge_of):
    model = bridge_of("llama")

    def seen(seed, ids=IDS):
        with made(model, "random", seed=seed).on(model):
            z, v = look(model, "head-output", 1, ids), look(model, "v", 1, ids)
        return z, v

    from workbench.edits.stand_ins import keep_random

    kept = keep_random(PAST, 4, 3, 7)
    assert torch.equal((kept & PAST).sum(-1)[0], PAST.sum(-1).clamp(max=3).expand(4, N))
    assert torch.equal(seen(1)[0], seen(1)[0]) and not torch.equal(seen(1)[0], seen(2)[0])
    both, alone = seen(1)[0], seen(1, IDS[:1])[0]
    assert torch.allclose(both[:1], alone, atol=1e-5)


def test_the_mean_is_over_the_texts_that_reach_a_position(bridge_of):
    model = bridge_of("llama")
    short = OTHER[:2, :5]
    found = mean_patterns(model, [OTHER, short])["a1"]
    long, brief = look(model, "pattern", 1, OTHER), look(model, "pattern", 1, short)
    expected = long.sum(0)
    expected[:, :5, :5] += brief.sum(0)
    expected[:, :5] /= 7
    expected[:, 5:] /= 5
    assert torch.allclose(found[0], expected, atol=1e-6)
    assert torch.allclose(found.sum(-1), torch.ones(1, 4, N), atol=1e-5)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_windows_give_the_same_in_batches_of_any_size(bridge_of, pattern):
    model = bridge_of("gpt2")

    def edit(prompt):
        return made(model, pattern, ("a0", "a2"), ids=prompt)

    whole, single = (on_text(model, OTHER, edit, rows=rows)["loss"] for rows in (5, 1))
    assert abs(whole - single).max() < 1e-5


def test_one_head_changes_and_the_others_stay(bridge_of):
    model = bridge_of("llama")
    plain = look(model, "head-output", 1)
    with made(model, "uniform", ("a1.h2",)).on(model):
        new = look(model, "head-output", 1)
    assert [bool((new[:, :, h] != plain[:, :, h]).any()) for h in range(4)] == [False, False, True, False]


def test_an_odd_order_has_negative_weights_or_is_refused(bridge_of):
    from workbench.edits.stand_ins import taylor

    scores = torch.tensor([[[[0.0, 0.0], [-3.0, 4.0]]]])
    assert torch.allclose(taylor(scores, PAST[:2, :2], 1)[0, 0, 1], torch.tensor([-2 / 3, 5 / 3]))
    with pytest.raises(ModelError, match="sum to -6"):
        taylor(torch.tensor([[[[0.0, 0.0], [-3.0, -5.0]]]]), PAST[:2, :2], 1)
    model = bridge_of("native")  # small scores: 1 + x is close to the exponential
    plain = run(model)
    with made(model, "taylor", order=1).on(model):
        assert 0 < float((run(model) - plain).abs().max()) < 1e-2


def test_what_cannot_be_is_refused(bridge_of):
    model = bridge_of("gpt2")
    with pytest.raises(OptionError, match="keys is 0; at least 1"):
        Substitute(heads=("a0",), pattern="top-k", keys=0)
    with pytest.raises(OptionError, match="pattern uniform takes no keys"):
        Substitute(heads=("a0",), pattern="uniform", keys=2)
    with pytest.raises(OptionError, match="recorded on a model"):
        Substitute(heads=("a0",), pattern="mean")
    with pytest.raises(ShapeError, match="recorded on 2 prompts of 8 tokens; 2 of 7 are run"), \
            made(model, "own").on(model):  # fmt: skip
        run(model, IDS[:, :7])
    long = torch.randint(6, 100, (1, 12))
    with pytest.raises(ShapeError, match="1 of 12 are run"), made(model, "mean").on(model):
        run(model, long)
    with pytest.raises(ModelError, match="no attention layer 7"), made(model, "uniform", ("a7",)).on(model):
        pass
    with pytest.raises(ModelError, match="cannot be made again"), \
            Substitute(heads=("a1",), pattern="uniform").on(bridge_of("gptj")):  # fmt: skip
        pass


def test_beside_a_learned_sink_rows_keep_its_share_and_nothing_is_made_of_scores(bridge_of):
    model = bridge_of("gpt-oss")
    plain = run(model)
    with made(model, "own", ("a0", "a1")).on(model):
        assert torch.equal(run(model), plain)
    with pytest.raises(ModelError, match="softmax of the scores differs"), made(model, "taylor").on(model):
        run(model)
    own = look(model, "pattern", 1).sum(-1)
    assert float(own[0, 0, -1]) < 0.999
    with made(model, "uniform").on(model):
        z, v = look(model, "head-output", 1), look(model, "v", 1)
    first = v[:, 0].repeat_interleave(
        2, dim=1
    )  # the first query has one key, of which it keeps its own share
    assert torch.allclose(z[:, 0], own[:, :, :1] * first, atol=1e-5)


def test_a_saved_edit_has_its_patterns(bridge_of, tmp_path):
    model = bridge_of("llama")
    for pattern in ("mean", "block"):
        edit = made(model, pattern)
        with edit.on(model):
            expected = run(model)
        with load_edit(save_edit(edit, tmp_path / pattern)).on(model):
            assert torch.equal(run(model), expected)


def test_the_table_has_a_row_for_each_place_and_pattern():
    import workbench as wb

    model = wb.open_model("zoo:stdlib")
    texts = texts_of_corpus(model, n=3, window=32)
    table = replace_attention(texts, ["own", "uniform"], layers=["odd", "0"], each="layer")
    assert [(row["pattern"], row["layers"], row["heads"]) for row in table.rows] == [
        (pattern, layer, 4) for layer in ("1", "3", "0") for pattern in ("own", "uniform")
    ]
    assert all(row["difference"] == row["low"] == row["high"] == 0 for row in table.rows[::2])
    with Substitute(heads=("a0",), pattern="uniform").on(model), torch.no_grad():
        logits = model(texts.windows)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), texts.windows[:, 1:].flatten())
    assert table.rows[-1]["with"] == pytest.approx(float(loss), abs=1e-5)
    assert table.rows[-1]["n"] == len(texts.windows) == 3


def test_patterns_that_a_model_refuses_are_named_and_refused_where_they_are_asked_for(bridge_of):
    texts = Texts(model=bridge_of("gpt-oss"), windows=OTHER[:3], reference=[OTHER[3:]])
    table = replace_attention(texts, layers=["1"], keys=4, block=2)
    assert len(table.rows) == len(PATTERNS) - 2 and len(table.notes) == 2
    assert table.edit.endswith("not possible here: key-only, taylor") and "softmax" in table.notes[0]
    with pytest.raises(ModelError, match="softmax of the scores differs"):
        replace_attention(texts, ["own", "taylor"])


def test_a_task_is_measured_by_its_metric_and_other_texts_are_of_another_split():
    import workbench as wb

    model = wb.open_model("zoo:ioi")
    texts = texts_of_task(model, "ioi", n=4)
    assert not {tuple(r) for p in texts.reference for r in p.ids.tolist()} & \
        {tuple(row.tolist()) for row in texts.runs.pairs.clean}  # fmt: skip
    table = wb.replace_attention(texts, ["own", "another-text"], heads=["a1.h0", "a2.h1"])
    assert [row["measure"] for row in table.rows] == ["logit-difference"] * 2
    assert [row["difference"] == 0 for row in table.rows] == [True, False]
    with pytest.raises(TaskError, match="unknown to the tokenizer"):
        texts_of_corpus(wb.open_model("zoo:kv"))
    with pytest.raises(OptionError, match="at most 72, the context"):
        texts_of_corpus(model, "Then Mary went to the store", window=100)
