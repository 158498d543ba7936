"""Activation patching and attention knock-out on every family, against single runs and models written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.families import FAMILIES
from tests.integration.by_hand import MODELS
from tests.integration.naive import Put, naive_of
from workbench.circuits.addresses import parse_node
from workbench.engine.interventions.intervention import Edit, Intervention, KnockOut
from workbench.engine.interventions.patching import knock_outs, patches, site_nodes
from workbench.engine.sweep import sweep
from workbench.model.hooks import SITES

# 3e-6: largest difference seen between stacked rows and single runs in float32; with a factor of about five.
TOLERANCE = 1.5e-5
READ_ONLY = (
    "opt",
    "bert",
)  # TransformerLens leaves attention to the wrapped model and discards pattern edits


def some_nodes(wiring, site: str) -> dict[str, Put]:
    """Address -> replacement: every layer, one unit in each."""
    found = {}
    for node in site_nodes(wiring, site):
        count = wiring.n_kv_heads if site in ("k", "v") else wiring.n_heads
        if node.index in (None, (node.layer + 1) % count):
            found[str(node)] = Put(site, node.layer, node.index)
    return found


def moved(put: Put, position: str | None) -> Put:
    return Put(put.site, put.layer, put.head, position)


@pytest.mark.parametrize("family", FAMILIES)
def test_patches_equal_the_naive_loop(family, runs_of):
    """Noising and denoising at every site, at all positions and at one that differs from pair to pair."""
    runs = runs_of(family)
    naive = naive_of(family, runs)
    for mode, base, value in (("noising", "clean", "corrupted"), ("denoising", "corrupted", "clean")):
        rows: dict[str, Put] = {}
        for site in SITES:
            if site == "pattern" and family in READ_ONLY:
                continue  # see test_pattern_edits_where_patterns_are_read_only
            if site == "mlp-out" and not runs.wiring.mlp_layers:
                continue
            nodes = some_nodes(runs.wiring, site)
            nodes = nodes if site == "resid" else dict(list(nodes.items())[1:])  # time: layers 1 and 2
            # one position with noising, all positions with denoising, both at one layer
            keep_all = list(nodes.items())[-1:] if mode == "noising" else nodes.items()
            keep_one = nodes.items() if mode == "noising" else list(nodes.items())[:1]
            rows |= dict(keep_all) | {f"{a}@S": moved(p, "S") for a, p in keep_one}
        table = sweep(runs, patches(list(rows), mode=mode), kind="patching", mode=mode)
        assert list(table.labels) == list(rows)
        truth = [[naive.patched(i, base, value, [p]) for i in range(len(naive))] for p in rows.values()]
        assert table.patched == pytest.approx(np.array(truth), abs=TOLERANCE), mode
        assert abs(table.per_pair).max() > 1000 * TOLERANCE


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in READ_ONLY])
def test_knock_outs_equal_the_naive_loop(family, runs_of):
    """One head, and all heads of all layers at once."""
    runs = runs_of(family)
    naive, wiring = naive_of(family, runs), runs.wiring
    layer = wiring.n_layers - 1
    one = sweep(runs, knock_outs([f"a{layer}.h2", f"a{layer}"], "end", "S"), kind="knock-out")
    for row, head in enumerate((2, None)):
        truth = [naive.knocked_out(i, layer, head, "end", "S") for i in range(len(naive))]
        assert one.patched[row] == pytest.approx(truth, abs=TOLERANCE)
    if family not in ("mistral", "gemma2"):  # their window of six tokens may leave S out of sight
        assert (abs(one.per_pair[1]) > 10 * TOLERANCE).all()


# -- architectures whose attention pattern is read-only -------------------------------------------------------


def read(family: str, runs, out: torch.Tensor, i: int) -> float:
    """The metric, from the output of a model written by hand."""
    return naive_of(family, runs).value(out[None] if family != "bert" else _Hidden(out), i)


class _Hidden:
    def __init__(self, out: torch.Tensor) -> None:
        self.last_hidden_state = out[None]


def captured(model, ids) -> list[torch.Tensor]:
    """Attention pattern of every layer."""
    found = []
    model.run(ids, pattern=lambda layer, a: found.append(a) or a)
    return found


def replaced(layer: int, head: int | None, rows, new: torch.Tensor):
    """A pattern edit for a model written by hand."""

    def edit(at: int, pattern: torch.Tensor) -> torch.Tensor:
        if at != layer:
            return pattern
        pattern = pattern.clone()
        heads = slice(None) if head is None else head
        pattern[heads, rows] = new[heads, rows]
        return pattern

    return edit


def masked(layers, head: int | None, query: int, key: int, model, ids):
    """Knock-out by definition: the softmax of the scores with one entry at minus infinity.

    ``softmax(log A + mask)`` is that softmax: A is the softmax of the unmasked scores.
    """

    def edit(at: int, pattern: torch.Tensor) -> torch.Tensor:
        if at not in layers:
            return pattern
        mask = torch.zeros_like(pattern)
        mask[slice(None) if head is None else head, query, key] = -torch.inf
        return (pattern.log() + mask).softmax(-1)

    return edit


@pytest.mark.parametrize("family", READ_ONLY)
def test_pattern_edits_where_patterns_are_read_only(family, runs_of):
    """The engine's result is that of the model written out by hand, for patching and for knock-out."""
    runs, model = runs_of(family), MODELS[family]()
    assert "pattern" not in runs.wiring.live and runs.wiring.pattern_by_recompute
    positions, aligned = runs.pairs.positions, runs.pairs
    addresses = {
        "a1.h2<pattern>": (1, 2, None),
        "a2.h0<pattern>@S": (2, 0, "S"),
        "a0<pattern>@end": (0, None, "end"),
    }
    patched = sweep(runs, patches(list(addresses), mode="noising"), kind="patching").patched
    for row, (layer, head, position) in enumerate(addresses.values()):
        for i in range(len(aligned)):
            clean, other = (torch.tensor(x[i]) for x in (aligned.clean, aligned.corrupted))
            at = slice(None) if position is None else positions[i][position]
            edit = replaced(layer, head, at, captured(model, other)[layer])
            truth = read(family, runs, model.run(clean, pattern=edit)[0], i)
            assert patched[row, i] == pytest.approx(truth, abs=TOLERANCE), (row, i)
    everywhere = knock_outs(["a0", "a1", "a2"], "end", "S", together=True)
    table = sweep(runs, [*knock_outs(["a1.h3"], "end", "S"), *everywhere], kind="knock-out")
    for row, (layers, head) in enumerate((((1,), 3), ((0, 1, 2), None))):
        for i in range(len(aligned)):
            ids = torch.tensor(aligned.clean[i])
            edit = masked(layers, head, positions[i]["end"], positions[i]["S"], model, ids)
            truth = read(family, runs, model.run(ids, pattern=edit)[0], i)
            assert table.patched[row, i] == pytest.approx(truth, abs=TOLERANCE)
    assert (abs(table.per_pair) > 10 * TOLERANCE).all()


@pytest.mark.filterwarnings("ignore")  # TransformerLens may warn that it discards the edit
@pytest.mark.parametrize("family", READ_ONLY)
def test_naive_pattern_hooks_do_nothing_there(family, runs_of):
    """Why the engine recomputes: a hook on the pattern leaves the output as it was, bit for bit."""
    naive = naive_of(family, runs_of(family))
    for layer in range(3):
        assert naive.patched(0, "clean", "corrupted", [Put("pattern", layer)]) == naive.metric(0, "clean")
        assert naive.knocked_out(0, layer, None, "end", "S") == naive.metric(0, "clean")


def test_bert_knock_out_equals_an_additive_mask(runs_of):
    """A second way to the same number: the wrapped model's own 4-D attention mask, in all layers at once."""
    runs = runs_of("bert")
    found = sweep(runs, knock_outs(["a0", "a1", "a2"], "end", "V", together=True), kind="knock-out").patched[
        0
    ]
    naive = naive_of("bert", runs)
    for i, named in enumerate(runs.pairs.positions):
        ids = naive.ids(i, "clean")
        n = ids.shape[1]
        mask = torch.zeros(1, 1, n, n)
        mask[:, :, named["end"], named["V"]] = torch.finfo(torch.float32).min
        with torch.no_grad():
            out = runs.model.original_model(ids, attention_mask=mask)
        assert found[i] == pytest.approx(naive.value(out, i), abs=TOLERANCE)


@pytest.mark.parametrize("family", ["opt", "gpt2", "native-ln", "llama"])
def test_edits_of_one_layer_work_together(family, runs_of):
    """q, pattern and head output of one layer in one run: each head gets its own edit, and only that."""
    runs = runs_of(family)
    nodes = {"a1.h1<q>@end": "clean", "a1.h2<pattern>": "corrupted", "a1.h3": "zero"}
    edits = tuple(Edit(node=parse_node(a), value=v) for a, v in nodes.items())
    knock = KnockOut(node=parse_node("a1.h0"), query="end", key="V")
    found = sweep(runs, [Intervention(label="all", edits=(*edits, knock))], kind="mixed").patched[0]
    if family in MODELS:
        truth = [_together_by_hand(MODELS[family](), runs, i) for i in range(runs.n_pairs)]
    else:
        truth = [_together_naive(family, runs, i) for i in range(runs.n_pairs)]
    assert found == pytest.approx(truth, abs=TOLERANCE)
    assert (abs(found - runs.clean) > 100 * TOLERANCE).any()


def _together_by_hand(model, runs, i: int) -> float:
    """The q edit puts the run's own clean value back: it changes nothing; h3 attends to nothing, so its v sum is 0."""
    ids, named = torch.tensor(runs.pairs.clean[i]), runs.pairs.positions[i]
    other = captured(model, torch.tensor(runs.pairs.corrupted[i]))[1]
    drop = masked((1,), 0, named["end"], named["V"], model, ids)

    def edit(layer: int, pattern: torch.Tensor) -> torch.Tensor:
        pattern = drop(layer, pattern).clone()
        if layer == 1:
            pattern[2], pattern[3] = other[2], 0
        return pattern

    return read("", runs, model.run(ids, pattern=edit)[0], i)


def _together_naive(family: str, runs, i: int) -> float:
    naive = naive_of(family, runs)
    named, other = runs.pairs.positions[i], naive.activation(i, "corrupted", "blocks.1.attn.hook_pattern")

    def pattern(a: torch.Tensor, hook) -> torch.Tensor:
        a = a.clone()
        a[0, 2] = other[2]
        a[0, 0, named["end"], named["V"]] = 0
        a[0, 0, named["end"]] /= a[0, 0, named["end"]].sum()
        return a

    hooks = [("blocks.1.attn.hook_pattern", pattern), naive.hook("zero", Put("head-output", 1, 3), i)]
    return naive.metric(i, "clean", hooks)
