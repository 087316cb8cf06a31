"""A work folder on S3: training works in a local one, whose checkpoints are brought at the start and kept on S3.

A checkpoint is one object, PREFIX/CATEGORY/NAME.tar, so that it is there whole or not at all, with the history that
belongs to it. Nothing locks it: two processes of the same step compute the same, and the one that stores last is the
one that a third would continue from.
"""

import logging
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ndpnet.folders import scratch_folder
from ndpnet.storage.bucket import Bucket

logger = logging.getLogger(__name__)

# of a checkpoint folder, as training writes them: the state is replaced as a whole when the history has all of it
HISTORY, STATE = "history.jsonl", "state.pt"
POLL_SECONDS = 0.2  # how often to look for a new checkpoint
RETRY_SECONDS = 30.0  # after a failure that outlasted boto3's own patience
JOIN_SECONDS = 60.0  # for an upload under way when the step has finished


@contextmanager
def local_work_dir(url: str, *, category: str, step: str, scratch_dir: Path | None = None) -> Iterator[Path]:
    """Yield a local folder for a step's checkpoints, which are kept below a url s3://BUCKET/PREFIX.

    step: "phase1" or "phase2", with which the names of its checkpoint folders begin; scratch_dir: where the local one
    is made, else where the system keeps temporary files. At the start S3 must answer and take objects (ValueError says
    what is wrong); once the step runs, no failure of it gets here. When the step has finished, its objects are removed;
    if it ends with an error, the last checkpoint is stored.
    """
    bucket = Bucket(f"{url.rstrip('/')}/{category}")
    scratch = scratch_folder(Path(scratch_dir or tempfile.gettempdir()) / "ndpnet-work")
    with scratch as folder, Mirror(bucket, f"{step}-", folder):
        yield folder


class Mirror:
    """Keeps the newest checkpoint of every folder on S3 while its block runs, from a thread that nobody waits for."""

    def __init__(self, bucket: Bucket, prefix: str, folder: Path) -> None:
        self._bucket, self._prefix, self._folder = bucket, prefix, folder
        # names of the checkpoint folders that S3 may have an object of -> of which state; None: it never said so
        self._stored: dict[str, tuple[int, int] | None] = {}
        self._has_ended = threading.Event()
        self._has_failed = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        """Fetch and unpack what S3 has of the step, and look for new checkpoints from now on.

        ValueError: S3 cannot be asked or written to, or an object is no checkpoint.
        """
        with tempfile.TemporaryFile(dir=self._folder) as nothing:  # missing rights show now, not after hours
            self._bucket.put(f"{self._prefix}probe", nothing)
        self._bucket.delete(f"{self._prefix}probe")
        self._bring()
        self._thread.start()

    def __exit__(self, kind: object, _: object, __: object) -> None:
        """Store the last checkpoint, or remove those that the finished step has removed here."""
        is_finished = kind is None
        self._has_ended.set()
        self._thread.join(JOIN_SECONDS if is_finished else None)
        if self._thread.is_alive():
            logger.warning("%s: an upload has not ended, the checkpoint may stay there", self._url)
            return
        try:
            self._remove_finished() if is_finished else self._store_new()
        except Exception as error:  # how the step itself has ended is what counts
            what = "the checkpoint is not removed" if is_finished else "the last checkpoint is not stored"
            logger.warning("%s: %s: %s", self._url, what, error)

    def _bring(self) -> None:
        listed = list(self._bucket.list(self._prefix))
        stored = [entry for entry in listed if entry.name.endswith(".tar") and "/" not in entry.name]
        packed = ((entry, self._folder / entry.name) for entry in stored)
        for entry, (path, problem) in zip(stored, self._bucket.fetch(packed), strict=True):
            url, name = self._bucket.url_of(entry.name), path.stem
            if problem:
                raise ValueError(f"{url} {problem} (run the same command again)")
            _unpack(path, self._folder / name, url)
            path.unlink()
            self._stored[name] = _version_of(self._folder / name / STATE)
            logger.info("brought the checkpoint %s", url)

    @property
    def _url(self) -> str:
        return self._bucket.url_of(self._prefix)

    def _run(self) -> None:
        pause = POLL_SECONDS
        while not self._has_ended.wait(pause):
            try:
                self._store_new()
                if self._has_failed:
                    logger.info("checkpoints are stored under %s again", self._url)
                self._has_failed, pause = False, POLL_SECONDS
            except Exception as error:  # whatever S3, the network or a full disk comes up with: training goes on
                if not self._has_failed:
                    logger.warning("no checkpoint stored under %s, training goes on: %s", self._url, error)
                self._has_failed, pause = True, RETRY_SECONDS

    def _store_new(self) -> None:
        """Store every checkpoint that is newer than the one on S3."""
        for state_path in sorted(self._folder.glob(f"*/{STATE}")):
            name = state_path.parent.name
            version = _version_of(state_path)
            if version is None or self._stored.get(name) == version:
                continue
            with tempfile.TemporaryFile(dir=self._folder) as packed:
                if _pack(state_path.parent, packed):
                    self._stored[name] = None
                    self._bucket.put(f"{name}.tar", packed)
                    self._stored[name] = version

    def _remove_finished(self) -> None:
        for name in sorted(self._stored):
            if not (self._folder / name).exists():
                self._bucket.delete(f"{name}.tar")


def _version_of(path: Path) -> tuple[int, int] | None:
    """What changes when a file is replaced; None if it is not there."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _pack(folder: Path, packed: BinaryIO) -> bool:
    """Write state and history as a tar; the state first, so that the history has all of it. -> are they there?"""
    try:
        with tarfile.open(fileobj=packed, mode="w") as archive, (folder / STATE).open("rb") as state:
            archive.addfile(archive.gettarinfo(arcname=STATE, fileobj=state), state)
            archive.add(folder / HISTORY, HISTORY)
    except FileNotFoundError:  # the step has removed them meanwhile
        return False
    return True


def _unpack(packed: Path, folder: Path, url: str) -> None:
    """Unpack the two files of a checkpoint, and nothing else."""
    try:
        with tarfile.open(packed) as archive:
            folder.mkdir()
            for name in (HISTORY, STATE):
                source = archive.extractfile(name)
                if source is None:
                    raise KeyError(f"{name} is no file")
                with (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise ValueError(f"{url} is no checkpoint of ndpnet (remove it: the phase starts over)") from error
