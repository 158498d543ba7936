"""A client that knows nothing but what the server lists: it takes the tool whose description fits the question best."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema

from workbench.commands.agents.guide import schemas


def words(text: str) -> set[str]:
    """The words of a text, in lower case, without endings."""
    return {re.sub(r"(ing|ed|es|s)$", "", word) for word in re.findall(r"[a-z]{3,}", text.lower())}


def chosen(tools: Sequence[Any], question: str) -> Any:
    """The tool whose name and description share most with the question; words of few tools count more."""
    own = {tool.name: words(f"{tool.name.replace('_', ' ')} {tool.description}") for tool in tools}
    seen = Counter(word for found in own.values() for word in found)
    asked = words(question)

    def fit(tool: Any) -> float:
        shared = asked & own[tool.name]
        return sum(math.log(1 + len(tools) / seen[word]) for word in shared) / math.sqrt(len(own[tool.name]))

    return max(tools, key=fit)


class Reader:
    """Asks questions of a server through the SDK's client, and keeps what it called."""

    def __init__(self, client: Any, tools: Sequence[Any]) -> None:
        self.client, self.tools = client, tools
        self.called: list[str] = []
        self.schemas = schemas()

    async def ask(self, question: str, facts: Mapping[str, Any]) -> Any:
        """Return the document of the tool that fits, called with the facts that it takes."""
        tool = chosen(self.tools, question)
        self.called.append(tool.name)
        known = tool.input_schema["properties"]
        given = {name: value for name, value in facts.items() if name in known}
        jsonschema.validate(given, tool.input_schema)
        answer = await self.client.call_tool(tool.name, given)
        document = answer.structured_content
        if answer.is_error:
            raise AssertionError(f"{tool.name} {given}: {document['error']}")
        found = document["result"] if set(document) == {"result"} else document
        name = tool.name.replace("_", " ", 1)
        name = name if name in self.schemas else tool.name.replace("_", "-")
        name += " --dry-run" if given.get("dry_run") else " --full" if given.get("full") else ""
        if name in self.schemas:
            jsonschema.validate(found, self.schemas[name])
        return found
