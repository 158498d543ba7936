"""Versions of libraries that give wrong numbers, alone or together, as data; and what is installed against it.

No torch here: versions are read from the metadata of packages.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

NAME = "circuit-workbench"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Versions that together do something wrong.

    Attributes:
        versions: Package -> versions; all of them have to be met.
        says: What comes out wrong.
        source: Where it was reported or measured.
        install: What to type; empty where no release is without it.
        system: Only there, as ``platform.system`` names it; everywhere when empty.
        level: ``wrong``: numbers of the workbench would be wrong. ``limit``: the workbench measures and refuses it or
            goes another way; your own code has to know.
    """

    versions: Mapping[str, str]
    says: str
    source: str
    install: str = ""
    system: str = ""
    level: Literal["wrong", "limit"] = "wrong"

    def is_here(self, installed: Mapping[str, str], system: str) -> bool:
        """Say whether these versions are installed."""
        if self.system and self.system != system:
            return False
        return all(_meets(installed.get(name), wanted) for name, wanted in self.versions.items())

    def describe(self, installed: Mapping[str, str]) -> str:
        """Say what is installed, what it does, what to do about it, who says so."""
        who = " with ".join(f"{name} {installed[name]}" for name in self.versions)
        remedy = f"; {self.install}" if self.install else ""
        return f"{who}: {self.says}{remedy} ({self.source})"


FAULTS = (
    Fault(
        versions={"torch": ">=2.8,<2.9"},
        says="on Apple GPUs torch.nn.functional.linear is wrong for tensors that do not lie in one piece",
        source="github.com/TransformerLensOrg/TransformerLens/issues/1062, github.com/pytorch/pytorch/issues/161640",
        install='pip install "torch>=2.9"',
        system="Darwin",
    ),
    Fault(
        versions={"transformer-lens": "<4.3"},
        says="positions of left-padded prompts are not shifted: a loss on GPT-2 is off by 9",
        source="github.com/TransformerLensOrg/TransformerLens/issues/1609; right in 4.3.0",
        install='pip install "transformer-lens==4.3.*"',
    ),
    Fault(
        versions={"transformer-lens": "<4.3"},
        says="edits of hook_normalized and hook_scale are discarded without a word in 13 families, Pythia among them",
        source="github.com/TransformerLensOrg/TransformerLens/issues/1526; right in 4.3.0",
        install='pip install "transformer-lens==4.3.*"',
    ),
    Fault(
        versions={"transformer-lens": ">=4.3,<4.4", "transformers": ">=5.23,<6"},
        says="hooks in the mixer of state-space models (conv1d, dt_proj, hook_ssm_state) never fire, so that edits "
        "there change nothing; the workbench measures which hooks fire and refuses the others",
        source="measured with transformers 5.23.0 and 5.24.0",
        level="limit",
    ),
    Fault(
        versions={"transformer-lens": ">=4.3,<4.4"},
        says="enable_compatibility_mode() on GPT-OSS is off by 2.3 nats unless fold_value_biases=False; the workbench "
        "uses weights as they are",
        source="measured with 4.3.0",
        level="limit",
    ),
    Fault(
        versions={"torch": ">=2.5"},
        says="on a CPU scaled_dot_product_attention gives 0 where a query is NaN; the NaN itself stays in the residual "
        "stream, and metrics that are not finite are refused",
        source="github.com/pytorch/pytorch/issues/141128; measured with 2.13.0 and 2.14.1",
        level="limit",
    ),
)


def faults_of(installed: Mapping[str, str], *, system: str | None = None) -> list[Fault]:
    """List the known faults of these versions.

    Args:
        installed: Package -> version.
        system: By default this one.

    Example:
        >>> [fault.versions for fault in faults_of({"torch": "2.8.0"}, system="Darwin") if fault.level == "wrong"]
        [{'torch': '>=2.8,<2.9'}]
    """
    return [fault for fault in FAULTS if fault.is_here(installed, system or platform.system())]


def untested(installed: Mapping[str, str]) -> list[str]:
    """Return packages whose version is not one that our tests ran with, and what to type."""
    try:
        wanted = [Requirement(text) for text in requires(NAME) or ()]
    except PackageNotFoundError:
        return []
    return [
        f'{r.name} {installed[r.name]} is not a version that was tested: pip install "{r.name}{r.specifier}"'
        for r in wanted
        if r.marker is None
        and r.name in installed
        and not _meets(installed[r.name], str(r.specifier), unknown=True)
    ]


def _meets(version: str | None, wanted: str, *, unknown: bool = False) -> bool:
    """Whether a version is among those wanted; what is no version (not installed, a checkout) counts as ``unknown``."""
    try:
        return version is not None and Version(version) in SpecifierSet(wanted, prereleases=True)
    except InvalidVersion:
        return unknown
