"""Attribution and ACDC in the bench: edge scores by one gradient and by five, the greedy search, memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks.acdc_speed import plain_loop
from benchmarks.bench import Row, Settings
from benchmarks.floor import attribution as floor
from benchmarks.models import SHAPES, Shape, gpt2
from benchmarks.timing import in_turns, spread_of
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.methods.points import quadrature

REPRODUCE = "python -m benchmarks.bench --only {}"
TAU = 3e-5  # a tenth of the edges stay


def _shapes(settings: Settings) -> Iterator[Shape]:
    for name, make in SHAPES.items():
        if not settings.models or name in settings.models:
            yield make()


def _edges(
    shape: Shape, settings: Settings, method: str, points: int, alphas: Sequence[float]
) -> tuple[dict[str, list[float]], dict[str, np.ndarray], float]:
    """Seconds and scores of ours and of the floor, and the multiply-adds counted."""
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        found["ours"] = score(PairedRuns(shape.runs.model, shape.runs.pairs), method).values

    def least() -> None:
        ids = shape.clean, shape.corrupted
        found["floor"] = floor.edge_scores(shape.plain, *ids, shape.answers, alphas).numpy()

    seconds = in_turns({"ours": ours, "floor": least}, settings.rounds)
    return seconds, found, floor.count(shape.plain, *shape.clean.shape, points)


def _apart(shape: Shape, found: dict[str, np.ndarray]) -> str:
    exists = shape.runs.wiring.graph().edge_mask
    apart = np.abs(found["ours"] - found["floor"])[exists].max() / np.abs(found["ours"][exists]).max()
    return f"{int(exists.sum())} edges; ours - floor {apart:.1e} of the largest score"


def with_their_attribution(shape: Shape, pairs: range) -> float:
    """TransformerLens' own edge attribution, pair by pair as it works: the sum of all scores."""
    from transformer_lens.tools.analysis.attribution_patching import (
        EdgeAttributionConfig,
        attribution_patch,
    )

    total = 0.0
    for i in pairs:
        correct, incorrect = shape.answers[i].tolist()

        def metric(logits, correct: int = correct, incorrect: int = incorrect):
            return logits[0, -1, correct] - logits[0, -1, incorrect]

        ids = shape.clean[i : i + 1], shape.corrupted[i : i + 1]
        config = EdgeAttributionConfig(granularity="edge")
        total += sum(attribution_patch(shape.runs.model, *ids, metric, config).edge_scores.values())
    return total


def eap(settings: Settings) -> Iterator[Row]:
    """EAP on all edges."""
    for shape in _shapes(settings):
        seconds, found, adds = _edges(shape, settings, "eap", 0, [1.0])
        notes, theirs, baseline = _apart(shape, found), None, "refused by TransformerLens (grouped queries)"
        if shape.plain.n_kv == shape.plain.n_heads:
            pairs = range(1 if shape.name == "gpt2" else 2)
            sums: dict[str, float] = {}

            def do(shape=shape, pairs=pairs, sums=sums) -> None:
                shape.runs.model.requires_grad_(True)  # it follows gradients from the weights on
                try:
                    sums["theirs"] = with_their_attribution(shape, pairs)
                finally:
                    shape.runs.model.requires_grad_(False)

            seconds |= in_turns({"theirs": do}, settings.rounds)
            share = len(pairs) / len(shape.runs.pairs)
            theirs = float(np.median(seconds["theirs"])) / share
            own = score(shape.runs.subset(list(pairs)), "eap", at="corrupted").values
            sums["ours"] = float(np.nansum(own)) * len(pairs)
            notes += f"; sum of scores, ours {sums['ours']:.5g}, theirs {sums['theirs']:.5g}"
            baseline = f"TransformerLens attribution_patch ({share:.3g} of it run, scaled)"
        yield _row(settings, shape, "EAP, all edges", "eap", seconds, adds, notes, baseline, theirs)


def eap_ig(settings: Settings) -> Iterator[Row]:
    """EAP-IG with five steps on all edges."""
    for shape in _shapes(settings):
        alphas = quadrature(5, "midpoint")
        seconds, found, adds = _edges(shape, settings, "eap-ig", 5, alphas)
        notes = _apart(shape, found)
        yield _row(settings, shape, "EAP-IG, 5 steps", "integrated", seconds, adds, notes, "", None)


def _row(settings, shape, job, name, seconds, adds, notes, baseline, theirs) -> Row:
    return Row(
        job=job,
        model=shape.about,
        ours=float(np.median(seconds["ours"])),
        baseline=baseline,
        theirs=theirs,
        floor=float(np.median(seconds["floor"])),
        counted=settings.counted(adds),
        asked="<= 1.5 x floor",
        notes=f"{notes}; {spread_of(seconds)}",
        command=REPRODUCE.format(name),
        seconds=seconds,
    )


def acdc(settings: Settings) -> Iterator[Row]:
    """ACDC against one full forward pass for each tested edge, with the same decisions."""
    if settings.models and "gpt2" not in settings.models:
        return
    shape = gpt2(8, 12, n_layer=4, n_head=4, n_embd=128, vocab_size=1000)
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        found["ours"] = score(PairedRuns(shape.runs.model, shape.runs.pairs), "acdc", tau=TAU).values

    def theirs() -> None:
        found["theirs"] = plain_loop(PairedRuns(shape.runs.model, shape.runs.pairs), TAU)

    work: dict[str, Callable[[], None]] = {"ours": ours, "theirs": theirs}
    seconds = in_turns(work, 1 if settings.quick else settings.rounds)
    exists = shape.runs.wiring.graph().edge_mask
    kept = {name: (values >= TAU)[exists] for name, values in found.items()}
    same = int((kept["ours"] == kept["theirs"]).sum())
    yield Row(
        job=f"ACDC, {int(exists.sum())} edges",
        model=shape.about,
        ours=float(np.median(seconds["ours"])),
        baseline="a pass from the first layer for each edge",
        theirs=float(np.median(seconds["theirs"])),
        asked=">= 10 x the loop",
        notes=f"{same} decisions of {int(exists.sum())} equal, {int(kept['ours'].sum())} edges kept",
        command=REPRODUCE.format("acdc"),
        seconds=seconds,
    )


def memory(settings: Settings) -> Iterator[Row]:
    """Most memory of a process that runs EAP-IG on GPT-2's shape."""
    from benchmarks.attribution_speed import measure

    if settings.models and "gpt2" not in settings.models:
        return
    spawn = multiprocessing.get_context("spawn")
    out = spawn.Queue()
    worker = spawn.Process(target=measure, args=("eap-ig", "edge", 1, out))
    worker.start()
    _, _, seconds, ratio, _, before, peak = out.get()
    worker.join()
    yield Row(
        job="EAP-IG, 5 steps: memory",
        model="GPT-2 shape, 32 pairs of 16 tokens, a process of its own",
        ours=seconds,
        asked="<= 2.5 GB",
        notes=f"peak {peak:.2f} GB, {before:.2f} GB before the method starts; {ratio:.2f} x forward and backward",
        command=REPRODUCE.format("memory"),
    )


JOBS = {"eap": eap, "integrated": eap_ig, "acdc": acdc, "memory": memory}
