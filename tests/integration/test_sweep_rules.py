"""What holds of every sweep: identities, independence of batching and order, and a model left as it was."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import pytest
import torch

from tests.families import family_dir
from tests.integration.naive import HOOKS, naive_of
from tests.mini import hidden_metric, make_pair, metric_for, mini_pairs
from workbench.circuits.addresses import parse_node
from workbench.core.errors import ModelError, OptionError, TaskError, WorkbenchError
from workbench.engine.interventions.ablation import ablations, parts_of
from workbench.engine.interventions.intervention import Edit, Intervention
from workbench.engine.interventions.patching import knock_outs, patches
from workbench.engine.interventions.words import ABLATIONS
from workbench.engine.metrics import Metric, get_metric
from workbench.engine.paired_runs import PairedRuns
from workbench.engine.sweep import Reference, sweep
from workbench.methods.by_name import score
from workbench.model.open import open_model
from workbench.model.probe import wiring
from workbench.tasks.pairs import Pairs

TOLERANCE = 1.5e-5  # as in test_sweep_families: stacking changes the order of float32 sums
KINDS = ("gpt2", "gpt-neox", "llama", "gemma2", "opt", "bert", "native-ln")


# -- identities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("mode", ["noising", "denoising"])
def test_patching_a_whole_layer_of_the_stream_recovers_everything(family, mode, runs_of):
    """Recovery is exactly 1: nothing of the edited run is left above the patch."""
    runs = runs_of(family)
    every = patches([f"r{n}" for n in range(runs.wiring.n_layers)], mode=mode)
    table = sweep(runs, every, kind="patching", mode=mode)
    assert table.per_pair / table.gap == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "native-ln"])
def test_patching_what_is_equal_changes_nothing(family, runs_of):
    """BOS is before every difference; the input at V holds the same word; the run's own value is no news."""
    runs = runs_of(family)
    table = sweep(
        runs, patches(["r1@0", "a1.h1@0", "a1.h2<k>@0" if family != "llama" else "a1.g1<k>@0"]), kind="p"
    )
    assert abs(table.per_pair).max() <= TOLERANCE
    # the first two pairs change words 2, 3 and 1, 5: word V is the same in both, word S is not
    runs = runs_of(family, pairs=mini_pairs(2))
    table = sweep(runs, patches(["input@V", "input@S"], mode="noising"), kind="p")
    assert abs(table.per_pair[0]).max() <= TOLERANCE < abs(table.per_pair[1]).min()
    own = [Intervention(label="own", edits=(Edit(node=parse_node("m0"), value="clean"),))]
    assert abs(sweep(runs, own, kind="p").per_pair).max() <= TOLERANCE


def test_the_two_modes_are_measured_from_their_own_base(runs_of):
    """Everything corrupted in the clean run is the gap, and so is everything clean in the corrupted run."""
    runs = runs_of("gpt2")
    gap = runs.clean - runs.corrupted
    for mode in ("noising", "denoising"):
        table = sweep(runs, patches(["input"], mode=mode), kind="p", mode=mode)
        assert table.per_pair[0] == pytest.approx(gap, abs=TOLERANCE)
        assert table.base == pytest.approx(runs.clean if mode == "noising" else runs.corrupted)


# -- independence --------------------------------------------------------------------------------------------


def mixed(runs) -> list[Intervention]:
    heads = parts_of(runs.wiring, "heads")
    found = [*ablations(heads[:5], "resample"), *ablations([["m0"], ["m1"]], "zero")]
    return [*found, *patches(["r1@S", "a1.h1@V"], mode="noising"), *knock_outs(["a1.h3"], "end", "S")]


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "opt", "native-ln"])
def test_order_batching_and_company_of_pairs_do_not_matter(family, runs_of):
    """Pitfall 'batch = singles': five pairs at once, one by one, reversed, and as a subset."""
    runs = runs_of(family, pairs=mini_pairs(5))
    whole = sweep(runs, mixed(runs), kind="x").patched
    for batch_tokens in (1, 33, 100_000):
        again = runs_of(family, pairs=mini_pairs(5), batch_tokens=batch_tokens)
        assert sweep(again, mixed(again), kind="x").patched == pytest.approx(whole, abs=TOLERANCE)
    backwards = runs_of(family, pairs=dataclasses.replace(mini_pairs(5), items=mini_pairs(5).items[::-1]))
    assert sweep(backwards, mixed(runs), kind="x").patched == pytest.approx(whole[:, ::-1], abs=TOLERANCE)
    some = runs_of(family, pairs=mini_pairs(5)[1:3])
    assert sweep(some, mixed(runs), kind="x").patched == pytest.approx(whole[:, 1:3], abs=TOLERANCE)


def test_order_of_interventions_does_not_matter(runs_of):
    runs = runs_of("llama")
    rows = mixed(runs)
    forward, backward = sweep(runs, rows, kind="x"), sweep(runs, rows[::-1], kind="x")
    assert backward.labels == forward.labels[::-1]
    assert backward.patched[::-1] == pytest.approx(forward.patched, abs=TOLERANCE)


def test_nothing_is_padded(runs_of):
    """Pitfalls 'unequal lengths', 'last position of right-padded batches', 'left padding and positions'."""
    runs = runs_of("gpt2", pairs=mini_pairs(5))
    assert {batch.n_tokens for batch in runs.batches} == {7, 9}  # six and eight words and BOS
    for batch in runs.batches:
        lengths = {len(runs.pairs.clean[i]) for i in batch.index} | {
            len(runs.pairs.corrupted[i]) for i in batch.index
        }
        assert lengths == {batch.n_tokens} and (batch.answer_pos == batch.n_tokens - 1).all()
    assert sorted(np.concatenate([b.index for b in runs.batches])) == list(range(5))


def test_pairs_of_unequal_length_are_left_out_and_counted(runs_of):
    """Pitfall 'unequal lengths': never patched position by position without notice."""
    items = mini_pairs(2).items
    uneven = dataclasses.replace(items[0], id="uneven", corrupted=items[0].corrupted + " w9", positions={})
    runs = runs_of("gpt2", pairs=Pairs(items=(*items, uneven), task="mini"))
    assert runs.n_pairs == 2 and [d.id for d in runs.pairs.dropped] == ["uneven"]
    assert runs.provenance()["n_dropped"] == 1


def test_bos_is_counted_once(runs_of):
    """Pitfall 'BOS': a prompt that brings its own BOS gets no second one; positions count it."""
    row = ("<bos> w10 w23 w31 w47", {"S": 2}, {2: "w77"}, "Mary", "John")
    with_bos = Pairs(items=(make_pair(row, "own"),), task="mini")
    row = ("w10 w23 w31 w47", {"S": 1}, {1: "w77"}, "Mary", "John")
    without = Pairs(items=(make_pair(row, "ours"),), task="mini")
    a, b = runs_of("gpt2", pairs=with_bos), runs_of("gpt2", pairs=without)
    for runs in (a, b):
        assert runs.pairs.clean[0].tolist() == [0, 10, 23, 31, 47] and runs.pairs.prepend_bos
        assert runs.pairs.positions[0] == {"S": 2, "end": 4}
    assert a.clean == pytest.approx(b.clean, abs=0)


# -- the model is left as it was -----------------------------------------------------------------------------


def state(bridge) -> dict:
    """Everything a sweep could leave behind on a model."""
    points = dict(bridge.hook_dict)
    return {
        "weights": {
            k: v.double().sum().item() for k, v in bridge.state_dict().items() if v.is_floating_point()
        },
        "grads": [p.grad is None for p in bridge.parameters()],
        "requires_grad": [p.requires_grad for p in bridge.parameters()],
        "training": [m.training for m in bridge.modules()],
        "hooks": [
            (n, len(p.fwd_hooks), len(p.bwd_hooks)) for n, p in points.items() if p.fwd_hooks or p.bwd_hooks
        ],
        "torch hooks": sum(len(m._forward_hooks) + len(m._backward_hooks) for m in bridge.modules()),
        "own forward": [n for n, m in bridge.named_modules() if "forward" in m.__dict__],
        "flags": {
            f: getattr(bridge.cfg, f) for f in ("use_attn_result", "use_split_qkv_input", "use_hook_mlp_in")
        },
        "grad mode": torch.is_grad_enabled(),
    }


def everything(runs) -> None:
    sweep(runs, mixed(runs), kind="x")
    sweep(runs, ablations([["a1.h1"]], "mean"), kind="x", mode="denoising")
    for method in ("eap", "eap-ig", "attribution-patching"):
        score(runs, method)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "native-ln"])
def test_the_model_is_left_as_it_was(family, runs_of):
    """Pitfall 'hooks left behind'; also where the caller wants gradients of some parameters."""
    runs = runs_of(family, pairs=mini_pairs(2))
    bridge = runs.model
    wanted = next(iter(bridge.parameters()))
    wanted.requires_grad_(True)
    try:
        before = state(bridge)
        everything(runs)
        assert state(bridge) == before
        # TransformerLens keeps a few hooks of its own on attention that it delegates; ours come and go
        assert family == "opt" or (before["hooks"] == [] and before["own forward"] == [])
    finally:
        wanted.requires_grad_(False)


def failing(after: int) -> Metric:
    """Logit difference, until it has been asked ``after`` times."""
    inner, asked = get_metric("logit-difference"), []

    def fn(logits, answers, clean=None):
        asked.append(1)
        if len(asked) > after:
            raise ZeroDivisionError("the metric fails")
        return inner(logits, answers, clean)

    return dataclasses.replace(inner, fn=fn)


@pytest.mark.parametrize("family", ["gpt2", "opt", "native-ln"])
def test_the_model_is_left_as_it_was_after_an_error(family, runs_of):
    """An exception in the middle: resumed blocks, hooks and gradient flags are given back all the same."""
    for after in (0, 1, 3):
        runs = runs_of(family, pairs=mini_pairs(2), metric=failing(after))
        before = state(runs.model)
        with pytest.raises(ZeroDivisionError):
            sweep(runs, mixed(runs), kind="x")
        assert state(runs.model) == before
    runs = runs_of(family, pairs=mini_pairs(2), metric=failing(0))
    runs.model.requires_grad_(True)
    try:
        before = state(runs.model)
        with pytest.raises(ZeroDivisionError):
            score(runs, "eap")
        assert state(runs.model) == before
    finally:
        runs.model.requires_grad_(False)


def test_an_error_inside_a_hook_leaves_the_model_as_it_was(runs_of):
    runs = runs_of("llama")
    before = state(runs.model)
    with pytest.raises(TaskError, match="no position called 'nowhere'"):
        sweep(runs, patches(["a2.h1@nowhere"], mode="noising"), kind="x")
    with pytest.raises(TaskError, match="outside prompts of 7 tokens"):
        sweep(runs, patches(["r2@30"], mode="noising"), kind="x")
    assert state(runs.model) == before


def tensors() -> int:
    gc.collect()
    # by its type: isinstance asks proxies for their class, which import modules for it
    return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())


def test_repeated_calls_do_not_grow(runs_of):
    """No tensor and no hook stays behind, also not in the runs' own caches."""
    runs = runs_of("gpt2", pairs=mini_pairs(2))
    everything(runs), everything(runs)  # from the second on the model itself keeps its last patterns
    before, hooks = tensors(), state(runs.model)["torch hooks"]
    everything(runs)
    assert tensors() <= before and state(runs.model)["torch hooks"] == hooks
    assert all(not batch.cache for batch in runs.batches)


def test_the_callers_own_hooks_stay(runs_of):
    """Hooks that the caller has put on keep working and are not removed; then the model itself is run."""
    runs = runs_of("gpt2")
    plain = runs.clean
    seen = []
    runs.model.add_hook("blocks.1.hook_mlp_out", lambda t, hook: seen.append(1))
    try:
        again = runs_of("gpt2")
        sweep(again, mixed(again), kind="x")
        assert seen and len(runs.model.hook_dict["blocks.1.hook_mlp_out"].fwd_hooks) == 1
        assert again.clean == pytest.approx(plain, abs=1e-6)
    finally:
        runs.model.reset_hooks()


# -- means ---------------------------------------------------------------------------------------------------


def test_mean_ablation_by_hand(runs_of):
    """Pitfall 'mean ablation that is not the mean': pairs of two lengths, numbers from single prompts.

    The mean of a head is over all 7 + 7 + 9 tokens of the three prompts, BOS counted once each, and over no
    other node and no padding.
    """
    runs = runs_of("gpt2")
    naive = naive_of("gpt2", runs)
    hook = HOOKS["head-output"].format(1)
    every = torch.cat([naive.activation(i, "clean", hook)[:, 2] for i in range(3)])
    assert every.shape == (23, 8)

    def put(z, hook):
        z = z.clone()
        z[:, :, 2] = every.sum(0) / 23
        return z

    truth = [naive.metric(i, "clean", [(hook, put)]) for i in range(3)]
    found = sweep(runs, ablations([["a1.h2"]], "mean"), kind="x").patched[0]
    assert found == pytest.approx(truth, abs=TOLERANCE)


def test_means_of_a_reference_set(runs_of):
    """Means come from the other set, from the run that is named."""
    runs, other = runs_of("llama", pairs=mini_pairs(2)), runs_of("llama", pairs=mini_pairs(5)[3:])
    naive, hook = naive_of("llama", other), HOOKS["mlp-out"].format(0)
    for run in ("clean", "corrupted"):
        mean = torch.cat([naive.activation(i, run, hook) for i in range(2)]).mean(0)
        truth = [
            naive_of("llama", runs).metric(i, "clean", [(hook, lambda t, hook, m=mean: m.expand_as(t))])
            for i in range(2)
        ]
        reference = Reference(runs=other, run=run)
        found = sweep(runs, ablations([["m0"]], "mean"), kind="x", reference=reference).patched[0]
        assert found == pytest.approx(truth, abs=TOLERANCE)


def test_a_mean_that_is_not_defined_is_refused(runs_of):
    """A reference set without prompts of that length has no mean per position."""
    runs, other = runs_of("llama", pairs=mini_pairs(2)), runs_of("llama", pairs=mini_pairs(5)[2:3])
    with pytest.raises(TaskError, match="no prompts of 7 tokens"):
        sweep(runs, ablations([["m0"]], "mean-per-position"), kind="x", reference=Reference(runs=other))
    with pytest.raises(TaskError, match="pattern has no mean over positions"):
        sweep(
            runs,
            [Intervention(label="p", edits=(Edit(node=parse_node("a0.h0<pattern>"), value="mean"),))],
            kind="x",
        )


def test_zero_ablation_depends_on_weight_processing_and_means_do_not():
    """Pitfall of that name: folding moves the value bias into the output bias, which no head owns."""
    raw, folded = (open_model(family_dir("gpt2"), device="cpu") for _ in range(2))
    folded.enable_compatibility_mode(disable_warnings=True)
    folded.eval().requires_grad_(False)
    moves = {}
    for kind in ABLATIONS:
        tables = []
        for model in (raw, folded):
            runs = PairedRuns(model, mini_pairs(), metric="logit-difference")
            rows = [*ablations([["a0.h1"], ["a1.h2"], ["a2.h0"]], kind)]
            tables.append(sweep(runs, rows, kind="x"))
        assert tables[0].base == pytest.approx(tables[1].base, abs=1e-4)
        moves[kind] = float(abs(tables[0].patched - tables[1].patched).max())
    assert moves.pop("zero") > 0.01
    assert max(moves.values()) < 1e-4, moves  # folding changes the order of float32 sums
    # and so the result says which processing it was measured on
    assert tables[0].provenance["processing"] == "raw" and "standing" not in tables[0].provenance
    assert any("compatibility_mode = True" in said for said in tables[1].provenance["standing"])
    assert tables[0].provenance["weights"] != tables[1].provenance["weights"]


# -- refused, not ignored ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "address", "words"),
    [
        ("llama", "a0.h1<k>", "a0.g0<k>"),
        ("llama", "a0.g2<k>", "groups 0 to 1"),
        ("llama", "a9.h0", "layers 0 to 2"),
        ("gpt2", "a1.h4", "heads 0 to 3"),
        ("native", "m0", "no MLP"),
        ("gpt2", "logits", "cannot be edited"),
        ("llama", "a0.g1<q>", "a0.h2<q>"),  # a KV group has no queries of its own: head 1 was edited instead
        ("llama", "a0.g1<pattern>", "a0.h2<pattern>"),
        ("llama", "a0.g1", "cannot be edited"),
    ],
)
def test_edits_that_a_model_does_not_have_are_refused(family, address, words, runs_of):
    with pytest.raises(WorkbenchError) as problem:
        sweep(runs_of(family), patches([address], mode="noising"), kind="x")
    assert words in str(problem.value)


def test_only_attention_can_be_knocked_out(runs_of):
    for node in ("m0", "r1", "input"):
        with pytest.raises(WorkbenchError, match="heads and attention layers"):
            sweep(runs_of("gpt2"), knock_outs([node], "end", "S"), kind="x")


def test_a_knock_out_of_what_cannot_be_seen_is_refused(runs_of):
    """A causal query sees no later key: the edit would change nothing, silently."""
    with pytest.raises(TaskError, match="comes after"):
        sweep(runs_of("gpt2"), knock_outs(["a1.h0"], "S", "V"), kind="x")
    sweep(runs_of("bert"), knock_outs(["a1.h0"], "S", "V"), kind="x")  # an encoder sees both ways


def test_knock_out_of_nearly_all_attention(tmp_path):
    """One key holds all but 1e-7 of a row: what is left is the softmax over the others, not rounding noise."""
    from tests.integration.test_methods import edited

    def sharpen(weights):
        weights["blocks.1.attn.q.weight"] *= 40

    runs = PairedRuns(edited("native-ln", tmp_path / "model", sharpen), mini_pairs(1))
    naive = naive_of("native-ln", runs)
    named = dict(runs.pairs.positions[0])
    pattern = naive.activation(0, "clean", HOOKS["pattern"].format(1))
    rows = pattern[:, named["end"]]
    head = int((rows.max(-1).values < 1).float().mul(rows.max(-1).values).argmax())
    key = int(rows[head].argmax())
    assert 0 < 1 - float(rows[head, key]) < 1e-3  # the test is about a row like this
    q, k = (naive.activation(0, "clean", HOOKS[s].format(1))[:, head].double() for s in "qk")
    scores = q[named["end"]] @ k.T / 8**0.5
    scores[key] = -torch.inf
    wanted = scores.softmax(-1).float()

    def put(a, hook):
        a = a.clone()
        a[0, head, named["end"]] = wanted
        return a

    truth = naive.metric(0, "clean", [(HOOKS["pattern"].format(1), put)])
    found = sweep(runs, knock_outs([f"a1.h{head}"], "end", key), kind="x").patched[0, 0]
    assert found == pytest.approx(truth, abs=1e-4)


def test_training_mode_is_refused_each_time(runs_of):
    """Pitfall 'training mode / dropout': also on a model that was measured before in eval mode."""
    model = open_model(family_dir("gpt2"), device="cpu")
    PairedRuns(model, mini_pairs())
    model.train()
    with pytest.raises(ModelError, match="training mode"):
        PairedRuns(model, mini_pairs())


def test_dead_layers_do_not_make_hooks_look_dead(tmp_path):
    """A last layer that writes nothing says nothing about whether edits of heads work."""
    from tests.integration.test_methods import edited

    def silence(weights):
        weights["blocks.1.attn.o.weight"].zero_()

    model = edited("native-ln", tmp_path / "model", silence)
    assert wiring(model).live >= {"q", "k", "v", "pattern", "head-output", "attn-out"}
    assert wiring(model).edge_level


def test_metric_that_reads_logits_needs_them(runs_of):
    with pytest.raises(ModelError, match="no language-model head"):
        runs_of("bert", metric="logit-difference")
    assert metric_for("bert").reads == hidden_metric().reads == "all"


def test_two_rows_of_one_name_are_refused(runs_of):
    with pytest.raises(OptionError, match="one label"):
        sweep(runs_of("gpt2"), ablations([["a0.h1"], ["a0.h1"]]), kind="x")


def test_a_template_of_its_own_is_its_own_mean(runs_of):
    """Mean ablation per template group: alone in its template a pair is replaced by itself, together it is not."""
    alone = mini_pairs(2)
    alone = dataclasses.replace(alone, items=tuple(dataclasses.replace(p, group=p.id) for p in alone))
    heads = [("a0.h0",), ("a1.h1",)]
    own = sweep(runs_of("gpt2", alone), ablations(heads, "mean-per-template"), kind="t")
    # 1e-5: the mean of one float32 value, taken in float64, is that value; the pass is stacked otherwise
    assert np.abs(own.per_pair).max() < 1e-5
    shared = dataclasses.replace(alone, items=tuple(dataclasses.replace(p, group="one") for p in alone))
    mixed = sweep(runs_of("gpt2", shared), ablations(heads, "mean-per-template"), kind="t")
    plain = sweep(runs_of("gpt2", shared), ablations(heads, "mean-per-position"), kind="t")
    assert np.abs(mixed.per_pair).max() > 1e-3 and np.allclose(mixed.per_pair, plain.per_pair, atol=1e-6)
