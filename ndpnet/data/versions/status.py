"""In plain words: what is pinned of a data folder, whether it is here, and whether git and the remote have it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ndpnet.data.versions.version import VERSION, Version, check_pinned, count_pictures
from ndpnet.files import readable_bytes
from ndpnet.storage.pins import PinnedFolder, Stored

SET_UP = "`dvc remote add -d storage s3://BUCKET/PREFIX`, or a folder instead of s3://"


@dataclass(frozen=True)
class DataStatus:
    """The state of a data folder as lines to print; `is_as_pinned` only if exactly what is pinned lies here."""

    is_as_pinned: bool
    lines: tuple[str, ...]


def read_status(data_dir: Path, *, is_remote_asked: bool = True) -> DataStatus:
    """Compare a data folder with its pin, and ask its remote; nothing is downloaded. ValueError: no such folder."""
    data_dir = Path(data_dir)
    stored: list[str] = []
    with PinnedFolder.open(data_dir) as folder:
        if folder is not None and folder.dvc_path.is_file():
            pin, files = folder.pin(), folder.pinned_files() or {}
            pinned = f"{pin.path.name}: {pin.hash}, {_amount(pin.num_files, pin.num_bytes)}"
            stored = _stored_lines(folder.stored(), pin.path.name, len(files)) if is_remote_asked else []
        elif (data_dir / VERSION).is_file():
            version = Version.load(data_dir / VERSION)
            files = version.hashes
            pinned = f"{VERSION}: {version.data_hash}, {_amount(len(files), sum(file.size for file in version.files))}"
        elif data_dir.is_dir():
            mend = "run `git init && dvc init` here first" if folder is None else f"run `dvc add {data_dir}`"
            return DataStatus(False, (f"pinned   nothing: {data_dir}/ is not pinned ({mend})",))
        else:
            raise ValueError(f"no folder {data_dir} and no {data_dir}.dvc (check the path)")
    lines = [f"pinned   {pinned}", *_count_lines(files)]
    try:
        check_pinned(data_dir, "")
    except ValueError as error:
        return DataStatus(False, (*lines, f"here     {error}", *stored))
    return DataStatus(True, (*lines, "here     exactly what is pinned", *stored))


def _stored_lines(stored: Stored, name: str, num_files: int) -> list[str]:
    """What the remote and git have."""
    remote = stored.remote or f"none is set up ({SET_UP})"
    if stored.remote and stored.num_missing is None:
        remote += f" could not be asked: {stored.problem}"
    elif stored.remote:
        lacks = f" lacks {stored.num_missing} of {num_files or 'the'} files (run `dvc push`)"
        remote += lacks if stored.num_missing else " has all of it"
    git = {
        True: f"{name} is committed",
        False: f"{name} has changes that are not committed (run `git add {name} && git commit`)",
        None: f"could not be asked: {stored.problem}",
    }[stored.is_committed]
    return [f"remote   {remote}", f"git      {git}"]


def _count_lines(paths: Iterable[str]) -> list[str]:
    return [
        f"         {category}: " + (", ".join(f"{place} {count}" for place, count in places.items()) or "no pictures")
        for category, places in count_pictures(paths).items()
    ]


def _amount(num_files: int | None, num_bytes: int | None) -> str:
    files = "an unknown number of files" if num_files is None else "1 file" if num_files == 1 else f"{num_files} files"
    return files if num_bytes is None else f"{files}, {readable_bytes(num_bytes)}"
