"""One version of the data in a folder: from git revisions and DVC remotes, and from S3 with a manifest."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
from processes import Finished, run_cli
from repositories import DVC, NDPNET, Repository, change_pixels, contents
from servers import S3Server, set_only

from ndpnet import steps
from ndpnet.data.versions.version import VERSION, DataSource, Version, check_pinned, version_of


class History:
    """A repository with two versions of its data, both in a local remote; a third one is pinned, but not committed."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository.make(folder / "repository")
        self.url = str(self.repository.folder)
        self.storage = folder / "storage"
        self.repository.set_remote(str(self.storage))
        self.data: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, str] = {}
        self._keep("first")
        change_pixels(self.repository.data_dir / "wall/train/good/p00.png")
        self.repository.pin()
        self._keep("second")
        self.repository.run("git", "branch", "feature", self.commits["first"])
        change_pixels(self.repository.data_dir / "wall/train/good/p01.png")
        self.repository.pin()

    def _keep(self, name: str) -> None:
        from dvc.repo import Repo

        self.commits[name] = self.repository.commit(name)
        self.repository.run("git", "tag", name)
        with Repo(str(self.repository.folder)) as repo:
            repo.push()
        self.data[name] = contents(self.repository.data_dir)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("history"))


def data_of(folder: Path) -> dict[str, bytes]:
    return {path: content for path, content in contents(folder).items() if path != VERSION}


def left_beside(out_dir: Path) -> list[str]:
    return [path.name for path in out_dir.parent.iterdir() if path.name.startswith(f".{out_dir.name}.")]


@pytest.mark.parametrize(
    ("revision", "scheme"), [("first", ""), ("feature", ""), ("main", "file://"), (None, ""), ("commit", "file://")]
)
def test_a_revision_gives_exactly_its_data(history: History, tmp_path: Path, revision: str | None, scheme: str) -> None:
    name = "first" if revision in ("first", "feature", "commit") else "second"
    revision = history.commits["first"] if revision == "commit" else revision
    identity = steps.version_data(tmp_path / "out", DataSource(url=scheme + history.url, revision=revision))
    assert data_of(tmp_path / "out") == history.data[name]
    assert identity["revision"] == history.commits[name]
    assert identity["num_files"] == len(history.data[name]) == 38
    assert identity["categories"]["wall"] == {"test/good": 3, "test/hole": 2, "train/good": 12}
    assert Version.load(tmp_path / "out" / VERSION).identity() == identity
    assert version_of(tmp_path / "out").data_hash == identity["data_hash"]
    assert left_beside(tmp_path / "out") == []


def test_what_is_there_is_verified_and_kept(history: History, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out_dir, url = tmp_path / "out", history.url
    steps.version_data(out_dir, DataSource(url=url, revision="first"))
    inodes = {path: path.stat().st_ino for path in out_dir.rglob("*.png")}
    with caplog.at_level(logging.INFO, logger="ndpnet"):
        steps.version_data(out_dir, DataSource(url=url, revision="first"))
    assert f"{out_dir} holds this version already: verified and kept" in caplog.messages
    assert {path: path.stat().st_ino for path in out_dir.rglob("*.png")} == inodes
    # damaged: fetched again
    path = out_dir / "wall/train/good/p02.png"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    steps.version_data(out_dir, DataSource(url=url, revision="first"))
    assert data_of(out_dir) == history.data["first"]
    # another version replaces it
    assert steps.version_data(out_dir, DataSource(url=url, revision="second"))["revision"] == history.commits["second"]
    assert data_of(out_dir) == history.data["second"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"revision": "nope"}, r"cannot fetch data at nope of .*unknown Git revision 'nope'"),
        ({"path": "pictures"}, r"has no pictures\.dvc \(check the path and the revision\)"),
        ({"url": "https://bot:secret@127.0.0.1:9"}, r"^cannot fetch data at HEAD of https://127\.0\.0\.1:9: [^@]*$"),
        ({"url": "https://[bot:secret@host/x"}, r"^Invalid IPv6 URL$"),
        ({"url": "/no/such/repository"}, r"cannot fetch data at HEAD of /no/such/repository: "),
        ({"url": None}, r"either a git repository or an S3 prefix"),
        ({"url": None, "prefix": "s3://bucket/x"}, r"pass --manifest version\.json"),
        (
            {"url": None, "prefix": "s3://b/x", "manifest": "none.json"},
            r"cannot read the manifest none\.json: .*No such",
        ),
    ],
)
def test_what_cannot_be_fetched(history: History, tmp_path: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        steps.version_data(tmp_path / "out", DataSource(**({"url": history.url} | arguments)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_list_is_damaged_says_what_to_do(history: History, tmp_path: Path) -> None:
    steps.version_data(tmp_path / "out", DataSource(url=history.url))
    (tmp_path / "out/version.json").write_text("{")
    with pytest.raises(ValueError, match=r"out/version\.json is damaged \(remove .*out: it is fetched anew\)$"):
        steps.version_data(tmp_path / "out", DataSource(url=history.url))


@pytest.fixture
def elsewhere(history: History, tmp_path: Path) -> Repository:
    """The repository with a copy of the remote to damage, beside it in `storage`."""
    shutil.copytree(history.storage, tmp_path / "copy/storage")
    repository = history.repository.copy(tmp_path / "copy/repository")
    repository.run("git", "checkout", "--quiet", "data.dvc")
    repository.set_remote(str(tmp_path / "copy/storage"))
    repository.commit("elsewhere")
    return repository


def test_a_remote_that_lost_or_damaged_a_file(history: History, elsewhere: Repository, tmp_path: Path) -> None:
    """What came is kept beside the output, the rest is asked for when the same call is made again."""
    folder, place = tmp_path / "copy", DataSource(url=str(elsewhere.folder))
    stored = sorted(path for path in (folder / "storage").rglob("*") if path.suffix != ".dir" and path.is_file())
    lost = next(path for path in stored if path.read_bytes() == history.data["second"]["wall/train/good/p05.png"])
    content = lost.read_bytes()
    lost.unlink()
    out_dir = tmp_path / "out"
    with pytest.raises(ValueError, match=r"cannot fetch data at HEAD of .*No such file"):
        steps.version_data(out_dir, place)
    assert not out_dir.exists()
    lost.write_bytes(content[:-1] + b"?")
    with pytest.raises(ValueError, match=r"wall/train/good/p05\.png came with another content than the pinned one"):
        steps.version_data(out_dir, place)
    assert not out_dir.exists()
    assert [bool(re.fullmatch(r"\.out\.[0-9a-f]{12}\.fetching", name)) for name in left_beside(out_dir)] == [True]
    lost.write_bytes(content)
    for path in stored:  # all else is there already
        if path != lost:
            path.unlink()
    steps.version_data(out_dir, place)
    assert data_of(out_dir) == history.data["second"]
    assert left_beside(out_dir) == []


def test_a_damaged_list_of_files(elsewhere: Repository, tmp_path: Path) -> None:
    for listed in (tmp_path / "copy/storage").rglob("*.dir"):
        listed.chmod(0o644)
        listed.write_text(listed.read_text().replace("wall/train/good/p00.png", "wall/train/good/q00.png"))
    with pytest.raises(ValueError, match=r"list of the files is damaged: not the pinned hash \(push it again\)"):
        steps.version_data(tmp_path / "out", DataSource(url=str(elsewhere.folder)))


@pytest.mark.slow
def test_credentials_in_the_url_are_never_repeated(tmp_path: Path) -> None:
    url = "http://build%2Dbot:gh%70_s3cr%40t@127.0.0.1:9/team/pictures.git"
    command = ["--debug", "version-data", "--url", url, "--out", tmp_path / "out", "--revision", "main"]
    finished: Finished = run_cli(command, tmp_path / "log")
    assert finished.exit_code == 1
    assert "127.0.0.1:9/team/pictures.git" in finished.stderr
    assert "Connection refused" in finished.stderr
    for secret in ("s3cr", "ghp_", "gh%70", "build-bot", "build%2Dbot"):
        assert secret not in finished.stdout + finished.stderr, secret
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.err", "log.out"]


def upload(server: S3Server, bucket: str, prefix: str, files: dict[str, bytes]) -> None:
    client = server.client()
    for path, content in files.items():
        client.put_object(Bucket=bucket, Key=f"{prefix}/{path}", Body=content)


@pytest.mark.slow
def test_a_manifest_chooses_from_a_prefix(
    history: History, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_only(monkeypatch, s3.environment())
    bucket, out_dir = s3.make_bucket(), tmp_path / "out"
    steps.version_data(tmp_path / "first", DataSource(url=history.url, revision="first"))
    manifest = (tmp_path / "first" / VERSION).read_bytes()
    later = {"wall/train/good/later.png": b"added after the manifest"}
    upload(s3, bucket, "pictures", history.data["first"] | later)
    upload(s3, bucket, "manifests", {"v1.json": manifest})
    prefix = {"prefix": f"s3://{bucket}/pictures", "manifest": f"s3://{bucket}/manifests/v1.json"}
    identity = steps.version_data(out_dir, DataSource(**prefix))
    assert identity == Version.load(tmp_path / "first" / VERSION).identity()
    assert contents(out_dir) == contents(tmp_path / "first")
    check_pinned(out_dir, "wall")

    # the same again, with the manifest as a file, although nothing can be downloaded any more
    s3.client().delete_object(Bucket=bucket, Key="pictures/wall/train/good/p03.png")
    assert (
        steps.version_data(out_dir, DataSource(prefix=prefix["prefix"], manifest=str(tmp_path / "first" / VERSION)))
        == identity
    )
    with pytest.raises(ValueError, match=r"pictures has no wall/train/good/p03\.png, which the manifest names"):
        steps.version_data(tmp_path / "new", DataSource(**prefix))
    content = history.data["first"]["wall/train/good/p03.png"]
    upload(s3, bucket, "pictures", {"wall/train/good/p03.png": content[:-1] + b"?"})
    with pytest.raises(
        ValueError, match=r"wall/train/good/p03\.png .* is another than in the manifest: not its sha256"
    ):
        steps.version_data(tmp_path / "new", DataSource(**prefix))
    assert not (tmp_path / "new").exists()
    upload(s3, bucket, "pictures", {"wall/train/good/p03.png": content})
    steps.version_data(tmp_path / "new", DataSource(**prefix))
    assert contents(tmp_path / "new") == contents(tmp_path / "first")


@pytest.mark.slow
def test_the_verbs_from_push_to_prepare_with_s3(history: History, s3: S3Server, tmp_path: Path) -> None:
    """A plant pushes to S3; a cluster that knows the repository and the keys gets the data, checks and prepares it."""
    repository = history.repository.copy(tmp_path / "repository")
    repository.environment |= s3.environment() | {"AWS_CONFIG_FILE": str(tmp_path / "none")}
    # the plant's name for the server is unknown on the cluster, which passes its own
    repository.set_remote(f"s3://{s3.make_bucket()}/dvc", s3.endpoint_url)
    repository.pin()
    repository.run(*DVC, "push")
    repository.set_remote(re.search(r"s3://\S+", (repository.folder / ".dvc/config").read_text())[0], "http://other:1")
    commit = repository.commit("to S3")
    out_dir = tmp_path / "cluster/data"
    command = (*NDPNET, "version-data", "--url", f"file://{repository.folder}", "--revision", "main", "--out", out_dir)
    finished = repository.run(*command, "--endpoint-url", s3.endpoint_url)
    assert f"revision: {commit}\n" in finished.stdout
    assert "wall: test/good 3, test/hole 2, train/good 12\n" in finished.stdout
    assert s3.secret_key not in finished.stdout + finished.stderr
    assert data_of(out_dir) == contents(repository.data_dir)
    finished = repository.run(*NDPNET, "data", "manifest", out_dir, "--out", tmp_path / "manifest.json")
    assert Version.load(tmp_path / "manifest.json").hashes == Version.load(out_dir / VERSION).hashes
    assert json.loads((tmp_path / "manifest.json").read_text())["revision"] is None
    assert [path.name for path in out_dir.parent.iterdir()] == ["data"]
