"""Files and folders that appear complete or not at all, and the hashes that name their content."""

import errno
import glob
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ndpnet.locks import locked, try_lock

CHUNK_BYTES = 1 << 20
LIST = ".ndpnet.json"  # in an output: its marker, and the names and sizes of its files
LITTER = ("thumbs.db", "desktop.ini", ".ds_store")  # file managers leave them anywhere
NUM_NAMES = 3  # of files, in an error
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")  # https://owasp.org/www-community/attacks/CSV_Injection

logger = logging.getLogger(__name__)


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


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file, as the history of a training."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically (temporary name in its folder, fsync, replace); parents are created."""
    path = Path(path)
    partial = _partial_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_and_replace(partial, path, text)
    except OSError as error:
        raise unwritable(path, error) from error


def _write_and_replace(partial: Path, path: Path, text: str) -> None:
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def readable_bytes(num_bytes: int) -> str:
    """Format a size: "8.7 MB"."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def some_names(names: Sequence[str]) -> str:
    """The first few of many names, for one line."""
    more = f" and {len(names) - NUM_NAMES} more" if len(names) > NUM_NAMES else ""
    return ", ".join(names[:NUM_NAMES]) + more


def as_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for a CSV file: text that a spreadsheet would compute gets a ' before it, as =HYPERLINK(...) does."""
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_SIGNS) else value
        for name, value in row.items()
    }


def check_apart(out_dir: Path, *inputs: Path) -> None:
    """Refuse an output that lies in one of its inputs, or has one in it: one of them would be lost, or read again.

    An output in the place of an input is `check_output`'s to judge: a package may be calibrated in its place.
    """
    out_dir = Path(out_dir).resolve()
    for source in (Path(each).resolve() for each in inputs):
        if out_dir in source.parents or source in out_dir.parents:
            raise ValueError(f"the output {out_dir} and the input {source} lie in one another (choose another --out)")


def check_output(out_dir: Path, *, marker: str, known: Mapping[str, int] | None = None) -> None:
    """Refuse an output folder that cannot be written, or that has anything but an earlier output with a `marker` file.

    Steps that take hours ask this first. `known`: as for `atomic_folder`. ValueError names the folder and the fix.
    """
    out_dir = Path(out_dir).resolve()
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f"cannot write folder {out_dir}: a file has this name (remove it or choose another one)")
    if _is_mount_point(out_dir):
        raise ValueError(f"cannot replace folder {out_dir}: it is a mount point (choose a folder in it)")
    try:
        _check_content(out_dir, marker, known)
        probe_dir = _partial_name(next(path for path in (out_dir, *out_dir.parents) if path.parent.exists()))
        probe_dir.mkdir()
        probe_dir.rmdir()
    except OSError as error:
        raise unwritable(out_dir, error) from error


@contextmanager
def atomic_folder(
    out_dir: Path, *, marker: str, key: str | None = None, known: Mapping[str, int] | None = None
) -> Iterator[Path]:
    """Yield a temporary sibling of `out_dir` that replaces it on success; on failure `out_dir` stays untouched.

    `marker` is a file that every such output has. A folder is replaced if its files are those that its list names, and
    no others; `known`: names and sizes instead of a list, for what must not have one. A second process is refused.
    `key` names all that the output is made of: what a process left under it, however it ended, is yielded again.
    """
    out_dir = Path(out_dir).resolve()
    check_output(out_dir, marker=marker, known=known)
    with _removing_empty_parents(out_dir), _temporary_sibling(out_dir, key) as partial_dir:
        _refuse_second(out_dir, partial_dir)
        with naming_full_disk(partial_dir, out_dir):
            yield partial_dir
            assert (partial_dir / marker).exists(), f"{out_dir} was written without its {marker}"
            if known is None:
                (partial_dir / LIST).unlink(missing_ok=True)
                write_json(partial_dir / LIST, {"marker": marker, "files": sizes_below(partial_dir)})
            _follow_umask(partial_dir)
        _check_content(out_dir, marker, known)  # it may have changed meanwhile
        _replace_folder(partial_dir, out_dir)
        _remove_abandoned(out_dir)


def sizes_below(folder: Path) -> dict[str, int]:
    """Sizes of all files below a folder, by posix path; of links to folders -1. OSError: a folder cannot be read."""
    sizes: dict[str, int] = {}
    for root, folders, names in os.walk(folder, onerror=_raise):
        for name in [*names, *(name for name in folders if (Path(root) / name).is_symlink())]:
            path = Path(root) / name
            is_file = path.is_file()  # by way of a link, too: DVC may keep its outputs so
            sizes[path.relative_to(folder).as_posix()] = path.stat().st_size if is_file else -1
    return dict(sorted(sizes.items()))


def _check_content(out_dir: Path, marker: str, known: Mapping[str, int] | None) -> None:
    """ValueError: files that no earlier run wrote, or that somebody has changed since."""
    sizes = sizes_below(out_dir) if out_dir.exists() else {}
    there = {name: size for name, size in sizes.items() if Path(name).name.lower() not in LITTER}
    refusal = f"will not replace folder {out_dir}:"
    listed = _read_list(out_dir, marker) if known is None else known
    # with a list the marker may be gone: DVC removes a stage's outputs before it runs, and knows of no list
    if there and marker not in there and (known is not None or listed is None):
        raise ValueError(f"{refusal} it has other content and no {marker} (choose a new or empty one)")
    if there and listed is None:
        raise ValueError(
            f"{refusal} it has no {LIST}, which says what was written there (if an earlier version wrote it, remove it)"
        )
    others = [name for name, size in there.items() if name != LIST and (listed or {}).get(name) != size]
    if others:
        raise ValueError(
            f"{refusal} it has {some_names(others)}, which ndpnet did not write there, or not so "
            "(move that elsewhere, or choose another folder)"
        )


def _read_list(out_dir: Path, marker: str) -> dict[str, int] | None:
    """What was written there, if it was an output with this marker."""
    try:
        record = json.loads((out_dir / LIST).read_text(encoding="utf-8"))
        return dict(record["files"]) if record["marker"] == marker else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_mount_point(folder: Path) -> bool:
    """Whether something is mounted there; os.path.ismount does not see a folder of the same disk (docker -v)."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return folder.is_mount()
    return os.fsencode(folder) in (_unescaped(line.split()[4]) for line in lines)


def _unescaped(path: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), path)


def _follow_umask(folder: Path) -> None:
    """Give all files the permissions of a new one: some libraries write what nobody else may read."""
    probe = folder / _partial_name(folder).name
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for root, _, names in os.walk(folder):
        for name in names:
            (Path(root) / name).chmod(mode)


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """Yield an empty sibling of `place` that is removed at the end. What killed processes left there goes first."""
    place = Path(place).resolve()
    _remove_abandoned(place)
    with _removing_empty_parents(place), _temporary_sibling(place) as folder:
        yield folder


@contextmanager
def staging_folder(folder: Path, *, outlives_failure: bool = False) -> Iterator[Path]:
    """Yield a folder that collects files, for one process at a time; it goes at the end, with parents made for it.

    It is empty, unless it outlives a failure: then the next call finds the files that the failed one left. ValueError:
    in use.
    """
    busy = f"another process works in {folder} (wait for it, or choose another one)"
    with _removing_empty_parents(folder), locked(folder, busy, is_folder=True):
        for path in () if outlives_failure else folder.iterdir():  # a killed process left it
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        is_over = not outlives_failure
        try:
            yield folder
            is_over = True
        finally:
            if is_over or not _has_files(folder):
                shutil.rmtree(folder, ignore_errors=True)
            else:
                logger.warning("what came is kept in %s: the same command continues there", folder)


def _has_files(folder: Path) -> bool:
    # hidden ones are notes on the others
    return any(path.is_file() and not path.name.startswith(".") for path in folder.rglob("*"))


@contextmanager
def _removing_empty_parents(folder: Path) -> Iterator[None]:
    """Remove at the end the parents that were made meanwhile and have nothing in them."""
    new_parents = [parent for parent in folder.parents if not parent.exists()]
    try:
        yield
    finally:
        for parent in new_parents:
            with suppress(OSError):  # not empty: the output is there
                parent.rmdir()


@contextmanager
def _temporary_sibling(place: Path, key: str | None = None) -> Iterator[Path]:
    """Yield a folder beside `place` that is removed at the end; one with a key outlives a failure."""
    folder = _partial_name(place, key)
    was_left = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=key is not None)
    except OSError as error:
        raise unwritable(place, error) from error
    try:
        lock = try_lock(folder)
    except BlockingIOError as error:
        raise _in_use(place) from error
    if lock is None and was_left:
        raise ValueError(f"another process writes {place} (wait for it; if there is none, remove {folder})")
    is_kept = key is not None
    try:
        yield folder
        is_kept = False
    finally:
        if not is_kept or not any(folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _refuse_second(out_dir: Path, own_dir: Path) -> None:
    for folder in _unfinished(out_dir):
        if folder != own_dir:
            try:
                lock = try_lock(folder)
            except BlockingIOError as error:
                raise _in_use(out_dir) from error
            if lock is not None:
                os.close(lock)


def _in_use(place: Path) -> ValueError:
    return ValueError(f"another process writes {place} (wait for it, or choose another folder)")


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
        raise unwritable(out_dir, error) from error
    shutil.rmtree(old_dir, ignore_errors=True)


def _remove_abandoned(out_dir: Path) -> None:
    """Remove what killed processes left of this output: the folders that no living process has locked."""
    for folder in (*_unfinished(out_dir), *out_dir.parent.glob(f".{glob.escape(out_dir.name)}.*.fetching")):
        with suppress(BlockingIOError):
            lock = try_lock(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _unfinished(out_dir: Path) -> list[Path]:
    return sorted(out_dir.parent.glob(f".{glob.escape(out_dir.name)}.*.partial"))


def _partial_name(path: Path, key: str | None = None) -> Path:
    return path.with_name(f".{path.name}.{(key or uuid.uuid4().hex)[:12]}.partial")


def unwritable(path: Path, error: OSError) -> ValueError:
    """What keeps a file or folder from being written, as an error that names it."""
    reason = error.strerror or type(error).__name__
    return ValueError(f"cannot write {path}: {reason} (choose a folder you can write to)")
