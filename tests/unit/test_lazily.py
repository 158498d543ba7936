"""What is imported lazily is loaded by its first use, counts in the digest, and is no other module."""

from __future__ import annotations

import subprocess
import sys

from workbench.core.plugins import names_imported
from workbench.core.source_digest import _file_of

CODE = """
import inspect
import sys
from workbench.core.loading import lazily

with lazily():
    from workbench.edits import lofit
    from workbench.core import errors
inspect.getmodule(inspect.currentframe())  # looks at the file of every module, as torch does while it is imported
assert "torch" not in sys.modules and not sys.meta_path[0].__class__.__name__ == "_Lazy"
from workbench.edits.lofit import Localised
assert "torch" in sys.modules and lofit.Localised is Localised
import workbench.edits.lofit as again
assert again is lofit
import inspect
assert inspect.getsource(lofit.localise).startswith("def localise")
with lazily():
    from workbench.edits import sinks
inspect.getmodule(sys._getframe())
assert sinks.__file__ and "Quiz" not in vars(sinks)  # looking loads nothing
sinks.Quiz
assert "Quiz" in vars(sinks) and type(sinks) is type(sys)
try:
    with lazily():
        from workbench.edits import nothing
except ImportError as problem:
    print(problem)
"""


def test_a_module_is_loaded_when_it_is_used_and_a_missing_one_is_refused_at_once():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0 and "nothing" in done.stdout, done.stderr


def test_what_a_paper_imports_lazily_counts_in_its_digest():
    file = _file_of("workbench.papers.pine")
    found = set(names_imported(file.read_bytes(), ["workbench", "papers"], anywhere=False))
    assert {"workbench.edits.documents", "workbench.edits.pine", "workbench.papers.kinds"} <= found
