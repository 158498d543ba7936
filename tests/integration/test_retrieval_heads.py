"""Decoding and retrieval scores on real models, one of them built by hand."""

from __future__ import annotations

import pytest
import torch

from tests.families import family_dir
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.decoding import decode, forced, right, text_of
from workbench.heads.retrieval import random_needles, retrieval_scores
from workbench.model.open import open_model


@pytest.fixture(scope="module")
def hand_built():
    """a0.h1 looks at the previous token, a1.h0 is the induction head; both exactly."""
    return open_model("zoo:truth-induction")


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def tiny(request):
    return open_model(family_dir(request.param))


def greedy_loop(model, prompts, steps):
    """One prompt, one token at a time, and the pattern of that very pass."""
    tokens, rows = [], []
    for prompt in prompts:
        text, own = prompt[None], []
        for _ in range(steps):
            logits, cache = model.run_with_cache(text)
            last = [cache[f"blocks.{i}.attn.hook_pattern"][0, :, -1] for i in range(model.cfg.n_layers)]
            own.append(torch.stack(last))  # (layer, head, key)
            text = torch.cat([text, logits[:, -1].argmax(-1)[:, None]], 1)
        tokens.append(text[0, prompts.shape[1] :])
        rows.append(own)
    return torch.stack(tokens), rows


def test_decoding_is_the_naive_loop_with_and_without_guesses_and_cache(tiny):
    prompts = torch.randint(6, 100, (3, 7), generator=torch.Generator().manual_seed(1))
    tokens, rows = greedy_loop(tiny, prompts, 4)
    half_right = tokens.clone()
    half_right[0, 1] += 1  # wrong in the middle
    half_right[1, 0] += 1  # wrong at once
    ways = {
        "whole passes": decode(tiny, prompts, steps=4),
        "right guess": decode(tiny, prompts, steps=4, guess=tokens),
        "half right guess": decode(tiny, prompts, steps=4, guess=half_right),
        "wrong guess": decode(tiny, prompts, steps=4, guess=tokens * 0 + 5),
        "cache": decode(tiny, prompts, steps=4, cache=True),
    }
    for name, done in ways.items():
        assert torch.equal(done.tokens, tokens), name
        for i, own in enumerate(rows):
            for step, expected in enumerate(own):
                found = done.stacked[i, :, :, step]
                # 1e-6: float32 sums in another order
                assert torch.allclose(found[..., : 7 + step], expected, atol=1e-6), name
                assert found[..., 7 + step :].abs().max() == 0 if step < 3 else True


def test_an_encoder_writes_no_text():
    with pytest.raises(ModelError, match="not causal"):
        decode(open_model(family_dir("bert")), torch.full((1, 5), 9), steps=1)


def test_an_edit_holds_while_decoding_and_cache_is_refused(tiny):
    prompts = torch.randint(6, 100, (2, 6), generator=torch.Generator().manual_seed(2))
    plain = decode(tiny, prompts, steps=3, rows=False).tokens
    last = f"blocks.{tiny.cfg.n_layers - 1}.hook_out"
    with tiny.hooks(fwd_hooks=[(last, lambda x, hook: x * 0 + 1.0)]):
        edited = decode(tiny, prompts, steps=3, rows=False).tokens
        assert torch.equal(decode(tiny, prompts, steps=3, guess=plain, rows=False).tokens, edited)
        with pytest.raises(OptionError, match="while an edit or a hook is active"):
            decode(tiny, prompts, steps=3, cache=True)
    assert len(edited.unique()) == 1  # a constant residual stream chooses one token everywhere
    assert torch.equal(decode(tiny, prompts, steps=3, rows=False).tokens, plain)


def test_what_cannot_be_decoded_is_refused(tiny, hand_built):
    with pytest.raises(ModelError, match="do not fit the context"):
        decode(hand_built, torch.full((1, 64), 9), steps=2)
    with pytest.raises(OptionError, match="steps is 0"):
        decode(tiny, torch.full((1, 5), 9), steps=0)
    with pytest.raises(ShapeError, match="guess"):
        decode(tiny, torch.full((1, 5), 9), steps=2, guess=torch.zeros(1, 3, dtype=torch.long))


@pytest.mark.parametrize("size", [1, 4])
def test_heads_with_the_pattern_of_induction_score_one_in_the_hand_built_model(hand_built, size):
    found = retrieval_scores(hand_built, random_needles(hand_built, n=6, length=40, size=size, seed=3))
    assert found.recall.tolist() == [1.0] * 6
    # a1.h0 is the induction head; a1.h1 looks where it looks and writes nothing: the score is of looking alone.
    assert found.score.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert found.heads() == ["a1.h0", "a1.h1"]
    assert found.frequency.tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert found.mass[1].min() > 0.99


def test_forced_writing_scores_where_heads_would_look(hand_built):
    samples = random_needles(hand_built, n=4, length=30, size=3, seed=1)
    with hand_built.hooks(fwd_hooks=[("blocks.1.hook_out", lambda x, hook: x * 0)]):
        silent = retrieval_scores(hand_built, samples)
        told = retrieval_scores(hand_built, samples, writing="forced")
    assert not silent.counted.any() and silent.heads() == []  # it answers nothing, so nothing counts
    assert told.score.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_samples_of_different_lengths_keep_their_order(hand_built):
    short = random_needles(hand_built, n=2, length=20, size=2)
    long = random_needles(hand_built, n=2, length=50, size=3)
    mixed = [long[0], short[0], long[1], short[1]]
    together = retrieval_scores(hand_built, mixed, batch_tokens=60)
    alone = [retrieval_scores(hand_built, [s]).per_sample[0].tolist() for s in mixed]
    assert together.per_sample.tolist() == alone


def test_text_and_right_answers(tiny):
    prompts = torch.full((2, 4), 7)
    done = forced(tiny, prompts, torch.tensor([[8, 9], [8, 8]]))
    assert text_of(prompts, done).tolist() == [[7, 7, 7, 7, 8, 9], [7, 7, 7, 7, 8, 8]]
    assert right(done.tokens, [[8, 9], [8, 9]]).tolist() == [True, False]
