"""Under which names a model's weights are saved: one list for one model, whatever file they came from.

The names are those that ``save_pretrained`` writes for a model that was made in memory. Files on disk differ: with or
without the prefix of the headed class, tied tensors once or twice, buffers, names and layouts of earlier versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from workbench.model.digest import Weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a model's tensors may be found in a file: name -> shape, and what else it may be called there."""

    shapes: Mapping[str, tuple[int, ...]]
    aliases: Mapping[str, Sequence[str]]

    @property
    def known(self) -> set[str]:
        """Every name that a tensor of the model may have in a file."""
        return {*self.shapes, *(alias for names in self.aliases.values() for alias in names)}

    def arranged(self, stored: Mapping[str, Weight]) -> dict[str, Weight] | None:
        """Return the tensors of a file under the model's own names; None where one of them is not there as such."""
        found = {}
        for name, shape in self.shapes.items():
            known = (stored[alias] for alias in (name, *self.aliases[name]) if alias in stored)
            weight = next((w for w in known if tuple(w.shape) == shape), None)
            if weight is None:
                return None
            found[name] = weight
        return found


def layout_of(model: PreTrainedModel) -> Layout:
    """Return the layout of a model that is not wrapped yet; nothing is copied."""
    state = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    alone = _untied(model, state)
    shapes = {name: tensor.to("meta") for name, tensor in alone.items()}
    usual = _reverted(model, shapes, _usual(model))
    loaded = _reverted(model, shapes, getattr(model, "_weight_conversions", None) or _usual(model))
    as_loaded = list(loaded) if len(loaded) == len(usual) else list(usual)
    groups: dict[tuple[int, int], list[str]] = {}
    for name, tensor in state.items():
        groups.setdefault((tensor.data_ptr(), tensor.numel()), []).append(name)
    aliases = {}
    for name, earlier in zip(usual, as_loaded, strict=True):
        tied = groups[state[name].data_ptr(), state[name].numel()] if name in state else []
        aliases[name] = [e for n in (earlier, name, *tied) for e in (n, *_prefixed(model, n))]
    return Layout(shapes={name: tuple(tensor.shape) for name, tensor in usual.items()}, aliases=aliases)


def saved_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the tensors that a checkpoint of this model holds, under their names there; of tied ones, the first."""
    state = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    return _reverted(model, _untied(model, state), _usual(model))


def _untied(model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return remove_tied_weights_from_state_dict(dict(state), model)


def _usual(model: PreTrainedModel) -> list[Any]:
    """How transformers renames and splits this class's tensors when it saves; no prefix of one certain file."""
    steps = get_model_conversion_mapping(model, add_legacy=False)
    return [step for step in steps if not isinstance(step, PrefixChange)]


def _reverted(model: PreTrainedModel, state: Mapping[str, Tensor], steps: list[Any]) -> dict[str, Tensor]:
    with _converted_by(model, steps):
        return dict(revert_weight_conversion(model, dict(state)))


@contextmanager
def _converted_by(model: PreTrainedModel, steps: list[Any]) -> Iterator[None]:
    """Inside, these steps count as those by which the model was loaded."""
    held = vars(model)
    before = held.get("_weight_conversions", ())
    held["_weight_conversions"] = steps
    try:
        yield
    finally:
        if before == ():
            held.pop("_weight_conversions", None)
        else:
            held["_weight_conversions"] = before


def _prefixed(model: PreTrainedModel, name: str) -> list[str]:
    """The same name in a file of the class without a head, or with one."""
    prefix = f"{model.base_model_prefix}."
    return [name.removeprefix(prefix) if name.startswith(prefix) else prefix + name]
