"""Papers whose claims are measured again, on any model: ``workbench replicate retrieval-heads -m zoo:kv``."""

from __future__ import annotations

from workbench.core.claims import JudgedClaim, judge, untestable
from workbench.papers.kinds import Findings, Setting
from workbench.papers.kit import Claim, Conditions, Paper
from workbench.papers.registry import find_replication, list_replications

__all__ = [
    "Claim",
    "Conditions",
    "Findings",
    "JudgedClaim",
    "Paper",
    "Setting",
    "find_replication",
    "judge",
    "list_replications",
    "untestable",
]
