"""Each task by itself: what it asks, how its prompts are corrupted, which options it has."""

import re

import pytest

from workbench.core.errors import OptionError
from workbench.tasks import ioi
from workbench.tasks.registry import make_pairs
from workbench.tasks.words import NAMES

PIECES = re.compile(r"\w+|[^\w\s]+")


def words(pair, name):
    (a, b), (c, d) = pair.positions[name]
    return pair.clean[a:b], pair.corrupted[c:d]


def different_words(pair):
    clean, corrupted = pair.clean.split(), pair.corrupted.split()
    assert len(clean) == len(corrupted)
    return [(a, b) for a, b in zip(clean, corrupted, strict=True) if a != b]


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
