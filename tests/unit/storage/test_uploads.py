"""Uploads to a real S3 server: whole and verified, asked again, refused in one line."""

from io import BytesIO
from pathlib import Path

import pytest
from objects import IMPATIENT, MB, PATIENT, noise
from proxy import Proxy
from servers import S3Server

from ndpnet.storage.bucket import StoredObject
from ndpnet.storage.fetches import fetch_objects
from ndpnet.storage.s3 import open_bucket
from ndpnet.storage.uploads import put_files, put_verified

pytestmark = pytest.mark.usefixtures("s3_environment")


class Changing(BytesIO):
    """A file that somebody writes to whenever it has been read."""

    def seek(self, position: int, whence: int = 0) -> int:
        self.getbuffer()[0] ^= 1
        return super().seek(position, whence)


def stored(server: S3Server, bucket: str, key: str) -> bytes:
    return server.client().get_object(Bucket=bucket, Key=key)["Body"].read()


def test_files_arrive_under_their_keys_and_replace_what_was_there(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    contents = {f"up/ä b/{number}.bin": noise(number * 1000, number) for number in range(20)}
    files = {}
    for number, (key, content) in enumerate(contents.items()):
        files[key] = tmp_path / str(number)
        files[key].write_bytes(content)
    opened = open_bucket(bucket)
    put_files(opened, files)
    assert {key: stored(s3, bucket, key) for key in files} == contents
    files["up/ä b/0.bin"].write_bytes(b"new")
    put_files(opened, files, num_threads=2)  # the bucket goes on
    assert stored(s3, bucket, "up/ä b/0.bin") == b"new"
    listed = {each.key: each for each in opened.list("up/")}
    back = {tmp_path / f"back {number}": listed[key] for number, key in enumerate(files)}
    assert fetch_objects(opened, back) == {}
    assert [path.read_bytes() for path in back] == [path.read_bytes() for path in files.values()]


def test_a_file_that_changes_meanwhile_is_not_taken_for_stored(bucket: str) -> None:
    with pytest.raises(ValueError, match=rf"^s3://{bucket}/up/changing was stored with other bytes than were sent"):
        put_verified(open_bucket(bucket), "up/changing", Changing(b"abc"))


def test_a_busy_server_is_asked_again(s3: S3Server, bucket: str, proxy: Proxy) -> None:
    proxy.num_busy = 5  # an attempt is two requests
    put_verified(open_bucket(bucket, retries=PATIENT), "up/busy", BytesIO(b"abc"))
    assert stored(s3, bucket, "up/busy") == b"abc"
    proxy.num_busy = 6
    with pytest.raises(ValueError, match=rf"^{proxy.url} fails with SlowDown after 3 attempts \(run the same command"):
        put_verified(open_bucket(bucket, retries=IMPATIENT), "up/busy", BytesIO(b"abc"))


def test_the_first_refusal_ends_it_with_one_line(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"up/{number}": tmp_path / "x" for number in range(100)}
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"^there is no bucket no-such at http"):
        put_files(open_bucket("no-such"), files)
    name = s3.make_bucket()
    for variable, value in s3.environment(can_write=False).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=rf"^access to s3://{name}/up/\d+ is denied \(.*to write there s3:PutObject, "):
        put_files(open_bucket(name), files)
    assert "Contents" not in s3.client().list_objects_v2(Bucket=name)


def test_a_changed_byte_on_the_way_back_is_noticed(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    content = noise(2 * MB)
    s3.client().put_object(Bucket=bucket, Key="up/flip", Body=content)
    opened = open_bucket(bucket)
    (listed,) = opened.list("up/flip")
    proxy.flip_at(proxy.num_bytes + MB)
    assert fetch_objects(opened, {tmp_path / "once": listed}) == {}
    assert (tmp_path / "once").read_bytes() == content
    for number in range(20):
        proxy.flip_at(proxy.num_bytes + MB // 2 + number * MB // 2)
    with pytest.raises(ValueError, match=rf"^s3://{bucket}/up/flip came with other bytes than its checksum says"):
        fetch_objects(opened, {tmp_path / "always": listed})


def test_what_has_changed_since_it_was_listed(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    for name in ("kept", "replaced", "removed"):
        s3.client().put_object(Bucket=bucket, Key=f"listed/{name}", Body=name.encode())
    opened = open_bucket(bucket)
    objects = {tmp_path / each.key.rpartition("/")[2]: each for each in opened.list("listed/")}
    s3.client().put_object(Bucket=bucket, Key="listed/replaced", Body=b"REPLACED")
    s3.client().delete_object(Bucket=bucket, Key="listed/removed")
    assert fetch_objects(opened, objects) == {
        tmp_path / "replaced": "was replaced since it was listed",
        tmp_path / "removed": "was removed since it was listed",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_server_that_is_away_is_no_change_of_an_object(bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    opened = open_bucket(bucket, retries=IMPATIENT)
    proxy.go_away()
    with pytest.raises(ValueError, match=r"^cannot reach http"):
        fetch_objects(opened, {tmp_path / "x": StoredObject("x", 1, '"etag"')})
    assert opened.stop.is_set()
