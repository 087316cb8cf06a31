"""What is downloaded from a real S3 server, also over connections that break, and what is said of mistakes."""

import logging
import random
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pytest
from processes import TIME_LIMIT, wait_until
from proxy import Proxy
from repositories import contents
from servers import S3Server

from ndpnet.storage.bucket import LISTED, Bucket, StoredObject, download, read_object

MB = 1 << 20
ODD_NAMES = [
    "plain.png",
    "with space/and  two.png",
    "ünï/日本語 😀.png",
    "a+b%20c&d=e?f#g;h@i!j'k(l)m*n.png",
    "new\nline\ttab.txt",
    ".x.part",
    "-dash/~tilde/.hidden",
    "x" * 255,
    "é" * 127,
    "empty.bin",
]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("s3_environment")]


def noise(num_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(num_bytes)


def pictures(folder: Path) -> dict[str, bytes]:
    """What came, without the list of ETags."""
    return {name: content for name, content in contents(folder).items() if name != LISTED}


# ---- what is downloaded


def test_a_prefix_becomes_a_folder_whatever_the_names(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    expected = {name: b"" if name == "empty.bin" else name.encode() * 50 for name in ODD_NAMES}
    for name, content in expected.items():
        s3.put(bucket, f"odd names/ü/{name}", content)
    s3.put(bucket, "odd names/ü/marked/", b"")
    s3.put(bucket, "odd names/übung/other.png", b"begins alike, but is another folder")
    assert download(f"s3://{bucket}/odd names/ü", tmp_path / "new" / "folder") == len(expected)
    assert pictures(tmp_path / "new" / "folder") == expected
    assert download(f"s3://{bucket}/odd names/ü/", tmp_path / "new" / "folder") == 0
    assert pictures(tmp_path / "new" / "folder") == expected


def test_one_object_and_one_that_only_begins_alike(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    s3.put(bucket, "single/data set.zip", b"archive")
    s3.put(bucket, "single/data set.zip.md5", b"other")
    assert download(f"s3://{bucket}/single/data set.zip", tmp_path) == 1
    assert pictures(tmp_path) == {"data set.zip": b"archive"}
    with pytest.raises(ValueError, match=r"no object under s3://.*single/data/ "):
        download(f"s3://{bucket}/single/data", tmp_path)


def test_the_folder_holds_what_came_and_nothing_else(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    for name in ("same", "replaced", "deleted"):
        s3.put(bucket, f"kept/{name}", b"right")
    download(f"s3://{bucket}/kept", tmp_path)
    s3.put(bucket, "kept/replaced", b"other")
    s3.client().delete_object(Bucket=bucket, Key="kept/deleted")
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/part").write_bytes(b"of an attempt that was killed")
    before = (tmp_path / "same").stat()
    assert download(f"s3://{bucket}/kept", tmp_path) == 1
    assert pictures(tmp_path) == {"same": b"right", "replaced": b"other"}
    assert (tmp_path / "same").stat().st_ino == before.st_ino
    assert not (tmp_path / "unfinished").exists()


def test_read_object(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put(bucket, "read/manifest ü.json", b'{"a": 1}')
    s3.put(bucket, "read/empty", b"")
    s3.client().upload_fileobj(BytesIO(noise(9 * MB)), bucket, "read/parts")  # in parts of 8 MiB
    assert read_object(f"s3://{bucket}/read/manifest ü.json") == b'{"a": 1}'
    assert read_object(f"s3://{bucket}/read/empty", endpoint_url=s3.endpoint_url) == b""
    assert read_object(f"s3://{bucket}/read/parts") == noise(9 * MB)
    for key in ("read/nothing", "read"):
        with pytest.raises(ValueError, match=rf"^cannot reach s3://{bucket}/{key} .*NoSuchKey"):
            read_object(f"s3://{bucket}/{key}")
    monkeypatch.setattr("ndpnet.storage.bucket.MAX_OBJECT_BYTES", 7)
    with pytest.raises(ValueError, match="has 8 bytes, more than the 7"):
        read_object(f"s3://{bucket}/read/manifest ü.json")


# ---- connections that break, objects that change


def test_killed_in_mid_download_keeps_what_is_whole(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    for number in range(5):
        s3.put(bucket, f"killed/a{number}", b"first in the listing")
    s3.put(bucket, "killed/in/large.bin", noise(5 * MB))
    proxy.bytes_per_second = 3 * MB
    code = "import sys; from ndpnet.storage.bucket import download; download(sys.argv[1], sys.argv[2])"
    child = subprocess.Popen([sys.executable, "-c", code, f"s3://{bucket}/killed", tmp_path], stderr=subprocess.DEVNULL)
    wait_until(lambda: child.poll() is not None or (proxy.num_bytes > MB and (tmp_path / "a4").exists()))
    child.kill()
    child.wait(TIME_LIMIT)
    assert child.returncode == -9, "it ended before it was killed"
    assert not (tmp_path / "in/large.bin").exists()
    proxy.bytes_per_second = 0
    assert download(f"s3://{bucket}/killed", tmp_path) == 1
    expected = {f"a{number}": b"first in the listing" for number in range(5)}
    assert pictures(tmp_path) == expected | {"in/large.bin": noise(5 * MB)}


@pytest.mark.parametrize("new_size", [17 * MB, 9 * MB, 5])
def test_an_object_replaced_on_the_way_is_never_a_mix(
    new_size: int, s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ndpnet.storage.bucket.NUM_CONNECTIONS", 1)  # one range after the other
    url, new = f"s3://{bucket}/replaced/{new_size}/x", noise(new_size, seed=2)
    s3.client().upload_fileobj(BytesIO(noise(17 * MB)), bucket, f"replaced/{new_size}/x")  # in parts of 8 MiB
    proxy.at(MB, lambda: s3.put(bucket, f"replaced/{new_size}/x", new))
    with pytest.raises(ValueError, match=rf"^{url} was replaced since it was listed"):
        download(url, tmp_path)
    assert pictures(tmp_path) == {}
    assert download(url, tmp_path) == 1
    assert pictures(tmp_path) == {"x": new}


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_a_disk_that_takes_no_more(s3: S3Server, bucket: str, small_disk: Path) -> None:
    s3.put(bucket, "full/x", noise(4 * MB))
    with pytest.raises(ValueError, match=r"^cannot write .*No space left on device"):
        download(f"s3://{bucket}/full", small_disk)
    assert pictures(small_disk) == {}


def test_a_server_that_is_away_is_no_change_of_an_object(bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    opened = Bucket(f"s3://{bucket}")
    proxy.go_away()
    with pytest.raises(ValueError, match=r"^cannot reach s3://"):
        list(opened.fetch([(StoredObject("x", 1, '"etag"'), tmp_path / "x")]))
    assert list(tmp_path.iterdir()) == []


# ---- mistakes: one line each, soon, and nothing on the disk


def one_line_of(url: str, folder: Path, **kwargs: object) -> str:
    """Return the error of a download that leaves nothing."""
    started = time.monotonic()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller looks at its text
        download(url, folder, **kwargs)
    assert time.monotonic() - started < 15
    assert "\n" not in str(caught.value)
    assert not folder.exists() or not pictures(folder)
    return str(caught.value)


def test_wrong_keys(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    s3.put(bucket, "secret/x", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    for url in (f"s3://{bucket}/secret", f"s3://{bucket}/secret/x"):
        text = one_line_of(url, tmp_path / "out")
        assert text.startswith(f"cannot reach s3://{bucket}/secret")
        assert "SignatureDoesNotMatch" in text
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY")
    assert "InvalidAccessKeyId" in one_line_of(f"s3://{bucket}/secret", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for secret in ("not-the-secret", s3.secret_key, "NOBODY", s3.access_key):
        assert secret not in caplog.text


def test_wrong_names(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    assert "not-there/x at http://127.0.0.1" in one_line_of("s3://not-there/x", tmp_path / "out")
    assert f"no object under s3://{bucket}/no such/ " in one_line_of(f"s3://{bucket}/no such", tmp_path / "out")
    s3.put(bucket, "clash/a", b"file")
    s3.put(bucket, "clash/a/b", b"below it")
    with pytest.raises(ValueError, match=r"^cannot write .*/a"):
        download(f"s3://{bucket}/clash", tmp_path / "clash")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"^cannot write .*/file: File exists"):
        download(f"s3://{bucket}/clash", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_wrong_endpoints(bucket: str, tmp_path: Path, s3: S3Server) -> None:
    url, out = f"s3://{bucket}/x", tmp_path / "out"
    nobody = "http://user:secret@127.0.0.1:9"
    text = one_line_of(url, out, endpoint_url=nobody)
    assert f"cannot reach {url} at http://127.0.0.1:9: Could not connect to the endpoint" in text
    assert "secret" not in text
    assert "endpoint is no address" in one_line_of(url, out, endpoint_url="127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "many")
        assert "a setting (AWS_..., ~/.aws/config) is wrong: " in one_line_of(url, out, endpoint_url=s3.endpoint_url)
    assert "SSL" in one_line_of(url, out, endpoint_url=s3.endpoint_url.replace("http", "https"))
