"""Device, dtype and memory as they are typed: read and checked before torch is loaded."""

from __future__ import annotations

import re

from workbench.core.errors import OptionError, unknown

BATCH_TOKENS = 8192  # most tokens in one forward pass
SET_ASIDE = 64_000_000  # bytes: modules loaded on the way and Python's own objects, 60 to 70 MB measured on tiny passes
DTYPES = ("float32", "float64", "bfloat16", "float16")
MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
# What torch 2.13 calls devices, `torch.device("...")` says; a name that only a newer torch knows is not refused here.
_DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "xla", "mtia", "ipu", "meta", "maia", "hip", "vulkan")
_UNITS = {"": 1, "B": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def check_dtype(dtype: str) -> str:
    """Return the name of a precision, if there is such a one.

    Raises:
        OptionError: if not, with the closest spellings.
    """
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES, error=OptionError)
    return dtype


def check_device(device: str | None) -> None:
    """Do nothing if this is how a device is written: ``cpu``, ``cuda``, ``cuda:1``; whether it is there, torch says.

    Raises:
        OptionError: if not.
    """
    if device is not None and not is_device(str(device)):
        raise no_device(str(device))


def no_device(device: str) -> OptionError:
    """Return the error for a device that there is not."""
    return OptionError(f"there is no device called {device!r}", hint="cpu, cuda or cuda:1")


def is_device(text: str) -> bool:
    """Say whether a text has the form of a device.

    Example:
        >>> is_device("cuda:1"), is_device("cdua"), is_device("cuda:x")
        (True, False, False)
    """
    match = re.fullmatch(r"([a-z]+)(:\d+)?", text)
    return match is not None and match[1] in _DEVICES


def check_map(device_map: str | None, device: str | None) -> None:
    """Do nothing if a device map can be asked for.

    Raises:
        OptionError: for a map that is none, or beside a device.
    """
    if device_map is None:
        return
    if device is not None:
        raise OptionError("--device and --device-map say two things of one model", hint="choose one of them")
    if device_map not in MAPS and (not is_device(device_map) or device_map.startswith("meta")):
        raise OptionError(
            f"there is no device map {device_map!r}", hint=f"--device-map {', '.join(MAPS)}, or a device"
        )


def size_said(size: int) -> str:
    """Return a number of bytes in words.

    Example:
        >>> size_said(1_500_000_000), size_said(64_000_000), size_said(12)
        ('1.5 GB', '64.0 MB', '12 bytes')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def parse_size(text: int | str) -> int:
    """Return bytes from a number or text like "8GB" (powers of 1000) or "8GiB" (powers of 1024).

    Raises:
        OptionError: for anything else.

    Example:
        >>> parse_size("8GB"), parse_size("1KiB")
        (8000000000, 1024)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", str(text), re.IGNORECASE)
    if match is None:
        raise OptionError(f"max_memory is {text!r}; a size is expected", hint='"8GB" or a number of bytes')
    unit = match[2].upper()
    factor = 1024 ** "BKMGT".index(unit or "B") if match[3] else _UNITS[unit]
    return int(float(match[1]) * factor)
