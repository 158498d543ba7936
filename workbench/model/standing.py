"""What stands on a model while it is measured: hooks, edits, settings, weights that are not those it was opened with.

Numbers that are measured with any of it are numbers of that model: titles and records name it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from workbench.model.bare import Modules, configs_of, home_of, modules_of, settings_in
from workbench.model.contents import contents
from workbench.model.digest import holds

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_EDITS: WeakKeyDictionary[TransformerBridge, list[str]] = WeakKeyDictionary()
_MOST = 3  # places that are named
_DEVICES = ("cpu", "cuda")  # where torch may be told to compute in another precision


@contextmanager
def edited(bridge: TransformerBridge, edit: str) -> Iterator[None]:
    """Inside, the workbench's own hooks on this model are an edit with a name."""
    held = _EDITS.setdefault(bridge, [])
    held.append(edit)
    try:
        yield
    finally:
        held.remove(edit)


def edits_on(bridge: TransformerBridge) -> tuple[str, ...]:
    """Return the edits that stand on a model, or on another stack of it, in words."""
    stacks = [bridge, *getattr(bridge, "towers", {}).values()]
    return tuple(dict.fromkeys(edit for stack in stacks for edit in _EDITS.get(stack, ())))


@dataclass(frozen=True)
class Snapshot:
    """A model at one moment, by names: what each weight holds, in which dtype; what each part is; every setting."""

    weights: Mapping[str, tuple[int, torch.dtype]]
    parts: Mapping[str, str]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, bridge: TransformerBridge, like: Snapshot | None = None) -> Snapshot:
        """Return the model as it is; numbers in the dtypes of another snapshot where these hold them."""
        named = named_modules(bridge)
        weights = weights_of(named)
        if like is not None:
            weights = {name: _cast(tensor, like.weights.get(name)) for name, tensor in weights.items()}
        parts = {name: f"{type(m).__module__}.{type(m).__qualname__}" for name, m in named.items()}
        held = {name: (contents(tensor), tensor.dtype) for name, tensor in weights.items()}
        return cls(held, parts, dict(_settings(bridge, named)))

    def other_weights(self, now: Snapshot) -> list[str]:
        """Return names of weights that hold other numbers now, are gone or are new."""
        names = dict.fromkeys([*self.weights, *now.weights])
        return [name for name in names if self.weights.get(name) != now.weights.get(name)]

    def other_parts(self, now: Snapshot) -> list[str]:
        """Return names of parts that are of another kind now, are gone or are new."""
        names = dict.fromkeys([*self.parts, *now.parts])
        return [name for name in names if self.parts.get(name) != now.parts.get(name)]

    def other_settings(self, now: Snapshot) -> dict[str, Any]:
        """Settings that have another value now, by field; of parts that are what they were."""
        moved, found = tuple(f"{name}." for name in self.other_parts(now)), {}
        for name, value in now.settings.items():
            if not name.startswith(moved) and not _equal(self.settings.get(name, _GONE), value):
                field = name.rsplit(".", 1)[-1].removeprefix("_")
                found[field if field in found or name.startswith("cfg ") else name] = value
        return found


_GONE = object()


def marks(bridge: TransformerBridge, modules: Modules) -> tuple[Any, ...]:
    """Say what stands on a model, to be compared with what stood there before; empty where nothing does."""
    if modules.are_bare():
        return ()
    autocast = [torch.get_autocast_dtype(device) for device in _DEVICES if torch.is_autocast_enabled(device)]
    return (*(function for *_, function in modules.attached()), *_EDITS.get(bridge, ()), *autocast)


def state_of(bridge: TransformerBridge, *, every_number: bool = False) -> tuple[Any, ...]:
    """Say what a model is now, hooks included: equal to an earlier answer as long as nothing came, went or changed."""
    modules = modules_of(bridge, every_number=every_number)
    return modules, *marks(bridge, modules)


def standing(bridge: TransformerBridge, was: Snapshot, now: Snapshot) -> tuple[str, ...]:
    """Say what is attached to a model or changed in it since it was opened, one phrase each."""
    modules, settings = modules_of(bridge), was.other_settings(now)
    found = [] if modules.are_bare() else list(_attached(bridge, modules))
    found += _adapters(bridge)
    if settings:
        found.append(_listed([f"{name} = {_word(value)}" for name, value in settings.items()]))
    for names, what in ((was.other_weights(now), "weight"), (was.other_parts(now), "part")):
        if names:
            found.append(f"{_counted(names, what)} changed after opening: {_listed(map(plain_name, names))}")
    return tuple(found)


def named_modules(bridge: TransformerBridge) -> dict[str, nn.Module]:
    """Return every module, that of the wrapped model too, under the shortest of its names: ``blocks.0.attn.q``."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    waiting: deque[tuple[str, nn.Module]] = deque([("", bridge), ("original_model", bridge.original_model)])
    while waiting:
        name, module = waiting.popleft()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found[name] = module
        parts = vars(module)["_modules"].items()
        waiting.extend((f"{name}.{part}".lstrip("."), child) for part, child in parts if child is not None)
    return found


def weights_of(named: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Parameters and buffers under plain names; of tied ones, the first."""
    found, seen = {}, set()
    for name, module in named.items():
        for part, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or (key := (tensor.data_ptr(), tensor.shape, tensor.stride())) in seen:
                continue
            seen.add(key)
            found[plain_name(f"{name}.{part}".lstrip("."))] = tensor
    return found


def _settings(bridge: TransformerBridge, named: Mapping[str, nn.Module]) -> Iterator[tuple[str, Any]]:
    for i, config in enumerate(
        configs_of(bridge, map(vars, named.values()))
    ):  # some parts have their own copy
        yield from ((f"cfg {i}.{name}", value) for name, value in settings_in(config))
    for path, module in named.items():
        own = ((name, value) for name, value in settings_in(vars(module)) if name != "training")
        yield from ((f"{path}.{name}".lstrip("."), value) for name, value in own)


def _attached(bridge: TransformerBridge, modules: Modules) -> Iterator[str]:
    names = {id(vars(module)): plain_name(name) for name, module in named_modules(bridge).items()}
    edits = _EDITS.get(bridge, [])
    places: dict[tuple[str, str], list[str]] = {}
    for kind, own, function in modules.attached():
        whose = "the workbench" if home_of(function) == "workbench" else "yours"
        if whose == "yours" or not edits:
            places.setdefault((kind, whose), []).append(own.get("name") or names.get(id(own), ""))
    yield from (f"edit {edit}" for edit in edits)
    for (kind, whose), found in places.items():
        where = f"at {_listed(dict.fromkeys(found))}" if all(found) else "on all modules"
        yield f"{_counted(found, kind)} of {whose} {where}"
    for device in _DEVICES:
        if torch.is_autocast_enabled(device):
            yield f"autocast to {_word(torch.get_autocast_dtype(device))}"


def _adapters(bridge: TransformerBridge) -> list[str]:
    """Adapters of PEFT in the model, and whether they are on."""
    found: dict[str, bool] = {}
    for module in named_modules(bridge).values():
        if any(kind.__module__.startswith("peft.") for kind in type(module).__mro__):
            for name in getattr(module, "active_adapters", None) or ():
                found[name] = not getattr(module, "disable_adapters", False)
    return [f"adapter {name} {'on' if on else 'off'}" for name, on in found.items()]


def _cast(tensor: Tensor, before: tuple[int, torch.dtype] | None) -> Tensor:
    """A tensor in the dtype that it had before, where that holds its numbers."""
    if before is None or tensor.dtype == before[1] or not holds(before[1], tensor):
        return tensor
    return tensor.to(before[1])


def _equal(before: Any, now: Any) -> bool:
    return before is now or (type(before) is type(now) and bool(before == now))


def plain_name(name: str) -> str:
    """Return a name without the layers of wrapping."""
    return name.replace("._original_component", "").replace(".base_layer", "")


def _counted(found: Iterable[Any], what: str) -> str:
    n = len(list(found))
    return f"{n} {what}{'' if n == 1 else 's'}"


def _listed(found: Iterable[str]) -> str:
    names = list(found)
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _word(value: Any) -> str:
    return str(getattr(value, "__name__", value)).removeprefix("torch.")
