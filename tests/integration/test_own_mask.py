"""`zoo:vlm-mutual` runs as it was trained whoever opens it: its patches see the question; numbers from plain torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from benchmarks.families.naive import every_head
from workbench.circuits.circuit import Circuit
from workbench.core.errors import ModelError
from workbench.evaluate.faithfulness import run_circuits
from workbench.model.builtin import ZOO
from workbench.model.identity import identity
from workbench.model.probe import wiring

CLOSED = torch.finfo(torch.float32).min
TOLERANCE = 2e-4  # 8e-5: largest difference seen, of logits up to 20


@pytest.fixture(scope="module")
def model():
    return wb.open_model("zoo:vlm-mutual", device="cpu")


@pytest.fixture(scope="module")
def plain():
    return transformers.LlavaForConditionalGeneration.from_pretrained(
        ZOO / "vlm-mutual", attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def runs(model):
    return wb.paired_runs(model, wb.make_pairs("scene-place", n=3, seed=4))


def prompts_of(runs, run: str = "clean"):
    """What transformers' model is called with: 36 patches behind the first token, then seven words that they see."""
    mask = torch.full((44, 44), CLOSED).triu(1)
    mask[1:37, 37:44] = 0
    found = []
    for i in range(runs.n_pairs):
        prompt = runs.prompt_of(run, np.array([i]))
        pixels = prompt.extras["pixel_values"]
        found.append({"input_ids": prompt.ids, "pixel_values": pixels, "attention_mask": mask[None, None]})
    return found


def test_every_head_off_under_the_mask_that_it_was_trained_with(model, plain, runs):
    heads = [f"a{n}.h{h}" for n in range(4) for h in range(4)]
    found = wb.ablate(runs, heads, ablation="zero")

    def read(out, i):
        last = out.logits[0, -1]
        return float(last[runs.pairs.correct[i][0]] - last[runs.pairs.incorrect[i][0]])

    whole, rows = every_head(plain, prompts_of(runs), read, 4, among=lambda name: "language" in name)
    assert whole == pytest.approx(list(runs.clean), abs=TOLERANCE)
    assert found.patched == pytest.approx(np.array(rows), abs=TOLERANCE)
    usual = [{**prompt, "attention_mask": None} for prompt in prompts_of(runs)]
    with torch.no_grad():
        causal = [read(plain(**prompt), i) for i, prompt in enumerate(usual)]
    assert max(abs(np.array(causal) - runs.clean)) > 0.5  # another model under the usual mask


def test_a_call_by_hand_and_a_record_have_it_too(model, plain, runs):
    prompt = prompts_of(runs)[0]
    with torch.no_grad():
        found = model(prompt["input_ids"], pixel_values=prompt["pixel_values"])
        expected = plain(**prompt).logits
    assert torch.allclose(found, expected, atol=TOLERANCE)
    note = "its patches see the 7 words of the question behind them, as it was trained (image_sees_question)"
    assert note in identity(model).notes and not identity(wb.open_model("zoo:vlm")).notes[:-1]
    assert wiring(model).causal and wiring(model).looks_ahead


def test_all_edges_kept_is_the_clean_run_and_none_the_corrupted_run(runs):
    graph = runs.wiring.graph()
    every = {(edge.source, edge.target): 1.0 for edge in graph.edges()}
    full, empty = (
        Circuit.build(shape=graph.shape, nodes={}, edges=edges, level="edge") for edges in (every, {})
    )
    found = run_circuits(runs, [full, empty])
    assert found[0] == pytest.approx(runs.clean, abs=TOLERANCE)
    assert found[1] == pytest.approx(runs.corrupted, abs=TOLERANCE)


def test_what_patches_see_ahead_can_be_knocked_out(runs):
    """In `zoo:vlm` a patch cannot see the words behind it, and knocking that out is refused."""
    ahead = wb.KnockOut(node="a1", query="image", key="end")
    found = wb.measure(runs, [wb.Intervention(label="ahead", edits=(ahead,))], kind="knock-out")
    assert abs(found.patched - found.base).max() > 1e-3
    usual = wb.paired_runs(wb.open_model("zoo:vlm", device="cpu"), runs.pairs.pairs)
    with pytest.raises(wb.WorkbenchError, match="comes after query"):
        wb.measure(usual, [wb.Intervention(label="ahead", edits=(ahead,))], kind="knock-out")


def test_a_mask_of_its_own_that_is_not_known_is_refused():
    config = transformers.LlamaConfig(
        vocab_size=160, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    config.image_sees_question = True
    with pytest.raises(ModelError, match="image_sees_question; a LLaVA is expected"):
        wb.open_model(transformers.LlamaForCausalLM(config))
