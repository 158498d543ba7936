"""What a model takes and puts out, from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from workbench.model.classifiers import class_names
from workbench.model.huggingface import adapter_config, read_config
from workbench.model.native import is_native, read_native_config, read_output_names
from workbench.model.outputs import outputs_from
from workbench.model.sight import sight_from
from workbench.model.towers.classes import tower_class, words_of
from workbench.tasks.outputs import Outputs
from workbench.tasks.pictures.sight import Sight


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a configuration says of a model's text, without its tokenizer: the fields of ``Reading``; and its fields."""

    prepend_bos: bool
    n_ctx: int | None
    causal: bool
    d_vocab: int
    outputs: Outputs
    config: Mapping[str, Any] = field(default_factory=dict)
    sight: Sight | None = None


def limits_of(directory: Path, *, trust_remote_code: bool = False) -> Limits:
    """Say what the model in a directory takes and puts out; no weights are read.

    BOS comes first unless the architecture was trained without (Pythia, Qwen); a native model's configuration says
    it itself.

    Raises:
        ModelError: if the configuration cannot be read.
    """
    names: tuple[str, ...] = ()
    fields: Mapping[str, Any] = {}
    sight = None
    if is_native(directory):
        cfg, names = read_native_config(directory), read_output_names(directory)
    else:
        config = read_config(directory, trust_remote_code=trust_remote_code)
        cfg = cast(Any, words_of(config) if tower_class(config) else adapter_config(config, directory))
        names, fields = class_names(config), config.to_dict()
        sight = sight_from(config, directory)
    return Limits(
        prepend_bos=bool(getattr(cfg, "default_prepend_bos", True)),
        n_ctx=cfg.n_ctx or None,
        causal=cfg.attention_dir != "bidirectional",
        d_vocab=cfg.d_vocab,
        outputs=outputs_from(cfg.d_vocab, cfg.d_vocab_out, names, native=is_native(directory)),
        config=fields,
        sight=sight,
    )


def picture_limits(directory: Path, *, trust_remote_code: bool = False) -> tuple[Sight, Outputs] | None:
    """Say how a model that reads pictures alone takes them, and its classes; None for any other model."""
    if is_native(directory):
        return None
    config = read_config(directory, trust_remote_code=trust_remote_code)
    sight = sight_from(config, directory)
    if sight is None or sight.token is not None:
        return None
    names = class_names(config)
    return sight, Outputs(size=len(names) or None, classes=names)
