"""Whether a model is as it was, whether anything is attached to it, and how to lift what is.

What is found out *about* a model is found out with the user's hooks lifted, and is kept only as long as the model stays
as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import itemgetter
from types import BuiltinFunctionType, FunctionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.modules import module as torch_modules

from workbench.model import lens
from workbench.model.contents import tellers

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_attached = itemgetter(*_HOOKS)  # all four at once: this is asked for every pass
_NOTHING: tuple[dict[Any, Any], ...] = ({}, {}, {}, {})
_OF_ALL_MODULES = [getattr(torch_modules, f"_global{name}") for name in _HOOKS]
_PLAIN = (bool, int, float, str, FunctionType, BuiltinFunctionType, torch.dtype)


def is_bare(bridge: TransformerBridge) -> bool:
    """Say whether nobody attached anything to the model: no hook, no replaced forward, no offloading."""
    return modules_of(bridge).are_bare()


def modules_of(bridge: TransformerBridge, *, every_number: bool = False) -> Modules:
    """Return the modules of a model; the same object as long as they, their weights and their settings stay what
    they are.

    Whatever is kept about a model is kept with this object: a new one means that it has to be found out again.

    Args:
        every_number: Also look at what the weights hold: ``weight.data`` can be written without torch counting it. One
            pass over the memory, much less than a pass of the model; asked when a job starts, not for every pass.
    """
    found = _MODULES.get(bridge)
    if found is None or not found.are_as_they_were() or (every_number and not found.hold_what_they_held()):
        found = _MODULES[bridge] = Modules(bridge)
    return found


class Modules:
    """The modules of a model, listed once; looking them over again takes a tenth of the time of finding them.

    Only their dictionaries are kept, which does not keep the model alive.

    Attributes:
        training: Whether any of them is in training mode.
    """

    def __init__(self, bridge: TransformerBridge) -> None:
        found = list(every_module(bridge))
        self._own = [vars(module) for module in found]
        self._points = [vars(module) for module in found if isinstance(module, lens.HookPoint)]
        layers = [vars(module) for module in found if not isinstance(module, lens.HookPoint)]
        self._children = [own["_modules"] for own in layers if own["_modules"]]
        self._tensors = [own[kind] for own in layers for kind in ("_parameters", "_buffers") if own[kind]]
        named = [
            (own, [n for n, value in own.items() if _is_setting(value) and n not in _PASSING])
            for own in layers
        ]
        self._settings = [(own, itemgetter(*names)) for own, names in named if names]
        self._configs = list(configs_of(bridge, self._own))
        self._held = [
            (own, name) for own in layers for name, value in own.items() if _holds_settings(value)
        ] + [
            (own, name) for own in self._configs for name, value in own.items() if _copied(value) is not value
        ]
        self.training = any(own["training"] for own in self._own)  # one part is enough: dropout is random
        self._was = self._state()
        weights = [t for own in self._tensors for t in own.values() if t is not None]
        self._weights = weights  # held, so that no other tensor can have their ids
        self._tellers = tellers(weights)
        self._contents = self._held_now()

    def are_as_they_were(self) -> bool:
        """Say whether modules, weights, settings (``training`` too) and configurations are what they were."""
        try:
            return self._state() == self._was
        except (KeyError, RuntimeError, ValueError):  # a setting was deleted, or cannot be compared
            return False

    def _state(self) -> tuple[list[Any], ...]:
        return (
            [tuple(children.values()) for children in self._children],
            [_written(t) for own in self._tensors for t in own.values() if t is not None],
            [settings(own) for own, settings in self._settings],
            [_copied(own[name]) for own, name in self._held],
            [config.copy() for config in self._configs],
            [own["forward"] for own in self._own if "forward" in own],
        )

    def hold_what_they_held(self) -> bool:
        """Say whether every weight has the numbers that it had."""
        return self._held_now() == self._contents

    def _held_now(self) -> list[int]:
        return [tell() for tell in self._tellers]

    def are_bare(self) -> bool:
        """Say whether nobody attached anything to them."""
        if any(_OF_ALL_MODULES) or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            return False
        for own in self._points:
            if own["bwd_hooks"] or (own["fwd_hooks"] and not all(map(_is_permanent, own["fwd_hooks"]))):
                return False
        for own in self._own:
            if "_hf_hook" in own or ("forward" in own and not is_bookkeeping(own["forward"])):
                return False
            if _attached(own) != _NOTHING and not all(
                is_bookkeeping(hook) for hooks in _attached(own) for hook in hooks.values()
            ):
                return False
        return True

    def attached(self) -> list[tuple[str, dict[str, Any], Any]]:
        """Return everything that somebody attached: its kind, the module that holds it (its dictionary), the
        function.
        """
        found: list[tuple[str, dict[str, Any], Any]] = []
        for own in self._own:
            handles = [*own.get("fwd_hooks", ()), *own.get("bwd_hooks", ())]
            found += [("hook", own, handle.user_hook) for handle in handles if not _is_permanent(handle)]
            for hooks in _attached(own):
                found += [("hook", own, hook) for hook in hooks.values() if not is_bookkeeping(hook)]
            if "forward" in own and "_hf_hook" not in own and not is_bookkeeping(own["forward"]):
                found.append(("forward", own, own["forward"]))
        return found + [("hook", {}, hook) for hooks in _OF_ALL_MODULES for hook in hooks.values()]

    @contextmanager
    def without_hooks(self) -> Iterator[None]:
        """Inside, no hook of a user is there; afterwards all are back in their order, also after an error."""
        tables = [table for own in self._own for table in _attached(own) if table] + _OF_ALL_MODULES
        lists = [own[name] for own in self._points for name in ("fwd_hooks", "bwd_hooks") if own[name]]
        before = [(table, dict(table)) for table in tables], [(held, list(held)) for held in lists]
        theirs = {handle.hook.id for held in lists for handle in held if not _is_permanent(handle)}
        try:
            for table in tables:
                for key in [k for k, hook in table.items() if k in theirs or not is_bookkeeping(hook)]:
                    del table[key]
            for held in lists:
                held[:] = [handle for handle in held if _is_permanent(handle)]
            with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                yield
        finally:
            for table, hooks in before[0]:
                table.clear()
                table.update(hooks)
            for held, handles in before[1]:
                held[:] = handles


def every_module(bridge: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Return all modules, those of the wrapped model too, each once, without names: ten times less time than
    ``modules()``.
    """
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


_PASSING = (
    "context_level",
    "_workbench_tower_forms",
)  # open blocks of hooks; what a probe has seen of a tower


def _is_setting(value: Any) -> bool:
    """Numbers, words and functions: an activation, a scale, ``eps``."""
    return isinstance(value, _PLAIN)


def _holds_settings(value: Any) -> bool:
    """Lists and tables of settings: the active adapters of a layer and their scales."""
    if type(value) is dict:
        return bool(value) and all(map(_is_setting, value.values()))
    return type(value) in (list, tuple, set) and bool(value) and all(map(_is_setting, value))


def _copied(value: Any) -> Any:
    """A setting as it is now."""
    return value.copy() if type(value) in (list, dict, set) else value


def settings_in(own: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return the settings in the dictionary of a module or configuration, as they are now."""
    for name, value in own.items():
        if (_is_setting(value) or _holds_settings(value)) and name not in _PASSING:
            yield name, _copied(value)


def configs_of(bridge: TransformerBridge, modules: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the values of every configuration that a model reads, each once."""
    seen: set[int] = set()
    waiting = [own.get(name) for own in [vars(bridge), *modules] for name in ("cfg", "config")]
    while waiting:
        config = waiting.pop(0)
        if config is None or id(config) in seen or isinstance(config, dict):
            continue
        seen.add(id(config))
        values = getattr(config, "__dict__", {})
        yield values
        waiting.extend(value for value in values.values() if type(value).__name__.endswith("Config"))


def _written(tensor: Tensor) -> tuple[Any, ...]:
    """Which tensor this is and how often torch wrote to it."""
    version = -1 if tensor.is_inference() else tensor._version
    return id(tensor), version, tensor.data_ptr(), tensor.dtype, tensor.device


def _is_permanent(handle: Any) -> bool:
    """Whether a hook is one that TransformerLens put there for good."""
    return handle.is_permanent and handle.user_hook is not None and is_bookkeeping(handle.user_hook)


def is_bookkeeping(hook: Any) -> bool:
    """Say whether a hook is TransformerLens', Hugging Face's, that of a tower's own hook points or of a model's own
    mask.
    """
    return home_of(hook) in ("transformer_lens", "transformers") or _module_of(hook) in _OURS


def home_of(hook: Any) -> str:
    """Return the package that a function is of."""
    return _module_of(hook).split(".")[0]


_OURS = ("workbench.model.towers.blocks", "workbench.model.own_mask")


def _module_of(hook: Any) -> str:
    return getattr(getattr(hook, "func", hook), "__module__", None) or ""
