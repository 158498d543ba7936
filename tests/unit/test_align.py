"""Alignment with real tokenizers: a word-level one, and byte pairs trained here so that some names split."""

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import TaskError
from workbench.tasks.alignment import align
from workbench.tasks.fit import fit_pairs
from workbench.tasks.outputs import Outputs
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.registry import list_tasks, make_pairs, vocabulary

SPECIAL = {"bos_token": "<bos>", "unk_token": "<unk>"}


def word_level(words: list[str]) -> PreTrainedTokenizerFast:
    core = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(["<bos>", "<unk>", *words])}, unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, **SPECIAL)


@pytest.fixture(scope="module")
def words():
    return word_level(vocabulary())


@pytest.fixture(scope="module")
def byte_pairs():
    """Byte-level byte pairs that know the words of this text whole; other words fall into pieces."""
    known = "When Mary and John went to the store , gave a drink Anna Kate said 17 41 01 year 1776 from"
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([f" {word}" for word in known.split()] * 5 + ["When", "17", "41", "01"], trainer)
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")  # as GPT-2 has it
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


def pair(clean, corrupted, correct=(" Mary",), incorrect=(" John",), **more) -> Pair:
    more = {"id": "p"} | more
    return Pair(clean=clean, corrupted=corrupted, correct=correct, incorrect=incorrect, **more)


def pairs(*items: Pair) -> Pairs:
    return Pairs(items=items, task="mine")


def only_drop(found):
    assert len(found) == 0 and len(found.dropped) == 1
    return found.dropped[0]


TEXT = "When Mary and John went to the store, John gave a drink to"
FLIP = "When Mary and John went to the store, Mary gave a drink to"
S2 = {"S2": ((38, 42), (38, 42)), "IO": ((5, 9), (5, 9))}


@pytest.mark.parametrize("kind", ["words", "byte_pairs"])
@pytest.mark.parametrize("bos", [True, False])
def test_ids_answers_and_positions_by_hand(request, kind, bos):
    tokenizer = word_level("When Mary and John went to the store , gave a drink".split())
    tokenizer = tokenizer if kind == "words" else request.getfixturevalue("byte_pairs")
    found = align(pairs(pair(TEXT, FLIP, positions=S2)), tokenizer, prepend_bos=bos)
    tokens = [
        "When",
        "Mary",
        "and",
        "John",
        "went",
        "to",
        "the",
        "store",
        ",",
        "John",
        "gave",
        "a",
        "drink",
        "to",
    ]
    got = [t.replace("Ġ", "") for t in tokenizer.convert_ids_to_tokens(found.clean[0].tolist())]
    assert got == [*[tokenizer.bos_token] * bos, *tokens]
    changed = np.flatnonzero(found.clean[0] != found.corrupted[0]).tolist()
    assert changed == [9 + bos] and found.positions[0] == {"S2": 9 + bos, "IO": 1 + bos, "end": 13 + bos}
    assert found.clean[0].dtype == np.int64 and found.clean[0].shape == found.corrupted[0].shape
    assert found.correct[0] == (found.clean[0][1 + bos],) and found.incorrect[0] == (found.clean[0][3 + bos],)
    assert found.dropped == () and found.prepend_bos is bos


def test_there_is_exactly_one_bos(byte_pairs):
    written = "<|endoftext|>"
    found = align(pairs(pair(written + TEXT, written + FLIP)), byte_pairs, prepend_bos=True)
    bos = byte_pairs.bos_token_id
    assert (
        found.clean[0].tolist().count(bos) == 1
        and found.clean[0][0] == bos
        and found.positions[0]["end"] == 14
    )
    plain = align(pairs(pair(TEXT, FLIP)), byte_pairs, prepend_bos=False)
    assert bos not in plain.clean[0].tolist()


def test_a_tokenizer_that_adds_its_own_bos_does_not_double_it(words):
    core = Tokenizer.from_str(words.backend_tokenizer.to_str())
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    adding = PreTrainedTokenizerFast(tokenizer_object=core, **SPECIAL)
    for special in (False, True):
        found = align(make_pairs("ioi", n=5), adding, prepend_bos=True, special_tokens=special)
        assert all(ids.tolist().count(0) == 1 and ids[0] == 0 for ids in found.clean)
        assert [p["end"] for p in found.positions] == [len(ids) - 1 for ids in found.clean]


def test_special_tokens_around_the_text_are_not_the_end(words):
    core = Tokenizer.from_str(words.backend_tokenizer.to_str())
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A <unk>", special_tokens=[("<bos>", 0), ("<unk>", 1)]
    )
    encoder = PreTrainedTokenizerFast(tokenizer_object=core, **SPECIAL)
    found = align(make_pairs("sva", n=3), encoder, prepend_bos=False, special_tokens=True)
    assert len(found) == 3
    for ids, place in zip(found.clean, found.positions, strict=True):
        assert ids[-1] == 1 and place["end"] == len(ids) - 2
    subject = encoder.convert_ids_to_tokens(int(found.clean[0][found.positions[0]["subject"]]))
    start, end = found.pairs[0].positions["subject"][0]
    assert subject == found.pairs[0].clean[start:end]


def test_different_lengths_name_the_first_differing_token(byte_pairs):
    longer = TEXT.replace("store, John", "store, Alexandra")
    drop = only_drop(align(pairs(pair(TEXT, longer)), byte_pairs, prepend_bos=True, minimum=0))
    pieces = byte_pairs.tokenize(" Alexandra")
    assert drop.kind == "length" and drop.words == ("Alexandra",)
    assert drop.reason == (
        f"15 clean and {14 + len(pieces)} corrupted tokens; first difference: "
        f"token 10 ' John' / {pieces[0].replace('Ġ', ' ')!r}"
    )


def test_a_prompt_that_is_the_start_of_the_other_is_different_at_its_end(byte_pairs):
    drop = only_drop(align(pairs(pair(TEXT, TEXT + " the")), byte_pairs, prepend_bos=False, minimum=0))
    assert drop.reason == "14 clean and 15 corrupted tokens; first difference: token 14 (end) / ' the'"


def test_answers_of_several_tokens_are_dropped_with_their_tokens(byte_pairs):
    drop = only_drop(align(pairs(pair(TEXT, FLIP, (" Bob",))), byte_pairs, prepend_bos=True, minimum=0))
    pieces = " + ".join(repr(piece) for piece in byte_pairs.tokenize(" Bob"))
    count = len(byte_pairs.tokenize(" Bob"))
    assert drop.kind == "answer" and drop.words == ("Bob",)
    assert drop.reason == f"answer ' Bob' is {count} tokens, not one: {pieces}"


@pytest.mark.parametrize(
    ("item", "kind", "says"),
    [
        (pair("", "Mary went"), "empty", "the clean prompt is empty"),
        (pair("Mary went", " \n"), "empty", "the corrupted prompt is empty"),
        (pair("Zoltan went", "Mary went"), "unknown", "the clean prompt has words .* not know: 'Zoltan'"),
        (
            pair("Mary went", "John went", (" Zoltan",)),
            "answer",
            "answer ' Zoltan' is not a word this tokenizer",
        ),
        (
            pair("Mary went", "John went", (" Mary",), ("Mary",)),
            "same-answer",
            "' Mary' and .* 'Mary' are the same",
        ),
        (pair("Mary went", "John went", ()), "answer", "there is no correct answer"),
        (
            pair("Mary went", "John went", (" the store",)),
            "answer",
            "is 2 tokens, not one: 'the' [+] 'store'",
        ),
        (pair("Mary went", "John went", ("",)), "answer", "answer '' is 0 tokens, not one: nothing"),
        (pair("Mary went to the", "John went to the"), "context", "5 tokens, the model's context holds 4"),
    ],
)
def test_reasons_for_dropping(words, item, kind, says):
    tokenizer = word_level("Mary John went to the store".split())
    drop = only_drop(align(pairs(item), tokenizer, prepend_bos=True, minimum=0, n_ctx=4))
    import re

    assert drop.kind == kind and re.search(says, drop.reason), drop.reason


def test_a_token_without_an_embedding_is_dropped_and_named():
    tokenizer = word_level("Mary John went to".split())  # ids 2 to 5
    tokenizer.add_tokens(["<tool>"])  # id 6: added by a tool that did not resize the model
    item = pair("<tool> Mary went to", "<tool> John went to")
    assert len(align(pairs(item), tokenizer, prepend_bos=True, d_vocab=7)) == 1
    drop = only_drop(align(pairs(item), tokenizer, prepend_bos=True, d_vocab=6, minimum=0))
    assert (drop.kind, drop.words) == ("embedding", ("<tool>",))
    assert drop.reason == "the clean prompt: token '<tool>' (id 6) is beyond the model's embedding of 6"
    with pytest.raises(TaskError, match="1 tokens beyond the model's embedding"):
        align(pairs(item), tokenizer, prepend_bos=True, d_vocab=6)


def test_a_bos_without_an_embedding_is_named():
    tokenizer = word_level("Mary John went to".split())
    tokenizer.add_special_tokens({"bos_token": "<s>"})  # id 6
    item = pair("Mary went to", "John went to")
    drop = only_drop(align(pairs(item), tokenizer, prepend_bos=True, d_vocab=6, minimum=0))
    assert drop.kind == "embedding" and "token '<s>' (id 6)" in drop.reason


def test_an_answer_beyond_the_outputs_is_dropped_and_named():
    tokenizer = word_level("Mary John went to".split())  # John is 3
    item = pair("Mary went to", "John went to")
    asked = {"prepend_bos": True, "minimum": 0}
    assert len(align(pairs(item), tokenizer, outputs=Outputs(size=4), **asked)) == 1
    drop = only_drop(align(pairs(item), tokenizer, outputs=Outputs(size=3), **asked))
    assert (drop.kind, drop.words) == ("output", ("John",))
    assert drop.reason == "answer ' John' (id 3) is beyond the model's 3 outputs"


def test_answers_of_a_model_that_puts_out_classes_are_class_names():
    tokenizer = word_level(
        "Mary John went to class 1".split()
    )  # Mary is 2: an output index must not come of it
    classes = Outputs(size=2, classes=("class-0", "class-1"))
    named = pair("Mary went to", "John went to", ("class-1",), ("class-0",))
    found = align(pairs(named), tokenizer, prepend_bos=True, outputs=classes)
    assert (found.correct, found.incorrect) == (((1,),), ((0,),))
    words = pair("Mary went to", "John went to", ("1",), ("John",))
    drop = only_drop(align(pairs(words), tokenizer, prepend_bos=True, outputs=classes, minimum=0))
    assert (drop.kind, drop.words) == ("output", ("1",))
    assert drop.reason == "answer '1' is none of the 2 classes: class-0, class-1"
    near = pair("Mary went to", "John went to", (" class-1",), ("class-0",))
    drop = only_drop(align(pairs(near), tokenizer, prepend_bos=True, outputs=classes, minimum=0))
    assert drop.reason.endswith("; did you mean 'class-1'?")


def test_a_task_in_words_is_refused_on_classes(words):
    classes = Outputs(size=2, classes=("class-0", "class-1"))
    with pytest.raises(TaskError, match="puts out no words but 2 classes: class-0, class-1") as caught:
        fit_pairs("ioi", words, prepend_bos=True, outputs=classes)
    assert "docs/pairs-format.md" in caught.value.hint
    names = Outputs(size=len(words), classes=tuple(f" {word}" for word in words.get_vocab()))
    assert len(fit_pairs("ioi", words, prepend_bos=True, outputs=names, n=5)) == 5  # answers that are classes


def test_a_position_at_another_token_is_dropped():
    tokenizer = word_level("Mary John went to the store".split())
    moved = {"name": ((0, 4), (8, 12))}
    drop = only_drop(
        align(
            pairs(pair("Mary went to", "went to John", positions=moved)),
            tokenizer,
            prepend_bos=True,
            minimum=0,
        )
    )
    assert drop.kind == "position" and drop.words == ("Mary", "John")
    assert "position name is token 0 of the clean and token 2 of the corrupted prompt" in drop.reason


def test_a_position_inside_a_token_is_dropped_and_spaces_are_none():
    tokenizer = word_level("year 1741 1701 17 02".split())
    items = pair("year 1741", "year 1701", ("17",), ("02",), positions={"YY": ((7, 9), (7, 9))})
    drop = only_drop(align(pairs(items), tokenizer, prepend_bos=False, minimum=0))
    assert drop.reason == "position YY ('41') of the clean prompt is not made of whole tokens: '1741'"
    blank = pair("year  1741", "year  1701", (" 17",), (" 02",), positions={"gap": ((4, 5), (4, 5))})
    assert "covers no token" in only_drop(align(pairs(blank), tokenizer, prepend_bos=False, minimum=0)).reason


def test_the_token_of_a_position_is_the_last_that_overlaps(byte_pairs):
    text, other = "When Alexandra said", "When Alexandra gave"
    found = align(
        pairs(pair(text, other, positions={"name": ((5, 14), (5, 14))})), byte_pairs, prepend_bos=False
    )
    assert found.positions[0]["name"] == len(byte_pairs.tokenize("When Alexandra")) - 1 > 1


def test_kept_pairs_keep_their_order_and_everything_lines_up(words):
    good = make_pairs("ioi", n=6)
    bad = pair("Zoltan went to", "Mary went to", id="bad")
    mixed = Pairs(items=(*good.items[:3], bad, *good.items[3:]), task="ioi")
    found = align(mixed, words, prepend_bos=True)
    assert found.pairs.items == good.items and [d.id for d in found.dropped] == ["bad"]
    assert found.reasons == {"unknown": 1} and repr(found).startswith("AlignedPairs(6 of 7 pairs, ")
    page = found._repr_html_()
    assert "dropped: 1" in page and "Zoltan" in page
    parts = found[2:4]
    assert parts.pairs.items == good.items[2:4] and parts.clean[0] is found.clean[2] and len(parts) == 2


def test_too_few_left_names_the_words_at_fault_with_counts(words):
    items = [pair(f"{name} went to", "Mary went to", id=str(i)) for i, name in enumerate(("Zo", "Zo", "Bo"))]
    with pytest.raises(TaskError) as caught:
        align(pairs(*items), words, prepend_bos=True, minimum=2)
    message = str(caught.value)
    assert "0 of 3 pairs of task 'mine' align with this model; 2 needed" in message
    assert (
        "3 words the tokenizer does not know" in message and "words at fault: 'Zo' (2), 'Bo' (1)" in message
    )
    assert "first: pair 0: " in message and "hint:" in message


def test_too_few_left_says_what_given_pairs_must_be_like(words):
    items = [
        pair("Zo went to", "Mary went to", id="unknown"),
        pair("Mary went to", "Mary and John went to", id="long"),
        pair("John went to", "John and Mary went to", id="longer"),
    ]
    with pytest.raises(TaskError) as caught:
        align(pairs(*items), words, prepend_bos=True)
    hint = caught.value.hint
    assert "clean and corrupted need equally many tokens" in hint and "another task" not in hint
    assert "pair long: 4 clean and 6 corrupted tokens" in hint


def test_a_missing_bos_token_is_said_before_anything_else():
    tokenizer = word_level(["a", "b"])
    tokenizer.bos_token = None
    with pytest.raises(TaskError, match="this tokenizer has none"):
        align(make_pairs("ioi", n=1), tokenizer, prepend_bos=True)


@pytest.mark.parametrize("name", [task.name for task in list_tasks() if not task.pictures])
def test_every_task_aligns_with_the_word_level_vocabulary(words, name):
    found = fit_pairs(name, words, prepend_bos=True, n_ctx=64, n=60)
    assert len(found) == 60 and found.dropped == ()
    for index, item in enumerate(found.pairs):
        for place, (span, other) in item.positions.items():
            at = found.positions[index][place]
            assert words.convert_ids_to_tokens(int(found.clean[index][at])) == item.clean[slice(*span)]
            assert (
                words.convert_ids_to_tokens(int(found.corrupted[index][at])) == item.corrupted[slice(*other)]
            )
        texts = [words.convert_ids_to_tokens(t) for t in found.correct[index]]
        assert texts == [answer.strip() for answer in item.correct]


def test_greater_than_takes_the_form_the_tokenizer_can_align(words, byte_pairs):
    assert fit_pairs("greater-than", words, prepend_bos=True, n=10).pairs.options == {"style": "spaced"}
    with pytest.raises(TaskError, match=r"0 of 100 pairs.*\n.*\n.*\n  tried: style joined, spaced, open"):
        fit_pairs("greater-than", word_level(["a"]), prepend_bos=True)
    with pytest.raises(TaskError, match="0 of 10 pairs") as caught:
        fit_pairs("greater-than", words, prepend_bos=True, n=10, style="joined")
    assert "tried" not in str(caught.value)


def test_joined_years_read_the_answers_own_token():
    """As in GPT-2: 1741 is 17 + 41, the whole 1700 is one token, yet 00 after 17 is the token 00."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = [f"{n:02d}" for n in range(100)] * 3 + [" year", " 17", "year"] * 9 + [" 1700"] * 5
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>")
    assert tokenizer.tokenize(" 1700") == ["Ġ1700"] and tokenizer.tokenize(" 1741") == ["Ġ17", "41"]
    item = pair("year 1741 year 17", "year 1701 year 17", ("42", "99"), ("00", "41"))
    found = align(pairs(item), tokenizer, prepend_bos=False)
    ids = tokenizer.convert_tokens_to_ids
    assert found.correct[0] == (ids("42"), ids("99")) and found.incorrect[0] == (ids("00"), ids("41"))


def test_years_on_a_tokenizer_that_groups_digits_by_threes_without_spaces():
    """As Llama 3's: ' 1741' is ' ', '174', '1'; ' 17 41' is ' ', '17', ' ', '41'."""
    core = Tokenizer(models.BPE())
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+|[^\s\p{L}\p{N}]+")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(use_regex=False, add_prefix_space=False),
        ]
    )
    texts = [pair.clean for pair in make_pairs("greater-than", n=300, style="open", templates="all")]
    numbers = [f"{n:02d}" for n in range(100)] * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([*texts * 3, *numbers], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    found = fit_pairs("greater-than", tokenizer, prepend_bos=False, n=20, split="train")
    assert found.pairs.options == {"style": "open"} and len(found) == 20
    number = found.correct[0][0]
    assert tokenizer.decode([number]) == found.pairs[0].correct[0] and len(found.correct[0]) > 0


def test_answers_are_read_as_they_continue_the_prompt():
    """A tokenizer that puts its own space before a text: ' Mary' alone is two tokens, after a prompt one."""
    core = Tokenizer(
        models.WordLevel({"<unk>": 0, "▁": 1, "▁Mary": 2, "▁went": 3, "▁John": 4}, unk_token="<unk>")
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    found = align(pairs(pair("John went", "Mary went")), tokenizer, prepend_bos=False)
    assert found.correct == ((2,),) and found.incorrect == ((4,),) and found.clean[0].tolist() == [4, 3]
    spelled = pair("John went", "Mary went", correct=(" Mary", "▁Mary"))
    # one token that is listed twice has its probability once: else nll could be negative
    assert align(pairs(spelled), tokenizer, prepend_bos=False).correct == ((2,),)


class Slow:
    """A tokenizer without character offsets, splitting at spaces, as one written in Python may be."""

    is_fast, bos_token_id, unk_token_id, unk_token = False, 0, None, None

    def __init__(self):
        self.ids = {}

    def __call__(self, texts, **options):
        import re

        assert options["add_special_tokens"] is False
        pieces = [re.findall(r" ?[^ ]+", text) for text in texts]
        return {"input_ids": [[self.ids.setdefault(p, len(self.ids) + 1) for p in each] for each in pieces]}


def test_a_tokenizer_without_offsets_gives_the_same_positions():
    item = pair(
        "When Mary met John", "When Kate met John", positions={"name": ((5, 9), (5, 9)), "v": ((10, 13),) * 2}
    )
    found = align(pairs(item), Slow(), prepend_bos=True)
    assert found.positions[0] == {"name": 2, "v": 3, "end": 4} and len(found.clean[0]) == 5


def test_alignment_does_not_depend_on_the_other_pairs(words):
    many = make_pairs("colored-objects", n=20)
    together = align(many, words, prepend_bos=True)
    for index in (0, 7, 19):
        alone = align(many[index : index + 1], words, prepend_bos=True)
        assert alone.clean[0].tolist() == together.clean[index].tolist()
        assert alone.correct[0] == together.correct[index] and alone.positions[0] == together.positions[index]
