"""Downloads from a real S3 server through real connections that break: nothing is lost, nothing is mixed."""

import json
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from objects import (
    IMPATIENT,
    MB,
    PATIENT,
    TIME_LIMIT,
    contents,
    final_names,
    noise,
    put,
    put_in_parts,
    sha256,
    wait_until,
)
from proxy import Proxy
from servers import S3Server

from ndpnet.storage.keys import STATE_NAME
from ndpnet.storage.partial import RANGE_BYTES
from ndpnet.storage.s3 import DownloadResult, download

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("s3_environment")]


def in_background(*args: object, **kwargs: object) -> tuple[threading.Thread, list[object]]:
    """Run `download` in a thread. -> the thread, and where its result or error will be."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(download(*args, **kwargs))
        except ValueError as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def test_two_downloads_into_one_folder(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    put(s3, bucket, "twice/x", noise(4 * MB))
    proxy.bytes_per_second = 3 * MB
    thread, outcome = in_background(f"s3://{bucket}/twice", tmp_path)
    wait_until(lambda: proxy.num_bytes > MB)
    with pytest.raises(ValueError, match="another process downloads into"):
        download(f"s3://{bucket}/twice", tmp_path, endpoint_url=s3.endpoint_url)
    thread.join(TIME_LIMIT)
    assert outcome == [DownloadResult(1, 4 * MB, 0, 4 * MB)]


def test_connections_cut_in_mid_body(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    content = noise(40 * MB)
    put_in_parts(s3, bucket, "cut/large", content)
    put(s3, bucket, "cut/small", noise(8 * MB, seed=1))
    for each in (1, 3, 7, 18, 19, 33, 40):
        proxy.cut_at(each * MB)
    result = download(f"s3://{bucket}/cut", tmp_path, num_threads=3, retries=PATIENT)
    assert sha256((tmp_path / "large").read_bytes()) == sha256(content)
    assert (tmp_path / "small").read_bytes() == noise(8 * MB, seed=1)
    assert result.num_fetched_bytes == 48 * MB
    assert proxy.num_bytes < 62 * MB  # what was on the way to three threads, not the whole of each range


def test_killed_in_mid_download_goes_on_where_it_was(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    content = noise(4 * RANGE_BYTES + 5)
    put_in_parts(s3, bucket, "killed/in/large.bin", content)
    for number in range(5):
        put(s3, bucket, f"killed/a{number}", b"first in the listing")
    proxy.bytes_per_second = 20 * MB
    code = "import sys; from ndpnet.storage.s3 import download; download(sys.argv[1], sys.argv[2], num_threads=2)"
    child = subprocess.Popen([sys.executable, "-c", code, f"s3://{bucket}/killed", tmp_path], stderr=subprocess.DEVNULL)
    wait_until(lambda: child.poll() is not None or num_finished(tmp_path) >= 2)
    child.kill()
    child.wait(TIME_LIMIT)
    assert child.returncode == -9, "it ended before it was killed"
    assert final_names(tmp_path) == {f"a{number}" for number in range(5)}

    proxy.num_bytes, proxy.bytes_per_second = 0, 0
    result = download(f"s3://{bucket}/killed", tmp_path)

    assert sha256((tmp_path / "in/large.bin").read_bytes()) == sha256(content)
    assert result.num_kept == 5
    assert result.num_fetched_bytes <= len(content) - 2 * RANGE_BYTES
    assert proxy.num_bytes < result.num_fetched_bytes + MB
    assert not (tmp_path / STATE_NAME).exists()


def num_finished(folder: Path) -> int:
    """How many ranges an unfinished download has written down."""
    records = (folder / STATE_NAME).glob("*.json")
    return sum(len(json.loads(path.read_text())["finished"]) for path in records)


def test_a_busy_server_is_asked_again(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    put(s3, bucket, "busy/x", b"x")
    proxy.num_busy = 5  # an attempt is two requests
    assert download(f"s3://{bucket}/busy", tmp_path, retries=PATIENT).num_objects == 1
    proxy.num_busy = 6
    with pytest.raises(ValueError, match=rf"^{proxy.url} fails with SlowDown after 3 attempts \(run the same command"):
        download(f"s3://{bucket}/busy/", tmp_path, retries=IMPATIENT)


def test_ctrl_c_does_not_wait_for_a_server_that_hangs(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    put(s3, bucket, "hangs/x", noise(2 * MB))
    proxy.at(MB, lambda: setattr(proxy, "bytes_per_second", 1))
    code = "import sys; from ndpnet.storage.s3 import download; download(sys.argv[1], sys.argv[2])"
    child = subprocess.Popen([sys.executable, "-c", code, f"s3://{bucket}/hangs", tmp_path], stderr=subprocess.PIPE)
    wait_until(lambda: child.poll() is not None or proxy.num_bytes > MB)
    child.send_signal(signal.SIGINT)
    _, printed = child.communicate(timeout=20)
    assert printed.decode().rstrip().endswith("KeyboardInterrupt")
    assert final_names(tmp_path) == set()


def test_a_server_that_stays_away(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    content = noise(2 * RANGE_BYTES + MB)
    put_in_parts(s3, bucket, "away/x", content)
    proxy.at(len(content) - MB // 2, proxy.go_away)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        download(f"s3://{bucket}/away", tmp_path, num_threads=1, retries=IMPATIENT)
    assert str(caught.value) == (
        f"lost the connection to {proxy.url} after 3 attempts (run the same command again: it continues)"
    )
    assert final_names(tmp_path) == set()
    result = download(f"s3://{bucket}/away", tmp_path, endpoint_url=s3.endpoint_url)
    assert result.num_fetched_bytes == MB
    assert contents(tmp_path) == {"x": content}


def test_a_damaged_part_is_fetched_again(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    content = noise(3 * RANGE_BYTES)
    put_in_parts(s3, bucket, "damaged/x", content)
    proxy.at(2 * RANGE_BYTES + MB, proxy.go_away)
    with pytest.raises(ValueError, match="lost the connection"):
        download(f"s3://{bucket}/damaged", tmp_path, num_threads=1, retries=IMPATIENT)
    [part] = (tmp_path / STATE_NAME).glob("*.part")
    with part.open("r+b") as stream:
        stream.write(b"rubbish")
    assert final_names(tmp_path) == set()
    proxy.bytes_per_second = 0
    download(f"s3://{bucket}/damaged", tmp_path, endpoint_url=s3.endpoint_url)
    assert sha256((tmp_path / "x").read_bytes()) == sha256(content)


@pytest.mark.parametrize("size", [2 * MB, 2 * RANGE_BYTES])
def test_a_changed_byte_is_noticed(size: int, s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    content = noise(size)
    put(s3, bucket, f"flip/{size}/x ü", content)
    url = f"s3://{bucket}/flip/{size}"
    proxy.flip_at(MB)
    assert download(url, tmp_path / "once", num_threads=1).num_fetched_bytes == 2 * size
    assert (tmp_path / "once/x ü").read_bytes() == content
    for number in range(20):
        proxy.flip_at(proxy.num_bytes + MB // 2 + number * size // 4)
    with pytest.raises(ValueError, match=rf"^{url}/x ü came with other bytes than its checksum says, 2 times"):
        download(url, tmp_path / "always", num_threads=1)
    assert final_names(tmp_path / "always") == set()
    download(url, tmp_path / "always", endpoint_url=s3.endpoint_url)
    assert (tmp_path / "always/x ü").read_bytes() == content


@pytest.mark.parametrize("new_size", [3 * RANGE_BYTES, RANGE_BYTES + 7, 5])
def test_an_object_replaced_on_the_way_is_never_a_mix(
    new_size: int, s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy
) -> None:
    key = f"replaced/{new_size}/x"
    new = noise(new_size, seed=2)
    put_in_parts(s3, bucket, key, noise(3 * RANGE_BYTES))
    proxy.at(RANGE_BYTES + MB, lambda: put(s3, bucket, key, new))
    result = download(f"s3://{bucket}/{key}", tmp_path, num_threads=2)
    assert (tmp_path / "x").read_bytes() == new
    assert (result.num_objects, result.num_bytes) == (1, new_size)


def test_an_object_replaced_between_two_runs(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    put(s3, bucket, "between/x", noise(3 * RANGE_BYTES))
    proxy.at(2 * RANGE_BYTES + MB, proxy.go_away)
    with pytest.raises(ValueError, match="lost the connection"):
        download(f"s3://{bucket}/between", tmp_path, num_threads=1, retries=IMPATIENT)
    put(s3, bucket, "between/x", noise(3 * RANGE_BYTES, seed=3))
    result = download(f"s3://{bucket}/between", tmp_path, endpoint_url=s3.endpoint_url)
    assert result.num_fetched_bytes == 3 * RANGE_BYTES  # nothing of the old one is taken for the new one's
    assert (tmp_path / "x").read_bytes() == noise(3 * RANGE_BYTES, seed=3)


def test_an_object_deleted_on_the_way(s3: S3Server, bucket: str, tmp_path: Path, proxy: Proxy) -> None:
    put(s3, bucket, "deleted/x", noise(3 * RANGE_BYTES))
    proxy.at(RANGE_BYTES // 2, lambda: s3.client().delete_object(Bucket=bucket, Key="deleted/x"))
    with pytest.raises(ValueError, match=r"deleted/x"):
        download(f"s3://{bucket}/deleted", tmp_path, num_threads=1)
    assert final_names(tmp_path) == set()


def test_a_disk_that_takes_no_more(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    content = noise(2 * RANGE_BYTES)
    put(s3, bucket, "full/x", content)
    code = (
        "import sys; from ndpnet.storage.s3 import download\n"
        "try:\n    download(sys.argv[1], sys.argv[2])\n"
        "except ValueError as error:\n    print(error)"
    )
    limit = RANGE_BYTES + 3 * MB
    child = subprocess.run(
        [sys.executable, "-c", code, f"s3://{bucket}/full", tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIME_LIMIT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert child.stdout.startswith("cannot write")
    assert "too large" in child.stdout
    assert final_names(tmp_path) == set()
    assert download(f"s3://{bucket}/full", tmp_path).num_objects == 1
    assert (tmp_path / "x").read_bytes() == content


def test_a_server_killed_on_the_way_and_restarted(
    private_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, expected = private_s3.make_bucket(), {"large": noise(20 * MB)}
    put_in_parts(private_s3, bucket, "large", expected["large"])
    for number in range(20):
        expected[f"small/{number}"] = noise(100_000, seed=number)
        put(private_s3, bucket, f"small/{number}", expected[f"small/{number}"])
    with Proxy(private_s3.endpoint_url) as proxy:
        for name, value in {**private_s3.environment(), "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        proxy.bytes_per_second = 4 * MB
        thread, outcome = in_background(f"s3://{bucket}", tmp_path / "out", num_threads=4, retries=PATIENT)
        wait_until(lambda: proxy.num_bytes > 8 * MB)
        private_s3.kill()
        seen = final_names(tmp_path / "out")
        assert {name: expected[name] for name in seen} == {
            name: (tmp_path / "out" / name).read_bytes() for name in seen
        }
        assert thread.is_alive()
        proxy.bytes_per_second = 0
        private_s3.restart()
        thread.join(TIME_LIMIT)
    assert outcome[0].num_objects == 21, outcome
    assert contents(tmp_path / "out") == expected
