"""Path patching against a naive two-pass loop, and against the edge it is when only direct paths are left."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.integration.naive import HOOKS, Naive, naive_of
from tests.integration.test_edges import run_masks
from workbench.circuits.addresses import parse_edge
from workbench.core.errors import WorkbenchError
from workbench.engine.interventions.path_patching import path_patches

TOLERANCE = 2e-5  # as in test_edges: two ways through the norm in float32


def receiver_hook(receiver: str, n_layers: int) -> tuple[str, int | None]:
    """TransformerLens hook and unit of ``a1.h2<q>``, ``a1.g0<k>``, ``m1`` or ``logits``."""
    if receiver == "logits":
        return f"blocks.{n_layers - 1}.hook_resid_post", None
    if receiver[0] == "m":
        return f"blocks.{receiver[1]}.mlp.hook_in", None
    return f"blocks.{receiver[1]}.attn.hook_{receiver[-2]}", int(receiver[4])


def two_passes(
    naive: Naive, i: int, sender: tuple[str, int, int | None], receivers: list[str], mlps: str
) -> float:
    """Clean metric of pair ``i`` when the receivers read what the corrupted sender sends them, all else clean."""
    site, layer, head = sender
    n_layers = naive.bridge.cfg.n_layers
    kept: dict[str, torch.Tensor] = {}
    hooks = []

    def hold(name: str, changed: bool):
        clean, corrupted = (naive.activation(i, run, name) for run in ("clean", "corrupted"))
        new = clean.clone()
        if changed and head is None:
            new = corrupted
        elif changed:
            new[:, head] = corrupted[:, head]
        return name, lambda t, hook: new[None].clone()

    for n in range(n_layers):
        hooks.append(hold(HOOKS["head-output"].format(n), (site, layer) == ("head-output", n)))
        sends = (site, layer) == ("mlp-out", n)
        if sends or mlps == "frozen":
            hooks.append(hold(HOOKS["mlp-out"].format(n), sends))
    if site == "input":
        hooks.append((HOOKS["resid"].format(0), lambda t, hook: naive_input[None].clone()))
        naive_input = naive.activation(i, "corrupted", HOOKS["resid"].format(0))
    targets = [receiver_hook(r, n_layers) for r in receivers]
    for name, _ in targets:
        hooks.append((name, lambda t, hook, name=name: kept.update({name: t.clone()})))
    naive.metric(i, "clean", hooks)

    def put(name: str):
        units = [unit for other, unit in targets if other == name]

        def edit(t: torch.Tensor, hook) -> torch.Tensor:
            t = t.clone()
            for unit in units:
                index = (slice(None), slice(None)) if unit is None else (slice(None), slice(None), unit)
                t[index] = kept[name][index]
            return t

        return name, edit

    return naive.metric(i, "clean", [put(name) for name in {name for name, _ in targets}])


CASES = {
    "gpt2": [["a2.h1<q>"], ["a1.h0<v>", "a2.h3<k>"], ["m2"], ["logits"]],
    "gpt-neox": [["a2.h1<q>"], ["m1"], ["logits"]],
    "llama": [["a2.h1<q>"], ["a1.g0<k>", "a2.g1<v>"], ["logits"]],
    "gemma2": [["a2.h1<q>"], ["m2"], ["logits"]],
    "opt": [["a2.h1<q>", "a2.h1<k>"], ["logits"]],
    "native-ln": [["a1.h1<q>"], ["m1"], ["logits"]],
}
SENDERS = {"a0.h1": ("head-output", 0, 1), "m0": ("mlp-out", 0, None), "input": ("input", 0, None)}


@pytest.mark.parametrize("family", CASES)
def test_path_patching_equals_two_naive_passes(family, runs_of):
    """One and several receivers, MLPs recomputed as in the IOI work; heads, MLPs and the input as senders."""
    runs = runs_of(family)
    naive = naive_of(family, runs)
    for receivers in CASES[family]:
        table = path_patches(runs, list(SENDERS), receivers)
        truth = [
            [two_passes(naive, i, s, receivers, "recomputed") for i in range(3)] for s in SENDERS.values()
        ]
        assert table.patched == pytest.approx(np.array(truth), abs=TOLERANCE), receivers
        assert abs(table.per_pair).max() > 20 * TOLERANCE


@pytest.mark.parametrize(
    ("family", "edges"),
    [
        ("gpt2", ["a0.h1->a2.h1<q>", "m0->a2.h0<k>", "a1.h2->m2", "input->logits", "m1->logits"]),
        ("llama", ["a0.h1->a2.h1<q>", "m0->a2.g1<v>", "input->a1.g0<k>", "a2.h3->logits"]),
        ("gpt-neox", ["a0.h1->a2.h1<v>", "m0->m2", "a1.h0->logits"]),
    ],
)
def test_a_direct_path_is_an_edge(family, edges, runs_of):
    """With MLPs frozen too, only the direct path is left: exactly the edge edit of the same two ends."""
    runs = runs_of(family)
    graph = runs.wiring.graph()
    for address in edges:
        sender, receiver = address.split("->")
        found = path_patches(runs, [sender], [receiver], mlps="frozen").patched
        mask = np.zeros((1, *graph.edge_mask.shape), dtype=bool)
        mask[0][graph.index(parse_edge(address))] = True
        assert found == pytest.approx(run_masks(runs, graph, mask), abs=TOLERANCE), address


def test_all_receivers_from_the_input_is_the_gap(runs_of):
    """An attention-free path: the corrupted input, seen by the logits alone and all else frozen, is one edge."""
    runs = runs_of("native-ln")
    noising = path_patches(runs, ["input"], ["logits"], mlps="frozen")
    denoising = path_patches(runs, ["input"], ["logits"], mlps="frozen", mode="denoising")
    assert noising.base == pytest.approx(runs.clean) and denoising.base == pytest.approx(runs.corrupted)
    assert (noising.mode, denoising.mode) == ("noising", "denoising")


@pytest.mark.parametrize(
    ("sender", "receiver", "words"),
    [("a2.h1", "a1.h0<q>", "before"), ("a0.h1", "a1.h0", "receiver"), ("r1", "logits", "sender")],
)
def test_impossible_paths_are_refused(sender, receiver, words, runs_of):
    with pytest.raises(WorkbenchError) as problem:
        path_patches(runs_of("gpt2"), [sender], [receiver])
    assert words in str(problem.value)
