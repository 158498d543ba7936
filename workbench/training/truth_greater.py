"""`truth-greater`: greater-than by a circuit written by hand, with attention and an MLP that looks the answer up.

The end year's century ("... the year 17 41 to the year 17") is found again by an induction circuit: a0.h1 copies the
previous token's code, a1.h0 looks for the number whose previous token is the current one, and fetches its value. MLP
m1 turns the value x into one logit for every ending: hidden unit y is relu(y - x), and the logit of y is the
difference of units y and y - 1, which is 1 for every y above x and 0 for the others. The other two heads and m0
compute something and write it where nothing reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformer_lens.model_bridge import TransformerBridge

from workbench.tasks.draw import PIECES
from workbench.tasks.registry import get_task, make_pairs
from workbench.tasks.words import TWO_DIGITS
from workbench.training.blocks import Head, Lookup, Machine, Residual, codes, previous_token, reads, writes
from workbench.training.pools import answer_accuracy
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.truth_circuit import true_circuit
from workbench.training.truth_induction import silence
from workbench.training.vocabulary import N_SPECIAL, word_tokenizer

CONTEXT = 32
D_HEAD = 32
CODE = 28
SHARPNESS = 40.0  # score of a matching code, and again of being a number
LOUDNESS = 15.0  # logit of every right ending; wrong ones have 0

TRUTH: dict[str, Any] = {
    "task": "greater-than",
    "options": {"style": "spaced"},
    "content": (
        "input->a0.h1<v>",
        "input->a1.h0<q>",
        "a0.h1->a1.h0<k>",
        "input->a1.h0<v>",
        "a1.h0->m1",
        "m1->logits",
    ),
    "supporting": ("input->a0.h1<q>", "input->a0.h1<k>", "input->a1.h0<k>"),
    "varies": {
        "01": ("input->a1.h0<v>", "a1.h0->m1", "m1->logits"),
        "later": ("input->a1.h0<v>", "a1.h0->m1", "m1->logits"),
    },
    "roles": {
        "a0.h1": "previous token",
        "a1.h0": "induction: fetches the start year's ending",
        "m1": "lookup: every ending above it",
    },
    "idle": {"a0.h0": "equal tokens", "a1.h1": "attends like a1.h0", "m0": "a lookup of nothing"},
    "algorithm": "greater-than: find the year by its century, look up every larger ending",
    "norm": "none",
    "sharpness": "saturated",
    "about": "Supporting edges carry positions and (input->a1.h0<k>) which tokens are numbers, which matters only "
    "where a year repeats its century, as in 17 17.",
}


def words() -> list[str]:
    """Return all words of the task, sorted."""
    return sorted({piece for text in get_task("greater-than").texts for piece in PIECES.findall(text)})


def build() -> Machine:
    """Return the model, in float64."""
    vocabulary = words()
    d_vocab, n_numbers = N_SPECIAL + len(vocabulary), len(TWO_DIGITS)
    residual = Residual(
        sizes={
            "token": CODE,
            "number": 1,  # 1 for two-digit numbers
            "value": 1,  # 100 minus their value, so that nothing fetched means nothing above
            "position": CONTEXT,
            "previous": CODE,
            "fetched": 1,
            "out": n_numbers,
            "spare": CODE,
        }
    )
    rows = torch.tensor([N_SPECIAL + vocabulary.index(number) for number in TWO_DIGITS])
    code, flag, value, unembed = (
        torch.zeros(d_vocab, n, dtype=torch.float64) for n in (CODE, 1, 1, n_numbers)
    )
    code[N_SPECIAL:] = codes(len(vocabulary), CODE, seed=0)
    flag[rows] = 1.0
    value[rows, 0] = n_numbers - torch.arange(n_numbers, dtype=torch.float64)
    unembed[rows] = torch.eye(n_numbers, dtype=torch.float64)
    return Machine(
        embed=residual.table(d_vocab, token=code, number=flag, value=value),
        position=residual.table(CONTEXT, position=torch.eye(CONTEXT, dtype=torch.float64)),
        heads=[
            [
                _number_after(residual, key="token", what="token", target="spare"),
                previous_token(residual, D_HEAD, source="token", target="previous"),
            ],
            [
                _number_after(residual, key="previous", what="value", target="fetched"),
                _number_after(residual, key="previous", what="token", target="spare"),
            ],
        ],
        unembed=residual.table(d_vocab, out=unembed),
        lookups=[_above(residual, "value", loudness=0.0), _above(residual, "fetched", loudness=LOUDNESS)],
    )


def _number_after(residual: Residual, *, key: str, what: str, target: str) -> Head:
    """A head that attends to numbers whose ``key`` block equals the current token's code, else to `<bos>`."""
    is_number, rest = D_HEAD - 2, D_HEAD - 1
    k = reads(residual, D_HEAD, key)
    k[is_number, residual.where("number")] = 1.0
    k[rest, residual.where("position").start] = 1.75  # a number that matches has 2, one that does not about 1
    bias = torch.zeros(D_HEAD, dtype=torch.float64)
    bias[[is_number, rest]] = SHARPNESS
    return Head(
        q=reads(residual, D_HEAD, "token", scale=SHARPNESS),
        k=k,
        v=reads(residual, D_HEAD, what),
        o=writes(residual, D_HEAD, target),
        q_bias=bias,
    )


def _above(residual: Residual, source: str, *, loudness: float) -> Lookup:
    """``loudness`` for every number above the one in block ``source``; with 0, a sum into the spare block."""
    n = residual.sizes["out"]
    numbers = torch.arange(n, dtype=torch.float64)
    into = torch.zeros(n, residual.width, dtype=torch.float64)
    into[:, residual.where(source).start] = 1.0
    out = torch.zeros(residual.width, n, dtype=torch.float64)
    if loudness:
        step = torch.eye(n, dtype=torch.float64) - torch.diag(torch.ones(n - 1, dtype=torch.float64), -1)
        out[residual.where("out")] = loudness * step
    else:
        out[residual.where("spare").start] = 0.01
    return Lookup(into=into, bias=numbers - n, out=out)


def train(seed: int, scratch: Path | None = None) -> Trained:
    """Written, not trained; the seed changes nothing."""
    machine = build()
    circuit = true_circuit("truth-greater", machine.shape, **TRUTH)
    return Trained(tokenizer=word_tokenizer(words()), phases={}, native=machine.native(), circuit=circuit)


def measure(model: TransformerBridge) -> list[CardNumber]:
    """Return the accuracy of the task, whole and with each part silenced."""
    pairs = make_pairs("greater-than", n=200, seed=1, split="test", style="spaced")

    def accuracy() -> float:
        return answer_accuracy(model, pairs, model.tokenizer)

    found = [CardNumber(name="greater-than", value=accuracy(), n=len(pairs), needs=0.99)]
    parts = {f"a{layer}.h{head}": silence(layer, head) for layer in range(2) for head in range(2)}
    parts |= {f"m{layer}": silence_mlp(layer) for layer in range(2)}
    for name, hook in parts.items():
        with model.hooks(fwd_hooks=[hook]):
            found.append(CardNumber(name=f"greater-than without {name}", value=accuracy(), n=len(pairs)))
    return found


def silence_mlp(layer: int):
    """A hook that zeroes an MLP's output."""
    return f"blocks.{layer}.hook_mlp_out", lambda output, hook: torch.zeros_like(output)


RECIPE = TrainingRecipe(
    name="truth-greater",
    title="hand-built greater-than circuit with an MLP lookup",
    what="Written by hand, two layers with MLPs, no norm: a0.h1 and a1.h0 fetch the start year's ending, m1 turns it "
    "into a logit for every larger one; a0.h0, a1.h1 and m0 do nothing. The true circuit is in circuit.json.",
    train=train,
    measure=measure,
    held_out={"greater-than": "nothing was trained; measured on the task's test split"},
    limits=(
        f"texts longer than {CONTEXT - 1} words",
        "edge-level hooks of TransformerLens, which native models lack",
    ),
    source="task: Hanna, Liu and Variengien 2023, arXiv:2305.00586",
)
