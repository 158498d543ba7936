"""How heads are made, as measurements: rank by agents, bias of keys, memory, likeness, sensitivity.

These are asked for by name (``workbench heads --structure``): the last needs a pass for every head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from workbench.core.errors import ModelError
from workbench.core.progress import Progress, silent
from workbench.heads import crosstalk, indicators, key_bias, pattern_rank
from workbench.heads.every_head import Evidence, Measurement
from workbench.heads.kernel_alignment import cka_matrix
from workbench.heads.observe import patterns_of
from workbench.heads.sensitivity import EPS, sensitivity
from workbench.model.hooks import hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt
from workbench.model.wiring import Wiring

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

AGENTS, PUSHED, PAIRS = 4, 4, 64  # agents of a pattern, sequences that are pushed, pairs of a memory
LEAST = 8  # samples of CKA, and pairs of a memory
On = Literal["random", "text", "pictures"]


@dataclass(frozen=True, kw_only=True)
class HowMade:
    """What is said of a measurement beside its numbers."""

    unit: str
    about: str
    null_about: str
    source: str = ""
    low: float | None = 0.0
    high: float | None = None
    evidence: Evidence = "read-out"


KINDS: Mapping[str, HowMade] = {
    "rank-error": HowMade(
        unit="share of norm", high=1.0, source="Han et al. 2023, Agent Attention (rank of a pattern)",
        about=f"what the best pattern through {AGENTS} agents (of rank {AGENTS}) misses of the head's",
        null_about="a head that looks at every key alike",
    ),
    "key-bias": HowMade(
        unit="share", high=1.0, source="the rank-one part of scores, as in Shi et al. 2025 (dynamic masks)",
        about="share of the departure from an even look that is a weight of keys, the same for every query, beyond "
        "how much the head gives to each distance (KL)",
        null_about="a head with scores drawn at random",
    ),
    "key-dimension": HowMade(
        unit="dimensions", low=1.0, source="Qiao 2025, attention as Pavlovian conditioning",
        about="directions in which the head's keys vary over a sequence (participation ratio)",
        null_about="as many keys in random directions",
    ),
    "fidelity-predicted": HowMade(
        unit="cosine", high=1.0, source="Qiao 2025, attention as Pavlovian conditioning",
        about=f"what crosstalk leaves by the formula 1 / sqrt(1 + (N - 1) / key dimension), of at most {PAIRS} pairs",
        null_about="the same for keys in random directions",
    ),
    "fidelity": HowMade(
        unit="cosine", low=-1.0, high=1.0, source="Qiao 2025, attention as Pavlovian conditioning",
        about="cosine of a value with what its key retrieves from a linear memory of the head's keys and values "
        f"(centred, unit), of at most {PAIRS} pairs",
        null_about="keys and values in random directions",
    ),
    "cka": HowMade(
        unit="CKA", low=-1.0, high=1.0, source="Kornblith et al. 2019, arXiv:1905.00414; debiased",
        about="how alike its outputs are to those of the head that is most like it (debiased CKA over tokens)",
        null_about="independent outputs",
    ),
    "sensitivity": HowMade(
        unit="nats", low=None, evidence="causal", source="Kitada and Iyatomi 2020, Attention Meets Perturbations",
        about=f"rise of the loss when every query's scores are pushed by {EPS:g} along its slope",
        null_about="a head that writes the same everywhere, or nothing",
    ),
}  # fmt: skip


@dataclass
class _Table:
    """Values per sequence, layer and head of every kind; reasons where there are none."""

    wires: Wiring
    rows: int
    positions: int = 0
    values: dict[str, np.ndarray] = field(default_factory=dict)
    nulls: dict[str, float] = field(default_factory=dict)
    missing: dict[str, dict[str, set[int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (self.rows, self.wires.n_layers, self.wires.n_heads)
        self.values = {name: np.full(shape, np.nan) for name in KINDS}
        without = set(range(self.wires.n_layers)) - set(self.wires.attention_layers)
        self.missing = {name: {"no attention": without} if without else {} for name in KINDS}
        self.nulls = dict.fromkeys(KINDS, float("nan"))

    def lack(self, name: str, why: str, layer: int | None = None) -> None:
        own = self.missing[name].setdefault(why, set())
        if layer is not None:
            own.add(layer)


def structure_measurements(
    model: TransformerBridge,
    prompts: Sequence[Prompt | Tensor],
    *,
    on: On,
    skip: int = 0,
    tower: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Measurement]:
    """Measure rank, bias of keys, memory, likeness and sensitivity of every head.

    Args:
        prompts: Batches of rows of one length.
        on: What they are.
        skip: First positions that are left out of keys and outputs: BOS and the like, which nothing else is like.
        tower: The stack that the heads are of; None is the model's own.
        seed: Of random keys and scores, beside which the heads stand.

    Returns:
        One measurement of every kind, ``(layer, head)``, NaN with a reason where a family shows too little.

    Raises:
        ModelError: if the model has no such tower.
    """
    wires = wiring(model).of(tower)
    asked = [Prompt.of(one) for one in prompts]
    table = _Table(wires, sum(len(one) for one in asked))
    outputs: dict[int, list[Tensor]] = {n: [] for n in wires.attention_layers}
    start = 0
    with torch.no_grad():
        for i, prompt in enumerate(asked):
            rows = slice(start, start + len(prompt))
            _patterns(table, model, prompt, rows, outputs, skip, tower)
            _memories(table, model, prompt, rows, skip)
            start += len(prompt)
            progress(i + 1, len(asked), f"how heads are made, {on}")
        partners = _alike(table, outputs)
        _chance(table, skip, seed)
    _push(table, model, asked[0], tower, progress)
    return [_measurement(table, name, on, partners if name == "cka" else None) for name in KINDS]


def _patterns(
    table: _Table,
    model: TransformerBridge,
    prompt: Prompt,
    rows: slice,
    outputs: dict[int, list[Tensor]],
    skip: int,
    tower: str | None,
) -> None:
    """Rank and bias of keys from the patterns; the outputs are kept for later."""
    seen = patterns_of(model, prompt, outputs=True, tower=tower)
    for layer, A in seen.patterns.items():
        table.positions = table.positions or A.shape[-1]
        table.values["rank-error"][rows, layer] = pattern_rank.rank_error(A, AGENTS).cpu()
        table.values["key-bias"][rows, layer] = key_bias.key_bias_share(A, _visible(table, A)).cpu()
    for layer, why in seen.refused.items():
        for name in ("rank-error", "key-bias"):
            table.lack(name, why, layer)
    for layer, z in seen.outputs.items():
        if z.ndim == 4:
            outputs[layer].append(z[:, skip:].flatten(0, 1).float().cpu())


def _visible(table: _Table, A: Tensor) -> Tensor:
    seen = torch.ones(A.shape[-2:], dtype=torch.bool, device=A.device)
    return seen.tril() if table.wires.causal else seen


def _memories(table: _Table, model: TransformerBridge, prompt: Prompt, rows: slice, skip: int) -> None:
    """Dimension of keys, and what a linear memory of them gives back."""
    wires = table.wires
    names = {(s, n): hook_name(s, n, wires.prefix) for s in ("k", "v") for n in wires.attention_layers}
    _, seen = record(model, prompt, list(names.values()))
    for layer in wires.attention_layers:
        parts = [seen.get(names[site, layer]) for site in ("k", "v")]
        if any(part is None or part.ndim != 4 for part in parts):
            for name in ("key-dimension", "fidelity-predicted", "fidelity"):
                table.lack(name, "keys and values of single heads cannot be seen", layer)
            continue
        k, v = (part[:, skip : skip + PAIRS].transpose(1, 2).float() for part in parts if part is not None)
        if k.shape[2] < LEAST:
            for name in ("key-dimension", "fidelity-predicted", "fidelity"):
                table.lack(name, f"{k.shape[2]} tokens; at least {LEAST} pairs are needed", layer)
            continue
        each = wires.n_heads // k.shape[1]  # heads of a KV group share their keys
        for name, found in _of_memory(k, v).items():
            table.values[name][rows, layer] = found.repeat_interleave(each, 1).cpu()


def _of_memory(k: Tensor, v: Tensor) -> dict[str, Tensor]:
    """The three numbers of keys and values ``(row, group, pair, d)``."""
    dimension = crosstalk.effective_dimension(k)
    predicted = torch.as_tensor(crosstalk.predicted_fidelity(k.shape[-2], dimension))
    measured = crosstalk.retrieval_fidelity(k, v).mean(-1)
    return {"key-dimension": dimension, "fidelity-predicted": predicted, "fidelity": measured}


def _alike(table: _Table, outputs: Mapping[int, list[Tensor]]) -> tuple[tuple[str, ...], ...]:
    """The largest CKA of every head with another one, and which one that is."""
    wires = table.wires
    partners = [["" for _ in range(wires.n_heads)] for _ in range(wires.n_layers)]
    places, sets = [], []
    for layer, parts in outputs.items():
        if not parts:
            table.lack("cka", "outputs of single heads cannot be seen", layer)
            continue
        whole = torch.cat(parts)
        places += [(layer, h) for h in range(whole.shape[1])]
        sets += list(whole.unbind(1))
    if len(sets) < 2 or len(sets[0]) < LEAST:
        table.lack("cka", f"two heads and {LEAST} tokens are needed")
        return tuple(map(tuple, partners))
    found = cka_matrix(sets).fill_diagonal_(-torch.inf).nan_to_num(nan=-torch.inf)
    best, which = found.max(1)
    for place, value, other in zip(places, best.tolist(), which.tolist(), strict=True):
        if np.isfinite(value):
            table.values["cka"][(slice(None), *place)] = value
            partners[place[0]][place[1]] = "a{}.h{}".format(*places[other])
    return tuple(map(tuple, partners))


def _chance(table: _Table, skip: int, seed: int) -> None:
    """What chance gives: an even look, random scores, random keys; independent outputs and idle heads have 0."""
    draw = torch.Generator().manual_seed(seed)
    wires = table.wires
    n = table.positions
    table.nulls["cka"] = table.nulls["sensitivity"] = 0.0
    if not n:  # no layer shows a pattern: nothing stands beside these columns
        return
    even = indicators.uniform(n, causal=wires.causal).float()
    seen = torch.ones(n, n, dtype=torch.bool)
    seen = seen.tril() if wires.causal else seen
    scores = torch.randn(32, n, n, generator=draw).masked_fill(~seen, -torch.inf)
    pairs = max(1, min(PAIRS, n - skip))
    k, v = (normalize(torch.randn(1, 8, pairs, wires.d_head, generator=draw), dim=-1) for _ in range(2))
    table.nulls |= {name: float(found.mean()) for name, found in _of_memory(k, v).items()}
    table.nulls["rank-error"] = float(pattern_rank.rank_error(even, AGENTS))
    table.nulls["key-bias"] = float(key_bias.key_bias_share(scores.softmax(-1), seen).mean())


def _push(
    table: _Table, model: TransformerBridge, prompt: Prompt, tower: str | None, progress: Progress
) -> None:
    """The rise of the loss under the worst small step, on a few sequences."""
    few = next(iter(prompt.split(PUSHED)))
    try:
        found = sensitivity(model, few, tower=tower, progress=progress)
    except ModelError as problem:
        table.lack("sensitivity", problem.message)
        return
    table.values["sensitivity"][: len(few)] = found.rise.numpy()


def _measurement(
    table: _Table, name: str, on: On, partners: tuple[tuple[str, ...], ...] | None
) -> Measurement:
    values, told = table.values[name], KINDS[name]
    known = np.isfinite(values).any((1, 2))
    kept = values[known] if known.any() else values[:1]
    mean = kept.mean(0)
    error = kept.std(0, ddof=1) / len(kept) ** 0.5 if len(kept) > 1 and name != "cka" else None
    high: Any = float(table.wires.d_head) if name == "key-dimension" else told.high
    return Measurement(
        name=name,
        on=on,
        evidence=told.evidence,
        values=mean,
        stderr=error,
        null=np.where(np.isfinite(mean), table.nulls[name], np.nan),
        low=told.low,
        high=high,
        unit=told.unit,
        about=told.about,
        null_about=told.null_about,
        source=told.source,
        n=int(known.sum()),
        missing={why: tuple(sorted(layers)) for why, layers in table.missing[name].items()},
        partners=partners,
    )
