"""What is installed for what: judging pictures needs none of what trains, tracks or schedules."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from samples import CATEGORY, Pipeline

import ndpnet

ROOT = Path(ndpnet.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT_REST = """
import json, os, sys
from importlib.machinery import PathFinder
blocked, find = set(json.loads(os.environ["BLOCKED"])), PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None if name.partition(".")[0] in blocked else find(name, path, target)
)
from ndpnet.cli import main
main(sys.argv[1:])
"""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirements: list[str]) -> set[str]:
    """Names of the distributions that they install."""
    found, todo = set(), [Requirement(each) for each in requirements]
    while todo:
        requirement = todo.pop()
        key = (plain(requirement.name), frozenset(requirement.extras))
        if key in found:
            continue
        found.add(key)
        try:
            inner = [Requirement(each) for each in distribution(requirement.name).requires or []]
        except PackageNotFoundError:
            continue  # of another platform
        extras = requirement.extras | {""}
        todo += [each for each in inner if not each.marker or any(each.marker.evaluate({"extra": x}) for x in extras)]
    return {name for name, _ in found}


def test_inspect_needs_what_its_extra_installs_and_no_more(pipeline: Pipeline, tmp_path: Path) -> None:
    installed = closure(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["inspect"]) | {"ndpnet"}
    modules = packages_distributions()
    blocked = [name for name, owners in modules.items() if not {plain(each) for each in owners} & installed]
    assert {"kfp", "dvc", "mlflow", "boto3", "sklearn", "lightning_fabric"} <= set(blocked)
    environment = os.environ | {"BLOCKED": json.dumps(blocked), "PYTHONPATH": str(ROOT)}
    pictures = pipeline.data_dir / CATEGORY / "test/good"
    for verb in (
        ["inspect", pictures, "--model", pipeline.model_dir, "--out", tmp_path / "out", "--threshold", "0.999"],
        ["calibrate", pipeline.model_dir, pictures, "--out", tmp_path / "new"],
        ["--help"],
    ):
        command = [sys.executable, "-c", WITHOUT_REST, *map(str, verb)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out/predictions.csv").read_text().splitlines()) == 7
    assert len(list((tmp_path / "out/overlays").iterdir())) == 6


def test_extras_together_are_what_the_lock_pins() -> None:
    extras = PROJECT["optional-dependencies"]
    named = [each for name in ("train", "pipeline", "export", "server", "dev") for each in extras[name]]
    lock = (ROOT / "requirements.lock").read_text()
    for requirement in PROJECT["dependencies"] + [each for each in named if not each.startswith("ndpnet[")]:
        assert re.search(rf"(?im)^{Requirement(requirement).name}==", lock), requirement


@pytest.mark.parametrize(("torch", "has_cuda"), [("", True), ("cpu", False)])
def test_make_installs_torch_with_cuda_or_without(torch: str, has_cuda: bool, tmp_path: Path) -> None:
    command = ["make", "--dry-run", "--always-make", "venv", f"TORCH={torch}", f"VENV={tmp_path}"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any("--extra-index-url" in line for line in lines) != has_cuda
    if has_cuda:
        return
    (filtering,) = [line for line in lines if line.startswith("grep")]
    subprocess.run(["bash", "-c", filtering], cwd=ROOT, check=True)
    pinned = (tmp_path / "cpu.lock").read_text()
    assert re.search(r"(?m)^torch==[\d.]+\+cpu$", pinned)
    assert "numpy==" in pinned
    assert not re.search(r"(?m)^(nvidia|cuda|triton)", pinned)


def test_the_wheel_carries_what_is_read_at_run_time() -> None:
    folder = ROOT / "ndpnet"
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["ndpnet"]
    carried = {path for pattern in patterns for path in folder.glob(pattern)}
    read = {path for path in folder.rglob("*") if path.suffix in (".j2", ".typed") or path.name == "params.yaml"}
    assert read <= carried
