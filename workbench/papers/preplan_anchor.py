"""Preplan and anchor: local heads look back before a chunk, global heads return to a few tokens after it.

Local heads look farther back before a new chunk (WAAD peaks), global heads of later tokens go back to a few anchors
(FAI peaks), and the two are coupled. Measured on responses that the model writes at temperature 0.7; head groups are
chosen on other responses than those analysed; punctuation and white space are left out and shown beside.

Controls:
- peaks shifted around each response, among the tokens that can be peaks: spacing kept, alignment lost
- peaks dealt anew among tokens of the same kind: punctuation, beginnings of words, half of the response
- swaps at tokens chosen by the FAI of another place
- --set planted=entropy, fai or noise: curves with a known answer in place of the measured ones
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workbench.core.errors import WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.agreement import jaccard
from workbench.core.stats.intervals import CHANGE
from workbench.core.stats.permutation import p_above, sign_flip_p
from workbench.heads import anchors
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, untried
from workbench.papers.kit.criteria import Criterion, above, at_least, below, beyond, less, more
from workbench.papers.options import Sizes, size
from workbench.papers.registry import add_paper
from workbench.view.pictures import Curves

with lazily():
    from workbench.heads import responses
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
    places = {"start": o.prompt, "low": LOW}
    write = {"prompt": o.prompt, "length": o.length, "least": 4 * LOW}
    texts = language.known_texts(getattr(model, "tokenizer", None))
    try:
        grouping = responses.respond(model, texts, n=o.grouping, seed=seed, **write)
        written = responses.respond(model, texts, n=o.responses, seed=seed + 1, **write)
    except WorkbenchError as problem:
        return Conditions(why=problem.message)
    groups, again = (responses.group_heads(model, ids, **places) for ids in (grouping, written))
    measured = responses.responses_of(model, written, groups, window=WINDOW, **places)
    found = [responses.with_known_curve(response, o.planted) for response in measured]
    how = {"rollout": o.rollout, "seed": seed}
    own, moved = [r.fai for r in found], [np.roll(r.fai, len(r.fai) // 3) for r in found]
    c = Conditions(seed=seed)
    _of_groups(c, groups, again, o)
    _of_peaks(c, found, o.draws)
    _of_coupling(c, found, o.draws)
    of_swaps(c, *(responses.swaps(model, found, fai, **how) for fai in setting.each((own, moved), "swaps")))
    scale = 10 / (float(np.nanmax(found[0].fai)) or 1.0)
    curves = {"WAAD": found[0].waad, "FAI, largest = 10": scale * found[0].fai, "entropy": found[0].entropy}
    points = {name: list(enumerate(values.tolist())) for name, values in curves.items()}
    c.pictures["One response"] = Curves.of(points, x_label="token of the response", y_label="tokens; nats")
    return c


def _of_groups(c: Conditions, groups: responses.Groups, again: responses.Groups, o: PreplanSizes) -> None:
    """Spans of the groups and how alike other responses cut them."""
    cuts = ((groups.local, again.local), (groups.far, again.far))
    same = [jaccard(groups.names(here), groups.names(there)) for here, there in cuts]
    masks = {"local": groups.local, "global": groups.far, "receiver": groups.receiver}
    c.numbers |= {f"span of {kind} heads": float(groups.span[mask].mean()) for kind, mask in masks.items()}
    c.numbers[UNIFORM] = float((np.arange(o.prompt, o.length) / 2).mean())  # over t + 1 keys: t / 2
    c.numbers |= {"window": WINDOW, "same groups again": min(same), "heads": groups.span.numel()}
    c.tables["Head groups"] = [{kind: ", ".join(groups.names(mask)) for kind, mask in masks.items()}]
    c.draw_heads("Span of every head", groups.span.numpy(), unit="tokens")


def _of_peaks(c: Conditions, found: Sequence[responses.Response], draws: int) -> None:
    """WAAD at first tokens of words, of the row that reads one and of the row that writes it; entropy at WAAD peaks."""
    words, begin = [r.wordlike for r in found], [r.starts for r in found]
    before, then = ([np.append(m[1:], False) for m in marks] for marks in (begin, words))
    waad, peaks = [r.waad for r in found], [anchors.peaks(r.waad) for r in found]
    now, after = [r.entropy for r in found], [r.next_entropy for r in found]
    cases = {FIRST: (waad, begin, words), BEFORE: (waad, before, then)}
    cases |= {PEAKS: (now, peaks, words), AFTER: (after, peaks, words)}
    for (name, other), (curves, marks, eligible) in cases.items():
        both = f"{name} minus {other}"
        apart = anchors.marked_minus_others(curves, marks, eligible)
        c.add(both, apart, unit="tokens" if curves is waad else "nats")
        p, null = anchors.shift_p(curves, marks, eligible, draws=draws, seed=c.seed)
        c.tell(both, control=null, p=p)
        for where, side in ((name, marks), (other, [~m for m in marks])):
            values = [v[w & s] for v, w, s in zip(curves, eligible, side, strict=True)]
            c.tell(where, float(np.nanmean(np.concatenate(values))), n=len(apart))


def _of_coupling(c: Conditions, found: Sequence[responses.Response], draws: int) -> None:
    """FAI peaks with receiver peaks; with and after WAAD peaks, also within kinds of tokens; punctuation beside."""
    words, kinds = [r.wordlike for r in found], [r.kinds for r in found]
    early, third = ([anchors.peaks(getattr(r, name)) for r in found] for name in ("waad", "receivers"))
    cases: dict[str, Any] = {RECEIVED: (words, third, 0, None), COUPLED: (words, early, 1, None)}
    cases |= {BEYOND: (words, early, 1, kinds), PUNCTUATION: ([~w for w in words], early, 1, None)}
    for name, (allowed, other, within, groups) in cases.items():
        late = [anchors.peaks(r.fai) & a for r, a in zip(found, allowed, strict=True)]
        can = [a & np.isfinite(r.fai) for r, a in zip(found, allowed, strict=True)]
        how: dict[str, Any] = {"within": within, "groups": groups, "draws": draws, "seed": c.seed}
        null = anchors.chance(late, other, eligible=can, **how)
        value, n = anchors.share_followed(late, other, within=within), int(sum(m.sum() for m in late))
        c.tell(name, value, control=null.mean(), n=n, p=p_above(value, null))


def of_swaps(c: Conditions, swapped: Sequence[responses.Swap], control: Sequence[responses.Swap]) -> None:
    """How alike texts stay after a swap, pair by pair; the control has the FAI of another place."""
    apart, shifted = responses.low_minus_high(swapped), responses.low_minus_high(control)
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
        "and not only because both follow words and punctuation",
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
