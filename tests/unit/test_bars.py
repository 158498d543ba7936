"""Published numbers: a count by another formula, verdicts by hand, nothing without a source."""

import pytest

from workbench.circuits.published.bars import (
    SHAPES,
    PublishedNumber,
    PublishedNumbers,
    bars_of,
    edge_counts,
    list_bars,
)
from workbench.core.errors import OptionError


def counted(layers, heads, parallel):
    """Edges of a model by its parts: what stands before each reader."""
    total = 0
    for layer in range(layers):
        before = 1 + layer * (heads + 1)  # the input, and the heads and MLP of every layer before
        total += 3 * heads * before  # queries, keys, values
        total += before if parallel else before + heads  # the MLP
    return total + 1 + layers * (heads + 1)  # the logits


@pytest.mark.parametrize(
    ("name", "layers", "heads", "parallel", "published"),
    [
        ("gpt2", 12, 12, False, 32_491),
        ("gpt2-xl", 48, 25, False, 2_235_025),
        ("pythia-2.8b", 32, 32, True, 1_591_857),
    ],
)
def test_edges_of_published_models(name, layers, heads, parallel, published):
    assert counted(layers, heads, parallel) == published
    assert edge_counts()[name, "", "edges"] == published
    assert SHAPES[name].n_layers == layers and SHAPES[name].n_heads == heads


def test_every_bar_has_a_source_data_a_rule_and_a_tolerance():
    bars = list_bars()
    assert len({(b.group, b.model, b.task, b.quantity) for b in bars}) == len(bars) > 200
    assert all(b.source and b.data and b.rule and b.tolerance >= 0 for b in bars)
    assert all(bool(b.measured_by) == (b.group == "elsewhere") for b in bars)


def test_the_curve_of_ioi_is_that_of_the_source():
    own = {b.quantity: b.value for b in bars_of("eap-ig-curves") if (b.model, b.task) == ("gpt2", "ioi")}
    assert [own[f"eap edges at {n}"] for n in (100, 200, 500, 1000)] == [41, 162, 453, 909]
    assert [own[f"eap-ig edges at {n}"] for n in (100, 200, 500, 1000)] == [90, 194, 482, 975]
    shares = [own[f"eap-ig f at {n}"] for n in (100, 200, 500, 1000)]
    assert shares == pytest.approx([0.255, 0.425, 0.497, 0.636], abs=6e-4)


def bar(quantity, value, tolerance, **more):
    told = {"group": "x", "model": "gpt2", "task": "t", "source": "s", "data": "d", "rule": "r"}
    return PublishedNumber(quantity=quantity, value=value, tolerance=tolerance, **told, **more)


def test_verdicts_by_hand():
    bars = (bar("a", 0.5, 0.1), bar("b", 0.5, 0.1), bar("c", 3, 0), bar("d", 1, 0, measured_by="do this"))
    ours = {("", "t", "a"): 0.6, ("", "t", "b"): 0.61}
    found = PublishedNumbers(group="x", model="some/where/gpt2", bars=bars, ours=ours)
    assert [found.verdict(b) for b in bars] == ["within", "outside", "not measured", "not here: do this"]
    assert found.outside == 1 and [r["ours"] for r in found.rows()] == [0.6, 0.61, None, None]
    other = PublishedNumbers(group="x", model="zoo:ioi", bars=bars, ours=ours)
    assert {other.verdict(b) for b in bars[:3]} == {"another model"} and other.outside == 0
    assert len(other.rows()) == 2  # what a stand-in was measured for
    assert found.to_dict()["rows"][0]["source"] == "s"


def test_an_unknown_set_is_an_error():
    with pytest.raises(OptionError, match="no set of bars"):
        bars_of("eap-ig-curve")
