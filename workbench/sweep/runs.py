"""Clean and corrupted runs of pairs on one model: the ground every exact measurement stands on.

Pairs are batched by token length and never padded, so no mask, no shifted position and no batching can change
a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from workbench.errors import ModelError, OptionError, TaskError
from workbench.graph import CONVENTION
from workbench.metrics import Answers, Metric, get_metric, metric_from_file
from workbench.model import hooks
from workbench.model.bare import is_bare
from workbench.model.blocks import Blocks, Hook, is_walked
from workbench.model.hooks import Wiring, hook_name, resume_from
from workbench.model.identity import identity
from workbench.model.probe import record, wiring
from workbench.model.trial import blocks_of
from workbench.model.unhooked import entering, read_out
from workbench.names import REST
from workbench.provenance import digest_of
from workbench.sweep.distribute import Here
from workbench.tasks.align import AlignedPairs, align
from workbench.tasks.pairs import Pairs

RunName = Literal["clean", "corrupted"]
BATCH_TOKENS = 8192
BATCH_FLOATS = 10**8  # 0.4 GB in float32 for what all sources of one batch write
LOGITS = 2**25  # numbers in one block of logits


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Pairs of one token length. ``index`` says which pairs of the whole set they are."""

    index: np.ndarray
    clean: Int[Tensor, "pair pos"]
    corrupted: Int[Tensor, "pair pos"]
    answers: Answers
    answer_pos: Int[Tensor, "pair"]
    positions: tuple[dict[str, int], ...]
    groups: tuple[str, ...]
    cache: dict[tuple[str, str], Tensor] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def n_tokens(self) -> int:
        """Length of each prompt in tokens."""
        return self.clean.shape[1]

    def ids(self, run: RunName) -> Int[Tensor, "pair pos"]:
        """Tokens of the clean or of the corrupted prompts."""
        return self.clean if run == "clean" else self.corrupted

    def at(self, position: str | int) -> Int[Tensor, "pair"]:
        """Token index of a named or numbered position, one per pair.

        Raises:
            TaskError: if a pair has no such position.
        """
        if isinstance(position, int):
            if not 0 <= position < self.n_tokens:
                raise TaskError(
                    f"position {position} is outside prompts of {self.n_tokens} tokens",
                    hint=f"positions are 0 to {self.n_tokens - 1}, or a name: {', '.join(self.positions[0])}",
                )
            return torch.full((len(self),), position, device=self.clean.device)
        missing = [
            int(i) for i, named in zip(self.index, self.positions, strict=True) if position not in named
        ]
        if missing:
            raise TaskError(
                f"pair {missing[0]} has no position called {position!r}",
                hint=f"positions of this task: {', '.join(self.positions[0])}",
            )
        return torch.tensor([named[position] for named in self.positions], device=self.clean.device)


class PairedRuns:
    """Pairs on a model: batches without padding, activations on demand, the metric of both runs.

    Args:
        model: A bridge from ``open_model``.
        pairs: Pairs as strings (aligned here with the model's tokenizer) or already aligned.
        metric: Name, ``file.py:function`` or ``Metric``; by default the task's own.
        batch_tokens: Most tokens in one forward pass, interventions stacked along the batch included.

    Raises:
        TaskError: if too few pairs align with the tokenizer.
        ModelError: if the metric needs logits that the model does not have.
    """

    def __init__(
        self,
        model: TransformerBridge,
        pairs: Pairs | AlignedPairs,
        *,
        metric: str | Metric | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        if batch_tokens < 1:
            raise OptionError(f"batch_tokens is {batch_tokens}; at least 1 is needed")
        self.model, self.batch_tokens = model, batch_tokens
        self.division = Here()  # who computes the parts of what is measured on these runs
        self.halved: dict[
            int, int
        ] = {}  # tokens of one copy of a batch -> copies that memory turned out to hold
        self.n_halved = 0
        self.not_plain: dict[tuple[int, int], str] = {}  # batches that plain blocks are not used for, and why
        self._seen: dict[tuple[str, int, int], np.ndarray] = {}  # metric of passes that were recorded
        self.wiring: Wiring = wiring(model)
        self.pairs = pairs if isinstance(pairs, AlignedPairs) else align_to(model, pairs)
        if metric is None:
            self.metric = metric_from_file(self.pairs.pairs.metric)
        else:
            self.metric = metric if isinstance(metric, Metric) else get_metric(metric)
        if self.metric.reads == "answer" and not self.wiring.has_lm_head:
            raise ModelError(
                f"metric {self.metric.name} reads next-token logits; this model has no language-model head",
                hint="use --metric embedding-similarity, or a function of the hidden states: file.py:function",
            )

    @property
    def device(self) -> torch.device:
        return next(iter(self.model.parameters())).device

    @property
    def n_pairs(self) -> int:
        return len(self.pairs)

    @property
    def position_names(self) -> tuple[str, ...]:
        """Positions that every pair names, in the order of the prompts; ``end`` is where the answer is read."""
        rows = self.pairs.positions
        shared = set.intersection(*(set(row) for row in rows)) if rows else set()
        return tuple(sorted(shared, key=lambda name: (sum(row[name] for row in rows), name)))

    @property
    def position_labels(self) -> tuple[str, ...]:
        """A label for every token: the named positions that all pairs have, then ``rest`` for all others."""
        return (*self.position_names, REST)

    def labels_of(self, batch: Batch) -> Int[Tensor, "pair pos"]:
        """Index into ``position_labels`` of every token. Where two names fall on one token the first one counts."""
        names = self.position_names
        found = torch.full_like(batch.clean, len(names))
        rows = torch.arange(len(batch), device=found.device)
        for label in reversed(range(len(names))):
            found[rows, batch.at(names[label])] = label
        return found

    def subset(self, indices: Sequence[int]) -> PairedRuns:
        """Runs of some of the pairs, in this order; a pair may come twice, as in a bootstrap."""
        chosen = self.pairs.subset([int(i) for i in indices])
        return PairedRuns(self.model, chosen, metric=self.metric, batch_tokens=self.batch_tokens)

    @cached_property
    def tokens_digest(self) -> str:
        """What the pairs became on this tokenizer: token ids, answers and positions."""
        aligned = self.pairs
        ids = [[x.tolist() for x in side] for side in (aligned.clean, aligned.corrupted)]
        return digest_of([*ids, aligned.correct, aligned.incorrect, [dict(p) for p in aligned.positions]])

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """The pairs by token length, in chunks that leave room for interventions to be stacked."""
        lengths = np.array([len(ids) for ids in self.pairs.clean])
        found = []
        for length in sorted(set(lengths.tolist())):
            where = np.flatnonzero(lengths == length)
            most = min(self.batch_tokens // 4, BATCH_FLOATS // self._floats_per_token)
            size = max(1, min(len(where), most // length))
            found += [self._batch(where[i : i + size]) for i in range(0, len(where), size)]
        return tuple(found)

    @property
    def _floats_per_token(self) -> int:
        """Numbers that the outputs of all sources take at one token, the largest thing edge-level work keeps."""
        wiring = self.wiring
        return (1 + wiring.n_layers * (wiring.n_heads + 1)) * wiring.d_model

    def _batch(self, index: np.ndarray) -> Batch:
        def tensor(rows: Sequence[np.ndarray]) -> Tensor:
            return torch.as_tensor(np.stack([rows[i] for i in index]), device=self.device)

        positions = tuple(dict(self.pairs.positions[i]) for i in index)
        return Batch(
            index=index,
            clean=tensor(self.pairs.clean),
            corrupted=tensor(self.pairs.corrupted),
            answers=self._answers[torch.as_tensor(index, device=self.device)],
            answer_pos=torch.tensor([p["end"] for p in positions], device=self.device),
            positions=positions,
            groups=tuple(self.pairs.pairs[int(i)].group for i in index),
        )

    @cached_property
    def _answers(self) -> Answers:
        return Answers.of(self.pairs, self.device)

    # -- runs ---------------------------------------------------------------------------------------------

    def last_only(self, batch: Batch) -> bool:
        """Whether only the last position's logits are read."""
        return self.metric.reads == "answer" and bool((batch.answer_pos == batch.n_tokens - 1).all())

    def blocks(
        self, batch: Batch, fwd_hooks: Sequence[Hook] = (), *, every: RunName | None = None
    ) -> Blocks | str:
        """Plain blocks in place of the model with these hooks, or why the model itself must run.

        Args:
            every: Compare on every prompt of this run, not only on the first ones of each length.
        """
        if (reason := self.not_plain.get((int(batch.index[0]), len(batch)))) is not None:
            return reason
        if not is_walked((name for name, _ in fwd_hooks), self.wiring.n_layers):
            return "edits of attention patterns"
        return blocks_of(self.model, batch.ids(every or "clean"), every=every is not None)

    def output(
        self,
        batch: Batch,
        ids: Int[Tensor, "row pos"],
        fwd_hooks: Sequence[Hook] = (),
        *,
        start: int = 0,
        resid: Float[Tensor, "row pos d_model"] | None = None,
        at_last: bool = False,
    ) -> Tensor:
        """What the metric reads of a pass over ``len(ids) / len(batch)`` stacked copies of a batch.

        Args:
            fwd_hooks: Hooks of this pass, by TransformerLens' names.
            start, resid: The first layer that is run, and what enters it.
            at_last: Hooks can do with the last position alone in the last layer (but for k and v), where it is all that
                is read.
        """
        blocks = "" if self.metric.reads == "all" else self.blocks(batch, fwd_hooks)
        if isinstance(blocks, str):
            return self._hooked(batch, ids, fwd_hooks, start, resid)
        hidden = self._walked(batch, blocks, ids, fwd_hooks, start, resid, at_last)
        return read_out(self.model, blocks, hidden, ids[:, -1])

    def values(
        self,
        batch: Batch,
        ids: Int[Tensor, "row pos"],
        fwd_hooks: Sequence[Hook] = (),
        *,
        start: int = 0,
        resid: Float[Tensor, "row pos d_model"] | None = None,
        at_last: bool = False,
        by_model: bool = False,
    ) -> Float[Tensor, "row"]:
        """The metric of such a pass; ``by_model``: by the hooked model whatever its blocks are."""
        blocks = "" if by_model or self.metric.reads == "all" else self.blocks(batch, fwd_hooks)
        if isinstance(blocks, str):
            return self.measure(batch, self._hooked(batch, ids, fwd_hooks, start, resid))
        hidden = self._walked(batch, blocks, ids, fwd_hooks, start, resid, at_last)
        return self.value_of(batch, blocks, hidden, ids[:, -1])

    def _hooked(
        self, batch: Batch, ids: Tensor, fwd_hooks: Sequence[Hook], start: int, resid: Tensor | None
    ) -> Tensor:
        """A pass of the model itself."""
        begin = nullcontext() if resid is None else resume_from(self.model, start, resid)
        with begin, self.model.hooks(fwd_hooks=list(fwd_hooks)):
            return self._read(batch, hooks.forward(self.model, ids, last_only=self.last_only(batch)))

    def _walked(
        self,
        batch: Batch,
        blocks: Blocks,
        ids: Tensor,
        fwd_hooks: Sequence[Hook],
        start: int,
        resid: Tensor | None,
        at_last: bool,
    ) -> Float[Tensor, "row d_model"]:
        """What leaves the last of the plain blocks where the answer is read."""
        x = entering(self.model, blocks, ids) if resid is None else resid
        if not self.last_only(batch):
            out = blocks.walk(x, fwd_hooks, start=start)
            rows = torch.arange(len(out), device=out.device)
            return out[rows, batch.answer_pos.repeat(len(out) // len(batch))]
        return blocks.walk(x, fwd_hooks, start=start, last=at_last)[:, -1]

    def value_of(
        self, batch: Batch, blocks: Blocks, hidden: Float[Tensor, "row d_model"], ids: Int[Tensor, "row"]
    ) -> Float[Tensor, "row"]:
        """The metric of what leaves the last block, with no more logits at once than fit."""
        columns, answers = self._columns(batch, blocks)
        width = self.model.cfg.d_vocab if columns is None else len(columns)
        size, found = max(1, LOGITS // (len(batch) * width)) * len(batch), []
        for part, tokens in zip(hidden.split(size), ids.split(size), strict=True):
            logits = read_out(self.model, blocks, part, tokens, columns)
            if logits.shape[-1] != width:
                raise ModelError(
                    f"the unembedding gives {logits.shape[-1]} logits where {width} are expected"
                )
            times = len(part) // len(batch)
            found.append(
                self.measure(batch, logits) if columns is None else self.metric(logits, answers.repeat(times))
            )
        return found[0] if len(found) == 1 else torch.cat(found)

    def _columns(self, batch: Batch, blocks: Blocks) -> tuple[Tensor | None, Answers]:
        """The tokens that the metric reads, and the answers as indices into them; None where it reads all."""
        answers = batch.answers
        if not (self.metric.reads_answers_only and blocks.by_column):
            return None, answers
        columns = torch.cat([answers.correct.flatten(), answers.incorrect.flatten()]).unique()
        moved = {
            name: torch.searchsorted(columns, getattr(answers, name)) for name in ("correct", "incorrect")
        }
        masks = {f"{name}_mask": getattr(answers, f"{name}_mask") for name in moved}
        return columns, Answers(**moved, **masks)

    def _read(self, batch: Batch, out: Tensor) -> Tensor:
        """The part of the model's output that the metric reads."""
        if self.metric.reads == "all":
            return out
        if out.shape[1] == 1:
            return out[:, 0]
        rows = torch.arange(len(out), device=out.device)
        return out[rows, batch.answer_pos.repeat(len(out) // len(batch))]

    def measure(self, batch: Batch, output: Tensor) -> Float[Tensor, "row"]:
        """The metric of stacked copies of a batch, one value per row, in float32 or better."""
        times = len(output) // len(batch)
        clean = None
        if self.metric.needs_clean:
            clean = self.clean_output(batch)
            clean = clean.repeat(times, *([1] * (clean.dim() - 1)))
        wide = output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
        return self.metric(wide, batch.answers.repeat(times), None if clean is None else clean.to(wide.dtype))

    @torch.no_grad()
    def clean_output(self, batch: Batch) -> Tensor:
        """What the metric reads of the clean run, kept with the batch."""
        if ("clean", "output") not in batch.cache:
            batch.cache["clean", "output"] = self.output(batch, batch.clean)
        return batch.cache["clean", "output"]

    def activations(self, batch: Batch, run: RunName, names: Sequence[str]) -> dict[str, Tensor]:
        """Tensors at these hooks in the clean or corrupted run, kept with the batch.

        Raises:
            ModelError: if a hook does not fire on this model.
        """
        missing = [n for n in names if (run, n) not in batch.cache]
        if missing:
            found = self._recorded(batch, run, missing)
            silent = [n for n in missing if n not in found]
            if silent:
                raise ModelError(f"hook {silent[0]} never fires on this model; nothing can be read there")
            for name, tensor in found.items():
                batch.cache[run, name] = tensor
        return {n: batch.cache[run, n] for n in names}

    @torch.no_grad()
    def _recorded(self, batch: Batch, run: RunName, names: Sequence[str]) -> dict[str, Tensor]:
        """Tensors at these hooks in one pass, whose metric is kept as well: no other pass is made for it."""
        found: dict[str, Tensor] = {}
        store = [(name, lambda t, hook, name=name: found.__setitem__(name, t)) for name in names]
        ids, blocks = batch.ids(run), self.blocks(batch, store)
        answer = self.metric.reads == "answer" and not self.metric.needs_clean
        if isinstance(blocks, str):
            out, found = record(self.model, ids, names, last_only=self.last_only(batch))
            if answer and isinstance(out, Tensor):
                self._note(batch, run, self.measure(batch, self._read(batch, out)))
            return found
        hidden = self._walked(batch, blocks, ids, store, 0, None, False)
        if answer:
            self._note(batch, run, self.value_of(batch, blocks, hidden, ids[:, -1]))
        return found

    def _note(self, batch: Batch, run: RunName, values: Float[Tensor, "pair"]) -> None:
        """Keep the metric of a run."""
        key = run, int(batch.index[0]), len(batch)
        if key not in self._seen and is_bare(self.model):
            self._seen[key] = values.double().cpu().numpy()

    def release(self, batch: Batch) -> None:
        """Forget the activations kept with a batch."""
        batch.cache.clear()

    def release_others(self, batch: Batch) -> None:
        """Forget the activations kept with every other batch."""
        for other in self.batches:
            if other is not batch:
                other.cache.clear()

    def copies(self, batch: Batch) -> int:
        """How many stacked copies of a batch one forward pass may have; fewer once memory has run out."""
        tokens = len(batch) * batch.n_tokens
        return self.halved.get(tokens, max(1, self.batch_tokens // tokens))

    def halve(self, batch: Batch, copies: int) -> int:
        """Memory ran out with so many copies of a batch: half of them from now on."""
        self.n_halved += 1
        left = max(
            1, min(self.copies(batch), copies // 2)
        )  # a larger stack may have been tried: never more again
        self.halved[len(batch) * batch.n_tokens] = left
        return left

    def resid(self, batch: Batch, run: RunName, layer: int) -> Float[Tensor, "pair pos d_model"]:
        """The residual stream entering a layer; all layers are recorded in one pass."""
        names = [hook_name("resid", n) for n in range(self.wiring.n_layers)]
        return self.activations(batch, run, names)[hook_name("resid", layer)]

    # -- the metric of both runs --------------------------------------------------------------------------

    @cached_property
    def clean(self) -> np.ndarray:
        """``(pair,)``: the metric of the clean run."""
        return self._metric_of("clean")

    @cached_property
    def corrupted(self) -> np.ndarray:
        """``(pair,)``: the metric of the corrupted run, with the clean run's answers."""
        return self._metric_of("corrupted")

    @torch.no_grad()
    def _metric_of(self, run: RunName) -> np.ndarray:
        values = np.full(self.n_pairs, np.nan)
        for batch in self.batches:
            seen = self._seen.get((run, int(batch.index[0]), len(batch)))
            if seen is None or not is_bare(self.model):  # kept numbers are of the model with nothing attached
                seen = self.values(batch, batch.ids(run)).double().cpu().numpy()
                self.release(batch)
            values[batch.index] = seen
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise ModelError(
                f"the {run} run gives {bad} of {len(values)} values of {self.metric.name} not finite"
            )
        return values

    def provenance(self) -> dict[str, Any]:
        """What decides the numbers: model, weights, precision, pairs, metric."""
        known, pairs = identity(self.model), self.pairs.pairs
        return {
            "model": known.name,
            "weights": known.digest,
            "config": known.config_digest,
            "processing": known.processing,
            "dtype": known.dtype,
            "device": str(self.device),
            "task": pairs.task,
            "split": pairs.split,
            "seed": pairs.seed,
            "corruption": pairs.corruption,
            "pairs": pairs.digest,
            "n_pairs": self.n_pairs,
            "n_dropped": len(self.pairs.dropped),
            "prepend_bos": self.pairs.prepend_bos,
            "tokens": self.tokens_digest,
            "metric": self.metric.name,
            "metric_source": self.metric.source,
            "convention": CONVENTION,
        }

    def _repr_html_(self) -> str:
        from workbench.view.cards import runs_card

        return runs_card(self)

    def __repr__(self) -> str:
        return f"<PairedRuns {self.pairs.pairs.task}: n={self.n_pairs}, metric {self.metric.name}>"


def align_to(model: TransformerBridge, pairs: Pairs, *, minimum: int = 1) -> AlignedPairs:
    """Align pairs with a model's tokenizer, BOS and context length.

    Raises:
        TaskError: if the model has no tokenizer, or too few pairs align.
    """
    from workbench.model.architecture import describe

    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not len(tokenizer):
        raise TaskError(
            "the model has no tokenizer, so text cannot become tokens",
            hint="put tokenizer.json next to the weights, or pass tokenizer= to open_model",
        )
    described = describe(model)
    return align(
        pairs,
        tokenizer,
        prepend_bos=described.prepend_bos,
        n_ctx=described.n_ctx,
        special_tokens=not described.causal,
        minimum=minimum,
    )
