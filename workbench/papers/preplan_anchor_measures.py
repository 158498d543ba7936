"""Responses of a language model, the two curves of each, and what happens when one of its tokens is another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.core.errors import ModelError, OptionError
from workbench.heads.anchors import Marks, jaccard_of, top_share
from workbench.heads.decoding import sample
from workbench.heads.indicators import fai, looked, mean_distance, split_by_distance, waad
from workbench.heads.observe import patterns_of
from workbench.heads.text import TEXT
from workbench.model.architecture import describe
from workbench.model.outputs import require_words
from workbench.model.probe import wiring
from workbench.model.reading import require_tokens
from workbench.papers.options import PreplanSizes

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


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


def prompts_of(model: TransformerBridge, *, n: int, length: int, seed: int) -> Int[Tensor, "row pos"]:
    """Windows of held-out standard library files where the model is byte-level, else of the built-in text.

    Raises:
        ModelError: if the model has no tokenizer, or does not know the words.
    """
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None or not len(tokenizer):
        raise ModelError("the model has no tokenizer, so there is no text to go on from")
    stream = np.array(_stream(tokenizer))
    require_tokens(model, stream[:, None], "the text to go on from")
    known = describe(model).prepend_bos and tokenizer.bos_token_id is not None
    own = length - 1 if known else length
    rng = np.random.default_rng([seed, length])
    starts = rng.integers(0, len(stream) - own, n)
    rows = stream[starts[:, None] + np.arange(own)]
    if known:
        rows = np.concatenate([np.full((n, 1), tokenizer.bos_token_id), rows], axis=1)
    return torch.from_numpy(rows).to(next(iter(model.parameters())).device)


def _stream(tokenizer: Any) -> list[int]:
    """Token ids of text that the model can read."""
    from workbench.training.language import is_held_out, sources

    ids = tokenizer(TEXT, add_special_tokens=False, verbose=False)["input_ids"]
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        raise ModelError(
            "the model's tokenizer does not know the words of the built-in text; it is no language model"
        )
    if len(tokenizer) > 4096:
        return ids
    held_out = [text for name, text in sorted(sources().items()) if is_held_out(name)][:40]
    return [
        i for text in held_out for i in tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    ]


def respond(model: TransformerBridge, options: PreplanSizes, *, n: int, seed: int) -> Int[Tensor, "row pos"]:
    """Prompts and what the model writes after them."""
    require_words(model, "a response that the model writes")
    longest = describe(model).n_ctx or options.length
    length = min(options.length, longest)
    if length - options.prompt < 4 * options.low:
        raise OptionError(
            f"{max(0, length - options.prompt)} response tokens after a prompt of {options.prompt}; at least "
            f"{4 * options.low} are needed"
        )
    prompts = prompts_of(model, n=n, length=options.prompt, seed=seed)
    written = sample(
        model, prompts, steps=length - options.prompt, temperature=options.temperature, seed=seed
    )
    return torch.cat([prompts, written], 1)


@torch.no_grad()
def group_heads(model: TransformerBridge, ids: Int[Tensor, "row pos"], options: PreplanSizes) -> Groups:
    """Local and global heads by span over all layers; receiver heads by kurtosis among heads that are not global.

    Source:
        Li et al. 2025; receiver heads: Bogdan et al. 2025, "Thought Anchors".
    """
    layers = wiring(model).attention_layers
    rows = slice(options.prompt, None)
    span, peaked = torch.zeros(len(layers), wiring(model).n_heads), []
    for part in ids.split(16):
        seen = patterns_of(model, part)
        span += torch.stack([mean_distance(seen.of(n), rows).sum(0) for n in layers]).cpu() / len(ids)
        got = torch.stack([fai(seen.of(n), options.low, None, rows) for n in layers], 1).cpu()
        peaked.append(kurtosis(got[..., options.prompt : -options.low]))
    local, far = split_by_distance(span, options.group)
    sharp = torch.cat(peaked).nanmean(0).nan_to_num(nan=-torch.inf).masked_fill(far, -torch.inf)
    receiver = torch.zeros_like(far)
    receiver.view(-1)[sharp.view(-1).topk(int(far.sum())).indices] = True
    return Groups(local=local, far=far, receiver=receiver, span=span, layers=layers)


def kurtosis(x: Float[Tensor, "*batch token"]) -> Float[Tensor, "*batch"]:
    """Fourth standardised moment: large where few tokens get most."""
    centred = x - x.mean(-1, keepdim=True)
    return (centred**4).mean(-1) / (centred**2).mean(-1).clamp(min=1e-20) ** 2


@torch.no_grad()
def responses_of(
    model: TransformerBridge, ids: Int[Tensor, "row pos"], groups: Groups, options: PreplanSizes
) -> list[Response]:
    """The curves of every response."""
    found = []
    for part in ids.split(16):
        seen = patterns_of(model, part)
        patterns = torch.stack(
            [looked(seen.of(n)) for n in groups.layers], 1
        )  # (row, layer, head, query, key)
        logs = model(part).float().log_softmax(-1)
        surprise = -(logs.exp() * logs).sum(-1)  # (row, pos): of what comes next
        for i in range(len(part)):
            found.append(_response(model, part[i], patterns[i], surprise[i], groups, options))
    return found


def _response(
    model: TransformerBridge, ids: Tensor, A: Tensor, surprise: Tensor, groups: Groups, options: PreplanSizes
) -> Response:
    start, flat = options.prompt, A.flatten(0, 1)

    def mean_of(mask: Tensor) -> Tensor:
        chosen = flat[mask.flatten().to(flat.device)]
        return chosen.nanmean(0, keepdim=True)  # (1, query, key), of the heads that look somewhere

    def influence(mask: Tensor) -> np.ndarray:
        return fai(mean_of(mask), options.low, None, slice(start, None))[0, start:].cpu().numpy()

    drawn_from = surprise[start - 1 : -1].cpu().numpy()
    near = waad(mean_of(groups.local), options.window)[0, start:].cpu().numpy()
    late = influence(groups.far)
    if options.planted == "noise":
        rng = np.random.default_rng(ids.tolist())
        late = np.where(np.isfinite(late), rng.random(len(late)), np.nan)
    near = {"entropy": drawn_from, "fai": late}.get(options.planted, near)
    tokens = ids[start:].tolist()
    texts = [model.tokenizer.decode([token]) for token in tokens]
    return Response(
        ids=ids.cpu().numpy(),
        n_prompt=start,
        waad=near,
        fai=late,
        receivers=influence(groups.receiver),
        entropy=drawn_from,
        next_entropy=np.append(surprise[start:-1].cpu().numpy(), np.nan),
        wordlike=np.array([any(c.isalnum() for c in text) for text in texts]),
        starts=starts_of(texts),
    )


def starts_of(texts: Sequence[str]) -> Marks:
    """Tokens that begin a word: they, or the token before them, have white space or punctuation at that border."""
    before = ["\n", *texts[:-1]]
    return np.array(
        [
            bool(text) and (not text[0].isalnum() or not (last and last[-1].isalnum()))
            for text, last in zip(texts, before, strict=True)
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Swap:
    """A token replaced, and how alike the two continuations are."""

    response: int
    token: int
    kind: str
    fai: float
    entropy: float
    alike: float


@torch.no_grad()
def swaps(
    model: TransformerBridge,
    found: Sequence[Response],
    options: PreplanSizes,
    *,
    seed: int,
    values: Sequence[np.ndarray] | None = None,
) -> list[Swap]:
    """Replace one token of high and one of low FAI in each response and compare what is written after it.

    Both are words in one window of the response, so that as much text follows; the replacement is the model's most
    likely other token there; both continuations are greedy and ``rollout`` tokens long.

    Args:
        values: Other curves in place of FAI, for controls.
    """
    chosen = []
    for i, response in enumerate(found):
        curve = response.fai if values is None else values[i]
        for kind, token in _two_tokens(response, curve, options, seed=seed + i):
            chosen.append((i, token, kind))
    results = []
    for length in sorted({found[i].n_prompt + token for i, token, _ in chosen}):
        own = [c for c in chosen if found[c[0]].n_prompt + c[1] == length]
        prefix = torch.tensor(np.stack([found[i].ids[: length + 1] for i, _, _ in own]))
        prefix = prefix.to(next(iter(model.parameters())).device)
        other = prefix.clone()
        other[:, -1] = _alternative(model, prefix)
        both = sample(model, torch.cat([prefix, other]), steps=options.rollout, temperature=0.0)
        for k, (i, token, kind) in enumerate(own):
            results.append(
                Swap(
                    response=i,
                    token=token,
                    kind=kind,
                    fai=float(found[i].fai[token]),
                    entropy=float(found[i].entropy[token]),
                    alike=jaccard_of(both[k].tolist(), both[len(own) + k].tolist()),
                )
            )
    return results


def _two_tokens(
    response: Response, curve: np.ndarray, options: PreplanSizes, *, seed: int
) -> list[tuple[str, int]]:
    """One token of the top and one of the bottom share of a window from which a rollout still fits."""
    most = len(response.tokens) - options.rollout - 1
    window = np.arange(len(response.tokens)) < most
    window &= (np.arange(len(window)) + response.n_prompt) % options.stride == 0
    eligible = window & response.wordlike & np.isfinite(curve)
    high = np.flatnonzero(top_share(curve, options.share, eligible=eligible))
    low = np.flatnonzero(top_share(-curve, options.share, eligible=eligible))
    if eligible.sum() < 5:
        return []
    # The pair that stands closest together among a few drawn: position is not what differs.
    rng = np.random.default_rng([seed, 11])
    pairs = [(int(rng.choice(high)), int(rng.choice(low))) for _ in range(10)]
    a, b = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    return [("high", a), ("low", b)]


def _alternative(model: TransformerBridge, prefix: Int[Tensor, "row pos"]) -> Int[Tensor, " row"]:
    """The most likely token at the last position that is not the one there."""
    logits = model(prefix[:, :-1])[:, -1].clone()
    logits.scatter_(1, prefix[:, -1:], -torch.inf)
    return logits.argmax(-1)
