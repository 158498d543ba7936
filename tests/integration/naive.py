"""The plain way, as an oracle: one pair, one intervention, one whole forward pass with one set of hooks.

Nothing of the engine is used: no resuming, no stacking, no batches; TransformerLens' own hook names, tensors
replaced by hand, the metric read from the logits by index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.tasks.alignment import AlignedPairs

HOOKS = {
    "resid": "blocks.{}.hook_resid_pre",
    "attn-out": "blocks.{}.hook_attn_out",
    "mlp-out": "blocks.{}.hook_mlp_out",
    "head-output": "blocks.{}.attn.hook_z",
    "q": "blocks.{}.attn.hook_q",
    "k": "blocks.{}.attn.hook_k",
    "v": "blocks.{}.attn.hook_v",
    "pattern": "blocks.{}.attn.hook_pattern",
    "neurons": "blocks.{}.mlp.hook_post",
}


@dataclass(frozen=True)
class Put:
    """One replacement: at a site of a layer, of one head or all, at one position (name or index) or all."""

    site: str
    layer: int
    head: int | None = None
    position: str | int | None = None

    @property
    def hook(self) -> str:
        return HOOKS[self.site].format(self.layer)


def _storing(kept: dict[str, Tensor], name: str) -> Callable[..., None]:
    def store(tensor: Tensor, hook) -> None:
        kept[name] = tensor.detach().clone()[0]

    return store


class Naive:
    """Runs of single pairs on a bridge."""

    def __init__(self, bridge, aligned: AlignedPairs, read: Callable[[Tensor, int, int, int], float]) -> None:
        self.bridge, self.aligned, self.read = bridge, aligned, read
        self._seen: dict = {}

    def __len__(self) -> int:
        return len(self.aligned)

    def ids(self, i: int, run: str) -> Tensor:
        return torch.tensor(getattr(self.aligned, run)[i])[None]

    def metric(self, i: int, run: str, hooks=()) -> float:
        """The metric of one pair with these hooks."""
        with torch.no_grad():
            out = self.bridge.run_with_hooks(self.ids(i, run), fwd_hooks=list(hooks))
        return self.value(out, i)

    def value(self, out, i: int) -> float:
        out = out if isinstance(out, Tensor) else out.last_hidden_state
        correct, incorrect = self.aligned.correct[i], self.aligned.incorrect[i]
        return self.read(out[0], len(self.aligned.clean[i]) - 1, correct[0], incorrect[0])

    def activation(self, i: int, run: str, hook: str) -> Tensor:
        """``(pos, ...)``: one tensor of one run of one pair, untouched by any edit."""
        if (i, run) not in self._seen:
            kept: dict[str, Tensor] = {}
            names = [h.format(n) for h in HOOKS.values() for n in range(self.bridge.cfg.n_layers)]
            hooks = [(n, _storing(kept, n)) for n in names if n in self.bridge.hook_dict]
            with torch.no_grad():
                self.bridge.run_with_hooks(self.ids(i, run), fwd_hooks=hooks)
            self._seen[i, run] = kept
        return self._seen[i, run][hook]

    def value_of(self, kind: str, put: Put, i: int) -> Tensor:
        """``(pos, ...)``: what replaces the activation of pair ``i``; means are over the clean runs of all."""
        own = self.activation(i, "clean", put.hook)
        if kind == "zero":
            return torch.zeros_like(own)
        if kind in ("clean", "corrupted"):
            return self.activation(i, kind, put.hook)
        every = [self.activation(j, "clean", put.hook) for j in range(len(self))]
        named = self.aligned.positions
        if kind == "mean":
            return torch.cat(every).mean(0).expand_as(own)
        if kind == "mean-per-position":
            return torch.stack([a for a in every if len(a) == len(own)]).mean(0)
        if kind == "mean-per-template":
            groups = [pair.group for pair in self.aligned.pairs]
            same = [a for a, g in zip(every, groups, strict=True) if g == groups[i] and len(a) == len(own)]
            return torch.stack(same).mean(0)
        assert kind == "mean-per-name"
        rows = []
        for p in range(len(own)):
            names = [n for n, at in named[i].items() if at == p]
            if names:
                rows.append(torch.stack([a[named[j][names[-1]]] for j, a in enumerate(every)]).mean(0))
            else:
                taken = [
                    a[q] for j, a in enumerate(every) for q in range(len(a)) if q not in named[j].values()
                ]
                rows.append(torch.stack(taken).mean(0))
        return torch.stack(rows)

    def hook(self, kind: str, put: Put, i: int) -> tuple[str, Callable]:
        """A TransformerLens hook that makes one replacement for pair ``i``."""
        new = self.value_of(kind, put, i)
        at = self.aligned.positions[i][put.position] if isinstance(put.position, str) else put.position

        def edit(tensor: Tensor, hook) -> Tensor:
            tensor = tensor.clone()
            if put.site == "pattern":  # (1, head, query, key)
                rows = slice(None) if at is None else at
                heads = slice(None) if put.head is None else put.head
                tensor[0, heads, rows] = new[heads, rows]
            elif put.head is None:
                where = slice(None) if at is None else at
                tensor[0, where] = new[where]
            else:
                where = slice(None) if at is None else at
                tensor[0, where, put.head] = new[where, put.head]
            return tensor

        return put.hook, edit

    def patched(self, i: int, base: str, kind: str, puts: list[Put]) -> float:
        """The metric of pair ``i`` when every one of ``puts`` is replaced in its ``base`` run."""
        return self.metric(i, base, [self.hook(kind, put, i) for put in puts])

    def knocked_out(self, i: int, layer: int, head: int | None, query: str, key: str) -> float:
        """Clean metric of pair ``i`` when a head's scores from ``query`` to ``key`` are minus infinity."""
        q, k = self.aligned.positions[i][query], self.aligned.positions[i][key]

        def edit(pattern: Tensor, hook) -> Tensor:
            pattern = pattern.clone()
            for h in range(pattern.shape[1]) if head is None else [head]:
                others = [s for s in range(pattern.shape[-1]) if s != k]
                row = torch.zeros_like(pattern[0, h, q])
                taken = 1 - pattern[0, h, q].sum()  # by a learned sink, or by rounding
                row[others] = pattern[0, h, q, others] / (pattern[0, h, q, others].sum() + taken)
                pattern[0, h, q] = row
            return pattern

        return self.metric(i, "clean", [(HOOKS["pattern"].format(layer), edit)])


def logit_difference(out: Tensor, end: int, correct: int, incorrect: int) -> float:
    return float(out[end, correct]) - float(out[end, incorrect])


def hidden(out: Tensor, end: int, correct: int, incorrect: int) -> float:
    """The encoder's metric of ``tests.mini``, once more from its definition."""
    direction = torch.sin(torch.linspace(-1, 1, out.shape[-1]))
    return float((out.sum(0) / len(out) * direction).sum())


def naive_of(name: str, runs) -> Naive:
    """The oracle for a family on the pairs of these runs."""
    return Naive(runs.model, runs.pairs, hidden if name == "bert" else logit_difference)


# -- single edges, by TransformerLens' own split inputs --------------------------------------------------------

_FLAGS = ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in")


class SplitInputs:
    """Edge edits with TransformerLens' split-input flags: one pair, each reader's copy of the stream edited.

    ``whole_layer`` is for post-norm models, where a norm follows the sum of the heads and the layer writes.
    """

    def __init__(self, naive: Naive, *, whole_layer: bool) -> None:
        self.naive, self.whole_layer = naive, whole_layer
        self.n_layers = naive.bridge.cfg.n_layers

    def __enter__(self) -> SplitInputs:
        for flag in _FLAGS:
            getattr(self.naive.bridge, f"set_{flag}")(True)
        return self

    def __exit__(self, *exception: object) -> None:
        for flag in _FLAGS:
            getattr(self.naive.bridge, f"set_{flag}")(False)

    def _record(self, into: dict[str, Tensor]) -> list[tuple[str, Callable]]:
        """Hooks that keep what every source writes, by address."""

        def keep(make: Callable[[Tensor], dict[str, Tensor]]) -> Callable:
            def store(tensor: Tensor, hook) -> None:
                into.update(make(tensor.detach()))

            return store

        hooks = [("blocks.0.hook_resid_pre", keep(lambda t: {"input": t}))]
        for n in range(self.n_layers):
            if self.whole_layer:
                hooks.append((f"blocks.{n}.hook_attn_out", keep(lambda t, n=n: {f"a{n}": t})))
            else:
                heads = keep(lambda t, n=n: {f"a{n}.h{h}": t[:, :, h] for h in range(t.shape[2])})
                hooks.append((f"blocks.{n}.attn.hook_result", heads))
            hooks.append((f"blocks.{n}.hook_mlp_out", keep(lambda t, n=n: {f"m{n}": t})))
        return hooks

    def outputs(self, i: int, run: str) -> dict[str, Tensor]:
        """What every source writes in one run of pair ``i``."""
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            self.naive.bridge.run_with_hooks(self.naive.ids(i, run), fwd_hooks=self._record(found))
        return found

    def reference(self, i: int, ablation: str) -> dict[str, Tensor]:
        """What ablated sources of pair ``i`` write; means by hand over the clean runs of all pairs."""
        if ablation == "resample":
            return self.outputs(i, "corrupted")
        own = self.outputs(i, "clean")
        if ablation == "zero":
            return {name: torch.zeros_like(t) for name, t in own.items()}
        pairs = self.naive.aligned.pairs
        length, group = own["input"].shape[1], pairs[i].group
        every = [(pairs[j].group, self.outputs(j, "clean")) for j in range(len(self.naive))]
        if ablation == "mean":
            return {
                name: torch.cat([out[name][0] for _, out in every]).mean(0).expand_as(own[name])
                for name in own
            }
        same = [(g, out) for g, out in every if out["input"].shape[1] == length]
        if ablation == "mean-per-template":
            same = [(g, out) for g, out in same if g == group]
        return {name: torch.cat([out[name] for _, out in same]).mean(0, keepdim=True) for name in own}

    def ablated(self, i: int, edges: set[tuple[str, str]], ablation: str = "resample") -> float:
        """Clean metric of pair ``i`` with these edges carrying their source's output under the ablation."""
        reference, now = self.reference(i, ablation), {}

        def change(target: str) -> Tensor | float:
            return sum(reference[s] - now[s] for s, t in sorted(edges) if t == target)

        return self.with_inputs(i, change, now)

    def with_inputs(self, i: int, change: Callable[[str], Tensor | float], now: dict[str, Tensor]) -> float:
        """Clean metric of pair ``i`` where every reader's input has ``change(reader)`` added.

        Args:
            now: Filled with what every source writes in this pass, before a later reader asks for its change.
        """

        def split(layer: int, slot: str) -> Callable:
            def edit(tensor: Tensor, hook) -> Tensor:
                tensor = tensor.clone()  # (1, pos, head or KV group, d_model)
                unit = "h" if tensor.shape[2] == self.naive.bridge.cfg.n_heads else "g"
                for u in range(tensor.shape[2]):
                    tensor[:, :, u] += change(f"a{layer}.{unit}{u}<{slot}>")
                return tensor

            return edit

        hooks = self._record(now)
        for n in range(self.n_layers):
            hooks += [(f"blocks.{n}.hook_{slot}_input", split(n, slot)) for slot in "qkv"]
            hooks.append((f"blocks.{n}.hook_mlp_in", lambda t, hook, n=n: t + change(f"m{n}")))
        hooks.append((f"blocks.{self.n_layers - 1}.hook_resid_post", lambda t, hook: t + change("logits")))
        return self.naive.metric(i, "clean", hooks)
