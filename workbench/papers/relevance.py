"""Relevance propagation and relevance patching: is relevance conserved, does it estimate patching well?

LRP hands a network's output back to what made it, so that nothing is lost; AttnLRP (Achtibat et al. 2024) does so
through attention. RelP (Rezaei Jafari et al. 2025) uses the same coefficients in place of gradients to estimate
activation patching. Here: the relevance that arrives at every layer against the output, and estimates of the effect of
every part at every position against exact patching, beside plain gradients (AtP). Salient relevance (Li et al. 2017) is
tried on maps of tokens.

Controls:
- networks with biases; the plain gradient: where conservation must not hold
- plain gradients on the same prompts and parts, compared in the same resamples
- estimates exchanged between the points of a prompt
- a planted region under noise, where smoothing must help
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import WorkbenchError
from workbench.core.loading import lazily
from workbench.core.stats.agreement import spearman
from workbench.papers.kinds import Setting
from workbench.papers.kit import Claim, Conditions, Paper, needs, untried
from workbench.papers.kit.criteria import above, at_least, at_most, fact, given_p
from workbench.papers.registry import add_paper
from workbench.view.pictures import Bars, Heatmap, Scatter

with lazily():
    from workbench.engine import of_task
    from workbench.evaluate import against_exact, conservation, relevance_rules, salient

if TYPE_CHECKING:
    from workbench.engine.paired_runs import PairedRuns

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


@dataclass(frozen=True, kw_only=True)
class RelevanceSizes:
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


def measure(setting: Setting) -> Conditions:
    """Relevance at every layer, estimates beside exact patching here and on other models, maps of tokens."""
    o, c = setting.options, Conditions(seed=setting.seed)
    runs = _runs(setting, f"{setting.name} {o.task}", o.n_pairs)
    _of_networks(c, o.networks)
    _agreement(setting, c, runs)
    _others(setting, c)
    _conserved(setting, c, runs)
    _smoothing(c, runs)
    return c


def _runs(setting: Setting, text: str, n: int) -> PairedRuns:
    """Clean and corrupted runs of a ``model task``."""
    model, _, task = text.partition(" ")
    bridge = setting.model if model == setting.name else setting.open(model)
    return setting.begin(of_task.paired_runs(bridge, task, n=n, seed=setting.seed))


def _of_networks(c: Conditions, n: int) -> None:
    """Identities on random networks, each beside where it must not hold."""
    found = relevance_rules.identities(n)
    for name, control in (
        ("lost without biases", "lost with biases"),
        ("modified gradient", "plain gradient"),
    ):
        c.tell(name, found[name], control=f"{{{control}}}", n=n)
        c.numbers[control] = found[control]
    c.numbers["networks"] = n


def _agreement(setting: Setting, c: Conditions, runs: PairedRuns) -> None:
    """Every estimate of every kind of part beside exact patching, and what one gains over another."""
    found = against_exact.agreement(runs, progress=setting.progress)
    measured = {kind: _correlations(found, kind, setting.seed) for kind in found.exact}
    c.numbers["agreement"] = {kind: _as_rows(pair) for kind, pair in measured.items()}
    c.numbers["gain"] = {
        f"{kind}: {better}": against_exact.gain(measured[kind], better, worse)
        for kind, better, worse in COMPARED
        if kind in measured
    }
    c.numbers["error"] = {
        kind: {
            name: against_exact.error_share(found.exact[kind].ravel(), one.ravel())
            for name, one in row.items()
        }
        for kind, row in found.estimates.items()
    }
    if MLPS in measured:
        relp = found.estimates[MLPS]["RelP"]
        c.numbers["shuffled"] = against_exact.shuffled(found.exact[MLPS], relp, seed=setting.seed)
    rows = [
        {"parts": kind, "estimate": name, **one, "error": c.numbers["error"][kind][name]}
        for kind, row in c.numbers["agreement"].items()
        for name, one in row.items()
    ]
    c.tables[f"correlation with exact patching, {setting.options.task}, n={runs.n_pairs} prompts"] = rows
    bars = [(f"{row['parts']}, {row['estimate']}", row["r"], row["low"], row["high"], "") for row in rows]
    c.pictures["Correlation with exact patching"] = Bars.of(
        bars, x_label="Pearson's r, 95 % interval over prompts"
    )
    kind = MLPS if MLPS in found.exact else HEADS
    c.pictures[f"Estimated and exact effects: {kind}"] = Scatter.of(
        {name: found.points(kind, name) for name in ("AtP", "RelP")},
        x_label="exact effect, logits",
        y_label="estimate, logits",
        diagonal="exact",
    )


def _correlations(found: against_exact.Agreement, kind: str, seed: int) -> Any:
    return against_exact.correlations(found.exact[kind], found.estimates[kind], seed=seed)


def _as_rows(pair: Any) -> dict[str, dict[str, Any]]:
    return {name: asdict(one) for name, one in pair[0].items()}


def _others(setting: Setting, c: Conditions) -> None:
    """Correlations on other models and tasks; what could not be measured, with the reason."""
    o: RelevanceSizes = setting.options
    found: dict[str, Any] = {f"{setting.name} {o.task}": c.numbers["agreement"]}
    for text in o.others:
        try:
            runs = _runs(setting, text, o.n_pairs_others)
            seen = against_exact.agreement(runs, kinds=(MLPS, STREAM), progress=setting.progress)
            found[text] = {kind: _as_rows(_correlations(seen, kind, setting.seed)) for kind in seen.exact}
        except WorkbenchError as problem:
            found[text] = problem.message.split("\n")[0]
            setting.note(f"{text}: {found[text]}")
    lacking = [
        {"model and task": text, "parts": f"not measured: {why}"}
        for text, why in found.items()
        if isinstance(why, str)
    ]
    rows = [
        {"model and task": text, "parts": kind} | {name: one["r"] for name, one in table[kind].items()}
        for text, table in found.items()
        for kind in (MLPS, STREAM)
        if kind in table and not isinstance(table, str)
    ]
    c.tables["the same on other models and tasks (MLP outputs and residual stream)"] = [*rows, *lacking]
    c.numbers["cases"], c.numbers["wins"] = len(rows), sum(row["RelP"] > row["AtP"] for row in rows)


def _conserved(setting: Setting, c: Conditions, runs: PairedRuns) -> None:
    """How far the relevance at each layer is from the metric, by rule, on this model and on one without biases."""
    o: RelevanceSizes = setting.options
    free, rows = _runs(setting, o.bias_free, o.n_pairs_others), []
    for name, where in ((f"{setting.name} {o.task}", runs), (o.bias_free, free)):
        off = {
            rule: conservation.conservation(where, backward=how).deviation for rule, how in BACKWARD.items()
        }
        layers = [f"layer {i}" for i in range(where.wiring.n_layers)]
        rows += [
            {"model and task": name, "rule": rule, **dict(zip(layers, far.tolist(), strict=True))}
            for rule, far in off.items()
        ]
        c.pictures[f"Relevance that is lost or made up, {name}"] = Heatmap.of(
            np.array(list(off.values())), list(off), layers, unit="share of the metric"
        )
    c.tables["relevance entering each layer: distance from the metric, as a share of it"] = rows
    c.numbers |= {"bias-free": o.bias_free, "worst": {rule: float(far.max()) for rule, far in off.items()}}
    c.numbers["bias-free prompts"] = free.n_pairs


def _smoothing(c: Conditions, runs: PairedRuns) -> None:
    """Rank correlation with exact replacement of every token, of the raw map and after both steps."""
    exact, unit = salient.occlusion(runs), "rank correlation of a map of tokens with exact replacement"
    steps = {"raw": np.abs, "salient": salient.salient_relevance}
    for rule, backward in BACKWARD.items():
        maps = salient.token_relevance(runs, backward=backward)
        for name, step in steps.items():
            found = [spearman(step(m), np.abs(e)) for m, e in zip(maps, exact, strict=True) if e.any()]
            # a map that is the same everywhere has no correlation
            c.add(f"{rule}, {name}", np.array(found), within=(-1.0, 1.0), unit=unit, undefined=True)
    lines = [salient.planted_region(seed=c.seed * 1000 + i) for i in range(100)]
    for name, step in steps.items():
        c.numbers[f"planted, {name}"] = float(
            np.mean([spearman(step(noisy), truth) for truth, noisy in lines])
        )


def _r(kind: str, name: str, what: str = "r") -> str:
    return f"agreement[{kind}][{name}][{what}]"


def _kept(says: str, criterion: str, rule: str, control: str, most: float, why: str, where: str) -> Claim:
    return Claim(
        says,
        at_most(f"worst[{rule}]", most),
        f"{criterion}, on {{bias-free}}",
        why=why,
        where=where,
        control=f"{{worst[{control}]}}",
        n="{bias-free prompts}",
    )


def _better(kind: str, better: str, worse: str, paper: str, where: str) -> Claim:
    gain = f"gain[{kind}: {better}]"
    return Claim(
        f"{better} agrees with exact patching better than {worse}: {kind}",
        at_least(f"{gain}[low]", 0) & given_p(f"{gain}[p]"),
        f"interval of the difference of Pearson's r above 0, and p < {ALPHA} after Holm's correction for three tests",
        paper=paper,
        why="the same prompts are drawn for both, so that what they have in common falls out",
        where=where,
        needs=[needs(lambda c: f"{kind}: {better}" in c.numbers["gain"], f"the model has no {kind}")],
        family="better",
        found=f"{{{_r(kind, better)}:.3f}}; {{{gain}[more]:+.3f}} [{{{gain}[low]:+.3f}}, {{{gain}[high]:+.3f}}]",
        control=f"{{{_r(kind, worse)}}}",
        n=f"{{{_r(kind, better, 'n')}}}",
    )


def _network(says: str, criterion: str, own: str, control: str, why: str, where: str) -> Claim:
    by = fact("an identity here, and not there", lambda c: c.mean(own) <= ROUNDING < c.mean(control), own)
    return Claim(says, by, criterion, why=why, where=where)


HAS_MLPS = needs(lambda c: MLPS in c.numbers["agreement"], f"the model has no {MLPS}")
OfMlps = partial(Claim, where=RELP, needs=[HAS_MLPS], n=f"{{{_r(MLPS, 'RelP', 'n')}}}")
CLAIMS = {
    "identity": _network(
        "relevance of a ReLU network without biases sums to its output",
        f"largest difference of {{networks}} random networks at most {ROUNDING:g} of the output, at epsilon 1e-12",
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
    "close": OfMlps(
        "for MLP outputs RelP agrees closely with patching",
        at_least(_r(MLPS, "RelP", "low"), CLOSE)
        & fact("above chance", lambda c: c.mean(_r(MLPS, "RelP")) - c.mean("shuffled") >= CLOSE),
        f"lower end of the interval of r at least {CLOSE}, and at least {CLOSE} above shuffled estimates",
        paper=0.956,
        why="the paper's numbers are 0.956 to 0.992; the control exchanges estimates between points of a prompt",
        found=f"{{{_r(MLPS, 'RelP')}}}",
        control="{shuffled}",
    ),
    "poor": OfMlps(
        "for MLP outputs plain gradients are of little use",
        at_most(_r(MLPS, "AtP", "high"), POOR),
        f"upper end of the interval of r at most {POOR}",
        paper=0.006,
        why=f"the paper's numbers are 0.195 and less; below {POOR} at most a quarter of the variance is shared",
        found=f"{{{_r(MLPS, 'AtP')}}}",
        control=f"{{{_r(MLPS, 'RelP')}}}",
    ),
    "size": OfMlps(
        "RelP also gets the size of the effects right, better than gradients do",
        fact("half the error", lambda c: c.mean(f"error[{MLPS}][RelP]") <= c.mean(f"error[{MLPS}][AtP]") / 2),
        "its root mean squared error is at most half of theirs",
        why="correlation does not see a wrong scale; an estimate in the metric's unit should have the size too",
        where="an extension of ours",
        found=f"error {{error[{MLPS}][RelP]:.2f}} of the effects' size",
        control=f"gradients {{error[{MLPS}][AtP]:.2f}}",
    ),
    "attention": Claim(
        "for attention outputs plain gradients are as good as RelP",
        at_least(_r(OUTPUTS, "AtP"), CLOSE)
        & at_least(_r(OUTPUTS, "RelP"), CLOSE)
        & at_most(f"gain[{OUTPUTS}: RelP][low]", 0),
        f"both r at least {CLOSE}, and the interval of RelP minus AtP reaches 0 or below",
        paper="AtP 0.979, RelP 0.962 (GPT-2 small)",
        why="the paper has no gain there; clearly above 0 would be one",
        where=RELP,
        found=f"AtP {{{_r(OUTPUTS, 'AtP')}:.3f}}, RelP {{{_r(OUTPUTS, 'RelP')}:.3f}}",
        n=f"{{{_r(OUTPUTS, 'AtP', 'n')}}}",
    ),
    "everywhere": Claim(
        "RelP is above gradients on most models and tasks (MLP outputs, residual stream)",
        fact("most cases", lambda c: c.mean("cases") and c.mean("wins") >= 0.75 * c.mean("cases")),
        "in at least three quarters of the cases",
        paper="in GPT-2 small, medium and large",
        why="cases share models, so no test is made of it; three quarters is clearly more than chance",
        where=RELP,
        found="{wins} of {cases}",
        control="half of the cases by chance",
        n="{cases}",
    ),
    "salient": Claim(
        "salient relevance shows what matters better than the raw relevance map (on tokens)",
        above("CP-LRP, salient", "CP-LRP, raw"),
        "interval of the difference in rank correlation with exact replacement of each token above 0",
        why="the paper judges by eye that regions come out; exact replacement is the truth here. The control has a "
        "region that matters as a whole, where it must help",
        where=SALIENT,
        found="{CP-LRP, salient:.2f}, raw {CP-LRP, raw:.2f}",
        control="planted region under noise: {planted, salient:.2f}, raw {planted, raw:.2f}",
    ),
    "image": untried(
        "salient relevance shows the regions of an image that a network attends to",
        "the same measurement on pixels",
        "the models here read text; there are no images",
        why="",
        where=SALIENT,
    ),
}
REPLICATION = add_paper(
    Paper(
        name="relevance",
        title="Relevance propagation and relevance patching",
        source="Achtibat et al. 2024, arXiv:2402.05602; Rezaei Jafari et al. 2025, arXiv:2508.21258; Li et al. 2017",
        model="zoo:ioi",
        options=RelevanceSizes,
        measure=measure,
        claims=CLAIMS,
    )
)
