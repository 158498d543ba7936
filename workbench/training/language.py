"""`stdlib`: a four-layer GPT-2-shaped language model of the Python standard library's source text.

Byte pairs (2,048), d_model 128, context 128, ReLU, untied embeddings. Every training window starts with `<bos>`, so
position 0 is always the same token and can serve as an attention sink. Files are split by a hash of their path:
one in twenty is never trained on.
"""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformer_lens.model_bridge import TransformerBridge
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.heads.text import TEXT
from workbench.training.induction import head_scores
from workbench.training.loop import fit
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.repeats import copying_accuracy
from workbench.training.schedule import mixed_optimisers
from workbench.training.vocabulary import BOS, EOS, N_SPECIAL, PAD, byte_pair_tokenizer

VOCABULARY = 2048
CONTEXT = 128
STEPS = 2_500
TOKENS_PER_STEP = 4096
SHORT = 1_750  # so many steps on windows of half the context: a third more tokens per second
LEFT_OUT = ("encodings", "pydoc_data", "site-packages", "dist-packages")  # tables, prose, other people's code


def sources(*, held_out: bool | None = None) -> dict[str, str]:
    """Return text of every .py file of the running interpreter's standard library, by relative path, in a fixed
    order; or of those alone that are held out, or are not.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if held_out is not None and is_held_out(name) != held_out:
            continue
        if set(name.split("/")) & set(LEFT_OUT) or path.stat().st_size > 400_000:
            continue
        try:
            found[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # test data in other encodings
    return found


def held_out_texts() -> list[str]:
    """Return the text of every file of the corpus that the model was not trained on, by name."""
    return [text for name, text in sorted(sources().items()) if is_held_out(name)]


def is_held_out(name: str) -> bool:
    """Say whether a file belongs to the validation twentieth."""
    return hashlib.sha256(name.encode()).digest()[0] % 20 == 0


def known_texts(tokenizer: PreTrainedTokenizerFast | None) -> list[str]:
    """Return text that a model can be expected to read: held-out files for a vocabulary as small as ours, else
    prose.
    """
    if tokenizer is None or not 0 < len(tokenizer) <= 4096:
        return [TEXT]
    return [text for _, text in sorted(sources(held_out=True).items())][:40]


def corpus_digest(texts: dict[str, str]) -> str:
    """Return first 16 hex digits of the sha256 over names and texts: which standard library this was."""
    digest = hashlib.sha256()
    for name, text in texts.items():
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()[:16]


def encode(texts: Iterator[str], tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Return one long row of token ids, files separated by `<eos>`."""
    parts = []
    for encoding in tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False):
        parts += [np.array(encoding.ids, dtype=np.int64), np.array([EOS])]
    return np.concatenate(parts)


def windows(stream: np.ndarray, starts: np.ndarray, length: int) -> Tensor:
    """Return windows of ``length`` tokens, the first of each replaced by `<bos>`; shape (window, length)."""
    rows = stream[starts[:, None] + np.arange(length)[None, :]]
    rows[:, 0] = BOS
    return torch.from_numpy(rows)


def build(seed: int) -> GPT2LMHeadModel:
    """Return the untrained model."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=128,
        n_layer=4,
        n_head=4,
        activation_function="relu",
        tie_word_embeddings=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return GPT2LMHeadModel(config)


def loss_of(model: GPT2LMHeadModel, ids: Tensor) -> Tensor:
    """Mean next-token loss over a batch, in nats per token."""
    logits = model(ids).logits[:, :-1]
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


@torch.no_grad()
def validation_loss(model: GPT2LMHeadModel, stream: np.ndarray, *, n_windows: int = 512) -> float:
    """Return the loss in nats per token on evenly spaced windows of held-out files."""
    starts = np.linspace(0, len(stream) - CONTEXT - 1, n_windows).astype(np.int64)
    losses = [loss_of(model, windows(stream, part, CONTEXT)).item() for part in np.array_split(starts, 16)]
    return float(np.mean(losses))


def train(seed: int, scratch: Path | None = None, *, steps: int = STEPS) -> Trained:
    """Learn the byte pairs, then train on random windows: half the context length first, then the whole."""
    texts = sources()
    trained_on = [text for name, text in texts.items() if not is_held_out(name)]
    held_out = [text for name, text in texts.items() if is_held_out(name)]
    tokenizer = byte_pair_tokenizer(iter(trained_on), size=VOCABULARY)
    stream, other = encode(iter(trained_on), tokenizer), encode(iter(held_out), tokenizer)
    model = build(seed)

    def loss_of_step(step: int) -> Tensor:
        length = CONTEXT // 2 if step < SHORT else CONTEXT
        draw = np.random.default_rng([seed, step])
        starts = draw.integers(0, len(stream) - length, TOKENS_PER_STEP // length)
        return loss_of(model, windows(stream, starts, length))

    used = fit(
        model,
        loss_of_step,
        optimisers=mixed_optimisers(model),
        steps=steps,
        decay=0.3,
        every=250,
        watch=lambda step: f"held out {validation_loss(model, other, n_windows=128):.4f}",
        checkpoint=None if scratch is None else scratch / "stdlib.pt",
        checkpoint_every=50,
    )
    data = {
        "python": platform.python_version(),
        "files": len(texts),
        "files held out": len(held_out),
        "training tokens": len(stream),
        "tokens seen": steps * TOKENS_PER_STEP,
        "characters per token": round(sum(map(len, held_out)) / len(other), 3),
        "text": corpus_digest(texts),
        "licence of the text": "Python Software Foundation License 2.0",
    }
    return Trained(tokenizer=tokenizer, phases={"windows": used}, model=model, data=data)


def measure(model: TransformerBridge) -> list[CardNumber]:
    """Loss on held-out files of the running Python, copying of repeated tokens, and where attention rests."""
    stream = encode(iter(sources(held_out=True).values()), model.tokenizer)
    starts = np.linspace(0, len(stream) - CONTEXT - 1, 256).astype(np.int64)
    batches = [windows(stream, part, CONTEXT) for part in np.array_split(starts, 16)]
    per_place = torch.cat([loss_per_place(model, ids) for ids in batches])
    n = per_place.numel()
    found = [
        CardNumber(name="loss on held-out files", value=per_place.mean().item(), n=n, unit="nats per token"),
        CardNumber(
            name="loss of the last quarter of the context", value=per_place[:, 96:].mean().item(), n=n // 4,
            unit="nats per token",
        ),
        CardNumber(
            name="loss of a model of token frequencies", value=unigram_loss(stream), n=len(stream),
            unit="nats per token",
        ),
    ]  # fmt: skip
    tokens = np.arange(N_SPECIAL, VOCABULARY)
    copied = copying_accuracy(model, tokens, n=50, length=100, periods=(50, 50), seed=5)
    found.append(CardNumber(name="copies repeated random tokens, period 50", value=copied, n=50, needs=0.5))
    prefix, previous = map(torch.stack, zip(*head_scores(model, tokens, period=50), strict=True))
    sink = sink_mass(model, batches[0])
    for name, table in (
        ("prefix matching", prefix),
        ("previous token", previous),
        ("attention to <bos>", sink),
    ):
        layer, head = divmod(int(table.argmax()), table.shape[1])
        best = CardNumber(
            name=f"{name}, strongest head a{layer}.h{head}", value=table.max().item(), n=50, unit="attention",
            needs={"prefix matching": 0.3, "previous token": 0.5}.get(name),
        )  # fmt: skip
        found.append(best)
    found.append(
        CardNumber(
            name="attention to <bos>, mean of all heads", value=sink.mean().item(), n=16, unit="attention"
        )
    )
    return found


@torch.no_grad()
def loss_per_place(model, ids: Tensor) -> Float[Tensor, "window step"]:
    """Next-token loss of every position, in nats."""
    logits = model(ids)[:, :-1]
    return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)


def unigram_loss(stream: np.ndarray) -> float:
    """Entropy of the token frequencies, in nats: the loss of a model that knows nothing else."""
    share = np.bincount(stream, minlength=VOCABULARY) / len(stream)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


@torch.no_grad()
def sink_mass(model: TransformerBridge, ids: Tensor) -> Float[Tensor, "layer head"]:
    """Mean attention that positions 4 and later give to position 0."""
    _, cache = model.run_with_cache(ids)
    layers = range(model.cfg.n_layers)
    return torch.stack([cache[f"blocks.{i}.attn.hook_pattern"][:, :, 4:, 0].mean((0, 2)) for i in layers])


RECIPE = TrainingRecipe(
    name="stdlib",
    title="a small language model of the Python standard library",
    what="GPT-2 shape, 2,048 byte pairs, trained on the source text of the standard library from random windows.",
    train=train,
    measure=measure,
    held_out={"text": "one file in twenty, chosen by a hash of its path, was never trained on"},
    limits=(
        "answering in English, or writing programs that run: it knows spelling, indentation and common phrases",
        f"texts over {CONTEXT - 1} tokens",
    ),
)
