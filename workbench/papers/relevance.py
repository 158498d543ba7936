"""Relevance propagation and relevance patching: is relevance conserved, does it estimate patching well?

Achtibat et al. 2024 (AttnLRP), Rezaei Jafari et al. 2025 (RelP), and Li et al. 2017 (salient relevance), as far as it
can be asked of text.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from workbench.core.errors import WorkbenchError
from workbench.core.stats.agreement import spearman
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.against_exact import Agreement, agreement, correlations, error_share, gain, shuffled
from workbench.evaluate.conservation import conservation
from workbench.evaluate.relevance_rules import (
    forward_pass,
    network_input_times_gradient,
    network_relevance,
    random_network,
)
from workbench.evaluate.salient import occlusion, planted_region, salient_relevance, token_relevance
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Criterion, Outcome, Paper, above, fact, needs
from workbench.papers.options import Relevance
from workbench.view.pictures import Bars, Heatmap, Scatter

BACKWARD = {"gradient": "plain", "RelP": "relp", "AttnLRP": "attnlrp", "CP-LRP": "cp-lrp"}
MLPS, STREAM, HEADS, OUTPUTS = "MLP outputs", "residual stream", "heads", "attention outputs"
COMPARED = (
    (MLPS, "RelP", "AtP"),
    (STREAM, "RelP", "AtP"),
    (HEADS, "CP-LRP", "AttnLRP"),
    (OUTPUTS, "RelP", "AtP"),
)
ATTNLRP, RELP, SALIENT = "arXiv:2402.05602", "arXiv:2508.21258, table 1", "Li et al. 2017"
# Criteria, fixed before anything was measured.
ROUNDING = 1e-4  # share of the metric; float32 through a few layers is off by 1e-6
CLOSE = 0.9  # Pearson's r that counts as close agreement
POOR = 0.5  # r below which an estimate is of little use
ALPHA = 0.05


def measure(setting: Setting) -> Conditions:
    """Relevance at every layer, estimates beside exact patching here and on other models, maps of tokens."""
    options: Relevance = setting.options
    c = Conditions(seed=setting.seed)
    runs = setting.begin(paired_runs(setting.model, options.task, n=options.n_pairs, seed=setting.seed))
    _agreement(setting, c, runs)
    _others(setting, c)
    c.numbers["networks"] = networks(options.networks)
    _conserved(setting, c, runs)
    _smoothing(c, runs)
    return c


def _agreement(setting: Setting, c: Conditions, runs: PairedRuns) -> None:
    """Every estimate of every kind of part beside exact patching, and what one gains over another."""
    found = agreement(runs, progress=setting.progress)
    measured = {
        kind: correlations(found.exact[kind], found.estimates[kind], seed=setting.seed)
        for kind in found.exact
    }
    c.numbers["agreement"] = {
        kind: {name: asdict(one) for name, one in pair[0].items()} for kind, pair in measured.items()
    }
    c.numbers["gain"] = {
        f"{kind}: {better}": gain(measured[kind], better, worse)
        for kind, better, worse in COMPARED
        if kind in measured
    }
    c.numbers["error"] = {
        kind: {name: error_share(found.exact[kind].ravel(), one.ravel()) for name, one in row.items()}
        for kind, row in found.estimates.items()
    }
    if MLPS in measured:
        c.numbers["shuffled"] = shuffled(found.exact[MLPS], found.estimates[MLPS]["RelP"], seed=setting.seed)
    c.tables[f"correlation with exact patching, {setting.options.task}, n={runs.n_pairs} prompts"] = [
        {"parts": kind, "estimate": name, **one, "error": c.numbers["error"][kind][name]}
        for kind, row in c.numbers["agreement"].items()
        for name, one in row.items()
    ]
    c.pictures |= _pictures(c, found)


def _pictures(c: Conditions, found: Agreement) -> dict[str, Any]:
    kind = MLPS if MLPS in found.exact else HEADS
    points = {
        name: [
            (float(x), float(y), f"prompt {i}")
            for i, (xs, ys) in enumerate(zip(found.exact[kind], found.estimates[kind][name], strict=True))
            for x, y in zip(xs, ys, strict=True)
            if x or y
        ]
        for name in ("AtP", "RelP")
    }
    bars = [
        (f"{kind}, {name}", one["r"], one["low"], one["high"], "")
        for kind, row in c.numbers["agreement"].items()
        for name, one in row.items()
    ]
    return {
        f"Estimated and exact effects: {kind}": Scatter.of(
            points, x_label="exact effect, logits", y_label="estimate, logits", diagonal="exact"
        ),
        "Correlation with exact patching": Bars.of(bars, x_label="Pearson's r, 95 % interval over prompts"),
    }


def _others(setting: Setting, c: Conditions) -> None:
    """Correlations on other models and tasks; what could not be measured, with the reason."""
    options: Relevance = setting.options
    rows = [_row(f"{setting.name} {options.task}", kind, c.numbers["agreement"]) for kind in (MLPS, STREAM)]
    for text in options.others:
        model, _, task = text.partition(" ")
        try:
            bridge = setting.model if model == setting.name else setting.open(model)
            runs = setting.begin(paired_runs(bridge, task, n=options.n_pairs_others, seed=setting.seed))
            found = agreement(runs, kinds=(MLPS, STREAM), progress=setting.progress)
        except WorkbenchError as problem:
            why = problem.message.split("\n")[0]
            setting.note(f"{text}: {why}")
            rows.append({"model and task": text, "parts": f"not measured: {why}"})
            continue
        table = {
            kind: {
                name: asdict(one)
                for name, one in correlations(exact, found.estimates[kind], seed=setting.seed)[0].items()
            }
            for kind, exact in found.exact.items()
        }
        rows += [_row(text, kind, table) for kind in (MLPS, STREAM)]
    c.tables["the same on other models and tasks (MLP outputs and residual stream)"] = [
        row for row in rows if row
    ]
    cells = [row for row in rows if "RelP" in row]
    c.numbers["cases"], c.numbers["wins"] = len(cells), sum(row["RelP"] > row["AtP"] for row in cells)


def _row(text: str, kind: str, table: dict[str, dict]) -> dict[str, Any]:
    if kind not in table:
        return {}
    return {"model and task": text, "parts": kind} | {name: one["r"] for name, one in table[kind].items()}


def networks(n: int) -> dict[str, float]:
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


def _conserved(setting: Setting, c: Conditions, runs: PairedRuns) -> None:
    """How far the relevance at each layer is from the metric, by rule, on this model and on one without biases."""
    options: Relevance = setting.options
    model, _, task = options.bias_free.partition(" ")
    bridge = setting.model if model == setting.name else setting.open(model)
    free = setting.begin(paired_runs(bridge, task, n=options.n_pairs_others, seed=setting.seed))
    c.numbers |= {"bias-free": options.bias_free, "bias-free prompts": free.n_pairs, "worst": {}}
    caption = "relevance entering each layer: distance from the metric, as a share of it"
    c.tables[caption] = rows = []
    for name, where in ((f"{setting.name} {options.task}", runs), (options.bias_free, free)):
        off = {rule: conservation(where, backward=how).deviation for rule, how in BACKWARD.items()}
        for rule, far in off.items():
            rows.append(
                {"model and task": name, "rule": rule} | {f"layer {i}": float(x) for i, x in enumerate(far)}
            )
            if where is free:
                c.numbers["worst"][rule] = float(far.max())
        layers = [f"layer {i}" for i in range(len(off["gradient"]))]
        c.pictures[f"Relevance that is lost or made up, {name}"] = Heatmap.of(
            np.array(list(off.values())), list(off), layers, unit="share of the metric"
        )


def _smoothing(c: Conditions, runs: PairedRuns) -> None:
    """Rank correlation with exact replacement of every token, of the raw map and after both steps."""
    exact, unit = occlusion(runs), "rank correlation of a map of tokens with exact replacement"
    for rule, backward in BACKWARD.items():
        maps = token_relevance(runs, backward=backward)
        for name, step in (("raw", np.abs), ("salient", salient_relevance)):
            found = [spearman(step(m), np.abs(e)) for m, e in zip(maps, exact, strict=True) if e.any()]
            # a map that is the same everywhere has no correlation
            c.add(f"{rule}, {name}", np.array(found), within=(-1.0, 1.0), unit=unit, undefined=True)
    lines = [planted_region(seed=c.seed * 1000 + i) for i in range(100)]
    for name, step in (("raw", np.abs), ("salient", salient_relevance)):
        found = [spearman(step(noisy), truth) for truth, noisy in lines]
        c.numbers[f"planted, {name}"] = float(np.mean(found))


# -- claims -------------------------------------------------------------------------------------------------


def _r(c: Conditions, kind: str, name: str) -> dict[str, float]:
    return c.numbers["agreement"][kind][name]


def _network(says: str, criterion: Any, own: str, control: str, why: str, where: str) -> Claim:
    return Claim(
        says,
        fact(
            "an identity here, and not there",
            lambda c: c.numbers["networks"][own] <= ROUNDING < c.numbers["networks"][control],
        ),
        criterion,
        why=why,
        where=where,
        found=lambda c: c.numbers["networks"][own],
        control=lambda c: c.numbers["networks"][control],
        n=lambda c: c.numbers["networks"]["n"],
    )


def _kept(says: str, criterion: str, rule: str, control: str, most: float, why: str, where: str) -> Claim:
    return Claim(
        says,
        fact("close to the metric at every layer", lambda c: c.numbers["worst"][rule] <= most),
        lambda c: f"{criterion}, on {c.numbers['bias-free']}",
        why=why,
        where=where,
        found=lambda c: c.numbers["worst"][rule],
        control=lambda c: c.numbers["worst"][control],
        n=lambda c: c.numbers["bias-free prompts"],
    )


def _better(kind: str, better: str, worse: str, paper: str, where: str) -> Claim:
    key = f"{kind}: {better}"

    def test(c: Conditions) -> Outcome:
        _, low, _, p = c.numbers["gain"][key]
        lacks = "" if np.isfinite(low) else "the interval of the difference is not defined here"
        return Outcome(holds=low > 0, p=p, lacks=lacks)

    def found(c: Conditions) -> str:
        more, low, high, _ = c.numbers["gain"][key]
        return f"{_r(c, kind, better)['r']:.3f}; {more:+.3f} [{low:+.3f}, {high:+.3f}]"

    return Claim(
        f"{better} agrees with exact patching better than {worse}: {kind}",
        Criterion(f"r of {better} above that of {worse}", test),
        f"interval of the difference of Pearson's r above 0, and p < {ALPHA} after Holm's correction for three tests",
        paper=paper,
        why="the same prompts are drawn for both, so that what they have in common falls out",
        where=where,
        needs=[needs(lambda c: key in c.numbers["gain"], f"the model has no {kind}")],
        family="better",
        found=found,
        control=lambda c: _r(c, kind, worse)["r"],
        n=lambda c: _r(c, kind, better)["n"],
    )


HAS_MLPS = needs(lambda c: MLPS in c.numbers["agreement"], f"the model has no {MLPS}")
CLAIMS = {
    "identity": _network(
        "relevance of a ReLU network without biases sums to its output",
        lambda c: (
            f"largest difference of {c.numbers['networks']['n']} random networks at most {ROUNDING:g} of the output, "
            "at epsilon 1e-12"
        ),
        "lost without biases",
        "lost with biases",
        "an identity of the epsilon rule: only rounding may remain; with biases (control) more is lost",
        ATTNLRP,
    ),
    "modified": _network(
        "the rules are a modified gradient: input times gradient with activation slope f(x)/x",
        f"largest relative difference of the two forms at most {ROUNDING:g} on GELU networks",
        "modified gradient",
        "plain gradient",
        "an identity; the control is the unmodified gradient, which must differ",
        f"{ATTNLRP}; {RELP}",
    ),
    "constant": _kept(
        "with a constant pattern (CP-LRP) every layer of a transformer without biases has the whole output",
        f"distance from the metric at most {ROUNDING:g} of it, at every layer",
        "CP-LRP",
        "gradient",
        ROUNDING,
        "an identity where norms are a constant scale, activations a slope, products halved and nothing is added; the "
        "control is the plain gradient",
        ATTNLRP,
    ),
    "softmax": _kept(
        "relevance is conserved by AttnLRP's rule for the softmax too (not claimed: its bias takes a part)",
        "distance from the metric at most 5 % of it, at every layer",
        "AttnLRP",
        "CP-LRP",
        0.05,
        "the rule of the softmax is not conserved in general and depends on the scores' offset; 5 % leaves room for "
        "what it loses in one layer. The control holds the pattern constant",
        "a control of ours",
    ),
    "MLPs": _better(MLPS, "RelP", "AtP", "AtP 0.195, RelP 0.992 (GPT-2 small); 0.006, 0.956 (large)", RELP),
    "stream": _better(STREAM, "RelP", "AtP", "AtP 0.753, RelP 0.968 (GPT-2 small)", RELP),
    "heads": _better(
        HEADS,
        "CP-LRP",
        "AttnLRP",
        "recommended for models like GPT-2",
        f"{ATTNLRP}: the authors' code, not a claim of the paper",
    ),
    "close": Claim(
        "for MLP outputs RelP agrees closely with patching",
        fact(
            "close, and above chance",
            lambda c: (
                _r(c, MLPS, "RelP")["low"] >= CLOSE
                and _r(c, MLPS, "RelP")["r"] - c.numbers["shuffled"] >= CLOSE
            ),
        ),
        f"lower end of the interval of r at least {CLOSE}, and at least {CLOSE} above shuffled estimates",
        paper=0.956,
        why="the paper's numbers are 0.956 to 0.992; the control exchanges estimates between points of a prompt",
        where=RELP,
        needs=[HAS_MLPS],
        found=lambda c: _r(c, MLPS, "RelP")["r"],
        control=lambda c: c.numbers["shuffled"],
        n=lambda c: _r(c, MLPS, "RelP")["n"],
    ),
    "poor": Claim(
        "for MLP outputs plain gradients are of little use",
        fact("little shared", lambda c: _r(c, MLPS, "AtP")["high"] <= POOR),
        f"upper end of the interval of r at most {POOR}",
        paper=0.006,
        why=f"the paper's numbers are 0.195 and less; below {POOR} at most a quarter of the variance is shared",
        where=RELP,
        needs=[HAS_MLPS],
        found=lambda c: _r(c, MLPS, "AtP")["r"],
        control=lambda c: _r(c, MLPS, "RelP")["r"],
        n=lambda c: _r(c, MLPS, "AtP")["n"],
    ),
    "size": Claim(
        "RelP also gets the size of the effects right, better than gradients do",
        fact(
            "half the error",
            lambda c: c.numbers["error"][MLPS]["RelP"] <= c.numbers["error"][MLPS]["AtP"] / 2,
        ),
        "its root mean squared error is at most half of theirs",
        why="correlation does not see a wrong scale; an estimate in the metric's unit should have the size too",
        where="an extension of ours",
        needs=[HAS_MLPS],
        found=lambda c: f"error {c.numbers['error'][MLPS]['RelP']:.2f} of the effects' size",
        control=lambda c: f"gradients {c.numbers['error'][MLPS]['AtP']:.2f}",
        n=lambda c: _r(c, MLPS, "RelP")["n"],
    ),
    "attention": Claim(
        "for attention outputs plain gradients are as good as RelP",
        fact(
            "both close, and no gain",
            lambda c: (
                min(_r(c, OUTPUTS, "AtP")["r"], _r(c, OUTPUTS, "RelP")["r"]) >= CLOSE
                and c.numbers["gain"][f"{OUTPUTS}: RelP"][1] <= 0
            ),
        ),
        f"both r at least {CLOSE}, and the interval of RelP minus AtP reaches 0 or below",
        paper="AtP 0.979, RelP 0.962 (GPT-2 small)",
        why="the paper has no gain there; clearly above 0 would be one",
        where=RELP,
        found=lambda c: f"AtP {_r(c, OUTPUTS, 'AtP')['r']:.3f}, RelP {_r(c, OUTPUTS, 'RelP')['r']:.3f}",
        n=lambda c: _r(c, OUTPUTS, "AtP")["n"],
    ),
    "everywhere": Claim(
        "RelP is above gradients on most models and tasks (MLP outputs, residual stream)",
        fact("most cases", lambda c: c.numbers["cases"] and c.numbers["wins"] >= 0.75 * c.numbers["cases"]),
        "in at least three quarters of the cases",
        paper="in GPT-2 small, medium and large",
        why="cases share models, so no test is made of it; three quarters is clearly more than chance",
        where=RELP,
        found=lambda c: f"{c.numbers['wins']} of {c.numbers['cases']}",
        control="half of the cases by chance",
        n=lambda c: c.numbers["cases"],
    ),
    "salient": Claim(
        "salient relevance shows what matters better than the raw relevance map (on tokens)",
        above("CP-LRP, salient", "CP-LRP, raw"),
        "interval of the difference in rank correlation with exact replacement of each token above 0",
        why="the paper judges by eye that regions come out; exact replacement is the truth here. The control has a "
        "region that matters as a whole, where it must help",
        where=SALIENT,
        found=lambda c: f"{c.mean('CP-LRP, salient'):.2f}, raw {c.mean('CP-LRP, raw'):.2f}",
        control=lambda c: (
            f"planted region under noise: {c.numbers['planted, salient']:.2f}, raw {c.numbers['planted, raw']:.2f}"
        ),
    ),
    "image": Claim(
        "salient relevance shows the regions of an image that a network attends to",
        fact("not measured", lambda c: False),
        "the same measurement on pixels",
        where=SALIENT,
        needs=[needs(lambda c: False, "the models here read text; there are no images")],
    ),
}
REPLICATION = Paper(
    name="relevance",
    authors="",
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
    measure=measure,
    claims=CLAIMS,
)
