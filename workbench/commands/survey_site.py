"""The page of a survey: what was found, step by step, with links to the page of every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.circuits.effects import Effects
from workbench.circuits.show.notebook import effects_svg
from workbench.view.html import facts_html, results_page, table_html, text_html
from workbench.view.text import escape

READ = {
    "heads": "kind names what a head does on tokens that mean nothing: it is not yet a role in this task. The atlas "
    "has all columns and the attention of every head.",
    "ablate": "Each head in turn gets the activations of another prompt. A large drop says that the behavior needs "
    "the head, not what for.",
    "patch": "Each head in turn gets its clean activations in the corrupted run. A large gain says that the head "
    "carries what the two prompts differ in.",
    "details": "Click a head on the circuit's page: its attention on real prompts, what the model loses without it, "
    "the tokens that it raises. Click an edge: its exact effect, and why it is there.",
    "evaluate": "yes and no answer the criterion in their row; open says that there were too few pairs, or that "
    "something is missing. A no is no error of the run: it says what must not be claimed of the circuit.",
}
OF_CIRCUITS = (
    "A circuit is what is left when all other edges get activations of another prompt. Faithfulness says how much of "
    "the behavior it keeps on prompts that it was not found on; 1 is the whole model. Two methods that find the same "
    "heads support each other; chance beside it says how many heads two random circuits of these sizes share."
)
LEAD = "A first day with this model: every step is a run whose numbers are kept."


def site(found: Mapping[str, Any], sweeps: Mapping[str, Effects]) -> str:
    """Return the page; every text in it is escaped."""
    sections = [
        (step["title"], _section(name, step, sweeps.get(name))) for name, step in found["steps"].items()
    ]
    shared = text_html(OF_CIRCUITS) + (table_html(found["overlaps"]) if found["overlaps"] else "")
    sections.append(("What the circuits share: heads", shared + text_html(found["published"])))
    sections.append(("How long it took", table_html(_times(found["steps"]))))
    title = f"{found['model']} on {found['task']}"
    return results_page(title, sections, lead=LEAD)


def _section(name: str, step: Mapping[str, Any], effects: Effects | None) -> str:
    if "refused" in step:
        return text_html(f"Not done: {step['refused']}")
    parts = [text_html(READ.get(name, "")), facts_html(step["facts"])]
    if effects is not None:
        parts.append(effects_svg(effects))
    if step["rows"]:
        parts.append(table_html(step["rows"]))
    return "".join(parts) + _links(name, step)


def _links(name: str, step: Mapping[str, Any]) -> str:
    pages = [(step["page"], "the page of this step")] if step["page"] else []
    if step["command"] == "discover":
        pages.append((f"{name}/circuit.html", "the circuit to look through"))
    links = " · ".join(f'<a href="{escape(page)}">{escape(words)}</a>' for page, words in pages)
    return f"<p>{links}</p>" if links else ""


def _times(steps: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"step": step["title"], "seconds": step.get("seconds")} for step in steps.values()]
