"""ACDC or faithfulness by the package auto-circuit, on weights and prompts in a folder.

Run by an interpreter that has the package.

    PYTHON benchmarks/peers/auto_circuit_acdc.py FOLDER [ROUNDS]

The folder has ``config.json``, ``weights.pt`` (state of a plain GPT-2 of transformers) and ``prompts.npz``; see
``benchmarks.acdc_peer``. Writes ``peer.json``: processor seconds of each round, edges, edges that were removed, and
every edge in the order in which it was visited with whether it was removed. With
``sizes`` in the configuration it runs circuits of these numbers of edges instead, the best of ``scores.json``, and
writes each circuit's last logits to ``peer.npz``; see ``benchmarks.faithfulness_peer``.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from auto_circuit.data import PromptPair, collate_fn
from auto_circuit.prune import run_circuits
from auto_circuit.prune_algos.ACDC import acdc_prune_scores
from auto_circuit.types import PatchType
from auto_circuit.utils.graph_utils import patchable_model
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2Config, GPT2LMHeadModel


def main(folder: Path, rounds: int) -> None:
    torch.set_num_threads(1)
    patchable, batch, config, off = load(folder)
    found = {"edges": len(patchable.edges), "logits off": off}
    work = run_sizes if "sizes" in config else run_acdc
    found |= work(patchable, batch, config, folder, rounds)
    (folder / "peer.json").write_text(json.dumps(found) + "\n")


def load(folder: Path):
    """Model, pairs, configuration, and how far the logits are from those that were handed over."""
    config = json.loads((folder / "config.json").read_text())
    plain = GPT2LMHeadModel(GPT2Config(**config["gpt2"]))
    plain.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    cfg = HookedTransformerConfig(
        n_layers=plain.config.n_layer,
        d_model=plain.config.n_embd,
        n_ctx=plain.config.n_positions,
        d_head=plain.config.n_embd // plain.config.n_head,
        n_heads=plain.config.n_head,
        d_mlp=4 * plain.config.n_embd,
        d_vocab=plain.config.vocab_size,
        act_fn="gelu_new",
        normalization_type="LN",
        device="cpu",
    )
    model = HookedTransformer(cfg)
    model.load_state_dict(convert_gpt2_weights(plain, cfg), strict=False)
    for use in ("attn_result", "split_qkv_input", "hook_mlp_in"):
        getattr(model, f"set_use_{use}")(True)
    model.requires_grad_(False).eval()
    data = np.load(folder / "prompts.npz")
    clean, corrupted = (torch.from_numpy(data[name]) for name in ("clean", "corrupted"))
    off = (model(clean)[:, -1] - torch.from_numpy(data["logits"])).abs().max().item()
    patchable = patchable_model(model, factorized=True, slice_output="last_seq", separate_qkv=True)
    none = torch.zeros(1, dtype=torch.long)
    batch = collate_fn([PromptPair(a, b, none, none) for a, b in zip(clean, corrupted, strict=True)])
    return patchable, batch, config, off


def run_acdc(patchable, batch, config: dict, folder: Path, rounds: int) -> dict:
    base = config["tau"]
    exponent = int(np.floor(np.log10(base)))
    seconds, visited = [], []
    for _ in range(rounds):
        begun = time.process_time()
        scores = acdc_prune_scores(
            patchable, [batch], None, tao_exps=[exponent], tao_bases=[round(base / 10**exponent)]
        )
        seconds.append(time.process_time() - begun)
        order = sorted(
            patchable.edges, key=lambda edge: edge.dest.layer, reverse=True
        )  # as acdc_prune_scores does
        visited = [(address(edge), bool(torch.isfinite(edge.prune_score(scores)))) for edge in order]
    return {"seconds": seconds, "removed": sum(gone for _, gone in visited), "visited": visited}


def address(edge) -> str:
    """An edge as we write it."""
    return f"{ours(edge.src.name)}->{ours(edge.dest.name)}"


def ours(name: str) -> str:
    """The address of a part by its name there: ``A1.2``, ``A1.2.Q``, ``MLP 3``, ``Resid Start``, ``Resid End``."""
    if name.startswith("Resid"):
        return "input" if name.endswith("Start") else "logits"
    if name.startswith("MLP"):
        return "m" + name.split()[1]
    layer, head, *slot = name.removeprefix("A").split(".")
    return f"a{layer}.h{head}" + (f"<{slot[0].lower()}>" if slot else "")


def run_sizes(patchable, batch, config: dict, folder: Path, rounds: int) -> dict:
    named = json.loads((folder / "scores.json").read_text())
    scores = {
        wrapper.module_name: torch.zeros_like(wrapper.patch_mask) for wrapper in patchable.dest_wrappers
    }
    for edge in patchable.edges:
        scores[edge.dest.module_name][edge.patch_idx] = named[address(edge)]
    seconds = []
    for _ in range(rounds):
        begun = time.process_time()
        found = run_circuits(patchable, [batch], config["sizes"], scores, PatchType.TREE_PATCH)
        seconds.append(time.process_time() - begun)
    logits = {str(size): outs[batch.key].numpy() for size, outs in found.items()}
    np.savez(folder / "peer.npz", **logits)
    return {"seconds": seconds}


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
