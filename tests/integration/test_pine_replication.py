"""The PINE study on a tiny model: what can be tested, what cannot, and verdicts that go both ways."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import ModelError, OptionError
from workbench.edits.documents import Question, _answers, prompt, questions, spans, words_of
from workbench.papers import pine
from workbench.papers.kinds import Setting

SMALL = pine.PineSizes(conflicts=3, majorities=2, singles=2, size=4)


def verdicts(model) -> dict[str, str]:
    found = pine.REPLICATION.run(Setting(model=model, name="tiny", options=SMALL))
    return dict(zip(pine.CLAIMS, (claim.verdict for claim in found.claims), strict=True))


def test_invariance_holds_and_what_needs_answers_is_not_tested(bridge_of):
    found = verdicts(bridge_of("llama"))
    assert (found["invariant"], found["unequal"], found["one"]) == ("holds",) * 3
    assert found["accuracy"] == found["bias"] == "cannot be tested here"  # random weights answer nothing


def test_with_a_control_in_its_place_the_claim_fails(bridge_of, monkeypatch):
    monkeypatch.setitem(pine.CONDITIONS, pine.PINE, {"order": "given"})
    assert verdicts(bridge_of("llama"))["invariant"] == "fails"


def test_a_model_without_rotary_positions_is_refused_with_the_reason(bridge_of):
    with pytest.raises(ModelError, match="not rotary"):
        verdicts(bridge_of("gpt2"))


def test_questions_say_what_they_are_said_to(bridge_of):
    words = words_of(bridge_of("llama"))
    for kind, right, wrong in (("single", 1, 0), ("conflict", 1, 1), ("majority", 2, 1)):
        for q in questions(words, kind, n=5, sizes=(4, 4, 6), seed=1):
            key, tells = q.ask[-1], {q.right: 0, q.wrong: 0}
            for document in q.documents:
                if key in document:
                    tells[document[document.index(key) + 1]] += 1
            assert tells[q.right] == right and tells[q.wrong] == wrong and len(q.at[0]) == right
            order = (2, 0, 1)
            ids, where = prompt(words, q, order), spans(words, q, order)
            assert [tuple(ids[s:e]) for s, e in where] == [q.documents[j] for j in order]
    with pytest.raises(OptionError, match="at least 3"):
        questions(words, "single", n=1, sizes=(4, 4), seed=0)


def test_lean_and_changes_by_hand():
    """Two orders; token 5 is told by document 0, token 6 by document 1; whoever is nearer wins."""
    import torch

    asked = [Question(documents=((1,), (2,), (3,)), ask=(4,), right=5, wrong=6, at=((0,), (1,)))]
    table = torch.full((1, 2, 8), -9.0)
    table[0, 0, 6], table[0, 0, 5] = -1.0, -2.0  # order 0 1 2: document 1 is nearer
    table[0, 1, 5], table[0, 1, 6] = -1.0, -4.0
    found = _answers(table, asked, [(0, 1, 2), (1, 0, 2)])
    assert found.changes.tolist() == [1.0] and found.accuracy.tolist() == [0.5]
    assert found.lean.tolist() == pytest.approx([(1 + 3) / 2])
    assert found.spread.tolist() == pytest.approx([3.0])
    assert np.array_equal(found.later, [[False, True]])


def test_one_document_moves_nothing_and_lengths_do_not_matter(bridge_of):
    from workbench.edits.documents import unequal_spread
    from workbench.edits.pine import moved_alone

    model = bridge_of("llama")
    one, two = moved_alone(model)
    assert one < 1e-4 < 1e-3 < two
    words = words_of(model)
    assert unequal_spread(model, words, 4, {}, seed=0) < 1e-3 < unequal_spread(model, words, 4, None, seed=0)
