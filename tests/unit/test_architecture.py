"""Imports run one way, reading a circuit never loads torch, and docs/architecture.md shows what is there.

The floors stand in pyproject.toml, where import-linter reads them.
"""

from __future__ import annotations

import ast
import itertools
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from importlinter.cli import lint_imports

import workbench
from tests import forks
from workbench.circuits.graph import Graph, GraphShape

ROOT = Path(__file__).parents[2]
DOC = ROOT / "docs" / "architecture.md"
METHODS = ROOT / "docs" / "methods.md"

# Rooms that never load torch: what a reader of somebody's circuit needs, and what is asked before a model is opened.
LIGHT = (
    "core",
    "view",
    "circuits",
    "tasks",
    "commands.asked",
    "commands.forms",
    "methods.options",
    "engine.run_folders",
)
# ... and the doors of other rooms: names, files and descriptions of what is there.
LIGHT_MODULES = (
    *("engine.cost", "engine.saved_effects", "engine.metric_names", "engine.rules", "engine.store"),
    *("engine.interventions.freed", "engine.interventions.site", "engine.interventions.words"),
    *("edits.edit", "edits.file", "edits.kinds", "edits.making", "heads.table", "heads.show"),
    *("masks.registry", "masks.mask_words", "masks.sequences", "masks.grids", "masks.choices"),
    *("methods.registry", "methods.points", "papers.registry", "papers.options", "papers.studies.registry"),
    *("model.builtin", "model.outline", "model.settings", "model.wiring", "bench.settings", "bench.table"),
    *("commands.doctor", "commands.again", "commands.do", "commands.merge", "commands.told"),
    *("commands.circuit", "commands.model", "commands.task", "commands.runs", "commands.methods"),
)
READ = (
    "workbench.core.command.",
    "workbench.commands.forms.shared.",
)  # by the command line, for every --help
SLOW = {
    "torch",
    "transformers",
    "transformer_lens",
    "tokenizers",
    "huggingface_hub",
}  # what is loaded when it is used
HEAVY = {"torch", "transformers", "transformer_lens", "tokenizers", "jax", "tensorflow"}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def tree(path: Path) -> ast.Module:
    """A file of the house, read once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, name: str, *, everywhere: bool) -> set[str]:
    """Modules a file imports, absolute; ``everywhere``: in functions and lazily too, never for type checkers."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not everywhere:
            return
        if isinstance(node, ast.With) and "lazily()" in ast.unparse(node.items[0]) and not everywhere:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively; write the whole name"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree(path))
    return found


def top(dotted: str) -> str:
    return dotted.split(".")[0]


def room(dotted: str) -> str:
    """``workbench.circuits.rows`` -> ``io``."""
    return dotted.split(".")[1] if "." in dotted else ""


def test_the_library_never_imports_the_command_line():
    for name, path in modules("workbench"):
        used = {top(m) for m in imports(path, name, everywhere=True)}
        assert used.isdisjoint({"cli", "typer", "click", "tests"}), name


def test_the_terminal_is_only_known_to_view_and_cli():
    for name, path in modules("workbench"):
        if room(name) != "view" and ".show" not in name:
            assert "rich" not in {top(m) for m in imports(path, name, everywhere=True)}, name


def test_a_public_class_name_exists_once():
    homes: dict[str, list[str]] = {}
    for package in ("workbench", "cli"):
        for name, path in modules(package):
            for node in tree(path).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes.setdefault(node.name, []).append(name)
    assert len(homes) > 300
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_rooms_import_one_way(capsys):
    kept = lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None) == 0
    assert kept, capsys.readouterr().out


def test_the_contract_sees_an_arrow_upwards(tmp_path, capsys):
    """The same contract on a copy in which the lowest room imports the highest."""
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    copy = tmp_path / "pyproject.toml"
    copy.write_text(
        contract.replace('    "core",\n', "").replace("layers = [\n", 'layers = [\n    "core",\n', 1)
    )
    assert lint_imports(config_filename=str(copy), cache_dir=None) != 0
    assert "workbench.core is not allowed" not in capsys.readouterr().out


def test_commands_load_the_heavy_part_inside_functions():
    for name, path in modules("cli"):
        loaded = {m for m in imports(path, name, everywhere=False) if top(m) in {"workbench", *HEAVY}}
        loaded = {m for m in loaded if not m.startswith(READ)}
        assert not loaded, f"{name} loads {loaded} for every --help"


def test_measuring_names_transformer_lens_and_loads_it_only_with_a_model():
    code = (
        "import sys, workbench.engine.sweep, workbench.methods.by_name, workbench.evaluate.trial\n"
        "assert 'torch' in sys.modules and 'transformer_lens' not in sys.modules, sorted(sys.modules)\n"
        "from workbench.model import lens\n"
        "assert not lens.is_bridge(lens) and 'transformer_lens' not in sys.modules\n"
        "assert lens.TransformerBridge.__module__.startswith('transformer_lens')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_function_imports_what_would_be_loaded_too_early_and_nothing_else():
    """Inside functions stand imports of what is heavy where the module itself is not, and the doors of the contract."""
    files = dict(modules("workbench"))
    above = {name: {m for m in imports(path, name, everywhere=False)} for name, path in files.items()}
    heavy: dict[str, set[str]] = {}

    def weight(name: str) -> set[str]:
        """What importing a module loads that is heavy."""
        if name not in heavy:
            heavy[name] = set()
            for used in above.get(name, ()):
                known = used if used in files else used.rpartition(".")[0]
                heavy[name] |= weight(known) if known in files else {top(used)} & SLOW
        return heavy[name]

    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ignored = [c.get("ignore_imports", []) for c in contract["tool"]["importlinter"]["contracts"]]
    doors = {tuple(line.split(" -> ")) for lines in ignored for line in lines}
    wrong = []
    for name, path in files.items():
        for used in imports(path, name, everywhere=True) - above[name]:
            known = used if used in files else used.rpartition(".")[0]
            if known in files and not weight(known) - weight(name) and (name, known) not in doors:
                wrong.append(f"{name} imports {known} inside a function")
    assert not wrong, wrong


def test_light_modules_never_load_torch():
    names = [f"workbench.{name}" for name in (*LIGHT, *LIGHT_MODULES)]
    found = [n for n, _ in modules("workbench") if any(n == m or n.startswith(f"{m}.") for m in names)]
    assert all(m in found for m in names)
    code = (
        "import sys, importlib\n"
        f"for name in {found!r}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = {HEAVY!r} & set(sys.modules)\n"
        "    assert not loaded, f'{name} loads {loaded}'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_public_names_load_and_none_is_a_module():
    here = {module.name for module in pkgutil.iter_modules(workbench.__path__)}
    assert (
        here & set(workbench.__all__) == workbench._ROOMS
    )  # importing the room would replace the public object
    # after everything is loaded, which sets the packages as attributes
    code = (
        "import workbench as w\nfor n in w.__all__: getattr(w, n)\n"
        "import types\nbad = [n for n in w._HOME if isinstance(getattr(w, n), types.ModuleType)]\nassert not bad, bad"
    )
    done = forks.run(["-c", code])
    assert done.returncode == 0, done.stderr


def paths_named(page: Path = DOC) -> list[str]:
    """Every path in the code spans of a page: what ends in / or in the ending of a file."""
    text = page.read_text(encoding="utf-8")
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    found = [
        s for s in spans if re.fullmatch(r"[\w./-]+(/|\.(py|md|toml|txt|json|ipynb))|\.ci/run|Makefile", s)
    ]
    return sorted(set(found))


def test_every_path_of_the_pages_exists():
    assert len(paths_named()) > 60
    for page in (DOC, METHODS):
        missing = [p for p in paths_named(page) if not (ROOT / p).exists()]
        assert not missing


def test_every_method_and_ablation_has_its_place_on_the_page():
    from workbench.core.plugins import is_ours
    from workbench.engine.interventions.words import ABLATIONS
    from workbench.methods.registry import get_method, list_methods

    text = METHODS.read_text(encoding="utf-8")
    ours = [name for name in list_methods() if is_ours(get_method(name).module)]
    assert len(ours) > 10 and not [name for name in ours if f"\n## `{name}`\n" not in text]
    assert not [name for name in ABLATIONS if f"\n| `{name}`" not in text]


def test_a_method_claims_what_its_function_says():
    from workbench.methods.registry import get_method, list_methods

    for found in map(get_method, list_methods()):
        assert found.claim == found.function.__doc__.strip().partition("\n")[0], found.name
        assert found.function.__module__ == found.module


def test_the_page_counts_edges_as_the_graph_does():
    graph = Graph(GraphShape(n_layers=12, n_heads=12, n_kv_heads=12))
    text = METHODS.read_text(encoding="utf-8")
    assert f"{len(graph.sources)} sources, {len(graph.targets)} targets, **{graph.n_edges:,} edges**" in text
    assert graph.n_edges == sum(36 * (1 + 13 * n) + 13 + 13 * n for n in range(12)) + 157  # the formula there


def test_every_room_is_on_the_architecture_page():
    named = set(paths_named())
    rooms = {p.name for p in (ROOT / "workbench").iterdir() if p.is_dir() and not p.name.startswith("_")}
    assert not {room for room in rooms if f"workbench/{room}/" not in named}


def test_the_library_itself_is_rooms_only():
    loose = {p.name for p in (ROOT / "workbench").iterdir() if p.is_file()}
    assert loose == {"__init__.py", "py.typed"}


ENDINGS = ("s", "es", "ed", "d", "er", "r", "or", "ing", "ment", "ion", "ation", "y", "ity", "al", "ness")


def bases(word: str) -> set[str]:
    """The words that a word may come from by an ending: ``readers`` from ``reader``, ``read``."""
    found, left = {word}, [word]
    while left:
        now = left.pop()
        for ending in ENDINGS:
            if not now.endswith(ending) or len(now) - len(ending) < 3:
                continue
            rest = now.removesuffix(ending)
            new = {rest, *([f"{rest}e"] if len(ending) > 1 or ending == "y" else [])}
            new |= {rest[:-1]} if len(rest) > 3 and rest[-1] == rest[-2] else set()
            new |= {f"{rest[:-1]}y"} if rest.endswith("i") else set()
            left += new - found
            found |= new
    return found


def are_alike(one: str, other: str) -> bool:
    """Whether two names of modules differ by the ending of their last word only."""
    (*before, last), (*others_before, others_last) = one.split("_"), other.split("_")
    return one != other and before == others_before and bool(bases(last) & bases(others_last))


def test_endings_are_seen():
    alike = (
        "judge judging",
        "judge judgement",
        "read readers",
        "place placement",
        "run runs",
        "copy copying",
    )
    assert all(are_alike(*pair.split()) for pair in (*alike, "study studies", "evaluate evaluation"))
    assert not any(
        are_alike(*p.split()) for p in ("bare bars", "run run_record", "edit edge", "scores score_file")
    )


def test_no_two_modules_differ_by_an_ending():
    """A room is the plural of what it holds (``edits/edit.py``); of two modules or two rooms none is the other's."""
    names: dict[bool, dict[str, str]] = {True: {}, False: {}}  # whether it is a room -> name -> where
    for package in ("workbench", "cli"):
        for name, path in modules(package):
            if not path.stem.startswith("__") or path.name == "__init__.py":
                names[path.name == "__init__.py"].setdefault(name.rpartition(".")[2], name)
    rooms, files = names[True], names[False]
    assert len(files) > 250 and len(rooms) > 20
    wrong = [
        f"{kind[one]} and {kind[other]}"
        for kind in (rooms, files)
        for one, other in itertools.combinations(sorted(kind), 2)
        if are_alike(one, other)
    ]
    mixed = [(room, file) for room in rooms for file in files if are_alike(room, file)]
    wrong += [f"{rooms[room]} and {files[file]}" for room, file in mixed if room != f"{file}s"]
    assert not wrong, wrong
