"""A bridge as it was just opened: frozen, compared with the plain forward, and given its identity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workbench.core.errors import ModelError, explaining
from workbench.model import parity
from workbench.model.digest import digest_config
from workbench.model.identity import PROCESSING, ModelIdentity, record
from workbench.model.notebook import show_in_notebooks
from workbench.model.other_inputs import other_inputs, takes_more_than_text
from workbench.model.own_mask import note_of
from workbench.model.prompt import Prompt
from workbench.model.sight import give_sight
from workbench.model.towers.directory import Source
from workbench.model.unread import not_measured, unread_parts
from workbench.model.weights import Lines
from workbench.tasks.pictures.sight import Sight

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True)
class OpenedBridge:
    """A bridge, and the plain forward's answer to probe tokens that it has to reproduce."""

    bridge: TransformerBridge
    tokenizer: PreTrainedTokenizerBase | None  # as found; TransformerLens gives its own copy invented tokens
    tokens: Prompt
    expected: Tensor
    config: Mapping[str, object]
    weights: Lines
    sight: Sight | None = None
    outputs: tuple[str, ...] = ()  # names of classes, where the model puts out classes

    def finish(self, source: Source) -> TransformerBridge:
        """Freeze the parameters, check parity, record who this is and return the bridge."""
        bridge = self.bridge
        other = other_inputs(self.config, self.tokenizer)
        give_sight(bridge, self.sight)
        bridge.eval()
        bridge.requires_grad_(False)
        found = self._parity(source)
        notes = self._notes_on_tokens(source.name)
        if notes:
            # TransformerLens would prepend an invented BOS as text, which destroys the first word.
            bridge.cfg.default_prepend_bos = False
        own = note_of(getattr(bridge.original_model, "config", None))  # a native model has none
        notes = (*notes, own) if own else notes
        show_in_notebooks()
        text_alone = self.sight is None and takes_more_than_text(self.config)
        left = not_measured(unread_parts(bridge, self.tokens), self.weights.unread, text_alone=text_alone)
        who = self._identity(source, parity=found, notes=(*notes, *left))
        record(bridge, who, self.weights.by_name, other_inputs=other, not_measured=left)
        return bridge

    def _parity(self, source: Source) -> float:
        """How far the bridge is from the plain forward; refused where that is too far."""
        with explaining(
            f"{source.name} opens and cannot be run",
            error=ModelError,
            hint="docs/families.md lists the architectures that run",
        ):
            found = parity.difference(self.bridge, self.tokens, self.expected)
        parity.require_parity(found, self.expected, name=source.name, tolerance=source.tolerance)
        return found

    def _notes_on_tokens(self, name: str) -> tuple[str, ...]:
        """What a user should know about the tokenizer; refused where it has tokens that the model does not know."""
        tokenizer, d_vocab = self.tokenizer, self.bridge.cfg.d_vocab
        if tokenizer is None:
            return ("no tokenizer: it runs on token ids only",)
        if tokenizer.vocab_size > d_vocab:
            raise ModelError(
                f"the tokenizer of {name} has {tokenizer.vocab_size} tokens, the model {d_vocab}",
                hint="pass the tokenizer that belongs to the model: open_model(..., tokenizer=...)",
            )
        if tokenizer.bos_token_id is None:
            return ("the tokenizer has no BOS token; none is prepended",)
        return ()

    def _identity(self, source: Source, *, parity: float, notes: tuple[str, ...]) -> ModelIdentity:
        return ModelIdentity(
            name=source.name,
            kind=source.kind,
            revision=source.revision,
            dtype=str(self.expected.dtype).removeprefix("torch."),
            device=str(self.expected.device),
            digest=self.weights.digest,
            file_digest=self.weights.file_digest,
            config_digest=digest_config(self.config),
            processing=PROCESSING,
            parity=parity,
            tokenizer=None if self.tokenizer is None else type(self.tokenizer).__name__,
            notes=notes,
            outputs=self.outputs,
        )
