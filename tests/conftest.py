"""Fixtures of the engine's tests: tiny models opened once, and a handful of pairs on them.

Threads and network are settled before torch is imported: one thread, because the models are too small to gain
from more, and no network, because nothing here may need one.
"""

from __future__ import annotations

import gc
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["COLUMNS"] = "200"  # what piped output is wide without it; test workers may bring another width

from functools import cache

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import config

from tests.shapes import install

# jsonschema builds parsers of addresses in all scripts with it, two seconds in each worker; no test checks those.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# Shapes are checked at every call of a test; the fixture ``unchecked`` is for tests that give wrong ones.
SHAPES_CHECKED = ("workbench",)
NOT_CHECKED: dict[str, str] = {}  # module -> why not
install(SHAPES_CHECKED, tuple(NOT_CHECKED))

from tests.mini import mini_pairs  # noqa: E402  the check comes before what is checked

# How long a test takes on a loaded machine is no fault of what it tests.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture
def unchecked():
    """Let a test give wrong types and shapes on purpose, to see how they are explained."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


@cache
def _opened(name: str):
    from tests.families import family_dir
    from workbench.model.open import open_model

    return open_model(family_dir(name), device="cpu")


@pytest.fixture(scope="session")
def bridge_of():
    """``bridge_of("llama")``: the opened tiny model of a family, one per process; leave it as it is."""
    return _opened


@pytest.fixture(scope="session")
def runs_of():
    """``runs_of("llama")``: fresh runs of the mini pairs; ``batch_tokens`` small, so that stacking has seams."""

    def make(name: str, pairs=None, **options):
        from tests.mini import metric_for
        from workbench.engine.paired_runs import PairedRuns

        model = _opened(name)
        options.setdefault("metric", metric_for(name))
        options.setdefault("batch_tokens", 100)
        return PairedRuns(model, mini_pairs() if pairs is None else pairs, **options)

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files with slow tests begin: a long file that begins last is waited for by all other workers."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Leave what was imported out of every later collection of garbage: it is millions of objects that stay."""
    gc.freeze()


@pytest.fixture(autouse=True)
def nobody_elses_code(monkeypatch):
    """What other tests of the process have registered is no plug-in of this one, in no record."""
    from workbench.core import plugins

    monkeypatch.setattr(plugins, "_MODULES", {})


@pytest.fixture(scope="session")
def lab_site(tmp_path_factory):
    """The folder in which the little package that adds one of each thing is installed."""
    from tests.plugins import install

    return install(tmp_path_factory.mktemp("lab"))
