"""Preplan and anchor: local heads look back before a chunk, global heads return to a few tokens after it.

Local heads look farther back before a new chunk: their windowed average attention distance (WAAD) peaks. Global heads
of later tokens go back to a few anchors, whose future attention influence (FAI) peaks. The two are coupled. Measured on
responses that the model writes at temperature 0.7; head groups are chosen on other responses than those analysed;
punctuation and white space are left out and shown beside.

Controls:
- peaks shifted around each response, among the tokens that can be peaks: spacing kept, alignment lost
- peaks dealt anew among tokens of the same kind: punctuation, beginnings of words, half of the response
- swaps at tokens chosen by the FAI of another place
- --set planted=entropy, fai or noise: curves with a known answer in place of the measured ones
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workbench.core.errors import WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.intervals import CHANGE
from workbench.core.stats.permutation import sign_flip_p
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, untried
from workbench.papers.kit.criteria import Criterion, above, at_least, below, beyond, less, more
from workbench.papers.kit.refusals import tell_all
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper

with lazily():
    from workbench.heads import peak_contrasts, responses, token_swaps
    from workbench.training import language

LOW, WINDOW = 10, 10  # tokens after one that do not count for its FAI; the farthest that counts for WAAD
FIRST = ("WAAD at first tokens", "WAAD inside words")
BEFORE = ("WAAD in rows before first tokens", "WAAD in rows before others")
PEAKS = ("entropy at WAAD peaks", "entropy elsewhere")
AFTER = ("entropy after WAAD peaks", "entropy after others")
SWAPS = ("likeness after high-FAI swaps", "likeness after low-FAI swaps")
LOCAL, FAR, UNIFORM = "span of local heads", "span of global heads", "span of a uniform head"
RECEIVED, COUPLED = "FAI peaks at receiver peaks", "FAI peaks with or after WAAD peaks"
BEYOND, PUNCTUATION = (f"{COUPLED}, {of}" for of in ("by kind of token", "of punctuation"))


@dataclass(frozen=True, kw_only=True)
class PreplanSizes(Sizes):
    """How much is written; ``planted`` is a check that verdicts can go the other way."""

    grouping: int = size(24, "responses that choose head groups")
    responses: int = size(70, "others that are analysed")
    prompt: int = size(24, "tokens of a prompt")
    length: int = size(127, "tokens of prompt and response")
    rollout: int = size(30, "tokens that are written after a swap")
    draws: int = size(300, "of peaks at random")
    planted: Literal["none", "entropy", "fai", "noise"] = size(
        "none", "a curve of a known answer: entropy or FAI in place of WAAD, or noise in place of FAI"
    )


def measure(setting: Setting) -> Conditions:
    """Curves of responses that the model writes itself; punctuation is left out, and shown beside."""
    model, o, seed = setting.model, setting.options, setting.seed
    write = {"prompt": o.prompt, "length": o.length, "least": 4 * LOW}
    texts = language.known_texts(getattr(model, "tokenizer", None))
    try:
        grouping = responses.respond(model, texts, n=o.grouping, seed=seed, **write)
        written = responses.respond(model, texts, n=o.responses, seed=seed + 1, **write)
    except WorkbenchError as problem:
        return Conditions(why=problem.message)
    places = {"start": o.prompt, "low": LOW, "window": WINDOW}
    groups, again, found = responses.observe(model, grouping, written, planted=o.planted, **places)
    c = Conditions(seed=seed)
    _of_groups(c, groups, again, o)
    tell_all(c, peak_contrasts.contrast_peaks(found, draws=o.draws, seed=seed))
    tell_all(c, peak_contrasts.couple_curves(found, draws=o.draws, seed=seed))
    of_swaps(c, *token_swaps.swap_both(model, found, rollout=o.rollout, seed=seed, tell=setting.progress))
    c.pictures["One response"] = found[0].picture()
    return c


def _of_groups(c: Conditions, groups: responses.Groups, again: responses.Groups, o: PreplanSizes) -> None:
    """Spans of the groups and how alike other responses cut them."""
    c.numbers |= {f"span of {kind} heads": span for kind, span in groups.spans().items()}
    c.numbers[UNIFORM] = float((np.arange(o.prompt, o.length) / 2).mean())  # over t + 1 keys: t / 2
    c.numbers |= {"window": WINDOW, "heads": groups.span.numel()}
    c.numbers["same groups again"] = groups.agreement(again)
    c.tables["Head groups"] = groups.table()
    c.draw_heads("Span of every head", groups.span.numpy(), unit="tokens")


def of_swaps(c: Conditions, swapped: Sequence[token_swaps.Swap], control: Sequence[token_swaps.Swap]) -> None:
    """How alike texts stay after a swap, pair by pair; the control has the FAI of another place."""
    apart, shifted = token_swaps.low_minus_high(swapped), token_swaps.low_minus_high(control)
    for name, kind in zip(SWAPS, ("high", "low"), strict=True):
        c.tell(name, float(np.mean([s.alike for s in swapped if s.kind == kind])), n=len(apart))
    if len(apart) < 10:
        c.lack(SWAPS[0], f"only {len(apart)} responses have words of both kinds; 10 are needed")
        return
    c.numbers["with FAI shifted"] = float(shifted.mean()) if len(shifted) else float("nan")
    both = " minus ".join(SWAPS)
    c.add(both, -apart, within=CHANGE, unit="Jaccard")
    c.tell(both, control=-c.numbers["with FAI shifted"], p=sign_flip_p(apart, seed=[c.seed, 5]))


READ = "the paper does not say whether a peak is of the token read or the token written"
NO_REWARD = "no built-in model reasons about problems that can be checked, so there is no reward to train on"


def _longer(pair: tuple[str, str]) -> Criterion:
    """WAAD is larger at marks than at other tokens, and more so than for shifted marks."""
    both = " minus ".join(pair)
    return more(both, 0) & beyond(both, "shifted words")


def _harder(pair: tuple[str, str]) -> Criterion:
    """Entropy is larger at peaks than elsewhere, and more so than for shifted peaks."""
    return above(*pair) & beyond(" minus ".join(pair), "shifted peaks")


CLAIMS = {
    "groups": Claim(
        "some heads look near, others far",
        less(LOCAL, "window") & more(FAR, UNIFORM) & at_least("same groups again", 0.6),
        why="a 30 % share can always be cut off; near, far and stable is more than that", where="section 2.1",
        found=f"local {{{LOCAL}:.1f}}, global {{{FAR}:.1f}} tokens; the same groups again: {{same groups again:.2f}}",
        control=f"uniform head {{{UNIFORM}:.1f}}", n="{heads}",
    ),
    "sawtooth": Claim(
        "WAAD is high at the first token of a chunk and low inside it", _longer(FIRST),
        why="words are the chunks that a small model of code has", where="section 2.2", family="first tokens",
    ),
    "planning": Claim(
        "WAAD is high in the row from which the first token of a chunk is written", _longer(BEFORE), why=READ,
        where="a second reading of ours of section 2.2", family="first tokens",
    ),
    "entropy": Claim(
        "tokens at WAAD peaks were hard to predict", _harder(PEAKS), paper="0.361 against 0.239",
        why="the paper's comparison; shifting keeps peaks and entropies, and loses only their alignment",
        where="section 2.2, 0.361 against 0.239", family="entropy",
    ),
    "next": Claim(
        "the token written from a WAAD peak's row is hard to predict", _harder(AFTER), why=READ,
        where="a second reading of ours of section 2.2", family="entropy",
    ),
    "receivers": Claim(
        "FAI peaks are where receiver heads look", beyond(RECEIVED, "shifted peaks"),
        paper="60.8 % against 22.4 %",
        why="receiver heads are chosen by kurtosis among the heads that are not global, so agreement is no identity",
        where="section 2.3",
    ),
    "coupling": Claim(
        "an FAI peak comes with or after a WAAD peak", beyond(COUPLED, "shifted peaks"),
        paper="52.5 % against 36.9 %",
        why="shifts along the tokens that can be such peaks keep how many there are and how they are spaced",
        where="section 2.4",
    ),
    "beyond": Claim(
        "FAI peaks come with WAAD peaks not only because both follow words and punctuation",
        beyond(BEYOND, "peaks dealt anew among tokens of the same kind"),
        why="kind of token: punctuation or not, beginning of a word or not, half of the response",
        where="a control of ours",
    ),
    "perturb": Claim(
        "another token at a high-FAI place changes what follows more",
        below(*SWAPS) & beyond(" minus ".join(SWAPS)), paper="0.534 against 0.631",
        why="Jaccard of the continuations; pairs in one response close to each other, words only, equally "
        "long continuations; p by sign flips",
        where="section 2.3, 0.534 against 0.631",
        control="{with FAI shifted:+.3f} with FAI shifted by a third of the response",
    ),
    "credit": untried(
        "training with credit for preplan and anchor tokens gives better reasoners",
        "accuracy on Countdown after reinforcement learning above uniform credit", NO_REWARD,
        paper="Countdown 52.6 to 63.1, CrossThink-QA 48.0 to 50.1 (coupled credit)", where="section 5",
    ),
    "coupled": untried(
        "coupled credit is better than either alone",
        "accuracy on the same problems above that with credit for preplan tokens and for anchor tokens alone",
        NO_REWARD, why="coupling is what the credit adds to the two", where="section 5",
    ),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="preplan-anchor", source="Li et al. 2025, arXiv:2510.13554", model="zoo:stdlib",
    options=PreplanSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
