"""Fetching a model from the Hugging Face Hub into the local cache, where it is a directory like any other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from workbench.core.errors import ModelError
from workbench.model import builtin as zoo
from workbench.model.directory import check_directory

_TEXT = ["*.json", "*.txt", "*.model"]
_OTHER = ["*/*", "consolidated*"]  # other formats of the same weights


def fetch(name: str, *, revision: str | None, offline: bool, code: bool) -> Path:
    """Return the local snapshot of a Hub model, downloaded unless `offline`.

    Raises:
        ModelError: if it is not cached and cannot be fetched; the hint says what to do.
    """
    options: dict[str, Any] = {"revision": revision, "local_files_only": offline, "ignore_patterns": _OTHER}
    try:
        wanted = [*_TEXT, "*.safetensors", *(["*.py"] if code else [])]
        directory = Path(str(snapshot_download(name, allow_patterns=wanted, **options)))
        if not any(directory.glob("*.safetensors")):
            # Old repositories have only pytorch_model.bin; transformers reads it with weights_only=True.
            directory = Path(str(snapshot_download(name, allow_patterns=[*wanted, "*.bin"], **options)))
    except GatedRepoError as error:
        raise ModelError(
            f"{name} is gated: its owner wants you to accept a licence first",
            hint=f"accept it on https://huggingface.co/{name}, then: hf auth login",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name} has no revision {revision!r}",
            hint="leave --revision out for the newest, or name a branch, a tag or a commit",
        ) from error
    except RepositoryNotFoundError as error:
        hint = zoo.suggest(name) or "check the spelling; a private model needs: hf auth login"
        raise ModelError(
            f"there is no model {name} on the Hub, nor a directory of that name", hint=hint
        ) from error
    except (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        HfHubHTTPError,
        HFValidationError,
        OSError,
    ) as error:
        raise _unreachable(name, revision, offline=offline) from error
    check_directory(directory)
    return directory


def is_offline(offline: bool | None) -> bool:
    """Say whether the Hub may not be asked: the argument, or else the environment."""
    if offline is not None:
        return offline
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def _unreachable(name: str, revision: str | None, *, offline: bool) -> ModelError:
    what = f"{name} (revision {revision})" if revision else name
    near = zoo.suggest(name)
    if offline:
        return ModelError(
            f"{what} is neither a directory here nor in the local Hub cache, and the workbench is offline",
            hint=near or f"without --offline and HF_HUB_OFFLINE it is fetched; or run: hf download {name}",
        )
    return ModelError(
        f"{what} is not in the local cache, and the Hub cannot be reached",
        hint=near or f"check the network, or copy the model here and give its directory instead of {name}",
    )
