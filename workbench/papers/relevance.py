"""Relevance propagation and relevance patching: is relevance conserved, does it estimate patching well?

Achtibat et al. 2024 (AttnLRP), Rezaei Jafari et al. 2025 (RelP), and Li et al. 2017 (salient relevance), as far as it
can be asked of text.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from workbench.circuits.verdicts.statistics import mean_interval
from workbench.core.errors import WorkbenchError
from workbench.core.stats.agreement import spearman
from workbench.engine.of_task import paired_runs
from workbench.engine.runs import PairedRuns
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.options import Relevance
from workbench.papers.relevance_agreement import (
    Agreement,
    Correlation,
    agreement,
    correlations,
    error_share,
)
from workbench.papers.relevance_claims import (
    agreement_claims,
    conservation_claims,
    everywhere,
    rule_claims,
    smoothing_claims,
)
from workbench.papers.relevance_conservation import conservation
from workbench.papers.relevance_rules import (
    forward_pass,
    network_input_times_gradient,
    network_relevance,
    random_network,
)
from workbench.papers.relevance_smoothing import (
    occlusion,
    planted_region,
    salient_relevance,
    token_relevance,
)
from workbench.view.pictures import Bars, Heatmap, Picture, Scatter

BACKWARD = {"gradient": "plain", "RelP": "relp", "AttnLRP": "attnlrp", "CP-LRP": "cp-lrp"}


def run(setting: Setting) -> Findings:
    """Measure every claim."""
    options: Relevance = setting.options
    runs = setting.begin(paired_runs(setting.model, options.task, n=options.n_pairs, seed=setting.seed))
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
        *rule_claims(networks),
        *conservation_claims(kept),
        *agreement_claims(found, measured, setting.seed),
        everywhere(others),
        *smoothing_claims(smoothed),
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


def _conserved(setting: Setting, options: Relevance, runs: PairedRuns) -> dict:
    """Deviations of each rule on this model and on one without biases."""
    model, _, task = options.bias_free.partition(" ")
    free = paired_runs(
        setting.model if model == setting.name else setting.open(model),
        task,
        n=options.n_pairs_others,
        seed=setting.seed,
    )
    setting.begin(free)
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


def _others(setting: Setting, options: Relevance) -> tuple[dict, dict[str, str]]:
    """Correlations on other models and tasks; what could not be measured, with the reason."""
    found, problems = {}, {}
    for text in options.others:
        model, _, task = text.partition(" ")
        try:
            bridge = setting.model if model == setting.name else setting.open(model)
            runs = setting.begin(paired_runs(bridge, task, n=options.n_pairs_others, seed=setting.seed))
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


def _pictures(found: Agreement, table: Mapping, kept: Mapping) -> dict[str, Picture]:
    pictures: dict[str, Picture] = {}
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
    pictures[f"Estimated and exact effects: {kind}"] = Scatter.of(
        points, x_label="exact effect, logits", y_label="estimate, logits", diagonal="exact"
    )
    bars = [
        (f"{kind}, {name}", c.r, c.low, c.high, "") for kind, row in table.items() for name, c in row.items()
    ]
    pictures["Correlation with exact patching"] = Bars.of(
        bars, x_label="Pearson's r, 95 % interval over prompts"
    )
    for key, title in (("own", "this model"), ("bias-free", kept["model"])):
        layers = {rule: off for (where, rule), off in kept["layers"].items() if where == key}
        pictures[f"Relevance that is lost or made up, {title}"] = Heatmap.of(
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
