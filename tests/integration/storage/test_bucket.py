"""Uploads to a real S3 server and objects as they were listed: whole, or refused in one line."""

from pathlib import Path

import pytest
from objects import noise, put
from proxy import Proxy
from servers import S3Server

from ndpnet.storage.bucket import Bucket, StoredObject

pytestmark = pytest.mark.usefixtures("s3_environment")


def stored(server: S3Server, bucket: str, key: str) -> bytes:
    return server.client().get_object(Bucket=bucket, Key=key)["Body"].read()


def test_files_arrive_under_their_keys_and_replace_what_was_there(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    sent = {f"up/ä b/{number}.bin": noise(number * 1000, number) for number in range(20)}
    files = {}
    for number, (key, content) in enumerate(sent.items()):
        files[key] = tmp_path / str(number)
        files[key].write_bytes(content)
    opened = Bucket(bucket)
    opened.put_files(files)
    assert {key: stored(s3, bucket, key) for key in files} == sent
    files["up/ä b/0.bin"].write_bytes(b"new")
    opened.put_files(files)
    assert stored(s3, bucket, "up/ä b/0.bin") == b"new"
    listed = {each.key: each for each in opened.list("up/")}
    back = [tmp_path / f"back {number}" for number in range(len(files))]
    assert list(opened.fetch((listed[key], path) for key, path in zip(files, back, strict=True))) == [
        (path, "") for path in back
    ]
    assert [path.read_bytes() for path in back] == [path.read_bytes() for path in files.values()]


def test_what_has_changed_since_it_was_listed(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    for name in ("kept", "removed", "replaced"):
        put(s3, bucket, f"listed/{name}", name.encode())
    opened = Bucket(bucket)
    objects = [(each, tmp_path / each.key.rpartition("/")[2]) for each in opened.list("listed/")]
    put(s3, bucket, "listed/replaced", b"REPLACED")
    s3.client().delete_object(Bucket=bucket, Key="listed/removed")
    assert {path.name: problem for path, problem in opened.fetch(objects)} == {
        "kept": "",
        "replaced": "was replaced since it was listed",
        "removed": "was removed since it was listed",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_server_that_is_away_is_no_change_of_an_object(bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    opened = Bucket(bucket)
    proxy.go_away()
    with pytest.raises(ValueError, match=r"^cannot reach http"):
        list(opened.fetch([(StoredObject("x", 1, '"etag"'), tmp_path / "x")]))
    assert list(tmp_path.iterdir()) == []
