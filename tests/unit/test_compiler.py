"""Programs by hand: lookups of straight lines, edges that follow from what reads what, norms that change little."""

from __future__ import annotations

import pytest
import torch

from workbench.core.errors import OptionError
from workbench.training.compiler import Match, Program, Subspace, bends


def one_number(x: float, knots, values) -> list[float]:
    into, bias, out = bends(knots, torch.tensor(values, dtype=torch.float64))
    hidden = (into @ torch.tensor([x], dtype=torch.float64) + bias).relu()
    return (out @ hidden).tolist()


@pytest.mark.parametrize(
    ("x", "expected"), [(-5.0, 1.0), (0.0, 1.0), (0.5, 2.0), (1.0, 3.0), (2.0, 1.0), (3.0, -1.0), (9.0, -1.0)]
)
def test_bends_are_straight_lines_between_knots_and_constant_outside(x, expected):
    assert one_number(x, [0.0, 1.0, 3.0], [[1.0, 3.0, -1.0]]) == pytest.approx([expected])


def chain() -> Program:
    """Previous token, then a head that looks for it; one idle head declared, two left to be filled."""
    p = Program(words=["a", "b", "c"], context=5, n_layers=2, n_heads=2, mlps=False)
    token = p.token("token", {"a": [1.0, 0, 0], "b": [0, 1.0, 0], "c": [0, 0, 1.0]})
    start, place = p.start(), p.place()
    before, out, unread = p.block("before", 3), p.block("out", 3), p.block("unread", 3)
    p.head("a0.h0", [p.back(place, 1, 9.0)], copy=token, into=before, role="previous token")
    p.head("a0.h1", [p.back(place, 2, 9.0)], copy=token, into=unread, role="idle")
    found = [Match(key=before, query=token, weight=9.0), Match(key=start, weight=4.0)]
    p.head("a1.h1", found, copy=token, into=out, role="induction")
    p.answer(out, {"a": [9.0, 0, 0], "b": [0, 9.0, 0], "c": [0, 0, 9.0]})
    return p


def test_edges_follow_from_what_reads_what():
    made = chain().compile()
    assert set(made.content) == {
        "input->a0.h0<v>",
        "a0.h0->a1.h1<k>",
        "input->a1.h1<q>",
        "input->a1.h1<v>",
        "a1.h1->logits",
    }
    assert set(made.supporting) == {"input->a0.h0<q>", "input->a0.h0<k>", "input->a1.h1<k>"}
    assert made.roles == {"a0.h0": "previous token", "a1.h1": "induction"}
    assert made.idle == {"a0.h1": "idle", "a1.h0": "busy"}


def test_heads_of_one_group_cannot_want_different_keys():
    p = chain()
    start, out = Subspace("start", 1), Subspace("out", 3)
    p.head("a1.h0", [Match(key=start, weight=1.0)], copy=Subspace("token", 3), into=out, role="another")
    p.n_kv_heads = 1
    with pytest.raises(OptionError, match=r"a1\.h0 and a1\.h1 share keys and values"):
        p.compile()


def test_a_group_shares_its_keys_and_names_its_edges():
    p = chain()
    p.heads.pop("a0.h1")
    p.parts = [part for part in p.parts if part.node != "a0.h1"]
    p.n_kv_heads = 1
    made = p.compile()
    assert "input->a0.g0<v>" in made.content and "a0.h0->a1.g0<k>" in made.content
    first, second = made.machine.heads[0]
    assert (
        torch.equal(first.k, second.k)
        and torch.equal(first.v, second.v)
        and not torch.equal(first.q, second.q)
    )


@pytest.mark.parametrize("kind", ["LN", "RMS"])
def test_a_norm_reads_what_was_there_before(kind):
    plain = chain().compile().machine
    normed = plain.normed(kind, ballast=100.0)
    written = normed.embed[4:] + normed.position[1]  # three words at position 1
    if kind == "LN":
        written = written - written.mean(1, keepdim=True)
    read = normed.gain * written / written.square().mean(1, keepdim=True).sqrt()
    expected = (plain.embed[4:] + plain.position[1]) @ plain.unembed.T
    assert torch.allclose(read @ normed.unembed.T, expected, atol=1e-2)
    q = plain.heads[0][0].q
    assert torch.allclose(
        read @ normed.heads[0][0].q.T, (plain.embed[4:] + plain.position[1]) @ q.T, atol=1e-2
    )


def test_a_layernorm_is_not_rotated():
    with pytest.raises(OptionError, match="does not survive a rotation"):
        chain().compile().machine.normed("LN", ballast=10.0).rotated(0)
