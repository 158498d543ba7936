"""Examples of a task, with its named positions marked, as text and as one model's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.tasks.align import AlignedPairs
from workbench.tasks.pairs import Pair, Pairs, Span
from workbench.tasks.registry import Task

if TYPE_CHECKING:
    from workbench.tasks.for_model import Reading


@dataclass(frozen=True, kw_only=True)
class TaskPage:
    """What a task is, some of its pairs, and what one model's tokenizer makes of them."""

    task: Task
    pairs: Pairs
    aligned: AlignedPairs | None = None
    reading: Reading | None = None

    def to_dict(self) -> dict[str, object]:
        """The page as JSON values."""
        examples = [pair.to_dict() | {"group": pair.group} for pair in self.pairs]
        out: dict[str, object] = {
            "task": self.task.to_dict(),
            "split": self.pairs.split,
            "seed": self.pairs.seed,
        }
        out |= {"corruption": self.pairs.corruption, "options": dict(self.pairs.options)}
        out |= {"digest": self.pairs.digest, "pairs": examples}
        if self.aligned is not None:
            out["model"] = self.reading.name
            out["tokens"] = [self._tokens(index) for index in range(len(self.aligned))]
            out["dropped"] = [drop.to_dict() for drop in self.aligned.dropped]
        return out

    def _tokens(self, index: int) -> dict[str, object]:
        found, name = self.aligned, self.reading.tokenizer.convert_ids_to_tokens
        return {
            "id": found.pairs[index].id,
            "clean": name(found.clean[index].tolist()),
            "corrupted": name(found.corrupted[index].tolist()),
            "correct": name(list(found.correct[index])),
            "incorrect": name(list(found.incorrect[index])),
            "positions": found.positions[index],
        }

    def to_terminal(self) -> list[object]:
        """Fields of the task, then the pairs with positions in brackets."""
        about = self.task.to_dict() | {"corruption": self.pairs.corruption, "split": self.pairs.split}
        about["options"] = self.task.options | dict(self.pairs.options)
        about["corruptions"] = ", ".join(self.task.corruptions)
        parts: list[object] = [about]
        for pair in self.pairs:
            rows = {"clean": mark(pair, 0), "corrupted": mark(pair, 1)}
            rows |= {"correct": _listed(pair.correct), "incorrect": _listed(pair.incorrect)}
            parts += ["", {"pair": f"{pair.id}  {pair.group}"} | rows]
        if self.aligned is not None:
            parts += self._aligned_parts()
        return parts

    def _aligned_parts(self) -> list[object]:
        kept, total = len(self.aligned), len(self.aligned) + len(self.aligned.dropped)
        parts: list[object] = ["", {"model": self.reading.name, "aligned": f"{kept} of {total} pairs"}]
        if kept:
            tokens = self._tokens(0)
            names = {index: name for name, index in self.aligned.positions[0].items()}
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
        dropped = [{"dropped": drop.id, "reason": drop.reason} for drop in self.aligned.dropped[:20]]
        return [*parts, *([dropped] if dropped else [])]


def mark(pair: Pair, side: int) -> str:
    """A prompt with its positions in brackets: ``When [Mary:IO] and [John:S1] ...``.

    Line ends are written ``\\n``; of overlapping positions only the first is marked.
    """
    text = (pair.clean, pair.corrupted)[side]
    named: dict[Span, list[str]] = {}
    for name, spans in pair.positions.items():
        named.setdefault(tuple(spans[side]), []).append(name)
    out, done = "", 0
    for (start, end), names in sorted(named.items()):
        if start >= done:
            out += f"{text[done:start]}[{text[start:end]}:{','.join(names)}]"
            done = end
    return (out + text[done:]).replace("\n", "\\n")


def _listed(answers: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(repr(answer) for answer in answers[:most])
    return f"{shown}, ... ({len(answers)} in all)" if len(answers) > most else shown
