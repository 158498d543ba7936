"""Transitions of state-space and recurrent models: those that transformers' own state goes by, and softmax by hand."""

from __future__ import annotations

import pytest
import torch
import transformers

from workbench.core.errors import ModelError
from workbench.heads.transitions import softmax_transitions, spectrum_row, transition_spectrum
from workbench.model.open import open_model

IDS = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_hidden_layers": 2}
MODELS = {
    "mamba": lambda: transformers.MambaForCausalLM(
        transformers.MambaConfig(hidden_size=16, state_size=4, **IDS)
    ),
    "mamba2": lambda: transformers.Mamba2ForCausalLM(
        transformers.Mamba2Config(hidden_size=16, num_heads=4, head_dim=8, n_groups=1, state_size=4, **IDS)
    ),
    "rwkv": lambda: transformers.RwkvForCausalLM(
        transformers.RwkvConfig(
            hidden_size=16, attention_hidden_size=16, context_length=32, num_hidden_layers=2, vocab_size=40
        )
    ),
}
TOKENS = torch.arange(3, 12)[None]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    def make(kind):
        torch.manual_seed(3)
        model, folder = MODELS[kind]().eval(), tmp_path_factory.mktemp(kind)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith(("time_decay", "dt_proj.bias", "dt_bias")):
                    weight.copy_(torch.randn(weight.shape))
        model.save_pretrained(folder)
        return model, open_model(folder)

    return {kind: make(kind) for kind in MODELS}


@torch.no_grad()
def first_state(model, n):
    """The recurrent state of the first layer after n tokens, as transformers keeps it."""
    found = model(TOKENS[:, :n], use_cache=True).cache_params.layers[0].recurrent_states
    return found[0] if isinstance(found, dict) else found


@pytest.mark.parametrize("kind", ["mamba", "mamba2"])
@torch.no_grad()
def test_a_state_goes_by_the_transitions_that_are_read(opened, kind):
    """What a step adds is one value times one key: taken away from the state, what stays is of rank one."""
    model, bridge = opened[kind]
    read = transition_spectrum(bridge, TOKENS)
    assert set(read) == {0, 1} and all(((t > 0) & (t < 1)).all() for t in read.values())
    before, after, step = first_state(model, 8)[0], first_state(model, 9)[0], read[0][0, 8]
    if kind == "mamba":  # (channel, state); each channel writes at its own rate, which is in its transition
        rates = model.backbone.layers[0].mixer.A_log.exp()
        added = (after - before * step.view_as(before)) * rates[:, :1] / -step.view_as(before)[:, :1].log()
    else:  # (head, value, state)
        added = (after - before * step[:, None, None])[0]
    values = torch.linalg.svdvals(added)
    assert values[1] < 1e-3 * values[0]
    wrong = torch.linalg.svdvals(after - before * 0.5 if kind == "mamba" else (after - before * 0.5)[0])
    assert wrong[1] > 1e-2 * wrong[0]  # another transition leaves more


def test_the_decay_of_rwkv_is_the_same_at_every_step(opened):
    model, bridge = opened["rwkv"]
    read = transition_spectrum(bridge, TOKENS)[1]
    assert read.shape == (1, 9, 16) and torch.equal(read[:, 0], read[:, 8])
    decay = model.rwkv.blocks[1].attention.time_decay.detach()
    assert float(read[0, 0, 5]) == pytest.approx(float(torch.exp(-torch.exp(decay[5]))))


def test_a_model_without_such_a_state_is_refused(bridge_of):
    with pytest.raises(ModelError, match="softmax_transitions"):
        transition_spectrum(bridge_of("gpt2"), TOKENS)


def test_a_running_mean_goes_by_the_transitions_of_softmax():
    scores, values = torch.randn(3, 7), torch.randn(7, 2)
    found, state = softmax_transitions(scores), torch.zeros(3, 2)
    for i in range(7):
        share = found[:, i, None]
        state = share * state + (1 - share) * values[i]
    assert torch.allclose(state, scores.softmax(-1) @ values, atol=1e-5)


def test_a_spectrum_is_told_in_shares():
    row = spectrum_row(torch.tensor([[[0.05, 0.5, 0.95, 1.0]]]))
    assert row["median"] == pytest.approx(0.725) and row["retained"] == 0.5 and row["forgotten"] == 0.25
