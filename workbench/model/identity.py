"""Which model this is: name, revision, dtype, weight digest, and how closely it follows the plain forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from workbench.core.errors import ModelError
from workbench.core.run_record import digest_of, measured_on
from workbench.model import digest
from workbench.model.bare import Modules, modules_of
from workbench.model.lens import check_opened
from workbench.model.standing import Snapshot, marks, named_modules, plain_name, standing, weights_of

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
    digest of the file as it is stored, where its names or dtypes are not the model's own. `standing` is what was
    attached to the model or changed in it since it was opened, one phrase each.
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
    standing: tuple[str, ...] = ()

    def has_weights(self, digest: str | None) -> bool:
        """Say whether a record is of these weights: by their digest, or by that of their file, which was recorded
        once.
        """
        return digest is not None and digest in (self.digest, self.file_digest)

    @property
    def title(self) -> str:
        """The name, with what stands on the model."""
        return measured_on(self.name, {"standing": self.standing})

    def decides(self) -> dict[str, Any]:
        """Say what of it decides numbers: the part of a plan or a provenance that is about the model."""
        return {
            "model": self.name,
            "weights": self.digest,
            "config": self.config_digest,
            "processing": self.processing,
            "dtype": self.dtype,
            "device": self.device,
            **({"standing": list(self.standing)} if self.standing else {}),
        }

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain JSON values; outputs, a file digest and what stands only where there are some."""
        fields = asdict(self) | {n: list(getattr(self, n)) for n in ("notes", "outputs", "standing")}
        return {k: v for k, v in fields.items() if v or k not in ("outputs", "file_digest", "standing")}


@dataclass(frozen=True)
class _AsOpened:
    """What was recorded when a model was opened.

    Attributes:
        lines: The lines of the weight digest, by the names under which the weights are saved.
        saved_as: That name for each weight of the model that is saved as it is.
        placed: In which dtype and on which device the first weight was.
    """

    identity: ModelIdentity
    snapshot: Snapshot
    lines: Mapping[str, str]
    saved_as: Mapping[str, str]
    placed: tuple[str, str]
    other_inputs: Mapping[int, str]
    not_measured: tuple[str, ...]


_PRESENT: WeakKeyDictionary[TransformerBridge, tuple[Modules, tuple[Any, ...], ModelIdentity]] = (
    WeakKeyDictionary()
)


def identity(bridge: TransformerBridge) -> ModelIdentity:
    """Give the identity of a model that `open_model` opened (copies of the bridge carry it along), as the model is
    now.

    Weights that were changed have another digest, and `standing` says what was changed or is attached.

    Returns:
        Name, revision, and digests of weights and configuration.

    Raises:
        ModelError: if the bridge was not opened by `open_model`.

    Example:
        >>> import workbench as wb
        >>> found = wb.identity(wb.open_model("zoo:ioi"))
        >>> found.name, found.standing
        ('zoo:ioi', ())
    """
    check_opened(bridge)
    opened = bridge.__dict__.get(_ATTRIBUTE)
    if opened is None:
        raise ModelError(
            "this bridge carries no record of where its weights came from",
            hint="open it with workbench.open_model(name), or pass the Hugging Face model to open_model",
        )
    modules = modules_of(bridge, every_number=True)
    stands, known = marks(bridge, modules), _PRESENT.get(bridge)
    if known is None or known[0] is not modules or known[1] != stands:
        known = _PRESENT[bridge] = modules, stands, _as_it_is(bridge, opened)
    return known[2]


def _as_it_is(bridge: TransformerBridge, opened: _AsOpened) -> ModelIdentity:
    """The recorded identity with what is different now."""
    was = opened.snapshot
    now = Snapshot.of(bridge, was)
    dtype, device = _placed(bridge)
    changed = {n: repr(v) for n, v in was.other_settings(now).items()}
    changed |= {n: now.parts.get(n, "gone") for n in was.other_parts(now)}
    config, others = opened.identity.config_digest, was.other_weights(now)
    return replace(
        opened.identity,
        digest=_digest_now(bridge, opened, others) if others else opened.identity.digest,
        config_digest=digest_of([config, changed]) if changed else config,
        standing=standing(bridge, was, now),
        dtype=opened.identity.dtype if (dtype, device) == opened.placed else dtype,
        device=opened.identity.device if (dtype, device) == opened.placed else device,
    )


def _digest_now(bridge: TransformerBridge, opened: _AsOpened, changed: Sequence[str]) -> str:
    """The digest with the lines of weights that hold other numbers now.

    A weight that is saved as it is keeps its name and, where that holds its numbers, its dtype: put back, it has the
    digest that it had. Others (a part of a fused matrix) count beside what was saved.
    """
    lines, weights = dict(opened.lines), weights_of(named_modules(bridge))
    for name in changed:
        saved, weight = opened.saved_as.get(name, name), weights.get(name)
        before = lines.pop(saved, None)
        if weight is not None:
            dtype = None if before is None else digest.torch_dtype(digest.dtype_in(before))
            exact = dtype is not None and digest.holds(dtype, weight)
            lines[saved] = digest.line(saved, weight, dtype if exact else None)
    return digest.combine(lines.values())


def class_names(bridge: TransformerBridge) -> tuple[str, ...]:
    """Return names that the outputs of an opened bridge were given; empty where they have none."""
    found = bridge.__dict__.get(_ATTRIBUTE)
    return () if found is None else found.identity.outputs


def not_measured_of(bridge: TransformerBridge) -> tuple[str, ...]:
    """Say what of an opened bridge or its checkpoint no measurement looks at."""
    found = bridge.__dict__.get(_ATTRIBUTE)
    return () if found is None else found.not_measured


def other_inputs_of(bridge: TransformerBridge) -> Mapping[int, str]:
    """Token ids of an opened bridge that stand for something else than text, and for what."""
    found = bridge.__dict__.get(_ATTRIBUTE)
    return {} if found is None else found.other_inputs


def record(
    bridge: TransformerBridge,
    found: ModelIdentity,
    lines: Mapping[str, str],
    *,
    other_inputs: Mapping[int, str] | None = None,
    not_measured: Sequence[str] = (),
) -> None:
    """Attach an identity to a bridge that is ready, with the lines of its weight digest.

    Args:
        other_inputs: Token ids that stand for something else than text, and for what.
        not_measured: What of the model or its checkpoint no measurement looks at.
    """
    snapshot = Snapshot.of(bridge)
    names = {_place(tensor): name for name, tensor in weights_of(named_modules(bridge)).items()}
    saved = {
        plain_name(n): t for n, t in bridge.original_model.state_dict().items() if isinstance(t, torch.Tensor)
    }
    saved_as = {name: name for name in names.values() if name in lines}
    saved_as |= {names[_place(t)]: n for n, t in saved.items() if n in lines and _place(t) in names}
    opened = _AsOpened(
        found, snapshot, lines, saved_as, _placed(bridge), dict(other_inputs or {}), tuple(not_measured)
    )
    # Past the bridge's own __setattr__, which may write through to the wrapped model.
    object.__setattr__(bridge, _ATTRIBUTE, opened)


def _placed(bridge: TransformerBridge) -> tuple[str, str]:
    """Dtype and device."""
    first = next(p for p in bridge.parameters() if p.is_floating_point())
    return str(first.dtype).removeprefix("torch."), str(first.device)


def _place(tensor: torch.Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
