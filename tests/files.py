"""Our JSON files as another run would have written them: fields changed, the digest written anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.core.digest import document_digest


def redigested(document: dict[str, Any]) -> dict[str, Any]:
    """A document with the digest of what it holds now."""
    return {**document, "digest": document_digest(document)}


def rewrite(path: Path, **changes: Any) -> None:
    """Change fields of a document with a digest, and the digest with them."""
    document = {**json.loads(Path(path).read_text()), **changes}
    Path(path).write_text(json.dumps(redigested(document)))
