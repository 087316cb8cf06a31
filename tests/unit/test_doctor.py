import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from documents import ROOT
from http_servers import Answer, serving
from processor import HAS_BF16

from ndpnet import doctor
from ndpnet.cli import main
from ndpnet.commands import git
from ndpnet.doctor import Finding, check_machine
from ndpnet.tracking import identity


def checks_of(folder: Path) -> dict[str, Finding]:
    return {check.name: check for check in check_machine(folder)}


def test_a_sound_machine_passes() -> None:
    checks = checks_of(ROOT)
    assert set(checks) == {"libraries", "git", "disk", "gpu", "engines", "tracking"}
    assert {checks[name].verdict for name in ("libraries", "engines", "tracking")} == {"ok"}
    assert ("no bf16" in checks["engines"].text) == (not HAS_BF16)


def test_what_differs_is_named_with_its_fix(tmp_path: Path) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    lock = lock.replace("\nnumpy==", "\nnumpy==0.0.").replace("\nscipy==", "\nscipy==0.0.")
    (tmp_path / "requirements.lock").write_text(lock)
    check = checks_of(tmp_path)["libraries"]
    assert check.verdict == "FAILED"
    assert check.text.startswith("2 differ: numpy ")
    assert check.text.endswith("(pip install -r requirements.lock)")


ADDRESSES = ["databricks", "postgresql://bob:hunter2hunter2@db/x", "bob:hunter2hunter2@host:5000"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_cannot_be_found_out_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.delenv("NDPNET_TRACKING")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    checks = checks_of(tmp_path)  # without a lock
    assert {checks[name].verdict for name in ("libraries", "tracking")} == {"unknown"}
    assert checks["libraries"].text == "no requirements.lock here (it is in a clone)"
    assert "hunter2" not in checks["tracking"].text


def test_files_that_are_not_committed_are_named(tmp_path: Path) -> None:
    assert checks_of(tmp_path)["git"] == Finding("git", "ok", "no git tree here: models name no commit")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "dvc.lock").write_text("")
    assert checks_of(tmp_path)["git"].text == "no changes since the last commit"
    for number in range(5):
        (tmp_path / f"new{number}.py").write_text("")
    check = checks_of(tmp_path)["git"]
    assert check.verdict == "warning"
    assert check.text.startswith("changed: new0.py, new1.py, new2.py and 2 more (commit them: ")


@pytest.mark.parametrize(
    ("is_dirty", "verdict", "text"),
    [
        ("false", "ok", "an image of commit cccccccccccc"),
        ("true", "warning", "an image of commit cccccccccccc with changes: its models cannot be promoted"),
    ],
)
def test_an_image_knows_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_dirty: str, verdict: str, text: str
) -> None:
    built = {"git_commit": "c" * 40, "git_dirty": is_dirty, "lock_hash": "d" * 64}
    (tmp_path / "build.json").write_text(json.dumps(built))
    monkeypatch.setattr(identity, "BUILD_PATH", tmp_path / "build.json")
    assert checks_of(tmp_path)["git"] == Finding("git", verdict, text)


def test_too_little_room_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(doctor, "GOOD_DISK", 2 * free)
    monkeypatch.setattr(doctor, "LEAST_DISK", 0)
    assert checks_of(tmp_path)["disk"].verdict == "warning"
    monkeypatch.setattr(doctor, "LEAST_DISK", 2 * free)
    assert checks_of(tmp_path)["disk"].verdict == "FAILED"
    assert "ndpnet gc" in checks_of(tmp_path)["disk"].text


@pytest.mark.parametrize(("status", "verdict"), [(200, "ok"), (403, "FAILED"), (500, "FAILED")])
def test_the_tracking_server_is_asked_and_its_login_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, verdict: str
) -> None:
    monkeypatch.delenv("NDPNET_TRACKING")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with serving(lambda _: Answer(status, b"{}")) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:pass%2Fword@{address}/base/")
        check = checks_of(tmp_path)["tracking"]
    assert check.verdict == verdict
    assert address in check.text or verdict == "FAILED"
    assert "pass" not in check.text


def test_nobody_at_the_tracking_server_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDPNET_TRACKING")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("tracking ")]
    assert line.split()[1] == "FAILED"
    assert "ndpnet tracking flush" in line
