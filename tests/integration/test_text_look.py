"""One prompt through a model: next tokens, answers of several tokens, the lens and attention by the plain model."""

import numpy as np
import pytest
import torch

import workbench as wb
from tests.families import family_dir
from workbench.core.errors import ModelError, OptionError, TaskError
from workbench.model.bare import is_bare

TEXT = "Mary and John went to the store and Mary gave"


@pytest.fixture(scope="module")
def model():
    return wb.open_model(str(family_dir("llama")))


@pytest.fixture(scope="module")
def seen(model):
    return wb.look(model, TEXT, answers=[" drink", "bottle of milk"])


def ids_of(model, text, *, bos):
    inner = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor([[model.tokenizer.bos_token_id, *inner] if bos else inner])


def test_next_tokens_are_the_softmax_of_the_models_logits(model, seen):
    with torch.no_grad():
        logits = model(ids_of(model, TEXT, bos=seen.bos))[0, -1].double()
    best = logits.softmax(-1).topk(8)
    assert [one.probability for one in seen.next] == pytest.approx(best.values.tolist(), rel=1e-4)
    assert [one.token for one in seen.next] == [model.tokenizer.decode([i]) for i in best.indices.tolist()]


def test_the_last_stream_says_what_the_model_says(seen):
    assert seen.lens.rank[-1] == 0 and seen.lens.tokens[-1][-1] == seen.next[0].token
    assert seen.lens.probability[-1, -1] == pytest.approx(seen.next[0].probability, rel=1e-4)
    assert len(seen.lens.tokens) == 4 and len(seen.lens.tokens[0]) == len(seen.tokens)


def test_answers_of_several_tokens_are_summed_token_by_token(model, seen):
    ids, total = ids_of(model, TEXT, bos=seen.bos), 0.0
    for token in model.tokenizer("bottle of milk", add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            total += float(model(ids)[0, -1].double().log_softmax(-1)[token])
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    said = seen.answers[1]
    assert len(said.tokens) == 3 and said.log_probability == pytest.approx(total, rel=1e-4)


def test_parts_sum_to_the_difference_of_the_first_tokens(model, seen):
    with torch.no_grad():
        logits = model(ids_of(model, TEXT, bos=seen.bos))[0, -1].double()
    first = [
        model.tokenizer(t, add_special_tokens=False)["input_ids"][0] for t in (" drink", "bottle of milk")
    ]
    assert seen.parts.values.sum() == pytest.approx(float(logits[first[0]] - logits[first[1]]), abs=1e-4)


def test_attention_from_the_last_token_is_the_models(model, seen):
    own = wb.patterns_of(model, ids_of(model, TEXT, bos=seen.bos)).patterns[1][0, 2, -1]
    assert seen.from_end["a1.h2"] == pytest.approx(own.numpy(), abs=1 / 255)
    assert is_bare(model)


def test_the_token_that_starts_a_prompt_can_be_left_out(model):
    on, off = (wb.look(model, TEXT, bos=bos) for bos in (True, False))
    assert on.tokens == ("<bos>", *off.tokens) and not off.bos
    assert on.next[0].probability != off.next[0].probability
    usual = wb.look(model, TEXT)
    assert {usual.bos, not usual.bos} == {True, False}
    other = off if usual.bos else on
    assert any("usually reads prompts" in note for note in other.notes) and not usual.notes


def test_a_chat_template_is_put_around_the_text(model, monkeypatch):
    template = "{% for m in messages %}When {{ m.content }}{% endfor %}{% if add_generation_prompt %} Then{% endif %}"
    monkeypatch.setattr(model.tokenizer, "chat_template", template, raising=False)
    look = wb.look(model, TEXT, chat=True)
    assert look.shown == f"When {TEXT} Then" and look.text == TEXT and look.chat
    assert look.next == wb.look(model, f"When {TEXT} Then").next


def test_nothing_in_a_prompt_becomes_markup(model):
    look = wb.look(model, "Mary <b>onerror</b> gave", top=1)
    assert "<b>onerror" not in look.page() and "unknown to the tokenizer" in look.notes[0]
    row = np.array(next(iter(look.from_end.values())))
    assert row.sum() == pytest.approx(1, abs=0.02)


def test_what_is_no_next_token_is_refused(model):
    with pytest.raises(TaskError, match="no tokens"):
        wb.look(model, "")
    with pytest.raises(OptionError, match="no chat template"):
        wb.look(model, TEXT, chat=True)
    with pytest.raises(TaskError, match="does not know the answer"):
        wb.look(model, TEXT, answers=["Xanadu"])
    with pytest.raises(ModelError, match=r"predicts no next token|puts out words"):
        wb.look(wb.open_model(str(family_dir("bert"))), TEXT)
