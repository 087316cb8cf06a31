"""Which version of the data lies in a folder: the pin of DVC, or a version.json that came with the files."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ndpnet.data.listing import has_picture_name
from ndpnet.files import hash_of, sha256_of, write_json
from ndpnet.storage.pins import PinnedFolder

VERSION = "version.json"
FORMAT_VERSION = 1
NUM_THREADS = 4
ALLOW = "pass --allow-unpinned: such a model cannot be promoted"


@dataclass(frozen=True)
class VersionedFile:
    """One file; `path` is posix, relative to the data folder."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Version:
    """Every file of a version of the data, in the order of their paths, and where it was pinned (None: not in git)."""

    files: tuple[VersionedFile, ...]
    revision: str | None = None
    pinned_hash: str | None = None

    @property
    def data_hash(self) -> str:
        """The sha256 over the paths with the hashes of their content: the same wherever the files came from."""
        return hash_of([[file.path, file.sha256] for file in self.files])

    def identity(self) -> dict[str, Any]:
        """What names this version, with counts of pictures per category and folder."""
        return {
            "revision": self.revision,
            "data_hash": self.data_hash,
            "pinned_hash": self.pinned_hash,
            "num_files": len(self.files),
            "num_bytes": sum(file.size for file in self.files),
            "categories": count_pictures(file.path for file in self.files),
        }

    def only(self, category: str) -> "Version":
        """The files of one category; of all, where it is empty. ValueError names the categories."""
        chosen = set(choose([file.path for file in self.files], category))
        return replace(self, files=tuple(file for file in self.files if file.path in chosen))

    def save(self, path: Path) -> None:
        """Write it as JSON; equal versions give equal bytes."""
        files = [{"path": file.path, "sha256": file.sha256, "size": file.size} for file in self.files]
        write_json(path, {"format_version": FORMAT_VERSION, **self.identity(), "files": files})

    @classmethod
    def load(cls, source: Path | bytes, *, name: str | None = None) -> "Version":
        """Read what `save` wrote, a file or its bytes; ValueError names what is wrong with it."""
        name = name or str(source)
        try:
            text = source if isinstance(source, bytes) else Path(source).read_bytes()
            content = json.loads(text)
            files = tuple(VersionedFile(**file) for file in content["files"])
            version = cls(files, content["revision"], content["pinned_hash"])
            known = (content["format_version"], content["data_hash"])
            _check_paths(files)
        except (OSError, ValueError, KeyError, TypeError) as error:
            detail = " ".join(str(error).split())
            raise ValueError(f"cannot read the manifest {name}: {detail} (run `ndpnet data manifest` again)") from error
        if known != (FORMAT_VERSION, version.data_hash):
            raise ValueError(f"the manifest {name} is damaged or of another format (run `ndpnet data manifest` again)")
        return version


@dataclass(frozen=True)
class Difference:
    """How what lies here differs from what is pinned: paths in order."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.deleted)

    def __str__(self) -> str:
        named = {"changed": self.changed, "added": self.added, "deleted": self.deleted}
        counts = ", ".join(f"{len(paths)} {name}" for name, paths in named.items() if paths)
        return f"{counts}, first {next(paths[0] for paths in named.values() if paths)}"


def compare(pinned: dict[str, str], present: dict[str, str]) -> Difference:
    """Compare two mappings of paths to hashes."""
    both = pinned.keys() & present.keys()
    return Difference(
        added=tuple(sorted(present.keys() - both)),
        changed=tuple(sorted(path for path in both if pinned[path] != present[path])),
        deleted=tuple(sorted(pinned.keys() - both)),
    )


def check_pinned(data_dir: Path, category: str) -> None:
    """Raise ValueError unless exactly what is pinned lies in a category's folder.

    Pinned by the .dvc file beside the data folder (unchanged files cost a stat each), or by a version.json in it.
    """
    data_dir = Path(data_dir)
    category = _normalised(category)
    with PinnedFolder.open(data_dir) as folder:
        if folder is not None and folder.dvc_path.is_file():
            _check_with_dvc(data_dir, category, folder)
        elif (data_dir / VERSION).is_file():
            _check_with_version(data_dir, category)
        else:
            raise ValueError(f"{data_dir}/ is not pinned (run `dvc add {data_dir}`, or {ALLOW})")


def choose(paths: Iterable[str], category: str) -> list[str]:
    """Those of a category, or all where it is empty. ValueError names the categories that there are."""
    paths = sorted(paths)
    chosen = [path for path in paths if not category or path.startswith(f"{category}/")]
    if not chosen:
        known = ", ".join(count_pictures(paths)) or "none"
        raise ValueError(f"the data have no category {category!r} (they have: {known})")
    return chosen


def version_of(data_dir: Path) -> Version:
    """Hash every file of a data folder but its version.json. ValueError: no folder, or nothing in it."""
    data_dir = Path(data_dir)
    paths = list_files(data_dir)
    if not paths:
        raise ValueError(f"no files under {data_dir} (check the path, or run `dvc pull`)")
    return version_of_files(data_dir, paths)


def version_of_files(
    folder: Path, paths: Iterable[str], *, revision: str | None = None, pinned_hash: str | None = None
) -> Version:
    """Hash the named files."""
    paths = sorted(path for path in paths if path != VERSION)
    hashes = _sha256_of_all(folder, paths)
    files = (VersionedFile(path, hashes[path], (folder / path).stat().st_size) for path in paths)
    return Version(tuple(files), revision, pinned_hash)


def find_damage(folder: Path, version: Version) -> Difference:
    """Compare every file in a folder with a version, by its content."""
    present = _sha256_of_all(folder, list_files(folder))
    return compare({file.path: file.sha256 for file in version.files}, present)


def list_files(folder: Path, below: str = "") -> list[str]:
    """Return all files, hidden ones too, but the version.json on top; posix paths relative to `folder`, in order."""
    paths = []
    for root, folders, names in os.walk(Path(folder) / below):
        for name in folders:
            if (Path(root) / name).is_symlink():
                raise ValueError(f"{Path(root) / name} is a link to a folder (put the folder itself there)")
        paths += [(Path(root) / name).relative_to(folder).as_posix() for name in names]
    return sorted(path for path in paths if path != VERSION)


def count_pictures(paths: Iterable[str]) -> dict[str, dict[str, int]]:
    """Count the pictures under train/ and test/ of each category. -> {"brick": {"train/good": 96, ...}}"""
    counts: dict[str, dict[str, int]] = {}
    for path in sorted(paths):
        parts = path.split("/")
        if len(parts) >= 2:
            counts.setdefault(parts[0], {})
        if len(parts) == 4 and parts[1] in ("train", "test") and is_picture(parts[3]):
            place = f"{parts[1]}/{parts[2]}"
            counts[parts[0]][place] = counts[parts[0]].get(place, 0) + 1
    return counts


def is_picture(name: str) -> bool:
    """Whether the reader of the layout takes a file of this name for a picture."""
    return has_picture_name(name)


def _check_with_dvc(data_dir: Path, category: str, folder: PinnedFolder) -> None:
    mend = f"run `dvc add {data_dir}` to pin what is here, or `dvc checkout {data_dir}.dvc` to get back what is pinned"
    pin, pinned = folder.pin(), folder.pinned_files()
    if pinned is None:
        raise ValueError(
            f"{data_dir}/ is not what {pin.path.name} pins, and the list of the pinned files is not here to say what "
            f"differs ({mend})"
        )
    _check_same(data_dir, category, pin.path.name, _below(category, pinned), folder.listing(category).files, mend)


def _check_with_version(data_dir: Path, category: str) -> None:
    version = Version.load(data_dir / VERSION)
    pinned = _below(category, {file.path: file.sha256 for file in version.files})
    present = _sha256_of_all(data_dir, list_files(data_dir, category))
    mend = "run `ndpnet version-data` again to get back what is pinned"
    _check_same(data_dir, category, VERSION, pinned, present, mend)


def _check_same(
    data_dir: Path, category: str, pin_name: str, pinned: dict[str, str], present: dict[str, str], mend: str
) -> None:
    if not pinned and not present:
        raise ValueError(
            f"no folder {data_dir / category} (run `dvc pull`, or check the data folder and the category's name)"
        )
    if not present:
        raise ValueError(f"{data_dir / category} is not here, but {pin_name} pins it (run `dvc pull`)")
    difference = compare(pinned, present)
    if difference:
        raise ValueError(f"{data_dir / category} is not what {pin_name} pins: {difference} ({mend}; or {ALLOW})")


def _below(category: str, files: dict[str, str]) -> dict[str, str]:
    return {path: value for path, value in files.items() if not category or path.startswith(f"{category}/")}


def _normalised(category: str) -> str:
    path = PurePosixPath(category)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"category {category!r} lies outside the data folder (name a folder in it)")
    return "" if path == PurePosixPath() else path.as_posix()


def _sha256_of_all(folder: Path, paths: list[str]) -> dict[str, str]:
    with ThreadPoolExecutor(min(NUM_THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(paths, pool.map(lambda path: sha256_of(folder / path), paths), strict=True))


def _check_paths(files: Iterable[VersionedFile]) -> None:
    paths = [file.path for file in files]
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or PurePosixPath(path).as_posix() != path:
            raise ValueError(f"{path!r} is no path inside the folder")
    if not paths or paths != sorted(set(paths)):
        raise ValueError("its files are none, or not in the order of their paths")
