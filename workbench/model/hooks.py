"""Where things are in a bridge, and what really happens when one edits them.

TransformerLens gives every architecture the same hook names, but not every hook is live: on some families an
edit of the attention pattern is discarded without a word. ``probe`` measures, once per model, which hooks fire,
which edits change the output, and whether the residual stream is the sum that the computation graph says it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from workbench.errors import ModelError
from workbench.graph import Graph, GraphShape

SITES = ("resid", "attn-out", "mlp-out", "head-output", "q", "k", "v", "pattern")
_SITE_HOOKS = {
    "resid": "hook_in",
    "attn-out": "hook_attn_out",
    "mlp-out": "hook_mlp_out",
    "head-output": "attn.hook_z",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "neurons": "mlp.out.hook_in",
}
# Largest error seen for float32 identities of the probe on all families of the tests, with a factor of ten.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 0.15, torch.float16: 0.03}


def hook_name(site: str, layer: int) -> str:
    """The TransformerLens hook of a site: ``hook_name("q", 3)`` is ``blocks.3.attn.hook_q``."""
    return f"blocks.{layer}.{_SITE_HOOKS[site]}"


def per_head(site: str) -> bool:
    """Whether a site's tensors have a head axis."""
    return site in ("head-output", "q", "k", "v", "pattern")


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What a probe forward found out about one model.

    Attributes:
        attention_layers, mlp_layers: Layers where the component's hooks fire.
        d_mlp: Hidden units of each MLP, as seen; 0 where they cannot be seen or differ between layers.
        live: Sites whose edits change the output.
        pattern_by_recompute: Pattern edits are discarded, but ``softmax(q k / sqrt(d))`` gives the pattern, so an
            edit can be written to the head output instead, exactly.
        head_writes: The heads' outputs and the attention bias sum to what the layer writes (False: post-norm).
        residual_is_sum: Each block adds exactly its attention and MLP outputs to the residual stream.
        readers_known: ``q``, ``k``, ``v`` and the MLP input are the stated functions of the residual stream.
        errors: Largest error of each identity, in activation units.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    attention_layers: tuple[int, ...]
    mlp_layers: tuple[int, ...]
    parallel: bool
    causal: bool
    has_lm_head: bool
    live: frozenset[str]
    pattern_by_recompute: bool
    head_writes: bool
    residual_is_sum: bool
    readers_known: bool
    errors: dict[str, float]

    @property
    def edge_level(self) -> bool:
        """Whether edges of this model can be edited exactly."""
        return self.residual_is_sum and self.readers_known

    def shape(self) -> GraphShape:
        """The computation graph's shape.

        Raises:
            ModelError: if the residual stream is not the sum of what the parts write.
        """
        if not self.edge_level:
            raise ModelError(f"no edges here: {self.why_no_edges()}", hint="node level works: --level node")
        return self._shape(head_writes=self.head_writes)

    def node_shape(self) -> GraphShape:
        """The shape for node-level work: every head is a node, and no sum over the residual stream is assumed."""
        return self._shape(head_writes=True)

    def _shape(self, *, head_writes: bool) -> GraphShape:
        every = tuple(range(self.n_layers))
        return GraphShape(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            parallel=self.parallel,
            head_writes=head_writes,
            attention_layers=None if self.attention_layers == every else self.attention_layers,
            mlp_layers=None if self.mlp_layers == every else self.mlp_layers,
        )

    def graph(self) -> Graph:
        """The edge-level computation graph."""
        return Graph(self.shape())

    def why_no_edges(self) -> str:
        """One sentence on why edge-level work is refused."""
        if not self.residual_is_sum and len(self.attention_layers) < self.n_layers:
            return (
                "layers without attention write to the residual stream through parts that are neither heads nor "
                f"MLPs (off by {self.errors['residual']:.2g})"
            )
        if not self.residual_is_sum:
            return (
                "a norm follows the sum in each block, so the residual stream is not the sum of what the "
                f"parts write (off by {self.errors['residual']:.2g})"
            )
        dead = [slot for slot in "qkv" if slot not in self.live]
        if dead and self.attention_layers and self.errors["readers"] < 1e-3:
            return f"edits of {' and '.join(dead)} change nothing on it"
        return f"its q, k, v or MLP inputs are not norm-then-project (off by {self.errors['readers']:.2g})"


def component(module: torch.nn.Module, name: str) -> torch.nn.Module | None:
    """A part of a bridge block, or None when this architecture has none."""
    return getattr(module, name, None) if name in dict(module.named_children()) else None


def norm_before(bridge: TransformerBridge, layer: int, part: str) -> Callable[[Tensor], Tensor]:
    """The norm that attention (``"ln1"``) or the MLP (``"ln2"``) applies to what it reads, hooks not fired."""
    norm = component(bridge.blocks[layer], part)
    if norm is None and part == "ln2":
        norm = component(bridge.blocks[layer], "ln1")  # one norm for both: Falcon, Phi, Cohere, GPT-J
    if norm is None:
        return lambda x: x
    original = getattr(norm, "original_component", None)
    return original if original is not None else norm.forward


def projection(bridge: TransformerBridge, layer: int, slot: str) -> Float[Tensor, "head d_model d_head"]:
    """``W_Q``, ``W_K`` or ``W_V`` of a layer; one matrix per KV group for k and v."""
    return getattr(bridge.blocks[layer].attn, f"W_{slot.upper()}")


def output_matrix(bridge: TransformerBridge, layer: int) -> Float[Tensor, "head d_head d_model"]:
    """``W_O`` of a layer."""
    return bridge.blocks[layer].attn.W_O


def pattern_is_live(block: torch.nn.Module) -> bool:
    """Whether edits of ``attn.hook_pattern`` reach the output (TransformerLens recomputes attention itself)."""
    attn = block.attn
    return bool(
        getattr(attn, "supports_attn_result", False)
        or getattr(getattr(attn, "original_component", None), "accepts_pattern_fn", False)
    )


@contextmanager
def resume_from(
    bridge: TransformerBridge, layer: int, resid: Float[Tensor, "row pos d_model"]
) -> Iterator[None]:
    """Inside, a call on the bridge skips the blocks before ``layer`` and feeds ``resid`` to it.

    Pass the original tokens to the call: masks and positions come from them. ``start_at_layer`` of
    TransformerLens 4.3 gives the same numbers but runs the skipped blocks all the same, and is silently
    wrong on Bloom and state-space models.
    """
    if layer == 0:
        with bridge.hooks(fwd_hooks=[("blocks.0.hook_in", lambda t, hook: resid)]):
            yield
        return

    wrap = "native" in type(bridge.original_model).__module__  # native blocks return a tuple of one

    def passthrough(*args, **kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden,) if wrap else hidden

    skipped = list(bridge.blocks)[:layer]
    entry = bridge.blocks[layer].hook_in
    for block in skipped:
        object.__setattr__(block, "forward", passthrough)
    handle = entry.add_hook(lambda t, hook: resid, prepend=True)
    try:
        yield
    finally:
        handle.hook.remove()
        entry.fwd_hooks[:] = [h for h in entry.fwd_hooks if h is not handle]
        for block in skipped:
            object.__delattr__(block, "forward")


def forward(
    bridge: TransformerBridge, ids: Int[Tensor, "row pos"], *, last_only: bool
) -> Float[Tensor, "row pos d_vocab"]:
    """The model's output; only the last position's where asked and where the model can."""
    # An index gives a contiguous copy; a slice makes torch differentiate a product per row: 12 times slower at 32 rows.
    options = {"logits_to_keep": torch.tensor([-1])} if last_only and keeps_logits(bridge) else {}
    out = bridge(ids, **options)
    out = out if isinstance(out, Tensor) else getattr(out, "last_hidden_state", None)
    if out is None:
        raise ModelError("the model returns neither logits nor hidden states")
    return out[:, -1:] if last_only else out


_KEEPS: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def keeps_logits(bridge: TransformerBridge) -> bool:
    """Whether the wrapped model takes ``logits_to_keep`` (Hugging Face decoders do, native and encoders do not)."""
    if bridge not in _KEEPS:
        import inspect

        original = getattr(bridge, "original_model", None)
        try:
            parameters = inspect.signature(original.forward).parameters
        except (AttributeError, TypeError, ValueError):
            parameters = {}
        _KEEPS[bridge] = "logits_to_keep" in parameters
    return _KEEPS[bridge]
