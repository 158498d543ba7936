"""Weight scores of matrices with known answers, against the whole vocabulary-sized matrix, and beside chance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from workbench.core.errors import ModelError
from workbench.heads import weights
from workbench.heads.copy_scores import copied
from workbench.heads.writes import favours_next


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def orthonormal(rows: int, columns: int, seed: int = 0) -> Tensor:
    """A matrix with orthonormal columns (rows, if there are more columns)."""
    q, _ = torch.linalg.qr(random(max(rows, columns), min(rows, columns), seed=seed))
    return q if rows >= columns else q.T


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_projection_copies_and_its_negative_reverses(sign):
    table = orthonormal(40, 24)  # tied, orthonormal embeddings (vocabulary, d_model)
    directions = orthonormal(24, 6, seed=1)
    value, output = directions, sign * directions.T  # W_V W_O projects onto six directions
    found = weights.eigen_score(table.T @ table @ value, output)
    assert found.item() == pytest.approx(sign)


def test_the_small_matrix_has_the_eigenvalues_of_the_large_one():
    table, out = random(40, 12), random(12, 40, seed=1)
    value, output = random(12, 5, seed=2), random(5, 12, seed=3)
    large = torch.linalg.eigvals(table @ value @ output @ out)
    naive = (large.sum() / large.abs().sum()).real
    assert weights.eigen_score(out @ table @ value, output).item() == pytest.approx(naive.item(), abs=1e-9)
    query, key = random(12, 5, seed=4), random(12, 5, seed=5)
    large = torch.linalg.eigvals(table @ query @ key.T @ table.T)
    naive = (large.sum() / large.abs().sum()).real
    assert weights.eigen_score(table.T @ table @ query, key.T).item() == pytest.approx(naive.item(), abs=1e-9)


def test_a_head_that_writes_nothing_scores_zero():
    assert weights.eigen_score(random(3, 12, 5), torch.zeros(3, 5, 12, dtype=torch.double)).tolist() == [
        0,
        0,
        0,
    ]
    zero = weights.composition_of(random(2, 12, 5), 0 * random(2, 5, 12), random(1, 12, 5), random(1, 12, 5))
    assert zero.tolist() == [[0, 0]]


def test_random_matrices_score_about_nothing_by_eigenvalues():
    table = random(200, 32)
    mean, spread = weights.eigen_null(table.T @ table, 8, draws=64)
    assert abs(mean) < 3 * spread / 8  # three standard errors of the mean of 64 draws
    assert 0 < spread < 0.5


def naive_composition(earlier: weights.LayerWeights, later: weights.LayerWeights, kind: str) -> Tensor:
    """The formula with d_model x d_model matrices, pair by pair."""
    rows = []
    for b in range(len(later.q)):
        row = []
        for a in range(len(earlier.v)):
            writes = earlier.v[a] @ earlier.o[a]
            attends = later.q[b] @ later.k[b].T
            reads = {"q": attends, "k": attends.T, "v": later.v[b] @ later.o[b]}[kind]
            row.append((writes @ reads).norm() / (writes.norm() * reads.norm()))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_composition_is_the_ratio_of_norms_of_whole_matrices(kind):
    earlier = weights.LayerWeights(
        q=random(3, 20, 4), k=random(3, 20, 4, seed=1), v=random(3, 20, 4, seed=2), o=random(3, 4, 20, seed=3)
    )
    later = weights.LayerWeights(
        q=random(2, 20, 4, seed=4),
        k=random(2, 20, 4, seed=5),
        v=random(2, 20, 4, seed=6),
        o=random(2, 4, 20, seed=7),
    )
    found = weights.composition(earlier, later, kind)
    assert torch.allclose(found, naive_composition(earlier, later, kind), atol=1e-10)
    assert (found > 0).all() and (found <= 1).all()


def test_random_heads_compose_at_one_over_the_root_of_the_width():
    found = weights.composition_of(random(8, 192, 16), random(8, 16, 192, seed=1), random(8, 192, 16, seed=2),
                                   random(8, 192, 16, seed=3))  # fmt: skip
    assert found.mean().item() == pytest.approx(1 / 192**0.5, rel=0.03)  # 64 pairs, each within 4 %
    # methods' own number for rank 64 in 768: 0.0363 measured, 0.0361 by the formula
    assert weights.composition_null(768, 64, 1, draws=4) == pytest.approx(0.0363, abs=0.001)


def test_the_null_of_the_largest_grows_with_the_number_of_heads():
    one, many = (weights.composition_null(64, 8, n, draws=16) for n in (1, 32))
    assert one < many < 3 * one


@pytest.mark.parametrize("centred", [True, False])
def test_the_gain_of_a_norm_is_found_by_what_it_does(centred):
    norm = nn.LayerNorm(16) if centred else nn.RMSNorm(16, eps=1e-6)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.linspace(0.3, 2.0, 16))
    gain, found = weights.norm_gain(norm, 16, like=torch.zeros(1))
    assert found is centred
    assert torch.allclose(gain, torch.linspace(0.3, 2.0, 16).double(), atol=1e-4)
    assert weights.norm_gain(lambda x: x, 16, like=torch.zeros(1))[0].tolist() == [1.0] * 16
    with pytest.raises(ModelError, match="neither"):
        weights.norm_gain(torch.tanh, 16, like=torch.zeros(1))


def test_copying_by_hand():
    eye = torch.eye(8)
    ids = torch.arange(8)
    parts = (eye, eye, torch.zeros(8))
    assert copied(*parts, eye, lambda x: x, ids, top=1).tolist() == [1.0] * 8
    assert copied(*parts, eye, lambda x: x, ids, sign=-1.0, top=5).tolist() == [0.0] * 8
    nothing = copied(*parts, torch.zeros(8, 8), lambda x: x, ids, top=5)
    assert nothing.tolist() == [0.0] * 8  # all logits are alike: nothing is copied


def test_favouring_the_next_token_by_hand():
    columns = torch.eye(3)[None]  # three tokens, each with a direction of its own
    assert favours_next(torch.eye(3)[None], columns).tolist() == [1.0]
    shifted = torch.eye(3)[None].roll(1, 1)
    assert favours_next(shifted, columns).tolist() == [0.0]
    two = torch.stack([torch.tensor([3.0, 1, 0]), torch.tensor([0.0, 2, 1]), torch.tensor([1.0, 0, 0])])[None]
    assert favours_next(two, columns).item() == pytest.approx(2 / 3)
    assert favours_next(torch.zeros(1, 3, 3), columns).tolist() == [0.0]
