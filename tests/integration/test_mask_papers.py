"""Papers about masks: their method by hand, and small runs that are judged by their own criteria."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

import workbench as wb
from workbench.masks.sequences import causal
from workbench.papers import bi_level_routing as routing
from workbench.papers import dynamic_mask as by_value
from workbench.papers import halo
from workbench.papers import neighborhood as around
from workbench.papers import power_attention as power
from workbench.papers.kinds import Setting
from workbench.training.mixers.arms import get_comparison
from workbench.training.mixers.arms.far_looks import passkeys
from workbench.training.mixers.dynamic_mask import DynamicMask, change_with_room
from workbench.training.mixers.lab import Lab
from workbench.training.mixers.plugs import Content, Width
from workbench.training.mixers.shipped import read_arms


@cache
def kv():
    return wb.open_model("zoo:kv", device="cpu")


def test_a_dynamic_mask_by_hand():
    mix = DynamicMask(Width(d_model=4, n_heads=1, d_head=2), keys=2)
    mix.read.weight.data[:] = torch.tensor([[1.0, 0.0]])
    mix.scale.data[:] = 1.0
    v = torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])[None, :, None]  # (batch, pos, head, d_head)
    scores = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 9.0, 1.0]])[None, None]
    content = Content(x=torch.zeros(1, 3, 4), q=v, k=v, v=v)
    found = mix(scores, causal(3)[None, None], content)[0, 0]
    importance = torch.log1p(torch.tensor([3.0, 1.0, 2.0]).exp())  # softplus: key 1 matters least
    last = torch.stack([importance[0], 1.0 + importance[2]]).softmax(0)
    assert torch.allclose(found[2], torch.tensor([last[0], 0.0, last[1]]))
    assert (found[1] > 0).tolist() == [True, True, False]  # two visible keys: nothing is masked


def test_a_mask_with_room_for_all_keys_is_an_identity_and_gives_its_width_back():
    model = Lab(get_comparison("dynamic-recall").arms["dynamic"], seed=1)
    ids = get_comparison("dynamic-recall").draw(np.random.default_rng(0), 3).inputs
    assert change_with_room(model, ids) == 0 and model.blocks[0].attn.mix.keys == 8


def test_every_token_behind_a_word_is_asked_for_it():
    rows = passkeys(np.random.default_rng(0), 5)
    for ids, target, source in zip(rows.inputs, rows.target, rows.source, strict=True):
        place = int((ids < 16).argmax())
        assert (target[:place] == -1).all() and (target[place:] == ids[place]).all()
        assert (source[place:] == place).all()


def test_arms_of_a_comparison_have_as_many_keys():
    for name in ("power", "dynamic-recall", "dynamic-needle"):
        arms = read_arms(get_comparison(name)).comparison.arms
        masks = [shape.layers[0].mask for shape in arms.values() if shape.layers[0].mask is not None]
        assert len({int(mask[-1].sum()) for mask in masks}) == 1 and not any(
            mask.triu(1).any() for mask in masks
        )


def test_power_attention_is_judged_on_its_shipped_arms():
    options = power.PowerSizes(rows=16, pairs=0)
    found = power.REPLICATION.run(Setting(model=kv(), name="zoo:kv", options=options, seed=3))
    said = dict(zip(power.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert said["reach"] == said["window-reach"] == said["window"] == said["dilated"] == "holds"
    assert said["random"] == "fails" and said["speed"] == "cannot be tested here"


def test_dynamic_mask_is_judged_on_arms_trained_anew():
    options = by_value.DynamicSizes(rows=8, pairs=4, draws=1, retrain=True, steps=2)
    found = by_value.REPLICATION.run(Setting(model=kv(), name="zoo:kv", options=options, seed=3))
    said = dict(zip(by_value.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert said["room"] == "holds" and said["recall, window"] == "cannot be tested here"  # after two steps
    assert len(found.tables["How much of each head is a bias of keys"]) == 12


def test_neighborhoods_are_imposed_on_patches_beside_random_ones():
    model = wb.open_model("zoo:marked", device="cpu")
    options = around.NeighborhoodSizes(pictures=24, draws=1, lengths=(64, 256))
    found = around.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=3))
    said = dict(zip(around.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert said["forms"] == said["one"] == said["full"] == said["width"] == "holds"
    assert said["linear"] == said["quadratic"] == "holds"  # counted: no time, no load of the machine
    widths = found.tables["Right answers by width"]
    assert [row["patches of a patch"] for row in widths] == [1, 4, 9, 16, 25, 36]
    assert widths[0]["right"] < widths[-1]["right"]


def test_routed_regions_and_halos_are_judged_on_their_shipped_arms():
    model = wb.open_model("zoo:marked", device="cpu")
    options = routing.RoutingSizes(rows=8, pictures=16, draws=1)
    found = routing.REPLICATION.run(Setting(model=model, name="zoo:marked", options=options, seed=3))
    said = dict(zip(routing.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert said["keys"] == said["forms"] == said["dense"] == "holds"
    assert len(found.claims) == len(routing.CLAIMS) and said["imagenet"] == "cannot be tested here"
    looks = found.tables["Where regions of the asked patches are routed, times as often as a random region"]
    assert [(row["training"], row["layer"]) for row in looks] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    found = halo.REPLICATION.run(
        Setting(model=None, name="zoo:marked", options=halo.TrainedSizes(rows=8), seed=3)
    )
    said = dict(zip(halo.CLAIMS, (claim.verdict for claim in found.claims), strict=True))
    assert said["forms"] == said["keys"] == said["few"] == "holds"
    keys = {row["arm"]: row["keys"] for row in found.tables["Right answers and weights"]}
    assert keys["halo 0"] == 4 and keys["halo 1"] == keys["random keys, as halo 1"] and keys["all keys"] == 64
