"""Ablations and patches inside one layer of a tower, by plain functions: only what can have changed is computed.

What heads and MLPs of a layer write is edited behind its attention, which is not computed again; later layers run
whole, and the last one at the positions that are read: a class token, or the end of each caption. Which these are is
measured for each batch, and so is whether the functions are the model; where they are not, the model runs with hooks.
What is behind the layers stands in ``behind_tower.py``: an answer, or a language model, which runs whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.engine.behind_tower import Behind, behind_of
from workbench.engine.interventions.apply import hooks_for
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.engine.interventions.means import Means
from workbench.engine.interventions.site import site_of
from workbench.engine.restart import CHUNK_TOKENS, how
from workbench.model.hooks import hand_on_one, hook_name, output_matrix
from workbench.model.inner_towers import stack_of
from workbench.model.lens import is_tower
from workbench.model.memory import is_out_of_memory
from workbench.model.towers.functions import TowerLayer, layers_of
from workbench.model.trial import ALIKE, is_near, largest_difference
from workbench.model.unhooked import limits_of

if TYPE_CHECKING:
    from workbench.engine.paired_runs import Batch, PairedRuns, RunName

_SITES = ("head-output", "attn-out", "mlp-out")


def stays_in_layer(intervention: Intervention) -> bool:
    """Say whether all edits are of what heads, attention or MLP of one layer write."""
    parts = [e.part for e in intervention.edits if isinstance(e, Edit)]
    if len(parts) < len(intervention.edits) or len({part.layer for part in parts}) > 1:
        return False
    return all(part.kind != "projector" and site_of(part) in _SITES for part in parts)


def has_layers(runs: PairedRuns, tower: str | None) -> bool:
    """Say whether rows may start in a stack's layers: of a model that is a tower, or of the tower of a bridge."""
    return not runs.sealed and (is_tower(runs.model) or tower is not None)


def tower_restart(runs: PairedRuns, batch: Batch, tower: str | None, base: RunName) -> TowerRestart | str:
    """Return how rows start in a tower's layers on a run of a batch, or why the hooked model must run; measured once
    for each.
    """
    if not has_layers(runs, tower):
        return "the model is not opened by its own layers"
    if not runs.is_bare():
        return "something is attached to the model"
    runs.settle()
    key = tower, base, int(batch.index[0]), len(batch)
    found = runs.restarts.get(key)
    if not isinstance(found, TowerRestart | str):
        found = runs.restarts[key] = _measured(runs, batch, tower, base)
    return found


def computed_by(runs: PairedRuns, interventions: Sequence[Intervention], base: RunName) -> dict[str, Any]:
    """Say how many rows of a table plain functions computed and how many the hooked model, and why; for the record."""
    inside = [i for i in interventions if has_layers(runs, i.tower) and stays_in_layer(i)]
    found = how(runs, [i for i in interventions if i not in inside], base)
    for tower in sorted({i.tower for i in inside}, key=str):
        times = sum(i.tower == tower for i in inside)
        for batch in runs.batches:
            start = tower_restart(runs, batch, tower, base)
            found["hooked model" if isinstance(start, str) else "plain blocks"] += times * len(batch)
            if isinstance(start, str):
                found["because"] = sorted({*found["because"], start})
            runs.release(batch)
    return found


def without_restart(runs: PairedRuns, batch: Batch, tower: str | None, base: RunName) -> str:
    """Memory ran out: from now on this batch is measured with hooks; the reason why."""
    reason = runs.restarts[tower, base, int(batch.index[0]), len(batch)] = "memory ran out with plain blocks"
    return reason


def _measured(runs: PairedRuns, batch: Batch, tower: str | None, base: RunName) -> TowerRestart | str:
    stack, seen = stack_of(runs.model, tower), runs.wiring.of(tower)
    if limits := limits_of(runs.model):
        return f"values are limited by {limits}"
    if runs.dtype not in ALIKE or not hand_on_one(stack):
        return "half precision" if runs.dtype not in ALIKE else "other layers than the last one are read"
    if not (seen.head_writes and seen.residual_is_sum) or seen.parallel:
        return "the stream is not the sum of what is written to it"
    layers = layers_of(list(stack.blocks)[: seen.n_layers], seen.d_head)
    if isinstance(layers, str):
        return layers
    try:
        final = runs.activations(batch, base, names := tower_names(runs, tower))[names[-1]]
        behind = behind_of(runs, batch, base, tower, final)
        if isinstance(behind, str):
            return behind
        made = TowerRestart(runs, batch, tower, base, layers, behind)
        return made.why_not() or made
    except (RuntimeError, TypeError, AttributeError, LookupError, ValueError) as problem:
        if is_out_of_memory(problem):
            raise
        return "its layers are not two norms, attention and an MLP"


class TowerRestart:
    """One tower on one run of one batch, from whose layers rows start.

    Attributes:
        read: Positions of what leaves the last layer that anything reads, of all pairs together.
        mask: What is added to attention scores; None where everything sees everything.
    """

    def __init__(
        self,
        runs: PairedRuns,
        batch: Batch,
        tower: str | None,
        base: RunName,
        layers: Sequence[TowerLayer],
        behind: Behind,
    ) -> None:
        self.runs, self.batch, self.tower, self.base = runs, batch, tower, base
        self.layers, self.last = tuple(layers), len(layers) - 1
        self.stack, self.prefix = stack_of(runs.model, tower), runs.wiring.of(tower).prefix
        self.behind = behind
        self.read: Int[Tensor, " read"] = torch.arange(0)
        self.mask: Tensor | None = None

    # -- is it the model? ---------------------------------------------------------------------------------

    def why_not(self) -> str:
        """Return why these layers are not the model on this run of this batch; empty where they are.

        Which positions are read is found by the gradient of what is read, and confirmed by noise at all others: it
        must change nothing, to the bit.
        """
        out, seen = self.behind.base(), self.seen()
        final, rows = seen[self._at("out")], torch.arange(len(self.batch), device=self.runs.device)
        self.mask = self._mask_of(final, rows)
        with torch.enable_grad():
            leaf = final.clone().requires_grad_()
            made = self.behind.of(leaf, rows)
            limit = ALIKE[out.dtype]
            if made.shape != out.shape or not is_near(made, out, limit):
                return "what leaves its last layer does not decide the answer"
            self.read = _read_of(made, leaf)
        noisy = final + torch.randn(final.shape, generator=torch.Generator().manual_seed(1)).to(final)
        noisy[:, self.read] = final[:, self.read]
        if not torch.equal(self.behind.of(noisy, rows), made.detach()):
            self.read = torch.arange(final.shape[1], device=final.device)
        if not self._unlike(seen) <= limit:
            return "its layers are not two norms, attention and an MLP"
        return ""

    @torch.no_grad()
    def _unlike(self, seen: dict[str, Tensor]) -> float:
        """Largest difference between what a layer and what its function adds, on every pair."""
        worst = 0.0
        for n in range(len(self.layers)):
            x, own = seen[self._at("resid", n)], seen[self._at("out" if n == self.last else "resid", n + 1)]
            read = self.read if n == self.last else None
            for part in torch.arange(len(x), device=x.device).split(self._rows_at_once()):
                made = self.layers[n].run(x[part], self._mask(part), read)
                near = slice(None) if read is None else read
                worst = max(worst, largest_difference(made, x[part][:, near], own[part][:, near]))
        return worst

    def seen(self) -> dict[str, Tensor]:
        """What the run recorded of the tower."""
        return self.runs.activations(self.batch, self.base, tower_names(self.runs, self.tower))

    def _at(self, site: str, layer: int = 0) -> str:
        return f"{self.prefix}.{self.last}.hook_out" if site == "out" else hook_name(site, layer, self.prefix)

    @torch.no_grad()
    def _mask_of(self, final: Tensor, rows: Tensor) -> Tensor | None:
        """What layers add to attention scores."""
        told = self.behind.by_model(final, rows)[1]
        masks = [t for t in (told.get("attention_mask"), *told["args"]) if isinstance(t, Tensor)]
        if not masks or masks[0].dim() != 4:
            return None
        return masks[0][:1] if torch.equal(masks[0], masks[0][:1].expand_as(masks[0])) else masks[0]

    def _mask(self, pair: Int[Tensor, " row"]) -> Tensor | None:
        return self.mask if self.mask is None or len(self.mask) == 1 else self.mask[pair]

    # -- rows ---------------------------------------------------------------------------------------------

    def at_once(self) -> int:
        """How many interventions on all pairs run together: as many tokens as stay in a processor's cache."""
        most = self.runs.batch_tokens
        tokens = min(CHUNK_TOKENS, most) if self.runs.device.type == "cpu" else most
        return max(1, tokens // self.batch.load)

    def _rows_at_once(self) -> int:
        return max(1, self.at_once() * len(self.batch))

    @torch.no_grad()
    def values(
        self, layer: int, interventions: Sequence[Intervention], means: Means | None
    ) -> Float[Tensor, "intervention pair"]:
        """The metric of interventions in one layer, all at once."""
        times, size = len(interventions), len(self.batch)
        pair = torch.arange(size, device=self.runs.device).repeat(times)
        x, n = self._edited(layer, interventions, means), layer + 1
        for n in range(layer + 1, len(self.layers)):
            x = self.layers[n].run(x, self._mask(pair), self.read if n == self.last else None)
        final = x.new_zeros(len(x), self.batch_length, x.shape[-1])
        final[:, self.read] = x
        return self.behind.metric(self.behind.of(final, pair), times).reshape(times, size)

    @property
    def batch_length(self) -> int:
        """Positions of the tower."""
        return self.seen()[self._at("out")].shape[1]

    def _edited(
        self, layer: int, interventions: Sequence[Intervention], means: Means | None
    ) -> Float[Tensor, "row pos d_model"]:
        """What leaves the edited layer, of the last one at the positions that are read."""
        seen, times = self.seen(), len(interventions)
        edit: dict[str, list[Callable[..., Tensor | None]]] = defaultdict(list)
        for name, function in hooks_for(self.runs, self.batch, interventions, means):
            edit[name].append(function)
        attended = seen[self._at("attn-out", layer)].repeat(times, 1, 1)
        if functions := edit.pop(self._at("head-output", layer), []):
            self._change_heads(attended, layer, interventions, functions)
        attended = _through(edit.pop(self._at("attn-out", layer), []), attended)
        mid = attended.add_(seen[self._at("resid", layer)].repeat(times, 1, 1))
        writes = edit.pop(self._at("mlp-out", layer), [])
        assert not edit, "edits of what a layer writes have three hooks"
        read = slice(None) if layer < self.last else self.read
        if not writes:
            return self.layers[layer].after_attention(mid[:, read])
        return (mid + _through(writes, self.layers[layer].written(mid)))[:, read]

    def _change_heads(
        self,
        attended: Tensor,
        layer: int,
        interventions: Sequence[Intervention],
        functions: Sequence[Callable[..., Tensor | None]],
    ) -> None:
        """Change what attention writes by what the edited heads write differently, in place."""
        own, matrix = self.seen()[self._at("head-output", layer)], output_matrix(self.stack, layer)
        made = _through(functions, own.repeat(len(interventions), 1, 1, 1))
        for i, intervention in enumerate(interventions):
            rows = slice(i * len(self.batch), (i + 1) * len(self.batch))
            parts = [e.part for e in intervention.edits if isinstance(e, Edit)]
            heads = {part.index for part in parts if site_of(part) == "head-output"}
            for head in range(own.shape[2]) if None in heads else sorted(h for h in heads if h is not None):
                attended[rows] += (made[rows, :, head] - own[:, :, head]) @ matrix[head]


def _read_of(made: Tensor, final: Tensor) -> Int[Tensor, " read"]:
    """Positions of what leaves the last layer that reach what is made of it; all, where no gradient says so."""
    if not made.requires_grad:
        return torch.arange(final.shape[1], device=final.device)
    noise = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(made)
    (grad,) = torch.autograd.grad((made * noise).sum(), final)
    return grad.abs().amax((0, 2)).nonzero()[:, 0]


def tower_names(runs: PairedRuns, tower: str | None) -> list[str]:
    """What is read of a run: the stream, what heads and what attention write in every layer, what leaves the last."""
    seen, sites = runs.wiring.of(tower), ("resid", "head-output", "attn-out")
    names = [hook_name(site, n, seen.prefix) for site in sites for n in range(seen.n_layers)]
    return [*names, f"{seen.prefix}.{seen.n_layers - 1}.hook_out"]


def _through(functions: Sequence[Callable[..., Tensor | None]], tensor: Tensor) -> Tensor:
    for function in functions:
        new = function(tensor, hook=None)
        tensor = tensor if new is None else new
    return tensor
