"""One row of the table: an architecture opened, each of its heads turned off, beside the plain way."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

from benchmarks.families.configs import ALIASES, tiny
from benchmarks.families.naive import every_head
from benchmarks.families.prompts import pairs_for, plain_prompts
from tests.families import save_tokenizer
from tests.mini import hidden_metric
from workbench.core.errors import ModelError, WorkbenchError
from workbench.engine.experiments import ablate
from workbench.engine.paired_runs import PairedRuns
from workbench.model.architecture import describe
from workbench.model.identity import identity
from workbench.model.lens import is_tower
from workbench.model.open import open_model
from workbench.model.other_inputs import takes_more_than_text
from workbench.model.probe import wiring
from workbench.model.sight import sight_of
from workbench.model.wiring import Wiring, require_heads

N_PAIRS = 2
TOLERANCE = 1.5e-5  # of the largest metric (at least 1); the engine's tests use the same
LEAST = 1e-5  # an effect below is none: rounding of metrics around 1 stays below 1e-6


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was found for one architecture.

    Attributes:
        opens: By what it is opened: ``bridge`` or ``tower``; ``no`` where it is not.
        parity: Largest difference of its output from the plain forward.
        heads: How many heads were turned off, one after another.
        difference: Largest difference of a metric with a head off from plain torch's.
        least: The smallest effect among the heads.
        edges: Whether edges of its own stack have an exact value, or why not.
        why: The reason where it is not equal.
    """

    name: str
    opens: str = "no"
    parity: float | None = None
    heads: int = 0
    difference: float | None = None
    least: float | None = None
    edges: str = ""
    why: str = ""

    @property
    def equal(self) -> bool:
        """Whether turning off every head does what plain torch says, and something."""
        return self.heads > 0 and not self.why


def names() -> list[str]:
    """The architectures that TransformerLens knows."""
    return sorted(SUPPORTED_ARCHITECTURES)


def row(name: str) -> Row:
    """Build, open, measure and compare one architecture."""
    if reason := _never_built(name):
        return Row(name=name, why=reason)
    with tempfile.TemporaryDirectory(prefix="workbench-family-") as folder:
        try:
            tiny(name).save_pretrained(folder)
        except Exception as problem:  # whatever transformers raises: the row says so
            return Row(name=name, why=f"no tiny model was made: {_short(problem)}")
        save_tokenizer(folder)
        try:
            return _compared(name, Path(folder))
        except WorkbenchError as problem:
            return Row(name=name, why=_short(str(problem).split("\n")[0].replace(folder, "the model")))
        except Exception as problem:  # a fault: the row says so, and the others are measured all the same
            return Row(name=name, why=f"fault: {type(problem).__name__}: {_short(problem)}")


def _compared(name: str, folder: Path) -> Row:
    """The row of an opened model: every head of each of its stacks."""
    model = open_model(folder, device="cpu")
    plain = getattr(transformers, ALIASES.get(name, name)).from_pretrained(
        folder, attn_implementation="eager"
    )
    several = getattr(model, "towers", {})
    stacks = several if len(several) > 1 else {"": model}
    found = [_of_stack(name, stack, plain.eval()) for name, stack in stacks.items()]
    known = {
        "name": name,
        "opens": ("tower" if is_tower(model) else "bridge") + (", text alone" if _is_deaf(model) else ""),
        "parity": identity(model).parity,
        "edges": _edges(model),
    }
    if why := next((heads.why for heads in found if heads.why), ""):
        return Row(**known, why=why)
    return Row(
        **known,
        heads=sum(heads.n for heads in found),
        difference=max(heads.difference for heads in found),
        least=min(heads.least for heads in found),
    )


def _edges(model: Any) -> str:
    """Whether the engine has edges of a model, as it says itself."""
    said = describe(model).support["edge-level"]
    return "yes" if said.works else f"no: {said.why}"


def _is_deaf(model: Any) -> bool:
    """Whether it takes more than text, and is opened for text alone."""
    config = model.original_model.config.to_dict()
    return sight_of(model) is None and takes_more_than_text(config)


@dataclass(frozen=True)
class _Heads:
    """What turning off the heads of one stack did, and what is wrong with it."""

    n: int = 0
    difference: float = 0.0
    least: float = 0.0
    why: str = ""


def _of_stack(stack: str, model: Any, plain: Any) -> _Heads:
    """The heads of one stack, off by the engine and by plain torch."""
    answers = wiring(model).has_lm_head
    runs = PairedRuns(model, pairs_for(model, N_PAIRS), metric=None if answers else hidden_metric())
    found, pairs = runs.wiring, runs.pairs
    if not found.attention_layers:
        return _Heads(why=_without_heads(found))
    labels = [f"a{layer}.h{head}" for layer in found.attention_layers for head in range(found.n_heads)]

    def read(out: Any, pair: int) -> float:
        if not answers:
            hidden = out.last_hidden_state[0]
            return float(hidden.mean(0) @ torch.linspace(-1, 1, hidden.shape[-1]).sin())
        last: Tensor = out.logits[0] if out.logits.dim() == 2 else out.logits[0, -1]
        return float(last[pairs.correct[pair][0]] - last[pairs.incorrect[pair][0]])

    prompts = plain_prompts(model, plain, pairs)
    whole, rows = every_head(
        plain,
        prompts,
        read,
        found.n_heads,
        among=lambda name: (
            ("vis" in name) == (stack == "vision")
            if stack in ("vision", "text")
            else stack == _stack_of(name) or (not stack and not _is_seeing(name, model))
        ),
    )
    while len(rows) > len(labels) and rows[-1] == whole:  # of layers behind the one that is read
        rows.pop()
    if len(rows) != len(labels):
        return _Heads(why=f"hooks show {len(labels)} heads, plain torch finds {len(rows)}")
    return _judged(ablate(runs, labels, ablation="zero").patched, whole, rows)


def _without_heads(found: Wiring) -> str:
    """What the engine says when it is asked for a head, as a reason in a row."""
    try:
        require_heads(found)
    except ModelError as problem:
        known = found.mixer is not None
        return (
            problem.message
            if known
            else "no layer with heads that hooks show; the residual stream can be patched"
        )
    return ""


def _is_seeing(name: str, model: Any) -> bool:
    """Whether an attention is of the tower of a model that also reads words; heads of the language model are meant."""
    sight = sight_of(model)
    return sight is not None and sight.token is not None and "vision" in name


def _stack_of(name: str) -> str:
    """Which stack an attention is of, by its name."""
    if "encoder_attn" in name or "EncDecAttention" in name:
        return "cross"
    return next((stack for stack in ("encoder", "decoder") if f"{stack}." in name), "")


def _judged(found: Any, whole: list[float], rows: list[list[float]]) -> _Heads:
    """The numbers, and what is wrong with them."""
    truth = torch.tensor(rows, dtype=torch.float64)
    difference = (torch.as_tensor(found) - truth).abs().max().item()
    least = (truth - torch.tensor(whole, dtype=torch.float64)).abs().amax(1).min().item()
    why = ""
    if not difference <= TOLERANCE * max(1.0, truth.abs().max().item()):
        why = f"the engine differs from plain torch by {difference:.1g}"
    elif not least > LEAST:
        why = "a head has no effect at all"
    return _Heads(len(rows), difference, least, why)


def _never_built(name: str) -> str:
    """Why there is no model of this name offline."""
    if name.startswith("TransformerLens"):
        return "TransformerLens' own models, no architecture of a checkpoint (`docs/models.md`)"
    if not hasattr(transformers, ALIASES.get(name, name)):
        return "its code comes with its checkpoints; transformers has no class of this name"
    return ""


def _short(problem: object) -> str:
    text = " ".join(str(problem).replace("|", "/").split())
    return text if len(text) < 160 else text[:157] + "..."
