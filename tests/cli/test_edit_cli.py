"""`workbench edit`: saved edits are listed, made and shown in no time, and as strictly as they are run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from workbench.core.errors import RunError
from workbench.edits.affine import Affine
from workbench.edits.file import describe_edit, load_edit, save_edit
from workbench.edits.masks import Mask, window
from workbench.edits.rows import Rows
from workbench.edits.stacked import stack

HALF = torch.tensor([[0.5, -1.25]])


@pytest.fixture
def both(tmp_path) -> Path:
    """A saved stack with tensors of every type that an edit has."""
    edits = [
        Rows(heads=("a1",), operation="drop", keys=(0,)),
        *(Affine(heads=("a0.h1",), a=HALF.to(t), b=HALF.to(t))
          for t in (torch.float64, torch.float32, torch.bfloat16, torch.float16)),
        Mask(heads=("a1.h0",), allowed=window(6, 2)),
    ]  # fmt: skip
    return save_edit(stack(edits), tmp_path / "both")


def test_looking_at_edits_imports_no_torch(tmp_path, both):
    """All commands in one process, through the whole `workbench`; then its modules are looked at."""
    words = ["--set", "heads=a1", "--set", "operation=drop", "--set", "keys=0"]
    commands = [["list"], ["show", str(both)], ["make", "rows", *words, "-o", str(tmp_path / "made")]]
    code = (
        "import sys, io, contextlib, json\n"
        "from cli.app import app\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        app(['edit', *command], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'pandas', 'networkx', 'jaxtyping'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stderr + done.stdout


def test_what_is_shown_is_what_is_run(run, both):
    code, out, _ = run("edit", "show", both, "--json")
    shown, edit = json.loads(out), load_edit(both)
    assert code == 0 and shown["edit"] == edit.describe() and shown["edits"] == edit.to_dict()["edits"]
    assert shown["tensors"] == {name: list(t.shape) for name, t in edit.tensors().items()}
    assert "mask of 6 tokens (31% allowed)" in shown["edit"]  # 1 + 5 * 2 of 36


@pytest.mark.parametrize("harm", ["bytes", "cut", "missing", "type", "shape"])
def test_showing_is_as_strict_as_loading(both, harm):
    file = both / "edit.safetensors"
    if harm == "bytes":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(bytes(data))
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    elif harm == "missing":
        file.unlink()
    else:
        wrong = HALF.int() if harm == "type" else HALF[0]
        save_file({"a": wrong.clone(), "b": HALF}, file)
        save_only(both, file)
    for read in (load_edit, describe_edit):
        with pytest.raises(RunError):
            read(both)


def save_only(folder: Path, tensors: Path) -> None:
    """A description of one affine edit whose digest fits the tensors that are there."""
    import hashlib

    told = {"kind": "affine", "heads": ["a0.h1"], "positions": None, "when": "all"}
    told["tensors"] = hashlib.sha256(tensors.read_bytes()).hexdigest()
    text = json.dumps({"format": "circuit-workbench/edit", "version": 1, **told})
    (folder / "edit.json").write_text(text)


def test_an_edit_of_heads_that_are_not_there_is_not_saved(run, tmp_path):
    words = ["edit", "make", "rows", "--set", "operation=drop", "--set", "keys=0", "--set"]
    for text, found in (("a9.h99", "no attention layer 9"), ("a1,a3.h4", "a3.h4: layer 3 has heads 0 to 3")):
        code, out, err = run(*words, f"heads={text}", "-m", "zoo:ioi", "-o", "bad")
        assert code == 1 and out == "" and found in err and "hint: its heads are a0.h0 to a3.h3" in err
    code, out, err = run(*words, "heads=m1", "-o", "bad")
    assert code == 1 and out == "" and "m1 is not a head" in err
    assert not list(tmp_path.iterdir())
    assert run(*words, "heads=a3.h3,a1", "-m", "zoo:ioi", "-o", "good")[0] == 0
    assert run(*words, "heads=a9.h99", "-o", "elsewhere")[0] == 0  # some model has it
    code, out, err = run("edit", "measure", "elsewhere", "-m", "zoo:ioi", "-t", "ioi", "-q")
    assert code == 1 and out == "" and "no attention layer 9; it has 0 to 3" in err and "hint" in err
