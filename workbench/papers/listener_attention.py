"""Whom a listener attends to: a noisy signal names one of two speakers, and the model answers about that one.

The paper decodes from recordings of a brain which of two speakers is attended to, and gives a language model for sound
a token that says so. Only the abstract was read. Here two speakers take turns in one text: each gives a name and says a
number, among other words. A drawn signal at 32 electrodes is a fixed random mixture of the attended speaker's *voice*
(what the model reads in the place of that name), plus noise. A linear probe turns the signal into a voice, and this
vector stands in the place of the name in the question. What is asked is which number the attended speaker said. The
probe never saw the names of the talks that are reported.

Electrodes, penalty and noise were chosen on other talks. The noise, twice the spread of voices, is where the probe errs
in about one talk of five: with less there is little to tell right from wrong. The table shows other amounts. Who is
attended to is a fair coin.

Controls:
- no signal: the probe's mean voice
- the signal of the other speaker
- the signal of another talk, in which two others speak
- a probe fitted to signals that were dealt to other voices
- the name itself
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.loading import lazily
from workbench.core.stats.intervals import SHARE
from workbench.core.stats.permutation import derangement
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, no_worse, tells
from workbench.papers.kit.frames import RECONSTRUCTED, Control, Extension, Reconstructed
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.tasks.listeners import draw_talks, mixture, signals

with lazily():
    from workbench.edits import documents
    from workbench.heads import listener_token

# Criteria, fixed before anything was measured.
KNOWS, WITHIN = 0.9, 0.02
FIRST_SEED = 58_000_000  # talks of this paper: no other seed of talks is near
SIGNAL, NONE, WRONG = "signal", "no signal", "signal of the other speaker"
ANOTHER, NAME = "signal of another talk", "the name itself"
DECODED, DEALT, MARGIN = "decoded", "decoded by a probe of dealt signals", "margin"
NOISES = (0.0, 1.0, 4.0)
NO_BRAIN = "no recordings of listeners can be had here, and no model that hears"


@dataclass(frozen=True, kw_only=True)
class ListenerSizes(Sizes):
    """Talks, and what is measured while they are heard."""

    talks: int = size(400, "that are reported", least=4)
    fitted: int = size(400, "signals that the probe is fitted to, of other names", least=4)
    electrodes: int = size(32, "at which a signal is measured", least=1)
    noise: float = size(2.0, "of a signal, in spreads of voices")
    penalty: float = size(0.01, "of the probe's ridge regression", least=0)
    length: int = size(48, "words of a talk", least=8)


def follows(kind: str) -> str:
    """The condition that answers follow the attended speaker, with this kind of token."""
    return f"follows, {kind}"


def measure(setting: Setting) -> Conditions:
    """Fit the probe on half of the names, and ask about talks of the other half with every kind of token.

    Raises:
        ModelError: for a model in which a token cannot be replaced by a vector.
    """
    o, model, seed = setting.options, setting.model, FIRST_SEED + 1000 * setting.seed
    words = documents.words_of(model, seed=setting.seed)
    voices = listener_token.voices_of(model, words.keys.tolist())
    rng = np.random.default_rng(seed)
    known, new = np.array_split(rng.permutation(len(words.keys)), 2)
    ids = (words.keys.tolist(), words.values.tolist(), words.fillers.tolist())
    talks = draw_talks(*ids, among=new.tolist(), n=o.talks, length=o.length, seed=seed + 1)
    mixed = mixture(o.electrodes, voices.shape[1], seed=seed + 2)
    spoke = voices[rng.choice(known, o.fitted)]
    heard, other = voices[talks.heard], voices[talks.other]
    around = [np.tile(np.array(part, int), (o.talks, 1)) for part in (words.before, words.query)]
    asked = np.concatenate([around[0], talks.words, around[1], talks.words[:, :1]], 1)
    said = np.stack([talks.said[np.arange(o.talks), k] for k in (talks.attended, 1 - talks.attended)], 1)

    def answers(tokens: np.ndarray) -> np.ndarray:
        told = listener_token.told_after(model, asked, tokens, said)
        return (told[:, 0] > told[:, 1]).astype(float)

    def decode(noise: float) -> tuple[np.ndarray, np.ndarray, listener_token.VoiceProbe]:
        seen = signals(spoke, mixed, noise=noise, seed=seed + 3)
        probe = listener_token.fit_voice_probe(seen, spoke, penalty=o.penalty)
        return signals(heard, mixed, noise=noise, seed=seed + 4), seen, probe

    c = Conditions(within=SHARE, unit="share of talks", seed=setting.seed)
    measured, seen, probe = decode(o.noise)
    tokens = probe.tokens(measured)
    margin = listener_token.decoded_margin(tokens, heard, other)
    dealt = listener_token.fit_voice_probe(seen, spoke[derangement(o.fitted, rng)], penalty=o.penalty)
    c[DECODED] = (margin > 0).astype(float)
    guessed = listener_token.decoded_margin(dealt.tokens(measured), heard, other)
    c[DEALT] = (guessed > 0).astype(float)
    c.add(MARGIN, margin, unit="difference of two cosines")
    wrong = probe.tokens(signals(other, mixed, noise=o.noise, seed=seed + 5))
    kinds = {SIGNAL: tokens, NONE: np.tile(probe.voice_mean, (o.talks, 1)), WRONG: wrong}
    kinds |= {ANOTHER: tokens[derangement(o.talks, rng)], NAME: heard}
    for i, (kind, put) in enumerate(kinds.items()):
        setting.progress(i, len(kinds), "tokens")
        c[follows(kind)] = answers(put)
    rows = []
    for noise in NOISES:
        again, _, other_probe = decode(noise)
        told = other_probe.tokens(again)
        right = listener_token.decoded_margin(told, heard, other) > 0
        rows.append({"noise": noise, "decoded": right.mean(), "follows": answers(told).mean()})
    rows.append({"noise": o.noise, "decoded": c.mean(DECODED), "follows": c.mean(follows(SIGNAL))})
    c.tables["Amounts of noise"] = sorted(rows, key=lambda row: float(row["noise"]))
    return c


ABLE = needs(
    at_least(follows(NAME), KNOWS),
    f"told the name itself, answers follow that speaker in {{{follows(NAME)}:.0%}} of the talks; 90% is asked for",
)
CLAIMS = {
    "decodes": Claim(
        "which speaker is attended to can be decoded from the signal",
        above(DECODED, by=0.5),
        why="one of two speakers is guessed in half of the talks; their names are none that the probe was fitted to",
        where=f"{RECONSTRUCTED}; on drawn signals, an extension of ours",
    ),
    "fitted": Control(
        "the probe decodes more often than one that was fitted to dealt signals",
        above(DECODED, DEALT),
        why="the same signals and voices, dealt to each other so that no signal keeps its own trial's",
    ),
    "follows": Reconstructed(
        "conditioned on what was decoded, answers follow the attended speaker",
        above(follows(SIGNAL), follows(NONE)),
        why="without a signal the token tells of neither speaker; the texts are the same",
        needs=[ABLE],
    ),
    "own": Control(
        "answers follow the attended speaker more often than with the signal of another talk",
        above(follows(SIGNAL), follows(ANOTHER)),
        why="the token of another talk is as large and as much a voice, of somebody who mostly does not speak here",
        needs=[ABLE],
    ),
    "wrong": Control(
        "with the signal of the other speaker, answers follow the other speaker",
        above(follows(NONE), follows(WRONG)),
        why="less often than without a signal do they follow the attended one",
        needs=[ABLE],
    ),
    "margin": Extension(
        "answers go astray where decoding does",
        tells(MARGIN, follows(SIGNAL)),
        why="how surely the right speaker is decoded tells talks in which the answer follows from the others",
        needs=[ABLE],
    ),
    "name": Extension(
        "the decoded token is worth as much as the name itself",
        no_worse(follows(SIGNAL), follows(NAME), within=WITHIN),
        why="two points of a hundred are what may be lost, interval included",
        needs=[ABLE],
    ),
    "brain": untried(
        "the attended speaker is decoded from intracranial recordings of listeners",
        "accuracy over speakers",
        NO_BRAIN,
        where=RECONSTRUCTED,
    ),
    "speech": untried(
        "descriptions, transcriptions and answers about speech follow the listener's intention",
        "objective and subjective ratings of the paper",
        NO_BRAIN,
        where=RECONSTRUCTED,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="listener-attention",
        source="AAD-LLM 2025",
        model="zoo:kv",
        options=ListenerSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
