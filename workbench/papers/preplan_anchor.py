"""Preplan and anchor (2025): local heads look back before a chunk, global heads return to a few tokens after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.core.errors import WorkbenchError
from workbench.core.stats.agreement import jaccard, pearson
from workbench.core.stats.intervals import CHANGE
from workbench.core.stats.multiplicity import holm
from workbench.core.stats.permutation import p_above, sign_flip_p
from workbench.heads.anchors import Marks, chance, credit, peaks, roles, share_followed
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, above, fact, given_p, needs
from workbench.papers.options import PreplanSizes
from workbench.papers.preplan_anchor_measures import (
    Groups,
    Response,
    Swap,
    group_heads,
    respond,
    responses_of,
    swaps,
)
from workbench.view.pictures import Curves, Heatmap, Picture

ALPHA, SAME_GROUPS = 0.05, 0.6  # fixed before anything was measured


def measure(setting: Setting) -> Conditions:
    """Curves of responses that the model writes itself; punctuation is left out, and shown beside."""
    model, options, seed = setting.model, setting.options, setting.seed
    try:
        grouping = respond(model, options, n=options.grouping, seed=seed)
        written = respond(model, options, n=options.responses, seed=seed + 1)
    except WorkbenchError as problem:
        return Conditions(why=problem.message)
    groups, again = group_heads(model, grouping, options), group_heads(model, written, options)
    found = responses_of(model, written, groups, options)
    setting.progress(1, 2, "responses")
    swapped = swaps(model, found, options, seed=seed)
    moved = [np.roll(r.fai, len(r.fai) // 3) for r in found]
    control = swaps(model, found, options, seed=seed, values=moved)
    setting.progress(2, 2, "responses")
    c = Conditions(seed=seed)
    c.numbers |= {"tokens": sum(len(r.tokens) for r in found), "responses": len(found)}
    _of_groups(c, groups, again, options)
    _of_chunks(c, found, options, seed)
    _of_entropy(c, found, options, seed)
    _of_coupling(c, found, options, seed)
    of_swaps(c, swapped, control)
    c.tables["Coupling by distance, with and without punctuation"] = _by_distance(found, options, seed)
    c.tables["Tokens by role"] = _role_rows(found, options)
    c.pictures |= _pictures(model, groups, found)
    return c


def _of_groups(c: Conditions, groups: Groups, again: Groups, options: PreplanSizes) -> None:
    """Spans of both groups and how alike other responses cut them."""
    at = np.arange(options.prompt, options.length)
    c.numbers |= {
        "local span": float(groups.span[groups.local].mean()),
        "global span": float(groups.span[groups.far].mean()),
        "uniform span": float((at / 2).mean()),  # a row over t + 1 keys looks t / 2 back on average
        "window": options.window,
        "heads": groups.span.numel(),
        "same groups again": min(
            jaccard(groups.names(getattr(groups, kind)), again.names(getattr(again, kind)))
            for kind in ("local", "far")
        ),
    }
    c.tables["Head groups"] = [
        {"group": kind, "heads": ", ".join(groups.names(mask)), "mean span": float(groups.span[mask].mean())}
        for kind, mask in (("local", groups.local), ("global", groups.far), ("receiver", groups.receiver))
    ]


def difference(values: Sequence[np.ndarray], marks: Sequence[Marks], eligible: Sequence[Marks]) -> np.ndarray:
    """Mean at marked minus mean at other eligible tokens, per response that has both."""
    found = []
    for value, mark, allowed in zip(values, marks, eligible, strict=True):
        known = allowed & np.isfinite(value)
        if (known & mark).any() and (known & ~mark).any():
            found.append(value[known & mark].mean() - value[known & ~mark].mean())
    return np.array(found)


def shift_p(
    values: Sequence[np.ndarray], marks: Sequence[Marks], eligible: Sequence[Marks], *, draws: int, seed: int
) -> tuple[float, float]:
    """How likely marks shifted around each response differ as much, and the mean difference of shifted marks."""
    value, rng = difference(values, marks, eligible).mean(), np.random.default_rng([seed, 21])
    null = np.array(
        [
            difference(values, [np.roll(m, int(rng.integers(1, len(m)))) for m in marks], eligible).mean()
            for _ in range(draws)
        ]
    )
    null = null[np.isfinite(null)]  # shifts after which no response has both kinds of tokens are left out
    return p_above(float(value), null), float(null.mean())


def _of_chunks(c: Conditions, found: Sequence[Response], options: PreplanSizes, seed: int) -> None:
    """WAAD of the row that reads the first token of a word, and of the row that writes it."""
    curves, words, begin = [r.waad for r in found], [r.wordlike for r in found], [r.starts for r in found]
    before = [np.append(m[1:], False) for m in begin], [np.append(w[1:], False) for w in words]
    ps = {}
    for key, (marks, eligible) in {"sawtooth": (begin, words), "planning": before}.items():
        c.add(
            key, difference(curves, marks, eligible), unit="tokens: WAAD at first tokens minus inside words"
        )
        ps[key], c.numbers[f"{key}, by chance"] = shift_p(
            curves, marks, eligible, draws=options.draws, seed=seed
        )
    _corrected(c, ps)


def _of_entropy(c: Conditions, found: Sequence[Response], options: PreplanSizes, seed: int) -> None:
    """Entropy of the token at the peak, and of the token after it."""
    marks, words, ps = [peaks(r.waad, options.share) for r in found], [r.wordlike for r in found], {}
    for key, name in (("entropy", "entropy"), ("next", "next_entropy")):
        curves = [getattr(r, name) for r in found]
        c.add(key, difference(curves, marks, words), unit="nats: entropy at WAAD peaks minus elsewhere")
        ps[key], _ = shift_p(curves, marks, words, draws=options.draws, seed=seed)
        for where, side in (("at peaks", marks), ("elsewhere", [~m for m in marks])):
            parts = [v[w & s] for v, w, s in zip(curves, words, side, strict=True)]
            c.numbers[f"{key}, {where}"] = float(np.nanmean(np.concatenate(parts)))
    _corrected(c, ps)


def _corrected(c: Conditions, ps: dict[str, float]) -> None:
    """The p values of two readings of one claim, after Holm."""
    for key, p in zip(ps, holm(list(ps.values())), strict=True):
        c.numbers[f"{key}, p"] = float(p)


def _of_coupling(c: Conditions, found: Sequence[Response], options: PreplanSizes, seed: int) -> None:
    """FAI peaks with receiver peaks; with and after WAAD peaks; the latter within kinds of tokens."""
    late = [peaks(r.fai, options.share) & r.wordlike for r in found]
    early = [peaks(r.waad, options.share) for r in found]
    third = [peaks(r.receivers, options.share) for r in found]
    can = [r.wordlike & np.isfinite(r.fai) for r in found]
    c.numbers["peaks"] = int(sum(m.sum() for m in late))
    for key, other, within, groups in (
        ("receivers", third, 0, None),
        ("coupling", early, options.within, None),
        ("beyond", early, options.within, [kinds_of(r) for r in found]),
    ):
        value = share_followed(late, other, within=within)
        how = {"within": within, "groups": groups, "draws": options.draws, "seed": seed}
        null = chance(late, other, eligible=can, **how)
        c.numbers |= {key: value, f"{key}, p": p_above(value, null), f"{key}, by chance": float(null.mean())}


def kinds_of(response: Response) -> np.ndarray:
    """A number per token: punctuation or not, beginning of a word or not, first or second half, with an FAI or none."""
    half = np.arange(len(response.tokens)) >= len(response.tokens) // 2
    return response.wordlike + 2 * response.starts + 4 * half + 8 * np.isfinite(response.fai)


def of_swaps(c: Conditions, swapped: Sequence[Swap], control: Sequence[Swap]) -> None:
    """Low minus high likeness, pair by pair; the control has the FAI of another place."""
    c.numbers["pairs"] = len(paired(swapped))
    if len(paired(swapped)):
        c.add("perturb", paired(swapped), within=CHANGE, unit="Jaccard: low-FAI minus high-FAI swaps")
        c.numbers["perturb, p"] = sign_flip_p(paired(swapped), seed=[c.seed, 5])
    c.numbers["perturb, shifted"] = float(paired(control).mean()) if len(paired(control)) else None
    c.tables["Swapped tokens"] = rows = [
        {
            "FAI": kind,
            "alike": np.mean([s.alike for s in swapped if s.kind == kind]),
            "alike, shifted FAI": np.mean([s.alike for s in control if s.kind == kind]),
            "entropy of the token": np.mean([s.entropy for s in swapped if s.kind == kind]),
            "place in the response": np.mean([s.token for s in swapped if s.kind == kind]),
            "n": sum(s.kind == kind for s in swapped),
        }
        for kind in ("high", "low")
    ]
    c.numbers["alike"] = {row["FAI"]: float(row["alike"]) for row in rows}


def paired(swapped: Sequence[Swap]) -> np.ndarray:
    """Likeness after a low-FAI swap minus that after a high-FAI one, per response."""
    sides: dict[int, dict[str, float]] = {}
    for swap in swapped:
        sides.setdefault(swap.response, {})[swap.kind] = swap.alike
    return np.array([side["low"] - side["high"] for _, side in sorted(sides.items()) if len(side) == 2])


def _by_distance(found: Sequence[Response], options: PreplanSizes, seed: int) -> list[dict[str, Any]]:
    rows = []
    early = [peaks(r.waad, options.share) for r in found]
    for name in ("words", "punctuation", "all tokens"):
        sides = {"words": [r.wordlike for r in found], "punctuation": [~r.wordlike for r in found]}
        allowed = sides.get(name, [np.ones(len(r.tokens), dtype=bool) for r in found])
        late = [peaks(r.fai, options.share) & a for r, a in zip(found, allowed, strict=True)]
        can = [a & np.isfinite(r.fai) for r, a in zip(found, allowed, strict=True)]
        for within in (0, 1, 2, 3):
            null = chance(late, early, within=within, eligible=can, draws=100, seed=seed)
            rows.append(
                {
                    "FAI peaks at": name,
                    "WAAD peak up to tokens before": within,
                    "share": share_followed(late, early, within=within),
                    "by chance": null.mean(),
                    "n": int(sum(m.sum() for m in late)),
                }
            )
    return rows


def _role_rows(found: Sequence[Response], options: PreplanSizes) -> list[dict[str, Any]]:
    rows = []
    for name, sides in (("words", [r.wordlike for r in found]), ("all tokens", [None] * len(found))):
        own = [
            roles(r.waad, r.fai, share=options.share, eligible=s) for r, s in zip(found, sides, strict=True)
        ]
        weights = np.concatenate([credit(r) for r in own])
        rows.append(
            {
                "tokens": name,
                "preplan": int(sum(r.preplan.sum() for r in own)),
                "anchors": int(sum(r.anchor.sum() for r in own)),
                "dominated anchors": int(sum(r.dominated.sum() for r in own)),
                "introducers": int(sum((r.introduces > 0).sum() for r in own)),
                "mean credit": float(weights.mean()),
                "r of WAAD and FAI": _mean_r(found, sides),
            }
        )
    return rows


def _mean_r(found: Sequence[Response], sides: Sequence[Marks | None]) -> float:
    values = []
    for response, side in zip(found, sides, strict=True):
        known = np.isfinite(response.fai) & (True if side is None else side)
        values.append(pearson(response.waad[known], response.fai[known]))
    return float(np.nanmean(values))


def _pictures(model: Any, groups: Groups, found: Sequence[Response]) -> dict[str, Picture]:
    response = found[0]
    at = range(len(response.tokens))
    texts = [model.tokenizer.decode([int(t)]) for t in response.tokens]
    most = 60
    scale = float(np.nanmax(response.fai)) or 1.0
    return {
        "Span of every head": Heatmap.of(
            groups.span.numpy(),
            [f"layer {layer}" for layer in groups.layers],
            [f"h{h}" for h in range(groups.span.shape[1])],
            unit="tokens",
            title="How far each head looks back",
        ),
        "One response": Curves.of(
            {
                "WAAD": [(i, float(response.waad[i])) for i in at],
                "FAI, largest = 10": [(i, 10 * float(response.fai[i]) / scale) for i in at],
                "entropy": [(i, float(response.entropy[i])) for i in at],
            },
            x_label="token of the response",
            y_label="tokens; nats",
            title="WAAD, FAI and entropy of one response",
            width=900,
        ),
        "Its first tokens": Heatmap.of(
            np.stack([response.waad[:most], 10 * response.fai[:most] / scale, response.entropy[:most]]),
            ["WAAD", "FAI", "entropy"],
            [repr(text)[1:-1] for text in texts[:most]],
            title="The same, token by token",
            show_values=False,
        ),
    }


# -- claims -------------------------------------------------------------------------------------------------


def _chunk(key: str, says: str, criterion: str, why: str, where: str) -> Claim:
    return Claim(
        says,
        fact("longer", lambda c: c.mean(key) > 0) & given_p(f"{key}, p"),
        criterion,
        why=why,
        where=where,
        found=lambda c: f"{c.mean(key):+.2f} tokens, p {c.numbers[f'{key}, p']:.3g}",
        control=lambda c: f"{c.numbers[f'{key}, by chance']:+.2f} for shifted words",
        n=lambda c: c.n(key),
    )


def _entropy(key: str, says: str, criterion: str, why: str, where: str, paper: str | None) -> Claim:
    def found(c: Conditions) -> str:
        around = c.interval(key).shown("+.2f", between=", ")
        return (
            f"{c.numbers[f'{key}, at peaks']:.2f} nats; difference {c.mean(key):+.2f} [{around}], "
            f"p {c.numbers[f'{key}, p']:.3g}"
        )

    return Claim(
        says,
        above(key) & given_p(f"{key}, p"),
        criterion,
        paper=paper,
        why=why,
        where=where,
        found=found,
        control=lambda c: f"{c.numbers[f'{key}, elsewhere']:.2f} elsewhere",
    )


def _coupled(key: str, says: str, criterion: str, why: str, where: str, paper: str | None) -> Claim:
    return Claim(
        says,
        given_p(f"{key}, p"),
        criterion,
        paper=paper,
        why=why,
        where=where,
        found=lambda c: f"{c.numbers[key]:.1%}, p {c.numbers[f'{key}, p']:.3g}",
        control=lambda c: f"{c.numbers[f'{key}, by chance']:.1%} by chance",
        n=lambda c: c.numbers["peaks"],
    )


def _never(says: str, criterion: str, why: str, paper: str | None) -> Claim:
    return Claim(
        says,
        fact("not measured", lambda c: False),
        criterion,
        paper=paper,
        why=why,
        where="section 5",
        needs=[
            needs(
                lambda c: False,
                "no built-in model reasons about problems that can be checked, so there is no reward to train on",
            )
        ],
    )


def _perturbed(c: Conditions) -> str:
    around = c.interval("perturb").shown("+.3f", between=", ")
    alike = c.numbers["alike"]
    return (
        f"{alike['high']:.3f} against {alike['low']:.3f}; difference {c.mean('perturb'):+.3f} "
        f"[{around}], p {c.numbers['perturb, p']:.3g}"
    )


CLAIMS = {
    "groups": Claim(
        "some heads look near, others far",
        fact(
            "near, far and the same again",
            lambda c: (
                c.numbers["local span"] < c.numbers["window"]
                and c.numbers["global span"] > c.numbers["uniform span"]
                and c.numbers["same groups again"] >= SAME_GROUPS
            ),
        ),
        "local heads look less far than the window and global heads farther than a uniform head on average, and "
        f"other responses give the same groups (Jaccard at least {SAME_GROUPS:g})",
        why="a 30 % share can always be cut off; near, far and stable is more than that",
        where="section 2.1",
        found=lambda c: (
            f"local {c.numbers['local span']:.1f}, global {c.numbers['global span']:.1f} tokens; "
            f"the same groups again: {c.numbers['same groups again']:.2f}"
        ),
        control=lambda c: f"uniform head {c.numbers['uniform span']:.1f}",
        n=lambda c: c.numbers["heads"],
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
        "the paper does not say whether a peak is of the token read or the token written",
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
        "the paper does not say whether a peak is of the token read or the token written",
        "a second reading of ours of section 2.2",
        None,
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
        None,
    ),
    "perturb": Claim(
        "another token at a high-FAI place changes what follows more",
        above("perturb") & given_p("perturb, p"),
        f"Jaccard of the continuations smaller than for low-FAI places: interval above 0, sign-flip p < {ALPHA:g}",
        paper="0.534 against 0.631",
        why="pairs in one response close to each other, words only, equally long continuations",
        where="section 2.3, 0.534 against 0.631",
        needs=[
            needs(
                lambda c: c.numbers["pairs"] >= 10,
                lambda c: f"only {c.numbers['pairs']} responses have words of both kinds; 10 are needed",
            )
        ],
        found=_perturbed,
        control=lambda c: f"{c.numbers['perturb, shifted']:+.3f} with FAI shifted by a third of the response",
    ),
    "credit": _never(
        "training with credit for preplan and anchor tokens gives better reasoners",
        "accuracy on Countdown after reinforcement learning above uniform credit",
        "as in the paper",
        "Countdown 52.6 to 63.1, CrossThink-QA 48.0 to 50.1 (coupled credit)",
    ),
    "coupled": _never(
        "coupled credit is better than either alone",
        "accuracy on the same problems above that with credit for preplan tokens and for anchor tokens alone",
        "coupling is what the credit adds to the two",
        None,
    ),
}
REPLICATION = Paper(
    name="preplan-anchor",
    authors="Li et al. 2025, arXiv:2510.13554",
    about="Local heads look farther back before a new chunk (WAAD peaks), global heads of later tokens go back to a "
    "few anchors (FAI peaks), and the two are coupled. Measured on responses that the model writes at temperature "
    "0.7; head groups are chosen on other responses than those analysed; punctuation and white space are left out and "
    "shown beside.",
    options=PreplanSizes,
    controls=(
        "peaks shifted around each response, among the tokens that can be peaks: spacing kept, alignment lost",
        "peaks dealt anew among tokens of the same kind: punctuation, beginnings of words, half of the response",
        "swaps at tokens chosen by the FAI of another place",
        "--set planted=entropy, fai or noise: curves with a known answer in place of the measured ones",
    ),
    measure=measure,
    claims=CLAIMS,
)
