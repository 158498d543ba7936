"""Schemas of what ``--json`` prints, inferred from real documents: ``python -m tests.json_schemas`` writes them.

A schema says which keys are always there and of which types they are; further keys may come with other options.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from workbench.commands.agents.guide import SCHEMAS

BEGIN, END = "<!-- json documents -->", "<!-- end of json documents -->"
ON = "-m zoo:truth-induction -t induction -n 4"
CIRCUIT = "circuits/one"
# Every line leaves what later lines need; a command may have several lines, whose documents are put together.
LINES = (
    "model list",
    "model show zoo:truth-induction",
    "model show zoo:vlm",
    "model check zoo:truth-induction",
    "task list",
    "task show ioi -n 2",
    "task show induction -m zoo:truth-induction -n 2",
    "task show ioi -m zoo:ioi -n 2",
    "task show scene-captions -n 2",
    "task show scene-exist -m zoo:vlm -n 2",
    "task make induction -n 6 -o pairs.jsonl",
    "task check pairs.jsonl -m zoo:truth-induction",
    "methods",
    "look x -m zoo:truth-induction --bos on",
    f"logits {ON}",
    f"logits {ON} --by layer --no-effects",
    f"ablate {ON} -o runs/ablated",
    "ablate -m zoo:ioi -t ioi -n 8 --node a2.h2 -o runs/ioi",
    f"patch {ON} --site resid --position each -o runs/patched",
    f"path-patch {ON} --receiver logits -o runs/paths",
    f"knock-out {ON} --query end --key A1 --together -o runs/knocked",
    f"discover {ON} --method eap --keep 50% --random 2 --exact-sample 0 -o {CIRCUIT}",
    f"evaluate {CIRCUIT} -n 4 --random 2",
    f"evaluate {CIRCUIT} --full -n 8 --random 3 --bootstraps 2 --edges 4 --refits 2",
    "heads -m zoo:truth-induction --sequences 2 --length 20 -o runs/heads",
    "heads -m zoo:marked -n 4 -o runs/looks",
    "circuit list circuits",
    f"circuit show {CIRCUIT}",
    "circuit show published:ioi",
    f"circuit summary {CIRCUIT}",
    "circuit summary published:ioi",
    f"circuit diff {CIRCUIT} {CIRCUIT}",
    "circuit diff published:ioi published:greater-than",
    "circuit published",
    f"circuit export {CIRCUIT} -f dot -o one.dot",
    f"circuit validate {CIRCUIT}",
    f"circuit keep {CIRCUIT} --keep 60% -o kept",
    "circuit without published:ioi --node a9.h9@end -o less",
    f"circuit prune {CIRCUIT} -o pruned",
    f"circuit view {CIRCUIT} -o one.html",
    f"circuit annotate {CIRCUIT} annotations.json",
    f"circuit details {CIRCUIT} -n 4 --reasons 2",
    "circuit why a0.h1->a1.h0<k> -m zoo:truth-induction -t induction -n 4 --corruption match",
    "runs list runs circuits",
    "runs page runs circuits -o runs.html",
    "runs show runs/ablated",
    "runs diff runs/ablated runs/ablated",
    "runs verify runs/ablated",
    "runs rerun runs/ablated --out runs/again",
    "runs resume runs/again",
    "runs clean runs",
    f"ablate {ON} --shard 1/2 -o runs/shared",
    f"ablate {ON} --shard 2/2 -o runs/shared",
    "runs merge runs/shared",
    "show runs/ablated/effects.parquet",
    f"show {CIRCUIT}/circuit.json",
    f"show {CIRCUIT}/evaluation.json",
    "show runs/heads/portrait.json",
    "edit list",
    "edit make rows --set heads=a0.h0 --set operation=drop --set keys=0 -o edits/one",
    "edit show edits/one",
    "edit stack edits/one edits/one -o edits/two",
    "edit measure edits/one -m zoo:truth-induction -t induction -n 4 -o runs/edited",
    f"attention mask {ON} --mask window:4 -o runs/masked",
    f"attention replace {ON} --with uniform -o runs/replaced",
    "paint 'a yellow disc left, a purple square right' --steps 2 -o painted",
    "survey -m zoo:truth-induction -t induction --quick -n 4 -o first",
    "demo -n 4 -o demos",
    "replicate list",
    "doctor",
    "mcp --list",
    "paint-atlas --pictures 1 --steps 2",
    f"circuit export {CIRCUIT} -f eap-ig -o theirs.json",
    "circuit import theirs.json -o imported",
    "task import auto-circuit theirs-pairs.json -o imported.jsonl",
    "model import weights.pt --config cfg.json --vocabulary vocab.txt --bos BOS --pad PAD --unk PAD -o my-model",
    "replicate miras -o replicated",
    "replicate edge-counts",
    "replicate bars",
    "reproduce list",
    "reproduce ioi -m zoo:ioi -n 4 --reference-pairs 8 -o study",
    "bench discovery --methods random --truth zoo:truth-induction --tasks none -n 4 --seeds 1 --workers 1 -o bench",
    f"ablate {ON} --dry-run",
    f"patch {ON} --dry-run",
    f"path-patch {ON} --receiver logits --dry-run",
    f"knock-out {ON} --query end --key A1 --dry-run",
    f"discover {ON} --dry-run",
    f"discover {ON} --method acdc --dry-run",
    f"discover {ON} --level node --dry-run",
    f"evaluate {CIRCUIT} --dry-run",
    f"evaluate {CIRCUIT} --full --dry-run",
    "heads -m zoo:truth-induction --dry-run",
    f"attention mask {ON} --mask window:4 --dry-run",
    f"attention replace {ON} --with mean --dry-run",
    "paint 'a yellow disc left, a purple square right' --steps 2 --dry-run",
    "replicate miras --dry-run",
    "replicate ioi -m zoo:ioi --dry-run",
    "reproduce ioi -m zoo:ioi -n 4 --dry-run",
)
DRY, FULL = (
    " --dry-run",
    " --full",
)  # after the name of a command: words with which its document is another one
_TEXT = {"type": "string"}
_SAID = {
    "type": "object",
    "properties": {"message": _TEXT, "hint": _TEXT, "exit_code": {"enum": [1, 2, 130]}},
    "required": ["exit_code", "hint", "message"],
}
ERROR = {"type": "object", "properties": {"error": _SAID}, "required": ["error"]}


def write_inputs(folder: Path) -> None:
    """Write what the lines about other tools read: pairs, and a checkpoint of a model."""
    from tests.integration.test_import_legacy import checkpoint

    prompts = [
        {"clean": f"A B A {n}", "corrupt": f"C B A {n}", "answers": [" B"], "wrong_answers": [" D"]}
        for n in range(2)
    ]
    annotated = {"format": "circuit-workbench/annotations", "version": 1, "nodes": {"m0": {"group": "early"}}}
    (folder / "annotations.json").write_text(json.dumps(annotated))
    (folder / "theirs-pairs.json").write_text(json.dumps({"prompts": prompts}))
    checkpoint(folder)


def command_of(line: str) -> str:
    """The command of a line, with the word that makes its document another one."""
    from workbench.core.command import COMMANDS

    words = shlex.split(line)
    name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
    return name + next((other for other in (DRY, FULL) if other.strip() in words), "")


def printed(line: str) -> Any:
    """The document of a line, run in this process and this folder; None if it did not end well."""
    import cli.app

    out, before = io.StringIO(), sys.argv
    sys.argv = ["workbench", *shlex.split(line), "--json", "--quiet"]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            cli.app.main()
    except SystemExit as ended:
        if ended.code:
            return None
    finally:
        sys.argv = before
    return json.loads(out.getvalue())


_KINDS = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    list: "array",
    dict: "object",
}
MOST_KEYS = 60  # an object with more keys holds data by name


def inferred(value: Any) -> dict[str, Any]:
    """The schema of one document."""
    if isinstance(value, dict):
        if len(value) > MOST_KEYS or any("." in key or "->" in key or "@" in key for key in value):
            return {"type": "object"}
        own = {key: inferred(item) for key, item in value.items()}
        return {"type": "object", "properties": own, "required": sorted(own)}
    if isinstance(value, list):
        found: dict[str, Any] = {"type": "array"}
        for item in value:
            found["items"] = merged(found["items"], inferred(item)) if "items" in found else inferred(item)
        return found
    return {"type": _KINDS[type(value)]}


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A schema that both documents keep to."""
    types = sorted({*_types(one), *_types(other)})
    found: dict[str, Any] = {"type": types[0] if len(types) == 1 else types}
    if "items" in one or "items" in other:
        both = [side["items"] for side in (one, other) if "items" in side]
        found["items"] = both[0] if len(both) == 1 else merged(*both)
    objects = [side for side in (one, other) if "object" in _types(side)]
    if objects and all("properties" in side for side in objects):
        names = dict.fromkeys(name for side in objects for name in side["properties"])
        found["properties"] = {name: _of_both(name, objects) for name in names}
        found["required"] = sorted(set.intersection(*(set(side["required"]) for side in objects)))
    return found


FREE = {"selection", "provenance", "options", "evaluation", "arguments", "record"}  # what is in them is data


def loosened(schema: dict[str, Any]) -> dict[str, Any]:
    """The same without what few documents cannot show: a value that was always null may be anything."""
    if schema.get("type") == "null":
        return {}
    found = dict(schema)
    if "items" in schema:
        found["items"] = loosened(schema["items"])
    if "properties" in schema:
        found["properties"] = {
            name: {"type": of["type"]} if name in FREE and "object" in _types(of) else loosened(of)
            for name, of in schema["properties"].items()
        }
    return found


def _of_both(name: str, sides: list[dict[str, Any]]) -> dict[str, Any]:
    there = [side["properties"][name] for side in sides if name in side["properties"]]
    return there[0] if len(there) == 1 else merged(*there)


def _types(schema: dict[str, Any]) -> list[str]:
    return [schema["type"]] if isinstance(schema["type"], str) else schema["type"]


def all_schemas() -> dict[str, dict[str, Any]]:
    """Run every line in a folder of its own and infer the schema of each command."""
    found: dict[str, dict[str, Any]] = {}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_inputs(Path(folder))
        try:
            for line in LINES:
                document, command = printed(line), command_of(line)
                if document is None:
                    print(f"did not end well: {line}", file=sys.stderr)
                    continue
                if "--shard" in line:  # a share of a table is told by itself; what it is for is runs merge
                    continue
                schema = inferred(document)
                found[command] = merged(found[command], schema) if command in found else schema
        finally:
            os.chdir(before)
    return {"error": ERROR, **{command: loosened(schema) for command, schema in found.items()}}


def table_of(schemas: dict[str, dict[str, Any]]) -> str:
    """The keys of every document, as a table of a page: those that are always there, then the others."""
    rows = ["| command | document | keys |", "|---|---|---|"]
    for name in sorted(set(schemas) - {"error"}):
        schema, kind = schemas[name], " or ".join(_types(schemas[name]))
        of = schema.get("items", {}) if kind == "array" else schema
        always = of.get("required", [])
        others = [f"({key})" for key in sorted(of.get("properties", {})) if key not in always]
        shown = "list of objects" if kind == "array" and of else kind
        rows.append(f"| `{name}` | {shown} | {' '.join([f'`{key}`' for key in always] + others)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write the schemas beside the guides of the package."""
    schemas = all_schemas()
    path = Path(__file__).parents[1] / "workbench" / "commands" / "agents" / SCHEMAS
    lines = [f"{json.dumps(name)}: {json.dumps(schemas[name], sort_keys=True)}" for name in sorted(schemas)]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    page = Path(__file__).parents[1] / "docs" / "command-line.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    page.write_text(
        before + BEGIN + "\n" + table_of(schemas) + END + rest.partition(END)[2], encoding="utf-8"
    )
    print(f"{len(schemas)} commands")


if __name__ == "__main__":
    main()
