"""A walk through plain blocks with hooks: the hooked model's activations, outputs and gradients, hook by hook."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.circuits.addresses import Node
from workbench.engine.edges import ablate_edges
from workbench.engine.gradients import taped_run
from workbench.engine.interventions.ablation import ablations
from workbench.engine.interventions.patching import patches
from workbench.engine.reader_gradients import reader_taps
from workbench.engine.sweep import sweep
from workbench.model import trial
from workbench.model.bare import Modules
from workbench.model.blocks import Blocks, _walked_names
from workbench.model.hooks import hook_name
from workbench.model.probe import record
from workbench.model.unhooked import entering

WALKED = ("gpt2", "llama", "native-ln", "qwen3", "phi", "gpt-neox", "opt", "falcon")


def known_names(runs) -> list[str]:
    """All but MLPs' own copies of the stream, for which the model would have to be told (``use_hook_mlp_in``)."""
    names = _walked_names(runs.wiring.n_layers)
    return sorted(n for n in names if n in runs.model.hook_dict and not n.endswith("hook_mlp_in"))


def noise(name: str, size: float = 0.3):
    """A hook that adds fixed noise, another one at each hook, the same in every row."""

    def add(tensor, hook):
        seed = torch.Generator().manual_seed(sum(name.encode()))
        return tensor + size * torch.randn(tensor.shape[1:], generator=seed)

    return name, add


@pytest.mark.parametrize("family", WALKED)
def test_every_hook_sees_what_the_models_own_sees(family, runs_of):
    """And every hook is there: a name that the model has not, or the walk has not, would be missing."""
    runs = runs_of(family)
    names = known_names(runs)
    for batch in runs.batches:
        assert not isinstance(runs.blocks(batch), str)
        mine, own = runs._recorded(batch, "clean", names), record(runs.model, batch.clean, names)[1]
        assert set(mine) == set(own) == set(names)
        for name in names:
            assert mine[name] == pytest.approx(
                own[name], rel=0, abs=2e-6 * (1 + float(own[name].abs().max()))
            )


@pytest.mark.parametrize("family", WALKED)
def test_what_hooks_put_is_used_as_in_the_model(family, runs_of):
    """One hook at a time, so that an edit which one of the two drops cannot hide behind a later one."""
    runs = runs_of(family)
    batch = runs.batches[0]
    with torch.no_grad():
        untouched = runs.values(batch, batch.clean)
        for name in known_names(runs):
            walked, own = (
                runs.values(batch, batch.clean, [noise(name)], by_model=by) for by in (False, True)
            )
            assert walked == pytest.approx(own, abs=2e-5), name
            assert (walked - untouched).abs().max() > 1e-4, name


@pytest.mark.parametrize("family", WALKED)
def test_gradients_are_those_of_the_model(family, runs_of, monkeypatch):
    runs = runs_of(family)
    batch, taps = runs.batches[0], reader_taps(runs.wiring.graph())[0]
    walked = taped_run(runs, batch, taps).gradients()
    monkeypatch.setattr(Modules, "are_bare", lambda modules: False)
    own = taped_run(runs, batch, taps).gradients()
    assert list(walked) == list(own)
    for name in taps:
        assert walked[name] == pytest.approx(own[name], abs=1e-5 * (1 + float(own[name].abs().max()))), name
    assert all(own[name].abs().max() > 1e-6 for name in taps)
    assert not any(p.grad is not None for p in runs.model.parameters())


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_the_metric_of_a_run_does_not_depend_on_whether_it_was_recorded(family, runs_of):
    """To the last bit: one process records a run, another one only measures it, and their tables are put together."""
    measured, recorded = runs_of(family), runs_of(family)
    for batch in recorded.batches:
        recorded.activations(batch, "corrupted", [hook_name("resid", 1)])
    assert np.array_equal(recorded.corrupted, measured.corrupted)


def test_edges_at_the_last_position_alone_are_edges_everywhere(runs_of, monkeypatch):
    """Nothing else of the last layer is read, with one mask and with one for each label of the tokens."""
    runs = runs_of("llama")
    batch, graph = runs.batches[0], runs.wiring.graph()
    draw = torch.Generator().manual_seed(0)
    for labels in (None, runs.labels_of(batch)):
        axes = () if labels is None else (len(runs.position_labels),)
        masks = torch.rand(3, *axes, *graph.edge_mask.shape, generator=draw) < 0.2
        short = ablate_edges(runs, batch, graph, masks, labels=labels)
        walk = Blocks.walk
        with monkeypatch.context() as patch:
            patch.setattr(Blocks, "walk", lambda *a, last, walk=walk, **k: walk(*a, **k))
            assert short == pytest.approx(ablate_edges(runs, batch, graph, masks, labels=labels), abs=1e-5)
        with monkeypatch.context() as patch:
            patch.setattr(Modules, "are_bare", lambda modules: False)
            assert short == pytest.approx(ablate_edges(runs, batch, graph, masks, labels=labels), abs=1e-5)


def test_a_pass_that_starts_at_a_layer_is_the_end_of_a_whole_one(runs_of):
    runs = runs_of("llama")
    batch = runs.batches[0]
    last = runs.wiring.n_layers - 1
    with torch.no_grad():
        resid = runs.resid(batch, "corrupted", last)
        some = [noise(hook_name("q", last))]
        whole = runs.values(batch, batch.corrupted, some)
        assert runs.values(batch, batch.corrupted, some, start=last, resid=resid) == pytest.approx(
            whole, abs=1e-5
        )


def test_edits_in_attention_in_several_layers_and_of_neurons_equal_the_hooked_model(runs_of, monkeypatch):
    runs = runs_of("gpt2")
    slots = [Node(kind="head", layer=n, index=1, slot=slot) for n in range(2) for slot in "qkv"]
    rows = [*patches(slots, mode="noising"), *patches(slots, positions=[1])]
    rows += ablations([[Node(kind="mlp", layer=0), Node(kind="mlp", layer=1)]], "zero")
    rows += ablations([[Node(kind="neuron", layer=1, index=i)] for i in (0, 3)], "mean")
    fast = sweep(runs, rows, kind="patching")
    assert fast.provenance["computed by"] == {
        "plain blocks": len(rows) * runs.n_pairs,
        "hooked model": 0,
        "because": [],
    }
    monkeypatch.setattr(Modules, "are_bare", lambda modules: False)
    slow = sweep(runs_of("gpt2"), rows, kind="patching")
    assert slow.provenance["computed by"]["plain blocks"] == 0
    assert fast.patched == pytest.approx(slow.patched, abs=1.5e-5)
    assert np.abs(slow.per_pair).max() > 1e-3


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("eap", {}),
        ("eap", {"per_position": True}),
        ("eap", {"at": "both", "ablation": "mean"}),
        ("eap-ig", {}),
        ("acdc", {}),
        ("acdc", {"per_position": True}),
        ("exact", {}),
    ],
)
def test_scores_are_those_of_the_hooked_model(method, options, runs_of, monkeypatch):
    found = wb.score(runs_of("gpt2"), method, **options).values
    monkeypatch.setattr(Modules, "are_bare", lambda modules: False)
    own = wb.score(runs_of("gpt2"), method, **options).values
    assert found == pytest.approx(own, abs=3e-5, nan_ok=True)
    assert np.nanmax(np.abs(own)) > 1e-2


def test_scores_under_a_users_hook_are_of_the_edited_model(runs_of):
    """Plain blocks would not see the hook: the scores would be those of the model without it."""
    runs = runs_of("gpt2")
    before = wb.score(runs, "eap").values
    with runs.model.hooks(fwd_hooks=[noise("blocks.1.hook_mlp_out", 2.0)]):
        edited = wb.score(runs_of("gpt2"), "eap").values
    assert np.nanmax(np.abs(edited - before)) > 1e-3
    assert wb.score(runs_of("gpt2"), "eap").values == pytest.approx(before, abs=1e-6, nan_ok=True)


def test_where_two_tables_are_not_the_start_the_model_itself_says_it(runs_of, monkeypatch):
    """What enters the first layer is compared too; where it differs, the model runs without its layers."""
    runs = runs_of("gpt2")
    batch = runs.batches[0]
    want = record(runs.model, batch.clean, [hook_name("resid", 0)])[1][hook_name("resid", 0)]
    monkeypatch.setattr(trial, "_FOUND", WeakKeyDictionary())
    real = trial.plain_blocks

    def without_places(bridge, wiring):
        blocks = real(bridge, wiring)
        blocks.embed = bridge.embed.original_component.forward
        return blocks

    monkeypatch.setattr(trial, "plain_blocks", without_places)
    blocks = runs.blocks(batch)
    assert blocks.embed is None
    assert entering(runs.model, blocks, batch.clean) == pytest.approx(want, abs=1e-6)
    assert runs.values(batch, batch.clean) == pytest.approx(
        runs.values(batch, batch.clean, by_model=True), abs=1e-5
    )
