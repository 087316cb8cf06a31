"""A work folder on a real S3 server: checkpoints come back as they were, and no failure of S3 ends a step."""

import io
import os
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from processes import wait_until
from proxy import Proxy
from repositories import contents
from servers import S3Server, set_only

from ndpnet.storage.workdir import local_work_dir

pytestmark = pytest.mark.usefixtures("s3_environment")

opened = partial(local_work_dir, category="brick", step="phase1")

NAME = "phase1-0123456789abcdef"


def keys(s3: S3Server, bucket: str, prefix: str) -> list[str]:
    listed = s3.client().list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/brick/").get("Contents", [])
    return [entry["Key"].removeprefix(f"{prefix}/brick/") for entry in listed]


def write_checkpoint(folder: Path, *, step: int) -> None:
    """As training does: the history first, then the state as a whole."""
    folder.mkdir(exist_ok=True)
    with (folder / "history.jsonl").open("a") as history:
        history.write(f'{{"step": {step}}}\n')
    (folder / "state.tmp").write_bytes(b"state after %d " % step * 50_000)
    os.replace(folder / "state.tmp", folder / "state.pt")


def packed_step(s3: S3Server, bucket: str, key: str) -> int:
    """The step of a stored checkpoint, whose two files must belong together."""
    body = s3.client().get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        state, history = (archive.extractfile(name).read() for name in ("state.pt", "history.jsonl"))
    step = int(state.split()[2])
    assert len(history.splitlines()) >= step
    return step


def diverge(place: str, scratch_dir: Path, actions: Callable[[Path], None]) -> None:
    """A step that does something with its checkpoint folder and ends with an error."""
    with opened(place, scratch_dir=scratch_dir) as work_dir:
        actions(work_dir / NAME)
        raise RuntimeError("it diverged")


def test_a_new_pod_has_what_the_last_one_stored_and_no_more(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    place = f"s3://{bucket}/pods"
    s3.put(bucket, "pods/brick/phase2-0123456789abcdef.tar", b"of the other phase")
    s3.put(bucket, "pods/brick/phase1-notes.txt", b"of somebody")
    s3.put(bucket, "pods/grass/phase1-0123456789abcdef.tar", b"of another category")
    files: dict[str, bytes] = {}

    def train(folder: Path) -> None:
        for step in (1, 2, 3):
            write_checkpoint(folder, step=step)
        files.update(contents(folder))

    with pytest.raises(RuntimeError, match="it diverged"):
        diverge(place, tmp_path / "first", train)
    with opened(place, scratch_dir=tmp_path / "second") as work_dir:
        assert contents(work_dir) == {f"{NAME}/{name}": content for name, content in files.items()}
    assert f"{NAME}.tar" in keys(s3, bucket, "pods"), "the step has not removed its checkpoint, so it is still of use"
    assert len(keys(s3, bucket, "pods")) == 3


def test_two_pods_of_one_step_do_no_harm_to_each_other(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    place, key = f"s3://{bucket}/two", f"two/brick/{NAME}.tar"

    def is_stored(step: int) -> bool:
        return keys(s3, bucket, "two") == [f"{NAME}.tar"] and packed_step(s3, bucket, key) == step

    with opened(place, scratch_dir=tmp_path) as slow_dir:
        write_checkpoint(slow_dir / NAME, step=1)
        wait_until(lambda: is_stored(1))
        with opened(place, scratch_dir=tmp_path) as fast_dir:
            write_checkpoint(fast_dir / NAME, step=2)
            wait_until(lambda: is_stored(2))
            (fast_dir / NAME).rename(tmp_path / "finished first")
        assert keys(s3, bucket, "two") == []
        assert len(contents(slow_dir / NAME)) == 2
        for step in (2, 3):
            write_checkpoint(slow_dir / NAME, step=step)
        wait_until(lambda: is_stored(3))
        (slow_dir / NAME).rename(tmp_path / "finished second")
    assert keys(s3, bucket, "two") == []


def test_a_server_that_goes_away_is_one_line_and_comes_back_at_the_end(
    s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    def train(folder: Path) -> None:
        write_checkpoint(folder, step=1)
        wait_until(lambda: keys(s3, bucket, "away") == [f"{NAME}.tar"])
        proxy.num_busy = 10**6
        proxy.cut()  # the connection that is kept open
        write_checkpoint(folder, step=2)
        wait_until(lambda: "training goes on" in caplog.text)
        write_checkpoint(folder, step=3)
        proxy.num_busy = 0

    with pytest.raises(RuntimeError, match="it diverged"):
        diverge(f"s3://{bucket}/away", tmp_path, train)
    assert packed_step(s3, bucket, f"away/brick/{NAME}.tar") == 3
    assert caplog.text.count("training goes on") == 1


def test_what_is_wrong_at_the_start_is_said_in_one_line(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, member = io.BytesIO(), tarfile.TarInfo("history.jsonl")
    member.type = tarfile.DIRTYPE
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(member)
    s3.put(bucket, f"damaged/brick/{NAME}.tar", b"not a tar")
    s3.put(bucket, f"other/brick/{NAME}.tar", packed.getvalue())
    is_none = rf"brick/{NAME}\.tar is no checkpoint of ndpnet \(remove it: .*\)$"
    expected = {
        f"s3://{bucket}/damaged": rf"damaged/{is_none}",
        f"s3://{bucket}/other": rf"other/{is_none}",
        "s3://no-such-bucket/x": r"NoSuchBucket",
        "s3://?": r"^'s3://\?/brick' is no address on S3 \(give s3://BUCKET/PREFIX\)$",
    }
    for place, message in expected.items():
        with pytest.raises(ValueError, match=message), opened(place, scratch_dir=tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []
    set_only(monkeypatch, s3.environment(can_read=False))
    with pytest.raises(ValueError, match="AccessDenied"), opened(f"s3://{bucket}/x"):
        pass
