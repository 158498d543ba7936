"""Masks: numbers of keys, reach and leaks by hand; gathered and masked attention agree; what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from workbench import masks
from workbench.core.errors import OptionError, ShapeError
from workbench.masks.chosen_keys import of_regions, routed_behind, routed_regions, top_keys
from workbench.masks.derived import check_span, same_degree, unlock, visible_to
from workbench.masks.gathers import (
    gathered_attention,
    grid_neighborhood_keys,
    keys_of,
    masked_attention,
    neighborhood_keys,
    windowed_attention,
)
from workbench.masks.mask_words import named_mask
from workbench.masks.refusals import check_mask, leaks_of
from workbench.masks.registry import CONTENT_MASKS, MASKS, mask


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def looped(allowed, q, k, v):
    """The attention of one query after the other."""
    out = torch.zeros_like(q)
    for query in range(q.shape[2]):
        keys = allowed[query].nonzero().flatten().tolist()
        scores = (
            torch.stack([(q[:, :, query] * k[:, :, key]).sum(-1) for key in keys], -1) / q.shape[-1] ** 0.5
        )
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        out[:, :, query] = sum(weights[..., i, None] * v[:, :, key] for i, key in enumerate(keys))
    return out


def test_power_attention_reaches_without_gaps():
    mask = masks.at_distances(256, [0, 1, 2, 4, 8, 16, 32, 64, 128])
    assert masks.without_gaps(mask, 8) == [3, 7, 15, 31, 63, 127, 255, 256]
    assert masks.reached(mask, 8) == [9, 37, 93, 163, 219, 247, 255, 256]
    assert masks.layers_to_reach(mask, 126) == 6 and masks.layers_to_reach(masks.window(256, 9), 126) == 16
    assert masks.layers_to_reach(masks.dilated(256, 9), 126) is None  # odd distances are never reached


def test_numbers_of_keys():
    assert masks.degree(masks.dilated(20, 3, step=4)).tolist()[-1] == 3
    assert masks.degree(masks.stride(32, 2, step=8))[-1] == 2 + 3  # distances 0, 1 and 8, 16, 24
    assert set(masks.degree(masks.neighborhood(11, 3, step=2)).tolist()) == {3}
    assert masks.neighborhood(11, 3, step=2)[0].nonzero().flatten().tolist() == [0, 2, 4]
    assert set(masks.degree(masks.grid_neighborhood(37, 3, before=1))[1:].tolist()) == {
        10
    }  # 9 and the class token
    assert set(masks.degree(masks.axial(36)).tolist()) == {11}
    assert masks.degree(masks.blocks(12, 4, halo=1)).tolist() == [5] * 4 + [6] * 4 + [5] * 4
    halo = masks.degree(masks.grid_blocks(144, 4, halo=1)).view(12, 12)
    assert halo[0, 0] == (4 + 1) ** 2 and halo[5, 5] == (4 + 2) ** 2 and halo[0, 5] == (4 + 1) * (4 + 2)
    blocks = masks.power_blocks(32, 4)
    assert blocks[31].nonzero().flatten().tolist() == [*range(12, 16), *range(20, 32)]  # blocks 7, 6, 5, 3
    assert masks.agents(12, 4)[10].nonzero().flatten().tolist() == [3, 7, 8, 9, 10]
    assert (
        masks.reached(masks.agents(64, 8), 2) == [64, 64] and masks.reached(masks.agents(63, 8), 2)[1] == 63
    )


@pytest.mark.parametrize(
    "allowed",
    [
        masks.window(13, 4, sinks=1),
        masks.neighborhood(13, 5),
        masks.powers_of_two(13),
        masks.every_key(13),
        masks.grid_neighborhood(13, 3, rows=3, before=1),
    ],
)
def test_gathered_masked_and_looped_attention_agree(allowed):
    q, k, v = drawn(3, 2, 2, 13, 4)
    plain = looped(allowed, q, k, v)
    assert torch.allclose(masked_attention(q, k, v, allowed), plain, atol=1e-5)
    assert torch.allclose(gathered_attention(q, k, v, *keys_of(allowed)), plain, atol=1e-5)


def test_lists_of_keys_are_those_of_the_masks(monkeypatch):
    keys = keys_of(masks.neighborhood(17, 5))[0]
    assert torch.equal(keys.sort().values, neighborhood_keys(17, 5))
    grid = keys_of(masks.grid_neighborhood(35, 3, rows=5))[0]
    assert torch.equal(grid.sort().values, grid_neighborhood_keys(5, 7, 3))
    monkeypatch.setattr("workbench.masks.gathers.CHUNK", 64)  # several parts
    q, k, v = drawn(3, 1, 2, 17, 4)
    found = gathered_attention(q, k, v, neighborhood_keys(17, 5))
    assert torch.allclose(found, looped(masks.neighborhood(17, 5), q, k, v), atol=1e-5)


@pytest.mark.parametrize(("n", "width"), [(13, 4), (12, 4), (5, 9), (7, 1)])
def test_a_window_block_by_block(n, width):
    q, k, v = drawn(3, 2, 1, n, 4)
    found = windowed_attention(q, k, v, width)
    assert torch.allclose(found, looped(masks.window(n, width), q, k, v), atol=1e-5)


def test_ends_of_a_neighborhood():
    """One key is the values themselves; all keys are full attention."""
    q, k, v = drawn(3, 1, 2, 9, 4)
    assert torch.equal(gathered_attention(q, k, v, neighborhood_keys(9, 1)), v)
    full = torch.softmax(q @ k.mT / 2, -1) @ v
    assert torch.allclose(gathered_attention(q, k, v, neighborhood_keys(9, 9)), full, atol=1e-6)


def test_a_dynamic_mask_changes_nothing_while_there_is_room():
    own = masks.causal(8)
    importance = drawn(1, 2, 8)
    assert torch.equal(top_keys(importance, own, 8)[0, 0], own)
    few = top_keys(importance, own, 3)
    assert torch.equal(few.sum(-1)[0, 0], torch.tensor([1, 2, 3, 3, 3, 3, 3, 3]))
    best = set(importance[0, 1].topk(3).indices.tolist())
    assert set(few[0, 1, 7].nonzero().flatten().tolist()) == best


def test_routed_regions_have_exactly_their_keys():
    q, k = drawn(2, 2, 3, 16, 4)
    region = masks.regions_of_grid(16, 2)
    kept = routed_regions(q, k, region, 2)
    assert (of_regions(kept, region).sum(-1) == 2 * 16 // 4).all()
    assert of_regions(routed_regions(q, k, region, 4), region).all()  # all regions: dense
    mean = lambda x, r: x[0, 1, (region == r).nonzero().flatten()].mean(0)  # noqa: E731
    fits = [float(mean(q, 3) @ mean(k, r)) for r in range(4)]
    assert kept[0, 1, 3].nonzero().flatten().tolist() == sorted(sorted(range(4), key=lambda r: -fits[r])[:2])


def test_causal_routing_depends_on_nothing_ahead():
    q, k = drawn(2, 1, 1, 12, 4)
    region, own = torch.arange(12) // 3, masks.causal(12)
    before = routed_behind(q, k, own, region, 2)
    assert not (before & ~own).any() and before[..., torch.arange(12), torch.arange(12)].all()
    for at in range(1, 12):
        other_q, other_k = q.clone(), k.clone()
        other_q[:, :, at], other_k[:, :, at] = 9.0, -9.0
        assert torch.equal(routed_behind(other_q, other_k, own, region, 2)[:, :, :at], before[:, :, :at])


@pytest.mark.parametrize(
    "text", ["window:5,sinks=1", "powers-of-two", "neighborhood:5", "grid-neighborhood:3"]
)
def test_random_masks_have_the_same_degree(text):
    allowed = named_mask(text).allowed(16)
    found, other = (same_degree(allowed, seed=seed) for seed in (0, 1))
    assert torch.equal(found.sum(-1), allowed.sum(-1)) and not torch.equal(found, other)
    assert found.diagonal().equal(allowed.diagonal()) and bool(leaks_of(found)) == bool(leaks_of(allowed))


def test_leaks_are_named():
    opened = unlock(masks.causal(6), (1, 2), (3, 5))
    assert leaks_of(opened) == [(1, 3), (1, 4)]
    with pytest.raises(OptionError, match="query 1 sees key 3, query 1 sees key 4, which are ahead"):
        check_mask(opened, causal=True)
    assert check_mask(opened) is opened
    with pytest.raises(OptionError, match=r"and 3 more entries"):
        check_mask(masks.every_key(4), causal=True)


def test_roles():
    roles = ["class", "class-prompt", "patch-prompt", "patch", "patch"]
    sees = {"class": ["class", "class-prompt", "patch"], "patch": ["patch", "patch-prompt"]}
    planned = [[1, 1, 0, 1, 1], [1] * 5, [1] * 5, [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]
    assert visible_to(roles, sees).int().tolist() == planned
    with pytest.raises(OptionError, match="did you mean patch"):
        visible_to(roles, {"pach": ["patch"]})
    with pytest.raises(OptionError, match="query 0 without any key"):
        visible_to(roles, {"class": []})


def test_what_cannot_work_is_refused():
    for text in ("window:0", "neighborhood:0", "dynamic:0", "blocks:0", "window:4,sinks=-1"):
        with pytest.raises(OptionError, match="at least"):
            named_mask(text)
    with pytest.raises(OptionError, match="width is 0; at least 1"):
        masks.window(8, 0)
    with pytest.raises(OptionError, match="1 to 8 fit"):
        masks.neighborhood(8, 9)
    with pytest.raises(OptionError, match="did you mean window"):
        named_mask("windo:4")
    with pytest.raises(OptionError, match="did you mean width"):
        named_mask("window:widht=4")
    with pytest.raises(OptionError, match="a whole number"):
        named_mask("window:four")
    with pytest.raises(OptionError, match="needs width"):
        named_mask("window")
    with pytest.raises(ShapeError, match="no grid"):
        masks.axial(10)
    with pytest.raises(OptionError, match="not in the prompt"):
        unlock(masks.causal(4), (0, 2), (3, 6))
    with pytest.raises(OptionError, match="has no token"):
        check_span((2, 2), 4)
    with pytest.raises(ShapeError, match="for 4 tokens; 5 are there"):
        check_mask(masks.causal(4), n=5)
    with pytest.raises(OptionError, match="3 regions of 2"):
        routed_regions(drawn(1, 1, 4, 2), drawn(1, 1, 4, 2), torch.arange(4) // 2, 3)


def test_masks_of_others_are_held_to_the_same(unchecked):
    @mask("of-mine")
    def of_mine(n: int, width: int = 1):
        return torch.ones(n, n, dtype=torch.bool).triu(width)

    with pytest.raises(OptionError, match="leaves query 2 without any key"):
        MASKS.get("of-mine")(3)
    MASKS.remove("of-mine")


def test_names_are_known_without_torch():
    code = (
        "import sys; from workbench.masks.mask_words import named_mask as n; n('window:4'); n('routed:4'); "
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout == "False\n"
    assert {"window", "axial", "grid-neighborhood"} <= set(MASKS) and {"routed", "dynamic"} <= set(
        CONTENT_MASKS
    )
