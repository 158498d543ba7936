"""A built-in model that is measured without being opened, as long as its plain blocks are all that is needed.

Opening takes TransformerLens and transformers' classes, whose import takes longer than all of a small sweep. What
opening finds out is the same each time, so it is kept beside the weights (``workbench/model/opened_file.py``). The
blocks are made from the weights alone, and have to give the recorded logits before they are used. Whatever else is
asked of the model opens it, and from then on it is a model like any other.

``python -m workbench.training.findings`` opens the built-in models and writes anew what was found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.core.errors import ModelError
from workbench.model import builtin as zoo
from workbench.model.gpt2 import PlainGPT2
from workbench.model.identity import ModelIdentity, identity
from workbench.model.opened_file import OpenedContent, config_of, reading_by, seal_of, wiring_of
from workbench.model.settings import DTYPES
from workbench.model.wiring import Wiring
from workbench.tasks.reading import Reading

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

# Of the largest recorded logit: other orders of summation in other versions of torch and other processors.
TOLERANCE = 1e-5
FAMILIES = {"GPT2LMHeadModel": PlainGPT2}


@dataclass(eq=False, kw_only=True)
class Sealed:
    """A built-in model as plain blocks, with all that opening it would find.

    Attributes:
        parity: Largest difference of these blocks from the recorded logits of transformers' own forward.
    """

    seal: OpenedContent
    reading: Reading
    plain: PlainGPT2
    parity: float
    _bridge: TransformerBridge | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return self.reading.name

    @property
    def is_open(self) -> bool:
        """Whether something needed the model itself."""
        return self._bridge is not None

    def open(self) -> TransformerBridge:
        """Return the model itself, opened when it is first asked for.

        Raises:
            ModelError: if it is not the model that was sealed.
        """
        if self._bridge is None:
            from workbench.model.open import open_model

            bridge = open_model(self.name, device="cpu")
            if identity(bridge).digest != self.identity.digest:
                raise ModelError(
                    f"{self.name} has other weights than its record says",
                    hint="python -m workbench.training.findings",
                )
            self._bridge = bridge
        return self._bridge

    @property
    def identity(self) -> ModelIdentity:
        """Who it is; the parity is that of the plain blocks."""
        known = dict(self.seal.identity)
        return ModelIdentity(
            **{**known, "notes": tuple(known["notes"]), "parity": self.parity, "name": self.name}
        )

    @property
    def wiring(self) -> Wiring:
        return wiring_of(self.seal)


def sealed_model(
    name: str, *, device: str | None = None, dtype: str = DTYPES[0], **others: Any
) -> Sealed | None:
    """Return a built-in model that need not be opened yet; None where it has to be.

    Args:
        others: What else opening is asked, such as ``max_memory``: anything but nothing opens the model.

    Returns:
        None also where the files are not those that were opened, or the blocks do not give the recorded logits.
    """
    if not name.startswith(zoo.PREFIX) or dtype != DTYPES[0] or any(v is not None for v in others.values()):
        return None
    if device not in (None, "cpu") or (device is None and torch.cuda.is_available()):
        return None
    directory = zoo.locate(name).directory
    if directory is None:
        return None
    seal = seal_of(directory)
    return None if seal is None else _made(name, directory, seal)


def _made(name: str, directory: Path, seal: OpenedContent) -> Sealed | None:
    config = config_of(directory)
    plain = plain_of(directory, config)
    parity = _parity(plain, seal)
    if not parity <= TOLERANCE * max(1.0, *(abs(x) for row in seal.probe.logits for x in row)):
        return None
    reading = reading_by(seal, name, directory)
    return Sealed(seal=seal, reading=reading, plain=plain, parity=parity)


def plain_of(directory: Path, config: Mapping[str, Any]) -> PlainGPT2:
    """Return a model of a family that is written out here, from its weights."""
    return FAMILIES[config["architectures"][0]].from_directory(directory, config)


@torch.no_grad()
def _parity(plain: PlainGPT2, seal: OpenedContent) -> float:
    """Largest difference of the blocks' logits from those that were recorded."""
    ids, expected = torch.tensor(seal.probe.ids), torch.tensor(seal.probe.logits)
    hidden = plain.blocks.walk(plain.embed(ids))[:, -1]
    found = plain.end(hidden)[:, torch.tensor(seal.probe.columns)]
    return float((found - expected).abs().max())
