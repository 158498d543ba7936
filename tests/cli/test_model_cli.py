"""`workbench model`: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from cli.app import app
from tests.families import build_family, family_dir
from workbench.core.errors import ModelError, OptionError
from workbench.model import builtin as zoo

SETTINGS = {
    "n_layers": 1,
    "d_model": 8,
    "n_ctx": 6,
    "d_head": 4,
    "n_heads": 2,
    "d_vocab": 4,
    "attn_only": True,
}


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, ["model", *(str(a) for a in arguments)])


@pytest.fixture
def checkpoint(tmp_path):
    """A one-layer attention-only checkpoint without norms, of random tensors."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"embed.W_E": (4, 8), "pos_embed.W_pos": (6, 8), "unembed.W_U": (8, 4), "unembed.b_U": (4,)}
    shapes |= {f"blocks.0.attn.W_{s}": (2, 8, 4) for s in "QKV"} | {
        f"blocks.0.attn.b_{s}": (2, 4) for s in "QKV"
    }
    shapes |= {"blocks.0.attn.W_O": (2, 4, 8), "blocks.0.attn.b_O": (8,)}
    torch.save({k: torch.randn(v, generator=generator) for k, v in shapes.items()}, tmp_path / "weights.pt")
    (tmp_path / "cfg.json").write_text(json.dumps({**SETTINGS, "normalization_type": None}))
    (tmp_path / "vocab.txt").write_text("BOS\nPAD\nred\nblue\n")
    return tmp_path


def test_list_shows_every_card(run, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    assert "no built-in models" in run("list").stdout
    for name, parameters in (("big", 1_234_567), ("small", 8)):
        (tmp_path / name).mkdir()
        card = {"name": name, "title": f"the {name} one", "parameters": parameters, "bytes": 2_500_000}
        (tmp_path / name / "card.json").write_text(json.dumps(card))
    shown = run("list").stdout
    assert "zoo:big" in shown and "1,234,567" in shown and "2.5 MB" in shown and "the small one" in shown
    listed = json.loads(run("list", "--json").stdout)
    assert [card["name"] for card in listed] == ["zoo:big", "zoo:small"] and listed[0]["bytes"] == 2_500_000


def test_broken_card_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "card.json").write_text("{")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "card.json").write_text('{"title": "the good one"}')
    listed = json.loads(run("list", "--json").stdout)
    assert [(c["name"], bool(c["problem"])) for c in listed] == [("zoo:good", False), ("zoo:odd", True)]
    result = run("list")
    assert result.exit_code == 0 and "card.json is not complete JSON" in " ".join(result.stdout.split())


def test_list_does_not_import_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from cli.app import app; "
        "r = CliRunner().invoke(app, ['model', 'list']); assert r.exit_code == 0, r.output; "
        "print([m for m in ('torch', 'transformers', 'transformer_lens') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_show_prints_architecture_and_support(run):
    result = run("show", family_dir("llama"), "--device", "cpu")
    assert result.exit_code == 0
    assert "llama: 3 layers, 4 heads in 2 KV groups, d_model 32, RMS norm (pre)" in result.stdout
    assert "one per KV group: 2 heads share it" in result.stdout


def test_show_json_is_one_document(run):
    page = json.loads(run("show", family_dir("gpt-neox"), "--json").stdout)
    assert page["architecture"]["parallel"] and page["architecture"]["n_layers"] == 3
    assert page["identity"]["parity"] < 1e-4 and page["card"] is None
    assert page["architecture"]["support"]["edge-level"] == {"works": True, "why": ""}


def test_check_passes_a_good_model(run):
    result = run("check", family_dir("gemma2"), "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 0 and report["passes"]
    names = [check["check"] for check in report["checks"]]
    assert names == [
        "parity",
        "finite",
        "repeatable",
        "batching",
        "resuming",
        "direction",
        "live",
        "tokenizer",
    ]


def test_check_exits_3_when_something_fails(run, tmp_path):
    directory = build_family("llama", tmp_path)
    weights = load_file(directory / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    result = run("check", directory, "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 3 and not report["passes"]
    failed = {check["check"]: check["found"] for check in report["checks"] if not check["passes"]}
    assert failed["parity"] is None and failed["finite"] > 0
    assert "DOES NOT PASS" in run("check", directory).stdout


def test_check_holds_a_built_in_model_to_the_digest_of_its_card(run, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "ZOO", tmp_path)
    directory = build_family("native", tmp_path / "tiny")
    (directory / "card.json").write_text('{"weights": "0123"}')
    result = run("check", "zoo:tiny", "--json")
    assert result.exit_code == 3
    assert [c["check"] for c in json.loads(result.stdout)["checks"] if not c["passes"]] == ["card"]
    digest = json.loads(run("show", "zoo:tiny", "--json").stdout)["identity"]["digest"]
    (directory / "card.json").write_text(json.dumps({"weights": digest}))
    assert run("check", "zoo:tiny").exit_code == 0


def test_what_cannot_be_opened_is_an_explained_error(run, tmp_path):
    result = run("check", tmp_path / "nowhere")
    assert isinstance(result.exception, ModelError) and result.stdout == ""
    result = run("show", "someone/nothing-like-it", "--offline")
    assert isinstance(result.exception, ModelError) and "is offline" in str(result.exception)
    result = run("show", family_dir("llama"), "--dtype", "float23")
    assert isinstance(result.exception, OptionError) and "did you mean float32" in str(result.exception)


def test_exit_code_and_streams_of_the_real_command(tmp_path):
    code = "import sys; sys.argv = ['workbench', *sys.argv[1:]]; from cli.app import main; main()"
    command = [sys.executable, "-c", code, "model", "show", str(tmp_path / "nowhere")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (1, "")
    assert "there is no directory" in found.stderr and "hint:" in found.stderr
    assert "Traceback" not in found.stderr


def test_import_makes_a_model_that_passes_its_check(run, checkpoint):
    arguments = (
        "import",
        checkpoint / "weights.pt",
        "--config",
        checkpoint / "cfg.json",
        "-o",
        checkpoint / "made",
    )
    result = run(*arguments, "--vocabulary", checkpoint / "vocab.txt", "--unk", "PAD", "--json")
    made = json.loads(result.stdout)
    assert result.exit_code == 0 and made["difference"] < 1e-4
    assert made["parameters"] == 4 * 8 + 6 * 8 + 3 * (2 * 8 * 4 + 2 * 4) + 2 * 4 * 8 + 8 + 8 * 4 + 4
    assert made["tokenizer"] == "4 words; bos BOS, pad PAD, unk PAD"
    assert run("check", checkpoint / "made").exit_code == 0
    again = run(*arguments)
    assert isinstance(again.exception, ModelError) and "not empty" in str(again.exception)


def test_import_refuses_what_is_no_checkpoint(run, checkpoint):
    (checkpoint / "weights.pt").write_text("hello")
    result = run(
        "import", checkpoint / "weights.pt", "--config", checkpoint / "cfg.json", "-o", checkpoint / "made"
    )
    assert isinstance(result.exception, ModelError) and not (checkpoint / "made").exists()


def test_help_names_every_command(run):
    shown = run("--help").stdout
    assert all(name in shown for name in ("list", "show", "check", "import"))
