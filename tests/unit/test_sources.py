"""Digests of source code: all that is imported counts, directly or through others; what is not does not."""

import shutil

import pytest

from workbench.core import source_digest as sources


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the library that can be changed."""
    root = tmp_path / "workbench"
    shutil.copytree(sources.ROOT, root, ignore=shutil.ignore_patterns("zoo", "assets", "__pycache__"))
    monkeypatch.setattr(sources, "ROOT", root)
    sources.source_digest.cache_clear()
    yield root
    sources.source_digest.cache_clear()


def digest_after(tree, file: str | None, module: str) -> str:
    if file is not None:
        path = tree / file
        path.write_text(path.read_text() + "\n# changed\n")
    sources.source_digest.cache_clear()
    return sources.source_digest(module)


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("workbench.methods.relp", "engine/backward.py"),
        ("workbench.methods.atp_star", "engine/patterns.py"),
        ("workbench.methods.edge_pruning", "methods/hard_concrete.py"),
        ("workbench.methods.eap", "engine/metrics.py"),
        ("workbench.methods.exact", "model/hooks.py"),
    ],
)
def test_what_a_method_stands_on_counts(tree, module, file):
    before = digest_after(tree, None, module)
    assert digest_after(tree, file, module) != before


def test_what_it_does_not_import_does_not_count(tree):
    before = digest_after(tree, None, "workbench.methods.eap")
    assert digest_after(tree, "methods/acdc.py", "workbench.methods.eap") == before
    assert digest_after(tree, "view/html.py", "workbench.methods.eap") == before
