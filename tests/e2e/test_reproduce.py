"""Rebuilding a registered version from a scratch git and DVC repository: the same bits, or a table of what differs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import distributions, version
from pathlib import Path

import pytest
import yaml
from documents import ROOT
from mlflow_servers import new_database
from processes import TIME_LIMIT
from registered import IDENTITY, NAME, with_threshold
from repositories import DVC, Repository, commit_all, contents
from samples import CATEGORY, Pipeline

from ndpnet import steps
from ndpnet.commands import git
from ndpnet.config import load_params
from ndpnet.files import sha256_of
from ndpnet.inference.package import read_package
from ndpnet.promotion.reproduce import CLOSE, DIFFERENT, EQUAL, Row, compare, conclude, format_rows_of, reproduce
from ndpnet.promotion.worktree import _drop_cut_lock, checked_out, find_differences
from ndpnet.tracking import models
from ndpnet.tracking.client import connect

pytestmark = pytest.mark.usefixtures("tracking_on")


def test_what_counts_as_the_same() -> None:
    same = [Row("params_hash", "a", "a"), Row("package_hash", "p", "p"), Row("image_auroc.value", 0.9, 0.9)]
    assert conclude(same) == EQUAL
    other_bits = [same[0], Row("package_hash", "p", "q")]
    near, far = Row("image_auroc.value", 0.9, 0.909, 0.01), Row("image_auroc.value", 0.9, 0.911, 0.01)
    assert conclude([*other_bits, near]) == CLOSE
    assert conclude([*other_bits, far]) == DIFFERENT
    assert conclude([*other_bits, Row("image_auroc.value", 0.9, 0.9000001)]) == DIFFERENT, (
        "bit for bit without tolerance"
    )
    assert conclude([*other_bits, near, Row("pro_auc.value", None, 0.5, 0.01)]) == DIFFERENT
    assert conclude([Row("params_hash", "a", "b"), *other_bits[1:], near]) == DIFFERENT
    assert conclude([*other_bits, near, Row("notes.0", "x 1", "x 2", 0.01)]) == CLOSE
    assert conclude(other_bits) == DIFFERENT, "nothing was measured"


def test_the_installed_libraries_beside_a_lock(tmp_path: Path) -> None:
    lock, torch, boto3 = tmp_path / "requirements.lock", version("torch"), version("boto3")
    text = f"# made by make lock\nTorch=={torch} ; python_version > '3'\nSciPy==0\nboto3[crt]=={boto3}\nabsent==9\n\n"
    lock.write_text(text)
    assert find_differences(lock) == [f"SciPy {version('scipy')} instead of 0"]
    lock.write_text(text.replace("SciPy", "ruamel_yaml").replace(torch, torch.partition("+")[0] + "+other"))
    assert find_differences(lock) == [f"ruamel_yaml {version('ruamel.yaml')} instead of 0"]


@pytest.fixture(scope="module")
def repository(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A clone of these sources with tiny parameters and pinned data, whose model is version 1 of a registry."""
    folder = tmp_path_factory.mktemp("re produce") / "repository"
    repository = Repository.make(folder, pipeline.data_dir)
    repository.add_project(categories=["another"])
    installed = sorted({f"{package.name}=={version(package.name)}\n" for package in distributions()})
    (folder / "requirements.lock").write_text("".join(installed))
    (folder / ".gitignore").write_text("/build/\n/.work/\n/data\n__pycache__/\n/mlflow.db\n/mlartifacts/\n")
    commit = repository.commit("all of it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", new_database(folder.parent / "registry"))
        _register(folder, commit)
        patch.chdir(folder)
        yield repository


def _register(folder: Path, commit: str) -> None:
    """Run the steps in this process, as somebody did a year ago, and register what they made."""
    build, params = folder.parent / "build", load_params(folder / "ndpnet/params.yaml")
    inputs = (build / "prepared", build / "bank")
    steps.prepare(folder / "data", CATEGORY, inputs[0], params)
    steps.synthesize(inputs[1], params)
    steps.train_phase1(*inputs, build / "phase1", params, build / "work")
    steps.train_phase2(*inputs, build / "phase1", build / "model", params, build / "work")
    steps.evaluate(inputs[0], build / "model", build / "evaluation", params)
    lock = sha256_of(folder / "requirements.lock")
    identity = {"git_commit": commit, "git_dirty": "false", "lock_hash": lock}
    record = models.register(build / "model", build / "evaluation", identity=identity)
    assert (record["version"], models.registered_origin(NAME, 1)["is_data_pinned"]) == (1, True)


@pytest.mark.slow
def test_the_same_bits_come_out_even_after_a_kill(repository: Repository, tmp_path: Path) -> None:
    Path(repository.folder / "ndpnet/losses.py").write_text("the working tree is not used")
    Path(repository.folder / "mine").write_text("x")
    work_dir = tmp_path / "work dir"
    code = f"from ndpnet.promotion.reproduce import *; reproduce({NAME!r}, 1, work_dir=Path({str(work_dir)!r}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    built = work_dir / "reproduce" / f"{NAME}-1/build/{CATEGORY}"
    lock = built.parents[1] / "dvc.lock"
    try:
        while killed.poll() is None and not _is_recorded(lock):
            time.sleep(0.05)
    finally:
        killed.kill()
        killed.wait(TIME_LIMIT)
    assert built.exists(), "it ended before it was killed"
    finished_at = (built / "phase1/phase1.json").stat().st_mtime_ns
    result = reproduce(NAME, 1, work_dir=work_dir, is_kept=True)
    assert result["result"] == EQUAL, [row for row in result["rows"] if row["verdict"] != EQUAL]
    names = {row["name"] for row in result["rows"]}
    assert {"package_hash", "code_hash", "training_data_hash", "image_auroc.value", "recall.low"} <= names
    assert result["tolerance"] == 0
    assert (built / "phase1/phase1.json").stat().st_mtime_ns == finished_at, "a finished step was run again"
    origin, expected = models.registered_origin(NAME, 1), models.registered_metrics(NAME, 1)
    expected["recall"]["value"] += 0.5
    rows = compare(built, origin, expected, 0.0)
    assert [row.name for row in rows if row.verdict == DIFFERENT] == ["recall.value"]
    assert conclude(rows) == DIFFERENT
    assert "EQUAL BIT FOR BIT" in format_rows_of(result)
    repository.run("git", "checkout", "--quiet", "ndpnet/losses.py")


def _is_recorded(lock: Path) -> bool:
    """Whether phase 1 stands in a lock that is no longer being written."""
    is_there = lock.exists() and f"train_phase1@{CATEGORY}" in lock.read_text()
    return is_there and time.time() - lock.stat().st_mtime > 0.3


def test_a_lock_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    _drop_cut_lock(lock)
    whole = (
        f"schema: '2.0'\nstages:\n  a:\n    cmd: x\n    deps:\n    - path: y\n      md5: {'a' * 32}\n      size: 1\n"
    )
    lock.write_text(whole)
    _drop_cut_lock(lock)
    assert lock.read_text() == whole
    for cut in (whole[: whole.index(" 1\n")], whole[: whole.index("0'")], ""):
        lock.write_text(cut)
        _drop_cut_lock(lock)
        assert not lock.exists(), cut


@pytest.mark.parametrize("last", ["a", "z"])
def test_a_checkout_that_was_killed_is_made_again(tmp_path: Path, last: str) -> None:
    root, folder = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    for name in ("a", "z"):
        (root / name).write_text("x")
    commit = commit_all(root)
    (root / ".git/info/attributes").write_text(f"{last} filter=kill\n")
    git(root, "config", "filter.kill.smudge", "kill -KILL 0")  # git and the process that called it
    code = f"from ndpnet.promotion.worktree import *; checked_out(Path({str(root)!r}), {commit!r}, "
    code += f"Path({str(folder)!r})).__enter__()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, start_new_session=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    (root / ".git/info/attributes").unlink()
    with checked_out(root, commit, folder):
        assert {path.name for path in folder.iterdir()} == {".git", "a", "z"}
    assert not folder.exists()


def test_data_come_from_the_remote_that_the_clone_is_set_to(tmp_path: Path) -> None:
    repository = Repository.make(tmp_path / "repository")
    commit = repository.run("git", "rev-parse", "HEAD").stdout.strip()
    repository.run(*DVC, "remote", "add", "--local", "--default", "storage", "../remote")
    repository.run(*DVC, "push")
    shutil.rmtree(repository.folder / ".dvc/cache")
    with checked_out(repository.folder, commit, tmp_path / "somewhere/else") as tree:
        tree.bring_data()
        assert contents(tree.folder / "data") == contents(repository.data_dir)
        for folder in (tmp_path / "remote", tree.folder / "data", repository.folder / ".dvc/cache"):
            shutil.rmtree(folder)
        with pytest.raises(ValueError, match=r"not in this clone's cache: cannot pull data\.dvc: .*`dvc push --all"):
            tree.bring_data()


@pytest.mark.slow
def test_what_cannot_be_rebuilt_is_said_before_anything_runs(repository: Repository, tmp_path: Path) -> None:
    client = connect()
    original = client.get_model_version(NAME, "1").tags
    cases = [
        ({"ndpnet.git_dirty": "true"}, "with changes that are not in commit"),
        ({"ndpnet.git_commit": "unknown"}, "no commit in its tags"),
        ({"ndpnet.git_commit": "d" * 40}, "is not in .*git fetch origin d{40}`"),
        ({"ndpnet.lock_hash": "e" * 64}, "the version's lock eeeeeeeeeeee is not"),
    ]
    for changes, message in cases:
        for key, value in changes.items():
            client.set_model_version_tag(NAME, "1", key, value)
        try:
            with pytest.raises(ValueError, match=message):
                reproduce(NAME, 1, work_dir=tmp_path / "work")
        finally:
            for key in changes:
                client.set_model_version_tag(NAME, "1", key, original[key])
    of_packages = [
        ({"is_data_pinned": False}, "version 2 was made from data that was not pinned"),
        ({"training_data_hash": "f" * 64}, "version 3 was recalibrated: .*`ndpnet calibrate` was given"),
        ({"params_hash": "f" * 64}, "made with other parameters than params.yaml"),
    ]
    build = repository.folder.parent / "build"
    threshold = read_package(build / "model").threshold["value"]
    identity = {key: original[f"ndpnet.{key}"] for key in IDENTITY}
    for number, (lineage, message) in enumerate(of_packages, start=2):
        package_dir = with_threshold(build / "model", tmp_path / f"package {number}", threshold, **lineage)
        models.register(package_dir, build / "evaluation", identity=identity)
        with pytest.raises(ValueError, match=message):
            reproduce(NAME, number, work_dir=tmp_path / "work")
    assert not list((tmp_path / "work").rglob("build"))
    os.chdir(tmp_path)
    try:
        with pytest.raises(ValueError, match="not a git repository"):
            reproduce(NAME, 1, work_dir=tmp_path / "work")
    finally:
        os.chdir(repository.folder)
    values = yaml.safe_load((repository.folder / "ndpnet/params.yaml").read_text())
    assert values["categories"] == ["another"], "the caller's tree was touched"
