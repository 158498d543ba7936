"""What is known about a model is measured without the user's hooks, and again when the model has changed."""

from __future__ import annotations

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from tests.families import build_hf
from workbench.core.errors import ModelError
from workbench.model.bare import is_bare, modules_of
from workbench.model.open import open_model
from workbench.model.probe import wiring


@pytest.fixture
def bridge():
    return open_model(build_hf("llama"))


def nothing(tensor, hook):
    return torch.zeros_like(tensor)


def hooked(bridge, way: str):
    """Attach what makes layer 1's attention write nothing, as users do it; returns what removes it."""
    point = bridge.blocks[1].hook_attn_out
    if way == "HookPoint":
        handle = point.add_hook(nothing)
        return handle.hook.remove, lambda: point.fwd_hooks.remove(handle)
    if way == "permanent":
        point.add_perma_hook(nothing)
        return (lambda: point.remove_hooks(including_permanent=True),)
    if way == "torch":
        handle = bridge.blocks[1].attn.register_forward_hook(
            lambda module, args, out: (out[0] * 0, *out[1:]) if isinstance(out, tuple) else out * 0
        )
        return (handle.remove,)
    attn = bridge.blocks[1].attn
    handle = register_module_forward_hook(lambda m, args, out: (out[0] * 0, *out[1:]) if m is attn else None)
    return (handle.remove,)


@pytest.mark.parametrize("way", ["HookPoint", "permanent", "torch", "all modules"])
def test_a_hook_does_not_change_what_is_known_about_a_model(bridge, way):
    """Layer 1 writes nothing under the hook: measured with it, the residual stream would be no sum of its parts."""
    ids = torch.arange(8)[None]
    plain = bridge(ids)
    undo = hooked(bridge, way)
    changed = bridge(ids)
    assert (changed - plain).abs().max() > 1e-3 and not is_bare(bridge)
    found = wiring(bridge)
    assert torch.equal(bridge(ids), changed), "the hook is given back"
    for take in undo:
        take()
    assert is_bare(bridge) and torch.equal(bridge(ids), plain)
    fresh = open_model(build_hf("llama"))
    assert found == wiring(fresh) and wiring(bridge) is found


def test_hooks_come_back_in_their_order_also_after_an_error(bridge):
    point, order = bridge.blocks[0].hook_in, []
    handles = [point.add_hook(lambda t, hook, n=n: order.append(n)) for n in range(3)]
    handles.append(point.register_forward_hook(lambda m, a, out: order.append(3), prepend=True))
    ids = torch.arange(8)[None]
    with pytest.raises(ZeroDivisionError), modules_of(bridge).without_hooks():
        bridge(ids)
        assert order == [] and is_bare(bridge)
        1 / 0  # noqa: B018
    bridge(ids)
    assert order == [3, 0, 1, 2] and point.fwd_hooks == handles[:3]


def test_edits_of_weights_and_settings_are_seen(bridge):
    """A gain in front of the queries, set to zero: edits of the residual stream then reach no query."""
    before, modules = wiring(bridge), modules_of(bridge)
    with torch.no_grad():
        bridge.blocks[1].attn.q.weight.mul_(2)
    assert modules_of(bridge) is not modules and wiring(bridge) is not before
    modules = modules_of(bridge)
    bridge(torch.arange(8)[None])
    assert modules_of(bridge) is modules, "a run changes nothing"
    bridge.cfg.eps = 1e-3
    assert modules_of(bridge) is not modules


def test_one_part_in_training_mode_is_enough_to_refuse(bridge):
    wiring(bridge)
    bridge.blocks[1].train()
    with pytest.raises(ModelError, match="training mode"):
        wiring(bridge)
    bridge.eval()
    assert wiring(bridge).n_layers == 3
