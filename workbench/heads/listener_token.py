"""A token that says whom a listener attends to: a probe reads a signal, and a model reads what the probe says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError, ShapeError

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HOOK = "hook_embed"
ROWS = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class VoiceProbe:
    """A linear map from signals to voices, fitted by ridge regression.

    Attributes:
        weights: ``(electrode, d)``.
        signal_mean, voice_mean: Of what it was fitted on; the second is what it says of a signal that tells nothing.
    """

    weights: Float[np.ndarray, "electrode d"]
    signal_mean: Float[np.ndarray, " electrode"]
    voice_mean: Float[np.ndarray, " d"]

    def tokens(self, signals: Float[np.ndarray, "trial electrode"]) -> Float[np.ndarray, "trial d"]:
        """Return the voice that each signal tells of, for the place of a token."""
        return self.voice_mean + (signals - self.signal_mean) @ self.weights


def fit_voice_probe(
    signals: Float[np.ndarray, "trial electrode"],
    voices: Float[np.ndarray, "trial d"],
    *,
    penalty: float = 1.0,
) -> VoiceProbe:
    """Fit the map from signals to the voices that were attended to.

    ``weights = (S'S + penalty * n * mean variance of S * I)^-1 S'V``, of signals and voices less their means.

    Returns:
        A probe; voices that it never saw lie in its range like any other.

    Raises:
        ShapeError: if there are not as many voices as signals.

    Source:
        Jiang et al. 2025 (AAD-LLM), as its abstract has it: the attended speaker is predicted from neural activity.

    Example:
        >>> voices = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]])
        >>> probe = fit_voice_probe(voices @ np.array([[0.0, 2.0], [1.0, 0.0]]), voices, penalty=0.0)
        >>> np.allclose(probe.tokens(np.array([[0.0, 2.0]])), [[1.0, 0.0]])
        True
    """
    if len(signals) != len(voices):
        raise ShapeError(
            f"there are {len(signals)} signals and {len(voices)} voices", hint="one voice for each signal"
        )
    signal_mean, voice_mean = signals.mean(0), voices.mean(0)
    centred, wanted = signals - signal_mean, voices - voice_mean
    gram = centred.T @ centred
    gram = gram + penalty * len(signals) * centred.var() * np.eye(len(gram))
    return VoiceProbe(
        weights=np.linalg.lstsq(gram, centred.T @ wanted, rcond=None)[0],
        signal_mean=signal_mean,
        voice_mean=voice_mean,
    )


def decoded_margin(
    tokens: Float[np.ndarray, "trial d"],
    heard: Float[np.ndarray, "trial d"],
    other: Float[np.ndarray, "trial d"],
) -> Float[np.ndarray, " trial"]:
    """Say by how much nearer a token is to the voice that is attended to than to the other: a difference of cosines.

    Returns:
        From -2 to 2; above 0 the right one of the two is decoded.

    Example:
        >>> decoded_margin(np.array([[2.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])).tolist()
        [1.0]
    """
    return _cosine(tokens, heard) - _cosine(tokens, other)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).clip(1e-12)


@torch.no_grad()
def voices_of(model: TransformerBridge, ids: Sequence[int]) -> Float[np.ndarray, "token d"]:
    """Return what a model reads in the place of a token, as its layers get it: the voice of a name.

    Raises:
        ModelError: for a model without token embeddings that can be replaced.
    """
    _require(model)
    seen: list[Tensor] = []
    rows = torch.tensor(list(ids), device=next(iter(model.parameters())).device)[:, None]
    with model.hooks(fwd_hooks=[(HOOK, lambda tensor, hook: seen.append(tensor.detach()))]):
        model(rows)
    return seen[0][:, 0].double().cpu().numpy()


@torch.no_grad()
def told_after(
    model: TransformerBridge,
    ids: Int[np.ndarray, "row pos"],
    tokens: Float[np.ndarray, "row d"],
    answers: Int[np.ndarray, "row answer"],
) -> Float[np.ndarray, "row answer"]:
    """Read texts whose last token is replaced by a vector, and say how likely each answer is next.

    Args:
        ids: Texts of one length; what stands last is not read.
        tokens: The conditioning token of each.
        answers: Token ids.

    Returns:
        Log-probabilities, in nats.

    Raises:
        ModelError: for a model without token embeddings that can be replaced.
    """
    _require(model)
    first = next(iter(model.parameters()))
    found = []
    for start in range(0, len(ids), ROWS):
        part = slice(start, start + ROWS)
        put = torch.as_tensor(tokens[part], device=first.device, dtype=first.dtype)

        def replace(tensor: Tensor, hook: object, put: Tensor = put) -> Tensor:
            tensor = tensor.clone()
            tensor[:, -1] = put
            return tensor

        rows = torch.as_tensor(ids[part], device=first.device)
        with model.hooks(fwd_hooks=[(HOOK, replace)]):
            logs = model(rows)[:, -1].double().log_softmax(-1)
        asked = torch.as_tensor(answers[part], device=first.device)
        found.append(logs.gather(1, asked).cpu().numpy())
    return np.concatenate(found)


def _require(model: TransformerBridge) -> None:
    if HOOK not in getattr(model, "hook_dict", {}):
        raise ModelError(
            f"the model has no {HOOK}; a token can be replaced by a vector only there",
            hint="-m zoo:kv, or another language model",
        )
