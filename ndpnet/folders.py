"""Folders that appear complete or not at all, and that replace nothing but what was written so."""

import ctypes
import glob
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ndpnet.files import naming_full_disk, partial_name, some_names, unwritable, write_json
from ndpnet.locks import is_held, try_lock

LIST = ".ndpnet.json"  # in an output: its marker, and the names and sizes of its files
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2(2)
LITTER = ("thumbs.db", "desktop.ini", ".ds_store")  # file managers leave them anywhere

logger = logging.getLogger(__name__)


def check_apart(out_dir: Path, *inputs: Path) -> None:
    """Refuse an output that lies in one of its inputs, or has one in it: one of them would be lost, or read again.

    An output in the place of an input is `check_output`'s to judge: a package may be calibrated in its place.
    """
    out_dir = Path(out_dir).resolve()
    for source in (Path(path).resolve() for path in inputs):
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
        probe_dir = partial_name(next(path for path in (out_dir, *out_dir.parents) if path.parent.exists()))
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
    with _temporary_sibling(out_dir, key) as partial_dir:
        if any(folder != partial_dir and is_held(folder) for folder in _unfinished(out_dir)):
            raise _in_use(out_dir)
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
    listed = _read_list(out_dir, marker) if known is None else known
    sizes = sizes_below(out_dir) if out_dir.exists() else {}
    others = [name for name, size in sizes.items() if name != LIST and listed.get(name) != size]
    if others := [name for name in others if Path(name).name.lower() not in LITTER]:
        raise ValueError(
            f"will not replace folder {out_dir}: it has {some_names(others)}, which ndpnet did not write there, or not "
            "so (move that elsewhere, or choose another folder)"
        )


def _read_list(out_dir: Path, marker: str) -> dict[str, int]:
    """What was written there, if it was an output with this marker."""
    try:
        record = json.loads((out_dir / LIST).read_text(encoding="utf-8"))
        return dict(record["files"]) if record["marker"] == marker else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_mount_point(folder: Path) -> bool:
    """Whether something is mounted there; os.path.ismount does not see a folder of the same disk (docker -v)."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return folder.is_mount()
    return os.fsencode(folder) in (_unescaped(line.split()[4]) for line in lines)


def _unescaped(path: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), path)


def _follow_umask(folder: Path) -> None:
    """Give all files the permissions of a new one: some libraries write what nobody else may read."""
    probe = folder / partial_name(folder).name
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for root, _, names in os.walk(folder):
        for name in names:
            (Path(root) / name).chmod(mode)


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def scratch_folder(place: Path, key: str | None = None) -> Iterator[Path]:
    """Yield a sibling of `place` that is removed at the end. What killed processes left there goes first.

    It is empty, unless `key` names all that it is for: then what a failed call has left is yielded again, for one
    process at a time.
    """
    place = Path(place).resolve()
    with _temporary_sibling(place, key, ending="fetching") as folder:
        _remove_abandoned(place)
        yield folder


@contextmanager
def _temporary_sibling(place: Path, key: str | None, ending: str = "partial") -> Iterator[Path]:
    """Yield a folder beside `place` that is removed at the end; one with a key outlives a failure."""
    folder = partial_name(place, key, ending)
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
        # hidden files are notes on the others
        if is_kept and any(path.is_file() and not path.name.startswith(".") for path in folder.rglob("*")):
            logger.warning("what is done is kept in %s: the same command continues there", folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _in_use(place: Path) -> ValueError:
    return ValueError(f"another process writes {place} (wait for it, or choose another folder)")


def _replace_folder(new_dir: Path, out_dir: Path) -> None:
    """Put a folder in the place of an earlier one: at no moment is there none, where the file system can exchange."""
    ready_dir, old_dir = partial_name(out_dir), partial_name(out_dir)
    try:
        new_dir.rename(ready_dir)  # no name with a key: after the exchange the old files lie there
        if not out_dir.exists():
            ready_dir.rename(out_dir)
        elif _exchange(ready_dir, out_dir):
            old_dir = ready_dir
        else:
            out_dir.rename(old_dir)
            ready_dir.rename(out_dir)
    except OSError as error:
        if old_dir.exists():
            old_dir.rename(out_dir)
        if ready_dir.exists():
            ready_dir.rename(new_dir)
        raise unwritable(out_dir, error) from error
    shutil.rmtree(old_dir, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at once: a kill leaves none of them without a folder. False: it was not done."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # of Linux, and in no module of Python's
    return rename is not None and rename(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), RENAME_EXCHANGE) == 0


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
