"""The built wheel has everything it needs: run outside the checkout, from an installed copy only."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel unpacked as pip would; its dependencies come from the environment the tests run in."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    return site


def workbench(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    code = f"import sys; sys.path.insert(0, {str(site)!r}); from cli.app import main; main()"
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], cwd=folder, env=clean, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_wheel_holds_zoo_schemas_and_page_assets(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "workbench/model/zoo/ioi/model.safetensors",
        "workbench/model/zoo/ioi/tokenizer.json",
        "workbench/model/zoo/induction/tl_native.json",
        "workbench/circuits/files/schema/circuit.schema.json",
        "cli/app.py",
    ):
        assert needed in names
    assert any(n.startswith("workbench/view/assets/") and n.endswith(".js") for n in names)
    assert not [n for n in names if n.startswith(("tests/", "notebooks/", "circuits/"))]


@pytest.mark.slow
def test_the_installed_wheel_runs_the_main_job_outside_the_checkout(installed, tmp_path):
    version = workbench(installed, tmp_path, "--version")
    assert version.returncode == 0 and version.stdout.startswith("workbench ")
    models = workbench(installed, tmp_path, "model", "list")
    assert models.returncode == 0 and "zoo:ioi" in models.stdout
    demo = workbench(installed, tmp_path, "demo", "--limit", "6")
    assert demo.returncode == 0, demo.stderr
    assert list((tmp_path / "circuits").rglob("circuit.html"))
    where = subprocess.run(
        [sys.executable, "-P", "-c",
         f"import sys; sys.path.insert(0, {str(installed)!r}); import workbench; print(workbench.__file__)"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed))
