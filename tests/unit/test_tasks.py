"""Generators: deterministic, minimal, with positions on the right words and splits that share nothing."""

import hashlib
import json
import os
import re
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path

import pytest

import workbench
from workbench.core.errors import OptionError, TaskError
from workbench.tasks import colored_objects, docstring, gendered_pronoun, greater_than, ioi, sva
from workbench.tasks.draw import Draw, bucket
from workbench.tasks.registry import (
    SPLITS,
    blank,
    get_task,
    list_tasks,
    make_pairs,
    parse_options,
    vocabulary,
)
from workbench.tasks.words import NAMES

TASKS = [task.name for task in list_tasks() if not task.pictures]
CASES = [
    (task.name, corruption) for task in list_tasks() if not task.pictures for corruption in task.corruptions
]
PIECES = re.compile(r"\w+|[^\w\s]+")


def words(pair, name):
    (a, b), (c, d) = pair.positions[name]
    return pair.clean[a:b], pair.corrupted[c:d]


def different_words(pair):
    clean, corrupted = pair.clean.split(), pair.corrupted.split()
    assert len(clean) == len(corrupted)
    return [(a, b) for a, b in zip(clean, corrupted, strict=True) if a != b]


def test_the_tasks_are_there():
    assert (
        sorted(
            "ioi colored-objects greater-than docstring gendered-pronoun sva induction kv-retrieval "
            "reverse count majority addition brackets".split()
        )
        == TASKS
    )


@pytest.mark.parametrize(("name", "corruption"), CASES)
@pytest.mark.parametrize("split", SPLITS)
def test_every_pair_is_well_formed(name, corruption, split):
    task = get_task(name)
    pairs = make_pairs(name, n=60, seed=5, split=split, corruption=corruption)
    assert len({pair.id for pair in pairs}) == len({pair.clean for pair in pairs}) == 60
    assert (pairs.task, pairs.split, pairs.corruption, pairs.metric) == (name, split, corruption, task.metric)
    for pair in pairs:
        clean, corrupted = PIECES.findall(pair.clean), PIECES.findall(pair.corrupted)
        assert len(clean) == len(corrupted) and clean != corrupted and pair.group
        assert pair.correct and pair.incorrect and not set(pair.correct) & set(pair.incorrect)
        assert set(pair.positions) <= set(task.positions)
        for name_ in pair.positions:
            assert all(PIECES.fullmatch(word) for word in words(pair, name_))
            (a, _), (c, _) = pair.positions[name_]
            before = [len(PIECES.findall(pair.clean[:a])), len(PIECES.findall(pair.corrupted[:c]))]
            assert before[0] == before[1]
    assert pairs.position_names == (*pairs[0].positions, "end")
    assert set(task.positions) == set(pairs[0].positions)


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_gives_the_same_pairs_and_another_seed_others(name):
    assert make_pairs(name, n=30, seed=1) == make_pairs(name, n=30, seed=1)
    assert make_pairs(name, n=30, seed=1).digest != make_pairs(name, n=30, seed=2).digest
    assert make_pairs(name, n=30, seed=1)[:10].items == make_pairs(name, n=10, seed=1).items


@pytest.mark.parametrize("name", TASKS)
def test_the_clean_prompts_do_not_depend_on_the_corruption(name):
    each = [make_pairs(name, n=20, corruption=c) for c in get_task(name).corruptions]
    assert len({tuple(pair.clean for pair in pairs) for pairs in each}) == 1


def test_pairs_do_not_depend_on_the_hash_seed_or_the_machine():
    code = (
        "import json; from workbench.tasks.registry import *\n"
        "print(json.dumps({f'{t.name} {c} {s}': "
        "make_pairs(t.name, n=20, seed=11, split=s, corruption=c).digest "
        "for t in list_tasks() if not t.pictures for c in t.corruptions for s in SPLITS}))"
    )
    root = Path(workbench.__file__).parent.parent
    found = []
    for seed in ("0", "12345"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, cwd=root, env=environment, check=True
        )
        found.append(json.loads(run.stdout))
    recorded = json.loads((Path(__file__).parent / "task_digests.json").read_text())
    assert found[0] == found[1] == recorded  # recorded once; a change here changes everybody's pairs


def test_the_vocabulary_is_the_one_the_built_in_models_were_trained_on():
    text = " ".join(vocabulary())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "8f05f70c8c8ac99e"  # new words mean new models


def test_a_draw_uses_only_what_python_keeps_stable():
    draw = Draw("ioi|test|0|0")
    import random

    plain = random.Random("ioi|test|0|0")
    assert [draw.below(10) for _ in range(5)] == [int(plain.random() * 10) for _ in range(5)]
    assert sorted(Draw("x").sample(range(50), 50)) == list(range(50))


def test_buckets_are_a_tenth_each_and_unordered():
    assert (
        bucket("Mary", "John") == bucket("John", "Mary") == 0x478BA5AB46AE516A % 10
    )  # sha256 of "John|Mary"
    counts = [0] * 10
    for i, a in enumerate(NAMES):
        for b in NAMES[i + 1 :]:
            counts[bucket(a, b)] += 1
    assert sum(counts) == 4950 and all(420 < count < 570 for count in counts)  # 495 +- 3.5 sigma


def _digits(pair):
    return [int(word) for word in pair.clean.split()[-2:]]


HELD_OUT = {  # what of a pair is held out: an unordered combination of words
    "ioi": lambda p: (words(p, "IO")[0], words(p, "S1")[0]),
    "colored-objects": lambda p: (words(p, "color")[0], words(p, "object")[0]),
    "greater-than": lambda p: (words(p, "XX1")[0], "-" + words(p, "YY")[0]),
    "docstring": lambda p: (words(p, "B")[0], words(p, "C")[0]),
    "gendered-pronoun": lambda p: (
        words(p, "name")[0],
        next(w for w in gendered_pronoun.PLACES if f" {w}" in p.clean),
    ),
    "induction": lambda p: (words(p, "A1")[0], words(p, "B1")[0]),
    "kv-retrieval": lambda p: (words(p, "key")[0], "-" + words(p, "value")[0]),
    "reverse": lambda p: (words(p, "A1")[0], words(p, "B1")[0]),
    "count": lambda p: (p.clean.split()[-1], p.correct[0].strip()),
    "majority": lambda p: (p.clean.split()[0], p.clean.split()[-1]),
    "addition": lambda p: (f"a{min(_digits(p))}", f"b{max(_digits(p))}"),
    "brackets": lambda p: ("".join(p.clean.split()[:7]), "-" + "".join(p.clean.split()[7:])),
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_splits_share_no_held_out_combination(name):
    found = {s: {tuple(sorted(HELD_OUT[name](p))) for p in make_pairs(name, n=300, split=s)} for s in SPLITS}
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]
    assert not found["test"] & found["validation"]
    assert all(bucket(*each) == 0 for each in found["test"])
    assert all(bucket(*each) == 1 for each in found["validation"])


def test_sva_splits_share_no_pair_of_nouns():
    def nouns(pair):
        stems = [word.removesuffix("s") for word in (words(pair, "subject")[0], words(pair, "attractor")[0])]
        return tuple(sorted(stems))

    found = {split: {nouns(p) for p in make_pairs("sva", n=200, split=split)} for split in SPLITS}
    assert not found["train"] & found["test"] and not found["train"] & found["validation"]


def test_training_texts_never_hold_a_held_out_combination_anywhere():
    for pair in make_pairs("induction", n=200, split="train"):
        sequence = pair.clean.split()[:10]
        assert all(bucket(a, b) > 1 for a, b in pairwise(sequence))
    for pair in make_pairs("kv-retrieval", n=100, split="train"):
        parts = pair.clean.split()
        rows = [(a, b) for a, b in pairwise(parts) if a in NAMES and b.isdigit()]
        assert len(rows) == 6 and all(bucket(a, f"-{b}") > 1 for a, b in rows)
    for pair in make_pairs("ioi", n=200, split="train", corruption="abc"):
        names = sorted({word for word in PIECES.findall(pair.corrupted) if word in NAMES})
        assert all(bucket(a, b) > 1 for a, b in combinations(names, 2))
    for pair in make_pairs("colored-objects", n=200, split="train"):
        for color, thing in re.findall(r"an? (\w+) (\w+)", pair.clean):
            assert bucket(color, thing) > 1


MODULES = {
    "ioi": ioi,
    "colored-objects": colored_objects,
    "greater-than": greater_than,
    "docstring": docstring,
    "gendered-pronoun": gendered_pronoun,
    "sva": sva,
}


@pytest.mark.parametrize("name", MODULES)
def test_test_templates_are_held_out_but_their_words_are_known(name):
    module = MODULES[name]
    groups = {
        s: {re.match(rf"{name}-\d+", p.group)[0] for p in make_pairs(name, n=150, split=s)} for s in SPLITS
    }
    assert not groups["test"] & groups["train"] and groups["validation"] == groups["train"]
    assert len(groups["test"]) == len(module.HELD_OUT) and len(groups["train"]) == len(module.TRAIN)
    known = {piece for text in module.TRAIN for piece in PIECES.findall(blank(text))}
    assert {piece for text in module.HELD_OUT for piece in PIECES.findall(blank(text))} <= known


@pytest.mark.parametrize("name", MODULES)
def test_templates_can_be_chosen(name):
    held = {pair.group for pair in make_pairs(name, n=100, split="test")}
    train = {pair.group for pair in make_pairs(name, n=100, split="test", templates="train")}
    assert not held & train
    assert {p.group for p in make_pairs(name, n=100, split="train", templates="held-out")} == held


def test_vocabulary_has_every_word_a_word_level_tokenizer_can_meet():
    known = set(vocabulary())
    assert vocabulary() == sorted(known) and len(known) < 500
    variants = [
        (t.name, c, {})
        for t in list_tasks()
        for c in t.corruptions
        if t.name != "greater-than" and not t.pictures
    ]
    variants += [("greater-than", c, {"style": "spaced"}) for c in ("01", "later")]
    variants += [("colored-objects", "colors", {"n_objects": 1, "capitalize": True, "shots": 2})]
    for name, corruption, options in variants:
        for split in SPLITS:
            pairs = make_pairs(name, n=120, split=split, corruption=corruption, distinct=False, **options)
            for pair in pairs:
                texts = " ".join((pair.clean, pair.corrupted, *pair.correct, *pair.incorrect))
                assert set(PIECES.findall(texts)) <= known, (name, set(PIECES.findall(texts)) - known)


@pytest.mark.parametrize("order", ["abba", "baba", "mixed"])
def test_ioi_names_stand_where_the_positions_say(order):
    pairs = make_pairs("ioi", n=80, order=order, templates="all")
    firsts = set()
    for pair in pairs:
        receiver, subject = words(pair, "IO")[0], words(pair, "S1")[0]
        assert pair.correct == (f" {receiver}",) and pair.incorrect == (f" {subject}",)
        assert (
            words(pair, "S2") == (subject, receiver)
            and different_words(pair)
            == [(w, w.replace(subject, receiver)) for w in pair.clean.split() if w.strip(".,") == subject][
                -1:
            ]
        )
        assert [w for w in PIECES.findall(pair.clean) if w in NAMES].count(subject) == 2
        after = pair.clean[pair.positions["S1"][0][1] :]
        assert PIECES.search(after)[0] == words(pair, "S1+1")[0]
        firsts.add(pair.positions["IO"][0] < pair.positions["S1"][0])
    assert firsts == {"abba": {True}, "baba": {False}, "mixed": {True, False}}[order]


def test_ioi_abc_has_three_unrelated_names():
    for pair in make_pairs("ioi", n=50, corruption="abc"):
        clean, other = ([w for w in PIECES.findall(t) if w in NAMES] for t in (pair.clean, pair.corrupted))
        assert len(set(clean)) == 2 and len(set(other)) == 3 and not set(clean) & set(other)
        assert len(different_words(pair)) == 3


def test_ioi_has_enough_templates_and_names():
    assert len(ioi.TRAIN) + len(ioi.HELD_OUT) >= 12 and len(set(NAMES)) == 100


def test_colored_objects_ask_for_the_color_in_the_scene():
    for pair in make_pairs("colored-objects", n=60):
        scene = pair.clean.split("\n")[1]
        asked = re.search(r"color is the (\w+)", scene)[1]
        color = re.search(rf"an? (\w+) {asked}\b", scene)[1]
        assert pair.correct == (f" {color}",) and words(pair, "query")[0] == words(pair, "object")[0] == asked
        other = re.search(r"color is the (\w+)", pair.corrupted.split("\n")[1])[1]
        assert words(pair, "query")[1] == words(pair, "other-object")[0] == other != asked
        assert pair.incorrect == (f" {words(pair, 'other-color')[0]}",)
        assert len(different_words(pair)) == 1 and pair.clean.split("\n")[0] == pair.corrupted.split("\n")[0]


def test_colored_objects_colors_exchanges_two_colors():
    for pair in make_pairs("colored-objects", n=40, corruption="colors", n_objects=2, shots=0):
        assert words(pair, "color") == words(pair, "other-color")[::-1] and "\n" not in pair.clean
        assert words(pair, "query")[0] == words(pair, "query")[1]
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", pair.clean + pair.corrupted)


def test_colored_objects_can_be_easier():
    one = make_pairs("colored-objects", n=20, corruption="colors", n_objects=1, shots=0, capitalize=True)
    assert all(pair.clean.count("a") and pair.correct[0][1].isupper() for pair in one)
    with pytest.raises(OptionError, match="no other to ask about"):
        make_pairs("colored-objects", n=1, n_objects=1)
    with pytest.raises(OptionError, match="n_objects is 9"):
        make_pairs("colored-objects", n=1, n_objects=9)


@pytest.mark.parametrize("style", ["joined", "spaced", "open"])
def test_greater_than_answers_are_the_years_above(style):
    for pair in make_pairs("greater-than", n=60, style=style):
        gap, lead = "" if style == "joined" else " ", " " if style == "spaced" else ""
        century, year = words(pair, "XX1")[0], words(pair, "YY")[0]
        assert (
            pair.clean.endswith(f" {century} " if style == "open" else f" {century}")
            and f"the year {century}{gap}{year} " in pair.clean
        )
        assert words(pair, "YY")[1] == "01" and pair.corrupted == pair.clean.replace(
            f"{gap}{year}", f"{gap}01", 1
        )
        assert pair.correct == tuple(f"{lead}{n:02d}" for n in range(int(year) + 1, 100))
        assert pair.incorrect == tuple(f"{lead}{n:02d}" for n in range(int(year) + 1))
        assert 2 <= int(year) <= 98


def test_greater_than_later_raises_the_year():
    assert all(
        words(pair, "YY")[0] < words(pair, "YY")[1]
        for pair in make_pairs("greater-than", n=60, corruption="later")
    )


def test_greater_than_tests_on_the_papers_sentence():
    texts = [pair.clean for pair in make_pairs("greater-than", n=60)]
    assert any(
        re.fullmatch(r"The \w+ lasted from the year (\d\d)\d\d to the year \1", text) for text in texts
    )


def test_docstring_answer_is_the_next_argument():
    for pair in make_pairs("docstring", n=60, templates="all"):
        listed = re.search(r"\((.*?)\)", pair.clean)[1].split(", ")
        documented = re.findall(r":param (\w+)", pair.clean)
        assert pair.clean.endswith("\n    :param") and documented == [
            words(pair, "A")[0],
            words(pair, "B")[0],
        ]
        assert pair.correct[0] == " " + listed[listed.index(documented[1]) + 1]
        swapped = re.search(r"\((.*?)\)", pair.corrupted)[1].split(", ")
        assert pair.incorrect[0] == " " + swapped[swapped.index(documented[1]) + 1]


def test_docstring_random_definition_says_nothing():
    for pair in make_pairs("docstring", n=30, corruption="random"):
        listed = re.search(r"\((.*?)\)", pair.corrupted)[1].split(", ")
        assert not {pair.correct[0][1:], pair.incorrect[0][1:]} & set(listed)
        assert not set(re.findall(r":param (\w+)", pair.corrupted)) & set(listed)


def test_pronouns_follow_the_name():
    from workbench.tasks.words import MEN, WOMEN

    for pair in make_pairs("gendered-pronoun", n=100):
        name, other = words(pair, "name")
        assert (name in MEN) != (name in WOMEN) and (name in MEN) == (other in WOMEN)
        assert pair.correct == ((" he",) if name in MEN else (" she",)) and pair.incorrect != pair.correct
        assert different_words(pair) == [(name, other)]


@pytest.mark.parametrize("attractor", ["same", "opposite"])
def test_verbs_agree_with_the_subject(attractor):
    for pair in make_pairs("sva", n=60, attractor=attractor):
        subject, noun = words(pair, "subject")[0], words(pair, "attractor")[0]
        assert pair.clean.endswith(f"the {noun}") and different_words(pair) == [words(pair, "subject")]
        plural = subject.endswith("s")
        assert pair.correct == ((" are", " were", " have") if plural else (" is", " was", " has"))
        assert noun.endswith("s") == (plural if attractor == "same" else not plural)


@pytest.mark.parametrize("repeated", [0, 1, 4])
def test_induction_continues_the_repetition(repeated):
    for corruption in ("answer", "match"):
        for pair in make_pairs("induction", n=40, period=6, repeated=repeated, corruption=corruption):
            text, other = pair.clean.split(), pair.corrupted.split()
            k = len(text) - 6
            assert (
                text[6:] == text[:k] == other[6:] and pair.correct == (f" {text[k]}",) and k == repeated
            ) or k < 6
            assert len(set(text)) == 6 and words(pair, "A1")[0] == words(pair, "A2")[0] == text[-1]
            if corruption == "answer":
                assert other[k] == pair.incorrect[0][1:] == words(pair, "B1")[1] not in text
            else:
                assert text[-1] not in other[:6] and len(different_words(pair)) == 1


def test_keys_are_followed_by_their_values():
    options = {"needles": 4, "values": 3, "given": 1, "context": 40}
    for corruption in ("key", "value"):
        for pair in make_pairs("kv-retrieval", n=40, corruption=corruption, **options):
            text, other = pair.clean.split(), pair.corrupted.split()
            assert len(text) == len(other) == 40 and text[-3] == "Q"
            key, first = text[-2:]
            place = text.index(key)
            assert text[place + 1] == first and pair.correct == (f" {text[place + 2]}",)
            there = other.index(other[-2])
            assert pair.incorrect == (f" {other[there + 2]}",) and words(pair, "key")[0] == key
            assert words(pair, "value")[0] == text[place + 2]
            assert len(different_words(pair)) == (2 if corruption == "key" else 1)


def test_needles_stand_at_the_depth_asked_for():
    def place(depth):
        return [
            pair.clean.split().index(words(pair, "key")[0])
            for pair in make_pairs("kv-retrieval", n=30, depth=depth)
        ]

    assert set(place(0)) == {0}
    assert all(p >= 48 - 2 - 2 * 6 for p in place(100))  # only needles can stand after it


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"needles": 1}, "no other key"),
        ({"context": 10}, "need 14"),
        ({"depth": 101}, "depth is 101"),
        ({"given": 1}, "given is 1"),
        ({"needles": 20, "values": 5, "context": 200}, "at most 90 fit"),
    ],
)
def test_impossible_retrieval_options_are_refused(options, says):
    with pytest.raises(OptionError, match=says):
        make_pairs("kv-retrieval", n=1, **options)


def test_names_and_options_are_checked_with_suggestions():
    with pytest.raises(TaskError, match="did you mean ioi"):
        make_pairs("iio")
    with pytest.raises(OptionError, match="did you mean order"):
        make_pairs("ioi", ordre="abba")
    with pytest.raises(OptionError, match="order is 'aabb'; expected one of mixed, abba, baba"):
        make_pairs("ioi", order="aabb")
    with pytest.raises(OptionError, match="did you mean s2-flip"):
        make_pairs("ioi", corruption="s2flip")
    with pytest.raises(OptionError, match="expected int"):
        make_pairs("induction", period="10")
    with pytest.raises(OptionError, match="n is 0"):
        make_pairs("ioi", n=0)
    with pytest.raises(OptionError, match="seed is 'a'"):
        make_pairs("ioi", seed="a")
    with pytest.raises(OptionError, match="no split called"):
        make_pairs("ioi", split="tests")


def test_asking_for_more_than_exist_says_how_many_there_are():
    with pytest.raises(TaskError, match=r"has only about \d+ distinct prompts in split test; 5000 asked for"):
        make_pairs("gendered-pronoun", n=5000)
    assert len(make_pairs("gendered-pronoun", n=2000, distinct=False)) == 2000


def test_options_are_read_from_text_by_type():
    found = get_task("colored-objects")
    assert parse_options(found, ["n_objects=2", "capitalize=true"]) == {"n_objects": 2, "capitalize": True}
    with pytest.raises(OptionError, match="expected a whole number"):
        parse_options(found, ["n_objects=two"])
    with pytest.raises(OptionError, match="not NAME=VALUE"):
        parse_options(found, ["n_objects"])


def test_reverse_says_the_word_before():
    for pair in make_pairs("reverse", n=60):
        words_, other = pair.clean.split(), pair.corrupted.split()
        turn = words_.index(":")
        backwards = words_[:turn][::-1]
        said = words_[turn + 1 :]
        assert said == backwards[: len(said)] and pair.correct == (f" {backwards[len(said)]}",)
        assert words(pair, "A1")[0] == said[-1] and words(pair, "B1")[0] == pair.correct[0][1:]
        assert set(words_) & set(other) == {":"} and other.index(":") <= words_.index(said[-1])
        assert pair.incorrect == (f" {other[other.index(':') - len(other[other.index(':') :])]}",)


def test_count_counts_the_last_word():
    for pair in make_pairs("count", n=60):
        for text, answers in ((pair.clean, pair.correct), (pair.corrupted, pair.incorrect)):
            assert answers == (f" 0{text.split().count(text.split()[-1])}",)
        assert not set(pair.clean.split()) & set(pair.corrupted.split())


def test_majority_names_the_more_frequent():
    from workbench.tasks.words import MEN

    for pair in make_pairs("majority", n=60):
        for text, answers in ((pair.clean, pair.correct), (pair.corrupted, pair.incorrect)):
            assert answers == (" boys" if sum(w in MEN for w in text.split()) > 4 else " girls",)


def test_addition_adds_the_last_two():
    for pair in make_pairs("addition", n=60):
        for text, answers in ((pair.clean, pair.correct), (pair.corrupted, pair.incorrect)):
            assert answers == (f" 0{sum(map(int, text.split()[-2:])) % 10}",)
        assert all(words(pair, name)[0] != words(pair, name)[1] for name in "ab")


def test_brackets_are_good_when_a_stack_says_so():
    def balanced(text):
        depth = 0
        for word in text.split():
            depth += 1 if word == "left" else -1
            if depth < 0:
                return False
        return depth == 0

    for pair in make_pairs("brackets", n=60):
        for text, answers in ((pair.clean, pair.correct), (pair.corrupted, pair.incorrect)):
            assert answers == (" good" if balanced(text) else " late",)
