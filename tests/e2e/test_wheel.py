"""A wheel of this tree in environments that have what it asks for and nothing else, used from another folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documents import ROOT
from installed import Environment
from samples import CATEGORY, Pipeline

pytestmark = pytest.mark.slow

IMPORT_ALL = """
import importlib, ndpnet, os, pkgutil, sys
assert ndpnet.__file__.startswith(os.getcwd()), ndpnet.__file__
for name in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        if module.name != "ndpnet.station.aravis_frames":  # runs in the system's Python, which has the camera's library
            importlib.import_module(module.name)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pip installs of a wheel of this tree: ndpnet, its metadata and its script."""
    tree, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("installed")
    for name in ("ndpnet", "components", "pipelines"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    pip = (sys.executable, "-m", "pip", "--quiet", "install")
    subprocess.run([*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", folder, tree], check=True)
    return folder


class Installation(Environment):
    """It, in an environment in FOLDER with what one of its extras asks for."""

    def __init__(self, folder: Path, installed: Path, extra: str) -> None:
        super().__init__(folder / "environment", [f"ndpnet[{extra}]"])
        self.folder, self.verbs = folder, installed / "bin/ndpnet"
        shutil.copytree(installed, self.site, ignore=shutil.ignore_patterns("bin"), dirs_exist_ok=True)

    def run(self, *arguments: object) -> str:
        """Run its Python in FOLDER. -> what it prints"""
        return subprocess.run(
            [self.scripts / "python", *map(str, arguments)],
            env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout


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
        ("pipeline", ("ndpnet.pipelines", "ndpnet.components"), ("pipeline compile --out out",)),
        ("station", ("ndpnet.station",), ()),
        ("export", (), ("export {model} --prepared {prepared} --bank {bank} --out out --engine openvino",)),
    ],
)
def test_it_runs_with_what_it_asks_for_alone(
    extra: str, packages: tuple[str, ...], verbs: tuple[str, ...], pipeline: Pipeline, installed: Path, tmp_path: Path
) -> None:
    there = Installation(tmp_path, installed, extra)
    if extra == "inspect":
        assert there.heavy() == set()
    there.run("-c", IMPORT_ALL, *packages)
    paths = {
        "pictures": pipeline.data_dir / CATEGORY / "test/good",
        "model": pipeline.model_dir,
        "prepared": pipeline.prepared_dir,
        "bank": pipeline.bank_dir,
    }
    for verb in verbs:
        there.run(there.verbs, *verb.format(**paths).split())
    assert (tmp_path / "out").is_dir() == bool(verbs)


def test_quick_finds_the_scratch_from_nothing_whatever_another_surface_has_set(installed: Path, tmp_path: Path) -> None:
    there = Installation(tmp_path, installed, "train")
    there.run("-c", IMPORT_ALL)
    params_path = there.site / "ndpnet/params.yaml"
    values = yaml.safe_load(params_path.read_text())
    values |= {"profile": "line", "data": values["data"] | {"mode": "tile", "group_pattern": r"^(part\d+)_"}}
    params_path.write_text(yaml.safe_dump(values))  # as `dvc exp run -S` leaves it
    said = there.run(there.verbs, "quick", "--out", "quick")
    assert "test/scratch/brick_r6c5_07.png: defective: score 0." in said
    assert (tmp_path / "quick/verdict.png").is_file()
    assert (tmp_path / "quick/model/config.json").is_file()
