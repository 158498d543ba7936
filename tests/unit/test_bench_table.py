"""The table of a bench, by hand from a small document; the documentation is made from it."""

import pytest

from cli.forms import command_of, read
from tests.benches import made, task_cell, truth_cell
from workbench.bench.markdown import BEGIN, END, markdown, write_docs
from workbench.bench.settings import Settings, parse_task, parse_variant, settings_of
from workbench.bench.table import (
    chosen_rows,
    defence_rows,
    load_bench,
    misplaced,
    not_measured,
    task_rows,
    truth_rows,
)
from workbench.circuits.files.markdown import table
from workbench.commands.forms.bench import Bench
from workbench.core.errors import OptionError, RunError


def test_means_over_models_and_who_did_not_measure_all():
    rows = {row["method"]: row for row in truth_rows(made().document)}
    assert list(rows) == ["shy", "good", "bad"]  # best first
    assert rows["bad"]["edge AUROC"] == pytest.approx(0.85) and rows["bad"]["worst"] == 0.8
    assert rows["good"]["edge AUPRC"] == pytest.approx(0.475) and rows["good"]["all found"] == "1/2"
    assert rows["shy"]["models"] == "1/2" and rows["shy"]["node AUROC"] is None


def test_a_mean_over_fewer_tasks_is_not_put_above_one_over_all():
    rows = task_rows(made().document)
    assert [row["method"] for row in rows] == ["good", "bad", "shy"]
    assert [row["tasks"] for row in rows] == ["2/2", "2/2", "1/2"]
    assert rows[0]["CMD"] == pytest.approx(0.15) and rows[1]["CPR"] == pytest.approx(0.7)
    assert rows[0]["f 1%"] == 0.25 and rows[0]["f 5%"] is None and rows[0]["Pearson"] is None


def test_what_was_not_measured_is_said_once_with_its_reason():
    rows = not_measured(made().document)
    assert rows[0] == {"method": "every method", "where": "ioi/greater-than", "why": "no gap"}
    assert rows[1]["where"] == "b (edges), ioi/ioi (edges)" and rows[1]["why"] == "refused: no norm"


def test_failures_are_listed_for_methods_that_mostly_work():
    rows = misplaced(made().document)
    assert [(row["method"], row["model"]) for row in rows] == [("bad", "a"), ("bad", "b"), ("good", "b")]
    assert rows[0]["true edges ranked too low"] == "input->m0 (0.5)"
    assert rows[0]["others above them"] == "input->logits (2), m0->logits (1)"
    worse = [truth_cell("bad", "zoo:truth-a", 0.6), truth_cell("bad", "zoo:truth-b", 0.6)]
    assert misplaced(made(truth=worse).document) == []


def test_the_page_of_documentation_is_filled_between_its_marks(tmp_path):
    page = tmp_path / "bench.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\nafter\n")
    write_docs(made(), page)
    write_docs(made(), page)  # twice is once
    text = page.read_text()
    assert text == f"# Title\n\n{BEGIN}\n{markdown(made())}\n{END}\nafter\n"
    assert "| good | 0.950 | 0.900 |" in text and "old" not in text
    (tmp_path / "other.md").write_text("no marks")
    with pytest.raises(RunError, match="no part between"):
        write_docs(made(), tmp_path / "other.md")


def test_cells_of_a_markdown_table():
    text = table([{"a": 0.12345, "b": "x|y", "c": None}, {"a": 12.3, "b": "a->b", "c": None}])
    assert text.splitlines()[1:] == ["|--:|---|--:|", "| 0.123 | x\\|y | – |", "| 12 | `a->b` | – |"]


def test_the_page_holds_tables_and_curves_and_no_foreign_markup():
    from workbench.bench.page import bench_page

    page = bench_page(made())
    assert page.count("<svg") == 4  # ROC and PR of edges, faithfulness of two tasks
    assert "Claims &lt;b&gt;." in page and "<b>" not in page
    assert "mean AUROC 0.950" in page and "CMD 0.100, CPR 0.900" in page


def test_a_bench_is_read_strictly(tmp_path):
    with pytest.raises(RunError, match="no bench at"):
        load_bench(tmp_path)
    (tmp_path / "bench.json").write_text('{"format": "circuit-workbench/bench-discovery", "version": 2}')
    with pytest.raises(RunError, match="lacks 'digest'"):
        load_bench(tmp_path)
    (tmp_path / "bench.json").write_text("[")
    with pytest.raises(RunError):
        load_bench(tmp_path)


# -- what is asked -----------------------------------------------------------------------------------------


def test_methods_with_options():
    variant = parse_variant("eap-ig:steps=20:rule=left")
    assert variant.options == {"steps": 20, "rule": "left"} and variant.label == "eap-ig:steps=20:rule=left"
    with pytest.raises(OptionError, match="no option 'step'"):
        parse_variant("eap-ig:step=20")
    with pytest.raises(OptionError, match="did you mean eap-ig"):
        parse_variant("eapig")
    with pytest.raises(OptionError, match="cannot read 'steps'"):
        parse_variant("eap-ig:steps")
    asked = Settings(methods=("eap", "eap-ig:steps=5", "eap"))
    assert [v.label for v in asked.variants()] == ["eap", "eap-ig:steps=5"]


def test_every_registered_method_is_a_row_by_default():
    from workbench.methods.registry import list_methods

    assert [v.method for v in Settings().variants()] == list(list_methods())
    more = Settings(methods=("all", "eap", "eap-ig:steps=9")).variants()
    assert [v.label for v in more] == [*list_methods(), "eap-ig:steps=9"]


def test_tasks_of_models():
    assert (parse_task("zoo:ioi/sva").model, parse_task("zoo:ioi/sva").task) == ("zoo:ioi", "sva")
    found = parse_task("./models/mine/ioi/abc")
    assert (found.model, found.task, found.corruption) == ("./models/mine", "ioi", "abc")
    assert found.label == "./models/mine/ioi/abc"
    with pytest.raises(OptionError, match="did you mean ioi"):
        parse_task("zoo:ioi/ioii")
    with pytest.raises(OptionError, match="cannot read 'ioi'"):
        parse_task("ioi")


def test_commas_defaults_and_none():
    typed = [
        "--methods",
        "eap, exact",
        "--truth",
        "none",
        "--tasks",
        "zoo:ioi/ioi",
        "--levels",
        "edge",
        "-n",
        "8",
    ]
    words = command_of("bench discovery").make_context("discovery", typed)
    asked = read(Bench, words.params).settings()
    assert (asked.methods, asked.truths, asked.tasks) == (("eap", "exact"), (), ("zoo:ioi/ioi",))
    assert (asked.levels, asked.n_truth, asked.n_task) == (("edge",), 8, 8)
    quick = settings_of(quick=True)
    assert quick.seeds == 1 and len(quick.tasks) < len(Settings().tasks) and quick.most_passes
    assert settings_of(quick=True, seeds=2).seeds == 2
    with pytest.raises(OptionError, match="no level called 'neuron'"):
        settings_of(levels=["neuron"])


def cut(value, own, reached_by):
    told = {
        "value": value,
        "own": own,
        "others": own - value,
        "random": 0.1,
        "reached_by": reached_by,
        "draws": 8,
    }
    return {"specificity": told | {"tasks": ["a", "b", "c"]}, "variation": 0.5}


def test_specificity_and_the_null_task_are_means_over_the_tasks_that_have_them():
    stable = {"halves": 0.6, "null": 0.2, "templates": 0.5}
    lacking = {"specificity": {"left_out": "too few tasks"}, "variation": 1.5}
    cells = [
        task_cell("good", "zoo:ioi/ioi", 0.2, **cut(0.4, 0.9, 1), stability=stable),
        task_cell("good", "zoo:kv/kv-retrieval", 0.2, **lacking, stability={"halves": 1.0}),
        task_cell("bad", "zoo:ioi/ioi", 0.3, **cut(0.7, 0.8, 0), stability={"left_out": "too many passes"}),
        task_cell("shy", "zoo:ioi/ioi", 0.3),  # of an older bench
    ]
    rows = defence_rows(made(tasks=cells).document)
    assert [row["method"] for row in rows] == ["bad", "good"]
    good = rows[1]
    assert good["specificity"] == pytest.approx(0.4) and good["others' loss"] == pytest.approx(0.5)
    assert (
        good["reach it"] == "1/8" and good["tasks"] == "1 and 2" and good["cv of pairs"] == pytest.approx(1.0)
    )
    # J halves is of both tasks; the quotient compares halves and null task where both are known
    assert good["J halves"] == pytest.approx(0.8) and good["over null"] == pytest.approx(3.0)
    assert rows[0]["over null"] is None and rows[0]["J null task"] is None


def test_the_method_that_chooses_stands_beside_every_fixed_choice():
    def agrees(name, task, r, cmd, **options):
        return task_cell(name, task, cmd, agreement={"pearson": r}, options=options)

    of = ["good", "bad"]
    cells = [
        agrees("auto", "x", 0.9, 0.1, of=of, chosen="good"),
        agrees("auto", "y", 0.7, 0.4, of=of, chosen="bad"),
        agrees("good", "x", 0.9, 0.1),
        agrees("good", "y", 0.2, 0.3),
        agrees("bad", "x", 0.5, 0.2),
        agrees("bad", "y", 0.7, 0.4),
    ]
    known = [{"method": n} for n in ("auto", "good", "bad")]
    auto, good, bad = chosen_rows(made(tasks=cells, truth=[], methods=known).document)
    assert (auto["Pearson"], auto["worst Pearson"]) == (pytest.approx(0.8), 0.7)
    assert (good["worst Pearson"], bad["worst CMD"]) == (0.2, 0.4)
    assert (good["chosen"], bad["chosen"], good["models"]) == (1, 1, 0)
    assert chosen_rows(made().document) == []
