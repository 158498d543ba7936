"""Opening towers from a directory or from memory: weights checked, parity with the plain forward, identity recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from workbench.model import classifiers, parity
from workbench.model.digest import Weight, digest_config
from workbench.model.huggingface import load_checked
from workbench.model.identity import PROCESSING, ModelIdentity, record
from workbench.model.notebook import show_in_notebooks
from workbench.model.other_inputs import other_inputs
from workbench.model.pixels import with_noise
from workbench.model.sight import give_sight, sight_from
from workbench.model.sizes import refuse_larger
from workbench.model.towers.classes import READS, SPEAKS, probe_inputs
from workbench.model.towers.open import hang_towers, plain_answer
from workbench.model.towers.tower import Tower
from workbench.model.weights import Lines, lines_of_checkpoint, lines_of_model
from workbench.tasks.pictures.sight import Sight

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


DEAF = "in which form it takes pictures is not known for this configuration"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a model comes from, for its record."""

    name: str
    kind: str
    revision: str | None = None
    tolerance: float | None = None
    tokenizer: PreTrainedTokenizerBase | None = None


def towers_from_directory(
    directory: Path,
    source: Source,
    *,
    config: PretrainedConfig,
    model_class: type[PreTrainedModel],
    device: str,
    dtype: torch.dtype,
    stored: Mapping[str, Weight],
) -> Tower:
    """Return the towers of a model in a directory; every tensor is there, and its answer is the plain forward's.

    Raises:
        ModelError: as ``open_model``.
    """
    refuse_larger(directory / "config.json", lambda: model_class(config), stored)
    model = load_checked(directory, model_class, dtype=dtype, attn_implementation="eager").eval().to(device)
    sight = sight_from(config, directory)
    return _opened(model, source, lines_of_checkpoint(directory, model, stored), sight)


def towers_from_model(model: PreTrainedModel, source: Source) -> Tower:
    """Return the towers of a model in memory, in place."""
    model.set_attn_implementation("eager")
    return _opened(model, source, lines_of_model(model), sight_from(model.config))


@torch.no_grad()
def _opened(model: PreTrainedModel, source: Source, weights: Lines, sight: Sight | None) -> Tower:
    """Hang the towers, compare with the plain forward, and record who this is."""
    model.requires_grad_(False)
    fields, inputs = model.config.to_dict(), _probe(model, sight)
    expected = plain_answer(model, inputs)
    tower = hang_towers(model, inputs, tokenizer=source.tokenizer)
    found = (plain_answer(model, inputs).double() - expected.double()).abs().max().item()
    parity.require_parity(found, expected, name=source.name, tolerance=source.tolerance)
    show_in_notebooks()
    deaf = sight is None and type(model).__name__ in SPEAKS
    notes = (f"text part only: {DEAF}",) if deaf else ()
    said = ModelIdentity(
        name=source.name,
        kind=source.kind,
        revision=source.revision,
        dtype=str(expected.dtype).removeprefix("torch."),
        device=str(expected.device),
        digest=weights.digest,
        file_digest=weights.file_digest,
        config_digest=digest_config(fields),
        processing=PROCESSING,
        parity=found,
        tokenizer=None if source.tokenizer is None else type(source.tokenizer).__name__,
        notes=notes,
        outputs=classifiers.class_names(model.config),
    )
    for one in tower.towers.values():
        one.eval()
        reads_words_alone = one.name == "text" and type(model).__name__ not in SPEAKS
        give_sight(cast("TransformerBridge", one), None if reads_words_alone else sight)
        record(
            cast("TransformerBridge", one),
            said,
            weights.by_name,
            other_inputs=other_inputs(fields, source.tokenizer),
            not_measured=notes,
        )
    return tower


def _probe(model: PreTrainedModel, sight: Sight | None) -> dict[str, Tensor]:
    """What every stack of a model is run on: noise, and words around it where it reads both in one row."""
    first, kind = next(model.parameters()), type(model).__name__
    made = probe_inputs(model.config, READS[kind])
    if kind in SPEAKS and sight is not None:
        prompt = with_noise(sight, made["input_ids"], dtype=first.dtype)
        made = {"input_ids": prompt.ids, **prompt.extras}
    return {n: t.to(first.device, first.dtype if t.is_floating_point() else t.dtype) for n, t in made.items()}
