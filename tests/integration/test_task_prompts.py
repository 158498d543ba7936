"""Which other task a task is compared with, and what it would answer; by hand from the words of the tasks."""

from __future__ import annotations

import pytest
import torch

from workbench.edits.questions import Questions
from workbench.edits.task_prompts import Prompts, asked_as, scrambled, unlike
from workbench.model.open import open_model
from workbench.tasks.mappings import find_mapping


def prompts(task: str, words: tuple[str, ...] = ("Athens",)) -> Prompts:
    """Prompts of a task about these words; row ``i`` is the token ``i``."""
    asked = Questions(rows=tuple((i,) for i in range(len(words))), answers=(0,) * len(words))
    return Prompts(
        task=find_mapping(task),
        training=asked,
        validation=asked,
        test=asked,
        shown=asked,
        words=words,
        embedding=torch.zeros(1, 1, 1),
        single=asked.rows[:1],
    )


@pytest.mark.parametrize(
    ("tasks", "i", "expected"),
    [
        (("city-to-food", "animal-to-food", "food-to-city"), 0, "food-to-city"),  # the next gives food too
        (("city-to-food", "food-to-city", "animal-to-food"), 1, "animal-to-food"),
        (("city-to-food", "food-to-city", "animal-to-food"), 2, "food-to-city"),  # around the end
        (("pick-letter", "city-to-food", "pick-number"), 0, "pick-number"),  # three words as well
        (("pick-letter", "city-to-food", "animal-to-city"), 0, "city-to-food"),  # none has three
        (("city-to-food", "pick-letter", "city-to-person"), 0, "city-to-person"),
        (("city-to-food", "animal-to-food"), 0, "animal-to-food"),  # there is no other kind
    ],
)
def test_the_next_task_that_gives_words_of_another_kind(tasks, i, expected):
    assert unlike([prompts(task) for task in tasks], i).task.name == expected


def test_questions_get_the_answers_of_the_other_task_and_those_without_one_are_left_out():
    model = open_model("zoo:icl", device="cpu")
    known = model.tokenizer.convert_tokens_to_ids
    # Athens and Cairo are the first and third city; apple and cake the first and third food
    found = asked_as(model, prompts("city-to-letter", ("Athens", "Cairo")), prompts("animal-to-food"))
    assert found == Questions(rows=((0,), (1,)), answers=(known("apple"), known("cake")))
    picked = prompts("pick-letter", ("c 7 dog", "7 c apple", "dog 7 c"))
    as_animal = asked_as(model, picked, prompts("pick-animal"))
    assert as_animal == Questions(rows=((0,), (2,)), answers=(known("dog"),) * 2)  # no animal in the second
    assert asked_as(model, picked, prompts("animal-to-city")) is None


def test_scrambled_vectors_are_as_long_as_the_embedding_and_point_elsewhere():
    own = torch.zeros(2, 2, 64)
    own[0, 0, :2], own[0, 1, 5], own[1, 1, 7] = torch.tensor([3.0, 4.0]), 2.0, 1.0  # lengths 5, 2, 0, 1
    found = scrambled(own, seed=3)
    assert torch.allclose(found.norm(dim=-1), torch.tensor([[5.0, 2.0], [0.0, 1.0]]), atol=1e-5)
    along = (found * own).sum(-1).abs() / own.norm(dim=-1).square().clamp(min=1)
    assert along.max() < 0.5  # a cosine of two unrelated vectors in 64 dimensions: 0.125 on average
    assert torch.equal(found, scrambled(own, seed=3)) and not torch.equal(found, scrambled(own, seed=4))
