"""Reasons of edges: terms sum to the model's own scores, deletions do what terms say, compiled programs are named."""

import pytest
import torch

import workbench as wb
from tests.families import family_dir
from tests.mini import mini_pairs
from workbench.core.errors import ModelError, OptionError
from workbench.engine.neuron_terms import neuron_terms
from workbench.engine.score_terms import head_terms
from workbench.model.bare import is_bare

LAYER, HEAD = 1, 3


def runs_of(family, n=2):
    return wb.paired_runs(wb.open_model(str(family_dir(family))), mini_pairs(n))


def seen_in(runs, *names):
    """What a plain hooked pass shows on the first batch."""
    seen = {}
    hooks = [(name, lambda t, hook, name=name: seen.__setitem__(name, t.detach())) for name in names]
    with torch.no_grad(), runs.model.hooks(fwd_hooks=hooks):
        runs.model(runs.batches[0].clean)
    return [seen[name] for name in names]


def query_key_terms(terms):
    """``(pair, query writer, key writer, query, key)``: every term of every score."""
    (_, q), (_, k) = terms.sides("q"), terms.sides("k")
    return torch.einsum("bque,bkwe->buwqk", q, k) * terms.scale


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gpt-neox", "mistral"])
def test_terms_sum_to_the_scores_of_the_model(family):
    runs = runs_of(family)
    terms = head_terms(runs, runs.batches[0], LAYER, HEAD)
    (own,) = seen_in(runs, f"blocks.{LAYER}.attn.hook_attn_scores")
    total = query_key_terms(terms).sum((1, 2))
    there = own[:, HEAD] > -1e4
    assert int(there.sum()) > 20
    assert torch.allclose(total[there].float(), own[:, HEAD][there], atol=1e-5, rtol=1e-5)
    assert terms.errors["score"] < 1e-5


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_centred_terms_weighted_by_attention_sum_to_zero(family):
    runs = runs_of(family)
    terms = head_terms(runs, runs.batches[0], LAYER, HEAD)
    (_, q), (_, k) = terms.sides("q"), terms.sides("k")
    query = torch.tensor([3, 5])
    centred = torch.einsum("bue,bkwe->buwk", q[[0, 1], query], terms.centred(k, query)) * terms.scale
    weights = terms.pattern[[0, 1], query]
    assert centred.abs().max() > 0.01
    assert torch.einsum("buwk,bk->buw", centred, weights).abs().max() < 1e-6  # the pattern is in float32


def test_deleting_a_writer_moves_the_score_by_its_term_by_hand():
    """GPT-2's LayerNorm written out with its scale held constant."""
    runs = runs_of("gpt2")
    terms = head_terms(runs, runs.batches[0], LAYER, HEAD)
    attn, norm = runs.model.blocks[LAYER].attn, runs.model.blocks[LAYER].ln1.original_component
    x = runs.resid(runs.batches[0], "clean", LAYER).double()
    sigma = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()

    def query(stream):
        normed = (stream - stream.mean(-1, keepdim=True)) / sigma * norm.weight + norm.bias
        return normed @ attn.W_Q[HEAD].double() + attn.b_Q[HEAD]

    normed = (x - x.mean(-1, keepdim=True)) / sigma * norm.weight + norm.bias
    key = normed @ attn.W_K[HEAD].double() + attn.b_K[HEAD]
    part = query_key_terms(terms).sum(2)  # (pair, query writer, query, key)
    for u in range(terms.written.shape[2]):
        moved = query(x - terms.written[:, :, u].double()) - query(x)
        assert torch.allclose(moved @ key.transpose(1, 2) / 8**0.5, -part[:, u], atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("slot", ["q", "k"])
def test_attention_without_a_writer_is_that_of_the_edited_model(family, slot):
    runs = runs_of(family)
    reason = wb.why(runs, f"a0.h1->a{LAYER}.h{HEAD}<{slot}>", at="end")
    batch, attn = runs.batches[0], runs.model.blocks[LAYER].attn
    z, x = seen_in(runs, "blocks.0.attn.hook_z", f"blocks.{LAYER}.hook_in")
    without = x - z[:, :, 1] @ runs.model.blocks[0].attn.W_O[1]
    matrix = attn.W_Q if slot == "q" else attn.W_K
    bias = getattr(attn, f"b_{slot.upper()}")
    head = HEAD if slot == "q" else HEAD * len(matrix) // 4
    normed = runs.model.blocks[LAYER].ln1.original_component(without)
    new = normed @ matrix[head] + (0 if bias is None else bias[head])

    def put(tensor, hook):
        tensor[:, :, head] = new
        return tensor

    name, seen = f"blocks.{LAYER}.attn.hook_pattern", {}
    look = (name, lambda t, hook: seen.__setitem__("pattern", t.detach()))
    with torch.no_grad(), runs.model.hooks(fwd_hooks=[(f"blocks.{LAYER}.attn.hook_{slot}", put), look]):
        runs.model(batch.clean)
    before = seen_in(runs, name)[0][:, HEAD]
    query, key = reason_places(reason, before, batch, slot)
    live = seen["pattern"][:, HEAD][[0, 1], query, key].mean()
    facts = dict(reason.facts)
    assert facts["without a0.h1, norms live"] == pytest.approx(float(live), abs=1e-5)
    assert facts["attention to the key"] == pytest.approx(float(before[[0, 1], query, key].mean()), abs=1e-5)


def reason_places(reason, pattern, batch, slot):
    """The query and key of each pair, from the table of places: one pair of places for both here, or one for each."""
    end = batch.answer_pos
    if slot == "q":
        return end, pattern[[0, 1], end].argmax(-1)
    return end, end  # the last key is seen by the last query alone


def test_the_first_order_score_of_the_edge_is_that_of_eap():
    runs = runs_of("qwen3", 3)  # two lengths of prompts
    scores, graph = wb.score(runs, "eap"), runs.wiring.graph()
    for slot in "q":
        edge = f"m0->a{LAYER}.h{HEAD}<{slot}>"
        row = [str(s) for s in graph.sources].index("m0")
        column = [str(t) for t in graph.targets].index(edge.split("->")[1])
        reason = wb.why(runs, edge)
        found = next(v for name, v in reason.facts.items() if name.startswith("edge score"))
        assert found == pytest.approx(float(scores.values[row, column]), rel=1e-4)
        assert found == pytest.approx(
            reason.facts["of it through the score, norms frozen"] + reason.facts["of it through the norms"]
        )


def test_in_the_first_layer_only_the_input_and_biases_are_there():
    reason = wb.why(runs_of("gpt2"), "input->a0.h2<q>")
    assert set(reason.rankings[0].labels) == {"input", "query bias"}
    assert set(reason.rankings[1].labels) == {"input", "key bias"}


def test_rankings_sum_to_the_same_number_and_shares_to_one():
    own, met, other = wb.why(runs_of("llama", 3), "m0->a2.h1<q>").rankings
    assert own.total == pytest.approx(other.total)
    assert own.values.sum(0) == pytest.approx(other.values.sum(0))
    assert met.values.sum(0) == pytest.approx(own.values[own.labels.index("m0")])
    assert own.rows()[-1]["cumulative"] == pytest.approx(1.0)


def test_the_reason_of_a_compiled_induction_head_is_in_its_program():
    """Score 80 for a match of the current token with the previous token's code, 64 for its resting place."""
    truth = wb.load_truth("zoo:truth-induction")
    runs = wb.paired_runs(wb.open_model("zoo:truth-induction"), truth.pairs(4))
    reason = wb.why(runs, "a0.h1->a1.h0<k>")
    writes, met, _ = reason.rankings
    assert [row["term"] for row in writes.rows(2)] == ["a0.h1", "input"]
    assert [row["mean"] for row in writes.rows(2)] == pytest.approx([80, -64], abs=1e-4)
    assert met.rows(1)[0]["term"] == "input" and met.rows(1)[0]["share"] == pytest.approx(1)
    assert reason.facts["attention to the key"] == pytest.approx(1, abs=1e-5)
    assert reason.facts["without the part of a0.h1, norms frozen"] < 1e-20


def test_the_reason_of_a_compiled_name_mover_is_what_its_program_inhibits():
    """Weight 12: the S-inhibition head's code of the subject, met by the token's own code; a start scores 6."""
    runs = wb.paired_runs(wb.open_model("zoo:truth-ioi"), wb.load_truth("zoo:truth-ioi").pairs(6))
    query, met, _ = wb.why(runs, "a1.h2->a2.h0<q>").rankings
    assert query.rank("a1.h2") == 1 and query.share[query.labels.index("a1.h2")] == pytest.approx(1, abs=0.01)
    assert query.rows(1)[0]["mean"] == pytest.approx(12, abs=1.5)  # codes of words are nearly orthogonal
    assert met.rows(1)[0]["term"] == "input"
    writes = wb.why(runs, "a0.h1->a1.h2<k>").rankings[0].rows(2)
    assert [row["term"] for row in writes] == ["a0.h1", "input"]
    assert [row["mean"] for row in writes] == pytest.approx([12, -6], abs=0.5)


def test_a_compiled_name_mover_carries_the_indirect_object_to_its_own_logit():
    runs = wb.paired_runs(wb.open_model("zoo:truth-ioi"), wb.load_truth("zoo:truth-ioi").pairs(4))
    for edge in ("a2.h0->logits", "input->a2.h0<v>"):
        reason = wb.why(runs, edge)
        assert reason.rankings[0].rows(1)[0]["term"] == "IO"
        assert reason.rankings[-1].rows(1)[0]["term"] == "input"
        assert reason.facts["the logit it raises most is that of the carried token"] == "4 of 4 pairs"


@pytest.mark.parametrize("slot", ["k", "v"])
def test_scores_of_the_heads_of_a_group_sum_to_that_of_eap(slot):
    runs = runs_of("qwen3", 3)
    scores, graph = wb.score(runs, "eap"), runs.wiring.graph()
    column = [str(t) for t in graph.targets].index(f"a1.g1<{slot}>")
    row = [str(s) for s in graph.sources].index("m0")
    reasons = [wb.why(runs, f"m0->a1.h{head}<{slot}>") for head in (2, 3)]
    found = [v for r in reasons for name, v in r.facts.items() if name.startswith("edge score")]
    assert sum(found) == pytest.approx(float(scores.values[row, column]), rel=1e-4)
    if slot == "v":
        by_key, by_query, writers = reasons[0].rankings
        assert by_key.total == pytest.approx(by_query.total)
        assert by_key.total == pytest.approx(float(writers.mean[writers.labels.index("m0")]))


def test_what_a_head_adds_to_the_logits_is_its_output_through_the_frozen_norm_by_hand():
    runs = runs_of("gpt2")
    by_place, writers = wb.why(runs, "a1.h3->logits").rankings
    z, last = seen_in(runs, "blocks.1.attn.hook_z", "blocks.2.hook_out")
    batch, norm = runs.batches[0], runs.model.ln_final.original_component
    write, x = z[:, -1, 3] @ runs.model.blocks[1].attn.W_O[3], last[:, -1]
    sigma = (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    logits = (write - write.mean(-1, keepdim=True)) / sigma * norm.weight @ runs.model.unembed.W_U
    answers = batch.answers
    gap = logits.gather(1, answers.correct) - logits.gather(1, answers.incorrect)
    order = batch.index.argsort()
    assert by_place.values.sum(0) == pytest.approx(gap[:, 0].detach().numpy()[order], abs=1e-5)
    assert writers.values.sum(0) == pytest.approx(by_place.values.sum(0))


def test_a_soft_cap_is_said_and_other_scores_are_refused():
    assert "soft-capped at 50" in wb.why(runs_of("gemma2"), "m0->a1.h3<q>").notes[-1]
    with pytest.raises(ModelError, match="not the softmax of its queries times its keys"):
        wb.why(runs_of("bloom"), "m0->a1.h3<q>")


def test_the_model_stays_as_it_was():
    runs = runs_of("qwen3")
    before = [p.clone() for p in runs.model.parameters()]
    first = wb.why(runs, "m0->a1.h3<q>")
    assert is_bare(runs.model) and all(p.grad is None for p in runs.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, runs.model.parameters(), strict=True))
    assert wb.why(runs, "m0->a1.h3<q>").to_dict() == first.to_dict()


@pytest.mark.parametrize(
    ("family", "edge", "said"),
    [
        ("llama", "m0->a1.g1<k>", "a1.h2<k>, a1.h3<k>"),
        ("gpt2", "m1->a1.h0<q>", "writes nothing that a1.h0<q> reads"),
        ("gpt2", "m1->m0", "writes nothing that m0 reads"),
        ("gpt2", "m0->m9", "the model has no m9"),
        ("gpt2", "m0->logits", "m0 is no head"),
        ("gemma2", "a1.h0->logits", "writes nothing that logits reads"),
        ("gpt2", "m0->a1.h9<q>", "no head a1.h9"),
    ],
)
def test_what_is_no_such_edge_is_refused(family, edge, said):
    with pytest.raises(OptionError) as problem:
        wb.why(runs_of(family), edge)
    assert said in str(problem.value)


@pytest.mark.parametrize("family", ["gpt2", "gpt-neox"])  # after attention, and beside it
def test_writers_sum_to_what_hidden_units_read_and_units_to_the_score_of_eap(family):
    runs = runs_of(family, 3)
    batch = runs.batches[0]
    terms = neuron_terms(runs, batch, LAYER)
    (own,) = seen_in(runs, f"blocks.{LAYER}.mlp.in.hook_out")
    for unit in (0, 7):
        assert torch.allclose(terms.of_unit(unit)[1].sum(2).float(), own[..., unit], atol=1e-5)
    assert terms.errors["pre-activations"] < 1e-6 and terms.errors["output of the MLP"] < 1e-5
    scores, graph = wb.score(runs, "eap"), runs.wiring.graph()
    for source in ("a0.h1", *(["a1.h2"] if family == "gpt2" else [])):
        reason = wb.why(runs, f"{source}->m{LAYER}")
        row = [str(s) for s in graph.sources].index(source)
        column = [str(t) for t in graph.targets].index(f"m{LAYER}")
        found = next(v for name, v in reason.facts.items() if name.startswith("edge score"))
        assert found == pytest.approx(float(scores.values[row, column]), rel=1e-4)
        units, places, read = reason.rankings
        through = reason.facts["of it through what units read, norm frozen"]
        assert units.total == pytest.approx(through) == pytest.approx(places.total)
        assert found == pytest.approx(through + reason.facts["of it through the norm"])
        assert read.labels[-1] == "unit's bias" and source in read.labels
    assert sum("raises directly" in name for name in reason.facts) == 3


def test_gated_units_are_refused_with_the_reason():
    with pytest.raises(ModelError, match="edges into m1 have no reason here: its hidden units are products"):
        wb.why(runs_of("llama"), "m0->m1")


def test_card_and_page_have_its_tables():
    reason = wb.why(runs_of("gpt2"), "m0->a1.h3<q>")
    assert "Why m0-&gt;a1.h3&lt;q&gt;" in reason.page() and "query bias" in reason.page()
    html = reason._repr_html_()
    assert "who writes the query" in html and "m0" in html and "<script" not in html
