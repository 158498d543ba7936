"""What is claimed of near and far heads, and the criteria, fixed before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from workbench.circuits.verdicts.statistics import CHANGE, holm, mean_interval
from workbench.core.claims import JudgedClaim, PaperClaims
from workbench.core.stats.agreement import jaccard
from workbench.papers.options import PreplanSizes
from workbench.papers.preplan_anchor_measures import (
    Groups,
    Response,
    Swap,
)
from workbench.papers.preplan_anchor_tokens import (
    Marks,
    chance,
    p_above,
    peaks,
    share_followed,
    sign_flip_p,
)

ALPHA = 0.05
SAME_GROUPS = 0.6
PAPER = "Li et al. 2025, arXiv:2510.13554"

CRITERIA: Mapping[str, tuple[str, str, str, str]] = {  # claim, criterion, reason, where in the paper
    "groups": (
        "some heads look near, others far",
        "local heads look less far than the window and global heads farther than a uniform head on average, and "
        f"other responses give the same groups (Jaccard at least {SAME_GROUPS:g})",
        "a 30 % share can always be cut off; near, far and stable is more than that",
        "section 2.1",
    ),
    "sawtooth": (
        "WAAD is high at the first token of a chunk and low inside it",
        f"mean WAAD at the first tokens of words above that inside words, p < {ALPHA:g} against shifts (Holm, with the "
        "next claim)",
        "words are the chunks that a small model of code has",
        "section 2.2",
    ),
    "planning": (
        "WAAD is high in the row from which the first token of a chunk is written",
        "the same for the rows before the first tokens of words (Holm, with the claim before)",
        "the paper does not say whether a peak is of the token read or the token written",
        "a second reading of ours of section 2.2",
    ),
    "entropy": (
        "tokens at WAAD peaks were hard to predict",
        "their entropy is higher than elsewhere: lower end of the interval above 0, and p below "
        f"{ALPHA:g} against shifts (Holm, with the next claim)",
        "the paper's comparison; shifting keeps peaks and entropies, and loses only their alignment",
        "section 2.2, 0.361 against 0.239",
    ),
    "next": (
        "the token written from a WAAD peak's row is hard to predict",
        "the same for the distribution after the peak (Holm, with the claim before)",
        "the paper does not say whether a peak is of the token read or the token written",
        "a second reading of ours of section 2.2",
    ),
    "receivers": (
        "FAI peaks are where receiver heads look",
        f"share of FAI peaks at words that are at a peak of receiver heads above that of shifted peaks, p < {ALPHA:g}",
        "receiver heads are chosen by kurtosis among the heads that are not global, so agreement is no identity",
        "section 2.3",
    ),
    "coupling": (
        "an FAI peak comes with or after a WAAD peak",
        f"share of FAI peaks at words with a WAAD peak at the same token or just before above chance, p < {ALPHA:g} "
        "against shifts",
        "shifts along the tokens that can be such peaks keep how many there are and how they are spaced",
        "section 2.4",
    ),
    "beyond": (
        "and not only because both follow words and punctuation",
        f"the same against peaks dealt anew among tokens of the same kind, p < {ALPHA:g}",
        "kind of token: punctuation or not, beginning of a word or not, half of the response",
        "a control of ours",
    ),
    "perturb": (
        "another token at a high-FAI place changes what follows more",
        f"Jaccard of the continuations smaller than for low-FAI places: interval above 0, sign-flip p < {ALPHA:g}",
        "pairs in one response close to each other, words only, equally long continuations",
        "section 2.3, 0.534 against 0.631",
    ),
    "credit": (
        "training with credit for preplan and anchor tokens gives better reasoners",
        "accuracy on Countdown after reinforcement learning above uniform credit",
        "as in the paper",
        "section 5",
    ),
    "coupled": (
        "coupled credit is better than either alone",
        "accuracy on the same problems above that with credit for preplan tokens and for anchor tokens alone",
        "coupling is what the credit adds to the two",
        "section 5",
    ),
}
PAPERS = {
    "entropy": "0.361 against 0.239",
    "receivers": "60.8 % against 22.4 %",
    "coupling": "52.5 % against 36.9 %",
    "perturb": "0.534 against 0.631",
    "credit": "Countdown 52.6 to 63.1, CrossThink-QA 48.0 to 50.1 (coupled credit)",
}
CLAIMS = PaperClaims(paper=PAPER, criteria=CRITERIA, numbers=PAPERS)
NO_TRAINING = (
    "no built-in model reasons about problems that can be checked, so there is no reward to train on"
)


def of_groups(groups: Groups, again: Groups, options: PreplanSizes) -> JudgedClaim:
    """Spans of both groups and how alike other responses cut them."""
    near, far = (float(groups.span[mask].mean()) for mask in (groups.local, groups.far))
    at = np.arange(options.prompt, options.length)
    uniform = float((at / 2).mean())  # a row over t + 1 keys looks t / 2 back on average
    same = min(
        jaccard(groups.names(getattr(groups, kind)), again.names(getattr(again, kind)))
        for kind in ("local", "far")
    )
    told = f"local {near:.1f}, global {far:.1f} tokens; the same groups again: {same:.2f}"
    holds = near < options.window and far > uniform and same >= SAME_GROUPS
    return CLAIMS.judge("groups", holds, told, control=f"uniform head {uniform:.1f}", n=groups.span.numel())


def difference(values: Sequence[np.ndarray], marks: Sequence[Marks], eligible: Sequence[Marks]) -> np.ndarray:
    """Mean at marked minus mean at other eligible tokens, per response that has both."""
    found = []
    for value, mark, allowed in zip(values, marks, eligible, strict=True):
        known = allowed & np.isfinite(value)
        if (known & mark).any() and (known & ~mark).any():
            found.append(value[known & mark].mean() - value[known & ~mark].mean())
    return np.array(found)


def shift_p(
    values: Sequence[np.ndarray],
    marks: Sequence[Marks],
    eligible: Sequence[Marks],
    *,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """How likely marks shifted around each response differ as much, and the mean difference of shifted marks."""
    value = difference(values, marks, eligible).mean()
    rng = np.random.default_rng([seed, 21])
    null = np.array(
        [
            difference(values, [np.roll(m, int(rng.integers(1, len(m)))) for m in marks], eligible).mean()
            for _ in range(draws)
        ]
    )
    return p_above(float(value), null), float(null.mean())


def of_chunks(found: Sequence[Response], options: PreplanSizes, seed: int) -> list[JudgedClaim]:
    """WAAD of the row that reads the first token of a word, and of the row that writes it."""
    curves, words = [r.waad for r in found], [r.wordlike for r in found]
    begin = [r.starts for r in found]
    results = []
    for marks, eligible in (
        (begin, words),
        ([np.append(m[1:], False) for m in begin], [np.append(w[1:], False) for w in words]),
    ):
        diff = difference(curves, marks, eligible)
        results.append((diff, *shift_p(curves, marks, eligible, draws=options.draws, seed=seed)))
    claims = []
    for key, (diff, _, by_chance), p in zip(
        ("sawtooth", "planning"), results, holm([p for _, p, _ in results]), strict=True
    ):
        told = f"{diff.mean():+.2f} tokens, p {p:.3g}"
        holds = p < ALPHA and diff.mean() > 0
        claims.append(
            CLAIMS.judge(key, holds, told, control=f"{by_chance:+.2f} for shifted words", n=len(diff))
        )
    return claims


def of_entropy(found: Sequence[Response], options: PreplanSizes, seed: int) -> list[JudgedClaim]:
    """Entropy of the token at the peak, and of the token after it."""
    marks, words = [peaks(r.waad, options.share) for r in found], [r.wordlike for r in found]
    results = []
    for name in ("entropy", "next_entropy"):
        curves = [getattr(r, name) for r in found]
        diff = difference(curves, marks, words)
        p, _ = shift_p(curves, marks, words, draws=options.draws, seed=seed)
        at, off = (
            np.nanmean(np.concatenate([c[w & s] for c, w, s in zip(curves, words, side, strict=True)]))
            for side in (marks, [~m for m in marks])
        )
        results.append((diff, p, float(at), float(off)))
    corrected = holm([p for _, p, _, _ in results])
    claims = []
    for key, (diff, _, at, off), p in zip(("entropy", "next"), results, corrected, strict=True):
        low, high, _ = mean_interval(diff)
        told = f"{at:.2f} nats; difference {diff.mean():+.2f} [{low:+.2f}, {high:+.2f}], p {p:.3g}"
        claims.append(
            CLAIMS.judge(key, low > 0 and p < ALPHA, told, control=f"{off:.2f} elsewhere", n=len(diff))
        )
    return claims


def of_coupling(
    found: Sequence[Response], eligible: Sequence[Marks], options: PreplanSizes, seed: int
) -> list[JudgedClaim]:
    """FAI peaks with receiver peaks; with and after WAAD peaks; the latter within kinds of tokens."""
    late = [peaks(r.fai, options.share) & allowed for r, allowed in zip(found, eligible, strict=True)]
    early = [peaks(r.waad, options.share) for r in found]
    third = [peaks(r.receivers, options.share) for r in found]
    can = [allowed & np.isfinite(r.fai) for r, allowed in zip(found, eligible, strict=True)]
    claims = []
    for key, other, within, groups in (
        ("receivers", third, 0, None),
        ("coupling", early, options.within, None),
        ("beyond", early, options.within, [kinds_of(r) for r in found]),
    ):
        value = share_followed(late, other, within=within)
        how = {"within": within, "groups": groups, "draws": options.draws, "seed": seed}
        null = chance(late, other, eligible=can, **how)
        p, n = p_above(value, null), int(sum(m.sum() for m in late))
        claims.append(
            CLAIMS.judge(
                key, p < ALPHA, f"{value:.1%}, p {p:.3g}", control=f"{null.mean():.1%} by chance", n=n
            )
        )
    return claims


def kinds_of(response: Response) -> np.ndarray:
    """A number per token: punctuation or not, beginning of a word or not, first or second half, with an FAI or none."""
    half = np.arange(len(response.tokens)) >= len(response.tokens) // 2
    return response.wordlike + 2 * response.starts + 4 * half + 8 * np.isfinite(response.fai)


def perturbation(swapped: Sequence[Swap], control: Sequence[Swap], seed: int) -> JudgedClaim:
    """Low minus high likeness, pair by pair; the control has the FAI of another place."""
    diff, null = paired(swapped), paired(control)
    if len(diff) < 10:
        why = f"only {len(diff)} responses have words of both kinds; 10 are needed"
        return CLAIMS.untestable("perturb", why)
    low, high, _ = mean_interval(diff, within=CHANGE)
    p = sign_flip_p(diff, seed=seed)
    likeness = {kind: np.mean([s.alike for s in swapped if s.kind == kind]) for kind in ("high", "low")}
    told = (
        f"{likeness['high']:.3f} against {likeness['low']:.3f}; difference {diff.mean():+.3f} "
        f"[{low:+.3f}, {high:+.3f}], p {p:.3g}"
    )
    return CLAIMS.judge(
        "perturb",
        low > 0 and p < ALPHA,
        told,
        control=f"{null.mean():+.3f} with FAI shifted by a third of the response",
        n=len(diff),
    )


def paired(swapped: Sequence[Swap]) -> np.ndarray:
    """Likeness after a low-FAI swap minus that after a high-FAI one, per response."""
    sides: dict[int, dict[str, float]] = {}
    for swap in swapped:
        sides.setdefault(swap.response, {})[swap.kind] = swap.alike
    return np.array([side["low"] - side["high"] for _, side in sorted(sides.items()) if len(side) == 2])
