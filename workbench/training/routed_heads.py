"""Heads of a trained model as experts: its attention is tuned on while a router keeps some heads for every token.

Everything but attention stays as it was. All arms begin with the same model and read the same windows, so that a
model that is tuned on with all of its heads is the reference.

Source:
    Jin et al. 2024, MoH: Multi-Head Attention as Mixture-of-Head Attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workbench.core.errors import OptionError
from workbench.edits.head_routing import load_balance, watched
from workbench.edits.install import installed
from workbench.edits.measure import on_text
from workbench.edits.off import turn_off
from workbench.edits.place import Place
from workbench.edits.route_heads import RouteHeads
from workbench.model.probe import wiring
from workbench.model.standing import edited
from workbench.training.loop import Fit, fit
from workbench.training.mixers.comparison import one_thread

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

Arm = Literal["all heads", "learned", "query-norm", "random", "same heads"]
ARMS: tuple[Arm, ...] = get_args(Arm)
Windows = Int[Tensor, "window pos"]


@dataclass(frozen=True, kw_only=True)
class HeadTuning:
    """How attention is tuned on.

    Attributes:
        shared: The first heads of every layer, which always stay.
        active: How many of the others stay for a token.
        windows, window: Of a step, and tokens of each.
        rate, router_rate: Of the attention's weights, and of learned routers.
        balance: Weight of the load balance, mean over layers.
    """

    steps: int = 140
    shared: int = 1
    active: int = 2
    windows: int = 8
    window: int = 64
    rate: float = 4e-4
    router_rate: float = 4e-3
    balance: float = 0.01

    def __post_init__(self) -> None:
        if min(self.steps, self.active, self.windows) < 1 or self.shared < 0 or self.window < 2:
            raise OptionError(
                f"{self}: steps, active heads and windows are at least 1, tokens 2",
                hint="HeadTuning(steps=140)",
            )

    def recipe(self) -> dict[str, Any]:
        """Return everything that decides the tuned weights, but model, text and seed."""
        return {"arms": list(ARMS), **asdict(self)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """A model's attention as it was tuned on, and what routes its heads.

    Attributes:
        deltas: What is added to each weight, in float16.
        edit: None where all heads stay.
    """

    arm: Arm
    deltas: Mapping[str, Tensor]
    edit: RouteHeads | None
    fit: Fit | None = None

    @contextmanager
    def on(self, model: TransformerBridge) -> Iterator[TransformerBridge]:
        """Inside, the model is the tuned one; afterwards it is as it was to the last bit."""
        own = attention_weights(model)
        before = {name: own[name].detach().clone() for name in self.deltas}
        try:
            with torch.no_grad():
                for name, delta in self.deltas.items():
                    own[name].add_(delta.to(own[name]))
            held = nullcontext() if self.edit is None else self.edit.on(model)
            with edited(model, f"attention tuned on, {self.arm}"), held:
                yield model
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    own[name].copy_(value)

    def loss(self, model: TransformerBridge, windows: Windows) -> np.ndarray:
        """Return the mean loss of each window, in nats per token."""
        with self.on(model):
            return on_text(model, windows)["loss"]


def attention_weights(model: TransformerBridge) -> dict[str, nn.Parameter]:
    """Return the weights of every attention that decide what it computes, by name; the model's own, no copies."""
    found: dict[str, nn.Parameter] = {}
    for layer in wiring(model).attention_layers:
        attention = model.blocks[layer].attn
        for part in "qkvo":
            for name, weight in getattr(attention, part).named_parameters():
                found[f"a{layer}.{part}.{name.rpartition('.')[2]}"] = weight
    return found


def routed_names(model: TransformerBridge, tuning: HeadTuning) -> tuple[str, ...]:
    """Return the heads that are routed: all but the shared ones of each layer.

    Raises:
        OptionError: if fewer are left than stay active.
    """
    wired = wiring(model)
    if wired.n_heads - tuning.shared < tuning.active:
        raise OptionError(
            f"{tuning.active} of {wired.n_heads} heads stay beside {tuning.shared} that are shared",
            hint="fewer shared or active heads",
        )
    return tuple(f"a{n}.h{h}" for n in wired.attention_layers for h in range(tuning.shared, wired.n_heads))


def by_worth(model: TransformerBridge, windows: Windows, heads: Sequence[str]) -> tuple[str, ...]:
    """Sort heads by what the loss gains when one of them is turned off alone, the dearest first."""
    cost = {
        head: on_text(model, windows, turn_off(model, [head], mode="zero"))["loss"].mean() for head in heads
    }
    return tuple(sorted(heads, key=lambda head: -cost[head]))


def router_of(
    model: TransformerBridge, arm: Arm, windows: Windows, tuning: HeadTuning, *, seed: int
) -> RouteHeads | None:
    """Return what routes heads in an arm, before anything is tuned.

    Args:
        windows: Of the text to tune on: there the heads that always stay are chosen.
    """
    heads = routed_names(model, tuning)
    if arm == "all heads":
        return None
    if arm == "same heads":
        return RouteHeads(heads=by_worth(model, windows, heads), active=tuning.active, by="first")
    if arm == "learned":
        drawn = torch.Generator().manual_seed(seed)
        wired, d = wiring(model), model.cfg.d_model
        sizes = {"routed": wired.n_heads - tuning.shared, "shared": tuning.shared, "stages": 2}
        routers = {
            f"a{n}.{part}": 0.02 * torch.randn(d, size, generator=drawn)
            for n in wired.attention_layers
            for part, size in sizes.items()
        }
        return RouteHeads(heads=heads, active=tuning.active, by="learned", routers=routers)
    return RouteHeads(heads=heads, active=tuning.active, by=arm, seed=seed)


def tune_heads(
    model: TransformerBridge,
    stream: Int[np.ndarray, " token"],
    arm: Arm,
    tuning: HeadTuning,
    *,
    seed: int,
    begin: int | None = None,
    scratch: Path | None = None,
) -> Tuned:
    """Tune the attention of a model on windows of a text, with all heads or with some for every token.

    Args:
        stream: One long row of token ids.
        begin: A token that begins every window; None: none does.
        scratch: A folder for checkpoints, from which a killed tuning goes on.

    Returns:
        What was tuned; the model itself is as it was.

    Raises:
        OptionError: for an unknown arm, or fewer heads than stay active.

    Source:
        Jin et al. 2024, MoH: Multi-Head Attention as Mixture-of-Head Attention.
    """
    if arm not in ARMS:
        raise OptionError(f"no arm {arm!r}", hint=f"one of {', '.join(ARMS)}")

    def drawn(step: int) -> Windows:
        return windows_of(stream, np.random.default_rng([seed, step, 13]), tuning, begin)

    edit = router_of(model, arm, torch.cat([drawn(-1 - i + 10**6) for i in range(4)]), tuning, seed=seed)
    own = attention_weights(model)
    before = {name: weight.detach().clone() for name, weight in own.items()}
    wanted = {name: weight.requires_grad for name, weight in model.named_parameters()}
    model.requires_grad_(False)
    routers = (
        {} if edit is None else {name: nn.Parameter(value.clone()) for name, value in edit.routers.items()}
    )
    parts = nn.ParameterDict({name.replace(".", "·"): weight for name, weight in (own | routers).items()})
    parts.requires_grad_(True)
    groups = [
        {"params": list(ps), "peak": r}
        for ps, r in ((own.values(), tuning.rate), (routers.values(), tuning.router_rate))
        if ps
    ]
    optimiser = torch.optim.AdamW(groups, lr=tuning.rate, betas=(0.9, 0.98), weight_decay=0.0)

    place = Place(model=model, wiring=wiring(model))  # once: it is measured anew whenever weights change

    def loss_of_step(step: int) -> Tensor:
        with torch.enable_grad():
            return _loss(place, drawn(step), _at_step(edit, routers, step), tuning.balance)

    try:
        with one_thread(), torch.enable_grad():
            used = fit(
                parts, loss_of_step, optimisers=[optimiser], steps=tuning.steps, warmup=min(20, tuning.steps // 4),
                tell=lambda line: None, checkpoint_every=50,
                checkpoint=None if scratch is None else scratch / f"routed-{arm.replace(' ', '-')}-{seed}.pt",
            )  # fmt: skip
        deltas = {name: (own[name].detach() - value).half() for name, value in before.items()}
    finally:
        with torch.no_grad():
            for name, value in before.items():
                own[name].copy_(value)
        for name, weight in model.named_parameters():
            weight.requires_grad_(wanted[name])
            weight.grad = None
    learned = {name: value.detach() for name, value in routers.items()}
    return Tuned(arm=arm, deltas=deltas, edit=_with(edit, learned), fit=used)


def windows_of(
    stream: Int[np.ndarray, " token"], rng: np.random.Generator, tuning: HeadTuning, begin: int | None
) -> Windows:
    """Draw the windows of one step."""
    starts = rng.integers(0, len(stream) - tuning.window, tuning.windows)
    rows = stream[starts[:, None] + np.arange(tuning.window)]
    if begin is not None:
        rows[:, 0] = begin
    return torch.from_numpy(rows).long()


def _at_step(edit: RouteHeads | None, routers: Mapping[str, Tensor], step: int) -> RouteHeads | None:
    """The router of a step: what is random is drawn anew."""
    if edit is not None and edit.by == "random":
        return replace(edit, seed=edit.seed * 100_003 + step + 1)
    return _with(edit, routers)


def _with(edit: RouteHeads | None, routers: Mapping[str, Tensor]) -> RouteHeads | None:
    return edit if edit is None or not routers else replace(edit, routers=dict(routers))


def _loss(place: Place, ids: Windows, edit: RouteHeads | None, balance: float) -> Tensor:
    """Mean loss of the next token, and the load balance of routers that have one."""
    with installed(place, () if edit is None else edit.changes(place)), watched() as found:
        logits = place.model(ids)[:, :-1]
    loss = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    if edit is None or edit.by not in ("learned", "query-norm"):
        return loss
    return loss + balance * torch.stack([load_balance(one.probabilities, one.chosen) for one in found]).mean()
