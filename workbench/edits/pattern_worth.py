"""What an attention pattern is worth: the loss, or a task's metric, with other patterns in place of heads' own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from jaxtyping import Int
from torch import Tensor, stack

from workbench.core.errors import ModelError, OptionError, TaskError
from workbench.core.progress import Progress, silent
from workbench.core.run_record import digest_of
from workbench.edits.edit import ModelEdit
from workbench.edits.measure import CHANGES, UNITS, Measured, compare, on_task, on_text
from workbench.edits.recorded_patterns import Patterns, record_for
from workbench.edits.substitute import (
    BLOCK,
    KEYS,
    ORDER,
    PATTERNS,
    PER_PROMPT,
    WINDOW,
    WINDOWS,
    Numbers,
    Substitute,
    in_words,
    numbers_of,
    places_among,
)
from workbench.engine.of_task import Task, paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.store import SweepStore
from workbench.heads.grounds import Corpus, text_ground
from workbench.model.identity import identity
from workbench.model.probe import wiring
from workbench.model.prompt import Prompt
from workbench.model.sight import reads_pictures_alone
from workbench.model.wiring import require_heads
from workbench.tasks.reading import is_file

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """The texts that are read: the prompts of a task or windows of a text, and other texts beside them.

    Attributes:
        runs: Of the task; None for windows.
        windows: Of the text; None for a task.
        reference: Other texts, for patterns that are of other texts.
        about: What is read, in words.
        notes: What is to be known of it.
        rows: Most windows in one pass.
    """

    model: TransformerBridge
    runs: PairedRuns | None = None
    windows: Int[Tensor, "window pos"] | None = None
    reference: Sequence[Prompt | Tensor] = ()
    about: str = ""
    notes: tuple[str, ...] = ()
    rows: int = 32

    @property
    def digest(self) -> str:
        """What decides which texts these are, those beside them included."""
        own = [] if self.windows is None else self.windows.tolist()
        pairs = None if self.runs is None else self.runs.pairs.pairs.digest
        return digest_of([own, pairs, [Prompt.of(one).ids.tolist() for one in self.reference]])

    @property
    def lengths(self) -> tuple[int, ...]:
        """How many tokens the prompts have, shortest first."""
        if self.windows is not None:
            return (self.windows.shape[1],)
        assert self.runs is not None
        return tuple(sorted({batch.prompt("clean").shape[1] for batch in self.runs.batches}))

    def measured(self, edit: Any = None) -> dict[str, Any]:
        """Return the task's metric prompt by prompt, or the loss of each window."""
        if self.runs is not None:
            found = on_task(self.runs, edit)
            return {self.runs.metric.name: found[self.runs.metric.name]}
        assert self.windows is not None
        return {"loss": on_text(self.model, self.windows, edit, rows=self.rows)["loss"]}

    def kept(self, store: SweepStore | None, key: str, edit: Any = None) -> dict[str, Any]:
        """Return what ``measured`` does, from the finished parts of a run where it is there, else kept there."""
        found = None if store is None else store.get(key, None)
        if found is not None:
            return {"loss" if self.runs is None else self.runs.metric.name: found}
        made = self.measured(edit)
        if store is not None:
            [values] = made.values()
            store.put(key, values)
        return made

    def rows_of(self, without: dict[str, Any], replaced: dict[str, Any], seed: int) -> list[dict[str, Any]]:
        """Return the paired comparison, with its unit and interval."""
        if self.runs is None:
            return compare("text", without, replaced, seed=seed)
        pairs, metric = self.runs.pairs.pairs, self.runs.metric
        how: dict[str, Any] = {"units": {**UNITS, metric.name: metric.unit}, "clusters": pairs.clusters}
        return compare(pairs.task, without, replaced, seed=seed, **how)


def texts_of_task(
    model: TransformerBridge,
    task: Task,
    *,
    n: int | None = None,
    seed: int = 0,
    split: str = "test",
    **how: Any,
) -> Texts:
    """Return the clean prompts of a task, and as other texts those of its training split; of a file the corrupted ones.

    Returns:
        Texts for `replace_attention`.

    Raises:
        TaskError: if there is no such task, or nothing of it aligns.

    Example:
        >>> import workbench as wb
        >>> texts = wb.texts_of_task(wb.open_model("zoo:ioi"), "ioi", n=4)
        >>> texts.about
        '4 clean prompts of ioi; other texts: its train split'
    """
    runs = paired_runs(model, task, n=n, seed=seed, split=split, **how)
    if isinstance(task, str) and not is_file(task):
        other = "train" if split != "train" else "validation"
        beside = paired_runs(model, task, n=n, seed=seed, split=other, **how)
        reference, said = [batch.prompt("clean") for batch in beside.batches], f"its {other} split"
    else:
        reference, said = [batch.prompt("corrupted") for batch in runs.batches], "its corrupted prompts"
    about = f"{runs.n_pairs} clean prompts of {runs.pairs.pairs.task}; other texts: {said}"
    return Texts(model=model, runs=runs, reference=reference, about=about)


def texts_of_corpus(
    model: TransformerBridge, corpus: Corpus = None, *, n: int = WINDOWS, window: int = WINDOW, seed: int = 0
) -> Texts:
    """Return windows of a text, every second one as another text.

    Returns:
        Texts for `replace_attention`; the built-in text where none is named.

    Example:
        >>> import workbench as wb
        >>> len(wb.texts_of_corpus(wb.open_model("zoo:stdlib"), n=4).windows)
        4

    Raises:
        TaskError: if the model cannot read the text, or it has fewer than four windows.
        OptionError: for a window that is longer than the model's context.
    """
    ground, notes = text_ground(model, corpus, n=2 * n, length=window, seed=seed)
    if ground is None:
        raise TaskError("; ".join(notes), hint=_without_text(model))
    whole = [ids for ids in ground.sequences if len(ids) == window]
    if len(whole) < 4:
        raise TaskError(
            f"{ground.about}: {len(whole)} windows of {window} tokens; at least 4 are needed, 2 of them as other texts",
            hint="a shorter --window, or a longer text",
        )
    shown = stack(whole[::2])
    about = f"{len(shown)} windows of {ground.about}; other texts: the {len(whole) // 2} windows between them"
    return Texts(model=model, windows=shown, reference=[stack(whole[1::2])], about=about, notes=notes)


def _without_text(model: TransformerBridge) -> str:
    """What to give a model that cannot read the text."""
    if reads_pictures_alone(model):
        return "-t TASK with pictures, such as scene-marked"
    return "-t TASK, or --text FILE with words that the model knows"


def replace_attention(
    texts: Texts,
    patterns: Sequence[str] | None = None,
    *,
    layers: Sequence[str] = (),
    heads: Sequence[str] = (),
    each: str = "together",
    keys: int = KEYS,
    block: int = BLOCK,
    order: int = ORDER,
    seed: int = 0,
    store: SweepStore | None = None,
    progress: Progress = silent,
) -> Measured:
    """Measure the loss, or the task's metric, with other patterns in place of heads' own.

    Args:
        texts: From `texts_of_corpus` or `texts_of_task`.
        patterns: What is put in place; ``own`` puts back what was there, which changes nothing. None is each of
            `PATTERNS` that this model allows; the others are named, with the reason in the notes.
        layers: ``all``, ``odd``, ``even``, ``2``, ``0-3``: a group of rows for each.
        heads: Addresses that are replaced together, in place of layers.
        each: ``together``; ``layer`` or ``head`` give each of them rows of its own.
        keys: That a query keeps, for ``top-k``, ``column``, ``block`` and ``random``.
        block: Tokens of a block.
        order: Of ``taylor``.
        seed: Of random keys, of the other text, and of intervals.
        store: Where the numbers of each row are kept as soon as they are measured; what is there is not run again.

    Returns:
        One row for each place and pattern: the mean without and with it, the paired difference (with minus without,
        in the unit of the metric or in nats) with its 95 % interval over prompts, and how many moved.

    Raises:
        OptionError: for an unknown pattern, place or number.
        ModelError: if the model's patterns cannot be edited, or it has no such head.

    Example:
        >>> import workbench as wb
        >>> model = wb.open_model("zoo:stdlib")
        >>> table = wb.replace_attention(texts_of_corpus(model, n=2), ["own", "uniform"], layers=["0"])
        >>> [row["difference"] == 0 for row in table.rows]
        [True, False]
    """
    given = _named(patterns, keys=keys, block=block, order=order)
    wired = wiring(texts.model)
    require_heads(wired)
    places = places_among(layers, heads, each, wired.attention_layers, wired.n_heads)
    _require_editable(texts.model)
    without, shared = texts.kept(store, "as-it-is"), _recorded(texts, given, seed)
    rows: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for (i, (place, own)), (name, numbers) in product(enumerate(places.items()), given.items()):
        said = {
            "pattern": in_words(name, **numbers),
            "layers": place,
            "heads": count_heads(own, wired.n_heads),
        }
        stand_in = _StandIn(texts.model, name, numbers, own, shared.get(name, {}), seed)
        try:
            replaced = texts.kept(store, f"place{i}-{name}", stand_in)
            rows += [{**said, **row} for row in texts.rows_of(without, replaced, seed)]
        except ModelError as problem:
            if patterns is not None:
                raise
            refused[name] = f"no row for {said['pattern']} in {place}: {problem.message}"
        progress(len(rows), len(places) * len(given), f"{said['pattern']}, {place}")
    return _told(texts, rows, refused)


def _named(patterns: Sequence[str] | None, *, keys: int, block: int, order: int) -> dict[str, Numbers]:
    """The patterns that are put in place, each with its own numbers; every known one where none is named.

    Raises:
        OptionError: for an unknown pattern or number, and for an empty list.
    """
    wanted = PATTERNS if patterns is None else tuple(dict.fromkeys(patterns))
    if not wanted:
        raise OptionError("no pattern is named", hint="--with mean")
    return {name: numbers_of(name, keys=keys, block=block, order=order) for name in wanted}


def _require_editable(model: TransformerBridge) -> None:
    """Do nothing if the patterns of this model can be edited; so a family is refused before anything is run.

    Raises:
        ModelError: if they cannot be.
    """
    every = tuple(f"a{layer}" for layer in wiring(model).attention_layers)
    with Substitute(heads=every, pattern="uniform").on(model):
        pass


def _told(texts: Texts, rows: Sequence[dict[str, Any]], refused: Mapping[str, str]) -> Measured:
    """The rows with what was read, what the model itself does there, and which patterns it does not allow."""
    what = f"other attention patterns in place of heads' own ({texts.about})"
    what += f"; not possible here: {', '.join(refused)}" if refused else ""
    behaviors = {}
    if texts.runs is not None:
        behaviors[texts.runs.pairs.pairs.task] = texts.runs.behavior.to_dict(CHANGES)
    return Measured(
        edit=what,
        model=identity(texts.model).title,
        rows=tuple(rows),
        behaviors=behaviors,
        notes=(*texts.notes, *refused.values()),
    )


@dataclass(frozen=True)
class _StandIn:
    """Makes the edit for the prompts of a pass."""

    model: TransformerBridge
    pattern: str
    numbers: Numbers
    heads: tuple[str, ...]
    shared: Patterns
    seed: int

    def __call__(self, prompt: Prompt) -> ModelEdit:
        if self.pattern in PER_PROMPT:
            return Substitute.of(self.model, self.pattern, heads=self.heads, prompt=prompt)
        own: dict[str, Any] = {"heads": self.heads, "pattern": self.pattern, **self.numbers}
        return Substitute(**own, patterns=self.shared, seed=self.seed)


def _recorded(texts: Texts, names: Iterable[str], seed: int) -> dict[str, Patterns]:
    """What is the same for all prompts and places."""
    return {
        name: record_for(texts.model, name, reference=texts.reference, seed=seed)
        for name in names
        if name in ("mean", "another-text")
    }


def count_heads(addresses: Sequence[str], n_heads: int) -> int:
    """Return how many heads are named, where a layer stands for all of its own."""
    return sum(1 if ".h" in address else n_heads for address in addresses)
