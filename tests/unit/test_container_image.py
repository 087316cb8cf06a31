"""What goes into the container images, and what they are told of themselves; that they work: tests/containers/."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from documents import ROOT
from repositories import commit_all
from scripts import load_script
from setuptools import find_packages

from ndpnet.commands import git
from ndpnet.tracking import identity
from ndpnet.tracking.flavor import REQUIREMENTS

SCRIPTS = ROOT / "deploy/image"
CONTEXT_LIMIT = 2_000_000  # bytes
LOCK = b"torch==2\n"
GIVEN = {"GIT_COMMIT": "a" * 40, "GIT_DIRTY": "false", "LOCK_HASH": hashlib.sha256(LOCK).hexdigest()}
# what stands for the engine: it prints its arguments
ENGINE = '#!/bin/sh\nfor each in "$@"; do echo "$each"; done\n'


def context_files(root: Path) -> set[str]:
    """Files that the engine gets, by its own rules."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    return {path for path in exclude_paths(str(root), patterns) if (root / path).is_file()}


def test_the_context_is_small_and_has_what_the_images_are_made_of() -> None:
    files = context_files(ROOT)
    assert {"ndpnet/cli.py", "ndpnet/params.yaml", "pyproject.toml", "requirements.lock", "README.md"} <= files
    assert {"deploy/image/identity.py", "deploy/image/requirements.py"} <= files
    assert sum((ROOT / path).stat().st_size for path in files) < CONTEXT_LIMIT
    tops = {path.partition("/")[0] for path in files}
    locks = {"requirements.lock", "requirements-station.lock"}
    named = {"ndpnet", "components", "pipelines", "deploy", "pyproject.toml", "README.md", *locks}
    assert tops <= named | {"LICENSE", "Dockerfile", ".dockerignore"}
    assert not [path for path in files if path.endswith(".pyc") or path == "ndpnet/build.json"]


def test_secrets_and_data_beside_the_sources_stay_outside(tmp_path: Path) -> None:
    inside = ("ndpnet/cli.py", "pyproject.toml")
    outside = (".git/config", "deploy/server.env", ".server/secrets.json", "data/a.png", "ndpnet/__pycache__/a.pyc")
    for path in (*inside, *outside, ".env", "mlflow.db", ".venv/bin/python", "ndpnet/build.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    assert context_files(tmp_path) == set(inside)


def test_what_an_image_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    requirements_of = load_script("deploy/image/requirements.py").requirements_of
    names = {re.match(r"[\w-]+", each)[0] for each in requirements_of("train", project)}
    assert {"torch", "lightning-fabric", "mlflow", "dvc", "kfp", "kfp-kubernetes"} <= names
    assert "ndpnet" not in names
    # what a registered model says that it needs, the command line, what `inspect` draws and writes with, and an engine
    needed = [*REQUIREMENTS, "click", "jinja2", "matplotlib", "openvino"]
    assert sorted(requirements_of("serve", project)) == sorted(needed)
    lock = (ROOT / "requirements.lock").read_text()
    assert all(re.search(rf"(?i)^{name}==", lock, re.MULTILINE) for name in requirements_of("serve", project))
    both = lock + (ROOT / "requirements-station.lock").read_text().replace("_", "-")
    of_station = {re.match(r"[\w-]+", each)[0] for each in requirements_of("station", project)}
    assert {"asyncua", "paho-mqtt", "starlette", "uvicorn", *requirements_of("serve", project)} <= of_station
    assert not [name for name in of_station if not re.search(rf"(?i)^{name}==", both, re.MULTILINE)]


def test_what_is_installed_has_one_name_at_the_top() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = find_packages(str(ROOT), **project["tool"]["setuptools"]["packages"]["find"])
    assert {name.partition(".")[0] for name in packages} == {"ndpnet"}
    assert {"ndpnet.components", "ndpnet.pipelines"} <= set(packages)
    assert not [name for name in packages if name.startswith("ndpnet.benchmark")]


def test_the_build_writes_which_commit_it_is_of() -> None:
    known = {"git_commit": "a" * 40, "git_dirty": "false", "lock_hash": GIVEN["LOCK_HASH"]}
    assert load_script("deploy/image/identity.py").identity_of(GIVEN, LOCK) == known


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"GIT_COMMIT": ""}, "which commit"),
        ({"GIT_COMMIT": "main"}, "which commit"),
        ({"GIT_DIRTY": ""}, "which commit"),
        ({"LOCK_HASH": ""}, r"LOCK_HASH \(none\) is not"),
        ({"LOCK_HASH": "b" * 64}, "LOCK_HASH bbbb"),
    ],
)
def test_a_build_that_does_not_know_its_commit_is_refused(change: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_script("deploy/image/identity.py").identity_of(GIVEN | change, LOCK)


def test_an_image_says_what_it_was_built_of_whatever_git_is_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"git_commit": "c" * 40, "git_dirty": "true", "lock_hash": "d" * 64}
    (tmp_path / "build.json").write_text(json.dumps(known))
    monkeypatch.setattr(identity, "BUILD_PATH", tmp_path / "build.json")
    monkeypatch.setenv("NDPNET_IMAGE_DIGEST", "sha256:e")
    monkeypatch.delenv("NDPNET_KFP_RUN_ID", raising=False)
    monkeypatch.chdir(ROOT)
    assert identity.run_identity() == known | {"image_digest": "sha256:e", "kfp_run_id": ""}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit of what build.sh reads."""
    folder = tmp_path / "checkout"
    shutil.copytree(SCRIPTS, folder / "deploy/image")
    (folder / "requirements.lock").write_bytes(LOCK)
    commit_all(folder)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(ENGINE)
    (tmp_path / "bin/docker").chmod(0o755)
    return folder


def build(checkout: Path, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run build.sh for the image `site/ndpnet`."""
    path = f"{checkout.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = [str(checkout / "deploy/image/build.sh"), "site/ndpnet", target, "python:3.11", "--network", "host"]
    environment = os.environ | {"PATH": path, "DIRTY": ""} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_an_image_is_tagged_with_its_commit(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    said = build(checkout, "train").stdout.splitlines()
    assert said[-1] == said[said.index("--tag") + 1] == f"site/ndpnet:{commit}"
    assert said[:3] == ["build", "--network", "host"]
    wanted = {"BASE=python:3.11", f"GIT_COMMIT={commit}", "GIT_DIRTY=false", f"LOCK_HASH={GIVEN['LOCK_HASH']}"}
    assert {after for before, after in pairwise(said) if before == "--build-arg"} == wanted
    assert build(checkout, "serve").stdout.splitlines()[-1] == f"site/ndpnet-serve:{commit}"


def test_a_tree_with_changes_is_refused_unless_told(checkout: Path) -> None:
    (checkout / "new.py").write_text("")
    refused = build(checkout, "train")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(r"Error: the tree differs from commit [0-9a-f]{12} \(.*DIRTY=1.*\)\n", refused.stderr)
    said = build(checkout, "train", DIRTY="1").stdout.splitlines()
    assert said[-1].endswith("-dirty")
    assert "GIT_DIRTY=true" in said
