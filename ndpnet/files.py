"""Files and folders that appear complete or not at all, and the hashes that name their content."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def hash_of(obj: Any) -> str:
    """Return the sha256 of a JSON value in canonical form: sorted keys, no spaces, ASCII; NaN is a ValueError."""
    canonical = json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def write_json(path: Path, obj: Any) -> None:
    """Write a JSON value atomically: sorted keys, indent 2, ends in a newline; NaN is a ValueError."""
    write_text(path, json.dumps(obj, sort_keys=True, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically (temporary name in its folder, fsync, replace); parents are created."""
    path = Path(path)
    partial = _partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_replace(partial, path, text)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write_and_replace(partial: Path, path: Path, text: str) -> None:
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_output(out_dir: Path, *, marker: str) -> None:
    """Refuse an output folder that cannot be written, or whose content is not an earlier output with a `marker` file.

    Steps that take hours ask this first. ValueError names the folder and the mend.
    """
    out_dir = Path(out_dir).resolve()
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f"cannot write folder {out_dir}: a file has this name (remove it or choose another one)")
    try:
        if out_dir.exists() and not (out_dir / marker).exists() and any(out_dir.iterdir()):
            raise ValueError(
                f"will not replace folder {out_dir}: it has other content and no {marker} (choose a new or empty one)"
            )
        probe_dir = _partial_name(next(path for path in (out_dir, *out_dir.parents) if path.parent.exists()))
        probe_dir.mkdir()
        probe_dir.rmdir()
    except OSError as error:
        raise _unwritable(out_dir, error) from error


@contextmanager
def atomic_folder(out_dir: Path, *, marker: str, key: str | None = None) -> Iterator[Path]:
    """Yield a temporary sibling of `out_dir` that replaces it on success; on failure `out_dir` stays untouched.

    `marker` is a file that every such output has: a folder with other content is not replaced (`check_output`).
    `key` names all that the output is made of: what a killed or interrupted process left under it is yielded again.
    """
    out_dir = Path(out_dir).resolve()
    check_output(out_dir, marker=marker)
    with _temporary_sibling(out_dir, key) as partial_dir:
        with naming_full_disk(partial_dir, out_dir):
            yield partial_dir
        assert (partial_dir / marker).exists(), f"{out_dir} was written without its {marker}"
        _replace_folder(partial_dir, out_dir)
        _remove_abandoned(out_dir)


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """Yield an empty sibling of `place` that is removed at the end. What killed processes left there goes first."""
    place = Path(place).resolve()
    _remove_abandoned(place)
    with _temporary_sibling(place) as folder:
        yield folder


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Make a folder and keep other processes that ask, too, out of it. ValueError: in use, or it cannot be made."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        with suppress(OSError):  # a file system without locks: nobody is kept out
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"another process works in {folder} (wait for it, or choose another one)") from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _temporary_sibling(place: Path, key: str | None = None) -> Iterator[Path]:
    """Yield a folder beside `place` that is removed at the end; one with a key outlives an interrupt."""
    folder = _partial_name(place, key)
    was_left = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=key is not None)
    except OSError as error:
        raise _unwritable(place, error) from error
    in_use = _try_lock(folder)
    if in_use is None and was_left:
        raise ValueError(f"another process writes {place} (wait for it; if there is none, remove {folder})")
    is_kept = False
    try:
        yield folder
    except (KeyboardInterrupt, SystemExit):
        is_kept = key is not None
        raise
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)
        if in_use is not None:
            os.close(in_use)


@contextmanager
def naming_full_disk(folder: Path, what: Path) -> Iterator[None]:
    """Turn what a library raises because `folder` has no room left into a ValueError that says so of `what`."""
    try:
        yield
    except Exception as error:  # numpy, torch and safetensors each raise their own
        if isinstance(error, ValueError) or not _is_full(folder):
            raise
        raise ValueError(
            f"cannot write {what}: No space left on device (free some, or choose another folder)"
        ) from error


def _is_full(folder: Path) -> bool:
    probe = folder / f".{uuid.uuid4().hex[:12]}.probe"
    try:
        probe.write_bytes(b"x" * CHUNK_BYTES)
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    finally:
        probe.unlink(missing_ok=True)
    return False


def _replace_folder(new_dir: Path, out_dir: Path) -> None:
    # rename cannot replace a folder that has files: the old one steps aside, and comes back if the new one fails
    old_dir = _partial_name(out_dir)
    try:
        if out_dir.exists():
            out_dir.rename(old_dir)
        new_dir.rename(out_dir)
    except OSError as error:
        if old_dir.exists():
            old_dir.rename(out_dir)
        raise _unwritable(out_dir, error) from error
    shutil.rmtree(old_dir, ignore_errors=True)


def _remove_abandoned(out_dir: Path) -> None:
    """Remove what killed processes left of this output: the folders that no living process has locked."""
    for folder in out_dir.parent.glob(f".{glob.escape(out_dir.name)}.*.partial"):
        lock = _try_lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """Lock a folder until its descriptor is closed or the process ends. -> None if another process has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # in use, or a file system without locks: then nothing is ever taken for abandoned
        os.close(descriptor)
        return None
    return descriptor


def _partial_name(path: Path, key: str | None = None) -> Path:
    return path.with_name(f".{path.name}.{(key or uuid.uuid4().hex)[:12]}.partial")


def _unwritable(path: Path, error: OSError) -> ValueError:
    reason = error.strerror or type(error).__name__
    return ValueError(f"cannot write {path}: {reason} (choose a folder you can write to)")
