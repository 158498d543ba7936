"""Numbers that are measured while something stands on a model say so, and none of them stays when it is gone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from tests.families import build_hf, save_tokenizer
from tests.mini import mini_pairs
from workbench.circuits.files.effects_file import load_effects
from workbench.commands.forms.sweep import Ablate
from workbench.commands.inputs import record_of
from workbench.core.errors import ModelError
from workbench.edits.off import knock_out
from workbench.engine.experiments import ablate
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.faithfulness import faithfulness
from workbench.heads.portrait import portrait
from workbench.methods.by_name import score
from workbench.model.identity import identity
from workbench.model.open import open_model

HOOK = "1 hook of yours at blocks.1.attn.hook_out"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    build_hf("llama").save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture
def model(folder):
    return open_model(folder, device="cpu")


def silenced(model):
    """The user's own hook: attention of layer 1 writes nothing."""
    return model.hooks(fwd_hooks=[("blocks.1.attn.hook_out", lambda tensor, hook: torch.zeros_like(tensor))])


def test_every_result_says_that_a_hook_stood(model, tmp_path):
    runs = PairedRuns(model, mini_pairs())
    with silenced(model):
        effects = ablate(runs)
        scores = score(runs, "eap")
        circuit = scores.keep("20%")
        kept = faithfulness(circuit, runs)
        looked = portrait(model, loss=False, n=2)
        record = record_of(Ablate(model="m", task="t"), runs)
        card = runs._repr_html_()
        assert identity(model).title.endswith(f" with {HOOK}")
    named = (effects.title, repr(scores), repr(circuit), repr(kept), repr(looked), card)
    pages = (effects._repr_html_(), circuit._repr_html_(), looked._repr_html_(), str(looked.to_terminal()))
    assert [HOOK in text for text in (*named, *pages)] == [True] * 10
    for result in (effects, scores, circuit, looked):
        assert result.provenance["standing"] == [HOOK]
    assert kept.to_dict()["standing"] == record.model["standing"] == [HOOK]
    effects.save(tmp_path)
    assert HOOK in load_effects(tmp_path).title
    assert "standing" not in ablate(runs).provenance and "hook" not in ablate(runs).title


def test_numbers_measured_with_a_hook_do_not_stay(model, folder):
    """Metric, activations and means of the same runs, before, under and after the hook."""
    runs, fresh = (PairedRuns(one, mini_pairs()) for one in (model, open_model(folder, device="cpu")))
    before, want = runs.clean, ablate(fresh, ablation="mean")
    with silenced(model):
        under = ablate(runs, ablation="mean")
        assert np.abs(under.base - before).max() > 1e-3 and np.array_equal(runs.clean, under.base)
    after = ablate(runs, ablation="mean")
    assert np.array_equal(after.base, before)
    assert after.patched == pytest.approx(want.patched, abs=1e-6)
    assert not np.allclose(under.patched, want.patched, atol=1e-3)


def test_runs_that_were_made_under_a_hook_are_those_of_the_model_afterwards(model, folder):
    with silenced(model):
        runs = PairedRuns(model, mini_pairs())
        runs.resid(runs.batches[0], "clean", 2)
    fresh = PairedRuns(open_model(folder, device="cpu"), mini_pairs())
    found, want = score(runs, "eap").values, score(fresh, "eap").values
    assert np.array_equal(found, want, equal_nan=True)


WAYS = {
    "counted": lambda weight, factor: weight.mul_(factor),
    "past torch's count": lambda weight, factor: weight.data.mul_(factor),
    "numpy": lambda weight, factor: np.multiply(weight.numpy(), factor, out=weight.numpy()),
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_edited_in_place_are_other_weights_until_they_are_put_back(model, way):
    runs, opened = PairedRuns(model, mini_pairs()), identity(model)
    before, weight = ablate(runs), model.blocks[1].attn.q.weight.detach()
    WAYS[way](weight, 2.0)
    changed = identity(model)
    assert changed.digest != opened.digest
    assert changed.standing == ("1 weight changed after opening: blocks.1.attn.q.weight",)
    edited = ablate(runs)
    assert edited.provenance["weights"] == changed.digest and not np.array_equal(edited.base, before.base)
    WAYS[way](weight, 0.5)
    assert identity(model) == opened and np.array_equal(ablate(runs).patched, before.patched)


def test_an_edited_weight_has_the_digest_that_it_has_when_it_is_opened(tmp_path):
    """Doubled in memory after opening, and doubled before: the same tensors."""
    late, early = open_model(build_hf("llama")), build_hf("llama")
    with torch.no_grad():
        late.blocks[2].mlp.out.weight.mul_(2)
        early.model.layers[2].mlp.down_proj.weight.mul_(2)
    assert identity(late).digest == identity(open_model(early)).digest


def test_settings_parts_precision_and_copies(model):
    opened = identity(model)
    assert identity(copy.deepcopy(model)) == opened
    model.set_use_attn_result(True)
    assert identity(model).standing == ("use_attn_result = True",)
    assert identity(model).config_digest != opened.config_digest and identity(model).digest == opened.digest
    model.set_use_attn_result(False)
    with torch.autocast("cpu", torch.bfloat16):
        assert identity(model).standing == ("autocast to bfloat16",)
    assert identity(model) == opened
    model.to(torch.float64)
    assert identity(model).dtype == "float64" and identity(model).digest == opened.digest
    model.to(torch.float32)
    assert identity(model) == opened
    model.blocks[1].ln1._modules["_original_component"] = torch.nn.Identity()
    gone, other = identity(model).standing
    assert gone == "1 weight changed after opening: blocks.1.ln1.weight"
    assert other == "1 part changed after opening: blocks.1.ln1"


def test_an_edit_is_named_and_hooks_beside_it_too(model):
    with knock_out(["a1.h0"], -1, 0).on(model), silenced(model):
        said = identity(model).standing
    assert len(said) == 2 and said[0].startswith("edit ") and "a1.h0" in said[0] and said[1] == HOOK


def test_dropout_switched_on_after_the_runs_were_made_is_refused(model):
    runs = PairedRuns(model, mini_pairs())
    model.blocks[1].train()
    for measured in (lambda: runs.clean, lambda: ablate(runs), lambda: score(runs, "eap")):
        with pytest.raises(ModelError, match="training mode"):
            measured()
