"""Foreign files of pairs, written here by hand in each layout."""

import json
from csv import writer as csv_writer

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workbench.core.errors import TaskError
from workbench.tasks.importers import Request, import_pairs, list_formats
from workbench.tasks.pairs_file import load_pairs

WORDS = "<bos> <unk> Mary and John met so gave to he she the nurse said that a sparrow is kind bird fish"
WORDS = WORDS.split()


@pytest.fixture(scope="module")
def tokenizer():
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<bos>", unk_token="<unk>")


def csv(tmp_path, text, name="data.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def saved(tmp_path, value, name="data.json"):
    path = tmp_path / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


MARY, JOHN, HE, SHE = (WORDS.index(word) for word in ("Mary", "John", "he", "she"))
IOI = (
    "clean,corrupted,correct_idx,incorrect_idx\n"
    f"Mary and John met so John gave to,Mary and John met so Mary gave to,{MARY},{JOHN}\n"
)


def test_the_formats_are_listed():
    assert sorted(list_formats()) == ["auto-circuit", "eap-ig", "mib"]


def test_eap_ig_ioi_ids_become_texts(tmp_path, tokenizer):
    found = import_pairs("eap-ig", csv(tmp_path, IOI), request=Request(tokenizer=tokenizer))
    (pair,) = found.pairs
    assert (pair.correct, pair.incorrect, pair.id) == ((" Mary",), (" John",), "data-0000")
    assert pair.clean.endswith("so John gave to") and found.problems == ()
    assert (found.pairs.task, found.pairs.metric, found.pairs.source) == (
        "ioi",
        "logit-difference",
        "eap-ig: data.csv",
    )
    path = found.pairs.save(tmp_path / "out.jsonl")
    assert load_pairs(path) == found.pairs


def test_ids_without_a_tokenizer_are_a_problem_of_each_row(tmp_path, tokenizer):
    found = import_pairs("eap-ig", csv(tmp_path, IOI))
    assert len(found.pairs) == 0 and found.n_rows == 1
    assert [(p.line, "name the model" in p.message) for p in found.problems] == [(2, True)]
    wrong = csv(tmp_path, IOI.replace(f",{MARY},", ",99,"))
    (problem,) = import_pairs("eap-ig", wrong, request=Request(tokenizer=tokenizer)).problems
    assert problem.message == f"token id 99 is outside the tokenizer's {len(WORDS)} tokens"


def test_the_column_of_the_corrupted_prompt_can_be_chosen(tmp_path, tokenizer):
    text = f"clean,corrupted,corrupted_hard,correct_idx,incorrect_idx\nMary met,a,John met,{MARY},{JOHN}\n"
    request = Request(tokenizer=tokenizer, corrupted="corrupted_hard")
    assert import_pairs("eap-ig", csv(tmp_path, text), request=request).pairs[0].corrupted == "John met"


@pytest.mark.parametrize("column", ["label", "correct_idx"])
def test_eap_ig_greater_than_lists_the_years(tmp_path, column):
    text = f"clean,corrupted,{column}\nThe war lasted from 1704 to 17,The war lasted from 1701 to 17,4\n"
    found = import_pairs("eap-ig", csv(tmp_path, text))
    (pair,) = found.pairs
    assert pair.correct[:2] == ("05", "06") and pair.correct[-1] == "99" and len(pair.correct) == 95
    assert pair.incorrect == ("00", "01", "02", "03", "04")
    assert (found.pairs.task, found.pairs.metric) == ("greater-than", "prob-difference")


def test_a_label_that_is_no_year_of_the_prompt_is_no_answer(tmp_path):
    """The columns of gender-bias, one of them misspelt, have a label too: 0 or 1, and no year."""
    text = "clean,corrupted,clean_answer_id,label\nthe nurse said that,the doctor said that,4,0\n"
    found = import_pairs("eap-ig", csv(tmp_path, text))
    assert not found.pairs.items
    assert found.problems[0].message == "label is 0, and no year in the prompt ends in 00"


@pytest.mark.parametrize("label", ["1_0", "１０", "1e1", "10.0", "0x0a", "9" * 5000])
def test_only_plain_digits_are_a_whole_number(label, tmp_path):
    found = import_pairs("eap-ig", csv(tmp_path, f"clean,corrupted,label\n1710 to 17,1701 to 17,{label}\n"))
    assert not found.pairs.items and "expected a whole number" in found.problems[0].message


def test_eap_ig_gender_bias_works_with_ids_and_without(tmp_path, tokenizer):
    head = "clean,corrupted,clean_answer_idx,corrupted_answer_idx,label\n"
    text = (
        head + f"the nurse said that,the kind said that,{SHE},{HE},0\nthe kind is,the nurse is,{HE},{SHE},1\n"
    )
    for request in (Request(), Request(tokenizer=tokenizer)):
        found = import_pairs("eap-ig", csv(tmp_path, text), request=request)
        assert [(p.correct, p.incorrect) for p in found.pairs] == [
            ((" she",), (" he",)),
            ((" he",), (" she",)),
        ]
        assert found.pairs.task == "gender-bias"


def test_eap_ig_sva_takes_the_number_of_the_subject(tmp_path):
    rows = "the key,the keys,simple,0\nthe keys,the key,simple,1\nthe x,the y,simple,2\n"
    text = "clean,corrupted,group,plural\n" + rows
    found = import_pairs("eap-ig", csv(tmp_path, text))
    assert [pair.correct[0] for pair in found.pairs] == [" is", " are"] and found.pairs[0].group == "simple"
    assert [p.line for p in found.problems] == [4] and "plural is 2" in found.problems[0].message


HYPERNYMY = (
    "clean,h1,hypernym,answers,answers_idx,"
    "corrupted,c1,corrupted_hypernym,corrupted_answers,corrupted_answers_idx\n"
)


def test_eap_ig_hypernymy_lists_answers(tmp_path, tokenizer):
    bird, fish, kind = (WORDS.index(word) for word in ("bird", "fish", "kind"))
    clean = f""""a sparrow is a",x,bird,"['bird', ' kind']","[{bird}, {kind}]","""
    row = clean + f"""a x,c,fish,"['fish', 'kind']","[{fish}]"\n"""
    text = import_pairs("eap-ig", csv(tmp_path, HYPERNYMY + row)).pairs[0]
    assert (text.correct, text.incorrect) == ((" bird", " kind"), (" fish",))
    ids = import_pairs("eap-ig", csv(tmp_path, HYPERNYMY + row), request=Request(tokenizer=tokenizer)).pairs[
        0
    ]
    assert (ids.correct, ids.incorrect) == ((" bird", " kind"), (" fish",))
    code = HYPERNYMY + "a,x,b,\"__import__('os').system('x')\",1,a x,c,f,[1],[2]\n"
    (problem,) = import_pairs("eap-ig", csv(tmp_path, code)).problems
    assert "expected a list of texts" in problem.message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "has no column 'clean'; found a, b"),
        ("clean,corrupted,other\nx,y,z\n", "fit no layout: clean, corrupted, other"),
        ("", "has no column 'clean'; found none"),
        ('clean,corrupted,label\n"x,y,1\n', "is not a csv file"),
    ],
)
def test_a_csv_of_another_kind_is_refused(tmp_path, text, says):
    with pytest.raises(TaskError, match=says):
        import_pairs("eap-ig", csv(tmp_path, text))


def test_bad_rows_are_named_by_line(tmp_path):
    rows = 'x 1705 17,y 17,5\nx 17,y 17,abc\nx 17,y 17\n"a\n1707 17","c\nd 17",7\nx 08,x 08,8\nz 17,y 17,99\n'
    found = import_pairs("eap-ig", csv(tmp_path, "clean,corrupted,label\n" + rows))
    assert [pair.clean for pair in found.pairs] == ["x 1705 17", "a\n1707 17"]
    assert [(p.line, p.message.split(";")[0]) for p in found.problems] == [
        (3, "label is 'abc'"),
        (4, "the row has more or fewer cells than the header"),
        (8, "clean and corrupted are the same text"),
        (9, "label is 99"),
    ]


def test_a_layout_can_be_named_and_misspelt(tmp_path):
    with pytest.raises(TaskError, match="did you mean greater-than"):
        import_pairs("eap-ig", csv(tmp_path, IOI), request=Request(layout="greaterthan"))
    with pytest.raises(TaskError, match="did you mean eap-ig"):
        import_pairs("eapig", csv(tmp_path, IOI))


def test_auto_circuit_prompts(tmp_path, tokenizer):
    prompts = [
        {"clean": "Mary met", "corrupt": "John met", "answers": [" Mary"], "wrong_answers": [" John", " a"]},
        {"clean": "Mary met", "corrupt": "John met", "answers": [MARY], "wrong_answers": [JOHN]},
        {"clean": "Mary met", "corrupt": "John met"},
        {"clean": [[1.0]], "corrupt": [[2.0]], "answers": [0]},
        {"clean": "Mary met", "corrupt": "John met", "answers": " Mary"},
    ]
    path = saved(tmp_path, {"word_idxs": {"IO": 2}, "prompts": prompts})
    found = import_pairs("auto-circuit", path, request=Request(tokenizer=tokenizer))
    assert [(p.correct, p.incorrect) for p in found.pairs] == [
        ((" Mary",), (" John", " a")),
        ((" Mary",), (" John",)),
    ]
    assert [p.message for p in found.problems] == [
        "prompt 3: has no answers",
        "prompt 4: clean is not text",
        "prompt 5: answers are neither texts nor token ids",
    ]


def mib_row(**more):
    other = {"prompt": "Mary and John met so Mary gave to", "choices": ["John", "Mary"], "answerKey": 0}
    row = {"prompt": "Mary and John met so John gave to", "choices": ["Mary", "John"], "answerKey": 0}
    return row | {"s2_io_flip_counterfactual": other, "abc_counterfactual": other | {"prompt": "abc"}} | more


@pytest.mark.parametrize("shape", ["list", "lines", "viewer"])
def test_mib_rows_in_every_shape(tmp_path, shape):
    rows = [mib_row(), mib_row(answerKey=1)]
    value = {
        "list": rows,
        "lines": "".join(json.dumps(row) + "\n" for row in rows),
        "viewer": {"rows": [{"row_idx": 0, "row": row} for row in rows]},
    }[shape]
    found = import_pairs("mib", saved(tmp_path, value))
    assert [(p.correct, p.incorrect) for p in found.pairs] == [
        ((" Mary",), (" John",)),
        ((" John",), (" Mary",)),
    ]
    assert found.pairs[0].corrupted.endswith("so Mary gave to") and found.problems == ()
    other = import_pairs("mib", saved(tmp_path, value), request=Request(counterfactual="abc"))
    assert other.pairs[0].corrupted == "abc"


def test_mib_rows_as_csv_with_nested_cells(tmp_path):
    path = tmp_path / "mib.csv"
    other = {"prompt": "Mary gave to", "choices": ["John", "Mary"], "answerKey": 0}
    with path.open("w", newline="") as out:
        writer = csv_writer(out)
        writer.writerow(["prompt", "choices", "answerKey", "s2_io_flip_counterfactual"])
        writer.writerow(["John gave to", json.dumps(["Mary", "John"]), 0, json.dumps(other)])
        writer.writerow(["[John] gave to", str(["Mary", "John"]), 1, str(other)])  # as pandas writes it
        writer.writerow(["John gave to", "[" * 5000, 1, str(other)])
    found = import_pairs("mib", path)
    assert [(p.clean, p.correct) for p in found.pairs] == [
        ("John gave to", (" Mary",)),
        ("[John] gave to", (" John",)),
    ]
    assert [p.line for p in found.problems] == [4]


def test_mib_multiple_choice_answers_with_the_letter(tmp_path):
    choices = {"label": ["A", "B", "C"], "text": ["red", "blue", "pink"]}
    row = {"prompt": "A. red\nB. blue\nC. pink\nAnswer:", "choices": choices, "answerKey": "B"}
    found = import_pairs("mib", saved(tmp_path, [row | {"answerPosition_counterfactual": {"prompt": "x"}}]))
    assert (found.pairs[0].correct, found.pairs[0].incorrect) == ((" B",), (" A", " C"))


def test_mib_rows_with_a_label_take_the_counterfactuals(tmp_path):
    row = {"prompt": "2 + 3 = ", "label": 5, "random_counterfactual": {"prompt": "4 + 3 = ", "label": 7}}
    pair = import_pairs("mib", saved(tmp_path, [row])).pairs[0]
    assert (pair.correct, pair.incorrect) == (("5",), ("7",))  # the prompt ends in a space


def test_mib_problems(tmp_path):
    rows = [mib_row(answerKey=5), mib_row(choices="x"), {"prompt": "x"}, mib_row(prompt=3)]
    messages = [p.message for p in import_pairs("mib", saved(tmp_path, rows)).problems]
    assert messages == [
        "answerKey is '5'; expected 0 to 1 or one of the choices",
        "choices is neither a list of texts nor an object with labels",
        "s2_io_flip_counterfactual has no prompt",
        "prompt is not text",
    ]
    with pytest.raises(TaskError, match=r"which counterfactual .* found a, b"):
        other = {"prompt": "x"}
        import_pairs(
            "mib", saved(tmp_path, [{"prompt": "y", "a_counterfactual": other, "b_counterfactual": other}])
        )
    with pytest.raises(TaskError, match="has no counterfactual 'z'; found abc, s2_io_flip"):
        import_pairs("mib", saved(tmp_path, [mib_row()]), request=Request(counterfactual="z"))


@pytest.mark.parametrize("name", ["auto-circuit", "mib"])
@pytest.mark.parametrize(
    ("text", "says"), [("{", "is not JSON"), ("[" * 100_000, "nested too deeply"), ('"x"', "has no|holds no")]
)
def test_broken_json_is_refused(tmp_path, name, text, says):
    with pytest.raises(TaskError, match=says):
        import_pairs(name, saved(tmp_path, text))


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "latin.csv").write_bytes(b"clean,corrupted\ncaf\xe9,x\n")
    with pytest.raises(TaskError, match="is not UTF-8"):
        import_pairs("eap-ig", tmp_path / "latin.csv")
    with pytest.raises(TaskError, match="No such file"):
        import_pairs("mib", tmp_path / "missing.json")
    with_bom = tmp_path / "excel.csv"
    with_bom.write_bytes(b"\xef\xbb\xbfclean,corrupted,label\nx 1705 17,y 17,5\n")
    assert len(import_pairs("eap-ig", with_bom).pairs) == 1
