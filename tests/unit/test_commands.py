"""Commands are dataclasses of their options: records are read into them, old ones too, and written from them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from workbench.commands.again import call
from workbench.commands.do import do
from workbench.core.command import COMMANDS, Command, argument, command, option
from workbench.core.errors import OptionError, RunError
from workbench.core.job import Job
from workbench.core.run_record import RunRecord
from workbench.engine.run_folders.command_line import command_line, typed_line

ON = {"model": "zoo:ioi", "task": "ioi"}
OPENING = {"device": None, "dtype": "float32", "offline": False}
PAIRS = {
    **ON,
    **OPENING,
    **{"metric": None, "limit": 4, "split": "test", "corruption": None, "seed": 0},
    **{"batch_tokens": 8192, "max_memory": None, "device_map": None, "positions": []},
}
# What the first versions wrote into their records.
BEFORE: dict[str, dict[str, Any]] = {
    "ablate": {
        **PAIRS,
        **{"parts": "heads", "node": None, "together": False, "ablation": "mean", "reference": "own.jsonl"},
    },
    "patch": {**PAIRS, "site": "resid", "node": ["r2"], "mode": "noising", "shard": "1/2"},
    "path-patch": {
        **PAIRS,
        **{"receiver": ["logits"], "sender": None, "together": False, "mlps": "frozen", "mode": "noising"},
    },
    "knock-out": {**PAIRS, "query": "end", "key": "IO", "node": None, "together": True},
    "discover": {
        **{k: v for k, v in PAIRS.items() if k != "positions"},
        **{"method": "eap-ig", "keep": "5%", "level": None, "per_position": False, "signed": True},
        **{"greedy": None, "options": {"steps": 3}, "test_split": "test", "random_draws": 2},
    },
    "evaluate": {
        **{"circuit": "found", "model": None, "task": None, "metric": None, "limit": None, "split": "test"},
        **{"corruption": None, "ablation": "resample", "random_draws": None, "seed": 0, "work": "edges"},
        **{"batch_tokens": 8192, "max_memory": None, **OPENING},
        **{"full": True, "edges": 100, "bootstraps": 100, "refits": 10},
    },
    "demo": {"model": "zoo:ioi", "limit": None, "seed": 0, "method": "eap-ig"},
    "heads": {
        **{"model": "zoo:ioi", "corpus": ["a.txt"], "prompt": [], "sort": None, "limit": 16, "length": None},
        **{"no_loss": True, "seed": 0, **OPENING},
    },
    "edit measure": {
        **{"edit": "edits/no-bos", **ON, "beside": ["greater-than"], "text": None, "window": 64},
        **{"limit": 4, "split": "test", "seed": 0, **OPENING},
    },
    "attention replace": {
        **{"model": "zoo:ioi", "task": "ioi", "patterns": ["mean"], "layers": ["odd"], "heads": []},
        **{"each": "together", "keys": 8, "block": 4, "order": 2, "text": None, "window": 64},
        **{"limit": 4, "split": "test", "seed": 0, **OPENING},
    },
    "attention mask": {
        **{"model": "zoo:ioi", "task": "ioi", "masks": ["window:8"], "layers": ["odd"], "heads": []},
        **{"each": "together", "controls": 2, "ahead": False, "text": None, "window": 64},
        **{"limit": 4, "split": "test", "seed": 0, **OPENING},
    },
    "replicate": {"replication": "pine", "model": "zoo:kv", "options": ["documents=3"], "seed": 0, **OPENING},
    "reproduce": {
        **{"study": "ioi", "model": "zoo:ioi", "task": "ioi", "corruption": "abc", "limit": 8, "seed": 0},
        **{"split": "test", "batch_tokens": 8192, **OPENING, "n_reference": 24},
    },
    "paint": {
        **{"captions": ["a yellow disc left, a purple square right"], "model": "zoo:painter", "edit": None},
        **{"steps": 20, "guidance": 2.0, "seed": 0, **OPENING},
    },
    "bench discovery": {
        **{"methods": ["eap"], "truths": [], "tasks": ["zoo:ioi/ioi"], "levels": ["edge"], "n_truth": 12},
        **{"n_task": 16, "noise": 0.01, "seeds": 1, "seed": 0, "repeat_passes": 300, "most_passes": 600},
    },
}


def test_every_command_has_a_record_of_before():
    assert set(BEFORE) == {name for name, form in COMMANDS.items() if form.declared.keeps}


@pytest.mark.parametrize("name", BEFORE)
def test_a_record_of_before_says_what_was_asked(name):
    form = COMMANDS.get(name)
    asked = form.from_record(BEFORE[name], "the record")
    now = asked.arguments()
    kept = {k: v for k, v in BEFORE[name].items() if k not in form.declared.retired}
    assert {k: now.get(k) for k in kept} == {k: [] if now.get(k) == [] else v for k, v in kept.items()}
    assert form.from_record(now, "the record") == asked


def test_a_bench_of_before_has_the_settings_of_its_record():
    asked = COMMANDS.get("bench discovery").from_record(BEFORE["bench discovery"], "the record")
    found = asked.settings().to_dict()
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()} == BEFORE["bench discovery"]


@pytest.mark.parametrize("name", BEFORE)
def test_the_line_of_a_record_has_no_option_that_is_retired(name):
    line = command_line(RunRecord(command=name, arguments=BEFORE[name]))
    retired = COMMANDS.get(name).declared.retired
    assert line.startswith(f"workbench {name}") and not [f for f in retired if f"--{f}" in line.split()]


@pytest.mark.parametrize("name", BEFORE)
def test_the_line_on_a_page_leaves_out_what_is_the_default(name):
    asked = COMMANDS.get(name).from_record(BEFORE[name], "the record")
    long, short = (
        set(line.split())
        for line in (command_line(RunRecord(command=name, arguments=asked.arguments())), typed_line(asked))
    )
    assert short < long and "--seed" not in short


def test_the_line_of_a_bench_is_one_that_can_be_typed():
    line = command_line(RunRecord(command="bench discovery", arguments=BEFORE["bench discovery"]))
    assert "--methods eap --truth none --tasks zoo:ioi/ioi --levels edge" in line


@pytest.mark.parametrize("name", BEFORE)
def test_what_no_version_had_is_refused(name):
    form = COMMANDS.get(name)
    with pytest.raises(RunError, match="no option 'wavelength'"):
        form.from_record({**BEFORE[name], "wavelength": 3}, "the record")
    with pytest.raises(RunError, match="'out', which no record has"):
        form.from_record({**BEFORE[name], "out": "elsewhere"}, "the record")


def test_a_record_that_lacks_what_was_needed_is_refused():
    with pytest.raises(RunError, match="lacks the argument 'task'"):
        COMMANDS.get("ablate").from_record({"model": "zoo:ioi"}, "the record")


def test_a_command_of_ones_own_is_one_class():
    @command("double")
    @dataclass(frozen=True, kw_only=True)
    class Double(Command):
        """Double a number."""

        number: int = argument("The number.")
        times: int = option("--times", help="How often.", default=1, least=1)
        file: Path | None = option("--file", help="Where it stands.", default=None)

        def run(self, job: Job) -> int:
            return self.number * 2**self.times

    try:
        asked = COMMANDS.get("double").from_record({"number": 3, "times": 2, "file": "a/b"}, "the record")
        assert asked.run(Job()) == 12 and asked.file == Path("a/b")
        record = RunRecord(command="double", arguments=asked.arguments(), plugins=[])
        assert command_line(record) == "workbench double 3 --times 2 --file a/b"
        with pytest.raises(RunError, match="number is text; a whole number is expected"):
            Double.from_record({"number": "3"}, "the record")
    finally:
        COMMANDS.remove("double")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": "zoo:ioi", "task": "ioi", "modl": 1}, "no option of ablate called 'modl'"),
        ({"model": "zoo:ioi"}, "ablate needs task"),
        ({"model": "zoo:ioi", "task": "ioi", "limit": "8"}, "limit is of type str; expected int"),
    ],
)
def test_a_command_from_python_refuses_what_it_cannot_take_by_name(given, says):
    with pytest.raises(OptionError, match=re.escape(says)):
        do("ablate", **given)


@pytest.mark.parametrize("name", [name for name, form in COMMANDS.items() if not form.declared.keeps])
def test_a_record_cannot_name_a_command_that_keeps_nothing(name, tmp_path):
    """A record of somebody's could else remove what is left over, or write where it likes."""
    with pytest.raises(RunError, match="cannot be repeated from its record"):
        call(RunRecord(command=name, arguments={}), tmp_path, resume=False, progress=None, note=print)
