"""A native model recomputed from its stored weights: float64, no TransformerLens, every edge by itself.

Every head and MLP reads a chosen sum of earlier outputs, so that single edges can be cut or exchanged.
"""

from __future__ import annotations

import json
import re

import torch
from safetensors.torch import load_file

from workbench.model.builtin import ZOO
from workbench.model.known_circuits import load_truth


class Plain:
    """A model with a known circuit as named outputs that are added up."""

    def __init__(self, name: str) -> None:
        directory = ZOO / name.removeprefix("zoo:")
        self.name, self.truth = name, load_truth(name)
        self.config = json.loads((directory / "tl_native.json").read_text())
        self.weights = {k: v.double() for k, v in load_file(directory / "model.safetensors").items()}
        self.vocab = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
        self.layers, self.heads = self.config["n_layers"], self.config["n_heads"]
        self.groups = self.config.get("n_key_value_heads") or self.heads
        self.mlps = not self.config["attn_only"]

    def ids(self, text: str) -> torch.Tensor:
        pieces = re.findall(r"\w+|[^\w\s]+", text)
        return torch.tensor([self.vocab["<bos>"], *(self.vocab[w] for w in pieces)])

    def nodes(self) -> list[str]:
        found = ["input"]
        for layer in range(self.layers):
            found += [f"a{layer}.h{head}" for head in range(self.heads)]
            found += [f"m{layer}"] if self.mlps else []
        return found

    def reader(self, layer: int, head: int, slot: str) -> str:
        """The address of a head's input; keys and values may be a group's."""
        if slot == "q" or self.groups == self.heads:
            return f"a{layer}.h{head}<{slot}>"
        return f"a{layer}.g{head * self.groups // self.heads}<{slot}>"

    def edges(self) -> set[str]:
        """Every edge of the computation graph."""
        found, sources = set(), ["input"]
        for layer in range(self.layers):
            heads = range(self.heads)
            found |= {f"{s}->{self.reader(layer, h, slot)}" for s in sources for h in heads for slot in "qkv"}
            sources += [f"a{layer}.h{head}" for head in heads]
            if self.mlps:
                found |= {f"{s}->m{layer}" for s in sources}
                sources.append(f"m{layer}")
        return found | {f"{s}->logits" for s in sources}

    def norm(self, x: torch.Tensor, at: str) -> torch.Tensor:
        kind, w = self.config["normalization_type"], self.weights
        if kind is None:
            return x
        x = x - x.mean(-1, keepdim=True) if kind == "LN" else x
        x = x / (x.square().mean(-1, keepdim=True) + self.config.get("eps", 1e-5)).sqrt()
        return x * w[f"{at}.weight"] + (w[f"{at}.bias"] if kind == "LN" else 0.0)

    def run(
        self, text: str, *, keep: set[str], other: dict | None = None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits at the end, and every node's output.

        Edges outside ``keep`` carry the output in ``other``, or nothing.
        """
        w, ids = self.weights, self.ids(text)
        out = {"input": w["embed.weight"][ids] + w["pos_embed.weight"][: len(ids)]}
        d = self.config["d_head"]
        later = torch.ones(len(ids), len(ids)).triu(1).bool()

        def read(target: str) -> torch.Tensor:
            total = torch.zeros_like(out["input"])
            for source, value in out.items():
                if f"{source}->{target}" in keep:
                    total = total + value
                elif other is not None:
                    total = total + other[source]
            return total

        for layer in range(self.layers):
            at, new = f"blocks.{layer}.attn.", {}
            for head in range(self.heads):
                q, k, v = (
                    self.norm(read(self.reader(layer, head, p)), f"blocks.{layer}.ln1")
                    @ w[f"{at}{p}.weight"][self._rows(head, p)].T
                    + w[f"{at}{p}.bias"][self._rows(head, p)]
                    for p in "qkv"
                )
                scores = (q @ k.T / d**0.5).masked_fill(later, -torch.inf)
                rows = slice(head * d, (head + 1) * d)
                new[f"a{layer}.h{head}"] = scores.softmax(-1) @ v @ w[f"{at}o.weight"][:, rows].T
            out |= new
            if self.mlps:
                at = f"blocks.{layer}.mlp."
                x = self.norm(read(f"m{layer}"), f"blocks.{layer}.ln2")
                hidden = (x @ w[f"{at}in.weight"].T + w[f"{at}in.bias"]).relu()
                out[f"m{layer}"] = hidden @ w[f"{at}out.weight"].T + w[f"{at}out.bias"]
        final = self.norm(read("logits"), "ln_final")[-1]
        return final @ w["unembed.weight"].T + w["unembed.bias"], out

    def _rows(self, head: int, slot: str) -> slice:
        index = head if slot == "q" else head * self.groups // self.heads
        return slice(index * self.config["d_head"], (index + 1) * self.config["d_head"])

    def right(self, logits: torch.Tensor, pair) -> bool:
        """Whether a correct answer is the most likely of all tokens."""
        return logits.argmax().item() in {self.vocab[answer.strip()] for answer in pair.correct}

    def difference(self, logits: torch.Tensor, pair) -> float:
        """Mean logit of the correct minus mean logit of the incorrect answers."""
        correct, incorrect = ([self.vocab[a.strip()] for a in s] for s in (pair.correct, pair.incorrect))
        return (logits[correct].mean() - logits[incorrect].mean()).item()
