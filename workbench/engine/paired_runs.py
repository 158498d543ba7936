"""Clean and corrupted runs of pairs on one model: the ground every exact measurement stands on.

Pairs are batched by token length and never padded, so no mask, no shifted position and no batching can change
a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.circuits.addresses import REST
from workbench.circuits.behavior import Behavior
from workbench.circuits.graph import CONVENTION, MEETING_CONVENTION, TOWER_CONVENTION
from workbench.core.errors import ModelError, OptionError, check_numbers, expect_word
from workbench.core.run_record import digest_of
from workbench.core.show import Shown
from workbench.core.text import printable
from workbench.engine.answers import Answers, arrays
from workbench.engine.batch import RUNS, Batch, RunName
from workbench.engine.distribute import Here
from workbench.engine.metrics import Metric, get_metric, metric_from_file
from workbench.engine.passes import Passes
from workbench.engine.user_function import MetricFunction
from workbench.model.architecture import describe
from workbench.model.captions import captioned, is_captioned, with_captions
from workbench.model.hooks import hook_name
from workbench.model.pixels import with_pictures
from workbench.model.probe import wiring
from workbench.model.prompt import Prompt
from workbench.model.reading import reading_of_model, require_ids
from workbench.model.sealed import Sealed
from workbench.model.settings import BATCH_TOKENS
from workbench.model.sight import sight_of
from workbench.tasks.alignment import AlignedPairs, align
from workbench.tasks.pairs import Pairs
from workbench.tasks.two_answers import WholeAnswers
from workbench.tasks.whole_answers import as_read_by

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

EMBEDDING = "embedding-similarity"  # of models whose output is what they make of the prompt
BATCH_FLOATS = 10**8  # 0.4 GB in float32 for what all sources of one batch write


class PairedRuns(Passes, Shown, shown_in="workbench.engine.show"):
    """Pairs on a model: batches without padding, activations on demand, the metric of both runs.

    Args:
        model: A bridge from ``open_model``; of our own jobs also a sealed built-in model.
        pairs: Pairs as strings (aligned here with the model's tokenizer) or already aligned.
        metric: Name, ``file.py:function``, ``Metric`` or a function; by default the task's own.
        batch_tokens: Most tokens in one forward pass, interventions stacked along the batch included.
        with_tower: Edges cross from the tower that sees to the language model: its parts are ``vision:a0.h1``, and
            ``projector`` is a part of its own beside ``input``. Of a CLIP edges are of both towers, which meet in
            ``logits``.

    Raises:
        TaskError: if too few pairs align with the tokenizer.
        ModelError: if the metric needs logits that the model does not have, or edges cannot cross from a tower.

    Example:
        >>> import workbench as wb
        >>> runs = wb.paired_runs(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> runs.n_pairs, bool((runs.clean > runs.corrupted).all()), runs.right.tolist(), runs.position_names[-1]
        (4, True, [1.0, 1.0, 1.0, 1.0], 'end')
    """

    def __init__(
        self,
        model: TransformerBridge | Sealed,
        pairs: Pairs | AlignedPairs,
        *,
        metric: str | Metric | MetricFunction | None = None,
        batch_tokens: int = BATCH_TOKENS,
        with_tower: bool = False,
    ) -> None:
        check_numbers({"batch_tokens": batch_tokens})
        if batch_tokens < 1:
            raise OptionError(
                f"batch_tokens is {batch_tokens}; at least 1 is needed",
                hint="batch_tokens=8192 (--batch-tokens 8192)",
            )
        self.batch_tokens = batch_tokens
        self.division = Here()  # who computes the parts of what is measured on these runs
        self.halved: dict[
            int, int
        ] = {}  # tokens of one copy of a batch: copies that memory turned out to hold
        self.n_halved = 0
        self._runs: dict[RunName, tuple[np.ndarray, np.ndarray | None]] = {}
        if isinstance(pairs, AlignedPairs) and not isinstance(model, Sealed):  # those are of its own reading
            require_ids(model, pairs)
        named = pairs.pairs if isinstance(pairs, AlignedPairs) else pairs
        chosen = get_metric(metric_from_file(named.metric) if metric is None else metric)
        if not isinstance(pairs, AlignedPairs):
            pairs = align_to(model, pairs, whole_answers=chosen.whole_answers)
        self.pairs = as_read_by(pairs, chosen.name, chosen.whole_answers)
        if self.pairs.captions and not isinstance(model, Sealed) and not is_captioned(model):
            model = captioned(model)
        found = model.wiring if isinstance(model, Sealed) else wiring(model)
        super().__init__(model, found.joined() if with_tower else found, chosen)
        if self.metric.name == EMBEDDING and self.wiring.has_lm_head:
            raise ModelError(
                f"metric {EMBEDDING} compares hidden states; this model puts out logits",
                hint="--metric kl compares the logits with those of the clean run",
            )
        if self.metric.reads == "answer" and not self.wiring.has_lm_head:
            sight = None if isinstance(model, Sealed) else sight_of(model)
            if sight is not None and sight.captions is not None:
                raise ModelError(
                    f"metric {self.metric.name} reads how alike pictures and captions are; the pairs have no captions",
                    hint='give pairs captions, one a line: "clean": "large red disc\\nlarge green cross", correct: the '
                    "caption of the picture (docs/pairs-format.md); or -t scene-captions",
                )
            raise ModelError(
                f"metric {self.metric.name} reads next-token logits; this model has no language-model head",
                hint="use --metric embedding-similarity, or a function of the hidden states: file.py:function",
            )

    @property
    def n_pairs(self) -> int:
        return len(self.pairs)

    @property
    def own_stack(self) -> str | None:
        """The stack that plain addresses mean, where the model compares pictures with captions; else None."""
        sight = None if self.sealed or not self.pairs.captions else sight_of(self.model)
        return None if sight is None or sight.captions is None else sight.captions.own

    @property
    def position_names(self) -> tuple[str, ...]:
        """Positions that every pair names, in the order of the prompts; ``end`` is where the answer is read."""
        return self.pairs.position_names

    @property
    def set_names(self) -> tuple[str, ...]:
        """Named sets of positions that every pair has: those of its picture."""
        return self.pairs.set_names

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
        tokens, tower = self.batch_tokens, self.wiring.with_tower
        return PairedRuns(self._of, chosen, metric=self.metric, batch_tokens=tokens, with_tower=tower)

    @cached_property
    def tokens_digest(self) -> str:
        """What the pairs became on this tokenizer: token ids, answers and positions."""
        aligned = self.pairs
        ids = [[x.tolist() for x in side] for side in (aligned.clean, aligned.corrupted)]
        images = [pair.image for pair in aligned.pairs if pair.image]
        seen: list[Any] = [[[picture.digest for picture in image] for image in images]] if images else []
        seen += [[[one.clean, one.corrupted] for one in aligned.captions]] if aligned.captions else []
        named: list[Any] = [aligned.correct, aligned.incorrect, [dict(p) for p in aligned.positions]]
        return digest_of([*ids, *named, *seen])

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """The pairs by token length, in chunks that leave room for interventions to be stacked."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for i, ids in enumerate(self.pairs.clean):
            captions = self.pairs.captions[i].lengths if self.pairs.captions else ()
            alike.setdefault((len(ids), *captions, *self._size_of_picture(i)), []).append(i)
        found = []
        for kind in sorted(alike):
            where = np.array(alike[kind])
            length = max(kind[0], sum(self.pairs.captions[where[0]].lengths) if self.pairs.captions else 0)
            most = min(self.batch_tokens // 4, BATCH_FLOATS // self._floats_per_token)
            size = max(1, min(len(where), most // length))
            found += [self._batch(where[i : i + size]) for i in range(0, len(where), size)]
        return tuple(found)

    def _size_of_picture(self, i: int) -> tuple[int, ...]:
        """Height and width of a pair's pictures, where the model takes several sizes: a batch has one."""
        sight, image = None if self.sealed else sight_of(self.model), self.pairs.pairs[i].image
        return image[0].size if sight is not None and sight.sizes is not None and image else ()

    @property
    def _floats_per_token(self) -> int:
        """Numbers that the outputs of all sources take at one token, the largest thing edge-level work keeps."""
        return sum((1 + s.n_layers * (s.n_heads + 1)) * s.d_model for s in self.wiring.stacks)

    def _batch(self, index: np.ndarray) -> Batch:
        positions = tuple(dict(self.pairs.positions[i]) for i in index)
        sight = None if self.sealed else sight_of(self.model)
        return Batch(
            index=index,
            prompts=(self.prompt_of("clean", index), self.prompt_of("corrupted", index)),
            answers=self._answers[torch.as_tensor(index, device=self.device)],
            answer_pos=torch.tensor([p["end"] for p in positions], device=self.device),
            positions=positions,
            sets=tuple(self.pairs.sets[i] for i in index) if self.pairs.sets else (),
            tower_start=None if sight is None else sight.tower_first,
            groups=tuple(self.pairs.pairs[int(i)].group for i in index),
        )

    def prompt_of(self, run: RunName, index: np.ndarray) -> Prompt:
        """The prompts of these pairs in one run, with their pictures; all are of one length."""
        expect_word("run", run, RUNS)
        side = 0 if run == "clean" else 1
        rows = (self.pairs.clean, self.pairs.corrupted)[side]
        ids = torch.as_tensor(np.stack([rows[i] for i in index]), device=self.device)
        images = [self.pairs.pairs[int(i)].image for i in index]
        sight = None if self.sealed else sight_of(self.model)
        if sight is None or not all(images):
            return Prompt(ids)
        made = with_pictures(
            sight, ids, [pictures[side] for pictures in images if pictures], dtype=self.dtype
        )
        if not self.pairs.captions or sight.captions is None:
            return made
        return with_captions(made, [self.pairs.captions[i].of(side) for i in index], own=sight.captions.own)

    @cached_property
    def _answers(self) -> Answers:
        return Answers.of(self.pairs, self.device)

    # -- runs ---------------------------------------------------------------------------------------------

    def release(self, batch: Batch) -> None:
        """Forget the activations kept with a batch."""
        batch.cache.clear()

    def release_others(self, batch: Batch) -> None:
        """Forget the activations kept with every other batch, and what towers made of its pictures."""
        for other in self.batches:
            if other is not batch:
                other.cache.clear()
                for prompt in other.prompts:
                    self._entered.pop(prompt, None)

    def copies(self, batch: Batch) -> int:
        """How many stacked copies of a batch one forward pass may have; fewer once memory has run out."""
        tokens = batch.load
        return self.halved.get(tokens, max(1, self.batch_tokens // tokens))

    def halve(self, batch: Batch, copies: int) -> int:
        """Memory ran out with so many copies of a batch: half of them from now on."""
        self.n_halved += 1
        left = max(
            1, min(self.copies(batch), copies // 2)
        )  # a larger stack may have been tried: never more again
        self.halved[batch.load] = left
        return left

    def resid(
        self, batch: Batch, run: RunName, layer: int, *, tower: str | None = None
    ) -> Float[Tensor, "pair pos d_model"]:
        """The residual stream entering a layer; all layers are recorded in one pass."""
        wiring = self.wiring.of(tower)
        names = [hook_name("resid", n, wiring.prefix) for n in range(wiring.n_layers)]
        return self.activations(batch, run, names)[names[layer]]

    def forget(self) -> None:
        """Forget everything that was measured; the pairs and their batches stay."""
        super().forget()
        self._runs.clear()
        for batch in self.batches:
            batch.cache.clear()

    # -- the metric of both runs --------------------------------------------------------------------------

    @property
    def clean(self) -> np.ndarray:
        """``(pair,)``: the metric of the clean run."""
        return self._measured("clean")[0]

    @property
    def corrupted(self) -> np.ndarray:
        """``(pair,)``: the metric of the corrupted run, with the clean run's answers."""
        return self._measured("corrupted")[0]

    @property
    def right(self) -> np.ndarray | None:
        """``(pair,)``: 1 where the clean prompt's best correct answer beats every incorrect one, whatever the metric.

        None for a model without answers.
        """
        return self._measured("clean")[1]

    @property
    def behavior(self) -> Behavior:
        """What the model itself does on these pairs; from the two runs that are measured anyway."""
        self.settle()
        if "behavior" not in self.kept:
            self.kept["behavior"] = self._behavior()
        return self.kept["behavior"]

    def _behavior(self) -> Behavior:
        answers = self._answers
        counts = [
            mask.sum(1).double().cpu().numpy() for mask in (answers.correct_mask, answers.incorrect_mask)
        ]
        # the best of k + j equal answers is one of the k correct ones; without incorrect ones guessing gives nothing
        guess = np.where(counts[1] > 0, counts[0] / np.maximum(counts[0] + counts[1], 1), 0.0)
        return Behavior.of(
            self.clean,
            self.corrupted,
            metric=self.metric.name,
            unit=self.metric.unit,
            direction=self.metric.direction,
            right=self.right,
            guess=float(guess.mean()) if len(guess) else 0.0,
            clusters=self.pairs.pairs.clusters,
        )

    def _measured(self, run: RunName) -> tuple[np.ndarray, np.ndarray | None]:
        """The metric of a run, and which pairs are answered rightly; measured once while the model stays as it is."""
        self.settle()
        if run not in self._runs:
            self._runs[run] = self._measure_run(run)
        return self._runs[run]

    @torch.no_grad()
    def _measure_run(self, run: RunName) -> tuple[np.ndarray, np.ndarray | None]:
        values, right = np.full(self.n_pairs, np.nan), np.full(self.n_pairs, np.nan)
        answered = True
        for batch in self.batches:
            seen = self._seen.get((run, int(batch.index[0]), len(batch)))
            if seen is None or not self.is_bare():  # kept numbers are of the model with nothing attached
                rightly: list[Tensor] = []
                found = self.values(batch, batch.prompt(run), at_last=True, rightly=rightly)
                seen = arrays(found, rightly)
                self.release(batch)
            values[batch.index] = seen[0]
            answered = answered and seen[1] is not None
            if answered:
                right[batch.index] = seen[1]
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise ModelError(
                f"the {run} run gives {bad} of {len(values)} values of {self.metric.name} not finite",
                hint="--dtype float32, or other pairs; workbench model check NAME looks for a reason",
            )
        return values, right if answered else None

    def provenance(self) -> dict[str, Any]:
        """What decides the numbers: model, weights, precision, pairs, metric."""
        known, pairs = self.identity, self.pairs.pairs
        self.settle()
        return {
            **known.decides(),
            "device": str(self.device),
            "task": pairs.task,
            "split": pairs.split,
            "seed": pairs.seed,
            "corruption": pairs.corruption,
            "pairs": pairs.digest,
            "n_pairs": self.n_pairs,
            "n_dropped": len(self.pairs.dropped),
            "prepend_bos": self.pairs.prepend_bos,
            **self.manner,
            "tokens": self.tokens_digest,
            "metric": self.metric.name,
            "metric_source": self.metric.source,
            "convention": CONVENTION,
            **({"tower": self._tower_convention} if self.wiring.with_tower else {}),
        }

    @property
    def manner(self) -> dict[str, Any]:
        """How prompts became tokens where that is not as usual: ``chat``, and ``bos`` as on or off."""
        usual = (
            self._of.reading.prepend_bos if isinstance(self._of, Sealed) else describe(self._of).prepend_bos
        )
        own = self.pairs.prepend_bos
        said: dict[str, Any] = {"chat": True} if self.pairs.chat else {}
        return said | ({} if own == usual else {"bos": "on" if own else "off"})

    @property
    def _tower_convention(self) -> str:
        return MEETING_CONVENTION if self.wiring.compares else TOWER_CONVENTION

    def __repr__(self) -> str:
        text = f"{self.pairs.pairs.task}: n={self.n_pairs}, metric {self.metric.name}"
        return printable(f"<PairedRuns {text}>")


def align_to(
    model: TransformerBridge | Sealed,
    pairs: Pairs,
    *,
    minimum: int = 1,
    bos: bool | None = None,
    chat: bool = False,
    whole_answers: WholeAnswers = False,
) -> AlignedPairs:
    """Align pairs with a model's tokenizer, BOS and context length.

    Args:
        bos: Whether a token that starts a prompt comes first; by default as the model reads.
        chat: Put every prompt into the model's chat template, as the user's message.
        whole_answers: Correct answers may have several tokens; ``"both"``: incorrect answers too, as rows of their own.

    Raises:
        TaskError: if the model has no tokenizer, or too few pairs align.
        OptionError: if the model does not read so.
    """
    reading = reading_of_model(model).asked(bos=bos, chat=chat, whole_answers=whole_answers)
    return align(pairs, reading.tokenizer, minimum=minimum, **reading.options)
