"""A model without attention heads: every sweep and search says so, and what can be measured instead."""

from __future__ import annotations

import pytest
import torch
import transformers

from tests.families import _IDS, save_tokenizer
from tests.mini import mini_pairs
from workbench.core.errors import ModelError
from workbench.engine.experiments import ablate, knock_out, patch
from workbench.engine.interventions.ablation import parts_of
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.found_circuit import discover
from workbench.evaluate.roles import head_roles
from workbench.heads.portrait import portrait
from workbench.methods.by_name import score
from workbench.methods.registry import list_methods
from workbench.model.open import open_model
from workbench.model.outline import outline

SAID = (
    "the model has no attention heads: its 2 layers mix positions by a state-space mixer: a state that each token in "
    "turn updates. No query weighs single keys there, so there are no q, k, v, patterns or head outputs to edit, and "
    "no edges. The residual stream can be measured, and what a layer's mixer writes (blocks.0.mixer.hook_out)\n"
    "  hint: workbench patch --site resid; without a mixer, in Python: "
    'model.hooks(fwd_hooks=[("blocks.0.mixer.hook_out", lambda out, hook: 0 * out)])'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mamba")
    config = transformers.MambaConfig(**_IDS, hidden_size=16, num_hidden_layers=2, state_size=4)
    transformers.MambaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    return PairedRuns(open_model(folder, device="cpu"), mini_pairs())


def test_everything_that_needs_heads_says_the_same(runs):
    asked = [
        *(lambda parts=parts: ablate(runs, parts) for parts in ("heads", "mlps", "attention", "layers")),
        *(
            lambda site=site: patch(runs, site)
            for site in ("attn-out", "mlp-out", "head-output", "q", "pattern")
        ),
        lambda: ablate(runs, ["a0.h0"]),
        lambda: knock_out(runs, "S", "V"),
        *(lambda name=name: score(runs, name) for name in list_methods()),
        lambda: discover(runs, "hisp"),
        lambda: head_roles(runs),
        lambda: portrait(runs.model),
    ]
    for ask in asked:
        with pytest.raises(ModelError) as problem:
            ask()
        assert str(problem.value) == SAID


def test_what_is_offered_works(runs):
    assert len(patch(runs, "resid")) == 2


def test_what_the_hint_says_takes_the_mixer_of_a_layer_away(runs):
    """Without its mixer a layer hands on the residual stream as it came."""
    batch = runs.batches[0]
    with runs.model.hooks(fwd_hooks=[("blocks.0.mixer.hook_out", lambda out, hook: 0 * out)]):
        _, seen = runs.model.run_with_cache(batch.clean)
    assert torch.equal(seen["blocks.0.hook_out"], seen["blocks.0.hook_in"])


def test_a_plan_says_it_before_the_weights_are_read(folder):
    with pytest.raises(ModelError) as problem:
        parts_of(outline(str(folder)), "heads")
    assert str(problem.value) == SAID


def test_attention_alone_has_no_mlps(runs_of):
    with pytest.raises(ModelError, match=r"no MLPs \(2 layers of attention alone\)"):
        ablate(runs_of("native"), "mlps")
