"""What `workbench model show` and `workbench model check` say about a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.core.show import Told
from workbench.model import builtin as zoo
from workbench.model import parity, pixels, probe
from workbench.model.architecture import Architecture, describe
from workbench.model.hooks import call, resume_from
from workbench.model.identity import ModelIdentity, identity
from workbench.model.multimodal_layout import MultimodalLayout, multimodal_layout
from workbench.model.open import open_model
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True)
class ModelPage(Told):
    """A model's identity, architecture, where a picture goes in it, and, where it is built in, its card."""

    identity: ModelIdentity
    architecture: Architecture
    multimodal: MultimodalLayout | None = None
    card: Mapping[str, object] | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the page as plain JSON values."""
        card = None if self.card is None else dict(self.card)
        return {
            "identity": self.identity.to_dict(),
            "architecture": self.architecture.to_dict(),
            "multimodal": None if self.multimodal is None else self.multimodal.to_dict(),
            "card": card,
        }

    def to_terminal(self) -> list[object]:
        """Return the page as blocks for the terminal."""
        who, what = self.identity.to_dict(), self.architecture.to_dict()
        support: Any = what.pop("support")
        rows = [
            {"intervention": kind, "works": "yes" if found["works"] else "no", "remark": found["why"]}
            for kind, found in support.items()
        ]
        every = list(range(self.architecture.n_layers))
        what |= {name: "all" for name in ("attention_layers", "mlp_layers") if what[name] == every}
        flat = {name: _cell(value) for name, value in {**who, **what}.items()}
        blocks: list[object] = [repr(self.architecture), flat, rows]
        if self.multimodal is not None:
            blocks += ["where a picture goes", self.multimodal.row()]
        if self.card is not None:
            blocks += ["card", {name: _cell(value) for name, value in self.card.items()}]
        return blocks


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing measured on a model; it passes when `found` is at most `limit`."""

    name: str
    what: str
    found: float
    limit: float

    @property
    def passes(self) -> bool:
        """Whether the check passes; NaN does not."""
        return self.found <= self.limit


@dataclass(frozen=True, kw_only=True)
class ModelCheck(Told):
    """The checks of one model."""

    model: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether every check passes."""
        return all(check.passes for check in self.checks)

    def to_dict(self) -> dict[str, object]:
        """Return the checks as plain JSON values; a found value that is not finite is null."""
        checks = [_row(check) for check in self.checks]
        return {"model": self.model, "passes": self.passes, "notes": list(self.notes), "checks": checks}

    def to_terminal(self) -> list[object]:
        """Return the checks as a table for the terminal."""
        rows = [{**_row(check), "passes": "yes" if check.passes else "NO"} for check in self.checks]
        said = [f"note: {note}" for note in self.notes]
        return [f"{self.model}: {'passes' if self.passes else 'DOES NOT PASS'}", *said, rows]


def show_model(name: str, **options: object) -> ModelPage:
    """Open a model and describe it; `options` are those of `open_model`."""
    asked: dict[str, Any] = options
    bridge = open_model(name, **asked)
    card = zoo.read_card(name).fields if name.startswith(zoo.PREFIX) else None
    seen = multimodal_layout(bridge)
    return ModelPage(identity=identity(bridge), architecture=describe(bridge), multimodal=seen, card=card)


def check_model(name: str, **options: object) -> ModelCheck:
    """Open a model and measure whether what the workbench relies on is true of it.

    Raises:
        ModelError: if it cannot be opened at all.
    """
    asked: dict[str, Any] = {**options, "parity_tolerance": math.inf}
    return check_bridge(open_model(name, **asked))


def check_bridge(bridge: TransformerBridge) -> ModelCheck:
    """Return the checks of a model that `open_model` opened."""
    known = identity(bridge)
    return ModelCheck(model=known.name, checks=tuple(_checks(bridge, known.name)), notes=known.notes)


@torch.no_grad()
def _checks(bridge: TransformerBridge, name: str) -> Iterator[Check]:
    found = identity(bridge)
    tokens = parity.probe_tokens(bridge.cfg.d_vocab, bridge.cfg.n_ctx or 64)
    tokens = tokens.to(next(iter(bridge.parameters())).device)
    prompt = pixels.probe(bridge, tokens)
    out = call(bridge, prompt)
    scale = max(1.0, out.abs().max().item())
    limit = parity.TOLERANCE.get(out.dtype, 0.1) * scale
    yield Check(
        name="parity",
        what="largest difference from the plain forward of the same weights",
        found=found.parity,
        limit=limit,
    )
    yield Check(
        name="finite", what="outputs that are not finite", found=int((~out.isfinite()).sum()), limit=0
    )
    yield Check(
        name="repeatable", what="difference of two equal runs", found=_gap(call(bridge, prompt), out), limit=0
    )
    alone = torch.cat([call(bridge, row) for row in prompt.split(1)])
    yield Check(
        name="batching",
        what="difference of a prompt alone and in a batch",
        found=_gap(alone, out),
        limit=limit,
    )
    yield Check(
        name="resuming",
        what="difference when run from the middle layer",
        found=_resumed(bridge, prompt, out),
        limit=limit,
    )
    model = describe(bridge)
    if (configured := getattr(bridge.cfg, "attention_dir", None)) is not None:  # of towers nothing says it
        yield Check(
            name="direction",
            what=f"attention, {'causal' if model.causal else 'bidirectional'}, unlike its configuration",
            found=int(model.causal != (configured != "bidirectional")),
            limit=0,
        )
    sites = ("residual", "attn-out", "mlp-out", "head-output")
    dead = [kind for kind in sites if not model.support[kind].works and not _absent(model, kind)]
    yield Check(name="live", what=f"sites whose edits are lost{_named(dead)}", found=len(dead), limit=0)
    if bridge.tokenizer is not None:
        outside = _without_embedding(bridge, invented=not model.prepend_bos)
        yield Check(
            name="tokenizer",
            what=f"tokens without an embedding{_named(outside[:8])}",
            found=len(outside),
            limit=0,
        )
    if name.startswith(zoo.PREFIX) and "weights" in (card := zoo.read_card(name).fields):
        differs = not str(found.digest).startswith(str(card["weights"]))
        yield Check(name="card", what="weights differ from the card's digest", found=int(differs), limit=0)


def _without_embedding(bridge: TransformerBridge, *, invented: bool) -> list[str]:
    """Tokens that the model has no embedding for, but not the BOS that TransformerLens may have invented.

    Args:
        invented: No BOS is prepended, so one beyond the embedding is TransformerLens' own: nothing produces it.
    """
    vocabulary = bridge.tokenizer.get_vocab()
    beyond = sorted((i, token) for token, i in vocabulary.items() if i >= bridge.cfg.d_vocab)
    own = bridge.tokenizer.bos_token if invented else None
    return [token for _, token in beyond if token != own]


def _resumed(bridge: TransformerBridge, prompt: Prompt, out: Tensor) -> float:
    middle = probe.wiring(bridge).n_layers // 2
    entry = f"blocks.{middle}.hook_in"
    _, seen = probe.record(bridge, prompt, [entry])
    with resume_from(bridge, middle, seen[entry]):
        return _gap(call(bridge, replace(prompt, entered=True)), out)


def _gap(a: Tensor, b: Tensor) -> float:
    return (a.double() - b.double()).abs().max().item()


def _absent(model: Architecture, kind: str) -> bool:
    """Whether a site does not exist in this architecture."""
    return not (model.mlp_layers if kind == "mlp-out" else model.attention_layers or kind == "residual")


def _row(check: Check) -> dict[str, object]:
    found = check.found if math.isfinite(check.found) else None
    row = {"check": check.name, "passes": check.passes, "found": found, "limit": check.limit}
    return {**row, "what": check.what}


def _named(names: list[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _cell(value: object) -> object:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_cell(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(str(_cell(entry)) for entry in value)
    return "-" if value is None else value
