"""Memory: a budget decides how large passes are and is kept, parts give what the whole gives, nothing stays."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest
import torch

import workbench as wb
from benchmarks import models
from workbench.errors import ModelError
from workbench.interventions.ablation import ablations, parts_of
from workbench.model.memory import Activations, tokens_within
from workbench.opening import open_runs
from workbench.sweep import gradients
from workbench.sweep.room import keep_within
from workbench.sweep.run import sweep
from workbench.sweep.runs import PairedRuns

SMALL = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 101}


@pytest.fixture(scope="module")
def shape():
    return models.gpt2(6, 7, **SMALL)


def test_a_budget_gives_the_largest_passes_that_fit():
    work = Activations(n_layers=1, n_heads=1, d_model=10, d_mlp=20, d_vocab=100)
    # length 4: of 64 tokens 4 pairs are a batch of 16 and 4 copies of it are stacked.
    # recorded 2 * (5 + 1) * 10 = 120 at 16 tokens, one layer 12 * 10 + 2 * 20 + 3 * 4 = 172 at 64, logits 3 * 16 * 100
    by_hand = int(1.5 * 4 * (16 * 120 + 64 * 172 + 3 * 16 * 100))
    assert work.bytes_of(64, 4, 1000) == by_hand
    given = {"lengths": [4] * 1000, "resident": 5000, "most": 1024}
    assert tokens_within(5000 + by_hand, work, **given) == 64
    assert tokens_within(5000 + by_hand - 1, work, **given) == 32
    assert tokens_within("1GB", work, **given) == 1024


def test_a_budget_that_no_pair_fits_into_is_refused():
    work = Activations(n_layers=1, n_heads=1, d_model=10, d_mlp=20, d_vocab=100)
    with pytest.raises(ModelError, match=r"one pair of 4 tokens about .* more") as problem:
        tokens_within(6000, work, lengths=[4], resident=5000, most=1024)
    assert "--max-memory" in problem.value.hint


def test_edges_and_gradients_need_more_than_nodes(shape):
    from workbench.model.memory import resident_bytes

    budget = resident_bytes("cpu") + 500_000
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
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


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
from workbench.model.memory import resident_bytes
from workbench.provenance import peak_memory_mb
from workbench.sweep.room import keep_within
shape = models.gpt2(64, 32, n_layer=6, n_head=8, n_embd=256, vocab_size=5000)
runs = shape.runs
before = resident_bytes("cpu")
peak = int(peak_memory_mb() * 1e6)
budget = max(peak, before + int(float(sys.argv[1]) * 1e6))
runs.batch_tokens = keep_within(runs, budget, work="edges") if float(sys.argv[1]) else runs.batch_tokens
wb.score(runs, "eap-ig", steps=2)
print(runs.batch_tokens, budget, int(peak_memory_mb() * 1e6))
"""


@pytest.mark.slow
def test_a_budget_is_kept_by_a_process_of_its_own():
    def run(megabytes: int) -> list[int]:
        command = [sys.executable, "-c", _CHILD, str(megabytes)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
        return [int(x) for x in done.stdout.split()]

    free = run(0)
    tokens, budget, peak = run(150)
    assert tokens < free[0]
    assert peak <= budget < free[2]  # kept, and not without effect
