"""Sweeps in towers by plain functions: equal to the whole computation with hooks, last layer where it is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from tests.integration.test_tower_engine import CLASSIFIERS, pairs
from tests.mini import hidden_metric
from tests.seeing import picture_pairs, seeing_dir
from tests.towers import tower_dir
from workbench.engine import sweep as engine
from workbench.engine.interventions.ablation import ablations
from workbench.engine.restarted_tower import tower_restart

WIDE = {"dtype": "float64", "parity_tolerance": 1e-5}  # transformers' own softmax stays in float32
READ = {"deit": [0], "dinov2": list(range(10)), "beit": list(range(1, 10)), "siglip-vision": list(range(9))}
"""By the class token, by it and a pool, by a pool over patches, by a metric that reads all."""


def opened(kind: str):
    model = wb.open_model(tower_dir(kind), device="cpu", **WIDE)
    return wb.paired_runs(model, pairs(), metric=None if kind in CLASSIFIERS else hidden_metric())


def both(runs, parts, monkeypatch, **options):
    """The table by plain functions, and by the whole model with hooks."""
    fast = wb.ablate(runs, parts, **options)
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_in_tower", lambda *given: None)
        return fast, wb.ablate(runs.subset(range(runs.n_pairs)), parts, **options)


@pytest.mark.parametrize("kind", READ)
def test_as_the_whole_model_and_last_layer_where_it_is_read(kind, monkeypatch):
    runs = opened(kind)
    for ablation in ("resample", "mean"):
        parts = [
            f"{part}{n}{head}"
            for n in range(3)
            for part, head in (("a", ".h1"), ("a", ".h3"), ("m", ""), ("a", ""))
        ]
        fast, slow = both(runs, parts, monkeypatch, ablation=ablation)
        assert fast.patched == pytest.approx(slow.patched, rel=1e-9)
        assert np.abs(slow.patched - slow.base).max(1).min() > 1e-6  # each does something
    start = tower_restart(runs, runs.batches[0], None, "clean")
    assert start.read.tolist() == READ[kind]
    assert fast.provenance["computed by"]["hooked model"] == 0


@pytest.fixture(scope="module")
def clip():
    return wb.paired_runs(wb.open_model("zoo:clip", **WIDE), "scene-captions", n=2)


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_both_towers_of_a_clip(tower, clip, monkeypatch):
    runs, heads = clip.subset([0, 1]), [f"{tower}:a{n}.h{n}" for n in range(3)]
    fast, slow = both(runs, heads, monkeypatch, ablation="zero")
    assert fast.patched == pytest.approx(slow.patched, rel=1e-9) and abs(slow.patched - slow.base).max() > 0.1
    batch = runs.batches[0]
    read = tower_restart(runs, batch, tower, "clean").read.tolist()
    ends = (np.cumsum(batch.caption_lengths) - 1).tolist()
    assert read == ([0] if tower == "vision" else ends)


@pytest.mark.parametrize("kind", ["llava-before", "zoo:vlm"])
def test_a_tower_in_front_of_a_language_model(kind, tmp_path, monkeypatch):
    named = kind == "zoo:vlm"
    task = "scene-attributes" if named else wb.load_pairs(picture_pairs(tmp_path, n=2))
    runs = wb.paired_runs(
        wb.open_model(kind if named else seeing_dir(kind)), task, **({"n": 2} if named else {})
    )
    parts = [f"vision:{part}" for part in ("a0.h1", "a0", "m0", "a1.h1", "m1")]
    fast, slow = both(runs, parts, monkeypatch, ablation="resample")
    scale = abs(slow.patched).max()
    assert fast.patched == pytest.approx(slow.patched, abs=1e-6 * scale)
    assert abs(slow.patched - slow.base).max(1).min() > 1e-3
    assert fast.provenance["computed by"] == {"plain blocks": 5 * 2, "hooked model": 0, "because": []}
    start = tower_restart(runs, runs.batches[0], "vision", "clean")
    assert start.read[0] == 1 and start.behind.projector is not None  # all but the class token
    pair, final = (
        torch.tensor([1, 0, 1]),
        torch.randn(3, start.batch_length, runs.wiring.of("vision").d_model),
    )
    by_model = start.behind.by_model(final, pair)[0]
    assert torch.allclose(start.behind.of(final, pair), by_model, atol=1e-5)


def test_positions_and_several_edits_at_once(monkeypatch):
    runs = wb.paired_runs(wb.open_model("zoo:marked", **WIDE), "scene-marked", n=4)
    rows = [
        wb.Intervention(
            label=" and ".join(edits), edits=tuple(wb.Edit(node=n, value=v) for n, v in edits.items())
        )
        for edits in (
            {"a1.h0@object": "zero"},
            {"a2.h1": "corrupted", "m2": wb.Scale(0.5)},
            {"a0@class": "corrupted", "a0.h2": "zero"},
        )
    ]
    fast = wb.measure(runs, rows, kind="several")
    monkeypatch.setattr(engine, "_in_tower", lambda *given: None)
    slow = wb.measure(runs.subset(range(4)), rows, kind="several")
    assert fast.patched == pytest.approx(slow.patched, rel=1e-9)
    assert (abs(slow.patched - slow.base).max(1) > 1e-3).all()


def test_what_somebody_attached_is_not_passed_by():
    model = wb.open_model("zoo:marked")
    runs = wb.paired_runs(model, "scene-marked", n=4)
    plain = wb.ablate(runs, "heads", ablation="zero")
    layer = model.blocks[2].layer
    handle = layer.mlp.fc2.register_forward_hook(lambda module, args, out: out * 0.5)
    halved = wb.ablate(runs, "heads", ablation="zero")
    handle.remove()
    assert halved.provenance["computed by"]["because"] == ["something is attached to the model"]
    assert abs(halved.patched - plain.patched).max() > 0.1
    assert np.array_equal(wb.ablate(runs, "heads", ablation="zero").patched, plain.patched)
    assert not any("forward" in vars(block.layer) for block in model.blocks) and torch.is_grad_enabled()


def test_what_towers_made_of_pictures_goes_with_their_batch():
    runs = wb.paired_runs(wb.open_model("zoo:vlm"), "scene-attributes", n=4, batch_tokens=4 * 50)
    assert len(runs.batches) > 2
    wb.ablate(runs, ["vision:a0.h0", "a0.h0"])
    assert set(runs._entered) <= set(runs.batches[-1].prompts)


def test_a_killed_sweep_of_a_clip_goes_on_with_the_same_bits(tmp_path):
    model = wb.open_model("zoo:clip")
    runs = wb.paired_runs(model, wb.paired_runs(model, "scene-captions", n=4).pairs, batch_tokens=4 * 80)
    rows = ablations([["vision:a0.h1"], ["vision:a3.h0"], ["text:a1.h0"]])
    whole = engine.sweep(runs, rows, kind="tower")

    def kill(done, total, what):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.sweep(runs, rows, kind="tower", folder=tmp_path, progress=kill)
    again = engine.sweep(runs.subset(range(4)), rows, kind="tower", folder=tmp_path, resume=True)
    assert np.array_equal(again.patched, whole.patched)
    assert again.provenance["computed by"] == whole.provenance["computed by"]
