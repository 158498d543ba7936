"""Shares of a list of parts: every part in exactly one, of about equal cost; what a shard may be called."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench.circuits.files
from tests.files import rewrite
from workbench.circuits.files.shard_file import NAME, ShardFile, load_shard
from workbench.core.errors import OptionError, RunError
from workbench.engine.cluster.spread import Spread
from workbench.engine.distribute import Here, Shard, ShardFinished, WorkPart, parse_shard, share_of
from workbench.engine.store import SweepStore


def parts_of(costs):
    return [WorkPart(key=f"p{n}", shape=(1,), batch=0, cost=float(c)) for n, c in enumerate(costs)]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 12))
def test_every_part_is_in_exactly_one_share_and_shares_are_contiguous(costs, count):
    parts = parts_of(costs)
    shares = [share_of(parts, index, count) for index in range(1, count + 1)]
    assert [p for share in shares for p in share] == parts
    # a share is at most its equal part of the whole and one part more
    assert max(sum(p.cost for p in share) for share in shares) <= sum(costs) / count + max(costs)


def test_shares_follow_the_cost_not_the_number():
    shares = [[p.key for p in share_of(parts_of([6, 1, 1, 1, 1, 1, 1]), i, 2)] for i in (1, 2)]
    assert shares == [["p0"], ["p1", "p2", "p3", "p4", "p5", "p6"]]


@pytest.mark.parametrize("text", ["2", "0/4", "5/4", "a/b", "1/0", "-1/4", "1/2/3", ""])
def test_a_shard_that_is_none_says_how_to_write_one(text):
    with pytest.raises(OptionError) as error:
        parse_shard(text)
    assert "--shard" in str(error.value)


def test_what_does_not_go_together_is_refused():
    for wrong in ({"shard": "1/2", "ray": "local"}, {"workers": 2}, {"ray": "local", "workers": 0}):
        with pytest.raises(OptionError):
            Spread(**wrong)


def test_a_shard_computes_its_parts_alone_and_keeps_them(tmp_path):
    asked = []

    def compute(part):
        asked.append(part.key)
        return np.array([float(part.key[1:])])

    parts = parts_of([1, 1, 1, 1])
    with SweepStore(tmp_path, {"plan": 1}, resume=False) as store:
        with pytest.raises(ShardFinished) as finished:
            list(Shard(index=2, count=2).asked("q", store).values(parts, compute))
        assert asked == ["p2", "p3"] and store.done() == {"p2", "p3"}
        assert finished.value.mine == ("p2", "p3") and len(finished.value.parts) == 4
        assert [v.tolist() for v in Here().asked("q", store).values(parts, compute)] == [
            [0.0],
            [1.0],
            [2.0],
            [3.0],
        ]
        assert asked == ["p2", "p3", "p0", "p1"]  # the share's own were read, not computed again


def test_computations_within_one_another_do_not_share_names(tmp_path):
    """Two sweeps inside one search have parts of the same name: the store must not mix them."""
    parts = parts_of([1])
    with SweepStore(tmp_path, {"plan": 1}, resume=False) as store:
        whole = Here().asked("search", store)
        first, second = whole.asked("one", store), whole.asked("two", store)
        assert next(first.values(parts, lambda p: np.array([1.0]))).tolist() == [1.0]
        assert next(second.values(parts, lambda p: np.array([2.0]))).tolist() == [2.0]
        assert next(first.values(parts, lambda p: np.array([9.0]))).tolist() == [1.0]


def test_the_file_of_a_shard_round_trips_and_is_read_strictly(tmp_path):
    shard = ShardFile(index=1, count=2, question="ab", parts=(("a", (2, 3)), ("b", None)), mine=("a",))
    shard.save(tmp_path)
    assert load_shard(tmp_path) == shard
    whole = json.loads((tmp_path / NAME).read_text())
    schema = json.loads(
        (Path(workbench.circuits.files.__file__).parent / "schema" / "shard.schema.json").read_text()
    )
    jsonschema.validate(whole, schema)
    for wrong in (
        {**whole, "version": 3},
        {**whole, "question": "cd"},
        {k: v for k, v in whole.items() if k != "mine"},
        {**whole, "more": 1},
    ):
        (tmp_path / NAME).write_text(json.dumps(wrong))
        with pytest.raises(RunError):
            load_shard(tmp_path)


@pytest.mark.parametrize("key", ["../../victim", "/tmp/victim", ".hidden", "a/b", "", "a\n", "a" * 300])
def test_a_key_that_leads_out_of_the_folder_is_refused(tmp_path, key):
    ShardFile(index=1, count=1, question="ab", parts=((key, None),), mine=(key,)).save(tmp_path)
    with pytest.raises(RunError) as error:
        load_shard(tmp_path)
    assert "names a part" in str(error.value)
    with (
        SweepStore(tmp_path / "run", {"plan": 1}, resume=False) as store,
        pytest.raises(RunError, match="names a part"),
    ):
        store.put(key, np.zeros(1))
    assert not list(tmp_path.rglob("*victim*"))


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"mine": ["c"]}, "none of its parts"),
        ({"mine": ["a", "a"]}, "'a' twice"),
        ({"parts": [["a", None], ["a", None]]}, "'a' twice"),
        ({"index": 0}, "index is 0"),
        ({"index": 3}, "no shard 3 of 2"),
    ],
)
def test_a_shard_that_contradicts_itself_is_refused(tmp_path, wrong, said):
    ShardFile(index=1, count=2, question="ab", parts=(("a", None), ("b", None)), mine=("a",)).save(tmp_path)
    rewrite(tmp_path / NAME, **wrong)
    with pytest.raises(RunError) as error:
        load_shard(tmp_path)
    assert said in str(error.value)
