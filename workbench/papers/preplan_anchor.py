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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.agreement import jaccard, pearson
from workbench.core.stats.intervals import CHANGE
from workbench.core.stats.multiplicity import holm
from workbench.core.stats.permutation import p_above, sign_flip_p
from workbench.heads import anchors
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, fact, given_p, order
from workbench.papers.registry import add_paper
from workbench.view.pictures import Curves, Heatmap

with lazily():
    from workbench.heads import responses
    from workbench.training import language

ALPHA, SAME_GROUPS = 0.05, 0.6  # fixed before anything was measured


@dataclass(frozen=True, kw_only=True)
class PreplanSizes:
    """Sizes and thresholds; the paper's where it states them.

    ``grouping`` responses choose the head groups, ``responses`` others are analysed; tokens are swapped at every
    ``stride``-th place (fewer lengths, fewer passes). ``planted`` is a check that
    verdicts can go the other way: ``entropy`` puts the entropy of each token in place of WAAD, ``fai`` puts FAI
    there, ``noise`` puts random numbers in place of FAI.
    """

    grouping: int = 24
    responses: int = 70
    prompt: int = 24
    length: int = 127
    temperature: float = 0.7
    window: int = 10
    low: int = 10
    group: float = 0.3
    share: float = 0.4
    within: int = 1
    rollout: int = 30
    stride: int = 4
    draws: int = 300
    planted: str = "none"

    def __post_init__(self) -> None:
        if self.planted not in ("none", "entropy", "fai", "noise"):
            raise OptionError(f"planted is {self.planted!r}; one of none, entropy, fai, noise")


def measure(setting: Setting) -> Conditions:
    """Curves of responses that the model writes itself; punctuation is left out, and shown beside."""
    model, o, seed = setting.model, setting.options, setting.seed
    places = {"start": o.prompt, "low": o.low}
    write = {"prompt": o.prompt, "length": o.length, "least": 4 * o.low, "temperature": o.temperature}
    texts = language.known_texts(getattr(model, "tokenizer", None))
    try:
        grouping = responses.respond(model, texts, n=o.grouping, seed=seed, **write)
        written = responses.respond(model, texts, n=o.responses, seed=seed + 1, **write)
    except WorkbenchError as problem:
        return Conditions(why=problem.message)
    groups, again = (
        responses.group_heads(model, ids, share=o.group, **places) for ids in (grouping, written)
    )
    found = responses.responses_of(model, written, groups, window=o.window, **places)
    found = [_planted(response, o.planted) for response in found]
    setting.progress(1, 2, "responses")
    how = {"share": o.share, "rollout": o.rollout, "stride": o.stride, "seed": seed}
    swapped = responses.swaps(model, found, [r.fai for r in found], **how)
    moved = [np.roll(r.fai, len(r.fai) // 3) for r in found]
    control = responses.swaps(model, found, moved, **how)
    setting.progress(2, 2, "responses")
    c = Conditions(seed=seed)
    _of_groups(c, groups, again, o)
    _of_peaks(c, found, o)
    of_coupling(c, found, o)
    of_swaps(c, swapped, control)
    c.tables["Tokens by role"] = [
        _roles("words", found, [r.wordlike for r in found], o),
        _roles("all tokens", found, [np.ones(len(r.tokens), dtype=bool) for r in found], o),
    ]
    texts = [repr(model.tokenizer.decode([int(token)]))[1:-1] for token in found[0].tokens]
    _pictures(c, found[0], texts)
    return c


def _planted(response: responses.Response, what: str) -> responses.Response:
    """The response with a curve of a known answer in place of a measured one."""
    if what == "none":
        return response
    if what == "noise":
        rng = np.random.default_rng(response.ids.tolist())
        noise = np.where(np.isfinite(response.fai), rng.random(len(response.fai)), np.nan)
        return replace(response, fai=noise)
    return replace(response, waad=getattr(response, what))


def _of_groups(c: Conditions, groups: responses.Groups, again: responses.Groups, o: PreplanSizes) -> None:
    """Spans of both groups and how alike other responses cut them."""
    masks = {"local": groups.local, "global": groups.far, "receiver": groups.receiver}
    others = {"local": again.local, "global": again.far}
    alike = [jaccard(groups.names(masks[kind]), again.names(other)) for kind, other in others.items()]
    c.numbers |= {f"{kind} span": float(groups.span[mask].mean()) for kind, mask in masks.items()}
    c.numbers["uniform span"] = float((np.arange(o.prompt, o.length) / 2).mean())  # over t + 1 keys: t / 2
    c.numbers |= {"window": o.window, "same groups again": min(alike), "heads": groups.span.numel()}
    c.tables["Head groups"] = [
        {"group": kind, "heads": ", ".join(groups.names(mask)), "mean span": c.numbers[f"{kind} span"]}
        for kind, mask in masks.items()
    ]
    c.pictures["Span of every head"] = Heatmap.of_heads(
        groups.span.numpy(), groups.layers, unit="tokens", title="How far each head looks back"
    )


def _of_peaks(c: Conditions, found: Sequence[responses.Response], o: PreplanSizes) -> None:
    """WAAD at first tokens of words, of the row that reads one and of the row that writes it; entropy at WAAD peaks."""
    words, begin = [r.wordlike for r in found], [r.starts for r in found]
    before, then = ([np.append(m[1:], False) for m in marks] for marks in (begin, words))
    waad, peaks = [r.waad for r in found], [anchors.peaks(r.waad, o.share) for r in found]
    unit = "tokens: WAAD at first tokens minus inside words"
    _compared(c, unit, {"sawtooth": (waad, begin, words), "planning": (waad, before, then)}, o.draws)
    unit, now = "nats: entropy at WAAD peaks minus elsewhere", [r.entropy for r in found]
    after = [r.next_entropy for r in found]
    _compared(c, unit, {"entropy": (now, peaks, words), "next": (after, peaks, words)}, o.draws)


def _compared(c: Conditions, unit: str, cases: Mapping[str, Any], draws: int) -> None:
    """A curve at marked and at other tokens, for two readings of one claim (Holm)."""
    ps = {}
    for key, (curves, marks, eligible) in cases.items():
        c.add(key, anchors.marked_minus_others(curves, marks, eligible), unit=unit)
        ps[key], c.numbers[f"{key}, by chance"] = anchors.shift_p(
            curves, marks, eligible, draws=draws, seed=c.seed
        )
        for where, side in (("at marks", marks), ("elsewhere", [~m for m in marks])):
            parts = [v[w & s] for v, w, s in zip(curves, eligible, side, strict=True)]
            c.numbers[f"{key}, {where}"] = float(np.nanmean(np.concatenate(parts)))
    for key, p in zip(ps, holm(list(ps.values())), strict=True):
        c.numbers[f"{key}, p"] = float(p)


def of_coupling(c: Conditions, found: Sequence[responses.Response], o: PreplanSizes) -> None:
    """FAI peaks with receiver peaks; with and after WAAD peaks, also within kinds of tokens; and by distance."""
    words, every = [r.wordlike for r in found], [np.ones(len(r.tokens), dtype=bool) for r in found]
    early, third = (
        [anchors.peaks(getattr(r, name), o.share) for r in found] for name in ("waad", "receivers")
    )

    def coupled(allowed: Sequence[Any], other: Sequence[Any], **how: Any) -> tuple[float, np.ndarray, int]:
        late = [anchors.peaks(r.fai, o.share) & a for r, a in zip(found, allowed, strict=True)]
        can = [a & np.isfinite(r.fai) for r, a in zip(found, allowed, strict=True)]
        value = anchors.share_followed(late, other, within=how["within"])
        return (
            value,
            anchors.chance(late, other, eligible=can, seed=c.seed, **how),
            sum(m.sum() for m in late),
        )

    for key, other, within, groups in (
        ("receivers", third, 0, None),
        ("coupling", early, o.within, None),
        ("beyond", early, o.within, [r.kinds for r in found]),
    ):
        value, null, n = coupled(words, other, within=within, groups=groups, draws=o.draws)
        c.tell(key, value, control=f"{null.mean():.1%} by chance", n=int(n))
        c.numbers[f"{key}, p"] = p_above(value, null)
    c.tables["Coupling by distance, with and without punctuation"] = rows = []
    sides = {"words": words, "punctuation": [~w for w in words], "all tokens": every}
    for name, within in ((name, within) for name in sides for within in range(4)):
        value, null, n = coupled(sides[name], early, within=within, draws=100)
        row = {"FAI peaks at": name, "WAAD peak up to tokens before": within, "share": value}
        rows.append(row | {"by chance": null.mean(), "n": int(n)})


def of_swaps(c: Conditions, swapped: Sequence[responses.Swap], control: Sequence[responses.Swap]) -> None:
    """Low minus high likeness, pair by pair; the control has the FAI of another place."""
    apart, shifted = responses.low_minus_high(swapped), responses.low_minus_high(control)
    c.numbers |= {"pairs": len(apart), "perturb, shifted": float(shifted.mean()) if len(shifted) else None}
    if len(apart):
        c.add("perturb", apart, within=CHANGE, unit="Jaccard: low-FAI minus high-FAI swaps")
        c.numbers["perturb, p"] = sign_flip_p(apart, seed=[c.seed, 5])
    c.tables["Swapped tokens"] = rows = []
    for kind in ("high", "low"):
        own, other = ([s for s in side if s.kind == kind] for side in (swapped, control))
        alike, moved = (float(np.mean([s.alike for s in side])) for side in (own, other))
        entropy, place = np.mean([(s.entropy, s.token) for s in own], axis=0)
        row = {"FAI": kind, "alike": alike, "alike, shifted FAI": moved, "entropy of the token": entropy}
        rows.append(row | {"place in the response": place, "n": len(own)})
        c.numbers[f"alike, {kind}"] = alike


def _roles(
    name: str, found: Sequence[responses.Response], sides: Sequence[Any], o: PreplanSizes
) -> dict[str, Any]:
    """How many tokens play which part, their mean credit, and how WAAD and FAI go together."""
    own = [anchors.roles(r.waad, r.fai, share=o.share, eligible=s) for r, s in zip(found, sides, strict=True)]
    known = [s & np.isfinite(r.fai) for r, s in zip(found, sides, strict=True)]
    counts = {
        "preplan": [r.preplan for r in own],
        "anchors": [r.anchor for r in own],
        "dominated anchors": [r.dominated for r in own],
        "introducers": [r.introduces > 0 for r in own],
    }
    return {
        "tokens": name,
        **{part: int(sum(marks.sum() for marks in each)) for part, each in counts.items()},
        "mean credit": float(np.concatenate([anchors.credit(r) for r in own]).mean()),
        "r of WAAD and FAI": np.nanmean(
            [pearson(r.waad[k], r.fai[k]) for r, k in zip(found, known, strict=True)]
        ),
    }


def _pictures(c: Conditions, response: responses.Response, texts: Sequence[str]) -> None:
    """The curves of one response, over its tokens and token by token."""
    scale = 10 / (float(np.nanmax(response.fai)) or 1.0)
    curves = {"WAAD": response.waad, "FAI, largest = 10": scale * response.fai, "entropy": response.entropy}
    c.pictures["One response"] = Curves.of(
        {name: list(enumerate(values.tolist())) for name, values in curves.items()},
        x_label="token of the response",
        y_label="tokens; nats",
        title="WAAD, FAI and entropy of one response",
        width=900,
    )
    first = np.stack([values[:60] for values in curves.values()])
    c.pictures["Its first tokens"] = Heatmap.of(
        first, list(curves), texts[:60], title="The same, token by token", show_values=False
    )


def _chunk(key: str, says: str, criterion: str, why: str, where: str) -> Claim:
    return Claim(
        says,
        fact("longer", lambda c: c.mean(key) > 0, key) & given_p(f"{key}, p"),
        criterion,
        why=why,
        where=where,
        found=f"{{{key}:+.2f}} tokens, p {{{key}, p:.3g}}",
        control=f"{{{key}, by chance:+.2f}} for shifted words",
    )


def _entropy(key: str, says: str, criterion: str, why: str, where: str, paper: str | None = None) -> Claim:
    found = f"{{{key}, at marks:.2f}} nats; difference {{{key}:+.2f}} [{{low of {key}:+.2f}}, {{high of {key}:+.2f}}], "
    return Claim(
        says,
        above(key) & given_p(f"{key}, p"),
        criterion,
        paper=paper,
        why=why,
        where=where,
        found=found + f"p {{{key}, p:.3g}}",
        control=f"{{{key}, elsewhere:.2f}} elsewhere",
    )


def _coupled(key: str, says: str, criterion: str, why: str, where: str, paper: str | None = None) -> Claim:
    found = f"{{{key}:.1%}}, p {{{key}, p:.3g}}"
    return Claim(
        says,
        replace(given_p(f"{key}, p"), name=key),
        criterion,
        paper=paper,
        why=why,
        where=where,
        found=found,
    )


READ = "the paper does not say whether a peak is of the token read or the token written"
NO_REWARD = "no built-in model reasons about problems that can be checked, so there is no reward to train on"
CLAIMS = {
    "groups": Claim(
        "some heads look near, others far",
        order("window", "local span")
        & order("global span", "uniform span")
        & at_least("same groups again", SAME_GROUPS),
        "local heads look less far than the window and global heads farther than a uniform head on average, and "
        f"other responses give the same groups (Jaccard at least {SAME_GROUPS:g})",
        why="a 30 % share can always be cut off; near, far and stable is more than that",
        where="section 2.1",
        found="local {local span:.1f}, global {global span:.1f} tokens; the same groups again: {same groups again:.2f}",
        control="uniform head {uniform span:.1f}",
        n="{heads}",
    ),
    "sawtooth": _chunk(
        "sawtooth",
        "WAAD is high at the first token of a chunk and low inside it",
        f"mean WAAD at the first tokens of words above that inside words, p < {ALPHA:g} against shifts (Holm, with the "
        "next claim)",
        "words are the chunks that a small model of code has",
        "section 2.2",
    ),
    "planning": _chunk(
        "planning",
        "WAAD is high in the row from which the first token of a chunk is written",
        "the same for the rows before the first tokens of words (Holm, with the claim before)",
        READ,
        "a second reading of ours of section 2.2",
    ),
    "entropy": _entropy(
        "entropy",
        "tokens at WAAD peaks were hard to predict",
        "their entropy is higher than elsewhere: lower end of the interval above 0, and p below "
        f"{ALPHA:g} against shifts (Holm, with the next claim)",
        "the paper's comparison; shifting keeps peaks and entropies, and loses only their alignment",
        "section 2.2, 0.361 against 0.239",
        "0.361 against 0.239",
    ),
    "next": _entropy(
        "next",
        "the token written from a WAAD peak's row is hard to predict",
        "the same for the distribution after the peak (Holm, with the claim before)",
        READ,
        "a second reading of ours of section 2.2",
    ),
    "receivers": _coupled(
        "receivers",
        "FAI peaks are where receiver heads look",
        f"share of FAI peaks at words that are at a peak of receiver heads above that of shifted peaks, p < {ALPHA:g}",
        "receiver heads are chosen by kurtosis among the heads that are not global, so agreement is no identity",
        "section 2.3",
        "60.8 % against 22.4 %",
    ),
    "coupling": _coupled(
        "coupling",
        "an FAI peak comes with or after a WAAD peak",
        f"share of FAI peaks at words with a WAAD peak at the same token or just before above chance, p < {ALPHA:g} "
        "against shifts",
        "shifts along the tokens that can be such peaks keep how many there are and how they are spaced",
        "section 2.4",
        "52.5 % against 36.9 %",
    ),
    "beyond": _coupled(
        "beyond",
        "and not only because both follow words and punctuation",
        f"the same against peaks dealt anew among tokens of the same kind, p < {ALPHA:g}",
        "kind of token: punctuation or not, beginning of a word or not, half of the response",
        "a control of ours",
    ),
    "perturb": Claim(
        "another token at a high-FAI place changes what follows more",
        above("perturb") & given_p("perturb, p"),
        f"Jaccard of the continuations smaller than for low-FAI places: interval above 0, sign-flip p < {ALPHA:g}",
        paper="0.534 against 0.631",
        why="pairs in one response close to each other, words only, equally long continuations",
        where="section 2.3, 0.534 against 0.631",
        needs=[
            needs(at_least("pairs", 10), "only {pairs} responses have words of both kinds; 10 are needed")
        ],
        found="{alike, high:.3f} against {alike, low:.3f}; difference {perturb:+.3f} [{low of perturb:+.3f}, "
        "{high of perturb:+.3f}], p {perturb, p:.3g}",
        control="{perturb, shifted:+.3f} with FAI shifted by a third of the response",
    ),
    "credit": untried(
        "training with credit for preplan and anchor tokens gives better reasoners",
        "accuracy on Countdown after reinforcement learning above uniform credit",
        NO_REWARD,
        paper="Countdown 52.6 to 63.1, CrossThink-QA 48.0 to 50.1 (coupled credit)",
        where="section 5",
    ),
    "coupled": untried(
        "coupled credit is better than either alone",
        "accuracy on the same problems above that with credit for preplan tokens and for anchor tokens alone",
        NO_REWARD,
        why="coupling is what the credit adds to the two",
        where="section 5",
    ),
}
REPLICATION = add_paper(
    Paper(
        name="preplan-anchor",
        title="Attention Illuminates LLM Reasoning: The Preplan-and-Anchor Rhythm",
        source="Li et al., October 2025",
        model="zoo:stdlib",
        authors="Li et al. 2025, arXiv:2510.13554",
        options=PreplanSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
