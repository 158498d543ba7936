"""`stdlib`: a four-layer GPT-2-shaped language model of the Python standard library's source text.

Byte pairs (2,048), d_model 128, context 128, ReLU, untied embeddings. Every training window starts with `<bos>`, so
position 0 is always the same token and can serve as an attention sink. Files are split by a hash of their path:
one in twenty is never trained on.
"""

from __future__ import annotations

import hashlib
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from workbench.training.loop import fit
from workbench.training.schedule import Muon
from workbench.training.vocabulary import BOS, EOS, PAD, byte_pair_tokenizer

VOCABULARY = 2048
CONTEXT = 128
STEPS = 10_000
TOKENS_PER_STEP = 4096
SHORT = 5_000  # so many steps on windows of half the context: a third more tokens per second
LEFT_OUT = ("encodings", "pydoc_data", "site-packages", "dist-packages")  # tables, prose, other people's code


def sources() -> dict[str, str]:
    """Text of every .py file of the running interpreter's standard library, by relative path, in a fixed order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if set(name.split("/")) & set(LEFT_OUT) or path.stat().st_size > 400_000:
            continue
        try:
            found[name] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # test data in other encodings
    return found


def is_held_out(name: str) -> bool:
    """Whether a file belongs to the validation twentieth."""
    return hashlib.sha256(name.encode()).digest()[0] % 20 == 0


def corpus_digest(texts: dict[str, str]) -> str:
    """First 16 hex digits of the sha256 over names and texts: which standard library this was."""
    digest = hashlib.sha256()
    for name, text in texts.items():
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()[:16]


def encode(texts: Iterator[str], tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """One long row of token ids, files separated by `<eos>`."""
    parts = []
    for encoding in tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False):
        parts += [np.array(encoding.ids, dtype=np.int64), np.array([EOS])]
    return np.concatenate(parts)


def windows(stream: np.ndarray, starts: np.ndarray, length: int) -> Tensor:
    """Windows of ``length`` tokens, the first of each replaced by `<bos>`; shape (window, length)."""
    rows = stream[starts[:, None] + np.arange(length)[None, :]]
    rows[:, 0] = BOS
    return torch.from_numpy(rows)


def build(seed: int) -> GPT2LMHeadModel:
    """The untrained model."""
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
    """Loss in nats per token on evenly spaced windows of held-out files."""
    starts = np.linspace(0, len(stream) - CONTEXT - 1, n_windows).astype(np.int64)
    losses = [loss_of(model, windows(stream, part, CONTEXT)).item() for part in np.array_split(starts, 16)]
    return float(np.mean(losses))


def optimisers_of(model: GPT2LMHeadModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, unembedding, norms and biases."""
    inner = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    inside = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in inside]
    rest = torch.optim.AdamW(outer, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    rest.param_groups[0]["peak"] = 3e-3
    return [Muon(inner, lr=0.02), rest]


def train(
    stream: np.ndarray, held_out: np.ndarray, *, seed: int, steps: int = STEPS, checkpoint: Path | None = None
):
    """Train on random windows: half the context length first, the whole of it afterwards."""
    model = build(seed)

    def loss_of_step(step: int) -> Tensor:
        length = CONTEXT // 2 if step < SHORT else CONTEXT
        draw = np.random.default_rng([seed, step])
        starts = draw.integers(0, len(stream) - length, TOKENS_PER_STEP // length)
        return loss_of(model, windows(stream, starts, length))

    def watch(step: int) -> str:
        return f"held out {validation_loss(model, held_out, n_windows=128):.4f}"

    used = fit(
        model, loss_of_step, optimisers=optimisers_of(model), steps=steps, decay=0.3, every=250,
        watch=watch, checkpoint=checkpoint,
    )  # fmt: skip
    return model, used
