"""What the newest releases are to be tried with: our requirements without upper bounds, one a line, for pip.

``make newest`` installs them into a virtual environment of its own and runs the tests of all model families there.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
KEPT = ("transformer-lens", "transformers")  # another major version is another library
PLAIN = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "jsonschema")  # what the family tests need


def unbounded(requirement: str) -> str:
    """A requirement without its upper bound.

    Example:
        >>> unbounded("torch>=2.6,<2.14"), unbounded("transformers>=5.9,<6")
        ('torch>=2.6', 'transformers>=5.9,<6')
    """
    name = re.match(r"[A-Za-z0-9_.-]+", requirement).group()
    return requirement if name in KEPT else re.sub(r",?<=?[0-9.]+", "", requirement)


def requirements() -> list[str]:
    """All that the library and the tests of families need."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extra = project["optional-dependencies"]["test"]
    tests = [r for r in extra if re.match(r"[A-Za-z0-9_.-]+", r).group() in PLAIN]
    return [unbounded(requirement) for requirement in (*project["dependencies"], *tests)] + [
        "peft"
    ]  # test_peft.py


if __name__ == "__main__":
    print("\n".join(requirements()))
