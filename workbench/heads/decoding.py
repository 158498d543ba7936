"""Greedy decoding with the attention rows of every decode step; sampling.

The row of a step is that of the position whose logits choose the step's token: the last token of the prompt for the
first step. A causal model's rows do not change when text is appended, so all of them are read from one pass over
prompt and answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import ModelError, OptionError, ShapeError
from workbench.heads.observe import patterns_of
from workbench.model.hooks import forward
from workbench.model.outputs import require_words
from workbench.model.probe import wiring
from workbench.model.reading import require_tokens

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """What a model wrote after prompts of one length, and where its heads looked while writing.

    Attributes:
        tokens: The chosen tokens.
        rows: Layer -> attention row of each step; keys that a step does not have yet are 0. Empty if not asked for.
        n_prompt: Tokens of the prompts.
    """

    tokens: Int[Tensor, "row step"]
    rows: Mapping[int, Float[Tensor, "row head step key"]]
    n_prompt: int

    @property
    def stacked(self) -> Float[Tensor, "row layer head step key"]:
        """The rows of all layers that have attention, in order of the layers.

        Raises:
            ShapeError: if layers differ in their number of heads.
        """
        if len({rows.shape for rows in self.rows.values()}) != 1:
            raise ShapeError(
                "the layers have no rows, or differ in their number of heads",
                hint="give every layer rows, of the same number of heads",
            )
        return torch.stack([self.rows[layer] for layer in sorted(self.rows)], dim=1)


@torch.no_grad()
def decode(
    model: TransformerBridge,
    prompts: Int[Tensor, "row pos"],
    *,
    steps: int,
    rows: bool = True,
    guess: Int[Tensor, "row step"] | None = None,
    cache: bool = False,
) -> Decoded:
    """Return the most likely token, ``steps`` times.

    Standing edits (``workbench.edits``) hold during every step, also while the rows are read.

    Args:
        prompts: Of one length; nothing is padded.
        rows: Also read the attention rows.
        guess: Expected answers. The result is the same without; where the guess is right, one pass checks all its
            tokens at once instead of one pass for each.
        cache: Keep keys and values of earlier tokens instead of running whole texts. For models without edits.

    Raises:
        ModelError: if the model is not causal, puts out no words, or text outgrows its context.
        TaskError: for a token id that the model has no embedding for.
        OptionError: for fewer than 1 step, or ``cache`` on a model with hooks.
    """
    _check(model, prompts, steps)
    require_words(model, "writing text")
    if cache:
        _no_hooks(model)
        tokens = _with_cache(model, prompts, steps)
    else:
        tokens = _by_whole_passes(model, prompts, steps, guess)
    return Decoded(
        tokens=tokens, rows=_rows(model, prompts, tokens) if rows else {}, n_prompt=prompts.shape[1]
    )


@torch.no_grad()
def forced(
    model: TransformerBridge, prompts: Int[Tensor, "row pos"], answers: Int[Tensor, "row step"]
) -> Decoded:
    """Return the rows with which a model would read if it had written these answers, whatever it would write itself."""
    _check(model, prompts, answers.shape[1])
    return Decoded(tokens=answers, rows=_rows(model, prompts, answers), n_prompt=prompts.shape[1])


@torch.no_grad()
def sample(
    model: TransformerBridge,
    prompts: Int[Tensor, "row pos"],
    *,
    steps: int,
    temperature: float = 1.0,
    seed: int = 0,
) -> Int[Tensor, "row step"]:
    """Return tokens drawn from the model, one after the other; ``temperature`` 0 takes the most likely one.

    For models without standing edits: keys and values of earlier tokens are kept.

    Raises:
        ModelError, OptionError: as in ``decode``; also for a negative temperature.
    """
    _check(model, prompts, steps)
    require_words(model, "writing text")
    _no_hooks(model)
    if temperature < 0:
        raise OptionError(
            f"temperature is {temperature}; at least 0 is expected",
            hint="temperature=0 takes the most likely token",
        )
    if temperature == 0:
        return _with_cache(model, prompts, steps)
    generator = torch.Generator(device=prompts.device).manual_seed(seed)

    def draw(logits: Tensor) -> Tensor:
        shares = (logits.float() / temperature).softmax(-1)
        return torch.multinomial(shares, 1, generator=generator)[:, 0]

    return _with_cache(model, prompts, steps, draw)


def _no_hooks(model: TransformerBridge) -> None:
    if any(point.fwd_hooks for point in model.hook_dict.values()):
        raise OptionError(
            "keys and values cannot be kept while an edit or a hook is active", hint="decode(cache=False)"
        )


def _most_likely(logits: Float[Tensor, "row d_vocab"]) -> Int[Tensor, " row"]:
    return logits.argmax(-1)


def _check(model: TransformerBridge, prompts: Tensor, steps: int) -> None:
    if steps < 1:
        raise OptionError(f"steps is {steps}; at least 1 token is decoded", hint="steps=1")
    if not wiring(model).causal:
        raise ModelError(
            "the model is not causal: it writes no text", hint="open a causal language model: zoo:stdlib"
        )
    require_tokens(model, prompts)
    longest, total = getattr(model.cfg, "n_ctx", None), prompts.shape[1] + steps
    if longest and total > longest + 1:  # the last token is chosen, never read
        raise ModelError(
            f"{prompts.shape[1]} tokens and {steps} more do not fit the context of {longest}",
            hint=f"steps={max(longest + 1 - prompts.shape[1], 0)}, or shorter prompts",
        )


def _by_whole_passes(
    model: TransformerBridge, prompts: Tensor, steps: int, guess: Tensor | None
) -> Int[Tensor, "row step"]:
    """One pass over the whole text for each step, or for each step whose token was not guessed."""
    if guess is None:
        text = prompts
        for _ in range(steps):
            chosen = forward(model, text, last_only=True)[:, -1].argmax(-1)
            text = torch.cat([text, chosen[:, None]], 1)
        return text[:, prompts.shape[1] :]
    if guess.shape != (len(prompts), steps):
        raise ShapeError(
            f"the guess has shape {tuple(guess.shape)}; expected {(len(prompts), steps)}",
            hint="give one row for each prompt and one token for each step",
        )
    tokens = guess.to(prompts).clone()
    known = torch.zeros(len(prompts), dtype=torch.long, device=prompts.device)  # tokens that are the model's
    while bool((open_ := known < steps).any()):
        text = torch.cat([prompts[open_], tokens[open_, :-1]], 1)
        chosen = model(text)[:, prompts.shape[1] - 1 :].argmax(-1)  # (row, step)
        agreed = (chosen == tokens[open_]).long().cumprod(1).sum(1)  # up to the first that is not
        new, at = tokens[open_].clone(), agreed.clamp(max=steps - 1)[:, None]
        new.scatter_(1, at, chosen.gather(1, at))
        tokens[open_], known[open_] = new, (agreed + 1).clamp(max=steps)
    return tokens


def _with_cache(
    model: TransformerBridge,
    prompts: Tensor,
    steps: int,
    choose: Callable[[Tensor], Tensor] = _most_likely,
) -> Int[Tensor, "row step"]:
    """The prompt once, then one token at a time."""
    past, text, chosen = None, prompts, []
    for _ in range(steps):
        given: dict[str, Any] = {} if past is None else {"past_key_values": past}
        logits, past = model(text, use_cache=True, return_type="logits_and_cache", **given)
        text = choose(logits[:, -1])[:, None]
        chosen.append(text)
    return torch.cat(chosen, 1)


def _rows(model: TransformerBridge, prompts: Tensor, tokens: Tensor) -> dict[int, Tensor]:
    """Rows of the positions that chose each token.

    Raises:
        ModelError: if a layer shows no pattern, with the reason.
    """
    text = torch.cat([prompts, tokens[:, :-1]], 1)
    seen = patterns_of(model, text)
    layers = wiring(model).attention_layers
    return {layer: seen.of(layer)[:, :, prompts.shape[1] - 1 :].clone() for layer in layers}


def text_of(prompts: Int[Tensor, "row pos"], decoded: Decoded) -> Int[Tensor, "row pos_and_step"]:
    """Put prompt and answer together.

    Returns:
        Token ids: those of the prompt, then those that were written.
    """
    return torch.cat([prompts, decoded.tokens.to(prompts)], 1)


def right(
    decoded: Int[Tensor, "row step"], answers: Int[Tensor, "row step"] | Sequence[Sequence[int]]
) -> Bool[Tensor, " row"]:
    """Say whether every token of the answer was written, in order."""
    return (decoded == torch.as_tensor(answers, device=decoded.device)).all(1)
