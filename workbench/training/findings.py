"""Opens the built-in models and writes beside their weights what was found: ``python -m workbench.training.findings``.

Only models of families that ``workbench/model/sealed.py`` can make from their weights alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from workbench.core.run_record import versions
from workbench.model.architecture import describe
from workbench.model.builtin import PREFIX, list_models
from workbench.model.huggingface import load_checked
from workbench.model.identity import identity
from workbench.model.open import open_model
from workbench.model.opened_file import NAME, OPENED, config_of, files_of
from workbench.model.outputs import outputs_of
from workbench.model.parity import plain_output, probe_tokens
from workbench.model.probe import wiring
from workbench.model.sealed import FAMILIES

N_COLUMNS = 64
PROBE_LENGTH = 64  # tokens, where a model says nothing of how many it takes


def sealable() -> list[str]:
    """Return names of the built-in models that can be sealed, without ``zoo:``."""
    there = [card for card in list_models() if (card.directory / "config.json").is_file()]
    return [card.name for card in there if config_of(card.directory)["architectures"][0] in FAMILIES]


def found_in(name: str, directory: Path) -> dict[str, Any]:
    """Say what opening a built-in model finds, as the content of its record."""
    bridge = open_model(PREFIX + name, device="cpu")
    described, measured = describe(bridge), asdict(wiring(bridge))
    measured = {
        name: value for name, value in measured.items() if name not in ("prefix", "towers", "mixer")
    }  # one stack
    who = {k: v for k, v in identity(bridge).to_dict().items() if k != "parity"}
    ids = probe_tokens(described.d_vocab, described.n_ctx or PROBE_LENGTH)
    columns = list(range(0, described.d_vocab, max(1, described.d_vocab // N_COLUMNS)))
    logits = plain_output(_transformers(directory), ids)[:, -1]
    return {
        "files": files_of(directory),
        "identity": who,
        "wiring": {**measured, "live": sorted(measured["live"])},
        "prepend_bos": described.prepend_bos,
        "n_ctx": described.n_ctx,
        "d_vocab": described.d_vocab,
        "n_outputs": outputs_of(bridge).size,
        "probe": {"ids": ids.tolist(), "columns": columns, "logits": logits[:, columns].tolist()},
        "versions": versions(),
    }


def _transformers(directory: Path) -> torch.nn.Module:
    """The model as transformers loads it, with its own eager attention."""
    from transformers import AutoModelForCausalLM

    return load_checked(directory, AutoModelForCausalLM, attn_implementation="eager").eval()


def main() -> None:
    """Write the records of all models that can be sealed."""
    for name in sealable():
        directory = next(card.directory for card in list_models() if card.name == name)
        print(OPENED.save(found_in(name, directory), directory / NAME))


if __name__ == "__main__":
    main()
