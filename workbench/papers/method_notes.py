"""What each library function that papers measure with does, read from its file: for pages without a server."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache

from workbench.core.text import escape
from workbench.papers.uses import file_of


def says(use: str) -> str:
    """Return the first paragraph of a function's docstring.

    Args:
        use: ``room.module.function``, as `uses_of` gives it.

    Example:
        >>> says("papers.method_notes.anchor")
        'Return the name under which a page links to a function.'
    """
    return " ".join((ast.get_docstring(_definition(use)) or "").split("\n\n")[0].split())


def typed(use: str) -> str:
    """Return a function with the names of its parameters; of a class its name alone.

    Example:
        >>> typed("papers.method_notes.typed")
        'typed(use)'
    """
    node = _definition(use)
    if isinstance(node, ast.ClassDef):
        return node.name
    own = node.args
    plain = [arg.arg for arg in (*own.posonlyargs, *own.args)]
    named = [f"{arg.arg}=" for arg in own.kwonlyargs]
    return f"{node.name}({', '.join([*plain, *named])})"


def methods_html(uses: Mapping[str, Sequence[str]], titles: Mapping[str, str]) -> str:
    """Return a section with one entry per function: how to import it, what it does, which papers call it.

    Args:
        uses: functions by the name of the paper.
        titles: what papers are called, by name; each is a link to the paper's own section.
    """
    papers = defaultdict(list)
    for paper, functions in uses.items():
        for use in functions:
            papers[use].append(paper)
    return "".join(_entry(use, papers[use], titles) for use in sorted(papers))


def anchor(use: str) -> str:
    """Return the name under which a page links to a function."""
    return f"method-{use}"


def _entry(use: str, papers: Sequence[str], titles: Mapping[str, str]) -> str:
    module, _, name = use.rpartition(".")
    links = ", ".join(f'<a href="#{escape(one)}">{escape(titles[one])}</a>' for one in papers)
    return (
        f'<div id="{escape(anchor(use))}"><p><code>{escape(typed(use))}</code> {escape(says(use))}</p>'
        f'<p class="soft"><code>from workbench.{escape(module)} import {escape(name)}</code>. '
        f"Used by {links}.</p></div>"
    )


@cache
def _definition(use: str) -> ast.FunctionDef | ast.ClassDef:
    module, _, name = use.rpartition(".")
    tree = ast.parse(file_of(f"workbench.{module}").read_text(encoding="utf-8"))
    found = (n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)
    return next(found)
