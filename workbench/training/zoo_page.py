"""The page `docs/zoo.md`, written from the cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.model.builtin import ZOO, Card, list_models
from workbench.model.known_circuits import FILE, Truth, load_truth

PAGE = Path("docs") / "zoo.md"
HEAD = """# The built-in models

This page is written from the cards by `python -m workbench.training --docs`. Every number was measured by the
recipe on the weights as shipped; `tests/integration/test_zoo.py` measures them again. `open_model("zoo:NAME")`
opens one, `workbench model show zoo:NAME` prints its card, `python -m workbench.training NAME --out DIR` trains it
anew. Wall times are of one thread on a machine that was busy with other things.
"""
KNOWN = """
## Models whose circuit is known

Written by hand or compiled from a program of a few lines (`workbench/training/compiler.py`), never trained. The
true circuit is `circuit.json` beside the weights; `workbench.model.known_circuits` labels every edge and node by it.
*Content* edges differ between clean and corrupted prompt under the corruption it names, and the answer depends on
them; *supporting* edges (after the +) carry what is the same in every prompt of a length, so that no exchange
between prompts shows them. They are counted neither as found nor as missed. Idle parts compute something, and write it
where nothing reads.
`tests/integration/test_known_circuits.py` checks it on the shipped weights: the circuit alone gives the answer, cutting
any content edge changes it, single-edge exchanges show these edges and no others. Two are made to be different: in
`truth-redundant` parts back each other up, in `truth-cancelling` they cancel.

A norm divides by a length, and every part changes that length a little. The models with norms carry constant
dimensions that hold it still to within a per cent; edges outside the circuit have effects below 0.1 % of the whole.

Without a norm nothing outside the circuit has any effect, so a ranking is lenient: a score that is not zero beats
every negative, however small it is (in `truth-redundant` the hidden edges keep a thousandth of the whole, in
`truth-cancelling` only rounding). The models with norms and the size of the scores say more.

Models named `trained-` are not compiled: each was trained to do its task through a circuit that was chosen beforehand,
while all other edges were exchanged with those of another prompt (strict interchange). Their other edges do a little,
so the bench adds no noise to them. Their cards say how much.

| model | task | algorithm | layers | heads | MLPs | norm | content + supporting edges | idle parts | attention |
|---|---|---|---|---|---|---|---|---|---|"""


def page(cards: Sequence[Card]) -> str:
    """Return the whole page as Markdown."""
    rows = ["| model | what | parameters | size | training |", "|---|---|---|---|---|"]
    for card in cards:
        fields: Mapping[str, Any] = card.fields
        minutes = f"{fields['wall_seconds'] / 60:.1f} min"
        rows.append(
            f"| `zoo:{card.name}` | {card.title} | {card.parameters:,} | {_megabytes(card)} MB | {minutes} |"
        )
    total = f"Together {sum(card.size or 0 for card in cards) / 1e6:.1f} MB."
    sections = [_section(card.fields) for card in cards]
    return "\n".join([HEAD, *rows, "", total, *_known(cards), *sections]) + "\n"


def _megabytes(card: Card) -> str:
    return f"{(card.size or 0) / 1e6:.1f}"


def write_page(root: Path) -> Path:
    """Write the page below the root of a checkout."""
    path = root / PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(list_models()), encoding="utf-8")
    return path


def checkout() -> Path | None:
    """Return the root of the checkout this package lies in, if it lies in one."""
    root = ZOO.parents[2]
    return root if (root / "pyproject.toml").is_file() or (root / ".git").exists() else None


def _known(cards: Sequence[Card]) -> list[str]:
    """A table of the models whose circuit is known, if these are among the cards."""
    known = [load_truth(card.name) for card in cards if (card.directory / FILE).is_file()]
    rows = [_known_row(truth) for truth in known]
    return [KNOWN, *rows] if rows else []


def _known_row(truth: Truth) -> str:
    shape = truth.circuit.shape
    heads = (
        f"{shape.n_heads}" if shape.n_kv_heads == shape.n_heads else f"{shape.n_heads} on {shape.n_kv_heads}"
    )
    mlps = "no" if shape.mlp_layers == () else "yes"
    edges = f"{len(truth.content)} + {len(truth.supporting)} of {truth.circuit.graph.n_edges:,}"
    cells = (truth.model, truth.task, truth.algorithm, shape.n_layers, heads, mlps, truth.norm)
    said = " | ".join(str(cell) for cell in (*cells, edges, len(truth.idle), truth.sharpness))
    return f"| {said} |"


def _section(card: Mapping) -> str:
    lines = [f"\n## {card['name']}: {card['title']}", "", card["what"], ""]
    steps = ", ".join(f"{name} {count:,}" for name, count in card["steps"].items()) or "none (built by hand)"
    lines += [f"`{card['recipe']}` · steps: {steps} · {_seconds(card)} on {card['machine']}", ""]
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


def _seconds(card: Mapping) -> str:
    """Seconds on the wall and, where they were counted, of the processor."""
    cores = [value for name, value in card.get("data", {}).items() if name.startswith("seconds of one core")]
    return f"{card['wall_seconds']:,.0f} s" + (f" ({sum(cores):,.0f} s of one core)" if cores else "")
