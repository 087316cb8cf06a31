"""A wheel of this tree in environments that have what it asks for and nothing else, used from another folder."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from documents import ROOT
from installed import Environment
from samples import CATEGORY, Pipeline

pytestmark = pytest.mark.slow

PIP = (sys.executable, "-m", "pip", "--quiet")
INSPECT = "inspect {pictures} --model {model} --out out --threshold 0.999"
IMPORT_ALL = """
import importlib, ndpnet, os, pkgutil, sys
assert ndpnet.__file__.startswith(os.getcwd()), ndpnet.__file__
for name in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if module.name != "ndpnet.station.aravis_frames":  # runs in the system's Python, which has the camera's library
            importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("ndpnet", "components", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder)
    subprocess.run([*PIP, "wheel", *options, folder], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.parametrize(
    ("extra", "packages", "verbs"),
    [
        (
            "inspect",
            (),
            (
                "inspect {pictures} --model {model} --out out --threshold 0.999",
                "calibrate {model} {pictures} --out new",
                "--help",
            ),
        ),
        ("train", (), ("quick --out out",)),
        ("pipeline", ("ndpnet.pipelines", "ndpnet.components"), ("pipeline compile --out out",)),
        ("station", ("ndpnet.station",), (INSPECT,)),
        ("export", (), ("export {model} --prepared {prepared} --bank {bank} --out out --engine openvino",)),
    ],
)
def test_it_runs_with_what_it_asks_for_alone(
    extra: str, packages: tuple[str, ...], verbs: tuple[str, ...], pipeline: Pipeline, wheel: Path, tmp_path: Path
) -> None:
    environment = Environment(tmp_path / "environment", [f"ndpnet[{extra}]"])
    if extra == "inspect":
        assert environment.heavy() == set()
    python, ndpnet = (environment.scripts / name for name in ("python", "ndpnet"))
    run = partial(subprocess.run, env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"}, cwd=tmp_path, check=True)
    run([*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel])
    run([python, "-c", IMPORT_ALL, *packages])
    paths = {
        "pictures": pipeline.data_dir / CATEGORY / "test/good",
        "model": pipeline.model_dir,
        "prepared": pipeline.prepared_dir,
        "bank": pipeline.bank_dir,
    }
    for verb in verbs:
        run([ndpnet, *verb.format(**paths).split()])
    assert (tmp_path / "out").is_dir()
