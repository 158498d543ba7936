"""The command line, called in the test's own process."""

import sys

import pytest

import cli.app
from cli.printing import QUIET


@pytest.fixture(autouse=True)
def loud(monkeypatch):
    """``--quiet`` holds for the rest of a process: each test begins without it."""
    monkeypatch.setenv(QUIET, "")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run ``workbench ...`` in this process, in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["workbench", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.app.main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
