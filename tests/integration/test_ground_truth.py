"""The hand-built models do their task by exactly the circuit that truth.json states.

Everything is recomputed here from the stored weights, in float64 and without TransformerLens: a forward pass in which
every head and MLP reads a chosen sum of earlier outputs, so that single edges can be cut or patched.
"""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import load_file

from workbench.model.open import open_model
from workbench.model.zoo import ZOO
from workbench.tasks.registry import make_pairs

NAMES = ("truth-induction", "truth-induction-rotated", "truth-greater")
N = 40


class Plain:
    """A native model without norms as named outputs that are added up."""

    def __init__(self, name: str) -> None:
        directory = ZOO / name
        self.truth = json.loads((directory / "truth.json").read_text())
        self.config = json.loads((directory / "tl_native.json").read_text())
        self.weights = {k: v.double() for k, v in load_file(directory / "model.safetensors").items()}
        vocab = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
        self.vocab = vocab
        self.layers, self.heads = self.config["n_layers"], self.config["n_heads"]
        self.mlps = not self.config["attn_only"]

    def ids(self, text: str) -> torch.Tensor:
        return torch.tensor(
            [self.vocab["<bos>"], *(self.vocab[w] for w in re.findall(r"\w+|[^\w\s]+", text))]
        )

    def nodes(self) -> list[str]:
        found = ["input"]
        for layer in range(self.layers):
            found += [f"a{layer}.h{head}" for head in range(self.heads)]
            found += [f"m{layer}"] if self.mlps else []
        return found

    def edges(self) -> set[str]:
        """Every edge of the computation graph."""
        found, sources = set(), ["input"]
        for layer in range(self.layers):
            heads = [f"a{layer}.h{head}" for head in range(self.heads)]
            found |= {f"{s}->{h}<{part}>" for s in sources for h in heads for part in "qkv"}
            sources += heads
            if self.mlps:
                found |= {f"{s}->m{layer}" for s in sources}
                sources.append(f"m{layer}")
        return found | {f"{s}->logits" for s in sources}

    def run(self, text: str, *, keep: set[str], other: dict | None = None) -> tuple[torch.Tensor, dict]:
        """Logits at the end, and every node's output.

        Edges outside ``keep`` carry the output in ``other``, or nothing.
        """
        w, ids = self.weights, self.ids(text)
        out = {"input": w["embed.weight"][ids] + w["pos_embed.weight"][: len(ids)]}

        def read(target: str) -> torch.Tensor:
            total = torch.zeros_like(out["input"])
            for source, value in out.items():
                if f"{source}->{target}" in keep:
                    total = total + value
                elif other is not None:
                    total = total + other[source]
            return total

        d = self.config["d_head"]
        later = torch.ones(len(ids), len(ids)).triu(1).bool()
        for layer in range(self.layers):
            at, new = f"blocks.{layer}.attn.", {}
            for head in range(self.heads):
                rows = slice(head * d, (head + 1) * d)
                q, k, v = (
                    read(f"a{layer}.h{head}<{p}>") @ w[f"{at}{p}.weight"][rows].T + w[f"{at}{p}.bias"][rows]
                    for p in "qkv"
                )
                scores = (q @ k.T / d**0.5).masked_fill(later, -torch.inf)
                new[f"a{layer}.h{head}"] = scores.softmax(-1) @ v @ w[f"{at}o.weight"][:, rows].T
            out |= new
            if self.mlps:
                at = f"blocks.{layer}.mlp."
                hidden = (read(f"m{layer}") @ w[f"{at}in.weight"].T + w[f"{at}in.bias"]).relu()
                out[f"m{layer}"] = hidden @ w[f"{at}out.weight"].T + w[f"{at}out.bias"]
        return read("logits")[-1] @ w["unembed.weight"].T, out

    def pairs(self, corruption: str | None = None):
        options = self.truth.get("options", {})
        return make_pairs(self.truth["task"], n=N, seed=3, split="test", corruption=corruption, **options)

    def accuracy(self, keep: set[str]) -> float:
        right = 0
        for pair in self.pairs():
            top = self.run(pair.clean, keep=keep)[0].argmax().item()
            right += top in {self.vocab[answer.strip()] for answer in pair.correct}
        return right / N

    def difference(self, logits: torch.Tensor, pair) -> float:
        """Largest logit of the correct answers minus the mean of the incorrect ones."""
        correct, incorrect = (
            [self.vocab[a.strip()] for a in answers] for answers in (pair.correct, pair.incorrect)
        )
        return (logits[correct].max() - logits[incorrect].mean()).item()


@pytest.fixture(scope="module", params=NAMES)
def plain(request) -> Plain:
    return Plain(request.param)


def test_the_shipped_model_is_what_is_recomputed_here(plain, request):
    bridge = open_model(f"zoo:{request.node.callspec.params['plain']}")
    text = plain.pairs()[0].clean
    expected, _ = plain.run(text, keep=plain.edges())
    found = bridge(plain.ids(text)[None])[0, -1].double()
    assert torch.allclose(found, expected, atol=1e-3)  # logits up to 30, float32 attention scores up to 80


def test_the_true_edges_exist_and_join_input_to_logits(plain):
    truth = plain.truth
    assert set(truth["edges"]) | set(truth["supporting"]) <= plain.edges()
    assert set(truth["nodes"]) | set(truth["idle"]) == {*plain.nodes(), "logits"}
    ends = {
        end for edge in truth["edges"] for end in (edge.split("->")[0], edge.split("->")[1].split("<")[0])
    }
    assert ends == set(truth["nodes"])


def test_the_true_circuit_alone_gives_the_very_logits(plain):
    truth = plain.truth
    for pair in plain.pairs():
        alone, _ = plain.run(pair.clean, keep={*truth["edges"], *truth["supporting"]})
        whole, _ = plain.run(pair.clean, keep=plain.edges())
        # 1e-3: in the rotated basis the blocks are orthogonal only to float32 precision.
        assert torch.allclose(alone, whole, atol=1e-3), pair.id


def test_cutting_any_true_edge_destroys_the_task(plain):
    everything = plain.edges()
    assert plain.accuracy(everything) == 1.0
    for edge in plain.truth["edges"]:
        assert plain.accuracy(everything - {edge}) < 0.3, edge


def test_only_the_edges_that_vary_answer_to_a_corruption(plain):
    everything = plain.edges()
    for corruption, varying in plain.truth["varies"].items():
        for pair in plain.pairs(corruption)[:10]:
            clean, _ = plain.run(pair.clean, keep=everything)
            corrupted, out = plain.run(pair.corrupted, keep=everything)
            restored, _ = plain.run(pair.clean, keep=set(varying), other=out)
            noised, _ = plain.run(pair.clean, keep=everything - set(varying), other=out)
            assert plain.difference(restored, pair) == pytest.approx(plain.difference(clean, pair), abs=1e-3)
            assert plain.difference(noised, pair) == pytest.approx(
                plain.difference(corrupted, pair), abs=1e-3
            )
            for edge in varying:  # each one alone breaks the chain
                broken, _ = plain.run(pair.clean, keep=everything - {edge}, other=out)
                assert plain.difference(broken, pair) == pytest.approx(
                    plain.difference(corrupted, pair), abs=1e-3
                )


def test_rotation_leaves_no_dimension_a_meaning():
    straight, turned = Plain("truth-induction"), Plain("truth-induction-rotated")
    zeros = [(p.weights["embed.weight"] == 0).double().mean().item() for p in (straight, turned)]
    assert zeros[0] > 0.7 and zeros[1] < 0.05  # four of five blocks are empty; a turned row is dense
    text = straight.pairs()[0].clean
    logits = [p.run(text, keep=p.edges())[0] for p in (straight, turned)]
    assert torch.allclose(*logits, atol=1e-3)
