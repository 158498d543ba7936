"""How each kind of file is read: the public function that commands use, on the folder that has one of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Reader = Callable[[Path], Any]


def circuit(path: str) -> Reader:
    def read(root: Path) -> Any:
        from workbench.circuits.files import load_circuit

        return load_circuit(root / path)

    return read


def scores(root: Path) -> Any:
    from workbench.circuits.files import load_scores

    return load_scores(root / "circuit")


def effects(root: Path) -> Any:
    from workbench.circuits.files.effects_file import load_effects

    return load_effects(root / "sweep")


def record(root: Path) -> Any:
    """The record as it is listed, shown and loaded."""
    from workbench.core.errors import RunError
    from workbench.core.run_file import load_record
    from workbench.engine.run_folders.past_runs import find_runs, look_at

    folder = root / "sweep"
    if len([run.row() for run in find_runs([folder])]) != 1:
        raise AssertionError("the run is not listed")
    found = look_at(folder)
    found.to_dict(), found.to_terminal()
    if found.state == "unreadable":
        raise RunError(found.error, hint=found.hint)
    return load_record(folder)


def evaluation(root: Path) -> Any:
    from workbench.circuits.files.evaluation_file import load_evaluation

    return load_evaluation(root / "circuit")


def numbers(folder: str) -> Reader:
    """Results of a run as two runs are compared."""

    def read(root: Path) -> Any:
        from workbench.engine.run_folders.numbers import numbers_of

        return numbers_of(root / folder)

    return read


def verified(file: str) -> Reader:
    """What ``runs verify`` says of a file that no command reads; refused where it is not as it was written."""

    def read(root: Path) -> Any:
        from workbench.core.errors import RunError
        from workbench.engine.run_folders.verification import verify

        states = {f.path: f for f in verify([root / file.partition("/")[0]]).files}
        found = states[root / file]
        if found.state != "as written":
            raise RunError(f"{found.state}: {found.reason}")
        return found.state

    return read


def shard(root: Path) -> Any:
    from workbench.circuits.files.shard_file import load_shard

    return load_shard(root / "sharded" / "shard-1-of-2")


def plan(root: Path) -> Any:
    """Whether a sweep goes on under its plan."""
    from workbench.engine.store import SweepStore

    plan = json.loads((root / "plans" / "sweep.json").read_text("utf-8"))
    with SweepStore(root / "sweep", plan, resume=True) as store:
        return sorted(store.done())


def part(root: Path) -> Any:
    from workbench.engine.store import SweepStore

    plan = json.loads((root / "plans" / "sweep.json").read_text("utf-8"))
    with SweepStore(root / "sweep", plan, resume=True) as store:
        return store.get("b00000-l001", None)


def lock(root: Path) -> Any:
    from workbench.core.lock import holder, locked

    holder(root / "sweep")
    with locked(root / "sweep"):
        return "locked"


def portrait(root: Path) -> Any:
    from workbench.heads.table import load_portrait

    return load_portrait(root / "portrait")


def edit(folder: str) -> Reader:
    def read(root: Path) -> Any:
        from workbench.edits.file import describe_edit, load_edit

        described, edit = describe_edit(root / folder), load_edit(root / folder)
        return {"described": described, "settings": edit.to_dict(), "tensors": dict(edit.tensors())}

    return read


def measured(root: Path) -> Any:
    from workbench.edits.kept_measurement import load_measured

    return load_measured(root / "measured")


def replication(root: Path) -> Any:
    from workbench.core.run_record import digest_of
    from workbench.papers.kept_result import load_result

    plan = json.loads((root / "plans" / "replication.json").read_text("utf-8"))
    return load_result(root / "replication", digest_of(plan))


def steps(root: Path) -> Any:
    """The finished steps of a study, as it goes on from them."""
    from workbench.papers.studies.carried_out import _claim

    plan = json.loads((root / "plans" / "reproduction.json").read_text("utf-8"))
    return _claim(root / "reproduction", plan, True, lambda text: None)


def cell(root: Path) -> Any:
    from workbench.bench.cells import Shelf

    shelf = Shelf(root / "bench")
    decided = json.loads((root / "plans" / "cell.json").read_text("utf-8"))
    return {"cell": shelf.get(decided), "scores": shelf.scores(decided)}


def bench(root: Path) -> Any:
    from workbench.bench.table import load_bench

    return load_bench(root / "bench")


def pairs(file: str) -> Reader:
    def read(root: Path) -> Any:
        from workbench.tasks.pairs_file import scan_pairs

        return scan_pairs(root / file)

    return read


def import_from(tool: str, file: str, *, ids: bool = False) -> Reader:
    def read(root: Path) -> Any:
        from workbench.tasks.importers import Request, import_pairs

        return import_pairs(
            tool, root / "foreign" / file, request=Request(tokenizer=_words(root) if ids else None)
        )

    return read


_tokenizers: dict[Path, Any] = {}


def _words(root: Path) -> Any:
    from workbench.model.tokenizers import load_tokenizer

    if root not in _tokenizers:
        _tokenizers[root] = load_tokenizer(root / "model")
    return _tokenizers[root]


def graph(keep: str | None) -> Reader:
    def read(root: Path) -> Any:
        from workbench.circuits.files.importers import import_circuit

        return import_circuit(root / "foreign" / "graph.json", keep=keep)

    return read


def model(folder: str) -> Reader:
    def read(root: Path) -> Any:
        from workbench.model.open import open_model
        from workbench.model.outline import outline

        outline(str(root / folder))
        return open_model(root / folder, device="cpu")

    return read


def state(file: str) -> Reader:
    def read(root: Path) -> Any:
        from workbench.model.legacy import read_state

        return read_state(root / "checkpoint" / file)

    return read


def legacy_config(root: Path) -> Any:
    from workbench.model.legacy_config import read_config

    return read_config(root / "checkpoint" / "cfg.json")


def vocabulary(root: Path) -> Any:
    from workbench.model.legacy_vocabulary import Vocabulary

    return Vocabulary(path=root / "checkpoint" / "vocab.txt", unk="PAD").read(12)


def whole_import(root: Path) -> Any:
    """The whole import: the model that was made computes what its checkpoint defines, or it is refused."""
    import tempfile

    from workbench.model.legacy import import_checkpoint
    from workbench.model.open import open_model

    with tempfile.TemporaryDirectory(dir=root) as folder:
        made = Path(folder) / "made"
        import_checkpoint(root / "checkpoint" / "weights.pt", made, config=root / "checkpoint" / "cfg.json")
        return open_model(made, device="cpu")


def corpus(root: Path) -> Any:
    from workbench.heads.grounds import read_corpus

    return read_corpus([root / "foreign" / "corpus.txt"])


def page(root: Path) -> Any:
    from workbench.circuits.files.markdown import replace_part

    page = root / "foreign" / "page.md"
    before = page.read_bytes()
    replace_part(page, "<!-- begin -->", "<!-- end -->", "new")
    return before


def own_metric(root: Path) -> Any:
    from workbench.engine.metrics import get_metric

    return get_metric(f"{root / 'foreign' / 'metric.py'}:first").name
