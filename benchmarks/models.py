"""The models and pairs that the bench is run on, each both as a bridge and as plain functions of the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.floor import plain
from benchmarks.floor.plain import Plain
from workbench.engine.paired_runs import PairedRuns


@dataclass(frozen=True, kw_only=True, eq=False)
class Shape:
    """A model with pairs: ``runs`` for ours and TransformerLens, ``plain`` for the floor."""

    name: str
    about: str
    runs: PairedRuns
    plain: Plain

    @property
    def clean(self) -> torch.Tensor:
        return self.runs.batches[0].clean

    @property
    def corrupted(self) -> torch.Tensor:
        return self.runs.batches[0].corrupted

    @property
    def answers(self) -> torch.Tensor:
        """``(pair, 2)``: the correct and the incorrect token."""
        answers = self.runs.batches[0].answers
        return torch.stack([answers.correct[:, 0], answers.incorrect[:, 0]], 1)


def random_pairs(n: int, length: int, vocabulary: int, seed: int = 0):
    """Pairs of random tokens, three of ten tokens changed, answers that differ; positions ``p0`` to the end."""
    from workbench.tasks.alignment import AlignedPairs
    from workbench.tasks.pairs import Pair, Pairs

    draw = np.random.default_rng(seed)
    clean = draw.integers(0, vocabulary, (n, length))
    corrupted = np.where(draw.random(clean.shape) < 0.3, draw.integers(0, vocabulary, clean.shape), clean)
    corrupted[:, 1] = (clean[:, 1] + 1) % vocabulary
    answers = [draw.choice(vocabulary, 2, replace=False) for _ in range(n)]
    items = tuple(
        Pair(
            id=f"pair-{i}", clean=f"clean {i}", corrupted=f"corrupted {i}", correct=(" a",), incorrect=(" b",)
        )
        for i in range(n)
    )
    return AlignedPairs(
        pairs=Pairs(items=items, task="random"),
        clean=tuple(clean),
        corrupted=tuple(corrupted),
        correct=tuple((int(a),) for a, _ in answers),
        incorrect=tuple((int(b),) for _, b in answers),
        positions=tuple({"end": length - 1} for _ in range(n)),
        dropped=(),
        prepend_bos=False,
    )


def _shape(name: str, about: str, model: Any, read: Callable[..., Plain], n: int, length: int) -> Shape:
    from workbench.model.open import open_model

    functions = read(model.config, dict(model.state_dict()))
    vocabulary = model.config.vocab_size
    bridge = open_model(model)
    return Shape(
        name=name,
        about=f"{about}, {n} pairs of {length} tokens",
        runs=PairedRuns(bridge, random_pairs(n, length, vocabulary)),
        plain=functions,
    )


def gpt2(n: int = 32, length: int = 16, **size: float) -> Shape:
    """Random weights in the shape of GPT-2 small, or in another size."""
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(attn_implementation="eager", **size)
    model = _rough(transformers.GPT2LMHeadModel(config).eval())
    return _shape(
        "gpt2",
        f"GPT-2 shape: {config.n_layer} layers, {config.n_head} heads, d {config.n_embd}, random weights",
        model,
        plain.gpt2,
        n,
        length,
    )


def llama(n: int = 32, length: int = 16, **size: int) -> Shape:
    """Random weights in the shape of a small Llama with grouped queries."""
    import transformers

    size = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "vocab_size": 8192} | size
    size = {"num_attention_heads": 8, "num_key_value_heads": 2} | size
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**size, tie_word_embeddings=False, attn_implementation="eager")
    model = _rough(transformers.LlamaForCausalLM(config).eval())
    heads = f"{config.num_attention_heads} heads on {config.num_key_value_heads} KV heads"
    about = f"Llama shape: {config.num_hidden_layers} layers, {heads}, d {config.hidden_size}, random weights"
    return _shape("llama", about, model, plain.llama, n, length)


def zoo(n: int = 32, name: str = "ioi") -> Shape:
    """A built-in model with pairs of its own task, as many of one length as there are of the commonest."""
    import transformers

    from workbench.engine.of_task import paired_runs
    from workbench.model.builtin import ZOO
    from workbench.model.open import open_model

    model = transformers.GPT2LMHeadModel.from_pretrained(ZOO / name, attn_implementation="eager").eval()
    functions = plain.gpt2(model.config, dict(model.state_dict()))
    runs = paired_runs(open_model(f"zoo:{name}"), "ioi", n=3 * n)
    batch = max(runs.batches, key=len)
    runs = runs.subset(batch.index[:n].tolist())
    about = f"zoo:{name}: {model.config.n_layer} layers, {model.config.n_head} heads, d {model.config.n_embd}"
    tokens = runs.batches[0].n_tokens
    return Shape(
        name=f"zoo:{name}",
        about=f"{about}, {len(runs.pairs)} pairs of {tokens} tokens",
        runs=runs,
        plain=functions,
    )


def _rough(model: torch.nn.Module) -> torch.nn.Module:
    """Norm gains and biases with a spread: an untrained model hides mistakes in exactly those."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


SHAPES: dict[str, Callable[[], Shape]] = {"gpt2": gpt2, "zoo": zoo, "llama": llama}
