"""What is downloaded from a real S3 server, and what is said of mistakes."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from objects import MB, contents, noise, put, put_in_parts, sha256
from servers import S3Server

from ndpnet.storage.keys import STATE_NAME
from ndpnet.storage.s3 import DownloadResult, download, parse_url, read_object

ODD_NAMES = [
    "plain.png",
    "with space/and  two.png",
    "ünï/日本語 😀.png",
    "a+b%20c&d=e?f#g;h@i!j'k(l)m*n.png",
    "new\nline\ttab.txt",
    ".x.part",
    "-dash/~tilde/.hidden",
    "x" * 255,
    "empty.bin",
]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("s3_environment")]


# ---- what is downloaded


def test_a_prefix_becomes_a_folder_whatever_the_names(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    expected = {name: b"" if name == "empty.bin" else name.encode() * 50 for name in ODD_NAMES}
    for name, content in expected.items():
        put(s3, bucket, f"odd names/ü/{name}", content)
    put(s3, bucket, "odd names/ü/marked/", b"")
    put(s3, bucket, "odd names/übung/other.png", b"begins alike, but is another folder")

    result = download(f"s3://{bucket}/odd names/ü", tmp_path / "new" / "folder")

    assert contents(tmp_path / "new" / "folder") == expected
    num_bytes = sum(map(len, expected.values()))
    assert result == DownloadResult(len(expected), num_bytes, 0, num_bytes)
    again = download(f"s3://{bucket}/odd names/ü/", tmp_path / "new" / "folder", num_threads=1)
    assert again == DownloadResult(len(expected), num_bytes, len(expected), 0)
    assert contents(tmp_path / "new" / "folder") == expected


def test_one_object_and_one_that_only_begins_alike(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    put(s3, bucket, "single/data set.zip", b"archive")
    put(s3, bucket, "single/data set.zip.md5", b"other")
    result = download(f"s3://{bucket}/single/data set.zip", tmp_path)
    assert contents(tmp_path) == {"data set.zip": b"archive"}
    assert result.num_objects == 1
    with pytest.raises(ValueError, match=r"no object under s3://.*single/data/ "):
        download(f"s3://{bucket}/single/data", tmp_path)


def test_an_empty_object_that_marks_a_folder_is_not_the_folder(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    put(s3, bucket, "marker/in/x.png", b"x")
    put(s3, bucket, "marker/in/", b"")
    download(f"s3://{bucket}/marker", tmp_path)
    assert contents(tmp_path) == {"in/x.png": b"x"}


def test_more_objects_than_one_page(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    client = s3.client()
    names = [f"{number % 7}/bild ü{number}.txt" for number in range(1010)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: client.put_object(Bucket=bucket, Key=f"many/{name}", Body=name.encode()), names))
    assert download(f"s3://{bucket}/many", tmp_path).num_objects == 1010
    assert contents(tmp_path) == {name: name.encode() for name in names}


@pytest.mark.parametrize("upload", [put, put_in_parts])
def test_a_large_object_comes_in_ranges(upload: object, s3: S3Server, bucket: str, tmp_path: Path) -> None:
    content = noise(60 * MB)
    upload(s3, bucket, f"large/{upload.__name__}.bin", content)
    result = download(f"s3://{bucket}/large/{upload.__name__}.bin", tmp_path)
    assert result == DownloadResult(1, len(content), 0, len(content))
    assert sha256((tmp_path / f"{upload.__name__}.bin").read_bytes()) == sha256(content)
    assert download(f"s3://{bucket}/large/{upload.__name__}.bin", tmp_path).num_kept == 1


def test_only_files_with_the_right_bytes_are_kept(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    put(s3, bucket, "kept/small", b"right")
    put_in_parts(s3, bucket, "kept/parts", noise(18 * MB))
    download(f"s3://{bucket}/kept", tmp_path)
    (tmp_path / "small").write_bytes(b"wrong")
    with (tmp_path / "parts").open("r+b") as stream:
        stream.seek(17 * MB)
        stream.write(b"wrong")
    (tmp_path / "mine").write_bytes(b"not from there")
    assert download(f"s3://{bucket}/kept", tmp_path).num_kept == 0
    assert (tmp_path / "small").read_bytes() == b"right"
    assert (tmp_path / "parts").read_bytes() == noise(18 * MB)
    assert (tmp_path / "mine").read_bytes() == b"not from there"


def test_read_object(s3: S3Server, bucket: str) -> None:
    put(s3, bucket, "read/manifest ü.json", b'{"a": 1}')
    put(s3, bucket, "read/empty", b"")
    put_in_parts(s3, bucket, "read/parts", noise(20 * MB))
    assert read_object(f"s3://{bucket}/read/manifest ü.json") == b'{"a": 1}'
    assert read_object(f"s3://{bucket}/read/empty", endpoint_url=s3.endpoint_url) == b""
    assert read_object(f"s3://{bucket}/read/parts") == noise(20 * MB)
    with pytest.raises(ValueError, match="has 8 bytes, more than the 7"):
        read_object(f"s3://{bucket}/read/manifest ü.json", max_bytes=7)
    for key in ("read/nothing", "read", "read/", ""):
        with pytest.raises(ValueError, match=f"there is no object s3://{bucket}/{key}$"):
            read_object(f"s3://{bucket}/{key}")
    with pytest.raises(ValueError, match="there is no bucket not-there"):
        read_object("s3://not-there/x")


# ---- mistakes: one line each, soon, and nothing on the disk


def one_line_of(url: str, folder: Path, **kwargs: object) -> str:
    """Return the error of a download that leaves nothing."""
    started = time.monotonic()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the caller looks at its text
        download(url, folder, **kwargs)
    assert time.monotonic() - started < 15
    assert "\n" not in str(caught.value)
    assert not folder.exists() or not contents(folder)
    return str(caught.value)


def test_wrong_keys(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put(s3, bucket, "secret/x", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    for url in (f"s3://{bucket}/secret", f"s3://{bucket}/secret/x"):
        text = one_line_of(url, tmp_path / "out")
        assert text.startswith(f"{s3.endpoint_url} refuses the secret key (check AWS_ACCESS_KEY_ID")
        with pytest.raises(ValueError, match="refuses the secret key"):
            read_object(url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY")
    assert "does not know the access key" in one_line_of(f"s3://{bucket}/secret", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for secret in ("not-the-secret", s3.secret_key, "NOBODY", s3.access_key):
        assert secret not in caplog.text


def test_no_keys_at_all(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert one_line_of(f"s3://{bucket}/x", tmp_path / "out") == (
        f"there are no S3 credentials: cannot read s3://{bucket}/x"
        " (set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    assert "credentials are incomplete" in one_line_of(f"s3://{bucket}/x", tmp_path / "out")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "profile of AWS_PROFILE" in one_line_of(f"s3://{bucket}/x", tmp_path / "out")


def test_keys_without_the_right(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = s3.make_bucket("not-for-readers")
    put(s3, private, "x", b"x")
    for name, value in s3.environment(can_read=False).items():
        monkeypatch.setenv(name, value)
    for url in (f"s3://{private}/x", f"s3://{private}"):
        assert "is denied (ask for s3:ListBucket" in one_line_of(url, tmp_path / "out")


def test_wrong_names(bucket: str, tmp_path: Path) -> None:
    assert "there is no bucket not-there at http://127" in one_line_of("s3://not-there/x", tmp_path / "out")
    assert f"no object under s3://{bucket}/no such/ " in one_line_of(f"s3://{bucket}/no such", tmp_path / "out")
    for url in ("", "s3://", "s3:///key", "http://x/y", "s3:/x/y", "bucket/key", "s3://a b/c", "s3://[/c"):
        assert "is no address on S3 (give s3://BUCKET/PREFIX)" in one_line_of(url, tmp_path / "out")
    with pytest.raises(ValueError, match="num_threads is 0"):
        download(f"s3://{bucket}/x", tmp_path, num_threads=0)


def test_wrong_endpoints(bucket: str, tmp_path: Path, s3: S3Server) -> None:
    url, out = f"s3://{bucket}/x", tmp_path / "out"
    nobody = "http://user:secret@127.0.0.1:9"
    assert one_line_of(url, out, endpoint_url=nobody) == (
        "cannot reach http://127.0.0.1:9 (check --endpoint-url or AWS_ENDPOINT_URL, and the network)"
    )
    assert "endpoint is no address" in one_line_of(url, out, endpoint_url="127.0.0.1:9")
    assert "no secure connection" in one_line_of(url, out, endpoint_url=s3.endpoint_url.replace("http", "https"))


def test_url_is_taken_as_it_is() -> None:
    assert parse_url("s3://bucket") == parse_url("s3://bucket/") == ("bucket", "")
    assert parse_url("s3://a.b-c/d e/%20?x#y//z/") == ("a.b-c", "d e/%20?x#y//z/")


def test_keys_that_cannot_be_files(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    put(s3, bucket, "clash/a", b"file")
    put(s3, bucket, "clash/a/b", b"below it")
    assert "'a' is an object and 'a/b' lies below it" in one_line_of(f"s3://{bucket}/clash", tmp_path / "out")
    put(s3, bucket, f"own/{STATE_NAME}/x", b"x")
    assert "has the name that downloads keep" in one_line_of(f"s3://{bucket}/own", tmp_path / "out")


def test_a_folder_in_the_way(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    put(s3, bucket, "way/a/b", b"b")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "one" / "a").mkdir(parents=True)
    (tmp_path / "one" / "a" / "b").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "a").write_text("mine")
    for name in ("file", "one", "two"):
        with pytest.raises(ValueError, match=r"^cannot write .*one name is a file and a folder"):
            download(f"s3://{bucket}/way", tmp_path / name)
    assert (tmp_path / "file").read_text() == (tmp_path / "two" / "a").read_text() == "mine"
