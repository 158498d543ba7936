"""Few-shot prompts of mapping tasks: right answers, splits that hold, misleading examples where they were asked for."""

from __future__ import annotations

import pytest

from workbench.core.errors import OptionError, TaskError
from workbench.tasks.mappings import KINDS, MAPPINGS, SIZE, WORDS, draw_shots, find_mapping


def test_words_are_paired_by_their_place():
    assert {len(words) for words in KINDS.values()} == {SIZE}
    assert len(set(WORDS)) == len(WORDS) == 7 * 26 + 2
    assert find_mapping("number-to-animal").answer("3") == "cat"
    assert find_mapping("animal-to-animal").answer("cat") == "cat"
    assert find_mapping("pick-number").answer("x 7 dog") == "7"
    for kind in ("animal", "city", "food"):
        assert all(
            word[0].lower() == letter for word, letter in zip(KINDS[kind], KINDS["letter"], strict=True)
        )


def test_what_is_no_input_is_refused():
    with pytest.raises(TaskError):
        find_mapping("number-to-animal").answer("cat")
    with pytest.raises(TaskError):
        find_mapping("pick-number").answer("x dog dog")
    with pytest.raises(OptionError, match="did you mean"):
        find_mapping("number-to-animals")


def test_a_prompt_reads_as_it_should():
    shot = draw_shots("letter-to-food", 1, shots=2, seed=3)[0]
    (first, one), (second, two) = shot.examples
    assert shot.text == f"{first} -> {one} ; {second} -> {two} ; {shot.question} ->"
    assert shot.zero_shot == f"{shot.question} ->"
    assert len({first, second, shot.question}) == 3


@pytest.mark.parametrize("task", ["person-to-city", "pick-animal"])
def test_words_of_one_set_are_asked_and_of_another_shown(task):
    asked, shown = (0, 4, 9), (1, 2, 3, 5, 6)
    shots = draw_shots(task, 30, shots=4, seed=0, places=asked, shown=shown)
    place = {word: i for words in KINDS.values() for i, word in enumerate(words)}
    assert {place[w] for s in shots for w in s.question.split()} == set(asked)
    assert {place[w] for s in shots for given, _ in s.examples for w in given.split()} == set(shown)
    assert [s.answer for s in shots] == [MAPPINGS[task].answer(s.question) for s in shots]


def test_examples_mislead_as_often_as_asked():
    for wrong, low, high in ((0.0, 0.0, 0.0), (0.5, 0.42, 0.58), (1.0, 1.0, 1.0)):
        shots = draw_shots("letter-to-city", 50, shots=6, seed=1, wrong=wrong)
        rule = find_mapping("letter-to-city")
        false = [answer != rule.answer(given) for s in shots for given, answer in s.examples]
        assert low <= sum(false) / len(false) <= high
        assert all(s.answer == rule.answer(s.question) for s in shots)


def test_more_examples_than_words_are_refused():
    with pytest.raises(OptionError, match="not enough words"):
        draw_shots("letter-to-city", 1, shots=3, seed=0, places=(0,), shown=(0, 1, 2))


def test_two_of_each_tasks_pairs_are_held_out():
    counts = {
        name: sum(task.held_out(word) for word in KINDS[task.inputs])
        for name, task in MAPPINGS.items()
        if task.inputs != "three"
    }
    assert len(counts) == 49 and set(counts.values()) == {2}
    of_number = [task for task in MAPPINGS.values() if task.inputs == "number"]
    assert any(task.held_out("3") for task in of_number) and not all(task.held_out("3") for task in of_number)


def test_tasks_that_give_one_kind_are_similar():
    number, letter = find_mapping("number-to-animal"), find_mapping("letter-to-animal")
    assert number.similar(letter) and not number.similar(find_mapping("number-to-city"))
    assert not letter.similar(find_mapping("pick-animal"))
    assert number.turned("city", "3") == "Cairo"
    assert find_mapping("pick-letter").turned("number", "x 7 dog") == "7"
