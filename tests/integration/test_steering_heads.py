"""Steering heads are those that look from the end mostly at the second mention, and those that write against."""

from __future__ import annotations

from workbench.engine.of_task import paired_runs
from workbench.evaluate.roles import attention_to, steering_heads
from workbench.heads.rounds import Round, TaskCircuit
from workbench.model.open import open_model


def test_heads_are_taken_by_where_they_look_and_by_the_sign_of_what_they_write():
    runs = paired_runs(open_model("zoo:ioi"), "ioi", n=16)
    at = {key: attention_to(runs, key) for key in ("IO", "S1", "S2")}
    heads = tuple(at["S2"])
    shares = {head: (-1.0 if i % 2 else 1.0) * (i + 1) / len(heads) for i, head in enumerate(heads)}
    first = Round(receivers=("logits",), slot="logits", shares=shares, kept=heads)
    circuit = TaskCircuit(task="ioi", rounds=(first,), n_heads=len(heads))
    found = steering_heads(runs, circuit, inhibition=len(heads), negative=2)
    looking = {
        h for h in heads if at["S2"][h] >= 0.3 and at["S2"][h] > at["IO"][h] and at["S2"][h] > at["S1"][h]
    }
    assert looking and set(found["inhibition"]) == looking
    assert list(found["inhibition"]) == sorted(
        looking, key=lambda h: -abs(shares[h])
    )  # the most important first
    assert found["negative"] == tuple(h for h in heads if shares[h] < 0 and h not in looking)[:2]
    assert steering_heads(runs, circuit, inhibition=1)["inhibition"] == found["inhibition"][:1]
