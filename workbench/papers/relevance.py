"""Relevance propagation and relevance patching: is relevance conserved, does it estimate patching well?

LRP hands a network's output back to what made it, so that nothing is lost; AttnLRP (Achtibat et al. 2024) does so
through attention. RelP (Rezaei Jafari et al. 2025) uses the same coefficients in place of gradients to estimate
activation patching. Here: the relevance that arrives at every layer against the output, and estimates of the effect of
every part at every position against exact patching, beside plain gradients (AtP). Salient relevance (Li et al. 2017) is
tried on maps of tokens and of pictures.

Controls:
- networks with biases; the plain gradient: where conservation must not hold
- plain gradients on the same prompts and parts, compared in the same resamples
- estimates exchanged between the points of a prompt
- a planted region under noise, where smoothing must help
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.claims import Quantity
from workbench.core.errors import WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, fact
from workbench.papers.kit.criteria import above, at_least, at_most, below, beyond, more
from workbench.papers.kit.refusals import tell_all
from workbench.papers.pictured_relevance import add_pictures, picture_claims
from workbench.papers.registry import add_paper
from workbench.view.pictures import Heatmap, Scatter

with lazily():
    from workbench.engine import of_task
    from workbench.evaluate import against_exact, conservation, relevance_rules, salient

MLPS, STREAM, HEADS, OUTPUTS = "MLP outputs", "residual stream", "heads", "attention outputs"
COMPARED = {kind: ("RelP", "AtP") for kind in (MLPS, STREAM, OUTPUTS)} | {HEADS: ("CP-LRP", "AttnLRP")}
RAW, SMOOTHED = "CP-LRP, raw", "CP-LRP, salient"
KV = "zoo:kv kv-retrieval"
ATTNLRP, RELP, SALIENT = "arXiv:2402.05602", "arXiv:2508.21258, table 1", "Li et al. 2017"
ROUNDING = 1e-4  # share of the metric; float32 through a few layers is off by 1e-6


@dataclass(frozen=True, kw_only=True)
class RelevanceSizes:
    """Sizes. ``others`` are further models and tasks, as ``model task``; ``bias_free`` a model without biases.

    ``pictures`` and ``draws`` of random places are those of ``zoo:marked``.
    """

    task: str = "ioi"
    n_pairs: int = 32
    others: tuple[str, ...] = ("zoo:ioi sva", "zoo:induction induction", KV, "zoo:stdlib docstring")
    n_pairs_others: int = 12
    bias_free: str = KV
    networks: int = 20
    pictures: int = 150
    draws: int = 40


def measure(setting: Setting) -> Conditions:
    """Relevance at every layer, estimates beside exact patching here and on other models, maps of tokens."""
    o, c = setting.options, Conditions(seed=setting.seed)
    runs = _runs(setting, f"{setting.name} {o.task}", o.n_pairs)
    _of_networks(c, o.networks)
    own = against_exact.agreement(runs, progress=setting.progress)
    _of_agreement(c, own)
    _of_others(setting, c, own)
    _of_layers(setting, c, runs)
    _of_tokens(c, runs)
    add_pictures(c, setting, o.pictures, o.draws)
    return c


def _runs(setting: Setting, text: str, n: int) -> of_task.PairedRuns:
    """Clean and corrupted runs of a ``model task``."""
    model, _, task = text.partition(" ")
    bridge = setting.model if model == setting.name else setting.open(model)
    return setting.begin(of_task.paired_runs(bridge, task, n=n, seed=setting.seed))


def _of_networks(c: Conditions, n: int) -> None:
    """Identities on random networks, each beside where it must not hold."""
    found = relevance_rules.identities(n)
    for own, other in (("lost without biases", "lost with biases"), ("modified gradient", "plain gradient")):
        c.numbers[other] = found[other]
        c.tell(own, found[own], control=found[other], n=n)


def _of_agreement(c: Conditions, found: against_exact.Agreement) -> None:
    """Every estimate of every kind of part beside exact patching, and what one gains over another."""
    for kind, (better, worse) in COMPARED.items():
        if kind not in found.exact:
            c.lacking |= {_r(name, kind): f"the model has no {kind}" for name in against_exact.RULES}
            continue
        exact, estimates = found.exact[kind], found.estimates[kind]
        measured = against_exact.correlations(exact, estimates, seed=c.seed)
        for name, one in measured[0].items():
            error = against_exact.error_share(exact.ravel(), estimates[name].ravel())
            tell_all(c, {_r(name, kind): one, f"error of {name} on {kind}": Quantity(error, one.n)})
        both = f"{_r(better, kind)} minus {_r(worse, kind)}"
        tell_all(c, {both: against_exact.gain(measured, better, worse)})
    kind = MLPS if MLPS in found.exact else HEADS
    exact, estimated = found.exact[kind], found.estimates[kind]["RelP"]
    c.numbers["shuffled estimates"] = against_exact.shuffled(exact, estimated, seed=c.seed)
    words = {"x_label": "exact effect, logits", "y_label": "estimate, logits", "diagonal": "exact"}
    points = {name: found.points(kind, name) for name in ("AtP", "RelP")}
    c.pictures[f"Estimated and exact effects: {kind}"] = Scatter.of(points, **words)


def _of_others(setting: Setting, c: Conditions, own: against_exact.Agreement) -> None:
    """Correlations on other models and tasks; what could not be measured, with the reason."""
    o: RelevanceSizes = setting.options
    rows: list[dict[str, Any]] = []
    lacking, found = [], {f"{setting.name} {o.task}": own}
    for text in o.others:
        try:
            runs = _runs(setting, text, o.n_pairs_others)
            found[text] = against_exact.agreement(runs, kinds=(MLPS, STREAM), progress=setting.progress)
        except WorkbenchError as problem:
            why = problem.message.split("\n")[0]
            setting.note(f"{text}: {why}")
            lacking.append({"model and task": text, "parts": f"not measured: {why}"})
    for text, seen in found.items():
        for kind in (kind for kind in (MLPS, STREAM) if kind in seen.exact):
            table, _ = against_exact.correlations(seen.exact[kind], seen.estimates[kind], seed=c.seed)
            r = {name: one.value for name, one in table.items()}
            rows.append({"model and task": text, "parts": kind, **r})
    c.tables["the same on other models and tasks (MLP outputs and residual stream)"] = [*rows, *lacking]
    wins = sum(row["RelP"] > row["AtP"] for row in rows)
    c.numbers |= {"cases": len(rows), "models asked": len({text.partition(" ")[0] for text in found})}
    c.tell("cases won", wins, control="half of the cases by chance", n=len(rows))


def _of_layers(setting: Setting, c: Conditions, runs: of_task.PairedRuns) -> None:
    """How far the relevance at each layer is from the metric, by rule, on this model and on one without biases."""
    o: RelevanceSizes = setting.options
    free, rules = _runs(setting, o.bias_free, o.n_pairs_others), against_exact.RULES
    c.numbers["bias-free"] = o.bias_free.partition(" ")[0]
    for name, where in ((f"{setting.name} {o.task}", runs), (o.bias_free, free)):
        off = [conservation.conservation(where, backward=rule).deviation for rule in rules.values()]
        layers, caption = [f"layer {i}" for i in range(where.wiring.n_layers)], f"Relevance lost, {name}"
        c.pictures[caption] = Heatmap.of(np.array(off), list(rules), layers, unit="share of the metric")
    for rule, far in zip(rules, off, strict=True):
        c.tell(f"relevance lost by {rule}", float(far.max()), n=free.n_pairs)


def _of_tokens(c: Conditions, runs: of_task.PairedRuns) -> None:
    """Rank correlation with exact replacement of every token, of the raw map and after both steps."""
    exact, unit = salient.occlusion(runs), "rank correlation of a map of tokens with exact replacement"
    steps: dict[str, Any] = {"raw": np.abs, "salient": salient.salient_relevance}
    for rule, backward in against_exact.RULES.items():
        maps = salient.token_relevance(runs, backward=backward)
        for name, step in steps.items():
            found = [spearman(step(m), np.abs(e)) for m, e in zip(maps, exact, strict=True) if e.any()]
            # a map that is the same everywhere has no correlation
            c.add(f"{rule}, {name}", np.array(found), within=(-1.0, 1.0), unit=unit, undefined=True)
    lines = [salient.planted_region(seed=c.seed * 1000 + i) for i in range(100)]
    for name, step in steps.items():
        alike = [spearman(step(noisy), truth) for truth, noisy in lines]
        c.numbers[f"planted, {name}"] = float(np.mean(alike))


def _r(name: str, kind: str) -> str:
    return f"r of {name} on {kind}"


def _better(kind: str, paper: str, where: str) -> Claim:
    better, worse = COMPARED[kind]
    one, other = _r(better, kind), _r(worse, kind)
    return Claim(
        f"{better} agrees with exact patching better than {worse}: {kind}",
        above(one, other) & beyond(f"{one} minus {other}"),
        paper=paper,
        why="Pearson's r; the same prompts are drawn for both, so that what they have in common falls out",
        where=where,
        family="better agreement",
    )


PLAIN, PATCHED = _r("AtP", MLPS), _r("RelP", MLPS)
PLAIN_OUT, PATCHED_OUT = _r("AtP", OUTPUTS), _r("RelP", OUTPUTS)
NO_GAIN = fact(
    f"the interval of RelP minus AtP on {OUTPUTS} reaches 0 or below",
    lambda c: c.interval(PATCHED_OUT, PLAIN_OUT).low <= 0,
)
CLAIMS = {
    "identity": Claim(
        "relevance of a ReLU network without biases sums to its output",
        at_most("lost without biases", ROUNDING) & more("lost with biases", ROUNDING),
        why="an identity of the epsilon rule: only rounding may remain; with biases (control) more is lost."
        " Largest of random networks, as a share of the output, at epsilon 1e-12",
        where=ATTNLRP, models="{n of lost without biases}",
    ),
    "modified": Claim(
        "the rules are a modified gradient: input times gradient with activation slope f(x)/x",
        at_most("modified gradient", ROUNDING) & more("plain gradient", ROUNDING),
        why="an identity; the control is the unmodified gradient, which must differ. Largest relative "
        "difference of the two forms, on GELU networks",
        where=f"{ATTNLRP}; {RELP}", models="{n of modified gradient}",
    ),
    "constant": Claim(
        "with a constant pattern (CP-LRP) every layer of a transformer without biases has the whole output",
        at_most("relevance lost by CP-LRP", ROUNDING),
        why="an identity where norms are a constant scale, activations a slope, products halved and nothing"
        " is added; the control is the plain gradient. A share of the metric, at the worst layer",
        where=ATTNLRP, control="{relevance lost by AtP}", model="{bias-free}",
    ),
    "softmax": Claim(
        "relevance is conserved by AttnLRP's rule for the softmax too (not claimed: its bias takes a part)",
        at_most("relevance lost by AttnLRP", 0.05),
        why="the rule of the softmax is not conserved in general and depends on the scores' offset; 5 % "
        "leaves room for what it loses in one layer. The control holds the pattern constant",
        where="a control of ours", control="{relevance lost by CP-LRP}", model="{bias-free}",
    ),
    "MLPs": _better(MLPS, "AtP 0.195, RelP 0.992 (GPT-2 small); 0.006, 0.956 (large)", RELP),
    "stream": _better(STREAM, "AtP 0.753, RelP 0.968 (GPT-2 small)", RELP),
    "heads": _better(
        HEADS, "recommended for models like GPT-2", f"{ATTNLRP}: the authors' code, not a claim of the paper",
    ),
    "close": Claim(
        "for MLP outputs RelP agrees closely with patching",
        above(PATCHED, by=0.9) & at_least(PATCHED, 0.9, over="shuffled estimates"), paper=0.956,
        why="the paper's numbers are 0.956 to 0.992; the control exchanges estimates between points of a prompt",
        where=RELP,
    ),
    "poor": Claim(
        "for MLP outputs plain gradients are of little use", below(PLAIN, by=0.5), paper=0.006,
        why="the paper's numbers are 0.195 and less; below 0.5 at most a quarter of the variance is shared",
        where=RELP, control=f"{{{PATCHED}}}",
    ),
    "size": Claim(
        "RelP also gets the size of the effects right, better than gradients do",
        at_most(f"error of RelP on {MLPS}", f"error of AtP on {MLPS}", times=1 / 2),
        why="correlation does not see a wrong scale; an estimate in the metric's unit should have the size too",
        where="an extension of ours",
    ),
    "attention": Claim(
        "for attention outputs plain gradients are as good as RelP",
        at_least(PLAIN_OUT, 0.9) & at_least(PATCHED_OUT, 0.9) & NO_GAIN,
        paper="AtP 0.979, RelP 0.962 (GPT-2 small)",
        why="the paper has no gain there; clearly above 0 would be one", where=RELP,
        control=f"{{{PATCHED_OUT}}}",
    ),
    "everywhere": Claim(
        "RelP is above gradients on most models and tasks (MLP outputs, residual stream)",
        at_least("cases won", "cases", times=3 / 4) & at_least("cases", 1),
        paper="in GPT-2 small, medium and large",
        why="cases share models, so no test is made of it; three quarters is clearly more than chance",
        where=RELP, models="{models asked}",
    ),
    "salient": Claim(
        "salient relevance shows what matters better than the raw relevance map (on tokens)",
        above(SMOOTHED, RAW),
        why="the paper judges by eye that regions come out; exact replacement is the truth here. The "
        "control has a region that matters as a whole, where it must help",
        where=SALIENT, control="planted region under noise: {planted, salient:.2f}, raw {planted, raw:.2f}",
    ),
    **picture_claims(SALIENT),
}  # fmt: skip
REPLICATION = add_paper(Paper(
    name="relevance", title="Relevance propagation and relevance patching",
    source="Achtibat et al. 2024, arXiv:2402.05602; Rezaei Jafari et al. 2025, arXiv:2508.21258; Li et al. 2017",
    model="zoo:ioi", options=RelevanceSizes, measure=measure, claims=CLAIMS,
))  # fmt: skip
