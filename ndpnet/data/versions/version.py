"""Where data are, and which version of them lies in a folder: the pin of DVC, or a version.json that came along."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ndpnet.data.listing import has_picture_name
from ndpnet.files import hash_of, sha256_of, write_json
from ndpnet.folders import sizes_below
from ndpnet.storage.pins import Files, PinnedFolder

VERSION = "version.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class DataSource:
    """A commit of a git repository, an S3 prefix with a manifest (a file or s3://), or a folder that each pod mounts.

    version: the hash that names the data, None as long as nobody has looked.
    """

    url: str | None = None
    revision: str | None = None
    path: str = "data"
    prefix: str | None = None
    manifest: str | None = None
    folder: str | None = None
    endpoint_url: str | None = None
    version: str | None = None

    @classmethod
    def from_json(cls, text: str) -> "DataSource":
        """What `to_json` gave, or somebody wrote so. ValueError: it is none."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:  # the text may hold a password
            raise ValueError('the source names no place of data (write it as {"url": ..., "revision": ...})') from error

    def to_json(self) -> str:
        """What is set, in one line: as it travels from pod to pod."""
        return json.dumps(self.named(), sort_keys=True)

    def named(self) -> dict[str, str]:
        """What is set, as for a tag."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check(self) -> None:
        """Refuse what names none or two places, or no folder of them. ValueError names the fix."""
        if (self.url is None) == (self.prefix is None):
            raise ValueError("either a git repository or an S3 prefix names the data (pass --url or --prefix)")
        if self.prefix is not None and self.manifest is None:
            raise ValueError(f"no manifest says which files of {self.prefix} to take (pass --manifest version.json)")
        if ".." in PurePosixPath(self.path).parts or not self.path.strip("/."):
            raise ValueError(f"path {self.path!r} lies outside the repository (name the pinned folder, as data)")


class UnpinnedError(ValueError):
    """Pictures that are not the pinned ones; `fact` says it without the ways out."""

    def __init__(self, fact: str, fix: str) -> None:
        super().__init__(f"{fact} ({fix})")
        self.fact = fact


@dataclass(frozen=True)
class Version:
    """Every file of a version of the data, in the order of their paths, and where it was pinned (None: not in git)."""

    hashes: Files  # posix path relative to the data folder -> sha256
    revision: str | None = None
    pinned_hash: str | None = None

    @property
    def data_hash(self) -> str:
        """The sha256 over the paths with the hashes of their content: the same wherever the files came from."""
        return hash_of(list(self.hashes.items()))

    def identity(self) -> dict[str, Any]:
        """What names this version, with counts of pictures per category and folder."""
        return {
            "revision": self.revision,
            "data_hash": self.data_hash,
            "pinned_hash": self.pinned_hash,
            "num_files": len(self.hashes),
            "categories": count_pictures(self.hashes),
        }

    def only(self, category: str) -> "Version":
        """The files of one category; of all, where it is empty. ValueError names the categories."""
        return replace(self, hashes={path: self.hashes[path] for path in choose(self.hashes, category)})

    def save(self, path: Path) -> None:
        """Write it as JSON; equal versions give equal bytes."""
        files = [{"path": name, "sha256": sha256} for name, sha256 in self.hashes.items()]
        write_json(path, {"format_version": FORMAT_VERSION, **self.identity(), "files": files})

    @classmethod
    def load(cls, source: Path | bytes, *, name: str | None = None) -> "Version":
        """Read what `save` wrote, a file or its bytes; ValueError names what is wrong with it."""
        name = name or str(source)
        try:
            content = json.loads(source if isinstance(source, bytes) else Path(source).read_bytes())
            _check_paths([file["path"] for file in content["files"]])
            hashes = {file["path"]: file["sha256"] for file in content["files"]}
            version = cls(hashes, content["revision"], content["pinned_hash"])
            known = (content["format_version"], content["data_hash"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            detail = " ".join(str(error).split())
            raise ValueError(f"cannot read the manifest {name}: {detail} (run `ndpnet data manifest` again)") from error
        if known != (FORMAT_VERSION, version.data_hash):
            raise ValueError(f"the manifest {name} is damaged or of another format (run `ndpnet data manifest` again)")
        return version


def compare(pinned: Files, present: Files) -> dict[str, list[str]]:
    """How what lies here differs from what is pinned: the paths that are changed, added and deleted, if there are."""
    both = pinned.keys() & present.keys()
    changed = (path for path in both if pinned[path] != present[path])
    paths = {"changed": changed, "added": present.keys() - both, "deleted": pinned.keys() - both}
    return {name: listed for name, of_kind in paths.items() if (listed := sorted(of_kind))}


def describe(difference: dict[str, list[str]]) -> str:
    """A difference as `compare` finds it, in short: "1 changed, 2 added, first wall/train/good/1.png"."""
    counts = ", ".join(f"{len(paths)} {name}" for name, paths in difference.items())
    return f"{counts}, first {next(iter(difference.values()))[0]}"


@dataclass(frozen=True)
class Pin:
    """What pins a data folder: the .dvc file beside it (unchanged files cost a stat each), or a version.json in it."""

    name: str  # of that file
    hash: str | None
    files: Files | None  # None: their list is not on this machine
    here: Files  # what lies here, of one category or of all
    fix: str

    @classmethod
    def read(cls, data_dir: Path, category: str) -> "Pin | None":
        """None: nothing pins it. category: what lies here of it; "": in the whole folder."""
        with PinnedFolder.open(data_dir) as folder:
            if folder is not None and folder.dvc_path.is_file():
                back = f"`dvc checkout {data_dir}.dvc` to get back what is pinned"
                fix = f"run `dvc add {data_dir}` to pin what is here, or {back}"
                pinned = folder.pinned_hash(), folder.pinned_files()
                return cls(folder.dvc_path.name, *pinned, folder.listing(category), fix)
        if not (data_dir / VERSION).is_file():
            return None
        version, fix = Version.load(data_dir / VERSION), "run `ndpnet version-data` again to get back what is pinned"
        return cls(VERSION, version.data_hash, version.hashes, hashes_of(data_dir, list_files(data_dir, category)), fix)

    def check(self, data_dir: Path, category: str) -> None:
        """Raise ValueError unless what lies here is what is pinned of the category."""
        if self.files is None and self.here:
            lost = "the list of the pinned files is not here to say what differs"
            raise UnpinnedError(f"{data_dir}/ is not what {self.name} pins, and {lost}", self.fix)
        pinned = {path: value for path, value in (self.files or {}).items() if _is_of(path, category)}
        if not pinned and not self.here:
            raise _no_category(data_dir, category)
        if not self.here:
            raise ValueError(f"{data_dir / category} is not here, but {self.name} pins it (run `dvc pull`)")
        if difference := compare(pinned, self.here):
            raise UnpinnedError(f"{data_dir / category} is not what {self.name} pins: {describe(difference)}", self.fix)


def check_pinned(data_dir: Path, category: str) -> Pin:
    """Raise ValueError unless exactly what is pinned lies in a category's folder; "": in the whole data folder."""
    data_dir, category = Path(data_dir), _normalised(category)
    pin = Pin.read(data_dir, category)
    if pin is None:
        raise _unpinned(data_dir, category)
    pin.check(data_dir, category)
    return pin


def is_pinned(folder: Path) -> bool:
    """Whether exactly what is pinned lies in a folder, by its own pin or that of a folder around it."""
    folder = Path(folder).absolute()
    for data_dir in (folder, *folder.parents[:-1]):
        if data_dir.with_name(f"{data_dir.name}.dvc").is_file() or (data_dir / VERSION).is_file():
            try:
                check_pinned(data_dir, folder.relative_to(data_dir).as_posix())
            except UnpinnedError:
                return False
            return True
    return False


def _unpinned(data_dir: Path, category: str) -> ValueError:
    if not data_dir.is_dir():
        hint = "it is a file" if data_dir.exists() else f"check the path, or run `ndpnet demo-data {data_dir}`"
        return ValueError(f"no data folder {data_dir} ({hint})")
    if not (data_dir / category).is_dir():
        return _no_category(data_dir, category)
    return UnpinnedError(
        f"{data_dir}/ is not pinned", f"run `dvc add {data_dir}`, in a new repository after `git init && dvc init`"
    )


def _no_category(data_dir: Path, category: str) -> ValueError:
    there = sorted(path.name for path in data_dir.iterdir() if path.is_dir()) if data_dir.is_dir() else []
    hint = "run `dvc pull`, or check the data folder and the category's name"
    return ValueError(f"no folder {data_dir / category} ({hint}; there: {', '.join(there) or 'none'})")


def choose(paths: Iterable[str], category: str) -> list[str]:
    """Those of a category, or all where it is empty. ValueError names the categories that there are."""
    paths = sorted(paths)
    chosen = [path for path in paths if _is_of(path, category)]
    if not chosen:
        known = ", ".join(count_pictures(paths)) or "none"
        raise ValueError(f"the data have no category {category!r} (they have: {known})")
    return chosen


def version_of(data_dir: Path) -> Version:
    """Hash every file of a data folder but its version.json. ValueError: no folder, or nothing in it."""
    paths = list_files(Path(data_dir))
    if not paths:
        raise ValueError(f"no files under {data_dir} (check the path, or run `dvc pull`)")
    return version_of_files(Path(data_dir), paths)


def version_of_files(
    folder: Path, paths: Iterable[str], *, revision: str | None = None, pinned_hash: str | None = None
) -> Version:
    """Hash the named files."""
    return Version(hashes_of(folder, (path for path in paths if path != VERSION)), revision, pinned_hash)


def hashes_of(folder: Path, paths: Iterable[str]) -> Files:
    """The sha256 of the named files, in the order of their paths."""
    return {path: sha256_of(folder / path) for path in sorted(paths)}


def list_files(folder: Path, below: str = "") -> list[str]:
    """Return all files, hidden ones too, but the version.json on top; posix paths relative to `folder`, in order."""
    sizes = sizes_below(folder / below) if (folder / below).is_dir() else {}
    for path, size in sizes.items():
        if size < 0:
            raise ValueError(f"{folder / below / path} is a link to a folder, or to nothing (put what it means there)")
    paths = (PurePosixPath(below, path).as_posix() for path in sizes)
    return [path for path in paths if path != VERSION]


def count_pictures(paths: Iterable[str]) -> dict[str, dict[str, int]]:
    """Count the pictures under train/ and test/ of each category. -> {"brick": {"train/good": 96, ...}}"""
    counts: dict[str, dict[str, int]] = {}
    for path in sorted(paths):
        parts = path.split("/")
        if len(parts) >= 2:
            counts.setdefault(parts[0], {})
        if len(parts) == 4 and parts[1] in ("train", "test") and has_picture_name(parts[3]):
            place = f"{parts[1]}/{parts[2]}"
            counts[parts[0]][place] = counts[parts[0]].get(place, 0) + 1
    return counts


def count_lines(counts: dict[str, dict[str, int]]) -> list[str]:
    """What `count_pictures` has counted, a category a line."""
    of_places = {name: ", ".join(f"{place} {num}" for place, num in places.items()) for name, places in counts.items()}
    return [f"{category}: {of_its_places or 'no pictures'}" for category, of_its_places in of_places.items()]


def _is_of(path: str, category: str) -> bool:
    return not category or path.startswith(f"{category}/")


def _normalised(category: str) -> str:
    path = PurePosixPath(category)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"category {category!r} lies outside the data folder (name a folder in it)")
    return "" if path == PurePosixPath() else path.as_posix()


def _check_paths(paths: list[str]) -> None:
    for path in paths:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or PurePosixPath(path).as_posix() != path:
            raise ValueError(f"{path!r} is no path inside the folder")
    if not paths or paths != sorted(set(paths)):
        raise ValueError("its files are none, or not in the order of their paths")


def read_status(data_dir: Path) -> tuple[bool, list[str]]:
    """Compare a data folder with its pin. -> whether exactly what is pinned lies here, and lines that say so.

    ValueError: no such folder.
    """
    pin = Pin.read(data_dir, "")
    if pin is None:
        error = _unpinned(data_dir, "")
        if not isinstance(error, UnpinnedError):
            raise error
        return False, [f"pinned   nothing: {error}"]
    counts = count_lines(count_pictures(pin.files or {}))
    lines = [f"pinned   {pin.name}: {pin.hash}", *(f"         {line}" for line in counts)]
    try:
        pin.check(data_dir, "")
    except ValueError as error:
        return False, [*lines, f"here     {error}"]
    return True, [*lines, "here     exactly what is pinned"]
