"""What happens to a response when one of its tokens is another: two continuations, and how alike they are.

Source: Li et al. 2025, arXiv:2510.13554, section 2.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.core.stats.agreement import jaccard
from workbench.heads.anchors import top_share
from workbench.heads.decoding import sample
from workbench.heads.responses import Response

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A token replaced, and how alike the two continuations are."""

    response: int
    token: int
    kind: str
    entropy: float
    alike: float


@torch.no_grad()
def swaps(
    model: TransformerBridge,
    found: Sequence[Response],
    curves: Sequence[np.ndarray],
    *,
    share: float = 0.4,
    rollout: int = 30,
    stride: int = 4,
    seed: int = 0,
) -> list[Swap]:
    """Replace one token where a curve is high and one where it is low in each response; compare what is written then.

    Both are words in one window of the response, so that as much text follows; the replacement is the model's most
    likely other token there; both continuations are greedy and ``rollout`` tokens long.

    Args:
        curves: FAI of every response, or other curves for controls.
        share: Of the words, that is high and that is low.
        stride: Tokens are swapped at every so many places: fewer lengths, fewer passes.
    """
    chosen = [
        (i, token, kind)
        for i, (response, curve) in enumerate(zip(found, curves, strict=True))
        for kind, token in _two_tokens(response, curve, share, rollout, stride, seed=seed + i)
    ]
    results = []
    for length in sorted({found[i].n_prompt + token for i, token, _ in chosen}):
        own = [c for c in chosen if found[c[0]].n_prompt + c[1] == length]
        prefix = torch.tensor(np.stack([found[i].ids[: length + 1] for i, _, _ in own]))
        prefix = prefix.to(next(iter(model.parameters())).device)
        other = prefix.clone()
        other[:, -1] = _alternative(model, prefix)
        both = sample(model, torch.cat([prefix, other]), steps=rollout, temperature=0.0).tolist()
        for (i, token, kind), one, another in zip(own, both, both[len(own) :], strict=False):
            alike = jaccard(one, another)
            entropy = float(found[i].entropy[token])
            results.append(Swap(response=i, token=token, kind=kind, entropy=entropy, alike=alike))
    return results


def swap_both(
    model: TransformerBridge,
    found: Sequence[Response],
    *,
    rollout: int = 30,
    seed: int = 0,
    tell: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> tuple[list[Swap], list[Swap]]:
    """Swap tokens at high and low FAI, and as a control at those of the place a third of a response before.

    Args:
        rollout: Tokens that are written after a swap.
        tell: Is told how many of the two are done.

    Source:
        Li et al. 2025, arXiv:2510.13554, section 2.3.

    Example:
        >>> import workbench as wb
        >>> from workbench.heads.responses import observe, respond
        >>> from workbench.training.language import known_texts
        >>> model = wb.open_model("zoo:stdlib")
        >>> ids = respond(model, known_texts(model.tokenizer), n=4, prompt=8, length=48)
        >>> seen = observe(model, ids[:2], ids[2:], start=8, low=4)
        >>> swapped, control = swap_both(model, seen.found, rollout=4)
        >>> sorted({swap.kind for swap in swapped})
        ['high', 'low']
    """
    own, moved = [r.fai for r in found], [np.roll(r.fai, len(r.fai) // 3) for r in found]
    swapped = swaps(model, found, own, rollout=rollout, seed=seed)
    tell(1, 2, "swaps")
    control = swaps(model, found, moved, rollout=rollout, seed=seed)
    tell(2, 2, "swaps")
    return swapped, control


def _two_tokens(
    response: Response, curve: np.ndarray, share: float, rollout: int, stride: int, *, seed: int
) -> list[tuple[str, int]]:
    """One token of the top and one of the bottom share of a window from which a rollout still fits."""
    places = np.arange(len(response.tokens))
    eligible = (places < len(places) - rollout - 1) & ((places + response.n_prompt) % stride == 0)
    eligible &= response.wordlike & np.isfinite(curve)
    if eligible.sum() < 5:
        return []
    high, low = (np.flatnonzero(top_share(side, share, eligible=eligible)) for side in (curve, -curve))
    # The pair that stands closest together among a few drawn: position is not what differs.
    rng = np.random.default_rng([seed, 11])
    pairs = [(int(rng.choice(high)), int(rng.choice(low))) for _ in range(10)]
    a, b = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    return [("high", a), ("low", b)]


def low_minus_high(swapped: Sequence[Swap]) -> Float[np.ndarray, " response"]:
    """Return the likeness after the low swap minus that after the high one, of each response that has both.

    Example:
        >>> low_minus_high([Swap(response=0, token=1, kind=kind, entropy=0, alike=a) for kind, a in
        ...                 (("high", 0.25), ("low", 0.75))])
        array([0.5])
    """
    sides: dict[int, dict[str, float]] = {}
    for swap in swapped:
        sides.setdefault(swap.response, {})[swap.kind] = swap.alike
    return np.array([side["low"] - side["high"] for _, side in sorted(sides.items()) if len(side) == 2])


def _alternative(model: TransformerBridge, prefix: Int[Tensor, "row pos"]) -> Int[Tensor, " row"]:
    """The most likely token at the last position that is not the one there."""
    logits = model(prefix[:, :-1])[:, -1].clone()
    logits.scatter_(1, prefix[:, -1:], -torch.inf)
    return logits.argmax(-1)
