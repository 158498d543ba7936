"""What a model is made of and which interventions work on it: measured, and where one does not, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal

import torch

from workbench.core.errors import ModelError, unknown
from workbench.core.show import Shown
from workbench.core.text import printable
from workbench.model.hooks import Wiring
from workbench.model.identity import not_measured_of
from workbench.model.outputs import outputs_of
from workbench.model.probe import wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

KINDS = (
    *("residual", "attn-out", "mlp-out", "neurons", "head-output", "q", "k", "v", "pattern", "knock-out"),
    *("node-level", "edge-level", "path-patching", "language-model-metrics"),
)
"""Everything `Architecture.support` answers for."""

Placement = Literal["none", "pre", "post", "pre+post", "after-sum"]


@dataclass(frozen=True, kw_only=True)
class Support:
    """Whether an intervention, level or metric works on a model, and in one sentence why not or how."""

    works: bool
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Architecture(Shown, shown_in="workbench.model.show"):
    """What a model is made of; plain values, JSON-able.

    `norm_placement`: "pre" (before attention and MLP), "post" (after them, before they are added to the
    residual stream), "pre+post" (both), "after-sum" (after the addition, as in BERT), "none". Where
    `n_kv_heads` < `n_heads`, heads share keys and values in groups. `d_mlp` is the width of one expert where
    there are experts. `prepend_bos` says whether prompts start with the BOS token. `not_measured` names parts of the
    model that no text passes through, and tensors of its checkpoint that it does not load.
    """

    family: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int | None
    d_vocab: int
    d_vocab_out: int
    n_ctx: int | None
    norm: str | None
    norm_placement: Placement
    parallel: bool
    attn_only: bool
    causal: bool
    has_lm_head: bool
    prepend_bos: bool
    has_tokenizer: bool
    positions: str
    act_fn: str | None
    n_experts: int | None
    attention_layers: tuple[int, ...]
    mlp_layers: tuple[int, ...]
    support: Mapping[str, Support]
    not_measured: tuple[str, ...] = ()

    @property
    def heads_per_group(self) -> int:
        """How many query heads share one key/value head."""
        return self.n_heads // self.n_kv_heads if self.n_kv_heads else 0

    def require(self, kind: str) -> None:
        """Do nothing if `kind` works on this model.

        Raises:
            ModelError: if it does not, with the reason.
        """
        if kind not in self.support:
            raise unknown("intervention", kind, self.support, error=ModelError)
        if not self.support[kind].works:
            raise ModelError(
                f"{kind} does not work on this {self.family} model: {self.support[kind].why}",
                hint=f"works here: {', '.join(sorted(k for k, s in self.support.items() if s.works)) or 'nothing'}",
            )

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        lists = {name: list(values[name]) for name in ("attention_layers", "mlp_layers", "not_measured")}
        return {**values, **lists, "support": {kind: asdict(s) for kind, s in self.support.items()}}

    def __repr__(self) -> str:
        heads = f"{self.n_heads} heads" if self.n_heads else "no attention"
        if 0 < self.n_kv_heads < self.n_heads:
            heads += f" in {self.n_kv_heads} KV group{'s' if self.n_kv_heads > 1 else ''}"
        traits = [
            f"{self.n_layers} layers",
            heads,
            f"d_model {self.d_model}",
            f"{self.norm or 'no'} norm" + (f" ({self.norm_placement})" if self.norm else ""),
            *(["parallel blocks"] if self.parallel else []),
            *(["attention only"] if self.attn_only else []),
            *([f"{self.n_experts} experts"] if self.n_experts else []),
            *([] if self.causal else ["bidirectional"]),
            *([] if self.has_lm_head else ["no language-model head"]),
            *self.not_measured,
        ]
        return printable(f"Architecture({self.family}: {', '.join(traits)})")


def describe(bridge: TransformerBridge) -> Architecture:
    """Describe a model and what works on it; the first call on a bridge runs a few probe forwards.

    Returns:
        Layers, heads, norms and which interventions work, each with the reason where it does not.

    Raises:
        ModelError: if the model has no single stack of blocks, or is in training mode.

    Example:
        >>> import workbench as wb
        >>> wb.describe(wb.open_model("zoo:ioi")).n_heads
        4
    """
    found, cfg = wiring(bridge), bridge.cfg
    model = bridge.original_model
    has_tokenizer = getattr(bridge, "tokenizer", None) is not None
    return Architecture(
        family=str(getattr(getattr(model, "config", None), "model_type", None) or "native"),
        n_layers=found.n_layers,
        n_heads=found.n_heads if found.attention_layers else 0,
        n_kv_heads=found.n_kv_heads if found.attention_layers else 0,
        d_model=found.d_model,
        d_head=found.d_head,
        d_mlp=_d_mlp(bridge, found),
        d_vocab=cfg.d_vocab,
        d_vocab_out=cfg.d_vocab_out if cfg.d_vocab_out > 0 else cfg.d_vocab,
        n_ctx=cfg.n_ctx,
        norm=cfg.normalization_type,
        norm_placement=_placement(bridge, found),
        parallel=found.parallel,
        attn_only=bool(found.attention_layers) and not found.mlp_layers,
        causal=found.causal,
        has_lm_head=found.has_lm_head,
        prepend_bos=bool(has_tokenizer and cfg.default_prepend_bos),
        has_tokenizer=has_tokenizer,
        positions=str(cfg.positional_embedding_type),
        act_fn=cfg.act_fn if found.mlp_layers else None,
        n_experts=cfg.num_experts,
        attention_layers=found.attention_layers,
        mlp_layers=found.mlp_layers,
        not_measured=not_measured_of(bridge),
        support=_support(bridge, found, has_tokenizer=has_tokenizer),
    )


def _support(bridge: TransformerBridge, found: Wiring, *, has_tokenizer: bool) -> dict[str, Support]:
    table = {name: _site(found, name) for name in KINDS[:8]}
    table["pattern"] = _pattern(found, "edits of the pattern")
    table["knock-out"] = _pattern(found, "knock-outs")
    nodes = any(table[kind].works for kind in ("head-output", "attn-out", "mlp-out"))
    table["node-level"] = Support(works=nodes, why="" if nodes else "no component of it can be edited")
    table["edge-level"] = _edges(bridge, found)
    table["path-patching"] = _paths(found)
    table["language-model-metrics"] = _metrics(bridge, found, has_tokenizer=has_tokenizer)
    return {kind: table[kind] for kind in KINDS}


def _site(found: Wiring, kind: str) -> Support:
    site = "resid" if kind == "residual" else kind
    if site not in found.live:
        if kind in ("mlp-out", "neurons") and not found.mlp_layers:
            return Support(works=False, why="it has no MLPs")
        if kind == "neurons":
            return Support(works=False, why="its MLPs show no hidden units (a mixture of experts?)")
        if kind != "residual" and not found.attention_layers:
            return Support(works=False, why="it has no attention layers")
        return Support(works=False, why=f"an edit of {kind} does not change the output (measured)")
    if kind in ("k", "v") and found.n_kv_heads < found.n_heads:
        sharing = found.n_heads // found.n_kv_heads
        return Support(works=True, why=f"one per KV group: {sharing} heads share it")
    if kind == "head-output" and not found.head_writes and found.residual_is_sum:
        return Support(works=True, why="before the norm or scaling that follows the sum of the heads")
    layers = found.mlp_layers if kind in ("mlp-out", "neurons") else found.attention_layers
    if kind != "residual" and len(layers) < found.n_layers:
        return Support(works=True, why=f"in {len(layers)} of {found.n_layers} layers; the others have none")
    return Support(works=True)


def _pattern(found: Wiring, what: str) -> Support:
    if "pattern" in found.live:
        return Support(works=True)
    if found.pattern_by_recompute:
        why = f"{what} are written to the head output: TransformerLens discards them here (measured)"
        return Support(works=True, why=why)
    if not found.attention_layers:
        return Support(works=False, why="it has no attention layers")
    why = f"TransformerLens discards {what} here (measured), and they cannot be recomputed from q and k"
    return Support(works=False, why=why)


def _edges(bridge: TransformerBridge, found: Wiring) -> Support:
    if not found.edge_level:
        return Support(works=False, why=found.why_no_edges())
    notes = []
    if not found.head_writes:
        notes.append("a whole attention layer is one source: a norm or scaling follows the sum of its heads")
    if found.n_kv_heads < found.n_heads:
        notes.append("k and v have one reader per KV group")
    if _couples_heads(bridge, found):
        notes.append(
            "q and k are normed over all heads together, so editing one head's input moves the others"
        )
    return Support(works=True, why="; ".join(notes))


def _paths(found: Wiring) -> Support:
    missing = sorted({"head-output", "q", "k", "v"} - found.live)
    if missing:
        return Support(works=False, why=f"it edits {', '.join(missing)}, which is not possible here")
    grouped = found.n_kv_heads < found.n_heads
    return Support(works=True, why="k and v are received by KV groups" if grouped else "")


def _metrics(bridge: TransformerBridge, found: Wiring, *, has_tokenizer: bool) -> Support:
    if not found.has_lm_head:
        return Support(works=False, why="it has no language-model head; its output is the last hidden state")
    outputs, notes = outputs_of(bridge), []
    if not has_tokenizer:
        notes.append("on token ids only: it has no tokenizer, so tasks in words cannot be used")
    if outputs.classes:
        notes.append(f"its outputs are {outputs.describe()}, and answers are class names")
    if not found.causal:
        notes.append(
            "it answers at every position"
            if outputs.classes
            else "it predicts masked tokens in place, not the next token"
        )
    return Support(works=True, why="; ".join(notes))


def _couples_heads(bridge: TransformerBridge, found: Wiring) -> bool:
    """Whether one norm spans the queries of all heads (OLMo 2)."""
    for layer in found.attention_layers:
        norm = getattr(bridge.blocks[layer].attn.original_component, "q_norm", None)
        weight = getattr(norm, "weight", None)
        if isinstance(weight, torch.Tensor) and found.n_heads > 1:
            return weight.numel() == found.n_heads * found.d_head
    return False


def _placement(bridge: TransformerBridge, found: Wiring) -> Placement:
    if not bridge.cfg.normalization_type:
        return "none"
    if not found.residual_is_sum and len(found.attention_layers) == found.n_layers:
        return "after-sum"
    parts = {name for name, _ in bridge.blocks[0].named_children()}
    before, after = bool(parts & {"ln1", "ln2"}), bool(parts & {"ln1_post", "ln2_post"})
    return "pre+post" if before and after else "post" if after else "pre"


def _d_mlp(bridge: TransformerBridge, found: Wiring) -> int | None:
    """Width of an MLP, from its weights where it has them: TransformerLens' own figure is wrong for OPT."""
    if not found.mlp_layers:
        return None
    w_in = getattr(bridge.blocks[found.mlp_layers[0]].mlp, "W_in", None)
    if isinstance(w_in, torch.Tensor):
        return w_in.shape[-1]
    config = getattr(bridge.original_model, "config", None)
    return getattr(config, "moe_intermediate_size", None) or bridge.cfg.d_mlp
