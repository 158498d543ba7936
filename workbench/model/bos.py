"""Whether prompts of a model start with BOS, known without its weights."""

from __future__ import annotations

import json
from pathlib import Path


def prepends_bos(directory: Path, *, trust_remote_code: bool = False) -> bool:
    """Whether TransformerLens starts prompts of the model in a directory with BOS, if its tokenizer has one.

    Architectures trained without say no (Pythia, Qwen); a native model's configuration says it itself.
    """
    native = directory / "tl_native.json"
    if native.is_file():
        settings = json.loads(native.read_text(encoding="utf-8"))
        return bool(settings.get("default_prepend_bos", True)) if isinstance(settings, dict) else True
    from workbench.model.huggingface import adapter_prepends_bos, read_config

    config = read_config(directory, trust_remote_code=trust_remote_code)
    return adapter_prepends_bos(config, directory)
