"""What is installed for what: judging pictures needs none of what trains, tracks or schedules."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from documents import ROOT
from packaging.requirements import Requirement

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


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
