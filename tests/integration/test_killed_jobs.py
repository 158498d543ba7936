"""Jobs killed at random moments, a few times each; all jobs, ten times each: ``python -m benchmarks.crash_jobs``."""

from __future__ import annotations

import random
import sys

import pytest

from benchmarks.crash_jobs import Job, facts, jobs, killed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="forks and signals")]


def test_a_killed_portrait_is_resumed_to_the_same_numbers(tmp_path):
    from workbench.commands.do import do

    def portray(folder):
        return do("heads", model="zoo:ioi", limit=2, no_loss=True, out=folder)

    portray(tmp_path / "warm")  # what is imported once is not killed
    found = killed(Job(name="heads", work=portray), tmp_path, 4, random.Random(0))
    assert found.wrong == [] and found.times == 4
    assert found.seen["resumed to the same numbers"] >= 1


def test_a_killed_edit_is_whole_or_not_there(tmp_path):
    (making,) = (job for job in jobs(tmp_path) if job.name == "edit make")
    found = killed(making, tmp_path, 3, random.Random(0))
    assert found.wrong == [] and found.times == 3


def test_other_numbers_and_half_files_are_seen(tmp_path):
    """A job that writes other numbers each time, and half of a page, so that a count of none means something."""

    def careless(folder):
        folder.mkdir(exist_ok=True)
        (folder / "result.json").write_text(f'{{"a": {random.SystemRandom().random()}}}')

    found = killed(
        Job(name="careless", work=careless, run=None, last="result.json"), tmp_path, 1, random.Random(0)
    )
    assert any("resumed, these are not as undisturbed: ['result.json']" in words for words in found.wrong)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "page.html").write_text("<html><p>half")
    with pytest.raises(ValueError, match=r"page\.html has no end"):
        facts(tmp_path / "half")
