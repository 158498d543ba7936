"""ACDC of the package auto-circuit on weights and prompts in a folder; run by an interpreter that has the package.

    PYTHON benchmarks/peers/auto_circuit_acdc.py FOLDER [ROUNDS]

The folder has ``config.json``, ``weights.pt`` (state of a plain GPT-2 of transformers) and ``prompts.npz``; see
``benchmarks.acdc_peer``. Writes ``peer.json``: processor seconds of each round, edges, edges that were removed.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from auto_circuit.data import PromptPair, collate_fn
from auto_circuit.prune_algos.ACDC import acdc_prune_scores
from auto_circuit.utils.graph_utils import patchable_model
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2Config, GPT2LMHeadModel


def main(folder: Path, rounds: int) -> None:
    torch.set_num_threads(1)
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
    base = config["tau"]
    exponent = int(np.floor(np.log10(base)))
    seconds, removed = [], 0
    for _ in range(rounds):
        begun = time.process_time()
        scores = acdc_prune_scores(
            patchable, [batch], None, tao_exps=[exponent], tao_bases=[round(base / 10**exponent)]
        )
        seconds.append(time.process_time() - begun)
        removed = sum(int(torch.isfinite(edge.prune_score(scores))) for edge in patchable.edges)
    found = {"seconds": seconds, "edges": len(patchable.edges), "removed": removed, "logits off": off}
    (folder / "peer.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
