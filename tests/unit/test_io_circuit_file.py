"""Circuit and score files: written whole, read back equal, valid against their schema."""

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import networkx as nx
import numpy as np
import pytest

from tests.circuits import GROUPED, POST_NORM, TWO, circuit, hostile, scores, small
from workbench.circuits.files import load_circuit, load_scores, save_circuit, save_scores, write_atomic
from workbench.circuits.files.folder import check, find_circuits
from workbench.circuits.graph import GraphShape
from workbench.core.errors import CircuitError, RunError

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((files("workbench.circuits.files") / "schema" / "circuit.schema.json").read_text())
CASES = {
    "small": small,
    "hostile": lambda: small(prompt=("<script>", "\x1b", 'a"b'), task="é\n\u2028"),
    "grouped": lambda: scores(GROUPED).top(60),
    "post-norm": lambda: scores(POST_NORM).top(30),
    "nodes": lambda: scores(TWO, level="node").top(3),
    "empty": lambda: circuit({}),
    "positions": lambda: circuit({"input@2->a0.h0<v>@end": 1.0, "a0.h0@end->logits@end": -1.0}),
    "no MLPs": lambda: scores(GraphShape(n_layers=2, n_heads=2, n_kv_heads=2, mlp_layers=())).top(9),
}


@pytest.mark.parametrize("name", CASES)
def test_a_circuit_survives_a_round_trip(name, tmp_path):
    made = CASES[name]()
    again = load_circuit(save_circuit(made, tmp_path / "c"))
    assert again.to_dict() == made.to_dict()
    assert again.edges == made.edges and again.nodes == made.nodes and again.prompt == made.prompt
    assert list(again.edges) == list(made.edges)
    assert nx.utils.graphs_equal(again.network, made.network)


@pytest.mark.parametrize("name", CASES)
def test_files_are_valid_against_the_schema(name, tmp_path):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    written = json.loads(save_circuit(CASES[name](), tmp_path / "x.json").read_text())
    jsonschema.validate(written, SCHEMA)


def test_networkx_reads_the_graph_of_a_file(tmp_path):
    made = small()
    data = json.loads(save_circuit(made, tmp_path).read_text())["graph"]
    assert nx.utils.graphs_equal(
        nx.node_link_graph(data, edges="edges", multigraph=True), nx.MultiDiGraph(made.network)
    )


def test_hostile_text_but_lone_surrogates_is_kept(tmp_path):
    made = hostile()
    assert load_circuit(save_circuit(made, tmp_path)).prompt == made.prompt


def test_saving_to_a_folder_or_a_file(tmp_path):
    assert save_circuit(small(), tmp_path / "run").name == "circuit.json"
    assert save_circuit(small(), tmp_path / "mine.json").name == "mine.json"
    assert load_circuit(tmp_path / "run").n_edges == load_circuit(tmp_path / "mine.json").n_edges == 6


def test_numbers_of_numpy_and_paths_are_written_plainly(tmp_path):
    made = small(evaluation={"f": np.float32(0.5), "n": np.int64(3), "rows": (np.array([1.0, 2.0]),)})
    assert load_circuit(save_circuit(made, tmp_path)).evaluation == {"f": 0.5, "n": 3, "rows": [[1.0, 2.0]]}


@pytest.mark.parametrize(
    ("evaluation", "where"),
    [({"f": float("nan")}, "evaluation.f"), ({"a": [1, {"b": np.inf}]}, r"evaluation.a\[1\].b"),
     ({"x": object()}, "evaluation.x"), ({1: 2}, "evaluation")],
)  # fmt: skip
def test_what_json_cannot_hold_is_refused_and_nothing_written(evaluation, where, tmp_path):
    save_circuit(small(), tmp_path)
    with pytest.raises(CircuitError, match=where):
        save_circuit(small(evaluation=evaluation), tmp_path)
    assert load_circuit(tmp_path).evaluation == {"faithfulness": 0.75, "n_pairs": 100}


def test_atomic_writes_replace_and_leave_nothing_behind(tmp_path):
    path = write_atomic(tmp_path / "deep" / "x.txt", "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two" and os.listdir(path.parent) == ["x.txt"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_atomic_writes_keep_the_old_file_when_they_fail(tmp_path, monkeypatch):
    path = write_atomic(tmp_path / "x", "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(RunError, match="No space left") as caught:
        write_atomic(path, "new")
    assert "disk is full" in caught.value.hint
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x"]


def test_a_file_in_the_way_of_a_folder_is_explained(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_atomic(tmp_path / "a" / "b", "x")
    with pytest.raises(RunError, match="cannot write"):
        write_atomic(tmp_path, "x")


@pytest.mark.parametrize("level", ["edge", "node"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_survive_a_round_trip(level, dtype, tmp_path):
    made = scores(GROUPED, level=level)
    made = replace(made, values=made.values.astype(dtype), options={"steps": 5})
    again = load_scores(save_scores(made, tmp_path))
    assert np.array_equal(again.values, made.values, equal_nan=True) and again.values.dtype == dtype
    assert again.graph.shape == made.graph.shape and dict(again.options) == {"steps": 5}
    assert again.top(10).edges == made.top(10).edges


def test_scores_are_plain_safetensors(tmp_path):
    from safetensors.numpy import load_file

    made = scores()
    assert np.array_equal(load_file(save_scores(made, tmp_path))["values"], made.values, equal_nan=True)


def test_broken_scores_are_explained(tmp_path):
    from safetensors.numpy import save_file

    path = save_scores(scores(), tmp_path)
    whole = path.read_bytes()
    for n in range(0, len(whole), 37):
        path.write_bytes(whole[:n])
        with pytest.raises(CircuitError):
            load_scores(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(CircuitError):
        load_scores(path)
    save_file({"values": np.zeros(3)}, path)
    with pytest.raises(CircuitError, match="not one of scores"):
        load_scores(path)
    with pytest.raises(CircuitError, match="no file"):
        load_scores(tmp_path / "none.safetensors")


def test_a_folder_lists_good_and_broken(tmp_path):
    save_circuit(small(), tmp_path / "ioi" / "gpt2" / "a-1")
    (tmp_path / "ioi" / "gpt2" / "b-2").mkdir()
    (tmp_path / "ioi" / "gpt2" / "b-2" / "circuit.json").write_text("{")
    good, broken = find_circuits(tmp_path)
    assert good.to_dict()["edges"] == 6 and good.to_dict()["faithfulness"] == 0.75 and not good.problem
    assert "not complete JSON" in broken.problem
    with pytest.raises(CircuitError, match="no folder"):
        find_circuits(tmp_path / "none")


def test_scores_of_another_model_beside_a_circuit_are_found(tmp_path):
    save_circuit(small(), tmp_path)
    save_scores(scores(GROUPED), tmp_path)
    assert "another architecture" in check(tmp_path).problem


WRITER = """
import sys
from workbench.circuits.files import write_atomic
for i in range(150):
    write_atomic(sys.argv[1], sys.argv[2] * 20000)
"""


def test_two_processes_writing_one_file_never_mix(tmp_path):
    path = tmp_path / "x"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), letter]) for letter in "ab"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            text = path.read_text()
            assert text in ("a" * 20000, "b" * 20000)
            seen.add(text[0])
    assert [writer.returncode for writer in writers] == [0, 0] and seen
    assert os.listdir(tmp_path) == ["x"]


LIMITED = """
import resource, signal, sys
from workbench.circuits.files import save_circuit
from workbench.core.errors import RunError
from tests.circuits import small
path = sys.argv[1]
save_circuit(small(), path)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    save_circuit(small(task="new"), path)
except RunError as problem:
    print(problem.message)
"""


def test_a_write_that_finds_no_room_leaves_the_old_file(tmp_path):
    """A real failing write: the process may write 500 bytes to a file."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "cannot write" in done.stdout
    assert load_circuit(tmp_path).task == "ioi" and os.listdir(tmp_path) == ["circuit.json"]
