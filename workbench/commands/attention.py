"""The commands ``attention replace`` and ``attention mask``: open, measure, and where a folder is named keep both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.commands.asked.inputs import chosen_options
from workbench.commands.forms.attention import MaskAttention, ReplaceAttention
from workbench.commands.inputs import pairs_of, tell_dropped
from workbench.core.job import Job
from workbench.core.progress import silent
from workbench.core.run_record import RunRecord, code_versions, digest_of
from workbench.core.source_digest import source_digest
from workbench.edits.kept_measurement import KeptMeasurement, keep_measurement
from workbench.edits.mask_worth import mask_attention
from workbench.edits.measure import CHANGES, Measured
from workbench.edits.pattern_worth import Texts, replace_attention, texts_of_corpus, texts_of_task
from workbench.edits.substitute import WINDOWS
from workbench.engine.store import SweepStore
from workbench.engine.told import tell_behavior
from workbench.model.identity import identity
from workbench.model.open import open_model

Asked = ReplaceAttention | MaskAttention


def replace(asked: ReplaceAttention, job: Job) -> Measured | KeptMeasurement:
    """Return what the loss, or a task's metric, becomes with other patterns in place of heads' own.

    With ``out`` the table and the record are kept there, each row as soon as it is measured; with ``resume`` a run
    that was interrupted goes on. An equal run that is finished is shown, not repeated.

    Raises:
        RunError: if the folder holds something else, or another process is writing there.
        ModelError: if the model's patterns cannot be edited.
    """
    own = {
        "patterns": list(asked.patterns or ["each that is possible"]),
        "numbers": {"keys": asked.keys, "block": asked.block, "order": asked.order, "seed": asked.seed},
        "code": {**code_versions(), "sources": source_digest("workbench.edits.pattern_worth")},
    }

    def measured(texts: Texts, store: SweepStore | None) -> Measured:
        return replace_attention(
            texts,
            asked.patterns or None,
            layers=asked.layers,
            heads=asked.heads,
            each=asked.each,
            keys=asked.keys,
            block=asked.block,
            order=asked.order,
            seed=asked.seed,
            store=store,
            progress=job.progress or silent,
        )

    return _measure(asked, job, own, measured)


def mask(asked: MaskAttention, job: Job) -> Measured | KeptMeasurement:
    """Return what the loss, or a task's metric, becomes while heads look only where masks allow.

    With ``out`` the table and the record are kept there, as `replace` keeps them.

    Raises:
        RunError: if the folder holds something else, or another process is writing there.
        OptionError: if a mask leaves a query without a key, or lets a causal model see ahead.
        ModelError: if the model's patterns cannot be edited.
    """
    own = {
        "masks": list(asked.masks),
        "numbers": {"controls": asked.controls, "ahead": asked.ahead, "seed": asked.seed},
        "code": {**code_versions(), "sources": source_digest("workbench.edits.mask_worth")},
    }

    def measured(texts: Texts, store: SweepStore | None) -> Measured:
        return mask_attention(
            texts,
            asked.masks,
            layers=asked.layers,
            heads=asked.heads,
            each=asked.each,
            controls=asked.controls,
            ahead=asked.ahead,
            seed=asked.seed,
            store=store,
            progress=job.progress or silent,
        )

    return _measure(asked, job, own, measured)


def _measure(
    asked: Asked,
    job: Job,
    own: Mapping[str, Any],
    measured: Callable[[Texts, SweepStore | None], Measured],
) -> Measured | KeptMeasurement:
    """Open, measure, and keep it where a folder is named."""
    texts = _texts(asked, job)
    plan = {**_plan(asked, texts), **own}
    record = RunRecord(
        command=asked.declared.name,
        arguments=asked.arguments(),
        model=identity(texts.model).to_dict(),
        pairs={"text": texts.about} if texts.runs is None else pairs_of(texts.runs),
        question=digest_of(plan),
    )

    def compute(store: SweepStore | None = None) -> Measured:
        if texts.runs is not None:
            record.behaviors.update(tell_behavior(texts.runs, job.note, what=CHANGES))
        found = measured(texts, store)
        for said in found.notes:
            job.note(said)
        return dataclasses.replace(found, notes=())  # told already

    def compute_in(folder: Path) -> Measured:
        with SweepStore(folder, plan, resume=job.resume) as store:
            return compute(store)

    if job.out is None:
        return compute()
    return keep_measurement(job, record, plan, compute_in)


def _texts(asked: Asked, job: Job) -> Texts:
    """What is read, after the model is open."""
    opened = open_model(asked.model, **asked.opening())
    if asked.task is None:
        n = WINDOWS if asked.limit is None else asked.limit
        return texts_of_corpus(opened, asked.text, n=n, window=asked.window, seed=asked.seed)
    chosen = chosen_options(asked.task, asked.task_options)
    texts = texts_of_task(opened, asked.task, n=asked.limit, seed=asked.seed, split=asked.split, **chosen)
    if texts.runs is not None:
        tell_dropped(texts.runs, job.note)
    return texts


def _plan(asked: Asked, texts: Texts) -> dict[str, Any]:
    """What decides the numbers: the weights and how they are used, the texts, the places."""
    known = identity(texts.model)
    return {
        "weights": known.digest,
        "config": known.config_digest,
        "dtype": known.dtype,
        "device": known.device,
        "texts": texts.digest,
        "where": [list(asked.layers), list(asked.heads), asked.each],
    }
