"""PINE: the same output for every order of documents; what it needs, and what it refuses."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from tests.integration.test_edits import run
from workbench.core.errors import ModelError, OptionError
from workbench.edits.file import load_edit, save_edit
from workbench.edits.pine import Pine, PineLayout, content_ranks, placed

PREFIX, SUFFIX = [0, 11], [70, 71, 72]
DOCUMENTS = ([20, 21, 22], [30, 31, 32, 33], [40, 41])


def prompt(order) -> tuple[torch.Tensor, tuple[tuple[int, int], ...]]:
    ids, spans = list(PREFIX), []
    for i in order:
        spans.append((len(ids), len(ids) + len(DOCUMENTS[i])))
        ids += DOCUMENTS[i]
    return torch.tensor([ids + SUFFIX]), tuple(spans)


def suffix_logits(model, given, **options):
    ids, spans = prompt(given)
    with Pine(documents=spans, **options).on(model):
        return run(model, ids)[0, -len(SUFFIX) :]


@pytest.mark.parametrize("name", ("llama", "gpt-neox", "qwen2", "phi3"))
def test_every_order_of_documents_gives_the_same_output(bridge_of, name):
    model = bridge_of(name)
    orders = list(permutations(range(3)))
    outputs = torch.stack([suffix_logits(model, order) for order in orders])
    assert (outputs - outputs[0]).abs().max() < 1e-4
    plain = torch.stack([run(model, prompt(order)[0])[0, -len(SUFFIX) :] for order in orders])
    assert (plain - plain[0]).abs().max() > 0.1


@pytest.mark.parametrize("options", ({"order": "given"}, {"order": "random"}, {"between": "earlier"}))
def test_without_one_of_its_parts_order_matters(bridge_of, options):
    outputs = [suffix_logits(bridge_of("llama"), order, **options) for order in ((0, 1, 2), (2, 1, 0))]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-2


def test_the_reversed_order_is_invariant_too_and_another(bridge_of):
    model = bridge_of("llama")
    one, two = (suffix_logits(model, order, order="reversed") for order in ((0, 1, 2), (1, 2, 0)))
    assert (one - two).abs().max() < 1e-4
    assert (one - suffix_logits(model, (0, 1, 2))).abs().max() > 1e-3


def test_one_document_is_the_ordinary_model(bridge_of):
    model = bridge_of("llama")
    ids, spans = prompt((0, 1, 2))
    with Pine(documents=((spans[0][0], spans[-1][1]),)).on(model):
        pine = run(model, ids)
    assert torch.allclose(pine, run(model, ids), atol=1e-5)


def test_as_given_and_causal_is_the_ordinary_model(bridge_of):
    model = bridge_of("gpt-neox")
    ids, spans = prompt((1, 0, 2))
    with Pine(documents=spans, order="given", between="earlier").on(model):
        pine = run(model, ids)
    assert torch.allclose(pine, run(model, ids), atol=1e-4)


def test_ties_are_broken_by_content_alone():
    """Equal importance: documents stand in the order of their tokens, wherever they were given."""
    even = torch.full((1, 1, 1, 3), 0.5)
    ids = torch.tensor([[9, 8, 7, 7, 1, 1]])
    spans = ((0, 2), (2, 4), (4, 6))
    ranks = content_ranks(ids, spans)
    assert ranks.tolist() == [[2, 1, 0]]
    assert placed(even, ranks)[0, 0, 0].tolist() == [2, 1, 0]
    nearly = even + torch.tensor([0.0, 1e-7, 2e-7])
    assert placed(nearly, ranks)[0, 0, 0].tolist() == [2, 1, 0]
    assert placed(torch.tensor([[[[0.9, 0.1, 0.5]]]]), ranks)[0, 0, 0].tolist() == [1, 2, 0]
    assert content_ranks(torch.tensor([[5, 5, 4, 5, 5]]), ((0, 2), (2, 3), (3, 5))).tolist() == [[1, 0, 1]]


def test_documents_with_equal_importance_and_content_change_nothing(bridge_of):
    """A model whose queries are zero attends evenly: every comparison is a tie."""
    model = bridge_of("llama")
    zero = [(f"blocks.{n}.attn.hook_q", lambda q, hook: q * 0) for n in range(3)]
    with model.hooks(fwd_hooks=zero):
        outputs = torch.stack([suffix_logits(model, order) for order in permutations(range(3))])
    assert (outputs - outputs[0]).abs().max() < 1e-4


def test_positions_by_hand():
    """Two documents of 2 and 3 tokens after one token; the query after them finds the first more important."""
    layout = PineLayout.of(((1, 3), (3, 6)), 7, torch.device("cpu"))
    important = torch.tensor([0.9, 0.1]).expand(1, 1, 7, 2)
    starts = layout.starts(important, torch.tensor([[0, 1]]), reverse=False)
    assert starts[0, 0, 6].tolist() == [4, 1]  # the second first: tokens 1-3, then the important one at 4
    assert starts[0, 0, 1].tolist() == [4, 1]  # its own document last
    assert starts[0, 0, 3].tolist() == [1, 3]
    ahead = layout.ahead(starts)[0, 0]
    assert ahead[6].tolist() == [6, 2, 1, 5, 4, 3, 0]
    assert ahead[4].tolist() == [4, 3, 2, 1, 0, -1, -2]  # stands at 4; its own document at 3, 4, 5
    assert int(layout.visible("all").sum()) == 7 * 8 // 2 + 2 * 3  # causal, and the first sees the second


def test_absolute_positions_and_gaps_are_refused(bridge_of):
    with (
        pytest.raises(ModelError, match="not rotary"),
        Pine(documents=((1, 3), (3, 5))).on(bridge_of("gpt2")),
    ):
        pass
    with (
        pytest.raises(ModelError, match="not causal"),
        Pine(documents=((1, 3), (3, 5))).on(bridge_of("bert")),
    ):
        pass
    with pytest.raises(OptionError, match="gaps"):
        Pine(documents=((1, 3), (4, 6)))
    model = bridge_of("mistral")  # a window of 6
    with pytest.raises(ModelError, match="window"), Pine(documents=((1, 4), (4, 8))).on(model):
        run(model, torch.arange(6, 18)[None])
    model = bridge_of("qwen3")  # norms of queries and keys
    with (
        pytest.raises(ModelError, match="differs from the model"),
        Pine(documents=((1, 4), (4, 6))).on(model),
    ):
        run(model, torch.arange(6, 18)[None])


def test_the_file_gives_the_same_edit(tmp_path):
    edit = Pine(documents=((1, 4), (4, 6)), order="random", seed=3)
    assert load_edit(save_edit(edit, tmp_path)) == edit
