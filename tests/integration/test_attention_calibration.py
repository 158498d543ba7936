"""Calibration of sinks on models written by hand: one whose sink harms, the same without, and what the study says."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge

from workbench.core.errors import OptionError
from workbench.edits.act import Calibration
from workbench.edits.sinks import Quiz, attention_moved, windows_of
from workbench.papers import attention_calibration as study
from workbench.papers.kinds import Setting
from workbench.papers.kit import Conditions

N, HEADS, WIDTH, VOCABULARY = 32, 24, 2, 32
BOS, SINK, WRONG, FIRST = 0, 1, 2, 3  # tokens; from FIRST on, each has its successor
WORDS = VOCABULARY - FIRST
PLANTED, HARM, EVEN = "a0.h5", 4.0, 22.0  # weight of a sink beside 1 of any other token


def successor(token: int) -> int:
    return FIRST + (token - FIRST + 7) % WORDS


@cache
def planted(harm: float):
    """One layer, no norm. Tokens predict their successors, more or less firmly; all heads look at the sinks.

    The residual stream is ``[token, prediction, 1]``. Every head looks at the beginning and at the token SINK; one
    writes ``harm`` for the wrong answer there, each other one a little against it.
    """
    d, token = 2 * VOCABULARY + 1, torch.eye(VOCABULARY)
    embed = torch.zeros(VOCABULARY, d)
    embed[:, :VOCABULARY] = token
    firmness = torch.linspace(0.3, 2.0, WORDS)
    for i in range(WORDS):
        embed[FIRST + i, VOCABULARY + successor(FIRST + i)] = firmness[i]
    at = torch.zeros(N, d)
    at[:, -1] = 1.0
    q, k, v = (torch.zeros(HEADS, WIDTH, d) for _ in range(3))
    q[:, 0, -1] = WIDTH**0.5  # the score is divided by the root of the width again
    k[:, 0, [BOS, SINK]] = float(np.log(EVEN))
    v[:, 1, SINK] = 1.0
    v[:, 0, FIRST:VOCABULARY] = torch.linspace(
        -0.1, 0.1, WORDS
    )  # or the probe finds that patterns change nothing
    o = torch.zeros(d, HEADS, WIDTH)
    o[VOCABULARY + BOS, :, 0] = 1.0  # never asked for
    o[VOCABULARY + WRONG, :, 1] = -0.08
    o[VOCABULARY + WRONG, int(PLANTED.split("h")[1]), 1] = harm
    weights = {
        "embed.weight": embed,
        "pos_embed.weight": at,
        "unembed.weight": torch.cat(
            [torch.zeros(VOCABULARY, VOCABULARY), token, torch.zeros(VOCABULARY, 1)], 1
        ),
        **{f"blocks.0.attn.{n}.weight": m.reshape(-1, d) for n, m in {"q": q, "k": k, "v": v}.items()},
        "blocks.0.attn.o.weight": o.reshape(d, -1),
    }
    config = TransformerBridgeConfig(
        n_layers=1,
        n_heads=HEADS,
        d_model=d,
        d_head=WIDTH,
        n_ctx=N,
        d_vocab=VOCABULARY,
        attn_only=True,
        normalization_type=None,
    )
    bridge = TransformerBridge.boot_native(config)
    made = bridge.state_dict()
    assert set(weights) < set(made)
    zeros = {name: torch.zeros_like(value) for name, value in made.items() if name.endswith(".bias")}
    bridge.load_state_dict({**made, **zeros, **weights})
    return bridge.eval()


def texts(seed: int, n: int = 48) -> torch.Tensor:
    """Walks along successors that one time in five go elsewhere, with the sink as their fourth token."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(n):
        row = [int(rng.integers(FIRST, VOCABULARY))]
        while len(row) < N - 1:
            row.append(successor(row[-1]) if rng.random() < 0.8 else int(rng.integers(FIRST, VOCABULARY)))
        rows.append([BOS, *row[:2], SINK, *row[3:]])
    return torch.tensor(rows)


def studied(chosen_in: float, judged_in: float) -> tuple[Conditions, dict[str, str]]:
    """Heads chosen on a model with one planted head and judged on another: the study, verdict by claim."""
    selection, evaluation = (
        Quiz(name="walks", model=planted(harm), windows=texts(seed))
        for seed, harm in enumerate((chosen_in, judged_in))
    )
    found = study.calibrated(selection, evaluation, draws=20, seed=0)
    found.numbers["language model"] = "none"
    for name in ("text", study.WORST):
        found.lack(f"{name}, {study.CHOSEN}", "one task alone here")
    claims = study.REPLICATION.judge(found)
    return found, dict(zip(study.CLAIMS, (claim.verdict for claim in claims), strict=True))


def test_a_sink_that_harms_is_found_and_its_calibration_helps():
    found, verdicts = studied(HARM, HARM)
    assert found.numbers["chosen"] == [PLANTED]
    assert {verdicts[key] for key in ("later", "harm", "act", "random", "columns", "filter", "alpha")} == {
        "holds"
    }
    gain, plain = found.mean("chosen heads", "as it is"), found.mean("as it is")
    assert gain > 0.1 and all(draw.mean() <= plain for draw in found.draws["matched random heads"])


def test_the_same_head_with_nothing_to_write_brings_nothing():
    found, verdicts = studied(HARM, 0.0)
    assert found.numbers["chosen"] == [PLANTED] and not found.of("chosen heads", "as it is").any()
    assert {verdicts[key] for key in ("harm", "act", "random", "columns", "filter")} == {"fails"}
    assert verdicts["later"] == "holds"  # it still looks there


def test_without_harm_no_head_is_chosen():
    found, verdicts = studied(0.0, 0.0)
    assert found.numbers["chosen"] == [] and verdicts["harm"] == "fails"
    assert verdicts["act"] == verdicts["random"] == verdicts["columns"] == "cannot be tested here"


def test_attention_moved_by_hand():
    """Row t of the planted model: ``EVEN`` for the beginning and for the sink, 1 for each other token."""
    rows, quiz = texts(5, n=3), Quiz(name="walks", model=planted(HARM), windows=texts(5, n=3))
    freed = []
    for t in range(rows.shape[1]):
        weights = np.array([EVEN if int(token) in (BOS, SINK) else 1.0 for token in rows[0, : t + 1]])
        freed.append(0.6 * weights[3] / weights.sum() if t >= 3 else 0.0)
    edit = Calibration(heads=(PLANTED,))
    assert attention_moved(quiz, edit) == pytest.approx(np.mean(freed), abs=1e-6)
    both = Calibration(heads=(PLANTED, "a0.h0"))  # heads that look alike: a mean, not a sum
    assert attention_moved(quiz, both) == pytest.approx(np.mean(freed), abs=1e-6)
    assert attention_moved(quiz, Calibration(heads=(PLANTED,), beta=1.0)) == 0.0
    others = Calibration(heads=(PLANTED,), columns="others")
    assert (
        0 < attention_moved(quiz, others) < 0.2 * np.mean(freed)
    )  # as many columns are not as much attention


def test_attention_moved_is_what_the_hooked_model_moves(bridge_of):
    """Against patterns recorded with the edit and without, on a model whose heads differ."""
    from workbench.model.hooks import hook_name
    from workbench.model.probe import record

    model, ids = bridge_of("gpt2"), torch.randint(6, 100, (3, 9), generator=torch.Generator().manual_seed(3))
    edit = Calibration(heads=("a0.h1", "a0.h2"), alpha=1.2)
    name = hook_name("pattern", 0)
    plain = record(model, ids, [name])[1][name]
    with edit.on(model):
        after = record(model, ids, [name])[1][name]
    rows = [
        float((after[i, h, q] - plain[i, h, q]).clamp(min=0).sum())
        for i in range(3)
        for h in (1, 2)
        for q in range(9)
    ]
    assert attention_moved(Quiz(name="ids", model=model, windows=ids), edit) == pytest.approx(
        np.mean(rows), abs=1e-6
    )
    assert np.mean(rows) > 0.01


def test_windows_come_from_files_that_are_long_enough(bridge_of):
    model, rng = bridge_of("gpt2"), np.random.default_rng(0)
    long, short = " ".join(f"w{10 + i}" for i in range(30)), "w90 w91 w92"
    found = windows_of(model, (short, long, short), n=6, size=12, rng=rng)
    begins = model.tokenizer.bos_token_id
    ids = model.to_tokens(long)[0].tolist()[1:]
    assert found.shape == (6, 12) and (found[:, 0] == begins).all()
    runs = {tuple(ids[i : i + 11]) for i in range(20)}
    assert {tuple(row[1:].tolist()) for row in found} <= runs and len(runs) == 20
    assert len(windows_of(model, (long,) * 3, n=2, size=12, rng=rng)) == 2  # not one of each file
    for files, n in (((short, short), 6), ((long,), 1)):
        with pytest.raises(OptionError, match="at least 2"):
            windows_of(model, files, n=n, size=12, rng=rng)


def test_the_text_of_the_study_is_split_by_file():
    """Windows to choose heads and windows to judge them have no file in common."""
    from workbench.model.open import open_model
    from workbench.training.language import is_held_out, sources

    model, options = open_model("zoo:stdlib"), study.CalibrationSizes(windows=8, window=16)
    setting = Setting(model=model, name="zoo:stdlib", options=options)
    chosen, judged = (quiz.windows for quiz in study.held_out_quizzes(setting))
    assert chosen.shape == judged.shape == (4, 16)
    files = [text for name, text in sorted(sources().items()) if is_held_out(name)]
    first = [model.to_tokens(text, truncate=False)[0].tolist() for text in files[: len(files) // 2]]
    for row in chosen[:, 1:].tolist():
        assert any(row == ids[i : i + 15] for ids in first for i in range(len(ids) - 14))
