"""Language models that see and that the bridge refuses: heads of both stacks equal hooks on transformers alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from benchmarks.families.naive import every_head
from tests.integration.plain_packed import given
from tests.towers import SPEAKING, speaking_dir
from workbench.circuits.circuit import Circuit
from workbench.evaluate.faithfulness import run_circuits
from workbench.model.from_files import reading_of
from workbench.model.identity import identity
from workbench.model.sight import sight_of
from workbench.tasks.pairs import Pair, Pairs

PACKED = ("qwen2vl", "qwen2_5_vl", "qwen3vl", "llavanext", "mistral3")
WINDOWED = ("qwen2_5_vl", "llavanext")


@pytest.fixture(params=tuple(SPEAKING), scope="module")
def opened(request):
    """A model, the same as transformers has it, and pairs: other pictures behind one question."""
    model = wb.open_model(speaking_dir(request.param), device="cpu")
    kind = getattr(transformers, type(model.original_model).__name__)
    plain = kind.from_pretrained(speaking_dir(request.param), attn_implementation="eager").eval()
    rng = np.random.default_rng(2)
    pictures = [
        [wb.Picture.of(rng.normal(size=(3, 16, 16)).astype("float32")) for _ in range(2)] for _ in range(2)
    ]
    text = "w10 w119 w31 w40"
    items = [
        Pair(id=f"p{i}", clean=text, corrupted=text, correct=(" Mary",), incorrect=(" John",), image=(a, b))
        for i, (a, b) in enumerate(pictures)
    ]
    return model, plain, Pairs(items=tuple(items), task="seen")


def prompts_of(runs):
    """What transformers' model is called with, one pair at a time."""
    sight, kind, found = sight_of(runs.model), name_of(runs.model), []
    for ids, pair in zip(runs.pairs.clean, runs.pairs.pairs, strict=True):
        if kind in PACKED:
            found.append(given(kind, ids.tolist(), torch.tensor(pair.image[0].pixels)))
            continue
        pixels = torch.tensor(pair.image[0].pixels)[None]
        pixels = pixels[:, None] if sight.nested else pixels
        found.append({"input_ids": torch.as_tensor(ids)[None], "pixel_values": pixels})
    return found


def test_the_forward_pass_is_transformers_to_the_bit(opened):
    model, _, _ = opened
    # 4e-6: patches that do not see each other have weight 0 in one pattern, which sums in another order
    assert identity(model).parity <= (1e-5 if name_of(model) in WINDOWED else 0)
    assert set(model.towers) == {"vision", "text"}
    assert {"vision.blocks.0.attn.hook_pattern", "blocks.1.attn.hook_pattern"} <= set(model.hook_dict)


@pytest.mark.parametrize("stack", ["text", "vision"])
def test_every_head_of_both_stacks_off(opened, stack):
    model, plain, pairs = opened
    runs = wb.paired_runs(model.towers[stack], pairs)
    heads = [f"a{n}.h{h}" for n in range(2) for h in range(4)]
    found = wb.ablate(runs, heads, ablation="zero")

    def read(out, i):
        last = out.logits[0, -1]
        return float(last[runs.pairs.correct[i][0]] - last[runs.pairs.incorrect[i][0]])

    whole, rows = every_head(
        plain, prompts_of(runs), read, 4, among=lambda name: ("vis" in name) == (stack == "vision")
    )
    assert whole == pytest.approx(list(runs.clean), abs=2e-5)
    assert found.patched == pytest.approx(np.array(rows[:8]), abs=2e-5)
    assert (abs(found.patched - found.base).max(1) > 1e-4).all()
    assert all(row == whole for row in rows[8:])  # LLaVA-NeXT reads its tower before its last layer


def test_a_part_of_the_tower_has_an_address_of_its_own(opened):
    model, _, pairs = opened
    heads = [f"a{n}.h{h}" for n in range(2) for h in range(4)]
    found = wb.ablate(wb.paired_runs(model, pairs), [f"vision:{head}" for head in heads])
    expected = wb.ablate(wb.paired_runs(model.towers["vision"], pairs), heads)
    assert found.patched == pytest.approx(expected.patched, abs=2e-5)
    assert (abs(found.patched - found.base).max(1) > 1e-6).all()


def test_all_edges_kept_is_the_clean_run_and_none_the_corrupted_run(opened):
    model, _, pairs = opened
    if name_of(model) == "qwen3vl":
        pytest.skip("edges are refused: its tower also writes to later layers (test_packed_towers.py)")
    runs = wb.paired_runs(model, pairs)
    graph = runs.wiring.graph()
    every = {(edge.source, edge.target): 1.0 for edge in graph.edges()}
    full, empty = (
        Circuit.build(shape=graph.shape, nodes={}, edges=edges, level="edge") for edges in (every, {})
    )
    found = run_circuits(runs, [full, empty])
    assert found[0] == pytest.approx(runs.clean, abs=2e-5)
    assert found[1] == pytest.approx(runs.corrupted, abs=2e-5)
    assert (abs(runs.clean - runs.corrupted) > 1e-4).all()  # the picture matters


def test_what_stands_in_the_files_is_what_the_open_model_says(opened):
    model, _, _ = opened
    read = reading_of(str(speaking_dir(name_of(model))))
    assert (read.prepend_bos, read.d_vocab, read.sight) == (True, model.cfg.d_vocab, sight_of(model))


def name_of(model) -> str:
    kind = type(model.original_model).__name__.removesuffix("ForConditionalGeneration")
    return kind.lower()
