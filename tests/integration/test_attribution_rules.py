"""Backward rules: conservation, the rules written out by hand, and outputs that do not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.families import family_dir
from tests.integration.test_methods import edited
from tests.mini import mini_pairs
from workbench.core.errors import ModelError
from workbench.engine import rules
from workbench.engine.backward import Tempered, backward_rule, slope_at_zero
from workbench.engine.gradients import taped_run, writer_gradients
from workbench.engine.norm_map import measure_norm
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.model.hooks import hook_name

# gpt2: LayerNorm, GELU; llama: RMSNorm, gated SiLU; gemma2: 1 + w, norms behind; gpt-neox: parallel; qwen3: norms of
# q and k; phi3: gate and up in one matrix; opt: ReLU in the block itself; bert: norms after the sum
FAMILIES = ("gpt2", "llama", "gemma2", "gpt-neox", "qwen3", "phi3", "olmo2", "opt", "native-ln", "bert")
RULES = ("relp", "attnlrp", "cp-lrp", "gim", "patterns-frozen", "norms-frozen")


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_do_not_change_by_a_bit(family, runs_of):
    runs = runs_of(family, pairs=mini_pairs(2))
    ids = runs.batches[0].clean
    plain = runs.model(ids)
    for rule in RULES:
        with backward_rule(runs.model, runs.wiring, rule) as rules:
            hooks = [*rules.before, *rules.after]
            with torch.enable_grad(), runs.model.hooks(fwd_hooks=hooks):
                assert torch.equal(runs.model(ids), plain), rule


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "phi3", "olmo2"])
def test_relevance_is_conserved_without_biases(family, runs_of):
    """RMS norms, gated SiLU, frozen patterns, no bias anywhere: input times coefficient is the metric itself."""
    runs = runs_of(family)
    found = score(runs, "attnlrp", softmax="cp", ablation="zero", level="node")
    assert found.per_pair[:, 0] == pytest.approx(runs.clean, abs=2e-5 * max(1, abs(runs.clean).max()))
    plain = score(runs, "attribution-patching", ablation="zero", level="node")
    assert abs(plain.per_pair[:, 0] - runs.clean).max() > 0.05  # the derivative does not conserve


@pytest.fixture(scope="module")
def relu(tmp_path_factory):
    """OPT without any bias and without attention: a ReLU network with norms, whose scale is held constant."""

    def strip(weights):
        for name in weights:
            if name.endswith(".bias") or ".out_proj." in name:
                weights[name] = torch.zeros_like(weights[name])

    return edited("opt", tmp_path_factory.mktemp("relu") / "model", strip)


def test_relevance_of_a_bias_free_relu_network_sums_to_the_output(relu):
    runs = PairedRuns(relu, mini_pairs(3))
    for method, options in (("attnlrp", {"softmax": "cp"}), ("attnlrp", {}), ("relp", {})):
        found = score(runs, method, ablation="zero", level="node", **options)
        assert found.per_pair[:, 0] == pytest.approx(runs.clean, abs=1e-5), method
        # relevance of the last MLP is that of its hidden units: nothing is lost at the output matrix
        neurons = score(runs, method, ablation="zero", level="neuron", **options).values[-1].sum()
        row = next(i for i, node in enumerate(found.graph.sources) if str(node) == "m2")
        assert neurons == pytest.approx(found.values[row], abs=1e-5)


def test_rules_of_a_gated_mlp_written_out(runs_of):
    """Llama's last MLP, by hand: gradient at its input through norm, activation and product of the rule."""
    runs = runs_of("llama", pairs=mini_pairs(1))
    batch, layer = runs.batches[0], runs.wiring.n_layers - 1
    block = runs.model.original_model.model.layers[layer]
    inside = getattr(block, "_original_component", block)
    mlp = inside.mlp
    mid, out = f"blocks.{layer}.mlp.hook_in", hook_name("mlp-out", layer)
    gate, up, down = (
        _weight(getattr(mlp, "_original_component", mlp), n) for n in ("gate_proj", "up_proj", "down_proj")
    )
    for rule in ("relp", "attnlrp"):
        run = taped_run(runs, batch, [mid, out, hook_name("neurons", layer)], backward=rule)
        grads, x = run.gradients(), run.seen[mid].double()
        hidden = grads[out].double() @ down.double()  # at the hidden units: d_model -> d_mlp
        assert grads[hook_name("neurons", layer)].numpy() == pytest.approx(hidden.numpy(), abs=1e-5)
        a, b = x @ gate.double().T, x @ up.double().T
        secant = torch.sigmoid(a)  # silu(a) / a
        by_hand = (hidden / 2 * b * secant) @ gate.double() + (hidden / 2 * a * secant) @ up.double()
        assert grads[mid].numpy() == pytest.approx(by_hand.numpy(), abs=1e-5), rule


def _weight(mlp, name: str) -> torch.Tensor:
    part = getattr(mlp, name)
    return getattr(part, "original_component", part).weight.detach()


@pytest.mark.parametrize(
    ("rule", "factors"), [("relp", (1, 1, 1)), ("attnlrp", (0.25, 0.25, 0.5)), ("cp-lrp", (0, 0, 1))]
)
def test_attention_shares_by_hand(rule, factors, runs_of):
    """Last layer of a model without norms: gradients at q, k, v are those of autograd times the rule's factors."""
    runs = runs_of("native", pairs=mini_pairs(1))
    batch, layer = runs.batches[0], 1
    names = [hook_name(slot, layer) for slot in "qkv"]
    plain = taped_run(runs, batch, names).gradients()
    ruled = taped_run(runs, batch, names, backward=rule).gradients()
    for name, factor in zip(names, factors, strict=True):
        assert ruled[name].numpy() == pytest.approx(factor * plain[name].numpy(), abs=1e-7)
        assert plain[name].abs().max() > 1e-4


def test_scores_into_a_row_of_the_softmax_sum_to_0(runs_of):
    """Gradients at the attention scores of a query sum to 0: a softmax does not see a constant."""
    runs = runs_of("llama", pairs=mini_pairs(1))
    batch, layer = runs.batches[0], 1
    name = f"blocks.{layer}.attn.hook_attn_scores"
    grad = taped_run(runs, batch, [name]).gradients()[name]
    assert grad.abs().max() > 1e-4
    assert grad.sum(-1).abs().max() < 1e-6


def test_norms_are_held_where_they_stand():
    """By hand: gain 2, 3, x = (3, 4), rms sqrt(12.5), gradient 1, 1 -> gain / rms; LayerNorm takes the mean away."""
    rms = torch.nn.RMSNorm(2, eps=1e-9)
    rms.weight.data = torch.tensor([2.0, 3.0])
    x = torch.tensor([[[3.0, 4.0]]])
    found = measure_norm(rms, x)
    assert not found.centred and found.gain.flatten().tolist() == pytest.approx([2, 3], rel=1e-4)
    inverse = found.inverse_scale(x, rms(x))
    assert inverse.item() == pytest.approx(12.5**-0.5, rel=1e-4)
    back = found.back(torch.ones_like(x), inverse)
    assert back.flatten().tolist() == pytest.approx([2 * 12.5**-0.5, 3 * 12.5**-0.5], rel=1e-4)

    layer = torch.nn.LayerNorm(4, eps=1e-9)
    layer.weight.data, layer.bias.data = (
        torch.tensor([1.0, 2.0, 3.0, 4.0]),
        torch.tensor([5.0, 6.0, 7.0, 8.0]),
    )
    found = measure_norm(layer, torch.zeros(1, 1, 4))
    assert found.centred
    assert found.offset.flatten().tolist() == [5, 6, 7, 8]
    assert found.gain.flatten().tolist() == pytest.approx([1, 2, 3, 4], rel=1e-4)
    assert measure_norm(torch.tanh, torch.zeros(1, 1, 4)) is None
    assert measure_norm(lambda t: 2 * t, torch.zeros(1, 1, 4)) is None


def test_slopes_at_zero():
    """``f(x) / x`` at 0 is ``f'(0)``: 1/2 for GELU and SiLU, 0 for ReLU as autograd has it."""
    one = torch.zeros(1)
    assert slope_at_zero(torch.nn.functional.gelu, one) == pytest.approx(0.5)
    assert slope_at_zero(torch.nn.functional.silu, one) == pytest.approx(0.5)
    assert slope_at_zero(torch.relu, one) == 0
    with pytest.raises(ModelError, match="at 0"):
        slope_at_zero(torch.sigmoid, one)
    with pytest.raises(ModelError, match="mixes"):
        slope_at_zero(lambda x: x * x.softmax(-1), one)


def test_an_activation_at_exactly_0_has_its_limit(tmp_path):
    """All weights into one hidden unit are 0: its value is 0 and its coefficient f'(0), not 0/0."""

    def silence(weights):
        weights["transformer.h.1.mlp.c_fc.weight"][:, 3] = 0
        weights["transformer.h.1.mlp.c_fc.bias"][3] = 0

    runs = PairedRuns(edited("gpt2", tmp_path / "model", silence), mini_pairs(1))
    batch, site = runs.batches[0], "blocks.1.mlp.in.hook_out"
    hidden = hook_name("neurons", 1)
    run = taped_run(runs, batch, [site, hidden], backward="relp")
    grads = run.gradients()
    assert run.seen[site][..., 3].abs().max() == 0
    assert grads[site][..., 3].numpy() == pytest.approx(0.5 * grads[hidden][..., 3].numpy(), abs=1e-8)
    assert grads[hidden][..., 3].abs().max() > 1e-4


@pytest.mark.parametrize("family", ["mixtral", "qwen2-moe"])
def test_experts_are_refused_with_the_reason(family, runs_of):
    for method in ("relp", "attnlrp"):
        with pytest.raises(ModelError, match="mixtures of experts"):
            score(runs_of(family), method)
    assert np.isfinite(score(runs_of(family), "eap").per_pair[:, 0, -1]).all()  # the plain rule works


def test_rules_and_integration_combine(runs_of):
    """Any rule at any points: one right step is the clean run, and more steps with a rule are not the plain ones."""
    runs = runs_of("llama", pairs=mini_pairs(2))
    found = {
        rule: np.nan_to_num(score(runs, "eap-ig", backward=rule, steps=2).values)
        for rule in ("plain", *RULES)
    }
    for rule in RULES:
        assert abs(found[rule] - found["plain"]).max() > 1e-2
    assert score(runs, "eap-ig", backward="relp", steps=2).options["backward"] == "relp"
    one = score(runs, "eap-ig", backward="relp", steps=1, rule="right").values
    assert np.nan_to_num(one) == pytest.approx(np.nan_to_num(score(runs, "relp").values), abs=1e-6)


def test_coefficients_equal_those_of_a_linear_model_with_the_same_slopes(runs_of):
    """GPT-2's last MLP: relp through it is the derivative with every slope frozen at the clean run."""
    runs = runs_of("gpt2", pairs=mini_pairs(1))
    batch = runs.batches[0]
    pre, post = "blocks.2.mlp.in.hook_out", hook_name("neurons", 2)
    run = taped_run(runs, batch, [pre, post], backward="relp")
    grads = run.gradients()
    slope = run.seen[post] / run.seen[pre]
    assert grads[pre].numpy() == pytest.approx((grads[post] * slope).numpy(), abs=1e-6)
    plain = writer_gradients(runs, batch, [(2, "neurons")])[2, "neurons"]
    assert plain.numpy() == pytest.approx(taped_run(runs, batch, [post]).gradients()[post].numpy(), abs=1e-7)


def test_a_softmax_of_temperature_2_by_hand():
    """Scores (2 ln 3, 0): the pattern is (.9, .1); the true derivative .09, that of temperature 2 (.75 * .25) .1875."""
    scores = torch.tensor([2 * np.log(3), 0.0], dtype=torch.float64, requires_grad=True)
    for temperature, slope in ((1.0, 0.09), (2.0, 0.1875)):
        weights = Tempered.apply(scores.softmax(-1), temperature)
        (grad,) = torch.autograd.grad(weights[0], scores)
        assert grad.tolist() == pytest.approx([slope, -slope])


class _TemperedSoftmax(torch.autograd.Function):
    """GIM's softmax as it is written down: its derivative is that of ``softmax(S / 2)`` without the factor 1/2."""

    @staticmethod
    def forward(ctx, scores):
        ctx.save_for_backward((scores / 2).softmax(-1))
        return scores.softmax(-1)

    @staticmethod
    def backward(ctx, grad):
        (s,) = ctx.saved_tensors
        return s * (grad - (grad * s).sum(-1, keepdim=True))


def _share(x, part):
    """Its value, and a part of its gradient."""
    return part * x + (1 - part) * x.detach()


def _gim_llama(monkeypatch):
    """Llama of transformers, its modules rewritten with the rules of GIM."""
    from transformers.models.llama import modeling_llama as llama

    def norm(self, x):
        scale = (x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()
        return self.weight * x * scale.detach()

    def mlp(self, x):
        gate, up = torch.nn.functional.silu(self.gate_proj(x)), self.up_proj(x)
        return self.down_proj(_share(gate, 0.5) * _share(up, 0.5))

    def attend(module, query, key, value, attention_mask, scaling, **_):
        key, value = (llama.repeat_kv(t, module.num_key_value_groups) for t in (key, value))
        scores = _share(query, 0.25) @ _share(key, 0.25).transpose(2, 3) * scaling
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        pattern = _TemperedSoftmax.apply(scores.masked_fill(~seen, -1e9))
        return (pattern @ _share(value, 0.5)).transpose(1, 2).contiguous(), pattern

    monkeypatch.setattr(llama.LlamaRMSNorm, "forward", norm)
    monkeypatch.setattr(llama.LlamaMLP, "forward", mlp)
    monkeypatch.setattr(llama, "eager_attention_forward", attend)


def test_gim_is_what_it_is_in_plain_transformers(monkeypatch, runs_of):
    """Gradients of the logit difference at every MLP's output and at the embeddings, without TransformerLens."""
    from transformers import AutoModelForCausalLM

    runs = runs_of("llama", pairs=mini_pairs(2))
    batch, layers = runs.batches[0], range(runs.wiring.n_layers)
    names = [hook_name("resid", 0), *(hook_name("mlp-out", n) for n in layers)]
    ours = taped_run(runs, batch, names, backward="gim").gradients()
    plain = taped_run(runs, batch, names).gradients()
    _gim_llama(monkeypatch)
    model = AutoModelForCausalLM.from_pretrained(family_dir("llama"), attn_implementation="eager")
    seen = {}
    parts = [model.model.embed_tokens, *(layer.mlp for layer in model.model.layers)]
    for name, part in zip(names, parts, strict=True):
        part.register_forward_hook(lambda m, a, y, name=name: seen.setdefault(name, y))
    logits = model(batch.clean).logits[torch.arange(len(batch)), batch.answer_pos]
    difference = (logits.gather(1, batch.answers.correct) - logits.gather(1, batch.answers.incorrect)).sum()
    for name, grad in zip(names, torch.autograd.grad(difference, [seen[n] for n in names]), strict=True):
        assert ours[name].numpy() == pytest.approx(grad.numpy(), abs=2e-6), name
    assert max(float((ours[n] - plain[n]).abs().max()) for n in names) > 1e-2


def test_gim_without_its_changes_is_eap(monkeypatch, runs_of):
    monkeypatch.setitem(rules._RULES, "gim", rules.Rule(linear=False, secant=False, qkv=(1, 1, 1)))
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    assert np.nan_to_num(score(runs, "gim").values) == pytest.approx(
        np.nan_to_num(score(runs, "eap").values), abs=1e-6
    )
