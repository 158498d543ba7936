"""Measure, once per model, which hooks are live and whether the residual stream is the sum the graph assumes.

It is measured with the user's own hooks lifted, and again when weights, parts or settings of the model have changed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.addresses import VISION
from workbench.core.errors import ModelError
from workbench.model import hooks, pixels
from workbench.model.bare import Modules, modules_of
from workbench.model.hand_over import hand_over
from workbench.model.hooks import SITES, TOLERANCE, Wiring, hook_name
from workbench.model.identity import class_names
from workbench.model.inner_towers import give_forms, n_read, towers_of
from workbench.model.lens import check_opened
from workbench.model.prompt import Prompt
from workbench.model.sight import sight_of
from workbench.model.without_heads import mixer_of_family

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_WIRINGS: WeakKeyDictionary[torch.nn.Module, tuple[Modules, Wiring]] = WeakKeyDictionary()
N_PROBE = 9  # tokens: longer than any sliding window of the test models, short enough for any context


def wiring(bridge: TransformerBridge) -> Wiring:
    """What is where in this bridge, measured on a few random tokens at the first call and after every change of it.

    Raises:
        ModelError: if the model has no ``blocks`` (encoder-decoders) or is in training mode.
    """
    check_opened(bridge)
    modules = modules_of(bridge)
    if modules.training:  # asked every time: dropout would make every run another model
        raise ModelError("the model is in training mode", hint="call model.eval() first; open_model does")
    known = _WIRINGS.get(bridge)
    if known is None or known[0] is not modules:
        with modules.without_hooks():
            known = _WIRINGS[bridge] = modules, replace(_measure(bridge), towers=_towers(bridge))
    return known[1]


def _towers(bridge: TransformerBridge) -> dict[str, Wiring]:
    """The wiring of every further stack, as far as its layers reach the output."""
    found = {}
    for name, stack in towers_of(bridge).items():
        view = cast("TransformerBridge", stack)
        prompt = probe_prompt(bridge)
        with hooks.noting_forms(view) as forms:
            hooks.forward(bridge, prompt, last_only=True)
        give_forms(bridge, forms)
        stack.cfg.n_layers = n_read(stack, lambda layer: _reaches(view, prompt, "head-output", layer))  # noqa: B023
        if stack.cfg.n_layers and _heads_of(view, prompt) == stack.cfg.n_heads:
            place = hand_over(stack, prompt) if name == VISION else ""
            found[name] = replace(_measure(view), prefix=stack.prefix, hand_over=place)
    return found


def _heads_of(stack: TransformerBridge, prompt: Prompt) -> int | None:
    """How many heads the hooks of a stack show."""
    name = hook_name("head-output", 0)
    z = record(stack, prompt, [name])[1].get(name)
    return z.shape[2] if z is not None and z.dim() == 4 else None


def probe_tokens(bridge: TransformerBridge, n: int = N_PROBE) -> Int[Tensor, "row pos"]:
    """Two rows of random tokens from a fixed seed."""
    generator = torch.Generator().manual_seed(0)
    n = min(n, bridge.cfg.n_ctx or n)
    ids = torch.randint(0, bridge.cfg.d_vocab, (2, n), generator=generator)
    return ids.to(next(iter(bridge.parameters())).device)


def probe_prompt(bridge: TransformerBridge) -> Prompt:
    """Two rows of random tokens and, where the model takes pictures, of a picture before them."""
    return pixels.probe(bridge, probe_tokens(bridge))


@torch.no_grad()
def record(
    bridge: TransformerBridge,
    prompt: Prompt | Int[Tensor, "row pos"],
    names: Sequence[str],
    *,
    last_only: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the output and the tensors at these hooks; a hook that does not fire is missing from the result."""
    found: dict[str, Tensor] = {}

    def keep(name: str):
        def store(tensor: Tensor, hook) -> None:
            found[name] = tensor.detach()

        return store

    with bridge.hooks(fwd_hooks=[(name, keep(name)) for name in names]):
        out = hooks.forward(bridge, prompt, last_only=last_only)
    return out, found


def _measure(bridge: TransformerBridge) -> Wiring:
    if not hasattr(bridge, "blocks"):
        raise ModelError(
            "the model has no single stack of blocks (an encoder-decoder?)",
            hint="open a decoder or an encoder: docs/families.md lists those that open",
        )
    cfg, prompt = bridge.cfg, probe_prompt(bridge)
    with hooks.noting_forms(bridge):
        out, seen = record(bridge, prompt, _hooks_there(bridge))
    attention, mlps = (_layers_with(site, seen, cfg.n_layers) for site in ("head-output", "mlp-out"))
    fired, d_mlp = _fired(seen, attention, mlps, cfg.n_layers)
    heads = {seen[hook_name("head-output", n)].shape[2] for n in attention}
    if heads - {cfg.n_heads}:  # cut otherwise: an index would be another head
        fired.discard("head-output")
    live = _live(bridge, prompt, fired, attention, mlps)
    causal = _is_causal(bridge, prompt, out)
    parallel = bool(attention and mlps) and _beside(bridge, seen, set(attention) & set(mlps))
    errors = _identities(bridge, seen, attention, mlps, causal, parallel)
    if getattr(bridge, "read_within", False) and not hasattr(
        bridge, "prefix"
    ):  # of an inner one, the hand-over says it
        errors["early"] = float("inf")
    exact = {name: error <= TOLERANCE.get(out.dtype, 2e-4) for name, error in errors.items()}
    n_kv = seen[hook_name("k", attention[0])].shape[2] if attention and "k" in fired else cfg.n_heads
    # In half precision a wrong formula cannot be told from rounding: GPT-J's is off by 0.003 only.
    full = out.dtype in (torch.float32, torch.float64)
    all_heads = {"q", "k", "v", "head-output"} <= live and n_kv == cfg.n_heads
    return Wiring(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_kv_heads=n_kv,
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        d_mlp=d_mlp,
        attention_layers=attention,
        mlp_layers=mlps,
        parallel=parallel,
        causal=causal,
        looks_ahead=causal and _looks_ahead(bridge, prompt, out),
        has_lm_head=out.shape[-1] != cfg.d_model or hasattr(bridge, "unembed") or bool(class_names(bridge)),
        live=live,
        pattern_by_recompute="pattern" not in live and full and exact["pattern"] and all_heads,
        head_writes=exact["heads"],
        residual_is_sum=exact["residual"],
        readers_known=exact["readers"] and {"q", "k", "v"} <= live,
        errors=errors,
        mixer=None if attention else mixer_of_family(_family(bridge)),
    )


def _family(bridge: TransformerBridge) -> str:
    """The ``model_type`` of its configuration; empty for a native model."""
    config = getattr(getattr(bridge, "original_model", None), "config", None)
    return str(getattr(config, "model_type", ""))


def _hooks_there(bridge: TransformerBridge) -> list[str]:
    """The hooks that are looked at, where the model has them."""
    extra = ("hook_out", "hook_resid_mid", "mlp.hook_in")
    every = (name for layer in range(bridge.cfg.n_layers) for name in _names(layer, extra))
    return [name for name in every if name in bridge.hook_dict]


def _layers_with(site: str, seen: Mapping[str, Tensor], n_layers: int) -> tuple[int, ...]:
    """Layers in which a site was seen."""
    return tuple(n for n in range(n_layers) if hook_name(site, n) in seen)


def _fired(
    seen: Mapping[str, Tensor], attention: tuple[int, ...], mlps: tuple[int, ...], n_layers: int
) -> tuple[set[str], int]:
    """Sites that were seen in every layer where they can be, and the MLPs' width: 0 if it differs or is hidden."""
    where = {s: _layers_of(s, range(n_layers), attention, mlps) for s in (*SITES, "neurons")}
    fired = {s for s, layers in where.items() if layers and all(hook_name(s, n) in seen for n in layers)}
    widths = {seen[hook_name("neurons", n)].shape[-1] for n in mlps} if "neurons" in fired else set()
    return (fired, widths.pop()) if len(widths) == 1 else (fired - {"neurons"}, 0)


def _live(
    bridge: TransformerBridge,
    prompt: Prompt,
    fired: set[str],
    attention: tuple[int, ...],
    mlps: tuple[int, ...],
) -> frozenset[str]:
    """Sites at which an edit reaches the output."""
    layers = range(bridge.cfg.n_layers)
    live = {s for s in fired if _is_live(bridge, prompt, s, _layers_of(s, layers, attention, mlps))}
    patterns = all(hooks.pattern_is_live(bridge.blocks[n]) for n in attention)
    return frozenset(live if patterns else live - {"pattern"})


def _names(layer: int, extra: Sequence[str]) -> list[str]:
    return [hook_name(s, layer) for s in (*SITES, "neurons")] + [f"blocks.{layer}.{n}" for n in extra]


def _layers_of(
    site: str, layers: range, attention: tuple[int, ...], mlps: tuple[int, ...]
) -> tuple[int, ...]:
    """The layers in which a site can exist."""
    if site == "resid":
        return tuple(layers)
    return mlps if site in ("mlp-out", "neurons") else attention


def _is_live(bridge: TransformerBridge, prompt: Prompt, site: str, layers: Sequence[int]) -> bool:
    """Whether edits of a site reach the output, in each kind of attention that the model has.

    A layer whose weights happen to be dead (it writes nothing, or its queries are all zero) says nothing about
    the hook, so the layers are tried from the last until one answers.
    """
    kinds: dict[type, list[int]] = {}
    for layer in layers:
        kinds.setdefault(type(hooks.component(bridge.blocks[layer], "attn")), []).append(layer)
    return all(any(_reaches(bridge, prompt, site, n) for n in reversed(same)) for same in kinds.values())


@torch.no_grad()
def _reaches(bridge: TransformerBridge, prompt: Prompt, site: str, layer: int) -> bool:
    """Whether changing one site of one layer changes the output."""
    partner = {"q": "k", "k": "q"}.get(site)  # a query has no effect where all keys are zero
    around = [(hook_name(partner, layer), _shaken(partner, 1))] if partner else []
    outputs = []
    for edits in (around, [*around, (hook_name(site, layer), _shaken(site, 2))]):
        with bridge.hooks(fwd_hooks=edits), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*edit is discarded")  # that is what is being asked
            outputs.append(hooks.forward(bridge, prompt, last_only=False))
    return bool((outputs[1] - outputs[0]).abs().max() > 0)


def _shaken(site: str, seed: int) -> Callable[..., Tensor]:
    """A hook that adds fixed noise; rows of a pattern are rolled instead, so that they still sum to 1."""

    def edit(tensor: Tensor, hook) -> Tensor:
        if site == "pattern":
            return tensor.roll(1, -1)
        noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))
        return tensor + (1 + tensor.abs()) * (1 + noise.to(tensor))

    return edit


def _is_causal(bridge: TransformerBridge, prompt: Prompt, out: Tensor) -> bool:
    """Whether the last token leaves the outputs before it alone.

    Raises:
        ModelError: if the context holds a single token.
    """
    if prompt.shape[1] < 2:
        raise ModelError(
            "the model's context holds 1 token: no token can look at another",
            hint="open a model with a context of 2 tokens or more",
        )
    sight = sight_of(bridge)
    at_once = getattr(bridge, "sees", False) or (sight is not None and sight.token is None)
    if out.shape[1] < 2 or at_once:  # one answer, or a picture as a whole
        return False
    return _leaves_alone(bridge, prompt, out, prompt.shape[1] - 1)


def _looks_ahead(bridge: TransformerBridge, prompt: Prompt, out: Tensor) -> bool:
    """Whether patches see the words behind them, in a model whose words see nothing behind them."""
    sight = sight_of(bridge)
    if sight is None or sight.token is None or out.shape[1] < 2:
        return False
    behind = int(prompt.ids[0].eq(sight.token).nonzero().max()) + 1
    return behind < out.shape[1] and not _leaves_alone(bridge, prompt, out, behind)


def _leaves_alone(bridge: TransformerBridge, prompt: Prompt, out: Tensor, place: int) -> bool:
    """Whether the outputs before a token stay as they are when it changes."""
    sight, other = sight_of(bridge), prompt.ids.clone()
    other[:, place] = (other[:, place] + 1) % bridge.cfg.d_vocab
    if sight is not None:  # no further picture is meant
        other[:, place] = torch.where(other[:, place].eq(sight.token or 0), other[:, 0], other[:, place])
    with torch.no_grad():
        changed = hooks.forward(bridge, Prompt(other, prompt.extras), last_only=False)
    return bool((changed - out)[:, :place].abs().max() <= TOLERANCE.get(out.dtype, 2e-4))


@torch.no_grad()
def _beside(bridge: TransformerBridge, seen: Mapping[str, Tensor], layers: Iterable[int]) -> bool:
    """Whether MLPs stand beside attention and read what it reads. The layers of a bridge's tower have no hook between
    the two either way, so where none fired what enters an MLP is compared with both readings.
    """
    for layer in sorted(layers):
        if f"blocks.{layer}.hook_resid_mid" in seen:
            return False
        before, wrote = (seen.get(hook_name(site, layer)) for site in ("resid", "attn-out"))
        into = seen.get(f"blocks.{layer}.mlp.hook_in")
        if before is None or wrote is None or into is None:
            continue
        norm = hooks.norm_before(bridge, layer, "ln2")
        try:
            behind, beside = ((norm(read) - into).abs().max() for read in (before + wrote, before))
        except RuntimeError:  # of another shape
            continue
        if bool(behind < beside) and bool(behind <= TOLERANCE.get(into.dtype, 2e-4)):
            return False
    return True


@torch.no_grad()
def _identities(
    bridge: TransformerBridge,
    seen: dict[str, Tensor],
    attention: tuple[int, ...],
    mlps: tuple[int, ...],
    causal: bool,
    parallel: bool,
) -> dict[str, float]:
    """Largest error of each identity the edge level rests on, over all layers; infinite where it cannot be tried."""
    errors = {"residual": 0.0, "heads": 0.0, "readers": 0.0, "pattern": 0.0}

    def worst(key: str, difference: Tensor, scale: Tensor) -> None:
        relative = float(difference.abs().max() / (1 + scale.abs().max()))
        # max(0.0, nan) is 0.0: overflow must not pass for a perfect match
        errors[key] = max(errors[key], relative) if isfinite(relative) else float("inf")

    for layer in range(bridge.cfg.n_layers):
        at = {s: seen[name] for s in SITES if (name := hook_name(s, layer)) in seen}
        try:
            after = seen[f"blocks.{layer}.hook_out"]
            writes = [at[s] for s in ("attn-out", "mlp-out") if s in at]
            worst("residual", after - at["resid"] - sum(writes), after)
            if (before := seen.get(f"blocks.{layer - 1}.hook_out")) is not None:
                added = float((at["resid"] - before).abs().max())
                if added > TOLERANCE.get(after.dtype, 2e-4):
                    errors["between"] = max(added, errors.get("between", 0.0))
            if layer in attention:
                heads = torch.einsum("bthe,hed->btd", at["head-output"], hooks.output_matrix(bridge, layer))
                bias = getattr(bridge.blocks[layer].attn, "b_O", None)
                worst("heads", at["attn-out"] - heads - (0 if bias is None else bias), at["attn-out"])
                normed = hooks.norm_before(bridge, layer, "ln1")(at["resid"])
                for slot in "qkv":
                    read = torch.einsum("btd,hde->bthe", normed, hooks.projection(bridge, layer, slot))
                    bias = getattr(bridge.blocks[layer].attn, f"b_{slot.upper()}", None)
                    worst("readers", at[slot] - read - (0 if bias is None else bias), at[slot])
                if not hooks.pattern_is_live(bridge.blocks[layer]) and at["q"].shape == at["k"].shape:
                    worst(
                        "pattern", recompute_pattern(at["q"], at["k"], causal) - at["pattern"], at["pattern"]
                    )
            if layer in mlps:
                mlp_in = seen[f"blocks.{layer}.mlp.hook_in"]
                read = at["resid"] + (0 if parallel or layer not in attention else at["attn-out"])
                worst("readers", hooks.norm_before(bridge, layer, "ln2")(read) - mlp_in, mlp_in)
        except (
            KeyError,
            TypeError,
            AttributeError,
            RuntimeError,
            ValueError,  # heads of another size in some layers: Gemma 4
        ):  # a part is missing or has another shape: no edges here
            errors["readers"] = float("inf")
    return errors


def recompute_pattern(
    q: Float[Tensor, "row pos head d_head"], k: Float[Tensor, "row pos head d_head"], causal: bool
) -> Float[Tensor, "row head query key"]:
    """``softmax(q . k / sqrt(d_head))``, causal or not: what plain attention computes from its queries and keys."""
    scores = torch.einsum("bqhe,bkhe->bhqk", q, k) / q.shape[-1] ** 0.5
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, torch.finfo(scores.dtype).min)
    return scores.softmax(-1)
