"""Commands that programs call have a schema of their ``--json`` document, and documents keep to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

import cli.app
from tests.json_schemas import DRY, FULL, inferred, merged, printed, table_of
from workbench.commands.agents.guide import schemas
from workbench.commands.agents.tools import CALLED
from workbench.core.command import COMMANDS

ROOT = Path(__file__).parents[2]
LIGHT = (
    "model list",
    "task list",
    "methods",
    "circuit published",
    "circuit summary published:ioi",
    "edit list",
)


def test_every_command_has_a_schema_of_its_result_of_its_dry_run_and_of_errors():
    commands = {name: COMMANDS.get(name) for name, _ in COMMANDS.items()}
    dry = {name + DRY for name, form in commands.items() if "dry_run" in form.declared.offers}
    assert set(schemas()) == {"error", *commands, *dry, "evaluate" + FULL} and set(CALLED) <= set(commands)
    for schema in schemas().values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema.get("type")  # an empty schema would let anything pass
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert all(f"\n| `{name}` | " in page for name in schemas() if name != "error")


@pytest.mark.parametrize(
    ("line", "code"), [("model show zoo:ioy", 1), ("ablate -t ioi", 2), ("circuit show --nonsense x", 2)]
)
def test_errors_keep_to_their_schema_and_say_their_exit_code(line, code, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["workbench", *line.split(), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.app.main()
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, schemas()["error"])
    assert document["error"]["exit_code"] == ended.value.code == code


@pytest.mark.parametrize("line", LIGHT)
def test_documents_keep_to_their_schema(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = line if line in schemas() else line.rpartition(" ")[0]
    jsonschema.validate(printed(line), schemas()[name])
    assert os.environ.pop("WORKBENCH_QUIET", "1")


def test_a_document_without_a_key_or_of_another_type_does_not():
    rows = printed("task list")
    for wrong in ([{**rows[0], "name": 3}], [{k: v for k, v in rows[0].items() if k != "name"}], {}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schemas()["task list"])


def test_schemas_by_hand():
    both = merged(inferred({"a": 1, "b": "x"}), inferred({"a": None, "c": [True]}))
    assert both["required"] == ["a"] and both["properties"]["a"]["type"] == ["null", "number"]
    assert inferred({"a0.h1": 1.0}) == {"type": "object"}  # keys that are data
    assert table_of({"x": inferred([{"a": 1}])}).splitlines()[-1] == "| `x` | list of objects | `a` |"
    assert json.loads(json.dumps(both)) == both
