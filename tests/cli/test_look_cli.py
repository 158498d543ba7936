"""`workbench look`: a prompt without a partner, on a terminal, as JSON and as a page."""

import json

ON = ["look", "-m", "zoo:truth-induction"]


def test_a_prompt_on_a_terminal_and_as_a_page(run, tmp_path):
    text = run("task", "show", "induction", "-m", "zoo:truth-induction", "-n", "1", "--json")[1]
    clean = json.loads(text)["pairs"][0]["clean"]
    code, out, err = run(*ON, clean, "-o", "look.html", "--json")
    found = json.loads(out)
    assert code == 0 and "wrote look.html" in err and "no cause" in err
    assert found["text"] == clean and found["lens"][-1]["rank_of_next"] == 0
    assert found["parts"][0]["part"] == "a1.h0" and set(found["attention_from_end"]) >= {"a0.h1", "a1.h0"}
    page = (tmp_path / "look.html").read_text()
    assert "default-src 'none'" in page and "Logit lens" in page


def test_mistakes_are_told_before_a_model_is_opened(run):
    for words, said in ((["x", "--bos", "of"], "did you mean off"), ([" "], "the prompt is empty")):
        code, out, err = run(*ON, *words)
        assert code == 1 and out == "" and said in err
