"""The documentation site is built strictly and without network, and names every public name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import workbench as wb

ROOT = Path(__file__).resolve().parents[2]


def test_the_site_builds_without_a_warning_and_has_every_public_name(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "HTTPS_PROXY": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert made.returncode == 0 and "WARNING" not in made.stderr, made.stderr[-2000:]
    page = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    homes = {name: home.partition(":") for name, home in wb._HOME.items()}
    ids = {name: f"workbench.{module}.{own or name}" for name, (module, _, own) in homes.items()}
    assert not [name for name, path in ids.items() if f'id="{path}"' not in page]
    assert not [name for name in ids if f"{name}\n" not in page and f">{name}<" not in page]  # as its heading
    assert "make demo" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
