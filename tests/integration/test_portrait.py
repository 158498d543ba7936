"""Portraits: planted heads are found, numbers equal naive loops, every family is served or told why not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.families import build_hf, family_dir, minilm_path
from workbench.core.errors import ModelError, OptionError, TaskError
from workbench.engine.distribute import unfinished
from workbench.evaluate.roles import mean_attention
from workbench.heads import grounds
from workbench.heads.loss import loss_change, runs_of
from workbench.heads.observe import patterns_of
from workbench.heads.portrait import portrait
from workbench.heads.readouts import read_outs
from workbench.heads.shown_patterns import example_patterns, prompt_patterns
from workbench.heads.table import COLUMNS, Portrait, reasons
from workbench.model.hooks import hook_name
from workbench.model.open import open_model
from workbench.model.probe import record, wiring


@cache
def planted() -> Portrait:
    return portrait(open_model("zoo:truth-induction"), n=4)


@cache
def trained() -> Portrait:
    return portrait(open_model("zoo:induction"), n=4, loss=False)


# -- planted heads ----------------------------------------------------------------------------------------


def test_the_planted_induction_circuit_is_found_in_every_kind_of_evidence():
    found = planted()
    labels = ["duplicate-token", "previous-token", "induction, retrieval", "induction, retrieval"]
    assert [found.label(h) for h in ("a0.h0", "a0.h1", "a1.h0", "a1.h1")] == labels
    row = {r["head"]: r for r in found.rows()}
    assert row["a0.h1"]["previous-token"] == pytest.approx(1, abs=1e-3)
    assert row["a1.h0"]["induction"] == pytest.approx(1, abs=1e-3)
    # Both heads of layer 1 look; one of them writes: weights and ablation tell them apart.
    for key in ("ov-copying", "copy-score", "induction-copying"):
        assert row["a1.h0"][key] == pytest.approx(1, abs=1e-6)
        assert row["a1.h1"][key] == pytest.approx(0, abs=1e-6)
    assert row["a1.h0"]["loss"] > 3 and row["a0.h1"]["loss"] > 3
    assert row["a1.h1"]["loss"] == pytest.approx(0, abs=1e-5) == row["a0.h0"]["loss"]
    assert row["a1.h0"]["k-composition with"] == "a0.h1"
    assert (
        row["a1.h0"]["k-composition"] > 2 * found["k-composition"].null[1, 0] > row["a1.h0"]["q-composition"]
    )


def test_the_trained_induction_heads_are_found():
    found = trained()
    assert all("induction" in found.label(f"a1.h{h}") for h in range(4))
    assert found.label("a0.h0") == "previous-token"
    assert (found["induction-copying"].values[1] > 0.5).all() and (found["ov-copying"].values[1] > 0.9).all()
    said = "k-composition, v-composition: measured from layer 1 on; the first layer with heads has no earlier ones"
    assert any(note.endswith(f"{said} (layer 0)") for note in found.notes)
    assert found["k-composition"].partners[1] == ("a0.h0",) * 4  # their keys read the previous-token head


def test_a_text_that_the_tokenizer_does_not_know_is_left_out_and_said():
    assert [g["name"] for g in trained().grounds] == ["random"]
    assert any("built-in text is not used: 750 of 781 tokens are unknown" in note for note in trained().notes)
    assert not any(key.endswith("@text") for key in trained().keys)


# -- numbers ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A tiny GPT-2 with its random sequences."""
    model = open_model(family_dir("gpt2"), device="cpu")
    return model, grounds.random_ground(model, n=5, length=17)[0]


def test_read_outs_equal_a_loop_over_sequences_heads_and_queries(small):
    model, ground = small
    found = {m.name: m.values for m in read_outs(model, ground)[0]}
    n, first = ground.period, ground.prefix + ground.period
    assert (n, first) == (8, 9)
    names = ("previous-token", "duplicate-token", "induction", "first-token", "entropy", "distance", "waad")
    naive = {name: np.zeros((3, 4)) for name in names}
    for sequence in ground.sequences:
        _, seen = record(model, sequence[None], [hook_name("pattern", layer) for layer in range(3)])
        for layer in range(3):
            for h in range(4):
                A = seen[hook_name("pattern", layer)][0, h].double().tolist()
                length, share = len(A), 1 / len(ground.sequences)

                def add(name, values, layer=layer, h=h, share=share):
                    naive[name][layer, h] += share * sum(values) / len(values)

                add("previous-token", [A[q][q - 1] for q in range(1, length)])
                add("duplicate-token", [A[q][q - n] for q in range(first, first + n)])
                add("induction", [A[q][q - n + 1] for q in range(first, first + n)])
                add("first-token", [A[q][0] for q in range(1, length)])
                add("entropy", [-sum(a * np.log(a) for a in row if a > 0) for row in A])
                add(
                    "distance",
                    [sum(a * (q - k) for k, a in enumerate(row) if k <= q) for q, row in enumerate(A)],
                )
                add(
                    "waad",
                    [sum(a * min(q - k, 10) for k, a in enumerate(row) if k <= q) for q, row in enumerate(A)],
                )
    for name in names:
        assert np.allclose(found[name], naive[name], atol=1e-5), name


def test_the_loss_of_an_ablated_head_equals_one_hook_and_one_pass(small):
    model, ground = small
    found = loss_change(model, ground)
    ids = torch.stack(ground.sequences)
    start = ground.prefix + ground.period

    def loss(hooks) -> torch.Tensor:
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            logits = model(ids)
        each = cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
        return each[:, start:].mean()  # the second copy, as far as its next token is known

    _, seen = record(model, ids, [hook_name("head-output", 1)])
    z = seen[hook_name("head-output", 1)]

    def to_mean(tensor, hook, head=2):
        tensor = tensor.clone()
        tensor[:, :, head] = z[:, :, head].mean((0, 1))
        return tensor

    naive = (loss([(hook_name("head-output", 1), to_mean)]) - loss([])).item()
    assert found.values[1, 2] == pytest.approx(naive, abs=1e-5) and abs(naive) > 1e-4
    assert found.evidence == "causal" and found.unit == "nats per token"


def test_order_and_batches_change_nothing(small):
    model, ground = small
    turned = grounds.Ground(**{**ground.__dict__, "sequences": ground.sequences[::-1]})
    whole = read_outs(model, ground)[0]
    for other in (read_outs(model, turned)[0], read_outs(model, ground, batch_tokens=17)[0]):
        for a, b in zip(whole, other, strict=True):
            assert np.allclose(a.values, b.values, atol=1e-6) and np.allclose(a.stderr or 0, b.stderr or 0) \
                if a.stderr is None else np.allclose(a.stderr, b.stderr, atol=1e-6)  # fmt: skip
    one, many = (loss_change(model, ground, batch_tokens=tokens).values for tokens in (68, 4096))
    assert np.allclose(one, many, atol=1e-5)


def test_null_values_are_what_a_uniform_head_gets(small):
    model, ground = small
    found = {m.name: m for m in read_outs(model, ground)[0]}
    ends = range(9, 17)
    assert found["induction"].null[0, 0] == pytest.approx(np.mean([1 / (q + 1) for q in ends]))
    assert (
        found["entropy"].null[0, 0]
        == pytest.approx(np.mean(np.log(np.arange(1, 18))))
        == found["entropy"].high
    )
    assert found["distance"].null[0, 0] == pytest.approx(4.0)  # mean of q / 2 over 0..16
    assert found["later-sinks"].null[0, 0] == 0


def test_equal_seeds_give_equal_portraits_and_others_do_not():
    model = open_model(family_dir("gpt2"), device="cpu")
    first, again, other = (portrait(model, n=2, length=16, seed=s, loss=False).to_dict() for s in (0, 0, 1))
    assert first == again and first["grounds"] != other["grounds"]


# -- a head that writes nothing ---------------------------------------------------------------------------


def test_a_head_with_no_output_matrix_looks_but_does_nothing():
    whole, cut = build_hf("gpt2"), build_hf("gpt2")
    with torch.no_grad():
        cut.transformer.h[2].attn.c_proj.weight[8:16] = 0  # a2.h1: rows of W_O
    a, b = (portrait(open_model(m), n=2, length=16) for m in (whole, cut))
    for key in (
        "loss",
        "ov-copying",
        "copy-score",
        "negative-copy-score",
        "induction-copying",
        "v-composition",
    ):
        zero = key != "v-composition"  # as a reader it keeps its W_V, but W_V W_O is 0
        assert b[key].values[2, 1] == pytest.approx(0, abs=1e-7), key
        assert not zero or a[key].values.any(), key
    for key in ("induction", "previous-token", "entropy", "later-sinks", "waad"):
        assert np.allclose(a[key].values, b[key].values, atol=1e-6), key  # the last layer: nothing reads it
    assert "no text: the model has no tokenizer" in a.notes


# -- families ---------------------------------------------------------------------------------------------


def digest(model) -> float:
    return float(sum(p.double().abs().sum() for p in model.parameters()))


def n_hooks(model) -> int:
    """TransformerLens has some of its own on models whose attention Hugging Face computes."""
    return sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.hook_dict.values())


@pytest.mark.parametrize("family", ["gpt-neox", "qwen3", "gemma2", "opt", "bert"])
def test_every_family_is_measured_or_told_why_not(family):
    model = open_model(family_dir(family), device="cpu")
    before, hooks = digest(model), n_hooks(model)
    found = portrait(model, n=2, length=16)
    assert {m.name for m in found.measurements} <= set(COLUMNS)
    missing = reasons(found.measurements)
    told = {key for keys in missing.values() for key in keys}
    for m in found.measurements:
        where = np.isfinite(m.values)
        assert where.all() or m.key in told, m.key
        if m.low is not None:
            assert (m.values[where] >= m.low - 1e-6).all() and (m.values[where] <= m.high + 1e-5).all(), m.key
        if m.name in ("induction", "previous-token", "first-token", "entropy", "distance"):
            assert where.all(), m.key
    assert digest(model) == before and not model.training
    assert n_hooks(model) == hooks
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    if family in ("gpt-neox", "qwen3", "gemma2"):
        why = next(w for w, keys in missing.items() if "k-composition" in keys)
        assert "rotary" in why or "normed" in why
    if family == "bert":
        assert any("no language-model head" in why for why in missing)


def test_weights_through_shared_keys_and_values_are_those_of_the_query_heads():
    from workbench.heads import weights

    model = open_model(family_dir("llama"), device="cpu")
    layer = weights.layer_weights(model, 1)
    gain = model.blocks[1].ln1.original_component.weight.double()
    own = model.blocks[1].attn.W_V[1].double() * gain[:, None]  # the second of two groups
    assert torch.allclose(layer.v[2], own) and torch.allclose(layer.v[3], own)
    assert layer.k.shape == layer.q.shape == (4, 32, 8)


def test_fused_attention_is_recomputed_and_checked():
    for family in ("opt", "bert"):
        model = open_model(family_dir(family), device="cpu")
        ids = torch.randint(6, 100, (2, 9), generator=torch.Generator().manual_seed(0))
        shown = patterns_of(model, ids)
        assert shown.recomputed == ()
        inner = model.original_model.bert if family == "bert" else model.original_model
        inner.set_attn_implementation("sdpa")
        fused = patterns_of(model, ids)
        assert fused.recomputed == (0, 1, 2) and not fused.refused
        for layer in range(3):
            assert torch.allclose(fused.of(layer), shown.of(layer), atol=1e-5)
    found = read_outs(model, grounds.random_ground(model, n=2, length=16)[0])[1]
    assert found == ("layers 0, 1, 2: attention is fused; patterns were recomputed from q and k and checked",)


def test_fused_attention_that_cannot_be_recomputed_is_refused_with_the_reason():
    model = open_model(family_dir("opt"), device="cpu")
    model.original_model.set_attn_implementation("sdpa")
    attention = model.original_model.model.decoder.layers[1].self_attn
    getattr(
        attention, "original_component", attention
    ).scaling *= 2  # another temperature than 1 / sqrt(d_head)
    ids = torch.randint(6, 100, (2, 9), generator=torch.Generator().manual_seed(0))
    seen = patterns_of(model, ids)
    assert seen.recomputed == (0, 2) and "eager" in seen.refused[1]
    with pytest.raises(ModelError, match="layer 1 shows no attention pattern"):
        seen.of(1)
    found = portrait(model, n=2, length=16, loss=False)
    assert (
        np.isnan(found["induction"].values[1]).all() and np.isfinite(found["induction"].values[[0, 2]]).all()
    )
    assert any("fused" in note and "(layer 1)" in note for note in found.notes)


def test_a_broken_run_leaves_the_model_as_it_was(small):
    model, _ = small
    before = digest(model)

    def stop(done, total, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        portrait(model, n=2, length=16, progress=stop)
    assert digest(model) == before and not model.training and not unfinished()

    def stop_late(done, total, what):
        if what.startswith("layer 1"):
            raise KeyboardInterrupt

    whole = portrait(model, n=2, length=16)
    with pytest.raises(KeyboardInterrupt):
        portrait(model, n=2, length=16, progress=stop_late)
    assert list(unfinished().values()) == [2]  # finished parts of the loss: the same call goes on behind them
    again = portrait(model, n=2, length=16)
    assert np.array_equal(again["loss"].values, whole["loss"].values) and not unfinished()
    assert not any(point.fwd_hooks for point in model.hook_dict.values())
    model.train()
    try:
        with pytest.raises(ModelError, match="training mode"):
            portrait(model, n=2, length=16)
        assert model.training
    finally:
        model.eval()


# -- texts ------------------------------------------------------------------------------------------------


def test_a_corpus_is_read_from_files_and_texts_and_unknown_words_are_counted(small, tmp_path):
    model, _ = small
    file = tmp_path / "mine.txt"
    file.write_text("w10 w23 w31 w10 w23 w52 w60 Mary " * 4)
    found = portrait(model, [file, "w11 w23 unheard w41 w11 w23 w31 w41"], n=4, length=16, loss=False)
    assert found.grounds[1]["about"].startswith("mine.txt, 1 given texts: 3 windows (4 were asked for)")
    assert "text: 3 different sequences, 4 were asked for" in found.notes
    assert "mine.txt, 1 given texts: 1 of 40 tokens are unknown to the tokenizer" in found.notes
    assert (
        "mine.txt, 1 given texts: 2 tokens at ends of texts, less than 8 in a row, are left out"
        in found.notes
    )
    assert found["induction@text"].n == 3
    alone = portrait(model, "w6 w7 w8 w9 w10 w11 w12 w13", n=2, length=16, loss=False)
    assert "duplicate-token@text, induction@text: no token comes twice in any sequence" in alone.notes


def test_texts_and_lengths_that_cannot_work_are_explained(small, tmp_path):
    model, _ = small
    with pytest.raises(TaskError, match=r"no file .*none.txt"):
        portrait(model, tmp_path / "none.txt")
    with pytest.raises(TaskError, match="empty"):
        portrait(model, "  ")
    with pytest.raises(TaskError, match="8 tokens in a row"):
        portrait(model, "w6 w7")
    with pytest.raises(OptionError, match="at most 64, the context"):
        portrait(model, length=65)
    with pytest.raises(OptionError, match="at least 2 sequences"):
        portrait(model, n=1)
    with pytest.raises(TaskError, match="prompt 1 has 101 tokens; the model reads at most 64"):
        prompt_patterns(model, ["w6 " * 100])
    with pytest.raises(TaskError, match="no tokens"):
        prompt_patterns(model, [""])


def test_patterns_of_a_prompt_are_the_models_own(small):
    model, _ = small
    looked = prompt_patterns(model, ["w10 w23 w31 nowhere"])[0]
    assert looked.tokens == ("<bos>", "w10", "w23", "w31", "<unk>") and "1 of its 4 tokens" in looked.title
    assert looked.note == "prompt 1: 1 of its 4 tokens are unknown to the tokenizer"
    assert prompt_patterns(model, ["w10 w23"])[0].note == ""
    ids = torch.tensor([[0, *model.tokenizer("w10 w23 w31 nowhere", add_special_tokens=False)["input_ids"]]])
    own = patterns_of(model, ids).of(2)[0]
    assert np.abs(looked.weights[2] / 255 - own.numpy()).max() <= 0.5 / 255 + 1e-6
    assert example_patterns(model)[0].tokens[1:9] == example_patterns(model)[0].tokens[9:]


# -- what else looks at heads -----------------------------------------------------------------------------


def test_roles_of_heads_look_through_the_same_window(runs_of):
    runs = runs_of("gpt2")
    found = mean_attention(runs, [("end", "S")])
    naive = np.zeros((3, 4))
    for i in range(runs.n_pairs):
        one = runs.subset([i]).batches[0]
        _, seen = record(runs.model, one.clean, [hook_name("pattern", layer) for layer in range(3)])
        for layer in range(3):
            naive[layer] += seen[hook_name("pattern", layer)][0, :, one.at("end")[0], one.at("S")[0]].numpy()
    assert np.allclose(found[0], naive / runs.n_pairs, atol=1e-6)


def test_models_without_a_loss_say_so():
    model = open_model(family_dir("bert"), device="cpu")
    with pytest.raises(ModelError, match="no language-model head"):
        runs_of(model, grounds.random_ground(model, n=2, length=16)[0])


# -- a real encoder ---------------------------------------------------------------------------------------


@pytest.mark.skipif(minilm_path() is None, reason="the test extra with all-MiniLM-L6-v2 is not installed")
def test_the_sinks_of_a_real_encoder_are_its_first_special_token():
    """Clark et al. 2019 report attention to [SEP] in BERT; in all-MiniLM-L6-v2 the same habit has moved to [CLS]."""
    from transformers import AutoModel, AutoTokenizer

    path = str(minilm_path())
    model = open_model(path, device="cpu")
    ground = grounds.text_ground(model, n=3, length=24)[0]
    found = {m.name: m for m in read_outs(model, ground)[0]}
    first, sep = found["first-token"], found["separator"]
    middle = slice(1, 5)
    assert first.values[middle].mean() > 0.3 > 6 * first.null[0, 0] > 0  # chance is 1 / 24
    assert (first.values[middle] > 2 * first.null[0, 0]).mean() > 0.9
    assert sep.values[middle].mean() < sep.null[0, 0]  # not a sink on average
    assert wiring(model).causal is False

    plain = AutoModel.from_pretrained(path, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    naive_first, naive_sep = np.zeros((6, 12)), np.zeros((6, 12))
    for ids in ground.sequences:
        assert ids[0] == tokenizer.cls_token_id and ids[-1] == tokenizer.sep_token_id
        with torch.no_grad():
            A = torch.stack(plain(ids[None], output_attentions=True).attentions)[:, 0]
        naive_first += A[..., 1:, 0].mean(-1).numpy() / len(ground.sequences)
        naive_sep += A[..., -1].mean(-1).numpy() / len(ground.sequences)
    assert np.allclose(first.values, naive_first, atol=1e-4) and np.allclose(sep.values, naive_sep, atol=1e-4)
