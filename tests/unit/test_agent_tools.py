"""The door for programs: tools are the commands' dataclasses, paths stay in one folder, no code of others runs."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from workbench.commands.agents import background
from workbench.commands.agents.confined import NEVER, inside
from workbench.commands.agents.guide import AGENTS, LLMS, text_of
from workbench.commands.agents.server import ToolServer
from workbench.commands.agents.tools import CALLED, STARTED, call, tools
from workbench.core.command import COMMANDS, is_required, options_of
from workbench.core.errors import OptionError

ROOT = Path(__file__).parents[2]


def test_every_tool_is_a_command_with_its_options_and_their_types():
    for tool in tools().values():
        jsonschema.Draft202012Validator.check_schema(tool.arguments)
        form = COMMANDS.get(tool.command)
        own = {option.name for option in options_of(form)} - NEVER
        assert own <= set(tool.arguments["properties"]), tool.name
        assert set(tool.arguments["required"]) == {o.name for o in options_of(form) if is_required(o)}
        assert "{" not in tool.description and len(tool.description) > 30
    assert {"model_list", "ablate", "circuit_why", "runs_show"} <= set(tools()) and set(STARTED) - set(
        CALLED
    ) == {"runs resume"}


def test_no_tool_takes_what_runs_code_or_leaves_the_machine():
    for tool in tools().values():
        assert not NEVER & set(tool.arguments["properties"])


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "~/x", "link/x"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(OptionError, match="outside the folder"):
        inside(root, path)
    assert inside(root, "runs/../one") == Path("runs/../one")


@pytest.mark.parametrize(
    ("tool", "given", "said"),
    [
        ("circuit_show", {"circuit": "/etc/passwd"}, "outside the folder"),
        ("circuit_show", {"circuit": "zoo:../../etc"}, "nothing that is built in"),
        ("circuit_diff", {"circuit": "published:ioi", "other": "../x"}, "outside the folder"),
        ("circuit_view", {"circuit": "published:ioi", "out": "/tmp/x.html"}, "outside the folder"),
        ("runs_list", {"folders": ["ok", "../x"]}, "outside the folder"),
        ("ablate", {"model": "zoo:ioi", "task": "../pairs.jsonl"}, "outside the folder"),
        (
            "ablate",
            {"model": "zoo:ioi", "task": "ioi", "task_options": ["file=/etc/passwd"]},
            "outside the folder",
        ),
        ("ablate", {"model": "../model", "task": "ioi"}, "no built-in model and no folder here"),
        ("ablate", {"model": "gpt2", "task": "ioi"}, "no built-in model and no folder here"),
        ("ablate", {"model": "zoo:ioi", "task": "ioi", "metric": "own.py:metric"}, "would run a file"),
        ("ablate", {"model": "zoo:ioi", "task": "ioi", "trust_remote_code": True}, "not for programs"),
        ("ablate", {"model": "zoo:ioi", "task": "ioi", "lmit": 4}, "no argument of ablate called 'lmit'"),
        ("ablate", {"model": "zoo:ioi", "task": "ioi", "progress": "x"}, "no argument of ablate"),
        ("ablate", {"model": "zoo:ioi", "task": "ioi", "limit": "four"}, "limit is of type str"),
        ("ablate", {"task": "ioi"}, "needs model"),
    ],
)
def test_an_error_is_the_document_that_the_command_line_prints(tmp_path, tool, given, said):
    found = call(tool, given, root=tmp_path)
    assert set(found) == {"error"} and set(found["error"]) == {"message", "hint", "exit_code"}
    assert said in found["error"]["message"] and found["error"]["exit_code"] == 1
    assert not list(tmp_path.iterdir())


def test_an_answer_is_the_document_that_the_command_line_prints(tmp_path, monkeypatch, capsys):
    import cli.app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["workbench", "circuit", "summary", "published:ioi", "--json"])
    with pytest.raises(SystemExit):
        cli.app.main()
    assert call("circuit_summary", {"circuit": "published:ioi"}, root=tmp_path) == json.loads(
        capsys.readouterr().out
    )


def test_nothing_is_started_that_is_misspelt(tmp_path):
    served = ToolServer(tmp_path)
    for given, said in (
        ({"command": "abblate", "options": {}}, "did you mean ablate"),
        ({"command": "ablate", "options": {"model": "zoo:iio", "task": "ioi"}}, "did you mean zoo:ioi"),
        ({"command": "ablate", "options": {"model": "zoo:ioi", "task": "ioi", "out": "/x"}}, "outside"),
        ({"command": "ablate"}, "start needs options"),
    ):
        document, _ = served.call("start", given)
        assert said in json.dumps(document["error"])
    assert not list(tmp_path.rglob(background.PROCESS))
    document, _ = served.call("status", {"job": "runs"})
    assert "no job that was started here" in document["error"]["message"]


@pytest.mark.parametrize("name", [AGENTS, LLMS])
def test_the_texts_of_the_package_stand_in_the_repository_too(name):
    assert (ROOT / name).read_text(encoding="utf-8") == text_of(name)


def test_the_texts_name_commands_and_tools_that_there_are():
    listed = {tool["name"] for tool in ToolServer(ROOT).listed()}
    for line in text_of(AGENTS).split("## Hard rules")[0].splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and "`" in cells[3]:
            named = [part.split("`")[1] for part in cells[3].split(",") if "`" in part]
            assert {name.split()[0] for name in named} <= listed, line
    for line in text_of(LLMS).splitlines():
        if line.startswith("    workbench "):
            command = " ".join(line.split()[1:3])
            assert command in COMMANDS or command.split()[0] in COMMANDS, line
