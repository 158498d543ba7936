"""Noise in the weights of known circuits: every edge does a little, and the task is done as before."""

import numpy as np
import torch

from workbench.bench.cases import noisy_runs
from workbench.bench.settings import Settings
from workbench.methods.by_name import score
from workbench.model.known_circuits import add_noise, edge_labels, load_truth
from workbench.model.open import open_model


def test_noise_has_the_size_asked_for_and_its_seed():
    name = "zoo:truth-redundant"
    plain, one, again, other = (open_model(name) for _ in range(4))
    add_noise(one, 0.1, seed=1)
    add_noise(again, 0.1, seed=1)
    add_noise(other, 0.1, seed=2)
    key = "blocks.0.attn.q.weight" if "blocks.0.attn.q.weight" in dict(plain.named_parameters()) else None
    key = key or next(n for n, p in plain.named_parameters() if p.dim() > 1)
    before, moved = (dict(m.named_parameters())[key].detach() for m in (plain, one))
    size = 0.1 * before[before != 0].square().mean().sqrt()
    assert torch.isclose((moved - before).std(), size, rtol=0.1)
    assert torch.equal(moved, dict(again.named_parameters())[key])
    assert not torch.equal(moved, dict(other.named_parameters())[key])
    bias = next(n for n, p in plain.named_parameters() if p.dim() == 1)
    assert torch.equal(dict(plain.named_parameters())[bias], dict(one.named_parameters())[bias])


def test_the_task_survives_and_every_edge_does_something():
    truth = load_truth("zoo:truth-redundant")
    settings = Settings(n_truth=8)
    runs, noise = noisy_runs(truth, settings)
    clean, none = noisy_runs(truth, Settings(n_truth=8, noise=0.0))
    assert none == 0.0 and 0 < noise <= settings.noise
    gap = (clean.clean - clean.corrupted).mean()
    assert abs((runs.clean - clean.clean).mean()) <= 0.05 * gap
    assert abs((runs.corrupted - clean.corrupted).mean()) <= 0.05 * gap
    exact = score(runs, "exact", level="edge")
    positive, counted = edge_labels(truth, exact.graph)
    outside = np.abs(exact.values[counted & ~positive])
    assert (outside > 0).mean() > 0.5  # without noise all of them are exactly 0
    assert (np.abs(score(clean, "exact", level="edge").values[counted & ~positive]) == 0).all()
