"""Words from files stay words in every view: the markup of a page does not depend on them.

Each view is made twice, once of harmless and once of hostile words. Elements and attribute names of the two must be
the same, one by one; nothing that steers a terminal may be in either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.benches import made as bench
from tests.circuits import HOSTILE, circuit, scores, small
from tests.unit.test_view import shown
from tests.unit.test_view_pictures import result as replication
from workbench.bench.page import bench_page
from workbench.circuits.compare import compare
from workbench.circuits.effects import Effects
from workbench.circuits.files.csv_text import csv_text
from workbench.circuits.files.export import export
from workbench.circuits.files.markdown import table as markdown_table
from workbench.circuits.show.circuit_page import circuit_card, circuit_page, report_page
from workbench.circuits.show.judgement import judgement_page
from workbench.circuits.verdicts.criteria import Criteria
from workbench.circuits.verdicts.judgement import Judgement
from workbench.core.claims import judge
from workbench.core.errors import RunError
from workbench.evaluate.roles import HeadRole, HeadRoles
from workbench.heads.every_head import Measurement
from workbench.heads.show.atlas import atlas_page
from workbench.heads.shown_patterns import PromptPatterns
from workbench.heads.table import Portrait
from workbench.model.architecture import Architecture, Support
from workbench.papers.result import Results
from workbench.papers.studies.kinds import StepResult
from workbench.papers.studies.result import Reproduction
from workbench.tasks.alignment import AlignedPairs, Dropped
from workbench.tasks.check import CheckReport
from workbench.tasks.pairs import Pair, Pairs
from workbench.tasks.pairs_file import Problem

PLAIN = "plain"
EVIL = (
    *HOSTILE,
    "<img src=x onerror=alert(1)>",
    "\"onload='alert(1)' x=\"",
    "</title></svg></style></textarea><iframe>",
    "--><base href=//x>",
    "\x1b]0;title\x07\x9b2J",
)


KEPT = frozenset(("status", "level", "levels", "format", "ranking"))  # which decide what is shown


def poisoned(value, text: str, keep: frozenset[str] = KEPT):
    """A document with the text behind every word of it, but those that decide what is shown."""
    if isinstance(value, dict):
        return {k: v if k in keep else poisoned(v, text, keep) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [poisoned(v, text, keep) for v in value]
    return f"{value} {text}" if isinstance(value, str) else value


def hostile_circuit(text: str):
    words = {name: text for name in ("task", "model", "method", "metric", "unit")}
    known = {"selection": {"rule": text}, "evaluation": {text: text}, "roles": {"a1.h1": text, "a0.h0": text}}
    return small(prompt=("a", text), **words, **known)


def judgement(text: str) -> Judgement:
    model = [4.0, 5.0, 6.0, 4.5, 5.5, 3.0, 7.0, 5.25]
    removed = [
        {"name": text, "kind": text, "removed": [text], "model": model, "circuit": model, "searched": []}
    ]
    left = [{"part": text, "class": text, "kept": model, "left_out": model[::-1], "k": [text]}]
    evidence = {
        "scores": {"model": model, "circuit": model, "nothing": [0.0] * 8, "complement": [0.0] * 8},
        "ablations": {text: {"circuit": model, "nothing": [0.0] * 8}},
        "random": {"metric": [1.0, 2.0], "distance": [1.0, 2.0], "knocked_out": [1.0, 2.0]},
        "edges": {
            "of": 1,
            "seed": 0,
            "left_out": [{"edge": text, "left_out": model}],
            "reference": [0.01] * 9,
        },
        "stability": {"parts": [text], "sets": [[0], [0]], "refitted": False, "candidates": 2},
        "completeness": removed,
        "minimality": left,
        "curve": {"shares": [0.1, 1.0], "metric": [model, model], "ranking": text},
    }
    document = {
        "circuit": {"method": text, "task": text, "model": text, "size": 1, "candidates": 2, "level": "edge"},
        "metric": text, "unit": text, "ablation": text, "direction": 1, "plan": {"seed": 0},
        "pairs": {"ids": list("abcdefgh"), "groups": [text] * 4 + [""] * 4}, "criteria": asdict(Criteria()),
        "evidence": evidence, "missing": {}, "provenance": {"standing": [text], text: text},
    }  # fmt: skip
    return Judgement(document=document)


def portrait(text: str) -> Portrait:
    values = np.array([[0.25, 0.75]])
    fields = {
        "unit": text,
        "about": text,
        "null_about": text,
        "source": text,
        "n": 8,
        "low": 0.0,
        "high": 1.0,
    }
    measured = Measurement(
        name="k-composition", on="random", evidence="read-out", values=values, stderr=values, null=values,
        partners=((text, text),), missing={text: (0,)}, **fields,
    )  # fmt: skip
    return Portrait(
        model=text, n_layers=1, n_heads=2, attention_layers=(0,), measurements=(measured,), notes=(text,),
        grounds=({"name": text, "about": text},), provenance={text: text},
    )  # fmt: skip


def reproduction(text: str) -> Reproduction:
    claim = judge(text, text, True, found=text, paper=text)
    step = StepResult(name="x", title=text, tables={text: [{text: text, "n": 1}]}, claims=(claim,))
    words = {name: text for name in ("source", "model")}
    return Reproduction(
        study="ioi", comparable=True, n_pairs=1, n_reference=1, steps=(step,), circuit=hostile_circuit(text),
        setting={text: text}, folder=Path(), **words,
    )  # fmt: skip


def pairs(text: str) -> tuple[Pairs, AlignedPairs]:
    pair = Pair(id=text, clean=f"a {text}", corrupted=f"b {text}", correct=(text,), incorrect=(f"{text}2",))
    made = Pairs(items=(pair,), task=text, split=text)
    nothing = {name: () for name in ("clean", "corrupted", "positions", "correct", "incorrect")}
    dropped = (Dropped(id=text, kind=text, reason=text),)
    return made, AlignedPairs(pairs=made, dropped=dropped, prepend_bos=True, **nothing)


def architecture(text: str) -> Architecture:
    sizes = dict.fromkeys(
        ("n_layers", "n_heads", "n_kv_heads", "d_model", "d_head", "d_vocab", "d_vocab_out"), 1
    )
    yes = dict.fromkeys(
        ("parallel", "attn_only", "causal", "has_lm_head", "prepend_bos", "has_tokenizer"), True
    )
    no = dict.fromkeys(("d_mlp", "n_ctx", "act_fn", "n_experts"))
    words = dict.fromkeys(("family", "norm", "norm_placement", "positions"), text)
    support = {text: Support(works=False, why=text)}
    return Architecture(
        **sizes, **yes, **no, **words, attention_layers=(0,), mlp_layers=(0,), support=support
    )


def effects(text: str) -> Effects:
    words = dict.fromkeys(("kind", "metric", "unit", "task", "model"), text) | {"mode": "noising"}
    values = np.array([[1.0, 2.0], [3.0, 5.0]])
    given = {"base": np.zeros(2), "gap": np.ones(2), "direction": 1, "pair_ids": (text, "b")}
    return Effects(labels=(text, "a0.h0"), patched=values, provenance={text: text}, **given, **words)


def replications(text: str) -> list[str]:
    made = replication(title=text, source=text, about=text, controls=(text,), model=text, plan={text: text})
    whole = Results(results=[made], failed={text: text}, folder=Path())
    return [made.page(), made._repr_html_(), whole.page()]


def circuits(text: str) -> list[str]:
    made = hostile_circuit(text)
    other = circuit({"input->a0.h0<q>": 1.0, "a0.h0->logits": 2.0}, unit="u", task=text, model=text)
    table = {text: [{text: text}]}
    return [
        circuit_page(made), circuit_card(made), report_page(made, tables=table, lead=text),
        made.summary()._repr_html_(), compare(made, other)._repr_html_(), export(made, "svg"),
    ]  # fmt: skip


def cards(text: str) -> list[str]:
    numbers = {"attention": 0.75, "direct_effect": -1.5, "direct_stderr": 0.25, "n": 8}
    role = HeadRole(head="a1.h1", role=text, query=text, key=text, unit=text, **numbers)
    problem = (Problem(line=1, id=text, message=text),)
    check = CheckReport(file=text, model=text, n_pairs=1, n_good=0, problems=problem, words={})
    scored = replace(scores(), method=text, unit=text, metric=text)
    return [HeadRoles([role])._repr_html_(), check._repr_html_(), scored._repr_html_()]


def portraits(text: str) -> list[str]:
    made = portrait(text)
    looked = PromptPatterns(
        title=text, tokens=(text, "b"), layers=(0,), weights=np.full((1, 2, 2, 2), 9, np.uint8)
    )
    return [made._repr_html_(), atlas_page(made, [looked])]


def benches(text: str) -> list[str]:
    made = bench()
    made = replace(made, document=poisoned(made.document, text))
    return [bench_page(made), made._repr_html_()]


VIEWS: dict[str, Callable[[str], list[str]]] = {
    "replications": replications,
    "circuits": circuits,
    "cards": cards,
    "portraits": portraits,
    "benches": benches,
    "judgement": lambda text: [judgement_page(judgement(text)), judgement(text)._repr_html_()],
    "reproduction": lambda text: [reproduction(text).page(), reproduction(text)._repr_html_()],
    "pairs": lambda text: [made._repr_html_() for made in pairs(text)],
    "architecture": lambda text: [architecture(text)._repr_html_()],
}


class Shape(HTMLParser):
    """Elements with the names of their attributes, in order; and the words between them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, ...]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag):
        self.elements.append((f"/{tag}",))

    def handle_data(self, data):
        self.words.append(data)

    def handle_comment(self, data):
        self.elements.append(("comment",))


STEERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("name", VIEWS)
def test_the_markup_of_a_page_does_not_depend_on_its_words(name):
    harmless = [Shape(page).elements for page in VIEWS[name](PLAIN)]
    for text in EVIL:
        pages = VIEWS[name](text)
        for page, elements in zip(pages, harmless, strict=True):
            found = Shape(page)
            assert found.elements == elements, text
            assert not STEERS.search(page) and not STEERS.search("".join(found.words)), text


def results(text: str) -> Iterator[object]:
    made, aligned = pairs(text)
    yield from (
        judgement(text),
        portrait(text),
        reproduction(text),
        effects(text),
        hostile_circuit(text),
        made,
        aligned,
    )
    yield from (
        architecture(text),
        replication(model=text),
        hostile_circuit(text).summary(),
        small(model=text),
    )
    yield compare(hostile_circuit(text), small(model=text))
    yield replace(bench(), document=poisoned(bench().document, text))


def test_nothing_steers_a_terminal():
    for text in EVIL:
        for found in results(text):
            assert not STEERS.search(shown(found).replace("\n", "")), (type(found), text)
            assert not STEERS.search(repr(found)), (type(found), text)
        assert not STEERS.search(str(RunError(text, hint=text)).replace("\n", ""))


def test_markdown_and_csv_keep_words_in_their_cells():
    for text in (
        *EVIL,
        "`x->`<b>",
        "x->y` <b>`",
        "[a](javascript:b)",
        "![a](//b)",
        "a|b",
        "\\|",
        "<!-- end -->->",
    ):
        page = markdown_table([{text: text, "b": 1.0}])
        assert len(page.splitlines()) == 3 and not re.search(
            r"<|(?<!\\)(\\\\)*\[", re.sub(r"`[^`]*`", "", page)
        )
        assert [len(re.findall(r"(?<!\\)\|", line)) for line in page.splitlines()] == [3, 3, 3]
        assert "<!--" not in page and not STEERS.search(page.replace("\n", ""))
        heading, cell = csv_text([{text: text}]).splitlines()[:2]
        assert heading == cell and cell[:1] not in "=+-@" and not STEERS.search(cell)
