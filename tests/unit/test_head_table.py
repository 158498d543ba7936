"""A portrait's table by hand: order, kinds, missing values, files that come back as they were, hostile texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import workbench
from workbench.core.errors import OptionError, ShapeError, WorkbenchError
from workbench.heads.every_head import Measurement
from workbench.heads.show.atlas import atlas_page
from workbench.heads.show.portrait import null_row, rounded, table_rows, terminal_parts
from workbench.heads.shown_patterns import PromptPatterns
from workbench.heads.table import Portrait, check_column, load_portrait
from workbench.view.terminal import console, render

NAN = float("nan")
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[31m"


def measurement(name: str, values: list[list[float]], **given) -> Measurement:
    values = np.array(values)
    plain = {
        "on": "random", "evidence": "read-out", "null": np.full(values.shape, 0.1), "low": 0.0, "high": 1.0,
        "unit": "attention", "about": "what", "null_about": "chance", "n": 8,
    }  # fmt: skip
    return Measurement(name=name, values=values, **{**plain, **given})


@pytest.fixture
def portrait() -> Portrait:
    return Portrait(
        model=f"mine {HOSTILE}",
        n_layers=3,
        n_heads=2,
        attention_layers=(0, 2),
        measurements=(
            measurement("induction", [[0.2, 0.9], [NAN, NAN], [NAN, 0.31]], missing={"no attention": (1,)}),
            measurement(
                "k-composition",
                [[NAN, NAN], [NAN, NAN], [0.5, 0.25]],
                on="weights",
                evidence="weight",
                partners=(("", ""), ("", ""), ("a0.h1", "a0.h0")),
                missing={"no earlier heads": (0,)},
            ),
            measurement(
                "loss", [[1.0, -2.0], [NAN, NAN], [0.0, 3.0]], evidence="causal", low=None, high=None,
                stderr=np.full((3, 2), 0.5), unit="nats per token",
            ),
            measurement("retrieval", [[0.9, 0.9], [NAN, NAN], [0.9, 0.9]], n=1),
        ),
        grounds=({"name": "random", "about": "BOS, then 5 random tokens, twice"},),
        notes=(f"note {HOSTILE}",),
        provenance={"model": "mine", "seed": 0},
    )  # fmt: skip


def test_rows_are_heads_of_layers_with_attention(portrait):
    rows = portrait.rows()
    assert [r["head"] for r in rows] == ["a0.h0", "a0.h1", "a2.h0", "a2.h1"] == list(portrait.heads)
    assert rows[2]["induction"] is None and rows[2]["k-composition with"] == "a0.h1"


def test_sorting_puts_the_largest_first_and_nothing_last(portrait):
    assert [r["head"] for r in portrait.rows(sort="induction")] == ["a0.h1", "a2.h1", "a0.h0", "a2.h0"]
    assert portrait.top("loss", 2) == [("a2.h1", 3.0), ("a0.h0", 1.0)]
    with pytest.raises(OptionError, match="induktion") as error:
        portrait.rows(sort="induktion")
    assert "did you mean induction" in error.value.hint
    check_column("induction@text")
    with pytest.raises(OptionError):
        check_column("importance")


def test_a_kind_of_head_is_a_score_of_enough_sequences(portrait):
    assert [portrait.label(h) for h in portrait.heads] == [
        "",
        "induction",
        "",
        "induction",
    ]  # 1 needle names nothing


def test_kinds_of_evidence_are_columns_of_their_own(portrait):
    assert {m.key: m.evidence for m in portrait.measurements} == {
        "induction": "read-out", "k-composition": "weight", "loss": "causal", "retrieval": "read-out"
    }  # fmt: skip
    assert not any("importance" in key for key in portrait.keys)


def test_json_comes_back_as_it_was(portrait, tmp_path):
    portrait.to_json(tmp_path / "portrait.json")
    again = load_portrait(tmp_path)
    assert again.to_dict() == portrait.to_dict()
    assert json.loads(portrait.to_json())["measurements"][0]["values"][1] == [None, None]
    with pytest.raises(WorkbenchError, match="version 3"):
        Portrait.from_dict({**portrait.to_dict(), "version": 3})
    with pytest.raises(WorkbenchError, match="was changed since it was written"):
        Portrait.from_dict({**portrait.to_dict(), "model": "another"})
    del (cut := portrait.to_dict())["measurements"]
    with pytest.raises(WorkbenchError, match="lacks 'measurements'"):
        Portrait.from_dict(cut)


def test_the_document_follows_its_schema(portrait):
    from jsonschema import Draft202012Validator

    file = Path(workbench.__file__).parent / "circuits/files/schema/portrait.schema.json"
    check = Draft202012Validator(json.loads(file.read_text()))
    assert not list(check.iter_errors(portrait.to_dict()))
    added = {**portrait.to_dict(), "importance": 1}
    assert list(check.iter_errors(added))


def test_parquet_has_a_row_per_head_and_tells_evidence_and_units(portrait, tmp_path):
    import pandas as pd
    import pyarrow.parquet as pq

    file = portrait.to_parquet(tmp_path / "heads.parquet")
    frame = pd.read_parquet(file)
    assert frame["head"].tolist() == list(portrait.heads)
    assert frame["loss"].tolist() == [1.0, -2.0, 0.0, 3.0] and np.isnan(frame["induction"][2])
    assert frame["loss stderr"].tolist() == [0.5] * 4 and frame["induction null"].tolist() == [0.1] * 4
    told = json.loads(pq.read_schema(file).metadata[b"workbench"])
    assert (
        told["measurements"][2]["evidence"] == "causal"
        and told["measurements"][2]["unit"] == "nats per token"
    )


def test_parquet_without_pyarrow_says_what_to_install(portrait, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(WorkbenchError, match="pyarrow"):
        portrait.to_parquet(tmp_path / "heads.parquet")
    assert not list(tmp_path.iterdir())


def test_shapes_must_fit():
    with pytest.raises(ShapeError, match="induction"):
        measurement("induction", [[1.0, 2.0]], null=np.zeros((2, 2)))


def test_the_terminal_shows_chance_beside_the_heads(portrait, capsys):
    rows = table_rows(portrait, sort="induction")
    assert rows[0]["head"] == "a0.h1" and null_row(portrait, ["induction"])["induction"] == pytest.approx(0.1)
    console(width=200).print(render(terminal_parts(portrait, most=2)))
    shown = capsys.readouterr().out
    assert "by chance" in shown and "and 2 more heads" in shown
    assert "only on the page, in --json and in Parquet:" in shown
    assert not set(shown.partition("Parquet: ")[2].splitlines()[0].split(", ")) & set(table_rows(portrait)[0])
    words = " ".join(shown.split())
    assert "whatever the task: kind names scores of at least 0.3 on random tokens; loss is the " in words
    assert "above 0: the head helps there" in words
    assert "\x1b[31m" not in shown and "\\x1b[31m" in shown


def test_a_column_has_one_notation():
    m = measurement("induction", [[0.9312345, 5.18e-06], [0.000173, -0.25]])
    assert [rounded(v, m) for v in m.values.ravel()] == [0.9312345, 0.0, 0.000173, -0.25]
    assert rounded(None, m) is None
    m = measurement("loss", [[3e-07, 1e-09]])  # nothing of a column that is small as a whole is lost
    assert [rounded(v, m) for v in m.values.ravel()] == [3e-07, 1e-09]


def test_pages_and_cards_hold_no_markup_of_others(portrait):
    looked = PromptPatterns(
        title=HOSTILE, tokens=(HOSTILE, "b"), layers=(0, 2), weights=np.full((2, 2, 2, 2), 128, np.uint8)
    )
    page = atlas_page(portrait, [looked])
    for text in (page, portrait._repr_html_()):
        assert "<img" not in text and "\x1b" not in text
    assert page.count("</script>") == 3  # the data, the theme, the atlas
    assert "default-src 'none'" in page and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert 'src="' not in page and 'href="' not in page
