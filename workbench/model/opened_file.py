"""What opening a built-in model found, kept beside its weights: ``opened.json``. No torch here.

It holds for the very files that it lists, by SHA-256, in float32 on a CPU.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from msgspec import Meta

from workbench.core.bounds import read_bytes
from workbench.core.errors import ModelError
from workbench.core.file_kind import FileKind
from workbench.core.typed import Count, Part, Sha256, as_json
from workbench.model import builtin as zoo
from workbench.model.tokenizer_file import FileTokenizer
from workbench.model.wiring import Wiring
from workbench.tasks.outputs import Outputs
from workbench.tasks.reading import Reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NAME = "opened.json"
FILES = (
    *("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"),
    "tokenizer_config.json",
)
MOST_BYTES = 50_000_000


class WiringContent(Part, frozen=True):
    """The fields of ``Wiring``."""

    n_layers: Count
    n_heads: Count
    n_kv_heads: Count
    d_model: Count
    d_head: Count
    d_mlp: Count
    attention_layers: list[Count]
    mlp_layers: list[Count]
    parallel: bool
    causal: bool
    has_lm_head: bool
    live: Annotated[list[str], Meta(description="sites whose edits change the output")]
    pattern_by_recompute: bool
    head_writes: bool
    residual_is_sum: bool
    readers_known: bool
    errors: Annotated[dict[str, float], Meta(description="largest error of each identity")]


class ProbeContent(Part, frozen=True):
    """Token ids, and some logits of the plain forward of transformers at their last position."""

    ids: list[list[Count]]
    columns: Annotated[list[Count], Meta(description="the tokens whose logits these are")]
    logits: list[list[float]]


class OpenedContent(Part, frozen=True):
    """What an earlier opening of a built-in model found, so that it need not be opened again."""

    files: Annotated[dict[str, Sha256], Meta(description="what it holds for")]
    identity: Annotated[dict[str, Any], Meta(description="who it is, as run records have it")]
    wiring: WiringContent
    prepend_bos: bool
    n_ctx: Count | None
    d_vocab: Count
    n_outputs: Count
    probe: ProbeContent
    versions: Annotated[dict[str, str], Meta(description="what it was opened with")]


OPENED = FileKind(
    format="circuit-workbench/opened-model",
    content=OpenedContent,
    what="the record of an opened model",
    error=ModelError,
    again="python -m workbench.training.findings",
)


def seal_of(directory: Path) -> OpenedContent | None:
    """Say what opening this model found, where the files are those that were opened; None where nothing is
    recorded.

    Raises:
        ModelError: for a record that cannot be read, or was changed.
    """
    if not (directory / NAME).is_file():
        return None
    found = OPENED.load(directory / NAME).content
    return found if found.files == files_of(directory) else None


def files_of(directory: Path) -> dict[str, str]:
    """SHA-256 of each file that decides what a model directory computes."""
    there = [name for name in FILES if (directory / name).is_file()]
    read = {name: read_bytes(directory / name, most_bytes=MOST_BYTES, error=ModelError) for name in there}
    return {name: hashlib.sha256(content).hexdigest() for name, content in read.items()}


def wiring_of(seal: OpenedContent) -> Wiring:
    """Return the wiring that was measured."""
    fields = as_json(seal.wiring)
    layers = {name: tuple(fields[name]) for name in ("attention_layers", "mlp_layers")}
    return Wiring(**{**fields, **layers, "live": frozenset(fields["live"])})


def sealed_reading(name: str) -> Reading | None:
    """Say how a built-in model reads text, by the record of its opening; None where nothing is recorded.

    Example:
        >>> sealed_reading("zoo:ioi").prepend_bos
        True
    """
    directory = zoo.locate(name).directory
    if directory is None or not name.startswith(zoo.PREFIX):
        return None
    seal = seal_of(directory)
    return None if seal is None else reading_by(seal, name, directory)


def reading_by(seal: OpenedContent, name: str, directory: Path) -> Reading:
    """Return how a model reads text, by the record of its opening."""
    return Reading(
        name=name,
        tokenizer=cast("PreTrainedTokenizerBase", FileTokenizer(directory)),  # what reading pairs asks of one
        prepend_bos=seal.prepend_bos,
        n_ctx=seal.n_ctx,
        d_vocab=seal.d_vocab,
        outputs=Outputs(size=seal.n_outputs),
    )


def config_of(directory: Path) -> dict[str, Any]:
    """Return the configuration of a Hugging Face directory, as it is written."""
    return json.loads((directory / "config.json").read_text(encoding="utf-8"))
