"""Soft prompts of a frozen tower: what each token sees, by hand and by gradient; the tower is left as it was."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import workbench as wb
from workbench.core.errors import ModelError, OptionError
from workbench.papers import coordinated_prompts as study
from workbench.papers.kinds import Setting
from workbench.training.prompt_arms import said_by, sizes_of_step, tokens_of, train_prompts
from workbench.training.prompted_tower import (
    PromptedTower,
    PromptPlan,
    patch_likeness,
    reached_by,
    with_prompts,
)

WHO = ("all", "roles", "matched", "dealt")


@pytest.fixture(scope="module")
def marked():
    return wb.open_model("zoo:marked", device="cpu")


@pytest.fixture(scope="module")
def pixels():
    return sizes_of_step(0, n=3, seed=5, noise=0.04)[0]


def test_a_tower_without_prompts_is_the_tower(marked, pixels):
    arm = PromptedTower(marked, None, classes=2)
    wanted = marked.original_model.vit(pixels).last_hidden_state
    assert torch.equal(arm.run(pixels)[0], wanted) and arm.run(pixels)[2] == []
    assert {name for name, _ in arm.named_parameters()} == {"head.weight", "head.bias"}


def test_prompts_that_nobody_sees_change_nothing_and_seen_ones_are_keys_of_plain_attention(marked, pixels):
    layer, x = marked.original_model.vit.layers[0], torch.randn(2, 37, 64)
    prompts = torch.randn(3, 64)
    nobody = torch.zeros(2, 37, 3, dtype=torch.bool)
    assert torch.allclose(with_prompts(layer, x, prompts, nobody), layer(x), atol=1e-5)
    everyone = with_prompts(layer, x, prompts, ~nobody)
    plain = layer(torch.cat([prompts.expand(2, -1, -1), x], dim=1))[:, 3:]
    assert torch.allclose(everyone, plain, atol=1e-5) and not torch.allclose(everyone, layer(x), atol=1e-3)


@pytest.mark.parametrize("who", WHO)
def test_each_token_depends_on_the_prompts_that_it_sees_and_on_no_other(marked, pixels, who):
    arm = PromptedTower(marked, PromptPlan(who=who), classes=2, seed=1)
    seen = arm.run(pixels)[2]
    for layer in (0, 2):
        assert torch.equal(reached_by(arm, pixels, layer), seen[layer][0])
    counts = seen[0].sum(-1)
    wanted = {"all": (8, 8), "roles": (2, 6), "matched": (2, 2), "dealt": (2, 2)}[who]
    assert (counts[:, 0] == wanted[0]).all() and (counts[:, 1:] == wanted[1]).all()
    if who != "all":
        assert not bool(seen[0][:, 0, 2:].any()) and not bool(seen[0][:, 1:, :2].any())


def test_a_patch_sees_the_prompt_whose_sign_is_nearest(marked):
    soft = PromptedTower(marked, PromptPlan(who="matched", each=1), classes=2).soft[0]
    patches = soft.signs.detach()[[4, 0, 2]][None] * 3.0
    assert soft.seen(patches)[0, 1:, 2:].int().argmax(-1).tolist() == [4, 0, 2]
    assert float(soft.apart(patches).detach()) == pytest.approx(0, abs=1e-6)
    assert torch.allclose(soft.matches(patches).amax(-1), torch.ones(1, 3))


def test_likeness_of_patches_by_hand():
    right = torch.tensor([[[5.0, 5.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]]])
    assert float(patch_likeness(right)) == pytest.approx(1 / 3)  # of three pairs one is alike


def test_arms_start_alike_and_the_tower_is_untouched(marked, pixels):
    before = {name: value.clone() for name, value in marked.original_model.state_dict().items()}
    flags = [w.requires_grad for w in marked.original_model.parameters()]
    plans = {"shared": PromptPlan(who="all"), "matched": PromptPlan(who="matched")}
    begun = [PromptedTower(marked, plan, classes=2, seed=3) for plan in plans.values()]
    assert torch.equal(begun[0].soft[1].prompts, begun[1].soft[1].prompts)
    pictures = partial(sizes_of_step, n=4, seed=9, noise=0.04)
    both = train_prompts(marked, plans, pictures, classes=2, steps=3, seed=3)
    alone = train_prompts(marked, {"matched": plans["matched"]}, pictures, classes=2, steps=3, seed=3)
    found = [tokens_of(arms["matched"], pixels) for arms in (both, alone)]
    assert torch.allclose(*found, atol=1e-6)  # trained as it would be alone
    assert said_by(both["shared"], tokens_of(both["shared"], pixels)).shape == (3,)
    assert not torch.equal(both["matched"].soft[0].signs, begun[1].soft[0].signs)  # matching is learned
    assert all(torch.equal(value, before[name]) for name, value in marked.original_model.state_dict().items())
    assert flags == [w.requires_grad for w in marked.original_model.parameters()]


def test_what_cannot_be_is_refused(marked, bridge_of):
    with pytest.raises(OptionError, match="did you mean matched"):
        PromptPlan(who="match")
    with pytest.raises(OptionError, match="7 for each"):
        PromptPlan(who="matched", each=7)
    with pytest.raises(ModelError, match="soft prompts need a ViT"):
        PromptedTower(bridge_of("gpt2"), None, classes=2)
    with pytest.raises(OptionError, match="one step at least"):
        train_prompts(marked, {}, lambda step: None, classes=2, steps=1)
    with pytest.raises(OptionError, match="nothing that could leak"):
        reached_by(PromptedTower(marked, None, classes=2), torch.zeros(1, 3, 48, 48))


def test_the_paper_counts_who_sees_what_and_judges_nothing_untrained(marked):
    options = study.SoftPromptSizes(pictures=16, steps=2, batch=4)
    found = study.REPLICATION.run(Setting(model=marked, name="zoo:marked", options=options, seed=3))
    said = dict(zip(study.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert said["planned"] == said["leaks"] == "holds"
    assert said["coordinated"] == said["diverse"] == said["photographs"] == "cannot be tested here"
