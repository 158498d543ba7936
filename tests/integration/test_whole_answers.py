"""Answers of several tokens, chat templates and BOS in pairs: by the plain model, token by token."""

import pytest
import torch

import workbench as wb
from workbench.commands.asked.evaluate import case_of, manner_of
from workbench.commands.forms.evaluate import Evaluate
from workbench.core.errors import ModelError, OptionError, TaskError
from workbench.core.run_record import measured_on
from workbench.model.reading import reading_of_model
from workbench.tasks.alignment import align
from workbench.tasks.outputs import Outputs
from workbench.tasks.reading import WHOLE

TEMPLATE = "{% for m in messages %}gave to {{ m['content'] }}{% endfor %}{% if add_generation_prompt %} and{% endif %}"
PAIRS = [
    ("Mary and John went to the store", "John and Mary went to the store", " and Mary gave", " drink"),
    ("Mary gave a drink", "John gave a drink", " to", " store"),
    ("Mary and John gave a drink", "Mary and Mary gave a drink", " to the store", " Mary"),
]


@pytest.fixture(scope="module")
def model(bridge_of):
    return bridge_of("llama")


@pytest.fixture(scope="module")
def runs(model):
    return wb.paired_runs(model, PAIRS, metric="answer-logprob")


def ids_of(model, text):
    return [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False)["input_ids"]]


@torch.no_grad()
def spelled(model, text, answer, hooks=()):
    """Summed log-probability of an answer, one pass for each of its tokens."""
    ids, total, right = ids_of(model, text), 0.0, True
    for token in model.tokenizer(answer, add_special_tokens=False)["input_ids"]:
        logits = model.run_with_hooks(torch.tensor([ids]), fwd_hooks=list(hooks))[0, -1].double()
        total, right = total + float(logits.log_softmax(-1)[token]), right and int(logits.argmax()) == token
        ids = [*ids, token]
    return total, right


def test_the_metric_is_the_sum_over_one_pass_for_each_token(model, runs):
    for side, found in ((0, runs.clean), (1, runs.corrupted)):
        assert found.tolist() == pytest.approx([spelled(model, p[side], p[2])[0] for p in PAIRS], abs=1e-4)
    assert runs.right.tolist() == [spelled(model, p[0], p[2])[1] for p in PAIRS]
    assert {len(answer) for answer in runs.pairs.correct} == {3, 1} and runs.behavior.guess == 0
    again = wb.paired_runs(model, PAIRS[::-1], metric="answer-logprob", batch_tokens=16)
    assert again.clean[::-1] == pytest.approx(runs.clean, abs=1e-5)


BOTH = [
    ("Mary and John went to the store", "John and Mary went to the store", " and Mary gave", " drink"),
    ("Mary gave a drink", "John gave a drink", " to", " to the store"),
]


def test_the_difference_is_one_pass_for_each_token_of_both_answers(model):
    runs = wb.paired_runs(model, BOTH, metric="answer-logprob-difference")
    sides = [
        [(spelled(model, p[side], p[2]), spelled(model, p[side], p[3])) for p in BOTH] for side in (0, 1)
    ]
    for own, found in zip(sides, (runs.clean, runs.corrupted), strict=True):
        rows = [value for right, wrong in own for value in (2 * right[0], -2 * wrong[0])]
        assert found.tolist() == pytest.approx(rows, abs=1e-4)
        assert found.mean() == pytest.approx(sum(r[0] - w[0] for r, w in own) / 2, abs=1e-4)
    assert runs.right.tolist() == [x for right, wrong in sides[0] for x in (right[1], not wrong[1])]
    assert runs.pairs.pairs.clusters == (0, 0, 1, 1) and runs.n_pairs == 4  # two rows are one draw
    alone = [
        wb.ablate(wb.paired_runs(model, pairs, metric="answer-logprob"), ["a1.h2"]).mean[0]
        for pairs in (BOTH, [(a, b, wrong, right) for a, b, right, wrong in BOTH])
    ]
    assert wb.ablate(runs, ["a1.h2"]).mean[0] == pytest.approx(alone[0] - alone[1], abs=1e-4)
    scores = wb.score(runs, "eap")
    assert wb.faithfulness(scores.top(scores.graph.n_edges), runs).faithfulness == pytest.approx(1, abs=1e-4)


def test_pairs_without_two_answers_are_dropped_with_the_reason_and_other_readings_refused(model, runs):
    bare = {"id": "bare", "clean": BOTH[0][0], "corrupted": BOTH[0][1], "correct": [" drink"]}
    more = {**bare, "id": "more", "incorrect": [" to", " store"]}
    unknown = {**bare, "id": "unknown", "incorrect": [" zyx"]}
    given = [*wb.as_pairs(BOTH), *wb.as_pairs([bare, more, unknown])]
    found = wb.paired_runs(model, given, metric="answer-logprob-difference")
    assert found.n_pairs == 4 and [drop.id for drop in found.pairs.dropped] == ["bare", "more", "unknown"]
    assert "0 incorrect answers; two whole answers need exactly one" in found.pairs.dropped[0].reason
    assert "zyx" in found.pairs.dropped[2].reason
    for pairs, metric in ((runs.pairs, "answer-logprob-difference"), (found.pairs, "answer-logprob")):
        with pytest.raises(OptionError, match="cannot be taken on these pairs"):
            wb.paired_runs(model, pairs, metric=metric)
    with pytest.raises(OptionError, match="cannot be taken on these pairs"):
        wb.paired_runs(model, found.pairs, metric="logit-difference")


def test_ablating_a_head_is_the_hook_at_prompt_and_answer(model, runs):
    """Clean prompt and answer, with the head of the corrupted prompt and the same answer."""
    name, expected = "blocks.1.attn.hook_z", []
    for clean, corrupted, answer, _ in PAIRS:
        with torch.no_grad():
            _, other = model.run_with_cache(torch.tensor([ids_of(model, corrupted + answer)]))

        def put(z, hook, other=other):
            z = z.clone()
            z[:, :, 2] = other[name][:, : z.shape[1], 2]
            return z

        expected.append(spelled(model, clean, answer)[0] - spelled(model, clean, answer, [(name, put)])[0])
    found = wb.ablate(runs, ["a1.h2"])
    assert found.per_pair[0].tolist() == pytest.approx(expected, abs=1e-4) and found.unit == "nats"


def test_gradients_go_through_all_tokens(runs):
    scores = wb.score(runs, "eap")
    whole = wb.faithfulness(scores.top(scores.graph.n_edges), runs)
    assert whole.faithfulness == pytest.approx(1, abs=1e-4)


def test_an_answer_of_one_token_is_minus_the_nll(model):
    one = [PAIRS[1]]
    whole, nll = (wb.paired_runs(model, one, metric=name) for name in ("answer-logprob", "nll"))
    assert whole.clean == pytest.approx(-nll.clean, abs=1e-6)
    assert wb.paired_runs(model, nll.pairs, metric="answer-logprob").clean == pytest.approx(whole.clean)


def test_a_file_that_names_the_metric_is_checked_and_read_with_it(model, runs, tmp_path):
    wb.as_pairs(PAIRS).save(tmp_path / "pairs.jsonl")
    head, *rest = (tmp_path / "pairs.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "pairs.jsonl").write_text("".join([head.replace("logit-difference", WHOLE), *rest]))
    found = wb.check_pairs(tmp_path / "pairs.jsonl", reading=reading_of_model(model))
    assert found.passes and found.n_good == 3
    assert wb.paired_runs(model, tmp_path / "pairs.jsonl").clean == pytest.approx(runs.clean)
    assert len(wb.paired_runs(model, tmp_path / "pairs.jsonl", metric="nll").pairs.dropped) == 2


def test_what_a_metric_cannot_mean_is_refused(model, runs):
    with pytest.raises(TaskError, match="is 3 tokens, not one") as caught:
        wb.paired_runs(model, [PAIRS[0]])
    assert "--metric answer-logprob" in caught.value.hint
    with pytest.raises(OptionError, match="were read with whole answers"):
        wb.paired_runs(model, runs.pairs, metric="logit-difference")
    two = {"clean": PAIRS[0][0], "corrupted": PAIRS[0][1], "correct": [" drink", " store"]}
    with pytest.raises(TaskError, match="2 correct answers; a whole answer is exactly one"):
        wb.paired_runs(model, [two], metric="answer-logprob")
    how = {"prepend_bos": True, "whole_answers": True}
    for more in ({"outputs": Outputs(size=2, classes=("odd", "even"))}, {"special_tokens": True}):
        with pytest.raises(OptionError, match="reads answers token by token, and this model"):
            align(runs.pairs.pairs, model.tokenizer, **how, **more)
    with pytest.raises(ModelError, match="no logits of one position"):
        wb.direct_logits(runs)


def test_prompts_stand_in_the_chat_template_and_positions_move_along(model, monkeypatch):
    pairs = [{"clean": "Mary gave a drink", "corrupted": "John gave a drink", "correct": [" to"],
              "positions": {"who": [[0, 4], [0, 4]]}}]  # fmt: skip
    with pytest.raises(OptionError, match="no chat template"):
        wb.paired_runs(model, pairs, metric="nll", chat=True)
    monkeypatch.setattr(model.tokenizer, "chat_template", TEMPLATE, raising=False)
    plain, chat = (wb.paired_runs(model, pairs, metric="nll", chat=asked) for asked in (False, True))
    assert chat.pairs.pairs[0].clean == "gave to Mary gave a drink and"
    assert chat.pairs.positions[0]["who"] == plain.pairs.positions[0]["who"] + 2  # gave to
    ids = chat.pairs.clean[0].tolist()
    assert ids == ids_of(model, "gave to Mary gave a drink and")
    assert chat.provenance()["chat"] is True and chat.tokens_digest != plain.tokens_digest
    assert measured_on("m", chat.provenance()) == "m with prompts in its chat template"
    with pytest.raises(OptionError, match="are tokens already"):
        wb.paired_runs(model, plain.pairs, chat=True)


def test_bos_on_and_off_in_pairs_is_recorded_and_a_circuit_is_judged_as_it_was_found(model, tmp_path):
    usual, without = (wb.paired_runs(model, PAIRS[1:2], bos=bos) for bos in (None, False))
    assert usual.pairs.clean[0].tolist() == [model.tokenizer.bos_token_id, *without.pairs.clean[0].tolist()]
    assert without.provenance()["bos"] == "off" and "bos" not in usual.provenance()
    assert measured_on("m", without.provenance()) == "m with no token that starts a prompt"
    found = wb.discover(without, "eap", amount="50%", test_runs=without, random_draws=1, exact_sample=0)
    wb.save_circuit(found.circuit, tmp_path / "c")
    asked = Evaluate(circuit=tmp_path / "c", task="pairs.jsonl")
    assert manner_of(case_of(asked), asked) == {"bos": "off", "chat": False}
    other = Evaluate(circuit=tmp_path / "c", task="pairs.jsonl", model="zoo:ioi")
    assert manner_of(case_of(other), other) == {"bos": None, "chat": False}
