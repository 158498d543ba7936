"""One model over several devices, by accelerate's device map; parts on disk or nowhere are refused."""

from __future__ import annotations

import torch
from torch import nn

from workbench.core.errors import ModelError
from workbench.model.memory import available_bytes


def room_of_all(device: str) -> int:
    """Free memory of all devices that a map may use, in bytes."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return available_bytes("cpu") + sum(available_bytes(f"cuda:{n}") for n in gpus)


def refuse_elsewhere(model: nn.Module) -> None:
    """Every weight is in some device's memory: matrices are read, not only run.

    Raises:
        ModelError: if the map put parts of the model on disk.
    """
    away = [name for name, parameter in model.named_parameters() if parameter.device.type == "meta"]
    if away:
        raise ModelError(
            f"{len(away)} weights do not fit and were left on disk, {away[0]} first",
            hint="more memory, more devices or --dtype bfloat16; circuits need all weights at hand",
        )
