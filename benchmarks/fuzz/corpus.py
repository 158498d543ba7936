"""One small instance of every kind of file, made by real runs of built-in and tiny random models."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL, TASK = "zoo:ioi", "ioi"
Maker = Callable[[Path], None]


def sweep(root: Path) -> None:
    """A table of effects with its plan, parts and record; and one shard of the same."""
    from workbench.commands.do import do

    asked = {"model": MODEL, "task": TASK, "limit": 4, "parts": "heads", "ablation": "mean"}
    do("ablate", **asked, out=root / "sweep")
    do("ablate", **asked, shard="1/2", out=root / "sharded")


def circuit(root: Path) -> None:
    """A circuit with its scores and record, faithfulness alone, and a whole evaluation."""
    from workbench.commands.do import do

    folder = root / "circuit"
    do("discover", model=MODEL, task=TASK, method="eap", limit=8, keep="40", out=folder)
    asked = {"circuit": folder, "limit": 8, "random_draws": 2}
    do("evaluate", **asked, out=root / "faithfulness")
    do("evaluate", **asked, full=True, edges=2, bootstraps=2, refits=2, out=folder)


def published(root: Path) -> None:
    """A circuit of a paper, as the repository has it."""
    from workbench.circuits.files.published import write_published

    write_published(root / "published")


def portrait(root: Path) -> None:
    """What every head does: document, table and page."""
    from workbench.commands.do import do

    do("heads", model=MODEL, limit=2, no_loss=True, out=root / "portrait")


def edits(root: Path) -> None:
    """An edit of words, one with tensors, and what one was measured to do."""
    from workbench.commands.do import do
    from workbench.edits.affine import affine_of
    from workbench.edits.file import save_edit
    from workbench.edits.making import make_edit
    from workbench.model.open import open_model

    save_edit(make_edit("rows", ["heads=a0.h0", "operation=drop", "keys=0"]), root / "edit")
    model = open_model(MODEL)
    shifted = affine_of(model, ["a1.h0", "a1.h1"], a=0.5, b=0.25, train=(), positions=None, when="all")
    save_edit(shifted, root / "edit-with-tensors")
    do("edit measure", edit=root / "edit", model=MODEL, task=TASK, limit=4, out=root / "measured")


def replication(root: Path) -> None:
    """A paper's claims measured again, as small as it goes."""
    from workbench.commands.replicate import replicate_job

    few = ["conflicts=6", "majorities=6", "singles=6", "documents=3", "size=4"]
    replicate_job("pine", options=few, out=root / "replication")


def reproduction(root: Path) -> None:
    """A published study run again, step by step."""
    from workbench.commands.do import do

    do("reproduce", study="ioi", model=MODEL, limit=4, n_reference=8, out=root / "reproduction")


def bench(root: Path) -> None:
    """Two cells of the bench of methods, and its table."""
    from workbench.bench.bench import bench_discovery
    from workbench.bench.settings import Settings

    asked = Settings(methods=("eap",), truths=("zoo:truth-cancelling",), tasks=(), seeds=1)
    bench_discovery(asked, root / "bench")


def pairs(root: Path) -> None:
    """Pairs as JSONL, ours with a header and somebody's without."""
    from tests.mini import mini_pairs
    from workbench.tasks.registry import make_pairs

    folder = root / "pairs"
    folder.mkdir(parents=True)
    make_pairs(TASK, n=6, seed=0).save(folder / "header.jsonl")
    rows = [json.dumps(pair.to_dict()) for pair in mini_pairs(4)]
    (folder / "plain.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def foreign(root: Path) -> None:
    """What EAP-IG, auto-circuit and MIB write, and texts that people write."""
    folder = root / "foreign"
    folder.mkdir(parents=True)
    _prompts(folder)
    _graph(folder)
    _texts(folder)


def _prompts(folder: Path) -> None:
    """Prompt pairs as EAP-IG, auto-circuit and MIB write them."""
    old, new = (
        "The war lasted from the year 17{} to the year 17",
        "The war lasted from the year 1701 to the year 17",
    )
    years = [(old.format(n), new, n) for n in (11, 45, 62, 90)]
    _csv(folder / "greater-than.csv", ("clean", "corrupted", "label"), years)
    nurse = [("The nurse said that", "The doctor said that", 0), ("The man, who", "The woman, who", 1)]
    columns = ("clean", "corrupted", "clean_answer_idx", "corrupted_answer_idx", "label")
    _csv(folder / "gender-bias.csv", columns, [(c, d, 10, 11, label) for c, d, label in nurse])
    verbs = [('The "keys" on, or near, the table', "The key on the table", 1), ("The boy", "The boys", 0)]
    _csv(folder / "sva.csv", ("clean", "corrupted", "plural"), verbs)
    kinds = [("apples are a kind of", "hammers are a kind of", "['fruit', 'food']", "['tool']")]
    _csv(folder / "hypernymy.csv", ("clean", "corrupted", "answers", "corrupted_answers"), kinds * 2)
    ids = [("w10 w11 Mary", "w10 w12 Mary", 121, 122), ("w20 w21 John", "w20 w22 John", 123, 124)]
    _csv(folder / "ioi.csv", ("clean", "corrupted", "correct_idx", "incorrect_idx"), ids)
    prompts = [
        {
            "clean": f"w1{i} went to",
            "corrupt": f"w2{i} went to",
            "answers": [" Mary"],
            "wrong_answers": [" John", " Tom"],
        }
        for i in range(3)
    ]
    (folder / "auto-circuit.json").write_text(
        json.dumps({"prompts": prompts, "word_idxs": {}, "seq_labels": []})
    )
    rows = [
        _row(a, b, b, 0) | {"s2_io_flip_counterfactual": _row(a, b, a, 1)}
        for a, b in (("Mary", "John"), ("Tom", "Emma"), ("Rose", "Paul"))
    ]
    (folder / "mib.json").write_text(json.dumps(rows))
    (folder / "mib.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def _row(first: str, second: str, giver: str, key: int) -> dict[str, Any]:
    prompt = f"Then {first} and {second} went; {giver} gave it to"
    return {"prompt": prompt, "choices": [first, second], "answerKey": key}


def _csv(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([columns, *rows])
    path.write_text(out.getvalue(), encoding="utf-8")


def _graph(folder: Path) -> None:
    """A graph of EAP-IG: what a circuit found on a built-in model is written as."""
    from workbench.circuits.graph import Graph, GraphShape

    shape = GraphShape(n_layers=2, n_heads=2, n_kv_heads=2, parallel=False)
    edges = [str(edge) for edge in Graph(shape).edges()]
    score = [round(0.37 * (i % 7) - 0.9, 3) for i in range(len(edges))]
    cfg = {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8}
    nodes = {name: True for name in ("input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1", "logits")}
    rows = {
        e: {"score": s, "in_graph": i % 2 == 0} for i, (e, s) in enumerate(zip(edges, score, strict=True))
    }
    (folder / "graph.json").write_text(json.dumps({"cfg": cfg, "nodes": nodes, "edges": rows}))


def _texts(folder: Path) -> None:
    """A page with marks for a table, a text for heads, a metric of one's own."""
    (folder / "page.md").write_text(
        "# Page\n\nbefore é\n\n<!-- begin -->\nold\n<!-- end -->\n\nafter\n", encoding="utf-8"
    )
    (folder / "corpus.txt").write_text(
        "The cat sat on the mat – again.\nAnd once more.\n" * 20, encoding="utf-8"
    )
    code = '"""A metric."""\n\n\ndef first(logits, answers):\n    """The first logit."""\n    return logits[:, -1, 0]\n'
    (folder / "metric.py").write_text(code, encoding="utf-8")


def models(root: Path) -> None:
    """Model directories: Hugging Face in one file, in shards and as .bin, and a native one."""
    import torch
    from safetensors.torch import load_file, save_file

    from tests.families import build_family

    build_family("gpt2", root / "model")
    build_family("native-ln", root / "native")
    whole = load_file(root / "model" / "model.safetensors")
    names = sorted(whole)
    sharded = root / "model-in-shards"
    shutil.copytree(root / "model", sharded)
    (sharded / "model.safetensors").unlink()
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, kept in parts.items():
        save_file({name: whole[name] for name in kept}, sharded / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": 1}, "weight_map": {n: f for f, kept in parts.items() for n in kept}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    binary = root / "model-bin"
    shutil.copytree(root / "model", binary)
    (binary / "model.safetensors").unlink()
    torch.save(whole, binary / "pytorch_model.bin")


def checkpoint(root: Path) -> None:
    """A checkpoint of the retired HookedTransformer class: .pt in both formats, configuration, vocabulary."""
    import torch

    from workbench.model.legacy_config import legacy_shapes

    folder = root / "checkpoint"
    folder.mkdir(parents=True)
    size = {"n_layers": 2, "d_model": 16, "n_ctx": 10, "d_head": 4, "n_heads": 3, "d_vocab": 12, "d_mlp": 20}
    how = {
        "act_fn": "gelu",
        "eps": 1e-5,
        "normalization_type": "LN",
        "attn_only": False,
        "attention_dir": "causal",
    }
    rest = {"attn_scale": 2.0, "use_attn_scale": True, "d_vocab_out": 12, "device": "cpu", "seed": 0}
    fields = {**size, **how, **rest}
    (folder / "cfg.json").write_text(json.dumps(fields))
    generator = torch.Generator().manual_seed(0)
    shapes = legacy_shapes(fields)
    state = {name: 0.3 * torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    torch.save(state, folder / "weights.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    words = ["BOS", "PAD", *(f"t{i}" for i in range(10))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def pictures(root: Path) -> None:
    """Pictures as PNG and arrays, and pairs that name some."""
    from benchmarks.fuzz.pictures import make

    make(root)


MAKERS: tuple[Maker, ...] = (
    sweep, circuit, published, portrait, edits, replication, reproduction, bench,
    pairs, pictures, foreign, models, checkpoint,
)  # fmt: skip


def build(root: Path, makers: set[str] | None = None) -> Path:
    """Make the files; only those of the named makers, if any are named."""
    root.mkdir(parents=True, exist_ok=True)
    for make in MAKERS:
        if makers is None or make.__name__ in makers:
            make(root)
    return root
