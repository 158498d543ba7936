"""Component reuse by hand: overlap against chance, scenes, and an inhibition head whose effect can be worked out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.core.errors import TaskError
from workbench.edits.scenes import SceneAnswers, _named, _recolored, forced, scene_of
from workbench.evaluate.scene_repairs import SceneRepair
from workbench.evaluate.task_circuits import TaskCircuits
from workbench.heads.rounds import Round, TaskCircuit, overlap, shared_writers
from workbench.model.native import load_native, write_native
from workbench.tasks.registry import make_pairs
from workbench.training.blocks import Head, Machine, Residual

N, C = 8, 6.0  # words; strength of the inhibition


def test_overlap_of_the_paper_is_25_of_32():
    both = [f"a1.h{i}" for i in range(25)]
    found = overlap([*both, "w", "x", "y", "z"], [*both, "u", "v", "t"], 384)
    assert found.jaccard == 25 / 32 and (len(found.only_here), len(found.only_there)) == (4, 3)
    assert found.of == 32 and found.row()["shared"] == 25 and found.row()["Jaccard"] == found.jaccard
    shared = 29 * 28 / 384
    assert found.chance == pytest.approx(shared / (29 + 28 - shared)) and found.p < 1e-20
    assert overlap(["a"], ["b"], 2).p == 1.0


def test_writers_of_both_tasks_count_only_where_they_look_at_both_answers():
    def circuit(task, *kept):
        first = Round(receivers=("logits",), slot="logits", shares=dict.fromkeys(kept, 0.1), kept=kept)
        return TaskCircuit(task=task, rounds=(first,), n_heads=8)

    here, there = circuit("one", "a1.h2", "a1.h0", "a1.h1"), circuit("two", "a1.h3", "a1.h1", "a1.h2")
    found = shared_writers(here, there, [{"a1.h1", "a1.h2"}, {"a1.h1", "a1.h3"}])
    assert found.here == ("a1.h0", "a1.h1", "a1.h2") and found.there == ("a1.h1", "a1.h2", "a1.h3")
    assert found.both == ("a1.h1", "a1.h2") and found.looking == ("a1.h1",)
    looks = {"one": {"a1.h1", "a1.h2"}, "two": {"a1.h1", "a1.h3"}}
    tasks = TaskCircuits(circuits={"one": here, "two": there}, looks=looks)
    assert tasks.writers("one", "two") == found
    assert tasks.shared_with("one") == {"two": overlap(here.heads, there.heads, 8)}
    assert [row["task"] for row in tasks.rows()] == ["one"] * 3 + ["two"] * 3
    both = tasks.compared("one", "two")
    assert both["overlap of both circuits"].value == 0.5 and both["overlap of both circuits"].n == 4
    assert both["largest overlap of a control task"].why == "the model does none of the control tasks"
    with pytest.raises(TaskError, match="too hard"):
        TaskCircuits(circuits={"one": here}, reasons={"two": "too hard"}).compared("one", "two")


def test_what_was_right_is_lost_and_what_was_wrong_is_not_counted():
    before, after = (
        SceneAnswers(among=np.array(a), top=np.zeros(4), attention={}) for a in ([1, 1, 0, 0], [0, 1, 1, 0])
    )
    assert before.lost(after).tolist() == [True, False] and after.lost(after).tolist() == [False, False]


def test_a_repair_says_what_it_gains_loses_and_moves():
    def answered(among, looks=()):
        attention = dict(zip(("a1.h0", "a1.h1"), map(np.array, looks), strict=False))
        return SceneAnswers(among=np.array(among, float), top=np.zeros(4), attention=attention)

    right = ([[0.25, 0.5]] * 4, [[0.0, 0.1]] * 4)  # a1.h1 looks at no color, so it is no mover
    after = ([[0.5, 0.25]] * 4, [[0.1, 0.1]] * 4)
    shares = {"a1.h0": 0.2, "a1.h1": 0.4, "a0.h0": 0.1}
    writers = Round(receivers=("logits",), slot="logits", shares=shares, kept=("a1.h1", "a1.h0", "a0.h0"))
    tried = SceneRepair(
        found={
            "as it is": answered([1, 0, 0, 0], right),
            "all": answered([0, 1, 1, 1], after),
            "x only": answered([1, 1, 0, 0]),
        },
        drawn=[answered([1, 0, 0, 1]), answered([0, 0, 0, 0])],
        parts=("x only",),
        writers=writers,
    )
    found, numbers = tried.measured(), tried.numbers()
    assert found["gain of all"].value == 0.5 and found["largest gain of a part"].value == 0.25
    assert found["mean gain of random heads"].value == 0.0 and numbers["largest gain of random heads"] == 0.25
    assert found["lost"].value.tolist() == [True] and found["lost"].control == 0.5  # one draw of two loses it
    assert found["movers to the right color"].value.tolist() == [25.0] * 4
    assert found["movers to the wrong color"].value.tolist() == [-25.0] * 4
    assert "movers a1.h0;" in found["movers to the right color"].control
    assert numbers["moved to the right"] == pytest.approx({"a1.h0": 0.5, "a1.h1": 0.1})
    assert numbers["errors, among, all"] == 0.25 and numbers["each part"] == "x only +0.25"
    none = replace(
        tried, drawn=[], parts=(), found={**tried.found, "as it is": answered([0, 0, 0, 0], right)}
    )
    lacking = [name for name, one in none.measured().items() if one.value is None or not np.size(one.value)]
    random = [f"{what}, random heads" for what in ("among", "top")]
    assert lacking == [*random, "mean gain of random heads", "largest gain of a part", "lost"]


def test_scenes_are_read_from_the_last_question():
    pairs = make_pairs("colored-objects", n=5, seed=0, n_objects=3, shots=1, capitalize=True)
    for pair in pairs:
        named, start = _named(pair), pair.clean.rfind("\n")
        scene = scene_of(pair.clean)
        assert len(scene) == 3 and all(span[0] > start for _, span, _ in scene)
        said = {color.capitalize() for color, _, _ in scene}
        assert {a.strip() for a in (*named.correct, *named.incorrect)} == said and len(named.incorrect) == 2
        for i, wrong in enumerate(named.incorrect, start=1):
            a, b = named.positions[f"wrong color {i}"][0]
            assert pair.clean[a:b].capitalize() == wrong.strip()
        changed = _recolored(pair, 0)
        a, b = changed.positions["color"][1]
        assert changed.corrupted[a:b] == changed.incorrect[0].strip().lower() not in pair.clean.lower()
        a, b = changed.positions["query"][1]
        assert changed.corrupted[a:b] == pair.clean[slice(*pair.positions["query"][0])]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two layers: a0.h0 looks everywhere and tells the mover a1.h0 what to avoid; a0.h1 writes where nobody reads."""
    stream = Residual(sizes={"token": N, "avoid": N, "out": N, "spare": N})
    one, none = torch.eye(N, dtype=torch.float64), torch.zeros(N, stream.width, dtype=torch.float64)

    def reads(block):
        return stream.table(N, **{block: one})

    inhibits = Head(q=none, k=none, v=reads("token"), o=-C * reads("avoid").T)
    unrelated = Head(q=none, k=none, v=reads("token"), o=reads("spare").T)
    mover = Head(q=reads("avoid"), k=reads("token"), v=reads("token"), o=reads("out").T)
    idle = Head(q=none, k=none, v=reads("token"), o=reads("spare").T)
    machine = Machine(
        embed=stream.table(N, token=one),
        position=torch.zeros(8, stream.width, dtype=torch.float64),
        heads=[[inhibits, unrelated], [mover, idle]],
        unembed=stream.table(N, out=one),
    )
    folder = tmp_path_factory.mktemp("inhibition")
    write_native(*machine.native(), folder)
    return load_native(folder)


def _mover(model, heads, columns):
    """Mover's last row and the logits, with ``heads`` forced to ``columns``."""
    ids, seen = torch.arange(6)[None], {}

    def keep(pattern, hook):
        seen["row"] = pattern[0, 0, -1].clone()

    edit, hooks = forced(heads, columns), [("blocks.1.attn.hook_pattern", keep)]
    last = torch.tensor([5])
    with torch.no_grad(), edit.on(model, at=lambda name: last), model.hooks(fwd_hooks=hooks):
        logits = model(ids)[0, -1]
    return seen["row"], logits


def test_forced_inhibition_lowers_the_movers_attention_by_the_worked_out_amount(model):
    before, start = _mover(model, ["a0.h1"], (1, 2))  # an unrelated head: as without any edit
    assert before.tolist() == pytest.approx([1 / 6] * 6, abs=1e-6)
    after, logits = _mover(model, ["a0.h0"], (1, 2))
    low = math.exp(-C / 2)  # each wrong word is avoided with half of the strength
    assert after[1:3].tolist() == pytest.approx([low / (4 + 2 * low)] * 2, abs=1e-6)
    assert after[0].item() == pytest.approx(1 / (4 + 2 * low), abs=1e-6)
    assert (logits[0] - logits[1]).item() == pytest.approx((1 - low) / (4 + 2 * low), abs=1e-6)
    assert (start[0] - start[1]).item() == pytest.approx(0, abs=1e-6)
    wrong_columns, _ = _mover(
        model, ["a0.h0"], (0, 1)
    )  # the right word among the columns: it is avoided, too
    assert wrong_columns[0] < before[0]
