"""A wheel of this tree, installed elsewhere and used from another folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT
from samples import CATEGORY, Pipeline

pytestmark = pytest.mark.slow


def test_a_wheel_is_all_that_another_folder_needs(pipeline: Pipeline, tmp_path: Path) -> None:
    source, site, pip = tmp_path / "source", tmp_path / "site", (sys.executable, "-m", "pip", "--quiet")
    for name in ("ndpnet", "components", "pipelines"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ("--no-deps", "--no-index")
    subprocess.run([*pip, "wheel", *options, "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    subprocess.run([*pip, "install", *options, "--target", site, *tmp_path.glob("*.whl")], check=True)
    pictures = pipeline.data_dir / CATEGORY / "test/good"
    verb = ["inspect", pictures, "--model", pipeline.model_dir, "--out", "out", "--threshold", "0.999"]
    environment = os.environ | {"PYTHONPATH": str(site)}
    subprocess.run([site / "bin/ndpnet", *verb], env=environment, cwd=tmp_path, check=True)
    assert (tmp_path / "out/index.html").is_file()
    where = [sys.executable, "-c", "import ndpnet.pipelines, ndpnet; print(ndpnet.__file__)"]
    said = subprocess.run(where, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(site / "ndpnet/__init__.py")
