"""Relevance propagation and relevance patching: is relevance conserved, does it estimate patching well?

Achtibat et al. 2024 (AttnLRP), Rezaei Jafari et al. 2025 (RelP), and Li et al. 2017 (salient relevance), as far as it
can be asked of text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from workbench.agreement import spearman
from workbench.claims import Claim, judge, untestable
from workbench.errors import WorkbenchError
from workbench.replications.kinds import Findings, Replication, Setting
from workbench.replications.relevance_agreement import (
    Agreement,
    Correlation,
    agreement,
    correlations,
    error_share,
    shuffled,
)
from workbench.replications.relevance_conservation import conservation
from workbench.replications.relevance_rules import (
    forward_pass,
    network_input_times_gradient,
    network_relevance,
    random_network,
)
from workbench.replications.relevance_smoothing import (
    occlusion,
    planted_region,
    salient_relevance,
    token_relevance,
)
from workbench.statistics import holm, mean_interval
from workbench.study import paired_runs
from workbench.sweep.runs import PairedRuns
from workbench.view.bars import bars_svg
from workbench.view.heatmap import heatmap_svg
from workbench.view.scatter import scatter_svg

ATTNLRP, RELP, SALIENT = "arXiv:2402.05602", "arXiv:2508.21258, table 1", "Li et al. 2017"
ROUNDING = 1e-4  # share of the metric; float32 through a few layers is off by 1e-6
CLOSE = 0.9  # Pearson's r that counts as close agreement
POOR = 0.5  # r below which an estimate is of little use
ALPHA = 0.05
BACKWARD = {"gradient": "plain", "RelP": "relp", "AttnLRP": "attnlrp", "CP-LRP": "cp-lrp"}


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """Sizes. ``others`` are further models and tasks, as ``model task``; ``bias_free`` a model without biases."""

    task: str = "ioi"
    n_pairs: int = 32
    others: tuple[str, ...] = (
        "zoo:ioi sva",
        "zoo:induction induction",
        "zoo:kv kv-retrieval",
        "zoo:stdlib docstring",
    )
    n_pairs_others: int = 12
    bias_free: str = "zoo:kv kv-retrieval"
    networks: int = 20


def run(setting: Setting) -> Findings:
    """Measure every claim."""
    options: Relevance = setting.options
    runs = paired_runs(setting.model, options.task, n=options.n_pairs, seed=setting.seed)
    found = agreement(runs, progress=setting.progress)
    measured = {
        kind: correlations(found.exact[kind], found.estimates[kind], seed=setting.seed)
        for kind in found.exact
    }
    table = {kind: pair[0] for kind, pair in measured.items()}
    others, problems = _others(setting, options)
    others = {f"{setting.name} {options.task}": table, **others}
    networks, kept = _networks(options.networks), _conserved(setting, options, runs)
    smoothed = _smoothing(runs, seed=setting.seed)
    claims = (
        *_rule_claims(networks),
        *_conservation_claims(kept),
        *_agreement_claims(found, measured, setting.seed),
        _everywhere(others),
        *_smoothing_claims(smoothed),
    )
    return Findings(
        claims=claims,
        tables={
            f"correlation with exact patching, {options.task}, n={runs.n_pairs} prompts": _rows(table, found),
            "the same on other models and tasks (MLP outputs and residual stream)": _other_rows(
                others, problems
            ),
            "relevance entering each layer: distance from the metric, as a share of it": kept["rows"],
            "how well a map of tokens ranks what replacing each token does (Spearman, mean of prompts)": smoothed[
                "rows"
            ],
        },
        pictures=_pictures(found, table, kept),
        numbers={
            "networks": networks,
            "conservation": kept["worst"],
            "agreement": {k: {n: c.__dict__ for n, c in row.items()} for k, row in table.items()},
            "smoothing": {k: v for k, v in smoothed.items() if k != "rows"},
        },
    )


# -- the rules on networks that can be written out -----------------------------------------------------------


def _networks(n: int) -> dict[str, float]:
    """Largest differences over random networks: what is lost of the output, and between the two forms of the rule."""
    gelu, lost, biased, secant, plain = torch.nn.functional.gelu, [], [], [], []
    for seed in range(n):
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        for biases, into in ((False, lost), (True, biased)):
            net = random_network((6, 10, 10, 3), seed=seed, biases=biases)
            out = forward_pass(x, net)[-1].sum(1)
            into.append(_off(network_relevance(x, net, epsilon=1e-12).sum(1), out))
        net = random_network((6, 10, 10, 3), seed=seed)
        relevance = network_relevance(x, net, activation=gelu, epsilon=1e-12)
        secant.append(_off(network_input_times_gradient(x, net, activation=gelu), relevance))
        plain.append(_off(network_input_times_gradient(x, net, activation=gelu, secant=False), relevance))
    return {
        "lost without biases": max(lost),
        "lost with biases": float(np.median(biased)),
        "modified gradient": max(secant),
        "plain gradient": float(np.median(plain)),
        "n": n,
    }


def _off(here: torch.Tensor, there: torch.Tensor) -> float:
    """Largest difference over the root mean square of the second."""
    return float((here - there).abs().max() / there.pow(2).mean().sqrt())


def _rule_claims(found: Mapping[str, float]) -> list[Claim]:
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


# -- conservation in transformers ----------------------------------------------------------------------------


def _conserved(setting: Setting, options: Relevance, runs: PairedRuns) -> dict:
    """Deviations of each rule on this model and on one without biases."""
    model, _, task = options.bias_free.partition(" ")
    free = paired_runs(
        setting.model if model == setting.name else setting.open(model),
        task,
        n=options.n_pairs_others,
        seed=setting.seed,
    )
    rows, worst, layers = [], {}, {}
    for name, where in ((f"{setting.name} {options.task}", runs), (options.bias_free, free)):
        for rule, backward in BACKWARD.items():
            off = conservation(where, backward=backward).deviation
            rows.append(
                {"model and task": name, "rule": rule} | {f"layer {i}": float(x) for i, x in enumerate(off)}
            )
            key = "bias-free" if where is free else "own"
            worst[f"{key}, {rule}"] = float(off.max())
            layers[key, rule] = off
    return {"rows": rows, "worst": worst, "layers": layers, "n": free.n_pairs, "model": options.bias_free}


def _conservation_claims(kept: Mapping) -> list[Claim]:
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


# -- agreement with exact patching ---------------------------------------------------------------------------

Measured = Mapping[str, tuple[Mapping[str, Correlation], Mapping[str, np.ndarray]]]


def _gain(measured: Measured, kind: str, better: str, worse: str) -> tuple[float, float, float, float]:
    """Difference of the correlations, its 95 % interval and two-sided p over the same resamples of prompts."""
    table, draws = measured[kind]
    apart = draws[better] - draws[worse]
    low, high = np.nanpercentile(apart, [2.5, 97.5])
    tail = min(np.mean(apart <= 0), np.mean(apart >= 0))
    p = min(1.0, 2 * max(tail, 1 / (len(apart) + 1)))
    return table[better].r - table[worse].r, float(low), float(high), p


def _agreement_claims(found: Agreement, measured: Measured, seed: int) -> list[Claim]:
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
) -> Claim:
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


def _others(setting: Setting, options: Relevance) -> tuple[dict, dict[str, str]]:
    """Correlations on other models and tasks; what could not be measured, with the reason."""
    found, problems = {}, {}
    for text in options.others:
        model, _, task = text.partition(" ")
        try:
            bridge = setting.model if model == setting.name else setting.open(model)
            runs = paired_runs(bridge, task, n=options.n_pairs_others, seed=setting.seed)
            measured = agreement(runs, kinds=("MLP outputs", "residual stream"), progress=setting.progress)
        except WorkbenchError as problem:
            problems[text] = problem.message.split("\n")[0]
            setting.note(f"{text}: {problems[text]}")
            continue
        found[text] = {
            kind: correlations(measured.exact[kind], measured.estimates[kind], seed=setting.seed)[0]
            for kind in measured.exact
        }
    return found, problems


def _everywhere(others: Mapping[str, Mapping[str, Mapping[str, Correlation]]]) -> Claim:
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


# -- salient relevance ---------------------------------------------------------------------------------------


def _smoothing(runs: PairedRuns, *, seed: int) -> dict:
    """Rank correlation with exact replacement of every token, of the raw map and after both steps."""
    exact = occlusion(runs)
    rows, found = [], {}
    for rule, backward in BACKWARD.items():
        maps = token_relevance(runs, backward=backward)
        raw, salient = (
            np.array([spearman(step(m), np.abs(e)) for m, e in zip(maps, exact, strict=True) if e.any()])
            for step in (np.abs, salient_relevance)
        )
        apart = mean_interval(salient - raw, within=(-2.0, 2.0), seed=seed)
        rows.append(
            {
                "rule": rule,
                "raw": float(raw.mean()),
                "salient": float(salient.mean()),
                "difference, low": apart.low,
                "difference, high": apart.high,
                "n": len(raw),
            }
        )
        found[rule] = rows[-1]
    lines = [planted_region(seed=seed * 1000 + i) for i in range(100)]
    found["planted"] = {
        "raw": float(np.mean([spearman(np.abs(noisy), truth) for truth, noisy in lines])),
        "salient": float(np.mean([spearman(salient_relevance(noisy), truth) for truth, noisy in lines])),
    }
    return {"rows": rows, **found}


def _smoothing_claims(found: Mapping) -> list[Claim]:
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


# -- what is shown -------------------------------------------------------------------------------------------


def _rows(table: Mapping[str, Mapping[str, Correlation]], found: Agreement) -> list[dict]:
    return [
        {
            "parts": kind,
            "estimate": name,
            "r": c.r,
            "low": c.low,
            "high": c.high,
            "points": c.n,
            "error": error_share(found.exact[kind].ravel(), found.estimates[kind][name].ravel()),
        }
        for kind, row in table.items()
        for name, c in row.items()
    ]


def _other_rows(others: Mapping, problems: Mapping[str, str]) -> list[dict]:
    rows = [
        {"model and task": text, "parts": kind} | {name: c.r for name, c in table[kind].items()}
        for text, table in others.items()
        for kind in ("MLP outputs", "residual stream")
        if kind in table
    ]
    return rows + [
        {"model and task": text, "parts": f"not measured: {why}"} for text, why in problems.items()
    ]


def _pictures(found: Agreement, table: Mapping, kept: Mapping) -> dict[str, str]:
    pictures = {}
    kind = "MLP outputs" if "MLP outputs" in table else "heads"
    points = {
        name: [
            (float(x), float(y), f"prompt {i}")
            for i, (xs, ys) in enumerate(zip(found.exact[kind], found.estimates[kind][name], strict=True))
            for x, y in zip(xs, ys, strict=True)
            if x or y
        ]
        for name in ("AtP", "RelP")
    }
    pictures[f"Estimated and exact effects: {kind}"] = scatter_svg(
        points, x_label="exact effect, logits", y_label="estimate, logits", diagonal="exact"
    )
    bars = [
        (f"{kind}, {name}", c.r, c.low, c.high, "") for kind, row in table.items() for name, c in row.items()
    ]
    pictures["Correlation with exact patching"] = bars_svg(
        bars, x_label="Pearson's r, 95 % interval over prompts"
    )
    for key, title in (("own", "this model"), ("bias-free", kept["model"])):
        layers = {rule: off for (where, rule), off in kept["layers"].items() if where == key}
        pictures[f"Relevance that is lost or made up, {title}"] = heatmap_svg(
            np.array(list(layers.values())),
            list(layers),
            [f"layer {i}" for i in range(len(next(iter(layers.values()))))],
            unit="share of the metric",
        )
    return pictures


REPLICATION = Replication(
    name="relevance",
    about="LRP hands a network's output back to what made it, so that nothing is lost; AttnLRP does so through "
    "attention. RelP uses the same coefficients in place of gradients to estimate activation patching. Here: the "
    "relevance that arrives at every layer against the output, and estimates of the effect of every part at every "
    "position against exact patching, beside plain gradients (AtP). Salient relevance is tried on maps of tokens.",
    options=Relevance,
    controls=(
        "networks with biases; the plain gradient: where conservation must not hold",
        "plain gradients on the same prompts and parts, compared in the same resamples",
        "estimates exchanged between the points of a prompt",
        "a planted region under noise, where smoothing must help",
    ),
    run=run,
)
