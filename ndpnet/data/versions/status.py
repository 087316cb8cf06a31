"""In plain words: what is pinned of a data folder, and whether it is here."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ndpnet.data.versions.version import VERSION, Version, check_pinned, count_pictures
from ndpnet.storage.pins import PinnedFolder


@dataclass(frozen=True)
class DataStatus:
    """The state of a data folder as lines to print; `is_as_pinned` only if exactly what is pinned lies here."""

    is_as_pinned: bool
    lines: tuple[str, ...]


def read_status(data_dir: Path) -> DataStatus:
    """Compare a data folder with its pin. ValueError: no such folder."""
    data_dir = Path(data_dir)
    with PinnedFolder.open(data_dir) as folder:
        if folder is not None and folder.dvc_path.is_file():
            files, pinned = folder.pinned_files() or {}, f"{folder.dvc_path.name}: {folder.pinned_hash()}"
        elif (data_dir / VERSION).is_file():
            version = Version.load(data_dir / VERSION)
            files, pinned = version.hashes, f"{VERSION}: {version.data_hash}"
        elif data_dir.is_dir():
            mend = "run `git init && dvc init` here first" if folder is None else f"run `dvc add {data_dir}`"
            return DataStatus(False, (f"pinned   nothing: {data_dir}/ is not pinned ({mend})",))
        else:
            raise ValueError(f"no folder {data_dir} and no {data_dir}.dvc (check the path)")
    lines = [f"pinned   {pinned}", *_count_lines(files)]
    try:
        check_pinned(data_dir, "")
    except ValueError as error:
        return DataStatus(False, (*lines, f"here     {error}"))
    return DataStatus(True, (*lines, "here     exactly what is pinned"))


def _count_lines(paths: Iterable[str]) -> list[str]:
    return [
        f"         {category}: " + (", ".join(f"{place} {count}" for place, count in places.items()) or "no pictures")
        for category, places in count_pictures(paths).items()
    ]
