"""Two models in which EAP and EAP-IG must differ: one saturates at the clean end, one has no sense off its prompts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.families import VOCABULARY, save_tokenizer
from workbench.core.errors import TaskError
from workbench.engine.paired_runs import PairedRuns
from workbench.evaluate.along_the_path import EAP_NAME, IG_NAME, along_the_path, exchanged
from workbench.methods.by_name import score
from workbench.methods.prompt_path import prompt_path
from workbench.model.open import open_model
from workbench.tasks.pairs import Pair, Pairs

CLEAN, CORRUPTED, MARY = (VOCABULARY.index(word) for word in ("w20", "w21", "Mary"))
PAIRS = Pairs(
    items=(Pair(id="a", clean="w9 w20", corrupted="w9 w21", correct=(" Mary",), incorrect=(" John",)),),
    task="planted",
)


def planted(folder, fill):
    """Runs of a two-layer ReLU model without norms whose MLPs ``fill`` gives."""
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.model.native import save_native

    size = {"d_model": 8, "d_head": 4, "n_heads": 1, "n_ctx": 8, "d_vocab": len(VOCABULARY), "d_mlp": 4}
    config = TransformerBridgeConfig(**size, n_layers=2, act_fn="relu", normalization_type=None, seed=0)
    bridge = TransformerBridge.boot_native(config).eval()
    weights = {
        name.replace("._original_component", ""): p for name, p in bridge.original_model.named_parameters()
    }
    with torch.no_grad():
        for parameter in weights.values():
            parameter.zero_()
        _busy(weights)
        fill(weights)
    save_native(bridge, folder)
    save_tokenizer(folder)
    return PairedRuns(open_model(folder, device="cpu"), PAIRS)


def _busy(weights):
    """Attention works in three dimensions of its own, which neither of the two answers reads: a model has some."""
    rows = torch.randn(len(VOCABULARY), 3, generator=torch.Generator().manual_seed(0))
    rows[CORRUPTED] = rows[CLEAN]
    weights["tok_embed.weight"][:, 5:] = rows
    weights["head.weight"][VOCABULARY.index("store"), 5:] = 1.0
    for layer in (0, 1):
        for name in "qkv":
            weights[f"layers.{layer}.attn.{name}.weight"][:3, 5:] = torch.eye(3)
        weights[f"layers.{layer}.attn.o.weight"][5:, :3] = torch.eye(3)


@pytest.fixture(scope="module")
def saturated(tmp_path_factory):
    """``Mary = min(x, 1) + 0.3 z``: x is 4 and z is 1 in the clean prompt, both are 0 in the corrupted one."""

    def fill(w):
        w["tok_embed.weight"][CLEAN, [0, 2]] = torch.tensor([4.0, 1.0])
        w["layers.0.mlp.fc_in.weight"][[0, 1], 0] = 1.0
        w["layers.0.mlp.fc_in.bias"][1] = -1.0
        w["layers.0.mlp.fc_out.weight"][1, [0, 1]] = torch.tensor([1.0, -1.0])
        w["head.weight"][MARY, [1, 2]] = torch.tensor([1.0, 0.3])

    return planted(tmp_path_factory.mktemp("saturated"), fill)


@pytest.fixture(scope="module")
def off_the_prompts(tmp_path_factory):
    """``Mary = z + relu(y + 10 bump(x) - 5)``: bump is 0 in both prompts and 1 half way between them."""

    def fill(w):
        w["tok_embed.weight"][CLEAN, [0, 2, 3]] = torch.tensor([4.0, 1.0, 1.0])
        w["layers.0.mlp.fc_in.weight"][[0, 1, 2], 0] = 1.0
        w["layers.0.mlp.fc_in.bias"][:3] = torch.tensor([-1.0, -2.0, -3.0])
        w["layers.0.mlp.fc_out.weight"][1, :3] = torch.tensor([1.0, -2.0, 1.0])
        w["layers.1.mlp.fc_in.weight"][0, [1, 3]] = torch.tensor([10.0, 1.0])
        w["layers.1.mlp.fc_in.bias"][0] = -5.0
        w["layers.1.mlp.fc_out.weight"][4, 0] = 1.0
        w["head.weight"][MARY, [2, 4]] = 1.0

    return planted(tmp_path_factory.mktemp("off"), fill)


def of(scores):
    """The edges that this model can have an effect through."""
    values = {
        scores.address(tuple(i)): scores.values[tuple(i)] for i in np.argwhere(scores.candidates).tolist()
    }
    return {name: values[name] for name in ("input->m0", "m0->logits", "input->logits", "input->m1")}


def test_saturation_hides_an_edge_from_eap_and_not_from_the_mean_along_the_line(saturated):
    exact, eap, mean = (of(score(saturated, *m)) for m in (["exact"], ["eap"], ["eap-ig"]))
    truth = {"input->m0": 1.0, "m0->logits": 1.0, "input->logits": 0.3, "input->m1": 0.0}  # by hand
    assert exact == pytest.approx(truth, abs=1e-5)
    assert eap == pytest.approx(truth | {"input->m0": 0.0}, abs=1e-5)  # min(x, 1) is flat at 4
    assert mean == pytest.approx(truth | {"input->m0": 0.8}, abs=1e-5)  # steep at one of five points: 4 / 5
    assert of(score(saturated, "eap-ig", steps=20)) == pytest.approx(
        truth, abs=1e-5
    )  # at 5 of 20: 4 * 5 / 20


def test_points_that_are_no_prompts_give_the_mean_an_edge_that_does_nothing(off_the_prompts):
    exact, eap, mean = (of(score(off_the_prompts, *m)) for m in (["exact"], ["eap"], ["eap-ig"]))
    truth = {"input->m0": 0.0, "m0->logits": 0.0, "input->logits": 1.0, "input->m1": 0.0}  # by hand
    assert exact == pytest.approx(truth, abs=1e-5) and eap == pytest.approx(truth, abs=1e-5)
    # at the middle one of five points the relu is open: 10 * 4 / 5 through the bump, 1 / 5 from y
    assert mean == pytest.approx(truth | {"input->m0": 8.0, "input->m1": 0.2}, abs=1e-4)


def test_the_experiment_names_the_planted_reason(saturated, off_the_prompts):
    hidden, off = along_the_path(saturated), along_the_path(off_the_prompts)
    assert hidden.gain > 0.1 and hidden.reason == "the ends are saturated"
    assert off.gain < -0.5 and off.reason == "points of the line are no prompts"
    assert off.agrees("path of prompts") == pytest.approx(1.0) and off.agrees(EAP_NAME) == pytest.approx(1.0)
    assert off.agrees("at 0.5 of the line") < 0.2 < off.agrees("at 0.9 of the line")
    assert sum(off.error_by_kind(IG_NAME).values()) == pytest.approx(1.0)
    assert off.error_by_kind(IG_NAME)["mlp"] == pytest.approx(1.0)


def test_gains_in_the_corrupted_run_are_those_of_exchanged_prompts(saturated):
    found = along_the_path(saturated, alphas=(1.0,))
    # one edge alone at its clean value in the corrupted run: by hand, min(x, 1) and 0.3 z are sums there too
    assert dict(zip(found.kinds, found.denoising, strict=True))["logits"] == pytest.approx(0.0, abs=1e-6)
    assert sorted(found.denoising)[-1] == pytest.approx(1.0, abs=1e-5)
    other = exchanged(saturated)
    assert other.clean == pytest.approx(saturated.corrupted) and other.corrupted == pytest.approx(
        saturated.clean
    )


def test_a_path_of_prompts_is_made_of_prompts(runs_of):
    runs = runs_of("gpt2")
    batch = max(runs.batches, key=lambda b: int((b.clean != b.corrupted).sum(1).max()))
    path = prompt_path(runs, batch, 3)
    (first, middle, last) = path
    entry = "blocks.0.hook_resid_pre"
    both = [runs.activations(batch, side, [entry])[entry] for side in ("corrupted", "clean")]
    assert torch.equal(first, both[0]) and torch.equal(last, both[1])
    mixed = (middle == both[0]).all(-1) | (middle == both[1]).all(-1)
    assert bool(mixed.all()) and not torch.equal(middle, first) and not torch.equal(middle, last)


def test_pictures_are_not_exchanged(runs_of):
    runs = runs_of("gpt2")
    runs.pairs = replace(runs.pairs, sets=({"image": (0,)},) * len(runs.pairs))
    with pytest.raises(TaskError, match="pictures"):
        exchanged(runs)
