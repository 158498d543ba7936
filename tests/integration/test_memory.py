"""Memory: a budget decides how large passes are and is kept, parts give what the whole gives, nothing stays."""

from __future__ import annotations

import gc
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from benchmarks import models
from tests.forks import run
from workbench.commands.inputs import open_runs
from workbench.core.errors import ModelError
from workbench.engine import gradients
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.room import keep_within
from workbench.engine.sweep import sweep
from workbench.model.memory import Activations, PictureRoom, tokens_within

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 101}


@pytest.fixture(scope="module")
def shape():
    return models.gpt2(6, 7, **SMALL)


_WORK = {"n_layers": 1, "n_heads": 1, "d_model": 1000, "d_mlp": 2000, "d_vocab": 10_000}


def test_a_budget_gives_the_largest_passes_that_fit():
    work = Activations(**_WORK, plain=True)
    # length 4: of 64 tokens 4 pairs are a batch of 16, and all 64 are rows of one layer at once.
    # recorded 2 * 1000 + 4 * 1000 + 1000 = 7000 at 16 tokens, one layer 10 * 1000 + 3 * 2000 = 16000 at 64,
    # logits 3 * 4 * 10000
    floats = 16 * 7000 + 64 * 16_000 + 3 * 4 * 10_000
    by_hand = int(1.2 * 4 * floats) + 64_000_000
    assert work.bytes_of(64, 4, 1000) == by_hand
    given = {"lengths": [4] * 1000, "resident": 5000, "most": 1024}
    assert tokens_within(5000 + by_hand, work, **given) == 64
    assert tokens_within(5000 + by_hand - 1, work, **given) == 32
    assert tokens_within("1GB", work, **given) == 1024


def test_a_budget_that_no_pair_fits_into_is_refused_with_one_that_does():
    work = Activations(**_WORK, sources=3, gradients=True)
    with pytest.raises(
        ModelError, match=r"one pair of 512 tokens about .* more, and 64.0 MB are set aside"
    ) as problem:
        tokens_within(6000, work, lengths=[4, 512], resident=5000, most=1024)
    named = re.search(r"--max-memory (\S+),", problem.value.hint)[1]
    assert tokens_within(named, work, lengths=[4, 512], resident=5000, most=1024) == 512


def test_patterns_count_where_the_hooked_model_runs():
    """Twice the tokens: twice the numbers beside four times the patterns, of every layer in the hooked model."""
    size = {"n_layers": 6, "n_heads": 8, "d_model": 256, "d_mlp": 1024, "d_vocab": 5000}

    def floats(tokens: int, **more) -> float:
        work = Activations(**size, sources=55, gradients=True, tape_floats=1.2e8, **more)
        return (work.bytes_of(tokens, tokens, 1) - 64_000_000) / 4.8

    for patterns in (1, 2):  # n * n of each head, in every layer's tape; six times in the layer that is run
        bent = floats(2048, patterns=patterns) - 2 * floats(1024, patterns=patterns)
        assert bent == pytest.approx(
            1.25 * 2 * 8 * 1024**2 * (6 * patterns + 6),
            rel=0.02,  # 0.02: what is once a pair
        )
    assert floats(1024, plain=True) < floats(1024) / 1.3  # what the trial left is there in both


def test_edges_and_gradients_need_more_than_nodes(shape):
    from workbench.model.memory import resident_bytes

    budget = resident_bytes("cpu") + 64_000_000 + 6_300_000  # nodes: 5.3 MB at 2048 tokens, edges 7.3
    nodes, edges = (keep_within(shape.runs, budget, work=work) for work in ("nodes", "edges"))
    assert edges < nodes < shape.runs.batch_tokens


def test_a_budget_reaches_the_runs_and_a_hopeless_one_is_refused_before_loading():
    notes: list[str] = []
    runs = open_runs(model="zoo:ioi", task="ioi", limit=4, max_memory="64GB", note=notes.append)
    assert runs.batch_tokens == 8192
    assert "passes of at most 8192 tokens keep within 64GB" in notes
    with pytest.raises(ModelError, match="allowed by max_memory"):
        open_runs(model="zoo:ioi", task="ioi", limit=4, max_memory="1MB")


def test_parts_of_a_batch_give_the_scores_of_the_whole(shape, monkeypatch):
    cases = [("eap-ig", {"steps": 2}, {}), ("eap", {"ablation": "mean"}, {"per_position": True})]
    cases.append(("attribution-patching", {}, {}))
    whole = [wb.score(shape.runs, name, **options, **more) for name, options, more in cases]
    assert len(gradients.pieces(shape.runs, shape.runs.batches[0])) == 1
    monkeypatch.setattr(gradients, "TAPE_FLOATS", 2 * 7 * gradients.tape_floats(shape.runs, 7))
    sizes = [len(piece) for piece in gradients.pieces(shape.runs, shape.runs.batches[0])]
    assert sizes == [2, 2, 2]
    for before, (name, options, more) in zip(whole, cases, strict=True):
        after = wb.score(shape.runs, name, **options, **more)
        size = np.nanmax(np.abs(before.per_pair))
        # 1e-5: products of fewer rows are summed in another order
        assert np.allclose(after.per_pair, before.per_pair, atol=1e-5 * size, rtol=0, equal_nan=True)
        assert (np.abs(before.per_pair[0] - before.per_pair[5]) > 1e-3 * size).any()  # pairs differ


def test_a_piece_is_as_large_as_its_tape_allows(shape):
    """Long prompts: one pair at a time, however many there are."""
    batch = shape.runs.batches[0]
    # 2 layers * (18 * 16 + 6 * 64 + 3 * 2 heads * 1024 tokens)
    assert gradients.tape_floats(shape.runs, 1024) == 2 * (18 * 16 + 6 * 64 + 3 * 2 * 1024)
    assert [int(i) for i in gradients.part(batch, slice(2, 5)).index] == [2, 3, 4]


def alive() -> int:
    """Tensors that exist, after everything nobody holds is gone."""
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def test_twenty_sweeps_leave_nothing_behind(shape):
    heads = ablations(parts_of(shape.runs.wiring, "heads"), "mean")

    def once() -> None:
        runs = PairedRuns(shape.runs.model, shape.runs.pairs)
        sweep(runs, heads, kind="ablation")
        wb.score(runs, "eap-ig", steps=2)

    once(), once()
    before = alive()
    for _ in range(20):
        once()
    assert alive() == before


def test_a_run_for_gradients_is_freed_without_the_collector(shape):
    """A tape in a reference cycle would stay until the collector comes by: several tapes at a time."""
    import weakref

    runs = PairedRuns(shape.runs.model, shape.runs.pairs)
    gc.collect()
    gc.disable()
    try:
        run = gradients.taped_run(runs, runs.batches[0], ["blocks.0.attn.hook_q"])
        run.gradients()
        seen = weakref.ref(run.seen["blocks.0.attn.hook_q"])
        total = weakref.ref(run._total)
        del run
        assert (seen(), total()) == (None, None)
    finally:
        gc.enable()


_CHILD = """
import sys
import workbench as wb
from benchmarks import models
from workbench.core.errors import ModelError
from workbench.model.memory import resident_bytes
from workbench.core.run_record import peak_memory_mb
from workbench.engine.room import keep_within
budget, more, pairs, tokens = (int(x) for x in sys.argv[1:])
runs = models.gpt2(pairs, tokens, n_layer=6, n_head=8, n_embd=256, vocab_size=5000).runs
before = resident_bytes("cpu")
peak = int(peak_memory_mb() * 1e6)
budget = budget or (max(peak, before + more * 1_000_000) if more else 0)
if budget:
    try:
        runs.batch_tokens = keep_within(runs, budget, work="gradients", by_model=False)
    except ModelError as problem:
        print(problem.hint.split()[1].strip(",").removesuffix("GB"))
        sys.exit()
wb.score(runs, "eap-ig", steps=2)
print(runs.batch_tokens, budget, int(peak_memory_mb() * 1e6))
"""


def _in_a_process(pairs: int, tokens: int, *, budget: int = 0, more: int = 0) -> list[float]:
    """Tokens of a pass, the budget and the highest resident memory; or the budget in GB that a refusal names.

    Args:
        budget: In bytes; or ``more`` than the open model takes, in MB.
    """
    done = run(["-c", _CHILD, *map(str, (budget, more, pairs, tokens))])
    done.check_returncode()
    return [float(x) for x in done.stdout.split()]


@pytest.mark.slow
def test_a_budget_is_kept_by_a_process_of_its_own():
    free = _in_a_process(64, 32)
    tokens, budget, peak = _in_a_process(64, 32, more=180)
    assert tokens < free[0]
    assert peak <= budget < free[2]  # kept, and not without effect


@pytest.mark.slow
def test_the_budget_that_a_refusal_names_is_kept_with_long_prompts():
    (named,) = _in_a_process(2, 1024, more=100)
    _, budget, peak = _in_a_process(2, 1024, budget=int(named * 1e9))
    assert peak <= budget < 1.4 * peak


_SEEING = """
import sys
import numpy as np
import workbench as wb
from tests.seeing import IMAGE
from tests.families import save_tokenizer
from workbench.core.run_record import peak_memory_mb
from workbench.engine.room import keep_within
from workbench.model.memory import resident_bytes
import transformers as t, torch
size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
config = t.LlavaConfig(
    vision_config=t.CLIPVisionConfig(**size, image_size=224, patch_size=56),
    text_config=t.LlamaConfig(**size, vocab_size=160, num_key_value_heads=4),
    image_token_index=IMAGE, vision_feature_layer=-1, architectures=["LlavaForConditionalGeneration"],
)
torch.manual_seed(0)
folder, more, counted = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "counted"
t.LlavaForConditionalGeneration(config).save_pretrained(folder)
save_tokenizer(folder)
rng = np.random.default_rng(0)
pictures = [wb.Picture.of(rng.integers(0, 256, (224, 224, 3), dtype="uint8")) for _ in range(128)]
scale = '{"do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
open(folder + "/preprocessor_config.json", "w").write(scale)
text = "w10 w119 w31 w40"
pairs = [
    wb.Pair(id=str(i), clean=text, corrupted=text, correct=(" Mary",), incorrect=(" John",),
            image=(pictures[2 * i], pictures[2 * i + 1])) for i in range(64)
]
runs = wb.paired_runs(wb.open_model(folder, device="cpu"), pairs)
runs.wiring
budget = int(max(peak_memory_mb() * 1e6, resident_bytes("cpu"))) + more * 1_000_000
if counted:
    runs.batch_tokens = keep_within(runs, budget, work="nodes", in_tower=True)
heads = [[f"vision:a0.h{i}", f"vision:a1.h{j}"] for i in range(4) for j in range(4)]  # of two layers: by hooks
wb.measure(runs, wb.ablations(heads, "zero"), kind="zero ablation")
print(runs.batch_tokens, budget, int(peak_memory_mb() * 1e6))
"""


def _seeing_in_a_process(folder, more: int, how: str) -> list[float]:
    done = run(["-c", _SEEING, str(folder), str(more), how])
    done.check_returncode()
    return [float(x) for x in done.stdout.split()[-3:]]


@pytest.mark.slow
def test_a_budget_counts_pixels_and_towers(tmp_path):
    """Pictures of 224 x 224 behind prompts of twenty tokens: words alone would be let in twenty times too wide."""
    ignored = _seeing_in_a_process(tmp_path, 150, "ignored")
    tokens, budget, peak = _seeing_in_a_process(tmp_path, 150, "counted")
    assert tokens < ignored[0]
    assert peak <= budget and ignored[2] > ignored[1]  # kept; not kept where pixels are not counted


def test_pictures_count_as_they_are_kept():
    seen = PictureRoom(
        pixels=100, n_pictures=10, n_positions=5, n_layers=2, n_heads=1, d_model=4, d_mlp=8, held=9
    )
    # each of 3 pairs: 300 pixels, 5 positions of 40 + 32 + 20 in a layer, 2 x 5 patterns, 7 x 4 recorded; 9 held
    assert seen.floats(3, 30) == 3 * (300 + 5 * (92 + 10 + 28)) + 9
    whole = replace(seen, in_tower=True)
    assert whole.floats(3, 30) == 30 * (300 + 5 * (92 + 10)) + 3 * 5 * 28 + 9
