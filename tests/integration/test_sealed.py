"""Built-in models that are measured unopened: equal to the opened model to the last bit, or opened."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from unittest.mock import ANY

import numpy as np
import pytest

from workbench.commands.inputs import open_runs
from workbench.commands.plans.inputs import planned_runs
from workbench.core.typed import as_json
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.patching import knock_outs, patches, site_nodes
from workbench.engine.of_task import paired_runs
from workbench.engine.sweep import sweep
from workbench.model.builtin import ZOO
from workbench.model.from_files import reading_of
from workbench.model.open import open_model
from workbench.model.opened_file import NAME, seal_of, sealed_reading
from workbench.model.sealed import sealed_model
from workbench.model.wiring import Wiring
from workbench.training.findings import found_in, sealable

TASK = {"ioi": "ioi", "elimination": "colored-objects", "stdlib": "docstring"}


@pytest.fixture(scope="module", params=sorted(TASK))
def both(request):
    """Runs of a task on a sealed model, and on the same model opened."""
    name, task = f"zoo:{request.param}", TASK[request.param]
    return paired_runs(sealed_model(name), task, n=12), paired_runs(open_model(name), task, n=12)


def test_every_model_that_can_be_sealed_is():
    assert sealable() == sorted(TASK)


@pytest.mark.parametrize("name", sorted(TASK))
def test_what_is_recorded_is_what_opening_finds(name):
    found, recorded = found_in(name, ZOO / name), as_json(seal_of(ZOO / name))
    for part in ("files", "identity", "prepend_bos", "n_ctx", "d_vocab", "n_outputs"):
        assert found[part] == recorded[part], part
    unsaid = {
        f.name: f.default for f in fields(Wiring) if f.name not in recorded["wiring"]
    }  # of other models
    assert {k: v for k, v in found["wiring"].items() if k != "errors"} == {
        **{k: v for k, v in unsaid.items() if k in found["wiring"]},
        **{k: v for k, v in recorded["wiring"].items() if k != "errors"},
        "attention_layers": tuple(recorded["wiring"]["attention_layers"]),
        "mlp_layers": tuple(recorded["wiring"]["mlp_layers"]),
    }
    logits = np.array(recorded["probe"]["logits"])
    # 1e-5 of the largest: other versions of torch add in another order
    assert np.abs(np.array(found["probe"]["logits"]) - logits).max() <= 1e-5 * np.abs(logits).max()


def test_a_plan_has_the_pairs_that_are_run(both):
    sealed, _ = both
    planned = planned_runs(model=sealed.identity.name, task=sealed.pairs.pairs.task, limit=12)
    for run in ("clean", "corrupted"):
        planned_ids, ids = getattr(planned.pairs, run), getattr(sealed.pairs, run)
        assert [list(row) for row in planned_ids] == [list(row) for row in ids]
    assert planned.pairs.pairs.digest == sealed.pairs.pairs.digest
    own = reading_of(sealed.identity.name)
    assert sealed_reading(sealed.identity.name) == replace(own, tokenizer=ANY)


def test_pairs_and_runs_are_the_same(both):
    sealed, opened = both
    assert sealed.tokens_digest == opened.tokens_digest
    # the size of rounding errors differs between versions of torch
    assert replace(sealed.wiring, errors={}) == replace(opened.wiring, errors={})
    assert sealed.provenance() == opened.provenance()
    assert np.array_equal(sealed.clean, opened.clean) and np.array_equal(sealed.corrupted, opened.corrupted)
    assert sealed.sealed is not None and sealed.identity.parity < 1e-4


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero"])
def test_ablations_are_equal_to_the_last_bit(both, ablation):
    tables = [
        sweep(runs, ablations(parts_of(runs.wiring, "layers"), ablation), kind=ablation) for runs in both
    ]
    assert np.array_equal(tables[0].patched, tables[1].patched)
    assert tables[0].provenance["computed by"]["hooked model"] == 0
    assert tables[0].provenance["plan"] == tables[1].provenance["plan"]  # one question, one folder
    assert both[0].sealed is not None


def test_patches_at_positions_are_equal_to_the_last_bit(both):
    kept = {"kind": "q", "mode": "denoising"}
    tables = [
        sweep(runs, patches(site_nodes(runs.wiring, "q")[:4], positions=runs.position_names[:1]), **kept)
        for runs in both
    ]
    assert np.array_equal(tables[0].patched, tables[1].patched) and both[0].sealed is not None


def test_a_model_is_opened_when_more_than_its_blocks_is_needed():
    runs = paired_runs(sealed_model("zoo:ioi"), "ioi", n=4)
    opened = paired_runs(open_model("zoo:ioi"), "ioi", n=4)
    before = runs.clean
    tables = [sweep(r, knock_outs(["a1.h0"], "end", "IO"), kind="knock-out") for r in (runs, opened)]
    assert runs.sealed is None and runs.subset([1, 2]).sealed is None  # opened once, for all its runs
    assert np.array_equal(tables[0].patched, tables[1].patched) and np.array_equal(runs.clean, before)
    with runs.model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", lambda z, hook: 0 * z)]):
        assert not np.array_equal(runs.clean, before)  # and from then on it is looked at like any other


@pytest.mark.parametrize(
    "asked",
    [
        {"dtype": "float64"},
        {"device": "cuda"},
        {"device_map": "auto"},
        {"max_memory": "4GB"},
    ],
)
def test_anything_unusual_opens_the_model(asked):
    assert sealed_model("zoo:ioi", **asked) is None


def test_only_built_in_models_with_a_record_stay_closed(tmp_path):
    assert sealed_model("zoo:kv") is None and sealed_model(str(ZOO / "ioi")) is None
    copy = shutil.copytree(ZOO / "ioi", tmp_path / "ioi")
    assert seal_of(copy) is not None
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"relu"', '"gelu_new"'))
    assert seal_of(copy) is None  # it holds for the files that were opened
    (copy / NAME).unlink()
    assert seal_of(copy) is None


def test_jobs_ask_for_no_more_than_they_need():
    asked = {"model": "zoo:ioi", "task": "ioi", "limit": 4}
    assert open_runs(**asked, by_model=False).sealed is not None
    assert open_runs(**asked).sealed is None
    assert open_runs(**asked, by_model=False, work="edges").sealed is None
