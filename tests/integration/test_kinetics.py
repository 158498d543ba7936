"""One generated token is what attention says; the study of costs at a small size."""

from __future__ import annotations

import pytest
import torch

import workbench as wb
from workbench.core.errors import OptionError
from workbench.engine.decode_time import LayerShape, decode_step, seconds_of, token_times
from workbench.papers import kinetics as study
from workbench.papers.kinds import Setting


def test_a_layer_counts_its_weights_operations_and_reads():
    shape = LayerShape(heads=4, kv_heads=2, d_head=3)
    assert shape.parameters == 2 * 144 + 2 * 12 * 6 + 8 * 144
    assert shape.flop(10) == 2 * shape.parameters + 4 * 10 * 12 and shape.read(10) == 2 * 10 * 6
    with pytest.raises(OptionError, match="equal groups"):
        LayerShape(heads=4, kv_heads=3, d_head=3)


def test_a_step_reads_every_key_once_and_answers_alike():
    step = decode_step(LayerShape(heads=4, kv_heads=1, d_head=8), 64, seed=2)
    assert step().shape == (1, 32) and torch.equal(step(), step())
    longer = decode_step(LayerShape(heads=4, kv_heads=1, d_head=8), 128, seed=2)
    assert not torch.equal(step(), longer())
    assert seconds_of(step, repeats=2) >= 0


def test_times_are_of_one_thread_and_every_layer_at_every_context():
    before = torch.get_num_threads()
    rows = token_times((8, 16), kv_heads=(4, 1), heads=4, d_head=8, repeats=1)
    assert [(row["KV heads"], row["context"]) for row in rows] == [(4, 8), (4, 16), (1, 8), (1, 16)]
    assert rows[0]["numbers read"] == 4 * rows[2]["numbers read"] == 2 * 8 * 4 * 8
    assert torch.get_num_threads() == before


def test_costs_are_counted_and_few_keys_are_asked_of_the_model():
    options = study.KineticsSizes(pairs=16, draws=2, contexts=(32, 64, 128), repeats=1)
    found = study.REPLICATION.run(
        Setting(model=wb.open_model("zoo:kv"), name="zoo:kv", options=options, seed=9)
    )
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["reads"] == verdicts["sizes"] == verdicts["sparse"] == "holds"
    assert verdicts["coverage"] == verdicts["random"] == "cannot be tested here"  # two draws decide nothing
    row = next(
        r
        for r in found.tables["Costs by length of the answer"]
        if (r["model"], r["generated"]) == ("8B", 10_000)
    )
    assert row["TFLOP"] == pytest.approx(199.19, abs=0.005) and row["equivalent TFLOP"] == pytest.approx(
        5_175.83, abs=0.005
    )
