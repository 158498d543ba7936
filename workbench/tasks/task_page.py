"""Examples of a task, with its named positions marked, as text and as one model's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core.errors import TaskError
from workbench.core.show import Told
from workbench.tasks.alignment import AlignedPairs
from workbench.tasks.fit import fit_pairs
from workbench.tasks.pairs import Pair, Pairs, Span
from workbench.tasks.pairs_file import load_pairs
from workbench.tasks.reading import Reading, align_for, is_file
from workbench.tasks.registry import Task, get_task, make_pairs, parse_options


@dataclass(frozen=True, kw_only=True)
class TaskPage(Told):
    """What a task is, some of its pairs, and what one model's tokenizer makes of them."""

    task: Task | None
    pairs: Pairs
    aligned: AlignedPairs | None = None
    reading: Reading | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the page as JSON values."""
        examples = [pair.to_dict() | {"group": pair.group} for pair in self.pairs]
        about = self.task.to_dict() if self.task else {"name": self.pairs.task, "source": self.pairs.source}
        out: dict[str, object] = {"task": about, "split": self.pairs.split, "seed": self.pairs.seed}
        out |= {"corruption": self.pairs.corruption, "options": dict(self.pairs.options)}
        out |= {"digest": self.pairs.digest, "pairs": examples}
        if self.aligned is not None and self.reading is not None:
            out["model"] = self.reading.name
            out["tokens"] = [_tokens(self.aligned, self.reading, i) for i in range(len(self.aligned))]
            out["dropped"] = [drop.to_dict() for drop in self.aligned.dropped]
        return out

    def to_terminal(self) -> list[object]:
        """Fields of the task, then the pairs with positions in brackets."""
        about: dict[str, object] = {"name": self.pairs.task, "source": self.pairs.source}
        if self.task:
            about = self.task.to_dict() | {"corruptions": ", ".join(self.task.corruptions)}
            about["options"] = self.task.options | dict(self.pairs.options)
        about |= {"corruption": self.pairs.corruption, "split": self.pairs.split}
        parts: list[object] = [about]
        for pair in self.pairs:
            rows = {side: said for i, side in enumerate(("clean", "corrupted")) if (said := mark(pair, i))}
            rows |= _pictures(pair)
            rows |= {"correct": _listed(pair.correct), "incorrect": _listed(pair.incorrect)}
            parts += ["", {"pair": f"{pair.id}  {pair.group}"} | rows]
        if self.aligned is not None and self.reading is not None:
            parts += _aligned_parts(self.aligned, self.reading)
        return parts


def _pictures(pair: Pair) -> dict[str, str]:
    """Where the pictures of a pair are from, and its regions: patches of the clean / of the corrupted picture."""
    if pair.image is None:
        return {}
    rows = {f"{s} picture": p.source for s, p in zip(("clean", "corrupted"), pair.image, strict=True)}
    for name, sides in pair.regions.items():
        cells = [" ".join(map(str, side)) or "none" for side in sides]
        rows[f"region {name}"] = cells[0] if cells[0] == cells[1] else " / ".join(cells)
    return rows


def _tokens(aligned: AlignedPairs, reading: Reading, index: int) -> dict[str, Any]:
    def name(ids: list[int]) -> list[str]:
        return _names(reading, ids)

    return {
        "id": aligned.pairs[index].id,
        "clean": name(aligned.clean[index].tolist()),
        "corrupted": name(aligned.corrupted[index].tolist()),
        "correct": _answers(reading, aligned.correct[index]),
        "incorrect": _answers(reading, aligned.incorrect[index]),
        "positions": aligned.positions[index],
    }


def _answers(reading: Reading, ids: Sequence[int]) -> list[str]:
    """Names of answers: tokens, or classes where the model puts out classes."""
    classes = reading.outputs.classes
    return [classes[i] for i in ids] if classes else _names(reading, ids)


def _names(reading: Reading, ids: Sequence[int]) -> list[str]:
    """Tokens as the tokenizer writes them; numbers of positions where a model reads no text."""
    if reading.tokenizer is None:
        return list(map(str, ids))
    return list(reading.tokenizer.convert_ids_to_tokens(list(ids)))


def _aligned_parts(aligned: AlignedPairs, reading: Reading) -> list[object]:
    kept, total = len(aligned), len(aligned) + len(aligned.dropped)
    parts: list[object] = ["", {"model": reading.name, "aligned": f"{kept} of {total} pairs"}]
    if kept:
        tokens = _tokens(aligned, reading, 0)
        names: dict[int, str] = {}
        for name, index in aligned.positions[0].items():
            names[index] = f"{names[index]}, {name}" if index in names else name
        columns = zip(tokens["clean"], tokens["corrupted"], strict=True)
        parts.append(
            [
                {
                    "token": index,
                    "clean": a,
                    "corrupted": b if a != b else "",
                    "position": names.get(index, ""),
                }
                for index, (a, b) in enumerate(columns)
            ]
        )
    dropped = [{"dropped": drop.id, "reason": drop.reason} for drop in aligned.dropped[:20]]
    return [*parts, *([dropped] if dropped else [])]


def task_page(
    name: str,
    *,
    reading: Reading | None = None,
    n: int = 3,
    seed: int = 0,
    split: str = "test",
    corruption: str | None = None,
    options: Sequence[str] = (),
) -> TaskPage:
    """Return the page of a task by name or of a JSONL file's first ``n`` pairs; options as ``name=value``.

    With a model's reading, the task takes the form that its tokenizer can align, if there is one.

    Raises:
        TaskError: for an unknown task or a file that cannot be used.
    """
    if is_file(name):
        if corruption or options:
            raise TaskError(
                f"{name} is a file: its pairs are as they are, without corruption or options",
                hint="leave out --corruption and --task-option",
            )
        pairs = load_pairs(name)[:n]
        aligned = align_for(pairs, reading, minimum=0) if reading else None
        return TaskPage(task=None, pairs=pairs, aligned=aligned, reading=reading)
    task = get_task(name)
    chosen: dict[str, Any] = parse_options(task, options)
    asked: dict[str, Any] = {"n": n, "seed": seed, "split": split, "corruption": corruption}
    aligned = None
    if reading is not None:
        aligned = fit_pairs(name, reading.tokenizer, minimum=0, **asked, **reading.options, **chosen)
        chosen = dict(aligned.pairs.options)
    return TaskPage(task=task, pairs=make_pairs(name, **asked, **chosen), aligned=aligned, reading=reading)


def mark(pair: Pair, side: int) -> str:
    """Return a prompt with its positions in brackets: ``When [Mary:IO] and [John:S1] ...``.

    Line ends are written ``\\n``; of overlapping positions only the first is marked.
    """
    text = (pair.clean, pair.corrupted)[side]
    named: dict[Span, list[str]] = {}
    for name, spans in pair.positions.items():
        begin, end = spans[side]
        named.setdefault((begin, end), []).append(name)
    out, done = "", 0
    for (start, end), names in sorted(named.items()):
        if start >= done:
            out += f"{text[done:start]}[{text[start:end]}:{','.join(names)}]"
            done = end
    return (out + text[done:]).replace("\n", "\\n")


def _listed(answers: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(repr(answer) for answer in answers[:most])
    return f"{shown}, ... ({len(answers)} in all)" if len(answers) > most else shown
