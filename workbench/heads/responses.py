"""Responses of a language model: the two curves of each, and what happens when one of its tokens is another.

Local heads look near, global heads far. WAAD of the local heads says from where far is looked back; FAI of the global
heads says which tokens later ones go back to. Source: Li et al. 2025, arXiv:2510.13554.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.claims import Rows
from workbench.core.errors import ModelError, OptionError
from workbench.core.stats.agreement import jaccard
from workbench.heads.anchors import Marks
from workbench.heads.decoding import sample
from workbench.heads.indicators import fai, looked, mean_distance, split_by_distance, waad
from workbench.heads.observe import patterns_of
from workbench.model.architecture import describe
from workbench.model.outputs import require_words
from workbench.model.probe import wiring
from workbench.model.reading import require_tokens
from workbench.view.pictures import Curves

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


Planted = Literal["none", "entropy", "fai", "noise"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """Local and global heads ``(layer, head)``, receiver heads among the rest, and every head's span in tokens."""

    local: Bool[Tensor, "layer head"]
    far: Bool[Tensor, "layer head"]
    receiver: Bool[Tensor, "layer head"]
    span: Float[Tensor, "layer head"]
    layers: tuple[int, ...]

    def names(self, mask: Bool[Tensor, "layer head"]) -> list[str]:
        return [f"a{self.layers[i]}.h{h}" for i, h in mask.nonzero().tolist()]

    def by_kind(self) -> dict[str, Bool[Tensor, "layer head"]]:
        """Return the heads of each kind: local, global, receiver."""
        return {"local": self.local, "global": self.far, "receiver": self.receiver}

    def spans(self) -> dict[str, float]:
        """Return the mean span of the heads of each kind, in tokens."""
        return {kind: float(self.span[mask].mean()) for kind, mask in self.by_kind().items()}

    def table(self) -> Rows:
        """Return one row with the names of the heads of each kind."""
        return [{kind: ", ".join(self.names(mask)) for kind, mask in self.by_kind().items()}]

    def agreement(self, again: Groups) -> float:
        """Return how alike other responses cut the same heads: the lesser Jaccard of local and of global heads."""
        cuts = ((self.local, again.local), (self.far, again.far))
        return min(jaccard(self.names(here), self.names(there)) for here, there in cuts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Response:
    """One response: its tokens, its curves over the response's tokens, and how sure the model was of each.

    Attributes:
        ids: Prompt and response.
        entropy: Of the distribution that each token was drawn from, in nats.
        next_entropy: Of the distribution after each token; NaN at the last.
        receivers: What receiver heads of later tokens give to each token.
        wordlike: Tokens with a letter or digit; the others are punctuation and white space.
        starts: Tokens that begin a word or a line.
    """

    ids: Int[np.ndarray, " pos"]
    n_prompt: int
    waad: Float[np.ndarray, " token"]
    fai: Float[np.ndarray, " token"]
    receivers: Float[np.ndarray, " token"]
    entropy: Float[np.ndarray, " token"]
    next_entropy: Float[np.ndarray, " token"]
    wordlike: Marks
    starts: Marks

    @property
    def tokens(self) -> Int[np.ndarray, " token"]:
        return self.ids[self.n_prompt :]

    def picture(self) -> Curves:
        """Draw its curves over its tokens, FAI so that its largest value is 10."""
        scale = 10 / (float(np.nanmax(self.fai)) or 1.0)
        curves = {"WAAD": self.waad, "FAI, largest = 10": scale * self.fai, "entropy": self.entropy}
        points = {name: list(enumerate(values.tolist())) for name, values in curves.items()}
        return Curves.of(points, x_label="token of the response", y_label="tokens; nats")

    @property
    def kinds(self) -> Int[np.ndarray, " token"]:
        """A number per token: punctuation or not, begins a word or not, first or second half, with an FAI or none."""
        half = np.arange(len(self.tokens)) >= len(self.tokens) // 2
        return self.wordlike + 2 * self.starts + 4 * half + 8 * np.isfinite(self.fai)


def with_known_curve(response: Response, what: Planted) -> Response:
    """Put a curve with a known answer in place of a measured one: a check that verdicts can go the other way.

    Args:
        what: ``entropy`` or ``fai`` stands in place of WAAD, ``noise`` puts random numbers in place of FAI, ``none``
            changes nothing.

    Raises:
        OptionError: for another word.
    """
    if what not in get_args(Planted):
        raise OptionError(
            f"planted is {what!r}; expected one of {', '.join(get_args(Planted))}", hint="--set planted=none"
        )
    if what == "none":
        return response
    if what == "noise":
        rng = np.random.default_rng(response.ids.tolist())
        noise = np.where(np.isfinite(response.fai), rng.random(len(response.fai)), np.nan)
        return replace(response, fai=noise)
    return replace(response, waad=getattr(response, what))


def prompts_of(
    model: TransformerBridge, texts: Sequence[str], *, n: int, length: int, seed: int
) -> Int[Tensor, "row pos"]:
    """Return windows of texts at random places, one text after the other.

    Raises:
        ModelError: if the model has no tokenizer, or does not know the words.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not len(tokenizer):
        raise ModelError(
            "the model has no tokenizer, so there is no text to go on from",
            hint="open a model with a tokenizer: zoo:stdlib",
        )
    ids = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    stream = np.concatenate(ids)
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in stream:
        raise ModelError(
            f"the model's tokenizer does not know {int((stream == tokenizer.unk_token_id).sum())} of the "
            f"{len(stream)} words of the text that it should go on from",
            hint="open a model that was trained on free text: zoo:stdlib",
        )
    require_tokens(model, torch.from_numpy(stream)[:, None], "the text to go on from")
    known = describe(model).prepend_bos and tokenizer.bos_token_id is not None
    own = length - 1 if known else length
    starts = np.random.default_rng([seed, length]).integers(0, len(stream) - own, n)
    rows = stream[starts[:, None] + np.arange(own)]
    if known:
        rows = np.concatenate([np.full((n, 1), tokenizer.bos_token_id), rows], axis=1)
    return torch.from_numpy(rows).to(next(iter(model.parameters())).device)


def respond(
    model: TransformerBridge,
    texts: Sequence[str],
    *,
    n: int,
    prompt: int,
    length: int,
    least: int = 1,
    temperature: float = 0.7,
    seed: int = 0,
) -> Int[Tensor, "row pos"]:
    """Return prompts out of texts and what the model writes after them, ``length`` tokens in all or its whole
    context.

    Raises:
        OptionError: if fewer than ``least`` tokens would be written.
    """
    require_words(model, "a response that the model writes")
    steps = min(length, describe(model).n_ctx or length) - prompt
    if steps < least:
        raise OptionError(
            f"{max(0, steps)} response tokens after a prompt of {prompt}; at least {least} are needed",
            hint=f"length={prompt + least}, or a shorter prompt",
        )
    prompts = prompts_of(model, texts, n=n, length=prompt, seed=seed)
    return torch.cat([prompts, sample(model, prompts, steps=steps, temperature=temperature, seed=seed)], 1)


@torch.no_grad()
def group_heads(
    model: TransformerBridge, ids: Int[Tensor, "row pos"], *, start: int, low: int = 10, share: float = 0.3
) -> Groups:
    """Return local and global heads by span over all layers; receiver heads by kurtosis among heads that are not
    global.

    Args:
        start: Where the responses begin.
        low: Tokens after a token that do not count for its FAI.
        share: Of all heads, in each group.

    Source:
        Li et al. 2025; receiver heads: Bogdan et al. 2025, "Thought Anchors".
    """
    layers = wiring(model).attention_layers
    rows = slice(start, None)
    span, peaked = torch.zeros(len(layers), wiring(model).n_heads), []
    for part in ids.split(16):
        seen = patterns_of(model, part)
        span += torch.stack([mean_distance(seen.of(n), rows).sum(0) for n in layers]).cpu() / len(ids)
        got = torch.stack([fai(seen.of(n), low, None, rows) for n in layers], 1).cpu()
        peaked.append(kurtosis(got[..., start:-low]))
    local, far = split_by_distance(span, share)
    sharp = torch.cat(peaked).nanmean(0).nan_to_num(nan=-torch.inf).masked_fill(far, -torch.inf)
    receiver = torch.zeros_like(far)
    receiver.view(-1)[sharp.view(-1).topk(int(far.sum())).indices] = True
    return Groups(local=local, far=far, receiver=receiver, span=span, layers=layers)


def kurtosis(x: Float[Tensor, "*batch token"]) -> Float[Tensor, "*batch"]:
    """Return the fourth standardised moment: large where few tokens get most.

    Example:
        >>> kurtosis(torch.tensor([-1.0, 1.0, -1.0, 1.0])).item(), kurtosis(torch.tensor([0.0, 0.0, 0.0, 4.0])).item()
        (1.0, 2.3333332538604736)
    """
    centred = x - x.mean(-1, keepdim=True)
    return (centred**4).mean(-1) / (centred**2).mean(-1).clamp(min=1e-20) ** 2


@torch.no_grad()
def responses_of(
    model: TransformerBridge,
    ids: Int[Tensor, "row pos"],
    groups: Groups,
    *,
    start: int,
    low: int,
    window: int,
) -> list[Response]:
    """Return the curves of every response; ``window`` is the farthest that counts for WAAD."""
    found = []
    for part in ids.split(16):
        seen = patterns_of(model, part)
        A = torch.stack([looked(seen.of(n)) for n in groups.layers], 1).flatten(
            1, 2
        )  # (row, head, query, key)
        logs = model(part).float().log_softmax(-1)
        surprise = -(logs.exp() * logs).sum(-1)  # (row, pos): of what comes next
        for one, pattern, unsure in zip(part, A, surprise, strict=True):
            curves = _curves(pattern, groups, start=start, low=low, window=window)
            texts = [model.tokenizer.decode([token]) for token in one[start:].tolist()]
            found.append(
                Response(
                    ids=one.cpu().numpy(),
                    n_prompt=start,
                    **curves,
                    entropy=unsure[start - 1 : -1].cpu().numpy(),
                    next_entropy=np.append(unsure[start:-1].cpu().numpy(), np.nan),
                    wordlike=np.array([any(c.isalnum() for c in text) for text in texts]),
                    starts=starts_of(texts),
                )
            )
    return found


class Observed(NamedTuple):
    """Head groups that some responses choose, those that others would choose, and the curves of these others."""

    groups: Groups
    again: Groups
    found: list[Response]


def observe(
    model: TransformerBridge,
    grouping: Int[Tensor, "row pos"],
    written: Int[Tensor, "response pos"],
    *,
    start: int,
    low: int = 10,
    window: int = 10,
    planted: Planted = "none",
) -> Observed:
    """Choose head groups on some responses and take the curves of others with them.

    Args:
        grouping: Responses that choose the groups.
        written: Those that are analysed.
        start: Where the responses begin.
        low: Tokens after a token that do not count for its FAI.
        window: The farthest that counts for WAAD.
        planted: A curve with a known answer in place of a measured one (`with_known_curve`).

    Source:
        Li et al. 2025, arXiv:2510.13554, section 2.

    Example:
        >>> import workbench as wb
        >>> from workbench.training.language import known_texts
        >>> model = wb.open_model("zoo:stdlib")
        >>> texts = known_texts(model.tokenizer)
        >>> ids = respond(model, texts, n=4, prompt=8, length=32)
        >>> seen = observe(model, ids[:2], ids[2:], start=8, low=4)
        >>> len(seen.found), seen.found[0].waad.shape
        (2, (24,))
    """
    groups, again = (group_heads(model, ids, start=start, low=low) for ids in (grouping, written))
    found = responses_of(model, written, groups, start=start, low=low, window=window)
    return Observed(groups, again, [with_known_curve(one, planted) for one in found])


def _curves(
    A: Float[Tensor, "head query key"], groups: Groups, *, start: int, low: int, window: int
) -> dict[str, np.ndarray]:
    """WAAD, FAI and what receiver heads give, each of the mean pattern of its heads that look somewhere."""
    local, far, receiver = (
        A[mask.flatten().to(A.device)].nanmean(0, keepdim=True)
        for mask in (groups.local, groups.far, groups.receiver)
    )
    found = {"waad": waad(local, window)}
    found |= {
        name: fai(one, low, None, slice(start, None)) for name, one in (("fai", far), ("receivers", receiver))
    }
    return {name: curve[0, start:].cpu().numpy() for name, curve in found.items()}


def starts_of(texts: Sequence[str]) -> Marks:
    """Return tokens that begin a word: they, or the token before them, have white space or punctuation at that
    border.
    """
    before = ["\n", *texts[:-1]]
    return np.array(
        [
            bool(text) and (not text[0].isalnum() or not (last and last[-1].isalnum()))
            for text, last in zip(texts, before, strict=True)
        ]
    )
