"""Versions that give wrong numbers are told with what to install; versions that are right are left in peace."""

from __future__ import annotations

import re

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.newest import PYPROJECT, requirements, unbounded
from workbench.commands.doctor import check_versions
from workbench.core import faults
from workbench.core.faults import FAULTS, faults_of, untested

GOOD = {"torch": "2.13.0+cpu", "transformers": "5.23.0", "transformer-lens": "4.3.0"}


def wrong(installed, system="Linux"):
    return [fault for fault in faults_of(installed, system=system) if fault.level == "wrong"]


def test_versions_that_were_tested_are_not_wrong():
    assert wrong(GOOD) == [] and wrong(GOOD, "Darwin") == []
    assert {fault.level for fault in faults_of(GOOD, system="Linux")} == {"limit"}


@pytest.mark.parametrize(("version", "count"), [("2.7.1", 0), ("2.8.0", 1), ("2.8.1+cpu", 1), ("2.9.0", 0)])
def test_one_torch_is_wrong_on_apple_gpus_alone(version, count):
    assert len(wrong({**GOOD, "torch": version}, "Darwin")) == count
    assert wrong({**GOOD, "torch": version}, "Linux") == []


def test_a_pair_is_told_only_where_both_are_there():
    def pairs(installed):
        return [f for f in faults_of(installed, system="Linux") if len(f.versions) == 2]

    assert len(pairs(GOOD)) == 1 and pairs({**GOOD, "transformers": "5.22.2"}) == []
    assert pairs({"transformers": "5.23.0"}) == []


def test_what_is_wrong_says_what_to_install_and_who_says_so():
    found = wrong({**GOOD, "transformer-lens": "4.1.0"})
    text = found[0].describe({**GOOD, "transformer-lens": "4.1.0"})
    assert text.startswith("transformer-lens 4.1.0: ") and 'pip install "transformer-lens==4.3.*"' in text
    for fault in FAULTS:
        assert fault.source and fault.says and (fault.install or fault.level == "limit")
        for wanted in fault.versions.values():
            SpecifierSet(wanted)


def test_what_is_to_be_installed_is_not_wrong_itself():
    for fault in FAULTS:
        if fault.install:
            name, wanted = re.search(r'"([a-z-]+)([^"]+)"', fault.install).groups()
            least = wanted.lstrip(">=").replace(".*", ".0")
            assert not any(f.level == "wrong" for f in faults_of({name: least}, system=fault.system))


def test_versions_outside_of_the_bounds_are_told(monkeypatch):
    monkeypatch.setattr(faults, "requires", lambda name: ["torch>=2.6,<2.15", 'ray>=2; extra == "ray"'])
    assert untested({"torch": "2.13.0+cpu", "ray": "1.0"}) == [] == untested({"torch": "not installed"})
    assert untested({"torch": "2.15.0"})[0].startswith(
        "torch 2.15.0 is not a version that was tested: pip install"
    )


def test_this_installation_is_well():
    assert check_versions().problems == ()


def test_the_newest_are_asked_for_without_upper_bounds():
    wanted = {Requirement(text).name: Requirement(text).specifier for text in requirements()}
    assert not [n for n, s in wanted.items() if "<" in str(s) and n != "transformers"]
    assert (
        "99.0" in wanted["torch"] and "6.0" not in wanted["transformers"] and "5.99" in wanted["transformers"]
    )
    assert unbounded("numpy>=1.26,<3") == "numpy>=1.26" and unbounded("pyarrow>=17") == "pyarrow>=17"
    assert '"transformers>=5.9,<6"' in PYPROJECT.read_text()
