"""In plain words: what is pinned of a data folder, what is here, what differs, and which remote has it."""

from dataclasses import dataclass
from pathlib import Path

from ndpnet.data.versions.version import VERSION, Difference, Version, compare, count_pictures, find_damage
from ndpnet.storage.pins import PinnedFolder

NUM_NAMES = 5  # of differing files, of each kind
GIT_WORDS = {
    "committed": "{name} is committed",
    "changed": "{name} has changes that are not committed (run `git commit {name}`)",
    "untracked": "{name} is not in git yet (run `git add {name}`)",
    "ignored": "{name} is ignored by git (take it out of .gitignore: it names the data's version)",
    "no git": "not a git repository: nothing remembers earlier pins (run `git init`)",
    "not ours": "in a git repository of another user (run `git config --global --add safe.directory FOLDER`)",
}


@dataclass(frozen=True)
class DataStatus:
    """The state of a data folder as lines to print; `is_as_pinned` only if exactly what is pinned lies here."""

    is_as_pinned: bool
    lines: tuple[str, ...]


def read_status(data_dir: Path) -> DataStatus:
    """Compare a data folder with its pin, and ask its remote; nothing is downloaded. ValueError: no such folder."""
    data_dir = Path(data_dir)
    with PinnedFolder.open(data_dir) as folder:
        if folder is not None and folder.dvc_path.is_file():
            return _status_with_dvc(data_dir, folder)
        if (data_dir / VERSION).is_file():
            return _status_with_version(data_dir)
        if not data_dir.is_dir():
            raise ValueError(f"no folder {data_dir} and no {data_dir}.dvc (check the path)")
        mend = "run `git init && dvc init` here first" if folder is None else f"run `dvc add {data_dir}`"
        return DataStatus(False, (f"pinned   nothing: {data_dir}/ is not pinned ({mend})",))


def _status_with_dvc(data_dir: Path, folder: PinnedFolder) -> DataStatus:
    pin, pinned, here = folder.pin(), folder.pinned_files(), folder.listing()
    name = pin.path.name
    lines = [f"pinned   {name}: {pin.hash}, {_amount(pin.num_files, pin.num_bytes)}"]
    lines += _count_lines(pinned) if pinned is not None else ["         (its list of files is not here)"]
    mends = [
        f"to pin what is here:       dvc add {data_dir}",
        f"to get what is pinned:     dvc pull {data_dir}.dvc",
    ]
    if pinned is None and here.hash is not None:
        lines.append(f"here     {_amount(len(here.files), here.num_bytes)}, not what is pinned")
        lines += _count_lines(here.files)
        lines += [f"         {mend}" for mend in mends]
    elif here.hash is None:
        lines += ["here     nothing", f"         {mends[1]}"]
    else:
        lines += _difference_lines(compare(pinned, here.files), mends)
    lines.append(f"remote   {folder.remote_state(pinned)}")
    lines.append(f"git      {GIT_WORDS[folder.git_state()].format(name=name)}")
    return DataStatus(here.hash == pin.hash, tuple(lines))


def _status_with_version(data_dir: Path) -> DataStatus:
    version = Version.load(data_dir / VERSION)
    identity = version.identity()
    lines = [f"pinned   {VERSION}: {version.data_hash}, {_amount(identity['num_files'], identity['num_bytes'])}"]
    if version.revision:
        lines.append(f"         of commit {version.revision}")
    lines += _count_lines(file.path for file in version.files)
    difference = find_damage(data_dir, version)
    lines += _difference_lines(difference, ["to get what is pinned:     ndpnet version-data"])
    return DataStatus(not difference, tuple(lines))


def _difference_lines(difference: Difference, mends: list[str]) -> list[str]:
    if not difference:
        return ["here     exactly what is pinned"]
    kinds = {"added": difference.added, "changed": difference.changed, "deleted": difference.deleted}
    lines = ["here     " + ", ".join(f"{len(paths)} {kind}" for kind, paths in kinds.items())]
    for kind, paths in kinds.items():
        lines += [f"         {kind:<9}{path}" for path in paths[:NUM_NAMES]]
        if len(paths) > NUM_NAMES:
            lines.append(f"         {'':<9}and {len(paths) - NUM_NAMES} more")
    return lines + [f"         {mend}" for mend in mends]


def _count_lines(paths: object) -> list[str]:
    counts = count_pictures(paths)
    return [
        f"         {category}: " + (", ".join(f"{place} {count}" for place, count in places.items()) or "no pictures")
        for category, places in counts.items()
    ]


def _amount(num_files: int | None, num_bytes: int | None) -> str:
    files = "an unknown number of files" if num_files is None else "1 file" if num_files == 1 else f"{num_files} files"
    return files if num_bytes is None else f"{files}, {readable_bytes(num_bytes)}"


def readable_bytes(num_bytes: int) -> str:
    """Format a size: "8.7 MB"."""
    size = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
