"""What is known of a model from its files alone: how it reads text."""

from __future__ import annotations

from workbench.core.errors import ModelError
from workbench.model import builtin as zoo
from workbench.model.other_inputs import other_inputs
from workbench.tasks.reading import Reading


def reading_of(
    name: str,
    *,
    offline: bool | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Reading:
    """Find the reading of a model by name, from its tokenizer and configuration; weights are not loaded.

    Returns:
        How the model reads text and what it answers with.

    Raises:
        ModelError: if the model cannot be found or has no tokenizer.

    Example:
        >>> import workbench as wb
        >>> wb.reading_of("zoo:ioi").prepend_bos
        True
    """
    # transformers and TransformerLens: a sweep of a built-in model needs neither
    from workbench.model.limits import limits_of, picture_limits
    from workbench.model.tokenizers import load_tokenizer

    directory = zoo.locate(name).directory
    if directory is None:
        from workbench.model import hub  # a third of a second

        directory = hub.fetch(
            name, revision=revision, offline=hub.is_offline(offline), code=trust_remote_code
        )
    tokenizer = load_tokenizer(directory, trust_remote_code=trust_remote_code)
    if tokenizer is None and (seeing := picture_limits(directory, trust_remote_code=trust_remote_code)):
        sight, outputs = seeing
        return Reading(name=name, tokenizer=None, prepend_bos=False, n_ctx=None, outputs=outputs, sight=sight)
    if tokenizer is None:
        raise ModelError(
            f"{name} has no tokenizer; pairs of text need one", hint="put a tokenizer.json beside it"
        )
    found = limits_of(directory, trust_remote_code=trust_remote_code)
    return Reading(
        name=name,
        tokenizer=tokenizer,
        prepend_bos=found.prepend_bos and tokenizer.bos_token_id is not None,
        n_ctx=found.n_ctx,
        special_tokens=not found.causal,
        d_vocab=found.d_vocab,
        other_inputs=other_inputs(found.config, tokenizer),
        outputs=found.outputs,
        sight=found.sight,
    )
