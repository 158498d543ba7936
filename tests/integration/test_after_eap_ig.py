"""CEAP, EAP-GP and PEAP against loops over TransformerLens' own hooks, and the identities that they claim."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.mini import mini_pairs
from workbench.methods.by_name import score
from workbench.methods.eap_gp import gradient_path
from workbench.methods.reference import READS, WRITES, per_head_hooks


class Naive:
    """What sources write and what targets read of one batch, with an input of one's own."""

    def __init__(self, model, tokens, metric):
        layers = range(model.cfg.n_layers)
        self.model, self.tokens, self.metric = model, tokens, metric
        self.first = "blocks.0.hook_resid_pre"
        self.sources = [self.first, *(f"blocks.{n}.{name}" for n in layers for name in WRITES)]
        self.targets = [f"blocks.{n}.{name}" for n in layers for name in READS]
        self.targets.append(f"blocks.{layers[-1]}.hook_resid_post")

    def at(self, start):
        """(outputs of sources, gradients at targets), ``(pair, pos, part, d_model)``."""
        found = {}

        def keep(name, value, hook):
            found[name] = value.clone()
            return found[name]

        hooks = [(self.first, lambda value, hook: start.clone().requires_grad_())]
        hooks += [(name, partial(keep, name)) for name in (*self.sources, *self.targets)]
        total = self.metric(self.model.run_with_hooks(self.tokens, fwd_hooks=hooks)).sum()
        grads = torch.autograd.grad(total, [found[name] for name in self.targets])
        return self.stacked([found[n] for n in self.sources]).detach(), self.stacked(grads)

    @staticmethod
    def stacked(tensors):
        return torch.cat([x if x.dim() == 4 else x[:, :, None] for x in tensors], dim=2)


@pytest.fixture
def runs(runs_of):
    return runs_of("gpt2", pairs=mini_pairs(2))


def naive_of(runs):
    """The loop, and the two inputs of the runs' only batch."""
    (batch,) = runs.batches
    rows, answers = torch.arange(len(batch)), batch.answers

    def metric(logits):
        last = logits[rows, batch.answer_pos]
        return (last.gather(1, answers.correct) - last.gather(1, answers.incorrect))[:, 0]

    naive = Naive(runs.model, batch.clean, metric)
    with torch.no_grad():
        ends = [runs.model.run_with_cache(ids)[1][naive.first] for ids in (batch.clean, batch.corrupted)]
    return naive, *ends


def in_our_order(found, scores):
    """(source, target) of the loop as our values: q, k and v are grouped by layer in both."""
    return (
        np.where(scores.graph.edge_mask, found.double().numpy(), np.nan)[scores.candidates] / scores.n_pairs
    )


def test_ceap_is_the_sum_over_stretches(runs):
    naive, clean, corrupted = naive_of(runs)
    steps = 3
    with per_head_hooks(runs.model):
        points = [naive.at(corrupted + k / steps * (clean - corrupted)) for k in range(steps + 1)]
    total = sum(
        torch.einsum("bpsd,bptd->st", points[k + 1][0] - points[k][0], points[k][1]) for k in range(steps)
    )
    found = score(runs, "ceap", steps=steps)
    assert found.values[found.candidates] == pytest.approx(in_our_order(total, found), abs=2e-6)
    other = score(runs, "eap-ig", steps=steps, rule="left")
    assert abs(other.values - found.values)[found.candidates].max() > 5e-3


def test_eap_gp_takes_gradients_along_its_own_path(runs):
    naive, clean, corrupted = naive_of(runs)
    (batch,) = runs.batches
    with torch.no_grad():
        goal = runs.model(batch.corrupted)
    x, path = clean, []
    for _ in range(3):
        x = x.detach().requires_grad_(True)
        logits = runs.model.run_with_hooks(batch.clean, fwd_hooks=[(naive.first, lambda v, hook, x=x: x)])
        (grad,) = torch.autograd.grad((logits - goal).square().sum(), x)
        x = x.detach() - torch.stack([g / g.norm() for g in grad])
        path.append(x)
    for ours, theirs in zip(gradient_path(runs, batch, 3), path, strict=True):
        assert ours.numpy() == pytest.approx(theirs.numpy(), abs=1e-5)
    with per_head_hooks(runs.model):
        delta = naive.at(clean)[0] - naive.at(corrupted)[0]
        mean = sum(naive.at(x)[1] for x in path) / 3
    found = score(runs, "eap-gp", steps=3)
    assert found.values[found.candidates] == pytest.approx(
        in_our_order(torch.einsum("bpsd,bptd->st", delta, mean), found), abs=5e-6
    )


def test_peap_adds_the_sizes_of_spans(runs):
    naive, clean, corrupted = naive_of(runs)
    (batch,) = runs.batches
    with per_head_hooks(runs.model):
        (wrote, grads), (other, _) = naive.at(clean), naive.at(corrupted)
    each = torch.einsum("bpsd,bptd->bpst", wrote - other, grads)
    total = torch.zeros(4, *each.shape[2:])  # before S, from S, from V, the last token
    for row, at in zip(each, batch.positions, strict=True):
        for span, (begin, end) in enumerate(pairwise([0, at["S"], at["V"], len(row) - 1, len(row)])):
            total[span] += row[begin:end].sum(0)
    sizes = total.abs().sum(0)
    found = score(runs, "peap")
    expected = torch.where(total.sum(0) < 0, -sizes, sizes)
    assert found.values[found.candidates] == pytest.approx(in_our_order(expected, found), abs=2e-6)
    assert float((sizes - total.sum(0).abs()).max()) > 1e-2  # spans do cancel in a plain sum


def test_one_stretch_is_eap_at_the_corrupted_input(runs):
    one, eap = score(runs, "ceap", steps=1), score(runs, "eap", at="corrupted")
    assert one.values[one.candidates] == pytest.approx(eap.values[eap.candidates], abs=1e-6)


def test_what_the_logits_read_sums_to_the_gap(runs_of):
    """Conductance is complete at the reader; EAP-IG only at the input."""
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    gap = float((runs.clean - runs.corrupted).mean())
    short = {}
    for method, steps in (("ceap", 4), ("ceap", 64), ("eap-ig", 64)):
        found = score(runs, method, steps=steps)
        short[method, steps] = abs(float(np.nansum(found.values[:, -1])) - gap)
    assert short["ceap", 64] < 0.02 * abs(gap) and short["ceap", 64] < short["ceap", 4]
    assert short["eap-ig", 64] > 4 * short["ceap", 64]


@pytest.mark.parametrize("level", ["node", "neuron"])
def test_levels_agree_with_edges_and_batches_do_not_matter(level, runs_of):
    whole = score(runs_of("gpt2", pairs=mini_pairs(5)), "ceap", steps=2, level=level)
    small = score(runs_of("gpt2", pairs=mini_pairs(5), batch_tokens=9), "ceap", steps=2, level=level)
    assert whole.values[whole.candidates] == pytest.approx(small.values[small.candidates], abs=1e-6)
    assert abs(whole.values[whole.candidates]).max() > 1e-3


def test_a_path_does_not_depend_on_who_else_is_in_the_batch(runs_of):
    whole = score(runs_of("gpt2", pairs=mini_pairs(5)), "eap-gp", steps=2)
    small = score(runs_of("gpt2", pairs=mini_pairs(5), batch_tokens=9), "eap-gp", steps=2)
    assert whole.values[whole.candidates] == pytest.approx(small.values[small.candidates], abs=2e-6)
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    (batch,) = runs.batches
    path = gradient_path(runs, batch, 3, length=0.5)
    start = runs.activations(batch, "clean", ["blocks.0.hook_in"])["blocks.0.hook_in"]
    for before, after in zip([start, *path], path, strict=False):
        assert (after - before).flatten(1).norm(dim=1).numpy() == pytest.approx(np.full(2, 0.5), rel=1e-4)
