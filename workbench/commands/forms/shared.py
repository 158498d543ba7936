"""Options that several commands share: one flag, one meaning."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from workbench.core.command import ABOUT, OPENING, PAIRS, SIZE, SPREAD, Command, option

MODEL = "zoo:NAME, a local directory or a Hub id."
TASK = "A task ({tasks}) or a .jsonl file of pairs."
SEED = "Seed of the pairs and of every random choice."
ABLATION = "resample, mean, mean-per-position, mean-per-name, mean-per-template or zero."
LIMIT = "Number of pairs."
SPLIT = "train, validation or test."
MEMORY = "Most memory of the whole process, such as 4GB."
METRIC = "What is measured: {metrics}, or file.py:function."
METHOD = "How scores are made."
KEEP = "What is chosen from the scores: 5%, 200 or '>=0.01'."
QUICK = "Take a first look, with few items."
OUT = "Where to write."
SETTING = "A setting, name=value; may be repeated."
TASK_OPTION = "An option of the task, NAME=VALUE; may be repeated."
DOCS = "Also put the tables into this page, between its marks."


def model_named(note: str = "") -> str:
    """Declare the model that a command needs."""
    return option("-m", "--model", help=f"{MODEL}{note}", env="WORKBENCH_MODEL", place=ABOUT)


def task_named() -> str:
    """Declare the task that a command needs."""
    return option("-t", "--task", help=TASK, place=ABOUT)


def limited(*, default: int | None = None) -> Any:
    """Declare how many pairs are made."""
    said = f"{LIMIT} Default: 64 of a task, all of a file." if default is None else LIMIT
    return option("-n", "--limit", help=said, default=default, least=1, place=PAIRS)


def split_named(default: str = "test") -> str:
    """Declare which pairs of a task are made."""
    return option("--split", help=SPLIT, default=default, place=PAIRS)


def corruption_named() -> str | None:
    """Declare how pairs are corrupted."""
    return option("--corruption", help="How the corrupted prompt is made.", default=None, place=PAIRS)


def task_options_given(**more: Any) -> tuple[str, ...]:
    """Declare the options of a task."""
    return option("--task-option", help=TASK_OPTION, default=(), place=PAIRS, **more)


def bos_asked() -> str | None:
    """Declare whether a token that starts a prompt comes first."""
    said = "The token that starts a prompt. on or off; default: as the model reads."
    return option("--bos", help=said, default=None, place=PAIRS)


def in_chat() -> bool:
    """Declare whether prompts are put into the model's chat template."""
    said = "Put the text into the model's chat template. As the user's message."
    return option("--chat", help=said, default=False, place=PAIRS)


def seeded(place: int = PAIRS) -> int:
    """Declare the seed."""
    return option("--seed", help=SEED, default=0, place=place)


def batched() -> int:
    """Declare how much goes through the model at once."""
    said = "Most tokens in one forward pass; halved when memory runs out."
    return option("--batch-tokens", help=said, default=8192, least=1, place=SIZE)


@dataclass(frozen=True, kw_only=True)
class Placed(Command):
    """Where a model is put, and in which numbers."""

    device: str | None = option(
        "--device", help="cpu, cuda, cuda:1. Default: CUDA when there is one.", default=None, place=OPENING
    )
    dtype: str = option(
        "--dtype", help="float32, float64, bfloat16 or float16.", default="float32", place=OPENING
    )


@dataclass(frozen=True, kw_only=True)
class Found(Command):
    """Where a model is from, and whether its code runs."""

    revision: str | None = option(
        "--revision", help="Branch, tag or commit of a Hub model.", default=None, place=OPENING
    )
    offline: bool = option(
        "--offline", help="Never ask the Hub.", default=False, env="HF_HUB_OFFLINE", place=OPENING
    )
    trust_remote_code: bool = option(
        "--trust-remote-code", help="Run Python code that comes with the model.", default=False, place=OPENING
    )


@dataclass(frozen=True, kw_only=True)
class OnModel(Found, Placed):
    """What opens a model."""

    def opening(self) -> dict[str, Any]:
        """Say how the model is opened."""
        return {f.name: getattr(self, f.name) for f in fields(OnModel)}


@dataclass(frozen=True, kw_only=True)
class OnPairs(OnModel):
    """What opens a model with pairs of a task, and decides how much goes through it at once."""

    metric: str | None = option(
        "--metric",
        help=f"{METRIC} Default: the task's own.",
        default=None,
        place=PAIRS,
    )
    limit: int | None = limited()
    split: str = split_named()
    corruption: str | None = corruption_named()
    task_options: tuple[str, ...] = task_options_given()
    bos: str | None = bos_asked()
    chat: bool = in_chat()
    seed: int = seeded()
    batch_tokens: int = batched()
    max_memory: int | str | None = option(
        "--max-memory", help=f"{MEMORY} Passes become as small as it needs.", default=None, place=SIZE
    )
    device_map: str | None = option(
        "--device-map",
        help="One model over several devices: auto, balanced, sequential. Instead of --device.",
        default=None,
        place=OPENING,
    )

    def opening(self) -> dict[str, Any]:
        """Say how the model is opened, which pairs are made for it, and how much goes through it at once."""
        return {f.name: getattr(self, f.name) for f in fields(OnPairs)}


@dataclass(frozen=True, kw_only=True)
class Spreadable(Command):
    """What can be spread: one share of it in this process, or its parts over a cluster."""

    shard: str | None = option(
        "--shard",
        metavar="I/N",
        help="Compute the I-th of N shares, in a folder of its own; workbench runs merge puts them together.",
        default=None,
        place=SPREAD,
    )
    ray: str | None = option(
        "--ray",
        metavar="[ADDRESS]",
        help="Compute on a Ray cluster; without an address one is started on this machine.",
        default=None,
        place=SPREAD,
    )
    workers: int | None = option(
        "--workers",
        help="How many processes compute. With --ray; default: as many as have room.",
        default=None,
        least=1,
        place=SPREAD,
    )

    def spreading(self) -> dict[str, Any]:
        """Say how it is spread."""
        return {"shard": self.shard, "ray": self.ray, "workers": self.workers}

    def arguments(self) -> dict[str, Any]:
        """Return the options as the record of a run has them: how it is spread only where it is."""
        unsaid = [name for name, value in self.spreading().items() if value is None]
        return {name: value for name, value in super().arguments().items() if name not in unsaid}
