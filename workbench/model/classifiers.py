"""Decoders with a classification head: the head stands where the unembedding would, and answers at every position.

Hugging Face reads a sequence classifier's head at the last token alone, a token classifier's at every token. Both are a
linear map of what leaves the last norm, so both are a language model whose outputs are classes. Without this,
TransformerLens goes by the family and opens the language model of the same name: the head is left out, and where the
unembedding is tied to the embedding nothing is missed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel

from workbench.core.errors import ModelError

CLASSES = ("ForSequenceClassification", "ForTokenClassification")
OTHERS = ("ForQuestionAnswering", "ForMultipleChoice", "ForNextSentencePrediction", "DoubleHeadsModel")
"""Heads that no part of a bridge computes."""

# What language models of some families do with their logits, and their classifiers do not.
_LOGITS_AS_THEY_ARE = {"final_logit_softcapping": None, "logit_scale": 1.0, "logits_scaling": 1.0}
_WORDS = ("ForCausalLM", "LMHeadModel")


SEEN = ("ForImageClassification",)
"""Heads of towers, which see a picture as a whole; no bridge is asked for them."""


def head_of(config: PretrainedConfig) -> str | None:
    """Return the name of the class with a classification head that a configuration asks for; None for any other
    model.

    Raises:
        ModelError: for a head that would be left out without a word.
    """
    for name in getattr(config, "architectures", None) or ():
        if name.endswith(OTHERS):
            raise ModelError(
                f"config.json asks for a {name}, whose head is neither a language model's nor a classifier's",
                hint="the model below it can be opened: save it as a language model or as a bare encoder",
            )
        if name.endswith(CLASSES):
            return name
    return None


def class_names(config: PretrainedConfig) -> tuple[str, ...]:
    """Return names of the classes, output by output; empty for a model without a classification head.

    Raises:
        ModelError: if the configuration does not give each class a name of its own.
    """
    kinds = getattr(config, "architectures", None) or ()
    head = next((kind for kind in kinds if kind.endswith(SEEN)), None) or head_of(config)
    if head is None:
        return ()
    given: dict[Any, object] = {**(config.id2label or {})}
    named = [given.get(i) for i in range(len(given))]
    names = tuple(name for name in named if isinstance(name, str) and name)
    if not names or len(names) != len(named) or len(set(names)) != len(names):
        raise ModelError(
            f"config.json: id2label does not give each class of the {head} a name of its own",
            hint='"id2label": {"0": "name of class 0", "1": "name of class 1"}',
        )
    return names


def class_of(head: str, language_model: type) -> type:
    """Return the transformers class of a head, for a decoder whose language model TransformerLens knows.

    Raises:
        ModelError: for an encoder, whose classes are not read from each position by one linear map.
    """
    if not language_model.__name__.endswith(_WORDS):
        raise ModelError(
            f"a {head} cannot be opened: an encoder's classes are read through layers that no hook shows",
            hint="open a decoder with a classification head, such as GPT2ForSequenceClassification",
        )
    found = getattr(transformers, head, None)
    if found is None:
        raise ModelError(
            f"transformers has no {head}", hint="pip install --upgrade transformers: a newer one may have it"
        )
    return found


def as_language_model(model: PreTrainedModel, language_model: type) -> PreTrainedModel:
    """Return the same decoder with its classification head as output layer; the parts are shared, nothing is
    copied.

    Raises:
        ModelError: if the head is not one linear layer.
    """
    head = getattr(model, "score", None) or getattr(model, "classifier", None)
    if not isinstance(head, torch.nn.Linear):
        raise ModelError(
            f"the head of this {type(model).__name__} is a {type(head).__name__}, not one linear layer",
            hint="a classifier whose head is one torch.nn.Linear opens: docs/families.md lists some",
        )
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings, config.architectures = False, None
    for name, value in _LOGITS_AS_THEY_ARE.items():
        if getattr(config, name, None) is not None:
            setattr(config, name, value)
    make = getattr(language_model, "from_config", None) or language_model
    with torch.device("meta"):  # a shell: none of its own weights are made
        shell = make(config)
    shell.config.architectures = [type(shell).__name__]
    setattr(shell, shell.base_model_prefix, model.base_model)
    shell.set_output_embeddings(head)
    if any(p.is_meta for p in shell.parameters()):
        raise ModelError(
            f"a {type(shell).__name__} has parts that a {type(model).__name__} does not have",
            hint="docs/families.md lists the classifiers that open",
        )
    return shell.eval()
