"""The portrait of a model: every measurement of every head, on random tokens, on a text, from the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.core.errors import OptionError, WorkbenchError
from workbench.core.progress import Progress, live
from workbench.core.run_record import code_versions
from workbench.heads.copy_scores import copy_measurements
from workbench.heads.every_head import Measurement
from workbench.heads.grounds import Corpus, Ground, random_ground, text_ground
from workbench.heads.loss import loss_change
from workbench.heads.picture_portrait import picture_measurements, shown_pictures
from workbench.heads.question_profile import question_measurements
from workbench.heads.readouts import read_outs
from workbench.heads.retrieval import Writing, random_needles, retrieval_scores
from workbench.heads.structure import structure_measurements
from workbench.heads.table import Portrait, reasons, shortfall
from workbench.heads.weight_scores import weight_measurements
from workbench.heads.writes import induction_copying
from workbench.model.architecture import describe
from workbench.model.identity import identity
from workbench.model.probe import wiring
from workbench.model.sight import sight_of
from workbench.model.wiring import require_heads

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NEEDLE = 4  # tokens of a needle


def portrait(
    model: TransformerBridge,
    corpus: Corpus = None,
    *,
    n: int = 16,
    length: int | None = None,
    seed: int = 0,
    loss: bool = True,
    structure: bool = False,
    tower: str | None = None,
    progress: Progress | None = None,
) -> Portrait:
    """Measure what every head does in any task: where it looks, what its weights do, what its loss costs.

    On repeated random tokens of the model's vocabulary, and on the corpus: text files (``Path``), texts (``str``), or
    by default the built-in text, where the tokenizer covers it; the notes say where it does not. A tower is looked at
    on drawn pictures, and a model that reads words beside a picture is also asked about some.
    Interrupted while heads are ablated, which is what takes long, the same call goes on there.

    Args:
        n: Sequences of each kind.
        length: Tokens per sequence; by default 101, or the context if that is shorter.
        seed: Of the random tokens, windows and random weights.
        loss: Also ablate every head by its mean: one pass per head and batch, the only part that takes long.
        structure: Also measure how heads are made: rank of patterns, bias of keys, keys as a memory, likeness of
            outputs, sensitivity of the loss to scores.
        tower: The stack whose heads are portrayed, such as ``vision``; by default the model's own.
        progress: Called with steps done, steps in all and what is being done.

    Returns:
        ``(layer, head)`` values per measurement, each with unit, bounds, null value and kind of evidence.

    Raises:
        ModelError: if the model has no attention heads, shows no patterns, or has no such tower.
        OptionError: for a length or number that cannot work.
        TaskError: if a corpus is given that cannot be read.

    Example:
        >>> import workbench as wb
        >>> wb.portrait(wb.open_model("zoo:ioi"), n=2).model
        'zoo:ioi'
    """
    wires = wiring(model)
    require_heads(wires)
    tell, sight = live(progress), sight_of(model)
    if tower is not None:
        require_heads(wires.of(tower))
    if tower is not None or (sight is not None and sight.token is None):
        asked: dict[str, Any] = {"n": n, "length": length, "seed": seed, "structure": structure}
        return _of_a_tower(model, corpus, **asked, tower=tower, progress=tell)
    with _undisturbed(model):
        random, notes = random_ground(model, n=n, length=length, seed=seed)
        text, more = text_ground(model, corpus, n=n, length=length, seed=seed)
        both = (random, text) if text else (random,)
        found, said = _on_tokens(model, both, n=n, seed=seed, loss=loss, structure=structure, progress=tell)
        notes = (*notes, *said)
        (questions, about), alone = _asked(model, n=n, seed=seed, progress=tell)
        found += questions
    grounds = (*(ground.to_dict() for ground in both), *about)
    few = [sentence for g in grounds if (sentence := shortfall(g))]
    told = dict.fromkeys((*few, *alone, *notes, *more))  # once each, in order
    missing = [f"{', '.join(keys)}: {why}" for why, keys in reasons(found).items()]
    return Portrait(
        model=identity(model).name,
        n_layers=wires.n_layers,
        n_heads=wires.n_heads,
        attention_layers=wires.attention_layers,
        measurements=tuple(found),
        grounds=grounds,
        notes=(*told, *missing),
        provenance=_provenance(model, n=n, length=length, seed=seed),
    )


def _on_tokens(
    model: TransformerBridge,
    grounds: tuple[Ground, ...],
    *,
    n: int,
    seed: int,
    loss: bool,
    structure: bool,
    progress: Progress,
) -> tuple[list[Measurement], list[str]]:
    """What is measured on random tokens, which come first, and on text; and what is to be said of it."""
    found: list[Measurement] = []
    notes: list[str] = []
    for ground in grounds:
        measured, said = read_outs(model, ground, progress=progress)
        found += measured
        notes += said
    progress(0, 1, "what heads write and copy")
    found.append(induction_copying(model, grounds[0]))
    found += _retrieval(model, grounds[0], n=n, seed=seed)
    found += weight_measurements(model, seed=seed)
    found += copy_measurements(model, grounds[0])
    found += [loss_change(model, ground, progress=progress) for ground in (grounds if loss else ())]
    for ground in grounds if structure else ():
        batches = [ids for _, ids in ground.batches()]
        how: dict[str, Any] = {"on": ground.name, "skip": ground.prefix, "seed": seed}
        found += structure_measurements(model, batches, **how, progress=progress)
    return found, notes


def _asked(
    model: TransformerBridge, *, n: int, seed: int, progress: Progress
) -> tuple[tuple[list[Measurement], list[dict[str, Any]]], tuple[str, ...]]:
    """What heads look at when the model is asked about pictures, on what, and what is to be said of it."""
    sight = sight_of(model)
    if sight is None or sight.token is None:
        return ([], []), ()
    progress(0, 1, "questions about drawn pictures")
    try:
        found, ground = question_measurements(model, n=n, seed=seed)
    except WorkbenchError as problem:
        why = f"no questions about drawn pictures are asked: {problem.message}"
        return ([], []), ("the language model is measured on words alone, without pictures", why)
    said = "what has no kind of question in its name is measured on words alone, without pictures"
    return (found, [ground]), (said,)


def _of_a_tower(
    model: TransformerBridge,
    corpus: Corpus,
    *,
    n: int,
    length: int | None,
    seed: int,
    structure: bool,
    tower: str | None,
    progress: Progress,
) -> Portrait:
    """The portrait of a model that reads pictures alone, or of the tower of one that also reads words.

    Raises:
        OptionError: if it is given texts, or a length.
    """
    if corpus is not None or length is not None:
        given = "texts" if corpus is not None else f"a length of {length} tokens"
        raise OptionError(
            f"the model reads pictures alone and is given {given}; its heads are looked at on drawn pictures",
            hint="leave out --corpus, --prompt and --length",
        )
    progress(0, 1, "drawn pictures")
    wires = wiring(model).of(tower)
    with _undisturbed(model):
        found, ground = picture_measurements(model, n=n, seed=seed, tower=tower)
        if structure:
            shown = shown_pictures(model, n=n, seed=seed, tower=tower).prompt
            found += structure_measurements(
                model, [shown], on="pictures", tower=tower, seed=seed, progress=progress
            )
    reads = "the model reads pictures alone; its heads" if tower is None else "heads of the tower"
    missing = [f"{', '.join(keys)}: {why}" for why, keys in reasons(found).items()]
    return Portrait(
        model=identity(model).name,
        n_layers=wires.n_layers,
        n_heads=wires.n_heads,
        attention_layers=wires.attention_layers,
        measurements=tuple(found),
        grounds=(ground,),
        notes=(
            f"{reads} are looked at on drawn pictures, and no loss is measured",
            *missing,
        ),
        tower=tower,
        provenance=_provenance(model, n=n, length=length, seed=seed),
    )


def _retrieval(model: TransformerBridge, random: Ground, *, n: int, seed: int) -> list[Measurement]:
    """The retrieval score on needles of random tokens: as the model writes them, and as they are written for it."""
    shape = (wiring(model).n_layers, wiring(model).n_heads)
    length = int(random.period or 0) + random.prefix + 1
    found = []
    kinds: tuple[tuple[str, Writing, str], ...] = (
        (
            "retrieval",
            "greedy",
            "share of a needle's tokens that the head looks at most while the model writes them",
        ),
        (
            "retrieval-forced",
            "forced",
            "the same while the needle is written for the model: where it would look",
        ),
    )
    for name, writing, about in kinds:
        values, per, counted = np.full(shape, np.nan), np.zeros((0, *shape)), 0
        missing: dict[str, tuple[int, ...]] = {}
        try:
            needles = random_needles(model, n=n, length=length, size=NEEDLE, seed=seed)
            about += f" ({len(needles)} different ones, {n} were asked for)" if len(needles) < n else ""
            scores = retrieval_scores(model, needles, writing=writing)
            counted = int(scores.counted.sum())
            values[list(scores.layers)] = scores.score
            per = np.full((counted, *shape), np.nan)
            per[:, list(scores.layers)] = scores.per_sample[scores.counted]
            about += f"; {counted} of {len(needles)} needles were answered" if writing == "greedy" else ""
            if not counted:
                wrote = f"{scores.recall.mean():.0%} of the needles' tokens on average"
                missing = {f"the model answers none of the needles (it writes {wrote})": ()}
        except WorkbenchError as problem:
            missing = {problem.message: ()}
        error = per.std(0, ddof=1) / counted**0.5 if counted > 1 else np.full(shape, np.nan)
        found.append(
            Measurement(
                name=name,
                on="random",
                evidence="read-out",
                values=values,
                stderr=error,
                null=np.where(np.isfinite(values), 1 / max(length, 1), np.nan),
                low=0.0,
                high=1.0,
                unit="share of the needle",
                about=f"{about}; needles of {NEEDLE} among {length} random tokens",
                null_about="a head whose strongest key is any key of the prompt",
                source="Wu et al. 2024, arXiv:2404.15574",
                n=counted,
                missing=missing,
            )
        )
    return found


@contextmanager
def _undisturbed(model: TransformerBridge) -> Iterator[None]:
    """No gradients inside; afterwards the training mode is what it was, also after an error."""
    training = model.training
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _provenance(model: TransformerBridge, **asked: Any) -> dict[str, Any]:
    known, described = identity(model), describe(model)
    return {
        **known.decides(),
        "prepend_bos": described.prepend_bos,
        **asked,
        "code": code_versions(),
    }
