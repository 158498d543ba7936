"""Soft injection of task embeddings (Park and Rhee 2025): a task as a learned mix of mean head outputs.

Embeddings and mixes, the choice among them, and the reported numbers use three sets of words that never meet. A model
that learns these tasks from clean examples leaves nothing to gain, so everything is also measured with examples of
which some mislead.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench.circuits.verdicts.statistics import CHANGE, SHARE, Interval, mean_interval
from workbench.core.claims import JudgedClaim, Rows, judge, untestable
from workbench.core.stats.agreement import spearman
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.options import SoftInjectionSizes
from workbench.papers.soft_injection_measures import (
    Measured,
    Transfer,
    crossed_interval,
    measure_task,
    transfer,
)
from workbench.papers.soft_injection_prompts import Prompts, Split, prompts_of
from workbench.view.pictures import Bars, Heatmap, Picture

# Criteria, fixed before anything was measured.
GAIN = 0.3  # over no examples, and also over the same with random vectors
MORE = 0.05  # over few-shot prompts: half of the paper's smallest gain
ROOM = 0.95  # few-shot accuracy above which nothing can be gained
LEARNS = 0.5  # few-shot accuracy below which the model does not do the tasks at all
BIMODAL = 0.8  # the lower end of the paper's range
KEPT, LOST = (
    0.1,
    0.1,
)  # accuracy lost to a similar task's mix at most; how much more to a dissimilar one's at least
ALIKE = 0.3  # rank correlation
OVER = "interval above zero (tasks and words resampled)"


def run(setting: Setting) -> Findings:
    """Every claim."""
    options: SoftInjectionSizes = setting.options
    split = Split.drawn(setting.seed)
    drawn = {
        wrong: {name: _prompts(setting, name, split, wrong) for name in options.tasks}
        for wrong in (0.0, options.misleading)
    }
    clean = _measured(setting, drawn[0.0], "clean examples")
    misled = _measured(setting, drawn[options.misleading], "misleading examples", competitors=True)
    spread = transfer(setting.model, drawn[0.0], {name: found.alpha for name, found in clean.items()})
    claims = _claims(clean, misled, spread, setting.seed)
    return Findings(
        claims=claims if _learns(clean) else tuple(_unlearned(claim, clean) for claim in claims),
        tables={
            "Accuracy, clean examples": _rows(clean),
            f"Accuracy, {options.misleading:.0%} of the examples of other tasks": _rows(misled),
            "A mix of one task, the embedding of another": spread.rows(),
        },
        pictures=_pictures(clean, misled, spread),
        numbers={
            "split": {name: list(part) for name, part in vars(split).items()},
            "clean": {name: found.to_dict() for name, found in clean.items()},
            "misleading": {name: found.to_dict() for name, found in misled.items()},
        },
    )


def _prompts(setting: Setting, name: str, split: Split, wrong: float) -> Prompts:
    o: SoftInjectionSizes = setting.options
    return prompts_of(
        setting.model, name, split, shots=o.shots, n=o.prompts, n_test=o.test, wrong=wrong, seed=setting.seed
    )


def _measured(
    setting: Setting, drawn: Mapping[str, Prompts], what: str, *, competitors: bool = False
) -> dict[str, Measured]:
    """Each task in turn; the embedding of another task is that of the one after it."""
    found, names = {}, list(drawn)
    for i, name in enumerate(names):
        setting.progress(i, len(names), f"{what}: {name}")
        other = drawn[_unlike(drawn, i)]
        found[name] = measure_task(
            setting.model,
            drawn[name],
            other,
            steps=setting.options.steps,
            batch=setting.options.batch,
            seed=setting.seed + i,
            competitors=competitors,
        )
    setting.progress(len(names), len(names), what)
    return found


def _unlike(drawn: Mapping[str, Prompts], i: int) -> str:
    """The next task that gives words of another kind, one of as many words if there is one."""
    names = list(drawn)
    turned = names[i + 1 :] + names[:i]
    own = drawn[names[i]].task
    other = [name for name in turned if drawn[name].task.gives != own.gives] or turned
    alike = [name for name in other if (drawn[name].task.inputs == "three") == (own.inputs == "three")]
    return (alike or other)[0]


# -- claims -------------------------------------------------------------------------------------------------


def _all(found: Mapping[str, Measured], name: str) -> np.ndarray:
    """One value per test prompt of all tasks for which the condition was measured."""
    return np.concatenate([one.right[name] for one in found.values() if name in one.right]).astype(float)


def _more(found: Mapping[str, Measured], here: str, there: str, seed: int) -> tuple[float, Interval]:
    """Mean difference of two conditions over prompts, paired, with its interval."""
    rows = [(one.right[here].astype(float) - one.right[there]) for one in found.values()]
    return float(np.concatenate(rows).mean()), crossed_interval(rows, within=CHANGE, seed=seed)


def _learns(clean: Mapping[str, Measured]) -> bool:
    return bool(_all(clean, "examples").mean() >= LEARNS)


def _unlearned(claim: JudgedClaim, clean: Mapping[str, Measured]) -> JudgedClaim:
    share = _all(clean, "examples").mean()
    why = f"the model does not learn these tasks from examples: {share:.0%} right after them"
    return untestable(claim.claim, claim.criterion, why, reason=claim.reason, source=claim.source)


def _claims(
    clean: Mapping[str, Measured], misled: Mapping[str, Measured], spread: Transfer, seed: int
) -> tuple[JudgedClaim, ...]:
    return (
        _does_the_tasks(clean, seed),
        _beats_examples(clean, "soft", "clean examples", seed, paper="+0.10 to +0.14"),
        _beats_examples(misled, "soft", "misleading examples", seed, paper="+0.10 to +0.14"),
        _beats_examples(
            misled, "one prompt", "misleading examples, one prompt", seed, paper="0.887 against 0.767"
        ),
        _beats_others(misled, seed),
        _is_the_embedding(clean),
        _bimodal(clean),
        _transfers(spread, seed),
        _relevance(clean, seed),
    )


def _does_the_tasks(clean: Mapping[str, Measured], seed: int) -> JudgedClaim:
    over_none, _ = _more(clean, "soft", "no examples", seed)
    over_random, interval = _more(clean, "soft", "random vectors", seed)
    return judge(
        "a learned mix of mean head outputs makes the model do the task without examples",
        f"accuracy at least {GAIN} above no examples, and at least {GAIN} above random vectors with a mix learned for "
        f"them, for the latter {OVER}",
        over_none >= GAIN and over_random >= GAIN and interval.low > 0,
        found=float(_all(clean, "soft").mean()),
        control=float(_all(clean, "random vectors").mean()),
        n=len(_all(clean, "soft")),
        reason="random vectors of the same lengths with their own learned mix show what tuning alone would give; the "
        "embedding adds only what is left above that, so the same gain is asked over both",
        source="Park and Rhee 2025, the method",
    )


def _beats_examples(
    found: Mapping[str, Measured], name: str, setting: str, seed: int, *, paper: str
) -> JudgedClaim:
    claim = {
        "soft": f"soft injection is better than the prompts with examples it was made from ({setting})",
        "one prompt": f"also with the embedding of a single prompt ({setting.split(',')[0]})",
    }[name]
    few = float(_all(found, "examples").mean())
    criterion = f"accuracy at least {MORE} above that after examples, {OVER}"
    known = {
        "paper": paper,
        "reason": "the same test questions, with and without examples; half of the smallest gain in the paper",
        "source": "Park and Rhee 2025, 57 tasks, 12 models, 10 examples",
    }
    if few > ROOM:
        why = f"{few:.1%} are right after examples: there is nothing left to gain"
        return untestable(claim, criterion, why, control=few, found=float(_all(found, name).mean()), **known)
    more, interval = _more(found, name, "examples", seed)
    return judge(
        claim,
        criterion,
        more >= MORE and interval.low > 0,
        found=float(_all(found, name).mean()),
        control=few,
        n=len(_all(found, name)),
        **known,
    )


def _beats_others(found: Mapping[str, Measured], seed: int) -> JudgedClaim:
    names = ("hard heads", "function vector")
    best = max(names, key=lambda name: float(_all(found, name).mean()))
    more, interval = _more(found, "soft", best, seed)
    return judge(
        "a soft mix is better than a hard choice of heads and than a function vector (misleading examples)",
        f"accuracy above the better of the two, {OVER}",
        more > 0 and interval.low > 0,
        found=float(_all(found, "soft").mean()),
        control=float(_all(found, best).mean()),
        n=len(_all(found, "soft")),
        reason=f"both have their number of heads and layer chosen on validation prompts; the better is: {best}",
        source="Park and Rhee 2025, baselines",
    )


def _is_the_embedding(clean: Mapping[str, Measured]) -> JudgedClaim:
    own, other = float(_all(clean, "other task").mean()), float(_all(clean, "other task's answer").mean())
    return judge(
        "what is injected says which task is done: another task's embedding brings that task's answers",
        "under the learned mix, another task's embedding leaves at most 0.2 of the own answers right and gives at "
        "least 0.3 of the other task's",
        own <= 0.2 and other >= 0.3,
        found=other,
        control=own,
        n=len(_all(clean, "other task")),
        reason="a wrong target is the control that tells content from disturbance; own answers are the control here",
        source="a control of ours",
    )


def _bimodal(clean: Mapping[str, Measured]) -> JudgedClaim:
    shares = np.array([found.near_ends for found in clean.values()])
    return judge(
        "most shares end near 0 or 1",
        f"on average at least {BIMODAL:.0%} of the heads within 0.1 of 0 or 1 after the last step",
        float(shares.mean()) >= BIMODAL,
        paper="0.8 to 0.9",
        found=float(shares.mean()),
        control=float(np.mean([found.near_ends_random for found in clean.values()])),
        n=len(shares),
        reason="the lower end of the paper's range, whose code keeps the last mix; the control is the mix learned for "
        "random vectors: a share as high there means the optimiser, not the task, drives shares apart",
        source="Park and Rhee 2025, distribution of alpha",
    )


def _transfers(spread: Transfer, seed: int) -> JudgedClaim:
    claim = "where to inject carries over to similar tasks, not to dissimilar ones"
    criterion = (
        f"another task's mix costs at most {KEPT} accuracy between similar tasks, and at least {LOST} more between "
        "dissimilar ones, p below 0.05 when it is permuted which tasks are similar"
    )
    known = {
        "reason": "the cost for dissimilar tasks against that for similar ones; each task keeps its own embedding; "
        "tasks are permuted, not pairs, since all pairs of a task share it",
        "source": "Park and Rhee 2025, transfer of head positions",
    }
    if not len(spread.similar) or not len(spread.dissimilar):
        return untestable(claim, criterion, "the tasks chosen are all similar, or none are", **known)
    if spread.groupings <= 20:
        why = f"these tasks can be grouped in {spread.groupings} ways only: no p below 0.05 is possible"
        return untestable(claim, criterion, why, **known)
    near, far = float(spread.similar.mean()), float(spread.dissimilar.mean())
    return judge(
        claim,
        criterion,
        near <= KEPT and far - near >= LOST and spread.p(seed) < 0.05,
        found=far,
        control=near,
        n=len(spread.names),
        **known,
    )


def _relevance(clean: Mapping[str, Measured], seed: int) -> JudgedClaim:
    along = np.array([spearman(found.alpha.flatten(), found.effects.flatten()) for found in clean.values()])
    interval = mean_interval(along, within=(-1.0, 1.0), seed=seed)
    chance = [spearman(found.alpha_random.flatten(), found.effects.flatten()) for found in clean.values()]
    return judge(
        "the learned shares say which heads matter",
        f"mean rank correlation of alpha with the effect of a head's embedding alone at least {ALIKE}, interval above "
        "zero (tasks resampled)",
        float(along.mean()) >= ALIKE and interval.low > 0,
        found=float(along.mean()),
        control=float(np.mean(chance)),
        n=len(along),
        reason="alpha is read as a map of relevance; the effect is measured on training prompts; the control is the "
        "mix learned for random vectors",
        source="an extension of ours: a use of alpha, not a number of the paper",
    )


# -- tables and pictures ------------------------------------------------------------------------------------

_COLUMNS = (
    *("no examples", "examples", "soft", "one prompt", "open heads only", "hard heads", "function vector"),
    *("random vectors", "same mix, random vectors", "other task", "other task's answer"),
    *("unrelated examples", "unrelated examples, injected"),
)


def _rows(found: Mapping[str, Measured]) -> Rows:
    rows = []
    for name, one in found.items():
        row: dict[str, object] = {"task": name}
        row |= {column: float(one.right[column].mean()) for column in _COLUMNS if column in one.right}
        rows.append(
            row
            | {
                "alpha near 0 or 1, last": one.near_ends,
                "alpha near 0 or 1, kept": one.near_ends_best,
                "heads chosen": one.n_hard,
            }
        )
    return rows


def _pictures(
    clean: Mapping[str, Measured], misled: Mapping[str, Measured], spread: Transfer
) -> dict[str, Picture]:
    first, found = next(iter(clean.items()))
    layers = [f"layer {i}" for i in range(found.alpha.shape[0])]
    heads = [f"head {i}" for i in range(found.alpha.shape[1])]
    mean = np.mean([one.alpha for one in clean.values()], axis=0)
    return {
        "accuracy, clean": _bars(clean, "Accuracy over all tasks, clean examples"),
        "accuracy, misleading": _bars(misled, "Accuracy over all tasks, misleading examples"),
        "alpha": Heatmap.of(found.alpha, layers, heads, title=f"alpha, {first}", unit="share"),
        "mean alpha": Heatmap.of(mean, layers, heads, title="alpha, mean of all tasks", unit="share"),
        "effects": Heatmap.of(
            found.effects, layers, heads, title=f"Effect of each embedding alone, {first}", unit="nats"
        ),
        "transfer": Heatmap.of(
            spread.accuracy,
            spread.names,
            spread.names,
            title="Accuracy with another task's mix",
            row_title="mix learned for",
            column_title="embedding and questions of",
            unit="accuracy",
        ),
    }


def _bars(found: Mapping[str, Measured], title: str) -> Bars:
    names = [name for name in _COLUMNS if name in next(iter(found.values())).right]
    bars = []
    for name in names:
        values = _all(found, name)
        low, high, _ = crossed_interval(
            [one.right[name] for one in found.values() if name in one.right], within=SHARE
        )
        bars.append((name, float(values.mean()), low, high, f"n = {len(values)}"))
    return Bars.of(bars, x_label="share of right answers", title=title)


REPLICATION = Replication(
    name="soft-injection",
    about="The mean output of every head after prompts with examples is a task embedding; a share of it for each head, "
    "learned on prompts without examples, is mixed in at the last position. Measured beside prompts with and without "
    "examples, hard choices of heads, function vectors, random vectors and other tasks' embeddings. The best mix on "
    "validation prompts is kept, as the paper says; the released code keeps the last.",
    options=SoftInjectionSizes,
    controls=(
        "no examples",
        "random vectors with a mix learned for them",
        "the learned mix with random vectors",
        "another task's embedding",
        "another task's mix",
        "unrelated prompts with examples, injected",
        "hard choices of heads, function vectors",
    ),
    run=run,
)
