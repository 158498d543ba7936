"""Do two parts work together? What they do in each other's company, beyond what each does alone.

``I(a, b) = F(ab) - F(a) - F(b) + F(nothing)``: 0 where the effects of two parts add up, above 0 where both are needed,
below 0 where one would do. Parts are spans of a prompt, such as a picture and a question, or heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.core.errors import OptionError, ShapeError
from workbench.edits.edit import heads_among
from workbench.heads.hidden_keys import hidden_span, replaced_span
from workbench.model.hooks import forward, hook_name
from workbench.model.probe import record, wiring
from workbench.model.prompt import Prompt

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

How = Literal["mask", "mean"]
Part = Sequence[int] | Sequence[str]
Scores = Float[Tensor, "row value"]
Tokens = Float[Tensor, "row d_vocab"]
STRENGTH, PLAUSIBLE = 1.0, 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Interaction:
    """What was read with two parts, with one of them, and with neither.

    Attributes:
        both, first, second, neither: One number for each prompt and value.
    """

    both: Scores
    first: Scores
    second: Scores
    neither: Scores

    @property
    def term(self) -> Scores:
        """The interaction, in the unit of what was read.

        Example:
            >>> four = [torch.tensor([[x]]) for x in (1.0, 0.0, 0.0, 0.0)]  # both are needed
            >>> Interaction(both=four[0], first=four[1], second=four[2], neither=four[3]).term.item()
            1.0
        """
        return self.both - self.first - self.second + self.neither


@torch.no_grad()
def interaction(
    model: TransformerBridge,
    prompt: Prompt,
    a: Part,
    b: Part,
    *,
    how: How = "mask",
    read: Callable[[Float[Tensor, "row d_vocab"]], Scores] | None = None,
    rows: int = 128,
) -> Interaction:
    """Read what a model answers with two parts, with one of them, and with neither.

    Args:
        a, b: Positions in every prompt, without its last one; or addresses of heads.
        how: ``mask`` hides a span from all other tokens, and heads put out nothing; ``mean`` puts there what stands
            there on average over the prompts.
        read: From the last token's logits; by default the log probability of every token, in nats.
        rows: At most so many prompts in one pass.

    Returns:
        Four readings; their ``term`` is above 0 where both parts are needed, below 0 where one would do.

    Raises:
        OptionError: for another way, a part that is empty, of both kinds, or holds the last token, or parts that
            share a token or a head.

    Source:
        Harsanyi's dividend of two players; INTER 2025, of which the abstract alone was read.

    Example:
        >>> import workbench as wb
        >>> from workbench.heads.asked_pictures import ask_pictures
        >>> from workbench.tasks.scenes import World
        >>> model = wb.open_model("zoo:vlm")
        >>> asked = ask_pictures(model, World(), kinds=["colour"], n=3, seed=7)
        >>> found = interaction(model, asked.prompt, asked.image, asked.question)
        >>> found.term[range(3), asked.right].min().item() > 1  # nats of the right answer
        True
    """
    if how not in get_args(How):
        raise OptionError(
            f"how is {how!r}; expected one of {', '.join(get_args(How))}", hint=f"how={get_args(How)[0]!r}"
        )
    _check_apart(model, a, b)
    means = _means(model, prompt, rows) if how == "mean" else {}
    look = read or (lambda logits: logits.log_softmax(-1))

    def run(*gone: Part) -> Scores:
        with ExitStack() as held:
            for part in gone:
                held.enter_context(_without(model, part, prompt.shape[1], means))
            found = [look(forward(model, some, last_only=True)[:, -1]) for some in prompt.split(rows)]
        return torch.cat(found)

    return Interaction(both=run(), first=run(b), second=run(a), neither=run(a, b))


def guided(both: Tokens, term: Tokens, *, strength: float = STRENGTH, plausible: float = PLAUSIBLE) -> Tokens:
    """Prefer tokens on which two parts work together: log probability plus ``strength`` times the interaction.

    Args:
        both: Log probabilities with both parts.
        plausible: Tokens that are less likely than this share of the most likely one are left out.

    Returns:
        Scores of tokens, minus infinity for those left out.

    Source:
        INTER 2025 (interaction guided sampling), of which the abstract alone was read.

    Example:
        >>> both = torch.tensor([[0.5, 0.4, 0.02]]).log()
        >>> guided(both, torch.tensor([[0.0, 1.0, 9.0]])).argmax().item()  # the last one is not plausible
        1
    """
    return _plausible(both, both + strength * term, plausible)


def contrasted(
    both: Tokens, without: Tokens, *, strength: float = STRENGTH, plausible: float = PLAUSIBLE
) -> Tokens:
    """Prefer tokens that a part makes more likely: contrastive decoding, ``F + strength (F - F without the part)``.

    Source:
        Leng et al. 2023 (visual contrastive decoding), as later papers describe it.
    """
    return _plausible(both, both + strength * (both - without), plausible)


def decodings(found: Interaction, *, strength: float = STRENGTH) -> dict[str, np.ndarray]:
    """Return the token that is said after each prompt, by way of decoding: as it is, guided, contrasted.

    Args:
        found: Log probabilities; contrastive decoding takes the first part away.

    Example:
        >>> both, none = torch.tensor([[0.5, 0.4, 0.1]]).log(), torch.zeros(1, 3)
        >>> without = torch.tensor([[0.6, 0.3, 0.1]]).log()
        >>> found = Interaction(both=both, first=none, second=without, neither=none)
        >>> {name: int(token[0]) for name, token in decodings(found).items()}
        {'as it is': 0, 'guided': 1, 'contrasted': 1}
    """
    return {
        "as it is": found.both.argmax(1).numpy(),
        "guided": guided(found.both, found.term, strength=strength).argmax(1).numpy(),
        "contrasted": contrasted(found.both, found.second, strength=strength).argmax(1).numpy(),
    }


def guided_by_others(found: Interaction, others: np.ndarray, *, strength: float = STRENGTH) -> np.ndarray:
    """Return the token that is said after each prompt, guided by the interaction of another prompt: a control.

    Args:
        others: For each prompt the number of the one whose interaction guides it.
    """
    return guided(found.both, found.term[others], strength=strength).argmax(1).numpy()


def of_others(term: np.ndarray) -> np.ndarray:
    """Return the mean interaction of all other prompts on each word, the prompt itself left out.

    Example:
        >>> of_others(np.array([[0.0], [6.0], [0.0]])).ravel().tolist()  # beside the second the others have none
        [3.0, 0.0, 3.0]
    """
    return (term.sum(0) - term) / (len(term) - 1)


def _plausible(both: Tensor, scores: Tensor, share: float) -> Tensor:
    if not 0 < share <= 1:
        raise OptionError(
            f"plausible is {share}; a share above 0 and up to 1 is expected", hint="plausible=0.1"
        )
    least = both.amax(-1, keepdim=True) + torch.tensor(share).log()
    return scores.masked_fill(both < least, -torch.inf)


def _means(model: TransformerBridge, prompt: Prompt, rows: int) -> dict[str, Tensor]:
    """Mean over prompts of what enters the first layer and of what heads put out, for every position."""
    names = [hook_name("resid", 0)]
    names += [hook_name("head-output", layer) for layer in wiring(model).attention_layers]
    sums: dict[str, Tensor] = {}
    for part in prompt.split(rows):
        seen = record(model, part, names)[1]
        sums = {name: sums.get(name, 0) + seen[name].sum(0) for name in names}
    return {name: total / len(prompt) for name, total in sums.items()}


def _check_apart(model: TransformerBridge, a: Part, b: Part) -> None:
    """Do nothing if two parts share nothing: what is in both would be taken away by either."""
    (places, heads), (places_too, heads_too) = (_held(model, part) for part in (a, b))
    both = [*map(str, sorted(places & places_too)), *(f"a{n}.h{h}" for n, h in sorted(heads & heads_too))]
    if both:
        few = ", ".join(both[:8]) + (f" and {len(both) - 8} more" if len(both) > 8 else "")
        raise OptionError(
            f"the two parts share {'tokens' if places & places_too else 'heads'} {few}; parts that share nothing "
            "are expected",
            hint='range(1, 20) and range(20, 30), or ["a0.h0"] and ["a0.h1"]',
        )


def _held(model: TransformerBridge, part: Part) -> tuple[set[int], set[tuple[int, int]]]:
    """The positions or the heads of a part.

    Raises:
        OptionError: for a part that is empty or of both kinds.
    """
    words, places = [x for x in part if isinstance(x, str)], {int(x) for x in part if not isinstance(x, str)}
    if bool(words) == bool(places):
        raise OptionError(f"{list(part)} is not a part", hint='positions, range(1, 5), or heads, ["a0.h1"]')
    found = wiring(model)
    among = heads_among(words, found.attention_layers, found.n_heads) if words else {}
    return places, {(layer, head) for layer, heads in among.items() for head in heads}


def _without(
    model: TransformerBridge, part: Part, n: int, means: Mapping[str, Tensor]
) -> AbstractContextManager:
    """Inside, a part is not there."""
    words, places = [x for x in part if isinstance(x, str)], [x for x in part if not isinstance(x, str)]
    if places and means:
        return replaced_span(model, places, means[hook_name("resid", 0)])
    if places:
        return hidden_span(model, places, n)
    found = wiring(model)
    among = heads_among(words, found.attention_layers, found.n_heads)
    names = {layer: hook_name("head-output", layer) for layer in among}
    hooks = [(names[layer], _off(heads, means.get(names[layer]))) for layer, heads in among.items()]
    return model.hooks(fwd_hooks=hooks)


def _off(heads: Sequence[int], mean: Float[Tensor, "pos head d_head"] | None) -> Callable[..., Tensor]:
    def off(z: Tensor, hook: Any) -> Tensor:
        if mean is not None and len(mean) != z.shape[1]:
            raise ShapeError(
                f"means are of {len(mean)} positions; {z.shape[1]} are run",
                hint="take the means on prompts of the same length",
            )
        z, own = z.clone(), list(heads)
        z[:, :, own] = 0.0 if mean is None else mean[:, own].to(z)
        return z

    return off
