"""A result of our own, and its file: how many edges leave each kind of source."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from workbench.circuits.files.kinds import file_kind
from workbench.core.file_kind import FileKind
from workbench.core.show import Shown, loads, saves
from workbench.core.typed import Part


@dataclass(frozen=True)
class Tally(Shown, saved_in="lab_extras.tally"):
    """Edges of a circuit by the kind of their source."""

    counts: dict[str, int]

    @classmethod
    def of(cls, circuit):
        """Count a circuit's edges."""
        return cls(dict(Counter(edge.source.kind for edge in circuit.parsed_edges)))

    def to_dict(self):
        """What --json prints."""
        return {"counts": self.counts}


class TallyContent(Part):
    """What the file says."""

    counts: dict[str, int]


TALLY = file_kind(FileKind(format="lab/tally", content=TallyContent, what="a tally"), home=__name__)


@saves(Tally)
def save_tally(tally, path):
    return TALLY.save({"counts": tally.counts}, Path(path))


@loads("lab/tally")
def load_tally(path):
    return Tally(dict(TALLY.load(path).content.counts))
