"""The recipe of the model that learns tasks from examples: its texts, and that training repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.model.open import open_model
from workbench.tasks.mappings import KINDS, MAPPINGS, WORDS
from workbench.training import few_shot
from workbench.training.vocabulary import word_tokenizer


@pytest.fixture(scope="module")
def texts():
    return few_shot.FewShotTexts(word_tokenizer(WORDS))


def words_of(ids: torch.Tensor) -> list[list[tuple[str, str]]]:
    """The (input, answer) pairs of each text."""
    names = ["<bos>", "<eos>", "<pad>", "<unk>", *WORDS]
    said = [" ".join(names[i] for i in row[1:]) for row in ids.tolist()]
    return [[tuple(pair.split(" -> ")) for pair in text.removesuffix(" ;").split(" ; ")] for text in said]


def test_a_text_shows_one_task_and_no_held_out_pair(texts):
    for rows in words_of(texts.words(np.random.default_rng(0), 60)):
        fits = [
            task
            for task in MAPPINGS.values()
            if task.inputs != "three"
            and all(given in KINDS[task.inputs] and task.answer(given) == answer for given, answer in rows)
        ]
        assert len(fits) == 1 and len(rows) == 9 == len({given for given, _ in rows})
        assert not any(fits[0].held_out(given) for given, _ in rows)


def test_texts_of_three_words_pick_one_kind(texts):
    seen = set()
    for rows in words_of(texts.threes(np.random.default_rng(0), 30)):
        kinds = {next(kind for kind, words in KINDS.items() if answer in words) for _, answer in rows}
        assert len(kinds) == 1 and len(rows) == 6
        assert all(answer in given.split() and len(given.split()) == 3 for given, answer in rows)
        seen |= kinds
    assert seen == {"letter", "number", "animal"}


def test_training_repeats_itself_and_follows_its_seed():
    torch.set_num_threads(1)
    one, again, other = (few_shot.train(seed, steps=2, texts=8).model.state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_the_shipped_model_reaches_pairs_it_was_never_shown():
    """With examples the held-out animals of two numbers are named, without examples they are not."""
    task = MAPPINGS["number-to-animal"]
    held_out = [word for word in KINDS["number"] if task.held_out(word)]
    model = open_model("zoo:icl")
    for word in held_out:
        shown = [w for w in KINDS["number"] if w not in held_out][:4]
        prompt = " ".join(f"{w} -> {KINDS['animal'][int(w) - 1]} ;" for w in shown) + f" {word} ->"
        with torch.no_grad():
            said = int(model(model.to_tokens(prompt))[0, -1].argmax())
            unasked = int(model(model.to_tokens(f"{word} ->"))[0, -1].argmax())
        animal = KINDS["animal"][int(word) - 1]
        assert model.tokenizer.decode(said).strip() == animal
        assert model.tokenizer.decode(unasked).strip() != animal
