"""The portrait of a model's heads as a table: a row per head, a column per measurement, evidence kept apart.

No torch here: a saved portrait is shown, sorted and exported without a model.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from workbench.circuits import addresses as names
from workbench.core.atomic import file_at, write_output
from workbench.core.digest import table_blocks
from workbench.core.errors import OptionError, WorkbenchError, expect_path, unknown
from workbench.core.file_kind import Origin
from workbench.core.run_record import measured_on
from workbench.core.show import Shown, needed_face, saves
from workbench.core.strict_json import dump
from workbench.core.text import printable
from workbench.heads.every_head import Measurement, number_or_none
from workbench.heads.file import HEADS_TABLE, KEY, PORTRAIT, PortraitContent

EVIDENCE: Mapping[str, str] = {
    "read-out": "where a head looks or what it writes, in a forward pass that nothing changes",
    "weight": "what its weights would do, whatever the text",
    "causal": "what changes when it is taken away",
}
LABEL = 0.3  # a score from here on commonly names a head: "previous-token head"
FEWEST = 4  # sequences; a score of fewer names nothing
LABELS = ("previous-token", "duplicate-token", "induction", "retrieval")
COLUMNS = (
    *("previous-token", "duplicate-token", "induction", "induction-copying", "retrieval", "retrieval-forced"),
    *("sink-share", "first-token", "later-sinks", "separator", "entropy", "distance", "waad", "locality"),
    *("ov-copying", "ov-copying-effective", "copy-score", "negative-copy-score", "qk-matching"),
    *("qk-matching-effective", "q-composition", "k-composition", "v-composition", "loss"),
    *("neighbor-strength", "hop-distance", "ring-0", "ring-1", "ring-2", "ring-far"),
    *("within-object", "to-other-object", "class-to-itself", "class-from-patches"),
    *("object-mass", "other-object-mass"),
    *("rank-error", "key-bias", "key-dimension", "fidelity-predicted", "fidelity", "cka", "sensitivity"),
    *(
        f"{name}-{kind}"
        for kind in ("colour", "shape", "size", "place", "exist", "count")
        for name in ("image", "asked", "others", "word-asked", "word-others")
    ),
)
# What a terminal has room for, in this order; all measurements are in the JSON, the Parquet file and the page.
SHOWN = (
    *(
        "induction",
        "previous-token",
        "duplicate-token",
        "retrieval",
        "sink-share",
        "first-token",
        "later-sinks",
        "separator",
    ),
    *("entropy", "distance", "ov-copying", "copy-score", "qk-matching", "loss"),
    *("ring-0", "ring-1", "ring-2", "ring-far", "hop-distance", "within-object", "to-other-object"),
    *("class-to-itself", "class-from-patches", "object-mass", "other-object-mass"),
    *("rank-error", "key-bias", "key-dimension", "fidelity-predicted", "fidelity", "cka", "sensitivity"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Portrait(Shown, shown_in="workbench.heads.show.portrait", saved_in="workbench.heads.table"):
    """What every head of a model does, whatever the task is: rows are heads, columns measurements.

    Attributes:
        grounds: What the heads were looked at on.
        notes: What could not be measured or was done differently, in words.
        provenance: What decides the numbers: model, weights, precision, seed, sources.
        tower: The stack of the model that the heads are of; None is its own.
        file_notes: What is to be said of the file that it was read from; not written to files.

    Example:
        >>> import workbench as wb
        >>> portrait = wb.portrait(wb.open_model("zoo:ioi"), n=2)
        >>> len(portrait.heads), portrait.title, [head for head, _ in portrait.top("induction", 2)]
        (16, 'Heads of zoo:ioi', ['a3.h1', 'a3.h3'])
        >>> portrait.to_dataframe().shape[0] == len(portrait.rows()), len(portrait.heatmaps()) > 10
        (True, True)
    """

    model: str
    n_layers: int
    n_heads: int
    attention_layers: tuple[int, ...]
    measurements: tuple[Measurement, ...]
    grounds: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any]
    tower: str | None = None
    file_notes: tuple[str, ...] = ()

    @property
    def heads(self) -> tuple[str, ...]:
        """Addresses, layer by layer; layers without attention have none."""
        places = ((n, h) for n in self.attention_layers for h in range(self.n_heads))
        return tuple(str(replace(names.head(n, h), tower=self.tower)) for n, h in places)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(m.key for m in self.measurements)

    @property
    def title(self) -> str:
        """``Heads of zoo:ioi``, and what must be said of the sequences they were looked at on."""
        few = [sentence for g in self.grounds if (sentence := shortfall(g))]
        whose = f"the {self.tower} tower of {self.measured_on}" if self.tower else self.measured_on
        return f"Heads of {whose}" + (f" ({'; '.join(few)})" if few else "")

    def __getitem__(self, key: str) -> Measurement:
        for measurement in self.measurements:
            if measurement.key == key:
                return measurement
        raise unknown("measurement", key, self.keys, error=OptionError)

    def __contains__(self, key: object) -> bool:
        return key in self.keys

    def label(self, head: str) -> str:
        """Return kinds of head that its scores on random tokens name, at ``LABEL`` or above."""
        node = names.parse_node(head, towers=True)
        known = [k for k in LABELS if k in self and self[k].n >= FEWEST]
        return ", ".join(k for k in known if self[k].values[node.layer, node.index] >= LABEL)

    def rows(self, *, sort: str | None = None) -> list[dict[str, Any]]:
        """Return one mapping per head: ``head``, ``layer``, ``index``, ``label``, and a number per column (None for
        none).

        Args:
            sort: A column, largest first, heads without a value last; by default in order of layer and head.

        Raises:
            OptionError: for an unknown column.
        """
        found = []
        for head in self.heads:
            node = names.parse_node(head, towers=True)
            at = node.place
            row: dict[str, Any] = {
                "head": head, "layer": node.layer, "index": node.index, "label": self.label(head)
            }  # fmt: skip
            for m in self.measurements:
                row[m.key] = number_or_none(float(m.values[at]))
                if m.partners is not None:
                    row[f"{m.key} with"] = m.partners[at[0]][at[1]]
            found.append(row)
        if sort is None:
            return found
        values = self[sort].values
        order = [float(values[row["layer"], row["index"]]) for row in found]
        ranked = sorted(range(len(found)), key=lambda i: (np.isnan(order[i]), -order[i], i))
        return [found[i] for i in ranked]

    def top(self, key: str, n: int = 5) -> list[tuple[str, float]]:
        """Return the n heads with the largest values of a column."""
        rows = [row for row in self.rows(sort=key) if row[key] is not None]
        return [(row["head"], row[key]) for row in rows[:n]]

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``portrait.json``, with its digest; NaN is null."""
        return PORTRAIT.document(self._content())

    def _content(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "n_layers": self.n_layers,
            "n_heads": self.n_heads,
            "attention_layers": list(self.attention_layers),
            "grounds": [dict(g) for g in self.grounds],
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
            "measurements": [m.to_dict() for m in self.measurements],
            **({"tower": self.tower} if self.tower else {}),
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """Return the document as text; also written to ``path``."""
        text = dump(self.to_dict(), where="the portrait", indent=1)
        if path is not None:
            write_output(Path(path), text)
        return text

    def to_dataframe(self, *, sort: str | None = None):
        """One row per head, standard errors and null values in columns of their own."""
        import pandas as pd

        rows = self.rows(sort=sort)
        for row in rows:
            at = (row["layer"], row["index"])
            for m in self.measurements:
                if m.stderr is not None:
                    row[f"{m.key} stderr"] = number_or_none(m.stderr[at])
                row[f"{m.key} null"] = number_or_none(m.null[at])
        frame = pd.DataFrame(rows)
        numeric = [c for m in self.measurements for c in (m.key, f"{m.key} stderr", f"{m.key} null")]
        here = [c for c in numeric if c in frame.columns]
        return frame.astype({c: float for c in here})

    def to_parquet(self, path: str | Path) -> Path:
        """Return the table as Parquet; evidence, units, bounds and notes are in the file's metadata.

        Raises:
            WorkbenchError: if pyarrow is not installed.
        """
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise WorkbenchError("Parquet needs pyarrow", hint="pip install pyarrow") from None
        content = self._content()
        for measurement in content["measurements"]:
            for name in ("values", "stderr", "null", "partners"):
                del measurement[name]
        table = pa.Table.from_pandas(self.to_dataframe(), preserve_index=False)
        document = HEADS_TABLE.document(content, blocks=table_blocks(table, own=KEY))
        told = {**(table.schema.metadata or {}), KEY: json.dumps(document, allow_nan=False).encode()}
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(told), buffer, write_page_checksum=True)
        write_output(Path(path), buffer.getvalue())
        return Path(path)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "the portrait") -> Portrait:
        """Return the portrait of a document.

        Raises:
            WorkbenchError: if it is none, of a version that this workbench does not read, or was changed.
        """
        content, origin = PORTRAIT.check(data, where=where)
        PORTRAIT.say(origin)
        return cls._of(content, origin)

    @classmethod
    def _of(cls, content: PortraitContent, origin: Origin) -> Portrait:
        return cls(
            model=content.model,
            n_layers=content.n_layers,
            n_heads=content.n_heads,
            attention_layers=tuple(content.attention_layers),
            measurements=tuple(Measurement.of(m) for m in content.measurements),
            grounds=tuple(msgspec.to_builtins(content.grounds)),
            notes=tuple(content.notes),
            provenance=content.provenance,
            tower=None if content.tower is UNSET else content.tower,
            file_notes=origin.notes,
        )

    def heatmaps(self) -> dict[str, str]:
        """Column -> layer x head heatmap as SVG."""
        return needed_face("heatmaps", type(self))(self)

    @property
    def measured_on(self) -> str:
        """The model, with what stood on it."""
        return measured_on(self.model, self.provenance)

    def __repr__(self) -> str:
        grounds = " and ".join(str(g["name"]) for g in self.grounds)
        what = f"{len(self.heads)} heads, {len(self.keys)} measurements"
        few = "".join(f"; {sentence}" for g in self.grounds if (sentence := shortfall(g)))
        return printable(f"<Portrait of {self.measured_on}: {what}, on {grounds}{few}>")


@saves(Portrait)
def save_portrait(portrait: Portrait, path: str | os.PathLike[str]) -> Path:
    """Write a portrait, whole or not at all; a path without ``.json`` is a folder: its ``portrait.json``."""
    return write_output(file_at(path, "portrait.json"), portrait.to_json())


def load_portrait(path: str | Path) -> Portrait:
    """Read a ``portrait.json``, strictly.

    Returns:
        The portrait: ``(layer, head)`` values with units and bounds.

    Raises:
        WorkbenchError: if it is missing, cut off, changed, or no portrait of a version we know.

    Example:
        >>> import workbench as wb
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> portrait = wb.portrait(wb.open_model("zoo:ioi"), n=2)
        >>> wb.load_portrait(wb.save(portrait, Path(mkdtemp()))).model
        'zoo:ioi'
    """
    expect_path(path)
    file = Path(path) / "portrait.json" if os.path.isdir(path) else Path(path)
    opened = PORTRAIT.load(file)
    return Portrait._of(opened.content, opened.origin)


def check_column(key: str) -> None:
    """Do nothing if there is such a column in some portrait.

    Raises:
        OptionError: if not, with the closest names.
    """
    if key.removesuffix("@text") not in COLUMNS:
        raise unknown("measurement", key, COLUMNS, error=OptionError)


def shortfall(ground: Mapping[str, Any]) -> str:
    """Say that a ground has fewer different sequences than were asked for; empty where it has enough.

    >>> shortfall({"name": "random", "n": 6, "distinct": 6, "asked": 16})
    'random: 6 different sequences, 16 were asked for'
    """
    different, asked = ground.get("distinct"), ground.get("asked")  # absent in portraits of earlier versions
    if different is None or asked is None or different >= asked:
        return ""
    return f"{ground['name']}: {different} different sequences, {asked} were asked for"


def reasons(measurements: Sequence[Measurement]) -> dict[str, list[str]]:
    """Say why values are missing -> the columns concerned."""
    found: dict[str, list[str]] = {}
    for m in measurements:
        for why, layers in m.missing.items():
            name = "layer" if len(layers) == 1 else "layers"
            where = f" ({name} {', '.join(map(str, layers))})" if layers else ""
            found.setdefault(why + where, []).append(m.key)
    return found
