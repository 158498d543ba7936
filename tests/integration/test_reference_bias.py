"""A bias towards a reference by hand and beside one hook; the mixture that is fitted; the study at a small size."""

from __future__ import annotations

import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.edits.biased_scores import entering_layers, span_reference
from workbench.edits.reference_bias import BiasTowards
from workbench.edits.reference_scenes import draw_references, fit_mixture, from_zero_to_one
from workbench.model.hooks import forward
from workbench.model.prompt import Prompt
from workbench.papers import reference_bias as study
from workbench.papers.kinds import Setting


@pytest.fixture(scope="module")
def marked():
    return wb.open_model("zoo:marked", device="cpu")


@pytest.fixture(scope="module")
def text():
    model = wb.open_model("zoo:ioi", device="cpu")
    return model, Prompt(model.to_tokens("Mary and John"))


@torch.no_grad()
def test_it_is_a_change_of_scores_and_nothing_at_beta_zero(text, tmp_path):
    model, prompt = text
    reference = torch.randn(
        1, model.cfg.n_layers, model.cfg.d_model, generator=torch.Generator().manual_seed(0)
    )
    edit = BiasTowards(heads=("a1.h2",), reference=reference, beta=3.0)
    held = {}

    def keep(resid, hook):
        held["x"] = resid

    def naive(scores, hook):
        new = scores.clone()
        new[:, 2] += 3.0 * torch.cosine_similarity(held["x"], reference[:, 1], dim=-1)[:, None]
        return new

    plain = forward(model, prompt, last_only=False)
    with model.hooks(fwd_hooks=[("blocks.1.hook_in", keep), ("blocks.1.attn.hook_attn_scores", naive)]):
        wanted = forward(model, prompt, last_only=False)
    with edit.on(model):
        found = forward(model, prompt, last_only=False)
    assert torch.allclose(found, wanted, atol=1e-4) and not torch.allclose(found, plain, atol=1e-3)
    with BiasTowards(heads=("a1",), reference=reference, beta=0.0).on(model):
        assert torch.equal(forward(model, prompt, last_only=False), plain)
    assert torch.equal(forward(model, prompt, last_only=False), plain)  # as it was afterwards
    wb.edits.save_edit(edit, tmp_path / "biased")
    again = wb.edits.load_edit(tmp_path / "biased")
    assert again.describe() == edit.describe() and torch.equal(again.reference, reference)


@torch.no_grad()
def test_the_key_that_is_the_reference_gains_most(text):
    model, prompt = text
    span = torch.zeros(tuple(prompt.shape), dtype=torch.bool)
    span[0, 2] = True
    reference = span_reference(model, prompt, span)
    assert torch.allclose(reference, entering_layers(model, prompt)[:, :, 2])
    name = "blocks.0.attn.hook_pattern"
    _, before = model.run_with_cache(prompt.ids, names_filter=name)
    with BiasTowards(heads=("a0",), reference=reference, beta=4.0, queries=(-1,)).on(model):
        _, after = model.run_with_cache(prompt.ids, names_filter=name)
    gain = after[name] / before[name]
    assert bool((gain[0, :, -1].argmax(-1) == 2).all()) and torch.equal(
        after[name][:, :, :-1], before[name][:, :, :-1]
    )


def test_what_cannot_be_a_reference_is_refused(text):
    model, prompt = text
    with pytest.raises(ShapeError, match="reference, layer, d_model"):
        BiasTowards(heads=("a0",), reference=torch.zeros(2, 4))
    with pytest.raises(OptionError, match="finite"):
        BiasTowards(heads=("a0",), reference=torch.zeros(1, 2, 4), beta=float("inf"))
    with (
        pytest.raises(ShapeError, match="of 9 layers"),
        BiasTowards(heads=("a0",), reference=torch.zeros(1, 9, model.cfg.d_model)).on(model),
    ):
        pass
    with pytest.raises(ShapeError, match="no position"):
        span_reference(model, prompt, torch.zeros(tuple(prompt.shape), dtype=torch.bool))


def test_a_mixture_finds_the_map_that_is_the_mask_and_items_do_not_mix():
    maps, mask = (
        torch.rand(2, 3, 12, generator=torch.Generator().manual_seed(1)),
        torch.zeros(2, 12, dtype=torch.bool),
    )
    mask[0, :4], mask[1, 6:8] = True, True
    maps[0, 2], maps[1, 0] = mask[0].float(), mask[1].float()
    found = fit_mixture(maps, mask)
    assert found.argmax(1).tolist() == [2, 0] and float(found.amax(1).min()) > 0.9
    assert torch.allclose(found[:1], fit_mixture(maps[:1], mask[:1]), atol=1e-5)
    assert from_zero_to_one(torch.tensor([[2.0, 4.0, 3.0], [1.0, 1.0, 1.0]])).tolist() == [
        [0, 1, 0.5],
        [0, 0, 0],
    ]


def test_both_pictures_hold_the_object_once(marked):
    pairs = draw_references(marked, n=20, seed=7)
    for one in (pairs.references, pairs.shown):
        layout, there = one.layout, range(len(one))
        named = [
            list(zip(layout.colour[i, : layout.n[i]], layout.shape[i, : layout.n[i]], strict=True))
            for i in there
        ]
        assert all(names.count(names[1]) == 1 for names in named)
    assert (pairs.references.layout.size[:, 1] == pairs.shown.layout.size[:, 1]).all() and len(pairs) == 20


def test_the_study_is_judged_and_needs_a_model_that_sees(marked, bridge_of):
    options = study.ReferenceSizes(choosing=10, pictures=40, draws=1)
    found = study.REPLICATION.run(Setting(model=marked, name="zoo:marked", options=options, seed=3))
    verdicts = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert verdicts["moves"] == verdicts["random"] == "holds"
    assert verdicts["photographs"] == "cannot be tested here"
    with pytest.raises(ModelError, match="reads no pictures"):
        study.REPLICATION.run(Setting(model=bridge_of("gpt2"), name="tiny", options=options))
