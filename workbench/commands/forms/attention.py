"""The options of ``workbench attention``: other patterns in place of heads' own, and masks on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.commands.forms.shared import (
    TASK,
    OnModel,
    limited,
    model_named,
    seeded,
    split_named,
    task_options_given,
)
from workbench.core.command import ABOUT, command, option
from workbench.core.job import Job
from workbench.edits.substitute import BLOCK, CONTROLS, KEYS, ORDER, PATTERNS, WINDOW

TASK_OF = f"{TASK} Its metric is measured in place of the loss."


def layers_asked() -> Any:
    """Return the option that says in which layers."""
    return option(
        "--layers",
        help="Where: all, odd, even, 2, 0-3 or 0,2. May be repeated, for rows of their own. Default: all.",
        default=(),
    )


def heads_asked() -> Any:
    """Return the option that names heads in place of layers."""
    return option(
        "--head", help="In place of layers: a head, such as a1.h2; all named heads together.", default=()
    )


def each_asked() -> Any:
    """Return the option that says whether places are changed together."""
    return option(
        "--each", help="together; layer or head: each by itself, in rows of its own.", default="together"
    )


def text_read() -> Any:
    """Return the option that names a text to predict."""
    return option(
        "--text",
        help="A text file on which predictions of the next token are measured. Default: the built-in text, "
        "where the tokenizer covers it.",
        default=None,
    )


@command(
    "attention replace",
    run="workbench.commands.attention:replace",
    plan="workbench.commands.plans.attention:replace",
    check="workbench.commands.asked.attention:check_replacing",
    offers=("out", "dry_run", "resume"),
    resumes=True,
    out="A folder for table and run record. Default: nothing is kept.",
)
@dataclass(frozen=True, kw_only=True)
class ReplaceAttention(OnModel):
    """Put other attention patterns in place of heads' own, and measure the loss of the next token or a task's metric.

    Example: workbench attention replace -m zoo:stdlib --with mean --with top-k --layers odd
    """

    model: str = model_named()
    task: str | None = option("-t", "--task", help=TASK_OF, default=None, place=ABOUT)
    patterns: tuple[str, ...] = option(
        "--with",
        help=f"What is put in place: {', '.join(PATTERNS)}. May be repeated. Default: each of them.",
        default=(),
    )
    layers: tuple[str, ...] = layers_asked()
    heads: tuple[str, ...] = heads_asked()
    each: str = each_asked()
    keys: int = option(
        "-k",
        "--keys",
        help="Keys that a query keeps, for top-k, column, block, random.",
        default=KEYS,
        least=1,
    )
    block: int = option("--block", help="Tokens of a block, for block.", default=BLOCK, least=1)
    order: int = option(
        "--order",
        help="Order of the polynomial in place of the exponential, for taylor; an odd order gives negative weights.",
        default=ORDER,
        least=1,
    )
    text: Path | None = text_read()
    window: int = option("--window", help="Tokens of each window of the text.", default=WINDOW, least=8)
    limit: int | None = limited()
    split: str = split_named()
    task_options: tuple[str, ...] = task_options_given()
    seed: int = seeded()

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if job.out is None and not job.dry_run:
            yield "nothing is kept; -o FOLDER keeps it with a run record"


@command(
    "attention mask",
    run="workbench.commands.attention:mask",
    plan="workbench.commands.plans.attention:mask",
    check="workbench.commands.asked.attention:check_masking",
    offers=("out", "dry_run", "resume"),
    resumes=True,
    out="A folder for table and run record. Default: nothing is kept.",
)
@dataclass(frozen=True, kw_only=True)
class MaskAttention(OnModel):
    """Let heads look only where a mask allows, and measure the loss or a task's metric beside random masks.

    Example: workbench attention mask -m zoo:stdlib --mask window:16 --mask powers-of-two --layers all
    """

    model: str = model_named()
    task: str | None = option("-t", "--task", help=TASK_OF, default=None, place=ABOUT)
    masks: tuple[str, ...] = option(
        "--mask",
        help="Who may look at whom: window:16, window:width=16,sinks=2, powers-of-two, dilated:8, "
        "routed:block=4,keep=2 and others (the page about masks). May be repeated.",
        default=(),
    )
    layers: tuple[str, ...] = layers_asked()
    heads: tuple[str, ...] = heads_asked()
    each: str = each_asked()
    controls: int = option(
        "--controls",
        help="Random masks with as many keys for each query; their mean is a row.",
        default=CONTROLS,
        least=0,
    )
    ahead: bool = option("--ahead", help="A mask may let a causal model see ahead.", default=False)
    text: Path | None = text_read()
    window: int = option("--window", help="Tokens of each window of the text.", default=WINDOW, least=8)
    limit: int | None = limited()
    split: str = split_named()
    task_options: tuple[str, ...] = task_options_given()
    seed: int = seeded()

    def said(self, result: Any, job: Job) -> Iterator[str]:
        if job.out is None and not job.dry_run:
            yield "nothing is kept; -o FOLDER keeps it with a run record"
