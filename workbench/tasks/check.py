"""Does a file of pairs work, line by line, with a model's tokenizer?"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workbench.core.show import Shown
from workbench.tasks.alignment import KINDS, AlignedPairs, count_words
from workbench.tasks.pairs_file import PairsFile, Problem, scan_pairs, scan_stream
from workbench.tasks.reading import Reading, align_for


@dataclass(frozen=True, kw_only=True)
class CheckReport(Shown, shown_in="workbench.tasks.show"):
    """What passed and what did not, with line numbers; the lengths are tokens of the pairs that passed."""

    file: str
    model: str
    n_pairs: int
    n_good: int
    problems: tuple[Problem, ...]
    words: dict[str, int]
    lengths: tuple[int, int] | None = None
    positions: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether every line can be used."""
        return not self.problems and self.n_good > 0

    def to_dict(self) -> dict[str, object]:
        """Return the report as JSON values."""
        return {
            "file": self.file,
            "model": self.model or None,
            "passes": self.passes,
            "n_pairs": self.n_pairs,
            "n_good": self.n_good,
            "tokens": list(self.lengths) if self.lengths else None,
            "positions": list(self.positions),
            "words_at_fault": self.words,
            "problems": [{"line": p.line, "id": p.id, "problem": p.message} for p in self.problems],
        }


def check_pairs(path: str | Path, *, reading: Reading | None = None) -> CheckReport:
    """Check the format of a JSONL file and, with a model's reading, how its pairs align.

    Args:
        path: The file; ``-`` is standard input.

    Returns:
        What was found: problems with their lines, and how many pairs align.

    Raises:
        TaskError: if the file cannot be opened.

    Example:
        >>> import workbench as wb
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> file = wb.save(wb.make_pairs("ioi", n=3), Path(mkdtemp()) / "mine.jsonl")
        >>> wb.check_pairs(file).passes
        True
    """
    found = scan_stream(sys.stdin.buffer, "-") if str(path) == "-" else scan_pairs(path)
    problems = list(found.problems)
    aligned: AlignedPairs | None = None
    if reading is not None and len(found.pairs):
        aligned = align_for(found.pairs, reading, minimum=0)
        problems += _dropped(found, aligned)
    good = found.pairs if aligned is None else aligned.pairs
    lengths = [] if aligned is None else [len(ids) for ids in aligned.clean]
    return CheckReport(
        file=str(path),
        model=reading.name if reading else "",
        n_pairs=len(found.pairs) + len({p.line for p in found.problems if p.line}),
        n_good=len(good),
        problems=tuple(sorted(problems, key=lambda problem: problem.line)),
        words={} if aligned is None else dict(count_words(aligned.dropped)),
        lengths=(min(lengths), max(lengths)) if lengths else None,
        positions=good.position_names if len(good) else (),
    )


def _dropped(found: PairsFile, aligned: AlignedPairs) -> Iterable[Problem]:
    line_of = {pair.id: line for pair, line in zip(found.pairs, found.lines, strict=True)}
    for drop in aligned.dropped:
        yield Problem(line=line_of[drop.id], id=drop.id, message=f"{KINDS[drop.kind]}: {drop.reason}")
