"""Routed regions and blocks with a halo: the keys that are gathered are those of the mask, counted and looped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import workbench.masks as masks
from workbench.core.errors import OptionError, ShapeError
from workbench.masks.gathers import masked_attention
from workbench.masks.region_gathers import halo_attention, halo_keys, routed_attention
from workbench.tasks.scenes.patch_rows import patch_rows, slots_of
from workbench.training.mixers.arms import get_comparison
from workbench.training.mixers.lab import Lab
from workbench.training.mixers.picture_plugs import DepthwiseConvolution, routed_by_content
from workbench.training.mixers.plugs import Content, Width
from workbench.training.mixers.region_looks import holds, object_lifts, routing_lift, routing_of


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def routed_by_loop(q, k, v, side, keep):
    """Region by region, query by query, for one row and one head of a square."""
    width = round(len(q) ** 0.5)
    high = width // side
    places = [
        [(top * high + i) * width + left * high + j for i in range(high) for j in range(high)]
        for top in range(side)
        for left in range(side)
    ]
    out = torch.zeros_like(q)
    for own in places:
        fits = [float(q[own].mean(0) @ k[other].mean(0)) for other in places]
        keys = [key for i in np.argsort(fits)[::-1][:keep] for key in places[i]]
        for query in own:
            weights = torch.tensor([float(q[query] @ k[key]) for key in keys]) / q.shape[-1] ** 0.5
            out[query] = (weights.softmax(0)[:, None] * v[keys]).sum(0)
    return out


@pytest.mark.parametrize("keep", [1, 3])
def test_routed_attention_is_the_loop_over_regions_and_queries(keep):
    q, k, v = drawn(3, 2, 2, 36, 4)
    found = routed_attention(q, k, v, 3, keep)
    for row in range(2):
        for head in range(2):
            plain = routed_by_loop(q[row, head], k[row, head], v[row, head], 3, keep)
            assert torch.allclose(found[row, head], plain, atol=1e-5)


def test_routed_attention_is_that_under_its_mask_and_with_all_regions_plain_attention():
    q, k, v = drawn(3, 2, 2, 24, 4)
    own = masks.every_key(24)
    allowed = masks.CONTENT_MASKS.get("grid-routed")(q, k, v, own, 2, 3, 4)
    assert set(allowed.sum(-1).flatten().tolist()) == {3 * 24 // 4}
    assert torch.allclose(
        routed_attention(q, k, v, 2, 3, rows=4), masked_attention(q, k, v, allowed), atol=1e-5
    )
    assert torch.allclose(routed_attention(q, k, v, 2, 4, rows=4), masked_attention(q, k, v, own), atol=1e-5)


@pytest.mark.parametrize(("rows", "n", "block", "halo"), [(6, 36, 3, 1), (4, 32, 2, 0), (4, 24, 2, 5)])
def test_halo_attention_is_that_under_its_mask(rows, n, block, halo):
    q, k, v = drawn(3, 2, 2, n, 4)
    allowed = masks.grid_blocks(n, block, halo=halo, rows=rows)
    found = halo_attention(q, k, v, block, halo, rows=rows)
    assert torch.allclose(found, masked_attention(q, k, v, allowed), atol=1e-5)


def test_keys_of_a_halo_are_counted_inside_and_in_the_corner():
    members, _, inside = halo_keys(144, 3, 2)
    counts = inside.sum(-1).view(4, 4)
    assert counts[1, 1] == (3 + 4) ** 2 and counts[0, 0] == (3 + 2) ** 2 and counts[0, 1] == (3 + 2) * (3 + 4)
    assert sorted(members.flatten().tolist()) == list(range(144))
    whole = halo_keys(16, 4, 0)  # one block is the whole picture
    assert whole[1].tolist() == [list(range(16))] and bool(whole[2].all())


def test_what_does_not_divide_is_refused():
    q = drawn(1, 1, 25, 4)
    with pytest.raises(ShapeError, match="no 2 times 2 regions"):
        routed_attention(q, q, q, 2, 1)
    with pytest.raises(OptionError, match="26 regions of 25"):
        routed_attention(q, q, q, 5, 26)
    with pytest.raises(ShapeError, match="no blocks of 2 times 2"):
        halo_attention(q, q, q, 2, 1)
    with pytest.raises(OptionError, match="a halo of -1"):
        halo_attention(q, q, q, 5, -1)


def content(n=16, heads=2, d=3):
    q, k, v = drawn(3, 2, n, heads, d, seed=4)
    return Content(x=drawn(2, n, 5), q=q, k=k, v=v)


def test_heads_are_routed_together_and_see_whole_regions():
    given, every = content(), torch.ones(16, 16, dtype=torch.bool)
    found = routed_by_content(None, every, given, side=2, keep=2)
    assert found.shape == (2, 1, 16, 16) and (found.sum(-1) == 8).all()
    region = masks.regions_of_grid(16, 2)
    own_q = given.q[0, region == 0].mean(0).flatten()
    fits = torch.stack([own_q @ given.k[0, region == i].mean(0).flatten() for i in range(4)])
    best = set(fits.topk(2).indices.tolist())
    assert {int(region[key]) for key in found[0, 0, 0].nonzero().flatten()} == best


def test_a_depthwise_convolution_reads_neighbours_of_its_own_channel():
    layer, given = DepthwiseConvolution(Width(d_model=5, n_heads=2, d_head=3), kernel=3), content()
    layer.weight.data[:, 3] = 1.0  # the middle row's left neighbour
    found = layer(given)
    grid = given.v.view(2, 4, 4, 2, 3)
    assert torch.equal(found.view(2, 4, 4, 2, 3)[:, :, 1:], grid[:, :, :-1])
    assert float(found.detach().view(2, 4, 4, 2, 3)[:, :, 0].abs().max()) == 0
    with pytest.raises(OptionError, match="a kernel of 2"):
        DepthwiseConvolution(Width(d_model=5, n_heads=2, d_head=3), kernel=2)
    with pytest.raises(ShapeError, match="12 patches are no square"):
        layer(content(12))


def test_patches_are_asked_for_what_is_on_them_or_in_the_frame():
    own, framed = (patch_rows(np.random.default_rng(3), 20, asked=asked) for asked in ("own", "framed"))
    assert np.array_equal(own.inputs, framed.inputs) and np.array_equal(own.slot, framed.slot)
    assert (own.target[own.slot < 0] == -1).all() and (own.target[own.slot >= 0] >= 0).all()
    for answers, slots, frame in zip(own.target, own.slot, framed.target, strict=True):
        for slot in set(slots[slots >= 0]):
            assert len(set(answers[slots == slot])) == 1  # one object, one colour
        mine = set(answers[slots == 0])
        assert set(frame[slots > 0]) <= mine and (frame[slots <= 0] == -1).all()


def test_the_object_of_a_patch_covers_an_eighth_of_it_and_more_than_others():
    owner = np.full((1, 48, 48), -1)
    owner[0, :6, :1] = 1  # six pixels of 36
    owner[0, 0, 6:10] = 2  # four pixels: too few
    found = slots_of(owner, 6)[0]
    assert found[0] == 1 and found[1] == -1 and (found[2:] == -1).all()
    with pytest.raises(OptionError, match="patches of 7 pixels"):
        slots_of(owner, 7)


def test_smaller_patches_are_the_pixels_of_the_picture():
    rows = patch_rows(np.random.default_rng(0), 1, asked="own", patch=12)
    assert rows.slot.shape == (1, 16)
    assert F.unfold(torch.from_numpy(rows.inputs), 12, stride=12).shape == (1, 3 * 144, 16)


def test_where_regions_of_asked_patches_are_routed_is_told_beside_chance():
    """Every region is routed to the region of the frame alone: as often as there are regions."""
    rows = patch_rows(np.random.default_rng(1), 8, asked="framed")
    shape = get_comparison("routed").arms["routed"]
    model = Lab(shape, seed=0)
    kept = routing_of(model, torch.from_numpy(rows.inputs), side=4, keep=4)
    assert kept.shape == (2, 8, 16, 16) and (kept.sum(-1) == 4).all()
    framed, asking = holds(torch.from_numpy(rows.slot == 0), 4), torch.ones(8, 16, dtype=torch.bool)
    to_frame = framed[:, None].expand(8, 16, 16)
    held = framed.sum(1)
    assert torch.allclose(routing_lift(to_frame, asking, framed), 16 / held)
    assert (routing_lift(to_frame, asking, ~framed) == 0).all()
    found = object_lifts([model], rows, side=4, keep=4)
    assert found.framed.shape == (1, 2, 8 - found.left_out) and found.first.shape == (2, 8, 8)
    assert np.allclose(found.first.mean((1, 2)), 4 / 16)  # four of sixteen regions, whoever asks


def test_patches_can_be_asked_one_by_one_and_a_card_of_before_knows_nothing_of_it():
    shape = get_comparison("routed").arms["window"]
    pixels = torch.rand(2, 3, 48, 48)
    assert Lab(shape)(pixels).shape == (2, 64, 6) and shape.to_dict()["each_patch"] is True
    whole = replace(shape, each_patch=False)
    assert Lab(whole)(pixels).shape == (2, 6) and "each_patch" not in whole.to_dict()


@pytest.mark.parametrize("name", ["routed", "halo"])
def test_arms_that_are_compared_have_as_many_keys(name):
    arms = get_comparison(name).arms
    if name == "routed":
        masks_of = {arm: shape.layers[0].mask for arm, shape in arms.items()}
        degrees = {
            arm: mask.sum(-1).unique().tolist() for arm, mask in masks_of.items() if torch.is_tensor(mask)
        }
        assert degrees.pop("axial") == [15] and set(map(tuple, degrees.values())) == {(16,)}
    else:
        near, drawn_keys = (arms[arm].layers[0].mask.sum(-1) for arm in ("halo 1", "random keys, as halo 1"))
        assert torch.equal(near, drawn_keys)
