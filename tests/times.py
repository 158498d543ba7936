"""Which test files keep a processor busy, and for how long: ``python -m pytest -p tests.times tests``.

Seconds of a processor, of the tests and of the processes that they start and wait for: they hardly change when the
machine has other work. ``TIMES=50`` shows as many of the longest tests after the files.
"""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterator

import pytest

from tests import forks


def spent() -> float:
    """Processor seconds of this process and of its children that have ended, with those of the forks' server."""
    own, children = (resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime + forks.spent()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    item.stash[_BEGUN] = spent()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    now = spent()
    report.spent, item.stash[_BEGUN] = now - item.stash[_BEGUN], now
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    files: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in (r for group in terminalreporter.stats.values() for r in group if hasattr(r, "spent")):
        files[report.nodeid.partition("::")[0]] += report.spent
        tests[f"{report.nodeid} {report.when}"] += report.spent
    terminalreporter.section(f"{sum(files.values()):.0f} s of a processor")
    for name, seconds in files.most_common():
        terminalreporter.write_line(f"{seconds:8.2f} {name}")
    for name, seconds in tests.most_common(int(os.environ.get("TIMES", "0"))):
        terminalreporter.write_line(f"{seconds:8.2f} {name}")


_BEGUN = pytest.StashKey[float]()
