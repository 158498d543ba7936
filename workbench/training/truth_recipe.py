"""Recipes of models compiled from a program: how they are made, and what is measured on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformer_lens.model_bridge import TransformerBridge

from workbench.circuits.circuit import Circuit
from workbench.model.hooks import hook_name
from workbench.tasks.draw import PIECES
from workbench.tasks.pairs import Pairs
from workbench.tasks.registry import get_task, make_pairs
from workbench.training.compiler import Compiled
from workbench.training.pools import answer_accuracy
from workbench.training.recipe import CardNumber, Trained, TrainingRecipe
from workbench.training.truth_circuit import true_circuit
from workbench.training.vocabulary import word_tokenizer

N = 200
SAMPLE = 16  # prompts whose attention and norms are looked at


def task_words(task: str) -> list[str]:
    """Return all words of a task, sorted."""
    return sorted({piece for text in get_task(task).texts for piece in PIECES.findall(text)})


def known_recipe(
    name: str,
    build: Callable[[], Compiled],
    *,
    task: str,
    title: str,
    what: str,
    algorithm: str,
    norm: str = "none",
    sharpness: str,
    corruption: str = "unrelated",
    about: str = "",
    source: str = "",
    alone: Sequence[Sequence[str]] = (),
) -> TrainingRecipe:
    """Return a recipe that compiles a program, writes its circuit and measures every part of it.

    Args:
        build: The compiled program; the seed is the program's own.
        alone: Sets of parts that are silenced together besides every part by itself.
    """

    def circuit(compiled: Compiled) -> Circuit:
        return true_circuit(
            name,
            compiled.machine.shape,
            task=task,
            content=compiled.content,
            supporting=compiled.supporting,
            roles=compiled.roles,
            idle=compiled.idle,
            algorithm=algorithm,
            norm=norm,
            sharpness=sharpness,
            corruption=corruption,
            about=about,
        )

    def train(seed: int, scratch: Path | None = None) -> Trained:
        compiled = build()
        own, known = compiled.machine.native(), circuit(compiled)
        return Trained(tokenizer=word_tokenizer(task_words(task)), phases={}, native=own, circuit=known)

    def measure(model: TransformerBridge) -> list[CardNumber]:
        pairs = make_pairs(task, n=N, seed=1, split="test", corruption=corruption)
        return measured_parts(build(), model, pairs, alone=alone)

    return TrainingRecipe(
        name=name,
        title=title,
        what=f"Compiled from a short program, not trained. {what} The true circuit is in circuit.json.",
        train=train,
        measure=measure,
        held_out={task: "nothing was trained; measured on the task's test split"},
        limits=("any other text", "edge-level hooks of TransformerLens, which native models lack"),
        source=source,
    )


def measured_parts(
    compiled: Compiled, model: TransformerBridge, pairs: Pairs, *, alone: Sequence[Sequence[str]] = ()
) -> list[CardNumber]:
    """Measure the whole model, then without each part and each set of parts, then how sharply its heads look."""
    parts = [(node,) for node in (*compiled.roles, *compiled.idle)]
    found = [CardNumber(name=str(pairs.task), value=accuracy(model, pairs), n=len(pairs), needs=0.99)]
    found += [without(model, pairs, nodes) for nodes in (*sorted(parts), *alone)]
    found += [attention(model, pairs, node) for node in sorted(compiled.roles) if ".h" in node]
    return [*found, norm_spread(model, pairs)] if compiled.machine.norm else found


def accuracy(model: TransformerBridge, pairs: Pairs) -> float:
    """Return the share of clean prompts whose most likely token is a correct answer."""
    return answer_accuracy(model, pairs, model.tokenizer)


def without(model: TransformerBridge, pairs: Pairs, nodes: Sequence[str]) -> CardNumber:
    """Accuracy with these heads and MLPs writing nothing."""
    with model.hooks(fwd_hooks=[silence(node) for node in nodes]):
        value = accuracy(model, pairs)
    return CardNumber(name=f"{pairs.task} without {' and '.join(nodes)}", value=value, n=len(pairs))


def silence(node: str):
    """A hook that makes one head or MLP write nothing."""
    layer, _, head = node[1:].partition(".h")
    if node[0] == "m":
        return f"blocks.{layer}.hook_mlp_out", lambda output, hook: torch.zeros_like(output)

    def zero(z, hook):
        z = z.clone()
        z[:, :, int(head)] = 0.0
        return z

    return f"blocks.{layer}.attn.hook_z", zero


@torch.no_grad()
def attention(model: TransformerBridge, pairs: Pairs, node: str) -> CardNumber:
    """Say how much of a head's attention is on its strongest key, at the last token."""
    layer, _, head = node[1:].partition(".h")
    name, found = f"blocks.{layer}.attn.hook_pattern", []
    for pair in pairs[:SAMPLE]:
        _, cache = model.run_with_cache(model.to_tokens(pair.clean), names_filter=name)
        found.append(cache[name][0, int(head), -1].max().item())
    where = f"attention on the strongest key, {node} at the end"
    return CardNumber(name=where, value=sum(found) / len(found), n=len(found), unit="attention")


@torch.no_grad()
def norm_spread(model: TransformerBridge, pairs: Pairs) -> CardNumber:
    """Largest relative difference of the length that a norm divides by, over all tokens, norms and prompts."""
    last, lengths = model.cfg.n_layers - 1, []
    names = [*(hook_name("resid", layer) for layer in range(last + 1)), f"blocks.{last}.hook_out"]
    for pair in pairs[:SAMPLE]:
        _, cache = model.run_with_cache(model.to_tokens(pair.clean), names_filter=lambda name: name in names)
        lengths += [cache[name].double().norm(dim=-1).flatten() for name in names]
    every = torch.cat(lengths)
    value = ((every.max() - every.min()) / every.mean()).item()
    name = "spread of the length that norms divide by"
    return CardNumber(name=name, value=value, n=len(every), unit="share", needs=0.05, lower_is_better=True)
