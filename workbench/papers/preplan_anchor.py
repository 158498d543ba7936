"""Preplan and anchor (2025): local heads look back before a chunk, global heads return to a few tokens after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.core.errors import WorkbenchError
from workbench.core.stats.agreement import pearson
from workbench.papers.kinds import Findings, Replication, Setting
from workbench.papers.options import PreplanSizes
from workbench.papers.preplan_anchor_claims import (
    CLAIMS,
    CRITERIA,
    NO_TRAINING,
    of_chunks,
    of_coupling,
    of_entropy,
    of_groups,
    perturbation,
)
from workbench.papers.preplan_anchor_measures import (
    Groups,
    Response,
    Swap,
    group_heads,
    respond,
    responses_of,
    swaps,
)
from workbench.papers.preplan_anchor_tokens import (
    Marks,
    chance,
    credit,
    peaks,
    roles,
    share_followed,
)
from workbench.view.pictures import Curves, Heatmap, Picture


def run(setting: Setting) -> Findings:
    """Every claim on responses that the model writes itself; punctuation is left out, and shown beside."""
    model, options = setting.model, setting.options
    try:
        grouping = respond(model, options, n=options.grouping, seed=setting.seed)
        written = respond(model, options, n=options.responses, seed=setting.seed + 1)
    except WorkbenchError as problem:
        return Findings(claims=tuple(CLAIMS.untestable(key, problem.message) for key in CRITERIA))
    groups = group_heads(model, grouping, options)
    again = group_heads(model, written, options)
    found = responses_of(model, written, groups, options)
    setting.progress(1, 2, "responses")
    swapped = swaps(model, found, options, seed=setting.seed)
    moved = [np.roll(r.fai, len(r.fai) // 3) for r in found]
    control = swaps(model, found, options, seed=setting.seed, values=moved)
    setting.progress(2, 2, "responses")
    words = [r.wordlike for r in found]
    claims = (
        of_groups(groups, again, options),
        *of_chunks(found, options, setting.seed),
        *of_entropy(found, options, setting.seed),
        *of_coupling(found, words, options, setting.seed),
        perturbation(swapped, control, setting.seed),
        CLAIMS.untestable("credit", NO_TRAINING),
        CLAIMS.untestable("coupled", NO_TRAINING),
    )
    return Findings(
        claims=claims,
        tables=_tables(groups, found, swapped, control, options, setting.seed),
        pictures=_pictures(model, groups, found),
        numbers={"tokens": sum(len(r.tokens) for r in found), "responses": len(found)},
    )


def _tables(
    groups: Groups,
    found: Sequence[Response],
    swapped: Sequence[Swap],
    control: Sequence[Swap],
    options: PreplanSizes,
    seed: int,
) -> dict[str, list[dict[str, Any]]]:
    return {
        "Head groups": [
            {
                "group": kind,
                "heads": ", ".join(groups.names(mask)),
                "mean span": float(groups.span[mask].mean()),
            }
            for kind, mask in (("local", groups.local), ("global", groups.far), ("receiver", groups.receiver))
        ],
        "Coupling by distance, with and without punctuation": _by_distance(found, options, seed),
        "Tokens by role": _role_rows(found, options),
        "Swapped tokens": [
            {
                "FAI": kind,
                "alike": np.mean([s.alike for s in swapped if s.kind == kind]),
                "alike, shifted FAI": np.mean([s.alike for s in control if s.kind == kind]),
                "entropy of the token": np.mean([s.entropy for s in swapped if s.kind == kind]),
                "place in the response": np.mean([s.token for s in swapped if s.kind == kind]),
                "n": sum(s.kind == kind for s in swapped),
            }
            for kind in ("high", "low")
        ],
    }


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


REPLICATION = Replication(
    name="preplan-anchor",
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
    run=run,
)
