"""Whether anything is attached to a model, and whether it is as it was: what somebody did must never be passed by."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from types import BuiltinFunctionType, FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn.modules import module as torch_modules
from transformer_lens.hook_points import HookPoint
from transformer_lens.model_bridge import TransformerBridge

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_attached = itemgetter(*_HOOKS)  # all four at once: this is asked for every pass
_NOTHING: tuple[dict[Any, Any], ...] = ({}, {}, {}, {})
_OF_ALL_MODULES = [getattr(torch_modules, f"_global{name}") for name in _HOOKS]


def is_bare(bridge: TransformerBridge) -> bool:
    """Whether nobody attached anything to the model: no hook, no replaced forward, no offloading."""
    return modules_of(bridge).are_bare()


def modules_of(bridge: TransformerBridge) -> Modules:
    """The modules of a model; the same object as long as none of them is replaced or set otherwise."""
    found = _MODULES.get(bridge)
    if found is None or not found.are_as_they_were():
        found = _MODULES[bridge] = Modules(bridge)
    return found


class Modules:
    """The modules of a model, listed once; looking them over again takes a quarter of the time of finding them.

    Only their dictionaries are kept, which does not keep the model alive.
    """

    def __init__(self, bridge: TransformerBridge) -> None:
        found = list(every_module(bridge))
        self._own = [vars(module) for module in found]
        self._points = [vars(module) for module in found if isinstance(module, HookPoint)]
        layers = [vars(module) for module in found if not isinstance(module, HookPoint)]
        self._children = [own["_modules"] for own in layers if own["_modules"]]
        self._parameters = [own["_parameters"] for own in layers if own["_parameters"]]
        named = [(own, [name for name, value in own.items() if _is_setting(value)]) for own in layers]
        self._settings = [(own, itemgetter(*names)) for own, names in named if names]
        self._was = self._state()

    def are_as_they_were(self) -> bool:
        """Whether every module still has its parts, its precision and device, and its settings (``training`` too)."""
        try:
            return self._state() == self._was
        except KeyError:  # a setting was deleted
            return False

    def _state(self) -> tuple[list[Any], ...]:
        return (
            [tuple(children.values()) for children in self._children],
            [(p.dtype, p.device) for own in self._parameters for p in own.values() if p is not None],
            [settings(own) for own, settings in self._settings],
        )

    def are_bare(self) -> bool:
        """Whether nobody attached anything to them."""
        if any(_OF_ALL_MODULES):
            return False
        for own in self._points:
            if own["bwd_hooks"] or (own["fwd_hooks"] and not all(map(_is_permanent, own["fwd_hooks"]))):
                return False
        for own in self._own:
            if "_hf_hook" in own or ("forward" in own and not _is_bookkeeping(own["forward"])):
                return False
            if _attached(own) != _NOTHING and not all(
                _is_bookkeeping(hook) for hooks in _attached(own) for hook in hooks.values()
            ):
                return False
        return True


def every_module(bridge: TransformerBridge) -> Iterator[torch.nn.Module]:
    """All modules, those of the wrapped model too, each once, without names: ten times less time than ``modules()``."""
    seen: set[int] = set()
    waiting = [bridge, getattr(bridge, "original_model", None)]
    while waiting:
        module = waiting.pop()
        if module is None or id(module) in seen:
            continue
        seen.add(id(module))
        yield module
        waiting.extend(vars(module)["_modules"].values())


_MODULES: WeakKeyDictionary[TransformerBridge, Modules] = WeakKeyDictionary()


def _is_setting(value: Any) -> bool:
    """Numbers, words and functions: an activation, a scale, ``eps``."""
    return isinstance(value, bool | int | float | str | FunctionType | BuiltinFunctionType | torch.dtype)


def _is_permanent(handle: Any) -> bool:
    """Whether a hook is one that TransformerLens put there for good."""
    return handle.is_permanent and handle.user_hook is not None and _is_bookkeeping(handle.user_hook)


def _is_bookkeeping(hook: Any) -> bool:
    """Whether TransformerLens or Hugging Face put a hook there for their own bookkeeping."""
    home = getattr(getattr(hook, "func", hook), "__module__", None) or ""
    return home.split(".")[0] in ("transformer_lens", "transformers")
