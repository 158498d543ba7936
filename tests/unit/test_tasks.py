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
