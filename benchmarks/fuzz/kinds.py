"""Every kind of file that the workbench reads: where one lies, how it is read, how it is damaged, who judges it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fuzz import damage, pictures, readers
from benchmarks.fuzz import independent as other
from benchmarks.fuzz import independent_models as tensors
from benchmarks.fuzz.containers import parquet, safetensors, zip_members
from benchmarks.fuzz.damage import Damage, json_file, json_lines, lines
from benchmarks.fuzz.readers import Reader

OURS, OTHERS = "written by the workbench", "of other tools"
BEFORE = "the value before the damage"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of file.

    Attributes:
        file: The file that is damaged, in the folder of all files; a pattern where its name is a digest.
        maker: The function in ``corpus`` that makes it.
        read: The public function that reads it, on the folder of all files.
        ways: How it is damaged; bytes are damaged in any case.
        check: Judges what was read by reading the file independently; without it the value must be the one from
            before, or the reader must say that the file was changed.
        oracle: What judges it, in words.
        share: Of all files, how many are of this kind, relative to the others.
    """

    name: str
    family: str
    file: str
    maker: str
    read: Reader
    ways: tuple[Damage, ...] = ()
    check: Callable[[Path, Any], str] | None = None
    oracle: str = BEFORE
    share: float = 1.0

    def path(self, root: Path) -> Path:
        """The file in the folder of all files; the first that fits, where its name is a digest."""
        return sorted(root.glob(self.file))[0]

    def damaged(self, data: bytes, rng: damage.Rng) -> bytes:
        """The bytes of a damaged file of this kind."""
        own = self.ways and rng.random() < 0.6
        for _ in range(8):  # damage that changes nothing is no damage
            made = rng.choice(self.ways if own else damage.BYTES)(data, rng)
            if made != data:
                return made
        return data[:-1]


def ours(file: str, maker: str, read: Reader, *ways: Damage, name: str = "", share: float = 1.0) -> Kind:
    """A kind that the workbench writes; named like its file where no other name is given."""
    name = name or file.rpartition("/")[2]
    return Kind(name=name, family=OURS, file=file, maker=maker, read=read, ways=ways, share=share)


def theirs(
    name: str,
    file: str,
    read: Reader,
    check: other.Check,
    oracle: str,
    *ways: Damage,
    at: str = "",
    maker: str = "foreign",
    share: float = 1.0,
) -> Kind:
    """A kind that other tools write; ``check`` gets the file, or ``at``, and what was read."""
    place = at or file

    def judged(root: Path, found: Any) -> str:
        return check(root / place, found)

    common = {"name": name, "family": OTHERS, "file": file, "maker": maker, "read": read, "ways": ways}
    return Kind(**common, check=judged, oracle=oracle, share=share)


def _verified(file: str, maker: str, *ways: Damage) -> Kind:
    """A file that the workbench writes for people and other tools: ``runs verify`` finds any change of it."""
    name, read = f"{file.rpartition('/')[2]}, verified", readers.verified(file)
    judged = {"check": lambda root, found: "the change was not found", "oracle": "every change must be found"}
    return Kind(name=name, family=OURS, file=file, maker=maker, read=read, ways=ways, share=0.3, **judged)


def _csv(layout: str, rule: other.Wanted, *, ids: bool = False) -> Kind:
    file = f"foreign/{layout}.csv"
    read = readers.import_from("eap-ig", f"{layout}.csv", ids=ids)
    return theirs(f"EAP-IG csv, {layout}", file, read, other.csv_pairs(rule), "csv", lines, share=0.6)


def _in_model(folder: str, file: str, check: other.Check, oracle: str, *ways: Damage, name: str = "") -> Kind:
    """A file of a model directory, which is opened; few of them, since that takes a tenth of a second."""
    read, file = readers.model(folder), f"{folder}/{file}"
    name = name or file.rpartition("/")[2]
    return theirs(name, file, read, check, oracle, *ways, at=folder, maker="models", share=0.5)


def _picture(file: str, source: str, check: other.Check, oracle: str, *ways: Damage) -> Kind:
    """A picture beside pairs, as ``source`` names it."""
    read, name = pictures.read_picture(source), f"picture{Path(file).suffix}"
    return theirs(name, f"pictures/{file}", read, check, oracle, *ways, maker="pictures")


def _imported_config(path: Path, model: Any) -> str:
    return tensors.legacy_config(path, model.cfg.to_dict())


_SWEEP, _SHARD, _CELL = "sweep", "sharded/shard-1-of-2", "bench/cells/*"
_EDIT, _CHECKPOINT, _HEADER, _PLAIN = (
    "edit-with-tensors",
    "checkpoint",
    "pairs/header.jsonl",
    "pairs/plain.jsonl",
)
_JSON, _BY_LINE, _ARRAYS, _ZIP = (
    "json",
    "json, line by line",
    "struct, json and numpy",
    "zipfile with checksums",
)
_edit, _whole = readers.edit(_EDIT), tensors.weights("model.safetensors")

KINDS: tuple[Kind, ...] = (
    ours("circuit/circuit.json", "circuit", readers.circuit("circuit"), json_file, share=2),
    ours(
        "published/ioi/circuit.json",
        "published",
        readers.circuit("published/ioi"),
        json_file,
        name="published circuit",
    ),
    ours("circuit/scores.safetensors", "circuit", readers.scores, safetensors, share=2),
    ours("sweep/effects.parquet", _SWEEP, readers.effects, parquet, share=2),
    ours("sweep/run.json", _SWEEP, readers.record, json_file, share=2),
    ours("circuit/evaluation.json", "circuit", readers.evaluation, json_file, share=2),
    ours("faithfulness/faithfulness.json", "circuit", readers.numbers("faithfulness"), json_file),
    ours(f"{_SHARD}/shard.json", _SWEEP, readers.shard, json_file),
    ours("sweep/plan.json", _SWEEP, readers.plan, json_file),
    ours("sweep/shards/b00000-l001.safetensors", _SWEEP, readers.part, safetensors, name="part of a sweep"),
    ours("sweep/.lock", _SWEEP, readers.lock, lines, name="lock", share=0.2),
    ours("portrait/portrait.json", "portrait", readers.portrait, json_file, share=2),
    ours("edit/edit.json", "edits", readers.edit("edit"), json_file),
    ours(f"{_EDIT}/edit.json", "edits", _edit, json_file, name="edit.json with tensors", share=0.5),
    ours(f"{_EDIT}/edit.safetensors", "edits", _edit, safetensors, share=0.5),
    ours("measured/measured.json", "edits", readers.measured, json_file),
    ours("replication/replication.json", "replication", readers.replication, json_file, share=2),
    ours("reproduction/steps/writers.json", "reproduction", readers.steps, json_file, name="step of a study"),
    ours(
        "reproduction/plan.json", "reproduction", readers.steps, json_file, name="plan of a study", share=0.5
    ),
    ours("reproduction/study.json", "reproduction", readers.numbers("reproduction"), json_file, share=0.5),
    ours(f"{_CELL}.json", "bench", readers.cell, json_file, name="bench cell"),
    ours(
        f"{_CELL}.safetensors", "bench", readers.cell, safetensors, name="scores of a bench cell", share=0.5
    ),
    ours("bench/bench.json", "bench", readers.bench, json_file),
    _verified("sweep/heatmap.svg", _SWEEP, lines),
    _verified("portrait/heads.parquet", "portrait", parquet),
    _verified("portrait/atlas.html", "portrait", lines),
    _verified("replication/tables/table-01.csv", "replication", lines),
    theirs(
        "pairs, with a header",
        _HEADER,
        readers.pairs(_HEADER),
        other.pairs_of_lines,
        _BY_LINE,
        json_lines,
        lines,
        maker="pairs",
        share=2,
    ),
    theirs(
        "pairs, plain",
        _PLAIN,
        readers.pairs(_PLAIN),
        other.pairs_of_lines,
        _BY_LINE,
        json_lines,
        lines,
        maker="pairs",
        share=2,
    ),
    theirs(
        "pairs with pictures",
        "pictures/pairs.jsonl",
        pictures.read_pairs,
        other.pairs_of_lines,
        _BY_LINE,
        json_lines,
        lines,
        maker="pictures",
    ),
    _picture("a.png", "a.png", pictures.png_pixels, "zlib", pictures.png_chunks),
    _picture("a.npy", "a.npy", pictures.npy_pixels, "numpy", pictures.array_header),
    _picture("a.npz", "a.npz#left", pictures.npz_pixels, "numpy", zip_members),
    _csv("greater-than", other.later_years),
    _csv("gender-bias", other.pronouns),
    _csv("sva", other.verbs),
    _csv("hypernymy", other.listed),
    _csv("ioi", other.by_ids, ids=True),
    theirs(
        "auto-circuit json",
        "foreign/auto-circuit.json",
        readers.import_from("auto-circuit", "auto-circuit.json"),
        other.auto_circuit,
        _JSON,
        json_file,
    ),
    theirs(
        "MIB json", "foreign/mib.json", readers.import_from("mib", "mib.json"), other.mib, _JSON, json_file
    ),
    theirs(
        "MIB jsonl",
        "foreign/mib.jsonl",
        readers.import_from("mib", "mib.jsonl"),
        other.mib,
        _BY_LINE,
        json_lines,
        lines,
    ),
    theirs("EAP-IG graph", "foreign/graph.json", readers.graph(None), other.eap_ig_graph, _JSON, json_file),
    theirs(
        "EAP-IG graph, scores",
        "foreign/graph.json",
        readers.graph("20"),
        other.eap_ig_scores,
        _JSON,
        json_file,
        share=0.5,
    ),
    _in_model("model", "model.safetensors", _whole, _ARRAYS, safetensors),
    _in_model("model", "config.json", tensors.hf_config, _JSON, json_file),
    _in_model("model", "tokenizer.json", tensors.vocabulary, _JSON, json_file),
    _in_model("model", "tokenizer_config.json", tensors.special_tokens, _JSON, json_file),
    _in_model("model-in-shards", "model.safetensors.index.json", tensors.sharded, _ARRAYS, json_file),
    _in_model("model-in-shards", "model-00002-of-00002.safetensors", tensors.sharded, _ARRAYS, safetensors),
    _in_model("model-bin", "pytorch_model.bin", tensors.binary_weights, _ZIP, zip_members),
    _in_model("native", "tl_native.json", tensors.native_config, _JSON, json_file),
    _in_model("native", "model.safetensors", _whole, _ARRAYS, safetensors, name="native model.safetensors"),
    theirs(
        "checkpoint .pt",
        "checkpoint/weights.pt",
        readers.state("weights.pt"),
        tensors.zipped,
        _ZIP,
        zip_members,
        maker=_CHECKPOINT,
        share=2,
    ),
    theirs(
        "checkpoint .pt, old format",
        "checkpoint/old.pt",
        readers.state("old.pt"),
        tensors.unzipped,
        "pickle of tensors alone",
        maker=_CHECKPOINT,
    ),
    theirs(
        "checkpoint configuration",
        "checkpoint/cfg.json",
        readers.legacy_config,
        tensors.legacy_config,
        _JSON,
        json_file,
        maker=_CHECKPOINT,
    ),
    theirs(
        "checkpoint, imported",
        "checkpoint/cfg.json",
        readers.whole_import,
        _imported_config,
        _JSON,
        json_file,
        maker=_CHECKPOINT,
        share=0.4,
    ),
    theirs(
        "vocabulary",
        "checkpoint/vocab.txt",
        readers.vocabulary,
        other.words,
        "split at line ends",
        lines,
        maker=_CHECKPOINT,
    ),
    theirs("text for heads", "foreign/corpus.txt", readers.corpus, other.text, "open", lines, share=0.5),
    theirs(
        "page with marks",
        "foreign/page.md",
        readers.page,
        other.page_around,
        "the bytes outside the marks",
        lines,
        share=0.5,
    ),
    theirs(
        "metric of one's own",
        "foreign/metric.py",
        readers.own_metric,
        lambda path, name: "",
        "none: it is code",
        lines,
        share=0.3,
    ),
)


def prepare(root: Path) -> None:
    """Keep what readers need to ask their question as it is before any damage: plans, and what a cell is of."""
    plans = root / "plans"
    plans.mkdir(exist_ok=True)
    for name, pattern in (
        ("sweep.json", "sweep/plan.json"),
        ("replication.json", "replication/replication.json"),
        ("reproduction.json", "reproduction/plan.json"),
        ("cell.json", f"{_CELL}.json"),
    ):
        for file in sorted(root.glob(pattern))[:1]:
            document = json.loads(file.read_bytes())
            own = {k: v for k, v in document.items() if k not in ("format", "version", "digest")}
            asked = own.get("decided", own.get("plan", own))
            (plans / name).write_text(json.dumps(asked), encoding="utf-8")
