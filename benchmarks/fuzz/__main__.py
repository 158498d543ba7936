"""Damage files of every kind, thousands of times, and count what the workbench makes of them.

    OMP_NUM_THREADS=1 python -m benchmarks.fuzz --files 10000 --commands 200 --seed 0 --json counts.json --keep faults

Every file is read in a process that is watched. Good are: refused in one explained message; read as before; said to
be changed; read as an independent reader reads it. Exit code 3 if a file gave another traceback, was read as something
else without a word, took over 10 seconds or over 1 GB, or ended the process.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz.commands import EXITS, counts_of, run_command
from benchmarks.fuzz.corpus import build
from benchmarks.fuzz.kinds import KINDS, Kind, prepare
from benchmarks.fuzz.worker import FAULTS, GOOD, Watched
from workbench.circuits.files.markdown import replace_part

EXIT_CODES = tuple(f"exit {code}" for code in EXITS)
BEGIN, END = "<!-- counts: python -m benchmarks.fuzz --docs PAGE -->", "<!-- end of counts -->"


@dataclass
class Tally:
    """What became of the files of one kind; ``faults`` are the first of each sort, in words."""

    kind: str
    oracle: str
    counts: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0

    def add(self, number: int, verdict: Any) -> None:
        self.counts[verdict.outcome] += 1
        self.slowest = max(self.slowest, verdict.seconds)
        self.largest = max(self.largest, verdict.bytes)
        if verdict.outcome in FAULTS and len(self.faults) < 200:
            self.faults.append(f"{number}: {verdict.outcome}: {verdict.words}")

    @property
    def wrong(self) -> int:
        return sum(self.counts[name] for name in FAULTS)

    def row(self, good: Sequence[str] = GOOD) -> dict[str, Any]:
        """Counts of everything that can become of a file."""
        counts = {name: self.counts[name] for name in (*good, *FAULTS)}
        return {"file": self.kind, "n": sum(self.counts.values()), **counts, "judged by": self.oracle}


def shares(kinds: Sequence[Kind], files: int) -> dict[str, int]:
    """How many files of each kind make up a number of files."""
    total, given, so_far = sum(kind.share for kind in kinds), {}, 0.0
    for kind in kinds:
        before, so_far = so_far, so_far + kind.share
        given[kind.name] = round(files * so_far / total) - round(files * before / total)
    return given


def read_all(
    kinds: Sequence[Kind], root: Path, *, files: int, seed: int, keep: Path | None, patience: float, say: Any
) -> list[Tally]:
    """Damage and read; the same seed damages alike."""
    named, tallies = {kind.name: kind for kind in kinds}, []
    with Watched(named, root, patience=patience) as watched:
        for name, count in shares(kinds, files).items():
            kind = named[name]
            tally = Tally(kind=name, oracle=kind.oracle)
            for number in range(count):
                data = kind.damaged(watched.good(name), random.Random(f"{seed}/{name}/{number}"))
                verdict = watched.read(name, data)
                tally.add(number, verdict)
                if verdict.outcome in FAULTS and keep is not None:
                    _keep(keep, name, number, data, verdict.words)
            if count:
                tallies.append(tally)
                say(tally)
    return tallies


def _keep(folder: Path, name: str, number: int, data: bytes, words: str) -> None:
    place = folder / name.replace("/", "-")
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{number:05d}.bin").write_bytes(data)
    (place / f"{number:05d}.txt").write_text(words, encoding="utf-8", errors="replace")


def replay(kinds: Sequence[Kind], root: Path, kept: Path, *, patience: float, say: Any) -> list[Tally]:
    """Read again what an earlier run kept."""
    named, tallies = {kind.name: kind for kind in kinds}, []
    with Watched(named, root, patience=patience) as watched:
        for kind in kinds:
            files = sorted((kept / kind.name.replace("/", "-")).glob("*.bin"))
            tally = Tally(kind=kind.name, oracle=kind.oracle)
            for file in files:
                tally.add(int(file.stem), watched.read(kind.name, file.read_bytes()))
            if files:
                tallies.append(tally)
                say(tally)
    return tallies


def read_commands(
    root: Path, *, commands: int, seed: int, keep: Path | None, patience: float, say: Any
) -> list[Tally]:
    """Give damaged files to the command line."""
    named, tallies = {kind.name: kind for kind in KINDS}, []
    for command, count in counts_of(commands):
        kind = named[command.kind]
        tally = Tally(
            kind=f"`{command.words.replace('{}/', '')}`: {kind.name}", oracle="exit code and output"
        )
        asked = {"numbers": range(count), "seed": seed, "patience": patience}
        for number, data, verdict in run_command(command, kind, root, **asked):
            tally.add(number, verdict)
            if verdict.outcome in FAULTS and keep is not None:
                _keep(keep / "commands", command.words.replace(" ", "-"), number, data, verdict.words)
        tallies.append(tally)
        say(tally)
    return tallies


def line(tally: Tally, most: int = 5) -> str:
    """One line of counts, and below it the first faults."""
    seen = ", ".join(f"{count} {name}" for name, count in sorted(tally.counts.items()) if count)
    wrong = "".join(f"\n  WRONG {text}" for text in tally.faults[:most])
    return f"{tally.kind}: {sum(tally.counts.values())} files: {seen} (slowest {tally.slowest:.1f} s){wrong}"


def table(tallies: Sequence[Tally], good: Sequence[str] = GOOD) -> str:
    """The counts in Markdown: one sentence with all faults, then a row for each kind of file."""
    rows = [tally.row(good) for tally in tallies]
    total = {name: sum(row[name] for row in rows) for name in ("n", *good, *FAULTS)}
    said = ", ".join(f"{total[name]} {name}" for name in (*good, *FAULTS))
    names = ["n", *good, "faults"]
    columns = ["file", *names, "judged by"]
    edge = "|".join("--:" if name in names else "---" for name in columns)
    lines = [f"{total['n']} files: {said}.", "", "| " + " | ".join(columns) + " |", f"|{edge}|"]
    for row, tally in zip(rows, tallies, strict=True):
        lines.append("| " + " | ".join(str({**row, "faults": tally.wrong}[name]) for name in columns) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000, help="files damaged and read in process")
    parser.add_argument("--commands", type=int, default=0, help="files damaged and given to the command line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=[kind.name for kind in KINDS], metavar="KIND")
    parser.add_argument("--keep", type=Path, help="folder for the files that were at fault")
    parser.add_argument("--replay", type=Path, help="read what an earlier run kept, and nothing else")
    parser.add_argument("--patience", type=float, default=10.0, help="seconds after which reading is a hang")
    parser.add_argument("--json", type=Path, help="write the counts there")
    parser.add_argument("--docs", type=Path, help="put the table between the marks of this page")
    parser.add_argument("--faults", type=int, default=5, help="faults of each kind that are printed")
    asked = parser.parse_args(arguments)
    kinds = [kind for kind in KINDS if asked.only is None or kind.name in asked.only]

    def say(tally: Tally) -> None:
        print(line(tally, asked.faults), flush=True)

    common = {"patience": asked.patience, "say": say}
    typed: list[Tally] = []
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = made(Path(folder) / "files", KINDS if asked.commands else kinds)
        if asked.replay is not None:
            read = replay(kinds, root, asked.replay, **common)
        else:
            drawn = {"seed": asked.seed, "keep": asked.keep, **common}
            read = read_all(kinds, root, files=asked.files, **drawn)
            typed = read_commands(root, commands=asked.commands, **drawn) if asked.commands else []
    tables = [table(read), *([table(typed, EXIT_CODES)] if typed else [])]
    if asked.json is not None:
        rows = {"files": [t.row() for t in read], "commands": [t.row(EXIT_CODES) for t in typed]}
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    if asked.docs is not None:
        replace_part(asked.docs, BEGIN, END, "\n\n".join(tables))
    print("\n\n".join(tables))
    return 3 if any(tally.wrong for tally in (*read, *typed)) else 0


def made(root: Path, kinds: Sequence[Kind]) -> Path:
    """The undamaged files of some kinds, and what their readers need beside them."""
    build(
        root, {kind.maker for kind in kinds} | ({"models"} if any("ioi" in k.name for k in kinds) else set())
    )
    prepare(root)
    if "torch" in sys.modules:  # few kinds need it
        sys.modules["torch"].set_num_threads(1)
    return root


if __name__ == "__main__":
    sys.exit(main())
