"""What a head's weights would do, whatever the text: copying, matching, reading what earlier heads write.

Row vectors: a residual ``x`` is read as ``x W_V`` and written as ``... W_O``. The gain of the norm before a layer is
folded into what reads it; with LayerNorm so is the centring. The norm's division is not: it depends on the text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.model.architecture import describe
from workbench.model.hooks import component, norm_before, output_matrix, projection
from workbench.model.outputs import why_no_words
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Embedding = Literal["plain", "effective"]
Kind = Literal["q", "k", "v"]


def eigen_score(
    left: Float[Tensor, "*batch n d"], right: Float[Tensor, "*batch d n"]
) -> Float[Tensor, "*batch"]:
    """Return ``sum(eigenvalues) / sum(|eigenvalues|)`` of ``left right``, between -1 and 1; 0 where all of them are
    0.

    The d x d matrix ``right left`` has the same eigenvalues apart from zeros. 1: the map keeps what it gets (copies,
    matches itself); -1: it reverses it.

    Source:
        Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits", copying heads.
    """
    values = torch.linalg.eigvals((right @ left).double())
    total = values.abs().sum(-1)
    return torch.where(total > 0, values.sum(-1).real / total.clamp(min=1e-300), 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerWeights:
    """A layer's matrices per query head (KV groups repeated), the norm before the layer folded in, in float64."""

    q: Float[Tensor, "head d_model d_head"]
    k: Float[Tensor, "head d_model d_head"]
    v: Float[Tensor, "head d_model d_head"]
    o: Float[Tensor, "head d_head d_model"]


def layer_weights(model: TransformerBridge, layer: int) -> LayerWeights:
    """Return the matrices of a layer.

    Raises:
        ModelError: if its q, k, v are not the stated functions of the residual stream, with the reason.
    """
    _require(model)
    gain, centred = norm_gain(
        norm_before(model, layer, "ln1"), model.cfg.d_model, like=output_matrix(model, layer)
    )
    n_heads = wiring(model).n_heads
    read = {}
    for slot in "qkv":
        matrix = projection(model, layer, slot).detach().double()
        matrix = matrix.repeat_interleave(n_heads // len(matrix), dim=0)  # one per query head
        read[slot] = _folded(matrix, gain, centred)
    return LayerWeights(**read, o=output_matrix(model, layer).detach().double())


def embedding(model: TransformerBridge, kind: Embedding = "plain") -> Float[Tensor, "d_vocab d_model"]:
    """Compute what stands for a token in the residual stream, in float64.

    ``effective`` adds what the first layer's MLP makes of the embedding by itself, for models whose first MLP encodes
    tokens anew.

    Raises:
        ModelError: if ``effective`` is asked for and the first layer has no MLP that can be run by itself.
    """
    plain = model.W_E.detach()
    if kind == "plain":
        return plain.double()
    if 0 not in wiring(model).mlp_layers:
        raise ModelError(
            "the first layer has no MLP, so there is no effective embedding",
            hint="embedding(model) reads the plain embedding",
        )
    norm, mlp = norm_before(model, 0, "ln2"), model.blocks[0].mlp
    try:
        with torch.no_grad():
            added = [mlp(norm(part[None])) for part in plain.split(1024)]
    except RuntimeError as problem:  # TransformerLens: an MLP without a module of its own
        raise ModelError(
            "its first MLP cannot be run by itself, so there is no effective embedding",
            hint="embedding(model) reads the plain embedding",
        ) from problem
    added = [out[0] if isinstance(out, tuple) else out for out in added]
    return (plain + torch.cat([out.reshape(-1, plain.shape[1]) for out in added])).double()


def unembedding(model: TransformerBridge) -> Float[Tensor, "d_model d_vocab"]:
    """Return the unembedding with the final norm folded in, in float64.

    Raises:
        ModelError: if there is no language-model head, or its outputs are no tokens.
    """
    if why := why_no_words(model):
        raise ModelError(why, hint="open a language model: zoo:ioi")
    matrix = model.W_U.detach().double()
    norm = component(model, "ln_final")
    if norm is None:
        return matrix
    norm = getattr(norm, "original_component", None) or norm
    gain, centred = norm_gain(norm, model.cfg.d_model, like=model.W_U)
    return _folded(matrix[None], gain, centred)[0]


def ov_copying(
    model: TransformerBridge, layer: int, *, between: Float[Tensor, "d_model d_model"]
) -> Float[Tensor, " head"]:
    """Eigenvalue score of ``W_E W_V W_O W_U`` of a layer's heads: near 1 a head raises the logit of what it looks at.

    Args:
        between: ``unembedding @ embedding``, see ``round_trip``: the same for all heads.
    """
    weights = layer_weights(model, layer)
    return eigen_score(between @ weights.v, weights.o)


def round_trip(model: TransformerBridge, kind: Embedding = "plain") -> Float[Tensor, "d_model d_model"]:
    """Return ``W_U W_E``: from the residual stream to logits and back by the embeddings of the same tokens."""
    return unembedding(model) @ embedding(model, kind)


def qk_matching(
    model: TransformerBridge, layer: int, *, gram: Float[Tensor, "d_model d_model"]
) -> Float[Tensor, " head"]:
    """Return the eigenvalue score of ``W_E W_Q W_K^T W_E^T``: near 1 a head looks at the token that its query is.

    Under rotary positions this is of a query and key at one and the same position.

    Args:
        gram: ``W_E^T W_E``.

    Raises:
        ModelError: if a norm stands between the projections and their product.
    """
    _require_bilinear(model)
    weights = layer_weights(model, layer)
    return eigen_score(gram @ weights.q, weights.k.transpose(-1, -2))


def composition(earlier: LayerWeights, later: LayerWeights, kind: Kind) -> Float[Tensor, "later earlier"]:
    """Compute how much of what a later head reads (by q, k or v) earlier heads can write, between 0 and 1.

    Q: ``||W_OV^a W_QK^b|| / (||W_OV^a|| ||W_QK^b||)``; K: with ``W_QK^b`` transposed; V: ``W_OV^b`` in its place.
    Random matrices have ``1 / sqrt(d_model)``. 0 where a matrix is 0.

    Source:
        Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
    """
    reads = {"q": later.q, "k": later.k, "v": later.v}[kind]
    beyond = {"q": later.k, "k": later.q, "v": later.o.transpose(-1, -2)}[kind]
    return composition_of(earlier.v, earlier.o, reads, beyond)


def composition_of(
    value: Float[Tensor, "earlier d_model d"],
    output: Float[Tensor, "earlier d d_model"],
    reads: Float[Tensor, "later d_model d"],
    beyond: Float[Tensor, "later d_model d"],
) -> Float[Tensor, "later earlier"]:
    """Return ``||V O R B^T|| / (||V O|| ||R B^T||)`` from d x d products alone."""
    middle = torch.einsum("aem,bmf->baef", output, reads)
    inner, outer = value.transpose(-1, -2) @ value, beyond.transpose(-1, -2) @ beyond
    squared = torch.einsum("baef,bfg,bahg,aeh->ba", middle, outer, middle, inner)
    first = torch.einsum("aem,afm,aef->a", output, output, inner)
    second = torch.einsum("bmf,bmg,bfg->b", reads, reads, outer)
    product = first[None, :] * second[:, None]
    return torch.where(product > 0, squared.clamp(min=0) / product.clamp(min=1e-300), 0.0).sqrt()


def composition_null(d_model: int, d_head: int, n_earlier: int, *, draws: int = 8, seed: int = 0) -> float:
    """Compute what a random head gets: the mean over draws of the largest score among ``n_earlier`` random heads."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.double)

    n = min(n_earlier, 64)  # the largest of more hardly differs, and memory grows with them
    value, output = random(n, d_model, d_head), random(n, d_head, d_model)
    found = composition_of(value, output, random(draws, d_model, d_head), random(draws, d_model, d_head))
    return float(found.amax(1).mean())


def eigen_null(
    between: Float[Tensor, "d_model d_model"], d_head: int, *, draws: int = 32, seed: int = 0
) -> tuple[float, float]:
    """Return the mean and standard deviation of the eigenvalue score of random matrices of a head's shape."""
    generator = torch.Generator().manual_seed(seed)
    shape = (draws, len(between), d_head)
    right = torch.randn(shape, generator=generator, dtype=torch.double).to(between)
    left = torch.randn(shape, generator=generator, dtype=torch.double).to(between)
    found = eigen_score(between @ right, left.transpose(-1, -2))
    return float(found.mean()), float(found.std())


def norm_gain(
    norm: Callable[[Tensor], Tensor], d_model: int, *, like: Tensor
) -> tuple[Float[Tensor, " d_model"], bool]:
    """Return the gain a norm multiplies with, and whether it centres: found by what it does to two random vectors.

    Raises:
        ModelError: if it does neither as LayerNorm nor as RMSNorm.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, d_model, generator=generator).to(like) * 10  # 10: far above any epsilon
    with torch.no_grad():
        y, bias = norm(x[None])[0].double(), norm(torch.zeros_like(x)[None])[0].double()
    x = x.double()
    if torch.equal(y, x):
        return torch.ones(d_model, dtype=torch.double, device=x.device), False
    centre = x - x.mean(-1, keepdim=True)
    for given, centred in ((centre, True), (x, False)):
        gains = (y - bias) / (given / given.pow(2).mean(-1, keepdim=True).sqrt())
        if torch.allclose(gains[0], gains[1], rtol=1e-2, atol=1e-3):
            return gains.mean(0), centred
    raise ModelError(
        "the norm is neither a LayerNorm nor an RMSNorm, so it cannot be folded",
        hint="read scores from runs instead: workbench heads measures them",
    )


def _folded(matrix: Float[Tensor, "head d_model d"], gain: Tensor, centred: bool) -> Tensor:
    """What a matrix that reads a norm's output does to its input, apart from the division."""
    matrix = gain[None, :, None] * matrix
    return matrix - matrix.mean(1, keepdim=True) if centred else matrix


def _require(model: TransformerBridge) -> None:
    """Refuse where weights alone do not say what heads read and write."""
    found = wiring(model)
    if not found.head_writes:
        raise ModelError(
            "a norm or a factor follows the sum of the heads, so weights alone do not say what they write",
            hint="read what heads write from runs: workbench ablate, or discover",
        )
    if not found.residual_is_sum and len(found.attention_layers) == found.n_layers:
        raise ModelError(
            "a norm follows the sum in each block, so weights alone do not say what heads read",
            hint="read what heads attend to from runs: workbench heads",
        )
    if not found.readers_known:
        raise ModelError(
            "its q, k, v are not norm-then-project, so weights alone do not say what heads read",
            hint="read what heads attend to from runs: workbench heads",
        )


def _require_bilinear(model: TransformerBridge) -> None:
    for layer in wiring(model).attention_layers:
        original = getattr(model.blocks[layer].attn, "original_component", None)
        if (
            getattr(original, "q_norm", None) is not None
            or getattr(original, "q_layernorm", None) is not None
        ):
            raise ModelError(
                "queries and keys are normed before they meet, so there is no W_Q W_K^T",
                hint="read patterns from runs: workbench heads",
            )


def why_no_position_free(model: TransformerBridge) -> str:
    """Say why q and k composition have no meaning here; empty where they do."""
    try:
        _require_bilinear(model)
    except ModelError as problem:
        return problem.message
    if describe(model).positions == "rotary":
        return (
            "rotary positions turn queries and keys by their distance: W_Q W_K^T means nothing without a choice of "
            "positions"
        )
    return ""
