"""`truth-induction` and `truth-induction-rotated`: an induction circuit written by hand, with two idle heads.

Head a0.h1 copies the previous token's code into a block of its own; a1.h0 looks for positions whose previous token is
the current one and copies the token there into the block that the unembedding reads. It rests on `<bos>` when nothing
matches. The idle heads look busy (one attends to equal tokens, one has the very attention pattern of the induction
head) but write into a block that nothing reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from workbench.tasks.induction import WORDS
from workbench.tasks.registry import make_pairs
from workbench.training.blocks import Head, Machine, Residual, codes, previous_token, reads, writes
from workbench.training.pools import answer_accuracy
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.truth_circuit import true_circuit
from workbench.training.vocabulary import N_SPECIAL, word_tokenizer

CONTEXT = 64
D_HEAD = 64
CODE = D_HEAD - 1  # one dimension of the induction head is its resting place
SHARPNESS = 80.0  # attention score of a match; resting scores 0.8 of it, the closest other word below 0.6
LOUDNESS = 30.0  # logit of the copied word

TRUTH: dict[str, Any] = {
    "task": "induction",
    "content": (
        "input->a0.h1<v>",
        "a0.h1->a1.h0<k>",
        "input->a1.h0<q>",
        "input->a1.h0<v>",
        "a1.h0->logits",
    ),
    "supporting": ("input->a0.h1<q>", "input->a0.h1<k>", "input->a1.h0<k>"),
    "varies": {
        "answer": ("input->a1.h0<v>", "a1.h0->logits"),
        "match": ("input->a0.h1<v>", "a0.h1->a1.h0<k>", "a1.h0->logits"),
    },
    "roles": {"a0.h1": "previous token", "a1.h0": "induction"},
    "idle": {"a0.h0": "equal tokens", "a1.h1": "attends like the induction head"},
    "norm": "none",
    "sharpness": "saturated",
    "about": "Supporting edges carry positions only.",
}


def build() -> Machine:
    """Return the model, in float64."""
    d_vocab = N_SPECIAL + len(WORDS)
    residual = Residual(
        sizes={"token": CODE, "position": CONTEXT, "previous": CODE, "out": CODE, "spare": CODE}
    )
    code = torch.zeros(d_vocab, CODE, dtype=torch.float64)  # special tokens have no code: they match nothing
    code[N_SPECIAL:] = codes(len(WORDS), CODE, seed=0)
    return Machine(
        embed=residual.table(d_vocab, token=code),
        position=residual.table(CONTEXT, position=torch.eye(CONTEXT, dtype=torch.float64)),
        heads=[
            [
                _matching(residual, key="token", target="spare"),
                previous_token(residual, D_HEAD, source="token", target="previous"),
            ],
            [
                _matching(residual, key="previous", target="out"),
                _matching(residual, key="previous", target="spare"),
            ],
        ],
        unembed=residual.table(d_vocab, out=LOUDNESS * code),
    )


def _matching(residual: Residual, *, key: str, target: str) -> Head:
    """A head that attends to positions whose ``key`` block equals the current token's code, else to `<bos>`."""
    rest = D_HEAD - 1
    k = reads(residual, D_HEAD, key)
    k[rest, residual.where("position").start] = 0.8  # only position 0 has this dimension
    bias = torch.zeros(D_HEAD, dtype=torch.float64)
    bias[rest] = SHARPNESS
    return Head(
        q=reads(residual, D_HEAD, "token", scale=SHARPNESS),
        k=k,
        v=reads(residual, D_HEAD, "token"),
        o=writes(residual, D_HEAD, target),
        q_bias=bias,
    )


def make_plain(seed: int, scratch: Path | None = None) -> Trained:
    """Return the readable basis; the seed changes nothing."""
    return _made("truth-induction", build(), "induction: previous token, then look for it and copy")


def make_rotated(seed: int, scratch: Path | None = None) -> Trained:
    """Return the same in a random orthogonal basis."""
    return _made("truth-induction-rotated", build().rotated(seed), "induction, in a random basis")


def _made(name: str, machine: Machine, algorithm: str) -> Trained:
    circuit = true_circuit(name, machine.shape, algorithm=algorithm, **TRUTH)
    return Trained(tokenizer=word_tokenizer(WORDS), phases={}, native=machine.native(), circuit=circuit)


def measure(model: TransformerBridge) -> list[CardNumber]:
    """Return the accuracy of the task, alone and with each head silenced."""
    pairs = make_pairs("induction", n=200, seed=1, split="test")
    accuracy = answer_accuracy(model, pairs, model.tokenizer)
    found = [CardNumber(name="induction", value=accuracy, n=len(pairs), needs=0.99)]
    for layer in range(2):
        for head in range(2):
            with model.hooks(fwd_hooks=[silence(layer, head)]):
                accuracy = answer_accuracy(model, pairs, model.tokenizer)
            found.append(CardNumber(name=f"induction without a{layer}.h{head}", value=accuracy, n=len(pairs)))
    return found


def silence(layer: int, head: int):
    """A hook that zeroes one head's output."""

    def zero(z, hook):
        z = z.clone()
        z[:, :, head] = 0.0
        return z

    return f"blocks.{layer}.attn.hook_z", zero


_WHAT = (
    "Written by hand, attention-only, no norm: a0.h1 (previous token) and a1.h0 (induction) do the task, a0.h0 and "
    "a1.h1 attend plausibly and do nothing. The true circuit is in circuit.json."
)
_LIMITS = (
    f"texts longer than {CONTEXT - 1} words",
    "edge-level hooks of TransformerLens, which native models lack",
)

RECIPE = TrainingRecipe(
    name="truth-induction",
    title="hand-built induction circuit, known by construction",
    what=_WHAT + " Every dimension of the residual stream has a meaning.",
    train=make_plain,
    measure=measure,
    held_out={"induction": "nothing was trained; measured on the task's test split"},
    limits=_LIMITS,
)
ROTATED = TrainingRecipe(
    name="truth-induction-rotated",
    title="the same circuit in a random basis",
    what=_WHAT + " The residual stream is turned by a random orthogonal matrix: no dimension means anything.",
    train=make_rotated,
    measure=measure,
    held_out={"induction": "nothing was trained; measured on the task's test split"},
    limits=_LIMITS,
)
