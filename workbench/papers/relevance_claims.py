"""What is claimed of relevance, and the criteria, fixed before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench.circuits.verdicts.statistics import holm
from workbench.core.claims import JudgedClaim, judge, untestable
from workbench.papers.relevance_agreement import (
    Agreement,
    Correlation,
    error_share,
    shuffled,
)

ATTNLRP, RELP, SALIENT = "arXiv:2402.05602", "arXiv:2508.21258, table 1", "Li et al. 2017"
ROUNDING = 1e-4  # share of the metric; float32 through a few layers is off by 1e-6
CLOSE = 0.9  # Pearson's r that counts as close agreement
POOR = 0.5  # r below which an estimate is of little use
ALPHA = 0.05


def rule_claims(found: Mapping[str, float]) -> list[JudgedClaim]:
    return [
        judge(
            "relevance of a ReLU network without biases sums to its output",
            f"largest difference of {found['n']} random networks at most {ROUNDING:g} of the output, at epsilon 1e-12",
            found["lost without biases"] <= ROUNDING < found["lost with biases"],
            found=found["lost without biases"],
            control=found["lost with biases"],
            n=int(found["n"]),
            reason="an identity of the epsilon rule: only rounding may remain; with biases (control) more is lost",
            source=ATTNLRP,
        ),
        judge(
            "the rules are a modified gradient: input times gradient with activation slope f(x)/x",
            f"largest relative difference of the two forms at most {ROUNDING:g} on GELU networks",
            found["modified gradient"] <= ROUNDING < found["plain gradient"],
            found=found["modified gradient"],
            control=found["plain gradient"],
            n=int(found["n"]),
            reason="an identity; the control is the unmodified gradient, which must differ",
            source=f"{ATTNLRP}; {RELP}",
        ),
    ]


def conservation_claims(kept: Mapping) -> list[JudgedClaim]:
    worst = kept["worst"]
    return [
        judge(
            "with a constant pattern (CP-LRP) every layer of a transformer without biases has the whole output",
            f"distance from the metric at most {ROUNDING:g} of it, at every layer, on {kept['model']}",
            worst["bias-free, CP-LRP"] <= ROUNDING,
            found=worst["bias-free, CP-LRP"],
            control=worst["bias-free, gradient"],
            n=kept["n"],
            reason="an identity where norms are a constant scale, activations a slope, products halved and nothing is "
            "added; the control is the plain gradient",
            source=ATTNLRP,
        ),
        judge(
            "relevance is conserved by AttnLRP's rule for the softmax too (not claimed: its bias takes a part)",
            f"distance from the metric at most 5 % of it, at every layer, on {kept['model']}",
            worst["bias-free, AttnLRP"] <= 0.05,
            found=worst["bias-free, AttnLRP"],
            control=worst["bias-free, CP-LRP"],
            n=kept["n"],
            reason="the rule of the softmax is not conserved in general and depends on the scores' offset; 5 % leaves "
            "room for what it loses in one layer. The control holds the pattern constant",
            source="a control of ours",
        ),
    ]


Measured = Mapping[str, tuple[Mapping[str, Correlation], Mapping[str, np.ndarray]]]


def _gain(measured: Measured, kind: str, better: str, worse: str) -> tuple[float, float, float, float]:
    """Difference of the correlations, its 95 % interval and two-sided p over the same resamples of prompts."""
    table, draws = measured[kind]
    apart = draws[better] - draws[worse]
    low, high = np.nanpercentile(apart, [2.5, 97.5])
    tail = min(np.mean(apart <= 0), np.mean(apart >= 0))
    p = min(1.0, 2 * max(tail, 1 / (len(apart) + 1)))
    return table[better].r - table[worse].r, float(low), float(high), p


def agreement_claims(found: Agreement, measured: Measured, seed: int) -> list[JudgedClaim]:
    tests = {
        ("MLP outputs", "RelP", "AtP"): ("AtP 0.195, RelP 0.992 (GPT-2 small); 0.006, 0.956 (large)", RELP),
        ("residual stream", "RelP", "AtP"): ("AtP 0.753, RelP 0.968 (GPT-2 small)", RELP),
        ("heads", "CP-LRP", "AttnLRP"): (
            "recommended for models like GPT-2",
            f"{ATTNLRP}: the authors' code, not a claim of the paper",
        ),
    }
    able = [test for test in tests if test[0] in measured]
    gains = {test: _gain(measured, *test) for test in able}
    corrected = dict(zip(able, holm([gains[test][3] for test in able]), strict=True))
    claims = [_better(test, *tests[test], gains.get(test), corrected.get(test), measured) for test in tests]
    if "MLP outputs" not in measured:
        return claims
    table = measured["MLP outputs"][0]
    noise = shuffled(found.exact["MLP outputs"], found.estimates["MLP outputs"]["RelP"], seed=seed)
    sizes = {
        name: error_share(found.exact["MLP outputs"].ravel(), found.estimates["MLP outputs"][name].ravel())
        for name in ("AtP", "RelP")
    }
    outputs = measured["attention outputs"][0]
    apart = _gain(measured, "attention outputs", "RelP", "AtP")
    claims += [
        judge(
            "for MLP outputs RelP agrees closely with patching",
            f"lower end of the interval of r at least {CLOSE}, and at least {CLOSE} above shuffled estimates",
            table["RelP"].low >= CLOSE and table["RelP"].r - noise >= CLOSE,
            paper=0.956,
            found=table["RelP"].r,
            control=noise,
            n=table["RelP"].n,
            reason="the paper's numbers are 0.956 to 0.992; the control exchanges estimates between points of a prompt",
            source=RELP,
        ),
        judge(
            "for MLP outputs plain gradients are of little use",
            f"upper end of the interval of r at most {POOR}",
            table["AtP"].high <= POOR,
            paper=0.006,
            found=table["AtP"].r,
            control=table["RelP"].r,
            n=table["AtP"].n,
            reason=f"the paper's numbers are 0.195 and less; below {POOR} at most a quarter of the variance is shared",
            source=RELP,
        ),
        judge(
            "RelP also gets the size of the effects right, better than gradients do",
            "its root mean squared error is at most half of theirs",
            sizes["RelP"] <= sizes["AtP"] / 2,
            found=f"error {sizes['RelP']:.2f} of the effects' size",
            control=f"gradients {sizes['AtP']:.2f}",
            n=table["RelP"].n,
            reason="correlation does not see a wrong scale; an estimate in the metric's unit should have the size too",
            source="an extension of ours",
        ),
        judge(
            "for attention outputs plain gradients are as good as RelP",
            f"both r at least {CLOSE}, and the interval of RelP minus AtP reaches 0 or below",
            min(outputs["AtP"].r, outputs["RelP"].r) >= CLOSE and apart[1] <= 0,
            paper="AtP 0.979, RelP 0.962 (GPT-2 small)",
            found=f"AtP {outputs['AtP'].r:.3f}, RelP {outputs['RelP'].r:.3f}",
            n=outputs["AtP"].n,
            reason="the paper has no gain there; clearly above 0 would be one",
            source=RELP,
        ),
    ]
    return claims


def _better(
    test: tuple[str, str, str], paper: str, source: str, gain, corrected: float | None, measured: Measured
) -> JudgedClaim:
    kind, better, worse = test
    claim = f"{better} agrees with exact patching better than {worse}: {kind}"
    rule = f"interval of the difference of Pearson's r above 0, and p < {ALPHA} after Holm's correction for three tests"
    if gain is None:
        return untestable(claim, rule, f"the model has no {kind}", paper=paper, source=source)
    table = measured[kind][0]
    return judge(
        claim,
        rule,
        gain[1] > 0 and corrected < ALPHA,
        paper=paper,
        found=f"{table[better].r:.3f}; {gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]",
        control=table[worse].r,
        n=table[better].n,
        reason="the same prompts are drawn for both, so that what they have in common falls out",
        source=source,
    )


def everywhere(others: Mapping[str, Mapping[str, Mapping[str, Correlation]]]) -> JudgedClaim:
    """Not only on one model and task."""
    cells = [
        row[kind] for row in others.values() for kind in ("MLP outputs", "residual stream") if kind in row
    ]
    wins = sum(cell["RelP"].r > cell["AtP"].r for cell in cells)
    return judge(
        "RelP is above gradients on most models and tasks (MLP outputs, residual stream)",
        "in at least three quarters of the cases",
        bool(cells) and wins >= 0.75 * len(cells),
        paper="in GPT-2 small, medium and large",
        found=f"{wins} of {len(cells)}",
        control="half of the cases by chance",
        n=len(cells),
        reason="cases share models, so no test is made of it; three quarters is clearly more than chance",
        source=RELP,
    )


def smoothing_claims(found: Mapping) -> list[JudgedClaim]:
    row, planted = found["CP-LRP"], found["planted"]
    return [
        judge(
            "salient relevance shows what matters better than the raw relevance map (on tokens)",
            "interval of the difference in rank correlation with exact replacement of each token above 0",
            row["difference, low"] > 0,
            found=f"{row['salient']:.2f}, raw {row['raw']:.2f}",
            control=f"planted region under noise: {planted['salient']:.2f}, raw {planted['raw']:.2f}",
            n=row["n"],
            reason="the paper judges by eye that regions come out; exact replacement is the truth here. The control "
            "has a region that matters as a whole, where it must help",
            source=SALIENT,
        ),
        untestable(
            "salient relevance shows the regions of an image that a network attends to",
            "the same measurement on pixels",
            "the models here read text; there are no images",
            source=SALIENT,
        ),
    ]
