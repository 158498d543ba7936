"""What is claimed of sinks and of their calibration, and the criteria, fixed before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.circuits.verdicts.statistics import CHANGE, mean_interval
from workbench.core.claims import JudgedClaim, judge, source_of, untestable
from workbench.papers.attention_calibration_measures import (
    sign_tests,
)

# Criteria, fixed before anything was measured.
COMMON, LEVEL, KEPT, ROOM = 0.5, 0.05, 0.02, (0.2, 0.98)
PAPER = "Yu et al. 2024, arXiv:2406.15765"
CRITERIA: Mapping[str, tuple[str, str, str, str]] = {
    "later": (
        "sinks are found beyond the first token",
        f"more than {COMMON:.0%} of all heads have one in more than {COMMON:.0%} of the prompts",
        "the paper finds them throughout the middle layers; even attention has none by this threshold",
        "abstract",
    ),
    "harm": (
        "some sinks harm",
        f"a head whose calibration helps on the selection prompts helps on fresh ones too: sign test, Holm over all "
        f"heads, p < {LEVEL:g}",
        "a head picked for helping helps on the same prompts by construction",
        "abstract and the filter of heads",
    ),
    "help": (
        "other sinks help",
        f"calibrating some head lowers accuracy on fresh prompts: sign test, Holm over all heads, p < {LEVEL:g}",
        "the paper filters heads because calibrating all of them harms",
        "abstract",
    ),
    "act": (
        "calibration raises accuracy on held-out prompts",
        "paired difference above 0, interval included",
        "no prompt was used to choose the heads",
        "abstract",
    ),
    "random": (
        "it is these heads",
        f"there is a gain, it exceeds the mean gain of matched random sets, intervals included, and p < {LEVEL:g}, "
        "p = (1 + sets that gain as much) / (1 + sets)",
        "as many heads in the same layers; some of them may be useful too, and where a layer leaves little choice they "
        "are in every set. Without a gain there is nothing that these heads bring",
        "a control of ours (the paper filters heads)",
    ),
    "columns": (
        "it is the sinks",
        "there is a gain, and it exceeds that of as many columns of the same heads that are no sinks, intervals "
        "included",
        "any change of these heads might do; as many columns are not as much attention, so what both move is told",
        "a control of ours",
    ),
    "filter": (
        "heads have to be filtered",
        "there is a gain, and it exceeds that of calibrating all heads, intervals included",
        "the paper's step 1",
        "the method",
    ),
    "alpha": (
        "the threshold does not matter much",
        "with alpha 3 and with alpha 7 the same heads gain too: both differences above 0, intervals included",
        "the paper's ablation",
        "the ablation",
    ),
    "kept": (
        "other tasks are not harmed",
        f"on every unrelated task accuracy falls by at most {KEPT:.0%}, interval included",
        "the heads were chosen for one task; collateral damage is not in the paper",
        "a control of ours",
    ),
    "text": (
        "and so in a language model",
        "on held-out text next-token accuracy rises with the heads chosen on other text: above 0, interval included",
        "the paper's models are language models; a model of a few tasks might be special",
        "abstract",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was found on one quiz.

    Attributes:
        shares: Per head, share of prompts with a later sink; ``even``: the same for even attention.
        chosen: Heads whose calibration helps on the selection prompts.
        fresh: Per head, change of accuracy on evaluation prompts.
        plain: Accuracy per evaluation prompt as it is.
        gains: Condition -> change of accuracy per evaluation prompt.
        draws: Mean change of every matched random set.
        forced: Heads that are in every matched set, because their layer leaves no choice.
        moved: Condition -> share of a row's attention that it moves.
    """

    shares: dict[str, float]
    even: float
    selection: dict[str, np.ndarray]
    fresh: dict[str, np.ndarray]
    chosen: tuple[str, ...]
    plain: np.ndarray
    gains: dict[str, np.ndarray]
    draws: np.ndarray
    forced: tuple[str, ...]
    moved: dict[str, float]


def _shown(values: np.ndarray) -> str:
    low, high, _ = mean_interval(values, within=CHANGE)
    return f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def _low(values: np.ndarray) -> float:
    return mean_interval(values, within=CHANGE).low


def claims_of(
    found: Study,
    beside: dict[str, np.ndarray],
    text: dict[str, Any],
) -> tuple[JudgedClaim, ...]:
    base = float(found.plain.mean())
    made: dict[str, tuple[bool, Any, Any, int | None]] = {}
    common = sum(share > COMMON for share in found.shares.values())
    n_heads, n = len(found.shares), len(found.plain)
    made["later"] = (
        common > COMMON * n_heads,
        f"{common} of {n_heads} heads",
        f"even attention: {found.even:.0%}",
        n,
    )
    better, worse = sign_tests(found.fresh, better=True), sign_tests(found.fresh, better=False)
    harming = [h for h in found.chosen if better[h] < LEVEL]
    helping = [h for h in found.fresh if worse[h] < LEVEL]
    made["harm"] = bool(harming), _named(harming, found.fresh), f"{len(found.chosen)} chosen", n
    made["help"] = bool(helping), _named(helping, found.fresh), None, n
    if found.chosen:
        made |= _gain_claims(found, beside)
    if "gain" in text:
        gain = text["gain"]
        made["text"] = _low(gain) > 0, _shown(gain), f"all heads: {text['gain of all heads']:+.3f}", len(gain)
    return tuple(_claim(key, made.get(key), base, found, text) for key in CRITERIA)


def _gain_claims(found: Study, beside: dict[str, np.ndarray]) -> dict[str, tuple[bool, Any, Any, int | None]]:
    gain, base, n = found.gains["chosen heads"], float(found.plain.mean()), len(found.plain)
    made: dict[str, tuple[bool, Any, Any, int | None]] = {}
    made["act"] = _low(gain) > 0, f"{base:.3f} -> {base + gain.mean():.3f}: {_shown(gain)}", None, n
    random = found.gains["matched random heads, mean"]
    p = (1 + int((found.draws >= gain.mean()).sum())) / (1 + len(found.draws))
    made["random"] = (
        _low(gain) > 0 and _low(gain - random) > 0 and p < LEVEL,
        f"{_shown(gain - random)}; gain of the heads {_shown(gain)}; p {p:.3g}",
        f"{random.mean():+.3f} over {len(found.draws)} sets{_forced(found)}",
        n,
    )
    for key, name in (("columns", "chosen heads, other columns"), ("filter", "all heads")):
        made[key] = (
            _low(gain) > 0 and _low(gain - found.gains[name]) > 0,
            f"{_shown(gain - found.gains[name])}; gain of the heads {_shown(gain)}{_moved(found, 'chosen heads')}",
            f"{_shown(found.gains[name])}{_moved(found, name)}",
            n,
        )
    alphas = [found.gains[f"chosen heads, alpha {a:g}"] for a in (3.0, 7.0)]
    made["alpha"] = all(_low(g) > 0 for g in alphas), "; ".join(_shown(g) for g in alphas), _shown(gain), n
    if beside:
        worst = min(beside, key=lambda task: _low(beside[task]))
        made["kept"] = (
            _low(beside[worst]) >= -KEPT,
            f"{worst}: {_shown(beside[worst])}",
            None,
            len(beside[worst]),
        )
    return made


def _forced(found: Study) -> str:
    return f"; {', '.join(found.forced)} in every set, as the layer leaves no choice" if found.forced else ""


def _moved(found: Study, name: str) -> str:
    both = "chosen heads, other columns" in found.moved and name in found.moved
    return f", {found.moved[name]:.1%} of the attention moved" if both else ""


def _named(heads: list[str], changes: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{head} {changes[head].mean():+.3f}" for head in heads) or "none"


def _claim(key: str, made: tuple | None, base: float, found: Study, text: dict[str, Any]) -> JudgedClaim:
    words, criterion, reason, where = CRITERIA[key]
    fixed = {"reason": reason, "source": source_of(PAPER, where)}
    if key == "act":
        fixed["paper"] = "up to +7.3 points (Llama-30B)"
    if key == "text" and made is None:
        return untestable(words, criterion, text["why"], model=text["model"], **fixed)
    if made is None:
        why = (
            "no unrelated task fits this model"
            if found.chosen
            else "no head's calibration helps on the selection prompts"
        )
        return untestable(words, criterion, why, **fixed)
    if key != "text" and not ROOM[0] <= base <= ROOM[1] and key not in ("later", "kept"):
        why = f"accuracy is {base:.1%} as it is; between {ROOM[0]:.0%} and {ROOM[1]:.0%} it can rise and fall"
        return untestable(words, criterion, why, **fixed)
    sets = len(found.draws)
    if key == "random" and 1 / (1 + sets) >= LEVEL:
        why = f"only {sets} other sets of as many heads in these layers: p cannot fall below {1 / (1 + sets):.2g}"
        why += _forced(found)
        return untestable(words, criterion, why, control=made[2], **fixed)
    holds, value, control, n = made
    if key == "text":
        fixed["model"] = text["model"]
    return judge(words, criterion, bool(holds), found=value, control=control, n=n, **fixed)
