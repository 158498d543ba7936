"""Commands that programs call have a schema of their ``--json`` document, and documents keep to it."""

from __future__ import annotations

import json
import os

import jsonschema
import pytest

from tests.json_schemas import inferred, merged, printed, table_of
from workbench.commands.agents.guide import schemas
from workbench.commands.agents.tools import CALLED
from workbench.core.command import COMMANDS

LIGHT = (
    "model list",
    "task list",
    "methods",
    "circuit published",
    "circuit summary published:ioi",
    "edit list",
)


def test_every_command_that_programs_call_has_a_schema():
    assert set(schemas()) >= set(CALLED) and set(schemas()) <= set(COMMANDS)
    for schema in schemas().values():
        jsonschema.Draft202012Validator.check_schema(schema)


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
