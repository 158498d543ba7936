"""The page `docs/zoo.md`, written from the cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.model.zoo import ZOO, Card, list_models

PAGE = Path("docs") / "zoo.md"
HEAD = """# The built-in models

This page is written from the cards by `python -m workbench.training --docs`. Every number was measured by the
recipe on the weights as shipped; `tests/integration/test_zoo.py` measures them again. `open_model("zoo:NAME")`
opens one, `workbench model show zoo:NAME` prints its card, `python -m workbench.training NAME --out DIR` trains it
anew. Wall times are of one thread on a machine that was busy with other things.
"""


def page(cards: Sequence[Card]) -> str:
    """The whole page as Markdown."""
    rows = ["| model | what | parameters | size | training |", "|---|---|---|---|---|"]
    for card in cards:
        minutes = f"{card.fields['wall_seconds'] / 60:.1f} min"
        rows.append(
            f"| `zoo:{card.name}` | {card.title} | {card.parameters:,} | {card.size / 1e6:.1f} MB | {minutes} |"
        )
    total = f"Together {sum(card.size for card in cards) / 1e6:.1f} MB."
    return "\n".join([HEAD, *rows, "", total, *(_section(card.fields) for card in cards)]) + "\n"


def write_page(root: Path) -> Path:
    """Write the page below the root of a checkout."""
    path = root / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(list_models()), encoding="utf-8")
    return path


def checkout() -> Path | None:
    """The root of the checkout this package lies in, if it lies in one."""
    root = ZOO.parent.parent
    return root if (root / "pyproject.toml").is_file() or (root / ".git").exists() else None


def _section(card: Mapping) -> str:
    lines = [f"\n## {card['name']}: {card['title']}", "", card["what"], ""]
    steps = ", ".join(f"{name} {count:,}" for name, count in card["steps"].items()) or "none (built by hand)"
    lines += [f"`{card['recipe']}` · steps: {steps} · {card['wall_seconds']:,.0f} s on {card['machine']}", ""]
    lines += ["| measured | value | unit | n |", "|---|---|---|---|"]
    for name, value in card["measured"].items():
        lines.append(f"| {name} | {value:.4g} | {card['units'][name]} | {card['counts'][name]:,} |")
    lines += ["", "Held out:", ""]
    lines += [f"- {name}: {text}" for name, text in card["held_out"].items()]
    if card["cannot"]:
        lines += ["", "Cannot:", "", *(f"- {text}" for text in card["cannot"])]
    if card.get("source"):
        lines += ["", f"Source: {card['source']}"]
    return "\n".join(lines)
