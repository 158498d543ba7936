"""Forward passes over a batch, with hooks, and what the metric reads of them: by plain blocks or by the hooked model.

Plain blocks (``workbench/model/blocks.py``) take the model's place where they were seen to be it, nobody attached
anything, and every hook of a pass is one that they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.engine.answers import Answers, arrays
from workbench.engine.batch import Batch, RunName
from workbench.engine.metrics import Metric, accuracy, spelled_rightly
from workbench.engine.watched_model import WatchedModel
from workbench.model import hooks
from workbench.model.blocks import Blocks, Hook, is_walked
from workbench.model.captions import CAPTIONS, beside_other_tower
from workbench.model.hooks import Wiring, hook_name, resume_from
from workbench.model.inner_towers import Begun, stack_of
from workbench.model.probe import record
from workbench.model.prompt import Prompt
from workbench.model.sealed import Sealed
from workbench.model.trial import blocks_of
from workbench.model.unhooked import entering, read_out

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

LOGITS = 2**25  # numbers in one block of logits
ENTERED = 2**26  # numbers of what enters the first layer that are kept, where towers made them


class Passes(WatchedModel):
    """Passes of one model, measured with one metric.

    Attributes:
        not_plain: Batches that plain blocks are not used for, and why.
        restarts: How rows start in a tower on a run of a batch, or why the hooked model must run.
    """

    def __init__(self, model: TransformerBridge | Sealed, wiring: Wiring, metric: Metric) -> None:
        super().__init__(model, wiring)
        self.metric = metric
        self.not_plain: dict[tuple[int, int], str] = {}
        self.restarts: dict[tuple[str | None, str, int, int], object] = {}
        # metric of passes that were recorded, and which of their pairs are answered rightly
        self._seen: dict[tuple[str, int, int], tuple[np.ndarray, np.ndarray | None]] = {}
        self._entered: dict[Prompt, Tensor] = {}  # what enters the first layer of prompts with pictures

    def forget(self) -> None:
        """Forget everything that was measured."""
        super().forget()
        for held in (self._seen, self.not_plain, self.restarts, self._entered):
            held.clear()

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
        if self.metric.reads == "all":
            return "the metric reads every position"
        if (reason := self.not_plain.get((int(batch.index[0]), len(batch)))) is not None:
            return reason
        if not is_walked((name for name, _ in fwd_hooks), self.wiring.n_layers):
            return "edits of attention patterns"
        if self.sealed is not None:
            return self.sealed.plain.blocks
        key, prompt = (int(batch.index[0]), len(batch)), batch.prompt(every or "clean")
        known = self._known or {}
        for run in ("clean", "corrupted") if every is None else ():
            if isinstance(found := known.get((*key, run)), Blocks):  # asked more strictly already
                return found
        return self._asked((*key, every), lambda: blocks_of(self.model, prompt, every=every is not None))

    def is_walked(self, batch: Batch) -> bool:
        """Whether passes over this batch go through plain blocks, whose hooks are more than the model's own."""
        return isinstance(self.blocks(batch), Blocks)

    def output(
        self,
        batch: Batch,
        prompt: Prompt | Int[Tensor, "row pos"],
        fwd_hooks: Sequence[Hook] = (),
        *,
        start: int = 0,
        resid: Float[Tensor, "row pos d_model"] | None = None,
        at_last: bool = False,
        tower: str | None = None,
        beside: Sequence[Begun] = (),
    ) -> Tensor:
        """What the metric reads of a pass over ``len(prompt) / len(batch)`` stacked copies of a batch.

        Args:
            fwd_hooks: Hooks of this pass, by TransformerLens' names.
            start, resid: The first layer that is run, and what enters it.
            at_last: Hooks can do with the last position alone in the last layer (but for k and v), where it is all that
                is read.
            tower: The stack in which ``start`` is a layer; None is the model's own.
            beside: Other towers of a model that has several side by side, and where each begins.
        """
        prompt, blocks = Prompt.of(prompt), self.blocks(batch, fwd_hooks)
        if isinstance(blocks, str):
            behind = self._behind(batch, prompt, fwd_hooks, start, resid, tower)
            if behind is not None:
                return self._read_out(*behind, prompt.last)
            return self._hooked(batch, prompt, fwd_hooks, start, resid, tower, beside)
        hidden = self._walked(batch, blocks, prompt, fwd_hooks, start, resid, at_last)
        return self._read_out(blocks, hidden, prompt.last)

    def values(
        self,
        batch: Batch,
        prompt: Prompt | Int[Tensor, "row pos"],
        fwd_hooks: Sequence[Hook] = (),
        *,
        start: int = 0,
        resid: Float[Tensor, "row pos d_model"] | None = None,
        at_last: bool = False,
        by_model: bool = False,
        rightly: list[Tensor] | None = None,
        tower: str | None = None,
        beside: Sequence[Begun] = (),
    ) -> Float[Tensor, " row"]:
        """The metric of such a pass; ``by_model``: by the hooked model whatever its blocks are.

        Args:
            rightly: Takes which rows are answered rightly, 1 or 0, where the model has answers.
            tower: The stack in which ``start`` is a layer; None is the model's own.
            beside: Other towers of a model that has several side by side, and where each begins.
        """
        prompt = Prompt.of(prompt)
        blocks = "asked for" if by_model else self.blocks(batch, fwd_hooks)
        if isinstance(blocks, str):
            behind = None if by_model else self._behind(batch, prompt, fwd_hooks, start, resid, tower)
            if behind is not None:
                return self.value_of(batch, *behind, prompt.last, rightly)
            output = self._hooked(batch, prompt, fwd_hooks, start, resid, tower, beside)
            self._answered(batch, output, rightly)
            return self.measure(batch, output)
        hidden = self._walked(batch, blocks, prompt, fwd_hooks, start, resid, at_last)
        return self.value_of(batch, blocks, hidden, prompt.last, rightly)

    def _hooked(
        self,
        batch: Batch,
        prompt: Prompt,
        fwd_hooks: Sequence[Hook],
        start: int,
        resid: Tensor | None,
        tower: str | None = None,
        beside: Sequence[Begun] = (),
    ) -> Tensor:
        """A pass of the model itself."""
        if resid is None and prompt.extras and all(name.startswith("blocks.") for name, _ in fwd_hooks):
            resid = self.entered(prompt)
        if resid is not None and tower is None:
            prompt = replace(prompt, entered=True)
        begin = [] if resid is None else [Begun(tower, start, resid)]
        with ExitStack() as inside:
            for one in (*begin, *beside):
                inside.enter_context(resume_from(stack_of(self.model, one.tower), one.layer, one.resid))
            inside.enter_context(self.model.hooks(fwd_hooks=list(fwd_hooks)))
            return self.read(batch, hooks.forward(self.model, prompt, last_only=self.last_only(batch)))

    def _behind(
        self,
        batch: Batch,
        prompt: Prompt,
        fwd_hooks: Sequence[Hook],
        start: int,
        resid: Tensor | None,
        tower: str | None,
    ) -> tuple[Blocks, Float[Tensor, "row d_model"]] | None:
        """Run a tower by the model and what is behind it by plain blocks: them, and what leaves the last of them.

        None where that cannot be: without a tower, with gradients, where plain blocks are not the model.
        """
        if tower is None or torch.is_grad_enabled():
            return None
        inside = f"{self.wiring.of(tower).prefix}."
        beyond = [hook for hook in fwd_hooks if not hook[0].startswith(inside)]
        blocks = self.blocks(batch, beyond)
        if isinstance(blocks, str):
            return None
        begin = nullcontext() if resid is None else resume_from(stack_of(self.model, tower), start, resid)
        with begin, self.model.hooks(fwd_hooks=[hook for hook in fwd_hooks if hook[0].startswith(inside)]):
            entered = entering(self.model, blocks, prompt)
        return blocks, self._walked(batch, blocks, prompt, beyond, 0, entered, at_last=not beyond)

    @torch.no_grad()
    def entered(self, prompt: Prompt) -> Float[Tensor, "row pos d_model"]:
        """What enters the first layer of prompts with pictures. Towers see each picture once while room lasts."""
        origin, rows = prompt.origin
        if origin not in self._entered:
            first = hook_name("resid", 0)
            self._keep_entered(origin, record(self.model, origin, [first], last_only=True)[1][first])
        found = self._entered[origin]
        return found[rows.to(found.device)]

    def _keep_entered(self, origin: Prompt, resid: Float[Tensor, "row pos d_model"]) -> None:
        """Keep what enters the first layer; what was kept first goes first."""
        self._entered[origin] = resid
        while len(self._entered) > 1 and sum(t.numel() for t in self._entered.values()) > ENTERED:
            del self._entered[next(iter(self._entered))]

    def _walked(
        self,
        batch: Batch,
        blocks: Blocks,
        prompt: Prompt,
        fwd_hooks: Sequence[Hook],
        start: int,
        resid: Tensor | None,
        at_last: bool,
    ) -> Float[Tensor, "row d_model"]:
        """What leaves the last of the plain blocks where the answer is read."""
        x = resid if resid is not None else self._entering(blocks, prompt)
        if not self.last_only(batch):
            out = blocks.walk(x, fwd_hooks, start=start)
            rows = torch.arange(len(out), device=out.device)
            return out[rows, batch.answer_pos.repeat(len(out) // len(batch))]
        return blocks.walk(x, fwd_hooks, start=start, last=at_last)[:, -1]

    def _entering(self, blocks: Blocks, prompt: Prompt) -> Float[Tensor, "row pos d_model"]:
        """What enters the first layer."""
        if self.sealed and blocks.embed:
            return blocks.embed(prompt.ids)
        if not prompt.extras:
            return entering(self.model, blocks, prompt)
        origin = prompt.origin[0]
        if origin not in self._entered:
            self._keep_entered(origin, entering(self.model, blocks, origin))
        return self.entered(prompt)

    def _read_out(
        self,
        blocks: Blocks,
        hidden: Float[Tensor, "row d_model"],
        ids: Int[Tensor, " row"],
        columns: Int[Tensor, " column"] | None = None,
    ) -> Float[Tensor, "row d_vocab"]:
        """Logits of what leaves the last block."""
        if self.sealed is not None:
            return self.sealed.plain.end(hidden, columns)
        return read_out(self.model, blocks, hidden, ids, columns)

    def value_of(
        self,
        batch: Batch,
        blocks: Blocks,
        hidden: Float[Tensor, "row d_model"],
        ids: Int[Tensor, " row"],
        rightly: list[Tensor] | None = None,
    ) -> Float[Tensor, " row"]:
        """The metric of what leaves the last block, with no more logits at once than fit."""
        few = self.metric.reads_answers_only and blocks.by_column
        columns = batch.columns[0] if few else None
        width = blocks.d_out if columns is None else len(columns)
        size, found = max(1, LOGITS // (len(batch) * width)) * len(batch), []
        for part, tokens in zip(hidden.split(size), ids.split(size), strict=True):
            logits = self._read_out(blocks, part, tokens, columns)
            if logits.shape[-1] != width:
                raise ModelError(
                    f"the unembedding gives {logits.shape[-1]} logits where {width} are expected",
                    hint="workbench model check NAME looks for a reason",
                )
            few_answers = batch.repeated(len(part) // len(batch)) if few else None
            self._answered(batch, logits, rightly, few_answers)
            found.append(
                self.measure(batch, logits) if few_answers is None else self.metric(logits, few_answers)
            )
        return found[0] if len(found) == 1 else torch.cat(found)

    def read(self, batch: Batch, out: Tensor) -> Tensor:
        """Return the part of the model's output that the metric reads."""
        if self.metric.reads == "all":
            return out
        if out.shape[1] == 1:
            return out[:, 0]
        rows = torch.arange(len(out), device=out.device)
        return out[rows, batch.answer_pos.repeat(len(out) // len(batch))]

    def _answered(
        self, batch: Batch, output: Tensor, rightly: list[Tensor] | None, answers: Answers | None = None
    ) -> None:
        """Add which rows are answered rightly to a list, if there is one and the output has answers in it.

        Args:
            answers: Where the answers are in the output; by default by their ids, one copy of the batch after another.
        """
        if rightly is None or not self.wiring.has_lm_head:
            return
        times = len(output) // len(batch)
        if self.metric.whole_answers:
            rightly.append(spelled_rightly(output, batch.answers.repeat(times)))
            return
        if self.metric.reads == "all":
            rows = torch.arange(len(output), device=output.device)
            output = output[rows, batch.answer_pos.repeat(times)]
        rightly.append(accuracy(output, batch.answers.repeat(times) if answers is None else answers))

    def measure(self, batch: Batch, output: Tensor) -> Float[Tensor, " row"]:
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
        self.settle()
        if ("clean", "output") not in batch.cache:
            batch.cache["clean", "output"] = self.output(batch, batch.prompt("clean"))
        return batch.cache["clean", "output"]

    def activations(self, batch: Batch, run: RunName, names: Sequence[str]) -> dict[str, Tensor]:
        """Tensors at these hooks in the clean or corrupted run, kept with the batch.

        Raises:
            ModelError: if a hook does not fire on this model.
        """
        self.settle()
        missing = [n for n in names if (run, n) not in batch.cache]
        if missing:
            found = self._recorded(batch, run, missing)
            silent = [n for n in missing if n not in found]
            if silent:
                raise ModelError(
                    f"hook {silent[0]} never fires on this model; nothing can be read there",
                    hint="workbench model show NAME says which parts can be read",
                )
            for name, tensor in found.items():
                batch.cache[run, name] = tensor
        return {n: batch.cache[run, n] for n in names}

    @torch.no_grad()
    def _recorded(self, batch: Batch, run: RunName, names: Sequence[str]) -> dict[str, Tensor]:
        """Tensors at these hooks in one pass, whose metric is kept as well: no other pass is made for it.

        The metric is that of the last layer at the last position alone, as where nothing is recorded: equal bits.
        """
        prompt, blocks = batch.prompt(run), self.blocks(batch)
        answer = self.metric.reads == "answer" and not self.metric.needs_clean
        if isinstance(blocks, str):
            if CAPTIONS in prompt.extras:
                prompt = beside_other_tower(self.model, prompt, names, batch.cache, run)
            out, found = record(self.model, prompt, names, last_only=self.last_only(batch))
            if answer and isinstance(out, Tensor) and self.is_bare():
                output = batch.cache[run, "output"] = self.read(batch, out)
                rightly: list[Tensor] = []
                self._answered(batch, output, rightly)
                self._note(batch, run, self.measure(batch, output), rightly)
            return found
        # What blocks have is always taken from them, whatever else is asked for: equal questions, equal bits.
        others = [name for name in names if not is_walked([name], self.wiring.n_layers)]
        found = self._recorded_besides(batch, blocks, prompt, others) if others else {}
        store = [(n, lambda t, hook, n=n: found.__setitem__(n, t)) for n in names if n not in others]
        if store:
            last, entered = len(blocks) - 1, []
            enters = hook_name("resid", last), lambda resid, hook: entered.append(resid)
            self._walked(batch, blocks, prompt, [*store, enters], 0, None, False)
            if answer:
                hidden, rightly = self._walked(batch, blocks, prompt, (), last, entered[0], True), []
                values = self.value_of(batch, blocks, hidden, prompt.last, rightly)
                self._note(batch, run, values, rightly)
                if self.last_only(batch):
                    batch.cache[run, "end"] = hidden
        return found

    def _recorded_besides(
        self, batch: Batch, blocks: Blocks, prompt: Prompt, names: Sequence[str]
    ) -> dict[str, Tensor]:
        """Tensors at hooks that plain blocks have not; those of towers without the layers behind them."""
        inside = tuple(f"{tower.prefix}." for tower in self.wiring.towers.values())
        if not all(name.startswith(inside) for name in names):
            return record(self.model, prompt, names, last_only=self.last_only(batch))[1]
        found: dict[str, Tensor] = {}
        keep = [(n, lambda t, hook, n=n: found.__setitem__(n, t.detach())) for n in names]
        with self.model.hooks(fwd_hooks=keep):
            entered = entering(self.model, blocks, prompt)
        if prompt.taken is None:
            self._keep_entered(prompt, entered)
        return found

    def _note(
        self, batch: Batch, run: RunName, values: Float[Tensor, " pair"], rightly: Sequence[Tensor]
    ) -> None:
        """Keep the metric of a run of the model with nothing attached, and which pairs it answers rightly."""
        self._seen.setdefault((run, int(batch.index[0]), len(batch)), arrays(values, rightly))
