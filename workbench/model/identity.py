"""Which model this is: name, revision, dtype, weight digest, and how closely it follows the plain forward."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from workbench.errors import ModelError
from workbench.model.opened import check_opened

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

PROCESSING = "raw"
"""The one weight processing of the workbench: none. `docs/models.md` says why."""

_ATTRIBUTE = "_workbench_identity"


@dataclass(frozen=True, kw_only=True)
class ModelIdentity:
    """What is recorded about an opened model; JSON-able.

    `parity` is the largest absolute difference, in logits (for an encoder: units of its last hidden state),
    between the bridge and the plain forward of the same weights on a fixed probe. `digest` covers the
    weights alone, `config_digest` how they are used (a sliding window, say, is no weight). `tokenizer` is
    None when the model has none: it still runs on token ids, tasks need text and refuse. `outputs` are the names
    of the classes that it puts out, where its outputs are not tokens and somebody named them. `file_digest` is the
    digest of the file as it is stored, where its names or dtypes are not the model's own.
    """

    name: str
    kind: str  # "zoo", "hugging-face", "native", "hub", "memory"
    revision: str | None
    dtype: str
    device: str
    digest: str
    processing: str
    parity: float
    config_digest: str
    tokenizer: str | None = None
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    file_digest: str | None = None

    def has_weights(self, digest: str | None) -> bool:
        """Whether a record is of these weights: by their digest, or by that of their file, which was recorded once."""
        return digest is not None and digest in (self.digest, self.file_digest)

    def to_dict(self) -> dict[str, object]:
        """The fields as plain JSON values; a file digest and names of outputs only where there are some."""
        fields = {**asdict(self), "notes": list(self.notes), "outputs": list(self.outputs)}
        return {k: v for k, v in fields.items() if v or k not in ("outputs", "file_digest")}


def identity(bridge: TransformerBridge) -> ModelIdentity:
    """The identity recorded when `open_model` opened this bridge (copies of the bridge carry it along).

    Raises:
        ModelError: if the bridge was not opened by `open_model`.
    """
    check_opened(bridge)
    found = bridge.__dict__.get(_ATTRIBUTE)
    if found is None:
        raise ModelError(
            "this bridge carries no record of where its weights came from",
            hint="open it with workbench.open_model(name), or pass the Hugging Face model to open_model",
        )
    return found


def class_names(bridge: TransformerBridge) -> tuple[str, ...]:
    """Names that the outputs of an opened bridge were given; empty where they have none."""
    found = bridge.__dict__.get(_ATTRIBUTE)
    return () if found is None else found.outputs


def record(bridge: TransformerBridge, found: ModelIdentity) -> None:
    """Attach an identity to a bridge."""
    # Past the bridge's own __setattr__, which may write through to the wrapped model.
    object.__setattr__(bridge, _ATTRIBUTE, found)
