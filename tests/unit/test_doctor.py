import base64
import shutil
from pathlib import Path

import pytest
from http_servers import Answer, Request, serving
from processor import HAS_BF16
from repositories import Repository

from ndpnet import doctor
from ndpnet.doctor import Check, attempt, check_machine, check_tracking_server, format_checks, has_failed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository.make(tmp_path_factory.mktemp("doctor") / "repository")
    shutil.copyfile(ROOT / "requirements.lock", repository.folder / "requirements.lock")
    repository.commit("lock")
    return repository


def checks_of(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in check_machine(folder)}


def test_a_sound_machine_passes(repository: Repository) -> None:
    checks = checks_of(repository.folder)
    assert set(checks) == {"libraries", "git", "data", "disk", "memory", "gpu", "engines", "tracking"}
    assert checks["engines"].verdict == "ok"
    assert ("no bf16" in checks["engines"].found) == (not HAS_BF16)
    assert (checks["git"].verdict, checks["git"].found[-7:]) == ("ok", ", clean")
    assert (checks["data"].verdict, checks["data"].found[:20]) == ("ok", "as pinned: data.dvc:")
    assert not has_failed(checks.values())


def test_what_differs_is_named_with_its_mend(repository: Repository, tmp_path: Path) -> None:
    copy = repository.copy(tmp_path / "copy")
    lock = copy.folder / "requirements.lock"
    lock.write_text(lock.read_text().replace("\nnumpy==", "\nnumpy==0.0.").replace("\nscipy==", "\nscipy==0.0."))
    next((copy.data_dir / "wall").rglob("*.png")).unlink()
    checks = checks_of(copy.folder)
    assert checks["libraries"].verdict == "FAILED"
    assert "2 differ: numpy " in checks["libraries"].found
    assert checks["libraries"].mend == "pip install -r requirements.lock"
    assert (checks["git"].verdict, checks["git"].found[-15:]) == ("warning", "1 changed files")
    assert (checks["data"].verdict, checks["data"].mend) == ("warning", "ndpnet data status")
    assert has_failed(checks.values())


def test_outside_of_everything_nothing_raises_and_nothing_passes_by_itself(tmp_path: Path) -> None:
    checks = checks_of(tmp_path)
    verdicts = {name: checks[name].verdict for name in ("libraries", "git", "data")}
    assert verdicts == {"libraries": "not checked", "git": "warning", "data": "not checked"}


def test_too_little_room_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(doctor, "GOOD_DISK", 2 * free)
    assert checks_of(tmp_path)["disk"].verdict == "warning"
    monkeypatch.setattr(doctor, "LEAST_DISK", 2 * free)
    assert checks_of(tmp_path)["disk"].verdict == "FAILED"
    assert "ndpnet gc" in checks_of(tmp_path)["disk"].mend


@pytest.mark.parametrize(("status", "verdict"), [(200, "ok"), (403, "FAILED"), (500, "FAILED")])
@pytest.mark.parametrize("is_in_address", [True, False])
def test_the_tracking_server_is_asked_with_its_login(
    monkeypatch: pytest.MonkeyPatch, status: int, verdict: str, is_in_address: bool
) -> None:
    monkeypatch.delenv("NDPNET_TRACKING")
    seen = []

    def answer(request: Request) -> Answer:
        seen.append((request.line, base64.b64decode(request.headers["Authorization"].removeprefix("Basic "))))
        return Answer(status, b"OK")

    with serving(answer) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{'me:pass%2Fword@' if is_in_address else ''}{address}/base/")
        if not is_in_address:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass/word")
        check = check_tracking_server()
    assert seen == [("GET /base/health", b"me:pass/word")]
    assert (check.verdict, check.found) == (verdict, f"http://{address}/base/health answers {status}")


def test_nobody_at_the_tracking_server_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NDPNET_TRACKING")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    check = check_tracking_server()
    assert (check.verdict, "does not answer" in check.found, "ndpnet tracking flush" in check.mend) == (
        "FAILED",
        True,
        True,
    )


def test_a_check_that_cannot_be_made_is_not_a_pass() -> None:
    def fails() -> Check:
        raise ValueError("no such\nthing")

    assert attempt("x", fails) == Check("x", "not checked", "no such thing")


def test_the_table_counts() -> None:
    checks = [Check("a", "ok", "1"), Check("b", "FAILED", "2", "mend it"), Check("c", "not checked", "3")]
    lines = format_checks(checks).splitlines()
    assert lines[0].split() == ["check", "verdict", "found", "what", "to", "do"]
    assert lines[3].split() == ["b", "FAILED", "2", "mend", "it"]
    assert lines[-1] == "3 checks: 1 ok, 1 FAILED, 1 not checked"
