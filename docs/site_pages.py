"""Pages of the site made when it is built: the start page from README.md, the reference from the public names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")  # a link to a file that is no page of the site


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the start page and the reference."""
    for name, text in (("index.md", start_page()), ("reference.md", reference())):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Leave links to files of the repository as words: the site has pages alone."""
    return _OUTSIDE.sub(r"\1", markdown)


def start_page() -> str:
    """Make the start page of README.md, with its links as seen from docs/."""
    return (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")


def reference() -> str:
    """Make one entry for each public name, under the room that it comes from."""
    rooms: dict[str, list[str]] = {}
    for name, home in sorted(public_names().items()):
        module, _, attribute = home.partition(":")
        entry = f"::: workbench.{module}.{attribute or name}\n    options:\n      heading: {name}"
        rooms.setdefault(module.partition(".")[0], []).append(entry)
    text = "# API reference\n\nEvery public name is `wb.NAME` after `import workbench as wb`.\n"
    for room, entries in rooms.items():
        text += f"\n## {room}\n\n" + "\n\n".join(entries) + "\n"
    return text


def public_names() -> dict[str, str]:
    """Read the public names and their modules from the source; nothing is imported for it."""
    tree = ast.parse((ROOT / "workbench" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_HOME":
            return ast.literal_eval(node.value)
    raise LookupError("workbench/__init__.py has no table of public names")
