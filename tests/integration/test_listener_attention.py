"""A probe that reads whom a listener attends to, and a model that reads what the probe says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError, WorkbenchError
from workbench.heads.listener_token import decoded_margin, fit_voice_probe, told_after, voices_of
from workbench.heads.state_spectrum import spectrum_of
from workbench.tasks.listeners import draw_talks, mixture, signals
from workbench.training.mixers.memory_streams import head_pairs

NAMES, VALUES, FILLERS = [10, 11, 12, 13], [20, 21, 22], [30, 31]


@pytest.fixture(scope="module")
def model():
    return wb.open_model("zoo:truth-induction")


def test_a_signal_without_noise_decodes_always_and_one_of_noise_alone_half_of_the_time():
    rng = np.random.default_rng(0)
    voices, mixed = rng.normal(size=(40, 8)), mixture(8, 8, seed=1)
    heard, other = rng.normal(size=(2, 400, 8))  # voices that the probe never saw
    share = {}
    for noise in (0.0, 1e6):
        probe = fit_voice_probe(signals(voices, mixed, noise=noise, seed=2), voices, penalty=0.0)
        tokens = probe.tokens(signals(heard, mixed, noise=noise, seed=3))
        share[noise] = float((decoded_margin(tokens, heard, other) > 0).mean())
        if noise == 0:
            assert np.allclose(tokens, heard)
    assert share[0.0] == 1.0 and 0.4 < share[1e6] < 0.6
    assert np.allclose(probe.tokens(probe.signal_mean[None]), probe.voice_mean)


def test_ridge_by_hand_in_one_dimension(unchecked):
    # centred signals -1, 1 and voices -2, 2: S'S = 2, mean variance 1, two trials: 4 / (2 + 0.5 * 2 * 1)
    probe = fit_voice_probe(np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]]), penalty=0.5)
    assert probe.weights.tolist() == [[pytest.approx(4 / 3)]]
    with pytest.raises(ShapeError, match="2 signals and 1 voices"):
        fit_voice_probe(np.zeros((2, 1)), np.zeros((1, 1)))


def test_in_a_talk_each_speaker_says_a_word_right_after_the_name():
    talks = draw_talks(NAMES, VALUES, FILLERS, among=[1, 3], n=200, length=9, seed=0)
    for row, speakers, said in zip(talks.words, talks.speakers, talks.said, strict=True):
        for speaker, word in zip(speakers, said, strict=True):
            at = np.flatnonzero(row == NAMES[speaker])
            assert len(at) == 1 and row[at[0] + 1] == word
        assert len(set(said)) == 2 and np.isin(row, FILLERS).sum() == 5
    assert set(talks.speakers.flatten()) == {1, 3} and 0.3 < talks.attended.mean() < 0.7
    assert (talks.heard != talks.other).all()
    first = np.array([np.flatnonzero(np.isin(r, NAMES))[0] for r in talks.words])
    heard_first = (
        np.array([r[f] for r, f in zip(talks.words, first, strict=True)]) == np.array(NAMES)[talks.heard]
    )
    assert 0.3 < heard_first.mean() < 0.7  # the place does not tell who is attended to
    with pytest.raises(OptionError, match="two names and 6 words are needed"):
        draw_talks(NAMES, VALUES, FILLERS, among=[1], n=1, length=9, seed=0)


def test_a_token_replaced_by_its_own_embedding_changes_nothing_and_by_another_s_everything(model):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, model.cfg.d_vocab, (5, 8))
    answers = rng.integers(0, model.cfg.d_vocab, (5, 2))
    own = voices_of(model, list(range(model.cfg.d_vocab)))
    before = sum(p.double().abs().sum().item() for p in model.parameters())

    def plain(rows):
        with torch.no_grad():
            logs = model(torch.tensor(rows))[:, -1].double().log_softmax(-1)
        return logs.gather(1, torch.tensor(answers)).numpy()

    told = told_after(model, ids, own[ids[:, -1]], answers)
    assert np.allclose(told, plain(ids), atol=1e-5)
    changed = ids.copy()
    changed[:, -1] = (ids[:, -1] + 1) % model.cfg.d_vocab
    assert np.allclose(told_after(model, ids, own[changed[:, -1]], answers), plain(changed), atol=1e-5)
    one = np.concatenate([told_after(model, ids[[i]], own[ids[[i], -1]], answers[[i]]) for i in (4, 2)])
    assert np.allclose(one, told[[4, 2]], atol=1e-5)
    assert np.allclose(plain(ids), told, atol=1e-5)  # nothing is left attached
    assert sum(p.double().abs().sum().item() for p in model.parameters()) == before


@pytest.mark.parametrize("measured", [head_pairs, spectrum_of])
def test_what_is_measured_on_texts_is_refused_by_a_model_of_pictures(measured):
    with pytest.raises(ModelError, match="measured on texts, and the model reads pictures"):
        measured(wb.open_model("zoo:marked"), texts=1, tokens=4)


def test_the_paper_runs_small_and_refuses_a_model_that_puts_out_no_words(tmp_path):
    found = wb.replicate(
        "listener-attention", model="zoo:kv", options=("talks=24", "fitted=60"), out=tmp_path / "a"
    )
    verdicts = [claim.verdict for claim in found.findings.claims]
    assert verdicts[-2:] == ["cannot be tested here"] * 2 and "cannot be tested here" not in verdicts[:5]
    assert [row["noise"] for row in found.findings.tables["Amounts of noise"]] == [0, 1, 2, 4]
    with pytest.raises(WorkbenchError, match="word"):
        wb.replicate("listener-attention", model="zoo:marked", out=tmp_path / "b")
