"""DVC with real remotes: a folder and S3, lost data, wrong keys, a dead server; `data status` in each state."""

import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from processes import TIME_LIMIT, paths_below
from repositories import CATEGORIES, DVC, NDPNET, Repository, change_pixels, contents, noise, write_small_category
from samples import write_params, write_picture
from servers import S3Server

from ndpnet.data.versions.status import read_status

pytestmark = pytest.mark.slow


def on_server(original: Repository, folder: Path, server: S3Server, bucket: str) -> Repository:
    """A copy whose remote is a bucket of the server."""
    repository = original.copy(folder)
    # DVC refuses a configuration that is no file, and takes none for none
    repository.environment |= server.environment() | {"AWS_CONFIG_FILE": str(folder / "none")}
    repository.set_remote(f"s3://{bucket}/ndpnet data", server.endpoint_url)
    return repository


def test_push_lose_pull_with_a_folder(repository: Repository, tmp_path: Path) -> None:
    before = contents(repository.data_dir)
    assert "none is set up (`dvc remote add -d storage s3://" in repository.status()["remote"]
    storage = tmp_path / "storage"
    repository.run(*DVC, "remote", "add", "-d", "storage", storage)
    status = repository.status()
    assert status["pinned"].startswith("data.dvc: ")
    assert ".dir, 38 files, " in status["pinned"]
    assert "wall: test/good 3, test/hole 2, train/good 12" in status["pinned"]
    assert status["here"] == "exactly what is pinned"
    assert status["remote"] == f"storage ({storage}) lacks 38 of 38 files (run `dvc push`)"
    assert status["git"] == "data.dvc is committed"
    repository.run(*DVC, "push")
    assert repository.status()["remote"] == f"storage ({storage}) has all of it"
    repository.lose_data()
    status = repository.status(exit_code=3)
    assert "(run `dvc pull`" in status["here"]
    assert status["remote"].endswith("has all of it")
    assert contents(repository.folder / ".dvc/cache") == {}  # asked, nothing fetched
    repository.run(*DVC, "pull")
    assert contents(repository.data_dir) == before
    assert repository.status()["here"] == "exactly what is pinned"


def test_status_says_what_differs(repository: Repository, tmp_path: Path) -> None:
    repository.set_remote(str(tmp_path / "storage"))
    good_dir = repository.data_dir / "wall/train/good"
    change_pixels(good_dir / "p00.png")
    (good_dir / "p01.png").unlink()
    shutil.copy(good_dir / "p02.png", good_dir / "ä new.png")
    status = repository.status(exit_code=3)
    assert "1 changed, 1 added, 1 deleted, first wall/train/good/p00.png" in status["here"]
    assert "run `dvc add" in status["here"]
    repository.pin()
    status = read_status(repository.data_dir)
    assert status.is_as_pinned
    assert any("data.dvc has changes that are not committed" in line for line in status.lines)
    shutil.rmtree(repository.folder / ".git")
    status = read_status(repository.data_dir)
    assert status.is_as_pinned
    assert "git      could not be asked: " in status.lines[-1]
    assert "not a git repository" in status.lines[-1]


def test_status_counts_what_a_remote_lost(repository: Repository, tmp_path: Path) -> None:
    repository.set_remote(str(tmp_path / "storage"))
    repository.run(*DVC, "push")
    stored = sorted(path for path in (tmp_path / "storage").rglob("*") if path.is_file() and path.suffix != ".dir")
    for path in stored[:3]:
        path.unlink()
    # two masks of a category are one content, and may be among the three
    (line,) = [line for line in read_status(repository.data_dir).lines if line.startswith("remote")]
    num_missing = int(line.split("lacks ")[1].split()[0])
    assert 3 <= num_missing <= 6
    assert line.endswith(f"lacks {num_missing} of 38 files (run `dvc push`)")


def test_push_lose_pull_with_s3(original: Repository, s3: S3Server, tmp_path: Path) -> None:
    repository = on_server(original, tmp_path / "repository", s3, s3.make_bucket())
    before = contents(repository.data_dir)
    repository.run(*DVC, "push")
    assert repository.status()["remote"].endswith("/ndpnet data) has all of it")
    repository.lose_data()
    repository.run(*DVC, "pull")
    assert contents(repository.data_dir) == before


def test_s3_that_refuses(original: Repository, s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.make_bucket()
    wrong_key = on_server(original, tmp_path / "wrong key", s3, bucket)
    wrong_key.environment["AWS_SECRET_ACCESS_KEY"] = secret = "not-the-secret-key"
    pushed = wrong_key.run(*DVC, "push", is_expected_to_fail=True)
    assert secret not in pushed.stdout + pushed.stderr
    remote = wrong_key.status()["remote"]
    assert "could not be asked: " in remote
    assert "Forbidden" in remote or "SignatureDoesNotMatch" in remote or "signature" in remote
    assert secret not in remote

    no_bucket = on_server(original, tmp_path / "no bucket", s3, "no-such-bucket")
    no_bucket.run(*DVC, "push", is_expected_to_fail=True)
    assert no_bucket.status()["remote"].endswith("lacks 38 of 38 files (run `dvc push`)")
    assert s3.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_server_killed_during_push_and_restarted(original: Repository, private_s3: S3Server, tmp_path: Path) -> None:
    bucket = private_s3.make_bucket()
    repository = on_server(original, tmp_path / "repository", private_s3, bucket)
    for number in range(300):
        path = repository.data_dir / f"wall/train/good/more{number:03d}.png"
        shutil.copy(repository.data_dir / "wall/train/good/p00.png", path)
        with path.open("ab") as stream:
            stream.write(b"%d" % number * 20_000)
    repository.pin()
    before = contents(repository.data_dir)
    push = repository.start(*DVC, "push", "--jobs", "2")
    deadline = time.monotonic() + TIME_LIMIT
    while private_s3.client().list_objects_v2(Bucket=bucket)["KeyCount"] < 20:
        assert push.poll() is None, push.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    private_s3.kill()
    time.sleep(1)
    was_cut = push.poll() is None
    push.send_signal(signal.SIGINT)
    push.communicate(timeout=TIME_LIMIT)
    assert was_cut
    assert push.returncode != 0
    assert "could not be asked: " in repository.status()["remote"]
    private_s3.restart()
    lacking = repository.status()["remote"]
    assert " of 338 files (run `dvc push`)" in lacking
    assert 0 < int(lacking.split("lacks ")[1].split()[0]) <= 338
    repository.run(*DVC, "push")
    assert repository.status()["remote"].endswith("has all of it")
    repository.lose_data()
    repository.run(*DVC, "pull")
    assert contents(repository.data_dir) == before


def test_dvc_repro_prepares_pinned_data_and_holds_no_lock_against_it(repository: Repository, tmp_path: Path) -> None:
    """The check runs in a process that `dvc repro` started: on a fresh clone's data, without DVC's cache."""
    write_params(repository.folder / "params.yaml", data={"group_pattern": ""})
    (repository.folder / "dvc.yaml").write_text(
        "stages:\n  prepare:\n    matrix: {category: [wall, tile]}\n    cmd: >-\n"
        "      ndpnet prepare --data data --category ${item.category}\n"
        "      --out build/${item.category} --params params.yaml\n"
        "    deps: ['data/${item.category}']\n    outs: ['build/${item.category}']\n"
    )
    repository.lose_data()
    for number, category in enumerate(CATEGORIES):
        write_small_category(repository.data_dir / category, seed=number)
    pin = (repository.folder / "data.dvc").read_bytes()
    repository.run(*DVC, "repro")
    for category in CATEGORIES:
        assert "train.npy" in paths_below(repository.folder / "build" / category)
    assert (repository.folder / "data.dvc").read_bytes() == pin


def test_a_batch_from_s3_is_added(original: Repository, s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.make_bucket()
    repository = on_server(original, tmp_path / "repository", s3, bucket)
    rng = np.random.default_rng(5)
    for name in ("a.png", "ü b.png"):
        write_picture(tmp_path / name, noise(rng))
        s3.client().put_object(Bucket=bucket, Key=f"line 3/today/{name}", Body=(tmp_path / name).read_bytes())
    command = (*NDPNET, "data", "add", f"s3://{bucket}/line 3/today", "--category", "wall", "--endpoint-url")
    finished = repository.run(*command, s3.endpoint_url)
    assert finished.stdout.startswith("2 added to wall/train/good, 0 were there already\n  train/good: 12 -> 14\n")
    assert (repository.data_dir / "wall/train/good/ü b.png").read_bytes() == (tmp_path / "ü b.png").read_bytes()
    assert read_status(repository.data_dir).is_as_pinned
    again = repository.run(*command, s3.endpoint_url)
    assert again.stdout.startswith("0 added to wall/train/good, 2 were there already\n")
    assert not [path.name for path in repository.folder.iterdir() if path.name.endswith((".partial", ".adding"))]
